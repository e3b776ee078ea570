//! Every store gives the answers that memory gives, to any question about any rows, and none of them
//! shows what is not within the scope.
//!
//! `PROPTEST_CASES` says how many sets of rows are tried; each is asked [`QUESTIONS`] questions.
#![cfg(all(feature = "sqlite", feature = "mysql", feature = "store-contract"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "query/evidence.rs"]
mod evidence;
#[path = "filter/made_up.rs"]
#[expect(dead_code, reason = "filters of their own have more")]
mod made_up;
#[path = "query/scan.rs"]
mod scan;
#[path = "query/scope.rs"]
mod scope;
#[path = "mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;
#[path = "query/silence.rs"]
mod silence;
#[path = "filter/stored.rs"]
mod stored;

use std::cell::RefCell;
use std::time::Duration;

use chrono::{DateTime, Utc};
use modsec_core::cause::{Category, Kind};
use modsec_core::filter::Filter;
use modsec_core::query::{
    self, Cursor, Facet, MemoryQuery, Query, Question, Scope, Source, Spot, Transaction, Window,
};
use modsec_core::store::{self, Row, StoreError, StoreOptions, Value};
use mysql_async::prelude::Queryable as _;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::server::Server;
use self::stored::{insert, runtime};

/// Questions that each set of rows is asked.
const QUESTIONS: usize = 4;
/// Most rows of a set.
const ROWS: usize = 12;

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A question about rows of the palette.
fn question(palette: &made_up::Palette) -> impl Strategy<Value = Question> + use<> {
    let names = || {
        let name = vec(select(palette.clone()), 0..3).prop_map(|pieces| pieces.concat());
        proptest::option::of(vec(name, 0..4))
    };
    let times = vec![
        None,
        Some(time("2026-11-20T00:00:00Z")),
        Some(time("2026-11-27T12:00:00.000001Z")),
        Some(time("2026-11-27T12:00:30Z")),
    ];
    let filter = prop_oneof![Just(String::new()), made_up::filter(palette)];
    let window = (select(times.clone()), select(times));
    (names(), names(), filter, window, any::<bool>()).prop_map(
        |(accounts, hosts, filter, (since, until), is_timed)| {
            let mut scope = accounts.map_or_else(Scope::all, Scope::accounts);
            if let Some(hosts) = hosts {
                scope = scope.with_hosts(hosts);
            }
            let mut question = Question::new(scope);
            question.filter = Filter::parse(&filter, time("2026-11-27T12:00:00Z")).unwrap();
            question.window = Window::new(since, until);
            question.deadline = is_timed.then_some(Duration::from_secs(600));
            question
        },
    )
}

/// Gives alerts what an analysis would.
fn with_meanings(mut rows: Vec<Row>) -> Vec<Row> {
    for (at, row) in rows.iter_mut().enumerate() {
        row.is_sole = [Some(true), Some(false), None][at % 3];
    }
    for rules in rows.iter_mut().map(|row| &mut row.rule_matches) {
        for (at, rule) in rules.iter_mut().enumerate() {
            rule.kind = [Some(Kind::Detection), Some(Kind::Correlation), None][at % 3];
            rule.category = [Some(Category::Sqli), None][at % 2];
            let detail = ["Pattern match", "(Value: `x' )"][at % 2];
            rule.detail = Some(detail.to_owned());
            rule.points = Some(5);
        }
    }
    rows
}

/// Tries `cases` sets of rows. `fill` puts rows in the place of those that are there.
fn agree(
    runtime: &tokio::runtime::Runtime,
    cases: u32,
    fill: impl FnMut(Vec<Row>),
    stored: &mut dyn Query,
) {
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().unwrap());
    let mut config = Config::with_cases(cases);
    config.failure_persistence = None;
    let sets = made_up::palette().prop_flat_map(|palette| {
        let rows = vec(made_up::row(&palette), 1..ROWS);
        (rows, vec(question(&palette), QUESTIONS))
    });
    let both = RefCell::new((fill, stored));
    let tried = TestRunner::new(config).run(&sets, |(rows, questions)| {
        let (fill, stored) = &mut *both.borrow_mut();
        let rows = with_meanings(made_up::with_hashes(rows));
        fill(rows.clone());
        let mut memory = MemoryQuery::new(rows);
        for question in questions {
            runtime.block_on(compare(&mut memory, &mut **stored, &question))?;
        }
        Ok(())
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

fn failed(error: &StoreError) -> TestCaseError {
    let source = std::error::Error::source(error).map(ToString::to_string);
    TestCaseError::fail(format!("{error}: {source:?}"))
}

async fn compare(
    memory: &mut MemoryQuery,
    stored: &mut dyn Query,
    question: &Question,
) -> Result<(), TestCaseError> {
    let want = memory.totals(question).await.unwrap();
    prop_assert_eq!(
        stored.totals(question).await.map_err(|e| failed(&e))?,
        want,
        "{:?}",
        question
    );
    for step in [0, 7, 3600] {
        let want = memory.time_line(question, step).await.unwrap();
        prop_assert_eq!(
            stored
                .time_line(question, step)
                .await
                .map_err(|e| failed(&e))?,
            want
        );
    }
    for facet in Facet::ALL {
        for most in [1, 100] {
            let want = memory.top(question, facet, most).await.unwrap();
            let got = stored
                .top(question, facet, most)
                .await
                .map_err(|e| failed(&e))?;
            prop_assert_eq!(
                got,
                want,
                "{:?} {} {:?} {:?}",
                facet,
                question.filter,
                question.scope,
                question.window
            );
        }
    }
    scan::compare(memory, stored, question).await?;
    evidence::compare(memory, stored, question).await?;
    let want = pages(memory, question, 3).await?;
    let got = pages(stored, question, 3).await?;
    prop_assert_eq!(
        values(&got),
        values(&want),
        "{} {:?}",
        question.filter,
        question.scope
    );
    for (got, want) in got.iter().zip(&want) {
        let got = stored
            .transaction(question, got.number)
            .await
            .map_err(|e| failed(&e))?;
        let want = memory.transaction(question, want.number).await.unwrap();
        let (got, want) = (got.value.unwrap(), want.value.unwrap());
        prop_assert_eq!(got.values, want.values);
        prop_assert_eq!(got.alerts, want.alerts);
    }
    Ok(())
}

/// All transactions, page by page.
async fn pages(
    query: &mut dyn Query,
    question: &Question,
    most: usize,
) -> Result<Vec<Transaction>, TestCaseError> {
    let mut all = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = query
            .transactions(question, after, most)
            .await
            .map_err(|e| failed(&e))?;
        prop_assert!(page.is_complete);
        let Some(last) = page.value.last() else {
            return Ok(all);
        };
        after = Some(last.cursor());
        all.extend(page.value);
    }
}

fn values(transactions: &[Transaction]) -> Vec<&[Value<'static>]> {
    transactions
        .iter()
        .map(|one| one.values.as_slice())
        .collect()
}

#[test]
fn sqlite_answers_as_memory_does() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    let runtime = runtime();
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    let mut store = runtime.block_on(store::open(&options)).unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute_batch("pragma synchronous = off")
        .unwrap();
    let mut stored = runtime.block_on(query::open(&options)).unwrap();
    let refill = |rows| {
        connection
            .execute_batch("delete from logs; delete from modsec_rules")
            .unwrap();
        runtime.block_on(insert(&mut *store, rows));
    };
    agree(&runtime, 32, refill, &mut *stored);
}

#[test]
fn mariadb_answers_as_memory_does() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    let (mut store, mut stored, mut clearing) = runtime.block_on(async {
        let mut admin = server.admin().await;
        admin.query_drop("create database query").await.unwrap();
        admin.query_drop("use query").await.unwrap();
        let options = mariadb(&server);
        let store = store::open(&options).await.unwrap();
        (store, query::open(&options).await.unwrap(), admin)
    });
    let refill = |rows| {
        runtime.block_on(async {
            clearing.query_drop("delete from logs").await.unwrap();
            insert(&mut *store, rows).await;
        });
    };
    agree(&runtime, 16, refill, &mut *stored);
}

fn mariadb(server: &Server) -> StoreOptions {
    let mut options = StoreOptions::new(format!("{}/query", server.url()));
    // Not the file of whoever runs the tests.
    options.defaults_file = Some("/dev/null".into());
    options
}

/// A database of SQLite with some rows, and its file.
fn some_rows() -> (tempfile::TempDir, StoreOptions, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    runtime().block_on(async {
        let mut store = store::open(&options).await.unwrap();
        let rows = (0..100).map(store::contract::row).collect();
        insert(&mut *store, rows).await;
    });
    (dir, options, file)
}

#[test]
fn when_the_time_is_over_the_answer_says_so() {
    let (_dir, options, _) = some_rows();
    let mut question = Question::new(Scope::all());
    question.deadline = Some(Duration::ZERO);
    runtime().block_on(async {
        let mut stored = query::open(&options).await.unwrap();
        let rows = (0..100).map(store::contract::row).collect();
        let queries: [&mut dyn Query; 2] = [&mut *stored, &mut MemoryQuery::new(rows)];
        for query in queries {
            let totals = query.totals(&question).await.unwrap();
            assert!(!totals.is_complete && totals.value.is_none());
            assert!(!query.time_line(&question, 60).await.unwrap().is_complete);
            assert!(
                !query
                    .top(&question, Facet::Cause, 5)
                    .await
                    .unwrap()
                    .is_complete
            );
            let page = query.transactions(&question, None, 5).await.unwrap();
            assert!(!page.is_complete && page.value.is_empty());
            let (scanned, seen) = scan::scan(query, &question).await.unwrap();
            assert!(!scanned.is_complete && scanned.value == 0 && seen.is_empty());
            let candidates = query.candidates(&question, 5).await.unwrap();
            assert!(!candidates.is_complete && candidates.value.is_none());
            let spot = Spot::new("942100");
            let evidence = query.evidence(&question, &spot).await.unwrap();
            assert!(!evidence.is_complete && evidence.value.is_none());
            let silences = query.silences(&question, Source::Host, Utc::now(), 5);
            assert!(!silences.await.unwrap().is_complete);
        }
        question.deadline = Some(Duration::from_secs(600));
        let page = stored.transactions(&question, None, 5).await.unwrap();
        assert!(page.is_complete && page.value.len() == 5);
    });
}

#[test]
fn a_store_that_cannot_be_asked_says_what_to_do() {
    let ask = |options: &StoreOptions| {
        let asked = runtime().block_on(async {
            let mut stored = query::open(options).await?;
            stored.totals(&Question::new(Scope::all())).await
        });
        asked
            .map(|totals| totals.value.unwrap().transactions)
            .map_err(|error| error.to_string())
    };
    let (dir, options, file) = some_rows();
    assert_eq!(ask(&options), Ok(100));

    let missing = StoreOptions::new(format!("sqlite:{}", dir.path().join("none.db").display()));
    let error = ask(&missing).unwrap_err();
    assert!(
        error.contains("none.db") && error.contains("not there yet"),
        "{error}"
    );
    assert!(!dir.path().join("none.db").exists());

    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch("drop view modsec_alerts").unwrap();
    let error = ask(&options).unwrap_err();
    assert!(error.contains("first run adds"), "{error}");
    runtime().block_on(async { drop(store::open(&options).await.unwrap()) });

    // Who writes does not keep readers away.
    connection
        .execute_batch("begin immediate; delete from logs")
        .unwrap();
    assert_eq!(ask(&options), Ok(100));
    connection.execute_batch("rollback").unwrap();

    connection
        .execute_batch("insert into modsec_migrations values (99, 'later')")
        .unwrap();
    let error = ask(&options).unwrap_err();
    assert!(error.contains("install the newer program"), "{error}");
    connection
        .execute_batch("delete from modsec_migrations where version = 99")
        .unwrap();
    connection
        .execute_batch("pragma wal_checkpoint(truncate)")
        .unwrap();
    drop(connection);

    // Its first page is sound, what is behind it is not.
    let mut bytes = std::fs::read(&file).unwrap();
    let header = 4096.min(bytes.len());
    bytes[header..].fill(0x5a);
    std::fs::write(&file, bytes).unwrap();
    let error = ask(&options).unwrap_err();
    assert!(
        error.contains("damaged") && error.contains(".recover"),
        "{error}"
    );
}

/// Asks memory, SQLite and, if it is installed, MariaDB, all with these rows.
fn ask_all(rows: &[Row], ask: &impl AsyncFn(&mut dyn Query)) {
    let dir = tempfile::tempdir().unwrap();
    let file = StoreOptions::new(format!("sqlite:{}", dir.path().join("logs.db").display()));
    let runtime = runtime();
    let server = runtime.block_on(Server::start(&[]));
    runtime.block_on(async {
        ask(&mut MemoryQuery::new(rows.to_vec())).await;
        let mut places = vec![file];
        if let Some(server) = &server {
            let mut admin = server.admin().await;
            admin.query_drop("create database query").await.unwrap();
            places.push(mariadb(server));
        }
        for place in places {
            let mut store = store::open(&place).await.unwrap();
            for some in rows.chunks(1_000) {
                insert(&mut *store, some.to_vec()).await;
            }
            ask(&mut *query::open(&place).await.unwrap()).await;
        }
    });
}

#[test]
fn who_is_quiet_against_its_habit_is_found() {
    ask_all(&silence::rows(), &silence::check);
}

#[test]
fn no_byte_of_another_account_comes_out() {
    ask_all(&scope::rows(), &scope::check);
}

#[test]
fn a_scope_is_only_narrowed() {
    let scope = Scope::all()
        .with_hosts(["A.example", "b.example"])
        .with_hosts(["a.EXAMPLE", "c.example"]);
    assert_eq!(scope, Scope::all().with_hosts(["a.example"]));
}

/// Bounds that no database can write, or MySQL not, in front of rows of 2026.
#[test]
fn times_beyond_all_rows_are_bounds_too() {
    let runtime = runtime();
    let (_dir, options, _) = some_rows();
    let rows: Vec<Row> = (0..100).map(store::contract::row).collect();
    let server = runtime.block_on(Server::start(&[]));
    runtime.block_on(async {
        let mut queries: Vec<Box<dyn Query>> = vec![
            query::open(&options).await.unwrap(),
            Box::new(MemoryQuery::new(rows.clone())),
        ];
        if let Some(server) = &server {
            let mut admin = server.admin().await;
            admin.query_drop("create database query").await.unwrap();
            insert(&mut *store::open(&mariadb(server)).await.unwrap(), rows).await;
            queries.push(query::open(&mariadb(server)).await.unwrap());
        }
        for query in &mut queries {
            for (since, until, want) in [
                (None, Some(time("2039-01-01T00:00:00Z")), 100),
                (
                    Some(time("2026-01-01T00:00:00Z")),
                    Some(time("2100-01-01T00:00:00Z")),
                    100,
                ),
                (None, Some(DateTime::<Utc>::MAX_UTC), 100),
                (Some(DateTime::<Utc>::MIN_UTC), None, 100),
                (Some(DateTime::<Utc>::MAX_UTC), None, 0),
                (Some(time("2039-01-01T00:00:00Z")), None, 0),
                (None, Some(DateTime::<Utc>::MIN_UTC), 0),
            ] {
                let mut question = Question::new(Scope::all());
                question.window = Window::new(since, until);
                let totals = query.totals(&question).await.unwrap().value.unwrap();
                assert_eq!(totals.transactions, want, "{since:?} {until:?}");
                assert_eq!(totals.first.is_some(), want > 0, "{since:?} {until:?}");
            }
            for filter in [
                "time:2026-01-01..2100-01-01",
                "until:2039-01-01",
                "time:<2039-01-01",
            ] {
                let mut question = Question::new(Scope::all());
                question.filter = Filter::parse(filter, Utc::now()).unwrap();
                let totals = query.totals(&question).await.unwrap().value.unwrap();
                assert_eq!(totals.transactions, 100, "{filter}");
            }
            let one = query
                .transaction(&Question::new(Scope::all()), i64::MIN)
                .await
                .unwrap();
            assert_eq!(one.value, None);
        }
    });
}

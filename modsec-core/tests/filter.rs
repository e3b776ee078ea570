//! A filter says the same in memory, in SQLite and in MariaDB, of any row.
//!
//! `PROPTEST_CASES` says how many sets of rows are tried; each is asked [`FILTERS`] filters.
#![cfg(all(feature = "sqlite", feature = "mysql"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "filter/made_up.rs"]
mod made_up;
#[path = "mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;
#[path = "filter/stored.rs"]
mod stored;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, Utc};
use modsec_core::filter::{Dialect, Filter, Param};
use modsec_core::store::{Row, Store, StoreOptions, open};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Opts};
use proptest::collection::vec;
use proptest::strategy::{Just, Strategy};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use self::made_up::Palette;
use self::server::Server;
use self::stored::{insert, runtime};

/// Filters that each set of rows is asked.
const FILTERS: usize = 32;
/// Most rows of a set.
const ROWS: usize = 12;

fn now() -> DateTime<Utc> {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

fn read(text: &str) -> Result<Filter, TestCaseError> {
    Filter::parse(text, now()).map_err(|error| TestCaseError::fail(error.to_string()))
}

/// Makes each second alert one of a program that knew no `modsec_rules`.
const AS_OLDER_PROGRAMS: &str = "update rule_matches set
    msg = (select coalesce(t.msg, r.msg) from modsec_rules r left join modsec_rules t on t.rule_key = r.text_key
        where r.rule_key = rule_matches.rule_key),
    target = (select coalesce(t.target, r.target) from modsec_rules r left join modsec_rules t on t.rule_key = r.text_key
        where r.rule_key = rule_matches.rule_key),
    paranoia_level = (select coalesce(t.paranoia_level, r.paranoia_level) from modsec_rules r left join modsec_rules t on t.rule_key = r.text_key
        where r.rule_key = rule_matches.rule_key),
    rule_key = null
    where position = 1";

/// Hashes of the rows that the filter means.
type Found = BTreeSet<String>;

/// Tries `cases` sets of rows. `fill` puts rows in the place of those that are there; `ask` returns which
/// rows a condition is true of.
fn agree(
    dialect: Dialect,
    cases: u32,
    palette: impl Strategy<Value = Palette>,
    mut fill: impl FnMut(Vec<Row>),
    mut ask: impl FnMut(&str, Vec<Param>) -> Found,
) {
    let cases = std::env::var("PROPTEST_CASES").map_or(cases, |cases| cases.parse().unwrap());
    let mut config = Config::with_cases(cases);
    config.failure_persistence = None;
    let sets = palette.prop_flat_map(|palette| {
        let rows = vec(made_up::row(&palette), 1..ROWS);
        (rows, vec(made_up::filter(&palette), FILTERS))
    });
    let both = RefCell::new((&mut fill, &mut ask));
    let telling = Cell::new(0);
    let try_all = |rows: Vec<Row>, texts: Vec<String>| {
        let (fill, ask) = &mut *both.borrow_mut();
        let rows = made_up::with_hashes(rows);
        fill(rows.clone());
        for text in texts {
            let filter = read(&text)?;
            let again = read(&filter.to_string())?;
            proptest::prop_assert_eq!(&filter, &again, "{} became {}", text, filter);
            let meant = rows.iter().filter(|row| filter.matches(row));
            let meant: Found = meant.map(|row| row.entry_hash.to_string()).collect();
            if !meant.is_empty() && meant.len() < rows.len() {
                telling.set(telling.get() + 1);
            }
            let (sql, params) = filter.to_sql(dialect);
            let found = ask(&sql, params);
            proptest::prop_assert_eq!(&meant, &found, "{} ({}) as {}", text, filter, sql);
        }
        Ok(())
    };
    let (rows, texts) = made_up::corners();
    try_all(rows, texts).unwrap_or_else(|error| panic!("{error}"));
    let tried = TestRunner::new(config).run(&sets, |(rows, texts)| try_all(rows, texts));
    tried.unwrap_or_else(|error| panic!("{error}"));
    // Filters that mean all rows or none prove little.
    let asked = cases as usize * FILTERS;
    assert!(telling.get() > asked / 5, "{} of {asked}", telling.get());
}

#[test]
fn sqlite_finds_what_memory_finds() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    let runtime = runtime();
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    let mut store = runtime.block_on(open(&options)).unwrap();
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute_batch("pragma synchronous = off")
        .unwrap();
    let refill = |rows| {
        connection.execute("delete from logs", []).unwrap();
        runtime.block_on(insert(&mut *store, rows));
        connection.execute(AS_OLDER_PROGRAMS, []).unwrap();
    };
    agree(
        Dialect::Sqlite,
        128,
        made_up::palette(),
        refill,
        |sql, params| {
            let sql = format!("select lower(hex(entry_hash)) from logs l where {sql}");
            let mut statement = connection
                .prepare(&sql)
                .unwrap_or_else(|e| panic!("{e}: {sql}"));
            let params = params.into_iter().map(sqlite_param);
            let found = statement.query_map(rusqlite::params_from_iter(params), |row| row.get(0));
            found.unwrap().map(Result::unwrap).collect()
        },
    );
}

#[test]
fn mariadb_finds_what_memory_finds() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    mariadb_agrees(&runtime, &server, 64, "", made_up::palette());
}

#[test]
fn mariadb_finds_the_same_in_old_tables() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    for (charset, pieces) in [
        ("latin1", vec!["a", "A", "é", "É", "%"]),
        (
            "utf8mb4 collate utf8mb4_bin",
            vec!["a", "A", "\u{212a}", "K"],
        ),
        (
            "utf8mb4 collate utf8mb4_unicode_ci",
            vec!["a", "é", "ss", "ß"],
        ),
    ] {
        // That of the old script: narrow columns, no fractions of a second.
        let table = format!(
            "create table logs (
                 id int(11) not null auto_increment primary key,
                 REQUEST_METHOD varchar(10), REQUEST_URI text, REMOTE_ADDR varchar(45),
                 ruleId varchar(10), Host varchar(255), msg text, data text, unique_id varchar(50),
                 severity varchar(20), maturity int(11), accuracy int(11), User_Agent text,
                 responce_header int(3), Engine_Mode varchar(20), Score int(11), SQLi int(11),
                 XSS int(11), phase int(11), created_at timestamp null default null
             ) default charset={charset}"
        );
        mariadb_agrees(&runtime, &server, 16, &table, Just(pieces));
    }
}

/// Tries sets of rows in a database that has such a table before the store is opened.
fn mariadb_agrees(
    runtime: &tokio::runtime::Runtime,
    server: &Server,
    cases: u32,
    table: &str,
    palette: impl Strategy<Value = Palette>,
) {
    let (mut store, conn) = runtime.block_on(database(server, table));
    let conn = RefCell::new(conn);
    let refill = |rows| {
        let cleared = runtime.block_on(conn.borrow_mut().query_drop("delete from logs"));
        cleared.unwrap();
        runtime.block_on(insert(&mut *store, rows));
        let aged = runtime.block_on(conn.borrow_mut().query_drop(AS_OLDER_PROGRAMS));
        aged.unwrap();
    };
    agree(Dialect::Mysql, cases, palette, refill, |sql, params| {
        let sql = format!("select lower(hex(entry_hash)) from logs l where {sql}");
        let found = runtime.block_on(conn.borrow_mut().exec(&sql, mysql_params(params)));
        let found: Vec<String> = found.unwrap_or_else(|error| panic!("{error}: {sql}"));
        found.into_iter().collect()
    });
}

async fn connect(url: &str) -> Conn {
    let mut conn = Conn::new(Opts::from_url(url).unwrap()).await.unwrap();
    // As the store's own sessions.
    conn.query_drop("set names utf8mb4").await.unwrap();
    conn.query_drop("set time_zone = '+00:00'").await.unwrap();
    conn
}

fn mysql_params(params: Vec<Param>) -> mysql_async::Params {
    if params.is_empty() {
        return mysql_async::Params::Empty;
    }
    let values = params.into_iter().map(|param| match param {
        Param::Int(number) => mysql_async::Value::Int(number),
        Param::Text(text) => mysql_async::Value::Bytes(text.into_bytes()),
        Param::Blob(bytes) => mysql_async::Value::Bytes(bytes),
    });
    mysql_async::Params::Positional(values.collect())
}

/// Filters, and the indexes that serve them, in SQLite and in MariaDB. `modsec_rules`, which is small, may
/// be read as a whole.
const SERVED: [(&str, &str); 14] = [
    ("client:192.0.2.7", "logs_client_key"),
    ("client:192.0.2.0/24 status:403", "logs_client_key"),
    ("host:shop.example.org", "logs_host"),
    ("host:(a,b)", "logs_host"),
    ("host:shop.*", "logs_host"),
    ("account:site42", "logs_account_time"),
    ("target:ARGS:id", "rule_matches_rule"),
    ("cause:942100", "logs_rule_id"),
    ("cause:942*", "logs_rule_id"),
    ("rule:942100", "rule_matches_rule_id"),
    ("rule:942*", "rule_matches_rule_id"),
    ("id:Zb4kQH8AAAEAAB1cR0MAAAAA", "logs_unique_id"),
    ("hash:3fa0c41b", "entry_hash"),
    ("since:2h -method:POST", "logs_created_at"),
];

#[test]
fn sqlite_answers_by_index() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    drop(runtime().block_on(open(&options)).unwrap());
    let connection = rusqlite::Connection::open(&file).unwrap();
    for (text, index) in SERVED {
        let (sql, params) = Filter::parse(text, now()).unwrap().to_sql(Dialect::Sqlite);
        let explain = format!("explain query plan select l.id from logs l where {sql}");
        let mut statement = connection.prepare(&explain).unwrap();
        let params = rusqlite::params_from_iter(params.into_iter().map(sqlite_param));
        let plan = statement.query_map(params, |row| row.get::<_, String>(3));
        let plan: Vec<String> = plan.unwrap().map(Result::unwrap).collect();
        let plan = plan.join("\n");
        // The unique key on the hash has a name that SQLite chose.
        let index = if index == "entry_hash" {
            "sqlite_autoindex_logs_1"
        } else {
            index
        };
        assert!(
            plan.contains(index) && !["SCAN l", "SCAN m"].iter().any(|scan| plan.contains(scan)),
            "{text}: {sql}\n{plan}"
        );
    }
}

#[test]
fn mariadb_answers_by_index() {
    let runtime = runtime();
    let Some(server) = runtime.block_on(Server::start(&[])) else {
        return;
    };
    runtime.block_on(async {
        let (_store, mut conn) = database(&server, "").await;
        for (text, index) in SERVED {
            let (sql, params) = Filter::parse(text, now()).unwrap().to_sql(Dialect::Mysql);
            let explain = format!("explain select l.id from logs l where {sql}");
            let plan: Vec<mysql_async::Row> =
                conn.exec(explain, mysql_params(params)).await.unwrap();
            // Tables without rows are read as a whole, so what counts is what could be.
            let keys = plan
                .iter()
                .filter_map(|row| row.get::<Option<String>, _>("possible_keys"));
            let keys: Vec<String> = keys.flatten().collect();
            assert!(
                keys.iter().any(|keys| keys.contains(index)),
                "{text}: {sql}\n{plan:?}"
            );
        }
    });
}

fn sqlite_param(param: Param) -> rusqlite::types::Value {
    match param {
        Param::Int(number) => rusqlite::types::Value::Integer(number),
        Param::Text(text) => rusqlite::types::Value::Text(text),
        Param::Blob(bytes) => rusqlite::types::Value::Blob(bytes),
    }
}

/// A store on a new database that had such a table before, and a connection to it.
async fn database(server: &Server, table: &str) -> (Box<dyn Store>, Conn) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("filter_{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let mut admin = server.admin().await;
    admin
        .query_drop(format!("create database {name}"))
        .await
        .unwrap();
    let url = format!("{}/{name}", server.url());
    let mut conn = connect(&url).await;
    if !table.is_empty() {
        conn.query_drop(table).await.unwrap();
    }
    let mut options = StoreOptions::new(url);
    // Not the file of whoever runs the tests.
    options.defaults_file = Some("/dev/null".into());
    (open(&options).await.unwrap(), conn)
}

//! Questions about many rows, in `SQLite`, warm.
//!
//! `MODSEC_BENCH_ROWS` says how many (default: 100,000; ten million take some 13 GB and half an hour).
//! `MODSEC_BENCH_DIR` is where the file is made; it is kept there for the next run, and not made again.
//! `MODSEC_TEST_MYSQL_URL` names an empty database of a server to be asked the same.
//!
//! `floor` is what `SQLite` itself needs for the columns of a scan, without this library.

#[path = "query/rows.rs"]
mod rows;

use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::filter::Filter;
use modsec_core::query::{self, Facet, Query, Question, Scanned, Scope, Source, Window};
use modsec_core::store::{self, StoreOptions, Value};
use tokio::runtime::Runtime;

/// What a scan reads, as one statement.
const SCAN: &str = "select l.id, l.created_at, l.client_key, l.account, l.Host, l.responce_header, \
    l.Score, l.outcome, m.ruleId, r.severity \
    from logs l left join rule_matches m on m.log_id = l.id \
    left join modsec_rules r on r.rule_key = m.rule_key \
    where l.created_at >= '2026' order by l.created_at, l.id, m.position";

/// The same without alerts.
const SCAN_LOGS: &str = "select l.id, l.created_at, l.client_key, l.account, l.Host, \
    l.responce_header, l.Score, l.outcome from logs l \
    where l.created_at >= '2026' order by l.created_at, l.id";

/// Why a question may be taken for answered.
const ANSWER: &str = "the database answers";

/// Returns how many rows are asked for.
fn count() -> u64 {
    let count = std::env::var("MODSEC_BENCH_ROWS");
    count.map_or(100_000, |count| count.parse().expect("a number of rows"))
}

/// Returns the file with the rows, made if it is not there.
fn file(runtime: &Runtime, dir: &Path) -> PathBuf {
    let file = dir.join(format!("query-{}.db", count()));
    if !file.exists() {
        let making = file.with_extension("making");
        let options = StoreOptions::new(format!("sqlite:{}", making.display()));
        runtime.block_on(async {
            let mut store = store::open(&options).await.expect("the store opens");
            rows::fill(&mut *store, count()).await;
        });
        std::fs::rename(&making, &file).expect("both are in one directory");
    }
    file
}

/// Runs a statement and looks at each value of each row.
fn read(connection: &rusqlite::Connection, sql: &str) -> usize {
    let mut statement = connection.prepare(sql).expect("our tables");
    let columns = statement.column_count();
    let mut rows = statement.query([]).expect("no values");
    let mut seen = 0;
    while let Some(row) = rows.next().expect("a row") {
        for column in 0..columns {
            std::hint::black_box(row.get_ref(column).expect("a column"));
        }
        seen += 1;
    }
    seen
}

fn questions(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let temporary = tempfile::tempdir().expect("a directory");
    let dir = std::env::var_os("MODSEC_BENCH_DIR");
    let dir = dir.map_or(temporary.path().to_owned(), PathBuf::from);
    let file = file(&runtime, &dir);
    let connection = rusqlite::Connection::open(&file).expect("the file opens");
    let mut group = criterion.benchmark_group("floor");
    group.sample_size(10);
    group.throughput(Throughput::Elements(count()));
    group.bench_function("scan", |bencher| bencher.iter(|| read(&connection, SCAN)));
    group.bench_function("scan without alerts", |bencher| {
        bencher.iter(|| read(&connection, SCAN_LOGS));
    });
    group.finish();
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    let mut stored = runtime.block_on(query::open(&options)).expect("it opens");
    ask(criterion, &runtime, "sqlite", &mut *stored);
    if let Ok(url) = std::env::var("MODSEC_TEST_MYSQL_URL") {
        let options = StoreOptions::new(url);
        let mut stored = runtime.block_on(async {
            let mut store = store::open(&options).await.expect("the store opens");
            rows::fill(&mut *store, count()).await;
            query::open(&options).await.expect("it opens")
        });
        ask(criterion, &runtime, "mysql", &mut *stored);
    }
}

/// Asks one database all questions.
fn ask(criterion: &mut Criterion, runtime: &Runtime, name: &str, stored: &mut dyn Query) {
    let mut month = Question::new(Scope::all());
    month.window = Window::new(Some(rows::start()), Some(rows::end()));
    let mut group = criterion.benchmark_group(name);
    group.sample_size(10);
    for (name, facet) in [
        ("top causes", Facet::Cause),
        ("top clients", Facet::Client),
        ("top hosts", Facet::Host),
        ("top paths", Facet::Path),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                runtime
                    .block_on(stored.top(&month, facet, 10))
                    .expect(ANSWER)
            });
        });
    }
    group.bench_function("time line of 30 days", |bencher| {
        bencher.iter(|| {
            runtime
                .block_on(stored.time_line(&month, 3_600))
                .expect(ANSWER)
        });
    });
    let mut some = month.clone();
    let filter = "host:shop7.* status:403 rule:930120";
    some.filter = Filter::parse(filter, rows::end()).expect("a filter");
    group.bench_function("page of 50 by filter", |bencher| {
        bencher.iter(|| {
            runtime
                .block_on(stored.transactions(&some, None, 50))
                .expect(ANSWER)
        });
    });
    let one = by_id(runtime, &month, stored);
    group.bench_function("one transaction by id", |bencher| {
        bencher.iter(|| {
            let found = runtime.block_on(stored.transactions(&one, None, 1));
            let number = found.expect(ANSWER).value[0].number;
            let found = stored.transaction(&month, number);
            runtime.block_on(found).expect(ANSWER)
        });
    });
    group.bench_function("silent hosts", |bencher| {
        let now = rows::end();
        bencher.iter(|| {
            let found = stored.silences(&month, Source::Host, now, 10);
            runtime.block_on(found).expect(ANSWER)
        });
    });
    group.bench_function("10 candidates", |bencher| {
        bencher.iter(|| {
            runtime
                .block_on(stored.candidates(&month, 10))
                .expect(ANSWER)
        });
    });
    group.throughput(Throughput::Elements(count()));
    group.bench_function("scan", |bencher| {
        bencher.iter(|| {
            let mut alerts = 0;
            let mut visit = |scanned: &Scanned| alerts += scanned.alerts.len();
            runtime
                .block_on(stored.scan(&month, &mut visit))
                .expect(ANSWER);
            alerts
        });
    });
}

/// Returns the question about the newest transaction, by its id.
fn by_id(runtime: &Runtime, question: &Question, stored: &mut dyn Query) -> Question {
    let newest = runtime.block_on(stored.transactions(question, None, 1));
    let newest = newest.expect(ANSWER).value;
    let Value::Text(id) = newest[0].value("unique_id") else {
        unreachable!("each row has one");
    };
    let mut one = Question::new(Scope::all());
    one.filter = Filter::parse(&format!("id:{id}"), rows::end()).expect("a filter");
    one
}

criterion_group!(benches, questions);
criterion_main!(benches);

#[cfg(feature = "sqlite")]
mod plans;

use super::*;
use crate::filter::Filter;
use crate::query::{Scope, Source, Spot, Window};
use crate::store::{self, Batch, Dialect, Param, StoreOptions};

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn stretches_have_neither_gap_nor_overlap() {
    let (first, newest) = (time("2026-01-01T00:00:00Z"), time("2026-11-27T12:00:00Z"));
    let cases = [
        (None, None),
        (Some(time("2026-11-20T00:00:00Z")), None),
        (None, Some(time("2026-11-01T00:00:00Z"))),
        (
            Some(time("2025-01-01T00:00:00Z")),
            Some(time("2027-01-01T00:00:00Z")),
        ),
    ];
    for (since, until) in cases {
        let stretches = Stretch { since, until }.divided(first, newest);
        assert_eq!(stretches.first().unwrap().until, until);
        assert_eq!(stretches.last().unwrap().since, since);
        for pair in stretches.windows(2) {
            assert_eq!(pair[0].since, pair[1].until);
            assert!(pair[0].since.is_some());
        }
        assert!(stretches.len() < 20, "{since:?} {until:?}: {stretches:?}");
    }
}

/// All statements of a question.
fn statements(dialect: Dialect, question: &Question) -> Vec<(String, Vec<Param>)> {
    let others = [
        Statement::scan(dialect, question),
        Statement::evidence(dialect, question, None, 5),
        Statement::evidence(dialect, question, Some(&Spot::new("wo'rd")), 1),
        Statement::silences(dialect, question, Source::Host, 400_000, 5),
        Statement::lone_clients(dialect, question, &Spot::new("wo'rd")),
    ];
    let mut statements = counts_and_pages(dialect, question);
    statements.extend(others.map(Statement::finish));
    statements
}

/// Those of counts, of pages, and of one transaction.
fn counts_and_pages(dialect: Dialect, question: &Question) -> Vec<(String, Vec<Param>)> {
    let stretch = Stretch {
        since: None,
        until: None,
    };
    let mut statements = vec![
        Statement::totals(dialect, question),
        Statement::time_line(dialect, question, 60),
        Statement::page(dialect, question, None, &stretch, 5),
        Statement::untimed(dialect, question, None, 5),
        Statement::one(dialect, question, 1),
        Statement::alerts(dialect, question, 1),
        Statement::time_of(dialect, question, 1),
    ];
    statements.extend(Facet::ALL.map(|facet| Statement::top(dialect, question, facet, 5)));
    statements.into_iter().map(Statement::finish).collect()
}

#[test]
fn every_statement_has_the_scope_and_no_word_of_the_asker() {
    let mut question = Question::new(Scope::accounts(["acc'ount"]).with_hosts(["ho'st"]));
    question.filter = Filter::parse("uri:\"wo'rd\" OR msg:wo'rd", Utc::now()).unwrap();
    question.window = Window::new(Some(time("2026-01-01T00:00:00Z")), None);
    for dialect in [Dialect::Sqlite, Dialect::Mysql] {
        for (sql, params) in statements(dialect, &question) {
            assert!(sql.contains("l.account") && sql.contains("l.Host"), "{sql}");
            assert!(
                !sql.contains("'ount") && !sql.contains("'st") && !sql.contains("'rd"),
                "{sql}"
            );
            assert_eq!(sql.matches('?').count(), params.len(), "{sql}");
            // In MySQL once for the index, and once as bytes.
            let names = match dialect {
                Dialect::Sqlite => vec!["acc'ount", "ho'st"],
                Dialect::Mysql => vec!["acc'ount", "acc'ount", "ho'st"],
            };
            let names: Vec<_> = names
                .into_iter()
                .map(|name| Param::Text(name.to_owned()))
                .collect();
            assert_eq!(params[..names.len()], names);
        }
    }
}

#[test]
fn a_scope_of_nobody_sees_nothing() {
    let nobody = Question::new(Scope::accounts::<String>([]));
    for (sql, _) in statements(Dialect::Sqlite, &nobody) {
        assert!(sql.contains("1 = 0"), "{sql}");
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// What a statement is about, and whether it may go through all transactions.
struct Asked {
    question: Question,
    is_whole: bool,
}

/// Questions to look at the plans of. Where there is neither window, scope nor a filter that an index
/// serves, all transactions are asked about.
fn asked() -> Vec<Asked> {
    let hour = Window::new(
        Some(time("2026-08-20T12:00:00Z")),
        Some(time("2026-08-20T13:00:00Z")),
    );
    let all = Question::new(Scope::all());
    let narrow = |scope: Scope, window: Window, filter: &str| {
        let mut question = Question::new(scope);
        question.window = window;
        question.filter = Filter::parse(filter, Utc::now()).unwrap();
        Asked {
            question,
            is_whole: false,
        }
    };
    let mut asked = vec![Asked {
        question: all,
        is_whole: true,
    }];
    for filter in [
        "",
        "data:*passwd*",
        "-rule:*1 -target:*q*",
        "msg:*injection* OR pl:2",
        "uri:*union* status:5xx",
        "-(category:sqli host:*x*)",
    ] {
        asked.push(narrow(Scope::all(), hour, filter));
        asked.push(narrow(
            Scope::accounts(["site7"]),
            Window::default(),
            filter,
        ));
        let some = Scope::accounts(["site7", "site8"]).with_hosts(["a.example"]);
        asked.push(narrow(some, hour, filter));
    }
    for filter in [
        "client:192.0.2.7",
        "cause:942100x",
        "rule:942100x",
        "id:Zb4kQH8AAAEAAB1cR0MAAAAA",
        "host:shop7.example.org",
        "target:ARGS:nobody",
        "hash:3fa0c41b",
    ] {
        asked.push(narrow(Scope::all(), Window::default(), filter));
    }
    asked
}

/// Rows of some days, a minute apart, of many accounts.
fn some_days() -> Vec<crate::store::Row> {
    let first = time("2026-08-18T00:00:00Z");
    let rows = (0..4_000).map(|n| {
        let mut row = crate::store::contract::row(n);
        let minutes = i64::try_from(n).unwrap_or_default();
        row.created_at = Some(first + TimeDelta::minutes(minutes));
        row
    });
    rows.collect()
}

#[cfg(feature = "sqlite")]
#[test]
fn sqlite_goes_through_all_rows_only_where_all_are_asked_about() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    drop(runtime().block_on(store::open(&options)).unwrap());
    let connection = rusqlite::Connection::open(&file).unwrap();
    for asked in asked() {
        for (sql, params) in counts_and_pages(Dialect::Sqlite, &asked.question) {
            let explain = format!("explain query plan {sql}");
            let mut plan = connection.prepare(&explain).unwrap();
            let plan: Vec<String> = plan
                .query_map(rusqlite::params_from_iter(params), |row| row.get(3))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let is_scan = |line: &&String| line.starts_with("SCAN l") || line.starts_with("SCAN m");
            let scan = plan.iter().find(is_scan);
            assert!(
                scan.is_none() || asked.is_whole,
                "{}\n{sql}\n{plan:#?}",
                asked.question.filter
            );
        }
    }
    // A page of one account is a walk along its index, without sorting.
    let question = Question::new(Scope::accounts(["site7"]));
    let stretch = Stretch {
        since: None,
        until: None,
    };
    let (sql, params) = Statement::page(Dialect::Sqlite, &question, None, &stretch, 5).finish();
    let mut plan = connection
        .prepare(&format!("explain query plan {sql}"))
        .unwrap();
    let plan: Vec<String> = plan
        .query_map(rusqlite::params_from_iter(params), |row| row.get(3))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let plan = plan.join("; ");
    assert!(
        plan.contains("logs_account_time") && !plan.contains("TEMP B-TREE"),
        "{plan}"
    );
}

#[cfg(feature = "mysql")]
#[path = "../../../tests/mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;

#[cfg(feature = "mysql")]
#[test]
fn mariadb_goes_through_all_rows_only_where_all_are_asked_about() {
    use mysql_async::prelude::Queryable as _;
    use mysql_async::{Params, Row, Value};

    let runtime = runtime();
    let Some(server) = runtime.block_on(server::Server::start(&[])) else {
        return;
    };
    runtime.block_on(async {
        let mut admin = server.admin().await;
        admin.query_drop("create database plans").await.unwrap();
        let mut options = StoreOptions::new(format!("{}/plans", server.url()));
        options.defaults_file = Some("/dev/null".into());
        let mut store = store::open(&options).await.unwrap();
        for rows in some_days().chunks(500) {
            store
                .insert(&Batch::new(None, rows.to_vec()))
                .await
                .unwrap();
        }
        for sql in [
            "use plans",
            "set names utf8mb4",
            "set time_zone = '+00:00'",
            "analyze table logs, rule_matches, modsec_rules",
        ] {
            admin.query_drop(sql).await.unwrap();
        }
        // Without a window, it goes through `logs` for a filter of two lists of alerts.
        let is_narrow = |asked: &Asked| {
            let filter = asked.question.filter.to_string();
            !asked.is_whole && filter != "target:args:nobody"
        };
        for asked in asked().into_iter().filter(is_narrow) {
            for (sql, params) in counts_and_pages(Dialect::Mysql, &asked.question) {
                let params = params.into_iter().map(|param| match param {
                    Param::Int(number) => Value::Int(number),
                    Param::Text(text) => Value::Bytes(text.into_bytes()),
                    Param::Blob(bytes) => Value::Bytes(bytes),
                });
                let params = Params::Positional(params.collect());
                let plan: Vec<Row> = admin.exec(format!("explain {sql}"), params).await.unwrap();
                for row in &plan {
                    let text = |name: &str| {
                        row.get::<Option<String>, _>(name)
                            .flatten()
                            .unwrap_or_default()
                    };
                    let is_scan = ["ALL", "index"].contains(&text("type").as_str());
                    let is_large = ["l", "m"].contains(&text("table").as_str());
                    assert!(
                        !is_scan || !is_large,
                        "{}\n{sql}\n{plan:#?}",
                        asked.question.filter
                    );
                }
            }
        }
    });
}

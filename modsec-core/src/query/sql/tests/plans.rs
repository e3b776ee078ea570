//! How `SQLite` finds the rows of a question: along an index, never through the whole table, where the
//! question names a time, an account, or a rule.

use crate::query::sql::statement::Statement;
use crate::query::{Question, Scope, Source, Spot, Window};
use crate::store::{self, Dialect, StoreOptions};

/// Returns the lines of the plan for a statement.
fn plan(connection: &rusqlite::Connection, statement: Statement) -> Vec<String> {
    let (sql, params) = statement.finish();
    let mut explain = connection
        .prepare(&format!("explain query plan {sql}"))
        .unwrap();
    let lines = explain.query_map(rusqlite::params_from_iter(params), |row| row.get("detail"));
    lines.unwrap().map(Result::unwrap).collect()
}

/// All statements, by name.
fn statements(question: &Question) -> [(&'static str, Statement); 5] {
    let mut spot = Spot::new("942100");
    spot.host = Some("shop.example.org".to_owned());
    let dialect = Dialect::Sqlite;
    [
        ("scan", Statement::scan(dialect, question)),
        (
            "candidates",
            Statement::evidence(dialect, question, None, 5),
        ),
        (
            "evidence",
            Statement::evidence(dialect, question, Some(&spot), 1),
        ),
        (
            "lone clients",
            Statement::lone_clients(dialect, question, &spot),
        ),
        (
            "silences",
            Statement::silences(dialect, question, Source::Host, 494_000, 5),
        ),
    ]
}

#[test]
fn no_statement_goes_through_a_whole_table() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("logs.db");
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    drop(runtime.block_on(store::open(&options)).unwrap());
    let connection = rusqlite::Connection::open(&file).unwrap();
    let mut recent = Question::new(Scope::all());
    let since = "2026-11-20T00:00:00Z".parse().unwrap();
    recent.window = Window::new(Some(since), None);
    let mut own = Question::new(Scope::accounts(["site42"]));
    own.window = recent.window;
    let several = Question::new(Scope::accounts(["site42", "site7"]));
    for question in [&recent, &own, &several] {
        for (name, statement) in statements(question) {
            let plan = plan(&connection, statement);
            let is_whole = |line: &&String| {
                line.starts_with("SCAN l") && !line.contains("INDEX")
                    || line.starts_with("SCAN m")
                    || line.starts_with("SCAN r")
            };
            assert_eq!(plan.iter().find(is_whole), None, "{name}: {plan:#?}");
            let uses = |index: &str| plan.iter().any(|line| line.contains(index));
            assert!(
                name != "lone clients" || uses("logs_client_key"),
                "{plan:#?}"
            );
            let is_timed = question == &recent && ["candidates", "silences"].contains(&name);
            assert!(!is_timed || uses("logs_created_at"), "{name}: {plan:#?}");
            let is_sorted = plan.iter().any(|line| line.contains("ORDER BY"));
            assert!(
                name != "scan" || question == &own || !is_sorted,
                "{plan:#?}"
            );
        }
    }
}

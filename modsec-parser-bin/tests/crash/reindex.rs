//! Death between any two steps of `reindex`.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output};

use crate::maria::Maria;
use crate::site::{Database, Site, Sqlite};

/// Entries of a case: five steps.
const ENTRIES: usize = 450;

/// Makes rows such that an older program could have stored them.
const AS_BEFORE: [&str; 2] = [
    "update rule_matches set rule_key = null, ruleId = '942100'",
    "update logs set estimated = null, client_key = null, path_template = null, outcome = null, \
     blocked_by = null, category = null, threshold = null, sole = null",
];

fn reindex(url: &str, crash: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modsec-parser"));
    command.args(["reindex", "--store", url, "--defaults-file", "/dev/null"]);
    command.env("MODSEC_CONFIG", "none");
    if let Some(place) = crash {
        command.env("MODSEC_CRASH_AT", place);
    }
    command.output().unwrap()
}

/// Kills at every step, and looks at `left` for how many rows are not complete.
fn every_step<D: Database>(database: D, execute: impl Fn(&D, &str), left: impl Fn(&D) -> usize) {
    let mut site = Site::new(database);
    site.put_all(ENTRIES, 600);
    let (status, text) = site.run();
    assert!(status.success(), "{text}");
    let url = site.database.url();
    for step in ["upkeep-changed", "upkeep-committed"] {
        for count in 1..=5 {
            for statement in AS_BEFORE {
                execute(&site.database, statement);
            }
            let place = format!("{step}:{count}");
            let output = reindex(&url, Some(&place));
            assert_eq!(output.status.signal(), Some(9), "{place}: did not come by");
            let done = if step == "upkeep-changed" {
                count - 1
            } else {
                count
            };
            assert_eq!(
                left(&site.database),
                ENTRIES.saturating_sub(100 * done),
                "{place}"
            );
            let output = reindex(&url, None);
            assert!(output.status.success(), "{place}: {output:?}");
            assert_eq!(left(&site.database), 0, "{place}");
        }
    }
    let again = reindex(&url, None);
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("450 rows, 0 completed"), "{text}");
}

#[test]
fn death_while_rows_are_completed_leaves_whole_steps_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs.db");
    let connect = || rusqlite::Connection::open(&path).unwrap();
    every_step(
        Sqlite::at(path.clone()),
        |_, statement| connect().execute_batch(statement).unwrap(),
        |_| {
            let count = "select count(*) from logs where estimated is null";
            let left: i64 = connect().query_row(count, [], |row| row.get(0)).unwrap();
            left.try_into().unwrap()
        },
    );
}

#[test]
fn death_while_rows_are_completed_leaves_whole_steps_in_mariadb() {
    let Some(database) = Maria::shared() else {
        return;
    };
    every_step(database, Maria::change, |maria| {
        maria.count("select count(*) from logs where estimated is null")
    });
}

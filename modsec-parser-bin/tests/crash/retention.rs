//! Death between any two steps in which old rows are removed.

use std::os::unix::process::ExitStatusExt as _;

use crate::inotify::can_follow;
use crate::maria::Maria;
use crate::site::{Database, LIMIT, Site, Sqlite};

/// Entries of a case, months old: three steps.
const ENTRIES: usize = 150;

/// Kills at each step; `count` counts the rows of a table.
fn every_step<D: Database>(
    mut database: impl FnMut() -> Option<D>,
    count: impl Fn(&D, &str) -> usize,
) {
    for step in ["upkeep-changed", "upkeep-committed"] {
        for number in 1..=3 {
            let Some(database) = database() else { return };
            let place = format!("{step}:{number}");
            let mut site = Site::new(database);
            site.put_all(ENTRIES, 600);
            let mut command = site.command();
            command.args(["--keep-rows", "1h"]);
            let output = command.env("MODSEC_CRASH_AT", &place).output().unwrap();
            assert_eq!(output.status.signal(), Some(9), "{place}: did not come by");
            let done = number - usize::from(step == "upkeep-changed");
            assert_eq!(site.database.rows().len(), ENTRIES - 50 * done, "{place}");
            let is_noted = count(&site.database, "modsec_horizons") == 1;
            assert_eq!(is_noted, done > 0, "{place}");
            let output = site.command().args(["--keep-rows", "1h"]).output().unwrap();
            assert!(output.status.success(), "{place}: {output:?}");
            for table in ["logs", "rule_matches"] {
                assert_eq!(count(&site.database, table), 0, "{place} {table}");
            }
            assert_eq!(site.left().len(), 0, "{place}");
        }
    }
}

#[test]
fn death_while_old_rows_are_removed_leaves_whole_steps_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let path = |number: usize| dir.path().join(format!("{number}.db"));
    let mut number = 0;
    let latest = std::cell::Cell::new(0);
    every_step(
        || {
            number += 1;
            latest.set(number);
            Some(Sqlite::at(path(number)))
        },
        |_, table| {
            let connection = rusqlite::Connection::open(path(latest.get())).unwrap();
            let count = format!("select count(*) from {table}");
            let count: i64 = connection.query_row(&count, [], |row| row.get(0)).unwrap();
            count.try_into().unwrap()
        },
    );
}

#[test]
fn death_while_old_rows_are_removed_leaves_whole_steps_in_mariadb() {
    every_step(Maria::shared, |maria, table| {
        maria.count(&format!("select count(*) from {table}"))
    });
}

#[test]
fn a_service_removes_old_rows_beside_its_work() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    site.put_all(ENTRIES, 600);
    assert!(site.run().0.success());
    assert_eq!(site.database.rows().len(), ENTRIES);
    let mut command = site.command();
    command.args(["--quiet", "--follow", "--keep-rows", "1h"]);
    let mut child = command.spawn().unwrap();
    let since = std::time::Instant::now();
    while !site.database.rows().is_empty() {
        assert!(since.elapsed() < LIMIT && child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

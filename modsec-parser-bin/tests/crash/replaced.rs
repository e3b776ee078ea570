//! A database that is deleted, moved away or restored while the program has it open.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use modsec_core::merged_log::{MergedLog, MergedLogError};
use rusqlite::Connection;

use crate::inotify::can_follow;
use crate::maria::Maria;
use crate::site::{Database, LIMIT, Running, Site, until};

/// What an administrator does to a database: `copy` is an older copy of it.
type Deed = fn(db: &Path, copy: &Path);

fn beside(db: &Path, end: &str) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn delete(db: &Path, _: &Path) {
    fs::remove_file(db).unwrap();
}

fn delete_all(db: &Path, _: &Path) {
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(beside(db, end)).unwrap();
    }
}

fn delete_wal(db: &Path, _: &Path) {
    fs::remove_file(beside(db, "-wal")).unwrap();
}

fn rename_away(db: &Path, _: &Path) {
    fs::rename(db, db.with_extension("old")).unwrap();
}

fn restore(db: &Path, copy: &Path) {
    fs::rename(copy, db).unwrap();
}

fn restore_all(db: &Path, copy: &Path) {
    delete_all(db, copy);
    restore(db, copy);
}

const DEEDS: [(&str, Deed); 6] = [
    ("deleted", delete),
    ("deleted with its journal", delete_all),
    ("journal deleted", delete_wal),
    ("renamed", rename_away),
    ("restored", restore),
    ("restored without journal", restore_all),
];

/// A site with a database, and a copy of that. Entries of an earlier run are in both, unless the
/// deed takes them away.
fn site(case: &str) -> (Site<crate::site::Sqlite>, PathBuf, PathBuf) {
    let mut site = Site::with_sqlite();
    if case.starts_with("restored") {
        site.put_all(20, 500);
    }
    let (status, text) = site.run();
    assert!(status.success(), "{case}: {text}");
    let db = site.dir.path().join("modsec.db");
    let copy = site.dir.path().join("copy.db");
    fs::copy(&db, &copy).unwrap();
    (site, db, copy)
}

#[test]
fn a_pass_whose_database_is_replaced_fails_and_the_next_one_stores_everything() {
    for (case, deed) in DEEDS {
        let (mut site, db, copy) = site(case);
        let before = fs::metadata(&site.log).unwrap().len();
        site.put_all(30, 500);
        let holder = Connection::open(&db).unwrap();
        holder.execute_batch("begin immediate").unwrap();
        let mut command = site.command();
        let pass = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        until("the batch in the merged log", || {
            fs::metadata(&site.log).unwrap().len() > before
        });
        deed(&db, &copy);
        holder.execute_batch("rollback").unwrap();
        let output = pass.unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        drop(holder);
        assert_eq!(output.status.code(), Some(1), "{case}: {text}");
        assert!(
            text.contains("replaced or removed while it was open")
                && text.contains(db.to_str().unwrap()),
            "{case}: {text}"
        );
        assert_eq!(site.left().len(), 30, "{case}");
        let (status, text) = site.run();
        assert!(status.success(), "{case}: {text}");
        site.check(&[&site.log], case);
    }
}

/// Starts following, and waits until the database is open.
fn follow<D: Database>(site: &Site<D>) -> Running {
    let path = site.dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(LIMIT)).unwrap();
    let mut command = site.command();
    command.args(["--follow", "--rescan-every", "3600"]);
    command.env("NOTIFY_SOCKET", &path);
    let running = site.start(command);
    let mut bytes = [0; 512];
    loop {
        let len = manager.recv(&mut bytes).unwrap();
        if bytes[..len].starts_with(b"READY=1") {
            return running;
        }
    }
}

#[test]
fn a_service_whose_database_is_replaced_opens_the_new_one_and_stores_everything() {
    if !can_follow() {
        return;
    }
    for (case, deed) in DEEDS {
        let (mut site, db, copy) = site(case);
        let running = follow(&site);
        deed(&db, &copy);
        site.put_all(30, 500);
        until(case, || running.log().contains("entries are kept again"));
        until(case, || site.left().is_empty());
        let log = running.stop();
        assert!(
            log.contains("replaced or removed while it was open"),
            "{case}: {log}"
        );
        site.check(&[&site.log], case);
    }
}

#[test]
fn a_restored_database_is_not_mixed_with_the_journal_of_the_one_before() {
    if !can_follow() {
        return;
    }
    let (mut site, db, copy) = site("restored");
    let in_copy = site.database.rows();
    site.put_all(400, 2000);
    let (status, text) = site.run();
    assert!(status.success(), "{text}");
    let running = site.follow(&["--rescan-every", "3600"]);
    site.put_all(30, 500);
    until("files removed", || site.left().is_empty());
    restore(&db, &copy);
    let before = site.count();
    site.put_all(30, 500);
    until("the end", || {
        running.log().contains("entries are kept again")
    });
    until("files removed", || site.left().is_empty());
    running.stop();
    let connection = Connection::open(&db).unwrap();
    let sound: String = connection
        .query_row("pragma integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    let added = site.entries.keys().skip(before).cloned();
    let want: Vec<String> = in_copy.into_keys().chain(added).collect();
    let got = site.database.rows();
    assert!(got.values().all(|count| *count == 1));
    assert_eq!(got.into_keys().collect::<Vec<_>>(), want);
}

/// What becomes of the merged log while the store is at a batch; `copy` is an older copy of it.
type LogDeed = fn(log: &Path, copy: &Path);

fn rotate_and_compress(log: &Path, _: &Path) {
    let rotated = beside(log, ".1");
    fs::rename(log, &rotated).unwrap();
    fs::copy(&rotated, beside(log, ".1.gz")).unwrap();
    fs::remove_file(rotated).unwrap();
}

const LOG_DEEDS: [(&str, LogDeed); 3] = [
    ("removed", |log, _| fs::remove_file(log).unwrap()),
    ("restored", |log, copy| fs::rename(copy, log).unwrap()),
    ("rotated and compressed", rotate_and_compress),
];

#[test]
fn a_batch_is_in_the_merged_log_once_whatever_becomes_of_that() {
    for (case, deed) in LOG_DEEDS {
        let (mut site, db, _) = site(case);
        let copy = site.dir.path().join("merged.copy");
        fs::copy(&site.log, &copy).unwrap();
        let before = fs::metadata(&site.log).unwrap().len();
        site.put_all(30, 500);
        let holder = Connection::open(&db).unwrap();
        holder.execute_batch("begin immediate").unwrap();
        let mut command = site.command();
        let pass = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn();
        until("the batch in the merged log", || {
            fs::metadata(&site.log).unwrap().len() > before
        });
        deed(&site.log, &copy);
        holder.execute_batch("rollback").unwrap();
        let output = pass.unwrap().wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{case}: {text}");
        site.check(&[&site.log, &beside(&site.log, ".1.gz")], case);
    }
}

#[test]
fn a_journal_that_is_removed_or_replaced_is_made_and_locked_again() {
    if !can_follow() {
        return;
    }
    let (mut site, _, _) = site("");
    let running = follow(&site);
    let journal = beside(&site.log, ".journal");
    for replace in [false, true] {
        fs::remove_file(&journal).unwrap();
        if replace {
            fs::write(&journal, "").unwrap();
        }
        site.put_all(30, 500);
        until("files removed", || site.left().is_empty());
        // Nobody else may append meanwhile, and a batch that is interrupted can be taken back.
        let second = MergedLog::open(&site.log);
        assert!(
            matches!(second, Err(MergedLogError::Locked { .. })),
            "{second:?}"
        );
        assert!(
            fs::read(&journal)
                .unwrap()
                .starts_with(b"modsec merged log")
        );
        site.check(&[&site.log], "journal");
    }
    running.stop();
}

#[test]
fn a_service_whose_mariadb_database_is_made_anew_stores_what_comes_then() {
    if !can_follow() {
        return;
    }
    let Some(maria) = Maria::shared() else {
        return;
    };
    let mut site = Site::new(maria);
    let running = follow(&site);
    site.database.make_anew();
    site.put_all(30, 500);
    until("the end", || {
        running.log().contains("entries are kept again")
    });
    until("files removed", || site.left().is_empty());
    let log = running.stop();
    assert!(
        log.contains("there is no such database") || log.contains("a table is missing"),
        "{log}"
    );
    site.check(&[&site.log], "made anew");
}

#[test]
fn a_service_whose_tables_are_dropped_makes_them_anew() {
    let (mut site, db, _) = site("");
    let running = follow(&site);
    let tables = ["rule_matches", "logs", "modsec_batches"];
    let drop = tables.map(|table| format!("drop table {table};")).concat();
    Connection::open(&db).unwrap().execute_batch(&drop).unwrap();
    site.put_all(30, 500);
    until("the end", || {
        running.log().contains("entries are kept again")
    });
    until("files removed", || site.left().is_empty());
    let log = running.stop();
    assert!(log.contains("no such table"), "{log}");
    site.check(&[&site.log], "dropped");
    let db = Connection::open(&db).unwrap();
    db.execute_batch("drop table logs").unwrap();
    site.put_all(1, 500);
    let (status, text) = site.run();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("drop or rename rule_matches too"), "{text}");
    assert_eq!(site.left().len(), 1);
}

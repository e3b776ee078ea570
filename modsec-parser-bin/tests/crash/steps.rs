//! Death between any two steps.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use crate::inotify::can_follow;
use crate::maria::Maria;
use crate::site::{Database, Site};

/// Entries of a case: two batches by their number, of some pieces each by their size.
const ENTRIES: usize = 1100;
const SIZE: usize = 600;

/// Where to die: in the first batch, and in a later one.
const STEPS: [(&str, [u32; 2]); 10] = [
    ("journal-noted", [1, 2]),
    ("part-written", [1, 4]),
    ("log-synced", [1, 2]),
    ("before-insert", [1, 2]),
    ("in-transaction", [1, 2]),
    ("committed", [1, 2]),
    ("before-journal-closed", [1, 2]),
    ("before-removal", [1, 2]),
    ("taken", [1, 1050]),
    ("removed", [1, 1050]),
];

fn die_at<D: Database>(site: &Site<D>, place: &str) {
    let mut command = site.command();
    let output = command.env("MODSEC_CRASH_AT", place).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{place}: did not come by");
}

fn finish<D: Database>(site: &Site<D>, case: &str) {
    let (status, text) = site.run();
    assert!(status.success(), "{case}: {status} {text}");
}

fn every_step<D: Database>(mut database: impl FnMut() -> Option<D>) {
    for (step, counts) in STEPS {
        for count in counts {
            let Some(database) = database() else { return };
            let mut site = Site::new(database);
            site.put_all(ENTRIES, SIZE);
            let place = format!("{step}:{count}");
            die_at(&site, &place);
            finish(&site, &place);
            site.check(&[&site.log], &place);
        }
    }
}

#[test]
fn death_at_any_step_loses_and_doubles_nothing_in_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    every_step(|| {
        count += 1;
        let path = dir.path().join(format!("{count}.db"));
        Some(crate::site::Sqlite::at(path))
    });
}

#[test]
fn death_at_any_step_loses_and_doubles_nothing_in_mariadb() {
    every_step(Maria::shared);
}

#[test]
fn death_before_pruning_loses_nothing() {
    let mut site = Site::with_sqlite();
    site.put_all(300, 10);
    die_at(&site, "before-prune:1");
    finish(&site, "before-prune");
    site.check(&[&site.log], "before-prune");
}

#[test]
fn death_while_a_batch_is_taken_back_loses_and_doubles_nothing() {
    for step in [
        "part-written:1",
        "log-synced:1",
        "in-transaction:1",
        "committed:1",
    ] {
        let mut site = Site::with_sqlite();
        site.put_all(10, 40_000);
        die_at(&site, step);
        die_at(&site, "recovered:1");
        die_at(&site, "recovered:1");
        finish(&site, step);
        site.check(&[&site.log], step);
    }
}

#[test]
fn death_while_following_loses_and_doubles_nothing() {
    if !can_follow() {
        return;
    }
    for step in [
        "claimed:1",
        "claimed:7",
        "taken:1",
        "in-transaction:1",
        "committed:1",
    ] {
        let mut site = Site::with_sqlite();
        if step.starts_with("taken") {
            site.put_all(10, 10);
        }
        let mut command = site.command();
        command.args(["--quiet", "--follow", "--rescan-every", "3600"]);
        let mut child = command.env("MODSEC_CRASH_AT", step).spawn().unwrap();
        // What is written before the program watches is stored by its first walk.
        while child.try_wait().unwrap().is_none() {
            site.put_all(10, 10);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9), "{step}");
        finish(&site, step);
        site.check(&[&site.log], step);
    }
}

/// Moves the log away as log rotation does, and returns where it went.
type Rotate = fn(&Path) -> PathBuf;

fn by_renaming(log: &Path) -> PathBuf {
    let old = log.with_extension("log.1");
    fs::rename(log, &old).unwrap();
    old
}

fn by_copying(log: &Path) -> PathBuf {
    let old = log.with_extension("log.1");
    fs::copy(log, &old).unwrap();
    fs::File::options()
        .write(true)
        .open(log)
        .unwrap()
        .set_len(0)
        .unwrap();
    old
}

#[test]
fn rotation_after_a_death_loses_and_doubles_nothing() {
    let steps = [
        "journal-noted:1",
        "part-written:2",
        "log-synced:1",
        "in-transaction:1",
        "committed:1",
        "removed:5",
    ];
    let rotations: [(&str, Rotate); 2] = [("renamed", by_renaming), ("copied", by_copying)];
    for (how, rotate) in rotations {
        for step in steps {
            for before in [0, 20] {
                let case = format!("{step}, {how}, {before} entries before");
                let mut site = Site::with_sqlite();
                site.put_all(before, 100);
                finish(&site, &case);
                site.put_all(10, 40_000);
                die_at(&site, step);
                let old = rotate(&site.log);
                finish(&site, &case);
                site.check(&[&old, &site.log], &case);
            }
        }
    }
}

#[test]
fn what_others_write_to_the_merged_log_after_a_death_stays() {
    const FOREIGN: &str = "a line of somebody else\n";
    for before in [0, 20] {
        let mut site = Site::with_sqlite();
        site.put_all(before, 100);
        finish(&site, "before");
        site.put_all(10, 40_000);
        die_at(&site, "log-synced:1");
        let mut log = fs::File::options().append(true).open(&site.log).unwrap();
        log.write_all(FOREIGN.as_bytes()).unwrap();
        let interrupted = fs::read(&site.log).unwrap();
        let (status, text) = site.run();
        assert!(status.success(), "{status} {text}");
        assert!(text.contains("may be in there twice"), "{text}");
        assert!(text.contains(site.log.to_str().unwrap()), "{text}");
        let log = fs::read(&site.log).unwrap();
        assert!(log.starts_with(&interrupted), "{before} before");
        assert_eq!(site.database.rows().len(), before + 10);
        assert_eq!(site.left().len(), 0);
    }
}

#[test]
fn an_unrelated_file_with_the_inode_of_the_merged_log_is_not_touched_after_a_death() {
    let mut site = Site::with_sqlite();
    site.put_all(10, 500);
    die_at(&site, "log-synced:1");
    let other = site.log.with_file_name("access1.log");
    fs::rename(&site.log, &other).unwrap();
    fs::write(&other, "a log of somebody else\n").unwrap();
    let (status, text) = site.run();
    assert!(status.success(), "{status} {text}");
    assert!(text.contains("may be in there twice"), "{text}");
    let found = fs::read_to_string(&other).unwrap();
    assert_eq!(found, "a log of somebody else\n");
    site.check(&[&site.log], "inode");
}

#[test]
fn a_file_left_in_the_private_directory_is_stored_like_all_others() {
    let mut site = Site::with_sqlite();
    let private = site.tree().join(".modsec-parser");
    fs::create_dir(&private).unwrap();
    for number in 0..10 {
        let path = site.put(100);
        let name = path.file_name().unwrap().to_str().unwrap();
        fs::rename(&path, private.join(format!("1f-{number}.{name}"))).unwrap();
    }
    finish(&site, "left over");
    site.check(&[&site.log], "left over");
}

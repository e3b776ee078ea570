//! Files that are younger than the clock says: it was set back since.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Longest time that anything is waited for. Nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A file system whose files were changed in 2040, mounted for one command.
const MOUNTED: &str = r#"
    set -e
    if [ ! -e image ]; then
        truncate -s 8M image
        mkfs.ext4 -q -F -d audit image
        for name in whole cut; do
            debugfs -w -R "set_inode_field /20260101/20260101-0000/20260101-000000-$name ctime \
                20400101000000" image 2> debugfs
        done
    fi
    mount -o loop image mounted || exit 77
    "$@"
"#;

fn mounted(dir: &Path, words: &[&str]) -> Option<Output> {
    let run = Command::new("unshare")
        .args(["-m", "sh", "-c", MOUNTED, "sh"])
        .args(words)
        .current_dir(dir)
        .output();
    // Root, e2fsprogs and loop devices are not everywhere.
    let run = run
        .ok()
        .filter(|run| ![Some(77), Some(127)].contains(&run.status.code()));
    if run.is_none() {
        eprintln!("skipped: a file system with times of its own cannot be mounted here");
    }
    run
}

#[test]
fn files_from_before_the_clock_was_set_back_are_taken() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root may mount a file system");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let minute = dir.path().join("audit/20260101/20260101-0000");
    fs::create_dir_all(&minute).unwrap();
    fs::create_dir(dir.path().join("mounted")).unwrap();
    let entry = "--3fa0c41b-A--\n[01/Jan/2026:00:00:00 +0100] ZbA 192.0.2.10 4 198.51.100.4 80\n\
                 --3fa0c41b-B--\nGET / HTTP/1.1\n\n--3fa0c41b-Z--\n";
    fs::write(minute.join("20260101-000000-whole"), entry).unwrap();
    fs::write(
        minute.join("20260101-000000-cut"),
        &entry[..entry.len() - 9],
    )
    .unwrap();
    let program = [
        env!("CARGO_BIN_EXE_modsec-parser"),
        "--config=none",
        "--storage-dir=mounted",
        "--store=sqlite:logs.db",
        "--merged-log=none",
        "--min-age=1",
        "--stale-after=2",
    ];
    // Looking changes nothing.
    let Some(dry) = mounted(dir.path(), &[&program[..], &["--dry-run"]].concat()) else {
        return;
    };
    assert_eq!(dry.status.code(), Some(0), "{dry:?}");
    let times = mounted(dir.path(), &["sh", "-c", "stat -c %Z mounted/*/*/*"]).unwrap();
    let times = String::from_utf8(times.stdout).unwrap();
    assert!(times.lines().all(|time| time.starts_with("22")), "{times}");

    let first = mounted(dir.path(), &program).unwrap();
    let said = String::from_utf8_lossy(&first.stderr).into_owned();
    assert_eq!(said.matches("the clock was set back").count(), 1, "{said}");
    assert!(said.contains("count=2"), "{said}");
    let since = Instant::now();
    let mut said = String::new();
    while stored(dir.path()) < 2 {
        assert!(since.elapsed() < PATIENCE, "never taken: {said}");
        let pass = mounted(dir.path(), &program).unwrap();
        said = String::from_utf8_lossy(&pass.stderr).into_owned();
        assert!(!said.contains("the clock was set back"), "{said}");
    }
    let left = mounted(dir.path(), &["find", "mounted", "-name", "2026*-*-*"]).unwrap();
    assert!(left.stdout.is_empty(), "{left:?}");
}

fn stored(dir: &Path) -> i64 {
    let database = rusqlite::Connection::open(dir.join("logs.db")).unwrap();
    let count = database.query_row("select count(*) from logs", [], |row| row.get(0));
    count.unwrap_or(0)
}

//! Every program in `examples` runs on the sample tree and says what its first lines promise.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs an example. Cargo builds all of them before it runs all tests, but not before it runs
/// this one alone.
fn run(name: &str, args: &[PathBuf]) -> String {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let program = path.join("examples").join(name);
    if !program.exists() {
        let mut build = Command::new(env!("CARGO"));
        build.args([
            "build",
            "-p",
            "modsec-core",
            "--all-features",
            "--example",
            name,
        ]);
        assert!(build.status().unwrap().success(), "{name} does not build");
    }
    let output = Command::new(program).args(args).output().unwrap();
    assert!(
        output.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn sample() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/audit")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn print_records_prints_a_line_for_each_entry() {
    let out = run("print_records", &sample());
    assert_eq!(out.lines().count(), 150);
    assert!(
        out.lines().all(|line| line.starts_with("2026-03-04T05:")),
        "{out}"
    );
}

#[test]
fn keep_records_writes_json_in_the_order_of_time() {
    let out = run("keep_records", &sample());
    let times: Vec<String> = out
        .lines()
        .map(|line| {
            let record: modsec_core::Record<'static> = serde_json::from_str(line).unwrap();
            record.time.unwrap().to_rfc3339()
        })
        .collect();
    assert_eq!(times.len(), 150);
    assert!(times.is_sorted(), "{out}");
}

#[test]
fn own_store_takes_what_a_pass_finds_and_knows_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store");
    let tree = dir.path().join("audit");
    for want in ["150 stored, 150 removed\n", "0 stored, 150 removed\n"] {
        for path in sample() {
            let audit = path.ancestors().find(|dir| dir.ends_with("audit")).unwrap();
            let copy = tree.join(path.strip_prefix(audit).unwrap());
            fs::create_dir_all(copy.parent().unwrap()).unwrap();
            fs::copy(&path, copy).unwrap();
        }
        let out = run("own_store", &[file.clone(), tree.clone()]);
        assert_eq!(out, want);
    }
}

#[test]
fn read_any_log_reads_logs_of_every_dialect() {
    let serial = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/serial");
    let mut logs: Vec<_> = fs::read_dir(serial)
        .unwrap()
        .map(|dialect| dialect.unwrap().path().join("modsec_audit.log"))
        .collect();
    logs.sort();
    assert_eq!(logs.len(), 4);
    for log in logs {
        let out = run("read_any_log", std::slice::from_ref(&log));
        assert!(out.contains(" \"949110\"\n"), "{}: {out}", log.display());
    }
}

#[test]
fn load_sqlite_stores_each_entry_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut args = vec![dir.path().join("x.db")];
    args.extend(sample());
    assert_eq!(run("load_sqlite", &args), "150 stored, 0 known already\n");
    assert_eq!(run("load_sqlite", &args), "0 stored, 150 known already\n");
}

#[test]
fn count_offenders_finds_the_busy_ones() {
    let out = run("count_offenders", &sample());
    assert!(
        out.lines().count() > 3 && out.contains(" 5 attacks "),
        "{out}"
    );
}

#[test]
fn keep_permissions_says_what_it_changed() {
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("20260304");
    fs::create_dir_all(day.join("20260304-0506")).unwrap();
    // A site's directories, as a server makes them.
    for path in [&day, &day.join("20260304-0506")] {
        if std::os::unix::fs::chown(path, Some(12_345), Some(12_345)).is_err() {
            return; // only root may give directories away
        }
    }
    let args = [dir.path().to_owned(), "65534".into(), "12345".into()];
    let out = run("keep_permissions", &args);
    let last = out.lines().last().unwrap();
    assert!(
        last.starts_with("2 of ") && last.ends_with(" directories corrected"),
        "{out}"
    );
    assert_eq!(
        fs::metadata(&day).unwrap().permissions().mode() & 0o7777,
        0o770
    );
}

#[test]
fn the_ledger_needs_few_crates_and_no_runtime() {
    let mut tree = Command::new(env!("CARGO"));
    tree.args(["tree", "-p", "modsec-core", "--no-default-features"])
        .args(["--edges", "normal", "--prefix", "none", "--offline"]);
    let output = tree.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let crates: std::collections::BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| *name != "modsec-core")
        .collect();
    assert!(crates.len() <= 25, "{crates:?}");
    assert!(!crates.contains("tokio"), "{crates:?}");
}

//! What an option names is opened without waiting, and must be what is meant.

mod named;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;

use named::Dangling::{Absent, Refused};
use named::agreement::Agreement;
use named::{Case, PATIENCE, Place};

const PROGRAM: &str = env!("CARGO_BIN_EXE_modsec-parser");

const CASES: [Case; 9] = [
    ("--store-file", Refused, &["--store-file", "@"]),
    (
        "--defaults-file",
        Refused,
        &["--store", "mysql://h/d", "--defaults-file", "@"],
    ),
    ("--merged-log", Refused, &["--merged-log", "@"]),
    ("--index", Absent, &["--index", "@"]),
    (
        "--offset-file",
        Absent,
        &["--follow", "log", "--offset-file", "@"],
    ),
    ("--log-file", Refused, &["--log-file", "@"]),
    ("--config", Refused, &["--config", "@"]),
    ("--store", Refused, &["--store", "sqlite:@"]),
    ("--follow", Absent, &["--follow", "@"]),
];

#[test]
fn every_option_that_names_a_file_refuses_what_is_none() {
    named::check(PROGRAM, &CASES);
    named::check_complete(PROGRAM, &[], &CASES);
}

/// What an option file may have in it, as it is passed over: a run tries for seconds to connect.
const NO_REFUSAL: &[&str] = &[
    "/dev/null",
    "audit.log",
    "index",
    "database",
    "empty",
    "docker",
    "zeros",
];

/// A run waits for a writer of the pipe.
const AGREEMENTS: [Agreement; 12] = [
    (&["--storage-dir", "@"], &[]),
    (&["--store-file", "@"], &[]),
    (
        &["--store", "mysql://127.0.0.1:1/d", "--defaults-file", "@"],
        NO_REFUSAL,
    ),
    (&["--merged-log", "@"], &[]),
    (&["--index", "@"], &[]),
    (&["--index", "@", "--follow"], &[]),
    (&["--follow", "log", "--offset-file", "@"], &[]),
    (&["--log-file", "@"], &[]),
    (&["--config", "@"], &[]),
    (&["--store", "sqlite:@"], &[]),
    (&["--follow", "@"], &[]),
    (&["@"], &["pipe"]),
];

#[test]
fn checking_ends_as_a_run_does_whatever_an_option_names() {
    named::agreement::check(PROGRAM, &AGREEMENTS);
}

#[test]
fn no_option_takes_a_file_that_somebody_else_may_have_put_there() {
    named::check_trust(PROGRAM, &CASES, &["--index", "--follow"]);
}

#[test]
fn what_belongs_to_a_file_must_not_be_somebody_elses_either() {
    for name in ["merged.log.journal", "db-wal", "db-journal"] {
        let place = Place::new();
        let path = place.path(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let end = place.run(place.command(PROGRAM).args(["--store", "sqlite:db"]));
        let wanted = format!("everybody may write to {path:?}");
        assert!(
            end.status == Some(1) && end.said.contains(&wanted),
            "{end:?}"
        );
    }
}

#[test]
fn whoever_waits_for_a_pipe_can_be_stopped() {
    let place = Place::new();
    let child = place
        .command(PROGRAM)
        .args(["--jsonl", "pipe"])
        .spawn()
        .unwrap();
    let pid = named::pid(&child);
    let (opened, writer) = channel();
    let pipe = place.path("pipe");
    // Returns once the program has opened the other end.
    thread::spawn(move || opened.send(File::options().write(true).open(pipe)));
    let writer = writer.recv_timeout(PATIENCE).unwrap().unwrap();
    named::terminate(pid);
    let end = named::end_of(child);
    assert_eq!(end.status, Some(143), "{end:?}");
    drop(writer);
}

#[test]
fn whoever_waits_for_standard_input_can_be_stopped_and_stores_no_half() {
    let place = Place::new();
    let mut child = place
        .command(PROGRAM)
        .args(["--store", "sqlite:db", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = named::pid(&child);
    let mut pipe = child.stdin.take().unwrap();
    let entry = "--3fa0c41b-A--\n[03/Feb/2024:10:11:12 +0100] ZbA 192.0.2.10 4 198.51.100.4 80\n\
                 --3fa0c41b-C--\n";
    // More than the pipe holds: the program is at it when this has been written.
    let half = entry.to_owned() + &"x".repeat(1 << 20);
    pipe.write_all(half.as_bytes()).unwrap();
    named::terminate(pid);
    let end = named::end_of(child);
    assert_eq!(end.status, Some(143), "{end:?}");
    drop(pipe);
    let database = rusqlite::Connection::open(place.path("db")).unwrap();
    let stored = database.query_row("select count(*) from logs", [], |row| row.get(0));
    assert_eq!(stored, Ok(0));
}

#[test]
fn a_secret_comes_through_a_pipe_without_a_name() {
    let place = Place::new();
    let mut child = place
        .command(PROGRAM)
        .args(["--store-file", "/dev/stdin", "--merged-log", "none"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(b"sqlite:by-pipe.db\n").unwrap();
    drop(pipe);
    let end = named::end_of(child);
    assert_eq!(end.status, Some(0), "{end:?}");
    assert!(place.path("by-pipe.db").exists());

    // A writer that never writes: signals are not taken over yet.
    let mut child = place
        .command(PROGRAM)
        .args(["--store-file", "/dev/stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let _pipe = child.stdin.take().unwrap();
    named::terminate(named::pid(&child));
    assert_eq!(named::end_of(child).status, None);
}

#[test]
fn dev_null_is_an_empty_file() {
    let place = Place::new();
    let end = place.run(place.command(PROGRAM).args([
        "--config",
        "/dev/null",
        "--log-file",
        "/dev/null",
        "--merged-log",
        "none",
    ]));
    assert_eq!(end.status, Some(0), "{end:?}");
}

#[test]
fn one_file_is_not_used_for_two_purposes() {
    const SAME: &str = "--3fa0c41b-A--\n";
    let place = Place::new();
    let same = place.path("same");
    fs::write(&same, SAME).unwrap();
    std::os::unix::fs::symlink("same", place.path("link")).unwrap();
    let store = ["--store", "sqlite:db", "--storage-dir", "audit"];
    let cases: [(&[&str], &str); 10] = [
        (
            &["--merged-log", "same", "--log-file", "same"],
            "--merged-log and --log-file",
        ),
        (
            &["--merged-log", "link", "--index", "./same"],
            "--merged-log and --index",
        ),
        (
            &["--log-file", "new", "--merged-log", "audit/../new"],
            "--merged-log and --log-file",
        ),
        (
            &["--log-file", "same", "--index", "same"],
            "--log-file and --index",
        ),
        (&["--merged-log", "db"], "--merged-log and --store"),
        (&["--log-file", "db"], "--store and --log-file"),
        (&["--merged-log", "same", "same"], "--merged-log and INPUT"),
        (
            &["--log-file", "same", "log", "same"],
            "--log-file and INPUT",
        ),
        (
            &["--follow", "same", "--offset-file", "link"],
            "--offset-file and INPUT",
        ),
        (
            &["--config", "same.toml", "--log-file", "same.toml"],
            "--log-file and --config",
        ),
    ];
    fs::write(place.path("same.toml"), "").unwrap();
    for (arguments, names) in cases {
        for check in [&["--check-config"][..], &[]] {
            let is_input = names.contains("INPUT");
            let store = if is_input { &store[..2] } else { &store[..] };
            let mut command = place.command(PROGRAM);
            if is_input {
                command.env_remove("WATCH_DIR");
            }
            let end = place.run(command.args(store).args(arguments).args(check));
            assert_eq!(end.status, Some(2), "{arguments:?} {check:?}: {end:?}");
            let want = format!("{names} name the same file");
            assert!(end.said.contains(&want), "{arguments:?}: {end:?}");
            assert_eq!(fs::read_to_string(&same).unwrap(), SAME);
        }
    }
    // Read twice, or written to the device that takes everything.
    let end = place.run(place.command(PROGRAM).args(&store[..2]).args([
        "--merged-log",
        "none",
        "--log-file",
        "/dev/null",
        "log",
        "log",
    ]));
    assert_eq!(end.status, Some(3), "an empty log: {end:?}");
}

#[test]
fn standard_output_is_not_a_file_that_is_read_or_kept() {
    let place = Place::new();
    for (output, arguments, want) in [
        ("log", &["--jsonl", "log"][..], "standard output and INPUT"),
        (
            "db",
            &["--store", "sqlite:db", "log"],
            "--store and standard output",
        ),
        (
            "x.log",
            &["--store", "sqlite:db", "--merged-log", "x.log", "log"],
            "--merged-log and standard output",
        ),
    ] {
        let append = File::options()
            .append(true)
            .create(true)
            .open(place.path(output));
        let mut command = place.command(PROGRAM);
        command
            .args(arguments)
            .stdout(append.unwrap())
            .stderr(Stdio::piped());
        let out = command.spawn().unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(want), "{arguments:?}: {said}");
    }
    // What cron does.
    let log = File::options()
        .append(true)
        .create(true)
        .open(place.path("p.log"));
    let mut command = place.command(PROGRAM);
    command.args(["--store", "sqlite:db", "--log-file", "p.log", "log"]);
    assert_eq!(
        command.stdout(log.unwrap()).status().unwrap().code(),
        Some(3)
    );
}

#[test]
fn a_merged_log_among_the_entries_is_refused() {
    let place = Place::new();
    fs::create_dir_all(place.path("audit/20260304")).unwrap();
    std::os::unix::fs::symlink("audit", place.path("tree")).unwrap();
    for (arguments, merged) in [
        (&["--storage-dir", "audit"][..], "audit/merged.log"),
        (&["--storage-dir", "audit"], "tree/20260304/merged.log"),
        (&["--storage-dir", "tree"], "audit/merged.log"),
        (&["audit"], "audit/merged.log"),
    ] {
        for check in [&["--check-config"][..], &[]] {
            let mut command = place.command(PROGRAM);
            command.env_remove("WATCH_DIR").args(arguments).args(check);
            let end = place.run(command.args(["--store", "sqlite:db", "--merged-log", merged]));
            assert_eq!(end.status, Some(2), "{arguments:?} {merged}: {end:?}");
            assert!(end.said.contains("where entries are read from"), "{end:?}");
            assert!(!place.path(merged).exists());
        }
    }
}

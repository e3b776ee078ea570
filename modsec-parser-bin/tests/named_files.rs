//! What an option names is opened without waiting, and must be what is meant.

mod named;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::thread;

use named::Dangling::{Absent, Refused};
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

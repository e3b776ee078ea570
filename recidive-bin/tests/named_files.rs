//! What an option names is opened without waiting, and must be what is meant.

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "../../modsec-parser-bin/tests/named/mod.rs"]
mod named;

use inotify::can_follow;
use named::Case;
use named::Dangling::{Absent, Refused};
use named::Place;
use named::agreement::{Agreement, NO_DIRECTORY};

const PROGRAM: &str = env!("CARGO_BIN_EXE_recidive");

const CASES: [Case; 10] = [
    (
        "--merged-log",
        Absent,
        &["--source", "merged-log", "--merged-log", "@"],
    ),
    ("--source", Absent, &["--source", "index=@"]),
    ("--recidive-file", Refused, &["--recidive-file", "@"]),
    ("--state-file", Absent, &["--state-file", "@"]),
    ("--pid-file", Refused, &["--pid-file", "@"]),
    ("--ignore-file", Refused, &["--ignore-file", "@"]),
    ("--log-file", Refused, &["--log-file", "@"]),
    ("--config", Refused, &["--config", "@"]),
    (
        "--ignore-file",
        Refused,
        &["replay", "log", "--ignore-file", "@"],
    ),
    ("--state-file", Absent, &["status", "--state-file", "@"]),
];

#[test]
fn every_option_that_names_a_file_refuses_what_is_none() {
    if !can_follow() {
        return;
    }
    named::check(PROGRAM, &CASES);
    for words in [&[][..], &["replay"], &["status"]] {
        named::check_complete(PROGRAM, words, &CASES);
    }
}

const AGREEMENTS: [Agreement; 10] = [
    (&["--storage-dir", "@"], NO_DIRECTORY),
    (&["--source", "merged-log", "--merged-log", "@"], &[]),
    (&["--source", "index=@"], &[]),
    (&["--recidive-file", "@"], &[]),
    (&["--state-file", "@"], &[]),
    (&["--state-file", "@", "--dry-run"], &[]),
    (&["--pid-file", "@"], &[]),
    (&["--ignore-file", "@"], &[]),
    (&["--log-file", "@"], &[]),
    (&["--config", "@"], &[]),
];

#[test]
fn checking_ends_as_a_run_does_whatever_an_option_names() {
    if !can_follow() {
        return;
    }
    named::agreement::check(PROGRAM, &AGREEMENTS);
}

#[test]
fn no_option_takes_a_file_that_somebody_else_may_have_put_there() {
    named::check_trust(PROGRAM, &CASES, &["--merged-log", "--source"]);
}

#[test]
fn replay_reads_no_device_and_can_be_stopped_at_a_pipe() {
    let place = Place::new();
    let end = place.run(place.command(PROGRAM).args(["replay", "/dev/zero"]));
    assert_eq!(end.status, Some(1), "{end:?}");
    let child = place
        .command(PROGRAM)
        .args(["replay", "pipe"])
        .spawn()
        .unwrap();
    named::terminate(named::pid(&child));
    assert_eq!(named::end_of(child).status, None);
}

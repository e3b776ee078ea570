//! What an option names is opened without waiting, and must be what is meant.

#[path = "../../modsec-parser-bin/tests/named/mod.rs"]
mod named;

use named::Case;
use named::Dangling::Refused;
use named::agreement::{Agreement, NO_DIRECTORY};

const PROGRAM: &str = env!("CARGO_BIN_EXE_watch-dir");

const CASES: [Case; 3] = [
    (
        "--log-file",
        Refused,
        &["--owner=0", "--group=0", "--log-file", "@"],
    ),
    (
        "--pid-file",
        Refused,
        &["--owner=0", "--group=0", "--pid-file", "@"],
    ),
    ("--config", Refused, &["--config", "@"]),
];

#[test]
fn every_option_that_names_a_file_refuses_what_is_none() {
    named::check(PROGRAM, &CASES);
    named::check_complete(PROGRAM, &[], &CASES);
}

const AGREEMENTS: [Agreement; 5] = [
    (
        &["--owner=0", "--group=0", "--storage-dir", "@"],
        NO_DIRECTORY,
    ),
    (
        &["--owner=0", "--group=0", "--storage-dir", "@", "--once"],
        &[],
    ),
    (&["--owner=0", "--group=0", "--log-file", "@"], &[]),
    (&["--owner=0", "--group=0", "--pid-file", "@"], &[]),
    (&["--config", "@", "--owner=0", "--group=0"], &[]),
];

#[test]
fn checking_ends_as_a_run_does_whatever_an_option_names() {
    named::agreement::check(PROGRAM, &AGREEMENTS);
}

#[test]
fn no_option_takes_a_file_that_somebody_else_may_have_put_there() {
    named::check_trust(PROGRAM, &CASES, &[]);
}

#[test]
fn one_file_is_not_used_for_two_purposes() {
    let place = named::Place::new();
    std::fs::write(place.path("same"), "kept\n").unwrap();
    for (arguments, names) in [
        (
            ["--log-file", "same", "--pid-file", "./same"],
            "--pid-file and --log-file",
        ),
        (
            ["--log-file", "new", "--pid-file", "audit/../new"],
            "--pid-file and --log-file",
        ),
        (
            [
                "--config",
                "/dev/null",
                "--pid-file",
                "audit/../watch_dir.log",
            ],
            "--pid-file and --log-file",
        ),
    ] {
        for check in [&["--check-config"][..], &[]] {
            let mut command = place.command(PROGRAM);
            command.args(["--storage-dir", "audit", "--owner=0", "--group=0"]);
            let end = place.run(command.args(arguments).args(check));
            assert_eq!(end.status, Some(2), "{arguments:?}: {end:?}");
            let want = format!("{names} name the same file");
            assert!(end.said.contains(&want), "{arguments:?}: {end:?}");
        }
    }
    assert_eq!(
        std::fs::read_to_string(place.path("same")).unwrap(),
        "kept\n"
    );
}

//! What an option names is opened without waiting, and must be what is meant.

#[path = "../../modsec-parser-bin/tests/named/mod.rs"]
mod named;

use named::Case;
use named::Dangling::Refused;

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

#[test]
fn no_option_takes_a_file_that_somebody_else_may_have_put_there() {
    named::check_trust(PROGRAM, &CASES, &[]);
}

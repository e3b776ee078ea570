//! The configuration file of `watch-dir`.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "../../modsec-parser-bin/tests/configured/mod.rs"]
mod configured;

use configured::{Configured, Mistake, Precedence};

const PRECEDENCE: [Precedence; 8] = [
    (
        "storage-dir",
        "WATCH_DIR",
        [["'/a'", "\"/a\""], ["/b", "\"/b\""], ["/c", "\"/c\""]],
    ),
    (
        "mode",
        "WATCH_DIR_MODE",
        [["'750'", "750"], ["2770", "2770"], ["775", "775"]],
    ),
    (
        "ahead",
        "WATCH_DIR_AHEAD",
        [["0", "0"], ["3", "3"], ["4", "4"]],
    ),
    (
        "layout",
        "WATCH_DIR_LAYOUT",
        [
            ["'flat'", "\"flat\""],
            ["per-user", "\"per-user\""],
            ["auto", "\"auto\""],
        ],
    ),
    (
        "site-user",
        "WATCH_DIR_SITE_USERS",
        [
            ["['root', 'daemon']", r#"["root", "daemon"]"#],
            ["root,daemon", r#"["root", "daemon"]"#],
            ["root", r#"["root"]"#],
        ],
    ),
    (
        "once",
        "WATCH_DIR_ONCE",
        [["true", "true"], ["no", "false"], ["", "true"]],
    ),
    (
        "quiet",
        "WATCH_DIR_QUIET",
        [["2", "2"], ["3", "3"], ["", "1"]],
    ),
    (
        "pid-file",
        "WATCH_DIR_PID_FILE",
        [["'/a'", "\"/a\""], ["/b", "\"/b\""], ["/c", "\"/c\""]],
    ),
];

const MISTAKES: [Mistake; 6] = [
    (
        "[watch-dir]\nmode = '999'",
        "FILE:2: mode = \"999\": expected an octal mode",
    ),
    // 0o770 is 504, which would be a mode as well.
    (
        "[watch-dir]\nmode = 0o770",
        "FILE:2: mode must be a whole number, and is a number in another base",
    ),
    (
        "[watch-dir]\nlayout = 'flta'",
        "FILE:2: layout = \"flta\": expected auto, flat, per-user",
    ),
    ("[watch-dir]\nahead = 2000", "FILE:2: ahead = \"2000\": "),
    (
        "[watch-dir]\nsite-users = []",
        "FILE:2: unknown key site-users in [watch-dir]: did you mean site-user?",
    ),
    (
        "pid-file = '/x'",
        "FILE:1: pid-file is not shared by the programs: move it below [watch-dir]",
    ),
];

fn watch_dir() -> Configured {
    let here = &[("WATCH_DIR_OWNER", "root"), ("WATCH_DIR_GROUP", "0")];
    Configured::new(env!("CARGO_BIN_EXE_watch-dir")).with(&[], here)
}

#[test]
fn a_flag_beats_the_environment_beats_the_file() {
    let watch_dir = watch_dir();
    for precedence in PRECEDENCE {
        watch_dir.check_precedence(precedence);
    }
}

#[test]
fn mistakes_are_refused_with_line_and_advice() {
    let watch_dir = watch_dir();
    for mistake in MISTAKES {
        watch_dir.check_refusal(mistake, &["--dry-run"]);
    }
}

#[test]
fn users_and_groups_that_do_not_exist_are_found_by_checking() {
    let watch_dir = watch_dir();
    watch_dir.write("");
    let names = ["--owner", "no-such-user", "--group", "no-such-group"];
    let arguments = [&["--check-config"], &names[..]].concat();
    let output = watch_dir.command(&arguments, &[]).output().unwrap();
    let (out, err) = configured::texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for name in ["no-such-user", "no-such-group"] {
        assert!(err.contains(name), "{name}: {err}");
        assert!(out.contains(name), "the settings are shown: {out}");
    }
}

#[test]
fn the_installed_file_has_every_option_at_its_default() {
    let here = &[
        ("WATCH_DIR", "/srv/audit"),
        ("WATCH_DIR_OWNER", "root"),
        ("WATCH_DIR_GROUP", "0"),
    ];
    let watch_dir = Configured::new(env!("CARGO_BIN_EXE_watch-dir")).with(&[], here);
    watch_dir.check_shipped_file(&[]);
}

#[test]
fn manual_page_and_completions_have_every_option() {
    let headings = [
        "LAYOUTS",
        "OPTIONS",
        "ENVIRONMENT",
        "SIGNALS",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    configured::check_generated(env!("CARGO_BIN_EXE_watch-dir"), &headings, &[]);
}

//! No name in the tree does anything to a terminal.

#[path = "../../modsec-parser-bin/tests/terminal/hostile_text.rs"]
mod hostile_text;
#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;

use std::fs;
use std::process::Command;

use self::hostile_text::{assert_inert, assert_shown, name};
use self::inotify::can_follow;

#[test]
fn no_name_reaches_the_terminal_as_it_is() {
    if !can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = name();
    fs::create_dir_all(dir.path().join("audit/20200822").join(&name)).unwrap();
    fs::create_dir_all(
        dir.path()
            .join("audit")
            .join(&name)
            .join("20200822/20200822-1015"),
    )
    .unwrap();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_watch-dir"))
            .env("MODSEC_CONFIG", "none")
            .args(["--owner", "0", "--group", "0", "--allow-uid-min", "0"])
            .args(arguments)
            .current_dir(dir.path())
            .output()
            .unwrap()
    };
    for format in ["text", "json"] {
        let once = [
            "-vv",
            "--once",
            "--log-format",
            format,
            "--storage-dir",
            "audit",
        ];
        let rehearsed = run(&[&once[..], &["--dry-run"]].concat());
        assert_inert("a rehearsal", &rehearsed.stdout);
        assert_shown("a rehearsal, logged", &rehearsed.stderr);
        assert_shown("a walk", &run(&once).stderr);
    }
    let missing = format!("no{name}");
    for arguments in [
        &["--once", "--storage-dir", &missing][..],
        &["--once", "--user", &name],
        &["--once", &format!("--{name}")],
        &["--once", "--config", &missing],
        &["--once", "--log-file", &format!("{missing}/x")],
    ] {
        let output = run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert_inert(&format!("{arguments:?}"), &output.stderr);
    }
}

//! What the program says of what it did not do, and how it ends then.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "others start the service")]
mod daemon;
#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "../../modsec-core/tests/machine/signals.rs"]
mod signals;

use std::fs::File;
use std::io::Read as _;
use std::process::Stdio;

use daemon::{Place, make};
use inotify::can_follow;
use rustix::process::{Pid, Signal, kill_process};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_interrupted_walk_says_so() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    // More names than a pipe takes.
    for number in 0..40 {
        let day = place.tree().join(format!("site{number}/20260822"));
        for minute in 0..50 {
            make(&day.join(format!("20260822-10{minute:02}")), 0o700);
        }
    }
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut command = place.command();
        command.args(["--once", "--dry-run"]);
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let stdout = child.stdout.as_mut().unwrap();
        stdout.read_exact(&mut [0]).unwrap();
        daemon::until("the set-up", || signals::sleeps(&child).is_some());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = child.wait().unwrap();
        assert_eq!(ended.code(), Some(status));
        let out = child.wait_with_output().unwrap();
        let said = text(&out.stderr);
        assert!(
            said.contains("watch-dir: interrupted: not every directory"),
            "{said}"
        );
    }
}

#[test]
fn lost_output_is_a_failure_and_a_closed_pipe_is_none() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    make(&place.tree().join("site1/20260822"), 0o700);
    for arguments in [
        &["--help"][..],
        &["--generate", "man"],
        &["--check-config"],
        &["--dry-run"],
        &["--dry-run", "--once"],
    ] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let out = place.command().args(arguments).stdout(full).output();
        let out = out.unwrap();
        assert_eq!(out.status.code(), Some(1), "{arguments:?}");
        let said = text(&out.stderr);
        let lost =
            "watch-dir: cannot write to standard output, some of the output is lost: No space";
        assert!(said.contains(lost), "{arguments:?}: {said}");

        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let out = place.command().args(arguments).stdout(write).output();
        let out = out.unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("pipe"), "{arguments:?}: {said}");
    }
}

//! What the program says of what it did not do, and how it ends then.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "others look at modes")]
mod daemon;
#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "../../modsec-core/tests/machine/signals.rs"]
mod signals;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Stdio;

use daemon::{Daemon, Place, make};
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

#[test]
fn checking_finds_a_program_that_runs_already() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let check = || place.command().arg("--check-config").output().unwrap();
    assert_eq!(check().status.code(), Some(0), "{}", text(&check().stderr));
    let daemon = daemon::Daemon::start(&place, &mut place.command());
    let out = check();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.contains("watch-dir: already running as process "),
        "{said}"
    );
    let (status, said) = daemon.stop();
    assert!(status.success(), "{said}");
    assert_eq!(check().status.code(), Some(0));
}

#[test]
fn a_negative_number_is_a_bad_value_and_no_unknown_option() {
    let place = Place::new();
    for (option, want) in [
        ("--ahead", "expected a whole number"),
        ("--check-interval", "expected a whole number"),
        ("--allow-uid-min", "expected a whole number, 0 or more"),
        ("--mode", "expected an octal mode"),
    ] {
        let out = place.command().args([option, "-1"]).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{option}: {said}");
        assert!(
            said.contains("invalid value '-1' for '--"),
            "{option}: {said}"
        );
        assert!(said.contains(want), "{option}: {said}");
    }
}

#[test]
fn a_rehearsal_names_each_directory_once_and_logs_nothing_as_done() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    make(&place.tree().join("root/20260822/20260822-1015"), 0o700);
    let out = place
        .command()
        .args(["--dry-run", "--site-user", "root"])
        .output();
    let out = out.unwrap();
    let (lines, log) = (text(&out.stdout), text(&out.stderr));
    let mut named: Vec<&str> = lines.lines().collect();
    let count = named.len();
    named.sort_unstable();
    named.dedup();
    assert_eq!(named.len(), count, "{lines}");
    assert!(
        !log.contains("created path") && !log.contains("directory corrected"),
        "{log}"
    );
    let corrected = lines
        .lines()
        .filter(|line| line.starts_with("correct "))
        .count();
    let created = lines
        .lines()
        .filter(|line| line.starts_with("create "))
        .count();
    assert_eq!(corrected, 3, "{lines}");
    let want = format!("directories=3 corrected={corrected} created={created}");
    assert!(log.contains(&want), "{want}: {log}");
}

#[test]
fn whose_directory_was_left_alone_is_said_with_the_option() {
    if !can_follow() || !daemon::is_root("whose_directory") {
        return;
    }
    let place = Place::new();
    let dir = place.tree().join("20260822");
    make(&dir, 0o700);
    chown(&dir, Some(54_321), None).unwrap();
    let line = ["--once", "--allow-uid-min", "60000"];
    let out = place.command().args(line).output().unwrap();
    let said = text(&out.stderr);
    assert!(said.contains("user 54321"), "{said}");
    assert!(
        said.contains("--allow-uid-min") && said.contains("--site-user"),
        "{said}"
    );
}

/// What keeps the tree of a site's user from being used, made at the path of the tree; and how many
/// things are left alone because of it.
type Obstacle = (&'static str, fn(&Place), usize);

const OBSTACLES: [Obstacle; 5] = [
    (
        "another user's tree",
        |place| own(&place.tree().join("daemon"), 54_321),
        1,
    ),
    (
        "a link",
        |place| symlink("/tmp", place.tree().join("daemon")).unwrap(),
        1,
    ),
    (
        "a file",
        |place| std::fs::write(place.tree().join("daemon"), "").unwrap(),
        1,
    ),
    (
        "another user's days",
        |place| {
            for day in days() {
                own(&place.tree().join("daemon").join(day), 54_321);
            }
            own(&place.tree().join("daemon"), 1);
        },
        2,
    ),
    (
        "links for days",
        |place| {
            own(&place.tree().join("daemon"), 1);
            for day in days() {
                symlink("/tmp", place.tree().join("daemon").join(day)).unwrap();
            }
        },
        2,
    ),
];

/// Makes a directory of the user with this number.
fn own(path: &Path, uid: u32) {
    make(path, 0o755);
    chown(path, Some(uid), Some(uid)).unwrap();
}

/// The names of the directories of today and tomorrow: a test may be at work at midnight.
fn days() -> [String; 2] {
    let today = chrono::Local::now().date_naive();
    [today, today.succ_opt().unwrap()].map(modsec_core::names::day_name)
}

/// The paths that a log says were left alone.
fn left_alone(log: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains("left alone"));
    let path = |line: &str| line.split('"').nth(1).map(str::to_owned);
    lines.filter_map(path).collect()
}

#[test]
fn what_is_left_alone_is_there_and_is_counted_and_named_once() {
    if !can_follow() || !daemon::is_root("what_is_left_alone") {
        return;
    }
    for (what, put, want) in OBSTACLES {
        let place = Place::new();
        put(&place);
        let line = ["--site-user", "daemon", "--layout", "per-user"];
        let out = place.command().args(line).arg("--dry-run").output();
        let out = out.unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(3), "{what}: {said}");
        let count = format!(" refused={want} ");
        assert!(said.contains(&count), "{what}: {count}: {said}");
        let names_owner = said.contains("user 54321");
        assert_eq!(
            names_owner,
            what.starts_with("another user"),
            "{what}: {said}"
        );

        // The service has planned three minutes once there are directories for another user's.
        let arguments = ["--site-user", "daemon,bin", "--layout", "per-user"];
        let running = Daemon::start(&place, place.command().args(arguments));
        let minutes = || {
            let days = std::fs::read_dir(place.tree().join("bin"))?;
            let minutes = days.flat_map(|day| std::fs::read_dir(day?.path()));
            Ok::<_, std::io::Error>(minutes.flatten().count())
        };
        daemon::until("the minutes", || minutes().is_ok_and(|made| made >= 3));
        let (status, said) = running.stop();
        assert!(status.success(), "{what}: {said}");
        for (log, named) in [
            ("--dry-run", left_alone(&text(&out.stderr))),
            ("the service", left_alone(&place.log())),
        ] {
            assert_eq!(named.len(), want, "{what}: {log}: {named:?}");
            for path in named {
                let there = place.tree().join(&path).symlink_metadata();
                assert!(there.is_ok(), "{what}: {log}: {path} is not there");
            }
        }
    }
}

//! Ten thousand directories by three users: none missed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::super::daemon::{Daemon, attributes, until};
use super::{GROUP, Stage, USERS, result};

const QUEUE: &str = "/proc/sys/fs/inotify/max_queued_events";

fn directories(path: &Path, depth: u32, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(path).into_iter().flatten() {
        let path = entry.unwrap().path();
        if depth > 0 {
            directories(&path, depth - 1, found);
        }
        found.push(path);
    }
}

fn make_ten_thousand(stage: &Stage) {
    let writers: Vec<_> = USERS
        .iter()
        .map(|(user, uid)| stage.act_as(*uid, "make", &format!("{user} 3320")))
        .collect();
    let made: u64 = writers.into_iter().map(|writer| result(writer)[0]).sum();
    assert!(made >= 10_000, "{made}");
    let mut all = Vec::new();
    directories(&stage.place.tree(), 2, &mut all);
    assert_eq!(all.len() as u64, made);
    let mut wrong = all;
    until("all directories are right", || {
        wrong.retain(|path| {
            let owner = USERS
                .iter()
                .find(|(user, _)| path.starts_with(stage.place.tree().join(user)));
            owner.is_none_or(|(_, uid)| attributes(path) != (0o2770, *uid, GROUP))
        });
        wrong.is_empty()
    });
}

#[test]
fn ten_thousand_nested_directories_by_three_users_are_all_corrected() {
    let Some(stage) = Stage::new("ten_thousand_nested_directories") else {
        return;
    };
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o1777)).unwrap();
    let arguments = ["--ahead", "0", "--layout", "flat", "-q"];
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    make_ten_thousand(&stage);
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
}

/// Restores the limit, which the kernel reads when an inotify instance is made.
struct TinyQueue(String);

impl TinyQueue {
    fn set() -> Option<Self> {
        let before = fs::read_to_string(QUEUE).ok()?;
        fs::write(QUEUE, "16").ok()?;
        Some(Self(before))
    }
}

impl Drop for TinyQueue {
    fn drop(&mut self) {
        let _ = fs::write(QUEUE, &self.0);
    }
}

#[test]
fn with_a_tiny_event_queue_none_is_missed_either() {
    let Some(stage) = Stage::new("with_a_tiny_event_queue") else {
        return;
    };
    let Some(tiny) = TinyQueue::set() else {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {QUEUE} cannot be set here; the library's own test injects overflows"
        );
        return;
    };
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o1777)).unwrap();
    let arguments = ["--ahead", "0", "--layout", "flat"];
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    drop(tiny);
    // It may be quick enough for the rest; not while it stands still.
    daemon.signal(Signal::STOP);
    for number in 0..100 {
        let directory = stage.place.tree().join(number.to_string());
        fs::create_dir(&directory).unwrap();
        fs::remove_dir(&directory).unwrap();
    }
    daemon.signal(Signal::CONT);
    make_ten_thousand(&stage);
    until("the queue's limit is named", || {
        stage.place.log().contains("max_queued_events")
    });
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
}

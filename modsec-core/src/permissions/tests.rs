use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;

use rustix::process::{getegid, geteuid};

use super::*;
use crate::watch::inotify_instances::can_follow;

/// A policy that needs no privileges: own user, own group, another mode.
pub(super) fn policy() -> Policy {
    Policy {
        mode: 0o750,
        owner: geteuid().as_raw(),
        group: getegid().as_raw(),
        members: std::collections::BTreeSet::new(),
        site_users: Vec::new(),
        site_users_named: false,
        users: std::collections::BTreeMap::new(),
        allow_uid_min: 0,
    }
}

pub(super) fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn no_directory_is_missed_when_events_are_lost_again_and_again() {
    if !can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    let mut keeper = Keeper::new(Options::new(root.clone(), policy())).unwrap();
    let maker = thread::spawn(move || {
        let mut made = Vec::new();
        for number in 0..2000 {
            let day = root.join(format!("site{}/202608{:02}", number % 3, number % 20 + 1));
            let minute = day.join(format!(
                "202608{:02}-{:02}{:02}",
                number % 20 + 1,
                number / 60 % 24,
                number % 60
            ));
            fs::create_dir_all(&minute).unwrap();
            made.push(minute);
        }
        made
    });
    let mut rounds = 0;
    while !maker.is_finished() {
        keeper.step(rounds % 3 == 0);
        rounds += 1;
    }
    let made = maker.join().unwrap();
    keeper.step(true);
    let wrong: Vec<_> = made.iter().filter(|path| mode(path) != 0o2750).collect();
    assert!(
        wrong.is_empty(),
        "{} of {}: {:?}",
        wrong.len(),
        made.len(),
        wrong.first()
    );
}

#[test]
fn what_is_right_already_is_not_changed() {
    if !can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("site1/20260822")).unwrap();
    let options = Options::new(dir.path().to_owned(), policy());
    let run = || Keeper::new(options.clone()).unwrap().once(|_| {}).unwrap();
    assert_eq!((run().corrected, run().corrected), (2, 0));
}

//! Users with very many directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use super::super::daemon::{Daemon, attributes, make, until};
use super::{GROUP, Stage, USERS, result};

/// No name in the local files belongs to it, as to a user from LDAP.
const UNKNOWN: u32 = 64050;

/// Counts the inotify watches of a process, which may hold its inotify twice.
fn watches(pid: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .unwrap()
        .flatten();
    let lines = |path| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .matches("inotify wd:")
            .count()
    };
    files
        .map(|file| lines(file.path()))
        .max()
        .unwrap_or_default()
}

fn own(path: &Path, uid: u32) {
    make(path, 0o755);
    chown(path, Some(uid), Some(uid)).unwrap();
}

#[test]
fn one_user_gets_a_bounded_number_of_watches_and_all_directories_are_corrected() {
    let Some(stage) = Stage::new("one_user_gets_a_bounded_number_of_watches") else {
        return;
    };
    let tree = stage.place.tree();
    fs::set_permissions(&tree, PermissionsExt::from_mode(0o1777)).unwrap();
    let arguments = ["--ahead", "0", "--check-interval", "1"];
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    assert_eq!(result(stage.act_as(UNKNOWN, "trees", "3000")), [3000]);
    let want = (0o2770, UNKNOWN, GROUP);
    let mut seen = 0;
    until("all trees", || {
        seen = seen.max(watches(daemon.pid()));
        (0..3000).all(|number| {
            let path = tree.join(format!("x{number}"));
            attributes(&path) == want && attributes(&path.join("20260822")) == want
        })
    });
    assert!((1000..1100).contains(&seen), "{seen} watches");
    // Another user has his own.
    let late = tree.join(USERS[0].0).join("20260823");
    let before = watches(daemon.pid());
    own(&late, USERS[0].1);
    until("a directory of another user", || {
        attributes(&late) == (0o2770, USERS[0].1, GROUP) && watches(daemon.pid()) > before
    });
    assert!(daemon.stop().0.success());
    let log = stage.place.log();
    let told = log.matches("too many directories of one owner").count();
    assert_eq!(told, 1, "{}", &log[..log.len().min(2000)]);
    let named = log.matches("directory corrected path=\"x").count();
    assert_eq!(named, 1000);
    let rest = format!("further directories corrected uid={UNKNOWN} number=5000");
    assert!(log.contains(&rest), "{}", &log[log.len() - 1000..]);
}

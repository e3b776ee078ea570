//! A user who swaps links while directories are made.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use super::super::daemon::{Daemon, attributes, make};
use super::{Stage, USERS, result};

/// So many swaps at least, however long a busy machine takes for them.
const SWAPS: u64 = 1001;

#[test]
fn swapped_links_never_lead_to_a_change_outside() {
    let Some(stage) = Stage::new("swapped_links") else {
        return;
    };
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o777)).unwrap();
    // Outside, of root and of users whose directories would be touched inside.
    let outside = stage.place.path("outside");
    let victims = ["", "20260822", "20260822/20260822-1015", "20260101"];
    for (victim, uid) in victims.iter().zip([0, USERS[0].1, USERS[1].1, USERS[2].1]) {
        make(&outside.join(victim), 0o755);
        chown(outside.join(victim), Some(uid), Some(uid)).unwrap();
    }
    let before: Vec<_> = victims
        .iter()
        .map(|victim| attributes(&outside.join(victim)))
        .collect();

    let arguments = ["--check-interval", "1", "-q"];
    let mut daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    let time = if std::env::var_os("WATCH_DIR_TEST_LONG").is_some() {
        30_000
    } else {
        3_000
    };
    let argument = format!("{time} {SWAPS} {}", outside.display());
    let swapper = stage.act_as(USERS[2].1, "swap", &argument);
    let makers: Vec<_> = USERS[..2]
        .iter()
        .map(|(user, uid)| stage.act_as(*uid, "make", &format!("{user} 1000")))
        .collect();
    for maker in makers {
        result(maker);
    }
    let swaps = result(swapper)[0];
    assert!(swaps >= SWAPS, "{swaps} swaps");
    assert!(daemon.is_running());
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
    let after: Vec<_> = victims
        .iter()
        .map(|victim| attributes(&outside.join(victim)))
        .collect();
    assert_eq!(before, after, "after {swaps} swaps");
}

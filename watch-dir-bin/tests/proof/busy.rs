//! Users who change their directories without end.

use std::fs;
use std::os::unix::fs::chown;

use super::super::daemon::{Daemon, attributes, make, until};
use super::{GROUP, Stage, USERS, result};

/// Attackers: one with a tree of its own, one outside of the group with a shared directory.
const SITE: (&str, u32) = USERS[0];
const OUTSIDER: (&str, u32) = USERS[2];
const VICTIM: (&str, u32) = USERS[1];
const FLIPS: u64 = 1_000_000;

/// The figure called `name` in the last line of the log.
fn figure(log: &str, name: &str) -> u64 {
    let line = log.lines().last().unwrap();
    let (_, rest) = line.split_once(&format!("{name}=")).expect(line);
    rest.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn who_changes_modes_without_end_waits_and_nobody_else_does() {
    let Some(stage) = Stage::new("who_changes_modes_without_end") else {
        return;
    };
    let tree = stage.place.tree();
    let own = ["", "/20260822", "/20260822/20260822-1015"].map(|path| format!("{}{path}", SITE.0));
    let shared = ["20260823", "20260823/20260823-1015"].map(str::to_owned);
    for (paths, uid) in [(&own[..], SITE.1), (&shared[..], OUTSIDER.1)] {
        for path in paths {
            make(&tree.join(path), 0o755);
            chown(tree.join(path), Some(uid), Some(uid)).unwrap();
        }
    }
    make(&tree.join(VICTIM.0), 0o755);
    chown(tree.join(VICTIM.0), Some(VICTIM.1), Some(VICTIM.1)).unwrap();

    let arguments = ["--ahead", "0", "--check-interval", "3600"];
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    let flip =
        |uid, paths: &[String]| stage.act_as(uid, "flip", &format!("{FLIPS} {}", paths.join(" ")));
    let flippers = [flip(SITE.1, &own), flip(OUTSIDER.1, &shared)];
    // Meanwhile the others' directories are corrected.
    let count = result(stage.act_as(VICTIM.1, "make", &format!("{} 20", VICTIM.0)))[0];
    let mut right = 0;
    until("the directories of another user", || {
        right = 0;
        for day in fs::read_dir(tree.join(VICTIM.0)).unwrap().flatten() {
            for path in fs::read_dir(day.path()).unwrap().flatten() {
                right += u64::from(attributes(&path.path()) == (0o2770, VICTIM.1, GROUP));
            }
            right += u64::from(attributes(&day.path()) == (0o2770, VICTIM.1, GROUP));
        }
        right + 1 == count
    });
    for flipper in flippers {
        assert_eq!(result(flipper), [FLIPS]);
    }
    // In the end all is right.
    until("the attackers' own directories", || {
        let is = |path: &String, want| attributes(&tree.join(path)) == want;
        own.iter().all(|path| is(path, (0o2770, SITE.1, GROUP)))
            && shared
                .iter()
                .all(|path| is(path, (0o770, OUTSIDER.1, GROUP)))
    });
    assert!(daemon.stop().0.success());
    let log = stage.place.log();
    let (looked, lines) = (figure(&log, "directories"), log.lines().count());
    // A few thousand of each attacker for every doubled pause.
    assert!(looked < FLIPS / 20, "{looked} directories looked at");
    assert!(lines < 2500, "{lines} lines");
    for uid in [SITE.1, OUTSIDER.1] {
        assert!(log.contains(&format!("owner=uid {uid}")), "{uid}: {log}");
    }
}

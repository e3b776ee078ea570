//! Directories that a user moves into the tree.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use super::super::daemon::{Daemon, attributes, make, until};
use super::{GROUP, Stage, USERS, result};

const ATTACKER: (&str, u32) = USERS[0];
const VICTIM: (&str, u32) = USERS[1];

/// A stage with a storage directory for all, and a directory beside it that everybody uses.
fn open_stage(test: &str) -> Option<(Stage, PathBuf)> {
    let stage = Stage::new(test)?;
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o1777)).unwrap();
    let elsewhere = stage.place.path("elsewhere");
    make(&elsewhere, 0o777);
    Some((stage, elsewhere))
}

fn own(path: &Path, uid: u32, mode: u32) {
    make(path, mode);
    chown(path, Some(uid), Some(uid)).unwrap();
}

#[test]
fn what_belongs_to_another_stays_his_in_every_tree_it_is_moved_to() {
    let Some((stage, elsewhere)) = open_stage("what_belongs_to_another_stays_his") else {
        return;
    };
    let tree = stage.place.tree();
    let day = format!("{}/20260822", ATTACKER.0);
    own(&tree.join(ATTACKER.0), ATTACKER.1, 0o755);
    own(&tree.join(&day), ATTACKER.1, 0o755);
    let places = [
        format!("{}/20260823", ATTACKER.0),
        format!("{day}/20260822-1015"),
        "anything".to_owned(),
        "nobody-here".to_owned(),
    ];
    let moves = places.iter().enumerate().map(|(number, to)| {
        let from = elsewhere.join(number.to_string());
        own(&from, VICTIM.1, 0o777);
        fs::write(from.join("secret"), "").unwrap();
        format!("{} {to}", from.display())
    });
    let moves = moves.collect::<Vec<_>>().join(" ");
    assert_eq!(result(stage.act_as(ATTACKER.1, "move", &moves)), [4]);

    let output = stage.watch_dir(&["--once"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    for place in &places {
        let now = attributes(&tree.join(place));
        assert_eq!(now, (0o777, VICTIM.1, VICTIM.1), "{place}: {stderr}");
        let told = format!("path=\"{place}\" reason");
        assert!(stderr.contains(&told), "{place}: {stderr}");
    }
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    // What is the attacker's own is corrected as ever.
    for own in [ATTACKER.0, &day] {
        assert_eq!(attributes(&tree.join(own)), (0o2770, ATTACKER.1, GROUP));
    }
}

#[test]
fn a_tree_that_is_named_after_another_user_gets_nothing() {
    let Some((stage, _)) = open_stage("a_tree_that_is_named_after_another_user") else {
        return;
    };
    let tree = stage.place.tree().join(VICTIM.0);
    let day = tree.join("20260822");
    own(&tree, ATTACKER.1, 0o755);
    own(&day, ATTACKER.1, 0o755);
    let arguments = ["--layout", "per-user", "--check-interval", "1"];
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    until("two checks", || {
        stage.place.log().matches("periodic check").count() >= 2
    });
    for path in [&tree, &day] {
        assert_eq!(attributes(path), (0o755, ATTACKER.1, ATTACKER.1));
    }
    // No directory of the victim has been put into the attacker's hands.
    assert_eq!(fs::read_dir(&tree).unwrap().count(), 1);
    let own = stage.place.tree().join(ATTACKER.0);
    assert_eq!(attributes(&own), (0o2770, ATTACKER.1, GROUP));
    let log = stage.place.log();
    let told = format!("path=\"{}\" reason", VICTIM.0);
    assert_eq!(log.matches(&told).count(), 1, "{log}");
    drop(daemon);
}

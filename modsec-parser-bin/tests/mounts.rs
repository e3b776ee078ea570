//! A site user mounts something on what is his in the storage directory: no program enters it, and
//! none is held up by a file system that never answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "mounts/scene.rs"]
mod scene;
#[expect(
    dead_code,
    reason = "each test binary uses another part of this module"
)]
mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use self::inotify::can_follow;
use self::scene::{Kind, Scene, run, start};

/// What is mounted, and the error with which openat2(2) fails.
const CASES: [(Kind, Option<&str>); 7] = [
    (Kind::Silent, None),
    (Kind::Silent, Some("ENOSYS")),
    (Kind::Silent, Some("EPERM")),
    (Kind::Automount, None),
    (Kind::Automount, Some("ENOSYS")),
    (Kind::Bind, None),
    (Kind::Empty, None),
];

fn for_each_case(test: impl Fn(&mut Scene, &str)) {
    for (kind, filter) in CASES {
        if let Some(mut scene) = Scene::new(kind, filter) {
            test(&mut scene, &format!("{kind:?}, openat2 {filter:?}"));
        }
    }
}

#[test]
fn a_pass_of_the_parser_takes_all_others_entries() {
    for_each_case(|scene, case| {
        let output = run(scene.parser());
        // Something was left alone.
        assert_eq!(output.status.code(), Some(3), "{case}: {output:?}");
        scene.check_stored(case);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("mount point"), "{case}: {text}");
    });
}

#[test]
fn something_mounted_on_the_parsers_directory_is_said_and_holds_nobody_up() {
    if !can_follow() {
        return;
    }
    for_each_case(|scene, case| {
        scene.mount_on_private();
        let output = run(scene.parser());
        assert_eq!(output.status.code(), Some(1), "{case}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            text.contains("is a mount point; unmount it"),
            "{case}: {text}"
        );
        let mut once = scene.watch_dir();
        once.arg("--once");
        let output = run(once);
        assert_eq!(output.status.code(), Some(3), "{case}: {output:?}");
        let mut recidive = scene.recidive();
        recidive.args(["--threshold", "20", "--source", "storage-dir"]);
        let running = start(recidive);
        site::until("all attacks are counted", || !scene.jail().is_empty());
        assert!(running.stop().success(), "{case}");
    });
}

#[test]
fn the_following_parser_takes_all_others_entries() {
    if !can_follow() {
        return;
    }
    for_each_case(|scene, case| {
        let mut parser = scene.parser();
        parser.args(["--follow", "--rescan-every", "1"]);
        let running = start(parser);
        scene.wait_for_rows();
        scene.mount_more();
        scene.site.put(100);
        scene.wait_for_rows();
        assert!(running.stop().success(), "{case}");
        scene.check_stored(case);
    });
}

#[test]
fn files_named_as_inputs_are_read_around_a_mount() {
    for_each_case(|scene, case| {
        let output = run(scene.reader());
        assert!(output.status.code().is_some(), "{case}: {output:?}");
        assert_eq!(scene.stored(), scene.site.count(), "{case}: {output:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("mount point"), "{case}: {text}");
    });
}

#[test]
fn every_other_directory_is_corrected() {
    if !can_follow() {
        return;
    }
    for_each_case(|scene, case| {
        let directory = scene.minute();
        let is_corrected =
            || fs::metadata(&directory).unwrap().permissions().mode() & 0o070 == 0o070;
        let spoil = || fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        spoil();
        let mut once = scene.watch_dir();
        once.arg("--once");
        let output = run(once);
        assert_eq!(output.status.code(), Some(3), "{case}: {output:?}");
        assert!(is_corrected(), "{case}: {output:?}");
        spoil();
        let running = start(scene.watch_dir());
        site::until("the directory is corrected", is_corrected);
        scene.mount_more();
        spoil();
        site::until("the directory is corrected again", is_corrected);
        assert!(running.stop().success(), "{case}");
    });
}

#[test]
fn attacks_on_every_other_site_are_counted() {
    if !can_follow() {
        return;
    }
    for_each_case(|scene, case| {
        let mut replay = scene.recidive();
        replay
            .args(["replay", "--threshold", "1"])
            .arg(scene.site.tree());
        let output = run(replay);
        assert!(
            matches!(output.status.code(), Some(0 | 3)),
            "{case}: {output:?}"
        );
        let text = String::from_utf8_lossy(&output.stdout);
        let attacks = format!("{} attacks", scene.site.count());
        assert!(text.contains(&attacks), "{case}: {text}");

        let mut recidive = scene.recidive();
        let threshold = (scene.site.count() + 1).to_string();
        recidive.args(["--threshold", &threshold, "--source", "storage-dir"]);
        let running = start(recidive);
        scene.mount_more();
        scene.site.put(100);
        site::until("the last attack is counted", || !scene.jail().is_empty());
        assert!(running.stop().success(), "{case}");
    });
}

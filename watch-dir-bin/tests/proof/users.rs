//! Who gets which directories.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use rustix::process::Signal;

use super::super::daemon::{Daemon, attributes, make, until};
use super::{COLLECTOR, GROUP, OWNER, Stage, USERS};

/// Waits until a user has a directory and minutes in it, and looks at all of them.
fn has_tree(tree: &Path, user: &str, uid: u32) {
    let want = (0o2770, uid, GROUP);
    let own = tree.join(user);
    let days = || {
        fs::read_dir(&own)
            .into_iter()
            .flatten()
            .map(|day| day.unwrap().path())
    };
    let minutes = || {
        days()
            .flat_map(|day| fs::read_dir(day).unwrap())
            .map(|at| at.unwrap().path())
    };
    until("minutes of a user", || minutes().count() >= 3);
    assert_eq!(attributes(&own), want, "{user}");
    for path in days().chain(minutes()) {
        assert_eq!(attributes(&path), want, "{}", path.display());
    }
}

#[test]
fn members_of_the_group_get_a_tree_where_only_root_may_write() {
    let Some(stage) = Stage::new("members_of_the_group_get_a_tree") else {
        return;
    };
    let daemon = Daemon::start(
        &stage.place,
        &mut stage.watch_dir(&["--layout", "per-user"]),
    );
    let tree = stage.place.tree();
    for (user, uid) in [USERS[0], USERS[1], ("mswcollect", COLLECTOR)] {
        has_tree(&tree, user, uid);
    }
    assert!(!tree.join(USERS[2].0).exists());
    assert_eq!(attributes(&tree), (0o755, 0, 0));

    // A site is added while the program runs.
    let path = stage.place.path("group");
    let group = fs::read_to_string(&path).unwrap();
    fs::write(
        &path,
        group.replace("mswsite1,mswsite2", "mswsite1,mswsite2,mswsite3"),
    )
    .unwrap();
    daemon.signal(Signal::HUP);
    has_tree(&tree, USERS[2].0, USERS[2].1);
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
}

#[test]
fn shared_directories_of_members_change_hands_and_those_of_others_do_not() {
    let Some(stage) = Stage::new("shared_directories_of_members_change_hands") else {
        return;
    };
    let cases = [
        ("20260820", USERS[0].1, OWNER),
        ("20260821", USERS[2].1, USERS[2].1),
    ];
    for (day, before, _) in cases {
        let day = stage.place.tree().join(day);
        make(&day, 0o755);
        chown(day, Some(before), Some(before)).unwrap();
    }
    let output = stage.watch_dir(&["--once"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    for (day, _, after) in cases {
        assert_eq!(
            attributes(&stage.place.tree().join(day)),
            (0o770, after, GROUP),
            "{day}"
        );
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("add the user to the group"), "{stderr}");
}

#[test]
fn a_directory_is_never_met_half_made_and_leftovers_go_away() {
    let Some(stage) = Stage::new("leftovers_go_away") else {
        return;
    };
    let leftover = stage.place.tree().join(".watch-dir-0123456789abcdef");
    make(&leftover, 0o700);
    let old = fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
    fs::File::open(&leftover).unwrap().set_times(old).unwrap();
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o1777)).unwrap();
    let arguments = ["--layout", "flat", "--ahead", "60"];
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(&arguments));
    let mut seen = 0;
    until("an hour of minutes", || {
        seen = 0;
        for day in fs::read_dir(stage.place.tree()).unwrap().flatten() {
            // Under its own name a directory is right from the beginning.
            if day.file_name().as_encoded_bytes().starts_with(b"20") {
                assert_eq!(attributes(&day.path()), (0o770, OWNER, GROUP));
                for minute in fs::read_dir(day.path()).unwrap().flatten() {
                    assert_eq!(attributes(&minute.path()), (0o770, OWNER, GROUP));
                    seen += 1;
                }
            }
        }
        seen >= 61
    });
    assert!(!leftover.exists());
    drop(daemon);
}

#[test]
fn a_limit_of_watches_is_named_and_the_periodic_check_goes_on() {
    let Some(stage) = Stage::new("a_limit_of_watches_is_named") else {
        return;
    };
    let tree = stage.place.tree();
    for site in 0..8 {
        make(&tree.join(format!("site{site}/20260822")), 0o755);
    }
    let mut command = std::process::Command::new("unshare");
    let script = r#"echo 5 > /proc/sys/user/max_inotify_watches && exec "$@""#;
    command.args(["--user", "--map-root-user", "sh", "-c", script, "sh"]);
    command.arg(env!("CARGO_BIN_EXE_watch-dir"));
    stage.place.arguments(&mut command);
    command.args(["--ahead", "0", "--check-interval", "1"]);
    let probe = [
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        "echo 5 > /proc/sys/user/max_inotify_watches",
    ];
    if !std::process::Command::new("unshare")
        .args(probe)
        .status()
        .unwrap()
        .success()
    {
        eprintln!("skipped: user namespaces are not permitted here");
        return;
    }
    let daemon = Daemon::start(&stage.place, &mut command);
    assert!(
        stage.place.log().contains("max_user_watches"),
        "{}",
        stage.place.log()
    );
    let late: Vec<_> = (0..8)
        .map(|site| tree.join(format!("site{site}/20260823")))
        .collect();
    for path in &late {
        make(path, 0o755);
    }
    until("directories in those not watched", || {
        late.iter().all(|path| attributes(path).0 == 0o2770)
    });
    let (status, _) = daemon.stop();
    assert!(status.success());
}

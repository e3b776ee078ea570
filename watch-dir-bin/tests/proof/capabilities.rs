//! The shipped unit gives three capabilities and the group, and that is enough.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::Command;

use modsec_core::names::day_name;

use super::super::daemon::{Daemon, attributes, make, until};
use super::{GROUP, OWNER, Stage, USERS};

/// Runs the program once with the capabilities named, as the systemd unit does.
fn once_with(stage: &Stage, capabilities: &str, groups: &str) -> std::process::Output {
    let mut command = command_with(stage, capabilities, groups);
    command.arg("--once").output().unwrap()
}

fn command_with(stage: &Stage, capabilities: &str, groups: &str) -> Command {
    let mut command = stage.inside("setpriv");
    command
        .arg(format!("--bounding-set={capabilities}"))
        .args(["--inh-caps=-all", "--no-new-privs", groups])
        .arg(env!("CARGO_BIN_EXE_watch-dir"));
    stage.place.arguments(&mut command);
    command.args([
        "--owner",
        "mswowner",
        "--group",
        "mswlogs",
        "--allow-uid-min",
        "1000",
    ]);
    command
}

fn tree(stage: &Stage) {
    for (name, uid) in [
        ("20260822", 64001),
        ("mswsite2", 64002),
        ("mswsite2/20260822", 64002),
    ] {
        let path = stage.place.tree().join(name);
        make(&path, 0o700);
        chown(&path, Some(uid), Some(uid)).unwrap();
    }
}

#[test]
fn three_capabilities_and_the_group_are_enough() {
    let Some(stage) = Stage::new("three_capabilities") else {
        return;
    };
    let unit = include_str!("../../deploy/watch-dir.service");
    assert!(unit.contains("\nCapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE\n"));
    tree(&stage);
    let groups = format!("--groups=0,{GROUP}");
    let output = once_with(&stage, "-all,+chown,+fowner,+dac_override", &groups);
    assert!(output.status.success(), "{output:?}");
    let at = |name: &str| attributes(&stage.place.tree().join(name));
    assert_eq!(at("20260822"), (0o770, OWNER, GROUP));
    assert_eq!(at("mswsite2"), (0o2770, USERS[1].1, GROUP));
    assert_eq!(at("mswsite2/20260822"), (0o2770, USERS[1].1, GROUP));
}

#[test]
fn what_is_missing_is_named() {
    let Some(stage) = Stage::new("what_is_missing_is_named") else {
        return;
    };
    let groups = format!("--groups=0,{GROUP}");
    let cases = [
        ("-all,+fowner,+dac_override", &groups[..], "CAP_CHOWN"),
        ("-all,+chown,+dac_override", &groups, "CAP_FOWNER"),
        (
            "-all,+chown,+fowner,+dac_override",
            "--clear-groups",
            "SupplementaryGroups=",
        ),
    ];
    for (capabilities, groups, want) in cases {
        let _ = fs::remove_dir_all(stage.place.tree());
        make(&stage.place.tree(), 0o755);
        tree(&stage);
        let output = once_with(&stage, capabilities, groups);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(want), "{want} not in {stderr}");
    }
}

#[test]
fn reading_alone_is_not_enough_where_the_storage_directory_is_the_servers() {
    let Some(stage) = Stage::new("reading_alone_is_not_enough") else {
        return;
    };
    make(&stage.place.tree(), 0o755);
    chown(stage.place.tree(), Some(OWNER), Some(OWNER)).unwrap();
    let groups = format!("--groups=0,{GROUP}");
    for (capability, is_enough) in [("dac_read_search", false), ("dac_override", true)] {
        let capabilities = format!("-all,+chown,+fowner,+{capability}");
        let mut command = command_with(&stage, &capabilities, &groups);
        command.args(["--layout", "flat", "--ahead", "2"]);
        let (_, stderr) = Daemon::start(&stage.place, &mut command).stop();
        let made = fs::read_dir(stage.place.tree()).unwrap().count();
        assert_eq!(made > 0, is_enough, "{capability}: {stderr}");
        assert_eq!(stderr.contains("CAP_DAC_OVERRIDE"), !is_enough, "{stderr}");
    }
}

#[test]
fn what_cannot_be_created_is_said_once_for_each_day_not_for_each_minute() {
    let Some(stage) = Stage::new("what_cannot_be_created") else {
        return;
    };
    chown(stage.place.tree(), Some(OWNER), Some(OWNER)).unwrap();
    let today = chrono::Local::now().date_naive();
    for day in [today, today.succ_opt().unwrap()] {
        let day = stage.place.tree().join(day_name(day));
        make(&day, 0o755);
        chown(&day, Some(OWNER), Some(OWNER)).unwrap();
    }
    let groups = format!("--groups=0,{GROUP}");
    let mut command = command_with(&stage, "-all,+chown,+fowner,+dac_read_search", &groups);
    // Users' directories are planned behind the shared ones.
    command.args(["--ahead", "60", "--site-user", USERS[0].0]);
    let daemon = Daemon::start(&stage.place, &mut command);
    let last = format!("cannot create {}:", USERS[0].0);
    until("the last one", || stage.place.log().contains(&last));
    drop(daemon);
    let log = stage.place.log();
    let lines = || {
        let paths = log
            .lines()
            .filter_map(|line| line.split_once("cannot create 2"));
        paths.map(|(_, path)| path)
    };
    let days: BTreeSet<&str> = lines().map(|path| &path[..7]).collect();
    assert!(!days.is_empty(), "{log}");
    assert_eq!(lines().count(), days.len(), "{log}");
}

#[test]
fn a_storage_directory_that_cannot_be_read_is_explained() {
    let Some(stage) = Stage::new("a_storage_directory_that_cannot_be_read") else {
        return;
    };
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o000)).unwrap();
    let output = once_with(&stage, "-all", "--clear-groups");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("CAP_DAC_OVERRIDE"), "{stderr}");
}

#[test]
fn foreign_owners_are_left_alone() {
    let Some(stage) = Stage::new("foreign_owners_are_left_alone") else {
        return;
    };
    let foreign = stage.place.tree().join("20260822");
    make(&foreign, 0o755);
    let mut command = stage.watch_dir(&["--once"]);
    let output = Command::output(&mut command).unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(attributes(&foreign), (0o755, 0, 0));
    assert!(
        String::from_utf8_lossy(&output.stderr)
            .contains("belongs to user 0, whose directories are not touched")
    );
}

#[test]
fn another_file_system_is_left_alone() {
    let Some(stage) = Stage::new("another_file_system_is_left_alone") else {
        return;
    };
    let foreign = stage.place.tree().join("20260822");
    make(&foreign, 0o755);
    chown(&foreign, Some(64001), Some(64001)).unwrap();
    let mut command = stage.inside("sh");
    let script = r#"mount -t tmpfs -o mode=755,uid=64001 none "$1" && shift && "$@"
        status=$?; stat -c "%a %u" "$0"; exit $status"#;
    command.args(["-c", script]).arg(&foreign).arg(&foreign);
    command.arg(env!("CARGO_BIN_EXE_watch-dir"));
    stage.place.arguments(&mut command);
    command.args(["--owner", "mswowner", "--group", "mswlogs", "--once"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "755 64001\n");
    assert!(String::from_utf8_lossy(&output.stderr).contains("on another file system"));
}

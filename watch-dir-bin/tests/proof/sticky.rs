//! Sites that share directories: under the shipped configuration none can take another's entries.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::super::daemon::{Daemon, attributes, until};
use super::{GROUP, OWNER, Stage, USERS, result};

const SHIPPED: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../modsec-parser-bin/deploy/config.toml"
);
const PARSER_UNIT: &str = include_str!("../../../modsec-parser-bin/deploy/modsec-parser.service");

/// A stage whose storage directory is as the guide says.
fn shared_stage(test: &str) -> Option<Stage> {
    let stage = Stage::new(test)?;
    chown(stage.place.tree(), Some(OWNER), Some(GROUP)).unwrap();
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o3770)).unwrap();
    Some(stage)
}

/// Starts the program, and waits until the directories of the coming minutes are there.
fn start(stage: &Stage, arguments: &[&str]) -> Daemon {
    let daemon = Daemon::start(&stage.place, &mut stage.watch_dir(arguments));
    until("the coming minutes", || {
        stage.place.log().matches("directory created").count() > 3
    });
    daemon
}

/// Lets two sites log at the same time; nothing may be lost.
fn log(stage: &Stage) {
    let writers: Vec<_> = USERS[..2]
        .iter()
        .map(|(_, uid)| stage.act_as(*uid, "log", "20 5"))
        .collect();
    for writer in writers {
        assert_eq!(result(writer), [20, 0]);
    }
}

fn entries(tree: &Path) -> Vec<PathBuf> {
    let in_dir = |dir: PathBuf| {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path()))
    };
    in_dir(tree.to_owned())
        .filter(|day| !day.ends_with(".modsec-parser"))
        .flat_map(in_dir)
        .flat_map(in_dir)
        .collect()
}

#[test]
fn no_site_takes_anothers_entries_and_the_parser_collects_them_all() {
    let Some(stage) = shared_stage("no_site_takes_anothers_entries") else {
        return;
    };
    let tree = stage.place.tree();
    let arguments = ["--config", SHIPPED, "--layout", "flat"];
    let daemon = start(&stage, &arguments);
    log(&stage);
    for day in fs::read_dir(&tree).unwrap() {
        assert_eq!(attributes(&day.unwrap().path()), (0o1770, OWNER, GROUP));
    }
    assert_eq!(entries(&tree).len(), 40);
    let [tried, done] = result(stage.act_as(USERS[1].1, "steal", ""))[..] else {
        panic!("two numbers");
    };
    assert!(tried > 60, "{tried} attempts");
    assert_eq!(done, 0, "of {tried} attempts");
    assert_eq!(entries(&tree).len(), 40);
    // Who could not take anything can still log.
    log(&stage);
    assert_eq!(entries(&tree).len(), 80);
    collect(&stage);
    let log = stage.place.log();
    assert!(!log.contains("sticky"), "{log}");
    drop(daemon);
}

/// Runs the parser with the rights that its unit gives it, until it has taken all entries.
fn collect(stage: &Stage) {
    let parser = Path::new(env!("CARGO_BIN_EXE_watch-dir")).with_file_name("modsec-parser");
    if !parser.exists() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: modsec-parser is not built, run `cargo build --workspace`"
        );
        return;
    }
    let names = PARSER_UNIT
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="))
        .unwrap();
    let set: Vec<_> = names
        .split(' ')
        .map(|name| name.replace("CAP_", "+").to_lowercase())
        .collect();
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--bounding-set=-all,{}", set.join(",")))
        .args(["--inh-caps=-all", "--no-new-privs", "--clear-groups"])
        .arg(parser)
        .env_clear()
        .env("MODSEC_CONFIG", "none")
        .arg("--storage-dir")
        .arg(stage.place.tree())
        .args(["--follow", "--rescan-every", "1"])
        .arg("--merged-log")
        .arg(stage.place.path("merged.log"))
        .arg("--store")
        .arg(format!(
            "sqlite:{}",
            stage.place.path("modsec.db").display()
        ));
    let parser = Daemon::start(&stage.place, &mut command);
    until("all entries are collected", || {
        entries(&stage.place.tree()).is_empty()
            && fs::read_to_string(stage.place.path("merged.log"))
                .is_ok_and(|log| log.matches("-Z--").count() == 80)
    });
    let (status, stderr) = parser.stop();
    assert!(status.success(), "{stderr}");
}

#[test]
fn what_the_default_mode_leaves_open_is_said_once() {
    let Some(stage) = shared_stage("what_the_default_mode_leaves_open") else {
        return;
    };
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o2770)).unwrap();
    let arguments = ["--layout", "flat", "--check-interval", "1"];
    let daemon = start(&stage, &arguments);
    log(&stage);
    let [tried, done] = result(stage.act_as(USERS[1].1, "steal", ""))[..] else {
        panic!("two numbers");
    };
    assert!(done > 0, "of {tried} attempts");
    until("two checks", || {
        stage.place.log().matches("periodic check").count() >= 2
    });
    let log = stage.place.log();
    assert_eq!(log.matches("--mode 1770").count(), 1, "{log}");
    assert_eq!(log.matches("chmod +t").count(), 1, "{log}");
    drop(daemon);
}

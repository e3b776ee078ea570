//! The flat layout across the first minute of a new day.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use chrono::{Timelike, Utc};

use super::super::daemon::{Daemon, is_installed, until};
use super::{Stage, USERS, result};

/// Time between the start and midnight, in seconds.
const BEFORE: u32 = 3;
/// Records of each user; three users make 5,000 of them.
const RECORDS: u32 = 1667;

/// Returns a time zone in which a new day begins in [`BEFORE`] seconds.
fn zone() -> String {
    let west = (Utc::now().num_seconds_from_midnight() + BEFORE) % 86_400;
    format!(
        "<TST>{}:{:02}:{:02}",
        west / 3600,
        west / 60 % 60,
        west % 60
    )
}

/// Lets three users log through midnight; returns records and losses.
fn log_through_midnight(stage: &Stage, zone: &str) -> (u64, u64) {
    let writers: Vec<Child> = USERS
        .iter()
        .map(|(_, uid)| stage.act_with(*uid, "log", &format!("{RECORDS} 4"), ("TZ", zone)))
        .collect();
    let results: Vec<_> = writers.into_iter().map(result).collect();
    let sum = |column: usize| results.iter().map(|numbers| numbers[column]).sum();
    (sum(0), sum(1))
}

/// The minutes of the flat layout.
fn minutes(stage: &Stage) -> Vec<PathBuf> {
    let days = fs::read_dir(stage.place.tree())
        .unwrap()
        .map(|day| day.unwrap().path());
    let flat = days.filter(|day| {
        day.file_name()
            .unwrap()
            .as_encoded_bytes()
            .starts_with(b"20")
    });
    let minutes = flat.flat_map(fs::read_dir).flatten();
    minutes.map(|minute| minute.unwrap().path()).collect()
}

fn stored(stage: &Stage) -> u64 {
    minutes(stage)
        .iter()
        .map(|minute| fs::read_dir(minute).unwrap().count() as u64)
        .sum()
}

fn stage(test: &str) -> Option<Stage> {
    let stage = Stage::new(test)?;
    // All three users share the directories, so all three are in the group.
    let group = fs::read_to_string(stage.place.path("group")).unwrap();
    let group = group.replace("mswsite1,mswsite2", "mswsite1,mswsite2,mswsite3");
    fs::write(stage.place.path("group"), group).unwrap();
    fs::set_permissions(stage.place.tree(), PermissionsExt::from_mode(0o1777)).unwrap();
    Some(stage)
}

#[test]
fn no_record_of_three_users_is_lost_in_the_first_minute_of_a_day() {
    let Some(stage) = stage("no_record_of_three_users_is_lost") else {
        return;
    };
    let zone = zone();
    let mut command = stage.watch_dir(&["--site-user", "mswsite1"]);
    let daemon = Daemon::start(&stage.place, command.env("TZ", &zone));
    until("midnight's minute", || {
        minutes(&stage)
            .iter()
            .any(|minute| minute.display().to_string().ends_with("-0000"))
    });
    let (records, lost) = log_through_midnight(&stage, &zone);
    eprintln!("watch-dir: {lost} of {records} records lost");
    assert_eq!((lost, stored(&stage)), (0, records));
    let (status, stderr) = daemon.stop();
    assert!(status.success(), "{stderr}");
}

#[test]
fn the_shell_loop_loses_records_in_the_same_minute() {
    let Some(stage) = stage("the_shell_loop_loses_records") else {
        return;
    };
    if !is_installed("inotifywait", "inotify-tools") {
        return;
    }
    let script = r#"inotifywait -q -m -r -e create --format '%w%f' "$0" | while read -r line; do
        if [ -d "$line" ]; then chmod 770 "$line"; chown mswowner:mswlogs "$line"; fi; done"#;
    let mut command = stage.inside("bash");
    command.args(["-c", script]).arg(stage.place.tree());
    let shell = Shell(command.process_group(0).spawn().unwrap());
    until("the loop watches", || {
        let probe = stage.place.tree().join("probe");
        let _ = fs::remove_dir(&probe);
        fs::create_dir(&probe).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        fs::metadata(&probe).unwrap().permissions().mode() & 0o777 == 0o770
    });
    fs::remove_dir(stage.place.tree().join("probe")).unwrap();
    let (records, lost) = log_through_midnight(&stage, &zone());
    eprintln!("shell loop: {lost} of {records} records lost");
    assert_eq!(stored(&stage), records - lost);
    drop(shell);
}

/// The loop is three processes; all end with the test.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

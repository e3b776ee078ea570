//! Days on which everything is killed, restarted or rotated while requests go on.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;

use crate::servers::{Connections, Setting};
use crate::stage::{JAIL, MERGED, Stage};
use crate::traffic::Traffic;
use crate::truth::reports;
use crate::{until, world};

/// How often each program is killed.
const ROUNDS: u32 = 6;

#[test]
fn kills_restarts_and_rotations_lose_and_double_nothing() {
    let name = "trouble::kills_restarts_and_rotations_lose_and_double_nothing";
    world::alone(name, |world| {
        let setting = Setting {
            connections: Connections::Own,
            parts: "ABCFHZ",
            error_log: "@DIR@/error.log",
            last_site: "",
            clients: 100_000,
        };
        let mut stage = Stage::start(world, &setting);
        let traffic = Traffic::start(4, Duration::from_millis(10), &setting);
        for round in 0..ROUNDS {
            match round {
                1 => stage.database.restart(|| sleep(Duration::from_secs(2))),
                2 => rotate_merged_log(&mut stage),
                3 => rotate_jail(&stage),
                4 => rotate_log_of_watch_dir(&stage),
                _ => {}
            }
            kill_all(&mut stage, round);
        }
        let merged = [format!("{MERGED}.1"), MERGED.to_owned()];
        let jails = [format!("{JAIL}.1"), JAIL.to_owned()];
        let attacks = stage.finish(traffic, &merged);
        // An interrupted run's reports can be made once more, but only for those who are due.
        for (client, (lines, want)) in stage.lines(&jails, &attacks) {
            let due = lines >= want && (lines > 0) == (want > 0);
            assert!(
                due,
                "{lines} lines in the jail files for {client}, not {want}"
            );
        }
    });
}

/// Kills one program after the other, at other moments in each round, and starts it again.
fn kill_all(stage: &mut Stage, round: u32) {
    for (number, program) in (0..).zip(stage.programs()) {
        sleep(Duration::from_millis(
            u64::from(round * 170 + number * 110) % 500,
        ));
        program.kill();
        sleep(Duration::from_millis(200));
        program.start();
    }
}

/// By renaming, between two lives of the program that reads it.
fn rotate_merged_log(stage: &mut Stage) {
    stage.recidive.kill();
    let log = stage.world.path(MERGED);
    fs::rename(&log, stage.world.path(&format!("{MERGED}.1"))).unwrap();
    stage.recidive.start();
}

/// By renaming, as logrotate does. Fail2ban forgets what it has not read of a file that is renamed,
/// so it gets the time to read it, while the program that writes is held.
fn rotate_jail(stage: &Stage) {
    stage.recidive.signal(Signal::STOP);
    until("Fail2ban to have read all", || {
        let banned = stage.fail2ban.banned();
        reports(&stage.world, &[JAIL.to_owned()])
            .keys()
            .all(|client| banned.contains(client))
    });
    let jail = stage.world.path(JAIL);
    fs::rename(&jail, stage.world.path(&format!("{JAIL}.1"))).unwrap();
    fs::write(jail, "").unwrap();
    stage.recidive.signal(Signal::CONT);
    until("a line in the new jail file", || {
        !reports(&stage.world, &[JAIL.to_owned()]).is_empty()
    });
}

/// By renaming and SIGHUP.
fn rotate_log_of_watch_dir(stage: &Stage) {
    let log = stage.world.path("logs/watch_dir.log");
    fs::rename(&log, stage.world.path("logs/watch_dir.log.1")).unwrap();
    stage.watch_dir.signal(Signal::HUP);
    until("a new log of watch-dir", || crate::exists(&log));
}

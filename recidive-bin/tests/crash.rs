//! Kills the program between any two steps, again and again, and then asks: is every report in the
//! jail file exactly once?
//!
//! The steps are named in the sources of the library (`crash_points::pass`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::inotify::can_follow;
use crate::program::{Place, wait_for};

const THRESHOLD: u32 = 2;
/// Steps after which the state or the jail file is another.
const STEPS: [&str; 4] = [
    "before-jail-line",
    "jail-line-written",
    "before-state-saved",
    "state-saved",
];

/// Attacks in the place where one source has them.
struct Scene {
    place: Place,
    source: &'static str,
    attacks: BTreeMap<String, u32>,
    written: u32,
}

impl Scene {
    fn new(source: &'static str) -> Scene {
        Scene {
            place: Place::new(),
            source,
            attacks: BTreeMap::new(),
            written: 0,
        }
    }

    /// Writes an attack of that minute and second of an hour.
    fn attack(&mut self, client: &str, minute: u32, second: u32) {
        self.written += 1;
        let n = self.written;
        *self.attacks.entry(client.to_owned()).or_default() += 1;
        let entry = format!(
            "--3fa0c41b-A--\n\
             [22/Aug/2026:10:{minute:02}:{second:02}.{n:06} +0200] Zb4kQH8AAAEAAB1cR0MA{n:04} \
             {client} 40112 198.51.100.4 80\n\
             --3fa0c41b-B--\nGET / HTTP/1.1\nHost: shop.example\n\n\
             --3fa0c41b-F--\nHTTP/1.1 403\n\n--3fa0c41b-H--\n\n--3fa0c41b-Z--\n"
        );
        if self.source == "merged-log" {
            self.place.append("merged.log", &(entry + "\n"));
            return;
        }
        let dir = format!("audit/site1/20260822/20260822-10{minute:02}");
        fs::create_dir_all(self.place.path(&dir)).unwrap();
        let name = format!("{dir}/20260822-10{minute:02}{second:02}-{n}");
        fs::write(self.place.path(&name), entry).unwrap();
    }

    /// Writes attacks of four clients, in minutes that are not in order, and after all others
    /// those of a client that shows how far the program is.
    fn round(&mut self, round: u32) {
        for (n, minute) in (0..).zip([20 - round, 10 + round, 15]) {
            for client in ["192.0.2.1", "192.0.2.2", "2001:db8::/64", "192.0.2.3"] {
                for more in 0..3 {
                    self.attack(
                        &client.replace("/64", "7"),
                        minute,
                        10 * n + 3 * more + round,
                    );
                }
            }
        }
        let last = format!("198.51.100.{round}");
        for second in 0..THRESHOLD {
            self.attack(&last, 50 + round, second);
        }
    }

    /// Runs the program until it dies or has counted everything of that round.
    fn run(&self, round: u32, crash_at: &str) {
        let threshold = THRESHOLD.to_string();
        let options = ["--threshold", &threshold, "--find-time", "86400"];
        let mut child = self
            .place
            .recidive(&options)
            .args(["--source", self.source, "--save-interval", "1"])
            .env("MODSEC_CRASH_AT", crash_at)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let last = format!("198.51.100.{round} - ");
        wait_for("the end of the round", || {
            child.try_wait().unwrap().is_some()
                || self.place.jail().iter().any(|line| line.starts_with(&last))
        });
        end(&mut child);
    }

    fn lines(&self) -> BTreeMap<String, u32> {
        let mut lines = BTreeMap::new();
        for line in self.place.jail() {
            let client = line.split(" - ").next().unwrap().to_owned();
            *lines.entry(client).or_default() += 1;
        }
        lines
    }

    fn wanted(&self) -> BTreeMap<String, u32> {
        let network = |client: &String| client.replace("::7", "::/64");
        let wanted = self.attacks.iter();
        wanted
            .map(|(client, attacks)| (network(client), attacks / THRESHOLD))
            .collect()
    }
}

/// Asks a program that lives to stop, and waits for its end.
fn end(child: &mut Child) {
    if child.try_wait().unwrap().is_none() {
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        // It may have died by itself meanwhile.
        let _ = kill_process(pid, Signal::TERM);
    }
    child.wait().unwrap();
}

#[test]
fn a_report_is_in_the_jail_file_once_however_often_the_program_is_killed() {
    if !can_follow() {
        return;
    }
    for source in ["merged-log", "storage-dir"] {
        for step in STEPS {
            for count in [1, 2, 4, 7] {
                let mut scene = Scene::new(source);
                let crash_at = format!("{step}:{count}");
                for round in 1..=3 {
                    scene.round(round);
                    scene.run(round, &crash_at);
                    scene.run(round, &crash_at);
                }
                scene.round(4);
                scene.run(4, "");
                assert_eq!(scene.lines(), scene.wanted(), "{source} {crash_at}");
            }
        }
    }
}

//! Everything together: started, and asked in the end whether all of it is true.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::chown;

use crate::database::{Database, check_rows};
use crate::programs::{Program, THRESHOLD};
use crate::servers::{Fail2ban, Setting, Web};
use crate::traffic::Traffic;
use crate::truth::{self, AttackFilter, check_apache, check_merged, counted_as};
use crate::until;
use crate::world::{FIRST_SITE_ID, SITES, World};

/// An address that never visits.
const SENTINEL: &str = "203.0.113.99";

/// The merged log and the jail file, below the world's directory.
pub(crate) const MERGED: &str = "logs/modsec_audit.log";
pub(crate) const JAIL: &str = "logs/modsec_recedive.log";

/// The servers and the programs.
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) database: Database,
    pub(crate) web: Web,
    pub(crate) fail2ban: Fail2ban,
    pub(crate) watch_dir: Program,
    pub(crate) parser: Program,
    pub(crate) recidive: Program,
    /// Clients of whom an entry was overwritten before it could be read: nobody knows how many of
    /// their attacks count.
    doubtful: BTreeSet<String>,
}

impl Stage {
    /// Starts everything, Apache last.
    pub(crate) fn start(world: &World, setting: &Setting) -> Stage {
        for dir in ["logs/audit", "state"] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        fs::write(world.path(JAIL), "").unwrap();
        // Of long ago, and empty.
        for dir in ["", "/20000101", "/20000101/20000101-0000"] {
            let dir = world.path(&format!("logs/audit/{}{dir}", SITES[0]));
            fs::create_dir(&dir).unwrap();
            chown(dir, Some(FIRST_SITE_ID), Some(FIRST_SITE_ID)).unwrap();
        }
        let database = Database::start();
        let fail2ban = Fail2ban::start(world);
        let mut watch_dir = Program::watch_dir(world);
        let mut parser = Program::parser(world, &database.url());
        let mut recidive = Program::recidive(world);
        for program in [&mut watch_dir, &mut parser, &mut recidive] {
            program.start();
        }
        Stage {
            world: world.clone(),
            database,
            web: Web::start(world, setting),
            fail2ban,
            watch_dir,
            parser,
            recidive,
            doubtful: BTreeSet::new(),
        }
    }

    pub(crate) fn programs(&mut self) -> [&mut Program; 3] {
        [&mut self.parser, &mut self.recidive, &mut self.watch_dir]
    }

    /// Ends the traffic, waits until everybody has done what was to be done, and asserts that
    /// `merged` and the database have every entry once and that the offenders are banned. Returns
    /// the attacks of each client that had no entry overwritten.
    pub(crate) fn finish(&mut self, traffic: Traffic, merged: &[String]) -> AttackFilter {
        let answers = traffic.stop();
        self.web.stop_proxy();
        until("Apache to have logged all", || {
            self.world.read("access.log").lines().count() >= answers.len()
        });
        let mut index = truth::index(&self.world);
        check_apache(&self.world, &answers, &index);
        until("an empty tree", || truth::left(&self.world).is_empty());
        let rows = self.database.rows();
        let overwritten = truth::take_overwritten(&mut index, &rows);
        let doubtful = overwritten
            .iter()
            .map(|number| counted_as(answers[number].client));
        self.doubtful = doubtful.collect();
        check_rows(&rows, &index, &answers, &truth::rules(&self.world));
        let mut attacks = truth::attacks(&answers);
        attacks.retain(|client, _| !self.doubtful.contains(client));
        self.check_bans(truth::offenders(&attacks));
        for program in self.programs() {
            program.stop();
        }
        self.fail2ban.check_running();
        let mut status = self.status();
        status.retain(|client, _| !self.doubtful.contains(client));
        assert_eq!(status, attacks, "what `recidive status` says");
        check_merged(&self.world, merged, &index);
        let _ = writeln!(
            std::io::stderr(),
            "{} requests, {} entries, {} overwritten before they could be claimed, {} attackers, \
             {} offenders",
            answers.len(),
            index.len(),
            overwritten.len(),
            attacks.len(),
            truth::offenders(&attacks).len(),
        );
        attacks
    }

    /// Asserts that these are banned and nobody else, except perhaps those of whom nobody knows.
    fn check_bans(&self, mut offenders: BTreeSet<String>) {
        until("the bans", || {
            self.fail2ban.banned().is_superset(&offenders)
        });
        // One more, and when that is banned nothing that was written before is still to come.
        let now = chrono::Local::now().format("%Y-%m-%d %H:%M:%S");
        let path = self.world.path(JAIL);
        let mut jail = fs::File::options().append(true).open(path).unwrap();
        writeln!(jail, "{SENTINEL} - {now}").unwrap();
        until("the last ban", || self.fail2ban.banned().contains(SENTINEL));
        offenders.insert(SENTINEL.to_owned());
        assert_eq!(&self.fail2ban.banned() - &self.doubtful, offenders);
    }

    /// Returns for each client the lines in the jail files, and those that its attacks call for.
    pub(crate) fn lines(
        &self,
        jails: &[String],
        attacks: &AttackFilter,
    ) -> BTreeMap<String, (usize, usize)> {
        let mut written = truth::reports(&self.world, jails);
        written.remove(SENTINEL);
        written.retain(|client, _| !self.doubtful.contains(client));
        let want = attacks
            .iter()
            .map(|(client, count)| (client.clone(), count / THRESHOLD));
        let mut lines: BTreeMap<String, (usize, usize)> =
            want.map(|(client, want)| (client, (0, want))).collect();
        for (client, count) in written {
            lines.entry(client).or_default().0 = count;
        }
        lines
    }

    /// Returns the attacks of each client in the state that `recidive` has saved.
    fn status(&self) -> AttackFilter {
        let arguments = ["status".to_owned(), "--json".to_owned()];
        let output = self.recidive.command(&arguments).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let count = |row: &serde_json::Value| {
            let client = row["client"].as_str().unwrap().trim_end_matches("/32");
            let count = row["in_window"].as_u64().unwrap();
            (client.to_owned(), usize::try_from(count).unwrap())
        };
        status["clients"]
            .as_array()
            .unwrap()
            .iter()
            .map(count)
            .collect()
    }

    /// Asserts that no program had anything to complain about.
    pub(crate) fn check_silence(&self) {
        for program in [&self.parser, &self.recidive, &self.watch_dir] {
            let log = program.log();
            let complaint = log.lines().find(|line| {
                [" WARN ", "ERROR "]
                    .iter()
                    .any(|level| line.contains(level))
            });
            assert_eq!(complaint, None, "{}", program.name);
        }
    }
}

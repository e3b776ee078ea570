//! The scripts are replaced one at a time, in any order: what is new works beside what is old.
//!
//! The old jobs are stand-ins, written from what the scripts did (`old/`).

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::database::{Database, check_rows};
use crate::programs::{Program, THRESHOLD};
use crate::servers::{Connections, Setting, Web};
use crate::stage::{JAIL, MERGED};
use crate::traffic::{Answers, Traffic};
use crate::truth::{self, check_apache, check_merged, counted_as};
use crate::world::{FIRST_SITE_ID, World};
use crate::{until, world};

/// Requests in each step.
const REQUESTS: usize = 300;
/// Steps count their requests from multiples of this.
const NUMBERS: u32 = 10_000;

const OLD_PARSER: &str = include_str!("old/parser.py");
const OLD_WATCHER: &str = include_str!("old/watcher.sh");
const OLD_COUNTER: &str = include_str!("old/counter.py");

/// The table as it was made for the old script.
const OLD_TABLE: &str = "create table modsec_whole.logs (
    id int(11) not null auto_increment primary key,
    REQUEST_METHOD varchar(10), REQUEST_URI text, REMOTE_ADDR varchar(45), ruleId varchar(10),
    Host varchar(255), msg text, data text, unique_id varchar(50), severity varchar(20),
    maturity int(11), accuracy int(11), User_Agent text, responce_header int(3),
    Engine_Mode varchar(20), Score int(11), SQLi int(11), XSS int(11), phase int(11),
    created_at timestamp null default null) default charset=utf8mb4";

const SETTING: Setting = Setting {
    connections: Connections::Own,
    parts: "ABCFHZ",
    error_log: "@DIR@/error.log",
    last_site: "",
    clients: 100_000,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Job {
    Old,
    New,
}
use Job::{New, Old};

/// Who does which of the three chores.
#[derive(Debug, Clone, Copy)]
struct Step {
    parser: Job,
    watcher: Job,
    counter: Job,
}

/// All that lie between the three scripts and the three programs. The parsers take turns on one
/// table, so the old one also meets the table that the new one has upgraded.
const STEPS: [Step; 6] = [
    step(Old, Old, New),
    step(New, Old, Old),
    step(Old, New, Old),
    step(New, New, Old),
    step(Old, New, New),
    step(New, Old, New),
];

const fn step(parser: Job, watcher: Job, counter: Job) -> Step {
    Step {
        parser,
        watcher,
        counter,
    }
}

#[test]
fn each_program_works_beside_the_old_scripts_in_any_order() {
    let name = "migration::each_program_works_beside_the_old_scripts_in_any_order";
    world::alone(name, |world| {
        for dir in ["logs/audit", "state"] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        let tree = world.path("logs/audit");
        chown(&tree, Some(FIRST_SITE_ID - 1), Some(world::GROUP_ID)).unwrap();
        fs::set_permissions(tree, PermissionsExt::from_mode(0o770)).unwrap();
        for (name, text) in [
            ("parser.py", OLD_PARSER),
            ("watcher.sh", OLD_WATCHER),
            ("counter.py", OLD_COUNTER),
        ] {
            fs::write(world.path(name), text).unwrap();
        }
        let database = Database::start();
        database.run(OLD_TABLE);
        let web = Web::start(world, &SETTING);
        let mut server = Server {
            world: world.clone(),
            database,
            answers: Answers::new(),
        };
        for (number, step) in (1..).zip(STEPS) {
            server.run(number * NUMBERS, step);
        }
        drop(web);
    });
}

/// How the parser ends before the old one takes the tree over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Pass,
    Stop,
    Kill,
    /// Asked to, while the database is away.
    StopWithClaims,
}

#[test]
fn the_old_parser_finds_entries_and_nothing_else_however_the_new_one_has_ended() {
    let name = "migration::\
                the_old_parser_finds_entries_and_nothing_else_however_the_new_one_has_ended";
    world::alone(name, |world| {
        for dir in ["logs/audit", "state"] {
            fs::create_dir_all(world.path(dir)).unwrap();
        }
        fs::write(world.path("parser.py"), OLD_PARSER).unwrap();
        let database = Database::start();
        database.run(OLD_TABLE);
        let server = Server {
            world: world.clone(),
            database,
            answers: Answers::new(),
        };
        let mut first = 0;
        for end in [End::Pass, End::Stop, End::Kill, End::StopWithClaims] {
            server.go_back(first, end);
            first += 3;
        }
    });
}

/// What stays from step to step.
struct Server {
    world: World,
    database: Database,
    answers: Answers,
}

impl Server {
    fn run(&mut self, first: u32, step: Step) {
        // Everything of the step before is out of the way, except the tree and the table.
        let _ = fs::rename(self.world.path(MERGED), self.world.path("merged.before"));
        let _ = fs::remove_dir_all(self.world.path("state"));
        fs::create_dir(self.world.path("state")).unwrap();
        // As if it were started for the first time.
        let _ = fs::remove_dir_all(self.world.path("logs/audit/.modsec-parser"));
        fs::write(self.world.path(JAIL), "").unwrap();
        let mut crew = self.crew(step);
        let traffic = Traffic::start_at(first, 3, Duration::from_millis(40), &SETTING);
        until("requests", || traffic.count() >= REQUESTS);
        let answers = traffic.stop();
        self.answers.extend(answers.clone());
        until("Apache to have logged all", || {
            self.world.read("access.log").lines().count() >= self.answers.len()
        });
        until("an empty tree", || truth::left(&self.world).is_empty());
        self.check(first, step, &answers, &mut crew);
    }

    /// Lets the new parser end, then the old one begin.
    fn go_back(&self, first: u32, end: End) {
        let tree = self.world.path("logs/audit");
        let files = || truth::left(&self.world);
        let url = match end {
            End::StopWithClaims => "mysql://root@127.0.0.1:1/modsec_whole".to_owned(),
            _ => self.database.url(),
        };
        let mut parser = Program::parser(&self.world, &url);
        if end != End::Pass {
            parser.start();
        }
        self.put(first..first + 2);
        match end {
            End::Pass => {
                let words = parser.one_pass();
                let mut pass = Command::new(&words[0]);
                assert!(pass.args(&words[1..]).status().unwrap().success());
            }
            End::StopWithClaims => until("claims", || {
                let files = files();
                files.lines().count() == 2
                    && files
                        .lines()
                        .all(|file| file.starts_with(".modsec-parser/"))
            }),
            End::Stop | End::Kill => until("an empty tree", || files().is_empty()),
        }
        match end {
            End::Pass => {}
            End::Kill => parser.kill(),
            End::Stop | End::StopWithClaims => parser.stop(),
        }
        let private = tree.join(".modsec-parser");
        let stays = [End::Kill, End::StopWithClaims].contains(&end);
        assert_eq!(private.exists(), stays, "{end:?}");
        self.put(first + 2..first + 3);
        let words = self.old_parser();
        let mut old = Command::new(&words[0]);
        old.args(&words[1..]).current_dir(self.world.path(""));
        assert!(old.status().unwrap().success(), "{end:?}");
        let rows = "select ifnull(unique_id, 'nothing') from logs order by 1";
        let rows: Vec<String> = self.database.query(rows);
        let id = |number: u32| format!("goesback{number:02}");
        let want: Vec<String> = (0..first + 3).map(id).collect();
        assert_eq!(rows, want, "{end:?}");
        assert_eq!(files(), "", "{end:?}");
    }

    /// Writes entries of a minute ago.
    fn put(&self, numbers: std::ops::Range<u32>) {
        let minute = self.world.path("logs/audit/20260304/20260304-0506");
        fs::create_dir_all(&minute).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(60);
        for number in numbers {
            let file = fs::File::create(minute.join(format!("20260304-050607-{number}"))).unwrap();
            let text = format!(
                "--1a2b3c4d-A--\n[04/Mar/2026:05:06:07 +0000] goesback{number:02} 192.0.2.7 4242 \
                 198.51.100.1 80\n--1a2b3c4d-B--\nGET /{number} HTTP/1.1\nHost: example.org\n\n\
                 --1a2b3c4d-F--\nHTTP/1.1 403 Forbidden\n\n--1a2b3c4d-Z--\n\n"
            );
            (&file).write_all(text.as_bytes()).unwrap();
            file.set_modified(time).unwrap();
        }
    }

    /// Starts those who do the work in a step.
    fn crew(&self, step: Step) -> Crew {
        let world = &self.world;
        let mut crew = Crew::default();
        let mut programs = Vec::new();
        if step.watcher == New {
            programs.push(Program::watch_dir(world));
        } else {
            crew.start(world, &["sh", "watcher.sh", "logs/audit"]);
        }
        let new_parser = Program::parser(world, &self.database.url());
        let pass = match step.parser {
            New => new_parser.one_pass(),
            Old => self.old_parser(),
        };
        if step.counter == New {
            programs.push(Program::recidive(world));
            match step.parser {
                New => programs.push(new_parser),
                // From cron.
                Old => crew.start(
                    world,
                    &[
                        "sh",
                        "-c",
                        &format!("while sleep 2; do {}; done", pass.join(" ")),
                    ],
                ),
            }
        } else {
            let state = world.path("state/counter");
            let counter = [
                "python3",
                "counter.py",
                "logs/audit",
                state.to_str().unwrap(),
                JAIL,
            ];
            let pass: Vec<&str> = pass.iter().map(String::as_str).collect();
            crew.start(world, &[&counter[..], &pass].concat());
        }
        for mut program in programs {
            program.start();
            crew.programs.push(program);
        }
        crew.wait(usize::from(step.watcher == Old) + usize::from(step.counter == Old));
        crew
    }

    fn old_parser(&self) -> Vec<String> {
        let (socket, database) = self.database.socket();
        [
            "python3",
            "parser.py",
            "logs/audit",
            MERGED,
            &socket,
            database,
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn check(&self, first: u32, step: Step, answers: &Answers, crew: &mut Crew) {
        let mut index = truth::index(&self.world);
        check_apache(&self.world, &self.answers, &index);
        index.retain(|number, _| (first..first + NUMBERS).contains(number));
        let mut numbers = self.database.numbers();
        numbers.retain(|number, _| index.contains_key(number));
        let doubled = numbers.iter().find(|(_, rows)| **rows > 1);
        assert_eq!(doubled, None, "{step:?}");
        if step.parser == New {
            assert_eq!(numbers.len(), index.len(), "{step:?}");
            let mut rows = self.database.rows();
            rows.retain(|number, _| index.contains_key(number));
            check_rows(&rows, &index, answers, &truth::rules(&self.world));
        } else {
            // The old one also takes what is half written.
            assert!(numbers.len() * 100 >= index.len() * 98, "{step:?}");
        }
        self.check_jail(step, answers);
        crew.stop(step);
        if step.parser == New {
            check_merged(&self.world, &[MERGED.to_owned()], &index);
        }
        let _ = writeln!(
            std::io::stderr(),
            "{step:?}: {} requests, {} entries, {} rows",
            answers.len(),
            index.len(),
            numbers.len()
        );
    }

    /// The new counter names all offenders, except perhaps one of whom the old parser took an
    /// attack away; the old counter names nobody else.
    fn check_jail(&self, step: Step, answers: &Answers) {
        let attacks = truth::attacks(answers);
        let spared = match step.parser {
            New => 0,
            Old => 1,
        };
        let named = || truth::reports(&self.world, &[JAIL.to_owned()]);
        if step.counter == New {
            let due: Vec<&String> = attacks
                .iter()
                .filter(|(_, count)| **count >= THRESHOLD + spared)
                .map(|(client, _)| client)
                .collect();
            until("the offenders in the jail file", || {
                let named = named();
                due.iter().all(|client| named.contains_key(*client))
            });
        }
        let named = named();
        assert!(!named.is_empty(), "{step:?}: nobody was named");
        let count = |client: &str| {
            // The old one knows no networks.
            let network = client
                .parse()
                .map_or_else(|_| client.to_owned(), counted_as);
            attacks.get(&network).copied().unwrap_or_default()
        };
        let innocent = named.keys().find(|client| count(client) < THRESHOLD);
        assert_eq!(innocent, None, "{step:?}");
    }
}

/// Programs and scripts at work.
#[derive(Default)]
struct Crew {
    programs: Vec<Program>,
    scripts: Vec<Child>,
}

impl Crew {
    /// Starts a script, whose complaints go to a file.
    fn start(&mut self, world: &World, words: &[&str]) {
        let complaints = fs::File::options()
            .create(true)
            .append(true)
            .open(world.path("scripts.stderr"))
            .unwrap();
        let child = Command::new(words[0])
            .args(&words[1..])
            .current_dir(world.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(complaints)
            .process_group(0)
            .spawn()
            .unwrap();
        self.scripts.push(child);
    }

    /// Waits until so many scripts watch.
    fn wait(&self, watching: usize) {
        until("the scripts to watch", || {
            let group = |child: &Child| {
                let pids = Command::new("pgrep")
                    .args(["-x", "inotifywait", "-g", &child.id().to_string()])
                    .output()
                    .unwrap();
                String::from_utf8(pids.stdout).unwrap()
            };
            let pids: String = self.scripts.iter().map(group).collect();
            let found = pids.lines().filter(|pid| {
                let file = fs::read_to_string(format!("/proc/{pid}/fdinfo/3"));
                file.is_ok_and(|text| text.contains("inotify "))
            });
            found.count() == watching
        });
    }

    fn stop(&mut self, step: Step) {
        for program in &mut self.programs {
            program.stop();
            let log = program.log();
            let complaint = log
                .lines()
                .filter(|line| line.contains(" WARN ") || line.contains("ERROR "))
                // True of the scripts' mode, with which this begins.
                .find(|line| !(line.contains("of the others") && line.contains("mode=0770")));
            assert_eq!(complaint, None, "{step:?}: {}", program.name);
        }
        for script in &mut self.scripts {
            let ended = script.try_wait().unwrap();
            assert!(ended.is_none(), "{step:?}: a script ended: {ended:?}");
            kill_process_group(Pid::from_child(script), Signal::KILL).unwrap();
            script.wait().unwrap();
        }
    }
}

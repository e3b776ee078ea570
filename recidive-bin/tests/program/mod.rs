//! The real program in its own directory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    dead_code,
    reason = "each test binary uses another part of this module"
)]

#[path = "../../../modsec-core/tests/machine/inotify.rs"]
pub(crate) mod inotify;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest time that anything is waited for. Nothing is measured by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with everything that the program reads and writes.
pub(crate) struct Place {
    dir: TempDir,
    entries: u32,
}

impl Place {
    pub(crate) fn new() -> Place {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
            entries: 0,
        };
        fs::create_dir(place.path("audit")).unwrap();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with all its files in this directory.
    pub(crate) fn recidive(&self, arguments: &[&str]) -> Command {
        let mut command = bare();
        command
            .env("WATCH_DIR", self.path("audit"))
            .env("MERGED_LOG_FILE", self.path("merged.log"))
            .env("RECEDIVE_FILE", self.path("jail.log"))
            .env("LOG_FILE", self.path("state/recidive.dat"))
            .env("RECIDIVE_PID_FILE", self.path("recidive.pid"))
            .args(arguments)
            .current_dir(self.dir.path());
        command
    }

    /// Starts the program and waits until it has looked at what is there.
    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut child = self
            .recidive(arguments)
            .arg("-v")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut log = String::new();
        for line in lines.by_ref() {
            let line = line.unwrap();
            log += &line;
            log.push('\n');
            if line.contains("ready") {
                break;
            }
        }
        assert!(log.contains("ready"), "{log}");
        // The pipe must not fill up, and whoever debugs a test wants to read it.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                eprintln!("{line}");
            }
        });
        Running { child: Some(child) }
    }

    /// Writes an entry in one minute's directory, the way the server does, and returns its path.
    pub(crate) fn write(&mut self, site: &str, entry: &str) -> PathBuf {
        self.entries += 1;
        let dir = self.path(&format!("audit/{site}/20260822/20260822-1015"));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("20260822-101500-{}", self.entries));
        fs::write(&path, entry).unwrap();
        path
    }

    pub(crate) fn jail(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("jail.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until the jail file has `count` lines and returns the clients in them.
    pub(crate) fn reported(&self, count: usize) -> Vec<String> {
        wait_for(&format!("{count} lines in the jail file"), || {
            self.jail().len() >= count
        });
        let clients = |line: &String| line.split(" - ").next().unwrap().to_owned();
        self.jail().iter().map(clients).collect()
    }

    pub(crate) fn append(&self, name: &str, text: &str) {
        use std::io::Write as _;
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(self.path(name))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }
}

/// The program without any of its variables.
pub(crate) fn bare() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("recidive"));
    for name in ["TIMEOUT", "ATTACK_THRESHOLD", "LOG_FILE", "WATCH_DIR"] {
        command.env_remove(name);
    }
    command.env("MODSEC_CONFIG", "none");
    command
}

/// A running program, stopped when the test ends, however it ends.
pub(crate) struct Running {
    child: Option<Child>,
}

impl Running {
    pub(crate) fn of(child: Child) -> Running {
        Running { child: Some(child) }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.child.take().unwrap().wait().unwrap()
    }

    /// Ends it as a loss of power would.
    pub(crate) fn kill(mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An entry as the server writes it, at a second of one minute.
pub(crate) fn entry(client: &str, second: u32, headers: &str, status: &str) -> String {
    format!(
        "--3fa0c41b-A--\n\
         [22/Aug/2026:10:15:{second:02}.123456 +0200] Zb4kQH8AAAEAAB1cR0MA{second:04} {client} \
         40112 198.51.100.4 80\n\
         --3fa0c41b-B--\nGET /item?id=1%27 HTTP/1.1\nHost: shop.example\n{headers}\n\
         --3fa0c41b-F--\nHTTP/1.1 {status}\nContent-Length: 199\n\n\
         --3fa0c41b-H--\nStopwatch: 1787386500000345 1830 (- - -)\n\n--3fa0c41b-Z--\n"
    )
}

/// Tells whether `line` is what the jail is documented to read.
pub(crate) fn is_jail_line(line: &str) -> bool {
    let Some((client, time)) = line.split_once(" - ") else {
        return false;
    };
    let (address, prefix) = client.split_once('/').unwrap_or((client, "0"));
    address.parse::<std::net::IpAddr>().is_ok()
        && prefix.parse::<u8>().is_ok_and(|prefix| prefix <= 128)
        && chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").is_ok()
        && time.len() == 19
}

pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

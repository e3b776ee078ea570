//! Directories of users in the storage directory: what one of the three programs takes, all take.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};
use tempfile::TempDir;

/// How long something may take that normally takes a second, on a machine with other work.
const LIMIT: Duration = Duration::from_secs(60);

/// What user databases hold: local files, LDAP, Active Directory, and numbers without a name.
fn users() -> Vec<OsString> {
    let names: [&[u8]; 15] = [
        b"site1",
        b"site+1",
        "d\u{f6}m\u{e4}ne".as_bytes(),
        b"d\xf6m\xe4ne",
        b"user@domain",
        b"EXAMPLE\\user",
        b"first.last",
        b"john smith",
        b"machine$",
        b"-rf",
        b"1001",
        b"20261322",
        b"21001231",
        &[b'a'; 33],
        &[b'b'; 255],
    ];
    names.map(|name| OsString::from_vec(name.to_vec())).into()
}

/// What is no user's, each for a reason of its own.
fn others() -> Vec<OsString> {
    let names: [&[u8]; 9] = [
        b"lost+found",
        b".hidden",
        b"20260822",
        b"20260822-1015",
        b"a\nb",
        b"\x1b[2J",
        "a\u{9b}2J".as_bytes(),
        b" site",
        b"site ",
    ];
    names.map(|name| OsString::from_vec(name.to_vec())).into()
}

/// A storage directory and the files of the program that works on it.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("audit")).unwrap();
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn minute(&self, user: &OsStr, minute: &str) -> PathBuf {
        self.path("audit").join(user).join("20260822").join(minute)
    }

    /// Writes an entry into `minute` of every directory, as the server does. The client's address
    /// says whose it is: the users' in 192.0.2.0/24, the others' in 198.51.100.0/24.
    fn write(&self, minute: &str) {
        for (net, names) in [("198.51.100", others()), ("192.0.2", users())] {
            for (number, name) in names.iter().enumerate() {
                let dir = self.minute(name, minute);
                fs::create_dir_all(&dir).unwrap();
                let file = dir.join(format!("{minute}00-{number}"));
                fs::write(file, entry(&format!("{net}.{number}"), minute)).unwrap();
            }
        }
    }

    /// Returns whose directories of `minute` hold files.
    fn filled(&self, names: Vec<OsString>, minute: &str) -> Vec<OsString> {
        let is_filled = |name: &OsString| {
            let files = fs::read_dir(self.minute(name, minute));
            files.is_ok_and(|mut files| files.next().is_some())
        };
        names.into_iter().filter(is_filled).collect()
    }

    /// A program as it was built beside this one, with the files of all of them here.
    fn program(&self, name: &str) -> Command {
        let parser = Path::new(env!("CARGO_BIN_EXE_modsec-parser"));
        let mut command = Command::new(parser.with_file_name(name));
        command
            .env_clear()
            .env("MODSEC_CONFIG", "none")
            .env("HOME", self.dir.path())
            .env("WATCH_DIR", self.path("audit"))
            .env("MERGED_LOG_FILE", self.path("merged.log"))
            .env("RECEDIVE_FILE", self.path("jail.log"))
            .env("LOG_FILE", self.path("state/recidive.dat"))
            .env("RECIDIVE_PID_FILE", self.path("recidive.pid"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("stderr")).unwrap());
        command
    }

    fn said(&self) -> String {
        fs::read_to_string(self.path("stderr")).unwrap()
    }
}

fn entry(client: &str, minute: &str) -> String {
    format!(
        "--3fa0c41b-A--\n[22/Aug/2026:10:15:00 +0200] Zb4kQH8AAAEAAB1cR0MAAAAA {client} 40112 \
         198.51.100.254 80\n--3fa0c41b-B--\nGET / HTTP/1.1\nHost: shop.example\nX-Minute: {minute}\n\n\
         --3fa0c41b-F--\nHTTP/1.1 403 Forbidden\n\n\
         --3fa0c41b-H--\nStopwatch: 1787386500000345 1830 (- - -)\n\n--3fa0c41b-Z--\n\n"
    )
}

/// Stopped when the test ends, however it ends.
struct Running(Child);

impl Running {
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Refused if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until nothing is missing.
fn until<T: std::fmt::Debug>(what: &str, mut missing: impl FnMut() -> Vec<T>) {
    let since = Instant::now();
    while let left = missing()
        && !left.is_empty()
    {
        assert!(
            since.elapsed() < LIMIT,
            "waited in vain for {what}: {left:?}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn modsec_parser_takes_the_entries_of_every_user_by_walk_and_by_event() {
    let place = Place::new();
    place.write("20260822-1015");
    let mut command = place.program("modsec-parser");
    command
        .args(["--follow", "--rescan-every", "86400", "--min-age", "0"])
        .arg("--keep-dirs")
        .arg("--store")
        .arg(format!("sqlite:{}", place.path("modsec.db").display()));
    let running = Running(command.spawn().unwrap());
    until("the walk", || place.filled(users(), "20260822-1015"));
    place.write("20260822-1016");
    until("the events", || place.filled(users(), "20260822-1016"));
    running.stop();
    for minute in ["20260822-1015", "20260822-1016"] {
        assert_eq!(place.filled(others(), minute), others(), "{minute}");
    }
    // Every file system has it, so nobody is told to move it.
    assert!(!place.said().contains("lost+found"), "{}", place.said());
}

#[test]
fn recidive_counts_the_attacks_on_every_user_by_walk_and_by_event() {
    let place = Place::new();
    let jail = || fs::read_to_string(place.path("jail.log")).unwrap_or_default();
    let missing = || {
        let (numbers, jail) = (0..users().len(), jail());
        let client = |number| format!("192.0.2.{number} - ");
        let missing = numbers.map(client);
        missing.filter(|client| !jail.contains(client)).collect()
    };
    let command = || {
        let mut command = place.program("recidive");
        command
            .args(["--source", "storage-dir", "-v"])
            .env("ATTACK_THRESHOLD", "1");
        command
    };
    let running = Running(command().spawn().unwrap());
    until("the start", || {
        let is_ready = place.said().contains("ready");
        (!is_ready).then_some("ready").into_iter().collect()
    });
    place.write("20260822-1015");
    until("the events", missing);
    running.stop();
    fs::remove_file(place.path("jail.log")).unwrap();
    place.write("20260822-1016");
    let running = Running(command().spawn().unwrap());
    until("the walk", missing);
    running.stop();
    assert!(!jail().contains("198.51.100."), "{}", jail());
}

#[test]
fn watch_dir_corrects_the_directories_of_every_user() {
    let place = Place::new();
    place.write("20260822-1015");
    let status = place
        .program("watch-dir")
        .arg("--once")
        .args(["--owner", &geteuid().as_raw().to_string()])
        .args(["--group", &getegid().as_raw().to_string()])
        .args(["--allow-uid-min", "0"])
        .status()
        .unwrap();
    assert!(status.success(), "{}", place.said());
    let is_corrected = |name: &OsString| {
        let mut dirs = vec![place.minute(name, "20260822-1015")];
        dirs.extend(
            dirs[0]
                .ancestors()
                .skip(1)
                .take(2)
                .map(Path::to_owned)
                .collect::<Vec<_>>(),
        );
        let modes = dirs
            .iter()
            .map(|dir| fs::metadata(dir).unwrap().permissions().mode() & 0o7777);
        modes.filter(|mode| *mode == 0o2770).count()
    };
    for name in users() {
        assert_eq!(is_corrected(&name), 3, "{:?}: {}", name, place.said());
    }
    for name in others() {
        assert_eq!(is_corrected(&name), 0, "{:?}: {}", name, place.said());
    }
    // A name is hostile also where it is said that it was left alone.
    assert!(!place.said().contains('\x1b') && !place.said().contains('\u{9b}'));
}

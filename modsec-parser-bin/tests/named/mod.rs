//! Programs whose options name what they should not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(
    dead_code,
    reason = "each test binary uses another part of this module"
)]

pub(crate) mod agreement;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Longest time that a program may take to end. Nothing is measured by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What an option may name.
const KINDS: [&str; 5] = ["pipe", "directory", "/dev/zero", "socket", "dangling"];

/// What the program makes of a link that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dangling {
    /// It is a link.
    Refused,
    /// There is no file yet.
    Absent,
}

/// An option, and the other words that let it count. `@` stands for what it names.
pub(crate) type Case = (&'static str, Dangling, &'static [&'static str]);

/// A directory with everything that the programs read and write.
pub(crate) struct Place {
    dir: TempDir,
    _socket: UnixListener,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct End {
    /// `None` after a signal.
    pub(crate) status: Option<i32>,
    pub(crate) said: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("audit")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        fs::write(path("log"), "").unwrap();
        mkfifoat(CWD, path("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        symlink("nowhere", path("dangling")).unwrap();
        let socket = UnixListener::bind(path("socket")).unwrap();
        Place {
            dir,
            _socket: socket,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The program with all its files in this directory, and without a word on standard output.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("STATE_DIRECTORY", self.dir.path())
            .env("MODSEC_CONFIG", "none")
            .env("WATCH_DIR", self.path("audit"))
            .env("MERGED_LOG_FILE", self.path("merged.log"))
            .env("RECEDIVE_FILE", self.path("jail.log"))
            .env("LOG_FILE", self.path("state"))
            .env("RECIDIVE_PID_FILE", self.path("recidive.pid"))
            .env("WATCH_DIR_PID_FILE", self.path("watch-dir.pid"))
            .env("NOTIFY_SOCKET", self.path("notify"))
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Starts the program, asks it to stop once it says that it is ready, and waits for its end.
    pub(crate) fn run(&self, command: &mut Command) -> End {
        let manager = UnixDatagram::bind(self.path("notify")).unwrap();
        // Also a program of another user may write to it.
        let everybody = fs::Permissions::from_mode(0o777);
        fs::set_permissions(self.path("notify"), everybody).unwrap();
        let child = command.spawn().unwrap();
        let pid = pid(&child);
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let listener = manager.try_clone().unwrap();
        let listening = thread::spawn(move || {
            let mut word = [0; 256];
            while let Ok(got) = listener.recv(&mut word) {
                match &word[..got] {
                    b"over" => return,
                    word if word.starts_with(b"READY=1") => terminate(pid),
                    _ => {}
                }
            }
        });
        let end = end_of(child);
        let over = UnixDatagram::unbound().unwrap();
        over.send_to(b"over", self.path("notify")).unwrap();
        listening.join().unwrap();
        fs::remove_file(self.path("notify")).unwrap();
        end
    }
}

/// Waits for the end of a program, and kills one that does not come to it.
pub(crate) fn end_of(mut child: Child) -> End {
    let pid = pid(&child);
    let (ended, end) = channel();
    let killer: thread::JoinHandle<bool> = thread::spawn(move || {
        let late = end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
        late && kill_process(pid, Signal::KILL).is_ok()
    });
    let mut said = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut said).unwrap();
    let status = child.wait().unwrap().code();
    let _: Result<(), _> = Sender::<()>::send(&ended, ());
    assert!(!killer.join().unwrap(), "it stood still: {said}");
    End { status, said }
}

pub(crate) fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

pub(crate) fn terminate(pid: Pid) {
    // It may have ended by itself.
    let _ = kill_process(pid, Signal::TERM);
}

/// Asserts that whatever an option names, the program ends, and says which option is to blame.
pub(crate) fn check(program: &str, cases: &[Case]) {
    for (option, dangling, words) in cases {
        for kind in KINDS {
            // A link that led nowhere may be a file afterwards.
            let place = Place::new();
            let named = words.iter().map(|word| word.replace('@', kind));
            let end = place.run(place.command(program).args(named));
            let about = format!("{option} {kind}: {end:?}");
            if kind == "dangling" && *dangling == Dangling::Absent {
                assert!(matches!(end.status, Some(0 | 3)), "{about}");
                continue;
            }
            assert!(matches!(end.status, Some(1 | 2)), "{about}");
            assert!(
                end.said.contains(option) && end.said.contains(kind),
                "{about}"
            );
            let what = match kind {
                "pipe" => "named pipe",
                "directory" => "directory",
                "socket" => "socket",
                "dangling" => "symbolic link",
                _ => "device",
            };
            assert!(end.said.contains(&format!("is a {what}")), "{about}");
        }
    }
}

/// What somebody else may have put there or may change, and what is said of it. The first two need
/// root to be made.
const UNTRUSTED: [(&str, &str); 4] = [
    ("public/theirs", "belongs to user 4242"),
    ("public/dir/x", "belongs to user 4242"),
    ("writable", "everybody may write to"),
    ("replaceable/x", "everybody may replace"),
];

/// Puts them there. Returns `false`, with a message, if this is not root.
fn put_untrusted(place: &Place) -> bool {
    let chmod = |name, mode| {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir_all(place.path("public/dir")).unwrap();
    fs::create_dir(place.path("replaceable")).unwrap();
    for (name, _) in UNTRUSTED {
        fs::write(place.path(name), "").unwrap();
    }
    chmod("public/theirs", 0o666);
    chmod("writable", 0o666);
    chmod("public", 0o1777);
    chmod("replaceable", 0o777);
    let given = ["public/theirs", "public/dir"]
        .map(|name| lchown(place.path(name), Some(4242), Some(4242)).is_ok());
    if given != [true; 2] {
        eprintln!("skipped: only root can give a file away");
    }
    given == [true; 2]
}

/// Asserts that no option takes a file that somebody else may have put there. `logs` are the
/// options that name what others write.
pub(crate) fn check_trust(program: &str, cases: &[Case], logs: &[&str]) {
    for (option, _, words) in cases.iter().filter(|(option, ..)| !logs.contains(option)) {
        let place = Place::new();
        let skipped = if put_untrusted(&place) { 0 } else { 2 };
        for (name, reason) in &UNTRUSTED[skipped..] {
            let named = words.iter().map(|word| word.replace('@', name));
            let end = place.run(place.command(program).args(named));
            let about = format!("{option} {name}: {end:?}");
            assert!(matches!(end.status, Some(1 | 2)), "{about}");
            assert!(end.said.contains(reason), "{about}");
            let said = end.said.contains(name.split('/').next().unwrap());
            assert!(said, "{about}");
            let text = fs::read(place.path(name)).unwrap_or_default();
            assert!(text.is_empty(), "{about}");
        }
    }
}

/// Asserts that every option of the help that names a file is among the cases.
pub(crate) fn check_complete(program: &str, words: &[&str], cases: &[Case]) {
    let help = Command::new(program)
        .args(words)
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let named = |line: &str| {
        let (option, value) = line.trim_start().split_once(" <")?;
        let is_file = value.starts_with("FILE>");
        (is_file && option.starts_with("--")).then(|| option.to_owned())
    };
    let options: Vec<String> = help.lines().filter_map(named).collect();
    assert!(!options.is_empty(), "{help}");
    for option in options {
        let known = cases.iter().any(|(name, ..)| *name == option);
        assert!(known, "{option} names a file and is not tried");
    }
}

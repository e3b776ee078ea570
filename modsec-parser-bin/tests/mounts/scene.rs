//! A storage directory in which much is mounted.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::site::{Database as _, Site, Sqlite, until};

const DAY: &str = "20260304";
const MINUTE: &str = "20260304/20260304-0500";
const HANG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mounts/hang.py");
const WITHOUT_OPENAT2: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/mounts/without_openat2.py"
);

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file system of FUSE that never answers.
    Silent,
    /// What autofs is to mount, and never does.
    Automount,
    /// A directory of the same file system, with an entry in it.
    Bind,
    /// A file system in memory.
    Empty,
}

/// Ten sites with entries, and others with something mounted on what is theirs.
pub(crate) struct Scene {
    /// Ends before the directory is removed.
    mounts: Vec<Mount>,
    kind: Kind,
    filter: Option<&'static str>,
    pub(crate) site: Site<Sqlite>,
}

impl Scene {
    /// `filter` is the error with which openat2(2) fails. `None` if nothing can be mounted here.
    pub(crate) fn new(kind: Kind, filter: Option<&'static str>) -> Option<Scene> {
        let mut site = Site::with_sqlite();
        site.put_all(20, 100);
        let mut scene = Scene {
            mounts: Vec::new(),
            kind,
            filter,
            site,
        };
        // `site0` and `site2` are met before and after the site with the entries.
        let places = [
            "site0",
            "site2",
            &format!("site3/{DAY}"),
            &format!("site4/{MINUTE}"),
        ];
        let mut paths: Vec<PathBuf> = places.iter().map(|place| scene.directory(place)).collect();
        let file = scene
            .directory(&format!("site5/{MINUTE}"))
            .join("20260304-050607-file");
        fs::write(&file, "").unwrap();
        if matches!(kind, Kind::Silent | Kind::Bind) {
            paths.push(file);
        }
        scene.mount(&paths).then_some(scene)
    }

    fn directory(&self, below: &str) -> PathBuf {
        let path = self.site.tree().join(below);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Mounts on directories that a running program has seen being made.
    pub(crate) fn mount_more(&mut self) {
        let paths = [
            format!("site6/{MINUTE}"),
            format!("site7/{DAY}"),
            "site8".to_owned(),
        ];
        let paths: Vec<PathBuf> = paths.iter().map(|path| self.directory(path)).collect();
        assert!(self.mount(&paths));
    }

    fn mount(&mut self, paths: &[PathBuf]) -> bool {
        let silent = match self.kind {
            Kind::Silent => Some("fuse"),
            Kind::Automount => Some("autofs"),
            Kind::Bind | Kind::Empty => None,
        };
        let mounted = if let Some(name) = silent {
            Mount::silent(name, paths).map(|mount| self.mounts.push(mount))
        } else {
            paths.iter().try_for_each(|path| {
                let source = self.elsewhere(path);
                self.mounts.push(Mount::named(self.kind, &source, path)?);
                Some(())
            })
        };
        if mounted.is_none() {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: only root may mount what this needs"
            );
        }
        mounted.is_some()
    }

    /// Makes what is bound to `path`: with an entry that nobody must read.
    fn elsewhere(&self, path: &Path) -> PathBuf {
        let bytes = crate::site::entry("elsewhere", 100);
        let source = self.site.dir.path().join("elsewhere");
        let minute = source.join(MINUTE);
        fs::create_dir_all(&minute).unwrap();
        let file = minute.join("20260304-050607-elsewhere");
        fs::write(&file, bytes).unwrap();
        let depth = path.strip_prefix(self.site.tree()).unwrap().iter().count();
        match depth {
            1 => source,
            2 => source.join(DAY),
            3 => minute,
            _ => file,
        }
    }

    /// Mounts on the place of the parser's own directory.
    pub(crate) fn mount_on_private(&mut self) {
        let path = self.directory(".modsec-parser");
        assert!(self.mount(&[path]));
    }

    /// The minute's directory of the site with the entries.
    pub(crate) fn minute(&self) -> PathBuf {
        self.site.tree().join("site1").join(MINUTE)
    }

    pub(crate) fn parser(&self) -> Command {
        self.filtered(self.site.command())
    }

    /// `modsec-parser` that reads the tree as an input and leaves it alone.
    pub(crate) fn reader(&self) -> Command {
        let mut command = self.other("modsec-parser");
        command
            .args(["--store", &self.site.database.url(), "--merged-log"])
            .arg(&self.site.log)
            .arg(self.site.tree());
        self.filtered(command)
    }

    pub(crate) fn watch_dir(&self) -> Command {
        let mut command = self.other("watch-dir");
        command
            .arg("--storage-dir")
            .arg(self.site.tree())
            .arg("--pid-file")
            .arg(self.site.dir.path().join("watch.pid"))
            .args(["--owner", "0", "--group", "0", "--allow-uid-min", "0"]);
        self.filtered(command)
    }

    pub(crate) fn recidive(&self) -> Command {
        let place = |name: &str| self.site.dir.path().join(name);
        let mut command = self.other("recidive");
        command
            .env("WATCH_DIR", self.site.tree())
            .env("RECEDIVE_FILE", place("jail.log"))
            .env("LOG_FILE", place("recidive.dat"))
            .env("RECIDIVE_PID_FILE", place("recidive.pid"));
        self.filtered(command)
    }

    fn other(&self, name: &str) -> Command {
        let beside = Path::new(env!("CARGO_BIN_EXE_modsec-parser"));
        let mut command = Command::new(beside.with_file_name(name));
        command
            .env_clear()
            .env("MODSEC_CONFIG", "none")
            .env("HOME", self.site.dir.path());
        command
    }

    fn filtered(&self, command: Command) -> Command {
        let Some(error) = self.filter else {
            return command;
        };
        let mut filtered = Command::new("/usr/bin/python3");
        filtered
            .args([WITHOUT_OPENAT2, error])
            .arg(command.get_program())
            .args(command.get_args())
            .env_clear();
        for (name, value) in command.get_envs() {
            filtered.env(name, value.unwrap());
        }
        filtered
    }

    pub(crate) fn jail(&self) -> String {
        fs::read_to_string(self.site.dir.path().join("jail.log")).unwrap_or_default()
    }

    pub(crate) fn stored(&self) -> usize {
        self.site.database.rows().len()
    }

    pub(crate) fn wait_for_rows(&self) {
        self.site.wait_for_rows();
    }

    /// Checks that every entry of those who mount nothing is stored once, and nothing else.
    pub(crate) fn check_stored(&self, case: &str) {
        let rows = self.site.database.rows();
        assert!(rows.keys().eq(self.site.entries.keys()), "{case}: {rows:?}");
        assert!(rows.values().all(|count| *count == 1), "{case}: {rows:?}");
    }
}

/// Runs a program to its end, which must come.
pub(crate) fn run(mut command: Command) -> Output {
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(Some(child));
    until("the end of the program", || {
        running.0.as_mut().unwrap().try_wait().unwrap().is_some()
    });
    running.0.take().unwrap().wait_with_output().unwrap()
}

pub(crate) fn start(mut command: Command) -> Running {
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Running(Some(child))
}

/// Something mounted, until this is dropped.
enum Mount {
    Silent(Child),
    Named(PathBuf),
}

impl Mount {
    fn silent(name: &str, paths: &[PathBuf]) -> Option<Mount> {
        let mut server = Command::new("/usr/bin/python3")
            .args([HANG, name])
            .args(paths)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let mut stdout = BufReader::new(server.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let mount = Mount::Silent(server);
        (line == "mounted\n").then_some(mount)
    }

    fn named(kind: Kind, source: &Path, path: &Path) -> Option<Mount> {
        let mut mount = Command::new("mount");
        if kind == Kind::Bind {
            mount.arg("--bind").arg(source);
        } else {
            mount.args(["-t", "tmpfs", "tmpfs"]);
        }
        let mounted = mount.arg(path).output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then(|| Mount::Named(path.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        match self {
            Mount::Silent(server) => {
                drop(server.stdin.take());
                let _ = server.wait();
            }
            Mount::Named(path) => {
                let _ = Command::new("umount").arg("-l").arg(path).status();
            }
        }
    }
}

/// A program that runs. Killed at the end of a test that fails.
pub(crate) struct Running(Option<Child>);

impl Running {
    /// Asks it to end, which must happen.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let child = self.0.as_mut().unwrap();
        kill_process(Pid::from_child(child), Signal::TERM).unwrap();
        let mut status = None;
        until("the end of the program", || {
            status = child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
        }
    }
}

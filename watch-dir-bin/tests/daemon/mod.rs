//! The real program in a directory of its own, started and stopped by a test.

use std::fs;
use std::io::Read;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getegid, geteuid, kill_process};
use tempfile::TempDir;

/// Nothing takes so long; a test that gets here has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A directory with `audit` in it, entered by everybody.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        fs::DirBuilder::new()
            .mode(0o755)
            .create(dir.path().join("audit"))
            .unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.path("audit")
    }

    /// The program with the storage directory, the ids of this process, and files of its own.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_watch-dir"));
        self.arguments(&mut command);
        command
    }

    pub(crate) fn arguments(&self, command: &mut Command) {
        command
            .env_clear()
            .env("MODSEC_CONFIG", "none")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .arg("--storage-dir")
            .arg(self.tree())
            .arg("--pid-file")
            .arg(self.path("watch.pid"))
            .args(["--owner", &geteuid().as_raw().to_string()])
            .args(["--group", &getegid().as_raw().to_string()])
            .args(["--allow-uid-min", "0"]);
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("watch_dir.log")).unwrap_or_default()
    }
}

/// A running `watch-dir`, killed when the test ends however it ends.
pub(crate) struct Daemon {
    child: Child,
    notify: UnixDatagram,
}

impl Daemon {
    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(place: &Place, command: &mut Command) -> Self {
        let mut daemon = Self::spawn(place, command);
        daemon.wait_for("READY=1");
        daemon
    }

    pub(crate) fn spawn(place: &Place, command: &mut Command) -> Self {
        let socket = place.path("notify");
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        fs::set_permissions(&socket, PermissionsExt::from_mode(0o777)).unwrap();
        notify.set_read_timeout(Some(LIMIT)).unwrap();
        let child = command
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, notify }
    }

    /// Waits for a message to the service manager.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let mut buffer = [0; 4096];
        let start = Instant::now();
        self.notify
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        while start.elapsed() < LIMIT {
            if let Ok(length) = self.notify.recv(&mut buffer)
                && String::from_utf8_lossy(&buffer[..length]).contains(text)
            {
                return;
            }
            if self.child.try_wait().unwrap().is_some() {
                break;
            }
        }
        let _ = self.child.kill();
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        panic!("no {text}: {stderr}");
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends SIGTERM and waits; returns the exit status and what was on standard error.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.ended()
    }

    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let mut stderr = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        (self.child.wait().unwrap(), stderr)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `is_so`, which the program brings about.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Creates a directory and those above it, all with `mode`, whatever the umask.
pub(crate) fn make(path: &Path, mode: u32) {
    if !path.exists() {
        make(path.parent().unwrap(), mode);
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).map_or(0, |stat| stat.mode() & 0o7777)
}

/// Mode, owner and group.
pub(crate) fn attributes(path: &Path) -> (u32, u32, u32) {
    let stat = fs::symlink_metadata(path).unwrap();
    (stat.mode() & 0o7777, stat.uid(), stat.gid())
}

/// Tells whether this process is root, and says so if a test is skipped because it is not.
pub(crate) fn is_root(test: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        let _ = writeln!(std::io::stderr(), "{test}: skipped, run it as root");
    }
    root
}

/// Tells whether a program is installed, and names its package if a test is skipped without.
pub(crate) fn is_installed(program: &str, package: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|path| path.join(program).exists());
    if !found {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: {program} is not installed (package {package})"
        );
    }
    found
}

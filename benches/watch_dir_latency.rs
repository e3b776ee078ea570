//! Time from `mkdir` until mode and owner are right, `watch-dir` beside the loop of shell commands
//! that it replaces.
//!
//! ```console
//! # cargo bench -p watch-dir-bin --bench watch_dir_latency
//! ```
//!
//! Needs root, since owners are changed, and for the comparison `inotifywait` (inotify-tools).
//! Both run whole, as an administrator would start them; directories are created one after the
//! other, each when the one before is right and the watching process sleeps again. The first line
//! is what mkdir, chmod and chown cost by themselves: a busy disk is seen there too, and
//! `TMPDIR=/dev/shm` takes it out.
#![expect(clippy::print_stdout, reason = "the figures are the result")]
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot go on has failed"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const DIRECTORIES: u32 = 1000;
const OWNER: u32 = 64000;
const GROUP: u32 = 64100;
const MODE: u32 = 0o770;
/// Between two directories, so that whoever watches has gone to sleep.
const PAUSE: Duration = Duration::from_millis(2);
/// Nothing takes so long.
const LIMIT: Duration = Duration::from_secs(10);

/// What the old script runs, with the ids of this benchmark.
const LOOP: &str = r#"inotifywait -q -m -r -e create --format '%w%f' "$0" | while read -r line; do
    if [ -d "$line" ]; then chmod 770 "$line"; chown 64000:64100 "$line"; fi; done"#;

fn main() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    bare_calls();
    let program = measure("watch-dir", watch_dir);
    let available = Command::new("inotifywait").arg("--help").output().is_ok();
    if !available {
        println!("no comparison: inotifywait is not installed (package inotify-tools)");
        return;
    }
    let shell = measure("shell loop", shell_loop);
    let times =
        |share| quantile(&shell, share).as_secs_f64() / quantile(&program, share).as_secs_f64();
    println!(
        "watch-dir is faster {:.0} times (median), {:.0} times (p99)",
        times(0.5),
        times(0.99)
    );
}

/// A process that watches, killed with its children at the end.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

fn measure(name: &str, start: fn(&Path) -> Watching) -> Vec<Duration> {
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("audit/20260822");
    fs::create_dir_all(&day).unwrap();
    let watching = start(dir.path());
    let mut times: Vec<_> = (0..DIRECTORIES)
        .map(|number| {
            let minute = day.join(format!("20260822-{:02}{:02}", number / 60, number % 60));
            until_right(&minute)
        })
        .collect();
    drop(watching);
    print(name, &mut times);
    times
}

/// What the three system calls cost on this file system if nobody has to be woken.
fn bare_calls() {
    let dir = tempfile::tempdir().unwrap();
    let mut times: Vec<_> = (0..DIRECTORIES)
        .map(|number| {
            thread::sleep(PAUSE);
            let path = dir.path().join(number.to_string());
            let start = Instant::now();
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(MODE)).unwrap();
            chown(&path, Some(OWNER), Some(GROUP)).unwrap();
            start.elapsed()
        })
        .collect();
    print("bare calls", &mut times);
}

fn print(name: &str, times: &mut [Duration]) {
    times.sort();
    println!(
        "{name:<10}  median {:>9.1?}  p99 {:>9.1?}  max {:>9.1?}  ({DIRECTORIES} directories)",
        quantile(times, 0.5),
        quantile(times, 0.99),
        quantile(times, 1.0),
    );
}

/// Creates a directory and returns how long it took to become right, `mkdir` included.
fn until_right(path: &Path) -> Duration {
    thread::sleep(PAUSE);
    let start = Instant::now();
    fs::create_dir(path).unwrap();
    loop {
        let now = fs::symlink_metadata(path).unwrap();
        let elapsed = start.elapsed();
        if (now.mode() & 0o7777, now.uid(), now.gid()) == (MODE, OWNER, GROUP) {
            return elapsed;
        }
        assert!(elapsed < LIMIT, "{} never became right", path.display());
        thread::yield_now();
    }
}

fn quantile(sorted: &[Duration], share: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a share of a thousand"
    )]
    let index = ((sorted.len() - 1) as f64 * share) as usize;
    sorted[index]
}

fn watch_dir(dir: &Path) -> Watching {
    let socket = dir.join("notify");
    let notify = UnixDatagram::bind(&socket).unwrap();
    notify.set_read_timeout(Some(LIMIT)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_watch-dir"))
        .env("NOTIFY_SOCKET", &socket)
        .arg("--storage-dir")
        .arg(dir.join("audit"))
        .arg("--pid-file")
        .arg(dir.join("pid"))
        .args(["--owner", &OWNER.to_string(), "--group", &GROUP.to_string()])
        .args(["--allow-uid-min", "0", "--ahead", "0"])
        .process_group(0)
        .spawn()
        .unwrap();
    let watching = Watching(child);
    let mut buffer = [0; 256];
    let length = notify.recv(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"READY=1"));
    watching
}

fn shell_loop(dir: &Path) -> Watching {
    let child = Command::new("bash")
        .args(["-c", LOOP])
        .arg(dir.join("audit"))
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let watching = Watching(child);
    let start = Instant::now();
    let probe = dir.join("audit/probe");
    loop {
        fs::create_dir(&probe).unwrap();
        thread::sleep(Duration::from_millis(50));
        let right = fs::metadata(&probe).unwrap().uid() == OWNER;
        fs::remove_dir(&probe).unwrap();
        if right {
            return watching;
        }
        assert!(start.elapsed() < LIMIT, "the loop does not start");
    }
}

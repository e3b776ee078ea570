//! The storage directory against site users who own parts of it: nothing outside is read, changed
//! or deleted, nothing hangs, nothing unread is removed, and the walk goes on.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use chrono::TimeDelta;
use modsec_core::storage_dir::{LeftAlone, MAX_ENTRY_BYTES, PruneRules, Reason, StorageDir};
use rustix::fs::{CWD, Mode, RenameFlags, mkfifoat, renameat_with};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

const MINUTE: &str = "20200822/20200822-1015";
const NAME: &str = "20200822-101500-a";
/// Rounds of the races: enough to hit every window many times, well under a second or two.
const ROUNDS: usize = 2000;

/// A storage directory, and beside it something that is none of our business.
struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Scene(tempfile::tempdir().unwrap());
        fs::create_dir(scene.root()).unwrap();
        for below in ["day", "minute", "user"] {
            let dir = match below {
                "day" => "20200822-1015",
                "minute" => "",
                _ => MINUTE,
            };
            let dir = scene.outside(below).join(dir);
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join(NAME), "outside").unwrap();
        }
        scene
    }

    fn root(&self) -> PathBuf {
        self.0.path().join("audit")
    }

    fn outside(&self, name: &str) -> PathBuf {
        self.0.path().join("outside").join(name)
    }

    /// Makes a directory below the root, with those above it.
    fn dir(&self, below: &str) -> PathBuf {
        let dir = self.root().join(below);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn locked(&self) -> StorageDir {
        let storage = StorageDir::open(self.root()).unwrap();
        storage.lock().unwrap();
        storage
    }

    /// Checks that what is outside is as it was made, names, bytes, modes and all.
    fn assert_untouched(&self) {
        let files = ["day/20200822-1015", "minute", &format!("user/{MINUTE}")];
        for dir in files.map(|dir| self.outside(dir)) {
            let text = fs::read_to_string(dir.join(NAME)).unwrap();
            assert_eq!(text, "outside", "{}", dir.display());
            let names = fs::read_dir(&dir).unwrap().count();
            assert_eq!(names, 1, "{}", dir.display());
        }
    }
}

/// User and group id of an account that is on every system and owns nothing.
const NOBODY: u32 = 65534;

fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = writeln!(std::io::stderr(), "skipped: only root may {what}");
    }
    root
}

/// Something to do at a path of the scene.
type Make = fn(&Scene, &Path);

/// Reads and removes all that can be; returns what was read and what was left alone.
fn drain(storage: &StorageDir) -> (Vec<String>, LeftAlone) {
    let mut read = Vec::new();
    let mut refused = LeftAlone::default();
    let mut walk = storage.walk();
    for file in walk.by_ref().flat_map(|dir| dir.files()) {
        match file.open(MAX_ENTRY_BYTES) {
            Ok(entry) => {
                let mut text = String::new();
                entry.file().read_to_string(&mut text).unwrap();
                read.push(text);
                if let Err(refusal) = entry.remove() {
                    refused.add(refusal);
                }
            }
            Err(refusal) => refused.add(refusal),
        }
    }
    refused.merge(walk.left_alone());
    (read, refused)
}

fn rules() -> PruneRules {
    let now = "2030-01-01T00:00:00Z".parse().unwrap();
    let mut rules = PruneRules::new(now, TimeDelta::zero());
    rules.users = true;
    rules
}

/// Does `mischief` on another thread until `work` is done.
fn racing<T>(mut mischief: impl FnMut() + Send, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                mischief();
            }
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
fn links_are_followed_at_no_level() {
    let scene = Scene::new();
    symlink(scene.outside("day"), scene.root().join("20200822")).unwrap();
    symlink(scene.outside("user"), scene.root().join("shop")).unwrap();
    let day = scene.dir("site/20200822");
    symlink(scene.outside("minute"), day.join("20200822-1015")).unwrap();
    let minute = scene.dir("site/20200823/20200823-0001");
    let target = scene.outside("minute").join(NAME);
    symlink(&target, minute.join("20200823-000100-a")).unwrap();
    symlink("/dev/zero", minute.join("20200823-000100-b")).unwrap();

    let storage = scene.locked();
    let (read, left) = drain(&storage);
    storage.prune(&rules());
    assert!(read.is_empty());
    assert_eq!(left.count("symbolic link"), 5, "{left:?}");
    scene.assert_untouched();
}

#[test]
fn what_is_no_plain_file_is_refused_without_waiting() {
    let scene = Scene::new();
    let minute = scene.dir(MINUTE);
    let at = |txid: &str| minute.join(format!("20200822-101500-{txid}"));
    mkfifoat(CWD, at("pipe"), Mode::RUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("directory")).unwrap();
    fs::hard_link(scene.outside("minute").join(NAME), at("hard")).unwrap();
    File::create(at("sparse"))
        .unwrap()
        .set_len(10 << 30)
        .unwrap();
    fs::write(at("good"), "good").unwrap();

    let (read, left) = drain(&scene.locked());
    assert_eq!(read, ["good"]);
    for kind in ["named pipe", "socket", "directory", "hard link", "too big"] {
        assert_eq!(left.count(kind), 1, "{kind} in {left:?}");
    }
    assert_eq!(left.total(), 5);
    fs::remove_file(at("hard")).unwrap();
    scene.assert_untouched();
}

#[test]
fn what_is_opened_by_name_is_looked_at_again() {
    // The listing said plain file; what the name leads to since then is refused by open itself.
    let scene = Scene::new();
    let path = scene.dir(MINUTE).join(NAME);
    let storage = scene.locked();
    let swaps: [(&str, Make); 5] = [
        ("symbolic link", |scene, path| {
            symlink(scene.outside("minute").join(NAME), path).unwrap();
        }),
        ("named pipe", |_, path| {
            mkfifoat(CWD, path, Mode::RUSR).unwrap();
        }),
        ("socket", |_, path| {
            drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        }),
        ("directory", |_, path| fs::create_dir(path).unwrap()),
        ("hard link", |scene, path| {
            fs::hard_link(scene.outside("minute").join(NAME), path).unwrap();
        }),
    ];
    for (kind, swap) in swaps {
        fs::write(&path, "plain").unwrap();
        let file = storage.walk().flat_map(|dir| dir.files()).next().unwrap();
        let entry = file.clone().open(MAX_ENTRY_BYTES).unwrap();
        fs::remove_file(&path).unwrap();
        swap(&scene, &path);
        let refusal = file.clone().open(MAX_ENTRY_BYTES).unwrap_err();
        assert_eq!(refusal.reason.label(), kind);
        let refusal = file.claim().unwrap_err();
        assert_eq!(refusal.reason.label(), kind);
        let refusal = entry.remove().unwrap_err();
        assert_eq!(refusal.reason.label(), "changed", "{kind}");
        assert!(path.symlink_metadata().is_ok(), "{kind} was removed");
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
    scene.assert_untouched();
}

#[test]
fn names_are_bytes_and_depth_is_not_followed() {
    let scene = Scene::new();
    let minute = scene.dir(MINUTE);
    for txid in [
        &b"\xff\xfe"[..],
        b"a\nb",
        b"\x1b[2J",
        b"$(reboot)",
        b"..",
        b"'\" --",
    ] {
        let name = [b"20200822-101500-", txid].concat();
        fs::write(minute.join(OsStr::from_bytes(&name)), "odd").unwrap();
    }
    let long = format!("20200822-101500-{}", "x".repeat(239));
    fs::write(minute.join(long), "odd").unwrap();
    scene.dir(&format!("deep/{}", "d/".repeat(1500)));
    scene.dir(&format!("{MINUTE}/{MINUTE}"));
    scene.dir(&format!("shop/20200822/{MINUTE}"));

    let storage = scene.locked();
    let (read, left) = drain(&storage);
    assert_eq!(read, ["odd"; 7]);
    assert_eq!(left.count("foreign name"), 3, "{left:?}");
    assert_eq!(storage.open_directories(), 2, "root and private directory");
}

#[test]
fn a_mounted_file_system_is_not_entered() {
    let scene = Scene::new();
    let minute = scene.dir(MINUTE);
    if mount("tmpfs", &minute, "tmpfs", MountFlags::empty(), None).is_err() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: only root may mount the file system this needs"
        );
        return;
    }
    fs::write(minute.join(NAME), "elsewhere").unwrap();
    let (read, left) = drain(&scene.locked());
    let there = minute.join(NAME).exists();
    unmount(&minute, UnmountFlags::empty()).unwrap();
    assert!(there && read.is_empty());
    assert_eq!(left.count("other file system"), 1, "{left:?}");
}

#[test]
fn a_directory_swapped_for_a_link_leads_nowhere() {
    let scene = Scene::new();
    let (day, minute) = (scene.dir("20200822"), scene.dir(MINUTE));
    let links = [day.with_extension("link"), minute.with_extension("link")];
    symlink(scene.outside("day"), &links[0]).unwrap();
    symlink(scene.outside("minute"), &links[1]).unwrap();
    let storage = scene.locked();
    let swap = || {
        for (dir, link) in [(&day, &links[0]), (&minute, &links[1])] {
            let _ = renameat_with(CWD, dir, CWD, link, RenameFlags::EXCHANGE);
        }
    };
    racing(swap, || {
        for round in 0..ROUNDS {
            let _ = fs::write(minute.join(format!("{NAME}{round}")), "inside");
            let (read, _) = drain(&storage);
            assert!(read.iter().all(|text| text == "inside"), "{read:?}");
            storage.prune(&rules());
        }
    });
    // The racer itself wrote through the links now and then; those are the writer's own.
    for dir in ["day/20200822-1015", "minute"] {
        let text = fs::read_to_string(scene.outside(dir).join(NAME)).unwrap();
        assert_eq!(text, "outside");
    }
}

#[test]
fn what_was_not_read_is_never_removed() {
    let scene = Scene::new();
    let minute = scene.dir(MINUTE);
    let (name, aside) = (minute.join(NAME), minute.join("aside"));
    let storage = scene.locked();
    let mut made = BTreeSet::new();
    let mut read = BTreeSet::new();
    let mischief = || {
        // Under the entry's name now, somewhere else at once: the window between two calls.
        let _ = renameat_with(CWD, &name, CWD, &aside, RenameFlags::EXCHANGE);
    };
    racing(mischief, || {
        for round in 0..ROUNDS {
            for path in [&name, &aside] {
                let version = format!("{round} {path:?}");
                let fresh = scene.0.path().join("fresh");
                fs::write(&fresh, &version).unwrap();
                if renameat_with(CWD, &fresh, CWD, path, RenameFlags::NOREPLACE).is_ok() {
                    made.insert(version);
                }
            }
            read.extend(drain(&storage).0);
        }
    });
    let _ = fs::rename(&aside, minute.join(format!("{NAME}-aside")));
    while let (more, _) = drain(&storage)
        && !more.is_empty()
    {
        read.extend(more);
    }
    assert!(made.len() > 1, "the race was run");
    assert_eq!(read, made);
}

#[test]
fn a_directory_renamed_while_it_is_read_is_read_to_its_end() {
    let scene = Scene::new();
    let minute = scene.dir(MINUTE);
    for number in 0..3000 {
        fs::write(minute.join(format!("{NAME}{number}")), "inside").unwrap();
    }
    let storage = scene.locked();
    let dir = storage.walk().nth(1).unwrap();
    let mut files = dir.files();
    let first = files.next().unwrap();
    fs::rename(&minute, scene.root().join("elsewhere")).unwrap();
    symlink(scene.outside("minute"), &minute).unwrap();
    let removed = std::iter::once(first)
        .chain(files)
        .map(|file| file.open(MAX_ENTRY_BYTES).unwrap().remove().unwrap())
        .count();
    assert_eq!(removed, 3000);
    assert!(!dir.prune(&rules()).unwrap());
    scene.assert_untouched();
}

/// Runs one test of this program again, in a process of its own.
fn again(test: &str) -> bool {
    if std::env::var_os("HOSTILE_TREE_ALONE").is_some() {
        return false;
    }
    let mut alone = Command::new(std::env::current_exe().unwrap());
    alone.args(["--exact", test]).env("HOSTILE_TREE_ALONE", "1");
    let output = alone.output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    true
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn a_hundred_thousand_files_take_no_memory_and_are_all_found() {
    const FILES: usize = 100_000;
    if again("a_hundred_thousand_files_take_no_memory_and_are_all_found") {
        return;
    }
    let scene = Scene::new();
    let minute = scene.dir(MINUTE);
    for number in 0..FILES {
        File::create(minute.join(format!("{NAME}{number}"))).unwrap();
        if number % 10 == 0 {
            File::create(minute.join(format!("junk-{number}"))).unwrap();
        }
    }
    let storage = scene.locked();
    // Once to the end of a chunk, so that buffers are there.
    assert_eq!(
        storage
            .walk()
            .flat_map(|dir| dir.files())
            .take(5000)
            .count(),
        5000
    );
    let before = resident_kib();
    let mut walk = storage.walk();
    let mut removed = 0;
    for dir in walk.by_ref() {
        loop {
            let files = dir
                .files()
                .map(|file| file.open(MAX_ENTRY_BYTES).unwrap().remove());
            let taken = files.flatten().count();
            removed += taken;
            if taken == 0 {
                break;
            }
        }
    }
    assert_eq!(removed, FILES);
    assert_eq!(walk.left_alone().count("foreign name"), 10_000);
    let grown = resident_kib() - before;
    assert!(grown < 1024, "grew by {grown} KiB");
}

/// A process of another user that does mischief until it is dropped.
struct Attacker(Child);

impl Attacker {
    /// Starts `script` as another user.
    fn start(script: &str, dir: &Path) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell
            .arg("-c")
            .arg(script)
            .current_dir(dir)
            .uid(NOBODY)
            .gid(NOBODY);
        shell.stdout(Stdio::null()).stderr(Stdio::null());
        Attacker(shell.spawn().unwrap())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn another_user_gains_nothing_from_a_root_process() {
    if !is_root("start a process of another user") {
        return;
    }
    let scene = Scene::new();
    let site = scene.dir("shop");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.0.path(), open).unwrap();
    let secret = scene.outside("minute").join(NAME);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::chown(&site, Some(NOBODY), Some(NOBODY)).unwrap();
    let script = format!(
        "while :; do
            mkdir -p {MINUTE}; echo inside > {MINUTE}/{NAME}
            ln -sf {secret} {MINUTE}/{NAME}b; ln {secret} {MINUTE}/{NAME}c; mkfifo {MINUTE}/{NAME}d
            mv {MINUTE} 20200822/moved; ln -s {outside} {MINUTE}; echo late > 20200822/moved/{NAME}e
            rm -rf 20200822
        done",
        secret = secret.display(),
        outside = scene.outside("minute").display(),
    );
    let storage = scene.locked();
    let mut keep_site = rules();
    keep_site.users = false;
    let attacker = Attacker::start(&script, &site);
    let (mut read, mut links) = (0, 0);
    // Until he had his chances; by far the most rounds find nothing yet.
    for _ in 0..100 * ROUNDS {
        let (texts, left) = drain(&storage);
        assert!(texts.iter().all(|text| text != "outside"), "{texts:?}");
        storage.prune(&keep_site);
        read += texts.len();
        links += left.count("symbolic link");
        if read > 50 && links > 50 {
            break;
        }
    }
    drop(attacker);
    let meta = secret.metadata().unwrap();
    assert_eq!(
        (meta.uid(), meta.mode() & 0o777, meta.nlink()),
        (0, 0o600, 1)
    );
    scene.assert_untouched();
    let private = scene.root().join(".modsec-parser");
    assert_eq!(private.metadata().unwrap().mode() & 0o777, 0o700);
    assert!(read > 50 && links > 50, "the race was run: {read}, {links}");
}

#[test]
fn a_site_without_rights_cannot_hold_the_lock_or_enter_the_private_directory() {
    if !is_root("start a process of another user") {
        return;
    }
    let scene = Scene::new();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(scene.0.path(), open).unwrap();
    scene.locked();
    let script = "flock -n .modsec-parser true || ls .modsec-parser || touch .modsec-parser/x";
    let mut attacker = Attacker::start(script, &scene.root());
    assert!(!attacker.0.wait().unwrap().success());
}

#[test]
fn an_unreadable_tree_says_what_to_do() {
    let scene = Scene::new();
    let site = scene.dir("shop");
    fs::set_permissions(&site, fs::Permissions::from_mode(0o000)).unwrap();
    let storage = StorageDir::open(scene.root()).unwrap();
    let mut walk = storage.walk();
    assert_eq!(walk.by_ref().count(), 0);
    let denied = walk.left_alone().count("permission denied");
    // Root may read everything.
    assert_eq!(denied, u64::from(!rustix::process::geteuid().is_root()));
    let text = Reason::Permission(std::io::ErrorKind::PermissionDenied.into()).to_string();
    assert!(text.contains("CAP_DAC_READ_SEARCH"), "{text}");
}

//! The private directory in a storage directory to which others may write: whatever they put in its
//! place, and however often, the parser starts and loses nothing of theirs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use modsec_core::storage_dir::{PruneRules, StorageDir, StorageDirError};
use rustix::fs::{CWD, Mode, mkfifoat};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tempfile::TempDir;

const PRIVATE: &str = ".modsec-parser";
/// User and group id of an account that is on every system and owns nothing.
const NOBODY: u32 = 65534;

/// Puts something at a path.
type Put = fn(&Path);

fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let _ = writeln!(std::io::stderr(), "skipped: only root may {what}");
    }
    root
}

/// A storage directory in which everybody may write.
fn root() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

fn give_away(path: &Path) {
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

fn make_pipe(path: &Path) {
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

/// Checks that `storage` has the private directory at its place, entered by nobody else.
fn assert_ready(storage: &StorageDir, root: &Path, case: &str) {
    let stat = fs::symlink_metadata(root.join(PRIVATE)).unwrap();
    assert!(stat.is_dir(), "{case}");
    let me = rustix::process::geteuid().as_raw();
    assert_eq!((stat.uid(), stat.mode() & 0o7777), (me, 0o700), "{case}");
    assert!(storage.claimed().is_some(), "{case}");
    let second = StorageDir::open(root).unwrap().lock();
    assert!(
        matches!(second, Err(StorageDirError::Locked { .. })),
        "{case}: {second:?}"
    );
}

#[test]
fn whatever_is_not_ours_is_moved_aside() {
    let cases: [(&str, Put); 9] = [
        ("link to a directory", |path| symlink("/etc", path).unwrap()),
        ("link to nothing", |path| symlink("nothing", path).unwrap()),
        ("file", |path| fs::write(path, "theirs").unwrap()),
        ("pipe", make_pipe),
        ("socket", |path| drop(UnixListener::bind(path).unwrap())),
        ("directory to which others could write", |path| {
            fs::create_dir(path).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o770)).unwrap();
        }),
        ("directory with a pipe as lock", |path| {
            fs::create_dir(path).unwrap();
            make_pipe(&path.join("lock"));
        }),
        ("directory with a link as lock", |path| {
            fs::create_dir(path).unwrap();
            symlink("/etc/passwd", path.join("lock")).unwrap();
        }),
        ("directory with a directory as lock", |path| {
            fs::create_dir_all(path.join("lock")).unwrap();
        }),
    ];
    for (case, put) in cases {
        let root = root();
        let private = root.path().join(PRIVATE);
        put(&private);
        let before = fs::symlink_metadata(&private).unwrap();
        let storage = StorageDir::open(root.path()).unwrap();
        storage.lock().unwrap();
        assert_ready(&storage, root.path(), case);
        let [aside] = storage.moved_aside() else {
            panic!("{case}: {:?}", storage.moved_aside());
        };
        assert_eq!(
            fs::symlink_metadata(aside).unwrap().ino(),
            before.ino(),
            "{case}"
        );
        let names = fs::read_dir(root.path()).unwrap().count();
        assert_eq!(names, 2, "{case}: the directory and what was moved aside");
    }
}

#[test]
fn what_other_users_have_made_is_moved_aside() {
    if !is_root("give a directory away") {
        return;
    }
    let root = root();
    let private = root.path().join(PRIVATE);
    fs::create_dir(&private).unwrap();
    fs::write(private.join("x"), "theirs").unwrap();
    give_away(&private);
    // In a sticky directory too.
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let storage = StorageDir::open(root.path()).unwrap();
    storage.lock().unwrap();
    assert_ready(&storage, root.path(), "directory of another user");
    let aside = &storage.moved_aside()[0];
    assert_eq!(fs::read(aside.join("x")).unwrap(), b"theirs");
}

#[test]
fn names_beside_it_are_in_nobodys_way() {
    let root = root();
    let private = root.path().join(PRIVATE);
    fs::write(&private, "").unwrap();
    let uid = rustix::process::geteuid().as_raw();
    for number in 0..60_000 {
        let name = format!("{PRIVATE}.{number}");
        fs::write(root.path().join(name), "").unwrap();
        if number < 100 {
            for uid in [uid, NOBODY] {
                let name = format!("{PRIVATE}.of-user-{uid}-{number}");
                fs::write(root.path().join(name), "").unwrap();
            }
        }
    }
    let storage = StorageDir::open(root.path()).unwrap();
    storage.lock().unwrap();
    assert_ready(&storage, root.path(), "60,000 names");
}

#[test]
fn whoever_locks_the_storage_directory_itself_is_in_nobodys_way() {
    let root = root();
    let held = fs::File::open(root.path()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    symlink("/etc", root.path().join(PRIVATE)).unwrap();
    let storage = StorageDir::open(root.path()).unwrap();
    storage.lock().unwrap();
    assert_ready(&storage, root.path(), "locked root");
}

#[test]
fn something_mounted_on_it_is_said() {
    let root = root();
    let private = root.path().join(PRIVATE);
    fs::create_dir(&private).unwrap();
    if mount("tmpfs", &private, "tmpfs", MountFlags::empty(), None).is_err() {
        let _ = writeln!(std::io::stderr(), "skipped: only root may mount");
        return;
    }
    let error = StorageDir::open(root.path()).unwrap().lock();
    unmount(&private, UnmountFlags::empty()).unwrap();
    assert!(
        matches!(error, Err(StorageDirError::PrivateMounted { .. })),
        "{error:?}"
    );
    let names = fs::read_dir(root.path()).unwrap().count();
    assert_eq!(names, 1, "what was made in vain is gone");
}

/// A process of another user that does mischief until it is dropped.
struct Attacker(Child);

impl Attacker {
    /// Returns once Python runs. Until then the new process holds copies of this one's locks, so
    /// nothing else in this file starts one: a test that takes a lock again would find it held.
    fn start(script: &str, dir: &Path) -> Attacker {
        let mut python = Command::new("/usr/bin/python3");
        python
            .args(["-c", script])
            .current_dir(dir)
            .uid(NOBODY)
            .gid(NOBODY);
        Attacker(python.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes the name away and puts something of every kind under it, as fast as it can.
const ATTACK: &str = "
import os, itertools
P = '.modsec-parser'
kinds = [
    lambda: os.mkdir(P),
    lambda: os.symlink('/etc', P),
    lambda: os.mkfifo(P),
    lambda: os.close(os.open(P, os.O_CREAT | os.O_EXCL, 0o666)),
]
for n in itertools.count():
    gone = 'gone%d' % n
    for do in (
        lambda: os.rename(P, gone),
        kinds[n % 4],
        lambda: os.unlink(gone),
        lambda: os.rmdir(gone),
    ):
        try:
            do()
        except OSError:
            pass
    if n == 100:
        os.makedirs('begun', exist_ok=True)
";

#[test]
fn somebody_who_makes_it_again_at_once_keeps_no_parser_from_starting() {
    if !is_root("start a process of another user") {
        return;
    }
    let root = root();
    let attacker = Attacker::start(ATTACK, root.path());
    let has_begun = || root.path().join("begun").exists();
    while !has_begun() {
        std::thread::yield_now();
    }
    let mut aside = 0;
    // Until he had his chances; in most rounds he has done nothing yet.
    for round in 0..100_000 {
        let storage = StorageDir::open(root.path()).unwrap();
        if let Err(error) = storage.lock() {
            panic!("round {round}: {error}");
        }
        aside += storage.moved_aside().len();
        let held: PathBuf = storage.claimed().unwrap().path();
        assert!(held.ends_with(PRIVATE), "round {round}");
        if aside > 200 {
            break;
        }
    }
    drop(attacker);
    assert!(aside > 200, "the race was run: {aside}");
}

#[test]
fn parsers_that_start_at_one_moment_do_not_take_each_others_place() {
    let root = root();
    for round in 0..1000 {
        let private = root.path().join(PRIVATE);
        let _ = fs::remove_dir_all(&private);
        if round % 2 == 0 {
            symlink("/etc", &private).unwrap();
        }
        let start = std::sync::Barrier::new(4);
        let winners: usize = std::thread::scope(|scope| {
            let parsers: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let storage = StorageDir::open(root.path()).unwrap();
                        start.wait();
                        let locked = storage.lock().is_ok();
                        // None gives its lock back before all have tried.
                        start.wait();
                        usize::from(locked)
                    })
                })
                .collect();
            parsers.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

/// Returns the names in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn is_locked(storage: &Result<(), StorageDirError>) -> bool {
    matches!(storage, Err(StorageDirError::Locked { .. }))
}

#[test]
fn nothing_is_left_but_what_was_claimed() {
    for claimed in [false, true] {
        let (root, state) = (root(), tempfile::tempdir().unwrap());
        let private = root.path().join(PRIVATE);
        let storage = StorageDir::open(root.path()).unwrap();
        storage.lock_with_state(state.path()).unwrap();
        assert_eq!(
            names(&private),
            Vec::<String>::new(),
            "nothing beside entries"
        );
        let [lock] = &names(state.path())[..] else {
            panic!("{:?}", names(state.path()));
        };
        let inode = fs::metadata(root.path()).unwrap().ino();
        assert!(lock.starts_with("tree-") && lock.ends_with(&format!("-{inode}.lock")));
        if claimed {
            fs::write(private.join("1-0.20260822-101500-a"), "entry").unwrap();
        }
        storage.leave();
        assert_eq!(names(state.path()), Vec::<String>::new());
        assert_eq!(private.exists(), claimed);
        drop(storage);
        assert_eq!(private.exists(), claimed);
        assert!(!claimed || names(&private) == ["1-0.20260822-101500-a"]);
    }
}

#[test]
fn one_of_two_is_refused_whatever_their_state_directories() {
    let (root, first, second) = (
        root(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let open = || StorageDir::open(root.path()).unwrap();
    let storage = open();
    storage.lock_with_state(first.path()).unwrap();
    assert!(is_locked(&open().lock_with_state(first.path())));
    assert!(is_locked(&open().lock_with_state(second.path())));
    assert!(is_locked(&open().lock()));
    assert_eq!(
        names(second.path()),
        Vec::<String>::new(),
        "nothing is left of the refused"
    );
    // As after a kill: nobody has tidied up.
    let private = root.path().join(PRIVATE);
    drop(storage);
    fs::create_dir(&private).unwrap();
    fs::write(first.path().join("tree-1-2-3.lock"), "").unwrap();
    open().lock_with_state(second.path()).unwrap();
    assert!(!private.exists());
}

#[test]
fn files_of_an_earlier_build_are_respected_and_taken_out() {
    for held in [true, false] {
        let (root, state) = (root(), tempfile::tempdir().unwrap());
        let private = root.path().join(PRIVATE);
        fs::create_dir(&private).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
        for (name, text) in [("lock", ""), (".index", "notes"), (".index.new", "no")] {
            fs::write(private.join(name), text).unwrap();
        }
        let earlier = fs::File::open(private.join("lock")).unwrap();
        if held {
            rustix::fs::flock(&earlier, rustix::fs::FlockOperation::LockExclusive).unwrap();
        }
        let storage = StorageDir::open(root.path()).unwrap();
        let locked = storage.lock_with_state(state.path());
        if held {
            assert!(is_locked(&locked));
            assert_eq!(names(&private), [".index", ".index.new", "lock"]);
            continue;
        }
        locked.unwrap();
        assert_eq!(names(&private), Vec::<String>::new());
        let notes = names(state.path())
            .into_iter()
            .find(|name| Path::new(name).extension() == Some("index".as_ref()));
        assert_eq!(
            fs::read(state.path().join(notes.unwrap())).unwrap(),
            b"notes"
        );
    }
}

#[test]
fn a_state_directory_that_cannot_be_used_is_done_without() {
    let root = root();
    let file = tempfile::NamedTempFile::new().unwrap();
    let open = || StorageDir::open(root.path()).unwrap();
    let storage = open();
    storage.lock_with_state(&file.path().join("x")).unwrap();
    assert_ready(&storage, root.path(), "no state directory");
    drop(storage);
    assert_eq!(names(root.path()), Vec::<String>::new());
}

#[test]
fn what_a_killed_parser_was_about_to_make_is_passed_over_and_removed() {
    let root = root();
    let fresh = root.path().join(format!("{PRIVATE}.0123456789abcdef"));
    fs::create_dir(&fresh).unwrap();
    let storage = StorageDir::open(root.path()).unwrap();
    storage.lock().unwrap();
    let mut walk = storage.walk();
    assert_eq!(walk.by_ref().count(), 1, "the private directory itself");
    assert_eq!(walk.left_alone().total(), 0);
    let now = chrono::Local::now().fixed_offset();
    storage.prune(&PruneRules::new(now, chrono::TimeDelta::zero()));
    assert!(!fresh.exists());
}

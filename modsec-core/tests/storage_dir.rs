//! The storage directory on a quiet disk: layouts, order, removing, claiming, pruning, locking.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use chrono::TimeDelta;
use modsec_core::storage_dir::{
    AccountNames, EntryDir, EntryFile, MAX_ENTRY_BYTES, PruneRules, Reason, StorageDir,
    StorageDirError,
};

/// A storage directory of its own, removed at the end.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Tree(tempfile::tempdir().unwrap())
    }

    fn path(&self, below: &str) -> PathBuf {
        self.0.path().join(below)
    }

    fn put(&self, below: &str) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, below).unwrap();
        path
    }

    fn dir(&self, below: &str) {
        fs::create_dir_all(self.path(below)).unwrap();
    }

    fn open(&self) -> StorageDir {
        StorageDir::open(self.0.path()).unwrap()
    }

    fn locked(&self) -> StorageDir {
        let storage = self.open();
        storage.lock().unwrap();
        storage
    }
}

fn files(storage: &StorageDir) -> Vec<EntryFile> {
    storage.walk().flat_map(|dir| dir.files()).collect()
}

fn relative(root: &Path, files: &[EntryFile]) -> Vec<String> {
    let strip = |file: &EntryFile| {
        let path = file.path();
        path.strip_prefix(root).unwrap().display().to_string()
    };
    files.iter().map(strip).collect()
}

fn rules(now: &str) -> PruneRules {
    PruneRules::new(now.parse().unwrap(), TimeDelta::zero())
}

const A: &str = "20200822/20200822-1015/20200822-101500-a";
const B: &str = "20200822/20200822-1016/20200822-101600-b";
const C: &str = "20200823/20200823-0001/20200823-000100-c";

#[test]
fn both_layouts_are_walked_oldest_first() {
    let tree = Tree::new();
    for below in [C, A, B] {
        tree.put(below);
        tree.put(&format!("shop/{below}"));
    }
    let found = relative(&tree.path(""), &files(&tree.open()));
    let user: Vec<_> = [A, B, C]
        .iter()
        .map(|name| format!("shop/{name}"))
        .collect();
    assert_eq!(found[..3], [A, B, C]);
    assert_eq!(found[3..], user);
}

#[test]
fn what_fits_no_template_is_left_alone_and_counted_once() {
    let tree = Tree::new();
    tree.put("index.log");
    tree.put("20200822/20200823-1015/20200823-101500-other-day");
    tree.put("20200822/20200822-1015/notes.txt");
    tree.put("20200822/20200822-1016/20200822-101600-dir/x");
    tree.put("shop/readme");
    tree.put(".hidden/x");
    let storage = tree.open();
    let mut walk = storage.walk();
    let mut found = 0;
    for dir in walk.by_ref() {
        found += dir.files().count() + dir.files().count();
    }
    let left = walk.left_alone();
    assert_eq!(found, 0);
    assert_eq!(left.count("foreign name"), 5, "{left:?}");
    assert_eq!(left.count("directory"), 1, "{left:?}");
    assert_eq!(left.total(), 6, "{left:?}");
}

#[test]
fn an_open_entry_tells_its_owner_size_and_bytes() {
    let tree = Tree::new();
    tree.put(A);
    let entry = files(&tree.open()).remove(0).open(MAX_ENTRY_BYTES).unwrap();
    let mut text = String::new();
    entry.file().read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), entry.size()), (A, A.len() as u64));
    assert_eq!(entry.entry().name().unwrap().txid, b"a");
    assert_eq!(entry.uid(), rustix::process::geteuid().as_raw());
    assert_eq!(entry.modified(), entry.changed());
}

#[test]
fn a_removed_entry_is_gone_and_leaves_nothing_behind() {
    let tree = Tree::new();
    let paths = [tree.put(A), tree.put(B)];
    let storage = tree.locked();
    let mut files = files(&storage);
    let later = files.pop().unwrap().open(MAX_ENTRY_BYTES).unwrap().close();
    let now = files.pop().unwrap().open(MAX_ENTRY_BYTES).unwrap();
    now.remove().unwrap();
    later.remove().unwrap();
    assert!(paths.iter().all(|path| !path.exists()));
    assert_eq!(
        fs::read_dir(tree.path(".modsec-parser")).unwrap().count(),
        0
    );
}

#[test]
fn nothing_is_removed_or_claimed_without_the_lock() {
    let tree = Tree::new();
    let path = tree.put(A);
    let file = files(&tree.open()).remove(0);
    let refusal = file.clone().claim().unwrap_err();
    assert!(matches!(refusal.reason, Reason::NotLocked), "{refusal}");
    let refusal = file.open(MAX_ENTRY_BYTES).unwrap().remove().unwrap_err();
    assert!(matches!(refusal.reason, Reason::NotLocked), "{refusal}");
    assert!(path.exists());
    assert!(!tree.path(".modsec-parser").exists());
}

#[test]
fn an_entry_written_to_after_reading_stays() {
    let tree = Tree::new();
    let path = tree.put(A);
    let storage = tree.locked();
    for rewrite in [
        &b"longer than before, by a few bytes at the very least"[..],
        A.as_bytes(),
    ] {
        let entry = files(&storage).remove(0).open(MAX_ENTRY_BYTES).unwrap();
        fs::write(&path, rewrite).unwrap();
        // Set back by hand: some file systems' clocks are too coarse to tell the two apart.
        let old = std::time::SystemTime::UNIX_EPOCH;
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(old)
            .unwrap();
        let refusal = entry.remove().unwrap_err();
        assert!(matches!(refusal.reason, Reason::Changed), "{refusal}");
        assert_eq!(fs::read(&path).unwrap(), rewrite);
    }
}

#[test]
fn an_entry_replaced_after_reading_stays() {
    let tree = Tree::new();
    let path = tree.put(A);
    let storage = tree.locked();
    let entry = files(&storage).remove(0).open(MAX_ENTRY_BYTES).unwrap();
    fs::rename(&path, tree.path("kept")).unwrap();
    fs::write(&path, "the next record of the same name").unwrap();
    let refusal = entry.remove().unwrap_err();
    assert!(matches!(refusal.reason, Reason::Changed), "{refusal}");
    assert!(path.exists() && tree.path("kept").exists());
}

#[test]
fn an_entry_removed_by_somebody_else_is_reported_as_vanished() {
    let tree = Tree::new();
    let path = tree.put(A);
    let storage = tree.locked();
    let file = files(&storage).remove(0);
    let entry = file.clone().open(MAX_ENTRY_BYTES).unwrap();
    fs::remove_file(path).unwrap();
    for refusal in [
        entry.remove().unwrap_err(),
        file.clone().open(MAX_ENTRY_BYTES).unwrap_err(),
        file.claim().unwrap_err(),
    ] {
        assert!(matches!(refusal.reason, Reason::Vanished), "{refusal}");
    }
}

#[test]
fn claimed_entries_of_one_name_do_not_replace_each_other_and_come_first() {
    let tree = Tree::new();
    let storage = tree.locked();
    for _ in 0..3 {
        let path = tree.put(A);
        let claimed = files(&storage).pop().unwrap().claim().unwrap();
        assert!(claimed.is_claimed() && !path.exists());
        assert_eq!(claimed.name().unwrap().txid, b"a");
    }
    tree.put(A);
    let found = files(&storage);
    let claimed: Vec<_> = found.iter().map(EntryFile::is_claimed).collect();
    assert_eq!(claimed, [true, true, true, false]);
    for file in found {
        file.open(MAX_ENTRY_BYTES).unwrap().remove().unwrap();
    }
    assert_eq!(files(&storage).len(), 0);
}

#[test]
fn what_a_crash_left_in_the_private_directory_is_an_entry_again() {
    let tree = Tree::new();
    tree.put(A);
    files(&tree.locked()).remove(0).claim().unwrap();
    for storage in [tree.open(), tree.locked()] {
        let found = files(&storage);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name().unwrap().txid, b"a");
    }
}

#[test]
fn only_one_process_at_a_time_has_the_lock_and_the_other_learns_who() {
    let tree = Tree::new();
    let first = tree.locked();
    first.lock().unwrap();
    let error = tree.open().lock().unwrap_err();
    let StorageDirError::Locked { holder, .. } = &error else {
        panic!("{error}");
    };
    if let Some(holder) = holder {
        assert_eq!(holder.pid, std::process::id(), "{error}");
    }
    drop(first);
    tree.locked();
}

#[test]
fn a_root_that_cannot_be_used_says_what_to_do() {
    let tree = Tree::new();
    tree.put("file");
    let error = StorageDir::open(tree.path("absent")).unwrap_err();
    assert!(matches!(error, StorageDirError::Missing { .. }), "{error}");
    let error = StorageDir::open(tree.path("file")).unwrap_err();
    assert!(
        matches!(error, StorageDirError::NotADirectory { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("SecAuditLogStorageDir"));
}

#[test]
fn the_root_itself_may_be_reached_through_a_link() {
    let tree = Tree::new();
    tree.put(&format!("real/{A}"));
    std::os::unix::fs::symlink("real", tree.path("link")).unwrap();
    let storage = StorageDir::open(tree.path("link")).unwrap();
    assert_eq!(files(&storage).len(), 1);
}

#[test]
fn pruning_keeps_the_newest_the_future_the_full_and_the_private() {
    let tree = Tree::new();
    for root in ["", "shop/"] {
        for below in [
            "20200821/20200821-1000",
            "20200822/20200822-1000",
            "20200822/20200822-1001",
            "20200823/20200823-1002",
            "20200823/20200823-1003",
        ] {
            tree.dir(&format!("{root}{below}"));
        }
        tree.put(&format!(
            "{root}20200822/20200822-1001/20200822-100100-full"
        ));
    }
    tree.dir("empty-user");
    tree.dir("lost+found");
    let storage = tree.locked();
    let pruned = storage.prune(&rules("2030-01-01T00:00:00+00:00"));
    assert_eq!((pruned.minutes, pruned.days, pruned.users), (6, 2, 0));
    for kept in [
        "20200822/20200822-1001",
        "20200823/20200823-1003",
        "shop/20200822/20200822-1001",
        "shop/20200823/20200823-1003",
        "empty-user",
        ".modsec-parser",
    ] {
        assert!(tree.path(kept).exists(), "{kept}");
    }
    let mut users = rules("2030-01-01T00:00:00+00:00");
    users.users = true;
    assert_eq!(storage.prune(&users).users, 1);
    assert!(tree.path("lost+found").exists());
}

#[test]
fn pruning_keeps_what_a_writer_may_still_use() {
    let tree = Tree::new();
    for root in ["", "shop/"] {
        tree.dir(&format!("{root}20400822/20400822-1000"));
        tree.dir(&format!("{root}20400822/20400822-1001"));
    }
    let storage = tree.open();
    let cases = [
        ("2040-08-22T09:00:00+00:00", 0),
        ("2040-08-22T10:02:00+00:00", 0),
        // The user's. Local time counts, not UTC.
        ("2040-08-22T10:02:01-03:00", 1),
        // The shared one may be that of a transaction that still lasts.
        ("2040-08-23T10:00:00+00:00", 0),
        ("2040-08-23T10:00:01+00:00", 1),
    ];
    for (now, want) in cases {
        assert_eq!(storage.prune(&rules(now)).minutes, want, "at {now}");
    }
    tree.dir("20200822/20200822-1000");
    let mut busy = rules("2040-08-22T10:02:01+00:00");
    busy.min_age = TimeDelta::days(100 * 366);
    assert_eq!(storage.prune(&busy).minutes, 0);
}

#[test]
fn a_directory_that_is_named_after_the_start_of_a_transaction_waits_for_its_end() {
    // What libmodsecurity does when a transaction ends that began at 10:15.
    let mkdir = |tree: &Tree| {
        let made = fs::create_dir(tree.path("20400822/20400822-1015"));
        assert_eq!(made.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    };
    let open = |tree: &Tree| {
        let path = tree.path("20400822/20400822-1015/20400822-101500-slow");
        fs::File::create(path)
    };
    for after in ["13:15:00", "23:59:59"] {
        let tree = Tree::new();
        tree.put("20400822/20400822-1015/20400822-101501-quick");
        tree.put("20400822/20400822-1016/20400822-101601-newest");
        let storage = tree.locked();
        let rules = rules(&format!("2040-08-22T{after}+00:00"));
        let dir = storage.walk().find(|dir| dir.minute().is_some()).unwrap();
        for file in dir.files() {
            fs::remove_file(file.path()).unwrap();
        }
        mkdir(&tree);
        // The collector has just taken the only entry there, and cleans up.
        assert!(!dir.prune(&rules).unwrap());
        assert_eq!(storage.prune(&rules).minutes, 0);
        open(&tree).unwrap();
    }
}

#[test]
fn whose_a_tree_is_tells_how_its_writer_names_directories() {
    let names = AccountNames(std::sync::Arc::new(|uid| match uid {
        0 => "root".to_owned(),
        33 => "www-data".to_owned(),
        uid => uid.to_string(),
    }));
    for (user, tree_uid, minute_uid, want) in [
        // ModSecurity 2: the directory is called like its writer.
        ("www-data", 33, 33, 1),
        ("www-data", 0, 33, 1),
        ("1007", 1007, 1007, 1),
        // An account of a directory service that is not asked.
        ("site", 1007, 1007, 1),
        // Another engine with a directory of its own that looks like that of a user.
        ("nginx", 0, 33, 0),
        ("nginx", 33, 33, 0),
        ("proxy", 33, 1007, 0),
    ] {
        if !rustix::process::geteuid().is_root() && tree_uid + minute_uid > 0 {
            continue;
        }
        let tree = Tree::new();
        let minute = format!("{user}/20400822/20400822-1000");
        tree.dir(&minute);
        tree.dir(&format!("{user}/20400822/20400822-1001"));
        let own = |below: &str, uid| std::os::unix::fs::chown(tree.path(below), Some(uid), None);
        own(user, tree_uid).unwrap();
        own(&minute, minute_uid).unwrap();
        let mut rules = rules("2040-08-22T12:00:00+00:00");
        rules.accounts = names.clone();
        let pruned = tree.open().prune(&rules).minutes;
        assert_eq!(pruned, want, "{user} {tree_uid} {minute_uid}");
    }
}

#[test]
fn our_own_deletions_do_not_make_a_directory_look_busy() {
    let tree = Tree::new();
    tree.put(A);
    tree.put(B);
    let minute = tree.path("20200822/20200822-1015");
    let old = std::time::SystemTime::UNIX_EPOCH;
    fs::File::open(&minute).unwrap().set_modified(old).unwrap();
    let storage = tree.locked();
    let dirs: Vec<_> = storage.walk().skip(1).collect();
    for file in dirs.iter().flat_map(EntryDir::files) {
        file.open(MAX_ENTRY_BYTES).unwrap().remove().unwrap();
    }
    let rules = PruneRules::new(chrono::Utc::now().fixed_offset(), TimeDelta::hours(1));
    assert_eq!(storage.prune(&rules).minutes, 0);
    let pruned: Vec<_> = dirs.iter().map(|dir| dir.prune(&rules).unwrap()).collect();
    assert_eq!(pruned, [true, false], "the second is the newest");
}

#[test]
fn descriptors_are_counted_and_given_back() {
    let tree = Tree::new();
    for minute in 0..30 {
        tree.put(&format!(
            "20200822/20200822-10{minute:02}/20200822-100000-x"
        ));
    }
    let storage = tree.open();
    let before = storage.open_directories();
    assert_eq!(files(&storage).len(), 30);
    assert_eq!(storage.open_directories(), before);
    let most = storage.walk().map(|_| storage.open_directories()).max();
    assert_eq!(most, Some(before + 2), "day and minute");
}

#[test]
fn an_entry_that_is_being_removed_is_not_read_again() {
    let tree = Tree::new();
    for number in 0..3000 {
        tree.put(&format!("{A}{number}"));
    }
    let storage = tree.locked();
    let minute = storage.walk().nth(1).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for file in minute.files() {
                file.open(MAX_ENTRY_BYTES).unwrap().remove().unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        while !done.load(std::sync::atomic::Ordering::Relaxed) {
            for file in storage.walk().next().unwrap().files() {
                let refusal = file.open(MAX_ENTRY_BYTES).unwrap_err();
                assert!(matches!(refusal.reason, Reason::Vanished), "{refusal}");
            }
        }
    });
    assert_eq!(files(&storage).len(), 0);
}

#[test]
fn handles_can_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<modsec_core::storage_dir::Walk>();
    is_send::<modsec_core::storage_dir::EntryFiles>();
    is_send::<modsec_core::storage_dir::OpenEntry>();
    is_send::<modsec_core::storage_dir::ReadEntry>();
}

#[test]
fn a_file_is_found_by_a_path_of_either_layout_and_by_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let minute = "20260822/20260822-1015";
    for tree in ["", "site1/", ".hidden/", "20260821/"] {
        let minute = dir.path().join(tree).join(minute);
        fs::create_dir_all(&minute).unwrap();
        fs::write(minute.join("20260822-101500-a"), "x").unwrap();
    }
    std::os::unix::fs::symlink("site1", dir.path().join("link")).unwrap();
    let storage = StorageDir::open(dir.path()).unwrap();
    for (path, want) in [
        ("20260822/20260822-1015/20260822-101500-a", true),
        ("site1/20260822/20260822-1015/20260822-101500-a", true),
        ("link/20260822/20260822-1015/20260822-101500-a", false),
        (".hidden/20260822/20260822-1015/20260822-101500-a", false),
        ("20260821/20260822/20260822-1015/20260822-101500-a", false),
        (
            "site1/20260822/20260822-1015/../20260822-1015/20260822-101500-a",
            false,
        ),
        ("site1/20260822/20260822-1015/passwd", false),
        ("site1/20260822/20260823-1015/20260822-101500-a", false),
        ("/etc/passwd", false),
        ("..", false),
        ("", false),
    ] {
        let found = storage.entry_at(Path::new(path));
        let opened = found.and_then(|file| file.open(10));
        assert_eq!(opened.is_ok(), want, "path {path}");
    }
}

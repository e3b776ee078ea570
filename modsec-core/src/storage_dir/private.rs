//! The directory in the root that only we may enter.
//!
//! A name in a site user's directory can lead to another file from one system call to the next.
//! So nothing is deleted there: a file is moved in here first, where nobody else can touch it,
//! looked at again, and only then deleted. Whatever a crash leaves behind in here is an entry like
//! all others and the first thing the next walk yields.

mod make;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;

use self::make::Made;
use super::StorageDirError;
use super::dir::Dir;
use crate::names::NAME_MAX;

/// Name of the private directory.
pub(crate) const PRIVATE: &str = ".modsec-parser";
/// Name of the lock file in it.
pub(super) const LOCK: &str = "lock";
/// Name of the note in it, see the module `note`. Whoever else reads this directory passes over names like this one.
pub(super) const NOTE: &str = ".index";
/// Name of a note that is being written.
pub(super) const NEW_NOTE: &str = ".index.new";

/// The private directory, opened for moving files in, with the lock held.
#[derive(Debug)]
pub(super) struct Private {
    pub(super) dir: Arc<Dir>,
    next: AtomicU64,
    /// Names that a removal is working on. A listing must not yield them: they would be read
    /// a second time.
    removing: Mutex<HashSet<OsString>>,
    aside: Vec<PathBuf>,
    _lock: File,
}

impl Private {
    /// Opens the private directory and locks it. Makes it if it is missing, and moves aside what
    /// is not ours.
    pub(super) fn lock(root: &Arc<Dir>) -> Result<Private, StorageDirError> {
        let Made { dir, lock, aside } = make::open(root)?;
        Ok(Private {
            dir,
            next: AtomicU64::new(0),
            removing: Mutex::default(),
            aside,
            _lock: lock,
        })
    }

    /// Returns where that is which stood in the place of the directory.
    pub(super) fn aside(&self) -> &[PathBuf] {
        &self.aside
    }

    /// Moves `name` out of `from` under a new name, unseen by listings until released.
    pub(super) fn take(&self, from: &Dir, name: &OsStr, inode: u64) -> Result<Taken<'_>, Errno> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let private = private_name(inode, number, name);
            self.removing().insert(private.clone());
            let taken = Taken {
                private: self,
                name: private,
            };
            match rename_in(from, name, &self.dir, &taken.name) {
                Ok(()) => return Ok(taken),
                // Left over from an earlier run.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Returns `true` if a removal is working on `name`. Ask after listing it, not before.
    pub(super) fn is_removing(&self, name: &OsStr) -> bool {
        self.removing().contains(name)
    }

    fn removing(&self) -> MutexGuard<'_, HashSet<OsString>> {
        // A set of names is whole even if a thread died holding it.
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `true` if `path`, below the root, is the private directory or on its way to become it.
pub(crate) fn is_private(path: &Path) -> bool {
    let is_digits = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    path.to_str().is_some_and(|name| {
        name == PRIVATE || name.strip_prefix(make::FRESH).is_some_and(is_digits)
    })
}

/// A file that was moved into the private directory. When this is dropped, listings see the file
/// again if it still exists.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    private: &'a Private,
    name: OsString,
}

impl Taken<'_> {
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Deletes it.
    pub(super) fn delete(self) -> Result<(), Errno> {
        unlinkat(self.private.dir.file(), &self.name, AtFlags::empty())
    }

    /// Moves it back to `name` in `to`, or keeps it here if that name was taken again meanwhile.
    pub(super) fn put_back(self, to: &Dir, name: &OsStr) {
        let from = self.private.dir.file();
        let moved = renameat_with(from, &self.name, to.file(), name, RenameFlags::NOREPLACE);
        if unsupported(moved) && linkat(from, &self.name, to.file(), name, AtFlags::empty()).is_ok()
        {
            // On failure it has two names and is refused as a hard link, but it is not lost.
            let _ = unlinkat(from, &self.name, AtFlags::empty());
        }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.private.removing().remove(&self.name);
    }
}

/// Renames without replacing anything; old kernels and some file systems have no single call.
fn rename_in(from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> Result<(), Errno> {
    let moved = renameat_with(from.file(), name, to.file(), new, RenameFlags::NOREPLACE);
    if !unsupported(moved) {
        return moved;
    }
    // Nobody else can make a name in the private directory between these two calls, and nothing
    // but an empty directory can be replaced in the root by a directory.
    match to.peek(new) {
        Ok(_) => Err(Errno::EXIST),
        Err(_) => renameat(from.file(), name, to.file(), new),
    }
}

fn unsupported(result: Result<(), Errno>) -> bool {
    matches!(result, Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Builds the name under which a file is kept: unique, and the old name can be read from it.
fn private_name(inode: u64, number: u64, name: &OsStr) -> OsString {
    let mut bytes = format!("{inode:x}-{number:x}.").into_bytes();
    bytes.extend_from_slice(name.as_bytes());
    // Only a transaction id of absurd length is cut.
    bytes.truncate(NAME_MAX);
    OsString::from_vec(bytes)
}

/// Returns the name that a file had before it was moved into the private directory.
pub(super) fn original_name(private: &OsStr) -> Option<&OsStr> {
    let bytes = private.as_bytes();
    let dot = bytes.iter().position(|byte| *byte == b'.')?;
    Some(OsStr::from_bytes(&bytes[dot + 1..]))
}

/// Returns the inode that is part of a name in the private directory.
pub(crate) fn inode(private: &OsStr) -> Option<u64> {
    let mut key = private.as_bytes().split(|byte| *byte == b'-');
    u64::from_str_radix(std::str::from_utf8(key.next()?).ok()?, 16).ok()
}

/// Returns the number that is part of a name in the private directory.
pub(super) fn number(private: &OsStr) -> Option<u64> {
    let mut halves = private.as_bytes().splitn(2, |byte| *byte == b'.');
    let key = std::str::from_utf8(halves.next()?).ok()?;
    let (_, number) = key.split_once('-')?;
    u64::from_str_radix(number, 16).ok()
}

/// Returns `true` if `name` is one of our own files that is no entry.
pub(super) fn is_own_file(name: &OsStr) -> bool {
    [LOCK, NOTE, NEW_NOTE].iter().any(|own| name == *own)
}

/// A process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// Name of its program, if it could be read.
    pub program: Option<String>,
}

/// Looks up who holds the lock in the kernel's own list, which cannot be stale.
fn holder(lock: &File) -> Option<Holder> {
    let meta = lock.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = lock_owner(&locks, meta.dev(), meta.ino())?;
    let comm = PathBuf::from(format!("/proc/{pid}/comm"));
    Some(Holder {
        pid,
        program: program(&comm),
    })
}

fn program(comm: &Path) -> Option<String> {
    let bytes = std::fs::read(comm).ok()?;
    Some(bytes.trim_ascii_end().escape_ascii().to_string())
}

/// Finds the owner of an `flock` in the text of `/proc/locks`.
fn lock_owner(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    // 1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid) = (words.next()?, words.nth(2)?);
        (kind == "FLOCK" && words.next()? == file).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_directory_is_known_by_its_name() {
        for (name, want) in [
            (".modsec-parser", true),
            (".modsec-parser.0123456789abcdef", true),
            (".modsec-parser.4242", false),
            (".modsec-parser.aside-0123456789abcdef", false),
            (".modsec-parsers", false),
            ("a/.modsec-parser", false),
        ] {
            assert_eq!(is_private(Path::new(name)), want, "{name}");
        }
    }

    #[test]
    fn the_private_directory_appears_by_a_rename_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let root = Dir::root(File::open(dir.path()).unwrap(), dir.path().into()).unwrap();
        for _ in 0..2 {
            Private::lock(&root).unwrap();
            let names: Vec<_> = std::fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names, [PRIVATE]);
        }
    }

    #[test]
    fn private_names_give_the_original_name_back() {
        let name = OsStr::new("20260822-101500-a.b-c");
        let private = private_name(0xabc, 7, name);
        assert_eq!(private, "abc-7.20260822-101500-a.b-c");
        assert_eq!(original_name(&private), Some(name));
        assert_eq!(number(&private), Some(7));
        let long = OsString::from("20260822-101500-".to_owned() + &"x".repeat(239));
        assert_eq!(private_name(u64::MAX, u64::MAX, &long).len(), NAME_MAX);
    }

    #[test]
    fn the_owner_of_a_lock_is_found_in_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 08:01:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4243 08:01:131 0 EOF\n";
        let device = rustix::fs::makedev(8, 1);
        assert_eq!(lock_owner(locks, device, 131), Some(4242));
        assert_eq!(lock_owner(locks, device, 132), None);
    }
}

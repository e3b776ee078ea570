//! The private directory `.modsec-parser` in the storage directory, which only this account may
//! enter.
//!
//! A name in a site user's directory can lead to another file from one system call to the next. So
//! nothing is deleted there: a file is moved into the private directory first, where no other user
//! can touch it, looked at again, and only then deleted. `--follow` moves every finished file here
//! at once, because the engine overwrites a file when a name comes again.
//!
//! ```text
//! .modsec-parser/                    0700, owned by the account that runs the program
//!     8f3a-0.20260822-101500-ZxA     INODE-NUMBER.NAME, a claimed entry; both numbers in base 16
//! ```
//!
//! The directory is there while a program works on the tree, and as long as entries are in it. One
//! program at a time claims and removes: it holds an flock(2) on the directory itself, and one in
//! its state directory, where what it has to remember is too ([`state_dir`]). So whoever takes the
//! tree over, also a script that knows nothing of this, finds entries and nothing else.
//!
//! Two more files may be found here, of earlier builds or because there is no state directory:
//! `lock`, if the file system cannot lock a directory, and `.index`, the state file.
//!
//! INODE is that of the file; NUMBER counts the files taken in by this process, from 0. What stands
//! behind the first dot is the name that the file had, whatever dots are in that
//! ([`original_name`]).
//!
//! What a crash leaves here is an entry like all others, and the first thing that the next walk
//! yields. The file keeps its owner, so it is known to which site it belongs.
//!
//! `modsec-parser`, `watch-dir` and `recidive` work on the same tree. `watch-dir` leaves this
//! directory alone; `recidive` reads claimed files and never writes here.

mod make;
mod state_dir;

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, RenameFlags, linkat, renameat, renameat_with, unlinkat};
use rustix::io::Errno;
use tracing::warn;

use self::make::Made;
use self::state_dir::StateDir;
use super::dir::Dir;
use super::{StorageDirError, state_file};
use crate::error_chain::error_chain;
use crate::lock_holder::{Holder, holder};
use crate::names::NAME_MAX;
use crate::spool::{self, is_unsupported};

/// Name of the private directory in the storage directory. Starts with a dot, so it is neither a
/// user's directory nor a day ([`crate::names::Place`]).
pub(crate) const PRIVATE: &str = ".modsec-parser";
/// Name of the lock file in it, where the directory cannot be locked: empty, mode 0600.
pub(super) const LOCK: &str = "lock";
/// Name of the state file in it, see the module `state_file`. Starts with a dot, so it is no
/// claimed entry, and `recidive` passes it over.
pub(super) const STATE_FILE: &str = ".index";
/// Name of the state file while it is being written.
pub(super) const NEW_STATE_FILE: &str = ".index.new";

/// The private directory, opened and locked: the only place from which files are deleted.
#[derive(Debug)]
pub(super) struct Private {
    /// The directory itself, by descriptor: it stays usable if a site user moves it away.
    pub(super) dir: Arc<Dir>,
    /// Number of the next file that is taken in.
    next: AtomicU64,
    /// Names in the private directory that [`EntryFile::remove`](super::EntryFile) works on at this
    /// moment. A listing must not yield them, or the entry would be read a second time.
    removing: Mutex<HashSet<OsString>>,
    /// New paths of what stood in the place of the directory.
    aside: Vec<PathBuf>,
    /// Where the state file is, if not here.
    state: Option<StateDir>,
    /// Holds the flock(2) for as long as this value lives.
    _lock: OwnedFd,
}

impl Private {
    /// Opens the private directory in `root` and locks it; makes it if it is missing, and moves
    /// what is not ours aside. See `make` for the order of the steps.
    ///
    /// A state directory that cannot be used is said, and done without.
    ///
    /// # Errors
    ///
    /// [`StorageDirError::Locked`] and the variants that begin with `Private`.
    pub(super) fn lock(
        root: &Arc<Dir>,
        state_dir: Option<&Path>,
    ) -> Result<Private, StorageDirError> {
        let state = match state_dir.map(|path| StateDir::open(path, root)).transpose() {
            Err(error @ StorageDirError::State { .. }) => {
                warn!(
                    error = error_chain(&error),
                    "lock and state file are kept in the tree"
                );
                None
            }
            state => state?,
        };
        let made = make::open(root, state.is_some());
        let Made { dir, lock, aside } = made.inspect_err(|_| {
            if let Some(state) = &state {
                state.leave();
            }
        })?;
        let private = Private {
            dir,
            next: AtomicU64::new(0),
            removing: Mutex::default(),
            aside,
            state,
            _lock: lock,
        };
        private.take_out_earlier_files();
        Ok(private)
    }

    /// Returns who holds the lock of the storage directory `root`: on the private directory, on the
    /// lock file in it, or on the one in the state directory.
    pub(super) fn holder(root: &Dir, state_dir: Option<&Path>) -> Option<Holder> {
        let of_state = state_dir.and_then(|path| StateDir::holder(path, root));
        of_state.or_else(|| {
            let dir = spool::open_dir(root.file(), Path::new(PRIVATE)).ok()?;
            let lock = || spool::open_file(&dir, OsStr::new(LOCK)).ok();
            holder(&dir).or_else(|| holder(lock()?))
        })
    }

    /// Moves the state file of an earlier build to the state directory, and removes its lock file.
    fn take_out_earlier_files(&self) {
        let Some(state) = &self.state else {
            return;
        };
        let dir = self.dir.file();
        let earlier = state_file::read(dir, STATE_FILE).ok().flatten();
        let known = state.read_note().ok().flatten();
        let moved = match (earlier, known) {
            (Some(earlier), None) => state.write_note(&earlier),
            _ => Ok(()),
        };
        let names = [LOCK, NEW_STATE_FILE, STATE_FILE];
        let names = names.iter().take(if moved.is_ok() { 3 } else { 2 });
        for name in names {
            let _ = unlinkat(dir, *name, AtFlags::empty());
        }
    }

    /// Returns the contents of the state file; `None` if there is none.
    pub(super) fn read_note(&self) -> io::Result<Option<Vec<u8>>> {
        match &self.state {
            Some(state) => state.read_note(),
            None => state_file::read(self.dir.file(), STATE_FILE),
        }
    }

    /// Replaces the contents of the state file.
    pub(super) fn write_note(&self, bytes: &[u8]) -> io::Result<()> {
        match &self.state {
            Some(state) => state.write_note(bytes),
            None => state_file::write(self.dir.file(), STATE_FILE, bytes),
        }
    }

    /// Removes the private directory from `root` unless something is in it, and the lock files.
    /// Nothing can be claimed afterwards; what was is safe. The locks are held on.
    pub(super) fn leave(&self, root: &Dir) {
        let _ = unlinkat(self.dir.file(), LOCK, AtFlags::empty());
        if make::is_at(root, OsStr::new(PRIVATE), self.dir.file()) {
            let _ = unlinkat(root.file(), PRIVATE, AtFlags::REMOVEDIR);
        }
        if let Some(state) = &self.state {
            state.leave();
        }
    }

    /// Returns the paths to which foreign things that had the name of the directory were moved.
    pub(super) fn aside(&self) -> &[PathBuf] {
        &self.aside
    }

    /// Moves `name` from the directory `from` into this one, under a name made of `inode`, the next
    /// number and `name`.
    ///
    /// The file that arrives may be another than the one the caller has looked at: compare it
    /// before anything is done with it. Until the result is dropped, [`Private::is_removing`] is
    /// `true` for the new name. Never replaces a file: a name left by an earlier run is skipped.
    ///
    /// # Errors
    ///
    /// `ENOENT` if `name` is gone, `EXDEV` if the kernel sees two file systems, or what else
    /// renameat2(2) said. The file is then where it was.
    pub(super) fn take(&self, from: &Dir, name: &OsStr, inode: u64) -> Result<MovedIn<'_>, Errno> {
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let private = private_name(inode, number, name);
            self.removing().insert(private.clone());
            let taken = MovedIn {
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

    /// Returns `true` if a removal works on `name`. Ask after the name was listed, not before: a
    /// removal that begins between the two would be missed.
    pub(super) fn is_removing(&self, name: &OsStr) -> bool {
        self.removing().contains(name)
    }

    /// Locks the set of names; it is whole even if a thread died holding the lock.
    fn removing(&self) -> MutexGuard<'_, HashSet<OsString>> {
        // A set of names is whole even if a thread died holding it.
        self.removing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `true` if `path`, below the storage directory, is the private directory or one that is
/// about to be renamed to it (`.modsec-parser.` and 16 hexadecimal digits). Other programs of this
/// project leave both alone without a warning.
pub(crate) fn is_private(path: impl AsRef<Path>) -> bool {
    let path = path.as_ref();
    let is_digits = |text: &str| text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
    path.to_str().is_some_and(|name| {
        name == PRIVATE || name.strip_prefix(make::FRESH).is_some_and(is_digits)
    })
}

/// A file that was moved into the private directory and is hidden from listings.
///
/// When this is dropped, listings show the file again if it still exists, so that an entry whose
/// removal failed is read in the next pass.
#[derive(Debug)]
pub(super) struct MovedIn<'a> {
    /// The private directory, which hides the file from listings until this is dropped.
    private: &'a Private,
    /// Name of the file in the private directory.
    name: OsString,
}

impl MovedIn<'_> {
    /// Returns the name in the private directory.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Deletes the file (unlinkat(2)).
    pub(super) fn delete(self) -> Result<(), Errno> {
        unlinkat(self.private.dir.file(), &self.name, AtFlags::empty())
    }

    /// Moves the file back to `name` in the directory `to`.
    ///
    /// If that name was taken again meanwhile, or the move fails, the file stays in the private
    /// directory, where the next walk finds it as a claimed entry. It is never lost and never
    /// replaces another. Where renameat2(2) knows no `RENAME_NOREPLACE`, a link is made and the old
    /// name removed; a crash between the two leaves two names, and the file is then refused as a
    /// hard link.
    pub(super) fn put_back(self, to: &Dir, name: &OsStr) {
        let from = self.private.dir.file();
        let moved = renameat_with(from, &self.name, to.file(), name, RenameFlags::NOREPLACE);
        if is_unsupported(moved)
            && linkat(from, &self.name, to.file(), name, AtFlags::empty()).is_ok()
        {
            // On failure it has two names and is refused as a hard link, but it is not lost.
            let _ = unlinkat(from, &self.name, AtFlags::empty());
        }
    }
}

impl Drop for MovedIn<'_> {
    fn drop(&mut self) {
        self.private.removing().remove(&self.name);
    }
}

/// Renames `name` in `from` to `new` in `to`, without replacing a file or a directory that holds
/// something: `EEXIST` instead.
///
/// With `RENAME_NOREPLACE` in one step. Kernels before 3.15 and some file systems do not know that
/// flag: there `new` is looked for first.
fn rename_in(from: &Dir, name: &OsStr, to: &Dir, new: &OsStr) -> Result<(), Errno> {
    let moved = renameat_with(from.file(), name, to.file(), new, RenameFlags::NOREPLACE);
    if !is_unsupported(moved) {
        return moved;
    }
    // No other user can make a name in the private directory between these two calls, and nothing
    // but an empty directory can be replaced in the root by a directory.
    match to.peek(new) {
        Ok(_) => Err(Errno::EXIST),
        Err(_) => renameat(from.file(), name, to.file(), new),
    }
}

/// Builds the name under which a file is kept in the private directory.
///
/// With inode 0x8f3a and number 0, `20260822-101500-ZxA` becomes `8f3a-0.20260822-101500-ZxA`. A
/// result of more than 255 bytes is cut at its end, which only shortens a transaction id of more
/// than 200 bytes.
fn private_name(inode: u64, number: u64, name: &OsStr) -> OsString {
    let mut bytes = format!("{inode:x}-{number:x}.").into_bytes();
    bytes.extend_from_slice(name.as_bytes());
    // Only a transaction id of absurd length is cut.
    bytes.truncate(NAME_MAX);
    OsString::from_vec(bytes)
}

/// Returns the name that a file had before it was moved in: what stands behind the first dot.
/// `None` if there is none.
pub(super) fn original_name(private: &OsStr) -> Option<&OsStr> {
    let bytes = private.as_bytes();
    let dot = bytes.iter().position(|byte| *byte == b'.')?;
    Some(OsStr::from_bytes(&bytes[dot + 1..]))
}

/// Returns the inode number that is part of a name in the private directory; a rename does not
/// change the inode, so `recidive` recognises a claimed file that it has read before.
pub(crate) fn inode(private: &OsStr) -> Option<u64> {
    let mut key = private.as_bytes().split(|byte| *byte == b'-');
    u64::from_str_radix(std::str::from_utf8(key.next()?).ok()?, 16).ok()
}

/// Returns the number under which a file was taken in; `None` for a name of another form.
pub(super) fn number(private: &OsStr) -> Option<u64> {
    let mut halves = private.as_bytes().splitn(2, |byte| *byte == b'.');
    let key = std::str::from_utf8(halves.next()?).ok()?;
    let (_, number) = key.split_once('-')?;
    u64::from_str_radix(number, 16).ok()
}

/// Returns `true` if `name` in the private directory is a file of the program and no entry.
pub(super) fn is_own_file(name: &OsStr) -> bool {
    [LOCK, STATE_FILE, NEW_STATE_FILE]
        .iter()
        .any(|own| name == *own)
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
        let root = Dir::root(std::fs::File::open(dir.path()).unwrap(), dir.path().into()).unwrap();
        for _ in 0..2 {
            let private = Private::lock(&root, None).unwrap();
            let names = || -> Vec<_> {
                let names = std::fs::read_dir(dir.path()).unwrap();
                names.map(|entry| entry.unwrap().file_name()).collect()
            };
            assert_eq!(names(), [PRIVATE]);
            private.leave(&root);
            assert!(names().is_empty(), "{:?}", names());
        }
    }

    #[test]
    fn own_files_are_known_by_their_path_also_a_half_written_state_file() {
        for (path, want) in [
            (".modsec-parser/lock", true),
            ("audit/.modsec-parser/.index", true),
            ("audit/.modsec-parser/.index.new", true),
            ("audit/.modsec-parser/1-0.20260822-101500-a", false),
            ("audit/lock", false),
            ("lock", false),
        ] {
            assert_eq!(
                crate::storage_dir::is_own_file(Path::new(path)),
                want,
                "{path}"
            );
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
}

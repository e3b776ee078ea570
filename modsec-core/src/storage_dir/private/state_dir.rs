//! What a program keeps of a storage directory outside of it, in its own state directory.
//!
//! ```text
//! STATE_DIR/tree-8-1-1234.lock                     flock(2); major and minor number of the device, inode
//! STATE_DIR/var-log-apache2-modsec_audit.index     state file, named by the path
//! ```
//!
//! So nothing but claimed entries is ever in the storage directory, and the lock works on file
//! systems that cannot lock a directory. Programs with other state directories do not see it; for
//! them there is the lock on the private directory itself.
//!
//! Numbers of devices can change when a machine starts again, so the state file goes by the path.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FlockOperation, Mode, OFlags, flock, fstat, major, minor, openat, unlinkat,
};
use rustix::io::Errno;

use super::state_file;
use crate::lock_holder::{Holder, holder};
use crate::named_file;
use crate::spool::{self, FileId};
use crate::state_dir::{STATE_DIR_MODE, state_file_name};
use crate::storage_dir::StorageDirError;
use crate::storage_dir::dir::Dir;

/// The state directory, and what of it belongs to one storage directory. Locked.
#[derive(Debug)]
pub(super) struct StateDir {
    /// The directory itself.
    dir: File,
    /// Name of the lock file in it.
    lock_name: String,
    /// Name of the file with the state of the index.
    note: String,
    /// Holds the flock(2) for as long as this value lives.
    _lock: File,
}

impl StateDir {
    /// Opens `path`, makes it if it is missing, and takes the lock of the storage directory `root`.
    ///
    /// # Errors
    ///
    /// [`StorageDirError::Locked`] if another process holds the lock, or [`StorageDirError::State`].
    pub(super) fn open(path: &Path, root: &Dir) -> Result<StateDir, StorageDirError> {
        let failed = |source| StorageDirError::State {
            path: path.to_owned(),
            source,
        };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(STATE_DIR_MODE);
        builder.create(path).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let lock_name = lock_name(root).map_err(failed)?;
        let lock = lock(&dir, &lock_name, root)?.map_err(failed)?;
        Ok(StateDir {
            dir: File::from(dir),
            lock_name,
            note: note_name(&root.path()),
            _lock: lock,
        })
    }

    /// Returns who holds the lock of the storage directory `root` in the state directory `path`.
    pub(super) fn holder(path: &Path, root: &Dir) -> Option<Holder> {
        let lock = path.join(lock_name(root).ok()?);
        holder(named_file::open_to_read(&lock).ok()?)
    }

    /// Returns the contents of the state file.
    pub(super) fn read_note(&self) -> io::Result<Option<Vec<u8>>> {
        state_file::read(&self.dir, &self.note)
    }

    /// Replaces the contents of the state file.
    pub(super) fn write_note(&self, bytes: &[u8]) -> io::Result<()> {
        state_file::write(&self.dir, &self.note, bytes)
    }

    /// Removes the lock file, which stays locked.
    pub(super) fn leave(&self) {
        let _ = unlinkat(&self.dir, &self.lock_name, AtFlags::empty());
    }
}

/// Names the lock file of the storage directory `root`.
fn lock_name(root: &Dir) -> io::Result<String> {
    let tree = root.file().metadata()?;
    let (major, minor) = (major(tree.dev()), minor(tree.dev()));
    Ok(format!("tree-{major}-{minor}-{}.lock", tree.ino()))
}

/// Names the state file of the storage directory at `path`.
fn note_name(path: &Path) -> String {
    let path: PathBuf = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    state_file_name(&path, ".index")
}

/// Opens the lock file `name` in `dir`, makes it if it is missing, and locks it.
fn lock(
    dir: impl rustix::fd::AsFd,
    name: &str,
    root: &Dir,
) -> Result<io::Result<File>, StorageDirError> {
    loop {
        let lock = match super::make::open_lock(&dir, name) {
            Ok(lock) => lock,
            Err(errno) => return Ok(Err(errno.into())),
        };
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::AGAIN) => {
                return Err(StorageDirError::Locked {
                    path: root.path(),
                    holder: holder(&lock),
                });
            }
            Err(errno) => return Ok(Err(errno.into())),
        }
        // Who has just ended has removed the file that was opened here a moment before.
        let (there, here) = (spool::look(&dir, name.as_ref()), fstat(&lock));
        if there.is_ok_and(|there| here.is_ok_and(|here| FileId::of(&there) == FileId::of(&here))) {
            return Ok(Ok(lock));
        }
    }
}

//! Walking, reading and clearing `SecAuditLogStorageDir`.
//!
//! ```text
//! storage directory / [USER /] YYYYMMDD / YYYYMMDD-HHMM / YYYYMMDD-HHMMSS-TXID
//! ```
//!
//! Both layouts are recognised, side by side: `ModSecurity` 2 puts the user in front since 2.9.3.
//! Anything else in the tree is left alone, counted and named ([`LeftAlone`]).
//!
//! # The tree is hostile
//!
//! Site users own directories in it and can put links, pipes, hard links and other people's
//! directories under any name at any moment. So nothing is done by path. Every directory is
//! opened in its parent without following links and held by its descriptor; it must be on the
//! file system of the storage directory. A file is opened without following links or waiting,
//! and must then be a plain file with a single name. It is deleted only if it is still the file
//! that was read, and not in the site user's directory but in a private one (`.modsec-parser` in
//! the root), where nobody can exchange it. A site user should not be able to write to the root
//! itself, or it should be sticky: he could move the private directory away, though not enter it.
//!
//! # One pass
//!
//! ```no_run
//! use modsec_core::storage_dir::{MAX_ENTRY_BYTES, StorageDir};
//!
//! let storage = StorageDir::open("/var/log/apache2/audit")?;
//! storage.lock()?;
//! let mut walk = storage.walk();
//! for dir in walk.by_ref() {
//!     for file in dir.files() {
//!         match file.open(MAX_ENTRY_BYTES) {
//!             Ok(entry) => entry.remove()?, // once it has been stored
//!             Err(refusal) => eprintln!("{refusal}"),
//!         }
//!     }
//! }
//! for (kind, count, examples) in walk.left_alone().kinds() {
//!     eprintln!("left alone: {count} of kind {kind}, such as {examples:?}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(crate) mod budgets;
mod dir;
mod entry;
pub(crate) mod holes;
pub(crate) mod look;
mod private;
mod prune;
pub(crate) mod renew;
mod state_file;
mod walk;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags};

use self::dir::Dir;
pub use self::entry::{EntryFile, Identity, MAX_ENTRY_BYTES, OpenEntry, ReadEntry};
pub(crate) use self::look::Look;
pub(crate) use self::private::PRIVATE;
use self::private::Private;
pub(crate) use self::private::inode;
pub(crate) use self::private::is_private;
pub use self::prune::{AccountNames, PruneRules, Pruned};
pub(crate) use self::walk::Name;
pub use self::walk::{EntryDir, EntryFiles, Walk};
pub use crate::lock_holder::Holder;
pub use crate::spool::{LeftAlone, Reason, Refusal};

/// Returns `true` if `path` is a file that the program itself keeps in the private directory (lock
/// file, state file): no entry, whatever an administrator passes on the command line.
pub(crate) fn is_own_file(path: &Path) -> bool {
    path.parent().is_some_and(|dir| dir.ends_with(PRIVATE))
        && path.file_name().is_some_and(private::is_own_file)
}

/// Why the storage directory as a whole cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageDirError {
    /// Nothing is at the path (`ENOENT`).
    #[error("storage directory {path:?} does not exist; compare with SecAuditLogStorageDir")]
    Missing {
        /// The path as given.
        path: PathBuf,
    },
    /// Something else than a directory is at the path, such as a file (`ENOTDIR`).
    #[error("{path:?} is not a directory; compare with SecAuditLogStorageDir")]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// This account may not read the directory, or enter one above it (`EACCES`).
    #[error("may not read storage directory {path:?}; run as root or with CAP_DAC_READ_SEARCH")]
    PermissionDenied {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process holds the lock: a parser that collects, or one that was started twice.
    #[error(
        "storage directory {path:?} is in use by {}; wait for it or stop it",
        in_use_by(.holder.as_ref())
    )]
    Locked {
        /// The storage directory.
        path: PathBuf,
        /// Who holds the lock, if the kernel tells.
        holder: Option<Holder>,
    },
    /// The private directory belongs to another user, and could not be moved aside.
    #[error("{path:?} belongs to user id {uid}, not to this program; look into it and remove it")]
    PrivateTaken {
        /// The private directory.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Something is mounted on the private directory, which therefore cannot be moved aside.
    #[error(
        "{path:?} is a mount point; unmount it, and see to it that site users cannot write to the \
         storage directory"
    )]
    PrivateMounted {
        /// The private directory.
        path: PathBuf,
    },
    /// Another user puts something else in the place of the private directory again and again.
    #[error(
        "{path:?} is replaced again and again by another user; make the storage directory sticky \
         (chmod +t), or take the right to write to it from site users"
    )]
    PrivateContested {
        /// The private directory.
        path: PathBuf,
    },
    /// The private directory cannot be made or opened, for another reason, such as a full or
    /// read-only file system.
    #[error("could not use {path:?}; this account must be able to write to the storage directory")]
    Private {
        /// The private directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The state directory cannot be made, opened or written.
    #[error("could not use the state directory {path:?}; make it writable for this account")]
    State {
        /// The state directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The storage directory cannot be opened, for another reason, such as an error of the disk.
    #[error("could not open storage directory {path:?}")]
    Open {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Names the holder of the lock for a message: program and process id, as far as known.
fn in_use_by(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder {
            pid,
            program: Some(program),
        }) => format!("{program} (process {pid})"),
        Some(Holder { pid, program: None }) => format!("process {pid}"),
        None => "another process".to_owned(),
    }
}

/// What all handles of one storage directory share.
#[derive(Debug)]
struct SharedTree {
    /// The storage directory itself.
    root: Arc<Dir>,
    /// The private directory, from [`StorageDir::lock`] on.
    private: OnceLock<Private>,
    /// Set by the first look.
    looker: OnceLock<look::Looker>,
}

impl SharedTree {
    /// Returns what looks at files of this tree; the file system is asked once.
    fn looker(&self) -> look::Looker {
        let root = &self.root;
        *self
            .looker
            .get_or_init(|| look::Looker::new(root.file(), root.device()))
    }

    /// Returns the private directory if this process has locked the tree.
    fn private(&self) -> Option<&Private> {
        self.private.get()
    }

    /// Removes the private directory unless claimed entries are in it; does nothing without the
    /// lock.
    fn leave(&self) {
        if let Some(private) = self.private() {
            private.leave(&self.root);
        }
    }
}

impl Drop for SharedTree {
    fn drop(&mut self) {
        self.leave();
    }
}

/// `SecAuditLogStorageDir`, held open by its descriptor.
///
/// It stays the same directory, whatever is at its path later ([`StorageDir::is_at`]). Handles
/// taken from it can go to other threads; each keeps open what it needs. Reading needs no lock;
/// claiming and removing do ([`StorageDir::lock`]).
#[derive(Debug)]
pub struct StorageDir {
    /// The directory and the lock, shared with walks, directories and entries.
    tree: Arc<SharedTree>,
}

impl StorageDir {
    /// Opens the storage directory. Changes nothing.
    ///
    /// `path` is the administrator's and may lead through links; below it none is followed.
    ///
    /// # Errors
    ///
    /// [`StorageDirError::Missing`], [`StorageDirError::NotADirectory`],
    /// [`StorageDirError::PermissionDenied`], or [`StorageDirError::Open`] with what else the
    /// kernel said.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StorageDirError> {
        let path = path.as_ref().to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty()).map_err(io::Error::from);
        match opened.and_then(|fd| Dir::root(File::from(fd), path.clone().into())) {
            Ok(root) => Ok(StorageDir {
                tree: Arc::new(SharedTree {
                    root,
                    private: OnceLock::new(),
                    looker: OnceLock::new(),
                }),
            }),
            Err(source) => Err(match source.kind() {
                io::ErrorKind::NotFound => StorageDirError::Missing { path },
                io::ErrorKind::NotADirectory => StorageDirError::NotADirectory { path },
                io::ErrorKind::PermissionDenied => {
                    StorageDirError::PermissionDenied { path, source }
                }
                _ => StorageDirError::Open { path, source },
            }),
        }
    }

    /// Makes this process the only one that claims, removes and ingests below this storage
    /// directory.
    ///
    /// Makes the private directory if need be. Whatever has its name and is not ours is moved
    /// aside, of any kind: see [`StorageDir::moved_aside`]. The lock is an flock(2) on that
    /// directory, which site users cannot open. It ends with the last handle of this storage
    /// directory, at the latest with the process, however that dies. Locking again does nothing.
    ///
    /// # Errors
    ///
    /// [`StorageDirError::Locked`] if another process has the lock; [`StorageDirError::Private`],
    /// [`StorageDirError::PrivateTaken`], [`StorageDirError::PrivateMounted`] or
    /// [`StorageDirError::PrivateContested`] if the private directory is not usable.
    pub fn lock(&self) -> Result<(), StorageDirError> {
        self.lock_private(None)
    }

    /// Locks as [`StorageDir::lock`] does, and also a file in `state_dir`, which is made if need
    /// be. The state of the index is kept there too, so that the private directory holds claimed
    /// entries and nothing else.
    ///
    /// If `state_dir` cannot be used, that is logged, and all is as with [`StorageDir::lock`].
    ///
    /// # Errors
    ///
    /// As for [`StorageDir::lock`].
    pub fn lock_with_state(&self, state_dir: &Path) -> Result<(), StorageDirError> {
        self.lock_private(Some(state_dir))
    }

    /// Takes the lock unless this process has it; that of `state_dir` too if there is one.
    ///
    /// # Errors
    ///
    /// As for [`StorageDir::lock`].
    fn lock_private(&self, state_dir: Option<&Path>) -> Result<(), StorageDirError> {
        if self.tree.private().is_none() {
            let private = Private::lock(&self.tree.root, state_dir)?;
            // Two threads cannot both get here: the kernel grants the lock to one of them.
            let _ = self.tree.private.set(private);
        }
        Ok(())
    }

    /// Finds out whether another process holds the lock, without taking it or making anything.
    ///
    /// `state_dir` is the one of [`StorageDir::lock_with_state`].
    ///
    /// # Errors
    ///
    /// [`StorageDirError::Locked`]. A process in another PID namespace is not seen.
    pub fn check_lock(&self, state_dir: Option<&Path>) -> Result<(), StorageDirError> {
        match Private::holder(&self.tree.root, state_dir) {
            None => Ok(()),
            holder => Err(StorageDirError::Locked {
                path: self.tree.root.path(),
                holder,
            }),
        }
    }

    /// Removes the private directory, unless claimed entries are in it, and the lock files. To be
    /// called when nothing more is to be claimed or removed; the last handle does it too. The lock
    /// is held as long as there are handles.
    pub fn leave(&self) {
        self.tree.leave();
    }

    /// Returns the new paths of what had the name of the private directory and was not ours when
    /// this process took the lock. A user who may write to the storage directory has put it there;
    /// the program never touches it again.
    pub fn moved_aside(&self) -> &[PathBuf] {
        self.tree.private().map_or(&[], Private::aside)
    }

    /// Starts a walk over all directories that may hold entries.
    ///
    /// Finish one walk, and remove or keep what it read, before the next: a walk knows nothing of
    /// files that are read but not yet removed.
    pub fn walk(&self) -> Walk {
        Walk::new(Arc::clone(&self.tree))
    }

    /// Returns the file at `relative`, a path below the storage directory as the watcher reports
    /// it, such as `site1/20260822/20260822-1015/20260822-101500-ZxA`.
    ///
    /// Opens its directories one by one, none of them by a link. The file itself is not looked at.
    ///
    /// # Errors
    ///
    /// [`Reason::Name`] if the path fits no layout, or why one of its directories cannot be opened.
    pub fn entry_at(&self, relative: &Path) -> Result<EntryFile, Refusal> {
        walk::entry_at(&self.tree, relative)
    }

    /// Returns the minute directory at `relative`, `[USER/]YYYYMMDD/YYYYMMDD-HHMM`. Opens its
    /// directories one by one, none of them by a link. It is never pruned.
    ///
    /// # Errors
    ///
    /// [`Reason::Name`] if it fits no template, or why one of the directories cannot be opened.
    pub fn entry_dir_at(&self, relative: &Path) -> Result<EntryDir, Refusal> {
        walk::entry_dir_at(&self.tree, relative)
    }

    /// Returns `true` if `path` leads to this storage directory, also by links; `false` if it leads
    /// to another directory, or nowhere. A service asks this to notice that the directory was
    /// replaced.
    pub fn is_at(&self, path: &Path) -> bool {
        let here = self.tree.root.file().metadata();
        let there = std::fs::metadata(path);
        matches!((here, there), (Ok(here), Ok(there))
            if (here.dev(), here.ino()) == (there.dev(), there.ino()))
    }

    /// Returns the contents of the state file; `None` if there is none, or without the lock.
    ///
    /// # Errors
    ///
    /// What the kernel said.
    pub(crate) fn read_note(&self) -> io::Result<Option<Vec<u8>>> {
        self.tree.private().map_or(Ok(None), Private::read_note)
    }

    /// Replaces the contents of the state file: at any moment, also after a loss of power, it holds
    /// the old bytes or the new. Does nothing without the lock.
    ///
    /// # Errors
    ///
    /// What the kernel said; the old contents are then still there.
    pub(crate) fn write_note(&self, bytes: &[u8]) -> io::Result<()> {
        self.tree
            .private()
            .map_or(Ok(()), |private| private.write_note(bytes))
    }

    /// Returns the private directory, to list the files that were claimed; `None` without the lock.
    pub fn claimed(&self) -> Option<EntryDir> {
        walk::claimed(&self.tree)
    }

    /// Removes the empty directories of all trees that `rules` allow to remove.
    ///
    /// By one rmdir(2) each and never recursively. Never removes the newest minute and day of a
    /// tree, the private directory, or one that changed within [`PruneRules::min_age`]: directories
    /// whose files were just removed are left to [`EntryDir::prune`] or to the next call.
    pub fn prune(&self, rules: &PruneRules) -> Pruned {
        prune::prune(&self.tree.root, rules)
    }

    /// Returns how many directories are held open through handles of this storage directory.
    ///
    /// Every [`EntryDir`], [`EntryFile`], [`OpenEntry`] and [`ReadEntry`] holds its directory.
    /// A batch should end when this passes a few hundred: the usual limit is 1024 descriptors.
    pub fn open_directories(&self) -> usize {
        self.tree.root.open_directories()
    }
}

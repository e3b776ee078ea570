//! A directory held open by its descriptor, and what is done relative to it.
//!
//! Paths below the storage directory are never opened a second time: between two system calls a
//! site user can put another directory, or a link, under any name. So each directory is opened in
//! its parent ([`spool::enter`]), and everything in it is reached by `openat`-like calls on the
//! descriptor. The path is kept for messages only.
//!
//! ```text
//! Dir "/var/log/audit" ◄─ Dir "site1" ◄─ Dir "20260822" ◄─ Dir "20260822-1015"    (parents)
//! ```
//!
//! A child keeps its parent open, so one handle of a minute costs up to four descriptors, which all
//! handles of the same directory share.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::spool::{self, Listing, Reason, Refusal};

/// A directory below (or at) the storage directory, known by its descriptor and not by its path.
#[derive(Debug)]
pub(super) struct Dir {
    /// The descriptor.
    file: File,
    /// For the root the whole path, else the name in `parent` when it was opened.
    name: OsString,
    /// The directory that it was opened in; `None` for the storage directory.
    parent: Option<Arc<Dir>>,
    /// `st_dev` of the storage directory; nothing on another device is opened.
    device: u64,
    /// Last change of the directory's contents when it was opened, so that our own deletions in it
    /// do not make it look busy.
    pub(super) modified: DateTime<Utc>,
    /// Shared by all directories of one tree; the number of references is the number of
    /// descriptors.
    token: Arc<()>,
}

impl Dir {
    /// Makes the storage directory of a descriptor, opened at `path`.
    ///
    /// # Errors
    ///
    /// What fstat(2) said.
    pub(super) fn root(file: File, path: OsString) -> io::Result<Arc<Dir>> {
        let meta = file.metadata()?;
        Ok(Arc::new(Dir {
            device: meta.dev(),
            modified: modified(&meta),
            file,
            name: path,
            parent: None,
            token: Arc::new(()),
        }))
    }

    /// Opens the directory `name` in `self`. Follows no link, and enters no other file system.
    ///
    /// # Errors
    ///
    /// What is there instead, with its path; [`Reason::Vanished`] if nothing is.
    pub(super) fn open(self: &Arc<Self>, name: &OsStr) -> Result<Arc<Dir>, Refusal> {
        match spool::enter(&self.file, Path::new(name), self.device) {
            Ok((handle, stat)) => Ok(self.child(name, handle, &stat)),
            Err(reason) => Err(self.refusal(name, reason)),
        }
    }

    /// Makes a directory of `handle`, which was opened as `name` in `self` and has the attributes
    /// `stat`.
    pub(super) fn child(self: &Arc<Self>, name: &OsStr, handle: OwnedFd, stat: &Stat) -> Arc<Dir> {
        Arc::new(Dir {
            file: handle.into(),
            name: name.to_owned(),
            parent: Some(Arc::clone(self)),
            device: self.device,
            modified: clamp(
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            ),
            token: Arc::clone(&self.token),
        })
    }

    /// Opens the file `name` to read, and returns its attributes.
    ///
    /// Never waits: a named pipe opens at once, and is then refused like everything that is no
    /// plain file with one link.
    ///
    /// # Errors
    ///
    /// What is there instead, or what openat2(2) said.
    pub(super) fn open_file(&self, name: &OsStr) -> Result<(File, Metadata), Reason> {
        let file = match spool::open_file(&self.file, name) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Err(Reason::Symlink),
            // A socket cannot be opened.
            Err(Errno::NXIO) => return Err(Reason::of(kind(&self.peek(name)?))),
            Err(error) => return Err(error.into()),
        };
        let meta = file.metadata()?;
        self.check_file(&meta)?;
        Ok((file, meta))
    }

    /// Checks that `meta` is of a plain file that has one name, in this file system.
    ///
    /// A second link could be outside of the tree: a site user can link any own file into it, and
    /// reading or removing that is not our business.
    ///
    /// # Errors
    ///
    /// What it is instead; [`Reason::Vanished`] without a name.
    pub(super) fn check_file(&self, meta: &Metadata) -> Result<(), Reason> {
        match meta {
            meta if !meta.is_file() => Err(Reason::of(kind(meta))),
            meta if meta.dev() != self.device => Err(Reason::OtherFileSystem),
            meta if meta.nlink() > 1 => Err(Reason::HardLink {
                links: meta.nlink(),
            }),
            meta if meta.nlink() == 0 => Err(Reason::Vanished),
            _ => Ok(()),
        }
    }

    /// Returns the attributes of `name`, without opening it for reading or following it.
    ///
    /// # Errors
    ///
    /// What the kernel said, `EXDEV` if a file system is mounted on the name.
    pub(super) fn peek(&self, name: &OsStr) -> io::Result<Metadata> {
        File::from(spool::hold(self.file.as_fd(), name)?).metadata()
    }

    /// Starts reading the directory from its beginning, independently of other readers.
    ///
    /// # Errors
    ///
    /// What opening it once more said.
    pub(super) fn list(&self) -> io::Result<Listing> {
        Ok(Listing::of(&self.file)?)
    }

    /// Returns `st_dev` of the storage directory.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// Returns the descriptor.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the user id of the directory's owner; `None` if fstat(2) failed.
    pub(super) fn owner(&self) -> Option<u32> {
        self.file.metadata().ok().map(|meta| meta.uid())
    }

    /// Returns the name under which it was opened; for the storage directory the whole path.
    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Returns the directory that it was opened in; `None` for the storage directory.
    pub(super) fn parent(&self) -> Option<&Arc<Dir>> {
        self.parent.as_ref()
    }

    /// Returns how many directories of this tree are held open, the storage directory included.
    pub(super) fn open_directories(&self) -> usize {
        Arc::strong_count(&self.token)
    }

    /// Returns the path by which the directory was reached. For messages only: another directory
    /// may be there by now.
    pub(super) fn path(&self) -> PathBuf {
        match &self.parent {
            Some(parent) => parent.path().join(&self.name),
            None => PathBuf::from(&self.name),
        }
    }

    /// Makes a refusal of `name` in this directory.
    pub(super) fn refusal(&self, name: &OsStr, reason: impl Into<Reason>) -> Refusal {
        Refusal {
            path: self.path().join(name),
            reason: reason.into(),
        }
    }

    /// Makes a refusal of the directory itself.
    pub(super) fn own_refusal(&self, reason: impl Into<Reason>) -> Refusal {
        Refusal {
            path: self.path(),
            reason: reason.into(),
        }
    }
}

/// Returns the type of the file with these attributes.
fn kind(meta: &Metadata) -> FileType {
    FileType::from_raw_mode(meta.mode())
}

/// Returns the time of the last change of contents (`st_mtime`). Its owner can set it to anything.
pub(super) fn modified(meta: &Metadata) -> DateTime<Utc> {
    clamp(meta.mtime(), meta.mtime_nsec())
}

/// Returns the time of the last change of contents, name, mode or owner (`st_ctime`). Only the
/// kernel sets it.
pub(super) fn changed(meta: &Metadata) -> DateTime<Utc> {
    clamp(meta.ctime(), meta.ctime_nsec())
}

/// Returns an instant from seconds since 1970 and nanoseconds; the first or last one that
/// [`DateTime`] can hold, if it is beyond.
pub(super) fn clamp(seconds: i64, nanos: i64) -> DateTime<Utc> {
    let nanos = u32::try_from(nanos).unwrap_or_default();
    DateTime::from_timestamp(seconds, nanos).unwrap_or(if seconds < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}

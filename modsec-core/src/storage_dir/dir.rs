//! A directory held open, and what is done relative to it.

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

/// A directory below (or at) the root, known by its descriptor and not by its path.
#[derive(Debug)]
pub(super) struct Dir {
    file: File,
    /// For the root the whole path, else the name in `parent` when it was opened.
    name: OsString,
    parent: Option<Arc<Dir>>,
    device: u64,
    /// Last change of the directory's contents when it was opened.
    pub(super) modified: DateTime<Utc>,
    /// One more reference per open directory; the number of them is the number of descriptors.
    token: Arc<()>,
}

impl Dir {
    /// Makes the root of a file that was opened as a directory.
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

    /// Opens the directory `name` in `self`; follows no link and leaves no file system.
    pub(super) fn open(self: &Arc<Self>, name: &OsStr) -> Result<Arc<Dir>, Refusal> {
        match spool::enter(&self.file, Path::new(name), self.device) {
            Ok((handle, stat)) => Ok(self.child(name, handle, &stat)),
            Err(reason) => Err(self.refusal(name, reason)),
        }
    }

    /// Makes a directory of `handle`, which was opened as `name` in `self` and is `stat`.
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

    /// Opens the file `name` to read. Waits for nobody: a FIFO opens at once and is then refused.
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

    /// Checks that `meta` is of a plain file that can be nowhere else than in this file system.
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

    /// Returns what `name` is, without opening it for reading or following it.
    pub(super) fn peek(&self, name: &OsStr) -> io::Result<Metadata> {
        File::from(spool::hold(self.file.as_fd(), name)?).metadata()
    }

    /// Starts reading the directory from its beginning, independently of other readers.
    pub(super) fn list(&self) -> io::Result<Listing> {
        Ok(Listing::of(&self.file)?)
    }

    pub(super) fn device(&self) -> u64 {
        self.device
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Returns the user id of the directory's owner.
    pub(super) fn owner(&self) -> Option<u32> {
        self.file.metadata().ok().map(|meta| meta.uid())
    }

    pub(super) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(super) fn parent(&self) -> Option<&Arc<Dir>> {
        self.parent.as_ref()
    }

    /// Number of directories of this tree that are held open, the root included.
    pub(super) fn open_directories(&self) -> usize {
        Arc::strong_count(&self.token)
    }

    /// The path by which the directory was reached, for messages.
    pub(super) fn path(&self) -> PathBuf {
        match &self.parent {
            Some(parent) => parent.path().join(&self.name),
            None => PathBuf::from(&self.name),
        }
    }

    pub(super) fn refusal(&self, name: &OsStr, reason: impl Into<Reason>) -> Refusal {
        Refusal {
            path: self.path().join(name),
            reason: reason.into(),
        }
    }

    /// Turns an error about the directory itself into a refusal.
    pub(super) fn own_refusal(&self, reason: impl Into<Reason>) -> Refusal {
        Refusal {
            path: self.path(),
            reason: reason.into(),
        }
    }
}

fn kind(meta: &Metadata) -> FileType {
    FileType::from_raw_mode(meta.mode())
}

/// Returns the time of the last change of contents. Users can set it to anything.
pub(super) fn modified(meta: &Metadata) -> DateTime<Utc> {
    clamp(meta.mtime(), meta.mtime_nsec())
}

/// Returns the time of the last change of contents, name or mode. Only the kernel sets it.
pub(super) fn changed(meta: &Metadata) -> DateTime<Utc> {
    clamp(meta.ctime(), meta.ctime_nsec())
}

pub(super) fn clamp(seconds: i64, nanos: i64) -> DateTime<Utc> {
    let nanos = u32::try_from(nanos).unwrap_or_default();
    DateTime::from_timestamp(seconds, nanos).unwrap_or(if seconds < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}

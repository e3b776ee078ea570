//! One entry's file: found, opened, read, removed; or claimed first.
//!
//! ```text
//! EntryFile ──open──► OpenEntry ──close──► ReadEntry ──remove──► gone
//!     │                (descriptor)         (identity)
//!     └──claim──► EntryFile in the private directory, of which the same holds
//! ```
//!
//! # Removing exactly what was read
//!
//! A site user can rename another file over the name at any moment, and the engine can write a new
//! record to it. What must never happen is that a file goes away that was not read. So the steps
//! are:
//!
//! 1. The name must lead to the identity that was read: device, inode, size and both times.
//! 2. The file is renamed into the private directory, where no other user can exchange it.
//! 3. It is compared again, all but `st_ctime`, which the rename itself sets, and must have one
//!    link.
//! 4. If it is the same, it is deleted; if not, it is moved back, and the error is
//!    [`Reason::Changed`].
//!
//! A crash after step 2 leaves the file in the private directory, and the next walk reads it again.
//! An engine that has the file open and appends after step 3 loses these bytes: remove only entries
//! that are complete, or have not changed for a long time.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::SharedTree;
use super::dir::{self, Dir};
use super::holes;
use super::private::{self, Private};
use crate::crash_points;
use crate::names::EntryName;
use crate::spool::{Reason, Refusal};

/// Default limit on the size of one entry, in bytes: 2 GiB, twice the largest
/// `SecRequestBodyLimit`.
pub const MAX_ENTRY_BYTES: u64 = 2 << 30;

/// A file whose name is that of an entry. Nothing is known about what it is until it is opened.
///
/// Holds its directory open, see [`super::StorageDir::open_directories`].
#[derive(Debug, Clone)]
pub struct EntryFile {
    /// The tree that it is in, for the lock and the private directory.
    pub(super) tree: Arc<SharedTree>,
    /// Its directory: that of a minute, or the private one.
    pub(super) dir: Arc<Dir>,
    /// Its name there.
    pub(super) name: OsString,
    /// Whether `dir` is the private directory, and so `name` one of its names.
    pub(super) claimed: bool,
}

impl EntryFile {
    /// Returns what the name says: time and transaction id, also for a claimed file. A claim of
    /// whoever made the file, not a fact.
    pub fn name(&self) -> Option<EntryName<'_>> {
        let name = if self.claimed {
            private::original_name(&self.name)?
        } else {
            OsStr::new(&self.name)
        };
        EntryName::parse(name.as_bytes())
    }

    /// Returns where the file was found, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    /// Returns `true` if the file is in the private directory: claimed, or left there by a crash.
    pub fn is_claimed(&self) -> bool {
        self.claimed
    }

    /// Returns the number under which the file was claimed; `None` for one that was not.
    ///
    /// Counts from 0 in each process, so of two files claimed through the same
    /// [`super::StorageDir`] the later one has the greater number. Files left by an earlier run
    /// keep the number of that run.
    pub fn claim_number(&self) -> Option<u64> {
        private::number(&self.name).filter(|_| self.claimed)
    }

    /// Opens the file for reading if it is a plain file with one link, of at most `limit` bytes
    /// (usually [`MAX_ENTRY_BYTES`]), with at most 1 MiB of holes, on the file system of the
    /// storage directory.
    ///
    /// Follows no link and never waits: not for the writer of a named pipe, and not for the server
    /// of a file system that a site user has mounted on the name.
    ///
    /// # Errors
    ///
    /// What the file is instead; it stays as it is. [`Reason::Vanished`] is normal where another
    /// program works on the tree.
    pub fn open(self, limit: u64) -> Result<OpenEntry, Refusal> {
        match self.dir.open_file(&self.name) {
            Ok((_, meta)) if meta.len() > limit => Err(self.refusal(Reason::TooBig {
                size: meta.len(),
                limit,
            })),
            Ok((file, meta)) => match holes::too_many(&file, meta.len()) {
                Some(holes) => Err(self.refusal(Reason::Sparse { holes })),
                None => Ok(OpenEntry {
                    entry: self,
                    file,
                    meta,
                }),
            },
            Err(reason) => Err(self.refusal(reason)),
        }
    }

    /// Moves the file into the private directory, so that a later record of the same name does not
    /// overwrite it.
    ///
    /// Under MPM-ITK connections that one idle child takes within a second share the transaction
    /// id, and with it the file name. Claim only a file that its writer has closed, and not an
    /// empty one: libmodsecurity 3 closes the file once before it writes the entry. A claimed file
    /// is returned as it is. Needs the lock ([`super::StorageDir::lock`]).
    ///
    /// # Errors
    ///
    /// As for [`EntryFile::open`], and [`Reason::NotLocked`]. The file is then still where it was;
    /// only if its name was taken again meanwhile, it stays in the private directory, where the
    /// next walk finds it.
    pub fn claim(self) -> Result<EntryFile, Refusal> {
        if self.claimed {
            return Ok(self);
        }
        match self.try_claim() {
            Ok(name) => Ok(EntryFile {
                dir: Arc::clone(&self.private()?.dir),
                tree: self.tree,
                name,
                claimed: true,
            }),
            Err(reason) => Err(self.refusal(reason)),
        }
    }

    /// Moves the file, then checks what has arrived: between the first look and the rename a site
    /// user can put a link or a hard link in its place, which is then moved back.
    fn try_claim(&self) -> Result<OsString, Reason> {
        let private = self.tree.private().ok_or(Reason::NotLocked)?;
        let meta = self.dir.peek(&self.name)?;
        self.dir.check_file(&meta)?;
        let taken = private.take(&self.dir, &self.name, meta.ino())?;
        crash_points::pass("claimed");
        let checked = private.dir.peek(taken.name()).map_err(Reason::from);
        match checked.and_then(|meta| private.dir.check_file(&meta)) {
            Ok(()) => Ok(taken.name().to_owned()),
            Err(reason) => {
                taken.put_back(&self.dir, &self.name);
                Err(reason)
            }
        }
    }

    /// Returns the private directory.
    ///
    /// # Errors
    ///
    /// [`Reason::NotLocked`] if this process has not locked the tree.
    fn private(&self) -> Result<&Private, Refusal> {
        let private = self.tree.private();
        private.ok_or_else(|| self.refusal(Reason::NotLocked))
    }

    /// Adds the path to `reason`.
    fn refusal(&self, reason: Reason) -> Refusal {
        self.dir.refusal(&self.name, reason)
    }

    /// Removes the file if it is the one whose identity was `read`; see the module for the steps.
    ///
    /// Where the kernel can make no rename between the two directories (`EXDEV`), the name is
    /// removed in place. That leaves microseconds in which the owner of the directory, and nobody
    /// else, could lose a file of his own that he puts there.
    fn remove(&self, read: &Identity) -> Result<(), Reason> {
        let private = self.tree.private().ok_or(Reason::NotLocked)?;
        if Identity::of(&self.dir.peek(&self.name)?) != *read {
            return Err(Reason::Changed);
        }
        if self.claimed {
            // Only we can enter this directory; the name still leads to what was looked at.
            return Ok(unlinkat(self.dir.file(), &self.name, AtFlags::empty())?);
        }
        let taken = match private.take(&self.dir, &self.name, read.inode) {
            Ok(taken) => taken,
            // The same file system mounted twice: no rename between the two. What is left is a
            // window of microseconds, in which only the directory's owner could lose a file.
            Err(Errno::XDEV) => {
                return Ok(unlinkat(self.dir.file(), &self.name, AtFlags::empty())?);
            }
            Err(error) => return Err(error.into()),
        };
        crash_points::pass("taken");
        match private.dir.peek(taken.name()) {
            Ok(meta) if read.is_same_but_renamed(&meta) => Ok(taken.delete()?),
            _ => {
                taken.put_back(&self.dir, &self.name);
                Err(Reason::Changed)
            }
        }
    }
}

/// An entry's file, open for reading and known to be a plain file with one link.
///
/// Holds one descriptor, and that of its directory.
#[derive(Debug)]
pub struct OpenEntry {
    /// Its directory and name.
    entry: EntryFile,
    /// The descriptor, opened without following a link or waiting.
    file: File,
    /// What fstat(2) said when it was opened.
    meta: Metadata,
}

impl OpenEntry {
    /// Returns the file, positioned at its start.
    ///
    /// Its length may differ from [`OpenEntry::size`] if a writer is still at work: read at most
    /// that many bytes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns where it was found and under which name.
    pub fn entry(&self) -> &EntryFile {
        &self.entry
    }

    /// Returns the size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.meta.len()
    }

    /// Returns the user id of the owner: the site that wrote the entry, also for a claimed file.
    pub fn uid(&self) -> u32 {
        self.meta.uid()
    }

    /// Returns the group id of the file.
    pub fn gid(&self) -> u32 {
        self.meta.gid()
    }

    /// Returns when the contents were last written (`st_mtime`). The owner can set it to anything.
    pub fn modified(&self) -> DateTime<Utc> {
        dir::modified(&self.meta)
    }

    /// Returns when contents, name, mode or owner were last changed (`st_ctime`): the time to
    /// measure an age by, because only the kernel sets it. Claiming counts as a change.
    pub fn changed(&self) -> DateTime<Utc> {
        dir::changed(&self.meta)
    }

    /// Returns what makes the file this file and no other, as it was when it was opened.
    pub fn identity(&self) -> Identity {
        Identity::of(&self.meta)
    }

    /// Closes the file and keeps what is needed to remove it later, so that a large batch needs
    /// no descriptor per entry.
    pub fn close(self) -> ReadEntry {
        ReadEntry {
            identity: self.identity(),
            entry: self.entry,
        }
    }

    /// Removes the file, see [`ReadEntry::remove`].
    ///
    /// # Errors
    ///
    /// As for [`ReadEntry::remove`].
    pub fn remove(self) -> Result<(), Refusal> {
        let read = ReadEntry {
            identity: self.identity(),
            entry: self.entry,
        };
        // The file is held open until the end, so that its inode number cannot be given away.
        let removed = read.remove();
        drop(self.file);
        removed
    }
}

/// An entry's file that was read and may be removed. Holds its directory open, but no descriptor of
/// its own, so a batch may have thousands.
#[derive(Debug, Clone)]
pub struct ReadEntry {
    /// Its directory and name.
    entry: EntryFile,
    /// The file when it was opened; only the same file is removed.
    identity: Identity,
}

impl ReadEntry {
    /// Returns where it was found and under which name.
    pub fn entry(&self) -> &EntryFile {
        &self.entry
    }

    /// Returns the identity of the file when it was opened.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Removes the file if the name still leads to exactly what was read: same inode, size and
    /// times. Call it only once the entry is safe elsewhere.
    ///
    /// The file is moved into the private directory, compared again and deleted there, so that
    /// nothing can be slipped in between. A crash in the middle leaves it there as an entry to
    /// be read again. Needs the lock ([`super::StorageDir::lock`]). Does not sync: after a loss
    /// of power a removed file may be back.
    ///
    /// # Errors
    ///
    /// [`Reason::Changed`] if it is another file or was written to since: it stays and is found
    /// by the next walk. [`Reason::Vanished`] if another process removed it.
    pub fn remove(&self) -> Result<(), Refusal> {
        self.entry
            .remove(&self.identity)
            .map_err(|reason| self.entry.refusal(reason))
    }
}

/// What makes a file this file and no other, and unchanged.
///
/// Two identities are equal if device, inode, size and both times are. Inode numbers are given to
/// new files once the old one is gone, so the number alone is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `st_dev`.
    pub(super) device: u64,
    /// `st_ino`.
    pub(super) inode: u64,
    /// Bytes.
    pub(super) size: u64,
    /// Last change of contents, seconds since 1970 and nanoseconds. Users can set it.
    pub(super) modified: (i64, i64),
    /// Last change of any kind, seconds since 1970 and nanoseconds. Only the kernel sets it.
    pub(super) changed: (i64, i64),
}

impl Identity {
    #[cfg(test)]
    pub(crate) fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    /// Returns the identity of the file with these attributes.
    pub(super) fn of(meta: &Metadata) -> Self {
        Identity {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Returns `true` if `meta` is of the same file after a rename, which itself sets `st_ctime` on
    /// most file systems. It must be a plain file with one link.
    fn is_same_but_renamed(&self, meta: &Metadata) -> bool {
        let now = Identity {
            changed: self.changed,
            ..Identity::of(meta)
        };
        now == *self && meta.is_file() && meta.nlink() == 1
    }
}

//! One entry's file: found, opened, read, removed.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::Tree;
use super::dir::{self, Dir};
use super::holes;
use super::private::{self, Private};
use crate::crash_points;
use crate::names::EntryName;
use crate::spool::{Reason, Refusal};

/// Default limit on the size of one entry, in bytes: twice the largest `SecRequestBodyLimit`.
pub const MAX_ENTRY_BYTES: u64 = 2 << 30;

/// A file whose name is that of an entry. Nothing is known about what it is until it is opened.
///
/// Holds its directory open, see [`super::StorageDir::open_directories`].
#[derive(Debug, Clone)]
pub struct EntryFile {
    pub(super) tree: Arc<Tree>,
    pub(super) dir: Arc<Dir>,
    pub(super) name: OsString,
    pub(super) claimed: bool,
}

impl EntryFile {
    /// Returns what the name says, also for a claimed file.
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

    /// Returns the number under which the file was claimed. A file claimed later by the same
    /// [`super::StorageDir`] has a greater one.
    pub fn claim_number(&self) -> Option<u64> {
        private::number(&self.name).filter(|_| self.claimed)
    }

    /// Opens the file for reading if it is a plain file with one name, of at most `limit` bytes.
    ///
    /// Follows no link and never waits. `limit` is usually [`MAX_ENTRY_BYTES`].
    ///
    /// # Errors
    ///
    /// What the file is instead; the file stays as it is. [`Reason::Vanished`] is normal.
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

    /// Moves the file into the private directory at once, so that a later record of the same
    /// name does not overwrite it. Only for a file that its writer has closed, and not for an
    /// empty one: `ModSecurity` 3 closes the file once before it writes the entry.
    ///
    /// Needs the lock ([`super::StorageDir::lock`]).
    ///
    /// # Errors
    ///
    /// As for [`EntryFile::open`]; the file is then still where it was. If its name was taken
    /// again meanwhile, it stays in the private directory, where the next walk finds it.
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

    fn private(&self) -> Result<&Private, Refusal> {
        let private = self.tree.private();
        private.ok_or_else(|| self.refusal(Reason::NotLocked))
    }

    fn refusal(&self, reason: Reason) -> Refusal {
        self.dir.refusal(&self.name, reason)
    }

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

/// An entry's file, open for reading and known to be a plain file.
#[derive(Debug)]
pub struct OpenEntry {
    entry: EntryFile,
    file: File,
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

    /// Returns the group id.
    pub fn gid(&self) -> u32 {
        self.meta.gid()
    }

    /// Returns when the contents were last written, according to the owner, who can set it.
    pub fn modified(&self) -> DateTime<Utc> {
        dir::modified(&self.meta)
    }

    /// Returns when the file was last touched in any way, according to the kernel. The one to
    /// measure an age by: no user can set it. Claiming counts as touching.
    pub fn changed(&self) -> DateTime<Utc> {
        dir::changed(&self.meta)
    }

    /// Returns what makes the file this file and no other.
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

/// An entry's file that was read and may be removed.
#[derive(Debug, Clone)]
pub struct ReadEntry {
    entry: EntryFile,
    identity: Identity,
}

impl ReadEntry {
    /// Returns where it was found and under which name.
    pub fn entry(&self) -> &EntryFile {
        &self.entry
    }

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
    /// by the next walk. [`Reason::Vanished`] if somebody else removed it.
    pub fn remove(&self) -> Result<(), Refusal> {
        self.entry
            .remove(&self.identity)
            .map_err(|reason| self.entry.refusal(reason))
    }
}

/// What makes a file this file and no other, and unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
}

impl Identity {
    #[cfg(test)]
    pub(crate) fn set_size(&mut self, size: u64) {
        self.size = size;
    }

    pub(super) fn of(meta: &Metadata) -> Self {
        Identity {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Compares after a rename, which itself sets the time of change on most file systems.
    fn is_same_but_renamed(&self, meta: &Metadata) -> bool {
        let now = Identity {
            changed: self.changed,
            ..Identity::of(meta)
        };
        now == *self && meta.is_file() && meta.nlink() == 1
    }
}

//! Taking a batch back, wherever log rotation has put it.
//!
//! ```text
//! the file with the record's inode
//! ├─ not found, or of another owner ───────────────────────────────► NotFound
//! ├─ as long as before the batch or longer, same bytes before it ──► cut it back to that length
//! └─ shorter, or other bytes: it was emptied (copytruncate)
//!    ├─ a copy of it is beside it ───────────────────► cut the copy back, then empty the log
//!    ├─ no copy, the log was empty before the batch ─► empty the log
//!    └─ no copy ────────────────────────────────────► NotFound
//! cut, empty: if bytes that are not the batch's stand behind ─────► LeftIn, see `remainder`
//! ```
//!
//! A log that was renamed is found by its inode. One that was renamed and compressed, moved to
//! another directory, or deleted is not.
//!
//! A file is cut only if it is the one that was appended to, or a copy of it: a plain file with one
//! name and the same owner, with the same bytes before the place of the cut, and (unless it is the
//! open log) named like the log. And only bytes are cut off that provably are the batch's, as
//! [`BlockHashes`] knows them. If others stand behind those, another program appends to the log,
//! perhaps just now. Then nothing can be moved safely, and all stays where it is.
//!
//! A copy must not be older than the journal: such a one was made before the batch.
//!
//! Everything here may be repeated: a crash after the copy was cut finds nothing to cut there, and
//! goes on with the log.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::block_hashes::BlockHashes;
use super::file::{hash_before, open_existing};
use super::journal::JournalRecord;
use super::remainder;
use crate::named_file::{is_of_sqlite, parent};

/// One file that was shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// Where it is.
    pub path: PathBuf,
    /// How many bytes were taken off its end.
    pub bytes: u64,
}

/// What became of an interrupted batch.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovered {
    /// The store has it, so it stays in the log.
    Kept,
    /// It is out of the log. Nothing is listed if nothing of it was in there.
    TakenBack(Vec<Cut>),
    /// The file it was appended to is gone, was compressed or changed by another program. Some of
    /// the batch's entries may be in there, and will be in the log a second time. No file was
    /// changed.
    NotFound,
    /// Another program appended behind it, so it was left in. Its entries may be in there twice.
    /// What was there of an entry that a line before it announces, and was not whole, has become
    /// line ends: entries in its body would have been taken for genuine ones.
    LeftIn {
        /// The file.
        path: PathBuf,
        /// Where the batch begins, in bytes from the beginning of the file.
        offset: u64,
    },
}

/// A batch to take back.
#[derive(Debug)]
pub(super) struct Undo<'a> {
    /// Where the log should be. Copies and renamed logs are looked for beside it.
    pub(super) log: &'a Path,
    /// What the journal notes of batch and log.
    pub(super) record: &'a JournalRecord,
    /// What proves bytes to be the batch's.
    pub(super) hashes: BlockHashes,
    /// How many bytes of the batch were written: known within the process, `None` after a crash.
    pub(super) written: Option<u64>,
    /// When the journal was written. What holds bytes of the batch is not older.
    pub(super) since: SystemTime,
}

impl Undo<'_> {
    /// Takes the batch back. `open` is the log as it is open now: the file that was appended to,
    /// wherever it was moved, or after a restart perhaps its successor. Safe to repeat.
    ///
    /// # Errors
    ///
    /// The system's. What was cut until then stays cut.
    pub(super) fn run(&self, open: &File) -> io::Result<Recovered> {
        let found = if self.is_original(&open.metadata()?) {
            Some((self.log.to_owned(), open.try_clone()?))
        } else {
            self.find(|path| self.open_original(path))?
        };
        let Some((path, file)) = found else {
            return Ok(Recovered::NotFound);
        };
        let length = self.record.length;
        if !self.is_ours(&file.metadata()?) {
            return Ok(Recovered::NotFound);
        }
        if length > 0 && self.is_intact(&file)? {
            return self.cut(path, &file, length);
        }
        // It was emptied. If it was empty all along it looks just like that.
        let mut cut = match self.find(|path| self.open_copy(path))? {
            Some((path, copy)) => match self.cut(path, &copy, length)? {
                Recovered::TakenBack(cut) => cut,
                left => return Ok(left),
            },
            None if length == 0 => Vec::new(),
            None => return Ok(Recovered::NotFound),
        };
        match self.cut(path, &file, 0)? {
            Recovered::TakenBack(more) => cut.extend(more),
            left => return Ok(left),
        }
        Ok(Recovered::TakenBack(cut))
    }

    /// Searches the log's directory for the first file that `open` returns.
    fn find(
        &self,
        open: impl Fn(&Path) -> io::Result<Option<File>>,
    ) -> io::Result<Option<(PathBuf, File)>> {
        let beside = fs::read_dir(parent(self.log))?;
        for path in beside.map(|entry| entry.map(|entry| entry.path())) {
            let path = path?;
            // An error means: gone meanwhile, a link, another account's. Not what is looked for.
            if let Ok(Some(file)) = open(&path) {
                return Ok(Some((path, file)));
            }
        }
        Ok(None)
    }

    /// Opens `path` if it is the file that was appended to, under a related name.
    fn open_original(&self, path: &Path) -> io::Result<Option<File>> {
        if !self.is_related(path) || !self.is_original(&path.symlink_metadata()?) {
            return Ok(None);
        }
        let file = open_existing(path)?;
        let meta = file.metadata()?;
        Ok(self.is_original(&meta).then_some(file))
    }

    /// Returns `true` for the file that was appended to: by device, inode, and the time it was
    /// made.
    fn is_original(&self, meta: &Metadata) -> bool {
        (meta.dev(), meta.ino()) == (self.record.device, self.record.inode)
            && self.hashes.may_be_log(meta)
    }

    /// Returns `true` if a file is named like one that was the log, or was copied from it.
    ///
    /// `audit.log.1` and `audit-20261127.log` are, for `audit.log`.
    fn is_related(&self, path: &Path) -> bool {
        starts_with(path.file_name(), self.log.file_stem())
    }

    /// Opens `path` if it is a copy of the log as it was when the batch began, or later.
    ///
    /// Databases of SQLite are not opened, since closing one would drop the locks of this process
    /// on it.
    fn open_copy(&self, path: &Path) -> io::Result<Option<File>> {
        let meta = path.symlink_metadata()?;
        let other = self.is_related(path) && !is_of_sqlite(path) && !self.is_original(&meta);
        if !other || !self.is_ours(&meta) || !self.may_hold(&meta) {
            return Ok(None);
        }
        if meta.len() < self.record.length {
            return Ok(None);
        }
        let file = open_existing(path)?;
        let matches = if self.record.length == 0 {
            self.hashes.first_bytes(&file, 0, meta.len())? > 0
        } else {
            hash_before(&file, self.record.length)? == self.record.before
        };
        Ok(matches.then_some(file))
    }

    /// Returns `true` if a file is of our kind and has the log's owner.
    fn is_ours(&self, meta: &Metadata) -> bool {
        meta.is_file() && meta.nlink() <= 1 && meta.uid() == self.record.uid
    }

    /// Returns `true` if a file of this age can hold bytes of the batch.
    ///
    /// What holds any was written after the journal; an older file that looks the same must not
    /// lose its end.
    fn may_hold(&self, meta: &Metadata) -> bool {
        let written = meta.modified().is_ok_and(|time| time >= self.since);
        written || meta.len() <= self.record.length
    }

    /// Returns `true` if the file that was appended to still has what it had before the batch.
    fn is_intact(&self, file: &File) -> io::Result<bool> {
        let length = self.record.length;
        Ok(file.metadata()?.len() >= length && hash_before(file, length)? == self.record.before)
    }

    /// Cuts off what stands behind `at`, if all of it is the batch's, and syncs the file.
    ///
    /// The length is read twice: what another program appends between the two makes the file be
    /// left alone.
    fn cut(&self, path: PathBuf, file: &File, at: u64) -> io::Result<Recovered> {
        let end = file.metadata()?.len();
        let bytes = end.saturating_sub(at);
        if bytes == 0 {
            return Ok(Recovered::TakenBack(Vec::new()));
        }
        let own = self.own_bytes(file, at, end)?;
        if own != bytes || file.metadata()?.len() != end {
            remainder::overwrite(&path, file, at..at + own)?;
            return Ok(Recovered::LeftIn { path, offset: at });
        }
        file.set_len(at)?;
        file.sync_all()?;
        Ok(Recovered::TakenBack(vec![Cut { path, bytes }]))
    }

    /// Returns how many of the bytes from `at` to `end` are the batch's; they are the first ones.
    fn own_bytes(&self, file: &File, at: u64, end: u64) -> io::Result<u64> {
        // Not necessarily whole blocks, if the disk was full.
        if at == self.record.length && self.written == Some(end - at) {
            return Ok(end - at);
        }
        if at == 0 {
            self.hashes.any_bytes(file, end)
        } else {
            self.hashes.first_bytes(file, at, end)
        }
    }
}

/// Returns `true` if both names are there and the one begins with the other.
fn starts_with(name: Option<&OsStr>, prefix: Option<&OsStr>) -> bool {
    match (name, prefix) {
        (Some(name), Some(prefix)) => name.as_bytes().starts_with(prefix.as_bytes()),
        _ => false,
    }
}

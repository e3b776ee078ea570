//! Taking a batch back, wherever log rotation has put it.
//!
//! - Nothing happened, or the log was renamed: the file with the inode of the journal is cut back
//!   to its length before the batch.
//! - Copied and emptied (`copytruncate`): the copy is cut back, and the log, which since then can
//!   hold only bytes of this batch, is emptied.
//! - Renamed and compressed, moved to another directory, or deleted: cannot be undone.
//!
//! A file is cut only if it is provably the one that was appended to: a plain file with one name
//! and the same owner, with the same bytes before the place of the cut (or the batch's own behind
//! it, where there are none before), and not older than the journal. The file with the journal's
//! inode may look older, since clocks are set back: then the batch's own bytes must be behind.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::file::{hash_before, hash_range, open_existing, parent};
use super::journal::Record;

/// One file that was shortened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where it is.
    pub path: PathBuf,
    /// How many bytes were taken off its end.
    pub bytes: u64,
}

/// A batch to take back.
#[derive(Debug)]
pub(super) struct Undo<'a> {
    pub(super) log: &'a Path,
    pub(super) record: &'a Record,
    /// When the journal was written.
    pub(super) since: SystemTime,
}

impl Undo<'_> {
    /// Takes the batch back. `open` is the log as it is open now: the file that was appended to,
    /// wherever it was moved, or after a restart perhaps its successor.
    ///
    /// Returns what was cut, or nothing if the file could not be found. Safe to repeat.
    pub(super) fn run(&self, open: &File) -> io::Result<Option<Vec<Cut>>> {
        let found = if self.is_original(&open.metadata()?) {
            Some((self.log.to_owned(), open.try_clone()?))
        } else {
            self.find(|path| self.open_original(path))?
        };
        let Some((path, file)) = found else {
            return Ok(None);
        };
        let meta = file.metadata()?;
        if !self.is_ours(&meta) || !(self.may_hold(&meta) || self.holds_batch(&file)?) {
            return Ok(None);
        }
        if self.is_intact(&file)? {
            let mut cut = Self::cut(path, &file, self.record.length)?;
            if self.record.length == 0 {
                // An emptied log looks just like one that was empty all along.
                if let Some((path, copy)) = self.find(|path| self.open_copy(path))? {
                    cut.extend(Self::cut(path, &copy, 0)?);
                }
            }
            return Ok(Some(cut));
        }
        let Some((copy_path, copy)) = self.find(|path| self.open_copy(path))? else {
            return Ok(None);
        };
        let mut cut = Self::cut(copy_path, &copy, self.record.length)?;
        cut.extend(Self::cut(path, &file, 0)?);
        Ok(Some(cut))
    }

    /// Searches the log and the files beside it.
    fn find(
        &self,
        open: impl Fn(&Path) -> io::Result<Option<File>>,
    ) -> io::Result<Option<(PathBuf, File)>> {
        let beside = fs::read_dir(parent(self.log))?;
        for path in beside.map(|entry| entry.map(|entry| entry.path())) {
            let path = path?;
            // An error means: gone meanwhile, a link, somebody else's. Not what we look for.
            if let Ok(Some(file)) = open(&path) {
                return Ok(Some((path, file)));
            }
        }
        Ok(None)
    }

    fn open_original(&self, path: &Path) -> io::Result<Option<File>> {
        let meta = path.symlink_metadata()?;
        if !self.is_original(&meta) {
            return Ok(None);
        }
        let file = open_existing(path)?;
        let meta = file.metadata()?;
        Ok(self.is_original(&meta).then_some(file))
    }

    fn is_original(&self, meta: &Metadata) -> bool {
        (meta.dev(), meta.ino()) == (self.record.device, self.record.inode)
    }

    /// Opens `path` if it is a copy of the log as it was when the batch began, or later.
    fn open_copy(&self, path: &Path) -> io::Result<Option<File>> {
        let meta = path.symlink_metadata()?;
        let (log, name) = (self.log.file_stem(), path.file_name());
        let related = starts_with(name, log) && !self.is_original(&meta);
        if !related || !self.is_ours(&meta) || !self.may_hold(&meta) {
            return Ok(None);
        }
        if meta.len() < self.record.length {
            return Ok(None);
        }
        let file = open_existing(path)?;
        let matches = if self.record.length == 0 {
            self.is_batch_at(&file, 0)?
        } else {
            hash_before(&file, self.record.length)? == self.record.before
        };
        Ok(matches.then_some(file))
    }

    /// Tells whether a file is of our kind and has the log's owner.
    fn is_ours(&self, meta: &Metadata) -> bool {
        meta.is_file() && meta.nlink() <= 1 && meta.uid() == self.record.uid
    }

    /// Tells whether a file of this age can hold bytes of the batch.
    ///
    /// What holds any was written after the journal; an older file that looks the same must not
    /// lose its end.
    fn may_hold(&self, meta: &Metadata) -> bool {
        let written = meta.modified().is_ok_and(|time| time >= self.since);
        written || meta.len() <= self.record.length
    }

    /// Tells whether the batch's first bytes are in their place, whatever the clock said.
    fn holds_batch(&self, file: &File) -> io::Result<bool> {
        self.is_batch_at(file, self.record.length)
    }

    /// Tells whether the file that was appended to still has what it had before the batch.
    fn is_intact(&self, file: &File) -> io::Result<bool> {
        let length = self.record.length;
        Ok(file.metadata()?.len() >= length && hash_before(file, length)? == self.record.before)
    }

    fn is_batch_at(&self, file: &File, start: u64) -> io::Result<bool> {
        let (length, hash) = self.record.head;
        match hash_range(file, start, length) {
            Ok(found) => Ok(found == hash),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn cut(path: PathBuf, file: &File, length: u64) -> io::Result<Vec<Cut>> {
        let meta = file.metadata()?;
        let bytes = meta.len().saturating_sub(length);
        if bytes == 0 {
            return Ok(Vec::new());
        }
        file.set_len(length)?;
        file.sync_all()?;
        Ok(vec![Cut { path, bytes }])
    }
}

fn starts_with(name: Option<&OsStr>, prefix: Option<&OsStr>) -> bool {
    match (name, prefix) {
        (Some(name), Some(prefix)) => name.as_bytes().starts_with(prefix.as_bytes()),
        _ => false,
    }
}

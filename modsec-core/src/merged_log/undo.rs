//! Taking a batch back, wherever log rotation has put it.
//!
//! - Nothing happened, or the log was renamed: the file with the inode of the journal is cut back
//!   to its length before the batch.
//! - Copied and emptied (`copytruncate`): the copy is cut back, and the log, which since then can
//!   hold only bytes of this batch, is emptied.
//! - Renamed and compressed, moved to another directory, or deleted: cannot be undone.
//!
//! A file is cut only if it is the one that was appended to, or a copy of it: a plain file with one
//! name and the same owner, with the same bytes before the place of the cut, and (unless it is the
//! open log) named like the log. And only bytes are cut off that provably are the batch's, as
//! [`Extent`] knows them. If others stand behind those, somebody else appends to the log, perhaps
//! just now. Then nothing can be moved safely, and all stays as it is.
//!
//! A copy must not be older than the journal: such a one was made before the batch.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::extent::Extent;
use super::file::{hash_before, open_existing};
use super::journal::Record;
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

/// Bytes that may be the batch's and stay, since not all behind them are.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) path: PathBuf,
    pub(super) offset: u64,
}

/// A batch to take back.
#[derive(Debug)]
pub(super) struct Undo<'a> {
    pub(super) log: &'a Path,
    pub(super) record: &'a Record,
    pub(super) extent: Extent,
    /// How many bytes of the batch were written, if that is known.
    pub(super) written: Option<u64>,
    /// When the journal was written.
    pub(super) since: SystemTime,
}

impl Undo<'_> {
    /// Takes the batch back. `open` is the log as it is open now: the file that was appended to,
    /// wherever it was moved, or after a restart perhaps its successor.
    ///
    /// Returns what was cut or had to be left, or nothing if the file could not be found. Safe to
    /// repeat.
    pub(super) fn run(&self, open: &File) -> io::Result<Option<Result<Vec<Cut>, Left>>> {
        let found = if self.is_original(&open.metadata()?) {
            Some((self.log.to_owned(), open.try_clone()?))
        } else {
            self.find(|path| self.open_original(path))?
        };
        let Some((path, file)) = found else {
            return Ok(None);
        };
        let length = self.record.length;
        if !self.is_ours(&file.metadata()?) {
            return Ok(None);
        }
        if length > 0 && self.is_intact(&file)? {
            return self.cut(path, &file, length).map(Some);
        }
        // It was emptied. If it was empty all along it looks just like that.
        let mut cut = match self.find(|path| self.open_copy(path))? {
            Some((path, copy)) => match self.cut(path, &copy, length)? {
                Ok(cut) => cut,
                Err(left) => return Ok(Some(Err(left))),
            },
            None if length == 0 => Vec::new(),
            None => return Ok(None),
        };
        let of_log = self.cut(path, &file, 0)?;
        Ok(Some(of_log.map(|more| {
            cut.extend(more);
            cut
        })))
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
        if !self.is_related(path) || !self.is_original(&path.symlink_metadata()?) {
            return Ok(None);
        }
        let file = open_existing(path)?;
        let meta = file.metadata()?;
        Ok(self.is_original(&meta).then_some(file))
    }

    fn is_original(&self, meta: &Metadata) -> bool {
        (meta.dev(), meta.ino()) == (self.record.device, self.record.inode)
            && self.extent.may_be_log(meta)
    }

    /// Returns `true` if a file is named like one that was the log, or was copied from it.
    fn is_related(&self, path: &Path) -> bool {
        starts_with(path.file_name(), self.log.file_stem())
    }

    /// Opens `path` if it is a copy of the log as it was when the batch began, or later.
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
            self.extent.first_bytes(&file, 0, meta.len())? > 0
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

    /// Cuts off what stands behind `at`, if all of it is the batch's.
    fn cut(&self, path: PathBuf, file: &File, at: u64) -> io::Result<Result<Vec<Cut>, Left>> {
        let end = file.metadata()?.len();
        let bytes = end.saturating_sub(at);
        if bytes == 0 {
            return Ok(Ok(Vec::new()));
        }
        let is_own = self.is_own(file, at, end)?;
        if !is_own || file.metadata()?.len() != end {
            return Ok(Err(Left { path, offset: at }));
        }
        file.set_len(at)?;
        file.sync_all()?;
        Ok(Ok(vec![Cut { path, bytes }]))
    }

    /// Returns `true` if the bytes from `at` to `end` are the batch's.
    fn is_own(&self, file: &File, at: u64, end: u64) -> io::Result<bool> {
        // Not necessarily whole blocks, if the disk was full.
        if at == self.record.length && self.written == Some(end - at) {
            return Ok(true);
        }
        let own = if at == 0 {
            self.extent.any_bytes(file, end)?
        } else {
            self.extent.first_bytes(file, at, end)?
        };
        Ok(own == end - at)
    }
}

fn starts_with(name: Option<&OsStr>, prefix: Option<&OsStr>) -> bool {
    match (name, prefix) {
        (Some(name), Some(prefix)) => name.as_bytes().starts_with(prefix.as_bytes()),
        _ => false,
    }
}

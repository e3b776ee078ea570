//! What became of one file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::budget::OwnersBudget;
use super::entry::Skipped;
use super::index::Digest;
use super::known_files::Met;
use super::multi_entry::FileEntries;
use super::open_dir::OpenDir;
use crate::storage_dir::ReadEntry;

/// What is known of a file, or of an entry of a log, besides its bytes.
#[derive(Debug)]
pub(super) struct FilePlace {
    /// Path of the file or of the log, for messages.
    pub(super) path: PathBuf,
    /// Its directory, if it stands in the storage directory.
    pub(super) dir: Option<Arc<OpenDir>>,
    /// What it was before it was opened.
    pub(super) met: Option<Met>,
}

/// What became of one file, or of one entry of a log.
#[derive(Debug)]
pub(super) struct FileOutcome {
    /// Where the file or the entry was found.
    pub(super) place: FilePlace,
    /// What is in it; or why it gives no entry.
    pub(super) result: Result<DecodedFile, Skipped>,
}

impl FileOutcome {
    /// Returns how many bytes it holds in memory, about.
    pub(super) fn held(&self) -> usize {
        let entries = self.result.as_ref().map(|file| &file.entries);
        entries.map_or(0, FileEntries::held)
    }

    /// Returns `true` for an entry that was there before the pass began.
    pub(super) fn is_old(&self) -> bool {
        self.result.as_ref().is_ok_and(|file| file.is_old)
    }
}

/// A file with entries.
#[derive(Debug)]
pub(super) struct DecodedFile {
    /// The only entry, decoded; or several that are still to be decoded.
    pub(super) entries: FileEntries,
    /// How to remove it; `None` for an input.
    pub(super) file: Option<ReadEntry>,
    /// Whether it was there before the pass began.
    pub(super) is_old: bool,
    /// Size and MD5 of the file, if there is an index to compare them with.
    pub(super) digests: Vec<Digest>,
    /// The path by which the index led to it.
    pub(super) indexed: Option<Arc<Path>>,
    /// Whose turn it is; `None` in a log.
    pub(super) budget: Option<OwnersBudget>,
}

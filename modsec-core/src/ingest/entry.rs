//! One entry on its way from a file to the store.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use super::index::Fate;
use crate::format::{Defect, FirstBytes};
pub(super) use crate::log_reader::{Extent, IN_MEMORY};
use crate::read_steps::is_left;
use crate::record::Flags;
use crate::storage_dir::Refusal;
use crate::store::Row;

/// The most that one entry and its row hold in memory, in bytes. Larger entries stay in their file.
pub(super) const MAX_HELD: usize = IN_MEMORY + Row::MAX_SIZE;

/// An entry's own bytes.
#[derive(Debug)]
pub(super) enum Bytes {
    /// In memory.
    Whole(Vec<u8>),
    /// In their file still.
    InFile(Extent),
}

impl Bytes {
    /// Returns the length of the entry, in bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Bytes::Whole(bytes) => bytes.len() as u64,
            Bytes::InFile(extent) => extent.len,
        }
    }

    /// Returns how many bytes are held in memory.
    pub(super) fn held(&self) -> usize {
        match self {
            Bytes::Whole(bytes) => bytes.len(),
            Bytes::InFile(_) => 0,
        }
    }
}

/// An entry and what was made of it.
#[derive(Debug)]
pub(super) struct DecodedEntry {
    /// The columns of the entry.
    pub(super) row: Row,
    /// What is odd about the entry, such as a missing end; see `Record::flags`.
    pub(super) flags: Flags,
    /// Its line of JSON without the line feed, if one is wanted.
    pub(super) json: Option<String>,
    /// What the merged log receives, unchanged.
    pub(super) bytes: Bytes,
    /// What `row` takes in memory, in bytes, about.
    pub(super) row_size: usize,
}

impl DecodedEntry {
    /// Returns how many bytes it holds in memory, about.
    pub(super) fn held(&self) -> usize {
        self.row_size + self.json.as_ref().map_or(0, String::len) + self.bytes.held()
    }
}

/// Why bytes are no entry.
#[derive(Debug)]
pub(super) enum NoEntry {
    /// It is not complete; it may still be growing.
    Incomplete,
    /// It is something else.
    Defect(Defect),
    /// It could not be read, or changed while it was.
    Io(io::Error),
}

impl From<io::Error> for NoEntry {
    fn from(error: io::Error) -> NoEntry {
        NoEntry::Io(error)
    }
}

/// What to do with an entry that does not end with part Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutEntries {
    /// Its writer may still be at work.
    Wait,
    /// Nothing more will come.
    Take,
}

impl CutEntries {
    /// Returns what follows from a defect that more bytes might mend.
    pub(super) fn incomplete(self, defect: Defect) -> NoEntry {
        match self {
            CutEntries::Wait => NoEntry::Incomplete,
            CutEntries::Take => NoEntry::Defect(defect),
        }
    }

    /// Returns what follows from a defect of an entry that begins with `bytes`: its first line
    /// itself may be incomplete.
    pub(super) fn defect(self, defect: Defect, bytes: &[u8]) -> NoEntry {
        let line_is_open = !bytes.contains(&b'\n') && bytes.len() < 64;
        if line_is_open {
            self.incomplete(defect)
        } else {
            NoEntry::Defect(defect)
        }
    }
}

/// Why a file, or what was found in a log, gives no entry.
#[derive(Debug)]
pub(super) enum Skipped {
    /// The file is too young.
    Young,
    /// A file of the storage directory that may not be opened, such as a symbolic link or one that
    /// is too large.
    Refused(Refusal),
    /// An input that cannot be opened or read.
    Unusable(io::Error),
    /// What was opened is no entry, or none that can be taken now.
    NoEntry(NoEntry),
    /// Not what the index says. Whatever it is, the walk will find it.
    Unlike(Arc<Path>, Fate),
    /// Bytes between the entries of a log, and where they begin.
    Unrecognized {
        /// Offset in the log, in bytes.
        at: u64,
        /// The beginning of the first of these bytes, for the message.
        line: FirstBytes,
    },
}

impl Skipped {
    /// Returns `true` if the entry was left in the middle because of a request to stop.
    pub(super) fn is_left(&self) -> bool {
        matches!(self, Skipped::NoEntry(NoEntry::Io(error)) if is_left(error))
    }
}

impl From<NoEntry> for Skipped {
    fn from(reason: NoEntry) -> Skipped {
        Skipped::NoEntry(reason)
    }
}

/// Runs `work` on one file. If it panics, that file counts as unreadable, and the others go on; the
/// panic itself is on standard error.
///
/// # Errors
///
/// Those of `work`.
pub(super) fn unless_it_panics<T>(work: impl FnOnce() -> Result<T, Skipped>) -> Result<T, Skipped> {
    // What `work` borrows is not changed by it.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let error = io::Error::other("a defect of this program; please report it with the file");
        Err(NoEntry::Io(error).into())
    })
}

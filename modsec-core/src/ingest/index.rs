//! The index: a line for every record, written when its file is complete.
//!
//! ```text
//! file or pipe ─► lines ─► ledger ◄── size and MD5 of every entry that is read
//!                           │  └─► files that are named and were not read: read at once
//!                           └─► counts: verified, and what became of the others
//! ```
//!
//! A line says that its entry is complete, so nothing has to be waited for, and there is a line
//! also for a record that a later one has overwritten, so that what is lost can be counted.
//!
//! Entries never depend on this: whatever no line leads to is found by the walk. What the notes
//! in the private directory remember is for the counts alone. They are written when a batch is
//! safe and before its files go; so after a crash a line is read again only while its entry's file
//! is still there, and nothing is counted as missing that was stored. If the notes are lost, the
//! lines that are there at that time are from before anybody kept account: of them only those are
//! judged whose file is still there, or that of another record of the same name.

mod ledger;
mod lines;
mod notes;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use self::ledger::Ledger;
pub(super) use self::ledger::{Digest, Fate, Wanted};
pub(super) use self::lines::{Ended, Pipe};
use self::lines::{FileLines, Line, Lines, MAX_WAITING, Next};
use super::Options;
use crate::crash_points;
use crate::error_chain::error_chain;
use crate::format::Defect;
use crate::storage_dir::StorageDir;

/// How long a line is left to those who claim files as soon as they are closed.
pub(super) const SETTLE: Duration = Duration::from_secs(2);
/// Lines read, and files looked into, at a time.
const AT_A_TIME: usize = 1000;
/// As how many lines a piece counts in which none ends.
const PART: usize = 100;

/// Where the index is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexSource {
    /// A file, `SecAuditLog`.
    File(PathBuf),
    /// Standard input, a pipe from the web server. The program ends with it.
    Stdin,
}

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The file cannot be read.
    #[error("could not read index {path:?}; name with --index what SecAuditLog names")]
    Read {
        /// The index.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is the merged log.
    #[error("{path:?} is the merged log; the index is the file that SecAuditLog names")]
    MergedLog {
        /// The file.
        path: PathBuf,
    },
    /// The file has entries in it, not lines about them.
    #[error(
        "{path:?} holds whole audit-log entries and is no index; \
         give the file that SecAuditLog names with SecAuditLogType Concurrent"
    )]
    Entries {
        /// The file.
        path: PathBuf,
    },
    /// Something stands around the lines, or they are in an encoding that is not read.
    #[error("{path:?} is no index, but {defect}")]
    Wrapped {
        /// The file.
        path: PathBuf,
        /// What it is.
        defect: Defect,
    },
    /// The file is compressed.
    #[error(
        "{path:?} is a compressed index, to which nothing is added; \
         give the file that SecAuditLog names"
    )]
    Compressed {
        /// The file.
        path: PathBuf,
    },
    /// The thread that reads the pipe could not be started.
    #[error("could not start a thread; raise the limit on processes (ulimit -u)")]
    Thread(#[source] io::Error),
}

/// Finds out whether the file at `path` can be the index; changes nothing. It may come later.
///
/// # Errors
///
/// What it is instead, or why it cannot be read.
pub fn check_index(path: &Path, merged_log: Option<&Path>) -> Result<(), IndexError> {
    lines::check(path, merged_log).map(drop)
}

/// What the index says about the records of this storage directory, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexCounts {
    /// Lines read.
    pub lines: u64,
    /// Records that were read with the size and MD5 of their line.
    pub verified: u64,
    /// Records in whose place there is something else, and no later record explains it: cut
    /// short, changed, or never written as a disk was full. What is there is treated as if there
    /// were no line.
    pub mismatched: u64,
    /// Records whose file is gone. They are lost, or somebody else has taken them.
    pub missing: u64,
    /// Records that a later one of the same name has overwritten. They are lost.
    pub overwritten: u64,
    /// Lines that are no index lines, or lead elsewhere than below the storage directory.
    pub foreign: u64,
    /// Lines without a file, written before the index was read for the first time.
    pub before: u64,
    /// Lines that came while nothing could be stored, and were too many to remember. The files
    /// they name are found by the walk.
    pub unread: u64,
}

impl IndexCounts {
    /// Returns the number of records that are lost.
    pub fn lost(&self) -> u64 {
        self.missing + self.overwritten
    }

    /// Returns the number of records that are lost or not what they should be.
    pub fn wrong(&self) -> u64 {
        self.lost() + self.mismatched
    }

    /// Adds other counts to these.
    pub(super) fn add(&mut self, other: &IndexCounts) {
        let pairs = [
            (&mut self.lines, other.lines),
            (&mut self.verified, other.verified),
            (&mut self.mismatched, other.mismatched),
            (&mut self.missing, other.missing),
            (&mut self.overwritten, other.overwritten),
            (&mut self.foreign, other.foreign),
            (&mut self.before, other.before),
            (&mut self.unread, other.unread),
        ];
        for (sum, more) in pairs {
            *sum += more;
        }
    }
}

/// The index, as far as it was read.
#[derive(Debug)]
pub(super) struct Index {
    /// Where lines come from.
    lines: Lines,
    /// Lines without their entry, and entries without their line.
    ledger: Ledger,
    /// The storage directory. Its private directory has the notes.
    storage: Arc<StorageDir>,
    /// How old a line must be before its file is looked for, and given up.
    settle: Duration,
    /// Which storage directories of lines are this one.
    roots: Roots,
    /// Lines that may still be read.
    left: usize,
    /// What the notes on disk say.
    noted: Vec<u8>,
    /// Whether it was logged that the index cannot be read.
    unreadable: bool,
    /// Whether it was logged that the notes cannot be written; reset once they can.
    unwritable: bool,
}

impl Index {
    /// Opens the index that `options` name; `None` if they name none. `storage` is locked, and
    /// `pipe` is being read if that is the index.
    pub(super) fn open(
        options: &Options,
        storage: &Arc<StorageDir>,
        pipe: Option<Pipe>,
    ) -> Result<Option<Index>, IndexError> {
        // Nothing is noted of a pipe but the lines that are open.
        let note = storage.read_note().unwrap_or_else(|error| {
            warn!(
                error = error_chain(&error),
                "notes about the index not read"
            );
            None
        });
        let notes = note.as_deref().and_then(notes::read).unwrap_or_default();
        let mut ledger = Ledger::default();
        for digest in notes.unlisted {
            ledger.take(digest);
        }
        for (line, shared) in notes.open {
            ledger.reopen(line, shared, Instant::now());
        }
        let lines = match (&options.index, pipe) {
            (Some(IndexSource::File(path)), _) => {
                let log = options.merged_log.as_deref();
                Lines::File(FileLines::open(path, notes.place, log)?)
            }
            (Some(IndexSource::Stdin), Some(pipe)) => Lines::Pipe(pipe),
            (Some(IndexSource::Stdin), None) | (None, _) => return Ok(None),
        };
        Ok(Some(Index {
            lines,
            ledger,
            storage: Arc::clone(storage),
            settle: Duration::ZERO,
            left: usize::MAX,
            roots: Roots::new(options.storage_dir.as_deref()),
            noted: note.unwrap_or_default(),
            unreadable: false,
            unwritable: false,
        }))
    }

    /// Goes on with another storage directory at the same path.
    pub(super) fn move_to(&mut self, storage: &Arc<StorageDir>) {
        if !Arc::ptr_eq(&self.storage, storage) {
            self.storage = Arc::clone(storage);
            self.noted.clear();
        }
    }

    /// Leaves each line to others for a while before its file is looked for, or given up.
    pub(super) fn wait_for_others(&mut self, settle: Duration) {
        self.settle = settle;
    }

    /// Reads what is there by now. Of an index that grows as fast as it is read, some is left.
    pub(super) fn catch_up(&mut self) {
        for _ in 0..MAX_WAITING.div_ceil(AT_A_TIME) {
            if !self.read() {
                break;
            }
        }
    }

    /// Reads no more lines than may be waiting now, from here on.
    pub(super) fn read_the_last(&mut self) {
        self.wait_for_others(Duration::ZERO);
        self.left = self.left.min(MAX_WAITING);
    }

    /// Reads some more lines; returns `true` if there may be more.
    pub(super) fn read(&mut self) -> bool {
        let now = Instant::now();
        if self.ledger.is_full() {
            return false;
        }
        let mut left = AT_A_TIME.min(self.left);
        while left > 0 {
            let mut cost = 1;
            match self.lines.next() {
                Ok(Next::Line(line)) => self.announce(line, now),
                Ok(Next::Foreign(lines)) => self.ledger.foreign(lines),
                Ok(Next::Unread(lines)) => self.ledger.unread(lines),
                Ok(Next::Part) => cost = PART,
                Ok(Next::End) => return false,
                Err(error) => {
                    if !std::mem::replace(&mut self.unreadable, true) {
                        warn!(path = ?self.lines.path(), %error, "index not read, trying again");
                    }
                    return false;
                }
            }
            left = left.saturating_sub(cost);
            if self.left != usize::MAX {
                self.left = self.left.saturating_sub(cost);
            }
        }
        self.left > 0
    }

    /// Takes note of a line, unless it leads to another storage directory: then it counts as
    /// foreign.
    fn announce(&mut self, line: Line, now: Instant) {
        let here = line
            .storage_dir
            .is_none_or(|dir| self.roots.is_ours(&dir, &self.storage));
        if here {
            self.ledger.announce(line.announced, now);
        } else {
            self.ledger.foreign(1);
        }
    }

    /// Returns files to look into.
    pub(super) fn wanted(&mut self) -> Vec<Wanted> {
        let ripe = Instant::now().checked_sub(self.settle);
        ripe.map_or(Vec::new(), |ripe| self.ledger.wanted(AT_A_TIME, ripe))
    }

    /// Makes files that were changing at the last look candidates again.
    pub(super) fn try_again(&mut self) {
        self.ledger.try_again();
    }

    /// Settles the lines that were read up to `before`, everything having been looked at since.
    pub(super) fn close(&mut self, before: Instant) {
        if let Some(before) = before.checked_sub(self.settle) {
            self.ledger.close(before);
        }
        if self.settle.is_zero() {
            self.lines.end();
        }
        self.note();
    }

    /// Takes note of a file that was read, and of where the index led to it.
    pub(super) fn found(&mut self, digests: &[Digest], at: Option<&Path>) {
        for digest in digests {
            self.ledger.take(*digest);
        }
        if let Some(at) = at {
            // It was this record's, and so not that of another one.
            self.ledger.tried(at, Fate::Gone);
        }
    }

    /// Takes note of what was found instead where the index led to.
    pub(super) fn tried(&mut self, at: &Path, fate: Fate) {
        self.ledger.tried(at, fate);
    }

    /// Notes that what was read up to now is safe.
    pub(super) fn note_batch(&mut self) {
        // Entries that are taken for the sake of events have their lines a moment later.
        if !self.settle.is_zero() {
            self.catch_up();
        }
        self.note();
    }

    /// Notes how far the index was read. What was read up to now is safe, or still a file.
    pub(super) fn note(&mut self) {
        let open = self.ledger.open_lines(notes::MAX_OPEN);
        let notes = notes::write(self.lines.place(), self.ledger.unlisted(), open);
        if notes == self.noted {
            return;
        }
        crash_points::pass("before-index-noted");
        match self.storage.write_note(&notes) {
            Ok(()) => {
                self.noted = notes;
                self.unwritable = false;
            }
            Err(error) if !std::mem::replace(&mut self.unwritable, true) => {
                warn!(
                    error = error_chain(&error),
                    "place in the index not noted; lost records may be counted wrongly"
                );
            }
            Err(error) => debug!(%error, "place in the index not noted"),
        }
        crash_points::pass("index-noted");
    }

    /// Returns the counts since the last call.
    pub(super) fn take_counts(&mut self) -> IndexCounts {
        self.ledger.take_counts()
    }

    /// Returns `true` if every line that was read has found its entry.
    pub(super) fn is_settled(&self) -> bool {
        self.ledger.is_settled()
    }
}

/// Storage directories that lines name: libmodsecurity writes them in full.
#[derive(Debug, Default)]
struct Roots {
    /// Paths that lead to the storage directory, eight at the most; the first is the configured
    /// one.
    ours: Vec<PathBuf>,
    /// The last path that leads elsewhere, so that it is not looked up for each line.
    other: Option<PathBuf>,
}

impl Roots {
    /// Begins with the path that the administrator has configured.
    fn new(configured: Option<&Path>) -> Roots {
        Roots {
            ours: configured.map(Path::to_owned).into_iter().collect(),
            other: None,
        }
    }

    /// Returns `true` if `dir` is the storage directory, which the server may know by another path.
    fn is_ours(&mut self, dir: &Path, storage: &StorageDir) -> bool {
        if self.ours.iter().any(|ours| ours == dir) {
            return true;
        }
        if self.other.as_deref() == Some(dir) {
            return false;
        }
        let ours = storage.is_at(dir);
        if ours && self.ours.len() < 8 {
            self.ours.push(dir.to_owned());
        } else if !ours {
            debug!(path = ?dir, "lines of the index name another storage directory");
            self.other = Some(dir.to_owned());
        }
        ours
    }
}

//! Files of many records, which are gone on with between all else.
//!
//! One file may hold some ten thousand records, and take as long as ten thousand files. Whoever has
//! written it waits, not the others, and a stop does not wait for its end.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use super::counter::Counter;
use super::entry_reader::{OneOf, Records};
use crate::ledger::Offender;
use crate::serial_log::appended::MAX_RECORDS;

/// Records that are read at once: what comes of clients who share an id.
const FEW: usize = 256;
/// Bytes of a slice, in which a record counts for [`RECORD`] more.
const SLICE_BYTES: u64 = 2 << 20;
/// Bytes for which a record counts besides its own, for the time that decoding takes.
const RECORD: u64 = 4096;
/// Files at a time, each held open,
const MAX_FILES: usize = 16;
/// and paths of those that are begun after them.
const MAX_PATHS: usize = 1024;

/// The files that are not at their end.
#[derive(Debug, Default)]
pub(super) struct Several {
    /// Files that are begun, the next one first.
    files: VecDeque<Reading>,
    /// Files that are begun when there is room, in the order in which they came.
    paths: VecDeque<PathBuf>,
}

/// A file of several records.
#[derive(Debug)]
pub(super) struct Reading {
    /// The records that were not counted yet.
    records: Records,
    /// Time of change of the file, nanoseconds since the Unix epoch.
    changed: i64,
}

impl Reading {
    /// Begins before the first record that is left.
    pub(super) fn new(records: Records, changed: i64) -> Reading {
        Reading { records, changed }
    }

    /// Counts some records; returns `true` if there are more.
    fn step(&mut self, counter: &mut Counter, report: &mut impl FnMut(Offender)) -> bool {
        let (mut spent, mut read) = (0, 0);
        while spent < SLICE_BYTES && read < FEW {
            spent += self.records.next_len() + RECORD;
            read += 1;
            let offender = match self.records.next() {
                None => return false,
                Some(Ok(OneOf::Whole(entry))) => counter.entry(&entry, self.changed),
                Some(Ok(OneOf::Parts(excerpts, key))) => {
                    counter.record(&excerpts.record(), || key, self.changed)
                }
                Some(Err(_)) => counter.defect(),
            };
            offender.into_iter().for_each(&mut *report);
        }
        self.records.len() > 0
    }
}

impl Several {
    /// Begins with the file at `path`, and lets it wait if it has many records. Returns `false` if
    /// too many wait already.
    #[must_use]
    pub(super) fn begin(
        &mut self,
        path: &Path,
        mut reading: Reading,
        counter: &mut Counter,
        report: &mut impl FnMut(Offender),
    ) -> bool {
        if !self.has_room() && reading.records.len() > FEW {
            let waits = self.paths.iter().any(|waiting| waiting == path);
            if !waits && self.paths.len() < MAX_PATHS {
                self.paths.push_back(path.to_owned());
                return true;
            }
            return waits;
        }
        if reading.step(counter, report) {
            self.files.push_back(reading);
        }
        true
    }

    /// Goes on with the next file, then the others come first.
    pub(super) fn step(&mut self, counter: &mut Counter, report: &mut impl FnMut(Offender)) {
        if let Some(mut reading) = self.files.pop_front()
            && reading.step(counter, report)
        {
            self.files.push_back(reading);
        }
    }

    /// Returns a file that may be begun now.
    pub(super) fn next_path(&mut self) -> Option<PathBuf> {
        let has_room = self.has_room();
        has_room.then(|| self.paths.pop_front()).flatten()
    }

    /// Returns `true` if another file may be begun, of whatever size: so not more than twice the
    /// places of the largest one are held, 8 MiB.
    fn has_room(&self) -> bool {
        let records: usize = self.files.iter().map(|file| file.records.total()).sum();
        self.files.len() < MAX_FILES && records <= MAX_RECORDS
    }

    /// Returns `true` if no file waits.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.paths.is_empty()
    }
}

//! Entries that are stored together, and the files that end with them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::ingest::budget::OwnersBudget;
use crate::ingest::entry::{Bytes, DecodedEntry, MAX_HELD};
use crate::ingest::known_files::Met;
use crate::ingest::open_dir::OpenDir;
use crate::ingest::progress::Progress;
use crate::record::Flags;
use crate::storage_dir::ReadEntry;
use crate::store::Row;

/// Entries of one batch at the most: one transaction and two syncs for all of them.
const MAX_ENTRIES: usize = 1000;
/// Bytes of entries and rows from which on a batch is full.
const FULL: usize = 5 << 20;
/// Directories and large files that a batch may hold open; the usual limit is 1024 descriptors.
const MAX_OPEN: usize = 128;

/// The most that a batch holds in memory, in bytes: an entry is added only to one that is not full.
pub(in crate::ingest) const CAPACITY: usize = FULL + MAX_HELD;

/// One entry of a batch, beside its row.
#[derive(Debug)]
pub(in crate::ingest) struct BatchEntry {
    /// The entry as the merged log receives it.
    pub(in crate::ingest) bytes: Bytes,
    /// What is odd about it. The merged log announces an entry that was interleaved with others.
    pub(in crate::ingest) flags: Flags,
    /// Of its file, which stays if the entry cannot be stored.
    pub(in crate::ingest) progress: Arc<Progress>,
}

/// A file of which nothing more comes in this pass. All its entries are in this batch or in earlier
/// ones, so it may go once this one is safe.
#[derive(Debug)]
pub(in crate::ingest) struct EndedFile {
    /// How to remove it; `None` for an input.
    pub(in crate::ingest) file: Option<ReadEntry>,
    /// The directory that waits for it; `None` for an input.
    pub(in crate::ingest) dir: Option<Arc<OpenDir>>,
    /// What to remember it by, if it stays for good because of an entry in it.
    pub(in crate::ingest) met: Option<Met>,
    /// Whether the file stays because of one of its entries.
    pub(in crate::ingest) progress: Arc<Progress>,
    /// Whether it was left in the middle.
    pub(in crate::ingest) is_left: bool,
}

/// Entries and files on their way.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Batch {
    /// Rows of the entries, in the order of reading.
    pub(in crate::ingest) rows: Vec<Row>,
    /// What belongs to each of the rows.
    pub(in crate::ingest) entries: Vec<BatchEntry>,
    /// Files that may go once the batch is safe.
    pub(in crate::ingest) files: Vec<EndedFile>,
    /// What the owners of the files have to pay for.
    pub(in crate::ingest) charges: Charges,
    /// Bytes that entries and rows hold in memory, about.
    held: usize,
    /// Descriptors that the batch holds open: directories and large files.
    open: usize,
    /// The directory that was counted last in `open`.
    last_dir: Option<Arc<OpenDir>>,
}

impl Batch {
    /// Adds an entry of a file.
    pub(in crate::ingest) fn add(
        &mut self,
        entry: DecodedEntry,
        progress: &Arc<Progress>,
        budget: Option<&OwnersBudget>,
    ) {
        debug_assert!(!self.is_full());
        self.held += entry.row_size + entry.bytes.held();
        self.open += usize::from(entry.bytes.held() == 0);
        self.charges.add(budget, entry.row_size);
        self.rows.push(entry.row);
        self.entries.push(BatchEntry {
            bytes: entry.bytes,
            flags: entry.flags,
            progress: Arc::clone(progress),
        });
    }

    /// Adds a file at its end.
    pub(in crate::ingest) fn end(&mut self, file: EndedFile) {
        // Files of one directory come one after the other.
        if let Some(dir) = &file.dir
            && !self
                .last_dir
                .as_ref()
                .is_some_and(|last| Arc::ptr_eq(last, dir))
        {
            self.open += 1;
            self.last_dir = Some(Arc::clone(dir));
        }
        self.files.push(file);
    }

    /// Returns `true` if it is to be stored before anything else is added.
    pub(in crate::ingest) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES
            || self.held >= FULL
            || self.open >= MAX_OPEN
            || self.files.len() >= MAX_ENTRIES
    }
}

/// What each owner has in a batch, in bytes of rows.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Charges(HashMap<u32, (OwnersBudget, usize)>);

impl Charges {
    /// Adds `size` bytes of a row to what the owner has in the batch. Without a budget nobody pays.
    fn add(&mut self, budget: Option<&OwnersBudget>, size: usize) {
        if let Some(budget) = budget {
            let of = self.0.entry(budget.owner);
            of.or_insert_with(|| (budget.clone(), 0)).1 += size;
        }
    }

    /// Charges each owner with a share of the time that storing the batch took, in proportion to
    /// the bytes of the rows.
    pub(in crate::ingest) fn pay(&self, took: Duration) {
        let all: usize = self.0.values().map(|(_, size)| size).sum();
        for (budget, size) in self.0.values() {
            let part = took.as_micros() * *size as u128 / all.max(1) as u128;
            let part = u64::try_from(part).unwrap_or(u64::MAX);
            budget.add_time(Duration::from_micros(part));
        }
    }
}

#[cfg(test)]
mod tests;

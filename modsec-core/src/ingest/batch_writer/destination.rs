//! Where entries go: the merged log and the store, in this order, all of a batch or nothing.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{error, info, warn};

use super::batch::BatchEntry;
use crate::crash_points;
use crate::entry_hash::EntryHash;
use crate::ingest::entry::Bytes;
use crate::ingest::large_entry::Rereading;
use crate::ingest::{IngestError, Options};
use crate::merged_log::{Appended, MergedLog, MergedLogError, Recovered, Stored};
use crate::program::error_chain;
use crate::read_steps::{ReadSteps, is_left};
use crate::store::{self, BatchId, Row, Store, StoreError};

/// How often a batch is appended again because log rotation by copying has hit it.
const ROTATIONS: u32 = 5;

/// An open store, and the merged log if there is one.
pub(in crate::ingest) struct Destination {
    /// Receives the rows. It decides which entries are new, by their hashes.
    store: Box<dyn Store>,
    /// Receives the entries themselves, before the store has their rows.
    merged_log: Option<MergedLog>,
    /// Reports signs of life, and ends the reading of large entries at a stop.
    steps: ReadSteps,
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(in crate::ingest) struct KeptBatch {
    /// Entries that are new in the store.
    pub(in crate::ingest) stored: u64,
    /// Entries that were in the store already, or are twice in the batch.
    pub(in crate::ingest) known: u64,
    /// Entries that are not in the store. Their files stay.
    pub(in crate::ingest) left_out: Vec<LeftOut>,
    /// Whether some of those are large and were left for the next start.
    pub(in crate::ingest) is_interrupted: bool,
}

/// An entry that could not be stored.
#[derive(Debug)]
pub(in crate::ingest) struct LeftOut {
    /// By which twins of the entry in the same batch are recognized.
    hash: EntryHash,
    /// Path of the file, for the message.
    pub(in crate::ingest) path: Option<PathBuf>,
    /// Why the store does not accept the row; `None` if the entry has changed since it was read, is
    /// left for the next start, or equals one that was left out.
    pub(in crate::ingest) refusal: Option<String>,
}

/// Entries that are not in the store yet, beside their rows in the batch.
struct NewEntries {
    /// The rows, under the id that settles the batch after a crash.
    batch: store::Batch,
    /// One for each row, in the same order.
    entries: Vec<BatchEntry>,
}

/// What came of one attempt to keep new entries.
enum Attempt {
    /// Merged log and store have all of them.
    Kept,
    /// Nothing was kept because of these entries; the others may be tried without them.
    Unwanted(Vec<(EntryHash, Option<String>)>),
}

/// What came of appending entries to the merged log.
enum Append<'l> {
    /// The entries are in the log and synced. Until this is committed, the journal names them as pending.
    Done(Appended<'l>),
    /// Nothing was appended: these entries have changed since they were read.
    Changed(Vec<EntryHash>),
}

impl Destination {
    /// Opens the store, if the options name one, and the merged log, and settles what an earlier run
    /// left under way.
    ///
    /// # Errors
    ///
    /// What store or merged log said.
    pub(in crate::ingest) async fn open(
        options: &Options,
        steps: &ReadSteps,
    ) -> Result<Option<Destination>, IngestError> {
        let Some(opener) = &options.store else {
            return Ok(None);
        };
        let store = ask(steps, opener.open_watched(steps.heartbeat().clone())).await?;
        let merged_log = options.merged_log.as_ref().map(MergedLog::open);
        let mut destination = Destination {
            store,
            merged_log: merged_log.transpose()?,
            steps: steps.clone(),
        };
        destination.settle().await?;
        Ok(Some(destination))
    }

    /// Opens the merged log again by its path.
    pub(in crate::ingest) fn reopen(&mut self) {
        if let Some(log) = &mut self.merged_log
            && let Err(error) = log.reopen()
        {
            warn!(
                error = error_chain(&error),
                "merged log not reopened, going on with the old one"
            );
        }
    }

    /// Settles a batch of which it is not known whether the store has it: a crash interrupted it, the
    /// answer was lost, or taking it back failed.
    ///
    /// # Errors
    ///
    /// What store or merged log said.
    pub(in crate::ingest) async fn settle(&mut self) -> Result<(), IngestError> {
        let Some(log) = &mut self.merged_log else {
            return Ok(());
        };
        let Some(pending) = log.pending() else {
            return Ok(());
        };
        let last = ask(&self.steps, self.store.last_batch(log.id())).await?;
        let stored = if last == Some(BatchId::from_bytes(pending)) {
            Stored::Yes
        } else {
            Stored::No
        };
        match log.recover(stored)? {
            Some(Recovered::NotFound) => {
                warn!(
                    "an interrupted batch could not be taken out of the rotated merged log; its entries may be in there twice"
                );
            }
            Some(Recovered::LeftIn { path, offset }) => {
                warn!(
                    ?path,
                    offset,
                    "an interrupted batch was left in the merged log, as somebody else appended behind it; its entries may be in there twice"
                );
            }
            Some(_) => info!("interrupted batch settled"),
            None => {}
        }
        Ok(())
    }

    /// Puts what is new into merged log and store. Files of what cannot be stored are told to stay.
    ///
    /// # Errors
    ///
    /// What store or merged log said. Nothing of the batch may be removed then.
    pub(in crate::ingest) async fn keep(
        &mut self,
        rows: Vec<Row>,
        entries: Vec<BatchEntry>,
    ) -> Result<KeptBatch, IngestError> {
        let hashes: Vec<EntryHash> = rows.iter().map(|row| row.entry_hash).collect();
        let stored = ask(&self.steps, self.store.known(&hashes)).await?;
        let mut kept = KeptBatch::default();
        let (mut new, twins) = sort_out(rows, entries, &stored, &mut kept);
        let mut rotations = ROTATIONS;
        loop {
            let large = new.large(&self.steps);
            kept.is_interrupted |= !large.is_empty();
            kept.left_out.extend(new.leave_out(large));
            if new.entries.is_empty() {
                break;
            }
            match self.try_to_keep(&mut new).await {
                Ok(Attempt::Kept) => break,
                // It was taken back: a stop was requested while a large one was read.
                Err(IngestError::MergedLog(MergedLogError::Read { source }))
                    if is_left(&source) => {}
                Ok(Attempt::Unwanted(unwanted)) => kept.left_out.extend(new.leave_out(unwanted)),
                Err(IngestError::MergedLog(MergedLogError::Rotated { .. })) if rotations > 0 => {
                    rotations -= 1;
                }
                Err(error) => return Err(error),
            }
        }
        kept.stored = new.entries.len() as u64;
        // A twin is as safe as the entry that it equals, which may have been left out.
        for (row, twin) in twins {
            let hash = row.entry_hash;
            if kept.left_out.iter().any(|left| left.hash == hash) {
                kept.left_out.push(twin.leave_out(row, None));
            } else {
                kept.known += 1;
            }
        }
        Ok(kept)
    }

    /// Keeps all of `new` or nothing.
    async fn try_to_keep(&mut self, new: &mut NewEntries) -> Result<Attempt, IngestError> {
        new.batch.id = batch_id(&new.batch.rows);
        let appended = match &mut self.merged_log {
            Some(log) => match append(log, new, &self.steps)? {
                Append::Done(appended) => Some(appended),
                Append::Changed(changed) => {
                    let unwanted = changed.into_iter().map(|hash| (hash, None));
                    return Ok(Attempt::Unwanted(unwanted.collect()));
                }
            },
            None => None,
        };
        new.batch.journal = appended.as_ref().map(|log| log.journal().to_owned());
        crash_points::pass("before-insert");
        match ask(&self.steps, self.store.insert(&new.batch)).await {
            Ok(_) => {
                let mut is_lost = false;
                if let Some(appended) = appended {
                    crash_points::pass("before-journal-closed");
                    // Not knowing it counts as no: it is in there, as a rule.
                    is_lost = appended.is_lost().unwrap_or(false);
                    appended.commit()?;
                }
                if is_lost {
                    self.append_again(new)?;
                }
                crash_points::pass("before-removal");
                Ok(Attempt::Kept)
            }
            Err(IngestError::Store(error)) if !error.refused().is_empty() => {
                if let Some(appended) = appended {
                    appended.rollback()?;
                }
                let refused = error.refused().iter();
                let refused = refused.map(|row| (row.entry, Some(row.reason.clone())));
                Ok(Attempt::Unwanted(refused.collect()))
            }
            // Whether the transaction went through may be unknown. The journal stays open, and the
            // next run asks the store.
            Err(error) => Err(error),
        }
    }

    /// Appends once more what the store has already: the log was removed or replaced meanwhile.
    fn append_again(&mut self, new: &NewEntries) -> Result<(), IngestError> {
        let Some(log) = &mut self.merged_log else {
            return Ok(());
        };
        warn!(
            "merged log was replaced or removed while it was open, appending the last entries again"
        );
        let appended = append(log, new, &self.steps).and_then(|appended| match appended {
            Append::Done(appended) => appended.commit().map(|()| true),
            Append::Changed(_) => Ok(false),
        });
        if !matches!(appended, Ok(true)) {
            let entries = new.entries.len();
            error!(
                entries,
                "merged log lacks entries, only the database has them"
            );
        }
        appended?;
        Ok(())
    }
}

/// Waits for the store, but not for long once a stop is requested: another process may hold it.
///
/// # Errors
///
/// What the store said, or [`IngestError::Interrupted`]: what was asked for may be done, as after a
/// crash.
pub(super) async fn ask<T>(
    steps: &ReadSteps,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, IngestError> {
    match steps.unless_stopped(call).await {
        Some(answer) => Ok(answer?),
        None => Err(IngestError::Interrupted),
    }
}

/// Returns the entries that are not in the store, and those that are twice among them. Counts the
/// others.
fn sort_out(
    rows: Vec<Row>,
    entries: Vec<BatchEntry>,
    stored: &HashSet<EntryHash>,
    kept: &mut KeptBatch,
) -> (NewEntries, Vec<(Row, BatchEntry)>) {
    let mut seen = HashSet::with_capacity(rows.len());
    let (mut new_rows, mut new_entries) = (Vec::with_capacity(rows.len()), Vec::new());
    let mut twins = Vec::new();
    for (row, entry) in rows.into_iter().zip(entries) {
        if stored.contains(&row.entry_hash) {
            kept.known += 1;
        } else if seen.insert(row.entry_hash) {
            new_rows.push(row);
            new_entries.push(entry);
        } else {
            twins.push((row, entry));
        }
    }
    let batch = store::Batch::new(None, new_rows);
    let entries = new_entries;
    (NewEntries { batch, entries }, twins)
}

impl NewEntries {
    /// Returns those that are too large to be begun now.
    fn large(&self, steps: &ReadSteps) -> Vec<(EntryHash, Option<String>)> {
        let entries = self.batch.rows.iter().zip(&self.entries);
        let large = entries.filter(|(_, entry)| match &entry.bytes {
            Bytes::InFile(extent) => steps.leave(extent.len),
            Bytes::Whole(_) => false,
        });
        large.map(|(row, _)| (row.entry_hash, None)).collect()
    }

    /// Takes entries out; their files stay.
    fn leave_out(&mut self, unwanted: Vec<(EntryHash, Option<String>)>) -> Vec<LeftOut> {
        let rows = Arc::make_mut(&mut self.batch.rows);
        let mut left_out = Vec::new();
        for (hash, refusal) in unwanted {
            if let Some(at) = rows.iter().position(|row| row.entry_hash == hash) {
                left_out.push(self.entries.remove(at).leave_out(rows.remove(at), refusal));
            }
        }
        left_out
    }
}

impl BatchEntry {
    /// Keeps the file in place for another attempt, and describes the entry for the message.
    fn leave_out(self, row: Row, refusal: Option<String>) -> LeftOut {
        self.progress.stay_for_another_try();
        LeftOut {
            hash: row.entry_hash,
            path: row.path,
            refusal,
        }
    }
}

/// Appends new entries and syncs.
fn append<'l>(
    log: &'l mut MergedLog,
    new: &NewEntries,
    steps: &ReadSteps,
) -> Result<Append<'l>, MergedLogError> {
    let mut changed = Vec::new();
    let mut batch = log.begin(*new.batch.id.as_bytes())?;
    for (row, entry) in new.batch.rows.iter().zip(&new.entries) {
        steps.heartbeat().beat();
        match &entry.bytes {
            Bytes::Whole(bytes) => batch.append_hashed(bytes, row.entry_hash, entry.flags)?,
            Bytes::InFile(extent) => {
                let open = || Rereading::new(extent, steps);
                if !batch.append_from(row.entry_hash, entry.flags, open)? {
                    changed.push(row.entry_hash);
                }
            }
        }
    }
    if !changed.is_empty() {
        batch.rollback()?;
        return Ok(Append::Changed(changed));
    }
    batch.finish().map(Append::Done)
}

/// Names a batch like no other, even if the same entries come again.
fn batch_id(rows: &[Row]) -> BatchId {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let salt = EntryHash::of(format!("{} {}", now.as_nanos(), std::process::id()).as_bytes());
    BatchId::of(std::iter::once(salt).chain(rows.iter().map(|row| row.entry_hash)))
}

#[cfg(test)]
mod tests;

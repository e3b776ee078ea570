//! The rows of one file on their way into batches, and who pays for a batch.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{EntrySource, Item, Keeper};
use crate::ingest::feed::{Budget, Found, OpenDir, Skipped, unless_it_panics};
use crate::ingest::read::{NoRow, ReadRow, Rows};
use crate::ingest::turn::OwnersTurn;
use crate::ingest::unopened::Met;
use crate::ingest::{IngestError, Report, digest};
use crate::store::Row;

impl Keeper {
    /// Takes the rows of one file; returns `true` if it may go. Those of several entries come one at
    /// a time, and the batch is flushed between them. The file goes with the last of them, or is
    /// left in the middle when something else is to go first.
    pub(super) async fn take_rows(
        &mut self,
        mut found: Found,
        (path, dir, met): (PathBuf, Option<Arc<OpenDir>>, Option<Met>),
        mut reserved: usize,
        budget: &Budget,
        report: &mut dyn Report,
    ) -> Result<bool, IngestError> {
        let source = Arc::new(EntrySource {
            file: found.file.take(),
            dir,
            met,
            progress: found.read.progress(),
            is_left: AtomicBool::new(false),
            turn: found.turn.take(),
        });
        let mut digests = std::mem::take(&mut found.digests);
        let (begun, begun_at) = (Instant::now(), found.read.is_within());
        let mut goes_on = may_begin(&source, &found.read);
        while goes_on {
            match next_row(&source, &mut found.read) {
                Ok(None) => break,
                Ok(Some(read)) => {
                    // Before it is added, so that the last one always waits for a flush.
                    self.flush_if_full(budget, report).await?;
                    // What is reserved for the file itself is free once all are taken.
                    let own = reserved.min(read.size());
                    reserved -= own;
                    if found.read.are_several() && self.index.is_some() {
                        digests.extend(digest::of_one_of_many(&read));
                    }
                    self.add(read, &source, own, report)?;
                }
                Err(skipped) => self.skip_one(&source, &path, skipped),
            }
            goes_on = may_go_on(&source, &found.read, begun);
        }
        let left_at = found.read.is_within();
        if left_at.is_some() {
            leave(&source);
        }
        if let Some(done) = left_at.filter(|_| left_at != begun_at) {
            self.note_place(&source, done, budget, report).await?;
        }
        if let (None, Some(file), Some(turn)) = (left_at, &source.file, &source.turn) {
            self.left_off.forget(turn.owner, file.identity());
        }
        if let Some(index) = &mut self.index {
            let at = found.indexed.as_deref().filter(|_| left_at.is_none());
            index.found(&digests, at);
        }
        drop(found);
        budget.free(reserved);
        let goes = left_at.is_none() && !source.progress.stays();
        // Without a row, nothing waits for a flush.
        if let Some(source) = Arc::into_inner(source) {
            self.done(source.dir.as_deref());
        }
        Ok(goes)
    }

    /// Lets a file stay because of an entry of which there is no row.
    fn skip_one(&mut self, source: &EntrySource, path: &Path, skipped: Skipped) {
        match skipped {
            Skipped::NoRow(NoRow::Defect(defect)) => {
                if source.progress.stay() {
                    self.name_defect(path, source.met, &defect);
                }
            }
            skipped => {
                source.progress.stay_for_another_try();
                self.skip(path, None, skipped);
            }
        }
    }

    /// Notes where to go on. What was taken is safe before.
    async fn note_place(
        &mut self,
        source: &EntrySource,
        done: usize,
        budget: &Budget,
        report: &mut dyn Report,
    ) -> Result<(), IngestError> {
        self.flush(budget, report).await?;
        if let (Some(file), Some(turn)) = (&source.file, &source.turn) {
            self.got_on +=
                self.left_off
                    .remember(turn.owner, *file.identity(), &source.progress, done);
        }
        Ok(())
    }
}

fn next_row(source: &EntrySource, rows: &mut Rows) -> Result<Option<ReadRow>, Skipped> {
    let begun = Instant::now();
    let read = unless_it_panics(|| rows.next().transpose().map_err(Skipped::NoRow));
    if let Some(turn) = &source.turn {
        turn.add_time(begun.elapsed());
        if let Ok(Some(read)) = &read {
            turn.add_record(read.row_size);
        }
    }
    read
}

/// Lets a file stay that is left in the middle.
fn leave(source: &EntrySource) {
    source.is_left.store(true, Ordering::Relaxed);
    if let Some(turn) = &source.turn {
        turn.leave();
    }
}

fn may_begin(source: &EntrySource, rows: &Rows) -> bool {
    let is_one = !rows.are_several();
    is_one || source.turn.as_ref().is_none_or(OwnersTurn::may_begin)
}

fn may_go_on(source: &EntrySource, rows: &Rows, begun: Instant) -> bool {
    let is_at_end = rows.is_within().is_none();
    is_at_end || source.turn.as_ref().is_none_or(|turn| turn.goes_on(begun))
}

/// Returns what each owner has in a batch, in bytes of rows.
pub(super) fn shares(batch: &[(Row, Item)]) -> Vec<(OwnersTurn, usize)> {
    let mut shares: HashMap<u32, (OwnersTurn, usize)> = HashMap::new();
    for (row, item) in batch {
        if let Some(turn) = &item.source.turn {
            let share = shares
                .entry(turn.owner)
                .or_insert_with(|| (turn.clone(), 0));
            share.1 += row.size();
        }
    }
    shares.into_values().collect()
}

/// Lets each owner pay for his share of the time that a batch took.
pub(super) fn share(shares: &[(OwnersTurn, usize)], took: Duration) {
    let all: usize = shares.iter().map(|(_, size)| size).sum();
    for (turn, size) in shares {
        let part = took.as_micros() * *size as u128 / all.max(1) as u128;
        turn.add_time(Duration::from_micros(
            u64::try_from(part).unwrap_or(u64::MAX),
        ));
    }
}

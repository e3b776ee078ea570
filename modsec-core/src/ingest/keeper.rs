//! Batches of entries on their way into merged log and store, and the files that may then go.

mod append;
mod left;
mod rows;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, warn};

use self::append::{append, batch_id, recover};
use self::left::remember;
use super::feed::{Budget, OpenDir, Outcome};
use super::index::Index;
use super::read::{Bytes, ReadRow};
use super::refused::Verdict;
use super::remover::{Removed, Remover};
use super::several::{LeftOff, Progress};
use super::turn::OwnersTurn;
use super::unopened::{ByOwner, Memory, Met};
use super::{AccountNames, DefectReason, IngestError, Options, Report, Tally};
use crate::crash_points;
use crate::entry_hash::EntryHash;
use crate::heartbeat::Heartbeat;
use crate::log_once::LogOnce;
use crate::merged_log::{MergedLog, MergedLogError};
use crate::program::error_chain;
use crate::record::Flags;
use crate::storage_dir::ReadEntry;
use crate::store::{Batch, BatchId, Row, Store};

/// Entries of one batch at the most: one transaction and two syncs for all of them.
const BATCH_ENTRIES: usize = 1000;
/// Bytes of the entries of one batch that are held in memory.
const BATCH_BYTES: usize = 3 * 1024 * 1024;
/// Bytes of their rows. Both together, and the most that one reader waits for, are less than what
/// all may reserve: the batch is flushed before a reader waits for it in vain.
const BATCH_ROWS: usize = 3 * 1024 * 1024;
/// Directories and large files that a batch may hold open; the usual limit is 1024 descriptors.
const BATCH_OPEN: usize = 128;
/// How often a batch is appended again because log rotation by copying has hit it.
const ROTATIONS: u32 = 5;
/// Messages about single files at a time; the rest is only counted.
const MESSAGES: usize = 20;
/// After this time everything may be said again.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// How often the report is told of progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// One entry of a batch, beside its row.
struct Item {
    hash: EntryHash,
    flags: Flags,
    bytes: Bytes,
    source: Arc<EntrySource>,
    reserved: usize,
}

/// Where an entry came from. Several entries of one file share it; the file goes with the last of
/// them, if none has to stay.
struct EntrySource {
    file: Option<ReadEntry>,
    dir: Option<Arc<OpenDir>>,
    /// What to remember it by, if it stays for good because of another entry in it.
    met: Option<Met>,
    progress: Arc<Progress>,
    /// Whether it was left in the middle.
    is_left: AtomicBool,
    turn: Option<OwnersTurn>,
}

impl EntrySource {
    /// Of an entry of a log.
    fn none() -> EntrySource {
        EntrySource {
            file: None,
            dir: None,
            met: None,
            progress: Arc::default(),
            is_left: AtomicBool::new(false),
            turn: None,
        }
    }

    fn is_left(&self) -> bool {
        self.is_left.load(Ordering::Relaxed)
    }
}

/// What the entries of a batch hold in memory, in bytes.
#[derive(Default)]
struct Held {
    entries: usize,
    rows: usize,
}

/// Takes outcomes, keeps entries and removes files.
pub(super) struct Keeper {
    store: Option<Box<dyn Store>>,
    merged_log: Option<MergedLog>,
    batch: Vec<(Row, Item)>,
    held: Held,
    open: usize,
    log_once: LogOnce,
    /// Files that are no entries, as the running walk has met them.
    no_entries: ByOwner,
    accounts: AccountNames,
    memory: Memory,
    left_off: LeftOff,
    /// Entries of files that were left in the middle, counted when they were left.
    got_on: usize,
    /// As the administrator wrote them.
    inputs: Vec<PathBuf>,
    /// Whether what stays in place was named by an earlier walk.
    is_again: bool,
    started: Instant,
    reported: Instant,
    remover: Remover,
    pub(super) index: Option<Index>,
    heartbeat: Heartbeat,
    pub(super) tally: Tally,
}

impl Keeper {
    /// Opens store and merged log, and settles what an earlier run left under way. Lets `heartbeat`
    /// beat with every step from now on.
    pub(super) async fn open(
        options: &Options,
        started: Instant,
        heartbeat: Heartbeat,
    ) -> Result<Keeper, IngestError> {
        let mut store = match &options.store {
            Some(opener) => Some(opener.open_watched(heartbeat.clone()).await?),
            None => None,
        };
        let merged_log = match (&options.merged_log, &mut store) {
            (Some(path), Some(store)) => {
                let mut log = MergedLog::open(path)?;
                recover(&mut log, store.as_mut()).await?;
                Some(log)
            }
            _ => None,
        };
        Ok(Keeper {
            store,
            merged_log,
            batch: Vec::new(),
            held: Held::default(),
            open: 0,
            log_once: LogOnce::new(MESSAGES, "more files like these, counted in the summary")
                .forgetting_after(FORGET_AFTER),
            no_entries: ByOwner::default(),
            accounts: options.accounts.clone(),
            memory: Memory::default(),
            left_off: LeftOff::default(),
            got_on: 0,
            inputs: options.inputs.clone(),
            is_again: false,
            started,
            reported: started,
            remover: Remover::start(&heartbeat).map_err(IngestError::Thread)?,
            heartbeat,
            index: None,
            tally: Tally::default(),
        })
    }

    /// Returns what beats with every step.
    pub(super) fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// Returns what is remembered of files that stay where they are.
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Returns where files were left in the middle.
    pub(super) fn left_off(&self) -> &LeftOff {
        &self.left_off
    }

    /// Settles a batch of which it is not known whether the store has it: the answer was lost, or
    /// taking it back failed.
    pub(super) async fn settle(&mut self) -> Result<(), IngestError> {
        match (&mut self.merged_log, &mut self.store) {
            (Some(log), Some(store)) => recover(log, store.as_mut()).await,
            _ => Ok(()),
        }
    }

    /// Opens the merged log again by its path.
    pub(super) fn reopen(&mut self) {
        if let Some(log) = &mut self.merged_log
            && let Err(error) = log.reopen()
        {
            warn!(
                error = error_chain(&error),
                "merged log not reopened, going on with the old one"
            );
        }
    }

    /// Returns the counts so far and starts anew.
    pub(super) fn take_tally(&mut self) -> Tally {
        self.is_again = false;
        self.count_lines();
        std::mem::take(&mut self.tally)
    }

    fn count_lines(&mut self) {
        if let Some(index) = &mut self.index {
            self.tally.index.add(&index.take_counts());
        }
    }

    /// Lets single files be mentioned again.
    pub(super) fn log_more(&mut self) {
        self.log_once.allow_more();
    }

    /// Takes what became of one file. Returns `true` if the file may go.
    pub(super) async fn take(
        &mut self,
        outcome: Outcome,
        budget: &Budget,
        report: &mut dyn Report,
    ) -> Result<bool, IngestError> {
        self.heartbeat.beat();
        let goes = match outcome.result {
            Ok(found) => {
                let from = (outcome.path, outcome.dir, outcome.met);
                let reserved = outcome.reserved;
                self.take_rows(found, from, reserved, budget, report)
                    .await?
            }
            Err(skipped) => {
                budget.free(outcome.reserved);
                self.skip(&outcome.path, outcome.met, skipped);
                self.done(outcome.dir.as_deref());
                false
            }
        };
        self.flush_if_full(budget, report).await?;
        Ok(goes)
    }

    /// Takes an entry of a log.
    pub(super) async fn take_entry(
        &mut self,
        read: ReadRow,
        budget: &Budget,
        report: &mut dyn Report,
    ) -> Result<(), IngestError> {
        self.heartbeat.beat();
        let source = Arc::new(EntrySource::none());
        self.add(read, &source, 0, report)?;
        self.flush_if_full(budget, report).await
    }

    /// Forgets the batch at hand; its entries will be read again.
    pub(super) fn forget_batch(&mut self) {
        self.batch.clear();
        (self.held, self.open) = (Held::default(), 0);
    }

    async fn flush_if_full(
        &mut self,
        budget: &Budget,
        report: &mut dyn Report,
    ) -> Result<(), IngestError> {
        if self.batch.len() >= BATCH_ENTRIES
            || self.held.entries >= BATCH_BYTES
            || self.held.rows >= BATCH_ROWS
            || self.open_now() >= BATCH_OPEN
        {
            self.flush(budget, report).await?;
        }
        self.progress(report);
        Ok(())
    }

    /// Adds an entry to the batch at hand.
    fn add(
        &mut self,
        read: ReadRow,
        source: &Arc<EntrySource>,
        reserved: usize,
        report: &mut dyn Report,
    ) -> Result<(), IngestError> {
        self.tally.entry(&read.row, read.flags, read.bytes.len());
        if let Some(line) = &read.json {
            report.json_line(line).map_err(IngestError::Output)?;
        }
        self.held.entries += read.bytes.held();
        self.held.rows += read.row_size;
        self.open += usize::from(read.bytes.held() == 0) + usize::from(source.dir.is_some());
        let item = Item {
            hash: read.row.entry_hash,
            flags: read.flags,
            bytes: read.bytes,
            source: Arc::clone(source),
            reserved,
        };
        self.batch.push((read.row, item));
        Ok(())
    }

    /// Returns how many descriptors the batch may hold: many entries share one directory.
    fn open_now(&self) -> usize {
        if self.open < BATCH_OPEN {
            return self.open;
        }
        let dirs: HashSet<_> = self
            .batch
            .iter()
            .filter_map(|(_, item)| item.source.dir.as_ref())
            .map(Arc::as_ptr)
            .collect();
        dirs.len()
            + self
                .batch
                .iter()
                .filter(|(_, item)| item.bytes.held() == 0)
                .count()
    }

    fn progress(&mut self, report: &mut dyn Report) {
        let now = Instant::now();
        if now.duration_since(self.reported) >= REPORT_EVERY {
            self.reported = now;
            self.tally.elapsed = now.duration_since(self.started);
            report.progress(&self.tally);
        }
    }

    /// Keeps the batch at hand and removes its files.
    pub(super) async fn flush(
        &mut self,
        budget: &Budget,
        report: &mut dyn Report,
    ) -> Result<(), IngestError> {
        let batch = std::mem::take(&mut self.batch);
        (self.held, self.open) = (Held::default(), 0);
        let reserved = batch.iter().map(|(_, item)| item.reserved).sum();
        if let Some(mut store) = self.store.take() {
            let (shares, begun) = (rows::shares(&batch), Instant::now());
            let kept = self.keep(store.as_mut(), batch).await;
            self.store = Some(store);
            rows::share(&shares, begun.elapsed());
            let kept = kept?;
            // All entries that were read up to now are safe, so their lines are done with.
            if let Some(index) = &mut self.index {
                index.note_batch();
            }
            self.remove(kept);
        }
        budget.free(reserved);
        self.progress(report);
        Ok(())
    }

    /// Puts what is new into merged log and store, and returns the items that are safe now.
    async fn keep(
        &mut self,
        store: &mut dyn Store,
        batch: Vec<(Row, Item)>,
    ) -> Result<Vec<Item>, IngestError> {
        let hashes: Vec<EntryHash> = batch.iter().map(|(_, item)| item.hash).collect();
        let mut seen = store.known(&hashes).await?;
        let mut safe = Vec::with_capacity(batch.len());
        let mut fresh = Fresh::default();
        let stored = seen.clone();
        let mut twins = Vec::new();
        for (row, item) in batch {
            if seen.insert(item.hash) {
                fresh.rows.push(row);
                fresh.items.push(item);
            } else if stored.contains(&item.hash) {
                safe.push(item);
            } else {
                twins.push(item);
            }
        }
        let mut rotations = ROTATIONS;
        while !fresh.items.is_empty() {
            match self.keep_fresh(store, &mut fresh).await {
                Ok(Kept::All) => break,
                Ok(Kept::Not(unwanted)) => self.set_aside(&mut fresh, &unwanted),
                Err(IngestError::MergedLog(MergedLogError::Rotated { .. })) if rotations > 0 => {
                    rotations -= 1;
                }
                Err(error) => return Err(error),
            }
        }
        self.tally.stored += fresh.items.len() as u64;
        // A twin is as safe as the entry that it equals, which may have been set aside.
        let kept: HashSet<EntryHash> = fresh.items.iter().map(|item| item.hash).collect();
        for twin in twins {
            if kept.contains(&twin.hash) {
                safe.push(twin);
            } else {
                self.tally.waiting += 1;
                self.leave(twin);
            }
        }
        self.tally.known += safe.len() as u64;
        safe.append(&mut fresh.items);
        Ok(safe)
    }

    /// Keeps all of `fresh` or nothing.
    async fn keep_fresh(
        &mut self,
        store: &mut dyn Store,
        fresh: &mut Fresh,
    ) -> Result<Kept, IngestError> {
        let id = batch_id(&fresh.items);
        let appended = match &mut self.merged_log {
            Some(log) => match append(log, id, &fresh.items, &self.heartbeat)? {
                Ok(appended) => Some(appended),
                Err(changed) => {
                    let changed = changed.into_iter().map(|hash| (hash, None));
                    return Ok(Kept::Not(changed.collect()));
                }
            },
            None => None,
        };
        let batch = Batch {
            id,
            journal: appended.as_ref().map(|log| log.journal().to_owned()),
            rows: std::mem::take(&mut fresh.rows),
        };
        crash_points::pass("before-insert");
        let inserted = store.insert(&batch).await;
        fresh.rows = batch.rows;
        match inserted {
            Ok(_) => {
                if let Some(appended) = appended {
                    crash_points::pass("before-journal-closed");
                    // Not knowing it counts as no: it is in there, as a rule.
                    let is_lost = appended.is_lost().unwrap_or(false);
                    appended.commit()?;
                    if is_lost {
                        self.append_again(id, &fresh.items)?;
                    }
                }
                crash_points::pass("before-removal");
                Ok(Kept::All)
            }
            Err(error) if !error.refused().is_empty() => {
                if let Some(appended) = appended {
                    appended.rollback()?;
                }
                let refused = error.refused().iter();
                Ok(Kept::Not(
                    refused
                        .map(|row| (row.entry, Some(row.reason.clone())))
                        .collect(),
                ))
            }
            // Whether the transaction went through may be unknown. The journal stays open, and the
            // next run asks the store.
            Err(error) => Err(error.into()),
        }
    }

    /// Appends once more what the store has already: the log was removed or replaced meanwhile.
    fn append_again(&mut self, id: BatchId, items: &[Item]) -> Result<(), IngestError> {
        let Some(log) = &mut self.merged_log else {
            return Ok(());
        };
        warn!(
            "merged log was replaced or removed while it was open, appending the last entries again"
        );
        let appended =
            append(log, id, items, &self.heartbeat).and_then(|appended| match appended {
                Ok(appended) => appended.commit().map(|()| true),
                Err(_changed) => Ok(false),
            });
        if !matches!(appended, Ok(true)) {
            let entries = items.len();
            error!(
                entries,
                "merged log lacks entries, only the database has them"
            );
        }
        appended?;
        Ok(())
    }

    /// Takes entries out of the batch; their files stay.
    fn set_aside(&mut self, fresh: &mut Fresh, unwanted: &[(EntryHash, Option<String>)]) {
        let all = std::mem::take(fresh);
        for (row, item) in all.rows.into_iter().zip(all.items) {
            let Some((_, reason)) = unwanted.iter().find(|(hash, _)| *hash == item.hash) else {
                fresh.rows.push(row);
                fresh.items.push(item);
                continue;
            };
            match reason {
                Some(reason) => {
                    self.tally.defect(DefectReason::Refused);
                    if self.is_new((&row.path, reason)) {
                        error!(path = row.path.as_ref().map(tracing::field::debug), error = ?reason, "entry refused by the database, file kept");
                    }
                }
                None => self.tally.waiting += 1,
            }
            self.leave(item);
        }
    }

    /// Lets the file of an entry stay.
    fn leave(&mut self, item: Item) {
        item.source.progress.stay_for_another_try();
        if let Some(source) = Arc::into_inner(item.source) {
            self.done(source.dir.as_deref());
        }
    }

    /// Lets the files of entries that are safe be removed.
    fn remove(&mut self, batch: Vec<Item>) {
        let stored = batch
            .into_iter()
            .filter_map(|item| Arc::into_inner(item.source))
            .map(|source| {
                let (progress, is_left) = (&source.progress, source.is_left());
                if !is_left && progress.stays_for_good() {
                    remember(&self.memory, source.met, Verdict::NotAnAuditLog);
                }
                let goes = !is_left && !progress.stays();
                (source.file.filter(|_| goes), source.dir)
            })
            .collect();
        let removed = self.remover.remove(stored);
        self.removed(removed);
    }

    /// Waits until all files of stored entries are removed. To be called before another walk.
    pub(super) fn finish_removing(&mut self) {
        let removed = self.remover.finish();
        self.removed(removed);
    }

    fn removed(&mut self, batches: Vec<Removed>) {
        for removed in batches {
            self.tally.removed += removed.files;
            for refusal in removed.refusals {
                self.refuse(refusal);
            }
        }
    }

    fn done(&mut self, dir: Option<&OpenDir>) {
        if let Some(refusal) = dir.and_then(OpenDir::done) {
            self.refuse(refusal);
        }
    }

    /// Begins a walk over the whole tree.
    pub(super) fn begin_walk(&mut self) {
        self.no_entries = ByOwner::default();
    }

    /// Begins another walk over the same directory, which finds again what this one left in place:
    /// it is counted and named once.
    pub(super) fn walk_again(&mut self) {
        self.is_again = true;
        self.begin_walk();
        self.tally.forget_what_stays();
    }

    /// Ends a walk over the whole tree: what it has not met is forgotten, what stays is named.
    pub(super) fn end_of_walk(&mut self) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.end_of_walk();
        drop(memory);
        self.name_owners();
    }

    /// Returns how many files were done with for good since the start of the counts, how many are
    /// remembered, and how many entries were taken of others.
    pub(super) fn progress_made(&self) -> (u64, usize, usize) {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        (self.tally.removed, memory.len(), self.got_on)
    }

    /// Returns how many entries were taken of files that were left in the middle.
    pub(super) fn got_on(&self) -> usize {
        self.got_on
    }

    /// Returns the counts.
    pub(super) fn finish(mut self) -> Tally {
        self.count_lines();
        self.tally.elapsed = self.started.elapsed();
        self.tally
    }
}

/// Entries that are not in the store yet: rows, and in the same order what belongs to them.
#[derive(Default)]
struct Fresh {
    rows: Vec<Row>,
    items: Vec<Item>,
}

/// What became of a batch.
enum Kept {
    All,
    /// Nothing of it, because of these entries: refused by the store for a reason, or changed
    /// since they were read.
    Not(Vec<(EntryHash, Option<String>)>),
}

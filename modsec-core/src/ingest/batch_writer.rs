//! Batches of entries on their way into merged log and store, and the files that may then go.
//!
//! What is held in memory between reading and storing is bounded, whatever the site users write:
//! see [`MOST`].

mod batch;
mod comparison;
mod destination;
mod findings;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::batch::{Batch, EndedFile};
use self::comparison::Comparison;
use self::destination::Destination;
use self::findings::Findings;
use super::budget::OwnersBudget;
use super::entry::{DecodedEntry, MAX_HELD, NoEntry, Skipped, unless_it_panics};
use super::index::{Digest, Index};
use super::known_files::{FileVerdict, Met};
use super::multi_entry::{FileEntries, MultiEntry};
use super::open_dir::OpenDir;
use super::outcome::{DecodedFile, FileOutcome, FilePlace};
use super::progress::{LeftOff, Progress};
use super::unlinker::{Removed, StoredFile, Unlinker};
use super::{IngestError, Observer, Options, Tally, decode_pool, digest};
use crate::read_steps::ReadSteps;

/// How often the observer receives progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// The most that entries and rows hold in memory between reading and storing, in bytes: what waits
/// to be taken; the batch; and the file whose entries are being taken. Each thread holds besides what it is at work on.
const MOST: usize = decode_pool::CAPACITY + batch::CAPACITY + MAX_HELD;
const _: () = assert!(MOST <= 32 << 20);

/// Takes outcomes, keeps entries and removes files.
pub(super) struct BatchWriter {
    /// `None` if nothing is kept.
    destination: Option<Destination>,
    /// What is asked instead which entries are known.
    comparison: Option<Comparison>,
    /// Entries that wait to be kept, and the files that end with them.
    batch: Batch,
    /// Counts of the pass, what is remembered of files that stay, and what was named in the log.
    pub(super) findings: Findings,
    /// Where files were left in the middle.
    pub(super) left_off: LeftOff,
    /// Entries of files that were left in the middle, counted when they were left.
    pub(super) got_on: usize,
    /// When the run began; from here `Tally::elapsed` is measured.
    started: Instant,
    /// When the observer last received progress; see [`REPORT_EVERY`].
    reported: Instant,
    /// The thread that removes the files of stored entries.
    unlinker: Unlinker,
    /// The index that is compared with what is read; `None` without `--index`.
    pub(super) index: Option<Index>,
    /// Receives every step for the watchdog, and ends the reading of large files at a stop.
    pub(super) steps: ReadSteps,
}

impl BatchWriter {
    /// Opens store and merged log, and settles what an earlier run left under way. Reports every
    /// step to `steps` from now on; what is larger than they allow is left for the next start.
    ///
    /// # Errors
    ///
    /// What store or merged log said, or [`IngestError::Thread`].
    pub(super) async fn open(
        options: &Options,
        started: Instant,
        steps: ReadSteps,
    ) -> Result<BatchWriter, IngestError> {
        Ok(BatchWriter {
            destination: Destination::open(options, &steps).await?,
            comparison: Comparison::open(options, &steps).await?,
            batch: Batch::default(),
            findings: Findings::new(options),
            left_off: LeftOff::default(),
            got_on: 0,
            started,
            reported: started,
            unlinker: Unlinker::start(steps.heartbeat()).map_err(IngestError::Thread)?,
            steps,
            index: None,
        })
    }

    /// Settles a batch of which it is not known whether the store has it: the answer was lost, or
    /// taking it back failed.
    ///
    /// # Errors
    ///
    /// What store or merged log said.
    pub(super) async fn settle(&mut self) -> Result<(), IngestError> {
        match &mut self.destination {
            Some(destination) => destination.settle().await,
            None => Ok(()),
        }
    }

    /// Opens the merged log again by its path.
    pub(super) fn reopen(&mut self) {
        self.destination.iter_mut().for_each(Destination::reopen);
    }

    /// Returns the counts so far and starts anew.
    pub(super) fn take_tally(&mut self) -> Tally {
        self.count_lines();
        self.findings.take_tally()
    }

    /// Adds what the index has counted since the last call to the counts of the pass.
    fn count_lines(&mut self) {
        if let Some(index) = &mut self.index {
            self.findings.tally.index.add(&index.take_counts());
        }
    }

    /// Takes what became of one file. Returns `true` if the file may go.
    ///
    /// # Errors
    ///
    /// What store or merged log said, or [`IngestError::Output`].
    pub(super) async fn take(
        &mut self,
        outcome: FileOutcome,
        observer: &mut dyn Observer,
    ) -> Result<bool, IngestError> {
        self.steps.heartbeat().beat();
        let place = outcome.place;
        let goes = match outcome.result {
            Ok(file) => self.take_file(file, place, observer).await?,
            Err(skipped) => {
                self.skip(&place.path, place.met, skipped);
                self.done(place.dir.as_deref());
                false
            }
        };
        self.flush_if_full(observer).await?;
        Ok(goes)
    }

    /// Takes an entry of a log.
    ///
    /// # Errors
    ///
    /// As for [`BatchWriter::take`].
    pub(super) async fn take_entry(
        &mut self,
        entry: DecodedEntry,
        observer: &mut dyn Observer,
    ) -> Result<(), IngestError> {
        self.steps.heartbeat().beat();
        self.add(entry, &Arc::default(), None, observer)?;
        self.flush_if_full(observer).await
    }

    /// Forgets the batch at hand; its entries will be read again.
    pub(super) fn forget_batch(&mut self) {
        self.batch = Batch::default();
    }

    /// Keeps the batch at hand if it is full, and reports progress if that is due.
    ///
    /// Called after each entry and each file, so a batch exceeds its bounds by one entry at the
    /// most.
    async fn flush_if_full(&mut self, observer: &mut dyn Observer) -> Result<(), IngestError> {
        if self.batch.is_full() {
            self.flush(observer).await?;
        }
        self.progress(observer);
        Ok(())
    }

    /// Takes the entries of one file; returns `true` if it may go.
    async fn take_file(
        &mut self,
        found: DecodedFile,
        place: FilePlace,
        observer: &mut dyn Observer,
    ) -> Result<bool, IngestError> {
        let (budget, mut digests) = (found.budget.as_ref(), found.digests);
        let progress = match &found.entries {
            FileEntries::One(_) => Arc::default(),
            FileEntries::Several(several) => Arc::clone(&several.progress),
        };
        let (mut left_at, mut begun_at) = (None, None);
        match found.entries {
            FileEntries::One(entry) => self.add(*entry, &progress, budget, observer)?,
            FileEntries::Several(mut several) => {
                begun_at = several.is_within();
                let more = self
                    .take_several(&mut several, budget, &place, observer)
                    .await?;
                digests.extend(more);
                left_at = several.is_within();
            }
        }
        let identity = found.file.as_ref().map(|file| *file.identity());
        self.batch.end(EndedFile {
            file: found.file,
            dir: place.dir,
            met: place.met,
            progress: Arc::clone(&progress),
            is_left: left_at.is_some(),
        });
        if let Some(budget) = budget.filter(|_| left_at.is_some()) {
            budget.leave();
            self.findings.tally.interrupted |= budget.is_stopped();
        }
        match (budget.zip(identity), left_at) {
            (Some((budget, identity)), None) => self.left_off.forget(budget.owner, &identity),
            (Some((budget, identity)), Some(done)) if left_at != begun_at => {
                // What was taken is safe before it is noted where to go on.
                self.flush(observer).await?;
                let owner = budget.owner;
                self.got_on += self.left_off.remember(owner, identity, &progress, done);
            }
            _ => {}
        }
        if let Some(index) = &mut self.index {
            let at = found.indexed.as_deref().filter(|_| left_at.is_none());
            index.found(&digests, at);
        }
        Ok(left_at.is_none() && !progress.stays())
    }

    /// Takes the entries of a file of several, one at a time; the batch is flushed between them.
    /// Leaves the file in the middle when something else is to go first. Returns by what the index
    /// may know them.
    async fn take_several(
        &mut self,
        several: &mut MultiEntry,
        budget: Option<&OwnersBudget>,
        place: &FilePlace,
        observer: &mut dyn Observer,
    ) -> Result<Vec<Digest>, IngestError> {
        let (begun, mut digests) = (Instant::now(), Vec::new());
        let mut goes_on = budget.is_none_or(OwnersBudget::may_begin);
        let progress = Arc::clone(&several.progress);
        while goes_on {
            self.flush_if_full(observer).await?;
            match next_of(several, budget) {
                Ok(None) => break,
                Ok(Some(entry)) => {
                    if self.index.is_some() {
                        digests.extend(digest::of_one_of_many(&entry));
                    }
                    self.add(entry, &progress, budget, observer)?;
                }
                Err(skipped) => self.skip_one(&progress, place, skipped),
            }
            let is_at_end = several.is_within().is_none();
            goes_on = is_at_end || budget.is_none_or(|budget| budget.goes_on(begun));
        }
        Ok(digests)
    }

    /// Adds an entry to the batch at hand, which is not full.
    fn add(
        &mut self,
        entry: DecodedEntry,
        progress: &Arc<Progress>,
        budget: Option<&OwnersBudget>,
        observer: &mut dyn Observer,
    ) -> Result<(), IngestError> {
        self.findings
            .tally
            .entry(&entry.row, entry.flags, entry.bytes.len());
        if let Some(line) = &entry.json {
            observer.json_line(line).map_err(IngestError::Output)?;
        }
        self.batch.add(entry, progress, budget);
        Ok(())
    }

    /// Sends the counts so far to the observer, at most once in [`REPORT_EVERY`].
    fn progress(&mut self, observer: &mut dyn Observer) {
        let now = Instant::now();
        if now.duration_since(self.reported) >= REPORT_EVERY {
            self.reported = now;
            self.findings.tally.elapsed = now.duration_since(self.started);
            observer.progress(&self.findings.tally);
        }
    }

    /// Keeps the batch at hand and removes its files.
    ///
    /// # Errors
    ///
    /// What store or merged log said; the files stay then, and are read again.
    pub(super) async fn flush(&mut self, observer: &mut dyn Observer) -> Result<(), IngestError> {
        let batch = std::mem::take(&mut self.batch);
        if let Some(destination) = &mut self.destination {
            let begun = Instant::now();
            let kept = destination.keep(batch.rows, batch.entries).await;
            batch.charges.pay(begun.elapsed());
            let kept = kept?;
            self.findings.tally.stored += kept.stored;
            self.findings.tally.known += kept.known;
            self.findings.tally.interrupted |= kept.is_interrupted;
            for left in &kept.left_out {
                self.findings.leave_out(left);
            }
            // All entries that were read up to now are safe, so their lines are done with.
            if let Some(index) = &mut self.index {
                index.note_batch();
            }
            self.remove(batch.files);
        } else if let Some(comparison) = &mut self.comparison {
            let compared = comparison.compare(&batch.rows).await?;
            self.findings.tally.stored += compared.new;
            self.findings.tally.known += compared.known;
        }
        self.progress(observer);
        Ok(())
    }

    /// Hands files over to be removed once all of their entries are stored. Files that stay for
    /// good are remembered, so that no later walk reads them again.
    fn remove(&mut self, files: Vec<EndedFile>) {
        let stored = files.into_iter().map(|ended| {
            if !ended.is_left && ended.progress.stays_for_good() {
                self.findings
                    .known
                    .remember(ended.met, FileVerdict::NotAnAuditLog);
            }
            let goes = !ended.is_left && !ended.progress.stays();
            StoredFile {
                file: ended.file.filter(|_| goes),
                dir: ended.dir,
            }
        });
        let removed = self.unlinker.remove(stored.collect());
        self.removed(removed);
    }

    /// Waits until all files of stored entries are removed. To be called before another walk.
    pub(super) fn finish_removing(&mut self) {
        let removed = self.unlinker.finish();
        self.removed(removed);
    }

    /// Adds files that were removed to the counts, and names those that could not be.
    fn removed(&mut self, batches: Vec<Removed>) {
        for removed in batches {
            self.findings.tally.removed += removed.files;
            for refusal in removed.refusals {
                self.findings.refuse(refusal);
            }
        }
    }

    /// Counts a file of `dir` as done without being removed. The last one prunes the directory; a
    /// directory that should have gone and did not is counted and named.
    fn done(&mut self, dir: Option<&OpenDir>) {
        if let Some(refusal) = dir.and_then(OpenDir::done) {
            self.findings.refuse(refusal);
        }
    }

    /// Counts and names a file without an entry, or what is no entry in a log.
    pub(super) fn skip(&mut self, path: &Path, met: Option<Met>, skipped: Skipped) {
        if let (Some(index), Skipped::Unlike(file, fate)) = (&mut self.index, &skipped) {
            index.tried(file, *fate);
        }
        self.findings.skip(path, met, skipped);
    }

    /// Keeps a file because one of its several entries cannot be taken.
    ///
    /// For a defect it stays for good, and the first defect is named; for any other reason it is
    /// tried again.
    fn skip_one(&mut self, progress: &Progress, place: &FilePlace, skipped: Skipped) {
        match skipped {
            Skipped::NoEntry(NoEntry::Defect(defect)) => {
                if progress.stay() {
                    self.findings.name_defect(&place.path, place.met, &defect);
                }
            }
            skipped => {
                progress.stay_for_another_try();
                self.skip(&place.path, None, skipped);
            }
        }
    }

    /// Returns how many files were done with for good since the start of the counts, how many are
    /// remembered, and how many entries were taken of others.
    pub(super) fn progress_made(&self) -> (u64, usize, usize) {
        (
            self.findings.tally.removed,
            self.findings.known.len(),
            self.got_on,
        )
    }

    /// Returns the counts.
    pub(super) fn finish(mut self) -> Tally {
        self.count_lines();
        self.findings.tally.elapsed = self.started.elapsed();
        self.findings.tally
    }
}

/// Decodes the next of several entries, for which its owner pays.
fn next_of(
    several: &mut MultiEntry,
    budget: Option<&OwnersBudget>,
) -> Result<Option<DecodedEntry>, Skipped> {
    let begun = Instant::now();
    let next = unless_it_panics(|| several.next().transpose().map_err(Skipped::NoEntry));
    if let Some(budget) = budget {
        budget.add_time(begun.elapsed());
        if let Ok(Some(entry)) = &next {
            budget.add_record(entry.row_size);
        }
    }
    next
}

#[cfg(test)]
mod tests;

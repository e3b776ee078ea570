//! Passes over what there is: files and logs, the storage directory, what the index names.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::batch_writer::BatchWriter;
use super::decode_pool::DecodePool;
use super::source::{Cursor, PassSource, Pause};
use super::{IngestError, Observer, Options, Stop};
use crate::storage_dir::StorageDir;
use crate::storage_dir::budgets::{self, Budgets};

/// Walks over one storage directory at the most. The second finds what the file system did not list
/// while files were removed.
const MAX_WALKS: usize = 8;

/// What passes work with, one after the other.
pub(super) struct Passes<'r> {
    /// What the administrator asked for.
    pub(super) options: &'r Options,
    /// The request to stop, at which a pass ends after the entry at hand.
    pub(super) stop: &'r Stop,
    /// Keeps what is read; holds counts and what is remembered of files.
    pub(super) writer: &'r mut BatchWriter,
    /// Receives progress and lines of JSON.
    pub(super) observer: &'r mut dyn Observer,
}

/// What a pass did.
pub(super) struct Passed {
    /// Entries taken that had been there before.
    old: u64,
    /// Whether files were left because their owners' turns were over.
    pub(super) budgets_spent: bool,
    /// Where a walk goes on that has paused.
    cursor: Option<Box<Cursor>>,
    /// How long the names of claimed files were looked at.
    pub(super) looking: Duration,
}

impl Passes<'_> {
    /// Goes through `source` once.
    ///
    /// # Errors
    ///
    /// [`IngestError`] of the store, the merged log, the observer, or the threads that read.
    pub(super) async fn pass(&mut self, source: PassSource) -> Result<Passed, IngestError> {
        let known = (&self.writer.findings.known, &self.writer.left_off);
        let mut pool =
            DecodePool::start(source, self.options, known, self.stop, &self.writer.steps)
                .map_err(IngestError::Thread)?;
        let taken = self.take_all(&mut pool).await;
        // Removing and reading end before the next pass, also after an error.
        self.writer.finish_removing();
        let rest = pool.finish();
        let findings = &mut self.writer.findings;
        findings.tally.pruned += rest.pruned;
        findings.left_alone(rest.left_alone);
        findings.unopened(rest.unopened);
        findings.tally.interrupted |= rest.interrupted;
        Ok(Passed {
            old: taken?,
            budgets_spent: rest.budgets_spent,
            cursor: rest.cursor,
            looking: rest.looking,
        })
    }

    /// Hands all outcomes of a pass to the writer and stores the last batch. Returns how many files
    /// that were there before the pass began may go.
    async fn take_all(&mut self, pool: &mut DecodePool) -> Result<u64, IngestError> {
        let mut old = 0;
        while let Some(outcome) = pool.next().await? {
            let is_old = outcome.is_old();
            // What stays because of another entry in it is no reason for another walk.
            let goes = self.writer.take(outcome, self.observer).await?;
            old += u64::from(is_old && goes);
        }
        self.writer.flush(self.observer).await?;
        Ok(old)
    }

    /// Reads what the index has to say, and takes the entries that it leads to.
    ///
    /// # Errors
    ///
    /// As for [`Passes::pass`].
    pub(super) async fn follow_index(
        &mut self,
        storage: &Arc<StorageDir>,
    ) -> Result<(), IngestError> {
        if let Some(index) = &mut self.writer.index {
            index.try_again();
        }
        let mut first = None;
        while let Some(index) = &mut self.writer.index {
            let more = index.read();
            let wanted = index.wanted();
            let next = wanted.first().map(|wanted| Arc::clone(&wanted.file));
            if next.is_some() && next == first {
                break; // Too many directories are open elsewhere.
            }
            first = next;
            if !wanted.is_empty() {
                self.pass(PassSource::Indexed(Arc::clone(storage), wanted))
                    .await?;
            } else if !more {
                break;
            }
            if self.stop.requested() {
                break;
            }
        }
        if let Some(index) = &mut self.writer.index {
            index.note();
        }
        Ok(())
    }

    /// Removes the directories that nobody can want any more, if that is wanted.
    fn prune(&mut self, storage: &StorageDir) {
        if let Some(rules) = self.options.prune_rules(Utc::now()) {
            let pruned = storage.prune(&rules);
            self.writer.findings.tally.pruned += pruned.minutes + pruned.days + pruned.users;
        }
    }

    /// Returns the files removed and the entries taken of other files. If neither number grows, a
    /// walk makes no progress.
    fn got_on(&self) -> (u64, usize) {
        (self.writer.findings.tally.removed, self.writer.got_on)
    }
}

/// Goes through the storage directory until all that was there is done, and prunes it.
///
/// No owner's files delay those of the others by more than a turn, see [`Budgets`].
pub(super) struct TreeWalk<'s> {
    /// The storage directory, held open.
    storage: &'s Arc<StorageDir>,
    /// How long a turn in the next round is.
    limit: u64,
    /// Where it goes on, if it has paused.
    cursor: Option<Box<Cursor>>,
    /// What was noted at the beginning of the walk at hand.
    round: Round,
    /// Rounds that met everything.
    walks: usize,
}

/// A walk from the first directory to the last, in which each owner has one turn.
#[derive(Default)]
struct Round {
    /// When it began; `None` before the first one.
    begun: Option<Instant>,
    /// How far the writer had got before it.
    before: (u64, usize),
    /// Entries taken that had been there before.
    old: u64,
}

/// How far a walk has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Walked {
    /// Something else goes first.
    Paused,
    /// Everything is done, or a stop was requested.
    End,
}

impl<'s> TreeWalk<'s> {
    /// Begins before the first directory. With a store, an owner's first turn is short and grows
    /// from round to round.
    pub(super) fn new(storage: &'s Arc<StorageDir>, options: &Options) -> TreeWalk<'s> {
        // Without a store all stays, and is to be read once.
        let is_kept = options.store.is_some();
        TreeWalk {
            storage,
            limit: if is_kept { budgets::FIRST } else { u64::MAX },
            cursor: None,
            round: Round::default(),
            walks: 0,
        }
    }

    /// Goes on until `pause` says that something else goes first, or to the end.
    ///
    /// # Errors
    ///
    /// As for [`Passes::pass`].
    pub(super) async fn go_on(
        &mut self,
        passes: &mut Passes<'_>,
        pause: Option<Pause>,
    ) -> Result<Walked, IngestError> {
        loop {
            let cursor = match self.cursor.take() {
                Some(cursor) => cursor,
                None => self.begin(passes).await?,
            };
            let source = PassSource::Tree(cursor, pause.clone());
            let done = passes.pass(source).await?;
            self.round.old += done.old;
            if done.cursor.is_some() {
                self.cursor = done.cursor;
                return Ok(Walked::Paused);
            }
            let stopped = passes.stop.requested();
            // Files whose owners' turns were over would have had another round.
            passes.writer.findings.tally.interrupted |= stopped && done.budgets_spent;
            if stopped || self.is_last(done.budgets_spent, passes) {
                passes.prune(self.storage);
                return Ok(Walked::End);
            }
        }
    }

    /// Begins a round. What the index names is taken first, as it needs no search.
    ///
    /// # Errors
    ///
    /// As for [`Passes::pass`].
    async fn begin(&mut self, passes: &mut Passes<'_>) -> Result<Box<Cursor>, IngestError> {
        if self.round.begun.is_none() {
            passes.writer.findings.begin_walk();
        } else {
            passes.writer.findings.walk_again();
        }
        // Its lines are from before the walk, which looks for the entries everywhere.
        passes.follow_index(self.storage).await?;
        self.round = Round {
            begun: Some(Instant::now()),
            before: passes.got_on(),
            old: 0,
        };
        let budgets = Budgets::new(self.limit);
        Ok(Box::new(Cursor::new(self.storage, budgets)))
    }

    /// Ends a round; returns `true` if there is no reason for another one.
    fn is_last(&mut self, budgets_spent: bool, passes: &mut Passes<'_>) -> bool {
        // Where nothing can be removed, another walk would meet the same files.
        let round = &self.round;
        let is_stuck = round.old > 0 && passes.got_on() == round.before;
        if budgets_spent {
            self.limit = if is_stuck {
                u64::MAX
            } else {
                Budgets::next(self.limit)
            };
            return false;
        }
        if let (Some(index), Some(begun)) = (&mut passes.writer.index, round.begun) {
            index.close(begun);
        }
        passes.writer.findings.end_of_walk();
        self.walks += 1;
        round.old == 0 || is_stuck || passes.options.store.is_none() || self.walks == MAX_WALKS
    }
}

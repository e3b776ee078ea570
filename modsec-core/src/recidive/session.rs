//! What one run holds, and what it does with what comes in.
//!
//! The loop of the program ([`run`](super::run())) calls [`Session::work`] again and again, and hands
//! on what the watcher and the private directory of `modsec-parser` say in between. Each call takes
//! a slice: at most [`SLICE`] files, [`SLICE_BYTES`] bytes, in this order:
//!
//! 1. files that `modsec-parser` has taken charge of, because they may be gone soon;
//! 2. files of many records, one record of each owner in turn;
//! 3. the walk over what was there before (`backlog`);
//! 4. every [`TICK`]: the followed log, unfinished files that waited long enough, reports that could
//!    not be written, the state if it is time to save it.
//!
//! So a signal is answered, and another site's attack is counted, after one slice at the latest.
//! Whatever cannot be read is counted in [`Summary`] and never ends the run.

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::Utc;
use tracing::{error, info, warn};

use super::backlog::{Backlog, Step};
use super::claims::Claims;
use super::counter::Counter;
use super::entry_reader::{Contents, EntryReader, Look, Which};
use super::follow::Follow;
use super::outcome::{RunError, Summary};
use super::reporter::Reporter;
use super::saver::Saver;
use super::several::{Reading, Several};
use super::state::{Marks, State, to_bytes};
use super::taken::Taken;
use super::unfinished::Unfinished;
use super::{LogSource, Options, OptionsError, StateError, Tally};
use crate::error_chain::error_chain;
use crate::heartbeat::Heartbeat;
use crate::ledger::{Ledger, Offender};
use crate::program::{Lifecycle, Stop};
use crate::read_steps::ReadSteps;
use crate::storage_dir::PRIVATE;
use crate::watch::Event;

/// Files that were gone before they were read: on a busy day a few are, and a warning of each would
/// be read no more.
const WORTH_A_WARNING: u64 = 16;
/// How often logs are looked at and what is due is done.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// A walk covers what changed since the last one, and this many nanoseconds more: clocks of files
/// are coarse.
const WALK_OVERLAP: i64 = 10_000_000_000;
/// Clients are forgotten when they have not attacked for that long, or for two find times.
const KEEP: Duration = Duration::from_secs(86_400);
/// How long files of `modsec-parser` are still read once a stop is requested.
const LAST_READ: Duration = Duration::from_millis(800);
/// Files that are read before something else is looked at,
pub(super) const SLICE: usize = 16;
/// and bytes.
const SLICE_BYTES: u64 = 4 << 20;

/// What one run holds.
pub(super) struct Session<'o> {
    /// What the administrator asked for.
    options: &'o Options,
    /// Decides what counts; has the ledger and the attacks that were counted.
    counter: Counter,
    /// Writes offenders to the jail file.
    pub(super) reporter: Reporter,
    /// Saves the state; `None` in a dry run.
    saver: Option<Saver>,
    /// The merged log or the index; `None` without one.
    follow: Option<Follow>,
    /// The storage directory; `None` while it cannot be opened.
    tree: Option<EntryReader>,
    /// The private directory of `modsec-parser`; `None` before the first walk.
    pub(super) claims: Option<Claims>,
    /// The walk at hand; `None` between two walks.
    backlog: Option<Backlog>,
    /// What a walk need not look at: files that have not changed since, in nanoseconds.
    walk_after: i64,
    /// When the running walk began, in nanoseconds.
    walk_began: i64,
    /// Files whose writers closed them too early.
    unfinished: Unfinished,
    /// What `modsec-parser` has taken charge of and was not read yet.
    taken: Taken,
    /// Files of many records that are not at their end.
    several: Several,
    /// Files that `modsec-parser` had removed from its directory before they were read.
    missed: u64,
    /// Bytes read in this slice.
    spent: u64,
    /// Beats with every file that is read, and with every turn of the loop.
    pub(super) heartbeat: Heartbeat,
    /// Asks to leave a large file in the middle.
    pub(super) stop: Option<Stop>,
    /// What was met besides the tally of the counter.
    summary: Summary,
    /// When [`Session::tick`] is due again.
    next_tick: Instant,
    /// What was counted when the state was saved last.
    saved: (Tally, Marks),
    /// Whether it was logged that the ledger is full.
    told_full: bool,
}

/// Reads the state file; warns if it is broken.
///
/// A broken one is set aside as `NAME.broken`, but not in a dry run, which changes nothing.
///
/// # Errors
///
/// As for [`State::take_over`].
fn load(options: &Options) -> Result<State, StateError> {
    let loaded = if options.dry_run {
        State::read(&options.state_file)?
    } else {
        State::take_over(&options.state_file)?
    };
    if loaded.bad_lines > 0 {
        warn!(
            lines = loaded.bad_lines,
            path = ?options.state_file,
            set_aside = loaded.set_aside.as_deref().map(tracing::field::debug),
            "state file is broken, going on with what could be read"
        );
    }
    Ok(loaded.state)
}

impl<'o> Session<'o> {
    /// Begins where the state file says that the last run has ended.
    ///
    /// The order matters: the table of clients is restored before the jail file is compared with the
    /// state, because reports that the jail file has and the state does not are noted in the table.
    ///
    /// # Errors
    ///
    /// [`RunError::Options`] for a contradiction, [`RunError::State`], [`RunError::Log`] and
    /// [`RunError::Jail`] for files that cannot be opened. Nothing was written then.
    pub(super) fn new(options: &'o Options) -> Result<Session<'o>, RunError> {
        options.check()?;
        let state = load(options)?;
        let mut ledger = Ledger::new(options.ledger.clone()).map_err(OptionsError::from)?;
        state
            .sightings()
            .iter()
            .for_each(|sighting| ledger.restore(sighting));
        let follow = options.log.as_ref().map(|log| {
            Follow::new(log, state.log().as_ref()).map_err(|source| RunError::Log {
                path: match log {
                    LogSource::Merged(path) | LogSource::Index(path) => path.clone(),
                },
                source,
            })
        });
        let jail = (!options.dry_run).then_some(&*options.jail_file);
        let (reporter, written) = Reporter::open(jail, state.jail(), state.unsent())?;
        if !written.is_empty() {
            let lines = written.len();
            info!(
                lines,
                "an interrupted run has reported more offenders than its state says"
            );
        }
        for (network, at) in written {
            ledger.note_report(network, at);
        }
        Ok(Session {
            reporter,
            saver: (!options.dry_run)
                .then(|| Saver::new(options.state_file.clone(), options.save_every)),
            follow: follow.transpose()?,
            tree: None,
            claims: None,
            backlog: None,
            walk_after: state.seen().forgotten_until(),
            walk_began: i64::MIN,
            unfinished: Unfinished::default(),
            taken: Taken::default(),
            several: Several::default(),
            missed: 0,
            spent: 0,
            heartbeat: Heartbeat::default(),
            stop: None,
            summary: Summary::default(),
            next_tick: Instant::now(),
            saved: (Tally::default(), Marks::default()),
            told_full: false,
            counter: Counter {
                attacks: options.attacks.clone(),
                proxies: options.proxies.clone(),
                ledger,
                seen: state.seen(),
                tally: Tally::default(),
                told_long: false,
            },
            options,
        })
    }

    /// Takes note of what the watcher saw: a file that its writer has closed is read at once; after
    /// lost events the whole tree is walked; without a storage directory its handle is dropped, and
    /// opened anew at the walk that follows its return.
    pub(super) fn event(&mut self, event: Event, lifecycle: &mut Lifecycle<'_>) {
        match event {
            Event::File(path) => self.file(&path, Which::Closed),
            Event::Rescan(reason) => {
                info!(%reason, "walking the storage directory");
                self.walk();
                lifecycle.ready();
            }
            Event::Lost(error) => {
                warn!(
                    error = error_chain(&error),
                    "storage directory not usable, waiting for it"
                );
                self.tree = None;
                self.backlog = None;
                lifecycle.ready();
            }
            _ => {}
        }
    }

    /// Begins to look at everything that is there.
    fn walk(&mut self) {
        let Some(path) = &self.options.storage_dir else {
            return;
        };
        if self
            .tree
            .as_ref()
            .is_none_or(|tree| !tree.root().is_in_place())
        {
            let steps = ReadSteps::new(&self.heartbeat, self.stop.as_ref());
            match EntryReader::open(path, self.options.owners.clone(), steps) {
                Ok(tree) => self.tree = Some(tree),
                Err(error) => warn!(
                    ?path,
                    error = error_chain(&error),
                    "storage directory not usable"
                ),
            }
            self.claims = Some(Claims::new());
            self.walk_after = self.counter.seen.forgotten_until();
        }
        let Some(tree) = &self.tree else {
            return;
        };
        // Before anybody is told that nothing is missed from here on.
        if let Some(claims) = &mut self.claims {
            claims.refresh(tree);
        }
        self.walk_began = Utc::now().timestamp_nanos_opt().unwrap_or(i64::MIN);
        match Backlog::new(tree, self.walk_after) {
            Ok(backlog) => self.backlog = Some(backlog),
            Err(error) => warn!(
                ?path,
                error = error_chain(&error),
                "storage directory not walked"
            ),
        }
    }

    /// Takes note of what `modsec-parser` has taken charge of.
    pub(super) fn claimed(&mut self) {
        let Some((claims, tree)) = self.claims.as_mut().zip(self.tree.as_ref()) else {
            return;
        };
        let mut new = VecDeque::new();
        claims.take(tree, &mut new);
        for claimed in new {
            if let Err(claimed) = self.taken.push(claimed.owner(), claimed) {
                claims.list_later(&claimed);
            }
        }
    }

    /// Reads the next file that `modsec-parser` has taken charge of; returns `false` if there is
    /// none.
    fn claimed_file(&mut self) -> bool {
        let listed = || self.claims.as_mut().and_then(Claims::listed);
        let next = self.taken.pop().or_else(listed);
        let Some((claimed, tree)) = next.zip(self.tree.as_mut()) else {
            return false;
        };
        let path = claimed.enter(tree);
        self.file(&path, Which::Found { after: i64::MIN });
        true
    }

    /// Returns `true` if files that `modsec-parser` has taken charge of may still wait.
    fn has_claimed(&self) -> bool {
        !self.taken.is_empty() || self.claims.as_ref().is_some_and(Claims::is_listing)
    }

    /// Begins another slice of work.
    pub(super) fn begin_slice(&mut self) {
        self.spent = 0;
    }

    /// Returns `true` until so much was read that something else should be looked at.
    pub(super) fn may_read_on(&self) -> bool {
        self.spent < SLICE_BYTES
    }

    /// Reads a file and counts what is in it.
    fn file(&mut self, path: &Path, which: Which) {
        self.heartbeat.beat();
        let Some(tree) = &mut self.tree else {
            return;
        };
        let mut gives_way = None;
        match tree.look(path, which) {
            Look::Entry { contents, changed } => {
                let reporter = &mut self.reporter;
                let mut report = |offender: Offender| reporter.report(&offender);
                let counter = &mut self.counter;
                match contents {
                    Contents::Whole(entry) => {
                        counter.entry(entry, changed).into_iter().for_each(report);
                    }
                    Contents::Parts(excerpts, key) => {
                        let offender = counter.record(&excerpts.record(), || key, changed);
                        offender.into_iter().for_each(report);
                    }
                    Contents::Several(records) => {
                        let reading = Reading::new(records, changed);
                        if !self.several.begin(path, reading, counter, &mut report) {
                            self.missed(path);
                        }
                    }
                }
            }
            // Whoever had his time and still is not finished is left alone.
            Look::Unfinished {
                owner,
                is_empty: false,
            } if !matches!(which, Which::EvenUnfinished) => {
                gives_way = self.unfinished.push(path, owner);
            }
            Look::Gone => {
                self.summary.vanished += 1;
                let has_read = self.tree.as_ref().is_some_and(|tree| tree.has_read(path));
                if path.starts_with(PRIVATE) && !has_read {
                    self.missed(path);
                }
            }
            Look::Foreign => self.summary.foreign += 1,
            Look::Refused(_) => self.summary.refused += 1,
            _ => {}
        }
        self.spent += self.tree.as_mut().map_or(0, EntryReader::take_read);
        if let Some(path) = gives_way {
            self.read_unfinished(&path);
        }
    }

    /// Says what was perhaps not counted if it is more than a few files, and again when it has
    /// doubled.
    fn missed(&mut self, path: &Path) {
        self.missed += 1;
        // What the parser took is in the merged log.
        let is_merged = matches!(self.options.log, Some(LogSource::Merged(_)));
        if !is_merged && self.missed >= WORTH_A_WARNING && self.missed.is_power_of_two() {
            warn!(
                files = self.missed,
                ?path,
                "gone, or too many, before they were read: attacks in them may not be counted; look whose \
                 files are so many, and at --source in recidive(8) for one that misses nothing"
            );
        }
    }

    /// Goes on with files of many records.
    fn go_on(&mut self) {
        let reporter = &mut self.reporter;
        let mut report = |offender: Offender| reporter.report(&offender);
        self.several.step(&mut self.counter, &mut report);
        if let Some(path) = self.several.next_path() {
            self.file(&path, Which::Closed);
        }
    }

    /// Does one slice of what is to do. Returns `true` if there is more.
    pub(super) async fn work(&mut self) -> bool {
        // In each round: while events never end, nobody else tells of it.
        self.claimed();
        self.go_on();
        self.begin_slice();
        for _ in 0..SLICE {
            if !self.may_read_on() {
                break;
            }
            if !self.claimed_file() {
                break;
            }
        }
        self.begin_slice();
        for _ in 0..SLICE {
            let Some((backlog, tree)) = self.backlog.as_mut().zip(self.tree.as_mut()) else {
                break;
            };
            let which = backlog.which();
            match backlog.next(tree) {
                Step::File(path) => self.file(&path, which),
                Step::Nothing => {}
                Step::End(counts) => {
                    self.backlog = None;
                    self.summary.foreign += counts.foreign;
                    self.summary.refused += counts.refused;
                    // Only now: a walk that was interrupted by the next one has left files out.
                    self.walk_after = self.walk_began.saturating_sub(WALK_OVERLAP);
                    info!("storage directory walked");
                    break;
                }
                Step::Failed(error) => {
                    let path = self.options.storage_dir.as_deref();
                    let path = path.map(tracing::field::debug);
                    let error = error_chain(&error);
                    warn!(path, error, "storage directory not walked");
                    self.backlog = None;
                    break;
                }
            }
            if !self.may_read_on() {
                break;
            }
        }
        let mut busy = self.backlog.is_some() || self.has_claimed() || !self.several.is_empty();
        if let Some(follow) = &mut self.follow {
            let reporter = &mut self.reporter;
            busy |= follow.step(&mut self.counter, &mut |offender: Offender| {
                reporter.report(&offender);
            });
        }
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + TICK;
            self.tick().await;
        }
        busy
    }

    /// Does what is due every [`TICK`]: reports that could not be written, the private directory,
    /// unfinished files that waited for `stale_after`, and the state.
    async fn tick(&mut self) {
        self.reporter.send();
        if let Some((claims, tree)) = self.claims.as_mut().zip(self.tree.as_ref()) {
            claims.refresh(tree);
        }
        self.begin_slice();
        for _ in 0..SLICE {
            if !self.may_read_on() {
                break;
            }
            let Some(path) = self.unfinished.pop(self.options.stale_after) else {
                break;
            };
            self.read_unfinished(&path);
        }
        let counts = self.counter.ledger.counts();
        if counts.evicted > 0 && !self.told_full {
            self.told_full = true;
            warn!(
                clients = self.counter.ledger.len(),
                "more clients than --max-clients, the least recently seen are forgotten"
            );
        }
        self.save().await;
    }

    /// Reads a file that has been waiting for its writer, finished or not.
    fn read_unfinished(&mut self, path: &Path) {
        let before = self.counter.tally.entries;
        self.file(path, Which::EvenUnfinished);
        self.summary.truncated += self.counter.tally.entries - before;
    }

    /// Saves the state in the background if it is time to, nothing is being saved, and something
    /// was counted or read since the last save.
    ///
    /// Clients that were quiet for long are forgotten first, so that the state does not grow.
    async fn save(&mut self) {
        let marks = self.marks();
        let now = (self.counter.tally, marks);
        let Some(saver) = &mut self.saver else {
            return;
        };
        let is_due = saver.is_due() || self.reporter.is_mark_due();
        if saver.is_idle() && is_due && (self.saved != now || saver.is_gone()) {
            self.saved = now;
            let keep = KEEP.max(self.options.ledger.find_time.saturating_mul(2));
            self.counter.ledger.forget(keep, Utc::now());
            let Counter { ledger, seen, .. } = &self.counter;
            let jail = self.reporter.marked();
            let unsent = self.reporter.unsent();
            let bytes = || to_bytes(ledger, seen, marks, unsent);
            saver.save(jail, bytes).await;
        }
    }

    /// Returns how far log and jail file are, as it belongs to what was counted up to now.
    fn marks(&mut self) -> Marks {
        Marks {
            log: self.follow.as_mut().and_then(Follow::checkpoint),
            jail: self.reporter.mark(),
        }
    }

    /// Saves at once and waits for it.
    pub(super) async fn save_now(&mut self) -> Result<(), StateError> {
        let marks = self.marks();
        self.saved = (self.counter.tally, marks);
        let Counter { ledger, seen, .. } = &self.counter;
        let Some(saver) = &mut self.saver else {
            return Ok(());
        };
        let jail = self.reporter.marked();
        let bytes = to_bytes(ledger, seen, marks, self.reporter.unsent());
        saver.save_now(jail, bytes).await
    }

    /// Ends the run: reads what `modsec-parser` has taken charge of for [`LAST_READ`], writes what
    /// is left of the reports, and saves the state. Returns the counts, which are logged too.
    ///
    /// # Errors
    ///
    /// [`RunError::State`] if the state cannot be saved; [`RunError::NotHandedOver`] if offenders
    /// could not be written. Those are in the state, for the next start.
    pub(super) async fn finish(mut self) -> Result<Summary, RunError> {
        let until = Instant::now() + LAST_READ;
        // They may be gone from there at the next start.
        while Instant::now() < until && (self.claimed_file() || !self.several.is_empty()) {
            self.go_on();
        }
        let lines = self.reporter.finish();
        self.save_now().await?;
        if lines > 0 {
            let path = self.options.jail_file.clone();
            error!(?path, "ended with offenders not handed over");
            return Err(RunError::NotHandedOver { lines, path });
        }
        let summary = Summary {
            tally: self.counter.tally,
            ledger: self.counter.ledger.counts(),
            ..self.summary
        };
        summary.log();
        Ok(summary)
    }
}

#[cfg(test)]
mod tests;

//! The loop: what is found is corrected, what is coming is created, what is past is removed.
//!
//! ```text
//! Watcher ─► Directory ─► owner allowed? tree of that user? ─► Policy::wanted ─► apply
//!                                                              past and empty? ─► remove
//!         ─► Ignored   ─► counted, logged once
//!         ─► Rescan    ─► log the counts, plan the coming minutes
//! tick, every second ─► a new minute? ─► plan ─► create, one directory in each round
//! ```
//!
//! Events go first: a writer waits for the directory to become usable. Creating is one directory at
//! a time, so that 1,600 users' directories of the next minute delay no event.

mod plan;
#[cfg(feature = "jobs")]
mod run;

use std::collections::{HashSet, VecDeque};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, NaiveDateTime};
use rustix::fs::{Stat, fstat};
use tracing::{debug, error, info, warn};

use self::plan::UsedLayouts;
use super::advice::{Advice, WORLD_WRITABLE};
use super::ahead::{self, Outcome, PlannedDir};
use super::apply::{Change, ChangeKind, apply};
use super::calendar;
use super::named::Named;
use super::policy::Attributes;
use super::{ChangeError, KeepError, Options, Tally};
use crate::error_chain::error_chain;
use crate::log_once::LogOnce;
use crate::names::LOST_AND_FOUND;
use crate::spool::Reason;
use crate::storage_dir::is_private;
use crate::watch::{self as watching, Directory, Event, Place, RescanReason, Watcher};

/// Events handled in a row before the loop looks at the stop signal, the clock and the plan.
const BATCH: u32 = 256;
/// How long a warning of lost events is not repeated.
const MINUTE: Duration = Duration::from_secs(60);

/// Different paths or messages that are logged, each once; later ones are only counted. Site users
/// can invent names without end.
const LOGGED: usize = 4096;

/// Called with every change, made or rehearsed.
type Observer<'a> = &'a mut dyn FnMut(&Change);

/// Keeps mode, owner and group of the directories in one storage directory.
///
/// [`Keeper::once`] corrects what is there; [`Keeper::run`] goes on until it is stopped. The two
/// `rehearse` functions only report what would be done.
#[derive(Debug)]
pub struct Keeper {
    /// What to do, and where.
    options: Options,
    /// Whether changes are made.
    effect: Effect,
    /// Finds directories, and notices new ones.
    watcher: Watcher,
    /// What has been done since the start.
    tally: Tally,
    /// Paths that were logged as left alone.
    refusals: LogOnce,
    /// Messages of failures that were logged.
    failures: LogOnce,
    /// How many corrections of each owner were logged.
    named: Named,
    /// When the last overflow of the kernel's queue was logged.
    overflow_logged_at: Option<Instant>,
    /// Warnings about the set-up that were logged.
    advice: Advice,
    /// Which layouts the web server writes, as far as seen.
    used: UsedLayouts,
    /// The minute (UTC) for which `ahead` was made; `None` to make it anew.
    planned: Option<NaiveDateTime>,
    /// Directories still to be created, parents first.
    ahead: VecDeque<PlannedDir>,
    /// Directories that a single pass has met: a user's is found once by itself, and once before what
    /// is in it. `None` for a service, which counts each look.
    met: Option<HashSet<PathBuf>>,
    /// The time of the last tick.
    clock: DateTime<Local>,
}

/// Whether changes are made or only reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Directories are made and changed.
    Real,
    /// What would be done is reported, and nothing is changed.
    DryRun,
}

/// What is done with a directory that is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    /// It is corrected.
    CorrectOnly,
    /// It is corrected, or removed if it is past and empty.
    Everything,
}

/// Remembers what was logged, up to [`LOGGED`] different texts.
fn log_once() -> LogOnce {
    let further = "too many to name: further ones are only counted";
    LogOnce::new(LOGGED, further, Duration::MAX)
}

impl Keeper {
    /// Prepares to keep the directories that `options` name.
    ///
    /// # Errors
    ///
    /// [`KeepError::Watch`] if inotify is not available. Nothing is said about the storage
    /// directory yet.
    pub fn new(options: Options) -> Result<Self, KeepError> {
        let watched = watching::Options {
            directories: true,
            rescan_after: Some(options.check_every),
            trusted_owner: Some(options.policy.owner),
            ..watching::Options::default()
        };
        if options.policy.is_world_writable() {
            let mode = format_args!("{:04o}", options.policy.mode);
            warn!(%mode, "{WORLD_WRITABLE}");
        }
        Ok(Self {
            watcher: Watcher::new(&options.storage_dir, watched)?,
            options,
            effect: Effect::Real,
            tally: Tally::default(),
            refusals: log_once(),
            failures: log_once(),
            named: Named::new(Instant::now()),
            overflow_logged_at: None,
            advice: Advice::default(),
            used: UsedLayouts::default(),
            planned: None,
            ahead: VecDeque::new(),
            met: None,
            clock: Local::now(),
        })
    }

    /// Corrects what is there and returns; `each` is called with every change.
    ///
    /// # Errors
    ///
    /// [`KeepError::Root`] if the storage directory cannot be used. A directory that cannot be
    /// changed is logged and counted ([`Tally::failed`]), and the others are still handled.
    pub fn once(mut self, mut each: impl FnMut(&Change)) -> Result<Tally, KeepError> {
        self.pass(Task::CorrectOnly, &mut each)?;
        self.named.close();
        Ok(self.tally)
    }

    /// Reports what [`Keeper::once`] would do, without doing it.
    ///
    /// # Errors
    ///
    /// As [`Keeper::once`].
    pub fn rehearse_once(mut self, each: impl FnMut(&Change)) -> Result<Tally, KeepError> {
        self.effect = Effect::DryRun;
        self.once(each)
    }

    /// Reports what [`Keeper::run`] would do at this moment, without doing it.
    ///
    /// # Errors
    ///
    /// As [`Keeper::once`].
    pub fn rehearse(mut self, mut each: impl FnMut(&Change)) -> Result<Tally, KeepError> {
        self.effect = Effect::DryRun;
        self.pass(Task::Everything, &mut each)?;
        self.plan();
        while let Some(next) = self.ahead.pop_front() {
            self.create(&next, &mut each);
        }
        Ok(self.tally)
    }

    /// Goes through the tree once, until the watcher reports that all that was there has been
    /// found.
    ///
    /// # Errors
    ///
    /// [`KeepError::Root`] if the storage directory cannot be used, [`KeepError::Watch`] if inotify
    /// fails.
    fn pass(&mut self, task: Task, each: Observer<'_>) -> Result<(), KeepError> {
        self.met = Some(HashSet::new());
        loop {
            match self.watcher.wait(Duration::MAX)? {
                Some(Event::Lost(error)) => return Err(error.into()),
                Some(Event::Rescan(_)) => {
                    self.check_storage_dir();
                    return Ok(());
                }
                Some(event) => self.handle(event, task, &mut || {}, each),
                None => {}
            }
        }
    }

    /// Handles up to [`BATCH`] events that are there; returns `true` if there may be more.
    fn drain(&mut self, ready: &mut dyn FnMut(), each: Observer<'_>) -> Result<bool, KeepError> {
        for _ in 0..BATCH {
            match self.watcher.try_next()? {
                Some(event) => self.handle(event, Task::Everything, ready, each),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Handles one event. `ready` is called when all is found, or the storage directory turns
    /// out to be absent.
    fn handle(&mut self, event: Event, task: Task, ready: &mut dyn FnMut(), each: Observer<'_>) {
        match event {
            Event::Directory(directory) => self.directory(&directory, task, each),
            Event::Ignored { path, reason } => self.leave_alone(&path, &reason),
            Event::Rescan(reason) => {
                self.log_rescan(reason);
                self.check_storage_dir();
                ready();
                self.planned = None;
                self.check_clock();
            }
            Event::Lost(error) => {
                warn!(error = %error_chain(&error), "waiting for the storage directory");
                self.ahead.clear();
                ready();
            }
            Event::File(_) => {}
        }
    }

    /// Looks at the modes of the storage directory and of those above it, and warns of them.
    fn check_storage_dir(&mut self) {
        self.advice
            .way(&self.options.storage_dir, &self.options.policy);
        if let Ok((_, stat)) = self.watcher.open_below(Path::new("")) {
            self.advice.storage(&stat);
        }
    }

    /// Logs that all directories were checked, with the counts. Of overflows, which one user can
    /// cause without end, one a minute.
    fn log_rescan(&mut self, reason: RescanReason) {
        let (tally, watched) = (self.tally, self.watcher.watched());
        let Tally {
            directories,
            corrected,
            created,
            removed,
            unknown,
            refused,
            failed,
        } = tally;
        match reason {
            // Who fills the queue again and again does not fill the log.
            RescanReason::Overflow
                if self
                    .overflow_logged_at
                    .is_some_and(|at| at.elapsed() < MINUTE) => {}
            RescanReason::Overflow | RescanReason::Limit => {
                if reason == RescanReason::Overflow {
                    self.overflow_logged_at = Some(Instant::now());
                }
                warn!(%reason, directories, corrected, watched, "all directories checked");
            }
            _ => info!(
                %reason, directories, corrected, created, removed, unknown, refused, failed,
                watched, "all directories checked"
            ),
        }
    }

    /// Corrects one directory, or leaves it alone if its owner is not allowed or is not the user of
    /// the tree; removes it if it is past and empty.
    fn directory(&mut self, directory: &Directory, task: Task, each: Observer<'_>) {
        let Directory {
            path,
            place,
            handle,
        } = directory;
        let is_new = match &mut self.met {
            Some(met) => met.insert(path.clone()),
            None => true,
        };
        self.tally.directories += u64::from(is_new);
        if !is_new && self.effect == Effect::DryRun {
            return; // It is as it was, and has been reported.
        }
        let stat = match fstat(handle) {
            Ok(stat) => stat,
            Err(errno) => return self.failed(&ChangeError::other(path, errno)),
        };
        let now = Attributes::from(&stat);
        if !self.options.policy.allows_owner(now.uid) {
            return self.leave_alone(path, &Reason::Owner { uid: now.uid });
        }
        if self.is_foreign(path, *place, now) {
            return self.leave_alone(path, &Reason::OtherUser { uid: now.uid });
        }
        let wanted = self.options.policy.wanted(*place, now);
        if wanted != now {
            self.correct(directory, now, wanted, each);
        }
        if matches!(place, Place::FlatDay | Place::FlatMinute) {
            self.advice.shared(path, wanted, &self.options.policy);
        }
        if task == Task::Everything && self.options.ahead > 0 {
            self.remove_past(directory, &stat, each);
        }
    }

    /// Returns `true` for a directory in the tree of a user, or with the name of one, that belongs
    /// to another user: a directory that others may write to can be moved there by anybody, and
    /// would then get the group's rights.
    fn is_foreign(&self, path: &Path, place: Place, now: Attributes) -> bool {
        let policy = &self.options.policy;
        let user = path.iter().next().unwrap_or_default();
        match place {
            Place::Root | Place::FlatDay | Place::FlatMinute => return false,
            _ if !policy.belongs_to_tree(user, now) => return true,
            Place::UserDay | Place::UserMinute if policy.named(user).is_none() => {}
            _ => return false,
        }
        // Of a user who is not known here, only the owner of the tree shows who it is.
        match self.watcher.open_below(Path::new(user)) {
            Ok((_, tree)) => ![tree.st_uid, policy.owner].contains(&now.uid),
            Err(_) => false,
        }
    }

    /// Changes a directory and counts it. A failure is counted and logged; the next check tries
    /// again.
    fn correct(
        &mut self,
        directory: &Directory,
        from: Attributes,
        to: Attributes,
        each: Observer<'_>,
    ) {
        let Directory {
            path,
            place,
            handle,
        } = directory;
        if self.effect == Effect::Real
            && let Err(error) = apply(handle.as_fd(), path, from, to)
        {
            return self.failed(&error);
        }
        self.tally.corrected += 1;
        self.note_use(*place);
        if self.effect == Effect::Real && self.named.is_next(from.uid) {
            info!(?path, %from, %to, "directory corrected");
        }
        each(&Change {
            path: path.clone(),
            kind: ChangeKind::Corrected { from, to },
        });
    }

    /// Removes the directory of a past day or minute, if it is empty and was not changed for the
    /// grace of its layout.
    fn remove_past(&mut self, directory: &Directory, stat: &Stat, each: Observer<'_>) {
        let Directory {
            path,
            place,
            handle,
        } = directory;
        let quiet_since = self.clock.timestamp() - calendar::grace(*place).num_seconds();
        let is_past = (place.is_day() || place.is_minute())
            // What has just been made, for a request that began long ago, is about to be used.
            && stat.st_mtime < quiet_since
            && path.file_name().is_some_and(|name| calendar::is_past(&self.clock, name, *place));
        if !is_past {
            return;
        }
        let outcome = match self.effect {
            Effect::DryRun if ahead::is_empty(handle.as_fd()) => Outcome::Done,
            Effect::DryRun => Outcome::InUse,
            Effect::Real => ahead::remove(&self.watcher, path),
        };
        if matches!(outcome, Outcome::InUse) {
            self.note_use(*place);
        }
        if self.count(outcome) {
            self.tally.removed += 1;
            if self.effect == Effect::Real {
                debug!(?path, "empty directory removed");
            }
            each(&Change {
                path: path.clone(),
                kind: ChangeKind::Removed,
            });
        }
    }

    /// Counts what went wrong; returns `true` if the change was made.
    fn count(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Done => return true,
            Outcome::Nothing | Outcome::InUse => {}
            Outcome::Refused { path, reason } => self.refuse_planned(&path, &reason),
            Outcome::Failed(error) => self.failed(&error),
        }
        false
    }

    /// Counts and logs once what was left alone. Directories of this project's programs and
    /// `lost+found` are passed over in silence; leftovers of killed processes are removed.
    fn leave_alone(&mut self, path: &Path, reason: &Reason) {
        if ahead::is_temporary(path) {
            if self.effect == Effect::Real {
                ahead::remove_leftover(&self.watcher, path, self.clock.timestamp());
            }
            return;
        }
        // modsec-parser looks after its directory itself, and the file system after its own.
        if is_private(path) || path == Path::new(LOST_AND_FOUND) {
            return;
        }
        match reason {
            Reason::Name => self.tally.unknown += 1,
            _ => self.tally.refused += 1,
        }
        if self.refusals.has_changed(path, reason.to_string()) {
            warn!(?path, reason = %error_chain(reason), "left alone");
        }
    }

    /// Counts a failure, and logs each message once. What keeps a minute from being created keeps the
    /// next one from it as well: that is said once for the directory they would be in.
    fn failed(&mut self, error: &ChangeError) {
        self.tally.failed += 1;
        let is_new = match error {
            ChangeError::Create { path, source } => {
                self.failures.has_changed(path.parent(), source.to_string())
            }
            _ => self.failures.is_new(error.to_string()),
        };
        if is_new {
            error!(error = %error_chain(error), "directory not handled");
        }
    }

    /// Handles what there is to handle, or loses all events first; for tests.
    #[cfg(test)]
    pub(crate) fn step(&mut self, lose: bool) {
        if lose {
            self.watcher.lose_events();
        }
        while self.drain(&mut || {}, &mut |_| {}).unwrap() {}
    }
}

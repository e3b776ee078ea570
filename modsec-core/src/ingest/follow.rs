//! Going on for ever: what is finished is claimed at once, stored soon, and only then removed.
//!
//! ```text
//! inotify ─► claims (a thread: moves finished files into the private directory)
//!               │ news
//!               ▼
//! this loop ─► pass over the private directory, at most a second after the first claim
//!          ├─► walk over the whole tree: at the start, when events may be missing, periodically
//!          └─► index, if there is one, every second: what its lines name and nobody has taken
//! ```
//!
//! Passes come one after the other, so nothing is read while it is being removed. Nothing is kept
//! in memory between them: what a failed pass did not store is where it was, and is read again.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};

use super::batch_writer::BatchWriter;
use super::claims::{Claims, News};
use super::index::{Ended, Index, IndexSource, Pipe, SETTLE};
use super::passes::{Passes, TreeWalk, Walked};
use super::source::{PassSource, Pause};
use super::{
    Charge, DefectReason, IngestError, Observer, Options, Tally, lock, note_outage, note_success,
};
use crate::error_chain::error_chain;
use crate::heartbeat::Heartbeat;
use crate::merged_log::MergedLogError;
use crate::program::{Backoff, Lifecycle, Stop, Wake, or_never};
use crate::read_steps::ReadSteps;
use crate::storage_dir::budgets::{self, Budgets};
use crate::storage_dir::{StorageDir, StorageDirError};

/// How often the whole tree is walked if nothing else is asked for.
pub const DEFAULT_RESCAN: Duration = Duration::from_secs(60);
/// How long the first claimed file waits for others to share its transaction.
const LINGER: Duration = Duration::from_millis(400);
/// So many do not wait for more.
const ENOUGH: u64 = 1000;
/// How often the storage directory is opened anew at the most.
const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// When to look again at a claimed file whose writer was still, or again, at work.
const UNFINISHED: Duration = Duration::from_secs(5);
/// How often the index is read. Events are quicker; this is for what they do not show.
const LINES_EVERY: Duration = Duration::from_secs(1);
/// How long lines may still come once a stop is requested.
const DRAIN: Duration = Duration::from_millis(800);
/// How long to wait for another program once a stop is requested.
const LAST_WAIT: Duration = Duration::from_secs(10);
/// How often the entries of the last lines are looked for.
const DRAIN_PASSES: u32 = 5;
/// How often counts are logged, if there is anything to tell.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Stores what is in the storage directory and what is finished from now on, until a stop is
/// requested; then finishes the batch at hand and returns the counts.
///
/// Walks the whole tree every `rescan_every`, in case an event was missed. A hangup reopens the
/// merged log. The service is ready once store and merged log are open, or known to be away.
///
/// While the store is away or a disk is full, this goes on and tries again after 1 to 60 seconds.
/// Finished files are claimed meanwhile too, so that nothing overwrites them. Without a storage
/// directory or a store there is nothing to do, and it returns at once. Inputs are not read.
///
/// # Errors
///
/// [`IngestError`] for what is wrong at the start and does not pass by itself. Once entries could
/// be stored, only a observer that fails ends it.
pub async fn follow(
    options: &Options,
    rescan_every: Duration,
    lifecycle: &mut Lifecycle<'_>,
    observer: &mut dyn Observer,
) -> Result<Tally, IngestError> {
    let Some(path) = options
        .storage_dir
        .as_deref()
        .filter(|_| options.store.is_some())
    else {
        return Ok(Tally::default());
    };
    let heartbeats = Heartbeats::default();
    // Passes and the thread that claims go on without each other; both must.
    let watched = vec![heartbeats.passes.clone(), heartbeats.claims.clone()];
    lifecycle.watch(watched).map_err(IngestError::Thread)?;
    let mut ended = End::default();
    let pipe = match &options.index {
        Some(IndexSource::Stdin) => Some(Pipe::open(io::stdin())?),
        _ => None,
    };
    ended.0 = pipe.as_ref().map(Pipe::ended);
    if pipe.is_some() && !wait_for_lock(options, path, lifecycle.stop().clone(), &mut ended).await?
    {
        return Ok(Tally::default());
    }
    let mut follower = Follower::new(options, path, rescan_every, heartbeats.clone())?;
    follower.pipe = pipe;
    loop {
        follower.turn(lifecycle, observer).await?;
        if ended.is_now() {
            break;
        }
        let next = async {
            tokio::select! {
                biased;
                () = ended.wait() => {}
                () = heartbeats.passes.wait_for(follower.wait()) => {}
            }
        };
        match lifecycle.until(next).await {
            Wake::Stop => break,
            Wake::Hangup => follower.reopen(),
            Wake::Done(()) => {}
        }
    }
    lifecycle.stopping();
    if ended.0.is_some() {
        // Who asks for a stop closes the pipe soon. What is in it until then belongs to us.
        let _ = timeout(DRAIN, ended.wait()).await;
        follower.drain(observer).await;
    }
    Ok(follower.finish())
}

/// The end of the pipe from the web server, if there is one.
#[derive(Debug, Default)]
struct End(Option<Ended>);

impl End {
    /// Returns `true` if the web server has closed the pipe. Without a pipe there is no end.
    fn is_now(&self) -> bool {
        self.0.as_ref().is_some_and(Ended::is_now)
    }

    /// Waits until the pipe is closed; without one, for ever.
    async fn wait(&mut self) {
        or_never(self.0.as_mut().map(Ended::wait)).await;
    }
}

/// Waits until nobody else works on the storage directory: a web server that is restarted starts
/// this program anew before the last one is done. False if there is nothing to wait for any more.
async fn wait_for_lock(
    options: &Options,
    path: &Path,
    mut stop: Stop,
    ended: &mut End,
) -> Result<bool, IngestError> {
    let mut told = false;
    let mut last = None;
    loop {
        match lock(&Arc::new(StorageDir::open(path)?), options) {
            Err(error @ StorageDirError::Locked { .. }) => {
                if !std::mem::replace(&mut told, true) {
                    warn!(
                        error = error_chain(&error),
                        "waiting; nothing is lost meanwhile"
                    );
                }
            }
            other => return Ok(other.map(|_| true)?),
        }
        if stop.requested() || ended.is_now() {
            // The other one is about to end too, and what is in our pipe is not in its.
            if Instant::now() >= *last.get_or_insert_with(|| Instant::now() + LAST_WAIT) {
                return Ok(false);
            }
            sleep(LINGER).await;
            continue;
        }
        tokio::select! {
            () = stop.wait() => {}
            () = ended.wait() => {}
            () = sleep(REOPEN_EVERY) => {}
        }
    }
}

/// Signs of life of the two that work here.
#[derive(Debug, Clone, Default)]
struct Heartbeats {
    /// Beats while a pass reads, stores or removes.
    passes: Heartbeat,
    /// Beats while the thread that claims waits or moves files.
    claims: Heartbeat,
}

/// The storage directory as it was opened, and who claims in it.
struct Tree {
    /// The directory, held open and locked.
    storage: Arc<StorageDir>,
    /// The lock. Held for as long as this exists, never read.
    _charge: Charge,
    /// The thread that claims finished files.
    claims: Claims,
    /// When it was opened; another attempt comes no sooner than [`REOPEN_EVERY`] after that.
    opened: Instant,
    /// What passes have dealt with.
    handled: News,
    /// When the whole tree is walked even if no events are missing.
    next_walk: Instant,
    /// The next walk is to be followed by another one: files that were closed before events came,
    /// or whose events are lost, may be too young for it.
    walk_again: bool,
    /// When to read the index again, if there is one.
    next_lines: Option<Instant>,
    /// When to look at the private directory again although nothing was claimed.
    look_again: Option<Instant>,
    /// How long a turn in the next pass over claimed files is.
    turn: u64,
    /// Whether the last one has left files because their owners' turns were over.
    budgets_spent: bool,
}

impl Tree {
    /// Opens and locks the storage directory at `path`, and starts to claim. The first walk is due
    /// at once.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or watched, or if another program has locked it.
    fn open(options: &Options, path: &Path, heartbeat: &Heartbeat) -> Result<Tree, IngestError> {
        let storage = Arc::new(StorageDir::open(path)?);
        Ok(Tree {
            _charge: lock(&storage, options)?,
            claims: Claims::start(Arc::clone(&storage), path, heartbeat.clone())?,
            storage,
            opened: Instant::now(),
            handled: News::default(),
            next_walk: Instant::now(),
            walk_again: true,
            next_lines: None,
            look_again: None,
            turn: *budgets::CLAIMED.start(),
            budgets_spent: false,
        })
    }

    /// Returns what says that a walk is to pause: files were claimed a moment ago.
    fn pause(&self) -> Pause {
        let (news, handled) = (self.claims.listener(), self.handled.claimed);
        let (left, until) = (self.budgets_spent, std::time::Instant::now() + LINGER);
        Pause(Arc::new(move || {
            let due = left || news.borrow().claimed != handled;
            due && std::time::Instant::now() >= until
        }))
    }

    /// Takes what was claimed since the last time, of each owner as much as his turn allows.
    async fn take_claimed(&mut self, passes: &mut Passes<'_>) -> Result<(), IngestError> {
        let news = self.claims.news();
        // What an earlier pass could not store is left to the walks, but not what was unfinished a
        // moment ago.
        let all = self.look_again.is_some() || self.budgets_spent;
        let after = self.handled.last.filter(|_| !all);
        let source = PassSource::Claimed(Arc::clone(&self.storage), after, Budgets::new(self.turn));
        let before = passes.writer.progress_made();
        let done = passes.pass(source).await?;
        self.budgets_spent = done.budgets_spent;
        self.turn = match self.budgets_spent {
            true if passes.writer.progress_made() == before => Budgets::next(self.turn),
            true => Budgets::next_claimed(self.turn, done.looking),
            false => *budgets::CLAIMED.start(),
        };
        (self.handled.claimed, self.handled.last) = (news.claimed, news.last);
        passes.follow_index(&self.storage).await
    }

    /// Walks over the whole tree. What is claimed meanwhile goes first.
    async fn walk(&mut self, passes: &mut Passes<'_>) -> Result<(), IngestError> {
        let storage = Arc::clone(&self.storage);
        let mut walk = TreeWalk::new(&storage, passes.options);
        while walk.go_on(passes, Some(self.pause())).await? == Walked::Paused {
            self.take_claimed(passes).await?;
        }
        Ok(())
    }

    /// Returns the tree, opened anew if another directory has taken its place.
    fn in_place<'t>(
        tree: &'t mut Option<Tree>,
        options: &Options,
        path: &Path,
        heartbeat: &Heartbeat,
    ) -> Result<&'t mut Tree, IngestError> {
        tree.take_if(|tree| tree.claims.news().lost);
        match tree {
            Some(tree) => Ok(tree),
            none => Ok(none.insert(Tree::open(options, path, heartbeat)?)),
        }
    }

    /// Says what is to be done, and by which news.
    fn due(&self) -> Option<(Due, News)> {
        let (news, now) = (self.claims.news(), Instant::now());
        if news.walks != self.handled.walks || now >= self.next_walk {
            return Some((Due::Walk, news));
        }
        let again = self.look_again.is_some_and(|at| now >= at);
        if again || self.budgets_spent || news.claimed != self.handled.claimed {
            return Some((Due::Claimed, news));
        }
        let lines = self.next_lines.is_some_and(|at| now >= at);
        lines.then_some((Due::Lines, self.handled))
    }
}

/// What a turn of the loop has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// A walk over the whole tree.
    Walk,
    /// A pass over what was claimed.
    Claimed,
    /// Only what the index says.
    Lines,
}

/// The service between two turns.
struct Follower<'o> {
    /// What the administrator asked for.
    options: &'o Options,
    /// The storage directory, as configured.
    path: &'o Path,
    /// The time between two walks without another reason.
    rescan_every: Duration,
    /// Both must beat, or the watchdog of the service manager strikes.
    heartbeats: Heartbeats,
    /// `None` while the storage directory cannot be opened.
    tree: Option<Tree>,
    /// The index, until there is a writer to take it.
    pipe: Option<Pipe>,
    /// `None` until store and merged log could be opened for the first time.
    writer: Option<BatchWriter>,
    /// When to try again after an outage.
    backoff: Backoff,
    /// Counts since the start.
    totals: Totals,
}

impl<'o> Follower<'o> {
    /// Opens the storage directory and starts to claim. Store and merged log are opened by the
    /// first turn.
    ///
    /// # Errors
    ///
    /// As for [`Tree::open`].
    fn new(
        options: &'o Options,
        path: &'o Path,
        rescan_every: Duration,
        heartbeats: Heartbeats,
    ) -> Result<Self, IngestError> {
        Ok(Follower {
            tree: Some(Tree::open(options, path, &heartbeats.claims)?),
            heartbeats,
            options,
            path,
            rescan_every,
            pipe: None,
            writer: None,
            backoff: Backoff::default(),
            totals: Totals::new(),
        })
    }

    /// Does what is due.
    async fn turn(
        &mut self,
        lifecycle: &mut Lifecycle<'_>,
        observer: &mut dyn Observer,
    ) -> Result<(), IngestError> {
        match self.work(lifecycle, observer).await {
            Ok(true) => note_success(&mut self.backoff),
            // The stop ends the loop; a web server's pipe is drained before.
            Ok(false) | Err(IngestError::Interrupted) => {}
            Err(error) if self.can_wait_out(&error) => {
                note_outage(&mut self.backoff, &error);
                lifecycle.ready();
            }
            Err(error) => return Err(error),
        }
        self.totals.log(lifecycle);
        Ok(())
    }

    /// Returns `true` if the loop goes on after this error. What was right once is not the
    /// configuration's fault; somebody is about to mend it.
    fn can_wait_out(&self, error: &IngestError) -> bool {
        match error {
            IngestError::Output(_) => false,
            IngestError::Store(error) => error.is_unavailable() || self.writer.is_some(),
            IngestError::MergedLog(error) => is_full(error) || self.writer.is_some(),
            _ => self.writer.is_some(),
        }
    }

    /// Returns `true` if anything was due and succeeded.
    async fn work(
        &mut self,
        lifecycle: &mut Lifecycle<'_>,
        observer: &mut dyn Observer,
    ) -> Result<bool, IngestError> {
        let tree = Tree::in_place(
            &mut self.tree,
            self.options,
            self.path,
            &self.heartbeats.claims,
        )?;
        let Some((due, news)) = tree.due() else {
            return Ok(false);
        };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let steps = ReadSteps::new(&self.heartbeats.passes, Some(lifecycle.stop()));
                let writer = open_writer(self.options, steps, &tree.storage, &mut self.pipe);
                none.insert(writer.await?)
            }
        };
        if let Some(index) = &mut writer.index {
            index.move_to(&tree.storage);
            index.catch_up();
        }
        writer.settle().await?;
        lifecycle.ready();
        let stop = lifecycle.stop();
        let mut passes = Passes {
            options: self.options,
            stop,
            writer,
            observer,
        };
        let done = match due {
            Due::Walk => tree.walk(&mut passes).await,
            Due::Claimed => tree.take_claimed(&mut passes).await,
            Due::Lines => passes.follow_index(&tree.storage).await,
        };
        let has_index = writer.index.is_some();
        tree.next_lines = has_index.then(|| Instant::now() + LINES_EVERY);
        let tally = writer.take_tally();
        if due != Due::Lines {
            tree.look_again =
                (tally.waiting > 0 && due == Due::Claimed).then(|| Instant::now() + UNFINISHED);
        }
        let waiting = tally.waiting > 0;
        if self.totals.add(tally, due) {
            writer.findings.log_more();
        }
        done?;
        if due == Due::Walk {
            // The walk went through the private directory first.
            tree.handled.claimed = tree.handled.claimed.max(news.claimed);
            tree.handled.last = tree.handled.last.max(news.last);
        }
        tree.walk_again |= tree.handled.walks != news.walks;
        (tree.handled.walks, tree.handled.lost) = (news.walks, news.lost);
        if due == Due::Walk {
            // Once: files that are being written are always too young for some walk.
            let again = std::mem::take(&mut tree.walk_again) && waiting;
            let soon = self.options.min_age.min(self.rescan_every);
            tree.next_walk = Instant::now() + if again { soon } else { self.rescan_every };
        }
        Ok(true)
    }

    /// Waits until something is due.
    async fn wait(&mut self) {
        if let Some(until) = self.backoff.until() {
            let claims = self.tree.as_ref().map(|tree| tree.claims.news());
            if claims.is_none_or(|news| news.lost) {
                // Nobody claims until the storage directory can be opened again.
                return self.heartbeats.claims.wait_for(sleep_until(until)).await;
            }
            return sleep_until(until).await;
        }
        let Some(Tree {
            claims,
            opened,
            handled,
            next_walk,
            next_lines,
            look_again,
            budgets_spent: false,
            ..
        }) = &mut self.tree
        else {
            return;
        };
        let others = [*look_again, *next_lines].into_iter().flatten();
        let until = others.fold(*next_walk, Instant::min);
        let urgent = |news: &News| news.lost || news.walks != handled.walks;
        tokio::select! {
            () = sleep_until(until) => {}
            () = claims.wait_for(|news| urgent(news) || news.claimed != handled.claimed) => {
                let enough = |news: &News| urgent(news) || news.claimed - handled.claimed >= ENOUGH;
                // Either will do.
                let _ = timeout(LINGER, claims.wait_for(enough)).await;
                if claims.news().lost {
                    sleep_until(*opened + REOPEN_EVERY).await;
                }
            }
        }
    }

    /// Opens the merged log again by its path, after a hangup. Without a writer there is none to
    /// reopen.
    fn reopen(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.reopen();
        }
    }

    /// Takes what the last lines of the pipe lead to. What cannot be stored now stays where it is.
    async fn drain(&mut self, observer: &mut dyn Observer) {
        for _ in 0..DRAIN_PASSES {
            match self.drain_once(observer).await {
                Ok(true) => break,
                Ok(false) => sleep(LINGER).await,
                Err(error) => {
                    warn!(
                        error = error_chain(&error),
                        "not all is stored, the files stay"
                    );
                    break;
                }
            }
        }
        if let Some(writer) = &mut self.writer {
            if let Some(index) = &mut writer.index {
                index.close(std::time::Instant::now());
            }
            self.totals.add(writer.take_tally(), Due::Lines);
        }
    }

    /// Returns `true` if every line has found its entry.
    async fn drain_once(&mut self, observer: &mut dyn Observer) -> Result<bool, IngestError> {
        let (Some(tree), Some(writer)) = (&self.tree, &mut self.writer) else {
            return Ok(true);
        };
        if let Some(index) = &mut writer.index {
            index.read_the_last();
        }
        // This is the end already; nothing more is to end it.
        let (_handle, go_on) = Stop::new();
        writer.settle().await?;
        let mut passes = Passes {
            options: self.options,
            stop: &go_on,
            writer,
            observer,
        };
        passes.follow_index(&tree.storage).await?;
        // What is more than that stays in the private directory, for the next start.
        let budgets = Budgets::new(*budgets::CLAIMED.end());
        let claimed = PassSource::Claimed(Arc::clone(&tree.storage), None, budgets);
        passes.pass(claimed).await?;
        self.totals.add(writer.take_tally(), Due::Lines);
        Ok(writer.index.as_ref().is_none_or(Index::is_settled))
    }

    /// Returns the counts since the start, and logs what the index misses and was not logged yet.
    fn finish(mut self) -> Tally {
        self.totals.log_losses();
        self.totals.all
    }
}

/// Opens store, merged log and index. The pipe is taken only once store and log are open: until then
/// the next attempt wants it.
async fn open_writer(
    options: &Options,
    steps: ReadSteps,
    storage: &Arc<StorageDir>,
    pipe: &mut Option<Pipe>,
) -> Result<BatchWriter, IngestError> {
    let mut writer = BatchWriter::open(options, Instant::now().into_std(), steps).await?;
    writer.index = Index::open(options, storage, pipe.take())?;
    if let Some(index) = &mut writer.index {
        index.wait_for_others(SETTLE);
    }
    Ok(writer)
}

/// Returns `true` if the disk, or a quota, is full.
fn is_full(error: &MergedLogError) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    match error {
        MergedLogError::DiskFull { .. } => true,
        MergedLogError::Journal { source, .. } | MergedLogError::Undo { source, .. } => {
            matches!(source.kind(), StorageFull | QuotaExceeded)
        }
        _ => false,
    }
}

/// What was done, and what of it was logged.
struct Totals {
    /// Sums since the start; what was left where it is, as of the last walk.
    all: Tally,
    /// Stored entries, as far as they were logged.
    logged: u64,
    /// Records that the index misses, as far as that was logged.
    missed: u64,
    /// When counts may be logged next.
    next: Instant,
}

impl Totals {
    /// Begins at zero; the first counts are logged after [`LOG_EVERY`].
    fn new() -> Totals {
        Totals {
            all: Tally::default(),
            logged: 0,
            missed: 0,
            next: Instant::now() + LOG_EVERY,
        }
    }

    /// Adds a pass. Returns `true` if a walk found other files that are no entries than the last.
    fn add(&mut self, tally: Tally, due: Due) -> bool {
        let all = &mut self.all;
        all.entries += tally.stored + tally.known;
        all.stored += tally.stored;
        all.known += tally.known;
        all.removed += tally.removed;
        all.pruned += tally.pruned;
        all.index.add(&tally.index);
        if due != Due::Walk {
            return false;
        }
        let kept = |tally: &Tally| -> u64 {
            let stored = tally.defects.get(&DefectReason::Truncated);
            tally.defective() - stored.copied().unwrap_or(0)
        };
        let changed = kept(&tally) != kept(all);
        all.waiting = tally.waiting;
        all.defects = tally.defects;
        all.left_alone = tally.left_alone;
        changed
    }

    /// Logs the sums, unless that was done a moment ago or nothing has happened since.
    fn log(&mut self, lifecycle: &Lifecycle<'_>) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.log_losses();
        let all = &self.all;
        if all.stored == self.logged {
            return;
        }
        info!(
            records = all.stored - self.logged,
            total = all.stored,
            waiting = all.waiting,
            defects = all.defective(),
            left_alone = all.left_alone.total(),
            "entries stored"
        );
        lifecycle.status(&format!("{} entries stored so far", all.entries));
        self.logged = all.stored;
        self.next = now + LOG_EVERY;
    }

    /// Logs what the index misses, if that has become more.
    fn log_losses(&mut self) {
        let index = &self.all.index;
        if index.wrong() == self.missed {
            return;
        }
        warn!(
            overwritten = index.overwritten,
            missing = index.missing,
            mismatched = index.mismatched,
            verified = index.verified,
            "records that are in the index are lost or damaged"
        );
        self.missed = index.wrong();
        self.next = Instant::now() + LOG_EVERY;
    }
}

//! One pass: read, decode, keep in the merged log and the store, and only then remove.
//!
//! ```text
//! storage directory ─► entry ─► row ─► batch ─► 1. merged log (append, sync)
//!                                              2. store (one transaction)
//!                                              3. remove the batch's files, prune directories
//! ```
//!
//! A crash between any two steps loses nothing and doubles nothing: what is in the store is known
//! by its hash, and the journal of the merged log knows which batch was under way.
//!
//! [`run`] does one pass over a storage directory, which it consumes, or over inputs, which it
//! leaves alone. [`follow`] goes on with what is written from then on.

mod claims;
mod digest;
mod feed;
mod follow;
mod follow_log;
mod index;
mod inputs;
mod jobs;
mod keeper;
mod offset_file;
mod read;
mod refused;
mod remover;
mod rows;
mod several;
mod tally;
mod turn;
mod unopened;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, TimeDelta, Utc};
use tracing::{debug, info, warn};

use self::feed::{Feed, From};
pub use self::follow::{DEFAULT_RESCAN, follow};
pub use self::follow_log::{FollowLogError, follow_log};
use self::index::Index;
pub use self::index::{IndexCounts, IndexError, IndexSource};
use self::jobs::Cursor;
use self::keeper::Keeper;
pub use self::tally::{DefectReason, Tally, TopCounts};
use crate::heartbeat::Heartbeat;
use crate::merged_log::MergedLogError;
use crate::program::{Backoff, Stop, error_chain};
use crate::record::TrustedProxies;
pub use crate::storage_dir::AccountNames;
use crate::storage_dir::turns::{self, Turns};
use crate::storage_dir::{PruneRules, StorageDir, StorageDirError};
use crate::store::{StoreError, StoreOpener};
use crate::watch::WatchError;

/// What to read, and where to keep it.
///
/// By default nothing, and nowhere:
///
/// ```
/// use modsec_core::ingest::Options;
/// use modsec_core::store::StoreOptions;
///
/// let mut options = Options::default();
/// options.storage_dir = Some("/var/log/apache2/modsec_audit".into());
/// options.store = Some(StoreOptions::new("sqlite:/var/lib/modsec.db").into());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Options {
    /// `SecAuditLogStorageDir`, whose entries are stored and removed.
    pub storage_dir: Option<PathBuf>,
    /// Files and directories that are read and left alone.
    pub inputs: Vec<PathBuf>,
    /// Where rows go. Without a store nothing is kept, and nothing is removed.
    pub store: Option<StoreOpener>,
    /// Where whole entries go.
    pub merged_log: Option<PathBuf>,
    /// Where the server says which entries are complete. Not used without a store.
    pub index: Option<IndexSource>,
    /// Whether directories that became empty stay.
    pub directories: Directories,
    /// How old a file must be before it is taken; two seconds by default.
    pub min_age: Duration,
    /// How long an incomplete entry must not have changed before it is taken as it is; ten minutes
    /// by default.
    pub stale_after: Duration,
    /// Name of this host in the rows.
    pub sensor: Option<String>,
    /// Whose word is taken for a client's address; that of loopback addresses by default.
    pub proxies: TrustedProxies,
    /// Names of accounts by user id; numbers by default.
    pub accounts: AccountNames,
    /// Whether each transaction is also reported as a line of JSON.
    pub json_lines: bool,
    /// Threads that read and decode; one by default.
    pub threads: usize,
}

/// What happens to directories that became empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Directories {
    /// They are removed, except the newest and those a writer may still use.
    #[default]
    Prune,
    /// They stay.
    Keep,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            storage_dir: None,
            inputs: Vec::new(),
            store: None,
            merged_log: None,
            index: None,
            directories: Directories::default(),
            min_age: Duration::from_secs(2),
            stale_after: Duration::from_secs(600),
            sensor: None,
            proxies: TrustedProxies::default(),
            accounts: AccountNames::default(),
            json_lines: false,
            threads: 1,
        }
    }
}

impl Options {
    /// Returns when directories may go; `None` if all stay.
    fn prune_rules(&self, now: DateTime<Utc>) -> Option<PruneRules> {
        let keep = self.directories == Directories::Keep || self.store.is_none();
        (!keep).then(|| PruneRules {
            now: now.with_timezone(&Local).fixed_offset(),
            min_age: TimeDelta::from_std(self.min_age).unwrap_or(TimeDelta::MAX),
            users: false,
            accounts: self.accounts.clone(),
        })
    }
}

/// Receives progress and JSON lines during a pass.
pub trait Report {
    /// Takes the counts so far, a few times a second.
    fn progress(&mut self, tally: &Tally) {
        let _ = tally;
    }

    /// Takes one transaction as a line of JSON without its line feed, in the order of the walk.
    ///
    /// # Errors
    ///
    /// An error ends the pass.
    fn json_line(&mut self, line: &str) -> io::Result<()> {
        let _ = line;
        Ok(())
    }
}

/// Listens to nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Report for Silent {}

/// Why a pass ended early. Entries that were not stored are where they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IngestError {
    /// The storage directory cannot be used.
    #[error(transparent)]
    StorageDir(#[from] StorageDirError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The merged log cannot be used.
    #[error(transparent)]
    MergedLog(#[from] MergedLogError),
    /// The index cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Events cannot be had.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The reading threads could not be started.
    #[error("could not start a thread; raise the limit on processes (ulimit -u)")]
    Thread(#[source] io::Error),
    /// A reading thread panicked; what it said is on standard error.
    #[error("a reading thread failed; what it read stays and is read again, please report it")]
    Reader,
    /// A log cannot be followed.
    #[error(transparent)]
    Log(#[from] FollowLogError),
    /// Nobody takes the JSON lines any more.
    #[error("could not write JSON lines")]
    Output(#[source] io::Error),
}

/// Passes over one storage directory that a single call makes at the most. The second finds what
/// the file system did not list while files were removed.
const MAX_WALKS: usize = 8;

/// Does one pass and returns its counts.
///
/// Ends early, after the batch at hand, once `stop` is requested.
///
/// # Errors
///
/// [`IngestError`] if nothing can be kept or read at all. What one file or entry is guilty of is
/// in the [`Tally`].
pub async fn run(
    options: &Options,
    stop: &Stop,
    report: &mut dyn Report,
) -> Result<Tally, IngestError> {
    let started = Instant::now();
    let storage = match &options.storage_dir {
        Some(path) => Some(Arc::new(StorageDir::open(path)?)),
        None => None,
    };
    if let Some(storage) = storage.as_ref().filter(|_| options.store.is_some()) {
        lock(storage)?;
    }
    let mut keeper = Keeper::open(options, started, Heartbeat::default()).await?;
    if !options.inputs.is_empty() {
        let inputs = From::Inputs(options.inputs.clone());
        pass(inputs, options, stop, &mut keeper, report).await?;
    }
    if let Some(storage) = storage {
        if options.store.is_some() {
            keeper.index = Index::open(options, &storage, None)?;
        }
        walk(&storage, options, stop, &mut keeper, report, None).await?;
    }
    let tally = keeper.finish();
    debug!(
        records = tally.entries,
        stored = tally.stored,
        defects = tally.defective(),
        elapsed_ms = u64::try_from(tally.elapsed.as_millis()).unwrap_or(u64::MAX),
        "pass finished"
    );
    Ok(tally)
}

/// Notes that nothing can be kept for now. The first time of an outage is logged as a warning.
fn note_outage(backoff: &mut Backoff, error: &IngestError) {
    let error = error_chain(error);
    if backoff.failed() {
        warn!(
            error,
            "nothing can be kept, the files stay; trying again until it works"
        );
    } else {
        debug!(error, "still nothing can be kept");
    }
}

/// Notes that entries are kept.
fn note_success(backoff: &mut Backoff) {
    if let Some(outage) = backoff.succeeded() {
        info!(seconds = outage.as_secs(), "entries are kept again");
    }
}

/// Things that were moved aside and are named in the log; the others are counted.
const MAX_NAMED: usize = 3;

/// Takes charge of the storage directory, and says what was in the way.
fn lock(storage: &StorageDir) -> Result<(), StorageDirError> {
    storage.lock()?;
    let aside = storage.moved_aside();
    if !aside.is_empty() {
        warn!(
            count = aside.len(),
            paths = ?aside.iter().take(MAX_NAMED).collect::<Vec<_>>(),
            "moved aside: somebody had put it in the place of our directory; look at it and remove it"
        );
    }
    Ok(())
}

/// Goes through the storage directory until all that was there is done, and prunes it.
///
/// No owner's files delay those of the others by more than a turn, see [`Turns`]. What `claimed`
/// has meanwhile goes first.
async fn walk(
    storage: &Arc<StorageDir>,
    options: &Options,
    stop: &Stop,
    keeper: &mut Keeper,
    report: &mut dyn Report,
    mut claimed: Option<&mut follow::Tree>,
) -> Result<(), IngestError> {
    let (mut walks, mut again) = (0, false);
    keeper.begin_walk();
    // Without a store all stays, and is to be read once.
    let mut limit = if options.store.is_some() {
        turns::FIRST
    } else {
        u64::MAX
    };
    loop {
        if std::mem::replace(&mut again, true) {
            keeper.walk_again();
        }
        // Its lines are from before the walk, which looks for the entries everywhere.
        follow_index(storage, options, stop, keeper, report).await?;
        let begun = Instant::now();
        let before = (keeper.tally.removed, keeper.got_on());
        let cursor = Box::new(Cursor::new(storage, Turns::new(limit)));
        let walked = round(
            cursor,
            options,
            stop,
            keeper,
            report,
            claimed.as_deref_mut(),
        )
        .await?;
        if stop.requested() {
            break;
        }
        // Where nothing can be removed, another walk would meet the same files.
        let is_stuck = walked.old > 0 && (keeper.tally.removed, keeper.got_on()) == before;
        if walked.turns_over {
            limit = if is_stuck {
                u64::MAX
            } else {
                Turns::next(limit)
            };
            continue;
        }
        if let Some(index) = keeper.index.as_mut() {
            index.close(begun);
        }
        keeper.end_of_walk();
        walks += 1;
        if walked.old == 0 || is_stuck || options.store.is_none() || walks == MAX_WALKS {
            break;
        }
    }
    prune(storage, options, keeper);
    Ok(())
}

/// Removes the directories that nobody can want any more, if that is wanted.
fn prune(storage: &StorageDir, options: &Options, keeper: &mut Keeper) {
    if let Some(rules) = options.prune_rules(Utc::now()) {
        let pruned = storage.prune(&rules);
        keeper.tally.pruned += pruned.minutes + pruned.days + pruned.users;
    }
}

/// Goes through the tree once, with pauses.
async fn round(
    cursor: Box<Cursor>,
    options: &Options,
    stop: &Stop,
    keeper: &mut Keeper,
    report: &mut dyn Report,
    mut claimed: Option<&mut follow::Tree>,
) -> Result<Passed, IngestError> {
    let mut all = Passed::default();
    let mut cursor = Some(cursor);
    while let Some(at) = cursor {
        let pause = claimed.as_ref().map(|claimed| claimed.pause());
        let from = From::Tree(at, pause);
        let passed = pass(from, options, stop, keeper, report).await?;
        all.old += passed.old;
        all.turns_over |= passed.turns_over;
        cursor = passed.cursor;
        if let Some(claimed) = claimed.as_mut().filter(|_| cursor.is_some()) {
            claimed.take_claimed(options, stop, keeper, report).await?;
        }
    }
    Ok(all)
}

/// Reads what the index has to say, and takes the entries that it leads to.
async fn follow_index(
    storage: &Arc<StorageDir>,
    options: &Options,
    stop: &Stop,
    keeper: &mut Keeper,
    report: &mut dyn Report,
) -> Result<(), IngestError> {
    if let Some(index) = &mut keeper.index {
        index.try_again();
    }
    let mut first = None;
    while let Some(index) = &mut keeper.index {
        let more = index.read();
        let wanted = index.wanted();
        let last = std::mem::replace(
            &mut first,
            wanted.first().map(|file| Arc::clone(&file.file)),
        );
        if first.is_some() && first == last {
            break; // Too many directories are open elsewhere.
        }
        if !wanted.is_empty() {
            let from = From::Indexed(Arc::clone(storage), wanted);
            pass(from, options, stop, keeper, report).await?;
        } else if !more {
            break;
        }
        if stop.requested() {
            break;
        }
    }
    if let Some(index) = &mut keeper.index {
        index.note();
    }
    Ok(())
}

/// What a pass did.
#[derive(Default)]
struct Passed {
    /// Entries taken that had been there before.
    old: u64,
    /// Whether files were left because their owners' turns were over.
    turns_over: bool,
    /// Where a walk goes on that has paused.
    cursor: Option<Box<Cursor>>,
    /// How long the names of claimed files were looked at.
    looking: Duration,
}

/// Goes through `from` once.
async fn pass(
    from: From,
    options: &Options,
    stop: &Stop,
    keeper: &mut Keeper,
    report: &mut dyn Report,
) -> Result<Passed, IngestError> {
    let known = (keeper.memory(), keeper.left_off());
    let mut feed =
        Feed::start(from, options, known, stop, keeper.heartbeat()).map_err(IngestError::Thread)?;
    let taken = take_all(&mut feed, keeper, report).await;
    // Removing and reading end before the next pass, also after an error.
    keeper.finish_removing();
    let rest = feed.finish();
    keeper.tally.pruned += rest.pruned;
    keeper.left_alone(rest.left_alone);
    keeper.unopened(rest.unopened);
    Ok(Passed {
        old: taken?,
        turns_over: rest.turns_over,
        cursor: rest.cursor,
        looking: rest.looking,
    })
}

async fn take_all(
    feed: &mut Feed,
    keeper: &mut Keeper,
    report: &mut dyn Report,
) -> Result<u64, IngestError> {
    let mut old = 0;
    while let Some(outcome) = feed.next().await? {
        let is_old = outcome.result.as_ref().is_ok_and(|found| found.is_old);
        // What stays because of another entry in it is no reason for another walk.
        let goes = keeper.take(outcome, &feed.budget, report).await?;
        old += u64::from(is_old && goes);
    }
    keeper.flush(&feed.budget, report).await?;
    Ok(old)
}

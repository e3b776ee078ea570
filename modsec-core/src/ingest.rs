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
//! leaves alone. [`follow()`] goes on with what is written from then on.

mod batch_writer;
mod budget;
mod claims;
mod decode_pool;
mod decoder;
mod digest;
mod entry;
mod follow;
mod follow_log;
mod index;
mod inputs;
mod known_files;
mod large_entry;
mod multi_entry;
mod offset_file;
mod open_dir;
mod outcome;
mod passes;
mod progress;
mod source;
mod tally;
#[cfg(test)]
mod tests;
mod unlinker;
mod unopened;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Local, TimeDelta, Utc};
use tracing::{debug, info, warn};

use self::batch_writer::BatchWriter;
pub use self::follow::{DEFAULT_RESCAN, follow};
pub use self::follow_log::{FollowLogError, check_log_to_follow, follow_log};
use self::index::Index;
pub use self::index::{IndexCounts, IndexError, IndexSource, check_index};
use self::passes::{Passes, TreeWalk};
use self::source::PassSource;
pub use self::tally::{DefectReason, Tally, TopCounts};
use crate::heartbeat::Heartbeat;
use crate::merged_log::MergedLogError;
use crate::program::{Backoff, Stop, error_chain};
use crate::read_steps::ReadSteps;
use crate::record::TrustedProxies;
pub use crate::storage_dir::AccountNames;
use crate::storage_dir::{PruneRules, StorageDir, StorageDirError};
use crate::store::{StoreError, StoreOpener, StoreOptions};
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
    /// Directory outside of it for a lock and for how far the index was read; made if need be.
    /// Without one the second of them is kept in the storage directory.
    pub state_dir: Option<PathBuf>,
    /// Files and directories that are read and left alone.
    pub inputs: Vec<PathBuf>,
    /// Where rows go. Without a store nothing is kept, and nothing is removed.
    pub store: Option<StoreOpener>,
    /// Without a store: in which one to look up what is known. Nothing is changed there.
    pub compare: Option<ComparedStore>,
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

/// A store in which entries are looked up, and nothing is changed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ComparedStore {
    /// The one that these options name.
    At(StoreOptions),
    /// One that is still to be made, in which all entries are new.
    NotYet,
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
            state_dir: None,
            inputs: Vec::new(),
            store: None,
            compare: None,
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
pub trait Observer {
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

impl Observer for Silent {}

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
    /// A stop was requested while the store was waited for, as another process holds it. What was
    /// not stored stays, and is taken by the next run.
    #[error("ended while the database was waited for; what is not stored stays for the next run")]
    Interrupted,
    /// Nobody takes the JSON lines any more.
    #[error("could not write JSON lines")]
    Output(#[source] io::Error),
}

/// Does one pass and returns its counts.
///
/// Ends early, after the batch at hand, once `stop` is requested; without that batch if another
/// process holds the store.
///
/// # Errors
///
/// [`IngestError`] if nothing can be kept or read at all. What one file or entry is guilty of is
/// in the [`Tally`].
pub async fn run(
    options: &Options,
    stop: &Stop,
    observer: &mut dyn Observer,
) -> Result<Tally, IngestError> {
    let started = Instant::now();
    let storage = match &options.storage_dir {
        Some(path) => Some(Arc::new(StorageDir::open(path)?)),
        None => None,
    };
    let kept = storage.as_ref().filter(|_| options.store.is_some());
    let _charge = kept.map(|storage| lock(storage, options)).transpose()?;
    let steps = ReadSteps::new(&Heartbeat::default(), Some(stop));
    let mut writer = match BatchWriter::open(options, started, steps).await {
        Err(IngestError::Interrupted) => {
            return Ok(Tally {
                interrupted: true,
                ..Tally::default()
            });
        }
        opened => opened?,
    };
    let passes = Passes {
        options,
        stop,
        writer: &mut writer,
        observer,
    };
    match go_through(passes, storage).await {
        Err(IngestError::Interrupted) => writer.findings.tally.interrupted = true,
        done => done?,
    }
    let tally = writer.finish();
    debug!(
        records = tally.entries,
        stored = tally.stored,
        defects = tally.defective(),
        elapsed_ms = u64::try_from(tally.elapsed.as_millis()).unwrap_or(u64::MAX),
        "pass finished"
    );
    Ok(tally)
}

/// Goes through inputs and storage directory once.
async fn go_through(
    mut passes: Passes<'_>,
    storage: Option<Arc<StorageDir>>,
) -> Result<(), IngestError> {
    let options = passes.options;
    if !options.inputs.is_empty() {
        let inputs = PassSource::Inputs(options.inputs.clone());
        passes.pass(inputs).await?;
    }
    if let Some(storage) = storage {
        if options.store.is_some() {
            passes.writer.index = Index::open(options, &storage, None)?;
        }
        TreeWalk::new(&storage, options)
            .go_on(&mut passes, None)
            .await?;
    }
    Ok(())
}

/// Things that were moved aside and are named in the log; the others are counted.
const MAX_NAMED: usize = 3;

/// The charge of a storage directory. When it is given up, nothing but entries is left there.
#[derive(Debug)]
struct Charge(Arc<StorageDir>);

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Takes charge of the storage directory, and says what was in the way.
fn lock(storage: &Arc<StorageDir>, options: &Options) -> Result<Charge, StorageDirError> {
    match &options.state_dir {
        Some(state_dir) => storage.lock_with_state(state_dir)?,
        None => storage.lock()?,
    }
    let aside = storage.moved_aside();
    if !aside.is_empty() {
        warn!(
            count = aside.len(),
            paths = ?aside.iter().take(MAX_NAMED).collect::<Vec<_>>(),
            "moved aside: somebody had put it in the place of our directory; look at it and remove it"
        );
    }
    Ok(Charge(Arc::clone(storage)))
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

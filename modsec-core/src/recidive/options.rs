//! What `recidive` is told to do.

use std::path::PathBuf;
use std::time::Duration;

use crate::ledger::{AttackFilter, LedgerError, LedgerOptions};
use crate::record::TrustedProxies;

/// A log that is followed beside or instead of the storage directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogSource {
    /// The log into which `modsec-parser` merges entries. An entry that is also seen in the
    /// storage directory counts once.
    Merged(PathBuf),
    /// The index that `SecAuditLog` becomes in concurrent mode: a line for every record, also for
    /// those whose files were overwritten. Knows address and status only. Not together with the
    /// storage directory, since a line and a file cannot be told to be the same record.
    Index(PathBuf),
}

/// Sources, rules and files of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// `SecAuditLogStorageDir`, if entries' files are to be read.
    pub storage_dir: Option<PathBuf>,
    /// A log to follow, if any.
    pub log: Option<LogSource>,
    /// What counts.
    pub attacks: AttackFilter,
    /// Whose word is taken for a client's address.
    pub proxies: TrustedProxies,
    /// Who becomes an offender.
    pub ledger: LedgerOptions,
    /// User ids whose files count; all if `None`. Logs have no owners by entry, so this goes with
    /// the storage directory alone.
    pub owners: Option<Vec<u32>>,
    /// The file that Fail2ban reads.
    pub jail_file: PathBuf,
    /// Where the ledger is kept between runs.
    pub state_file: PathBuf,
    /// Time after which a file that its writer never finished is read as it is.
    pub stale_after: Duration,
    /// Shortest time between two saves of the state.
    pub save_every: Duration,
    /// Write neither jail nor state file; offenders go to standard output.
    pub dry_run: bool,
}

/// Options that contradict each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// Nothing to read.
    #[error("no source: choose storage-dir, merged-log or index=FILE")]
    NoSource,
    /// Index and files would count every attack twice.
    #[error("the index and the storage directory describe the same records, choose one of them")]
    IndexBesideTree,
    /// The index cannot tell what is asked for.
    #[error("the index has no scores, severities or rules, count any or blocked with it")]
    IndexKnowsStatusOnly,
    /// Logs have no owners.
    #[error("entries in a log have no owner, require one with the storage directory alone")]
    OwnersOfLog,
    /// A value is out of range.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Options {
    /// Returns options with the defaults of the program `recidive`, and without a source.
    pub fn new(jail_file: PathBuf, state_file: PathBuf) -> Self {
        Options {
            storage_dir: None,
            log: None,
            attacks: AttackFilter::default(),
            proxies: TrustedProxies::default(),
            ledger: LedgerOptions::default(),
            owners: None,
            jail_file,
            state_file,
            stale_after: Duration::from_secs(600),
            save_every: Duration::from_secs(5),
            dry_run: false,
        }
    }

    /// Checks what can be checked without touching a file.
    ///
    /// # Errors
    /// [`OptionsError`] names the first contradiction.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.ledger.check()?;
        match (&self.storage_dir, &self.log) {
            (None, None) => Err(OptionsError::NoSource),
            (Some(_), Some(LogSource::Index(_))) => Err(OptionsError::IndexBesideTree),
            (_, Some(_)) if self.owners.is_some() => Err(OptionsError::OwnersOfLog),
            (None, Some(LogSource::Index(_)))
                if self.attacks.is_attack_by_status(None).is_none() =>
            {
                Err(OptionsError::IndexKnowsStatusOnly)
            }
            _ => Ok(()),
        }
    }
}

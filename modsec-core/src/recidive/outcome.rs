//! What a run did, or why it had to end.

use std::io;
use std::path::PathBuf;

use tracing::info;

use super::{OptionsError, StateError, Tally};
use crate::ban::JailLogError;
use crate::ledger::LedgerCounts;
use crate::program::ProgramError;
use crate::watch::WatchError;

/// Why a run could not begin or had to end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The options contradict each other.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The state cannot be read or saved.
    #[error(transparent)]
    State(#[from] StateError),
    /// The jail file cannot be opened.
    #[error(transparent)]
    Jail(#[from] JailLogError),
    /// Watching is not possible.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The thread that reports signs of life could not be started.
    #[error("could not start a thread; raise the limit on processes (ulimit -u)")]
    Thread(#[source] io::Error),
    /// Standard output does not take the lines of a dry run.
    #[error(transparent)]
    Output(#[from] ProgramError),
    /// The log cannot be read.
    #[error("cannot read log {path:?}, name another with --source or --merged-log")]
    Log {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Offenders could not be written to the jail file until the end.
    #[error(
        "{lines} offenders were not handed over, because {path:?} could not be written; the next start tries again"
    )]
    NotHandedOver {
        /// How many.
        lines: u64,
        /// The jail file.
        path: PathBuf,
    },
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// What came in.
    pub tally: Tally,
    /// What the ledger made of it.
    pub ledger: LedgerCounts,
    /// Files that were gone before they could be read. If `modsec-parser` took them, they come by
    /// its private directory or by the merged log.
    pub vanished: u64,
    /// Files of owners whose entries do not count.
    pub foreign: u64,
    /// What was neither a file nor readable.
    pub refused: u64,
    /// Files read as they were because nobody finished them.
    pub truncated: u64,
}

impl Summary {
    /// Logs the counts at the end of a run.
    pub(super) fn log(&self) {
        let Summary { tally, ledger, .. } = *self;
        info!(
            records = tally.entries,
            attacks = tally.attacks,
            repeated = tally.repeated,
            defects = tally.defects,
            unplaced = tally.unplaced,
            ignored = ledger.ignored,
            reports = ledger.reports,
            vanished = self.vanished,
            foreign = self.foreign,
            refused = self.refused,
            truncated = self.truncated,
            "stopped"
        );
    }
}

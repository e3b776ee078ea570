//! What is read: jobs, and which of the files in a directory are some.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::format::Defect;
use crate::heartbeat::Heartbeat;
use crate::ingest::index::Wanted;
use crate::ingest::known_files::{KnownFiles, Met};
use crate::ingest::open_dir::OpenDir;
use crate::ingest::unopened::{Ages, Sight, Unopened};
use crate::log_reader::Taken;
use crate::program::Stop;
use crate::storage_dir::budgets::{Budgets, Grant};
use crate::storage_dir::{EntryFile, Refusal};

/// What a thread takes at a time.
pub(in crate::ingest) enum Job {
    /// A file of the storage directory, and what it was when it was looked at.
    Entry(EntryFile, Arc<OpenDir>, Option<Met>),
    /// A file that the index names, if it is there.
    Indexed(Wanted, Result<(EntryFile, Arc<OpenDir>), Refusal>),
    /// An input that is one entry, or cannot be read.
    Input(PathBuf, io::Result<File>),
    /// What was found in a log.
    Taken(PathBuf, Uid, Taken),
    /// A log that ended without an entry.
    NoLog(PathBuf, Defect),
}

/// Owner of a log.
pub(in crate::ingest) type Uid = u32;

/// Looks at files before they are read, and counts those that are not.
#[derive(Debug)]
pub(super) struct Selector {
    /// The request to stop, at which nothing more is handed out.
    pub(super) stop: Stop,
    /// Beats for each file that is looked at.
    pub(super) heartbeat: Heartbeat,
    /// From which age on a file is taken.
    pub(super) ages: Ages,
    /// What earlier passes have found in files.
    pub(super) known: KnownFiles,
    /// Counts of what is left after a look.
    pub(super) unopened: Unopened,
}

/// What to do next.
pub(super) enum Choice {
    /// The file is to be read.
    Take(Job),
    /// Nothing to take here; go on to the next file.
    NextFile,
    /// The directory is done with.
    NextDirectory,
}

impl From<Grant> for Choice {
    fn from(budget: Grant) -> Choice {
        if budget == Grant::AllSpent {
            Choice::NextDirectory
        } else {
            Choice::NextFile
        }
    }
}

impl Selector {
    /// Takes `file` if there is anything to read in it and it is its owner's turn.
    pub(super) fn choose(
        &mut self,
        file: EntryFile,
        dir: &Arc<OpenDir>,
        budgets: &Budgets,
    ) -> Choice {
        let met = match self.unopened.look(&file, &self.ages, &self.known) {
            Sight::Gone => return Choice::NextFile,
            Sight::Left(uid) => return budgets.look(Some(uid)).into(),
            Sight::Open(met) => met,
        };
        let budget = met.map_or(Grant::Granted, |Met { look, .. }| {
            budgets.file(look.uid, look.size())
        });
        if budget != Grant::Granted {
            return budget.into();
        }
        dir.begin();
        Choice::Take(Job::Entry(file, Arc::clone(dir), met))
    }
}

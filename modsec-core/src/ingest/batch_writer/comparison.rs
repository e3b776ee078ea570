//! A rehearsal: which entries a store knows already, and which would be new in it.

use std::collections::HashSet;

use super::destination::ask;
use crate::entry_hash::EntryHash;
use crate::ingest::{ComparedStore, IngestError, Options};
use crate::read_steps::ReadSteps;
use crate::store::{self, Found, Row};

/// New entries of which it is remembered that they were met. An entry that comes again counts as new
/// once more if there were more in between.
const MOST: usize = 1 << 20;

/// A store that is only read.
pub(super) struct Comparison {
    /// `None` if it is still to be made.
    store: Option<Found>,
    /// Entries that are not in the store, and would be by now.
    new: HashSet<EntryHash>,
    /// Reports signs of life, and ends the waiting for the store at a stop.
    steps: ReadSteps,
}

/// What a batch would come to.
#[derive(Default)]
pub(super) struct Compared {
    /// Entries that the store would receive.
    pub(super) new: u64,
    /// Entries that are in the store already, or would be by now.
    pub(super) known: u64,
}

impl Comparison {
    /// Looks at the store; `None` if entries are not to be compared.
    ///
    /// # Errors
    ///
    /// Why the store cannot be read, or could not be opened by a run that stores.
    pub(super) async fn open(
        options: &Options,
        steps: &ReadSteps,
    ) -> Result<Option<Comparison>, IngestError> {
        let store = match &options.compare {
            Some(ComparedStore::At(store)) => Some(ask(steps, store::look(store)).await?),
            Some(ComparedStore::NotYet) => None,
            None => return Ok(None),
        };
        Ok(Some(Comparison {
            store,
            new: HashSet::new(),
            steps: steps.clone(),
        }))
    }

    /// Says what would become of entries.
    ///
    /// # Errors
    ///
    /// What the store said.
    pub(super) async fn compare(&mut self, rows: &[Row]) -> Result<Compared, IngestError> {
        let hashes: Vec<EntryHash> = rows.iter().map(|row| row.entry_hash).collect();
        let stored = match &mut self.store {
            Some(store) => ask(&self.steps, store.known(&hashes)).await?,
            None => HashSet::new(),
        };
        let mut compared = Compared::default();
        for hash in hashes {
            if stored.contains(&hash) || self.new.contains(&hash) {
                compared.known += 1;
                continue;
            }
            compared.new += 1;
            if self.new.len() == MOST {
                self.new.clear();
            }
            self.new.insert(hash);
        }
        Ok(compared)
    }
}

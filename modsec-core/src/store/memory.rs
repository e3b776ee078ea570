//! A store that lasts as long as the process: for tests and examples.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, BatchId, Inserted, Refused, Row, Store, StoreError, StoreFuture};
use crate::entry_hash::EntryHash;

/// Keeps rows in memory. Clones share them, as two programs share one database.
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Tables>>);

#[derive(Debug, Default)]
struct Tables {
    rows: Vec<Row>,
    known: HashSet<EntryHash>,
    last_batches: HashMap<String, BatchId>,
    refused: HashSet<String>,
}

impl MemoryStore {
    /// Returns an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a copy of the rows in the order in which they were inserted.
    pub fn rows(&self) -> Vec<Row> {
        self.tables().rows.clone()
    }

    /// Makes the store refuse rows with this `unique_id`, as a constraint in a database would.
    pub fn refuse(&self, unique_id: &str) {
        self.tables().refused.insert(unique_id.to_owned());
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change below is complete once it has begun, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn refused(&self, batch: &Batch) -> Vec<Refused> {
        let refused = |row: &&Row| {
            !self.known.contains(&row.entry_hash)
                && row
                    .unique_id
                    .as_ref()
                    .is_some_and(|id| self.refused.contains(id))
        };
        batch
            .rows
            .iter()
            .filter(refused)
            .map(|row| Refused {
                entry: row.entry_hash,
                path: row.path.clone(),
                reason: "refused on request".to_owned(),
            })
            .collect()
    }

    fn insert(&mut self, batch: &Batch) -> Inserted {
        let before = self.rows.len();
        for row in &batch.rows {
            if self.known.insert(row.entry_hash) {
                self.rows.push(row.clone());
            }
        }
        if let Some(journal) = &batch.journal {
            self.last_batches.insert(journal.clone(), batch.id);
        }
        let stored = self.rows.len() - before;
        Inserted {
            stored,
            known: batch.rows.len() - stored,
        }
    }
}

impl Store for MemoryStore {
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        let tables = self.tables();
        let known = hashes
            .iter()
            .filter(|hash| tables.known.contains(hash))
            .copied()
            .collect();
        Box::pin(async { Ok(known) })
    }

    fn insert<'a>(&'a mut self, batch: &'a Batch) -> StoreFuture<'a, Inserted> {
        let mut tables = self.tables();
        let rows = tables.refused(batch);
        let result = if rows.is_empty() {
            Ok(tables.insert(batch))
        } else {
            Err(StoreError::Refused {
                store: "memory".to_owned(),
                rows,
            })
        };
        Box::pin(async { result })
    }

    fn last_batch<'a>(&'a mut self, journal: &'a str) -> StoreFuture<'a, Option<BatchId>> {
        let last = self.tables().last_batches.get(journal).copied();
        Box::pin(async move { Ok(last) })
    }

    fn name(&self) -> String {
        "memory".to_owned()
    }
}

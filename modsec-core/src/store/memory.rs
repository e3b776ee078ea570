//! A store that lasts as long as the process: for tests and examples.
//!
//! It is also the shortest complete reading of the contract of [`Store`]: one lock is the
//! transaction, a set of hashes is the unique key, and a map is the table `modsec_batches`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Batch, BatchId, Inserted, Refused, Row, Store, StoreError, StoreFuture};
use crate::entry_hash::EntryHash;

/// Keeps rows in memory. Clones share them, as two programs share one database.
///
/// ```
/// use modsec_core::record::Record;
/// use modsec_core::EntryHash;
/// use modsec_core::store::{Batch, Inserted, MemoryStore, Origin, Row, Store};
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// let mut store = MemoryStore::new();
/// let row = Row::new(&Record::default(), EntryHash::of(b"entry"), &Origin::default(), None);
/// let batch = Batch::new(None, vec![row]);
/// assert_eq!(store.insert(&batch).await?, Inserted::new(1, 0));
/// // Once more: nothing changes.
/// assert_eq!(store.insert(&batch).await?, Inserted::new(0, 1));
/// assert_eq!(store.rows().len(), 1);
/// # Ok::<(), modsec_core::store::StoreError>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Tables>>);

/// What a database would keep in its tables.
#[derive(Debug, Default)]
struct Tables {
    /// Tables `logs` and `rule_matches`, in the order of insertion.
    rows: Vec<Row>,
    /// The unique key of `logs`: hashes of all [`rows`](Self::rows).
    known: HashSet<EntryHash>,
    /// Table `modsec_batches`: journal to the batch committed last.
    last_batches: HashMap<String, BatchId>,
    /// `unique_id`s whose rows are refused.
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

    /// Makes the store refuse new rows with this `unique_id`, as a constraint in a database would.
    ///
    /// Rows that are stored already stay, and inserting them again is no refusal.
    ///
    /// ```
    /// use modsec_core::record::Record;
    /// use modsec_core::store::{Batch, MemoryStore, Origin, Row, Store};
    /// use modsec_core::{EntryHash, Text};
    ///
    /// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
    /// let mut store = MemoryStore::new();
    /// store.refuse("Zx1");
    /// let mut record = Record::default();
    /// record.unique_id = Some(Text::from("Zx1"));
    /// let bad = Row::new(&record, EntryHash::of(b"bad"), &Origin::default(), None);
    /// let good = Row::new(&Record::default(), EntryHash::of(b"good"), &Origin::default(), None);
    ///
    /// let batch = Batch::new(None, vec![bad, good.clone()]);
    /// let error = store.insert(&batch).await.unwrap_err();
    /// assert_eq!(error.refused()[0].entry, EntryHash::of(b"bad"));
    /// // All or nothing: the good one is not stored until the bad one is left out.
    /// assert!(store.rows().is_empty());
    /// store.insert(&Batch::new(None, vec![good])).await?;
    /// assert_eq!(store.rows().len(), 1);
    /// # Ok::<(), modsec_core::store::StoreError>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn refuse(&self, unique_id: &str) {
        self.tables().refused.insert(unique_id.to_owned());
    }

    /// Locks the tables, also after a panic in another thread.
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change below is complete once it has begun, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Returns the rows of `batch` that a constraint would refuse: new ones with a refused
    /// `unique_id`.
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
            .map(|row| Refused::new(row, "refused on request"))
            .collect()
    }

    /// Adds the rows that are new and notes the batch as the last one of its journal. Cannot fail.
    fn insert(&mut self, batch: &Batch) -> Inserted {
        let before = self.rows.len();
        for row in batch.rows.iter() {
            if self.known.insert(row.entry_hash) {
                self.rows.push(row.clone());
            }
        }
        if let Some(journal) = &batch.journal {
            self.last_batches.insert(journal.clone(), batch.id);
        }
        let stored = self.rows.len() - before;
        Inserted::new(stored, batch.rows.len() - stored)
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

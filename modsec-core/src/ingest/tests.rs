//! What the tests of these rooms have in common.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::entry::{Bytes, DecodedEntry, Extent};
use crate::entry_hash::EntryHash;
use crate::record::Flags;
use crate::store::{
    Batch, BatchId, Inserted, MemoryStore, Origin, Row, Store, StoreError, StoreFuture,
};

/// An entry of ModSecurity 2 with this id.
pub(super) fn native(id: &str) -> String {
    format!(
        "--1a2b3c4d-A--\n[22/Nov/2026:06:40:30 +0000] {id} 192.0.2.1 1 192.0.2.2 80\n\
         --1a2b3c4d-H--\nMessage: x\n\n--1a2b3c4d-Z--\n\n"
    )
}

/// An entry of libmodsecurity with this id and a body of so many bytes.
pub(super) fn appended(id: usize, body: usize) -> String {
    let body = "y".repeat(body);
    format!(
        "---{id:08}---A--\n[22/Nov/2026:06:40:30 +0000] {id} 192.0.2.1 1 192.0.2.2 80\n\
         ---{id:08}---C--\n{body}\n\n---{id:08}---H--\nModSecurity: [id \"1\"]\n---{id:08}---Z--\n\n"
    )
}

/// What is made of `text`, as if it were in memory.
pub(super) fn decoded(text: &str) -> DecodedEntry {
    let record = crate::format::decode(text.as_bytes()).unwrap();
    let hash = EntryHash::of(text.as_bytes());
    let row = Row::new(&record, hash, &Origin::default(), None);
    DecodedEntry {
        row_size: row.size(),
        row,
        flags: Flags::none(),
        json: None,
        bytes: Bytes::Whole(text.as_bytes().to_vec()),
    }
}

/// The same, in a file of its own.
pub(super) fn in_file(text: &str, path: &Path) -> DecodedEntry {
    fs::write(path, text).unwrap();
    let extent = Extent {
        file: Arc::new(File::open(path).unwrap()),
        start: 0,
        len: text.len() as u64,
        flags: Flags::none(),
    };
    DecodedEntry {
        bytes: Bytes::InFile(extent),
        ..decoded(text)
    }
}

/// Makes a minute directory below `dir` and the path of a file in it.
pub(super) fn minute(dir: &Path, name: &str) -> PathBuf {
    let minute = dir.join("20261122/20261122-0640");
    fs::create_dir_all(&minute).unwrap();
    minute.join(format!("20261122-064030-{name}"))
}

/// What happens to a call of `insert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Nothing is stored.
    Before,
    /// All is stored, but the caller does not hear of it.
    AnswerLost,
}

/// A store in memory whose calls fail at chosen moments. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct FaultyStore {
    pub(super) rows: MemoryStore,
    pub(super) faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl FaultyStore {
    /// Lets the next calls of `insert` fare like this.
    pub(super) fn with(faults: impl IntoIterator<Item = Fault>) -> FaultyStore {
        FaultyStore {
            rows: MemoryStore::new(),
            faults: Arc::new(Mutex::new(faults.into_iter().collect())),
        }
    }
}

fn away<'a, T: Send + 'a>() -> StoreFuture<'a, T> {
    Box::pin(async {
        Err(StoreError::Unavailable {
            store: "faulty".to_owned(),
            problem: "wanted".to_owned(),
            source: None,
        })
    })
}

impl Store for FaultyStore {
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        self.rows.known(hashes)
    }

    fn insert<'a>(&'a mut self, batch: &'a Batch) -> StoreFuture<'a, Inserted> {
        let fault = self.faults.lock().unwrap().pop_front();
        match fault.unwrap_or(Fault::None) {
            Fault::None => self.rows.insert(batch),
            Fault::Before => away(),
            Fault::AnswerLost => {
                let insert = self.rows.insert(batch);
                Box::pin(async {
                    insert.await?;
                    away().await
                })
            }
        }
    }

    fn last_batch<'a>(&'a mut self, journal: &'a str) -> StoreFuture<'a, Option<BatchId>> {
        self.rows.last_batch(journal)
    }

    fn name(&self) -> String {
        "faulty".to_owned()
    }
}

//! A store of our own: a file with one line of JSON for each batch.
//!
//! It reads the whole file at each call. That is enough to show what a store must promise; the
//! tests of the library hold it to its contract.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;

use modsec_core::EntryHash;
use modsec_core::store::{
    Batch, BatchId, Inserted, Refused, Store, StoreError, StoreFuture, Value, client_key, sql_time,
};
use serde_json::{Value as Json, json};

/// The path of the file, which is made when it is needed.
pub(crate) struct Lines(pub(crate) PathBuf);

impl Lines {
    /// Opens the file for one call; nobody else writes to it until it is closed.
    fn read(&self) -> io::Result<(File, Vec<Json>)> {
        let mut options = File::options();
        let mut file = options.read(true).append(true).create(true).open(&self.0)?;
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A batch is there as a whole or not at all.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        let batches = text[..whole].lines().map(serde_json::from_str);
        Ok((file, batches.collect::<Result<_, _>>()?))
    }

    fn add(&self, batch: &Batch) -> Result<Inserted, StoreError> {
        let (mut file, batches) = self.read().map_err(|error| self.away(error))?;
        let mut known = hashes(&batches);
        let fresh: Vec<_> = batch
            .rows
            .iter()
            .filter(|row| known.insert(row.entry_hash.to_string()))
            .collect();
        // As a constraint of a database would.
        let unwanted = fs::read_to_string(self.0.with_extension("unwanted")).unwrap_or_default();
        let is_unwanted = |id: &String| unwanted.lines().any(|line| line == id);
        let refused: Vec<Refused> = fresh
            .iter()
            .filter(|row| row.unique_id.as_ref().is_some_and(is_unwanted))
            .map(|row| Refused::new(row, "it is unwanted"))
            .collect();
        if !refused.is_empty() {
            let (store, rows) = (self.name(), refused);
            return Err(StoreError::Refused { store, rows });
        }
        let rows: Vec<Json> = fresh
            .iter()
            .map(|row| {
                let rules = row.rule_matches.iter().map(|rule| texts(&rule.values()));
                json!({ "columns": texts(&row.values()), "rules": rules.collect::<Vec<_>>() })
            })
            .collect();
        let hashes: Vec<_> = fresh.iter().map(|row| row.entry_hash.to_string()).collect();
        let id = batch.id.to_string();
        let line = json!({ "id": id, "journal": batch.journal, "entries": hashes, "rows": rows });
        file.write_all(format!("{line}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|error| self.away(error))?;
        let known = batch.rows.len() - fresh.len();
        Ok(Inserted::new(fresh.len(), known))
    }

    /// What passes by itself, such as a full disk: the caller tries again.
    fn away(&self, error: io::Error) -> StoreError {
        StoreError::Unavailable {
            store: self.name(),
            problem: "the file cannot be read or written".to_owned(),
            source: Some(error.into()),
        }
    }
}

impl Store for Lines {
    fn known<'a>(&'a mut self, wanted: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        let batches = self.read().map_err(|error| self.away(error));
        Box::pin(async {
            let known = hashes(&batches?.1);
            let is_known = |hash: &&EntryHash| known.contains(&hash.to_string());
            Ok(wanted.iter().filter(is_known).copied().collect())
        })
    }

    fn insert<'a>(&'a mut self, batch: &'a Batch) -> StoreFuture<'a, Inserted> {
        Box::pin(async { self.add(batch) })
    }

    fn last_batch<'a>(&'a mut self, journal: &'a str) -> StoreFuture<'a, Option<BatchId>> {
        let batches = self.read().map_err(|error| self.away(error));
        Box::pin(async move {
            let batches = batches?.1;
            let last = batches.iter().rfind(|batch| batch["journal"] == journal);
            let id = last.and_then(|batch| u128::from_str_radix(batch["id"].as_str()?, 16).ok());
            Ok(id.map(|id| BatchId::from_bytes(id.to_be_bytes())))
        })
    }

    fn name(&self) -> String {
        self.0.display().to_string()
    }
}

/// Returns what names the entries of these batches.
fn hashes(batches: &[Json]) -> HashSet<String> {
    let entries = batches
        .iter()
        .filter_map(|batch| batch["entries"].as_array());
    let texts = entries.flatten().filter_map(|entry| entry.as_str());
    texts.map(str::to_owned).collect()
}

/// Returns a row's columns, in their order, as texts.
fn texts(values: &[Value<'_>]) -> Vec<Option<String>> {
    let text = |value: &Value<'_>| match value {
        Value::Null => None,
        Value::Int(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.to_string()),
        Value::Hash(hash) => Some(hash.to_string()),
        Value::Address(ip) => Some(EntryHash::from_bytes(client_key(*ip)).to_string()),
        Value::Time(time) => sql_time(time),
    };
    values.iter().map(text).collect()
}

//! What every row of this run has in common.

use std::path::PathBuf;
use std::sync::Arc;

use super::read::MakeRow;
use super::{AccountNames, Options};
use crate::entry_hash::EntryHash;
use crate::json;
use crate::record::{Record, TrustedProxies};
use crate::store::{Origin, Row};

/// Makes rows of records, and JSON lines if they are wanted.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    sensor: Option<String>,
    proxies: TrustedProxies,
    accounts: AccountNames,
    json: bool,
}

impl Rows {
    pub(super) fn new(options: &Options) -> Rows {
        Rows {
            sensor: options.sensor.clone(),
            proxies: options.proxies.clone(),
            accounts: AccountNames(Arc::clone(&options.accounts.0)),
            json: options.json_lines,
        }
    }

    /// Says where an entry was found that belongs to user id `uid`.
    pub(super) fn origin(&self, uid: u32, path: PathBuf) -> Origin {
        Origin {
            sensor: self.sensor.clone(),
            account: Some((self.accounts.0)(uid)),
            path: Some(path),
        }
    }
}

impl MakeRow for Rows {
    fn make(&self, record: &Record<'_>, hash: EntryHash, origin: Origin) -> (Row, Option<String>) {
        let row = Row::new(record, hash, &origin, self.proxies.client(record));
        let json = self.json.then(|| json::line(record, &row));
        (row, json)
    }
}

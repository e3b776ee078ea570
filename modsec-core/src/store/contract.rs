//! The contract of [`Store`] as code: every function is one clause, and panics if it is broken.
//!
//! A backend proves itself by a [`Fixture`] and one test per function:
//!
//! ```
//! use modsec_core::store::contract::{self, Dumped, Fixture, FixtureFuture};
//! use modsec_core::store::{MemoryStore, Store};
//!
//! #[derive(Default)]
//! struct Memory(MemoryStore);
//!
//! impl Fixture for Memory {
//!     fn open(&self) -> FixtureFuture<'_, Box<dyn Store>> {
//!         Box::pin(async { Box::new(self.0.clone()) as Box<dyn Store> })
//!     }
//!     fn dump(&self) -> FixtureFuture<'_, Vec<Dumped>> {
//!         Box::pin(async { self.0.rows().iter().map(Dumped::from_row).collect() })
//!     }
//!     fn refuse<'a>(&'a self, unique_id: &'a str) -> FixtureFuture<'a, ()> {
//!         Box::pin(async move { self.0.refuse(unique_id) })
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! contract::same_entry_twice_is_one_row(&Memory::default()).await;
//! contract::any_text_is_stored_as_it_is(&Memory::default()).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Each clause takes a database of its own, empty. `tests/store_contract.rs` has all of them on
//! every backend; a new clause must be added there. Clauses wait for nothing but the store, so they
//! run under any executor.
#![expect(
    clippy::missing_panics_doc,
    reason = "to panic is what each of these functions is for"
)]

mod cases;
mod sample;

use std::pin::Pin;

pub use self::cases::*;
pub use self::sample::row;
use super::{Row, Store, Value};
use crate::entry_hash::EntryHash;
use crate::store::row::{client_key, sql_time};

/// What the functions of a [`Fixture`] return. Unlike a store's futures they need not be `Send`.
pub type FixtureFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// An empty database of one backend, with what the contract needs to look into it.
pub trait Fixture {
    /// Opens one more store on the database. Stores that are open already stay so.
    fn open(&self) -> FixtureFuture<'_, Box<dyn Store>>;

    /// Returns what is in the tables, ordered by `id` and `position`.
    ///
    /// Must read by another connection than the store's, so that only committed rows are seen.
    fn dump(&self) -> FixtureFuture<'_, Vec<Dumped>>;

    /// Makes the database refuse every new row with this `unique_id`, for instance by a trigger.
    fn refuse<'a>(&'a self, unique_id: &'a str) -> FixtureFuture<'a, ()>;
}

/// One row of `logs` as text: numbers in decimal, hashes in lower-case hexadecimal, times as
/// `YYYY-MM-DD HH:MM:SS.ffffff` in UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dumped {
    /// In the order of [`LOG_COLUMNS`](super::LOG_COLUMNS).
    pub columns: Vec<Option<String>>,
    /// Its rows of `rule_matches`, each in the order of [`RULE_COLUMNS`](super::RULE_COLUMNS).
    pub rule_matches: Vec<Vec<Option<String>>>,
}

impl Dumped {
    /// Returns what a database should hold after `row` was stored.
    pub fn from_row(row: &Row) -> Dumped {
        Dumped {
            columns: row.values().iter().map(dumped).collect(),
            rule_matches: row
                .rule_matches
                .iter()
                .map(|rule| rule.values().iter().map(dumped).collect())
                .collect(),
        }
    }
}

/// Returns a value as text, `None` for null and for a time that no database knows.
fn dumped(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Int(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.to_string()),
        Value::Hash(hash) => Some(hash.to_string()),
        Value::Address(ip) => Some(EntryHash::from_bytes(client_key(*ip)).to_string()),
        Value::Time(time) => sql_time(time),
    }
}

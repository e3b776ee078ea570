//! The contract of [`Store`] as code: every function is one clause, and panics if it is broken.
//!
//! A backend proves itself by a [`Fixture`] and one test per function. See
//! `tests/store_contract.rs`.
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
use crate::store::row::sql_time;

/// What the functions of a [`Fixture`] return.
pub type FixtureFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// An empty database of one backend, with what the contract needs to look into it.
pub trait Fixture {
    /// Opens one more store on the database.
    fn open(&self) -> FixtureFuture<'_, Box<dyn Store>>;

    /// Returns what is in the tables, ordered by `id` and `position`.
    fn dump(&self) -> FixtureFuture<'_, Vec<Dumped>>;

    /// Makes the database refuse every row with this `unique_id`, for instance by a trigger.
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

fn dumped(value: &Value<'_>) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Int(number) => Some(number.to_string()),
        Value::Text(text) => Some(text.to_string()),
        Value::Hash(hash) => Some(hash.to_string()),
        Value::Time(time) => sql_time(time),
    }
}

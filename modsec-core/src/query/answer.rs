//! What is answered.

use chrono::{DateTime, Utc};

use super::Cursor;
use crate::store::{LOG_COLUMNS, Value};

/// An answer, and whether it is all of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Answer<T> {
    /// What was found. Counts are `None` if the answer is not complete.
    pub value: T,
    /// `false` if the deadline passed before everything was looked at.
    pub is_complete: bool,
    /// How far back everything was looked at, if the answer is not complete and that is known.
    pub reached: Option<DateTime<Utc>>,
    /// From when on rows are known: of the time before, some or all were removed as too old. `None` if
    /// none ever was. The answer is about what is left.
    pub known_from: Option<DateTime<Utc>>,
}

impl<T> Answer<T> {
    /// Returns an answer for which everything was looked at.
    pub fn complete(value: T) -> Answer<T> {
        Answer {
            value,
            is_complete: true,
            reached: None,
            known_from: None,
        }
    }

    /// Returns the same answer with another value.
    pub fn map<U>(self, make: impl FnOnce(T) -> U) -> Answer<U> {
        Answer {
            value: make(self.value),
            is_complete: self.is_complete,
            reached: self.reached,
            known_from: self.known_from,
        }
    }

    /// Returns an answer for which everything from `reached` on was looked at.
    pub fn late(value: T, reached: Option<DateTime<Utc>>) -> Answer<T> {
        Answer {
            value,
            is_complete: false,
            reached,
            known_from: None,
        }
    }
}

/// How many transactions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// All of them.
    pub transactions: u64,
    /// Those that were blocked.
    pub blocked: u64,
    /// Those in which something was found and that went on.
    pub detected: u64,
    /// Those of which outcome, cause and category are estimates, or not known: an older program stored
    /// them. See [`Transaction::is_estimated`].
    pub estimated: u64,
    /// When the first one was written.
    pub first: Option<DateTime<Utc>>,
    /// When the last one was written.
    pub last: Option<DateTime<Utc>>,
}

/// The transactions of one span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bin {
    /// When it begins.
    pub start: DateTime<Utc>,
    /// All of them.
    pub transactions: u64,
    /// Those that were blocked.
    pub blocked: u64,
    /// Those in which something was found and that went on.
    pub detected: u64,
    /// Those of which outcome, cause and category are estimates, or not known: an older program stored
    /// them. See [`Transaction::is_estimated`].
    pub estimated: u64,
}

/// The transactions that have one value of a [`Facet`](super::Facet).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Count {
    /// The value, such as `942100` or `192.0.2.7`.
    pub key: String,
    /// Transactions.
    pub transactions: u64,
    /// Those that were blocked.
    pub blocked: u64,
    /// Those in which something was found and that went on.
    pub detected: u64,
    /// Those of which outcome, cause and category are estimates, or not known: an older program stored
    /// them. See [`Transaction::is_estimated`].
    pub estimated: u64,
    /// Different clients.
    pub clients: u64,
    /// Different hosts, without regard to case.
    pub hosts: u64,
    /// Of rules: a message of theirs, the first in the order of bytes.
    pub msg: Option<String>,
    /// Of rules: a category of theirs, the first in the order of bytes.
    pub category: Option<String>,
    /// When the first one was written; `None` if no time is known.
    pub first: Option<DateTime<Utc>>,
    /// When the last one was written. How far a sensor lags behind shows in the age of this: rows do not
    /// say when they were stored.
    pub last: Option<DateTime<Utc>>,
}

/// A transaction as it is stored.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Transaction {
    /// The row's number: `id` in `logs`.
    pub number: i64,
    /// In the order of [`LOG_COLUMNS`].
    pub values: Vec<Value<'static>>,
    /// `false` if outcome, cause and what the alerts mean were computed from the entry, `true` if from the
    /// row afterwards (`upkeep::Reindex`), when part K was no longer there. `None` if an
    /// older program stored the row and nobody computed them: they are null, or what that program took.
    pub is_estimated: Option<bool>,
    /// In the order of the log, each in the order of [`RULE_COLUMNS`](crate::store::RULE_COLUMNS). Empty
    /// where the question was not about alerts.
    pub alerts: Vec<Vec<Value<'static>>>,
}

impl Transaction {
    /// Returns the value of a column of [`LOG_COLUMNS`]; null for any other name.
    pub fn value(&self, column: &str) -> &Value<'static> {
        let at = LOG_COLUMNS.iter().position(|name| *name == column);
        at.and_then(|at| self.values.get(at))
            .unwrap_or(&Value::Null)
    }

    /// Returns its place among others, to go on behind it.
    pub fn cursor(&self) -> Cursor {
        let time = match self.value("created_at") {
            Value::Time(time) => Some(*time),
            _ => None,
        };
        Cursor::new(time, self.number)
    }
}

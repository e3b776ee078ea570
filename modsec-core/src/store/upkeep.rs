//! Looking after rows that are stored, by the same words for each database.
//!
//! Whoever does so goes on for long, beside programs that add rows. So all of it is done in small
//! steps: each is one transaction, and may be repeated.

use chrono::{DateTime, Utc};

use super::read::{Cells, Dialect, Param};
use super::{StoreFuture, Value};

/// A database whose rows are looked after. Its tables are up to date.
pub(crate) trait Upkeep: Send {
    /// Returns whose SQL it understands.
    fn dialect(&self) -> Dialect;

    /// Runs a statement that changes nothing, and returns its rows.
    fn read(&mut self, sql: String, params: Vec<Param>) -> StoreFuture<'_, Cells>;

    /// Makes all changes in one transaction, or none of them. What was not answered is repeated, so
    /// they must be such that the second time does no harm.
    fn change(&mut self, changes: Vec<Change>) -> StoreFuture<'_, ()>;
}

/// A change of rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    /// Sets columns of one row, which may be gone.
    Set {
        /// Which row.
        row: RowOf,
        /// The columns with their values, which are made to fit.
        values: Vec<(&'static str, Value<'static>)>,
    },
    /// Removes rows of `logs` with their alerts.
    Remove(Vec<i64>),
    /// Removes a row of `modsec_rules`, unless an alert has its key.
    RemoveRule(i64),
    /// Notes that rows before this time may be gone, unless a later one is noted.
    Horizon(DateTime<Utc>),
}

/// Returns numbers as they stand in a list of SQL.
pub(crate) fn list(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    numbers.join(", ")
}

/// One row of one of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOf {
    /// Of `logs`, by its `id`.
    Logs(i64),
    /// Of `rule_matches`, by its `log_id` and `position`.
    RuleMatches(i64, i64),
}

impl RowOf {
    /// Returns the table's name.
    pub(super) fn table(self) -> &'static str {
        match self {
            RowOf::Logs(_) => "logs",
            RowOf::RuleMatches(..) => "rule_matches",
        }
    }

    /// Returns the condition that finds the row.
    pub(super) fn condition(self) -> &'static str {
        match self {
            RowOf::Logs(_) => "id = ?",
            RowOf::RuleMatches(..) => "log_id = ? and position = ?",
        }
    }

    /// Returns the values of the condition.
    pub(super) fn key(self) -> Vec<i64> {
        match self {
            RowOf::Logs(id) => vec![id],
            RowOf::RuleMatches(id, position) => vec![id, position],
        }
    }
}

//! What a database answers, as values.

mod evidence;
mod scan;
mod silence;

use std::net::{IpAddr, Ipv6Addr};

use chrono::{DateTime, NaiveDateTime, Utc};

pub(super) use self::evidence::{evidence, number};
pub(super) use self::scan::Scan;
pub(super) use self::silence::silences;
use crate::entry_hash::EntryHash;
use crate::query::{Bin, Count, Totals, Transaction};
use crate::store::{Cell, Cells, LOG_COLUMNS, RULE_COLUMNS, Value};

impl Cell {
    /// Returns the value as text; `None` for null. Bytes that are not UTF-8 are replaced, as a
    /// table that another program made may hold any.
    pub(crate) fn text(self) -> Option<String> {
        match self {
            Cell::Null => None,
            // A column of an old table.
            Cell::Int(number) => Some(number.to_string()),
            Cell::Bytes(bytes) => Some(match String::from_utf8(bytes) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
        }
    }

    /// Returns the value as a number. Text is parsed; `None` for null and for what is no
    /// number.
    pub(crate) fn int(self) -> Option<i64> {
        match self {
            Cell::Int(number) => Some(number),
            other => other.text()?.parse().ok(),
        }
    }

    /// Returns the value as a count. Null, negative numbers and what is no number count as 0.
    fn count(self) -> u64 {
        self.int()
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or_default()
    }

    /// Returns the value as a time in UTC; `None` unless it is written `YYYY-MM-DD HH:MM:SS`,
    /// with or without a fraction of a second.
    fn time(self) -> Option<DateTime<Utc>> {
        let time = NaiveDateTime::parse_from_str(&self.text()?, "%Y-%m-%d %H:%M:%S%.f");
        time.ok().map(|time| time.and_utc())
    }

    /// Returns the value of a column: a time, a hash, an address, a number or a text, by the
    /// column's name. Null stands for what is none of that kind.
    fn value(self, column: &str) -> Value<'static> {
        let value = match column {
            "created_at" => self.time().map(Value::Time),
            "entry_hash" => sixteen(self).map(|bytes| Value::Hash(EntryHash::from_bytes(bytes))),
            "client_key" => sixteen(self)
                .map(|bytes| Value::Address(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())),
            "maturity" | "accuracy" | "responce_header" | "Score" | "SQLi" | "XSS" | "phase"
            | "intercepted" | "threshold" | "sole" | "line" | "verified" | "points"
            | "paranoia_level" => self.int().map(Value::Int),
            _ => self.text().map(|text| Value::Text(text.into())),
        };
        value.unwrap_or(Value::Null)
    }
}

/// Returns a value of exactly 16 bytes, such as a hash or an address; `None` for any other.
fn sixteen(cell: Cell) -> Option<[u8; 16]> {
    match cell {
        Cell::Bytes(bytes) => bytes.try_into().ok(),
        _ => None,
    }
}

/// Returns the next cell of a row; null behind the last one.
fn next(cells: &mut impl Iterator<Item = Cell>) -> Cell {
    cells.next().unwrap_or(Cell::Null)
}

/// Returns the totals in the first row; zeros if there is none.
pub(super) fn totals(cells: Cells) -> Totals {
    let mut row = cells.into_iter().next().unwrap_or_default().into_iter();
    Totals {
        transactions: next(&mut row).count(),
        blocked: next(&mut row).count(),
        detected: next(&mut row).count(),
        first: next(&mut row).time(),
        last: next(&mut row).time(),
        estimated: next(&mut row).count(),
    }
}

/// Returns the text in the first cell; `None` for null, and without a row.
pub(super) fn text(cells: Cells) -> Option<String> {
    cells.into_iter().next()?.into_iter().next()?.text()
}

/// Returns the first and the last time, if there is one.
pub(super) fn bounds(cells: Cells) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let mut row = cells.into_iter().next()?.into_iter();
    Some((next(&mut row).time()?, next(&mut row).time()?))
}

/// Returns the time in the first row, if there is one.
pub(super) fn horizon(cells: Cells) -> Option<DateTime<Utc>> {
    cells.into_iter().next()?.into_iter().next()?.time()
}

/// Returns a bin for each row, in the order of the rows. `step` is the one of the statement:
/// the first column counts such spans since the Unix epoch. Rows of a time that cannot be
/// expressed are left out.
pub(super) fn bins(cells: Cells, step: u32) -> Vec<Bin> {
    let bin = |row: Vec<Cell>| {
        let mut row = row.into_iter();
        let seconds = next(&mut row).int()?.checked_mul(step.into())?;
        Some(Bin {
            start: DateTime::from_timestamp(seconds, 0)?,
            transactions: next(&mut row).count(),
            blocked: next(&mut row).count(),
            detected: next(&mut row).count(),
            estimated: next(&mut row).count(),
        })
    };
    cells.into_iter().filter_map(bin).collect()
}

/// Returns the count of each row, in the order of the rows. Rows without a key are left out.
pub(super) fn counts(cells: Cells) -> Vec<Count> {
    let count = |row: Vec<Cell>| {
        let mut row = row.into_iter();
        Some(Count {
            key: next(&mut row).text()?,
            transactions: next(&mut row).count(),
            blocked: next(&mut row).count(),
            detected: next(&mut row).count(),
            clients: next(&mut row).count(),
            hosts: next(&mut row).count(),
            msg: next(&mut row).text(),
            category: next(&mut row).text(),
            estimated: next(&mut row).count(),
            first: next(&mut row).time(),
            last: next(&mut row).time(),
        })
    };
    cells.into_iter().filter_map(count).collect()
}

/// Returns the transaction of each row, without its alerts, in the order of the rows.
pub(super) fn transactions(cells: Cells) -> Vec<Transaction> {
    let transaction = |row: Vec<Cell>| {
        let mut row = row.into_iter();
        Some(Transaction {
            number: next(&mut row).int()?,
            is_estimated: next(&mut row).int().map(|estimated| estimated != 0),
            values: values(&LOG_COLUMNS, row),
            alerts: Vec::new(),
        })
    };
    cells.into_iter().filter_map(transaction).collect()
}

/// Returns the alerts, each as the values of [`RULE_COLUMNS`].
pub(super) fn alerts(cells: Cells) -> Vec<Vec<Value<'static>>> {
    let alert = |row: Vec<Cell>| values(&RULE_COLUMNS, row.into_iter());
    cells.into_iter().map(alert).collect()
}

/// Returns the values of these columns, null for those that the row lacks.
fn values(columns: &[&str], mut cells: impl Iterator<Item = Cell>) -> Vec<Value<'static>> {
    columns
        .iter()
        .map(|column| next(&mut cells).value(column))
        .collect()
}

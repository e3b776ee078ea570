//! What a scan reads.

use std::net::{IpAddr, Ipv6Addr};

use chrono::{DateTime, Utc};

use super::{next, sixteen};
use crate::cause::Outcome;
use crate::query::scan::{Scanned, ScannedAlert};
use crate::record::Severity;
use crate::store::Cell;

/// Columns between the number of a transaction and its alert.
const COLUMNS: usize = 9;

/// Makes transactions of rows. Those of one transaction follow each other.
#[derive(Default)]
pub(in crate::query::sql) struct Scan {
    /// The transaction that the last row was of.
    current: Option<Scanned>,
    /// The places of its alerts in the log, in the same order.
    positions: Vec<i64>,
    /// Transactions before it.
    pub(in crate::query::sql) seen: u64,
    /// The time of the last one of them.
    pub(in crate::query::sql) reached: Option<DateTime<Utc>>,
}

impl Scan {
    /// Takes a row. Calls `visit` if another transaction begins with it, with the one before.
    pub(in crate::query::sql) fn row(
        &mut self,
        row: Vec<Cell>,
        visit: &mut (impl FnMut(&Scanned) + ?Sized),
    ) {
        let mut row = row.into_iter();
        // No key of a row is null.
        let number = next(&mut row).int().unwrap_or_default();
        if self.current.as_ref().is_some_and(|it| it.number == number) {
            self.alert(&mut row.skip(COLUMNS));
            return;
        }
        self.end(visit);
        self.current = transaction(number, &mut row);
        self.alert(&mut row);
    }

    /// Calls `visit` with the last transaction.
    pub(in crate::query::sql) fn end(&mut self, visit: &mut (impl FnMut(&Scanned) + ?Sized)) {
        let Some(mut scanned) = self.current.take() else {
            return;
        };
        if !self.positions.is_sorted() {
            let alerts = std::mem::take(&mut scanned.alerts);
            let mut placed: Vec<_> = self.positions.iter().zip(alerts).collect();
            placed.sort_by_key(|(position, _)| **position);
            scanned.alerts = placed.into_iter().map(|(_, alert)| alert).collect();
        }
        self.positions.clear();
        visit(&scanned);
        self.seen += 1;
        self.reached = Some(scanned.time);
    }

    /// Adds the alert of a row, if it has one.
    fn alert(&mut self, row: &mut impl Iterator<Item = Cell>) {
        let (Some(scanned), Some(position)) = (&mut self.current, next(row).int()) else {
            return;
        };
        self.positions.push(position);
        scanned.alerts.push(ScannedAlert {
            rule_id: next(row).text(),
            severity: severity(&next(row)),
            verified: next(row).int().map(|verified| verified != 0),
        });
    }
}

/// Returns the transaction without its alerts. `None` for a time that cannot be expressed.
fn transaction(number: i64, row: &mut impl Iterator<Item = Cell>) -> Option<Scanned> {
    let time = next(row).time();
    let scanned = Scanned {
        number,
        time: time.unwrap_or_default(),
        client: sixteen(next(row)).map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()),
        account: next(row).text(),
        host: next(row).text(),
        status: next(row)
            .int()
            .and_then(|status| u16::try_from(status).ok()),
        severity: severity(&next(row)),
        score: next(row).int(),
        intercepted: next(row).int() == Some(1),
        outcome: outcome(&next(row)),
        alerts: Vec::new(),
    };
    time.map(|_| scanned)
}

/// Returns the severity of this name.
fn severity(cell: &Cell) -> Option<Severity> {
    match cell {
        Cell::Bytes(name) => Severity::parse(name),
        _ => None,
    }
}

/// Returns the outcome of this name.
fn outcome(cell: &Cell) -> Option<Outcome> {
    let Cell::Bytes(name) = cell else { return None };
    let is_named = |outcome: &Outcome| outcome.name().as_bytes() == name.as_slice();
    [Outcome::Blocked, Outcome::Detected]
        .into_iter()
        .find(is_named)
}

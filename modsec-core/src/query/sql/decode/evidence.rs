//! Evidence, and numbers.

use super::next;
use crate::query::{Evidence, Spot};
use crate::store::Cells;

/// Returns the evidence of each row, in the order of the rows, without `lone_clients`.
pub(in crate::query::sql) fn evidence(cells: Cells) -> Vec<Evidence> {
    let evidence = |row: Vec<_>| {
        let mut row = row.into_iter();
        Some(Evidence {
            spot: Spot {
                rule: next(&mut row).text()?,
                host: next(&mut row).text(),
                path: next(&mut row).text(),
                target: next(&mut row).text(),
            },
            transactions: next(&mut row).count(),
            blocked: next(&mut row).count(),
            detected: next(&mut row).count(),
            sole: next(&mut row).count(),
            sole_unknown: next(&mut row).count(),
            clients: next(&mut row).count(),
            networks: next(&mut row).count(),
            days: next(&mut row).count(),
            lone_clients: 0,
            first: next(&mut row).time(),
            last: next(&mut row).time(),
        })
    };
    cells.into_iter().filter_map(evidence).collect()
}

/// Returns the number in the first row; 0 if there is none.
pub(in crate::query::sql) fn number(cells: Cells) -> u64 {
    let mut row = cells.into_iter().next().unwrap_or_default().into_iter();
    next(&mut row).count()
}

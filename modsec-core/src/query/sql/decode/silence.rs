//! Silences.

use super::next;
use crate::query::Silence;
use crate::query::silence::Habit;
use crate::store::Cells;

/// Returns the silence of each row in this hour since the Unix epoch, in the order of the rows.
pub(in crate::query::sql) fn silences(cells: Cells, hour: i64) -> Vec<Silence> {
    let silence = |row: Vec<_>| {
        let mut row = row.into_iter();
        let key = next(&mut row).text()?;
        let habit = Habit {
            transactions: next(&mut row).count(),
            days: next(&mut row).count(),
            last: next(&mut row).int()?,
            longest_pause: next(&mut row).count(),
        };
        habit.silence(key, hour)
    };
    cells.into_iter().filter_map(silence).collect()
}

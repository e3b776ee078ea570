//! Statements for many rows at once.
//!
//! A statement is prepared once for each number of rows it is used with. There are only a few
//! such numbers, the rungs of a ladder, so that all of them stay prepared.

use mysql_async::{Params, Value as MyValue};

/// Rows in one statement, largest first. Beyond these the gain is small. Where most rows go, each
/// is half of the one before, so that statements come close to [`MAX_BYTES`].
const RUNGS: [usize; 6] = [256, 128, 64, 32, 8, 1];
/// Values in one statement; the protocol's limit is 65,535.
const MAX_VALUES: usize = 8_192;
/// Bytes of values in one statement, if the server would take more.
///
/// The driver never gives packet buffers back: it keeps 128 in a pool, uses them in turn, and each
/// grows to the largest packet that it ever held. So this bound counts 128 times, and statements
/// ten times as large are no faster.
const MAX_BYTES: usize = 128 * 1024;
/// What a value costs beside its bytes, generously: type, length, its bit in the map of nulls.
const VALUE_BYTES: usize = 12;

/// A statement that takes a list of rows, `BEGINNING (?, ?), (?, ?) END`.
#[derive(Debug)]
pub(super) struct Statement {
    rungs: Vec<Rung>,
    max_bytes: usize,
}

#[derive(Debug)]
struct Rung {
    rows: usize,
    text: String,
}

/// A part of the rows with the statement for them.
pub(super) struct Step<'s> {
    pub(super) text: &'s str,
    pub(super) params: Params,
}

impl Statement {
    /// Builds `beginning ROW, ROW, … end`, where ROW is `row`, for a server that takes packets of
    /// `max_packet` bytes.
    pub(super) fn new(beginning: &str, row: &str, end: &str, max_packet: usize) -> Statement {
        let values = row.matches('?').count().max(1);
        let text = |rows: usize| format!("{beginning} {}{end}", vec![row; rows].join(", "));
        let rungs = RUNGS
            .into_iter()
            .filter(|rows| rows * values <= MAX_VALUES)
            .map(|rows| Rung {
                rows,
                text: text(rows),
            })
            .filter(|rung| rung.rows == 1 || rung.text.len() < max_packet / 2)
            .collect();
        Statement {
            rungs,
            max_bytes: MAX_BYTES.min(max_packet - max_packet / 8),
        }
    }

    /// Divides the rows into steps that the server takes. Rows stay in order.
    pub(super) fn steps(&self, rows: Vec<Vec<MyValue>>) -> impl Iterator<Item = Step<'_>> {
        let sizes: Vec<usize> = rows.iter().map(|row| size(row)).collect();
        let mut rows = rows.into_iter();
        let mut done = 0;
        std::iter::from_fn(move || {
            let rung = self.rung(&sizes[done..])?;
            done += rung.rows;
            let params = rows.by_ref().take(rung.rows).flatten().collect();
            Some(Step {
                text: &rung.text,
                params: Params::Positional(params),
            })
        })
    }

    /// Returns the highest rung for the rows at the beginning of those left; `None` if there are
    /// none.
    fn rung(&self, sizes: &[usize]) -> Option<&Rung> {
        let fits = |rung: &&Rung| {
            let bytes: usize = sizes.iter().take(rung.rows).sum();
            rung.rows <= sizes.len() && (rung.rows == 1 || bytes <= self.max_bytes)
        };
        self.rungs.iter().find(fits)
    }
}

fn size(row: &[MyValue]) -> usize {
    let bytes = |value: &MyValue| match value {
        MyValue::Bytes(bytes) => VALUE_BYTES + bytes.len(),
        _ => VALUE_BYTES,
    };
    row.iter().map(bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(statement: &Statement, sizes: &[usize]) -> Vec<usize> {
        let rows = sizes
            .iter()
            .map(|size| vec![MyValue::Bytes(vec![b'x'; *size])])
            .collect();
        let count = |step: Step<'_>| match step.params {
            Params::Positional(values) => values.len(),
            _ => 0,
        };
        statement.steps(rows).map(count).collect()
    }

    #[test]
    fn rows_go_down_the_ladder() {
        let statement = Statement::new("insert into t values", "(?)", "", 1 << 24);
        assert_eq!(
            counts(&statement, &[1; 1_000]),
            [vec![256; 3], vec![128, 64, 32, 8]].concat()
        );
        assert_eq!(counts(&statement, &[1; 9]), [8, 1]);
        assert_eq!(counts(&statement, &[]), [0; 0]);
    }

    #[test]
    fn no_step_is_larger_than_the_packet() {
        let statement = Statement::new("insert into t values", "(?)", "", 16_384);
        assert_eq!(counts(&statement, &[1_000; 20]), [8, 8, 1, 1, 1, 1]);
        assert_eq!(counts(&statement, &[14_000, 1, 14_000]), [1, 1, 1]);
        let tiny = Statement::new("insert into t values", "(?)", "", 64);
        assert_eq!(counts(&tiny, &[1; 3]), [1, 1, 1]);
    }

    #[test]
    fn no_step_is_larger_than_the_buffers_that_the_driver_keeps() {
        let statement = Statement::new("insert into t values", "(?)", "", 1 << 24);
        let large = MAX_BYTES / 100;
        assert_eq!(counts(&statement, &[large; 200]), [64, 64, 64, 8]);
        assert_eq!(counts(&statement, &[MAX_BYTES; 2]), [1, 1]);
    }

    #[test]
    fn statement_has_a_row_for_each_row() {
        let statement = Statement::new("insert into t values", "(?, ?)", " -- end", 1 << 20);
        let rows = vec![vec![MyValue::NULL; 2]; 8];
        let step = statement.steps(rows).next().unwrap();
        assert_eq!(step.text.matches("(?, ?)").count(), 8);
        assert!(
            step.text.starts_with("insert into t values (?, ?), (")
                && step.text.ends_with(") -- end")
        );
    }
}

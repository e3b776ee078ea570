//! Statements for many rows at once.
//!
//! A statement is prepared once for each number of rows it is used with. There are only a few such
//! numbers, so that all of them stay prepared. A thousand small rows go as
//!
//! ```text
//! 256 + 256 + 256 + 128 + 64 + 32 + 8 = 1000
//! ```
//!
//! and rows that are large go in smaller numbers, each statement within [`MAX_BYTES`]. A row that
//! alone is larger goes alone: the caller has cut its texts so that it fits into a packet.

use mysql_async::{Params, Value as MyValue};

/// Numbers of rows in one statement, largest first.
///
/// Beyond these the gain is small. Where most rows go, each is half of the one before, so that
/// statements come close to [`MAX_BYTES`].
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

/// A statement that takes a list of rows, `BEGINNING (?, ?), (?, ?) END`, in several lengths.
#[derive(Debug)]
pub(super) struct Statement {
    /// Its texts, for most rows first. The last one takes a single row.
    rungs: Vec<Rung>,
    /// Most bytes of values in one statement.
    max_bytes: usize,
}

/// The statement's text for one number of rows.
#[derive(Debug)]
struct Rung {
    /// How many rows it takes.
    rows: usize,
    /// The SQL, with a placeholder for each value.
    text: String,
}

/// A part of the rows with the statement for them.
pub(super) struct Step<'s> {
    /// The SQL, the same text each time for the same number of rows, so that it is prepared once.
    pub(super) text: &'s str,
    /// The rows' values, one after the other.
    pub(super) params: Params,
}

impl Statement {
    /// Builds `beginning ROW, ROW, … end`, where ROW is `row`, for a server that takes packets of
    /// `max_packet` bytes (`max_allowed_packet`).
    ///
    /// Texts of more than half a packet are left out; that for one row never is.
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

    /// Divides the rows into steps that the server takes. Rows stay in order, and each is in one
    /// step.
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

    /// Returns the text for most of the next rows; `sizes` has the bytes of all rows that are left.
    /// `None` if there are none.
    fn rung(&self, sizes: &[usize]) -> Option<&Rung> {
        let fits = |rung: &&Rung| {
            let bytes: usize = sizes.iter().take(rung.rows).sum();
            rung.rows <= sizes.len() && (rung.rows == 1 || bytes <= self.max_bytes)
        };
        self.rungs.iter().find(fits)
    }
}

/// Returns how many bytes a row takes in a packet, rather more than less.
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

//! Ending a statement once its time is over.

use std::time::Instant;

use rusqlite::{Connection, ErrorCode};

/// Instructions of SQLite's virtual machine between two looks at the clock, some microseconds.
const LOOK_EVERY: i32 = 10_000;

/// Lets SQLite end its statements once the deadline passes, with an error that [`is_interrupted`] knows.
pub(super) fn stop_at(
    connection: &mut Connection,
    deadline: Option<Instant>,
) -> rusqlite::Result<()> {
    let is_late = deadline.map(|deadline| move || Instant::now() >= deadline);
    connection.progress_handler(LOOK_EVERY, is_late)
}

/// Returns `true` if a statement was ended because a deadline passed.
pub(super) fn is_interrupted(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

//! Standard output: what is lost on its way is never called a success.
//!
//! One loss cannot be seen: a standard output that is closed (`>&-`). Before `main` Rust's runtime opens
//! `/dev/null` in its place, to read and write; so do daemon(3), start-stop-daemon(8) and Python's
//! `DEVNULL` for programs whose output is not wanted, and there is no other difference.

use std::io::{self, Write as _};

use super::ProgramError;

/// Writes `text` to standard output. A reader that has gone away (a closed pipe) has seen enough and
/// is no error: for programs that only read.
///
/// # Errors
///
/// [`ProgramError::Output`] if not all of it was written.
pub fn print(text: &[u8]) -> Result<(), ProgramError> {
    let mut out = io::stdout().lock();
    unless_closed(out.write_all(text).and_then(|()| out.flush()))
}

/// Takes a closed pipe for a success.
///
/// # Errors
///
/// [`ProgramError::Output`] for any other failure.
pub fn unless_closed(written: io::Result<()>) -> Result<(), ProgramError> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(ProgramError::Output(error)),
        _ => Ok(()),
    }
}
/// Returns a number with what it counts, in the right form: `1 entry`, `2 entries`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

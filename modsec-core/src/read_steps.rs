//! What is done between two steps of reading a file.
//!
//! A file of a site's tree may have some hundred megabytes, whatever is in it. The watchdog hears of
//! each step, and a request to stop does not wait for the end: the file is read at the next start.

use std::io;

use crate::heartbeat::Heartbeat;
use crate::program::Stop;

/// So many bytes of a file are read in any case once a stop is requested: milliseconds.
pub(crate) const READ_IN_ANY_CASE: u64 = 8 << 20;

/// Hears of each step of reading a file, and may end it. Clones share what they tell and ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadSteps {
    heartbeat: Heartbeat,
    stop: Option<Stop>,
}

/// The file was left in the middle.
#[derive(Debug, thiserror::Error)]
#[error("left in the middle, as the program is to end; it is read at the next start")]
struct Left;

impl ReadSteps {
    /// Beats with `heartbeat`; with `stop`, large files are left in the middle once it is requested.
    pub(crate) fn new(heartbeat: &Heartbeat, stop: Option<&Stop>) -> ReadSteps {
        ReadSteps {
            heartbeat: heartbeat.clone(),
            stop: stop.cloned(),
        }
    }

    /// Returns what hears of each step.
    pub(crate) fn heartbeat(&self) -> &Heartbeat {
        &self.heartbeat
    }

    /// Reports that reading goes on at `offset` of a file.
    ///
    /// # Errors
    ///
    /// One that [`is_left`] if a stop is requested and much was read of this file already.
    pub(crate) fn go_on(&self, offset: u64) -> io::Result<()> {
        self.heartbeat.beat();
        if self.leave(offset) {
            return Err(io::Error::other(Left));
        }
        Ok(())
    }

    /// Returns `true` if a file of `len` bytes is not to be begun any more, as it would be left.
    pub(crate) fn leave(&self, len: u64) -> bool {
        len > READ_IN_ANY_CASE && self.stop.as_ref().is_some_and(Stop::requested)
    }
}

/// Returns `true` if a file was left in the middle because of a request to stop.
pub(crate) fn is_left(error: &io::Error) -> bool {
    matches!(error.get_ref(), Some(cause) if cause.is::<Left>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_large_files_are_left_and_only_after_a_request() {
        let (handle, stop) = Stop::new();
        let heartbeat = Heartbeat::default();
        let steps = ReadSteps::new(&heartbeat, Some(&stop));
        steps.go_on(u64::MAX).unwrap();
        handle.stop();
        steps.go_on(READ_IN_ANY_CASE).unwrap();
        let error = steps.go_on(READ_IN_ANY_CASE + 1).unwrap_err();
        assert!(is_left(&error) && !is_left(&io::ErrorKind::Other.into()));
        ReadSteps::default().go_on(u64::MAX).unwrap();
        assert_eq!(heartbeat.count(), 3);
    }
}

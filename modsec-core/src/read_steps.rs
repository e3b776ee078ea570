//! What is done between two steps of reading a file, and while the store is waited for.
//!
//! A file of a site's tree may have some hundred megabytes, whatever is in it. Each step is a sign
//! of life for the watchdog, and a request to stop does not wait for the end: the file is read at
//! the next start. Neither does it wait for a database that another process holds.

use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use crate::heartbeat::Heartbeat;
use crate::program::Stop;

/// So many bytes of a file are read in any case once a stop is requested: milliseconds.
pub(crate) const READ_IN_ANY_CASE: u64 = 8 << 20;

/// How long the store is waited for once a stop is requested: enough for a batch at hand where
/// nobody holds the database, and less than a person waits.
const GRACE: Duration = Duration::from_millis(500);

/// Receives each step of reading a file, and ends the reading at a stop. Clones share heartbeat and
/// request.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReadSteps {
    /// Beats at each step.
    heartbeat: Heartbeat,
    /// The request to stop; `None` if files are read to their end in any case.
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

    /// Waits for the store; `None` if a stop is requested and it does not answer within [`GRACE`].
    /// The call is dropped then, and may be done nevertheless.
    pub(crate) async fn unless_stopped<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        let Some(mut stop) = self.stop.clone() else {
            return Some(call.await);
        };
        let mut call = pin!(call);
        tokio::select! {
            biased;
            done = &mut call => Some(done),
            () = stop.wait() => timeout(GRACE, call).await.ok(),
        }
    }

    /// Returns the heartbeat that beats at each step.
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

    #[tokio::test(start_paused = true)]
    async fn after_a_request_the_store_is_waited_for_only_a_moment() {
        let (handle, stop) = Stop::new();
        let steps = ReadSteps::new(&Heartbeat::default(), Some(&stop));
        let hour = || tokio::time::sleep(Duration::from_hours(1));
        assert_eq!(steps.unless_stopped(hour()).await, Some(()));
        handle.stop();
        assert_eq!(steps.unless_stopped(async { 7 }).await, Some(7));
        let soon = tokio::time::sleep(GRACE / 2);
        assert_eq!(steps.unless_stopped(soon).await, Some(()));
        assert_eq!(steps.unless_stopped(hour()).await, None);
        assert_eq!(ReadSteps::default().unless_stopped(hour()).await, Some(()));
    }
}

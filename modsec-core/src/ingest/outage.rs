//! Times in which nothing can be kept: said once, waited out with growing pauses.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::IngestError;
use crate::program::error_chain;

/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Whether store and merged log can be used, and when to try again if not.
#[derive(Debug, Default)]
pub(super) struct Outage(Option<Lasting>);

#[derive(Debug)]
struct Lasting {
    since: Instant,
    pause: Duration,
    until: Instant,
}

impl Outage {
    /// Notes a failure. The first of an outage is logged as a warning.
    pub(super) fn failed(&mut self, error: &IngestError) {
        let now = Instant::now();
        let error = error_chain(error);
        let (since, pause) = match &self.0 {
            None => {
                warn!(
                    error,
                    "nothing can be kept, the files stay; trying again until it works"
                );
                (now, FIRST_PAUSE)
            }
            Some(lasting) => {
                debug!(error, "still nothing can be kept");
                (lasting.since, LAST_PAUSE.min(lasting.pause * 2))
            }
        };
        self.0 = Some(Lasting {
            since,
            pause,
            until: now + pause,
        });
    }

    /// Notes a success.
    pub(super) fn over(&mut self) {
        if let Some(lasting) = self.0.take() {
            let seconds = lasting.since.elapsed().as_secs();
            info!(seconds, "entries are kept again");
        }
    }

    /// Returns when to try again; `None` if all is well.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.as_ref().map(|lasting| lasting.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_minute_and_start_anew_after_a_success() {
        let error = IngestError::Thread(std::io::Error::other("no"));
        let mut outage = Outage::default();
        let mut pauses = || {
            outage.failed(&error);
            (outage.until().unwrap() - Instant::now()).as_secs()
        };
        let got: Vec<u64> = (0..8).map(|_| pauses()).collect();
        assert_eq!(got, [1, 2, 4, 8, 16, 32, 60, 60]);
        outage.over();
        assert_eq!(outage.until(), None);
        outage.failed(&error);
        assert_eq!(outage.until(), Some(Instant::now() + FIRST_PAUSE));
    }
}

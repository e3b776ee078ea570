//! Pauses between attempts at something that fails for a while.

use std::time::Duration;

use tokio::time::Instant;

/// The first pause; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(60);

/// Whether something works, and when to try again if not.
#[derive(Debug, Default)]
pub(crate) struct Backoff(Option<Outage>);

/// A series of failures that no success has ended.
#[derive(Debug)]
struct Outage {
    /// When the first attempt failed.
    since: Instant,
    /// How long to wait after the last failure: 1 second at first, doubled each time, 60 seconds at
    /// the most.
    pause: Duration,
    /// When to try again.
    until: Instant,
}

impl Backoff {
    /// Notes a failure; returns `true` if it is the first of an outage.
    pub(crate) fn failed(&mut self) -> bool {
        let now = Instant::now();
        let (since, pause) = match &self.0 {
            None => (now, FIRST_PAUSE),
            Some(outage) => (outage.since, LAST_PAUSE.min(outage.pause * 2)),
        };
        let until = now + pause;
        let before = self.0.replace(Outage {
            since,
            pause,
            until,
        });
        before.is_none()
    }

    /// Notes a success; returns how long the outage lasted that ends with it.
    pub(crate) fn succeeded(&mut self) -> Option<Duration> {
        self.0.take().map(|outage| outage.since.elapsed())
    }

    /// Returns when to try again; `None` if all is well.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.0.as_ref().map(|outage| outage.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_minute_and_start_anew_after_a_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.succeeded(), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(backoff.failed(), seconds == 1);
            let pause = backoff.until().unwrap() - Instant::now();
            assert_eq!(pause.as_secs(), seconds);
        }
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(backoff.succeeded(), Some(Duration::from_secs(90)));
        assert_eq!(backoff.until(), None);
        assert!(backoff.failed());
        assert_eq!(backoff.until(), Some(Instant::now() + FIRST_PAUSE));
    }
}

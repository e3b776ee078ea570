//! Signs of life, so that a watchdog can tell work from a standstill.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
#[cfg(feature = "fs")]
use std::time::Duration;

/// How often a wait beats: often enough for a watchdog of a few seconds.
#[cfg(feature = "fs")]
const EVERY: Duration = Duration::from_secs(1);

/// Counts the steps of some work. Clones share the count.
///
/// Whoever works beats after each step; whoever watches compares [`Heartbeat::count`]. There is no
/// beat by a timer alone, except in a wait that has an end of its own ([`Heartbeat::wait_for`]).
#[derive(Debug, Clone, Default)]
pub struct Heartbeat(Arc<AtomicU64>);

impl Heartbeat {
    /// Reports one step.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many steps were reported so far.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Waits for `end`, and beats meanwhile.
    ///
    /// Only for what ends by itself, as a pause or an answer with a time limit does: a standstill in
    /// here is not noticed.
    #[cfg(feature = "fs")]
    pub async fn wait_for<T>(&self, end: impl Future<Output = T>) -> T {
        let beating = async {
            loop {
                self.beat();
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            biased;
            output = end => output,
            never = beating => never,
        }
    }
}

#[cfg(all(test, feature = "fs"))]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_beats_once_a_second_until_its_end() {
        let heartbeat = Heartbeat::default();
        let end = tokio::time::sleep(Duration::from_millis(10_500));
        heartbeat.clone().wait_for(end).await;
        assert_eq!(heartbeat.count(), 11);
        heartbeat.beat();
        assert_eq!(heartbeat.count(), 12);
    }
}

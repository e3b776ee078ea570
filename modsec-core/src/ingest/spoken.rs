//! What was said about single files, so that not every walk says it again.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, Hash, RandomState};

use tokio::time::{Duration, Instant};
use tracing::warn;

/// Messages at a time; the rest is only counted.
const MESSAGES: u64 = 20;
/// After this time everything may be said again: logs are rotated, and people forget.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// Decides what may be said.
#[derive(Debug)]
pub(super) struct Spoken {
    messages: u64,
    /// Hashes of what was said. As many as there were messages.
    said: HashSet<u64>,
    hasher: RandomState,
    since: Instant,
}

impl Spoken {
    pub(super) fn new() -> Spoken {
        Spoken {
            messages: 0,
            said: HashSet::new(),
            hasher: RandomState::new(),
            since: Instant::now(),
        }
    }

    /// Lets as many messages be written as at the beginning, but none again.
    pub(super) fn speak_again(&mut self) {
        self.messages = 0;
    }

    /// Returns `true` if a message about `what` may be written, which then counts as said.
    pub(super) fn may_say(&mut self, what: impl Hash) -> bool {
        if self.since.elapsed() >= FORGET_AFTER {
            *self = Spoken::new();
        }
        let what = self.hasher.hash_one(what);
        if self.said.contains(&what) {
            return false;
        }
        self.messages += 1;
        if self.messages == MESSAGES + 1 {
            warn!("more files like these, counted in the summary");
        }
        let may = self.messages <= MESSAGES;
        if may {
            self.said.insert(what);
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_an_hour_and_only_so_much_at_a_time() {
        let mut spoken = Spoken::new();
        let said = |spoken: &mut Spoken, range: std::ops::Range<u64>| {
            range.filter(|n| spoken.may_say(("link", *n))).count() as u64
        };
        assert_eq!(said(&mut spoken, 0..3), 3);
        assert_eq!(said(&mut spoken, 0..3), 0);
        assert_eq!(said(&mut spoken, 0..100), MESSAGES - 3);
        spoken.speak_again();
        assert_eq!(said(&mut spoken, 0..MESSAGES + 5), 5);
        tokio::time::advance(FORGET_AFTER).await;
        assert_eq!(said(&mut spoken, 0..3), 3);
    }
}

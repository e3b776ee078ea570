//! What was logged already, so that it is logged once.
//!
//! Site users choose the names of files and directories, so a warning for each odd one would fill
//! the log. Each thing is logged once in a while, and only so many things; one more line says that
//! there are further ones. What is counted in a summary is counted in any case.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// Decides what is logged: each thing once, and only so many of them.
///
/// Memory is two hashes, sixteen bytes, for each thing that was written about.
#[derive(Debug)]
pub(crate) struct LogOnce {
    /// How many things may be logged.
    limit: usize,
    /// What is said of all further ones.
    further: &'static str,
    /// After this time everything may be logged again: logs are rotated, and people forget.
    forget_after: Duration,
    /// When counting began.
    since: Instant,
    /// Things that were to be logged, as far as they were new.
    count: usize,
    /// Hashes of what was logged, and of what was said of it last.
    logged: HashMap<u64, u64>,
    /// The key of the hashes, new with each start, so that nobody can provoke equal ones.
    hasher: RandomState,
}

impl LogOnce {
    /// Lets `limit` things be logged, and begins anew after each `forget_after`. The one after
    /// them is answered by a warning that says `further`.
    pub(crate) fn new(limit: usize, further: &'static str, forget_after: Duration) -> LogOnce {
        LogOnce {
            limit,
            further,
            forget_after,
            since: Instant::now(),
            count: 0,
            logged: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Allows as many further things to be logged as at the beginning, but none twice.
    pub(crate) fn allow_more(&mut self) {
        self.count = 0;
    }

    /// Returns `true` if a message about `what` is to be written, which then counts as logged.
    pub(crate) fn is_new(&mut self, what: impl Hash) -> bool {
        self.has_changed(what, ())
    }

    /// Returns `true` if it is to be written that `what` is so: nothing was logged about it yet, or
    /// something else. It then counts as logged.
    pub(crate) fn has_changed(&mut self, what: impl Hash, so: impl Hash) -> bool {
        if self.since.elapsed() >= self.forget_after {
            *self = LogOnce::new(self.limit, self.further, self.forget_after);
        }
        let [what, so] = [self.hasher.hash_one(what), self.hasher.hash_one(so)];
        if self.logged.get(&what) == Some(&so) {
            return false;
        }
        self.count = self.count.saturating_add(1);
        if self.count == self.limit + 1 {
            warn!(number = self.limit, "{}", self.further);
        }
        let is_next = self.count <= self.limit;
        if is_next {
            self.logged.insert(what, so);
        }
        is_next
    }

    /// Returns `true` if something was logged about `what`.
    pub(crate) fn is_known(&self, what: impl Hash) -> bool {
        self.logged.contains_key(&self.hasher.hash_one(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn logged(once: &mut LogOnce, range: std::ops::Range<u32>) -> usize {
        range.filter(|n| once.is_new(("link", *n))).count()
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_logged_once_an_hour_and_only_so_many_at_a_time() {
        let mut once = LogOnce::new(20, "more", HOUR);
        assert_eq!(logged(&mut once, 0..3), 3);
        assert_eq!(logged(&mut once, 0..3), 0);
        assert_eq!(logged(&mut once, 0..100), 17);
        once.allow_more();
        assert_eq!(logged(&mut once, 0..25), 5);
        tokio::time::advance(HOUR).await;
        assert_eq!(logged(&mut once, 0..3), 3);
    }

    #[test]
    fn a_thing_is_logged_again_when_it_has_changed() {
        let mut once = LogOnce::new(4, "more", HOUR);
        let mut logged = |so| once.has_changed("site1", so);
        assert_eq!([logged("link"), logged("link")], [true, false]);
        assert_eq!([logged("file"), logged("link")], [true, true]);
        // Who changes it again and again does not fill the log.
        assert_eq!([logged("file"), logged("link")], [true, false]);
        assert_eq!(
            (once.is_known("site1"), once.is_known("site2")),
            (true, false)
        );
    }

    #[test]
    fn memory_is_bounded() {
        let mut once = LogOnce::new(100, "more", Duration::MAX);
        assert_eq!(logged(&mut once, 0..10_000), 100);
        assert_eq!(once.logged.len(), 100);
        assert!(!once.is_new("b"));
    }
}

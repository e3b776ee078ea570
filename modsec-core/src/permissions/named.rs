//! A bound on the corrections that are named in the log: 1,000 an hour of each owner.
//!
//! A restored backup, or a user who changes modes in a loop, would otherwise fill the log. Further
//! ones are counted, and the number is logged at the end of the hour.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// Corrected directories of one owner that are named in [`NAMED_AGAIN_AFTER`].
const NAMED: u64 = 1000;
/// After that time counting begins anew.
const NAMED_AGAIN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Owners counted one by one; the others are counted together, because a user namespace gives one
/// user 65,536 user ids.
const MAX_OWNERS: usize = 4096;

/// How many corrected directories of each owner have been named.
#[derive(Debug)]
pub(crate) struct Named {
    /// When counting began.
    since: Instant,
    /// Corrections by user id; `None` are all owners for whom there is no room.
    owners: BTreeMap<Option<u32>, u64>,
}

impl Named {
    /// Begins to count.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            owners: BTreeMap::new(),
        }
    }

    /// Counts a correction of a directory of the user `uid`. Returns `true` if it is to be named in
    /// the log; warns when an owner's last one is.
    pub(crate) fn is_next(&mut self, uid: u32) -> bool {
        let is_known = self.owners.len() < MAX_OWNERS || self.owners.contains_key(&Some(uid));
        let count = self.owners.entry(is_known.then_some(uid)).or_default();
        *count += 1;
        if *count == NAMED + 1 {
            warn!(
                uid,
                named = NAMED,
                "too many directories corrected to name: further ones are counted for an hour"
            );
        }
        *count <= NAMED
    }

    /// Logs how many were not named, once an hour; call it often.
    pub(crate) fn look(&mut self, now: Instant) {
        if now.duration_since(self.since) >= NAMED_AGAIN_AFTER {
            self.close();
            self.since = now;
        }
    }

    /// Logs how many of each owner were not named, and begins to count anew.
    pub(crate) fn close(&mut self) {
        for (uid, count) in std::mem::take(&mut self.owners) {
            let number = count.saturating_sub(NAMED);
            match uid {
                _ if number == 0 => {}
                Some(uid) => info!(uid, number, "further directories corrected"),
                None => info!(number, "further directories of many users corrected"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_owner_has_its_own_number_of_lines_and_users_without_end_share_one() {
        let now = Instant::now();
        let mut named = Named::new(now);
        let count =
            |named: &mut Named, uid| (0..2 * NAMED).filter(|_| named.is_next(uid)).count() as u64;
        assert_eq!(
            [1001, 1001, 1002].map(|uid| count(&mut named, uid)),
            [NAMED, 0, NAMED]
        );
        named.look(now + NAMED_AGAIN_AFTER / 2);
        assert_eq!(count(&mut named, 1001), 0);
        named.look(now + NAMED_AGAIN_AFTER);
        assert_eq!(count(&mut named, 1001), NAMED);
        for uid in 100_000..170_000 {
            named.is_next(uid);
        }
        assert_eq!(named.owners.len(), MAX_OWNERS + 1);
    }
}

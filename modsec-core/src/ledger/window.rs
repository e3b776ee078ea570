//! The attacks of one client that no report stands for yet.
//!
//! ```text
//! threshold 3, find time 600 s
//! times   0  100  900          no three of them within 600 s
//! add 950      ─► 0 100 900 950        still none
//! add 1000     ─► 900 950 1000 is three: reported, these are taken out, 0 and 100 stay
//! ```

use std::ops::RangeInclusive;

/// Times of attacks, in milliseconds since the Unix epoch, ascending; at most [`capacity`] of them
/// between two calls.
///
/// No `threshold` of them lie within the find time: these would have been reported and taken out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Window {
    /// The times. A vector: there are few, and late ones are inserted in the middle.
    times: Vec<i64>,
}

/// What makes an offender, in the ledger's own units.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// Attacks that make an offender, at least 1.
    pub(super) threshold: usize,
    /// Time within which they must lie, milliseconds.
    pub(super) find_time: i64,
}

/// Returns how many times a window holds at most, between two attacks.
///
/// Twice one less than the threshold: then whatever is dropped is more than two find times older
/// than the newest, so an entry that is late by up to one find time still meets all it belongs to.
pub(super) fn capacity(threshold: usize) -> usize {
    threshold.saturating_sub(1).saturating_mul(2)
}

impl Window {
    /// Adds an attack; if it is the one that makes `threshold` within the find time, forgets those
    /// and returns the time of the last of them.
    pub(super) fn add(&mut self, at: i64, limit: Limit) -> Option<i64> {
        let place = self.times.partition_point(|&time| time <= at);
        self.grow(limit);
        self.times.insert(place, at);
        if let Some(first) = self.due(place, limit) {
            return self.times.drain(first..first + limit.threshold).next_back();
        }
        if self.times.len() > capacity(limit.threshold) {
            self.drop_farthest(at);
        }
        None
    }

    /// Returns the index at which `threshold` attacks within the find time start, `place` being the
    /// index of one of them; the earliest such start.
    fn due(&self, place: usize, limit: Limit) -> Option<usize> {
        let last_start = self.times.len().checked_sub(limit.threshold)?;
        let first_start = (place + 1).saturating_sub(limit.threshold);
        (first_start..=place.min(last_start)).find(|&first| {
            let last = self.times[first + limit.threshold - 1];
            last.saturating_sub(self.times[first]) <= limit.find_time
        })
    }

    /// Makes room by the time that is least likely to matter: the end that is farther from now.
    ///
    /// Not simply the oldest: after a clock was ahead for a while, that would keep the times of
    /// the future for ever and forget every true one at once.
    fn drop_farthest(&mut self, at: i64) {
        let (Some(first), Some(last)) = (self.times.first(), self.times.last()) else {
            return;
        };
        if last.saturating_sub(at) > at.saturating_sub(*first) {
            self.times.pop();
        } else {
            self.times.remove(0);
        }
    }

    /// Doubles the room, but never beyond what the stated size of a client covers.
    fn grow(&mut self, limit: Limit) {
        let most = capacity(limit.threshold) + 1;
        if self.times.len() == self.times.capacity() {
            let wanted = (self.times.len() * 2).clamp(2, most.max(2));
            self.times.reserve_exact(wanted - self.times.len());
        }
    }

    /// Takes at most `most` attacks within `span` out, the earliest first; returns how many of the
    /// `most` were not there.
    pub(super) fn take(&mut self, span: RangeInclusive<i64>, most: u32) -> u32 {
        let mut missing = most;
        self.times.retain(|time| {
            let taken = missing > 0 && span.contains(time);
            missing -= u32::from(taken);
            !taken
        });
        missing
    }

    /// Returns the times, ascending.
    pub(super) fn times(&self) -> &[i64] {
        &self.times
    }

    /// Takes times over from an earlier run, as far as they fit `limit`.
    pub(super) fn restore(times: &[i64], limit: Limit) -> Window {
        let mut window = Window::default();
        for &at in times {
            // A lower threshold than in the earlier run may be met at once. That is no news of an
            // attack, so nothing is reported for it.
            window.add(at, limit);
        }
        window
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        threshold: 3,
        find_time: 10,
    };

    fn reports(times: &[i64]) -> Vec<i64> {
        let mut window = Window::default();
        times
            .iter()
            .copied()
            .filter_map(|at| window.add(at, LIMIT))
            .collect()
    }

    #[test]
    fn the_window_slides() {
        for (times, want) in [
            (&[0, 5, 10][..], &[10][..]),
            (&[0, 5, 11], &[]),
            (&[0, 5, 11, 15], &[15]),
            (&[0, 0, 0], &[0]),
            (&[0, 1, 2, 3, 4, 5], &[2, 5]),
            (&[0, 1, 2, 3, 4, 13], &[2, 13]),
            (&[0, 1, 2, 3, 4, 14], &[2]),
            (&[10, 0, 5], &[10]),
            (&[20, 11, 10, 0], &[20]),
        ] {
            assert_eq!(reports(times), want, "{times:?}");
        }
    }

    #[test]
    fn every_attack_reports_at_threshold_one() {
        let limit = Limit {
            threshold: 1,
            find_time: 10,
        };
        let mut window = Window::default();
        assert!((0..5).all(|at| window.add(at, limit) == Some(at)));
        assert!(window.times().is_empty());
    }

    #[test]
    fn times_of_a_fast_clock_do_not_shield_a_client() {
        // Two attacks while the clock was a year ahead, and two more, spread so as not to report.
        assert_eq!(
            reports(&[1_000_000, 1_000_000, 1_000_020, 1_000_020, 0, 1, 2, 3, 4]),
            [2]
        );
    }

    #[test]
    fn room_never_exceeds_what_is_stated() {
        let mut window = Window::default();
        for at in 0..1000 {
            window.add(at * 100, LIMIT);
            assert!(window.times.len() <= capacity(LIMIT.threshold));
            assert!(window.times.capacity() <= capacity(LIMIT.threshold) + 1);
        }
    }
}

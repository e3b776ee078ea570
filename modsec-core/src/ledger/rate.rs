//! About how many attacks of a client lie in the window; shown to people, never decided by.
//!
//! Exact numbers would need the time of every attack, and a client in a flood has millions. So two
//! spans of one find time each are counted, and the older one is weighed by how much of it still
//! lies in the window (a sliding-window counter):
//!
//! ```text
//! find time 600 s      before: 40 attacks     current: 12 attacks
//!                      0 ──────────────── 600 ──────────── 900 = now
//! window               ·········300 ━━━━━━━━━━━━━━━━━━━━━━ 900
//! estimate             40 × 300/600 + 12 = 32
//! ```

/// Counts attacks in two spans of one find time each, so that it costs the same in a flood.
///
/// The number is exact as long as the attacks began no longer than a find time ago; after that it
/// is an estimate, as if the older span's attacks had been spread evenly. No report rests on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rate {
    /// Start of the current span, in milliseconds since the Unix epoch.
    pub(super) start: i64,
    /// Attacks in the current span.
    pub(super) current: u32,
    /// Attacks in the span before.
    pub(super) before: u32,
}

impl Rate {
    /// Adds an attack at the time `at`; spans are `find_time` milliseconds long. A time that is far
    /// off begins anew.
    pub(super) fn add(&mut self, at: i64, find_time: i64) {
        let age = at.saturating_sub(self.start);
        if self.current == 0 || age < -find_time || age >= find_time.saturating_mul(2) {
            *self = Rate {
                start: at,
                current: 1,
                before: 0,
            };
        } else if age < 0 && self.before == 0 {
            // Entries of one moment come in any order: the run began earlier than it seemed.
            self.start = at;
            self.current = self.current.saturating_add(1);
        } else if age < 0 {
            self.before = self.before.saturating_add(1);
        } else if age < find_time {
            self.current = self.current.saturating_add(1);
        } else {
            *self = Rate {
                start: self.start.saturating_add(find_time),
                current: 1,
                before: self.current,
            };
        }
    }

    /// Returns about how many attacks lie within `find_time` milliseconds before `now`. Each span
    /// counts in full until it begins to leave the window.
    pub(super) fn in_window(self, now: i64, find_time: i64) -> u32 {
        let left_of = |span_end: i64| {
            let left = i128::from(span_end) - i128::from(now);
            left.clamp(0, i128::from(find_time))
        };
        let share = |attacks: u32, left: i128| {
            let part = i128::from(attacks) * left / i128::from(find_time.max(1));
            u32::try_from(part).unwrap_or(u32::MAX)
        };
        // The current span is left from one find time after its end on.
        let end = self.start.saturating_add(find_time);
        let current = share(self.current, left_of(end.saturating_add(find_time)));
        current.saturating_add(share(self.before, left_of(end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(times: &[i64]) -> Rate {
        let mut rate = Rate::default();
        for &at in times {
            rate.add(at, 100);
        }
        rate
    }

    #[test]
    fn a_short_run_is_counted_exactly() {
        for (times, now, want) in [
            (&[0, 10, 20][..], 20, 3),
            (&[0, 10, 20], 100, 3),
            (&[0, 10, 20], 150, 1),
            (&[0, 10, 20], 200, 0),
            (&[0, 10, 20], 1_000_000, 0),
            (&[0, 10, 20], -50, 3),
            (&[20, 0, 10], 20, 3),
            (&[20, 0, 10], 21, 3),
            (&[20, 0, 10], 100, 3),
            (&[], 0, 0),
        ] {
            assert_eq!(rate(times).in_window(now, 100), want, "{times:?} at {now}");
        }
    }

    #[test]
    fn a_long_run_is_estimated() {
        let even: Vec<i64> = (0..1000).collect();
        let estimate = rate(&even).in_window(999, 100);
        assert!((95..=105).contains(&estimate), "{estimate}");
    }

    #[test]
    fn extreme_times_do_not_overflow() {
        for at in [i64::MIN, i64::MAX, 0] {
            for now in [i64::MIN, i64::MAX, 0] {
                let mut rate = rate(&[i64::MAX, 0, i64::MIN]);
                rate.add(at, i64::MAX);
                rate.in_window(now, i64::MAX);
            }
        }
    }
}

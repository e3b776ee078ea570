//! Which directories the writer needs next, and which it needs no more, by the clock on the wall.
//!
//! The engines name directories by local time, which jumps twice a year. In Central Europe:
//!
//! ```text
//! 29 March 2026      01:59 is followed by 03:00; no directory is called …-02xx
//! 25 October 2026    02:59 is followed by 02:00; each …-02xx stands for two minutes
//! ```
//!
//! So minutes are counted in real time and then named, and a name counts as past only when the last
//! minute that it stands for is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone};

use crate::names::{MinuteDir, Place, begins, parse_day};

/// For how long after its end a directory of the per-user layout may still be used. `ModSecurity` 2
/// opens the file right after it has taken the time, so ten minutes are plenty.
const PER_USER_GRACE: TimeDelta = TimeDelta::minutes(10);
/// The same for the flat layout, to which libmodsecurity and Coraza write too: they name the
/// directory by the beginning of a request, which may last. The same 24 hours as in
/// [`MinuteDir::is_over`].
const FLAT_GRACE: TimeDelta = TimeDelta::hours(24);

/// Returns the minute of `now` and the next `ahead` minutes, as the writer will name them.
///
/// An hour that daylight saving skips is skipped, and the names of one that it repeats come twice.
pub(crate) fn coming<Tz: TimeZone>(now: &DateTime<Tz>, ahead: u16) -> Vec<MinuteDir> {
    (0..=i64::from(ahead))
        .filter_map(|step| now.clone().checked_add_signed(TimeDelta::minutes(step)))
        .map(|time| MinuteDir::at(time.naive_local()))
        .collect()
}

/// Returns how long a directory for `place` may still be used after its end.
pub(crate) fn grace(place: Place) -> TimeDelta {
    match place {
        Place::FlatDay | Place::FlatMinute => FLAT_GRACE,
        _ => PER_USER_GRACE,
    }
}

/// Returns `true` if no writer will use the directory called `name` (a day or a minute, for
/// `place`) any more at `now`. `false` for a name that is no time.
pub(crate) fn is_past<Tz: TimeZone>(now: &DateTime<Tz>, name: &OsStr, place: Place) -> bool {
    let Some(begin) = begins(name) else {
        return false;
    };
    // A day with a repeated hour is longer than the calendar says.
    let longest = if parse_day(name.as_bytes()).is_some() {
        TimeDelta::hours(26)
    } else {
        TimeDelta::minutes(1)
    };
    last_meaning(&now.timezone(), begin)
        .and_then(|begin| begin.checked_add_signed(longest + grace(place)))
        .is_some_and(|past| past <= *now)
}

/// Returns the last instant at which the clock on the wall shows `local`. A time that was skipped
/// is counted on from three hours before, as if there had been no change.
fn last_meaning<Tz: TimeZone>(zone: &Tz, local: NaiveDateTime) -> Option<DateTime<Tz>> {
    match zone.from_local_datetime(&local) {
        LocalResult::Single(time) => Some(time),
        LocalResult::Ambiguous(one, other) => Some(if one > other { one } else { other }),
        // A time that was skipped: taken as if it had not been, counted from some time before.
        LocalResult::None => {
            let before = TimeDelta::hours(3);
            let time = zone
                .from_local_datetime(&local.checked_sub_signed(before)?)
                .latest()?;
            time.checked_add_signed(before)
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, NaiveDate, Offset, Utc};

    use super::*;
    use crate::names::day_name;

    /// Central European time of 2026, with both changes.
    #[derive(Debug, Clone, Copy)]
    struct Cet;

    fn utc(month: u32, day: u32, hour: u32, minute: u32) -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2026, month, day)
            .unwrap()
            .and_hms_opt(hour, minute, 0)
            .unwrap()
    }

    fn east(hours: i32) -> FixedOffset {
        FixedOffset::east_opt(hours * 3600).unwrap()
    }

    impl TimeZone for Cet {
        type Offset = FixedOffset;

        fn from_offset(_: &FixedOffset) -> Self {
            Self
        }

        fn offset_from_local_date(&self, _: &NaiveDate) -> LocalResult<FixedOffset> {
            LocalResult::None
        }

        fn offset_from_local_datetime(&self, local: &NaiveDateTime) -> LocalResult<FixedOffset> {
            let fits = |hours: i32| {
                let offset =
                    self.offset_from_utc_datetime(&(*local - TimeDelta::hours(hours.into())));
                (offset.fix() == east(hours)).then(|| east(hours))
            };
            match (fits(2), fits(1)) {
                (Some(summer), Some(winter)) => LocalResult::Ambiguous(summer, winter),
                (Some(offset), None) | (None, Some(offset)) => LocalResult::Single(offset),
                (None, None) => LocalResult::None,
            }
        }

        fn offset_from_utc_date(&self, date: &NaiveDate) -> FixedOffset {
            self.offset_from_utc_datetime(&(*date).into())
        }

        fn offset_from_utc_datetime(&self, time: &NaiveDateTime) -> FixedOffset {
            let summer = (utc(3, 29, 1, 0)..utc(10, 25, 1, 0)).contains(time);
            east(if summer { 2 } else { 1 })
        }
    }

    fn at(time: NaiveDateTime) -> DateTime<Cet> {
        Cet.from_utc_datetime(&time)
    }

    fn minutes(time: NaiveDateTime, ahead: u16) -> Vec<String> {
        coming(&at(time), ahead)
            .into_iter()
            .map(|minute| minute.to_string())
            .collect()
    }

    #[test]
    fn coming_minutes_cross_midnight_and_both_changes_of_the_clock() {
        let cases = [
            // 23:59 local: the next is in the next day.
            (
                utc(8, 22, 21, 59),
                ["20260822-2359", "20260823-0000", "20260823-0001"],
            ),
            // 01:59 CET: 02:00 does not exist.
            (
                utc(3, 29, 0, 59),
                ["20260329-0159", "20260329-0300", "20260329-0301"],
            ),
            // 02:59 CEST: 02:00 comes again.
            (
                utc(10, 25, 0, 59),
                ["20261025-0259", "20261025-0200", "20261025-0201"],
            ),
            // New year.
            (
                utc(12, 31, 22, 59),
                ["20261231-2359", "20270101-0000", "20270101-0001"],
            ),
        ];
        for (time, want) in cases {
            assert_eq!(minutes(time, 2), want, "at {time} UTC");
        }
        let midnight = coming(&at(utc(8, 22, 21, 59)), 1);
        assert_eq!(day_name(midnight[1].date), "20260823");
        assert_eq!(minutes(utc(8, 22, 21, 59), 0), ["20260822-2359"]);
    }

    #[test]
    fn a_minute_is_past_once_its_last_meaning_is() {
        let name = OsStr::new("20261025-0230");
        let cases = [
            // 02:35 CEST, 02:00 CET, 02:30 CET, 02:40 CET, 02:41 CET.
            (utc(10, 25, 0, 35), false),
            (utc(10, 25, 1, 0), false),
            (utc(10, 25, 1, 30), false),
            (utc(10, 25, 1, 40), false),
            (utc(10, 25, 1, 41), true),
        ];
        for (time, want) in cases {
            assert_eq!(
                is_past(&at(time), name, Place::UserMinute),
                want,
                "at {time} UTC"
            );
        }
        // Flat directories may be those of a slow request.
        assert!(!is_past(&at(utc(10, 26, 1, 30)), name, Place::FlatMinute));
        assert!(is_past(&at(utc(10, 26, 1, 31)), name, Place::FlatMinute));
    }

    #[test]
    fn a_day_is_past_long_after_its_end() {
        let name = OsStr::new("20261025");
        for (time, want) in [
            (utc(10, 25, 22, 59), false),
            (utc(10, 25, 23, 5), false),
            (utc(10, 26, 2, 0), true),
        ] {
            assert_eq!(
                is_past(&at(time), name, Place::UserDay),
                want,
                "at {time} UTC"
            );
        }
    }

    #[test]
    fn names_that_are_no_time_are_never_past() {
        let now = Utc.from_utc_datetime(&utc(1, 1, 0, 0));
        for name in ["", "site1", "20269999", "20260101-2460"] {
            assert!(
                !is_past(&now, OsStr::new(name), Place::UserMinute),
                "{name:?}"
            );
        }
    }

    #[test]
    fn what_is_coming_is_never_past() {
        // Every quarter of an hour around both changes.
        for (month, day) in [(3, 29), (10, 24), (10, 25), (10, 26)] {
            for quarter in 0..96 {
                let now = at(utc(month, day, quarter / 4, quarter % 4 * 15));
                for place in [Place::FlatMinute, Place::UserMinute] {
                    for minute in coming(&now, 60) {
                        for name in [minute.to_string(), day_name(minute.date)] {
                            assert!(!is_past(&now, OsStr::new(&name), place), "{name}");
                        }
                    }
                }
            }
        }
    }
}

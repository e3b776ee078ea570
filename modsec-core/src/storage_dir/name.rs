//! The names `ModSecurity` gives to directories and files below `SecAuditLogStorageDir`.
//!
//! ```text
//! YYYYMMDD / YYYYMMDD-HHMM / YYYYMMDD-HHMMSS-TXID
//! ```
//!
//! `ModSecurity` 2 puts the user's name in front since 2.9.3. All times are the server's local
//! wall clock: they repeat when summer time ends. Pure; names are bytes.

use std::fmt;

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};

/// Years that are taken for real. `ModSecurity` is from 2002; the bound keeps the number of
/// directory names that a walk must sort below what a calendar can hold.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2099;

/// How long after its minute a directory may still be used by a writer that took the time just
/// before it ended. Not a setting: a writer makes directory and file within milliseconds.
const MINUTE_IN_USE: TimeDelta = TimeDelta::minutes(2);

/// The same for a writer that takes the time when a transaction begins and makes the directory when
/// it ends: longer than downloads and uploads take.
const START_IN_USE: TimeDelta = TimeDelta::hours(24);

/// At which moment a writer takes the time by which it names directory and file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedAt {
    /// `ModSecurity` 2: when the entry is written.
    Logging,
    /// libmodsecurity 3 and Coraza: when the transaction begins. The entry may be written hours
    /// later.
    Start,
}

/// Reads the name of a day directory, `YYYYMMDD`.
pub fn parse_day(name: &[u8]) -> Option<NaiveDate> {
    let (year, rest) = name.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    if day.len() != 2 {
        return None;
    }
    let year = i32::try_from(digits(year)?).ok()?;
    NaiveDate::from_ymd_opt(year, digits(month)?, digits(day)?)
        .filter(|date| YEARS.contains(&date.year()))
}

/// Returns the name of the directory for `date`, `YYYYMMDD`.
pub fn day_name(date: NaiveDate) -> String {
    format!("{:04}{:02}{:02}", date.year(), date.month(), date.day())
}

fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The minute that a directory `YYYYMMDD-HHMM` stands for, in the server's local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MinuteDir {
    /// Local date.
    pub date: NaiveDate,
    /// Local hour, 0 to 23.
    pub hour: u32,
    /// Minute, 0 to 59.
    pub minute: u32,
}

impl MinuteDir {
    /// Reads the name of a minute directory.
    pub fn parse(name: &[u8]) -> Option<Self> {
        let (day, rest) = name.split_at_checked(8)?;
        let (hour, minute) = rest.strip_prefix(b"-")?.split_at_checked(2)?;
        if minute.len() != 2 {
            return None;
        }
        let (hour, minute) = (digits(hour)?, digits(minute)?);
        (hour < 24 && minute < 60).then_some(MinuteDir {
            date: parse_day(day)?,
            hour,
            minute,
        })
    }

    /// Returns the minute in which `time` lies.
    pub fn at(time: NaiveDateTime) -> Self {
        MinuteDir {
            date: time.date(),
            hour: time.hour(),
            minute: time.minute(),
        }
    }

    /// Returns `true` if no writer that takes the time at the moment `named` can still want this
    /// directory: its minute began more than two minutes, or 24 hours, before `now`.
    ///
    /// `now` is the server's local wall clock. A minute in the future is never over; it may have
    /// been made ahead of time, or the clock was set back by the end of summer time.
    pub fn is_over(self, now: NaiveDateTime, named: NamedAt) -> bool {
        let in_use = match named {
            NamedAt::Logging => MINUTE_IN_USE,
            NamedAt::Start => START_IN_USE,
        };
        let begun = self.date.and_hms_opt(self.hour, self.minute, 0);
        let limit = now.checked_sub_signed(in_use);
        matches!((begun, limit), (Some(begun), Some(limit)) if begun < limit)
    }
}

/// Formats the directory's name.
impl fmt::Display for MinuteDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let day = day_name(self.date);
        write!(f, "{day}-{:02}{:02}", self.hour, self.minute)
    }
}

/// What the name of an entry's file says, `YYYYMMDD-HHMMSS-TXID`.
///
/// A claim, not an identity: names repeat, and site users can choose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryName<'a> {
    /// Local time of logging (`ModSecurity` 2) or of the transaction's start (3, Coraza).
    pub time: NaiveDateTime,
    /// Transaction id, at least one byte of anything but `/` and NUL.
    pub txid: &'a [u8],
}

impl<'a> EntryName<'a> {
    /// Reads the name of an entry's file. Second 60 (a leap second) counts as 59.
    pub fn parse(name: &'a [u8]) -> Option<Self> {
        let (day, rest) = name.split_at_checked(8)?;
        let (clock, rest) = rest.strip_prefix(b"-")?.split_at_checked(6)?;
        let txid = rest.strip_prefix(b"-").filter(|txid| !txid.is_empty())?;
        let clock = digits(clock)?;
        let (hour, minute, second) = (clock / 10_000, clock / 100 % 100, clock % 100);
        let second = if second == 60 { 59 } else { second };
        let time = parse_day(day)?.and_hms_opt(hour, minute, second)?;
        Some(EntryName { time, txid })
    }
}

/// Reads the name of a minute directory that lies in the directory of `day`.
pub(super) fn minute_in_day(day: &[u8], minute: &[u8]) -> Option<MinuteDir> {
    let day = parse_day(day)?;
    MinuteDir::parse(minute).filter(|minute| minute.date == day)
}

/// Tells whether directory and file names are those of an entry.
pub(crate) fn is_entry_path(day: &[u8], minute: &[u8], name: &[u8]) -> bool {
    minute_in_day(day, minute).is_some() && EntryName::parse(name).is_some()
}

/// Tells whether `name` in the storage directory can be a user's tree: no day, and not hidden as
/// the private directory is.
pub(crate) fn is_user(name: &[u8]) -> bool {
    parse_day(name).is_none() && !name.is_empty() && !name.starts_with(b".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> NaiveDateTime {
        NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").unwrap()
    }

    #[test]
    fn only_real_dates_of_this_century_are_days() {
        let cases: [(&[u8], bool); 11] = [
            (b"20260822", true),
            (b"20240229", true),
            (b"20250229", false),
            (b"20261301", false),
            (b"19991231", false),
            (b"99990101", false),
            (b"2026082", false),
            (b"202608220", false),
            (b"+0260822", false),
            (b"2026 822", false),
            (b"", false),
        ];
        for (name, want) in cases {
            let day = parse_day(name);
            assert_eq!(day.is_some(), want, "input {:?}", name.escape_ascii());
            if let Some(day) = day {
                assert_eq!(day_name(day).as_bytes(), name);
            }
        }
    }

    #[test]
    fn minute_names_are_read_and_written_back() {
        let cases: [(&[u8], bool); 9] = [
            (b"20260822-1015", true),
            (b"20260822-0000", true),
            (b"20260822-2359", true),
            (b"20260822-2400", false),
            (b"20260822-1060", false),
            (b"20260822-101", false),
            (b"20260822-10150", false),
            (b"20260822_1015", false),
            (b"20260822-1015\n", false),
        ];
        for (name, want) in cases {
            let minute = MinuteDir::parse(name);
            assert_eq!(minute.is_some(), want, "input {:?}", name.escape_ascii());
            if let Some(minute) = minute {
                assert_eq!(minute.to_string().as_bytes(), name);
            }
        }
    }

    #[test]
    fn entry_names_carry_time_and_any_transaction_id() {
        let cases: [(&[u8], &str, &[u8]); 3] = [
            (
                b"20260822-101500-ZxA@b--c",
                "2026-08-22 10:15:00",
                b"ZxA@b--c",
            ),
            (b"20260822-101500-17.5", "2026-08-22 10:15:00", b"17.5"),
            (
                b"20260822-101560-\xff\n\"",
                "2026-08-22 10:15:59",
                b"\xff\n\"",
            ),
        ];
        for (name, at, txid) in cases {
            let want = Some(EntryName {
                time: time(at),
                txid,
            });
            let got = EntryName::parse(name);
            assert_eq!(got, want, "input {:?}", name.escape_ascii());
        }
    }

    #[test]
    fn other_names_are_no_entries() {
        let cases: [&[u8]; 5] = [
            b"20260822-101500-",
            b"20260822-101500",
            b"20260822-106000-a",
            b"20260822-1015-a",
            b".20260822-101500-a",
        ];
        for name in cases {
            let got = EntryName::parse(name);
            assert_eq!(got, None, "input {:?}", name.escape_ascii());
        }
    }

    #[test]
    fn a_minute_is_over_some_time_after_it_began_and_never_in_the_future() {
        let minute = MinuteDir::parse(b"20260822-1015").unwrap();
        let cases = [
            ("2026-08-22 10:15:00", false, false),
            ("2026-08-22 10:17:00", false, false),
            ("2026-08-22 10:17:01", true, false),
            ("2026-08-22 10:14:59", false, false),
            ("2026-08-21 23:59:59", false, false),
            ("2026-08-23 00:00:00", true, false),
            ("2026-08-23 10:15:00", true, false),
            ("2026-08-23 10:15:01", true, true),
        ];
        for (now, at_logging, at_start) in cases {
            let is_over = |named| minute.is_over(time(now), named);
            assert_eq!(is_over(NamedAt::Logging), at_logging, "at {now}");
            assert_eq!(is_over(NamedAt::Start), at_start, "at {now}");
        }
        assert_eq!(MinuteDir::at(time("2026-08-22 10:15:59")), minute);
    }
}

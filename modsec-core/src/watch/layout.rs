//! The paths that audit-log writers use below the storage directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};

/// Longest accepted name of a user. Linux allows 32 bytes; directory services allow more.
const MAX_USER_NAME: usize = 128;

/// What a directory is for, told by its path below the storage directory.
///
/// `ModSecurity` up to 2.9.2, libmodsecurity 3 and Coraza write to `DAY/MINUTE` (flat);
/// `ModSecurity` since 2.9.3 writes to `USER/DAY/MINUTE`. `DAY` is `YYYYMMDD`, `MINUTE` is
/// `YYYYMMDD-HHMM` of the same day. Both layouts may be present in one tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// The storage directory itself.
    Root,
    /// `DAY`, shared by all site users.
    FlatDay,
    /// `DAY/MINUTE`, shared by all site users.
    FlatMinute,
    /// `USER`.
    User,
    /// `USER/DAY`.
    UserDay,
    /// `USER/DAY/MINUTE`.
    UserMinute,
}

impl Place {
    /// Tells what the directory at `relative` is for; `None` if its path fits no template.
    ///
    /// A name of eight digits directly in the storage directory is a day if there is such a day,
    /// otherwise a user (the engine writes the number of a user it knows no name for).
    pub fn of(relative: &Path) -> Option<Self> {
        let mut place = Self::Root;
        let mut parent = OsStr::new("");
        for name in relative {
            place = place.child(parent, name)?;
            parent = name;
        }
        Some(place)
    }

    /// Tells what `name` in a directory of this kind, itself called `parent`, is for.
    pub fn child(self, parent: &OsStr, name: &OsStr) -> Option<Self> {
        let minute_of_parent =
            || is_minute(name.as_bytes()) && name.as_bytes().starts_with(parent.as_bytes());
        match self {
            Self::Root if day(name.as_bytes()).is_some() => Some(Self::FlatDay),
            Self::Root if is_user(name.as_bytes()) => Some(Self::User),
            Self::User if day(name.as_bytes()).is_some() => Some(Self::UserDay),
            Self::FlatDay if minute_of_parent() => Some(Self::FlatMinute),
            Self::UserDay if minute_of_parent() => Some(Self::UserMinute),
            _ => None,
        }
    }

    /// Tells whether entries are written into directories of this kind.
    pub fn is_minute(self) -> bool {
        matches!(self, Self::FlatMinute | Self::UserMinute)
    }

    /// Returns `true` for `USER` and what is in it.
    pub(crate) fn is_in_user_tree(self) -> bool {
        matches!(self, Self::User | Self::UserDay | Self::UserMinute)
    }

    /// Tells whether directories of this kind hold minutes.
    pub fn is_day(self) -> bool {
        matches!(self, Self::FlatDay | Self::UserDay)
    }
}

/// Returns the local time at which the minute or day called `name` begins.
///
/// During the hour that the end of daylight saving repeats, one name stands for two minutes.
pub(crate) fn begins(name: &OsStr) -> Option<NaiveDateTime> {
    let name = name.as_bytes();
    match name.len() {
        8 => Some(day(name)?.and_time(NaiveTime::MIN)),
        13 => {
            let (date, time) = name.split_at_checked(8)?;
            let (hour, minute) = time.strip_prefix(b"-")?.split_at_checked(2)?;
            day(date)?.and_hms_opt(number(hour)?, number(minute)?, 0)
        }
        _ => None,
    }
}

/// Returns the name of the directory of the day of `time`.
pub fn day_name(time: NaiveDateTime) -> String {
    time.format("%Y%m%d").to_string()
}

/// Returns the name of the directory of the minute of `time`.
pub fn minute_name(time: NaiveDateTime) -> String {
    time.format("%Y%m%d-%H%M").to_string()
}

fn is_minute(name: &[u8]) -> bool {
    name.len() == 13 && begins(OsStr::from_bytes(name)).is_some()
}

fn day(name: &[u8]) -> Option<NaiveDate> {
    let (year, rest) = name.split_at_checked(4).filter(|_| name.len() == 8)?;
    let (month, day) = rest.split_at_checked(2)?;
    // Nothing was logged before this century, and numeric user ids may look like older years.
    let year = i32::try_from(number(year)?)
        .ok()
        .filter(|year| (2000..2200).contains(year))?;
    NaiveDate::from_ymd_opt(year, number(month)?, number(day)?)
}

fn number(digits: &[u8]) -> Option<u32> {
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u32::from(byte - b'0'));
    digits.iter().try_fold(0u32, |sum, byte| {
        sum.checked_mul(10)?.checked_add(digit(byte)?)
    })
}

/// Accepts what login names are made of, also those of directory services (`DOMAIN\user`,
/// `user@domain`), and refuses what could be mistaken for anything else (`lost+found`, dot files).
fn is_user(name: &[u8]) -> bool {
    let first = name
        .first()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-@$\\".contains(byte);
    first && name.len() <= MAX_USER_NAME && name.iter().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_both_layouts_are_recognised_and_nothing_else() {
        let cases = [
            ("", Some(Place::Root)),
            ("20260822", Some(Place::FlatDay)),
            ("20260822/20260822-1015", Some(Place::FlatMinute)),
            ("www-data", Some(Place::User)),
            ("EXAMPLE\\site.1@example.org", Some(Place::User)),
            ("site1/20260822", Some(Place::UserDay)),
            ("site1/20260822/20260822-2359", Some(Place::UserMinute)),
            ("20261322", Some(Place::User)),
            ("10001234/20260822", Some(Place::UserDay)),
            ("20260822/20260823-0000", None),
            ("20260822/20260822-2400", None),
            ("20260822/20260822-1060", None),
            ("20260822/20260822-101", None),
            ("20260822/20260822-10150", None),
            ("20260822/20260822_1015", None),
            ("20260822/20260822", None),
            ("20260822/site1", None),
            ("site1/site2", None),
            ("site1/20260230", None),
            ("site1/20260822/20260822-1015/x", None),
            ("../etc", None),
            ("/etc", None),
            ("site1/..", None),
            ("lost+found", None),
            (".hidden", None),
            ("-rf", None),
            ("a b", None),
            ("a\nb", None),
        ];
        for (path, want) in cases {
            assert_eq!(Place::of(Path::new(path)), want, "path {path:?}");
        }
        let long = "a".repeat(MAX_USER_NAME + 1);
        assert_eq!(Place::of(Path::new(&long)), None);
        assert_eq!(Place::of(Path::new(OsStr::from_bytes(b"a\xff"))), None);
    }

    #[test]
    fn names_and_times_agree() {
        let time = NaiveDate::from_ymd_opt(2026, 8, 2)
            .unwrap()
            .and_hms_opt(9, 5, 0)
            .unwrap();
        assert_eq!(day_name(time), "20260802");
        assert_eq!(minute_name(time), "20260802-0905");
        assert_eq!(begins(OsStr::new("20260802-0905")), Some(time));
        assert_eq!(
            begins(OsStr::new("20260802")),
            Some(time.date().and_time(NaiveTime::MIN))
        );
    }
}

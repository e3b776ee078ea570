//! The names below `SecAuditLogStorageDir`, and what each is for: the only grammar of them.
//!
//! ```text
//! [USER /] YYYYMMDD / YYYYMMDD-HHMM / YYYYMMDD-HHMMSS-TXID
//! site1    20260822   20260822-1015   20260822-101500-ZxA      ModSecurity since 2.9.3
//!          20260822   20260822-1015   20260822-101500-ZxA      before; libmodsecurity 3; Coraza
//! ```
//!
//! All times are the server's local wall clock, so one name stands for two moments when summer time
//! ends. Names are bytes, since users and transaction ids may be in any encoding. Nothing here
//! opens a file or reads a clock.
//!
//! A name is a claim, never a proof: site users can make any name in their directories.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta, Timelike};

/// Longest name of a file or directory on Linux, in bytes.
pub(crate) const NAME_MAX: usize = 255;

/// What mkfs makes in every file system of the ext family. A storage directory may be one.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";

/// Years that count as such. `ModSecurity` is from 2002. A user whose name is a number, such as
/// 10001234, must not be taken for a day; and the fewer years there are, the fewer names of days a
/// walk may have to sort.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2099;

/// For how long after its minute began a directory may be used by a writer that takes the time when
/// it writes. Not a setting: it makes directory and file within milliseconds.
const MINUTE_IN_USE: TimeDelta = TimeDelta::minutes(2);

/// The same for a writer that takes the time when a transaction begins, and makes the directory
/// when it ends: longer than downloads and uploads take.
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

/// Reads the name of a day directory, `YYYYMMDD`: a real date from 2000 to 2099.
///
/// ```
/// use modsec_core::names::{day_name, parse_day};
///
/// let day = parse_day(b"20240229").ok_or("no day")?;
/// assert_eq!(day_name(day), "20240229");
/// assert_eq!(parse_day(b"20250229"), None); // no such date
/// assert_eq!(parse_day(b"10001234"), None); // the number of a user
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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

/// Reads a decimal number of digits only; `None` for anything else, or if it does not fit.
fn digits(bytes: &[u8]) -> Option<u32> {
    bytes.iter().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The minute that a directory `YYYYMMDD-HHMM` stands for, in the server's local time. Ordered by
/// time.
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
    /// Reads the name of a minute directory, `YYYYMMDD-HHMM`.
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
        let limit = now.checked_sub_signed(in_use);
        matches!((self.begins(), limit), (Some(begun), Some(limit)) if begun < limit)
    }

    /// Returns the local time at which the minute begins.
    fn begins(self) -> Option<NaiveDateTime> {
        self.date.and_hms_opt(self.hour, self.minute, 0)
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
/// A claim, not an identity: names repeat under MPM-ITK, and site users can choose them.
///
/// ```
/// use modsec_core::names::EntryName;
///
/// let name = EntryName::parse(b"20260822-101500-ZxA@b--c").ok_or("no entry")?;
/// assert_eq!(name.time.to_string(), "2026-08-22 10:15:00");
/// assert_eq!(name.txid, b"ZxA@b--c");
/// assert_eq!(EntryName::parse(b"20260822-101500-"), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryName<'a> {
    /// Local time of logging (`ModSecurity` 2) or of the transaction's start (3, Coraza).
    pub time: NaiveDateTime,
    /// Transaction id, at least one byte of anything but `/` and NUL.
    pub txid: &'a [u8],
}

impl<'a> EntryName<'a> {
    /// Reads the name of an entry's file; `None` if it has another form. Second 60 (a leap second)
    /// counts as 59. The transaction id may hold anything that a file name may, also dashes.
    pub fn parse(name: &'a [u8]) -> Option<Self> {
        let (day, rest) = name.split_at_checked(8)?;
        let (clock, rest) = rest.strip_prefix(b"-")?.split_at_checked(6)?;
        let txid = rest.strip_prefix(b"-")?;
        if txid.is_empty() || txid.contains(&b'/') {
            return None;
        }
        let clock = digits(clock)?;
        let (hour, minute, second) = (clock / 10_000, clock / 100 % 100, clock % 100);
        let second = if second == 60 { 59 } else { second };
        let time = parse_day(day)?.and_hms_opt(hour, minute, second)?;
        Some(EntryName { time, txid })
    }
}

/// What a directory is for, told by its path below the storage directory.
///
/// `ModSecurity` up to 2.9.2, libmodsecurity 3 and Coraza write to `DAY/MINUTE` (flat);
/// `ModSecurity` since 2.9.3 writes to `USER/DAY/MINUTE`. `DAY` is `YYYYMMDD`, `MINUTE` is
/// `YYYYMMDD-HHMM` of the same day. Both layouts may be present in one tree.
///
/// `USER` is any name that a system gives to a user, in any encoding and with spaces, or the number
/// of a user without a name. **No user's directory** is a name that has another meaning, or that no
/// user database can hold:
///
/// - a day or a minute; other names of digits only are numbers of users;
/// - a name with a dot in front: hidden, as the programs' own directories are. A dot elsewhere is
///   fine;
/// - `lost+found`, of the file system;
/// - a name with control characters, with white space at an end, or longer than 255 bytes.
///
/// ```
/// use std::path::Path;
/// use modsec_core::names::Place;
///
/// assert_eq!(Place::of(Path::new("20260822/20260822-1015")), Some(Place::FlatMinute));
/// assert_eq!(Place::of(Path::new("john smith/20260822")), Some(Place::UserDay));
/// assert_eq!(Place::of(Path::new("20260822/20260823-0000")), None); // of another day
/// assert_eq!(Place::of(Path::new("site1/../20260822")), None);
/// ```
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
    /// Returns what the directory at `relative` is for; `None` if its path fits no template.
    ///
    /// Names are separated by one slash each: `a//b`, `./a` and `a/` fit none.
    pub fn of(relative: &Path) -> Option<Self> {
        let relative = relative.as_os_str().as_bytes();
        if relative.is_empty() {
            return Some(Self::Root);
        }
        let mut names = relative.split(|byte| *byte == b'/');
        let start = (Self::Root, &b""[..]);
        let (place, _) = names.try_fold(start, |(place, parent), name| {
            Some((place.child(parent, name)?, name))
        })?;
        Some(place)
    }

    /// Returns what `name` in a directory of this kind, itself called `parent`, is for.
    fn child(self, parent: &[u8], name: &[u8]) -> Option<Self> {
        let minute_of_parent =
            || MinuteDir::parse(name).is_some_and(|minute| parse_day(parent) == Some(minute.date));
        match self {
            Self::Root if parse_day(name).is_some() => Some(Self::FlatDay),
            Self::Root if is_user(name) => Some(Self::User),
            Self::User if parse_day(name).is_some() => Some(Self::UserDay),
            Self::FlatDay if minute_of_parent() => Some(Self::FlatMinute),
            Self::UserDay if minute_of_parent() => Some(Self::UserMinute),
            _ => None,
        }
    }

    /// Returns `true` for a directory into which entries are written.
    pub fn is_minute(self) -> bool {
        matches!(self, Self::FlatMinute | Self::UserMinute)
    }

    /// Returns `true` for a directory that holds minutes.
    pub fn is_day(self) -> bool {
        matches!(self, Self::FlatDay | Self::UserDay)
    }

    /// Returns `true` for `USER` and what is in it.
    pub(crate) fn is_in_user_tree(self) -> bool {
        matches!(self, Self::User | Self::UserDay | Self::UserMinute)
    }
}

/// Returns `true` if `name` in the storage directory is a user's, see [`Place`].
pub(crate) fn is_user(name: &[u8]) -> bool {
    let has_control = || {
        let mut chunks = name.utf8_chunks();
        chunks.any(|chunk| chunk.valid().chars().any(char::is_control))
    };
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with(b".")
        && !name.contains(&b'/')
        && name.trim_ascii().len() == name.len()
        && !has_control()
        && name != LOST_AND_FOUND.as_bytes()
        && parse_day(name).is_none()
        && MinuteDir::parse(name).is_none()
}

/// Returns `true` if `relative`, a path below the storage directory, is that of an entry.
pub(crate) fn is_entry(relative: &Path) -> bool {
    let relative = relative.as_os_str().as_bytes();
    memchr::memrchr(b'/', relative)
        .and_then(|slash| Some((relative.get(..slash)?, relative.get(slash + 1..)?)))
        .is_some_and(|(dir, name)| {
            let place = Place::of(Path::new(OsStr::from_bytes(dir)));
            place.is_some_and(Place::is_minute) && EntryName::parse(name).is_some()
        })
}

/// Returns the local time at which the minute or day called `name` begins.
///
/// During the hour that the end of daylight saving repeats, one name stands for two minutes.
pub(crate) fn begins(name: &OsStr) -> Option<NaiveDateTime> {
    let name = name.as_bytes();
    match parse_day(name) {
        Some(day) => day.and_hms_opt(0, 0, 0),
        None => MinuteDir::parse(name)?.begins(),
    }
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

    #[test]
    fn paths_of_both_layouts_are_recognised_and_nothing_else() {
        let cases = [
            ("", Some(Place::Root)),
            ("20260822", Some(Place::FlatDay)),
            ("20260822/20260822-1015", Some(Place::FlatMinute)),
            ("site1/20260822", Some(Place::UserDay)),
            ("site1/20260822/20260822-2359", Some(Place::UserMinute)),
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
            ("site1/", None),
            ("./site1", None),
            ("site1//20260822", None),
        ];
        for (path, want) in cases {
            assert_eq!(Place::of(Path::new(path)), want, "path {path:?}");
        }
    }

    #[test]
    fn users_are_called_whatever_the_system_calls_them() {
        let long = [b'a'; NAME_MAX + 1];
        let cases: [(&[u8], bool); 32] = [
            (b"www-data", true),
            (b"site+1", true),
            ("d\u{f6}m\u{e4}ne".as_bytes(), true),
            (b"d\xf6m\xe4ne", true),
            (b"EXAMPLE\\site.1@example.org", true),
            (b"john smith", true),
            (b"machine$", true),
            (b"-rf", true),
            (b"1001", true),
            (b"20261322", true),
            (b"21001231", true),
            (b"19991231", true),
            (b"20260822-2460", true),
            (b"20260822-101500-x", true),
            (b"lost+found2", true),
            (&long[1..], true),
            (&long, false),
            (b"", false),
            (b".", false),
            (b"..", false),
            (b".hidden", false),
            (b"a/b", false),
            (b"20260822", false),
            (b"20260822-1015", false),
            (b"lost+found", false),
            (b"a\nb", false),
            (b"a\0b", false),
            (b"\x1b[2J", false),
            (b"\xff\x7f", false),
            ("a\u{9b}2J".as_bytes(), false),
            (b" site", false),
            (b"site ", false),
        ];
        for (name, want) in cases {
            assert_eq!(is_user(name), want, "name {:?}", name.escape_ascii());
            let place = Place::of(Path::new(OsStr::from_bytes(name)));
            assert_eq!(
                place == Some(Place::User),
                want,
                "{:?}",
                name.escape_ascii()
            );
        }
    }

    #[test]
    fn an_entry_is_known_by_its_path() {
        for (path, want) in [
            ("20260822/20260822-1015/20260822-101500-a", true),
            ("john smith/20260822/20260822-1015/20260822-101500-a", true),
            ("20260822/20260822-1015/20260822-101500-", false),
            ("20260822/20260822-1015//20260822-101500-a", false),
            ("20260822/20260822-1015/20260822-101500-a/", false),
            ("20260822/20260823-1015/20260822-101500-a", false),
            (".a/20260822/20260822-1015/20260822-101500-a", false),
            ("20260822-101500-a", false),
        ] {
            assert_eq!(is_entry(Path::new(path)), want, "{path}");
        }
    }

    #[test]
    fn names_and_times_agree() {
        let at = time("2026-08-02 09:05:00");
        assert_eq!(day_name(at.date()), "20260802");
        assert_eq!(MinuteDir::at(at).to_string(), "20260802-0905");
        assert_eq!(begins(OsStr::new("20260802-0905")), Some(at));
        let day = time("2026-08-02 00:00:00");
        assert_eq!(begins(OsStr::new("20260802")), Some(day));
    }
}

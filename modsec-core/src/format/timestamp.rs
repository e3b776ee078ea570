//! Time stamps of part A.
//!
//! | engine | form | offset |
//! | --- | --- | --- |
//! | ModSecurity 2 up to 2.9.3 | `03/Feb/2024:10:11:12 +0100` | signed numbers |
//! | ModSecurity 2 from 2.9.4 on | `03/Feb/2024:10:11:12.000345 --0500` | signed numbers |
//! | libmodsecurity | `03/Feb/2024:10:11:12 +0100` | `strftime`'s `%z` |
//! | libmodsecurity, JSON | `Sat Feb  3 10:11:12 2024` | none |
//! | Coraza | `2024/02/03 10:11:12` | none |
//!
//! ModSecurity 2 logs when the entry was written, the others when the transaction began. Names of months
//! and days are those of the C locale.
//!
//! ModSecurity 2 writes `DD/Mon/YYYY:HH:MM:SS[.UUUUUU] ZONE`. ZONE is a sign followed by *signed*
//! numbers, so that New York is `--0500` and Newfoundland `--03-30`; up to 2.6.2 the second number
//! counted seconds (`+101800` is +10:30). Releases 2.9.4 and 2.9.5 print a negative fraction where
//! `long` has 32 bits (`.-123245`): such a fraction is no time and counts as zero.

use chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime};

use super::digits::number;

/// Names of months as engines write them, whatever the server's locale.
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Parses the text between the brackets of part A, for engines that log an offset. `None` unless all
/// of it is a time: no day 31 in February, no second but a leap second beyond 59.
pub(crate) fn parse(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    let space = text.iter().position(|byte| *byte == b' ')?;
    let (stamp, zone) = text.split_at(space);
    local(stamp)?
        .and_local_timezone(offset(zone.get(1..)?)?)
        .single()
}

/// Parses the time of Coraza, `2024/02/03 10:11:12`: a wall clock without an offset.
pub(crate) fn parse_wall_clock(text: &[u8]) -> Option<NaiveDateTime> {
    let [y1, y2, y3, y4, b'/', m1, m2, b'/', d1, d2, b' ', time @ ..] = text else {
        return None;
    };
    let date = NaiveDate::from_ymd_opt(
        number(&[*y1, *y2, *y3, *y4])?,
        number(&[*m1, *m2])?,
        number(&[*d1, *d2])?,
    )?;
    Some(date.and_time(self::time(time)?))
}

/// Parses `Sat Feb  3 10:11:12 2024`, libmodsecurity's time in JSON (`asctime` in the C locale): a
/// wall clock without an offset.
pub(super) fn parse_asctime(text: &[u8]) -> Option<NaiveDateTime> {
    let text = std::str::from_utf8(text).ok()?;
    NaiveDateTime::parse_from_str(text, "%a %b %e %H:%M:%S %Y").ok()
}

/// Parses `03/Feb/2024:10:11:12.000345`.
fn local(stamp: &[u8]) -> Option<NaiveDateTime> {
    let [
        d1,
        d2,
        b'/',
        m1,
        m2,
        m3,
        b'/',
        y1,
        y2,
        y3,
        y4,
        b':',
        time @ ..,
    ] = stamp
    else {
        return None;
    };
    let month = MONTHS.iter().position(|month| **month == [*m1, *m2, *m3])?;
    let date = NaiveDate::from_ymd_opt(
        number(&[*y1, *y2, *y3, *y4])?,
        u32::try_from(month).ok()? + 1,
        number(&[*d1, *d2])?,
    )?;
    Some(date.and_time(self::time(time)?))
}

/// Parses `10:11:12`, with or without a fraction of six digits.
fn time(time: &[u8]) -> Option<NaiveTime> {
    let [h1, h2, b':', n1, n2, b':', s1, s2, fraction @ ..] = time else {
        return None;
    };
    let micros = match fraction {
        [] => 0,
        [b'.', b'-', digits @ ..] if number::<u32>(digits).is_some() => 0,
        [b'.', digits @ ..] if digits.len() == 6 => number(digits)?,
        _ => return None,
    };
    // A leap second (60) is written down by the C library; it counts as the second before.
    let second = number(&[*s1, *s2])?;
    let second = if second == 60 { 59 } else { second };
    NaiveTime::from_hms_micro_opt(number(&[*h1, *h2])?, number(&[*n1, *n2])?, second, micros)
}

/// Parses a zone: a sign, hours, and minutes or (up to 2.6.2) seconds, the numbers with a sign of their
/// own if the offset is negative.
///
/// ```text
/// +0200  +1030  +101800      east:  2 h, 10 h 30 min, the same in seconds
/// -0500  --0500  --03-30     west:  5 h, 5 h, 3 h 30 min
/// ```
fn offset(zone: &[u8]) -> Option<FixedOffset> {
    let (sign, rest) = zone.split_first()?;
    let (hours, rest) = rest
        .strip_prefix(b"-")
        .unwrap_or(rest)
        .split_at_checked(2)?;
    let small = rest.strip_prefix(b"-").unwrap_or(rest);
    let small_seconds = match small.len() {
        2 => number::<i32>(small)? * 60,
        // No zone of today differs by a part of a minute.
        4 => number(small).filter(|seconds| seconds % 60 == 0)?,
        _ => return None,
    };
    let seconds = number::<i32>(hours)? * 3600 + small_seconds;
    match sign {
        b'+' => FixedOffset::east_opt(seconds),
        b'-' => FixedOffset::west_opt(seconds),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_time_gives_its_instant() {
        for (text, want) in [
            ("03/Feb/2024:10:11:12 +0100", "2024-02-03T09:11:12+00:00"),
            ("03/Feb/2024:10:11:12 +0000", "2024-02-03T10:11:12+00:00"),
            (
                "22/Nov/2026:14:25:44.025822 +0300",
                "2026-11-22T11:25:44.025822+00:00",
            ),
            (
                "03/Feb/2024:10:11:12.000345 --0500",
                "2024-02-03T15:11:12.000345+00:00",
            ),
            ("03/Feb/2024:10:11:12 -0500", "2024-02-03T15:11:12+00:00"),
            ("03/Feb/2024:10:11:12 --03-30", "2024-02-03T13:41:12+00:00"),
            (
                "03/Feb/2024:10:11:12 --03-1800",
                "2024-02-03T13:41:12+00:00",
            ),
            ("03/Feb/2024:10:11:12 -00-30", "2024-02-03T10:41:12+00:00"),
            ("03/Feb/2024:10:11:12 +1030", "2024-02-02T23:41:12+00:00"),
            ("03/Feb/2024:10:11:12 +101800", "2024-02-02T23:41:12+00:00"),
            (
                "03/Feb/2024:10:11:12.-123245 +0000",
                "2024-02-03T10:11:12+00:00",
            ),
            ("30/Jun/2015:23:59:60 +0000", "2015-06-30T23:59:59+00:00"),
            ("29/Feb/2024:23:59:59 +1400", "2024-02-29T09:59:59+00:00"),
        ] {
            let got = parse(text.as_bytes()).map(|time| time.to_utc().to_rfc3339());
            assert_eq!(got.as_deref(), Some(want), "input {text:?}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "03/Feb/2024:10:11:12",
            "03/Feb/2024:10:11:12 ",
            "03/Feb/2024:10:11:12 0100",
            "03/feb/2024:10:11:12 +0100",
            "31/Feb/2024:10:11:12 +0100",
            "03/Feb/2024:24:11:12 +0100",
            "03/Feb/2024:10:11:12.12 +0100",
            "03/Feb/2024:10:11:12.- +0100",
            "03/Feb/2024:10:11:12 +99999999",
            "03/Feb/2024:10:11:12 +9900",
            "03/Feb/2024:10:11:12 +101801",
            "03/Feb/2024:10:11:12 -000200",
            "0\u{661}/Feb/2024:10:11:12 +0100",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "input {text:?}");
        }
    }

    #[test]
    fn a_wall_clock_has_no_offset() {
        let parse = |text: &str| parse_wall_clock(text.as_bytes()).map(|time| time.to_string());
        let want = Some("2024-02-03 10:11:12".to_owned());
        assert_eq!(parse("2024/02/03 10:11:12"), want);
        for text in [
            "",
            "2024/02/03",
            "2024/02/30 10:11:12",
            "2024/02/03 25:11:12",
            "2024/02/03T10:11:12",
            "03/Feb/2024:10:11:12 +0100",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn wall_clocks_are_read_in_the_c_locale() {
        for (text, want) in [
            ("Sun Nov 22 11:57:48 2026", Some("2026-11-22 11:57:48")),
            ("Sat Feb  3 10:11:12 2024", Some("2024-02-03 10:11:12")),
            ("Sat Feb 3 10:11:12 2024", Some("2024-02-03 10:11:12")),
            ("Mon Feb  3 10:11:12 2024", None),
            ("\u{441}\u{431} \u{444}\u{435}\u{432} 3 10:11:12 2024", None),
            ("Sat Feb 30 10:11:12 2024", None),
            ("", None),
        ] {
            let got = parse_asctime(text.as_bytes()).map(|time| time.to_string());
            assert_eq!(got.as_deref(), want, "input {text:?}");
        }
        assert_eq!(parse_asctime(b"\xff"), None);
    }
}

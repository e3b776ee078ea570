//! Time spans as people write them: one grammar for all options and for filters.
//!
//! ```text
//! span = number [unit]
//! unit = "s" | "m" | "h" | "d" | "w"      seconds, minutes, hours, days of 24 hours, weeks
//! ```
//!
//! A number without a unit has the unit that the option had before there were others; the help of
//! each option names it.
//!
//! ```
//! use std::time::Duration;
//!
//! use modsec_core::span::{self, Unit};
//!
//! assert_eq!(span::parse("15m", Unit::Seconds)?, Duration::from_secs(900));
//! assert_eq!(span::parse("90", Unit::Seconds)?, Duration::from_secs(90));
//! assert_eq!(span::parse("90", Unit::Days)?, Duration::from_hours(90 * 24));
//! assert!(span::parse("1.5h", Unit::Seconds).is_err());
//! # Ok::<(), span::SpanError>(())
//! ```

use std::fmt;
use std::time::Duration;

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Unit {
    /// `s`
    Seconds,
    /// `m`
    Minutes,
    /// `h`
    Hours,
    /// `d`: 24 hours
    Days,
    /// `w`: seven days
    Weeks,
}

impl Unit {
    const ALL: [Unit; 5] = [
        Unit::Seconds,
        Unit::Minutes,
        Unit::Hours,
        Unit::Days,
        Unit::Weeks,
    ];

    /// Returns the letter that stands behind a number.
    pub fn letter(self) -> char {
        match self {
            Unit::Seconds => 's',
            Unit::Minutes => 'm',
            Unit::Hours => 'h',
            Unit::Days => 'd',
            Unit::Weeks => 'w',
        }
    }

    /// Returns its length in seconds.
    pub fn seconds(self) -> u64 {
        match self {
            Unit::Seconds => 1,
            Unit::Minutes => 60,
            Unit::Hours => 60 * 60,
            Unit::Days => 24 * 60 * 60,
            Unit::Weeks => 7 * 24 * 60 * 60,
        }
    }

    /// Returns the unit with this letter.
    fn of(letter: char) -> Option<Unit> {
        Unit::ALL.into_iter().find(|unit| unit.letter() == letter)
    }
}

impl fmt::Display for Unit {
    /// Writes the name in the plural, such as `seconds`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Seconds => "seconds",
            Unit::Minutes => "minutes",
            Unit::Hours => "hours",
            Unit::Days => "days",
            Unit::Weeks => "weeks",
        })
    }
}

/// Why a text is no time span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpanError {
    /// It is not a whole number with a known unit.
    #[error(
        "expected a whole number, 0 or more, of {bare}, or one with a unit, such as 90s, 15m, 2h, 7d or 2w"
    )]
    Malformed {
        /// The unit of a number without one.
        bare: Unit,
    },
    /// A number without a unit, where none is assumed.
    #[error("expected a unit behind the number: s, m, h, d or w")]
    NoUnit,
    /// It does not fit into 64 bits of seconds.
    #[error("the number is too large")]
    TooLong,
    /// It is shorter than is of use.
    #[error("expected a number of {unit}, {least} or more")]
    BelowLeast {
        /// The shortest span, in `unit`.
        least: u64,
        /// The unit of a number without one.
        unit: Unit,
    },
    /// It is longer than is of use.
    #[error("expected a number of {unit}, at most {most}")]
    AboveMost {
        /// The longest span, in `unit`.
        most: u64,
        /// The unit of a number without one.
        unit: Unit,
    },
    /// It is finer than the unit that counts.
    #[error("expected a whole number of {unit}")]
    NotWhole {
        /// The unit that counts.
        unit: Unit,
    },
}

/// Reads a time span; a number without a unit is in `bare`.
///
/// # Errors
///
/// [`SpanError::Malformed`] or [`SpanError::TooLong`]. No sign, fraction or space is allowed.
pub fn parse(text: &str, bare: Unit) -> Result<Duration, SpanError> {
    read(text, Some(bare))
}

/// Reads a time span that must have a unit.
///
/// # Errors
///
/// [`SpanError::NoUnit`], and those of [`parse`].
pub fn parse_with_unit(text: &str) -> Result<Duration, SpanError> {
    read(text, None)
}

/// Reads a time span as a number of `bare` from `least` to `most`: for an option that counts in this
/// unit.
///
/// # Errors
///
/// Those of [`parse`]; [`SpanError::BelowLeast`], [`SpanError::AboveMost`] and
/// [`SpanError::NotWhole`], such as for `90s` where minutes count; [`SpanError::TooLong`] if `T` is too
/// narrow.
///
/// ```
/// use modsec_core::span::{Unit, parse_number};
///
/// assert_eq!(parse_number("2h", Unit::Minutes, 0, 1440), Ok(120_u16));
/// assert!(parse_number::<u16>("90s", Unit::Minutes, 0, 1440).is_err());
/// ```
pub fn parse_number<T: TryFrom<u64>>(
    text: &str,
    bare: Unit,
    least: u64,
    most: u64,
) -> Result<T, SpanError> {
    let seconds = parse(text, bare)?.as_secs();
    let number = seconds / bare.seconds();
    if number < least {
        return Err(SpanError::BelowLeast { least, unit: bare });
    }
    if number > most {
        return Err(SpanError::AboveMost { most, unit: bare });
    }
    if seconds % bare.seconds() != 0 {
        return Err(SpanError::NotWhole { unit: bare });
    }
    T::try_from(number).map_err(|_| SpanError::TooLong)
}

/// Reads a span. Without `bare` a unit is demanded.
fn read(text: &str, bare: Option<Unit>) -> Result<Duration, SpanError> {
    let malformed = SpanError::Malformed {
        bare: bare.unwrap_or(Unit::Seconds),
    };
    let digits = text.trim_end_matches(|last: char| !last.is_ascii_digit());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed);
    }
    let mut letters = unit.chars();
    let unit = match (letters.next(), letters.next()) {
        (None, _) => bare.ok_or(SpanError::NoUnit)?,
        (Some(letter), None) => Unit::of(letter).ok_or(malformed)?,
        _ => return Err(malformed),
    };
    // Nothing but digits, so it can only be too large.
    let number: u64 = digits.parse().map_err(|_| SpanError::TooLong)?;
    let seconds = number.checked_mul(unit.seconds());
    seconds.map(Duration::from_secs).ok_or(SpanError::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_a_bare_number_has_that_of_the_option() {
        for (text, bare, want) in [
            ("0", Unit::Seconds, 0),
            ("90", Unit::Seconds, 90),
            ("90s", Unit::Days, 90),
            ("15m", Unit::Seconds, 900),
            ("2", Unit::Minutes, 120),
            ("2h", Unit::Minutes, 7200),
            ("7d", Unit::Seconds, 604_800),
            ("90", Unit::Days, 7_776_000),
            ("2w", Unit::Seconds, 1_209_600),
            ("007s", Unit::Seconds, 7),
            ("18446744073709551615", Unit::Seconds, u64::MAX),
        ] {
            let want = Ok(Duration::from_secs(want));
            assert_eq!(parse(text, bare), want, "{text} in {bare}");
        }
    }

    #[test]
    fn what_is_no_span_says_what_is_one() {
        for text in [
            "", "s", "x", "-1", "+1", "1.5h", "1 h", " 1", "1h30m", "1H", "1M", "1y", "1ms", "٣s",
            "1٣", "5é", "0x10", "1e3",
        ] {
            let malformed = SpanError::Malformed {
                bare: Unit::Minutes,
            };
            assert_eq!(parse(text, Unit::Minutes), Err(malformed), "{text:?}");
        }
        let said = parse("x", Unit::Seconds).unwrap_err().to_string();
        assert_eq!(
            said,
            "expected a whole number, 0 or more, of seconds, or one with a unit, such as 90s, \
             15m, 2h, 7d or 2w"
        );
        assert_eq!(parse_with_unit("5"), Err(SpanError::NoUnit));
        assert_eq!(parse_with_unit("5m"), Ok(Duration::from_secs(300)));
    }

    #[test]
    fn what_does_not_fit_is_too_long() {
        for text in [
            "18446744073709551616",
            "18446744073709551615m",
            "99999999999999999999999999999999s",
            "30500568904944w",
        ] {
            assert_eq!(
                parse(text, Unit::Seconds),
                Err(SpanError::TooLong),
                "{text}"
            );
        }
        assert!(parse("30500568904943w", Unit::Seconds).is_ok());
    }

    #[test]
    fn a_number_of_units_has_limits() {
        let minutes = |text| parse_number::<u16>(text, Unit::Minutes, 1, 1440);
        assert_eq!(minutes("1"), Ok(1));
        assert_eq!(minutes("120s"), Ok(2));
        assert_eq!(minutes("1d"), Ok(1440));
        for (text, want) in [
            ("0", "expected a number of minutes, 1 or more"),
            ("59s", "expected a number of minutes, 1 or more"),
            ("1441", "expected a number of minutes, at most 1440"),
            ("1w", "expected a number of minutes, at most 1440"),
            ("90s", "expected a whole number of minutes"),
        ] {
            assert_eq!(minutes(text).unwrap_err().to_string(), want, "{text}");
        }
    }
}

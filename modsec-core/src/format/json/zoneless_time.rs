//! Times without an offset from UTC.
//!
//! libmodsecurity and Coraza log what a clock on the wall of the server showed. An instant can be found in
//! two ways:
//!
//! | engine | wall clock | instant | believed |
//! | --- | --- | --- | --- |
//! | Coraza | `timestamp` | `unix_timestamp` | always |
//! | libmodsecurity | `time_stamp` | first ten digits of its own id | if it fits the wall clock |
//!
//! Wall clock minus instant is the server's offset, if an offset can be that: whole quarters of an hour,
//! 14 hours at the most. `Sat Feb  3 10:11:12 2024` and the id `170695147212.345678` are 09:11:12 UTC and so
//! `+01:00`. With a client's id no instant is known, and the record has the wall clock alone
//! ([`local_time`](crate::Record::local_time)).

use chrono::{DateTime, FixedOffset, NaiveDateTime, Utc};

use super::Instant;

/// Offsets are whole quarters of an hour, and at most 14 hours.
const QUARTER: i64 = 15 * 60;
/// The largest offset, in seconds to either side of UTC: that of the Line Islands, `+14:00`.
const FARTHEST: i64 = 14 * 3600;

/// Returns the second in a transaction id of libmodsecurity's own making: ten digits of Unix time,
/// and directly behind them a number below 1000 with six decimals. 3.0.5 to 3.0.7 write the ten digits
/// alone. (`Transaction::Transaction` in `transaction.cc`)
pub(super) fn second_of_id(id: &[u8]) -> Option<DateTime<Utc>> {
    let (second, random) = id.split_at_checked(10)?;
    let are_digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    let is_random = |text: &[u8]| {
        let (number, decimals) = text.split_at_checked(text.len().checked_sub(7)?)?;
        let digits = decimals.strip_prefix(b".")?;
        Some((1..=3).contains(&number.len()) && are_digits(number) && are_digits(digits))
    };
    let is_own = are_digits(second) && (random.is_empty() || is_random(random)?);
    let second = std::str::from_utf8(second).ok()?.parse().ok()?;
    DateTime::from_timestamp_secs(second).filter(|_| is_own)
}

/// Makes the time of a record out of the wall clock and the instant.
///
/// If they differ by what can be an offset from UTC, that is the server's. Otherwise a likely
/// instant is none: whoever chose the id may have chosen its digits too.
pub(super) fn time(
    wall_clock: Option<NaiveDateTime>,
    instant: Option<Instant>,
) -> (Option<DateTime<FixedOffset>>, Option<NaiveDateTime>) {
    let (Some(Instant::Certain(utc) | Instant::Likely(utc)), Some(local)) = (instant, wall_clock)
    else {
        return match instant {
            Some(Instant::Certain(utc)) => (Some(utc.fixed_offset()), None),
            _ => (None, wall_clock),
        };
    };
    let ahead = local.and_utc().timestamp() - utc.timestamp();
    let offset = i32::try_from(ahead)
        .ok()
        .filter(|_| ahead % QUARTER == 0 && ahead.abs() <= FARTHEST)
        .and_then(FixedOffset::east_opt);
    match (offset, instant) {
        (Some(offset), _) => (Some(utc.with_timezone(&offset)), None),
        (None, Some(Instant::Certain(utc))) => (Some(utc.fixed_offset()), None),
        (None, _) => (None, Some(local)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_engines_own_ids_hold_a_time() {
        for (id, want) in [
            ("179534865611.233571", Some(1_795_348_656)),
            ("17953486560.233571", Some(1_795_348_656)),
            ("1795348656100.000000", Some(1_795_348_656)),
            // As 3.0.5 to 3.0.7 write it.
            ("1795348656", Some(1_795_348_656)),
            ("179534865", None),
            ("17953486561", None),
            ("179534865x", None),
            ("-179534865", None),
            ("1795348656.233571", None),
            ("17953486561000.233571", None),
            ("179534865611.23357", None),
            ("179534865611,233571", None),
            ("-79534865611.233571", None),
            ("5f3a1c9e8b7d6a5f4e3d2c1b0a998877", None),
            ("", None),
        ] {
            let got = second_of_id(id.as_bytes()).map(|time| time.timestamp());
            assert_eq!(got, want, "id {id:?}");
        }
    }

    #[test]
    fn an_offset_is_believed_if_it_can_be_one() {
        let instant = DateTime::from_timestamp_secs(1_706_951_472).unwrap();
        for (wall_clock, want) in [
            (
                "Sat Feb  3 09:11:12 2024",
                Some("2024-02-03T09:11:12+00:00"),
            ),
            (
                "Sat Feb  3 14:56:12 2024",
                Some("2024-02-03T14:56:12+05:45"),
            ),
            (
                "Sat Feb  3 05:41:12 2024",
                Some("2024-02-03T05:41:12-03:30"),
            ),
            (
                "Sat Feb  3 23:11:12 2024",
                Some("2024-02-03T23:11:12+14:00"),
            ),
            ("Sat Feb  3 23:26:12 2024", None),
            ("Sat Feb  3 09:11:13 2024", None),
            ("Fri Feb  2 09:11:12 2024", None),
        ] {
            let local = crate::format::timestamp::parse_asctime(wall_clock.as_bytes()).unwrap();
            let (time, local_time) = time(Some(local), Some(Instant::Likely(instant)));
            let got = time.map(|time| time.to_rfc3339());
            assert_eq!(got.as_deref(), want, "wall clock {wall_clock:?}");
            assert_eq!(local_time, want.is_none().then_some(local));
            let (certain, _) = super::time(Some(local), Some(Instant::Certain(instant)));
            assert_eq!(certain.map(|time| time.to_utc()), Some(instant));
        }
        assert_eq!(time(None, Some(Instant::Likely(instant))), (None, None));
    }
}

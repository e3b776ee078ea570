//! Values of a test, by the kind of its field.

use chrono::{DateTime, Days, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use ipnet::IpNet;
use std::net::IpAddr;

use super::MAX_STARS;
use super::field::{Field, Kind, named};
use super::lexer::Word;
use super::tree::{Range, Value};
use crate::cause::{Category, Outcome, path_template};
use crate::likeness::nearest;
use crate::record::{Flag, Severity};
use crate::span;

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    /// `:` or `=`
    Is,
    /// `>`
    Above,
    /// `>=`
    AtLeast,
    /// `<`
    Below,
    /// `<=`
    AtMost,
}

/// Returns the field with which a test of this field is written down: times have three names.
pub(super) fn compared(field: &'static Field) -> &'static Field {
    match field.kind {
        Kind::Since | Kind::Until => named("time").unwrap_or(field),
        Kind::Blocked => named("outcome").unwrap_or(field),
        _ => field,
    }
}

/// Returns which values a field of this kind takes, as it stands behind "expected" in an error
/// message.
pub(super) fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Client => "an address or a network such as 203.0.113.0/24",
        Kind::Exact | Kind::AnyCase => "a text, with * for any text",
        Kind::Number => "a whole number, or a range such as >=400 or 400..499",
        Kind::Severity => {
            "a severity: EMERGENCY, ALERT, CRITICAL, ERROR, WARNING, NOTICE, INFO or DEBUG"
        }
        Kind::Blocked => "yes or no",
        Kind::Outcome => "blocked or detected",
        Kind::Flag => {
            "a flag: ambiguous, truncated, unverified, out_of_order, no_part_h, capped or interleaved"
        }
        Kind::Time => {
            "a time such as 2026-11-20 or 2026-11-20T14:05, or a range such as 2026-11-20..2026-11-27"
        }
        Kind::Since | Kind::Until => {
            "a span before now such as 2h or 7d, or a time such as 2026-11-20 or 2026-11-20T14:05"
        }
        Kind::Hash => "the first of the hash's 32 hexadecimal digits",
    }
}

/// Reads a value.
///
/// # Errors
///
/// What is expected instead.
pub(super) fn read(
    field: &Field,
    operator: Operator,
    word: Word,
    now: DateTime<Utc>,
) -> Result<Value, String> {
    let is_ordered = matches!(field.kind, Kind::Number | Kind::Severity | Kind::Time);
    if operator != Operator::Is && !is_ordered {
        return Err(format!("{0} has no order: expected {0}:VALUE", field.name));
    }
    if matches!(field.kind, Kind::Exact | Kind::AnyCase) {
        return pattern(field, word);
    }
    let plain = || format!("expected {}", expected(field.kind));
    let text = word.plain().ok_or_else(plain)?;
    let wrong = || match field.kind {
        Kind::Outcome => unknown(field, text, &OUTCOMES.map(Outcome::name)),
        Kind::Flag => unknown(field, text, &Flag::ALL.map(Flag::name)),
        _ => plain(),
    };
    let value = match field.kind {
        Kind::Client => network(text).map(Value::Network),
        Kind::Number => return number(field, operator, text).map(Value::Range),
        Kind::Severity => return severity(field, operator, text).map(Value::Range),
        Kind::Blocked => yes_or_no(text),
        Kind::Outcome => OUTCOMES
            .map(Outcome::name)
            .into_iter()
            .find(|name| name.eq_ignore_ascii_case(text))
            .map(Value::Name),
        Kind::Flag => flag(text),
        Kind::Hash => digits(text),
        _ => return time(field.kind, operator, text, now).map(Value::Range),
    };
    value.ok_or_else(wrong)
}

/// All outcomes.
const OUTCOMES: [Outcome; 2] = [Outcome::Blocked, Outcome::Detected];

/// Returns what is wrong with a word that is none of a closed set: the one that was probably meant, or
/// what is expected.
fn unknown(field: &Field, text: &str, names: &[&'static str]) -> String {
    let alike = |name: &&&str| name.eq_ignore_ascii_case(text);
    let word = text.to_ascii_lowercase().replace('-', "_");
    let lower: Vec<String> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
    let meant = nearest(&word, lower.iter().map(String::as_str));
    let meant = meant.and_then(|meant| names.iter().find(|name| name.eq_ignore_ascii_case(meant)));
    match names.iter().find(alike).or(meant) {
        Some(meant) => format!("unknown {} {text:?}: did you mean {meant}?", field.name),
        None if field.kind == Kind::AnyCase => {
            format!("expected one of {}, with * for any text", names.join(", "))
        }
        None => format!("expected {}", expected(field.kind)),
    }
}

/// What `blocked:no` is read as.
pub(super) const NO: &str = "no";

/// Reads a text with stars. An error is more than [`MAX_STARS`] of them, or a path that is
/// stored as another one: rows have its template, with names for numbers, so none would fit. Nor would
/// a category that does not exist.
fn pattern(field: &Field, word: Word) -> Result<Value, String> {
    let mut pattern = word.into_pattern();
    if pattern.stars() > MAX_STARS {
        return Err(format!("more than {MAX_STARS} * in one value"));
    }
    if field.kind == Kind::AnyCase {
        pattern = pattern.to_lower_case();
    }
    if field.name == "category" {
        let names = Category::ALL.map(Category::name);
        if !names.iter().any(|name| pattern.matches(name.as_bytes())) {
            return Err(unknown(field, &pattern.parts().join("*"), &names));
        }
    }
    if field.column == "path_template"
        && let Some(path) = pattern.exact()
    {
        let template = path_template(path.as_bytes());
        let template = String::from_utf8_lossy(&template);
        if template != path {
            return Err(format!(
                "paths are stored with names for numbers: expected path:{template}, or \
                 uri:({path:?},{path:?}?*) for this one alone"
            ));
        }
    }
    Ok(Value::Pattern(pattern))
}

/// Reads an address or a network. Bits behind the network's are of no account, and IPv4 mapped into
/// IPv6 is IPv4.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network,
        Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
    };
    let mapped = match network {
        IpNet::V6(network) if network.prefix_len() >= 96 => network.addr().to_ipv4_mapped(),
        _ => None,
    };
    let network = match mapped {
        Some(ip) => IpNet::new(ip.into(), network.prefix_len() - 96).ok()?,
        None => network,
    };
    Some(network.trunc())
}

/// Reads a number, or a range of numbers: `404`, `400..499`, `400..` or `..499`, both ends
/// included; of the status also `4xx`. An empty range is an error, as it would find nothing.
fn number(field: &Field, operator: Operator, text: &str) -> Result<Range, String> {
    let is_status = field.name == "status";
    let wrong = || {
        let class = text.trim_end_matches(['x', 'X', '*']);
        match class.chars().next().filter(char::is_ascii_digit) {
            Some(digit) if is_status && class.len() < text.len() => {
                format!("unknown status {text:?}: did you mean {digit}xx?")
            }
            _ => {
                let hundreds = if is_status { ", or 5xx" } else { "" };
                format!("expected {}{hundreds}", expected(Kind::Number))
            }
        }
    };
    let one = |text: &str| text.parse::<i64>().map_err(|_| wrong());
    if operator != Operator::Is {
        return compared_with(operator, one(text)?).ok_or_else(wrong);
    }
    if let Some(hundreds) = text.strip_suffix("xx").filter(|_| is_status) {
        let hundreds = one(hundreds).ok().filter(|digit| (1..=9).contains(digit));
        let start = hundreds.ok_or_else(wrong)? * 100;
        return Ok(Range::of(start, start + 99));
    }
    let Some((least, most)) = text.split_once("..") else {
        return one(text).map(Range::one);
    };
    let end = |text: &str| {
        if text.is_empty() {
            Ok(None)
        } else {
            one(text).map(Some)
        }
    };
    let range = Range {
        least: end(least)?,
        most: end(most)?,
    };
    sound(range).ok_or_else(wrong)
}

/// Returns the numbers that compare so to this one; `None` if there are none within 64 bits.
fn compared_with(operator: Operator, number: i64) -> Option<Range> {
    Some(match operator {
        Operator::Is => Range::one(number),
        Operator::AtLeast => Range {
            least: Some(number),
            most: None,
        },
        Operator::AtMost => Range {
            least: None,
            most: Some(number),
        },
        Operator::Above => compared_with(Operator::AtLeast, number.checked_add(1)?)?,
        Operator::Below => compared_with(Operator::AtMost, number.checked_sub(1)?)?,
    })
}

/// Returns a range that has an end and is not empty.
fn sound(range: Range) -> Option<Range> {
    let is_sound = match (range.least, range.most) {
        (Some(least), Some(most)) => least <= most,
        (least, most) => least.or(most).is_some(),
    };
    is_sound.then_some(range)
}

/// The number of the severity that is least bad.
const LEAST_BAD: i64 = 7;

/// Reads a severity, or two, as the range of its numbers. Above means worse, and so a smaller number.
fn severity(field: &Field, operator: Operator, text: &str) -> Result<Range, String> {
    let one = |text: &str| {
        let severity = Severity::parse(text.as_bytes());
        severity
            .map(|severity| i64::from(severity.number()))
            .ok_or_else(|| unknown(field, text, &Severity::ALL.map(Severity::name)))
    };
    if let Some((one_end, other)) = text.split_once("..").filter(|_| operator == Operator::Is) {
        let (one_end, other) = (one(one_end)?, one(other)?);
        return Ok(Range::of(one_end.min(other), one_end.max(other)));
    }
    let number = one(text)?;
    let range = match operator {
        Operator::Is => Range::one(number),
        Operator::AtLeast => Range::of(0, number),
        Operator::Above => Range::of(0, number - 1),
        Operator::AtMost => Range::of(number, LEAST_BAD),
        Operator::Below => Range::of(number + 1, LEAST_BAD),
    };
    sound(range)
        .ok_or_else(|| "no severity is so: EMERGENCY is the worst, DEBUG the least".to_owned())
}

/// Reads yes or no: also `true`, `false`, `1` and `0`, in any case.
fn yes_or_no(text: &str) -> Option<Value> {
    let is = |words: [&str; 3]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(["yes", "true", "1"]) {
        Some(Value::Name("yes"))
    } else if is(["no", "false", "0"]) {
        Some(Value::Name(NO))
    } else {
        None
    }
}

/// Reads the name of a flag, in any case, with `-` or `_` between its words.
fn flag(text: &str) -> Option<Value> {
    let text = text.replace('-', "_");
    let mut names = Flag::ALL.into_iter().map(Flag::name);
    let name = names.find(|name| name.eq_ignore_ascii_case(&text));
    name.map(Value::Name)
}

/// Reads the first hexadecimal digits of a hash.
fn digits(text: &str) -> Option<Value> {
    let is_hex =
        (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| Value::Digits(text.to_ascii_lowercase()))
}

/// Reads a time, or a range of times, as whole seconds since 1970.
fn time(kind: Kind, operator: Operator, text: &str, now: DateTime<Utc>) -> Result<Range, String> {
    let one = |text: &str| moment(text, now).ok_or_else(|| format!("expected {}", expected(kind)));
    let from = |range: Range| Range {
        most: None,
        ..range
    };
    let up_to = |range: Range| Range {
        least: None,
        ..range
    };
    let range = match (kind, operator) {
        (Kind::Since, _) | (_, Operator::AtLeast) => from(one(text)?),
        (Kind::Until, _) | (_, Operator::AtMost) => up_to(one(text)?),
        (_, Operator::Above) => Range {
            least: one(text)?.most.and_then(|most| most.checked_add(1)),
            most: None,
        },
        (_, Operator::Below) => Range {
            least: None,
            most: one(text)?.least.and_then(|least| least.checked_sub(1)),
        },
        (_, Operator::Is) => match text.split_once("..") {
            Some(("", "")) => return Err(format!("expected {}", expected(kind))),
            Some((first, "")) => from(one(first)?),
            Some(("", last)) => up_to(one(last)?),
            Some((first, last)) => Range {
                least: one(first)?.least,
                most: one(last)?.most,
            },
            None if span::parse_with_unit(text).is_ok() => {
                return Err(format!(
                    "a span before now is no time: expected since:{text}"
                ));
            }
            None => one(text)?,
        },
    };
    let is_year = |second: Option<i64>| second.is_none_or(|second| YEARS.contains(second));
    if !is_year(range.least) || !is_year(range.most) {
        return Err("expected a time within the years 1970 to 9998".to_owned());
    }
    sound(range).ok_or_else(|| "the range ends before it begins".to_owned())
}

/// The seconds of the years 1970 to 9998: in each of them both databases compare as we do.
const YEARS: Range = Range {
    least: Some(0),
    most: Some(253_370_764_799),
};

/// Reads a time as the seconds for which it stands: those of a day, an hour, a minute, or one.
fn moment(text: &str, now: DateTime<Utc>) -> Option<Range> {
    if let Ok(span) = span::parse_with_unit(text) {
        let span = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
        return Some(Range::one(now.timestamp().saturating_sub(span).max(0)));
    }
    let (text, offset) = offset(text)?;
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let is_four_digits = |year: &str| year.len() == 4 && year.bytes().all(|b| b.is_ascii_digit());
    date.split('-').next().filter(|year| is_four_digits(year))?;
    let date = NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?;
    let (start, end) = match time {
        None => {
            let next = date.checked_add_days(Days::new(1))?;
            (date.and_time(NaiveTime::MIN), next.and_time(NaiveTime::MIN))
        }
        Some(time) => {
            let (time, length) = time_of_day(time)?;
            let start = date.and_time(time);
            (start, start.checked_add_signed(length)?)
        }
    };
    let seconds =
        |time: NaiveDateTime| Some(time.checked_sub_offset(offset)?.and_utc().timestamp());
    let range = Range::of(seconds(start)?, seconds(end)? - 1);
    (YEARS.contains(range.least?) && YEARS.contains(range.most?)).then_some(range)
}

/// Splits an offset from UTC off a time of day: `Z`, `+03:00`, or none.
fn offset(text: &str) -> Option<(&str, FixedOffset)> {
    let utc = FixedOffset::east_opt(0)?;
    if let Some(text) = text.strip_suffix(['Z', 'z']) {
        return Some((text, utc));
    }
    // A date has signs, too.
    let behind_date = "YYYY-MM-DD".len();
    let sign = text
        .get(behind_date..)
        .and_then(|time| time.rfind(['+', '-']));
    let Some(at) = sign.map(|at| at + behind_date) else {
        return Some((text, utc));
    };
    let (text, offset) = text.split_at_checked(at)?;
    Some((text, offset.parse().ok()?))
}

/// Reads the time of day, and how long what it names lasts: an hour, a minute or a second.
fn time_of_day(text: &str) -> Option<(NaiveTime, TimeDelta)> {
    let mut numbers = text.split(':').map(|number| {
        let is_number = number.len() == 2 && number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse::<u32>().ok().filter(|_| is_number)
    });
    let hour = numbers.next()??;
    let (minute, second) = (numbers.next(), numbers.next());
    if numbers.next().is_some() {
        return None;
    }
    let length = match (minute, second) {
        (None, _) => TimeDelta::hours(1),
        (_, None) => TimeDelta::minutes(1),
        _ => TimeDelta::seconds(1),
    };
    let (minute, second) = (minute.unwrap_or(Some(0))?, second.unwrap_or(Some(0))?);
    Some((NaiveTime::from_hms_opt(hour, minute, second)?, length))
}

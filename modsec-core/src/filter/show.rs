//! From tree to text.

use std::fmt::{self, Write as _};

use chrono::DateTime;
use ipnet::IpNet;

use super::Filter;
use super::field::{Field, Kind};
use super::pattern::Pattern;
use super::tree::{Node, Range, Value};
use crate::record::Severity;

impl fmt::Display for Filter {
    /// Writes a text that is read as the same filter, whatever the time: a span such as `since:2h` has
    /// become a time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        node(f, &self.root)
    }
}

/// Writes a condition without parentheses around it.
fn node(f: &mut fmt::Formatter<'_>, it: &Node) -> fmt::Result {
    match it {
        Node::All(nodes) => joined(f, nodes, " ", term),
        // AND binds more than OR: needless parentheses would be one level more for the reader to refuse.
        Node::Any(nodes) => joined(f, nodes, " OR ", node),
        Node::Not(inner) => {
            f.write_char('-')?;
            term(f, inner)
        }
        Node::Test { field, values } => test(f, field, values),
        Node::Text(pattern) => {
            // The first and the last part are empty.
            let parts = pattern.parts();
            let parts = parts.get(1..parts.len() - 1).unwrap_or_default();
            words(f, parts, is_plain_text)
        }
    }
}

/// Writes conditions with a word in between, each by `one`.
fn joined(
    f: &mut fmt::Formatter<'_>,
    nodes: &[Node],
    word: &str,
    one: fn(&mut fmt::Formatter<'_>, &Node) -> fmt::Result,
) -> fmt::Result {
    for (at, it) in nodes.iter().enumerate() {
        if at > 0 {
            f.write_str(word)?;
        }
        one(f, it)?;
    }
    Ok(())
}

/// Writes a condition as one term: in parentheses if it joins others.
fn term(f: &mut fmt::Formatter<'_>, it: &Node) -> fmt::Result {
    if matches!(it, Node::All(_) | Node::Any(_)) {
        f.write_char('(')?;
        node(f, it)?;
        f.write_char(')')
    } else {
        node(f, it)
    }
}

/// Writes a name with its values, several of them as a list in parentheses.
fn test(f: &mut fmt::Formatter<'_>, field: &Field, values: &[Value]) -> fmt::Result {
    write!(f, "{}:", field.name)?;
    if let [only] = values {
        return value(f, field.kind, only);
    }
    f.write_char('(')?;
    for (at, it) in values.iter().enumerate() {
        if at > 0 {
            f.write_char(',')?;
        }
        value(f, field.kind, it)?;
    }
    f.write_char(')')
}

/// Writes a value, with its operator if that is not `:`.
fn value(f: &mut fmt::Formatter<'_>, kind: Kind, it: &Value) -> fmt::Result {
    match it {
        Value::Network(network) => client(f, *network),
        Value::Pattern(pattern) => words_of(f, pattern),
        Value::Range(range) if kind == Kind::Severity => severities(f, *range),
        Value::Range(it) if kind == Kind::Time => range(f, *it, time),
        Value::Range(it) => range(f, *it, |number| number.to_string()),
        Value::Name(name) => f.write_str(name),
        Value::Digits(digits) => f.write_str(digits),
    }
}

/// Writes a network; one of a single address as that.
fn client(f: &mut fmt::Formatter<'_>, network: IpNet) -> fmt::Result {
    if network.prefix_len() == network.max_prefix_len() {
        write!(f, "{}", network.addr())
    } else {
        write!(f, "{network}")
    }
}

/// Writes a range of numbers, each by `one`.
fn range(f: &mut fmt::Formatter<'_>, it: Range, one: fn(i64) -> String) -> fmt::Result {
    match (it.least.map(one), it.most.map(one)) {
        (Some(least), Some(most)) if least == most => f.write_str(&least),
        (Some(least), Some(most)) => write!(f, "{least}..{most}"),
        (Some(least), None) => write!(f, ">={least}"),
        (None, Some(most)) => write!(f, "<={most}"),
        // The parser makes none.
        (None, None) => f.write_str(".."),
    }
}

/// Writes a range of severities by name, the worst first. Above means worse: `>=ERROR` is 0 to
/// 3.
fn severities(f: &mut fmt::Formatter<'_>, it: Range) -> fmt::Result {
    let name = |number: Option<i64>| {
        let number = number.and_then(|number| u8::try_from(number).ok());
        number
            .and_then(Severity::from_number)
            .map_or("", Severity::name)
    };
    let (worst, least) = (name(it.least), name(it.most));
    match (it.least, it.most) {
        _ if it.least == it.most => f.write_str(worst),
        (Some(0), _) => write!(f, ">={least}"),
        (_, Some(7)) => write!(f, "<={worst}"),
        _ => write!(f, "{worst}..{least}"),
    }
}

/// Returns a second since the Unix epoch as `YYYY-MM-DDTHH:MM:SS`, which the parser takes for
/// UTC.
fn time(seconds: i64) -> String {
    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    time.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Writes the pattern of a value, with quotes where a value needs them.
fn words_of(f: &mut fmt::Formatter<'_>, pattern: &Pattern) -> fmt::Result {
    words(f, pattern.parts(), is_plain_value)
}

/// Writes parts with stars in between, each in quotes unless it is `plain`. An empty text is two quotes.
fn words(f: &mut fmt::Formatter<'_>, parts: &[String], plain: fn(&str) -> bool) -> fmt::Result {
    if let [only] = parts
        && only.is_empty()
    {
        return f.write_str("\"\"");
    }
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            f.write_char('*')?;
        }
        if part.is_empty() || plain(part) {
            f.write_str(part)?;
            continue;
        }
        f.write_char('"')?;
        for char in part.chars() {
            if matches!(char, '"' | '\\') {
                f.write_char('\\')?;
            }
            f.write_char(char)?;
        }
        f.write_char('"')?;
    }
    Ok(())
}

/// Returns `true` for a value that means the same without quotes.
fn is_plain_value(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:-{}".contains(&byte);
    text.bytes().all(is_plain)
}

/// Returns `true` for a text without a name that means the same without quotes.
fn is_plain_text(text: &str) -> bool {
    let is_keyword = ["and", "or", "not"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(text));
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./-".contains(&byte);
    text.bytes().all(is_plain) && !text.starts_with('-') && !is_keyword
}

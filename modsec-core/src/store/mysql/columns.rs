//! What the columns of a table can hold, and values made to fit.
//!
//! The widths are read from the server, as an old table has others than a new one. Cutting is done
//! here and not left to the server, which would round a time into the next second, warn of every
//! value, and, if it takes no notice of the session's mode, refuse the statement.
//!
//! ```text
//! value                     column                        sent
//! "日本語文"                varchar(3)                    "日本語"       cut by characters
//! "日本語"                  tinytext of 7 bytes           "日本"         cut by bytes
//! 99999999999               int                           2147483647     nearest number
//! "my-rule"                 int (ruleId of an old table)  null           no number
//! 10:15:00.999999           timestamp(0)                  10:15:00       not rounded
//! null                      varchar not null              ""             see NullSubstitute
//! ```
//!
//! Characters that a column's character set lacks (`latin1` in old tables) become question marks in
//! the server, which is asked to convert. Left to itself, MySQL refuses them since 8.0.22.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Value as MyValue};

use crate::store::Value;
use crate::store::row::{MAX_TEXT, client_key, cut, sql_time};

/// Seconds since 1970 that a `timestamp` column holds: up to 2038-01-19 03:14:07 UTC. Newer MariaDB
/// knows more, but not every server does.
const TIMESTAMP_RANGE: std::ops::RangeInclusive<i64> = 1..=2_147_483_647;

/// What matters of one column, as the server describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Column {
    /// Its type and size.
    kind: Kind,
    /// What it gets where there is no value.
    null_substitute: NullSubstitute,
}

/// What a column gets in place of a value that is not known.
///
/// A column that takes no null must get something else from us: whether the server would put it
/// there or refuse the statement depends on the number of rows in the statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NullSubstitute {
    /// Null: the column takes it.
    Nothing,
    /// The empty text.
    Empty,
    /// The number 0.
    Zero,
    /// The time of storing.
    Now,
}

/// What a column can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text of so many characters.
    Characters(usize),
    /// Text of so many bytes.
    Bytes(usize),
    /// Whole numbers from the first to the second.
    Integers(i64, i64),
    /// A point in time with so many digits of the second.
    Time {
        /// Digits of the second behind the point, 0 to 6.
        digits: usize,
        /// `true` for `timestamp`, which has the range [`TIMESTAMP_RANGE`]; `false` for `datetime`.
        timestamp: bool,
    },
    /// A type that none of our migrations makes, such as `json` or `double`. Values go through as
    /// they are.
    Other,
}

/// One row of `information_schema.columns`: name, type, the type in full, size in characters or
/// bytes, character set, digits of the second, and whether it takes null (`YES` or `NO`).
type Described = (
    String,
    String,
    String,
    Option<u64>,
    Option<String>,
    Option<u64>,
    String,
);

/// The columns of a table, as far as they are written to.
#[derive(Debug)]
pub(super) struct Columns {
    /// In the order of the values.
    columns: Vec<Column>,
    /// What stands for each value in a statement: `?`, or a conversion of it.
    placeholders: Vec<String>,
}

impl Columns {
    /// Returns the values as the columns can hold them, each with at most `most` bytes of text.
    /// Where there must be a time and none is known, it is `now`.
    ///
    /// Yields as many values as the table has columns, in their order. Cannot fail.
    pub(super) fn fit<'a>(
        &self,
        values: impl IntoIterator<Item = Value<'a>>,
        most: usize,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = MyValue> {
        let pairs = self.columns.iter().zip(values);
        pairs.map(move |(column, value)| column.fit(&value, most, now))
    }

    /// Returns what stands for the values of one row in a statement, such as `?, ?, convert(… using
    /// latin1)`.
    pub(super) fn placeholders(&self) -> String {
        self.placeholders.join(", ")
    }

    /// Returns `NAME = ?, …` for the columns, whose names are `names`.
    pub(super) fn assignments(&self, names: &[&str]) -> String {
        let pairs = names.iter().zip(&self.placeholders);
        let assignments: Vec<_> = pairs
            .map(|(name, place)| format!("{name} = {place}"))
            .collect();
        assignments.join(", ")
    }
}

/// Returns the columns of a table of the current database in the order of `names`.
///
/// A column that the account cannot see holds whatever the server says when it is written to.
///
/// # Errors
///
/// Those of the connection. A missing table is none: all its columns are then unknown, and the
/// statement that writes to it fails.
pub(super) async fn describe(
    conn: &mut Conn,
    table: &str,
    names: &[&str],
) -> Result<Columns, Error> {
    let rows: Vec<Described> = conn
        .exec(
            "select column_name, data_type, column_type, character_maximum_length,
                    character_set_name, datetime_precision, is_nullable
             from information_schema.columns
             where table_schema = database() and table_name = ?",
            (table,),
        )
        .await?;
    let described: HashMap<String, Described> = rows
        .into_iter()
        .map(|described| (described.0.to_lowercase(), described))
        .collect();
    let (columns, placeholders) = names
        .iter()
        .map(|name| match described.get(&name.to_lowercase()) {
            Some(described) => (Column::new(described), placeholder(described.4.as_deref())),
            None => (Column::UNKNOWN, placeholder(None)),
        })
        .unzip();
    Ok(Columns {
        columns,
        placeholders,
    })
}

/// Returns what stands for a value in a statement; the value itself is `utf8mb4`.
///
/// The inner conversion keeps MySQL from taking the value for one of the outer character set,
/// into which it would have to be converted before.
fn placeholder(charset: Option<&str>) -> String {
    match charset {
        None | Some("utf8mb4") => "?".to_owned(),
        Some(charset) => format!("convert(convert(? using utf8mb4) using {charset})"),
    }
}

impl Column {
    /// A column that `information_schema` does not show.
    const UNKNOWN: Column = Column {
        kind: Kind::Other,
        null_substitute: NullSubstitute::Nothing,
    };

    /// Reads what matters of a column's description.
    fn new(described: &Described) -> Column {
        Column {
            kind: Kind::new(described),
            null_substitute: NullSubstitute::new(&described.1, &described.6),
        }
    }

    /// Returns the value as the column can hold it, with at most `most` bytes of text.
    fn fit(self, value: &Value<'_>, most: usize, now: DateTime<Utc>) -> MyValue {
        match (self.kind.fit(value, most), self.null_substitute) {
            (MyValue::NULL, NullSubstitute::Empty) => MyValue::Bytes(Vec::new()),
            (MyValue::NULL, NullSubstitute::Zero) => MyValue::Int(0),
            (MyValue::NULL, NullSubstitute::Now) => self.kind.fit(&Value::Time(now), most),
            (value, _) => value,
        }
    }
}

impl NullSubstitute {
    /// Returns the substitute for a column of this type: nothing if it takes null, else the time of
    /// storing for times, 0 for numbers, and the empty text for all others.
    fn new(data_type: &str, is_nullable: &str) -> NullSubstitute {
        if !is_nullable.eq_ignore_ascii_case("no") {
            return NullSubstitute::Nothing;
        }
        let data_type = data_type.to_lowercase();
        match data_type.as_str() {
            "timestamp" | "datetime" | "date" | "time" => NullSubstitute::Now,
            "decimal" | "float" | "double" | "bit" | "year" => NullSubstitute::Zero,
            _ if data_type.ends_with("int") || data_type == "integer" => NullSubstitute::Zero,
            _ => NullSubstitute::Empty,
        }
    }
}

impl Kind {
    /// Sorts a described type. Names of types are those of `information_schema`, without size.
    fn new((_, data_type, column_type, length, charset, digits, _): &Described) -> Kind {
        let length = length.map_or(usize::MAX, |length| {
            usize::try_from(length).unwrap_or(usize::MAX)
        });
        let digits = digits
            .and_then(|digits| usize::try_from(digits).ok())
            .unwrap_or_default();
        let unsigned = column_type.contains("unsigned");
        match data_type.to_lowercase().as_str() {
            "char" | "varchar" => Kind::Characters(length),
            // Sets with two or four bytes for every character hold fewer than UTF-8 promises.
            _ if charset.is_some() => Kind::Bytes(length / width(charset.as_deref())),
            "tinyint" => integers(8, unsigned),
            "smallint" => integers(16, unsigned),
            "mediumint" => integers(24, unsigned),
            "int" | "integer" => integers(32, unsigned),
            "bigint" => integers(64, unsigned),
            "timestamp" => Kind::Time {
                digits,
                timestamp: true,
            },
            "datetime" => Kind::Time {
                digits,
                timestamp: false,
            },
            _ => Kind::Other,
        }
    }

    /// Returns the value as the column can hold it, with at most `most` bytes of text.
    fn fit(self, value: &Value<'_>, most: usize) -> MyValue {
        match (value, self) {
            (Value::Null, _) => MyValue::NULL,
            (Value::Hash(hash), _) => MyValue::Bytes(hash.as_bytes().to_vec()),
            (Value::Address(ip), _) => MyValue::Bytes(client_key(*ip).to_vec()),
            (Value::Int(number), Kind::Integers(least, greatest)) => {
                MyValue::Int((*number).clamp(least, greatest))
            }
            (Value::Int(number), Kind::Time { .. } | Kind::Other) => MyValue::Int(*number),
            (Value::Int(number), _) => self.fit_text(&number.to_string(), most),
            (Value::Text(text), _) => self.fit_text(text, most),
            (Value::Time(time), Kind::Time { digits, timestamp }) => {
                fit_time(time, digits, timestamp)
            }
            (Value::Time(time), _) => {
                sql_time(time).map_or(MyValue::NULL, |time| self.fit_text(&time, most))
            }
        }
    }

    /// Returns a text as the column can hold it: cut to its size and to `most` bytes; as a number
    /// where the column has numbers, or null if it is none.
    fn fit_text(self, text: &str, most: usize) -> MyValue {
        let text = match self {
            Kind::Characters(count) => match text.char_indices().nth(count) {
                Some((end, _)) => &text[..end],
                None => text,
            },
            Kind::Bytes(count) => cut(text, count),
            Kind::Integers(least, greatest) => {
                let number = text.trim().parse::<i64>().ok();
                return number.map_or(MyValue::NULL, |number| {
                    MyValue::Int(number.clamp(least, greatest))
                });
            }
            Kind::Time { .. } | Kind::Other => text,
        };
        MyValue::Bytes(cut(text, most.min(MAX_TEXT)).as_bytes().to_vec())
    }
}

/// Returns how many bytes a character of this set may take, where that is the same for all; else 1,
/// as `UTF-8` texts are measured in bytes.
fn width(charset: Option<&str>) -> usize {
    match charset {
        Some("ucs2" | "utf16" | "utf16le" | "utf32") => 4,
        _ => 1,
    }
}

/// Returns the range of whole numbers with so many bits. An unsigned 64-bit column is used up to
/// `i64::MAX` only, since values are signed.
fn integers(bits: u32, unsigned: bool) -> Kind {
    let greatest = i64::MAX >> (64 - bits);
    if !unsigned {
        return Kind::Integers(-greatest - 1, greatest);
    }
    Kind::Integers(0, greatest.saturating_mul(2).saturating_add(1))
}

/// Returns an instant with as many digits as the column has, or null outside of its range.
fn fit_time(time: &DateTime<Utc>, digits: usize, timestamp: bool) -> MyValue {
    let in_range = !timestamp || TIMESTAMP_RANGE.contains(&time.timestamp());
    // The server would round what is left over, which moves an instant into the next second.
    let length = "YYYY-MM-DD HH:MM:SS".len() + if digits == 0 { 0 } else { 1 + digits.min(6) };
    match sql_time(time).filter(|_| in_range) {
        Some(text) => MyValue::Bytes(cut(&text, length).as_bytes().to_vec()),
        None => MyValue::NULL,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use chrono::TimeZone as _;

    use super::*;

    fn kind(data_type: &str, length: Option<u64>, charset: &str, digits: u64) -> Kind {
        let (name, unsigned) = data_type.split_once(' ').unwrap_or((data_type, ""));
        let charset = (!charset.is_empty()).then(|| charset.to_owned());
        let column_type = format!("{name}(1) {unsigned}");
        Kind::new(&(
            String::new(),
            name.to_owned(),
            column_type,
            length,
            charset,
            Some(digits),
            "YES".to_owned(),
        ))
    }

    fn text(text: &str) -> Value<'_> {
        Value::Text(Cow::Borrowed(text))
    }

    #[test]
    fn only_old_character_sets_are_converted_to() {
        for (charset, want) in [
            (None, "?"),
            (Some("utf8mb4"), "?"),
            (
                Some("latin1"),
                "convert(convert(? using utf8mb4) using latin1)",
            ),
        ] {
            assert_eq!(placeholder(charset), want, "{charset:?}");
        }
    }

    #[test]
    fn text_is_cut_by_characters_or_by_bytes() {
        let varchar = kind("varchar", Some(3), "utf8mb4", 0);
        assert_eq!(varchar.fit(&text("日本語文"), 100), MyValue::from("日本語"));
        assert_eq!(varchar.fit(&text("日本語文"), 7), MyValue::from("日本"));
        assert_eq!(varchar.fit(&text("日"), 100), MyValue::from("日"));
        let tiny = kind("tinytext", Some(7), "utf8mb4", 0);
        assert_eq!(tiny.fit(&text("日本語"), 100), MyValue::from("日本"));
        let wide = kind("text", Some(8), "utf16", 0);
        assert_eq!(wide.fit(&text("abcdef"), 100), MyValue::from("ab"));
    }

    #[test]
    fn numbers_are_clamped_to_their_kind() {
        for (data_type, number, want) in [
            ("int", i64::MAX, i64::from(i32::MAX)),
            ("int", i64::MIN, i64::from(i32::MIN)),
            ("int unsigned", -1, 0),
            ("int unsigned", i64::MAX, i64::from(u32::MAX)),
            ("tinyint", 999, 127),
            ("tinyint unsigned", 999, 255),
            ("mediumint", -9_999_999, -8_388_608),
            ("bigint", i64::MIN, i64::MIN),
            ("bigint unsigned", i64::MAX, i64::MAX),
        ] {
            let kind = kind(data_type, None, "", 0);
            let found = kind.fit(&Value::Int(number), 100);
            assert_eq!(found, MyValue::Int(want), "{number} in {data_type}");
        }
    }

    #[test]
    fn column_of_another_type_gets_what_it_can_hold() {
        let int = kind("int", None, "", 0);
        assert_eq!(int.fit(&text("942100"), 100), MyValue::Int(942_100));
        assert_eq!(int.fit(&text("my-rule"), 100), MyValue::NULL);
        let varchar = kind("varchar", Some(2), "utf8mb4", 0);
        assert_eq!(varchar.fit(&Value::Int(403), 100), MyValue::from("40"));
    }

    #[test]
    fn time_has_the_digits_and_the_range_of_its_kind() {
        let time = |seconds| Value::Time(Utc.timestamp_opt(seconds, 999_999_000).unwrap());
        for (data_type, digits, seconds, want) in [
            ("timestamp", 0, 0x7fff_ffff, Some("2038-01-19 03:14:07")),
            ("timestamp", 6, 1, Some("1970-01-01 00:00:01.999999")),
            ("timestamp", 3, 1, Some("1970-01-01 00:00:01.999")),
            ("timestamp", 0, 0, None),
            ("timestamp", 0, 0x8000_0000, None),
            ("datetime", 0, 0x8000_0000, Some("2038-01-19 03:14:08")),
            ("datetime", 0, i64::from(u32::MAX) * 1000, None),
        ] {
            let found = kind(data_type, None, "", digits).fit(&time(seconds), 100);
            let want = want.map_or(MyValue::NULL, MyValue::from);
            assert_eq!(found, want, "{seconds} in {data_type}({digits})");
        }
    }

    #[test]
    fn column_that_takes_no_null_gets_a_value() {
        let now = Utc.timestamp_opt(1, 500_000_000).unwrap();
        for (data_type, nullable, want) in [
            ("varchar", "YES", MyValue::NULL),
            ("timestamp", "YES", MyValue::NULL),
            ("varchar", "NO", MyValue::from("")),
            ("text", "NO", MyValue::from("")),
            ("int", "NO", MyValue::Int(0)),
            ("bigint", "NO", MyValue::Int(0)),
            ("double", "NO", MyValue::Int(0)),
            ("timestamp", "NO", MyValue::from("1970-01-01 00:00:01.5")),
        ] {
            let column = Column {
                kind: kind(data_type, Some(10), "", 1),
                null_substitute: NullSubstitute::new(data_type, nullable),
            };
            let found = column.fit(&Value::Null, 100, now);
            assert_eq!(found, want, "{data_type} {nullable}");
        }
        let column = Column {
            kind: kind("timestamp", None, "", 1),
            null_substitute: NullSubstitute::Now,
        };
        let late = Utc.timestamp_opt(0x8000_0000, 0).unwrap();
        let found = column.fit(&Value::Time(late), 100, now);
        assert_eq!(found, MyValue::from("1970-01-01 00:00:01.5"));
    }
}

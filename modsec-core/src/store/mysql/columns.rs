//! What the columns of a table can hold, and values made to fit.
//!
//! The widths are read from the server, as an old table has others than a new one. Cutting is
//! done here and not left to the server, which would round a time into the next second, warn of
//! every value, and, if it takes no notice of the session's mode, refuse the statement.
//!
//! Characters that a column's character set lacks (`latin1` in old tables) become question marks
//! in the server, which is asked to convert. Left to itself, `MySQL` refuses them since 8.0.22.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Value as MyValue};

use crate::store::Value;
use crate::store::row::{MAX_TEXT, cut, sql_time};

/// Seconds since 1970 that a `timestamp` column holds. Newer `MariaDB` knows more, but not every
/// server does.
const TIMESTAMP_RANGE: std::ops::RangeInclusive<i64> = 1..=2_147_483_647;

/// What one column can hold, as the server describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    /// Text of so many characters.
    Characters(usize),
    /// Text of so many bytes.
    Bytes(usize),
    Integers(i64, i64),
    /// A point in time with so many digits of the second.
    Time {
        digits: usize,
        timestamp: bool,
    },
    /// Whatever it is, not by us.
    Other,
}

type Described = (
    String,
    String,
    String,
    Option<u64>,
    Option<String>,
    Option<u64>,
);

/// The columns of a table, as far as they are written to.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    /// What stands for each value in a statement.
    placeholders: Vec<String>,
}

impl Columns {
    /// Returns the values as the columns can hold them, each with at most `most` bytes of text.
    pub(super) fn fit<'a>(
        &self,
        values: impl IntoIterator<Item = Value<'a>>,
        most: usize,
    ) -> impl Iterator<Item = MyValue> {
        let pairs = self.columns.iter().zip(values);
        pairs.map(move |(column, value)| column.fit(&value, most))
    }

    /// Returns what stands for the values of one row in a statement.
    pub(super) fn placeholders(&self) -> String {
        self.placeholders.join(", ")
    }
}

/// Returns the columns of a table of the current database in the order of `names`.
///
/// A column that the account cannot see holds whatever the server says when it is written to.
pub(super) async fn describe(
    conn: &mut Conn,
    table: &str,
    names: &[&str],
) -> Result<Columns, Error> {
    let rows: Vec<Described> = conn
        .exec(
            "select column_name, data_type, column_type, character_maximum_length,
                    character_set_name, datetime_precision
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
            None => (Column::Other, placeholder(None)),
        })
        .unzip();
    Ok(Columns {
        columns,
        placeholders,
    })
}

/// Returns what stands for a value in a statement; the value itself is `utf8mb4`.
///
/// The inner conversion keeps `MySQL` from taking the value for one of the outer character set,
/// into which it would have to be converted before.
fn placeholder(charset: Option<&str>) -> String {
    match charset {
        None | Some("utf8mb4") => "?".to_owned(),
        Some(charset) => format!("convert(convert(? using utf8mb4) using {charset})"),
    }
}

impl Column {
    fn new((_, data_type, column_type, length, charset, digits): &Described) -> Column {
        let length = length.map_or(usize::MAX, |length| {
            usize::try_from(length).unwrap_or(usize::MAX)
        });
        let digits = digits
            .and_then(|digits| usize::try_from(digits).ok())
            .unwrap_or_default();
        let unsigned = column_type.contains("unsigned");
        match data_type.to_lowercase().as_str() {
            "char" | "varchar" => Column::Characters(length),
            // Sets with two or four bytes for every character hold fewer than UTF-8 promises.
            _ if charset.is_some() => Column::Bytes(length / width(charset.as_deref())),
            "tinyint" => integers(8, unsigned),
            "smallint" => integers(16, unsigned),
            "mediumint" => integers(24, unsigned),
            "int" | "integer" => integers(32, unsigned),
            "bigint" => integers(64, unsigned),
            "timestamp" => Column::Time {
                digits,
                timestamp: true,
            },
            "datetime" => Column::Time {
                digits,
                timestamp: false,
            },
            _ => Column::Other,
        }
    }

    /// Returns the value as the column can hold it, with at most `most` bytes of text.
    fn fit(self, value: &Value<'_>, most: usize) -> MyValue {
        match (value, self) {
            (Value::Null, _) => MyValue::NULL,
            (Value::Hash(hash), _) => MyValue::Bytes(hash.as_bytes().to_vec()),
            (Value::Int(number), Column::Integers(least, greatest)) => {
                MyValue::Int((*number).clamp(least, greatest))
            }
            (Value::Int(number), Column::Time { .. } | Column::Other) => MyValue::Int(*number),
            (Value::Int(number), _) => self.fit_text(&number.to_string(), most),
            (Value::Text(text), _) => self.fit_text(text, most),
            (Value::Time(time), Column::Time { digits, timestamp }) => {
                fit_time(time, digits, timestamp)
            }
            (Value::Time(time), _) => {
                sql_time(time).map_or(MyValue::NULL, |time| self.fit_text(&time, most))
            }
        }
    }

    fn fit_text(self, text: &str, most: usize) -> MyValue {
        let text = match self {
            Column::Characters(count) => match text.char_indices().nth(count) {
                Some((end, _)) => &text[..end],
                None => text,
            },
            Column::Bytes(count) => cut(text, count),
            Column::Integers(least, greatest) => {
                let number = text.trim().parse::<i64>().ok();
                return number.map_or(MyValue::NULL, |number| {
                    MyValue::Int(number.clamp(least, greatest))
                });
            }
            Column::Time { .. } | Column::Other => text,
        };
        MyValue::Bytes(cut(text, most.min(MAX_TEXT)).as_bytes().to_vec())
    }
}

fn width(charset: Option<&str>) -> usize {
    match charset {
        Some("ucs2" | "utf16" | "utf16le" | "utf32") => 4,
        _ => 1,
    }
}

fn integers(bits: u32, unsigned: bool) -> Column {
    let greatest = i64::MAX >> (64 - bits);
    if !unsigned {
        return Column::Integers(-greatest - 1, greatest);
    }
    Column::Integers(0, greatest.saturating_mul(2).saturating_add(1))
}

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

    fn column(data_type: &str, length: Option<u64>, charset: &str, digits: u64) -> Column {
        let (name, unsigned) = data_type.split_once(' ').unwrap_or((data_type, ""));
        let charset = (!charset.is_empty()).then(|| charset.to_owned());
        let column_type = format!("{name}(1) {unsigned}");
        Column::new(&(
            String::new(),
            name.to_owned(),
            column_type,
            length,
            charset,
            Some(digits),
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
        let varchar = column("varchar", Some(3), "utf8mb4", 0);
        assert_eq!(varchar.fit(&text("日本語文"), 100), MyValue::from("日本語"));
        assert_eq!(varchar.fit(&text("日本語文"), 7), MyValue::from("日本"));
        assert_eq!(varchar.fit(&text("日"), 100), MyValue::from("日"));
        let tiny = column("tinytext", Some(7), "utf8mb4", 0);
        assert_eq!(tiny.fit(&text("日本語"), 100), MyValue::from("日本"));
        let wide = column("text", Some(8), "utf16", 0);
        assert_eq!(wide.fit(&text("abcdef"), 100), MyValue::from("ab"));
    }

    #[test]
    fn numbers_are_clamped_to_their_column() {
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
            let column = column(data_type, None, "", 0);
            let found = column.fit(&Value::Int(number), 100);
            assert_eq!(found, MyValue::Int(want), "{number} in {data_type}");
        }
    }

    #[test]
    fn column_of_another_type_gets_what_it_can_hold() {
        let int = column("int", None, "", 0);
        assert_eq!(int.fit(&text("942100"), 100), MyValue::Int(942_100));
        assert_eq!(int.fit(&text("my-rule"), 100), MyValue::NULL);
        let varchar = column("varchar", Some(2), "utf8mb4", 0);
        assert_eq!(varchar.fit(&Value::Int(403), 100), MyValue::from("40"));
    }

    #[test]
    fn time_has_the_digits_and_the_range_of_its_column() {
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
            let found = column(data_type, None, "", digits).fit(&time(seconds), 100);
            let want = want.map_or(MyValue::NULL, MyValue::from);
            assert_eq!(found, want, "{seconds} in {data_type}({digits})");
        }
    }
}

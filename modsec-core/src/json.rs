//! One transaction as one line of JSON, for `--jsonl` and for programs that read it.
//!
//! ```json
//! {"REQUEST_METHOD":"GET","REQUEST_URI":"/?id=1%27","REMOTE_ADDR":"192.0.2.7","ruleId":"942100",
//!  "created_at":"2026-08-22T10:15:00.000001+02:00",
//!  "entry_hash":"af1349b9f5f9a1a6a0404dea36dcc949","intercepted":true,"flags":["truncated"],
//!  "rule_matches":[{"ruleId":"942100","tags":["attack-sqli"]}]}
//! ```
//!
//! (shortened, and on four lines for this page). Keys are the columns of the tables, so queries in
//! SQL and filters in `jq` use the same words. Every key is always there; what is not known is
//! `null`.

use std::borrow::Cow;

use chrono::{Local, SecondsFormat};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::entry_hash::EntryHash;
use crate::record::{Alert, Flag, Record};
use crate::store::{LOG_COLUMNS, RULE_COLUMNS, Row, RuleRow, Value, client_key, sql_time};
use crate::text::visible_json;

/// Writes a transaction as one JSON object, without a line feed.
///
/// `row` must have been made of `record`. Values are those of the database columns, except that
/// `created_at` is ISO 8601 with the server's own offset, `flags` and `tags` are arrays, and
/// `rule_matches` has every alert in the order of the log. Absent values are `null`. Characters
/// that a terminal would not show, or would obey, are escaped (`\u202e`), so a line can be shown as
/// it is.
///
/// Cannot fail.
///
/// ```
/// use modsec_core::record::Record;
/// use modsec_core::store::{Origin, Row};
/// use modsec_core::{EntryHash, json};
///
/// let record = Record::default();
/// let row = Row::new(&record, EntryHash::of(b"entry"), &Origin::default(), None);
/// let line = json::line(&record, &row);
/// assert!(line.starts_with(r#"{"REQUEST_METHOD":null,"#));
/// assert!(line.contains(r#""intercepted":false,"flags":[],"blocked_by":null,"#));
/// assert!(line.ends_with(r#""rule_matches":[]}"#));
/// ```
pub fn line(record: &Record<'_>, row: &Row) -> String {
    // Strings and numbers always serialise; all keys are strings.
    let json = serde_json::to_string(&Transaction { record, row }).unwrap_or_default();
    match visible_json(&json) {
        Cow::Owned(shown) => shown,
        Cow::Borrowed(_) => json,
    }
}

/// The object: the columns of `logs`, the path, and the alerts.
struct Transaction<'r> {
    /// What was decoded, for values that a column has in another form.
    record: &'r Record<'r>,
    /// The columns.
    row: &'r Row,
}

impl Serialize for Transaction<'_> {
    /// Writes the columns in the order of [`LOG_COLUMNS`]; `path` follows `entry_hash`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Transaction { record, row } = self;
        let mut map = serializer.serialize_map(None)?;
        for (column, value) in LOG_COLUMNS.into_iter().zip(row.values()) {
            match column {
                "created_at" => {
                    let time = record.instant(&Local);
                    let time = time.map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, false));
                    map.serialize_entry(column, &time)?;
                }
                "entry_hash" => {
                    map.serialize_entry(column, &Column(value))?;
                    let path = row.path.as_ref().map(|path| path.to_string_lossy());
                    map.serialize_entry("path", &path)?;
                }
                "intercepted" => map.serialize_entry(column, &row.intercepted)?,
                "sole" => map.serialize_entry(column, &row.is_sole)?,
                "flags" => {
                    let flags: Vec<_> = record.flags.iter().map(Flag::name).collect();
                    map.serialize_entry(column, &flags)?;
                }
                _ => map.serialize_entry(column, &Column(value))?,
            }
        }
        let alerts = record.alerts.iter().zip(&row.rule_matches);
        let matches: Vec<_> = alerts
            .map(|(alert, row)| RuleMatch { alert, row })
            .collect();
        map.serialize_entry("rule_matches", &matches)?;
        map.end()
    }
}

/// One alert: the columns of `rule_matches`.
struct RuleMatch<'r> {
    /// What was decoded, for the tags.
    alert: &'r Alert<'r>,
    /// The columns.
    row: &'r RuleRow,
}

impl Serialize for RuleMatch<'_> {
    /// Writes the columns in the order of [`RULE_COLUMNS`]. Tags are an array of all of them, also
    /// of those that do not fit into the column.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (column, value) in RULE_COLUMNS.into_iter().zip(self.row.values()) {
            match column {
                "tags" => {
                    let tags = self.alert.tags.iter().map(|tag| tag.to_str_lossy());
                    map.serialize_entry(column, &tags.collect::<Vec<_>>())?;
                }
                "verified" => map.serialize_entry(column, &self.row.verified)?,
                _ => map.serialize_entry(column, &Column(value))?,
            }
        }
        map.end()
    }
}

/// A value as it is in its column: null, a number or a text; hash and key as 32 hexadecimal digits.
struct Column<'a>(Value<'a>);

impl Serialize for Column<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Value::Null => serializer.serialize_none(),
            Value::Int(number) => serializer.serialize_i64(*number),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Hash(hash) => serializer.collect_str(hash),
            Value::Address(ip) => serializer.collect_str(&EntryHash::from_bytes(client_key(*ip))),
            Value::Time(time) => sql_time(time).serialize(serializer),
        }
    }
}

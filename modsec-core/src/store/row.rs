//! A record as database columns: order, units and limits, once for every backend.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;

use chrono::{DateTime, Local, Utc};

use crate::entry_hash::EntryHash;
use crate::record::{Alert, EngineMode, Record, Severity};
use crate::text::Text;

/// Bytes kept of one text, as UTF-8: what a `text` column of `MySQL` holds. All backends cut here,
/// so that they hold the same. The merged log has the whole entry.
pub const MAX_TEXT: usize = 65_535;

/// What is known of an entry from where it was found, not from its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Origin {
    /// Name of the host that wrote the entry.
    pub sensor: Option<String>,
    /// Owner of the file: the account of the site under MPM-ITK.
    pub account: Option<String>,
    /// The file. Not a column; messages about the row name it.
    pub path: Option<PathBuf>,
}

/// One entry as a row of the table `logs`, with its rows of `rule_matches`.
///
/// Rule fields come from [`Record::primary`] alone. Bytes that are not UTF-8 are decoded
/// lossily; besides that and the cut at [`MAX_TEXT`], values are those of the entry.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// Unique in the store.
    pub entry_hash: EntryHash,
    /// `REQUEST_METHOD`.
    pub method: Option<String>,
    /// `REQUEST_URI`.
    pub uri: Option<String>,
    /// `REMOTE_ADDR`: the peer's address as logged.
    pub remote_addr: Option<String>,
    /// `ruleId`, text as the engine does not demand a number.
    pub rule_id: Option<String>,
    /// `Host`.
    pub host: Option<String>,
    /// `msg`; of an alert without one, what the engine says in its place.
    pub msg: Option<String>,
    /// `data`.
    pub data: Option<String>,
    /// `unique_id`. Repeats; not a key.
    pub unique_id: Option<String>,
    /// `severity`, stored by its upper-case name.
    pub severity: Option<Severity>,
    /// `maturity`.
    pub maturity: Option<i64>,
    /// `accuracy`.
    pub accuracy: Option<i64>,
    /// `User_Agent`.
    pub user_agent: Option<String>,
    /// `responce_header`: the numeric status.
    pub status: Option<u16>,
    /// `Engine_Mode`, stored as `ModSecurity` 2 spells it.
    pub engine_mode: Option<EngineMode>,
    /// `Score`: total inbound anomaly score.
    pub score: Option<i64>,
    /// `SQLi`.
    pub sqli: Option<i64>,
    /// `XSS`.
    pub xss: Option<i64>,
    /// `phase`.
    pub phase: Option<u8>,
    /// `created_at`: when the server wrote the entry, in UTC, to the microsecond.
    pub created_at: Option<DateTime<Utc>>,
    /// `sensor`.
    pub sensor: Option<String>,
    /// `account`.
    pub account: Option<String>,
    /// `client_ip`: who sent the request, also behind a trusted proxy.
    pub client_ip: Option<IpAddr>,
    /// `status_line`.
    pub status_line: Option<String>,
    /// `intercepted`.
    pub intercepted: bool,
    /// `flags`: names with commas between them; `None` if there are none.
    pub flags: Option<String>,
    /// The alerts in the order of the log.
    pub rule_matches: Vec<RuleRow>,
    /// Where the entry was found. Not a column.
    pub path: Option<PathBuf>,
}

/// One alert as a row of the table `rule_matches`.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RuleRow {
    /// `ruleId`.
    pub rule_id: Option<String>,
    /// `msg`, only the rule's own.
    pub msg: Option<String>,
    /// `data`.
    pub data: Option<String>,
    /// `severity`, stored by its upper-case name.
    pub severity: Option<Severity>,
    /// `file` of the rule.
    pub file: Option<String>,
    /// `line` in that file.
    pub line: Option<u32>,
    /// `rev`.
    pub rev: Option<String>,
    /// `ver`.
    pub ver: Option<String>,
    /// `maturity`.
    pub maturity: Option<i64>,
    /// `accuracy`.
    pub accuracy: Option<i64>,
    /// `tags`: a JSON array of strings; `None` without tags. Tags that do not fit into
    /// [`MAX_TEXT`] are left out whole, so that it stays valid JSON.
    pub tags: Option<String>,
    /// `phase`.
    pub phase: Option<u8>,
    /// `verified`: 1 if part K lists the rule, 0 if the alert was cut or part K contradicts it.
    pub verified: Option<bool>,
    /// `detail`: what matched where, or the engine's notice.
    pub detail: Option<String>,
}

/// The columns of `logs` in the order of [`Row::values`], without `id`.
pub const LOG_COLUMNS: [&str; 26] = [
    "REQUEST_METHOD",
    "REQUEST_URI",
    "REMOTE_ADDR",
    "ruleId",
    "Host",
    "msg",
    "data",
    "unique_id",
    "severity",
    "maturity",
    "accuracy",
    "User_Agent",
    "responce_header",
    "Engine_Mode",
    "Score",
    "SQLi",
    "XSS",
    "phase",
    "created_at",
    "entry_hash",
    "sensor",
    "account",
    "client_ip",
    "status_line",
    "intercepted",
    "flags",
];

/// The columns of `rule_matches` in the order of [`RuleRow::values`], without `log_id` and
/// `position`, which precede them. `position` counts from 0.
pub const RULE_COLUMNS: [&str; 14] = [
    "ruleId", "msg", "data", "severity", "file", "line", "rev", "ver", "maturity", "accuracy",
    "tags", "phase", "verified", "detail",
];

/// A value on its way into a database.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Nothing known.
    Null,
    /// A number.
    Int(i64),
    /// Text.
    Text(Cow<'a, str>),
    /// An instant.
    Time(DateTime<Utc>),
    /// A hash.
    Hash(EntryHash),
}

impl Row {
    /// Builds the row of `record`, whose bytes have this `hash`.
    ///
    /// `client_ip` is the address behind a trusted proxy, which only the caller can tell.
    pub fn new(
        record: &Record<'_>,
        hash: EntryHash,
        origin: &Origin,
        client_ip: Option<IpAddr>,
    ) -> Row {
        let primary = record.primary().map(RuleRow::new).unwrap_or_default();
        let request = &record.request;
        Row {
            entry_hash: hash,
            method: text(request.method.as_ref()),
            uri: text(request.uri.as_ref()),
            remote_addr: text(record.client.as_ref().map(|client| &client.text)),
            rule_id: primary.rule_id,
            host: text(request.header("Host")),
            msg: primary.msg.or(primary.detail),
            data: primary.data,
            unique_id: text(record.unique_id.as_ref()),
            severity: primary.severity,
            maturity: primary.maturity,
            accuracy: primary.accuracy,
            user_agent: text(request.header("User-Agent")),
            status: record.response.status,
            engine_mode: record.engine.mode,
            score: record.scores.inbound,
            sqli: record.scores.sqli,
            xss: record.scores.xss,
            phase: record.phase(),
            created_at: record.instant(&Local).map(|time| time.to_utc()),
            sensor: origin.sensor.clone(),
            account: origin.account.clone(),
            client_ip,
            status_line: text(record.response.status_line.as_ref()),
            intercepted: record.intercepted(),
            flags: (!record.flags.is_empty()).then(|| record.flags.to_string()),
            rule_matches: record.alerts.iter().map(RuleRow::new).collect(),
            path: origin.path.clone(),
        }
    }

    /// Returns how many bytes it takes in memory, about.
    #[cfg(feature = "jobs")]
    pub(crate) fn size(&self) -> usize {
        let texts = [
            &self.method,
            &self.uri,
            &self.remote_addr,
            &self.rule_id,
            &self.host,
            &self.msg,
            &self.data,
            &self.unique_id,
            &self.user_agent,
            &self.sensor,
            &self.account,
            &self.status_line,
            &self.flags,
        ];
        let rules: usize = self.rule_matches.iter().map(RuleRow::size).sum();
        size_of::<Row>() + heap(texts) + rules
    }

    /// Returns the values in the order of [`LOG_COLUMNS`].
    pub fn values(&self) -> [Value<'_>; LOG_COLUMNS.len()] {
        [
            Value::text(self.method.as_ref()),
            Value::text(self.uri.as_ref()),
            Value::text(self.remote_addr.as_ref()),
            Value::text(self.rule_id.as_ref()),
            Value::text(self.host.as_ref()),
            Value::text(self.msg.as_ref()),
            Value::text(self.data.as_ref()),
            Value::text(self.unique_id.as_ref()),
            Value::name(self.severity.map(Severity::name)),
            Value::int(self.maturity),
            Value::int(self.accuracy),
            Value::text(self.user_agent.as_ref()),
            Value::int(self.status),
            Value::name(self.engine_mode.map(EngineMode::name)),
            Value::int(self.score),
            Value::int(self.sqli),
            Value::int(self.xss),
            Value::int(self.phase),
            self.created_at.map_or(Value::Null, Value::Time),
            Value::Hash(self.entry_hash),
            Value::text(self.sensor.as_ref()),
            Value::text(self.account.as_ref()),
            self.client_ip
                .map_or(Value::Null, |ip| Value::Text(ip.to_string().into())),
            Value::text(self.status_line.as_ref()),
            Value::Int(self.intercepted.into()),
            Value::text(self.flags.as_ref()),
        ]
    }
}

impl RuleRow {
    fn new(alert: &Alert<'_>) -> RuleRow {
        RuleRow {
            rule_id: text(alert.rule_id.as_ref()),
            msg: text(alert.msg.as_ref()),
            data: text(alert.data.as_ref()),
            severity: alert.severity,
            file: text(alert.file.as_ref()),
            line: alert.line,
            rev: text(alert.rev.as_ref()),
            ver: text(alert.ver.as_ref()),
            maturity: alert.maturity,
            accuracy: alert.accuracy,
            tags: json_array(&alert.tags),
            phase: alert.phase,
            verified: alert.verified,
            detail: text(Some(&alert.detail).filter(|detail| !detail.is_empty())),
        }
    }

    #[cfg(feature = "jobs")]
    fn size(&self) -> usize {
        let texts = [
            &self.rule_id,
            &self.msg,
            &self.data,
            &self.file,
            &self.rev,
            &self.ver,
            &self.tags,
            &self.detail,
        ];
        size_of::<RuleRow>() + heap(texts)
    }

    /// Returns the values in the order of [`RULE_COLUMNS`].
    pub fn values(&self) -> [Value<'_>; RULE_COLUMNS.len()] {
        [
            Value::text(self.rule_id.as_ref()),
            Value::text(self.msg.as_ref()),
            Value::text(self.data.as_ref()),
            Value::name(self.severity.map(Severity::name)),
            Value::text(self.file.as_ref()),
            Value::int(self.line),
            Value::text(self.rev.as_ref()),
            Value::text(self.ver.as_ref()),
            Value::int(self.maturity),
            Value::int(self.accuracy),
            Value::text(self.tags.as_ref()),
            Value::int(self.phase),
            Value::int(self.verified),
            Value::text(self.detail.as_ref()),
        ]
    }
}

impl<'a> Value<'a> {
    fn text(text: Option<&'a String>) -> Self {
        text.map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text)))
    }

    fn name(name: Option<&'static str>) -> Self {
        name.map_or(Value::Null, |name| Value::Text(Cow::Borrowed(name)))
    }

    fn int(number: Option<impl Into<i64>>) -> Self {
        number.map_or(Value::Null, |number| Value::Int(number.into()))
    }
}

/// Returns what texts take on the heap, with what the allocator adds to each.
#[cfg(feature = "jobs")]
fn heap<const N: usize>(texts: [&Option<String>; N]) -> usize {
    let texts = texts.into_iter().flatten();
    texts.map(|text| text.capacity() + 16).sum()
}

/// Returns the longest beginning of `text` that has at most `bytes` bytes and cuts no character.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes an instant as `YYYY-MM-DD HH:MM:SS.ffffff` in UTC: it sorts as text, and both `SQLite`'s
/// date functions and `MySQL` read it. `None` outside the years 0 to 9999, which neither knows.
pub fn sql_time(time: &DateTime<Utc>) -> Option<String> {
    let text = time.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    // Years of another length get a sign.
    text.starts_with(|first: char| first.is_ascii_digit())
        .then_some(text)
}

fn text(text: Option<&Text<'_>>) -> Option<String> {
    let text = text?.to_str_lossy();
    Some(match text {
        Cow::Owned(text) if text.len() <= MAX_TEXT => text,
        text => cut(&text, MAX_TEXT).to_owned(),
    })
}

fn json_array(tags: &[Text<'_>]) -> Option<String> {
    let mut json = String::new();
    for tag in tags {
        let before = json.len();
        json.push_str(if json.is_empty() { "[\"" } else { ",\"" });
        push_json_escaped(&mut json, &tag.to_str_lossy());
        json.push('"');
        if json.len() >= MAX_TEXT {
            json.truncate(before);
        }
    }
    if json.is_empty() {
        return None;
    }
    json.push(']');
    Some(json)
}

fn push_json_escaped(json: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\x1f' => {
                json.push_str(if c < '\x10' { "\\u000" } else { "\\u001" });
                json.extend(char::from_digit(u32::from(c) % 16, 16));
            }
            c => json.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone as _;

    use super::*;
    use crate::record::{AlertAction, Header};

    fn alert(rule_id: &'static str, action: AlertAction) -> Alert<'static> {
        Alert {
            action: Some(action),
            rule_id: Some(rule_id.into()),
            msg: Some(Text::from(format!("message of {rule_id}"))),
            ..Alert::default()
        }
    }

    fn row(record: &Record<'_>) -> Row {
        Row::new(record, EntryHash::of(b"x"), &Origin::default(), None)
    }

    #[test]
    fn rule_fields_come_from_one_alert() {
        let record = Record {
            alerts: vec![
                alert("1", AlertAction::Warning),
                Alert {
                    severity: Some(Severity::Critical),
                    ..alert("2", AlertAction::Denied)
                },
            ],
            ..Record::default()
        };
        let row = row(&record);
        assert_eq!(row.rule_id.as_deref(), Some("2"));
        assert_eq!(row.msg.as_deref(), Some("message of 2"));
        assert_eq!(row.severity, Some(Severity::Critical));
        assert!(row.intercepted);
        assert_eq!(row.rule_matches.len(), 2);
        assert_eq!(row.rule_matches[0].rule_id.as_deref(), Some("1"));
    }

    #[test]
    fn notice_of_the_engine_stands_in_for_a_message() {
        let notice = Alert {
            detail: "Failed to parse request body.".into(),
            ..Alert::default()
        };
        let record = Record {
            alerts: vec![notice],
            ..Record::default()
        };
        let row = row(&record);
        assert_eq!(row.msg.as_deref(), Some("Failed to parse request body."));
        assert_eq!(row.rule_matches[0].msg, None);
    }

    #[test]
    fn what_is_not_known_is_null() {
        let row = row(&Record::default());
        let known: Vec<_> = LOG_COLUMNS
            .iter()
            .zip(row.values())
            .filter(|(_, value)| *value != Value::Null)
            .map(|(column, _)| *column)
            .collect();
        assert_eq!(known, ["entry_hash", "intercepted"]);
        assert_eq!(
            RuleRow::default().values(),
            [const { Value::Null }; RULE_COLUMNS.len()]
        );
    }

    #[test]
    fn text_is_decoded_lossily_and_cut_between_characters() {
        let mut record = Record::default();
        record.request.uri = Some(Text::from("П".repeat(MAX_TEXT)));
        record.request.headers = vec![Header {
            name: "hOST".into(),
            value: Text::from(&b"a\0\xff"[..]),
        }];
        let row = row(&record);
        assert_eq!(row.uri.unwrap().len(), MAX_TEXT - 1);
        assert_eq!(row.host.as_deref(), Some("a\0\u{fffd}"));
    }

    #[test]
    fn tags_are_a_json_array_of_any_text() {
        let tags: Vec<Text<'_>> = vec!["a,b".into(), "q\"\\".into(), "\x01\n".into()];
        let json = json_array(&tags).unwrap();
        let back: Vec<String> = serde_json::from_str(&json).unwrap();
        assert_eq!(back, ["a,b", "q\"\\", "\x01\n"]);
        assert_eq!(json_array(&[]), None);
    }

    #[test]
    fn too_many_tags_are_still_json() {
        let tags = vec![Text::from("x".repeat(1000)); 100];
        let json = json_array(&tags).unwrap();
        let back: Vec<String> = serde_json::from_str(&json).unwrap();
        assert!(
            json.len() <= MAX_TEXT && back.len() == 65,
            "{} {}",
            json.len(),
            back.len()
        );
    }

    #[test]
    fn time_is_written_in_utc_with_a_fixed_width() {
        for (seconds, nanos, want) in [
            (0, 0, Some("1970-01-01 00:00:00.000000")),
            (-1, 999_999_999, Some("1969-12-31 23:59:59.999999")),
            (253_402_300_799, 0, Some("9999-12-31 23:59:59.000000")),
            (253_402_300_800, 0, None),
            (-62_167_219_201, 0, None),
        ] {
            let time = Utc.timestamp_opt(seconds, nanos).unwrap();
            assert_eq!(sql_time(&time).as_deref(), want, "input {seconds}");
        }
    }
}

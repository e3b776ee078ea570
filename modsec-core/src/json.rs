//! One transaction as one line of JSON, for `--json` and for programs that read it.
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
use serde::Serialize;

use crate::record::{Alert, EngineMode, Flag, Record, Severity};
use crate::store::{Row, RuleRow};
use crate::text::visible_json;

/// The object. Keys of the first 19 fields are the columns of the table `logs` that
/// `mod_sec_log_parser.py` had.
#[derive(Serialize)]
struct TransactionLine<'r> {
    #[serde(rename = "REQUEST_METHOD")]
    method: Option<&'r str>,
    #[serde(rename = "REQUEST_URI")]
    uri: Option<&'r str>,
    #[serde(rename = "REMOTE_ADDR")]
    remote_addr: Option<&'r str>,
    #[serde(rename = "ruleId")]
    rule_id: Option<&'r str>,
    #[serde(rename = "Host")]
    host: Option<&'r str>,
    msg: Option<&'r str>,
    data: Option<&'r str>,
    /// The transaction's id as logged. Repeats; `entry_hash` does not.
    unique_id: Option<&'r str>,
    severity: Option<&'static str>,
    maturity: Option<i64>,
    accuracy: Option<i64>,
    #[serde(rename = "User_Agent")]
    user_agent: Option<&'r str>,
    #[serde(rename = "responce_header")]
    status: Option<u16>,
    #[serde(rename = "Engine_Mode")]
    engine_mode: Option<&'static str>,
    #[serde(rename = "Score")]
    score: Option<i64>,
    #[serde(rename = "SQLi")]
    sqli: Option<i64>,
    #[serde(rename = "XSS")]
    xss: Option<i64>,
    phase: Option<u8>,
    /// When the server wrote the entry, ISO 8601 with the server's own offset; not in UTC as in the
    /// column.
    created_at: Option<String>,
    /// 32 lower-case hexadecimal digits.
    entry_hash: String,
    /// Where the entry was found, decoded lossily. Not a column.
    path: Option<String>,
    sensor: Option<&'r str>,
    account: Option<&'r str>,
    /// Who sent the request, also behind a trusted proxy.
    client_ip: Option<String>,
    status_line: Option<&'r str>,
    /// `true` if the engine stopped the transaction.
    intercepted: bool,
    /// Names of the record's flags; the column has them joined with commas.
    flags: Vec<&'static str>,
    /// Every alert in the order of the log.
    rule_matches: Vec<RuleMatch<'r>>,
}

/// One alert. Keys are the columns of the table `rule_matches`, without its keys.
#[derive(Serialize)]
struct RuleMatch<'r> {
    #[serde(rename = "ruleId")]
    rule_id: Option<&'r str>,
    msg: Option<&'r str>,
    data: Option<&'r str>,
    severity: Option<&'static str>,
    file: Option<&'r str>,
    line: Option<u32>,
    rev: Option<&'r str>,
    ver: Option<&'r str>,
    maturity: Option<i64>,
    accuracy: Option<i64>,
    /// All tags, also those that do not fit into the column.
    tags: Vec<String>,
    phase: Option<u8>,
    verified: Option<bool>,
    detail: Option<&'r str>,
}

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
/// assert!(line.contains(r#""intercepted":false,"flags":[],"rule_matches":[]}"#));
/// ```
pub fn line(record: &Record<'_>, row: &Row) -> String {
    let transaction = TransactionLine {
        method: row.method.as_deref(),
        uri: row.uri.as_deref(),
        remote_addr: row.remote_addr.as_deref(),
        rule_id: row.rule_id.as_deref(),
        host: row.host.as_deref(),
        msg: row.msg.as_deref(),
        data: row.data.as_deref(),
        unique_id: row.unique_id.as_deref(),
        severity: row.severity.map(Severity::name),
        maturity: row.maturity,
        accuracy: row.accuracy,
        user_agent: row.user_agent.as_deref(),
        status: row.status,
        engine_mode: row.engine_mode.map(EngineMode::name),
        score: row.score,
        sqli: row.sqli,
        xss: row.xss,
        phase: row.phase,
        created_at: record
            .instant(&Local)
            .map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, false)),
        entry_hash: row.entry_hash.to_string(),
        path: row
            .path
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        sensor: row.sensor.as_deref(),
        account: row.account.as_deref(),
        client_ip: row.client_ip.map(|ip| ip.to_string()),
        status_line: row.status_line.as_deref(),
        intercepted: row.intercepted,
        flags: record.flags.iter().map(Flag::name).collect(),
        rule_matches: record
            .alerts
            .iter()
            .zip(&row.rule_matches)
            .map(rule_match)
            .collect(),
    };
    // Strings and numbers always serialise; there are no maps with other keys in there.
    let json = serde_json::to_string(&transaction).unwrap_or_default();
    match visible_json(&json) {
        Cow::Owned(shown) => shown,
        Cow::Borrowed(_) => json,
    }
}

/// Builds the object of one alert: texts from its row, which is cut, tags from the alert itself.
fn rule_match<'r>((alert, row): (&Alert<'_>, &'r RuleRow)) -> RuleMatch<'r> {
    RuleMatch {
        rule_id: row.rule_id.as_deref(),
        msg: row.msg.as_deref(),
        data: row.data.as_deref(),
        severity: row.severity.map(Severity::name),
        file: row.file.as_deref(),
        line: row.line,
        rev: row.rev.as_deref(),
        ver: row.ver.as_deref(),
        maturity: row.maturity,
        accuracy: row.accuracy,
        tags: alert
            .tags
            .iter()
            .map(|tag| tag.to_str_lossy().into_owned())
            .collect(),
        phase: row.phase,
        verified: row.verified,
        detail: row.detail.as_deref(),
    }
}

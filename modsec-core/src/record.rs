//! The typed form of one HTTP transaction, the same for every dialect of the audit log.
//!
//! A [`Record`] borrows from the entry's bytes where it can. What a dialect or an entry does not
//! give is `None` or empty, never invented.

mod address;
mod client;
mod display;
mod flags;
mod networks;
mod owned;
#[cfg(feature = "serde")]
mod serialized;
mod severity;

use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset, TimeZone};

pub(crate) use self::address::one_client;
pub use self::address::{Endpoint, parse_ip};
pub use self::client::{ClientHeader, ParseClientHeaderError, TrustedProxies, TrustedProxyArg};
pub use self::flags::{Flag, Flags};
pub use self::networks::{Networks, NetworksError, network_text, parse_network};
pub use self::severity::Severity;
use crate::text::Text;

/// One HTTP transaction as the audit log describes it.
///
/// Fields are filled from their own part of the entry only: nothing in a body or a header can
/// set a rule field, the status, an address or a score.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Record<'a> {
    /// When the server wrote the entry, with its own offset from UTC (part A; microseconds where
    /// the dialect has them). Falls back to the request's start in `Stopwatch` (part H, UTC).
    pub time: Option<DateTime<FixedOffset>>,
    /// The server's wall clock, from a dialect that does not write its offset from UTC, and only
    /// if the instant cannot be told otherwise; see [`Record::instant`].
    pub local_time: Option<NaiveDateTime>,
    /// Transaction id, the `UNIQUE_ID` of `mod_unique_id` (part A). Not a key: it repeats.
    pub unique_id: Option<Text<'a>>,
    /// The TCP peer, or what `mod_remoteip` made of it (part A).
    pub client: Option<Endpoint<'a>>,
    /// The server's own end of the connection (part A).
    pub server: Option<Endpoint<'a>>,
    /// Request line and headers (part B).
    pub request: Request<'a>,
    /// Status line and headers (part F).
    pub response: Response<'a>,
    /// Every alert in the order of the log (part H, `Message:`).
    pub alerts: Vec<Alert<'a>>,
    /// Rules that matched, with or without an alert (part K). `None` without part K.
    pub matched_rules: Option<Vec<MatchedRule<'a>>>,
    /// What the engine says of itself and of this transaction (part H).
    pub engine: Engine<'a>,
    /// Whether the engine intercepted, from a dialect that has a word of its own for it
    /// (`is_interrupted` in the JSON of Coraza, and of libmodsecurity since 2026); see
    /// [`Record::intercepted`].
    pub interrupted: Option<bool>,
    /// Inbound anomaly scores of the Core Rule Set.
    pub scores: AnomalyScores,
    /// Uploaded files (part J). `None` without part J.
    pub uploads: Option<Vec<Upload<'a>>>,
    /// What is odd about the entry.
    pub flags: Flags,
}

/// The client's half of the transaction (parts B, C and I).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The request line as the server stored it.
    pub line: Option<Text<'a>>,
    /// First word of the request line.
    pub method: Option<Text<'a>>,
    /// What stands between method and protocol; may contain spaces.
    pub uri: Option<Text<'a>>,
    /// Last word of the request line if it starts with `HTTP/`.
    pub protocol: Option<Text<'a>>,
    /// Headers in the order of the log.
    pub headers: Vec<Header<'a>>,
    /// Raw body (part C).
    pub body: Option<Body<'a>>,
    /// Form fields of a multipart body without the files, URL-encoded again (part I).
    pub form: Option<Body<'a>>,
}

/// The server's half of the transaction (parts E and F).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Response<'a> {
    /// The status line; ModSecurity 2 always writes `HTTP/1.1` here.
    pub status_line: Option<Text<'a>>,
    /// Final status code, 100 to 999.
    pub status: Option<u16>,
    /// Headers in the order of the log.
    pub headers: Vec<Header<'a>>,
    /// Response body as buffered by the engine (part E).
    pub body: Option<Body<'a>>,
}

/// One header field.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Header<'a> {
    /// Name in the sender's spelling; compare without regard to ASCII case.
    pub name: Text<'a>,
    /// Value; ModSecurity 2 joins repeated fields by `, `.
    pub value: Text<'a>,
}

/// A body, of which only the beginning may have been kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Body<'a> {
    /// The first bytes, at most [`MAX_BODY_KEPT`].
    pub kept: Text<'a>,
    /// Length in the entry, in bytes.
    pub len: u64,
}

/// Bytes of a body that a [`Record`] keeps: enough to recognise what was sent, and a bound on
/// what a hundred-megabyte upload costs. The merged log has the whole entry.
pub const MAX_BODY_KEPT: usize = 64 * 1024;
/// Alerts kept of one entry. Real entries have tens; a flood of parameters can make thousands.
pub const MAX_ALERTS: usize = 1024;
/// Bytes kept of the texts of all alerts of one entry: as much as [`MAX_ALERTS`] of ModSecurity 2,
/// which cuts each at 1023 bytes.
pub const MAX_ALERT_TEXT: usize = MAX_ALERTS * 1024;
/// Tags kept of one alert. The Core Rule Set uses about ten.
pub const MAX_TAGS: usize = 64;
/// Headers kept of a request or a response; Apache's own default limit is 100.
pub const MAX_HEADERS: usize = 1024;
/// Matched rules kept of part K; the whole Core Rule Set has fewer.
pub const MAX_MATCHED_RULES: usize = 8192;
/// Uploaded files kept of part J.
pub const MAX_UPLOADS: usize = 1024;
/// Keyed lines of part H kept beside the alerts.
pub const MAX_ENGINE_LINES: usize = 1024;

/// One `Message:` line of part H.
///
/// An alert with an id is a rule match; one without is a rule that has no id, or a notice of the
/// engine (body parser, audit log, collections).
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Alert<'a> {
    /// The line's text behind `Message: `, as logged.
    pub raw: Text<'a>,
    /// What the engine did, from the words at the start.
    pub action: Option<AlertAction>,
    /// Phase in which the engine intercepted, 1 to 4; warnings have none.
    pub phase: Option<u8>,
    /// The operator's sentence or the engine's notice, as logged (escapes not decoded: the
    /// engine's escaping of variable names cannot be undone).
    pub detail: Text<'a>,
    /// File of the rule.
    pub file: Option<Text<'a>>,
    /// Line in that file.
    pub line: Option<u32>,
    /// Rule id. Text: the engine does not demand a number.
    pub rule_id: Option<Text<'a>>,
    /// Revision of the rule.
    pub rev: Option<Text<'a>>,
    /// The rule's message with its macros expanded.
    pub msg: Option<Text<'a>>,
    /// The rule's `logdata`, at most 512 characters in the log.
    pub data: Option<Text<'a>>,
    /// Severity of the rule.
    pub severity: Option<Severity>,
    /// Version of the rule set.
    pub ver: Option<Text<'a>>,
    /// Maturity of the rule, 0 to 9 by convention.
    pub maturity: Option<i64>,
    /// Accuracy of the rule, 0 to 9 by convention.
    pub accuracy: Option<i64>,
    /// Tags in the rule's order.
    pub tags: Vec<Text<'a>>,
    /// `Some(true)`: part K lists the rule. `Some(false)`: the text was cut at 1023 bytes, or
    /// part K does not list the rule; do not block or classify by it. `None`: nothing to compare
    /// with, the text itself was whole.
    pub verified: Option<bool>,
}

/// The words with which an alert starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum AlertAction {
    /// `Warning.`: the rule matched, the transaction went on.
    Warning,
    /// `Access denied …`: the transaction was intercepted here.
    Denied,
    /// `Access allowed …`: an `allow` action.
    Allowed,
    /// `Paused Access …`: a `pause` action.
    Paused,
}

/// One line of part K: a rule that matched, regenerated from the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct MatchedRule<'a> {
    /// The rule's id, from its actions. Chain members have none.
    pub id: Option<Text<'a>>,
    /// `false` for a chain member that did not match (written with a leading `#`).
    pub matched: bool,
    /// Whether the rule may write an alert (no `nolog` in its actions).
    pub logs: bool,
    /// The directive as logged.
    pub directive: Text<'a>,
}

/// One uploaded file, a line of part J.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Upload<'a> {
    /// Index among all parts of the multipart body, from 1; gaps are normal.
    pub index: u32,
    /// Size in bytes.
    pub size: u64,
    /// File name as the client gave it.
    pub name: Text<'a>,
    /// Content type as the client gave it, or `<Unknown ContentType>`.
    pub content_type: Text<'a>,
}

/// Inbound anomaly scores, from the messages in which the Core Rule Set reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct AnomalyScores {
    /// Total inbound score.
    pub inbound: Option<i64>,
    /// The part of it that stems from SQL injection rules.
    pub sqli: Option<i64>,
    /// The part of it that stems from cross-site scripting rules.
    pub xss: Option<i64>,
}

/// Mode of the rule engine (`SecRuleEngine`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "SCREAMING_SNAKE_CASE")
)]
#[non_exhaustive]
pub enum EngineMode {
    /// Rules may intercept.
    Enabled,
    /// Rules only report.
    DetectionOnly,
    /// Rules are not run.
    Disabled,
}

impl EngineMode {
    /// Returns the spelling of ModSecurity 2 (`Engine-Mode:` in part H).
    pub fn name(self) -> &'static str {
        match self {
            EngineMode::Enabled => "ENABLED",
            EngineMode::DetectionOnly => "DETECTION_ONLY",
            EngineMode::Disabled => "DISABLED",
        }
    }
}

/// What the engine says in part H beside the alerts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(default)
)]
#[non_exhaustive]
pub struct Engine<'a> {
    /// `Engine-Mode:`; absent before 2.7.
    pub mode: Option<EngineMode>,
    /// Phase in which the transaction was intercepted (`Action: Intercepted (phase N)`); `None`
    /// if it was not.
    pub intercepted_phase: Option<u8>,
    /// `Apache-Error:` lines as logged. Repeats of the alerts; no source for rule ids.
    pub apache_errors: Vec<Text<'a>>,
    /// `Apache-Handler:`.
    pub handler: Option<Text<'a>>,
    /// `Stopwatch:`.
    pub stopwatch: Option<Stopwatch>,
    /// `Stopwatch2:` as logged: time spent by phase, in microseconds.
    pub stopwatch2: Option<Text<'a>>,
    /// `Producer:`: the engine and, behind `; `, its components, without the final stop.
    pub producer: Option<Text<'a>>,
    /// `Server:`.
    pub server: Option<Text<'a>>,
    /// `Sensor-Id:`.
    pub sensor_id: Option<Text<'a>>,
    /// `WebApp-Info:` as logged: application, session and user.
    pub webapp_info: Option<Text<'a>>,
    /// All other keyed lines, and those whose value is not of the form above, in order: key
    /// without colon, and value.
    pub other: Vec<(Text<'a>, Text<'a>)>,
}

/// Start and length of the transaction (`Stopwatch:`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Stopwatch {
    /// Start of the request, microseconds since the Unix epoch.
    pub start_us: i64,
    /// Time until the entry was written, in microseconds.
    pub duration_us: i64,
}

impl<'a> Request<'a> {
    /// Returns the value of the first header called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&Text<'a>> {
        header(&self.headers, name)
    }
}

impl<'a> Response<'a> {
    /// Returns the value of the first header called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&Text<'a>> {
        header(&self.headers, name)
    }
}

/// Returns the value of the first header called `name`, in any case (RFC 9110, section 5.1).
fn header<'r, 'a>(headers: &'r [Header<'a>], name: &str) -> Option<&'r Text<'a>> {
    headers
        .iter()
        .find(|header| header.name.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
        .map(|header| &header.value)
}

impl Alert<'_> {
    /// Returns `true` if the bracketed metadata was found.
    pub fn has_metadata(&self) -> bool {
        self.file.is_some() || self.rule_id.is_some() || self.msg.is_some() || !self.tags.is_empty()
    }

    /// Returns `true` if the alert's fields may be used to classify: whole, and not contradicted by
    /// part K.
    pub fn is_trusted(&self) -> bool {
        self.verified != Some(false)
    }
}

impl Record<'_> {
    /// Returns the instant of the transaction: [`time`](Record::time), or else
    /// [`local_time`](Record::local_time) read in `zone`, which should be the server's.
    ///
    /// Of a wall-clock time that occurs twice when clocks go back, the first; one that is skipped
    /// when they go forward gives `None`.
    pub fn instant(&self, zone: &impl TimeZone) -> Option<DateTime<FixedOffset>> {
        self.time.or_else(|| {
            let time = zone.from_local_datetime(&self.local_time?).earliest()?;
            Some(time.with_timezone(&time.offset().fix()))
        })
    }

    /// Notes that lines of another entry stand between those of this one
    /// ([`Flag::Interleaved`]): no alert is certain to be its own.
    pub fn mark_interleaved(&mut self) {
        self.flags.insert(Flag::Interleaved);
        for alert in &mut self.alerts {
            alert.verified = Some(false);
            self.flags.insert(Flag::Unverified);
        }
    }

    /// Returns `true` if the engine intercepted the transaction, as far as the dialect says so. The
    /// JSON of libmodsecurity does not before 2026: there this is `false`, and the status is all
    /// there is.
    pub fn intercepted(&self) -> bool {
        self.engine.intercepted_phase.is_some()
            || self.interrupted == Some(true)
            || self
                .alerts
                .iter()
                .any(|alert| alert.is_trusted() && alert.action == Some(AlertAction::Denied))
    }

    /// Returns the phase in which the transaction was intercepted, else one that an alert names.
    /// Warnings name none.
    pub fn phase(&self) -> Option<u8> {
        let trusted = || self.alerts.iter().filter(|alert| alert.is_trusted());
        self.engine.intercepted_phase.or_else(|| {
            let denied = trusted().find(|alert| alert.action == Some(AlertAction::Denied));
            match denied {
                Some(alert) => alert.phase,
                None => trusted().find_map(|alert| alert.phase),
            }
        })
    }
}

//! A record as database columns: names, order, units and limits, once for every backend.
//!
//! ```text
//! Record (borrowed bytes of one entry)       Origin (sensor, account, path)
//!         │ Row::new: decode, cut, pick one alert    │
//!         └───────────────────┬──────────────────────┘
//!                            Row ── values() ──► 33 values in the order of LOG_COLUMNS
//!                             │
//!                             └─ rule_matches: one RuleRow per alert
//!                                                values() ► 22 values in the order of RULE_COLUMNS
//! ```
//!
//! A backend writes what [`Row::values`] and [`RuleRow::values`] return and adds only its own keys:
//! `id` in `logs`, `log_id` and `position` in `rule_matches`. Ours store what
//! repeats from alert to alert once, in `modsec_rules`. So two databases that got the same entries
//! differ in nothing but ids and, where an old table has narrow columns, in where texts are cut.
//!
//! What holds for every value:
//!
//! - Unknown is `None`, and null in the database, unless a column of an old table takes no null. No
//!   empty text and no 0 stand for it.
//! - Text is UTF-8 of at most [`MAX_TEXT`] bytes. Bytes that are not UTF-8 become U+FFFD.
//! - Times are instants in UTC. How many digits of the second survive depends on the column.
//! - `ruleId`, `msg`, `data`, `severity`, `maturity` and `accuracy` of `logs` come from one alert, the
//!   cause ([`Analysis::cause`]), never from several.

use std::borrow::Cow;
use std::net::IpAddr;
use std::path::PathBuf;

use chrono::{DateTime, Local, Utc};

use crate::cause::{
    Analysis, Category, Direction, Kind, Meaning, Outcome, PointsSource, TargetSource, path,
    path_template,
};
use crate::entry_hash::EntryHash;
use crate::record::{Alert, EngineMode, Record, Severity};
#[cfg(feature = "jobs")]
use crate::record::{MAX_ALERT_TEXT, MAX_ALERTS, MAX_TAGS};
use crate::text::Text;

/// Bytes kept of one text, as UTF-8: what a `text` column of MySQL holds.
///
/// All backends cut here, between characters, so that they hold the same. The merged log has the
/// whole entry.
pub const MAX_TEXT: usize = 65_535;

/// What is known of an entry from where it was found, not from its bytes.
///
/// A log read from one file has no owner per entry, and a record that came over another way may
/// have no file; every field may be absent.
///
/// ```
/// use modsec_core::store::Origin;
///
/// let mut origin = Origin::default();
/// origin.sensor = Some("web1.example.org".to_owned());
/// origin.account = Some("site42".to_owned());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Origin {
    /// Name of the host that wrote the entry. Column `sensor`.
    pub sensor: Option<String>,
    /// Owner of the file: under MPM-ITK the account of the site. Column `account`.
    pub account: Option<String>,
    /// The file. Not a column; messages about the row name it.
    pub path: Option<PathBuf>,
}

/// One entry as a row of the table `logs`, with its rows of `rule_matches`.
///
/// Rule fields come from the [cause](Analysis::cause) alone. Bytes that are not UTF-8 are decoded
/// lossily; besides that and the cut at [`MAX_TEXT`], values are those of the entry.
///
/// `Row` owns its texts: the entry's bytes can be freed once it is built. What a record keeps
/// ([`crate::record::MAX_ALERTS`], [`crate::record::MAX_ALERT_TEXT`])
/// is the bound of a row, too: some megabytes at most.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// `entry_hash`: 16 bytes, unique in the store. The only key of an entry.
    pub entry_hash: EntryHash,
    /// `REQUEST_METHOD`: first word of the request line (part B), such as `GET`.
    pub method: Option<String>,
    /// `REQUEST_URI`: as the client wrote it (part B), percent-encoding included.
    pub uri: Option<String>,
    /// `REMOTE_ADDR`: the TCP peer's address as logged (part A). Text, because it is kept even if
    /// it is no address; see [`Row::client_ip`] for one that is.
    pub remote_addr: Option<String>,
    /// `ruleId` of the cause. Text, as the engine does not demand a number.
    pub rule_id: Option<String>,
    /// `Host`: value of the request header of that name (part B). Chosen by the client.
    pub host: Option<String>,
    /// `msg` of the cause; of an alert without one, what the engine says in its place.
    pub msg: Option<String>,
    /// `data` of the cause (`logdata`): the part of the request that matched.
    pub data: Option<String>,
    /// `unique_id`: the transaction's id (part A). Repeats between hosts and restarts; not a key.
    pub unique_id: Option<String>,
    /// `severity` of the cause, stored by its upper-case name, such as `CRITICAL`.
    pub severity: Option<Severity>,
    /// `maturity` of the cause, by the rule's author: 1 (new) to 9 (well tried).
    pub maturity: Option<i64>,
    /// `accuracy` of the cause, by the rule's author: 1 (many false alarms) to 9 (few).
    pub accuracy: Option<i64>,
    /// `User_Agent`: request header `User-Agent` (part B). Chosen by the client.
    pub user_agent: Option<String>,
    /// `responce_header`: the numeric HTTP status (part F). The column's spelling is that of
    /// `mod_sec_log_parser.py`, whose queries go on working.
    pub status: Option<u16>,
    /// `Engine_Mode`: `SecRuleEngine` at that moment (part H), as ModSecurity 2 spells it:
    /// `ENABLED`, `DETECTION_ONLY` or `DISABLED`.
    pub engine_mode: Option<EngineMode>,
    /// `Score`: total inbound anomaly score of the Core Rule Set, in points.
    pub score: Option<i64>,
    /// `SQLi`: the part of the score that SQL-injection rules gave, in points.
    pub sqli: Option<i64>,
    /// `XSS`: the part of the score that cross-site-scripting rules gave, in points.
    pub xss: Option<i64>,
    /// `phase` in which the transaction was stopped, else one that an alert names: 1 to 5.
    pub phase: Option<u8>,
    /// `created_at`: in UTC, to the microsecond. ModSecurity 2 notes when it wrote the entry,
    /// libmodsecurity and Coraza when the request began. From part A, else from `Stopwatch`. A time
    /// without an offset is taken for one in this machine's time zone.
    pub created_at: Option<DateTime<Utc>>,
    /// `sensor`: host that wrote the entry, from [`Origin`].
    pub sensor: Option<String>,
    /// `account`: owner of the entry's file, from [`Origin`].
    pub account: Option<String>,
    /// `client_ip`: who sent the request, also behind a trusted proxy. And `client_key`, the same as
    /// [`client_key`] writes it.
    pub client_ip: Option<IpAddr>,
    /// `status_line`: the response's first line as logged (part F), such as `HTTP/1.1 403
    /// Forbidden`.
    pub status_line: Option<String>,
    /// `intercepted`: `true` if the engine stopped the transaction. Stored as 1 or 0.
    pub intercepted: bool,
    /// `flags`: names of [`Record::flags`] with commas between them, such as `ambiguous,truncated`;
    /// `None` if there are none.
    pub flags: Option<String>,
    /// `blocked_by`: id of the rule that intercepted, be it bookkeeping or not.
    pub blocked_by: Option<String>,
    /// `outcome`: `blocked` or `detected`; `None` if there is neither an interception nor a detection.
    pub outcome: Option<Outcome>,
    /// `category` of the cause, such as `sqli`.
    pub category: Option<Category>,
    /// `threshold`: the score at which the rule set blocks, in points.
    pub threshold: Option<i64>,
    /// `sole`: `true` if the cause's rule alone reached the threshold. Stored as 1 or 0.
    pub is_sole: Option<bool>,
    /// `path_template`: the path of the URI, with names for what differs from request to request,
    /// see [`path_template`].
    pub path_template: Option<String>,
    /// The alerts in the order of the log.
    pub rule_matches: Vec<RuleRow>,
    /// Where the entry was found. Not a column; [`Refused`](super::Refused) names it in messages.
    pub path: Option<PathBuf>,
}

/// One alert as a row of the table `rule_matches`.
///
/// Source: a `Message:` line of part H, or what JSON dialects have in its place.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct RuleRow {
    /// `ruleId`: `[id "…"]`. Text, as the engine does not demand a number.
    pub rule_id: Option<String>,
    /// `msg`, only the rule's own text. Part H, `[msg "…"]`.
    pub msg: Option<String>,
    /// `data`: what the rule's action `logdata` wrote. Part H, `[data "…"]`.
    pub data: Option<String>,
    /// `severity`, stored by its upper-case name, such as `CRITICAL`.
    pub severity: Option<Severity>,
    /// `file`: the configuration file that has the rule.
    pub file: Option<String>,
    /// `line` of the rule in that file, counted from 1.
    pub line: Option<u32>,
    /// `rev`: the rule's revision, action `rev`.
    pub rev: Option<String>,
    /// `ver`: version of the rule set, action `ver`, such as `OWASP_CRS/4.0.0`.
    pub ver: Option<String>,
    /// `maturity`, 1 to 9 by convention; any number is kept.
    pub maturity: Option<i64>,
    /// `accuracy`, 1 to 9 by convention; any number is kept.
    pub accuracy: Option<i64>,
    /// `tags`: a JSON array of strings; `None` without tags. Tags that do not fit into
    /// [`MAX_TEXT`] are left out whole, so that it stays valid JSON.
    pub tags: Option<String>,
    /// `phase` in which the rule ran: 1 (request headers) to 5 (logging).
    pub phase: Option<u8>,
    /// `verified`: 1 if another part of the entry confirms the alert, 0 if it was cut,
    /// contradicted, or may have been written by the client, null if there is nothing to compare it
    /// with. What counts depends on the dialect: see modsec-logs(5).
    pub verified: Option<bool>,
    /// `detail`: what matched where, or the engine's notice.
    pub detail: Option<String>,
    /// `kind`: whether the alert is about the request, or bookkeeping.
    pub kind: Option<Kind>,
    /// `target`: what of the request it is about, such as `ARGS:id`.
    pub target: Option<String>,
    /// `target_source`: where that was read, `sentence` or `log_data`.
    pub target_source: Option<TargetSource>,
    /// `points` that it added to the anomaly score.
    pub points: Option<i64>,
    /// `points_for`: the score that they count for, `inbound` or `outbound`.
    pub points_for: Option<Direction>,
    /// `points_source`: how they are known, by the `rule` or by the `severity`.
    pub points_source: Option<PointsSource>,
    /// `paranoia_level` of the rule, 1 to 4.
    pub paranoia_level: Option<u8>,
    /// `category` of a detection, such as `sqli`.
    pub category: Option<Category>,
}

/// Names of the columns of `logs` in the order of [`Row::values`], without `id`.
///
/// The first 19 are those of `mod_sec_log_parser.py`, misspelling included; the last 14 are ours.
pub const LOG_COLUMNS: [&str; 33] = [
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
    "blocked_by",
    "outcome",
    "category",
    "threshold",
    "sole",
    "path_template",
    "client_key",
];

/// The columns of `rule_matches` in the order of [`RuleRow::values`], without `log_id` and
/// `position`, which precede them. `position` counts from 0.
pub const RULE_COLUMNS: [&str; 22] = [
    "ruleId",
    "msg",
    "data",
    "severity",
    "file",
    "line",
    "rev",
    "ver",
    "maturity",
    "accuracy",
    "tags",
    "phase",
    "verified",
    "detail",
    "kind",
    "target",
    "target_source",
    "points",
    "points_for",
    "points_source",
    "paranoia_level",
    "category",
];

/// A value on its way into a database, still without the database's own types.
///
/// Backends map it: [`Value::Time`] to text or a timestamp, [`Value::Hash`] to 16 bytes of a blob.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// Nothing known.
    Null,
    /// A whole number. Switches are 1 and 0.
    Int(i64),
    /// Text of at most [`MAX_TEXT`] bytes; may hold any character, NUL included.
    Text(Cow<'a, str>),
    /// An instant. [`sql_time`] writes it; a backend stores null for what that cannot write.
    Time(DateTime<Utc>),
    /// An entry's hash, as 16 bytes and not as text.
    Hash(EntryHash),
    /// An address as the 16 bytes of [`client_key`].
    Address(IpAddr),
}

impl Row {
    /// Builds the row of `record`, whose bytes have this `hash`.
    ///
    /// `client_ip` is who sent the request: the address of part A or, behind a trusted proxy, the
    /// one in the proxy's header. The record cannot tell it, as the administrator chooses whom to
    /// trust: take it from [`TrustedProxies::client`](crate::record::TrustedProxies::client).
    ///
    /// Cannot fail. Decodes and copies every text once; a text longer than [`MAX_TEXT`] is cut.
    ///
    /// ```
    /// use modsec_core::EntryHash;
    /// use modsec_core::record::Record;
    /// use modsec_core::store::{Origin, Row};
    ///
    /// let row = Row::new(&Record::default(), EntryHash::of(b"entry"), &Origin::default(), None);
    /// assert_eq!(row.uri, None);
    /// assert!(!row.intercepted);
    /// ```
    pub fn new(
        record: &Record<'_>,
        hash: EntryHash,
        origin: &Origin,
        client_ip: Option<IpAddr>,
    ) -> Row {
        let analysis = Analysis::of(record);
        let alerts = record.alerts.iter().zip(&analysis.alerts);
        let rule_matches: Vec<_> = alerts
            .map(|(alert, meaning)| RuleRow::new(alert, meaning))
            .collect();
        let cause = analysis.cause.and_then(|cause| rule_matches.get(cause));
        let cause = cause.cloned().unwrap_or_default();
        let blocked_by = analysis.blocked_by.and_then(|at| record.alerts.get(at));
        let request = &record.request;
        Row {
            entry_hash: hash,
            method: text(request.method.as_ref()),
            uri: text(request.uri.as_ref()),
            remote_addr: text(record.client.as_ref().map(|client| &client.text)),
            rule_id: cause.rule_id,
            host: text(request.header("Host")),
            msg: cause.msg.or(cause.detail),
            data: cause.data,
            unique_id: text(record.unique_id.as_ref()),
            severity: cause.severity,
            maturity: cause.maturity,
            accuracy: cause.accuracy,
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
            blocked_by: text(blocked_by.and_then(|alert| alert.rule_id.as_ref())),
            outcome: analysis.outcome,
            category: cause.category,
            threshold: analysis.threshold,
            is_sole: analysis.is_sole,
            path_template: request.uri.as_ref().map(|uri| {
                let template = path_template(path(uri.as_bytes()));
                cut(&String::from_utf8_lossy(&template), MAX_TEXT).to_owned()
            }),
            rule_matches,
            path: origin.path.clone(),
        }
    }

    /// The most that a row takes in memory, in bytes.
    #[cfg(feature = "jobs")]
    pub(crate) const MAX_SIZE: usize = Row::max_size(usize::MAX);

    /// Returns the most that the row of an entry of `len` bytes takes in memory, in bytes.
    #[cfg(feature = "jobs")]
    pub(crate) const fn max_size(len: usize) -> usize {
        /// Names of host and account, and a path.
        const NAMES: usize = 8 * 1024;
        /// A row without its texts: itself, its heap blocks and names.
        const ROW: usize = size_of::<Row>() + 15 * ALLOCATION + NAMES;
        /// An alert without its texts.
        const ALERT: usize = size_of::<RuleRow>() + 9 * ALLOCATION;
        /// The most bytes that all texts of a row have, cut to what the columns take.
        const TEXTS: usize = 15 * MAX_TEXT + 6 * MAX_ALERT_TEXT + 3 * MAX_ALERTS * MAX_TAGS;
        // The shortest alert is `{},` in an array. A byte that is not UTF-8 becomes three, and is
        // there twice if it belongs to a target, and once more if the alert is the cause; in tags, a
        // control character becomes six bytes, beside the quotes.
        let alerts = if len / 3 < MAX_ALERTS {
            len / 3
        } else {
            MAX_ALERTS
        };
        let texts = if len < TEXTS / 9 { 9 * len } else { TEXTS };
        ROW + alerts * ALERT + texts
    }

    /// Returns how many bytes the row takes in memory, about: the struct, its texts by capacity,
    /// and its rule matches.
    ///
    /// The ingest counts rows by it, so that the batch under way has a bound whatever the entries
    /// hold.
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
            &self.blocked_by,
            &self.path_template,
        ];
        let rules: usize = self.rule_matches.iter().map(RuleRow::size).sum();
        size_of::<Row>() + heap(texts) + rules
    }

    /// Returns the values in the order of [`LOG_COLUMNS`], borrowing all texts.
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
            Value::text(self.blocked_by.as_ref()),
            Value::name(self.outcome.map(Outcome::name)),
            Value::name(self.category.map(Category::name)),
            Value::int(self.threshold),
            Value::int(self.is_sole),
            Value::text(self.path_template.as_ref()),
            self.client_ip.map_or(Value::Null, Value::Address),
        ]
    }
}

impl RuleRow {
    /// Builds the row of one alert. Texts are decoded and cut as in [`Row::new`].
    fn new(alert: &Alert<'_>, meaning: &Meaning<'_>) -> RuleRow {
        let target = meaning.target.as_ref();
        let points = meaning.points;
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
            kind: Some(meaning.kind),
            target: text(target.map(|target| &target.text)),
            target_source: target.map(|target| target.source),
            points: points.map(|points| points.value),
            points_for: points.map(|points| points.direction),
            points_source: points.map(|points| points.source),
            paranoia_level: meaning.paranoia_level,
            category: meaning.category,
        }
    }

    /// Returns how many bytes it takes in memory, about, as [`Row::size`] does.
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
            &self.target,
        ];
        size_of::<RuleRow>() + heap(texts)
    }

    /// Returns the values in the order of [`RULE_COLUMNS`], borrowing all texts.
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
            Value::name(self.kind.map(Kind::name)),
            Value::text(self.target.as_ref()),
            Value::name(self.target_source.map(TargetSource::name)),
            Value::int(self.points),
            Value::name(self.points_for.map(Direction::name)),
            Value::name(self.points_source.map(PointsSource::name)),
            Value::int(self.paranoia_level),
            Value::name(self.category.map(Category::name)),
        ]
    }
}

impl Value<'_> {
    /// Returns the value with a text of its own.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::Null => Value::Null,
            Value::Int(number) => Value::Int(number),
            Value::Text(text) => Value::Text(Cow::Owned(text.into_owned())),
            Value::Time(time) => Value::Time(time),
            Value::Hash(hash) => Value::Hash(hash),
            Value::Address(ip) => Value::Address(ip),
        }
    }
}

impl<'a> Value<'a> {
    /// Returns a text, or null if there is none.
    fn text(text: Option<&'a String>) -> Self {
        text.map_or(Value::Null, |text| Value::Text(Cow::Borrowed(text)))
    }

    /// Returns the fixed name of an enum's value, or null if there is none.
    fn name(name: Option<&'static str>) -> Self {
        name.map_or(Value::Null, |name| Value::Text(Cow::Borrowed(name)))
    }

    /// Returns a number of any width up to 64 bits, or null if there is none.
    fn int(number: Option<impl Into<i64>>) -> Self {
        number.map_or(Value::Null, |number| Value::Int(number.into()))
    }
}

/// What the allocator adds to each text.
#[cfg(feature = "jobs")]
const ALLOCATION: usize = 16;

/// Returns how many bytes texts take on the heap; 16 more each for the allocator's own record.
#[cfg(feature = "jobs")]
fn heap<const N: usize>(texts: [&Option<String>; N]) -> usize {
    let texts = texts.into_iter().flatten();
    texts.map(|text| text.capacity() + ALLOCATION).sum()
}

/// Returns the longest beginning of `text` that has at most `bytes` bytes and cuts no character.
///
/// `cut("é", 1)` is empty: the character has two bytes.
pub(crate) fn cut(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Writes an instant as `YYYY-MM-DD HH:MM:SS.ffffff` in UTC.
///
/// In this form instants sort as text, and SQLite's date functions and MySQL read it. Digits behind
/// the microsecond are cut, not rounded. Returns `None` outside the years 0 to 9999, which neither
/// database knows.
///
/// ```
/// use modsec_core::store::sql_time;
///
/// let time = "2026-08-22T10:15:00.000001+05:45".parse()?;
/// assert_eq!(sql_time(&time).as_deref(), Some("2026-08-22 04:30:00.000001"));
/// # Ok::<(), chrono::ParseError>(())
/// ```
pub fn sql_time(time: &DateTime<Utc>) -> Option<String> {
    let text = time.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    // Years of another length get a sign.
    text.starts_with(|first: char| first.is_ascii_digit())
        .then_some(text)
}

/// Returns an address as 16 bytes that sort as addresses do: IPv6, and IPv4 mapped into it.
///
/// A network is a range of such keys, so that one index serves both families.
///
/// ```
/// use modsec_core::store::client_key;
///
/// let key = |ip: &str| ip.parse().map(client_key);
/// assert!(key("192.0.2.9")? < key("192.0.2.10")?);
/// assert_eq!(key("192.0.2.9"), key("::ffff:192.0.2.9"));
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
pub fn client_key(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Decodes a text lossily and cuts it to [`MAX_TEXT`] bytes.
///
/// An owned text that fits is moved; all else is copied once, so that no row keeps a capacity far
/// beyond its length.
fn text(text: Option<&Text<'_>>) -> Option<String> {
    let text = text?.to_str_lossy();
    Some(match text {
        Cow::Owned(mut text) if text.len() <= MAX_TEXT => {
            text.shrink_to_fit();
            text
        }
        text => cut(&text, MAX_TEXT).to_owned(),
    })
}

/// Writes tags as a JSON array of strings, such as `["attack-sqli","paranoia-level/1"]`; `None` for
/// no tags.
///
/// A tag that would make the text longer than [`MAX_TEXT`] is left out whole, and shorter ones
/// behind it may still go in: what is stored is always valid JSON.
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
    json.shrink_to_fit();
    Some(json)
}

/// Appends `text` with quotes, backslashes and control characters escaped as RFC 8259, section 7,
/// demands. All other characters stand as they are.
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
mod tests;

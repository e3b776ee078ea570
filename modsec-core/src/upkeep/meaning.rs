//! What a stored row and its alerts mean, as far as they say.
//!
//! ```text
//! program that stored the row        what is taken
//! ─────────────────────────────────  ─────────────────────────────────────────────────────
//! this one, or one that knew         nothing: it was computed from the entry
//! one before that                    its alerts, as an entry without part K has them
//! mod_sec_log_parser.py              the one rule that it kept; blocked if it found a phase
//! ```

use std::net::IpAddr;

use crate::cause::{Analysis, Category, Kind, Meaning, Outcome, path, path_template};
use crate::format::json;
use crate::record::{Alert, AlertAction, EngineMode, Record, Severity};
use crate::store::{Cell, Change, MAX_TEXT, RowOf, Value, cut};
use crate::text::Text;

/// What is read of a row of `logs`, in this order.
pub(super) const LOG_COLUMNS: &str = "id, REQUEST_URI, REMOTE_ADDR, ruleId, msg, data, severity, \
     responce_header, Engine_Mode, phase, client_ip, intercepted, entry_hash is not null, \
     coalesce(blocked_by, outcome, category, threshold, sole) is not null \
     or path_template is not null or client_key is not null";

/// What is read of a row of `rule_matches`, in this order.
pub(super) const ALERT_COLUMNS: &str = "log_id, position, ruleId, msg, data, severity, file, line, \
     maturity, accuracy, tags, phase, verified, detail, rule_key is not null";

/// A row of `logs` whose meaning nobody computed.
#[derive(Debug, Default)]
pub(super) struct StoredRow {
    /// Its number.
    pub(super) id: i64,
    uri: Option<String>,
    remote_addr: Option<String>,
    rule_id: Option<String>,
    msg: Option<String>,
    data: Option<String>,
    severity: Option<String>,
    status: Option<i64>,
    engine_mode: Option<String>,
    phase: Option<i64>,
    client_ip: Option<String>,
    intercepted: bool,
    /// Whether it has a hash: rows of the old script have none.
    has_hash: bool,
    /// Whether the program that stored it computed what it means.
    is_known: bool,
    /// Its alerts, in the order of the log.
    alerts: Vec<StoredAlert>,
}

/// A row of `rule_matches`.
#[derive(Debug, Default)]
pub(super) struct StoredAlert {
    /// Number of the row of `logs`.
    pub(super) log_id: i64,
    position: i64,
    rule_id: Option<String>,
    msg: Option<String>,
    data: Option<String>,
    severity: Option<String>,
    file: Option<String>,
    line: Option<i64>,
    maturity: Option<i64>,
    accuracy: Option<i64>,
    tags: Option<String>,
    phase: Option<i64>,
    verified: Option<i64>,
    detail: Option<String>,
    /// Whether the program that stored it computed what it means.
    is_known: bool,
}

/// Cells of one row, in their order.
struct Reader(std::vec::IntoIter<Cell>);

impl Reader {
    fn text(&mut self) -> Option<String> {
        self.0.next()?.text()
    }

    fn int(&mut self) -> Option<i64> {
        self.0.next()?.int()
    }

    fn truth(&mut self) -> bool {
        self.int() == Some(1)
    }
}

impl StoredAlert {
    /// Reads a row of [`ALERT_COLUMNS`].
    pub(super) fn new(cells: Vec<Cell>) -> StoredAlert {
        let mut cells = Reader(cells.into_iter());
        StoredAlert {
            log_id: cells.int().unwrap_or_default(),
            position: cells.int().unwrap_or_default(),
            rule_id: cells.text(),
            msg: cells.text(),
            data: cells.text(),
            severity: cells.text(),
            file: cells.text(),
            line: cells.int(),
            maturity: cells.int(),
            accuracy: cells.int(),
            tags: cells.text(),
            phase: cells.int(),
            verified: cells.int(),
            detail: cells.text(),
            is_known: cells.truth(),
        }
    }

    /// Returns the alert as it stood in the entry, as far as it was stored.
    ///
    /// Which of them intercepted shows in the phase, which warnings have not.
    fn alert(&self, row: &StoredRow) -> Alert<'_> {
        let tags = self.tags.as_deref().map(str::as_bytes);
        let denies = row.intercepted && self.phase.is_some() && self.phase == row.phase;
        Alert {
            action: denies.then_some(AlertAction::Denied),
            phase: self.phase.and_then(|phase| phase.try_into().ok()),
            detail: self.detail.as_deref().unwrap_or_default().into(),
            file: text(self.file.as_ref()),
            line: self.line.and_then(|line| line.try_into().ok()),
            rule_id: text(self.rule_id.as_ref()),
            msg: text(self.msg.as_ref()),
            data: text(self.data.as_ref()),
            severity: severity(self.severity.as_ref()),
            maturity: self.maturity,
            accuracy: self.accuracy,
            tags: tags.and_then(json::texts).unwrap_or_default(),
            verified: self.verified.map(|verified| verified != 0),
            ..Alert::default()
        }
    }

    /// Returns `true` for a sentence of libmodsecurity or Coraza.
    fn is_of_version_3(&self) -> bool {
        let detail = self.detail.as_deref().unwrap_or_default();
        detail.starts_with("Matched \"Operator `")
    }

    /// Returns the columns that say what the alert means.
    fn set(&self, meaning: &Meaning<'_>) -> Change {
        let target = meaning.target.as_ref();
        let points = meaning.points;
        Change::Set {
            row: RowOf::RuleMatches(self.log_id, self.position),
            values: vec![
                ("kind", name(Some(meaning.kind.name()))),
                (
                    "target",
                    target.map_or(Value::Null, |target| owned(&target.text.to_str_lossy())),
                ),
                ("target_source", name(target.map(|it| it.source.name()))),
                ("points", int(points.map(|points| points.value))),
                ("points_for", name(points.map(|it| it.direction.name()))),
                ("points_source", name(points.map(|it| it.source.name()))),
                ("paranoia_level", int(meaning.paranoia_level)),
                ("category", name(meaning.category.map(Category::name))),
            ],
        }
    }
}

impl StoredRow {
    /// Reads a row of [`LOG_COLUMNS`].
    pub(super) fn new(cells: Vec<Cell>) -> StoredRow {
        let mut cells = Reader(cells.into_iter());
        StoredRow {
            id: cells.int().unwrap_or_default(),
            uri: cells.text(),
            remote_addr: cells.text(),
            rule_id: cells.text(),
            msg: cells.text(),
            data: cells.text(),
            severity: cells.text(),
            status: cells.int(),
            engine_mode: cells.text(),
            phase: cells.int(),
            client_ip: cells.text(),
            intercepted: cells.truth(),
            has_hash: cells.truth(),
            is_known: cells.truth(),
            alerts: Vec::new(),
        }
    }

    /// Adds an alert of this row.
    pub(super) fn add(&mut self, alert: StoredAlert) {
        self.is_known |= alert.is_known;
        self.alerts.push(alert);
    }

    /// Returns the changes that make the row complete, the mark that it is so as the last one, and
    /// `true` if what is added may differ from what the entry said.
    pub(super) fn changes(&self) -> (Vec<Change>, bool) {
        let mut changes = Vec::new();
        let mut values = Vec::new();
        // The old script finds values in places where a client may have written them.
        let is_estimated = !self.is_known && (!self.has_hash || !self.alerts.is_empty());
        if !self.is_known {
            values = self.of_request();
            if self.has_hash {
                values.extend(self.analyse(&mut changes));
            } else {
                values.extend(self.of_one_rule());
            }
        }
        values.push(("estimated", Value::Int(is_estimated.into())));
        changes.push(Change::Set {
            row: RowOf::Logs(self.id),
            values,
        });
        (changes, is_estimated)
    }

    /// Returns what is said of client and path.
    fn of_request(&self) -> Vec<(&'static str, Value<'static>)> {
        let address = |text: &String| text.parse::<IpAddr>().ok();
        let mut values = Vec::new();
        let mut client = self.client_ip.as_ref().and_then(address);
        if client.is_none() && !self.has_hash {
            // Of a proxy, if there is one: the script looked no further.
            client = self.remote_addr.as_ref().and_then(address);
            let text = client.map_or(Value::Null, |client| owned(&client.to_string()));
            values.push(("client_ip", text));
        }
        values.push(("client_key", client.map_or(Value::Null, Value::Address)));
        let template = self.uri.as_ref().map_or(Value::Null, |uri| {
            let template = path_template(path(uri.as_bytes()));
            owned(cut(&String::from_utf8_lossy(&template), MAX_TEXT))
        });
        values.push(("path_template", template));
        values
    }

    /// Returns what the alerts say together, and adds the changes of each.
    fn analyse(&self, changes: &mut Vec<Change>) -> Vec<(&'static str, Value<'static>)> {
        let mut record = Record {
            alerts: self.alerts.iter().map(|alert| alert.alert(self)).collect(),
            ..Record::default()
        };
        record.response.status = self.status.and_then(|status| status.try_into().ok());
        record.engine.mode = self.engine_mode.as_deref().and_then(engine_mode);
        // Without a word for it the JSON of libmodsecurity says nothing, not no.
        let says = self.intercepted || !self.alerts.iter().any(StoredAlert::is_of_version_3);
        record.interrupted = says.then_some(self.intercepted);
        let analysis = Analysis::of(&record);
        let pairs = self.alerts.iter().zip(&analysis.alerts);
        changes.extend(pairs.map(|(alert, meaning)| alert.set(meaning)));
        let of = |at: Option<usize>| at.and_then(|at| self.alerts.get(at));
        let cause = of(analysis.cause);
        let category = analysis
            .cause
            .and_then(|at| analysis.alerts.get(at)?.category);
        let blocked_by = of(analysis.blocked_by).and_then(|alert| alert.rule_id.as_ref());
        let mut values = vec![
            ("blocked_by", blocked_by.map_or(Value::Null, |id| owned(id))),
            ("outcome", name(analysis.outcome.map(Outcome::name))),
            ("category", name(category.map(Category::name))),
            ("threshold", int(analysis.threshold)),
            ("sole", int(analysis.is_sole)),
        ];
        if let Some(cause) = cause {
            let copy = |text: &Option<String>| text.as_ref().map_or(Value::Null, |it| owned(it));
            let msg = if cause.msg.is_some() {
                &cause.msg
            } else {
                &cause.detail
            };
            values.extend([
                ("ruleId", copy(&cause.rule_id)),
                ("msg", copy(msg)),
                ("data", copy(&cause.data)),
                ("severity", copy(&cause.severity)),
                ("maturity", int(cause.maturity)),
                ("accuracy", int(cause.accuracy)),
            ]);
        }
        values
    }

    /// Returns what can be said of a row of the old script, which kept the first rule of the file.
    ///
    /// It looked for a phase, which only alerts of an interception name.
    fn of_one_rule(&self) -> Vec<(&'static str, Value<'static>)> {
        let alert = Alert {
            rule_id: text(self.rule_id.as_ref()),
            msg: text(self.msg.as_ref()),
            data: text(self.data.as_ref()),
            severity: severity(self.severity.as_ref()),
            ..Alert::default()
        };
        let is_detection = alert.rule_id.is_some() && Kind::of(&alert) == Kind::Detection;
        let mode = self.engine_mode.as_deref().and_then(engine_mode);
        let blocks =
            self.phase.is_some_and(|phase| phase > 0) && mode != Some(EngineMode::DetectionOnly);
        let outcome = match (blocks, is_detection) {
            (true, _) => Some(Outcome::Blocked),
            (false, true) => Some(Outcome::Detected),
            (false, false) => None,
        };
        let category = is_detection.then(|| Category::of(&alert)).flatten();
        vec![
            ("outcome", name(outcome.map(Outcome::name))),
            ("category", name(category.map(Category::name))),
        ]
    }
}

/// Returns a text as records have it.
fn text(text: Option<&String>) -> Option<Text<'_>> {
    text.map(|text| text.as_str().into())
}

/// Returns the severity of this name.
fn severity(name: Option<&String>) -> Option<Severity> {
    Severity::parse(name?.as_bytes())
}

/// Returns the mode of this name.
fn engine_mode(name: &str) -> Option<EngineMode> {
    let modes = [
        EngineMode::Enabled,
        EngineMode::DetectionOnly,
        EngineMode::Disabled,
    ];
    modes.into_iter().find(|mode| mode.name() == name)
}

/// Returns a text as a value.
fn owned(text: &str) -> Value<'static> {
    Value::Text(text.to_owned().into())
}

/// Returns a fixed name as a value.
fn name(name: Option<&'static str>) -> Value<'static> {
    name.map_or(Value::Null, |name| Value::Text(name.into()))
}

/// Returns a number as a value.
fn int(number: Option<impl Into<i64>>) -> Value<'static> {
    number.map_or(Value::Null, |number| Value::Int(number.into()))
}

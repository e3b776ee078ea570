//! The names of a filter: which column each is about, and how values are compared.
//!
//! The only place that knows names of columns and tables.

use crate::likeness::nearest;

/// A name and what stands behind it.
#[derive(Debug)]
pub(super) struct Field {
    /// As written before the operator.
    pub(super) name: &'static str,
    /// How its column is compared.
    pub(super) kind: Kind,
    /// The table of the column.
    pub(super) table: Table,
    /// The column.
    pub(super) column: &'static str,
    /// Whether an index begins with the column, so that a condition must be one that can use it.
    pub(super) is_indexed: bool,
}

impl PartialEq for Field {
    fn eq(&self, other: &Field) -> bool {
        self.name == other.name
    }
}

impl Eq for Field {}

/// How a column is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An address in a network.
    Client,
    /// Text, byte by byte.
    Exact,
    /// Text, without regard to the case of A to Z.
    AnyCase,
    /// A whole number.
    Number,
    /// A severity by its name.
    Severity,
    /// Yes or no: `blocked`.
    Blocked,
    /// `blocked` or `detected`.
    Outcome,
    /// One of a list with commas.
    Flag,
    /// An instant.
    Time,
    /// An instant, from the given one on.
    Since,
    /// An instant, up to the given one.
    Until,
    /// Sixteen bytes, by their first hexadecimal digits.
    Hash,
}

/// Where the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// In `logs`, one row a transaction.
    Logs,
    /// In `rule_matches`, one row an alert.
    Alerts,
    /// In `modsec_rules`, one row for all alerts that are equal in it; of an alert that an older program
    /// has stored, and that has no key into it, in `rule_matches`.
    Rules,
}

/// Returns a field of `logs`.
const fn log(name: &'static str, kind: Kind, column: &'static str) -> Field {
    Field {
        name,
        kind,
        table: Table::Logs,
        column,
        is_indexed: false,
    }
}

/// Returns a field of what each alert has for itself.
const fn alert(name: &'static str, kind: Kind, column: &'static str) -> Field {
    Field {
        table: Table::Alerts,
        ..log(name, kind, column)
    }
}

/// Returns a field of what alerts of a rule have in common.
const fn rule(name: &'static str, kind: Kind, column: &'static str) -> Field {
    Field {
        table: Table::Rules,
        ..log(name, kind, column)
    }
}

/// Returns the same field with an index on its column.
const fn indexed(field: &Field) -> Field {
    Field {
        is_indexed: true,
        ..*field
    }
}

/// All names. The documentation of the module has the same table.
pub(super) static FIELDS: [Field; 27] = [
    log("client", Kind::Client, "client_key"),
    indexed(&log("host", Kind::AnyCase, "Host")),
    indexed(&log("account", Kind::Exact, "account")),
    log("sensor", Kind::AnyCase, "sensor"),
    indexed(&alert("rule", Kind::Exact, "ruleId")),
    indexed(&log("cause", Kind::Exact, "ruleId")),
    log("category", Kind::AnyCase, "category"),
    rule("target", Kind::AnyCase, "target"),
    log("path", Kind::Exact, "path_template"),
    log("uri", Kind::AnyCase, "REQUEST_URI"),
    log("method", Kind::AnyCase, "REQUEST_METHOD"),
    log("status", Kind::Number, "responce_header"),
    log("score", Kind::Number, "Score"),
    log("threshold", Kind::Number, "threshold"),
    log("severity", Kind::Severity, "severity"),
    rule("pl", Kind::Number, "paranoia_level"),
    log("agent", Kind::AnyCase, "User_Agent"),
    log("blocked", Kind::Blocked, "outcome"),
    log("outcome", Kind::Outcome, "outcome"),
    log("flag", Kind::Flag, "flags"),
    alert("data", Kind::AnyCase, "data"),
    rule("msg", Kind::AnyCase, "msg"),
    log("time", Kind::Time, "created_at"),
    log("since", Kind::Since, "created_at"),
    log("until", Kind::Until, "created_at"),
    indexed(&log("id", Kind::Exact, "unique_id")),
    log("hash", Kind::Hash, "entry_hash"),
];

/// Columns of `logs` in which text without a name is looked for, without regard to case.
pub(super) const TEXT_COLUMNS: [&str; 3] = ["REQUEST_URI", "data", "User_Agent"];

/// Words that people write for a name.
const SYNONYMS: [(&[&str], &str); 18] = [
    (
        &[
            "ip",
            "addr",
            "address",
            "client_ip",
            "remote_addr",
            "src",
            "peer",
        ],
        "client",
    ),
    (&["site", "vhost", "domain", "server_name"], "host"),
    (&["user", "owner", "username"], "account"),
    (&["server", "machine", "node"], "sensor"),
    (&["ruleid", "rule_id", "alert"], "rule"),
    (&["tag", "tags", "attack", "type", "cat"], "category"),
    (
        &["arg", "args", "param", "parameter", "variable", "var"],
        "target",
    ),
    (&["url", "request", "query"], "uri"),
    (&["verb", "request_method"], "method"),
    (&["code", "response", "http_status"], "status"),
    (&["points", "anomaly_score"], "score"),
    (&["level", "sev", "priority"], "severity"),
    (&["paranoia", "paranoia_level"], "pl"),
    (&["ua", "useragent", "user_agent", "browser"], "agent"),
    (&["intercepted", "denied"], "blocked"),
    (&["message"], "msg"),
    (&["date", "day", "hour", "at", "created_at"], "time"),
    (&["unique_id", "tx", "txid", "transaction"], "id"),
];

/// More words, of other languages for searching.
const TIMES: [(&[&str], &str); 2] = [
    (&["from", "after", "begin", "start"], "since"),
    (&["to", "before", "end", "stop"], "until"),
];

/// Returns the field with this name, in any case.
pub(super) fn named(name: &str) -> Option<&'static Field> {
    FIELDS
        .iter()
        .find(|field| field.name.eq_ignore_ascii_case(name))
}

/// Returns the name that is meant by an unknown one, if that is clear.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS
        .iter()
        .chain(&TIMES)
        .find(|(words, _)| words.contains(&name.as_str()));
    let alike = || {
        let names = FIELDS.iter().map(|field| field.name);
        nearest(&name, names)
    };
    synonym.map(|(_, name)| *name).or_else(alike)
}

//! What repeats from alert to alert is stored once.
//!
//! ```text
//! RuleRow ─┬─ ALERT_COLUMNS  ─► rule_matches: one row an alert, with the key
//!          └─ shared_columns ─► modsec_rules: one row for all that are equal
//!                 └─ rule_key: a hash of them, so writers need not ask each other for numbers
//! view modsec_alerts: all together, in the names of RULE_COLUMNS
//! ```
//!
//! A client chooses the names of parameters, and a scanner has many. So an alert about `ARGS:q` is
//! two rows of `modsec_rules`, of which only the small one has the name:
//!
//! ```text
//! rule_matches m ── rule_key ─► r: target ARGS:q ── text_key ─► t: msg, file, tags, …
//!                                                                  detail `… at {target}.`
//! ```
//!
//! A program that knows no `modsec_rules` writes all of it into `rule_matches`, and no key; the view
//! shows its alerts like all others. For its sake `rule_matches` is a table still, with all its
//! columns.

use std::borrow::Cow;

use super::row::{RULE_COLUMNS, RuleRow, Value};

/// Those of [`RULE_COLUMNS`] that one alert has for itself. `ruleId` is here too, because people and an
/// index ask for it.
pub(super) const ALERT_COLUMNS: [&str; 5] = ["ruleId", "data", "phase", "verified", "detail"];

/// Those of [`ALERT_COLUMNS`] that never repeat.
const OWN_COLUMNS: [&str; 3] = ["data", "phase", "verified"];

/// Returns those of [`RULE_COLUMNS`] that say what the rule is and what it looked at, in their order.
///
/// `detail` is in one of the two places: with the alert if it may have a client's text, which hardly
/// repeats.
fn shared_columns() -> impl Iterator<Item = &'static str> {
    let is_shared = |column: &&str| !OWN_COLUMNS.contains(column);
    RULE_COLUMNS.into_iter().filter(is_shared)
}

/// Returns the columns of `modsec_rules` in the order of [`Shared::values`].
pub(super) fn rule_table_columns() -> Vec<&'static str> {
    ["rule_key", "text_key"]
        .into_iter()
        .chain(shared_columns())
        .collect()
}

/// Columns of `rule_matches` that the first migration makes, of [`RULE_COLUMNS`].
const FIRST_RULE_COLUMNS: usize = 14;

/// Returns our tables beside `logs`, each with the columns that it has from its beginning. A table
/// without them is another program's.
pub(super) fn first_columns() -> [(&'static str, Vec<&'static str>); 3] {
    let alerts = ["log_id", "position"].into_iter();
    let of_alerts = RULE_COLUMNS.into_iter().take(FIRST_RULE_COLUMNS);
    [
        ("rule_matches", alerts.chain(of_alerts).collect()),
        ("modsec_batches", vec!["journal", "batch"]),
        (
            "modsec_rules",
            ["rule_key"].into_iter().chain(shared_columns()).collect(),
        ),
    ]
}

/// Those of [`shared_columns`] that are numbers.
const NUMBERS: [&str; 5] = ["line", "maturity", "accuracy", "points", "paranoia_level"];

/// The view's name.
pub(super) const VIEW: &str = "modsec_alerts";

/// A word of the view that those of before did not have.
pub(super) const VIEW_HAS: &str = "text_key";

/// Joins what alerts share to `rule_matches m`.
const SHARED: &str = "left join modsec_rules r on r.rule_key = m.rule_key \
                                 left join modsec_rules t on t.rule_key = r.text_key";

/// What stands in the detail of a text for the name of the target.
const PLACE: &str = "{target}";

/// Returns a column of an alert, wherever it is stored, of `rule_matches m` and [`SHARED`].
///
/// `collate` follows a text of `rule_matches`: a server that was upgraded since may sort the texts of the
/// two tables in two ways.
pub(crate) fn alert_column(collate: &str, column: &str) -> String {
    let is_own = ALERT_COLUMNS.contains(&column) && column != "detail";
    if is_own {
        return format!("m.{column}");
    }
    let collate = if NUMBERS.contains(&column) {
        ""
    } else {
        collate
    };
    let whole = format!("t.{column}, r.{column}, m.{column}{collate}");
    if column == "detail" {
        // Null without a target.
        format!("coalesce(replace(t.detail, '{PLACE}', r.target), {whole})")
    } else {
        format!("coalesce({whole})")
    }
}

/// Returns what follows `create` to make the view; `collate` as for [`alert_column`].
pub(super) fn view(collate: &str) -> String {
    let column = |column: &&str| format!("{} as {column}", alert_column(collate, column));
    let columns: Vec<String> = RULE_COLUMNS.iter().map(column).collect();
    format!(
        "view {VIEW} as select m.log_id, m.position, {}
         from rule_matches m {SHARED}",
        columns.join(", ")
    )
}

/// An alert as it is stored.
pub(super) struct Split<'r> {
    /// The row of `modsec_rules` that the alert names.
    pub(super) rule_key: i64,
    /// Values of [`ALERT_COLUMNS`].
    pub(super) own: Vec<Value<'r>>,
    /// Rows of `modsec_rules`, the one that another one names first.
    pub(super) shared: Vec<Shared<'r>>,
}

/// A row of `modsec_rules`.
pub(super) struct Shared<'r> {
    /// Its key.
    pub(super) rule_key: i64,
    /// In the order of [`rule_table_columns`].
    pub(super) values: Vec<Value<'r>>,
}

impl<'r> Shared<'r> {
    /// Returns the row of these values of [`shared_columns`], under the key that is theirs.
    fn new(text_key: Option<i64>, values: Vec<Value<'r>>) -> Shared<'r> {
        let hashed = text_key.map(Value::Int).into_iter().chain(values.clone());
        let rule_key = rule_key(hashed);
        let text_key = text_key.map_or(Value::Null, Value::Int);
        let values = [Value::Int(rule_key), text_key].into_iter().chain(values);
        Shared {
            rule_key,
            values: values.collect(),
        }
    }
}

impl Split<'_> {
    /// Divides the values of an alert between the two tables.
    pub(super) fn new(rule: &RuleRow) -> Split<'_> {
        let target = rule.target.as_deref();
        let is_named = target.is_some_and(|target| target.contains(':'));
        let detail = rule.detail.as_deref();
        let shared_detail = detail.and_then(|detail| shared_detail(detail, target, is_named));
        let (mut own, mut texts, mut named) = (Vec::new(), Vec::new(), Vec::new());
        for (column, value) in RULE_COLUMNS.iter().zip(rule.values()) {
            if ALERT_COLUMNS.contains(column) {
                let is_elsewhere = *column == "detail" && shared_detail.is_some();
                own.push(if is_elsewhere {
                    Value::Null
                } else {
                    value.clone()
                });
            }
            if OWN_COLUMNS.contains(column) {
                continue;
            }
            let (of_text, of_name) = match *column {
                "detail" => {
                    let detail = shared_detail.clone();
                    (detail.map_or(Value::Null, Value::Text), Value::Null)
                }
                "target" if is_named => (Value::Null, value),
                _ => (value, Value::Null),
            };
            texts.push(of_text);
            named.push(of_name);
        }
        let mut shared = vec![Shared::new(None, texts)];
        let text_key = shared[0].rule_key;
        let mut rule_key = text_key;
        if is_named {
            let name = Shared::new(Some(text_key), named);
            rule_key = name.rule_key;
            shared.push(name);
        }
        Split {
            rule_key,
            own,
            shared,
        }
    }
}

/// Beginnings of the engine's sentences that quote the rule, and nothing that a client sent but the name
/// of the target (`re_operators.c`).
const SENTENCES: [&str; 5] = [
    "Pattern match ",
    "Matched phrase ",
    "Operator ",
    "String match ",
    "Match of ",
];

/// What follows the name of the target in them.
const SENTENCE_ENDS: [&str; 2] = [".", "\" required."];

/// What libinjection says begins so, and has a fingerprint of a few characters.
const LIBINJECTION: (&str, usize) = ("detected ", 80);

/// Returns what alerts can share of a detail: all of it, with [`PLACE`] for a target that a client named.
/// `None` if it may have more of what a client sent, as a sentence of libmodsecurity has: ``… against
/// variable `ARGS:q' (Value: `1' or 1=1' )``.
fn shared_detail<'r>(
    detail: &'r str,
    target: Option<&str>,
    is_named: bool,
) -> Option<Cow<'r, str>> {
    let (beginning, longest) = LIBINJECTION;
    if detail.starts_with(beginning) && detail.len() <= longest {
        return Some(detail.into());
    }
    let (before, after) = detail.rsplit_once(target?)?;
    let is_of_rule = SENTENCES.iter().any(|start| before.starts_with(start))
        && SENTENCE_ENDS.contains(&after)
        && !detail.contains(PLACE);
    is_of_rule.then(|| {
        if is_named {
            format!("{before}{PLACE}{after}").into()
        } else {
            detail.into()
        }
    })
}

/// Returns the key of values that alerts share: the first eight bytes of BLAKE3 over them.
///
/// So writers need not ask each other for numbers. A client could find two names of targets with one key
/// after some 2^32 tries; an alert about the one is then shown with the other's values, but for `ruleId`.
fn rule_key<'r>(shared: impl IntoIterator<Item = Value<'r>>) -> i64 {
    let mut hasher = blake3::Hasher::new();
    for value in shared {
        match value {
            Value::Null => hasher.update(&[0]),
            Value::Int(number) => hasher.update(&[1]).update(&number.to_le_bytes()),
            Value::Text(text) => {
                let len = text.len() as u64;
                hasher.update(&[2]).update(&len.to_le_bytes());
                hasher.update(text.as_bytes())
            }
            // No shared column has such values.
            Value::Time(_) | Value::Hash(_) | Value::Address(_) => &mut hasher,
        };
    }
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    i64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[test]
    fn columns_are_in_the_order_of_the_values() {
        let ordered = RULE_COLUMNS
            .iter()
            .filter(|column| ALERT_COLUMNS.contains(column));
        assert!(ordered.eq(&ALERT_COLUMNS));
        let shared: Vec<_> = shared_columns().collect();
        for column in RULE_COLUMNS {
            let places = [ALERT_COLUMNS.contains(&column), shared.contains(&column)];
            let both = ["ruleId", "detail"].contains(&column);
            assert_eq!(places[0] && places[1], both, "{column}");
            assert!(places[0] || places[1], "{column}");
        }
    }

    #[test]
    fn key_differs_with_every_shared_value() {
        let row = contract::row(0);
        let rule = &row.rule_matches[0];
        let key = |rule: &RuleRow| Split::new(rule).rule_key;
        let mut other = rule.clone();
        other.data = None;
        other.verified = None;
        assert_eq!(key(rule), key(&other));
        other.msg = Some(String::new());
        let empty = key(&other);
        other.msg = None;
        assert_ne!(empty, key(&other));
        // What moves from one text into the next.
        other.rev = Some("12".to_owned());
        other.ver = Some("3".to_owned());
        let one = key(&other);
        other.rev = Some("1".to_owned());
        other.ver = Some("23".to_owned());
        assert_ne!(one, key(&other));
    }

    /// The rows of `modsec_rules` of an alert, and what it has itself.
    fn rows(target: Option<&str>, detail: &str) -> (Vec<i64>, bool) {
        let rule = RuleRow {
            msg: Some("SQL Injection Attack".to_owned()),
            target: target.map(str::to_owned),
            detail: Some(detail.to_owned()),
            ..RuleRow::default()
        };
        let split = Split::new(&rule);
        let keys: Vec<i64> = split.shared.iter().map(|shared| shared.rule_key).collect();
        assert_eq!(keys.last(), Some(&split.rule_key));
        (keys, split.own.contains(&Value::Text(detail.into())))
    }

    #[test]
    fn names_that_a_client_chose_are_in_no_text() {
        let (one, _) = rows(Some("ARGS:q"), "Pattern match \"x\" at ARGS:q.");
        let (other, _) = rows(Some("ARGS:r"), "Pattern match \"x\" at ARGS:r.");
        assert_eq!(one.len(), 2);
        assert_eq!(one[0], other[0]);
        assert_ne!(one[1], other[1]);
        // Found in the log data, a name stands in no sentence.
        let sentence = "detected SQLi using libinjection with fingerprint 's&1c'";
        let (found, is_own) = rows(Some("ARGS:q"), sentence);
        assert!(found.len() == 2 && !is_own);
    }

    #[test]
    fn detail_is_with_the_alert_if_a_client_may_have_written_in_it() {
        for (target, detail, is_own) in [
            (Some("ARGS:q"), "Pattern match \"x\" at ARGS:q.", false),
            (
                Some("REQUEST_URI"),
                "Pattern match \"x\" at REQUEST_URI.",
                false,
            ),
            (
                Some("ARGS:q"),
                "Match of \"rx ^a$\" against \"ARGS:q\" required.",
                false,
            ),
            (
                Some("ARGS:q"),
                "Matched against variable `ARGS:q' (Value: `x' )",
                true,
            ),
            (
                Some("ARGS:{target}"),
                "Pattern match \"x\" at ARGS:{target}.",
                true,
            ),
            // A name that is longer than what is kept of it.
            (Some("ARGS:q"), "Pattern match \"x\" at ARGS:qqqq.", true),
            (
                Some("ARGS:q"),
                "Found 17 byte(s) in ARGS:q outside range: 1-255.",
                true,
            ),
            (
                None,
                "Multipart parsing error: Multipart: Invalid part header x",
                true,
            ),
            (None, "Pattern match \"x\" at ARGS:q.", true),
        ] {
            assert_eq!(rows(target, detail).1, is_own, "{detail}");
        }
    }
}

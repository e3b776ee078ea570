//! What repeats from alert to alert is stored once.
//!
//! ```text
//! RuleRow ─┬─ ALERT_COLUMNS  ─► rule_matches: one row an alert, with the key
//!          └─ shared_columns ─► modsec_rules: one row for all that are equal
//!                 └─ rule_key: a hash of them, so writers need not ask each other for numbers
//! view modsec_alerts: both together, in the names of RULE_COLUMNS
//! ```
//!
//! A program that knows no `modsec_rules` writes all of it into `rule_matches`, and no key; the view
//! shows its alerts like all others. For its sake `rule_matches` is a table still, with all its
//! columns.

use super::row::{RULE_COLUMNS, RuleRow, Value};

/// Those of [`RULE_COLUMNS`] that one alert has for itself. `ruleId` is here too, because people and an
/// index ask for it.
pub(super) const ALERT_COLUMNS: [&str; 5] = ["ruleId", "data", "phase", "verified", "detail"];

/// Those of [`ALERT_COLUMNS`] that never repeat.
const OWN_COLUMNS: [&str; 3] = ["data", "phase", "verified"];

/// Returns those of [`RULE_COLUMNS`] that say what the rule is and what it looked at, in their order.
///
/// `detail` is in one of the two places: with the alert if it quotes what matched, which hardly repeats.
pub(super) fn shared_columns() -> Vec<&'static str> {
    let is_shared = |column: &&str| !OWN_COLUMNS.contains(column);
    RULE_COLUMNS.into_iter().filter(is_shared).collect()
}

/// Those of [`shared_columns`] that are numbers.
const NUMBERS: [&str; 5] = ["line", "maturity", "accuracy", "points", "paranoia_level"];

/// The view's name.
pub(super) const VIEW: &str = "modsec_alerts";

/// Returns a column of an alert, wherever it is stored, of `rule_matches m` and `modsec_rules r`.
///
/// `collate` follows a text of `rule_matches`: a server that was upgraded since may sort the texts of the
/// two tables in two ways.
pub(crate) fn alert_column(collate: &str, column: &str) -> String {
    let is_own = ALERT_COLUMNS.contains(&column) && column != "detail";
    let is_text = !NUMBERS.contains(&column);
    match (is_own, if is_text { collate } else { "" }) {
        (true, _) => format!("m.{column}"),
        (false, collate) => format!("coalesce(r.{column}, m.{column}{collate})"),
    }
}

/// Returns what follows `create` to make the view; `collate` as for [`alert_column`].
pub(super) fn view(collate: &str) -> String {
    let column = |column: &&str| format!("{} as {column}", alert_column(collate, column));
    let columns: Vec<String> = RULE_COLUMNS.iter().map(column).collect();
    format!(
        "view {VIEW} as select m.log_id, m.position, {}
         from rule_matches m left join modsec_rules r on r.rule_key = m.rule_key",
        columns.join(", ")
    )
}

/// An alert as it is stored.
pub(super) struct Split<'r> {
    /// Of `modsec_rules`.
    pub(super) rule_key: i64,
    /// Values of [`ALERT_COLUMNS`].
    pub(super) own: Vec<Value<'r>>,
    /// Values of [`shared_columns`].
    pub(super) shared: Vec<Value<'r>>,
}

impl Split<'_> {
    /// Divides the values of an alert between the two tables.
    pub(super) fn new(rule: &RuleRow) -> Split<'_> {
        let quotes = rule.detail.as_deref().is_some_and(quotes_value);
        let (mut own, mut shared) = (Vec::new(), Vec::new());
        for (column, value) in RULE_COLUMNS.iter().zip(rule.values()) {
            let is_shared = *column != "detail" || !quotes;
            if !OWN_COLUMNS.contains(column) {
                shared.push(if is_shared {
                    value.clone()
                } else {
                    Value::Null
                });
            }
            if ALERT_COLUMNS.contains(column) {
                own.push(if *column == "detail" && is_shared {
                    Value::Null
                } else {
                    value
                });
            }
        }
        Split {
            rule_key: rule_key(&shared),
            own,
            shared,
        }
    }
}

/// Returns `true` for a sentence of libmodsecurity, which has the value that matched:
/// ``… against variable `ARGS:q' (Value: `1' or 1=1' )``.
fn quotes_value(detail: &str) -> bool {
    detail.contains("(Value: `")
}

/// Returns the key of values that alerts share: the first eight bytes of BLAKE3 over them.
///
/// So writers need not ask each other for numbers. A client who can choose a text could find two
/// texts with one key after some 2^32 tries; an alert of the one is then shown with the other's values.
pub(super) fn rule_key(shared: &[Value<'_>]) -> i64 {
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
        let shared = shared_columns();
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

    #[test]
    fn detail_is_where_it_repeats() {
        let detail = |text: &str| {
            let rule = RuleRow {
                detail: Some(text.to_owned()),
                ..RuleRow::default()
            };
            let split = Split::new(&rule);
            let has = |values: &[Value<'_>]| values.contains(&Value::Text(text.into()));
            (has(&split.own), has(&split.shared))
        };
        assert_eq!(detail("Pattern match \"x\" at ARGS:q."), (false, true));
        assert_eq!(
            detail("Matched against variable `ARGS:q' (Value: `x' )"),
            (true, false)
        );
    }
}

//! A filter asks a row in memory.
//!
//! Says the same as the condition of SQL about the same row in a database.

use super::Filter;
use super::field::{Field, Kind, TEXT_COLUMNS, Table};
use super::pattern::Pattern;
use super::tree::{Node, Value};
use crate::record::Severity;
use crate::store::{LOG_COLUMNS, RULE_COLUMNS, Row, Value as Stored, client_key, sql_time};

/// The values of one row of a table.
type Values<'r> = &'r [Stored<'r>];

impl Filter {
    /// Returns `true` if the transaction is one that is meant.
    ///
    /// What counts are the values that a database gets ([`Row::values`]). A database of which columns are
    /// narrower, as those of an old table may be, has cut them.
    pub fn matches(&self, row: &Row) -> bool {
        let rules: Vec<_> = row.rule_matches.iter().map(|rule| rule.values()).collect();
        let rows = Rows {
            log: &row.values(),
            rules: &rules,
        };
        rows.fit(&self.root)
    }
}

/// One transaction.
struct Rows<'r> {
    /// In the order of [`LOG_COLUMNS`].
    log: Values<'r>,
    /// One for each alert, in the order of [`RULE_COLUMNS`].
    rules: &'r [[Stored<'r>; RULE_COLUMNS.len()]],
}

impl Rows<'_> {
    /// Returns `true` if the condition is true of the transaction.
    fn fit(&self, node: &Node) -> bool {
        match node {
            Node::All(nodes) => nodes.iter().all(|node| self.fit(node)),
            Node::Any(nodes) => nodes.iter().any(|node| self.fit(node)),
            Node::Not(inner) => !self.fit(inner),
            Node::Test { field, values } => match field.table {
                Table::Logs => {
                    any_fits(field, values, column(&LOG_COLUMNS, self.log, field.column))
                }
                Table::Alerts | Table::Rules => self
                    .rules
                    .iter()
                    .any(|rule| any_fits(field, values, column(&RULE_COLUMNS, rule, field.column))),
            },
            Node::Text(pattern) => TEXT_COLUMNS.into_iter().any(|name| {
                let stored = column(&LOG_COLUMNS, self.log, name);
                matches!(stored, Stored::Text(text) if in_any_case(pattern, text))
            }),
        }
    }
}

/// Returns a row's value of a column; null if it has no such column. `names` has the same order
/// as `values`.
fn column<'r>(names: &[&str], values: Values<'r>, name: &str) -> &'r Stored<'r> {
    let at = names.iter().position(|known| *known == name);
    at.and_then(|at| values.get(at)).unwrap_or(&Stored::Null)
}

/// Returns `true` if one of the values fits. Null fits none.
fn any_fits(field: &Field, values: &[Value], stored: &Stored<'_>) -> bool {
    values.iter().any(|value| fits(field.kind, value, stored))
}

/// Returns `true` if the value fits what is stored. Null fits nothing, nor does a value of
/// another kind. A range of times is in whole seconds: the fraction of a stored time is of no
/// account.
fn fits(kind: Kind, value: &Value, stored: &Stored<'_>) -> bool {
    match (value, stored) {
        (Value::Pattern(pattern), Stored::Text(text)) if kind == Kind::AnyCase => {
            in_any_case(pattern, text)
        }
        (Value::Pattern(pattern), Stored::Text(text)) => pattern.matches(text.as_bytes()),
        (Value::Range(range), Stored::Text(name)) => Severity::parse(name.as_bytes())
            .is_some_and(|severity| range.contains(severity.number().into())),
        (Value::Range(range), Stored::Int(number)) => range.contains(*number),
        // What has no text in SQL is null there.
        (Value::Range(range), Stored::Time(time)) => {
            range.contains(time.timestamp()) && sql_time(time).is_some()
        }
        (Value::Name(name), Stored::Text(text)) if kind == Kind::Flag => {
            text.split(',').any(|flag| flag == *name)
        }
        (Value::Name(name), Stored::Text(text)) => text == name,
        (Value::Network(network), Stored::Address(ip)) => {
            let keys = super::sql::keys(*network);
            keys.contains(&client_key(*ip))
        }
        (Value::Digits(digits), Stored::Hash(hash)) => {
            hash.to_string().starts_with(digits.as_str())
        }
        _ => false,
    }
}

/// Returns `true` if the pattern, which is in lower case, describes the text with A to Z in any
/// case. Other letters are compared as they are, as in both databases.
fn in_any_case(pattern: &Pattern, text: &str) -> bool {
    pattern.matches(text.to_ascii_lowercase().as_bytes())
}

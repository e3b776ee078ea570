//! A filter as a condition of SQL.
//!
//! Each condition has to be what [`Filter::matches`] is, on both databases, whatever characters a client
//! has sent. What stands in the way:
//!
//! - *Three-valued logic.* A comparison with null is null. That does no harm where nothing is negated: null
//!   is as good as false under `and` and `or`. So `not x` is written `(x) is not true`.
//! - *NUL.* SQLite's `like`, `glob`, `substr` and the collation `nocase` stop at one; `=`, `lower` and
//!   `instr` do not, nor does anything on blobs.
//! - *Case.* SQLite's `lower` is about A to Z. MySQL's is about all of Unicode, and its usual collations
//!   take é for e; there, texts become bytes, and the bytes get the character set `tis620`, in which no
//!   byte but A to Z has a lower case.
//! - *Indexes.* They serve a bare column. Where there may be one, a condition that it serves, and that is
//!   true whenever the exact one is, stands before the exact one. In SQLite an index on texts in any
//!   case must be `collate nocase`; in MySQL the column's collation must be `utf8mb4_general_ci`.

mod mysql;
mod sqlite;

use std::ops::RangeInclusive;

use chrono::DateTime;
use ipnet::IpNet;

use super::Filter;
use super::field::{Field, Kind, TEXT_COLUMNS, Table};
use super::pattern::Pattern;
use super::tree::{Node, Range, Value};
use crate::record::Severity;
use crate::store::{Dialect, Param, client_key, sql_time};

impl Filter {
    /// Returns a condition about `logs l`, and the values for its `?`, in order.
    ///
    /// It can stand behind `where` or `and` as it is. It is true, false or null; null means no. No byte of
    /// the filter's text is in it: it consists of our words, names of columns, and `?`.
    ///
    /// ```
    /// use modsec_core::filter::{Dialect, Filter, Param};
    ///
    /// let filter = Filter::parse("cause:942100 -status:403", chrono::DateTime::UNIX_EPOCH)?;
    /// let (sql, params) = filter.to_sql(Dialect::Sqlite);
    /// assert_eq!(sql, "(l.ruleId = ? and ((l.responce_header = ?) is not true))");
    /// assert_eq!(params, [Param::Text("942100".to_owned()), Param::Int(403)]);
    /// # Ok::<(), modsec_core::filter::FilterError>(())
    /// ```
    pub fn to_sql(&self, dialect: Dialect) -> (String, Vec<Param>) {
        let Sql { text, params } = condition(dialect, &self.root);
        (text, params)
    }
}

/// A piece of SQL with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sql {
    /// The SQL, with a `?` for each value.
    text: String,
    /// The values, in the order of the `?`.
    params: Vec<Param>,
}

impl Sql {
    /// Returns a piece without values.
    fn new(text: impl Into<String>) -> Sql {
        Sql {
            text: text.into(),
            params: Vec::new(),
        }
    }

    /// Returns a `?` with its value.
    fn param(param: Param) -> Sql {
        Sql {
            text: "?".to_owned(),
            params: vec![param],
        }
    }

    /// Returns a text as a value.
    fn text(text: impl Into<String>) -> Sql {
        Sql::param(Param::Text(text.into()))
    }

    /// Returns a number as a value. Lengths are far below the limit of 64 bits.
    fn number(number: usize) -> Sql {
        Sql::param(Param::Int(i64::try_from(number).unwrap_or(i64::MAX)))
    }

    /// Puts pieces in the places of `{}`, in order, and their values in the same order.
    fn format(form: &str, pieces: &[&Sql]) -> Sql {
        let mut sql = Sql::new("");
        let mut pieces = pieces.iter();
        for (at, words) in form.split("{}").enumerate() {
            if at > 0
                && let Some(piece) = pieces.next()
            {
                sql.text += &piece.text;
                sql.params.extend_from_slice(&piece.params);
            }
            sql.text += words;
        }
        sql
    }

    /// Joins pieces by a word; several stand in parentheses.
    fn joined(pieces: Vec<Sql>, word: &str) -> Sql {
        if let [only] = pieces.as_slice() {
            return only.clone();
        }
        let mut sql = Sql::list(pieces, word);
        sql.text = format!("({})", sql.text);
        sql
    }

    /// Joins pieces by a word.
    fn list(pieces: Vec<Sql>, word: &str) -> Sql {
        let params = pieces
            .iter()
            .flat_map(|piece| piece.params.clone())
            .collect();
        let texts: Vec<String> = pieces.into_iter().map(|piece| piece.text).collect();
        Sql {
            text: texts.join(word),
            params,
        }
    }
}

/// Writes a condition and all that it is made of. An `and` of no conditions is true.
fn condition(dialect: Dialect, node: &Node) -> Sql {
    let of = |nodes: &[Node]| nodes.iter().map(|node| condition(dialect, node)).collect();
    match node {
        Node::All(nodes) if nodes.is_empty() => Sql::new("(1 = 1)"),
        Node::All(nodes) => Sql::joined(of(nodes), " and "),
        Node::Any(nodes) => Sql::joined(of(nodes), " or "),
        Node::Not(inner) => Sql::format("(({}) is not true)", &[&condition(dialect, inner)]),
        Node::Test { field, values } => test(dialect, field, values),
        Node::Text(pattern) => {
            let columns = TEXT_COLUMNS.into_iter().map(|name| {
                let column = Column {
                    name: &format!("l.{name}"),
                    is_any_case: true,
                    is_indexed: false,
                };
                column.fits(dialect, &[pattern])
            });
            Sql::joined(columns.collect(), " or ")
        }
    }
}

/// Where an index serves the condition about alerts, they are looked for first.
const ALERTS: &str = "l.id in (select m.log_id from rule_matches m where {})";

/// Where none does, only the alerts of the transactions in question are looked at, and not all of them.
const OWN_ALERTS: &str = "exists (select 1 from rule_matches m where m.log_id = l.id and {})";

/// As [`ALERTS`], of what is stored once for many alerts.
const RULES: &str = "(l.id in (select m.log_id from rule_matches m where m.rule_key in \
     (select r.rule_key from modsec_rules r left join modsec_rules t on t.rule_key = r.text_key \
     where {})) or l.id in (select m.log_id from rule_matches m where m.rule_key is null and {}))";

/// Writes a test of one field. Of alerts, one that fits is enough.
fn test(dialect: Dialect, field: &Field, values: &[Value]) -> Sql {
    let of = |table| compare(dialect, field, &format!("{table}.{}", field.column), values);
    match field.table {
        Table::Logs => of("l"),
        Table::Alerts if is_served(field, values) => Sql::format(ALERTS, &[&of("m")]),
        Table::Alerts => Sql::format(OWN_ALERTS, &[&of("m")]),
        Table::Rules => {
            let column = format!("coalesce(t.{0}, r.{0})", field.column);
            let shared = compare(dialect, field, &column, values);
            Sql::format(RULES, &[&shared, &of("m")])
        }
    }
}

/// Returns `true` if an index serves a condition on these values: each begins with a text.
fn is_served(field: &Field, values: &[Value]) -> bool {
    let begins = |value: &Value| match value {
        Value::Pattern(pattern) => pattern
            .parts()
            .first()
            .is_some_and(|first| !first.is_empty()),
        _ => true,
    };
    field.is_indexed && values.iter().all(begins)
}

/// Writes that one of the values fits the column.
fn compare(dialect: Dialect, field: &Field, column: &str, values: &[Value]) -> Sql {
    let patterns = values.iter().filter_map(|value| match value {
        Value::Pattern(pattern) => Some(pattern),
        _ => None,
    });
    let patterns: Vec<&Pattern> = patterns.collect();
    let mut pieces = Vec::new();
    if !patterns.is_empty() {
        let text = Column {
            name: column,
            is_any_case: field.kind == Kind::AnyCase,
            is_indexed: field.is_indexed,
        };
        pieces.push(text.fits(dialect, &patterns));
    }
    let others = values.iter();
    pieces.extend(others.filter_map(|value| one_value(dialect, field, column, value)));
    Sql::joined(pieces, " or ")
}

/// Writes that the value fits the column. `None` for a pattern.
fn one_value(dialect: Dialect, field: &Field, column: &str, value: &Value) -> Option<Sql> {
    Some(match value {
        Value::Pattern(_) => return None,
        Value::Network(network) => {
            let (first, last) = keys(*network).into_inner();
            between(
                column,
                Param::Blob(first.to_vec()),
                Param::Blob(last.to_vec()),
            )
        }
        Value::Digits(digits) => {
            let end = |fill| bytes_of(digits, fill).map(Param::Blob);
            between(column, end('0')?, end('f')?)
        }
        Value::Range(range) if field.kind == Kind::Severity => severities(column, *range),
        Value::Range(range) if field.kind == Kind::Time => times(dialect, column, *range),
        Value::Range(range) => numbers(column, *range),
        Value::Name(name) if field.kind == Kind::Flag => {
            let form = match dialect {
                Dialect::Sqlite => sqlite::has_item(column),
                Dialect::Mysql => mysql::has_item(column),
            };
            Sql::format(&form, &[&Sql::text(format!(",{name},"))])
        }
        Value::Name(name) => equal(column, Param::Text((*name).to_owned())),
    })
}

/// A column with text, and how it is compared.
struct Column<'n> {
    /// With its table.
    name: &'n str,
    /// Whether the case of A to Z is of no account.
    is_any_case: bool,
    /// Whether there may be an index.
    is_indexed: bool,
}

impl Column<'_> {
    /// Writes that the column fits one of the patterns. Exact texts become one list.
    fn fits(&self, dialect: Dialect, patterns: &[&Pattern]) -> Sql {
        let exact: Vec<&str> = patterns.iter().filter_map(|it| it.exact()).collect();
        let others = patterns.iter().filter(|it| it.exact().is_none());
        let mut pieces = Vec::new();
        if !exact.is_empty() {
            pieces.push(match dialect {
                Dialect::Sqlite => sqlite::is_one_of(self, &exact),
                Dialect::Mysql => mysql::is_one_of(self, &exact),
            });
        }
        pieces.extend(others.map(|pattern| {
            if pattern.parts().iter().all(String::is_empty) {
                return Sql::new(format!("{} is not null", self.name));
            }
            match dialect {
                Dialect::Sqlite => sqlite::is_like(self, pattern),
                Dialect::Mysql => mysql::is_like(self, pattern),
            }
        }));
        Sql::joined(pieces, " or ")
    }
}

/// Writes that an expression is equal to one of these.
fn one_of(expression: &str, values: Vec<Sql>) -> Sql {
    if let [only] = values.as_slice() {
        return Sql::format(&format!("{expression} = {{}}"), &[only]);
    }
    let list = Sql::list(values, ", ");
    Sql::format(&format!("{expression} in ({{}})"), &[&list])
}

/// Writes that a column is equal to a value.
fn equal(column: &str, value: Param) -> Sql {
    one_of(column, vec![Sql::param(value)])
}

/// Writes that a column lies between two values, or is equal to one of them.
fn between(column: &str, first: Param, last: Param) -> Sql {
    if first == last {
        return equal(column, first);
    }
    let form = format!("({column} between {{}} and {{}})");
    Sql::format(&form, &[&Sql::param(first), &Sql::param(last)])
}

/// Writes that a column has a number of the range.
fn numbers(column: &str, range: Range) -> Sql {
    match (range.least.map(Param::Int), range.most.map(Param::Int)) {
        (Some(least), Some(most)) => between(column, least, most),
        (Some(least), None) => Sql::format(&format!("{column} >= {{}}"), &[&Sql::param(least)]),
        (None, Some(most)) => Sql::format(&format!("{column} <= {{}}"), &[&Sql::param(most)]),
        (None, None) => Sql::new(format!("{column} is not null")),
    }
}

/// Writes that a column has the name of a severity of the range.
fn severities(column: &str, range: Range) -> Sql {
    let severities = (0..=7).filter_map(Severity::from_number);
    let within = severities.filter(|severity| range.contains(severity.number().into()));
    let names = within.map(|severity| Sql::text(severity.name()));
    one_of(column, names.collect())
}

/// Writes that a column has a time of the range. A time without fractions, as text, is right for both
/// databases, also where the column has no fractions, or times without.
fn times(dialect: Dialect, column: &str, range: Range) -> Sql {
    if range
        .least
        .is_some_and(|least| least > dialect.last_second())
    {
        return Sql::new("(1 = 0)");
    }
    let written = |second| {
        let time = DateTime::from_timestamp(second, 0)?;
        sql_time(&time)?.get(..19).map(Sql::text)
    };
    let least = range.least.and_then(written);
    let end = range.most.filter(|most| *most < dialect.last_second());
    let is_open = range.most.is_some() && end.is_none();
    let end = end.and_then(|most| written(most + 1));
    let least = least.map(|least| Sql::format(&format!("{column} >= {{}}"), &[&least]));
    let end = end.map(|end| Sql::format(&format!("{column} < {{}}"), &[&end]));
    let known = is_open.then(|| Sql::new(format!("{column} is not null")));
    Sql::joined(least.into_iter().chain(end).chain(known).collect(), " and ")
}

/// Returns the first and the last key of a network's addresses.
pub(super) fn keys(network: IpNet) -> RangeInclusive<[u8; 16]> {
    client_key(network.network())..=client_key(network.broadcast())
}

/// Returns the 16 bytes that begin with these hexadecimal digits and go on with `fill`.
fn bytes_of(digits: &str, fill: char) -> Option<Vec<u8>> {
    let mut number = 0_u128;
    for at in 0..32 {
        let digit = digits.get(at..=at).and_then(|digit| digit.chars().next());
        number = number << 4 | u128::from(digit.unwrap_or(fill).to_digit(16)?);
    }
    Some(number.to_be_bytes().to_vec())
}

/// Returns the least text that is greater than all with this beginning; `None` if there is none.
fn behind(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

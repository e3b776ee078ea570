//! All transactions with their alerts.

use super::{ALERTS, Statement, bytes, created_at, dialect_collation};
use crate::query::Question;
use crate::query::scan::MOST_BYTES;
use crate::store::{Dialect, alert_column};

/// Columns of `logs` that a scan reads.
const COLUMNS: [&str; 10] = [
    "id",
    "created_at",
    "client_key",
    "account",
    "Host",
    "responce_header",
    "severity",
    "Score",
    "intercepted",
    "outcome",
];

impl Statement {
    /// Selects the transactions of a known time, the oldest first, of equal times the one with the
    /// lowest number: a row for each alert, in any order, and one for a transaction without.
    ///
    /// The order is that of `logs` alone, so that an index has it and no database sorts all alerts.
    /// `SQLite` would still rather collect the rows of several accounts by their index, and sort them; so
    /// it is told to go along the times.
    pub(in crate::query::sql) fn scan(dialect: Dialect, question: &Question) -> Statement {
        let accounts = question.scope.accounts.as_ref();
        let is_of_one = accounts.is_some_and(|accounts| accounts.len() == 1);
        let index = match dialect {
            Dialect::Sqlite if !is_of_one => "indexed by logs_created_at",
            Dialect::Sqlite | Dialect::Mysql => "",
        };
        let joined = format!("{index} left {ALERTS}");
        let mut statement = Statement::about(dialect, question, &columns(dialect), &joined);
        statement.and("l.created_at is not null", []);
        statement.sql.push_str(" order by l.created_at, l.id");
        statement
    }
}

/// Returns the columns as `decode::Scan` takes them: those of the transaction, then those of the
/// alert. `position` is null where there is no alert.
fn columns(dialect: Dialect) -> String {
    let name = |column: &str| match dialect {
        Dialect::Sqlite => format!(
            "case when octet_length({column}) > {MOST_BYTES} \
             then substr(cast({column} as blob), 1, {MOST_BYTES}) else {column} end"
        ),
        Dialect::Mysql => format!("substr({}, 1, {MOST_BYTES})", bytes(dialect, column)),
    };
    let column = |column: &str| match column {
        "created_at" => created_at(dialect, "l.created_at"),
        "account" | "Host" => name(&format!("l.{column}")),
        column => format!("l.{column}"),
    };
    let mut columns = COLUMNS.map(column).to_vec();
    columns.extend([
        "m.position".to_owned(),
        name("m.ruleId"),
        alert_column(dialect_collation(dialect), "severity"),
        "m.verified".to_owned(),
    ]);
    columns.join(", ")
}

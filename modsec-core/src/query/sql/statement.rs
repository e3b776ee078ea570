//! The statements.

mod evidence;
mod scan;
mod silence;

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::{Behind, Stretch};
use crate::query::facet::{Facet, Table};
use crate::query::question::within_years;
use crate::query::{Question, Scope, Window};
use crate::store::{Dialect, LOG_COLUMNS, Param, RULE_COLUMNS, alert_column, sql_time};

/// The alerts of `logs l`.
const ALERTS: &str = "join rule_matches m on m.log_id = l.id \
                      left join modsec_rules r on r.rule_key = m.rule_key \
                      left join modsec_rules t on t.rule_key = r.text_key";

/// A statement under way.
pub(super) struct Statement {
    /// The database whose SQL is written.
    dialect: Dialect,
    /// The SQL so far.
    sql: String,
    /// The values of its `?`, in their order.
    params: Vec<Param>,
}

impl Statement {
    /// Begins `select … from logs l … where` with the conditions of the question: scope, window
    /// and filter. `select` and `joined` must be our own SQL. No other function begins a
    /// statement, so none lacks the scope.
    fn about(dialect: Dialect, question: &Question, select: &str, joined: &str) -> Statement {
        let mut statement = Statement {
            dialect,
            sql: format!("select {select} from logs l {joined} where 1 = 1"),
            params: Vec::new(),
        };
        statement.within(&question.scope);
        let Window { since, until } = question.window;
        statement.between(&Stretch { since, until });
        if !question.filter.is_all() {
            let (condition, params) = question.filter.to_sql(dialect);
            statement.and(&format!("({condition})"), params);
        }
        statement
    }

    /// Returns the SQL and the values for its `?`, in order.
    pub(super) fn finish(self) -> (String, Vec<Param>) {
        (self.sql, self.params)
    }

    /// Adds a condition that must hold, too, and the values for its `?`. A condition with an
    /// `or` of its own is ambiguous here: the caller puts it in parentheses.
    fn and(&mut self, condition: &str, params: impl IntoIterator<Item = Param>) {
        self.sql.push_str(" and ");
        self.sql.push_str(condition);
        self.params.extend(params);
    }

    /// Restricts the statement to what the asker may see. A scope of no accounts, or of no
    /// hosts, has no transactions: `in ()` is not SQL in MySQL, so `1 = 0` stands for it.
    ///
    /// Names are compared as bytes. MySQL's collations would take `Site` and `site`, or a name
    /// with blanks behind it, for one account.
    fn within(&mut self, scope: &Scope) {
        if let (Dialect::Mysql, Some(accounts)) = (self.dialect, &scope.accounts)
            && !accounts.is_empty()
        {
            // For the index; bytes decide. The column is ours, and knows every character.
            let names = accounts.iter().map(|name| Param::Text(name.clone()));
            let places = vec!["?"; accounts.len()].join(", ");
            self.and(&format!("l.account in ({places})"), names);
        }
        let names = [
            (&scope.accounts, bytes(self.dialect, "l.account")),
            (&scope.hosts, lower(self.dialect, "l.Host")),
        ];
        for (names, column) in names {
            let Some(names) = names else { continue };
            if names.is_empty() {
                self.and("1 = 0", []);
                continue;
            }
            let place = match self.dialect {
                Dialect::Sqlite => "?",
                Dialect::Mysql => "cast(? as binary)",
            };
            let places = vec![place; names.len()].join(", ");
            let names = names.iter().map(|name| Param::Text(name.clone()));
            self.and(&format!("{column} in ({places})"), names);
        }
    }

    /// Adds the bounds of a stretch of time. A transaction of an unknown time is in none.
    ///
    /// A bound that no stored time can reach is left out, see [`Dialect::last_second`].
    fn between(&mut self, stretch: &Stretch) {
        let last = self.dialect.last_second();
        let is_reached = |time: &DateTime<Utc>| time.timestamp() <= last;
        match stretch.since {
            Some(since) if is_reached(&since) => self.and("l.created_at >= ?", [bound(since)]),
            Some(_) => self.and("1 = 0", []),
            None => {}
        }
        match stretch.until {
            Some(until) if is_reached(&until) => self.and("l.created_at < ?", [bound(until)]),
            Some(_) => self.and("l.created_at is not null", []),
            None => {}
        }
    }

    /// Selects one row: the number of transactions, of blocked and of detected ones, the first
    /// and the last time.
    pub(super) fn totals(dialect: Dialect, question: &Question) -> Statement {
        let select = format!(
            "count(*), {}, {}, {}, {}, {}",
            outcomes("blocked"),
            outcomes("detected"),
            created_at(dialect, "min(l.created_at)"),
            created_at(dialect, "max(l.created_at)"),
            Counting::Rows.estimated(),
        );
        Statement::about(dialect, question, &select, "")
    }

    /// Selects the first and the last time in the window, each by itself, so that an index answers at
    /// once. Says nothing of whose transactions these are, so the answer is for us and not for the asker.
    pub(super) fn bounds(dialect: Dialect, question: &Question) -> Statement {
        let Window { since, until } = question.window;
        let part = |which: &str| {
            let time = created_at(dialect, &format!("{which}(l.created_at)"));
            let sql = format!("select {time} from logs l where 1 = 1");
            let mut part = Statement {
                dialect,
                sql,
                params: Vec::new(),
            };
            part.between(&Stretch { since, until });
            part
        };
        let (mut first, last) = (part("min"), part("max"));
        first.sql = format!("select ({}), ({})", first.sql, last.sql);
        first.params.extend(last.params);
        first
    }

    /// Selects from when on rows are known; no row if none was ever removed. Says nothing of anybody's
    /// transactions.
    pub(super) fn horizon(dialect: Dialect) -> Statement {
        let since = created_at(dialect, "since");
        Statement {
            dialect,
            sql: format!("select {since} from modsec_horizons where kind = 'rows'"),
            params: Vec::new(),
        }
    }

    /// Selects a row for each span of `step` seconds that has transactions, oldest first: the
    /// span's number since the Unix epoch, and its counts. `step` must not be 0. Spans before
    /// 1970 have negative numbers in SQLite; `unix_timestamp` of MySQL returns 0 for them.
    pub(super) fn time_line(dialect: Dialect, question: &Question, step: u32) -> Statement {
        let select = format!(
            "{}, count(*), {}, {}, {}",
            span(dialect, step),
            outcomes("blocked"),
            outcomes("detected"),
            Counting::Rows.estimated(),
        );
        let mut statement = Statement::about(dialect, question, &select, "");
        statement.and("l.created_at is not null", []);
        statement.sql.push_str(" group by 1 order by 1");
        statement
    }

    /// Selects the `most` values of a facet with the most transactions: value, counts of
    /// transactions, of clients and of hosts, message and category. Values of alerts are those
    /// of detections, and each transaction counts once, however many of its alerts have the
    /// value.
    pub(super) fn top(
        dialect: Dialect,
        question: &Question,
        facet: Facet,
        most: usize,
    ) -> Statement {
        let (table, column) = facet.column();
        let (joined, count) = match table {
            Table::Logs => ("", Counting::Rows),
            Table::Detections => (ALERTS, Counting::Transactions),
        };
        let key = match (table, facet) {
            (Table::Logs, Facet::Host) => lower(dialect, "l.Host"),
            (Table::Logs, _) => bytes(dialect, &format!("l.{column}")),
            (Table::Detections, Facet::Rule) => bytes(dialect, "m.ruleId"),
            (Table::Detections, _) => of_alert(dialect, column),
        };
        let (msg, category) = match (facet.is_rule(), table) {
            (false, _) => ("null".to_owned(), "null".to_owned()),
            (true, Table::Logs) => (bytes(dialect, "l.msg"), bytes(dialect, "l.category")),
            (true, _) => (of_alert(dialect, "msg"), of_alert(dialect, "category")),
        };
        let select = format!(
            "{key}, {}, {}, {}, count(distinct l.client_key), count(distinct {}), min({msg}), \
             min({category}), {}, {}, {}",
            count.all(),
            count.of("blocked"),
            count.of("detected"),
            lower(dialect, "l.Host"),
            count.estimated(),
            created_at(dialect, "min(l.created_at)"),
            created_at(dialect, "max(l.created_at)"),
        );
        let mut statement = Statement::about(dialect, question, &select, joined);
        statement.and(&format!("{key} is not null"), []);
        if table == Table::Detections {
            statement.and("coalesce(t.kind, r.kind, m.kind) = 'detection'", []);
        }
        statement.sql.push_str(" group by 1 order by 2 desc, 1");
        statement.limit(most);
        statement
    }

    /// Selects up to `most` transactions of a known time within the stretch, the newest first,
    /// of equal times the one with the highest number. Those that come behind a place in that
    /// order, if it has a time.
    pub(super) fn page(
        dialect: Dialect,
        question: &Question,
        behind: Option<&Behind>,
        stretch: &Stretch,
        most: usize,
    ) -> Statement {
        let mut statement = Statement::about(dialect, question, &log_columns(dialect), "");
        statement.between(stretch);
        statement.and("l.created_at is not null", []);
        if let Some(behind) = behind
            && let Some(time) = &behind.time
        {
            let time = || Param::Text(time.clone());
            // The first condition is for the index.
            statement.and(
                "l.created_at <= ? and (l.created_at < ? or l.id < ?)",
                [time(), time(), Param::Int(behind.number)],
            );
        }
        statement
            .sql
            .push_str(" order by l.created_at desc, l.id desc");
        statement.limit(most);
        statement
    }

    /// Selects up to `most` transactions of an unknown time, the one with the highest number
    /// first. Those that come behind a place, if it has no time either.
    pub(super) fn untimed(
        dialect: Dialect,
        question: &Question,
        behind: Option<&Behind>,
        most: usize,
    ) -> Statement {
        let mut statement = Statement::about(dialect, question, &log_columns(dialect), "");
        statement.and("l.created_at is null", []);
        if let Some(behind) = behind.filter(|behind| behind.time.is_none()) {
            statement.and("l.id < ?", [Param::Int(behind.number)]);
        }
        statement.sql.push_str(" order by l.id desc");
        statement.limit(most);
        statement
    }

    /// Selects the `created_at` of a transaction as it is stored: no row if the question is not about it.
    pub(super) fn time_of(dialect: Dialect, question: &Question, number: i64) -> Statement {
        let mut statement = Statement::about(dialect, question, "l.created_at", "");
        statement.and("l.id = ?", [Param::Int(number)]);
        statement
    }

    /// Selects one transaction by its number (`logs.id`): no row if the question is not about
    /// it.
    pub(super) fn one(dialect: Dialect, question: &Question, number: i64) -> Statement {
        let mut statement = Statement::about(dialect, question, &log_columns(dialect), "");
        statement.and("l.id = ?", [Param::Int(number)]);
        statement
    }

    /// Selects the alerts of one transaction, in the order of the log. The scope applies here
    /// as well: no row if the question is not about the transaction.
    pub(super) fn alerts(dialect: Dialect, question: &Question, number: i64) -> Statement {
        let columns = RULE_COLUMNS.map(|column| alert_column(dialect_collation(dialect), column));
        let mut statement = Statement::about(dialect, question, &columns.join(", "), ALERTS);
        statement.and("l.id = ?", [Param::Int(number)]);
        statement.sql.push_str(" order by m.position");
        statement
    }

    /// Limits the result to `most` rows. No condition can be added afterwards.
    fn limit(&mut self, most: usize) {
        // Cannot fail: it is a String.
        let _ = write!(self.sql, " limit {most}");
    }
}

/// What is counted: rows, or transactions of which there may be several rows.
#[derive(Clone, Copy)]
enum Counting {
    /// Each row is a transaction of its own.
    Rows,
    /// Rows are alerts, of which a transaction may have several.
    Transactions,
}

impl Counting {
    /// Returns the SQL that counts all.
    fn all(self) -> &'static str {
        match self {
            Counting::Rows => "count(*)",
            Counting::Transactions => "count(distinct l.id)",
        }
    }

    /// Returns the SQL that counts those with this outcome. The name stands in the SQL as it
    /// is, so it must be one of ours.
    fn of(self, outcome: &str) -> String {
        match self {
            Counting::Rows => outcomes(outcome),
            Counting::Transactions => {
                format!("count(distinct case when l.outcome = '{outcome}' then l.id end)")
            }
        }
    }

    /// Returns the SQL that counts those whose meaning was not computed from the entry. An older
    /// program leaves null in the column.
    fn estimated(self) -> &'static str {
        match self {
            Counting::Rows => "count(case when l.estimated = 0 then null else 1 end)",
            Counting::Transactions => {
                "count(distinct case when l.estimated = 0 then null else l.id end)"
            }
        }
    }
}

/// Returns the SQL that counts rows with this outcome.
fn outcomes(outcome: &str) -> String {
    format!("count(case when l.outcome = '{outcome}' then 1 end)")
}

/// Returns the SQL for a text as bytes, of which databases neither fold cases nor ignore
/// blanks.
fn bytes(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Sqlite => column.to_owned(),
        Dialect::Mysql => format!("cast(convert({column} using utf8mb4) as binary)"),
    }
}

/// Returns the SQL for a text with A to Z in lower case. In `tis620` no other byte has a lower
/// case.
fn lower(dialect: Dialect, column: &str) -> String {
    let bytes = bytes(dialect, column);
    match dialect {
        Dialect::Sqlite => format!("lower({bytes})"),
        Dialect::Mysql => format!("cast(lower(convert({bytes} using tis620)) as binary)"),
    }
}

/// Returns the SQL for a text of an alert, wherever it is stored: in `modsec_rules`, once for
/// all alerts of a rule, or in `rule_matches` by an older program.
fn of_alert(dialect: Dialect, column: &str) -> String {
    let places = ["t", "r", "m"].map(|table| bytes(dialect, &format!("{table}.{column}")));
    format!("coalesce({})", places.join(", "))
}

/// Returns the SQL for a time as text, `YYYY-MM-DD HH:MM:SS.ffffff`. SQLite stores it so.
fn created_at(dialect: Dialect, column: &str) -> String {
    match dialect {
        Dialect::Sqlite => column.to_owned(),
        Dialect::Mysql => format!("date_format({column}, '%Y-%m-%d %H:%i:%s.%f')"),
    }
}

/// Returns the SQL for the number of the span of `step` seconds since the Unix epoch that a
/// transaction is in. `step` must not be 0. `unix_timestamp` of MySQL returns 0 before 1970.
fn span(dialect: Dialect, step: u32) -> String {
    match dialect {
        Dialect::Sqlite => {
            // Without the fraction, which would be rounded. The remainder is never negative.
            let seconds = "cast(strftime('%s', substr(l.created_at, 1, 19)) as integer)";
            format!("({seconds} - (({seconds} % {step}) + {step}) % {step}) / {step}")
        }
        Dialect::Mysql => {
            format!("cast(floor(unix_timestamp(l.created_at)) div {step} as signed)")
        }
    }
}

/// Returns the columns of a transaction: its number, whether it is estimated, then [`LOG_COLUMNS`] in
/// their order, as
/// `decode::transactions` takes them.
fn log_columns(dialect: Dialect) -> String {
    let column = |name: &&str| match *name {
        "created_at" => created_at(dialect, "l.created_at"),
        name => format!("l.{name}"),
    };
    let columns: Vec<String> = LOG_COLUMNS.iter().map(column).collect();
    format!("l.id, l.estimated, {}", columns.join(", "))
}

/// Returns what follows a text so that texts of two tables can be compared, see the view
/// `modsec_alerts`.
fn dialect_collation(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Sqlite => "",
        Dialect::Mysql => " collate utf8mb4_bin",
    }
}

/// Returns a bound as a value to compare `created_at` with. Zeros behind the last digit are left out:
/// in SQLite, where times are texts, so it stands before all texts of the same instant.
fn bound(time: DateTime<Utc>) -> Param {
    let text = written(time);
    let text = match text.split_once('.') {
        Some(_) => text.trim_end_matches('0').trim_end_matches('.'),
        None => &text,
    };
    Param::Text(text.to_owned())
}

/// Returns a time as our programs write it: to the microsecond, or an empty text if a database cannot
/// hold the time.
pub(super) fn written(time: DateTime<Utc>) -> String {
    sql_time(&within_years(time)).unwrap_or_default()
}

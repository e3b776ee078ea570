//! Who is quiet against its own habit.

use super::{Statement, bytes, lower, span};
use crate::query::silence::{LEAST_DAYS, LEAST_HOURS};
use crate::query::{Facet, Question, Source};
use crate::store::Dialect;

impl Statement {
    /// Selects the `most` sources that are silent in this hour since the Unix epoch, those with the most
    /// transactions first: name, transactions, days, last hour, longest pause.
    ///
    /// The judgement is here too, so that the thousands that are not silent stay in the database.
    pub(in crate::query::sql) fn silences(
        dialect: Dialect,
        question: &Question,
        source: Source,
        hour: i64,
        most: usize,
    ) -> Statement {
        let (_, column) = source.facet().column();
        let column = format!("l.{column}");
        let key = match source.facet() {
            Facet::Host => lower(dialect, &column),
            _ => bytes(dialect, &column),
        };
        let select = format!("{key} as k, {} as h, count(*) as n", span(dialect, 3600));
        let mut statement = Statement::about(dialect, question, &select, "");
        statement.and(&format!("{key} is not null"), []);
        statement.and("l.created_at is not null", []);
        let day = match dialect {
            // Hours before 1970 are negative.
            Dialect::Sqlite => "(h - ((h % 24) + 24) % 24) / 24",
            Dialect::Mysql => "floor(h / 24)",
        };
        let (days, pause) = (format!("count(distinct {day})"), "coalesce(max(p), 0)");
        let quiet = format!("({hour} - max(h) - 1)");
        statement.sql = format!(
            "select k, sum(n), {days}, max(h), {pause} from (\
             select k, h, n, h - lag(h) over (partition by k order by h) - 1 as p \
             from ({} group by 1, 2) hours) pauses \
             group by k having {days} >= {LEAST_DAYS} and {quiet} >= {LEAST_HOURS} \
             and {quiet} * 2 > {pause} * 3 order by 2 desc, 1",
            statement.sql
        );
        statement.limit(most);
        statement
    }
}

//! Evidence about where a rule found something.

use super::{ALERTS, Counting, Statement, bytes, created_at, lower, of_alert};
use crate::filter::Filter;
use crate::query::{Question, Spot};
use crate::store::{Dialect, Param};

/// What a network's address begins with: /24 of IPv4, which `client_key` has behind twelve bytes, and
/// /48 of IPv6. The two differ in length.
const NETWORK: &str = "case when substr(l.client_key, 1, 12) = x'00000000000000000000ffff' \
     then substr(l.client_key, 1, 15) else substr(l.client_key, 1, 6) end";

impl Statement {
    /// Selects the evidence about one spot, or about those with the most clients: a row for each, with
    /// the columns that `decode::evidence` takes. Who did nothing else is another question, see
    /// [`Statement::lone_clients`].
    pub(in crate::query::sql) fn evidence(
        dialect: Dialect,
        question: &Question,
        spot: Option<&Spot>,
        most: usize,
    ) -> Statement {
        let count = Counting::Transactions;
        let distinct = |what: &str| format!("count(distinct {what})");
        let when = |condition: &str| distinct(&format!("case when {condition} then l.id end"));
        let day = match dialect {
            Dialect::Sqlite => "substr(l.created_at, 1, 10)",
            Dialect::Mysql => "date(l.created_at)",
        };
        let [rule, cause] = ["m.ruleId", "l.ruleId"].map(|column| bytes(dialect, column));
        let mut columns = parts(dialect).to_vec();
        columns.extend([
            count.all().to_owned(),
            count.of("blocked"),
            count.of("detected"),
            when(&format!("l.sole = 1 and {cause} = {rule}")),
            when("l.sole is null"),
            distinct("l.client_key"),
            distinct(NETWORK),
            distinct(day),
            created_at(dialect, "min(l.created_at)"),
            created_at(dialect, "max(l.created_at)"),
        ]);
        let mut statement = Statement::spots(dialect, question, spot, &columns.join(", "));
        let order = " group by 1, 2, 3, 4 order by 10 desc, 5 desc, 1, 2, 3, 4";
        statement.sql.push_str(order);
        statement.limit(most);
        statement
    }

    /// Selects the number of clients of a spot of whom no other transaction within window and scope was
    /// blocked or detected. The filter says which transactions are of the spot, and not what else a
    /// client may have done.
    pub(in crate::query::sql) fn lone_clients(
        dialect: Dialect,
        question: &Question,
        spot: &Spot,
    ) -> Statement {
        let mut here =
            Statement::spots(dialect, question, Some(spot), "distinct l.client_key as k");
        here.and("l.client_key is not null", []);
        let of_spot = Statement::spots(dialect, question, Some(spot), "l.id");
        let mut everything = question.clone();
        everything.filter = Filter::default();
        // By the client, and not through all of an account's rows for each client.
        let index = match dialect {
            Dialect::Sqlite => "indexed by logs_client_key",
            Dialect::Mysql => "",
        };
        let mut others = Statement::about(dialect, &everything, "1", index);
        others.and("l.client_key = here.k and l.outcome is not null", []);
        others.and(&format!("l.id not in ({})", of_spot.sql), of_spot.params);
        here.sql = format!(
            "select count(*) from ({}) here where not exists ({})",
            here.sql, others.sql
        );
        here.params.extend(others.params);
        here
    }

    /// Begins a statement about detections of a rule with an id, of one spot or of all.
    fn spots(
        dialect: Dialect,
        question: &Question,
        spot: Option<&Spot>,
        select: &str,
    ) -> Statement {
        // For all spots, `SQLite` is told to begin with `logs`: the index of the rules has the order that
        // groups need, and leads to all alerts of all times.
        let order = if spot.is_none() { "cross " } else { "" };
        let joined = format!("{order}{ALERTS}");
        let mut statement = Statement::about(dialect, question, select, &joined);
        statement.and("m.ruleId is not null", []);
        statement.and("coalesce(t.kind, r.kind, m.kind) = 'detection'", []);
        let Some(spot) = spot else { return statement };
        // For the index; the bytes below decide.
        statement.and("m.ruleId = ?", [Param::Text(spot.rule.clone())]);
        let values = [
            Some(&spot.rule),
            spot.host.as_ref(),
            spot.path.as_ref(),
            spot.target.as_ref(),
        ];
        let place = match dialect {
            Dialect::Sqlite => "?",
            Dialect::Mysql => "cast(? as binary)",
        };
        for (part, value) in parts(dialect).into_iter().zip(values) {
            match value {
                Some(value) => {
                    let value = Param::Text(value.clone());
                    statement.and(&format!("{part} = {place}"), [value]);
                }
                None => statement.and(&format!("{part} is null"), []),
            }
        }
        statement
    }
}

/// Returns the columns of a spot, in the order of its fields.
fn parts(dialect: Dialect) -> [String; 4] {
    [
        bytes(dialect, "m.ruleId"),
        lower(dialect, "l.Host"),
        bytes(dialect, "l.path_template"),
        of_alert(dialect, "target"),
    ]
}

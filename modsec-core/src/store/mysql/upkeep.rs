//! Looking after rows, on the session of a store.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Error, Params, Row as MyRow, Value as MyValue};

use super::columns::{self, Columns};
use super::read::{cell, positional};
use super::session::Session;
use super::{MysqlStore, Retries, TRANSACTION_TIMEOUT, failure};
use crate::crash_points;
use crate::store::{
    Cells, Change, Dialect, Param, RowOf, StoreFuture, Upkeep, Value, list, sql_time,
};

impl Upkeep for MysqlStore {
    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    fn read(&mut self, sql: String, params: Vec<Param>) -> StoreFuture<'_, Cells> {
        Box::pin(async move {
            self.make_tables().await?;
            let mut retries = Retries::new();
            loop {
                match self.try_read(&sql, &params).await {
                    Ok(cells) => return Ok(cells),
                    Err(error) => self.wait(&mut retries, "cannot read", error).await?,
                }
            }
        })
    }

    fn change(&mut self, changes: Vec<Change>) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            self.make_tables().await?;
            let mut retries = Retries::new();
            loop {
                match self.try_change(&changes).await {
                    Ok(()) => return Ok(()),
                    Err(error) => {
                        self.wait(&mut retries, "cannot change rows", error).await?;
                    }
                }
            }
        })
    }
}

impl MysqlStore {
    /// Returns all rows of a statement, by one try.
    async fn try_read(&mut self, sql: &str, params: &[Param]) -> Result<Cells, Error> {
        let mut session = self.session().await?;
        let read = session.rows(sql, positional(params.to_vec()));
        let cells = self.within(TRANSACTION_TIMEOUT, read).await?;
        self.session = Some(session);
        Ok(cells)
    }

    /// Makes the changes, by one try.
    async fn try_change(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut session = self.session().await?;
        let change = session.change(changes);
        self.within(TRANSACTION_TIMEOUT, change).await?;
        self.session = Some(session);
        Ok(())
    }
}

/// "Cannot delete or update a parent row: a foreign key constraint fails".
const REFERRED_TO: u16 = 1451;

/// Names of the columns that a change sets, with their table.
type Target = (&'static str, Vec<&'static str>);

impl Session {
    /// Returns all rows of a statement.
    async fn rows(&mut self, sql: &str, params: Params) -> Result<Cells, Error> {
        let rows: Vec<MyRow> = self.conn.exec(sql, params).await?;
        let cells = |row: MyRow| row.unwrap().into_iter().map(cell).collect();
        Ok(rows.into_iter().map(cells).collect())
    }

    /// Makes the changes in one transaction. After an error the caller must drop the session: that
    /// rolls back.
    async fn change(&mut self, changes: &[Change]) -> Result<(), Error> {
        let mut described = HashMap::new();
        self.conn.query_drop("begin").await?;
        for change in changes {
            match change {
                Change::Set { row, values } => self.set(*row, values, &mut described).await?,
                Change::Remove(ids) => self.remove(ids).await?,
                Change::RemoveRule(key) => self.remove_rule(*key).await?,
                Change::Horizon(since) => self.note_horizon(*since).await?,
            }
        }
        crash_points::pass("upkeep-changed");
        self.conn.query_drop("commit").await?;
        crash_points::pass("upkeep-committed");
        Ok(())
    }

    /// Sets columns of a row to values that fit. `described` keeps what the columns can hold.
    async fn set(
        &mut self,
        row: RowOf,
        values: &[(&'static str, Value<'static>)],
        described: &mut HashMap<Target, Columns>,
    ) -> Result<(), Error> {
        let names: Vec<_> = values.iter().map(|(column, _)| *column).collect();
        let target = (row.table(), names);
        if !described.contains_key(&target) {
            let found = columns::describe(&mut self.conn, target.0, &target.1).await?;
            described.insert(target.clone(), found);
        }
        let Some(columns) = described.get(&target) else {
            return Ok(());
        };
        let sql = format!(
            "update {} set {}{} where {}",
            target.0,
            columns.assignments(&target.1),
            unchanged_time(row),
            row.condition()
        );
        let values = values.iter().map(|(_, value)| value.clone());
        let values = columns.fit(values, self.max_text, Utc::now());
        let key = row.key().into_iter().map(MyValue::Int);
        let values: Vec<MyValue> = values.chain(key).collect();
        self.conn.exec_drop(sql, Params::Positional(values)).await
    }

    /// Removes rows by their keys. The alerts first: a table may be without the foreign key.
    async fn remove(&mut self, ids: &[i64]) -> Result<(), Error> {
        let ids = list(ids);
        for (table, key) in [("rule_matches", "log_id"), ("logs", "id")] {
            let delete = format!("delete from {table} where {key} in ({ids})");
            self.conn.query_drop(delete).await?;
        }
        Ok(())
    }

    /// Removes what alerts shared. The server refuses it if an alert has the key, also one that another
    /// transaction has just added; one that is about to be added finds the key missing, and that
    /// transaction is repeated.
    async fn remove_rule(&mut self, key: i64) -> Result<(), Error> {
        let delete = format!("delete from modsec_rules where rule_key = {key}");
        match self.conn.query_drop(delete).await {
            Err(error) if failure::code(&error) == Some(REFERRED_TO) => Ok(()),
            done => done,
        }
    }

    /// Notes from when on rows are complete.
    async fn note_horizon(&mut self, since: DateTime<Utc>) -> Result<(), Error> {
        let note = "insert into modsec_horizons (kind, since) values ('rows', ?)
                    on duplicate key update since = greatest(since, values(since))";
        match sql_time(&since) {
            Some(since) => self.conn.exec_drop(note, (since,)).await,
            None => Ok(()),
        }
    }
}

/// Returns what keeps the time of a row. Old servers give the first `timestamp` of a table the rule that it
/// becomes the time of each change, unless the change sets it.
fn unchanged_time(row: RowOf) -> &'static str {
    match row {
        RowOf::Logs(_) => ", created_at = created_at",
        RowOf::RuleMatches(..) => "",
    }
}

//! Looking after rows, on the connection of a store.

use rusqlite::{Connection, TransactionBehavior, params_from_iter};

use super::read::cell;
use super::{Database, SqliteStore};
use crate::crash_points;
use crate::store::{Cells, Change, Dialect, Param, StoreFuture, Upkeep, Value};

impl Upkeep for SqliteStore {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn read(&mut self, sql: String, params: Vec<Param>) -> StoreFuture<'_, Cells> {
        self.call(move |database| {
            database
                .rows(&sql, &params)
                .map_err(|error| database.error("cannot read", error))
        })
    }

    fn change(&mut self, changes: Vec<Change>) -> StoreFuture<'_, ()> {
        self.call(move |database| {
            database
                .change(&changes)
                .map_err(|error| database.error("cannot change rows", error))
        })
    }
}

impl Database {
    /// Returns all rows of a statement.
    fn rows(&self, sql: &str, params: &[Param]) -> rusqlite::Result<Cells> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let rows = statement.query_map(params_from_iter(params), |row| {
            (0..columns).map(|at| row.get_ref(at).map(cell)).collect()
        })?;
        rows.collect()
    }

    /// Makes the changes in one transaction, immediate as that of a batch.
    fn change(&mut self, changes: &[Change]) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            make(&transaction, change)?;
        }
        crash_points::pass("upkeep-changed");
        transaction.commit()?;
        crash_points::pass("upkeep-committed");
        Ok(())
    }
}

/// Makes one change within a transaction.
fn make(transaction: &Connection, change: &Change) -> rusqlite::Result<()> {
    match change {
        Change::Set { row, values } => {
            let columns: Vec<String> = values
                .iter()
                .map(|(column, _)| format!("{column} = ?"))
                .collect();
            let (table, columns) = (row.table(), columns.join(", "));
            let sql = format!("update {table} set {columns} where {}", row.condition());
            let values = values.iter().map(|(_, value)| value.clone());
            let key = row.key().into_iter().map(Value::Int);
            let mut update = transaction.prepare_cached(&sql)?;
            update.execute(params_from_iter(values.chain(key)))?;
        }
        // The trigger takes the alerts along.
        Change::Remove(ids) => {
            let mut delete = transaction.prepare_cached("delete from logs where id = ?")?;
            for id in ids {
                delete.execute([id])?;
            }
        }
        // Others add alerts in transactions of their own, and each of those looks for its rules anew.
        Change::RemoveRule(key) => {
            let delete = "delete from modsec_rules where rule_key = ?1 and not exists
                          (select 1 from rule_matches where rule_key = ?1)";
            transaction.prepare_cached(delete)?.execute([key])?;
        }
        Change::Horizon(since) => {
            let note = "insert into modsec_horizons (kind, since) values ('rows', ?)
                        on conflict (kind) do update set since = max(since, excluded.since)";
            transaction.execute(note, [Value::Time(*since)])?;
        }
    }
    Ok(())
}

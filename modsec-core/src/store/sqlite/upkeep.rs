//! Looking after rows, on the connection of a store.

use rusqlite::{TransactionBehavior, params_from_iter};

use super::read::cell;
use super::{Database, SqliteStore};
use crate::crash_points;
use crate::store::{Cells, Change, Param, StoreFuture, Upkeep, Value};

impl Upkeep for SqliteStore {
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
                    transaction
                        .prepare_cached(&sql)?
                        .execute(params_from_iter(values.chain(key)))?;
                }
            }
        }
        crash_points::pass("upkeep-changed");
        transaction.commit()?;
        crash_points::pass("upkeep-committed");
        Ok(())
    }
}

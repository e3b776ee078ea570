//! Reading for questions, each statement by itself.

use std::time::Instant;

use rusqlite::types::{ToSql, ToSqlOutput, Value as SqliteValue, ValueRef};
use rusqlite::{ErrorCode, params_from_iter};

use super::look::DatabaseFile;
use super::store_error;
use crate::store::{
    Cell, Cells, Connection, Dialect, Param, See, StoreError, StoreFuture, StoreOptions,
};

/// Instructions of SQLite's virtual machine between two looks at the clock, some microseconds.
pub(super) const LOOK_EVERY: i32 = 10_000;

/// Opens the database for reading. Changes nothing.
///
/// # Errors
///
/// As for [`look`](super::look()), and [`StoreError::Configuration`] if its tables are not up to date.
pub(in crate::store) async fn connect_to_read(
    options: &StoreOptions,
) -> Result<Box<dyn Connection>, StoreError> {
    let file = DatabaseFile::of(options)?;
    match file.ask(DatabaseFile::look).await? {
        None => Ok(Box::new(file)),
        Some(change) => Err(StoreError::Configuration {
            store: file.name.clone(),
            problem: format!("there is nothing to ask yet: {change}"),
            source: None,
        }),
    }
}

impl Connection for DatabaseFile {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn run(
        &mut self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
    ) -> StoreFuture<'_, Option<Cells>> {
        Box::pin(self.ask(move |file| file.read(&sql, &params, deadline)))
    }

    fn each_row<'a>(
        &'a mut self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
        see: &'a mut See<'_>,
    ) -> StoreFuture<'a, bool> {
        Box::pin(DatabaseFile::each_row(self, sql, params, deadline, see))
    }
}

impl DatabaseFile {
    /// Returns all rows of a statement; `None` if the deadline passed.
    fn read(
        &self,
        sql: &str,
        params: &[Param],
        deadline: Option<Instant>,
    ) -> Result<Option<Cells>, StoreError> {
        let mut connection = self.open()?;
        let failed = |error| store_error(&self.name, "cannot read", error);
        if let Some(deadline) = deadline {
            let is_late = move || Instant::now() >= deadline;
            connection
                .progress_handler(LOOK_EVERY, Some(is_late))
                .map_err(failed)?;
        }
        let read = || {
            let mut statement = connection.prepare(sql)?;
            let columns = statement.column_count();
            let rows = statement.query_map(params_from_iter(params), |row| {
                (0..columns).map(|at| row.get_ref(at).map(cell)).collect()
            })?;
            rows.collect::<rusqlite::Result<Cells>>()
        };
        match read() {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Ok(None)
            }
            read => read.map(Some).map_err(failed),
        }
    }
}

/// Returns a value as questions know it. None of our columns has fractions.
pub(super) fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        ValueRef::Real(number) => Cell::Bytes(number.to_string().into_bytes()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
    }
}

impl ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Param::Int(number) => ToSqlOutput::Owned(SqliteValue::Integer(*number)),
            Param::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Param::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

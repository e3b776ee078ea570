//! Reading for questions, each statement by itself.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use rusqlite::types::{ToSql, ToSqlOutput, Value as SqliteValue, ValueRef};
use rusqlite::{Connection as SqliteConnection, params_from_iter};

use super::deadline::{is_interrupted, stop_at};
use super::look::DatabaseFile;
use super::open::path;
use super::{read_error, reader_group};
use crate::store::{
    Cell, Cells, Connection, Dialect, Param, See, StoreError, StoreFuture, StoreOptions,
};

/// Opens the database for reading. Changes nothing.
///
/// # Errors
///
/// As for [`look`](super::look()), and [`StoreError::Configuration`] if its tables are not up to date.
pub(in crate::store) async fn connect_to_read(
    options: &StoreOptions,
) -> Result<Box<dyn Connection>, StoreError> {
    let path = path(&options.url)?;
    let may_not = |error| reader_group::explain(&path, error);
    let file = DatabaseFile::of(options).map_err(may_not)?.with_locks();
    match file.ask(DatabaseFile::look).await.map_err(may_not)? {
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
        Box::pin(self.ask(move |file| match deadline {
            Some(deadline) => file.clone().read_until(sql, params, deadline),
            None => file.read(&sql, &params, None),
        }))
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
    ///
    /// SQLite looks at the clock between instructions, and one that sorts what was grouped can take
    /// seconds. So another thread reads: it is left to end by itself, and nobody waits for it.
    fn read_until(
        self,
        sql: String,
        params: Vec<Param>,
        deadline: Instant,
    ) -> Result<Option<Cells>, StoreError> {
        let name = self.name.clone();
        let (reply, answer) = mpsc::sync_channel(1);
        let work = move || drop(reply.send(self.read(&sql, &params, Some(deadline))));
        let failed = |source: Option<std::io::Error>| StoreError::Unavailable {
            store: name.clone(),
            problem: "cannot start a thread, or it has failed".to_owned(),
            source: source.map(Into::into),
        };
        let thread = thread::Builder::new().name("sqlite".to_owned());
        thread.spawn(work).map_err(|error| failed(Some(error)))?;
        let left = deadline.saturating_duration_since(Instant::now());
        match answer.recv_timeout(left) {
            Ok(read) => read,
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(failed(None)),
        }
    }

    /// Returns all rows of a statement; `None` if the deadline passed and SQLite has noticed.
    fn read(
        &self,
        sql: &str,
        params: &[Param],
        deadline: Option<Instant>,
    ) -> Result<Option<Cells>, StoreError> {
        self.reading(|connection| {
            let failed = |error| read_error(&self.name, "cannot read", error);
            stop_at(connection, deadline).map_err(failed)?;
            match rows(connection, sql, params) {
                Err(error) if is_interrupted(&error) => Ok(None),
                read => read.map(Some).map_err(failed),
            }
        })
    }
}

/// Returns all rows of a statement.
fn rows(connection: &SqliteConnection, sql: &str, params: &[Param]) -> rusqlite::Result<Cells> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let rows = statement.query_map(params_from_iter(params), |row| {
        (0..columns).map(|at| row.get_ref(at).map(cell)).collect()
    })?;
    rows.collect()
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

//! Reading for questions, on a connection of its own.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Params, Row, Value as MyValue};
use tokio::time::timeout;

use super::CONNECT_TIMEOUT;
use super::failure::{self, Remedy};
use super::migrate::{self, Failed};
use super::options::Target;
use super::session::Session;
use crate::store::{
    Cell, Cells, Connection, Dialect, Param, Purpose, See, StoreError, StoreFuture, StoreOptions,
};

/// Bytes by which the server sorts and groups texts: all that a column holds, not the first 1,024. And
/// a buffer that holds some keys of four such columns, without which it refuses to sort.
const SORT_LENGTH: &str = "set session max_sort_length = 65536, sort_buffer_size = 8388608";

/// "Execution was interrupted, a limit of time was exceeded": of MariaDB and of MySQL.
pub(super) const LATE: [u16; 2] = [1969, 3024];

/// The part of the time for an answer that a server gets beyond it, to say that it has stopped.
pub(super) const GRACE: u32 = 20;

/// Connects for reading. Changes nothing.
///
/// # Errors
///
/// As for [`look`](super::look), and [`StoreError::Configuration`] if its tables are not up to date.
pub(in crate::store) async fn connect_to_read(
    options: &StoreOptions,
) -> Result<Box<dyn Connection>, StoreError> {
    let target = Target::new(options)?;
    let mut reader = MysqlReader { target, conn: None };
    let mut conn = reader.connect().await?;
    let pending = match migrate::look(&reader.target.name, &mut conn, Purpose::Read).await {
        Ok(pending) => pending,
        Err(Failed::Store(error)) => return Err(error),
        Err(Failed::Driver(error)) => return Err(reader.failed("cannot read the tables", error)),
    };
    if let Some(change) = pending {
        return Err(StoreError::Configuration {
            store: reader.target.name,
            problem: format!("there is nothing to ask yet: {change}"),
            source: None,
        });
    }
    reader.conn = Some(conn);
    Ok(Box::new(reader))
}

/// A server that is read from.
pub(super) struct MysqlReader {
    /// Where it is, and the name by which messages call it.
    target: Target,
    /// Between calls. `None` while one uses it, and after one that failed or was dropped.
    pub(super) conn: Option<Conn>,
}

impl MysqlReader {
    /// Returns the error for the caller; `what` says what could not be done.
    pub(super) fn failed(&self, what: &str, error: Error) -> StoreError {
        failure::read_error(&self.target.name, what, error)
    }

    /// Opens a connection for reading, within `CONNECT_TIMEOUT`.
    ///
    /// The server is told to compare whole texts when it sorts (`max_sort_length`).
    pub(super) async fn connect(&self) -> Result<Conn, StoreError> {
        let connect = async {
            let mut conn = Session::connect(&self.target.opts).await?;
            conn.query_drop(SORT_LENGTH).await?;
            Ok(conn)
        };
        let late = |_| StoreError::Unavailable {
            store: self.target.name.clone(),
            problem: "the server does not answer".to_owned(),
            source: None,
        };
        let connected = timeout(CONNECT_TIMEOUT, connect).await.map_err(late)?;
        connected.map_err(|error| self.failed("cannot open", error))
    }

    /// Runs a statement; `None` if the deadline passed.
    ///
    /// A connection that was not used for some time may be gone, as the server's `wait_timeout` or a
    /// restart has it: then it is run once more, on a new one. It only reads, so that does no harm.
    async fn read(
        &mut self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
    ) -> Result<Option<Cells>, StoreError> {
        let is_over = deadline.is_some_and(|deadline| deadline <= Instant::now());
        if is_over {
            return Ok(None);
        }
        let params = positional(params);
        if let Some(conn) = self.conn.take() {
            match self.read_on(conn, &sql, params.clone(), deadline).await {
                Err(error) if failure::remedy(&error) == Remedy::Reconnect => {}
                read => return read.map_err(|error| self.failed("cannot read", error)),
            }
        }
        let conn = self.connect().await?;
        let read = self.read_on(conn, &sql, params, deadline).await;
        read.map_err(|error| self.failed("cannot read", error))
    }

    /// Runs a statement on a connection, and keeps that unless it may be in use still, or gone.
    async fn read_on(
        &mut self,
        mut conn: Conn,
        sql: &str,
        params: Params,
        deadline: Option<Instant>,
    ) -> Result<Option<Cells>, Error> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let read = async {
            limit(&mut conn, left).await?;
            let rows: Vec<Row> = conn.exec(sql, params).await?;
            Ok(rows
                .into_iter()
                .map(|row| row.unwrap().into_iter().map(cell).collect())
                .collect())
        };
        // A server without a limit of its own is left alone with its work: the connection is dropped.
        let limit = left.map_or(Duration::MAX, |left| left.saturating_add(left / GRACE));
        let read: Result<Cells, Error> = match timeout(limit, read).await {
            Ok(read) => read,
            Err(_) => return Ok(None),
        };
        match read {
            Ok(cells) => {
                self.conn = Some(conn);
                Ok(Some(cells))
            }
            Err(error) if failure::code(&error).is_some_and(|code| LATE.contains(&code)) => {
                self.conn = Some(conn);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Connection for MysqlReader {
    fn dialect(&self) -> Dialect {
        Dialect::Mysql
    }

    fn run(
        &mut self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
    ) -> StoreFuture<'_, Option<Cells>> {
        Box::pin(self.read(sql, params, deadline))
    }

    fn each_row<'a>(
        &'a mut self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
        see: &'a mut See<'_>,
    ) -> StoreFuture<'a, bool> {
        Box::pin(MysqlReader::each_row(
            self,
            sql,
            positional(params),
            deadline,
            see,
        ))
    }
}

/// Tells the server how long a statement may take; no limit for `None`.
///
/// MariaDB counts in seconds, MySQL in milliseconds, under different names. Servers that know neither
/// go on working after the deadline.
pub(super) async fn limit(conn: &mut Conn, left: Option<Duration>) -> Result<(), Error> {
    let seconds = left.map_or(0.0, |left| left.as_secs_f64().max(0.001));
    let milliseconds = left.map_or(0, |left| left.as_millis().clamp(1, u32::MAX.into()));
    let unknown = |error: &Error| failure::code(error) == Some(1193);
    match conn
        .query_drop(format!("set session max_statement_time = {seconds:.3}"))
        .await
    {
        Err(error) if unknown(&error) => {}
        done => return done,
    }
    let set = format!("set session max_execution_time = {milliseconds}");
    match conn.query_drop(set).await {
        Err(error) if unknown(&error) => Ok(()),
        done => done,
    }
}

/// Returns the values of a statement as the driver takes them.
pub(super) fn positional(params: Vec<Param>) -> Params {
    let params: Vec<MyValue> = params.into_iter().map(value).collect();
    if params.is_empty() {
        Params::Empty
    } else {
        Params::Positional(params)
    }
}

/// Returns a value as the driver takes it. Text is sent as bytes, so no character set of the
/// client applies.
fn value(param: Param) -> MyValue {
    match param {
        Param::Int(number) => MyValue::Int(number),
        Param::Text(text) => MyValue::Bytes(text.into_bytes()),
        Param::Blob(bytes) => MyValue::Bytes(bytes),
    }
}

/// Returns a value as questions know it. Times are asked for as text.
pub(super) fn cell(value: MyValue) -> Cell {
    match value {
        MyValue::Bytes(bytes) => Cell::Bytes(bytes),
        MyValue::Int(number) => Cell::Int(number),
        MyValue::UInt(number) => Cell::Int(i64::try_from(number).unwrap_or(i64::MAX)),
        MyValue::Float(number) => Cell::Bytes(number.to_string().into_bytes()),
        MyValue::Double(number) => Cell::Bytes(number.to_string().into_bytes()),
        MyValue::NULL | MyValue::Date(..) | MyValue::Time(..) => Cell::Null,
    }
}

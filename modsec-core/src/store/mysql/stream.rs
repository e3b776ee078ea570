//! Rows of one statement as they come.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Params};
use tokio::time::timeout;

use super::failure;
use super::read::{GRACE, LATE, MysqlReader, cell, limit};
use crate::store::{See, StoreError};

impl MysqlReader {
    /// Calls `see` with each row; `false` if the deadline passed before the last one.
    ///
    /// The server sends the rows as it finds them, and waits while they are looked at.
    pub(super) async fn each_row(
        &mut self,
        sql: String,
        params: Params,
        deadline: Option<Instant>,
        see: &mut See<'_>,
    ) -> Result<bool, StoreError> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            self.conn = Some(conn);
            return Ok(false);
        }
        let wait = left.map_or(Duration::MAX, |left| left.saturating_add(GRACE));
        // Out of time, the connection is dropped with what is still on its way.
        let Ok(read) = timeout(wait, each_row(&mut conn, left, sql, params, see)).await else {
            return Ok(false);
        };
        match read {
            Ok(()) => {
                self.conn = Some(conn);
                Ok(true)
            }
            Err(error) if failure::code(&error).is_some_and(|code| LATE.contains(&code)) => {
                self.conn = Some(conn);
                Ok(false)
            }
            Err(error) => Err(self.failed("cannot read", error)),
        }
    }
}

/// Runs the statement, and calls `see` with each of its rows.
async fn each_row(
    conn: &mut Conn,
    left: Option<Duration>,
    sql: String,
    params: Params,
    see: &mut See<'_>,
) -> Result<(), Error> {
    limit(conn, left).await?;
    let mut rows = conn.exec_iter(sql, params).await?;
    while let Some(row) = rows.next().await? {
        see(row.unwrap().into_iter().map(cell).collect());
    }
    Ok(())
}

//! Rows of one statement as they come.

use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Params};
use tokio::time::timeout;

use super::read::{GRACE, LATE, MysqlReader, cell, limit};
use super::{CONNECT_TIMEOUT, failure};
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
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Ok(false);
        }
        // One that the server has forgotten meanwhile is not one to begin on.
        let kept = match self.conn.take() {
            Some(mut conn) => {
                let ping = timeout(CONNECT_TIMEOUT, conn.ping()).await;
                matches!(ping, Ok(Ok(()))).then_some(conn)
            }
            None => None,
        };
        let mut conn = match kept {
            Some(conn) => conn,
            None => self.connect().await?,
        };
        let wait = left.map_or(Duration::MAX, |left| left.saturating_add(left / GRACE));
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

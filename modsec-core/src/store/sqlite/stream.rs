//! Rows of one statement as they come.

use std::time::Instant;

use rusqlite::{Connection, params_from_iter};
use tokio::sync::mpsc;

use super::deadline::{is_interrupted, stop_at};
use super::look::DatabaseFile;
use super::read::cell;
use super::read_error;
use crate::store::{Cell, Cells, Param, See, StoreError};

/// Rows that are handed over together.
const CHUNK: usize = 1_024;

/// Chunks that may wait for the caller. The thread of the database waits when there are more.
const WAITING: usize = 4;

impl DatabaseFile {
    /// Calls `see` with each row; `false` if the deadline passed before the last one.
    ///
    /// The rows are those of one instant: what others commit meanwhile is not seen.
    pub(super) async fn each_row(
        &self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
        see: &mut See<'_>,
    ) -> Result<bool, StoreError> {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let read = self.ask(move |file| file.send_rows(&sql, &params, deadline, &sender));
        let receive = async {
            while let Some(chunk) = receiver.recv().await {
                chunk.into_iter().for_each(&mut *see);
            }
        };
        // The second ends with the first, which has the sender.
        let (done, ()) = tokio::join!(read, receive);
        done
    }

    /// Sends the rows of a statement; returns what [`DatabaseFile::each_row`] returns.
    fn send_rows(
        &self,
        sql: &str,
        params: &[Param],
        deadline: Option<Instant>,
        chunks: &mpsc::Sender<Cells>,
    ) -> Result<bool, StoreError> {
        self.reading_once(|connection| {
            let failed = |error| read_error(&self.name, "cannot read", error);
            stop_at(connection, deadline).map_err(failed)?;
            match send(connection, sql, params, chunks) {
                Err(error) if is_interrupted(&error) => Ok(false),
                done => done.map(|()| true).map_err(failed),
            }
        })
    }
}

/// Sends the rows of a statement, some at a time.
fn send(
    connection: &Connection,
    sql: &str,
    params: &[Param],
    chunks: &mpsc::Sender<Cells>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(params))?;
    let mut chunk = Vec::with_capacity(CHUNK);
    while let Some(row) = rows.next()? {
        let cells = (0..columns).map(|at| row.get_ref(at).map(cell));
        chunk.push(cells.collect::<rusqlite::Result<Vec<Cell>>>()?);
        let is_full = chunk.len() == CHUNK;
        // Nobody waits for more if the caller's future was dropped.
        if is_full && chunks.blocking_send(std::mem::take(&mut chunk)).is_err() {
            return Ok(());
        }
    }
    // As above.
    let _ = chunks.blocking_send(chunk);
    Ok(())
}

//! What the thread of the database does: work on the file that is at the path, never on another.

use std::path::PathBuf;

use rusqlite::config::DbConfig;

use super::Database;
use super::open::connect;
use crate::heartbeat::Heartbeat;
use crate::store::StoreError;

/// The thread's side: path, and the database that was opened there.
pub(super) struct Worker {
    /// `sqlite:PATH`, for messages.
    name: String,
    /// The path as the URL has it. Every new connection is made to what it leads to then.
    path: PathBuf,
    /// Beats as long as SQLite works, see [`connect`].
    heartbeat: Heartbeat,
    /// `None` after the path led elsewhere or an error asked for a new start: the next call opens
    /// it.
    database: Option<Database>,
}

impl Worker {
    /// Opens the database, and makes or upgrades its tables.
    ///
    /// # Errors
    ///
    /// Those of [`connect`].
    pub(super) fn open(
        name: String,
        path: PathBuf,
        heartbeat: Heartbeat,
    ) -> Result<Worker, StoreError> {
        let database = Some(connect(&name, &path, &heartbeat)?);
        Ok(Worker {
            name,
            path,
            heartbeat,
            database,
        })
    }

    /// Does some work on the database at the path.
    ///
    /// What it has found or committed counts only if the path still leads to the database
    /// afterwards. Otherwise the database is closed, the caller gets [`StoreError::Unavailable`]
    /// and repeats the call, which opens what is at the path then. Entries are removed only after
    /// `Ok`, so none is lost with a database that was replaced.
    pub(super) fn run<T>(
        &mut self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut database = match self.database.take() {
            Some(database) => database,
            None => connect(&self.name, &self.path, &self.heartbeat)?,
        };
        database.files.check(&self.name)?;
        let done = work(&mut database);
        // Also after an error, which may be due to this.
        database.files.check(&self.name)?;
        // Opening it looks whether there are tables, among other things.
        if !matches!(done, Err(StoreError::Configuration { .. })) {
            self.database = Some(database);
        }
        done
    }
}

impl Drop for Database {
    /// Closes a database that is not at its path any more without harm to what is there now.
    fn drop(&mut self) {
        if self.files.check(&self.name).is_ok() {
            return;
        }
        // Closing would copy the write-ahead log and remove it by its name, also where another
        // process has begun a new one. Nothing to do about a failure, here and below: what was
        // committed last is stored again.
        let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        let _ = self.connection.set_db_config(no_checkpoint, true);
        if self.files.may_checkpoint() {
            // The log stays at its name when only the database is replaced, and SQLite would apply
            // it to the new one, which damages an older copy.
            let emptied = "pragma busy_timeout = 1000; pragma wal_checkpoint(truncate)";
            let _ = self.connection.execute_batch(emptied);
        }
    }
}

//! One SQLite file. Nothing to install; one machine.
//!
//! SQLite blocks its caller, so the connection lives on a thread of its own and this room is the
//! only one that knows:
//!
//! ```text
//! caller (async)                      thread "sqlite"
//! SqliteStore::call ── job ─────────► Worker::run
//!       │                              │ is the path still this file?      files.rs
//!       │                              │ Database: statements, commit      here
//!       │                              │ is it still?
//!       ◄── oneshot: result ───────────┘
//! ```
//!
//! The database is in WAL mode with `synchronous=FULL`: a committed batch survives a power failure,
//! and readers do not block the writer. One process writes at a time; others wait up to ten
//! seconds.
//!
//! # What holds
//!
//! - *A batch is one immediate transaction.* It is dropped, and so rolled back, on every way out
//!   but the commit.
//! - *What was committed counts only if it is at the path.* A database that was replaced under us
//!   takes rows as before, and no reader finds them. So the path is looked at before and after each
//!   job.
//! - *A dropped future does not stop its job.* The thread finishes it, unless the process ends first;
//!   repeating the call finds the rows known.

mod deadline;
mod files;
mod look;
mod open;
mod read;
mod reader_group;
mod stream;
#[cfg(test)]
mod tests;
mod upkeep;
mod worker;

use std::collections::HashSet;
use std::convert::Infallible;
use std::error::Error;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OptionalExtension as _, TransactionBehavior, params,
    params_from_iter,
};
use tokio::sync::oneshot;

use self::files::Files;
pub(super) use self::look::look;
pub(super) use self::open::{check, file, open};
pub(super) use self::read::connect_to_read;
use self::worker::Worker;
use super::row::{client_key, sql_time};
use super::shared::{ALERT_COLUMNS, Split, rule_table_columns};
use super::{
    Batch, BatchId, Inserted, LOG_COLUMNS, Refused, Row, Store, StoreError, StoreFuture, Value,
};
use crate::crash_points;
use crate::entry_hash::EntryHash;

/// How long a store that is dropped waits for its thread. Without a job under way that ends at once.
const LINGER: Duration = Duration::from_millis(300);

/// Work for the thread, together with the way back for its result.
type Job = Box<dyn FnOnce(&mut Worker) + Send>;

/// The caller's side: sends jobs to the thread that has the connection.
pub(super) struct SqliteStore {
    /// `sqlite:PATH`, for messages.
    name: String,
    /// Jobs for the thread, which does them one by one, in order. `None` only while the store is
    /// dropped: closing it ends the thread.
    jobs: Option<mpsc::Sender<Job>>,
    /// The thread, to wait for its end.
    thread: Option<JoinHandle<()>>,
    /// Is disconnected when the thread has ended.
    ended: mpsc::Receiver<Infallible>,
}

/// The database as the thread has it open.
struct Database {
    /// As [`SqliteStore::name`].
    name: String,
    /// The only connection of this store. Not used by two threads.
    connection: Connection,
    /// Which files were opened, to notice when the path leads to others.
    files: Files,
    /// The SQL that adds a row of `logs` unless its hash is there already.
    insert_log: String,
    /// The SQL that adds a row of `rule_matches`.
    insert_alert: String,
    /// The SQL that adds a row of `modsec_rules` unless it is there already.
    insert_rule: String,
}

impl SqliteStore {
    /// Lets the thread do `work`, and returns its result.
    ///
    /// The job is sent at once, before the future is polled. Jobs are done in the order of the
    /// calls.
    ///
    /// # Errors
    ///
    /// Those of `work`; [`StoreError::Unavailable`] if the thread has ended, as after a panic.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Database) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |worker| {
            // A caller whose future was dropped does not wait for the answer any more.
            let _ = reply.send(worker.run(work));
        });
        if let Some(thread) = &self.jobs {
            // If the thread is gone, so is `reply`, and `answer` says so.
            let _ = thread.send(job);
        }
        let name = &self.name;
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                Err(StoreError::Unavailable {
                    store: name.clone(),
                    problem: "the thread of the database has ended; restart the program".to_owned(),
                    source: None,
                })
            })
        })
    }
}

impl Drop for SqliteStore {
    /// Waits for jobs under way, so that the file is closed when the store is gone. One that nobody
    /// waits for any more may itself be waiting for a lock of another process: it is left to end by
    /// itself, or with this process, as in a crash.
    fn drop(&mut self) {
        self.jobs = None;
        let ended = self.ended.recv_timeout(LINGER);
        if let Some(thread) = self.thread.take()
            && ended == Err(RecvTimeoutError::Disconnected)
        {
            let _ = thread.join();
        }
    }
}

impl Store for SqliteStore {
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        let hashes = hashes.to_vec();
        self.call(move |database| {
            database
                .known(&hashes)
                .map_err(|error| database.error("cannot read", error))
        })
    }

    fn insert<'a>(&'a mut self, batch: &'a Batch) -> StoreFuture<'a, Inserted> {
        // Shares the rows: the caller keeps them for a repetition, and a dropped future leaves
        // nothing borrowed behind.
        let batch = batch.clone();
        self.call(move |database| database.insert(&batch))
    }

    fn last_batch<'a>(&'a mut self, journal: &'a str) -> StoreFuture<'a, Option<BatchId>> {
        let journal = journal.to_owned();
        self.call(move |database| {
            database
                .last_batch(&journal)
                .map_err(|error| database.error("cannot read", error))
        })
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl Database {
    /// Puts an open database together with the statements for it.
    fn new(name: String, connection: Connection, files: Files) -> Database {
        Database {
            name,
            connection,
            files,
            insert_log: format!(
                "insert into logs ({}, estimated) values ({}, 0)
                 on conflict (entry_hash) do nothing",
                LOG_COLUMNS.join(", "),
                placeholders(LOG_COLUMNS.len())
            ),
            insert_alert: format!(
                "insert into rule_matches (log_id, position, rule_key, {}) values ({})",
                ALERT_COLUMNS.join(", "),
                placeholders(3 + ALERT_COLUMNS.len())
            ),
            insert_rule: format!(
                "insert or ignore into modsec_rules ({}) values ({})",
                rule_table_columns().join(", "),
                placeholders(rule_table_columns().len())
            ),
        }
    }

    /// Returns which of the hashes are in `logs`, one look-up in the index each.
    fn known(&self, hashes: &[EntryHash]) -> rusqlite::Result<HashSet<EntryHash>> {
        let mut select = self
            .connection
            .prepare_cached("select 1 from logs where entry_hash = ?")?;
        let mut known = HashSet::new();
        for hash in hashes {
            if select.exists([hash.as_bytes()])? {
                known.insert(*hash);
            }
        }
        Ok(known)
    }

    /// Stores a batch, or says why not. After an error nothing of it is stored.
    fn insert(&mut self, batch: &Batch) -> Result<Inserted, StoreError> {
        let mut refused = Vec::new();
        match self.try_insert(batch, &mut refused) {
            Err(error) => Err(self.error("cannot store the batch", error)),
            Ok(_) if !refused.is_empty() => Err(StoreError::Refused {
                store: self.name.clone(),
                rows: refused,
            }),
            Ok(inserted) => Ok(inserted),
        }
    }

    /// Commits the batch if no row is refused, or else rolls back.
    ///
    /// All rows are tried, so `refused` has all that the database does not accept. The transaction
    /// is immediate: one that starts by reading could not be sure to become the writer.
    ///
    /// ```text
    /// begin immediate ─► for each row: insert; duplicate: known; constraint: refused
    ///                 ─► modsec_batches ─ killed here: nothing is stored
    ///                 ─► commit         ─ killed here: all stored, `last_batch` says so
    /// ```
    ///
    /// A trigger that an administrator added may say `raise(rollback)`. That ends the transaction,
    /// and each later row would be stored by itself; so this stops at once, with that row in
    /// `refused`.
    fn try_insert(
        &mut self,
        batch: &Batch,
        refused: &mut Vec<Refused>,
    ) -> rusqlite::Result<Inserted> {
        // Immediate: a transaction that starts by reading could not be sure to become the writer.
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut inserts = Inserts {
            connection: &transaction,
            log: transaction.prepare_cached(&self.insert_log)?,
            alert: transaction.prepare_cached(&self.insert_alert)?,
            rule: transaction.prepare_cached(&self.insert_rule)?,
            rules: HashSet::new(),
        };
        let mut inserted = Inserted::default();
        for row in batch.rows.iter() {
            match inserts.insert(row) {
                Ok(true) => inserted.stored += 1,
                Ok(false) => inserted.known += 1,
                Err(error) if is_refusal(&error) => {
                    refused.push(Refused::new(row, error.to_string()));
                }
                Err(error) => return Err(error),
            }
            // A trigger said `raise(rollback)`: what followed would be stored row by row.
            if transaction.is_autocommit() {
                return Ok(inserted);
            }
        }
        if !refused.is_empty() {
            return Ok(inserted);
        }
        drop(inserts);
        if let Some(journal) = &batch.journal {
            transaction
                .prepare_cached(
                    "insert or replace into modsec_batches (journal, batch, committed_at)
                     values (?, ?, datetime('now'))",
                )?
                .execute(params![journal, batch.id.as_bytes()])?;
        }
        crash_points::pass("in-transaction");
        transaction.commit()?;
        crash_points::pass("committed");
        Ok(inserted)
    }

    /// Returns the batch committed last under `journal`. A transaction of a dead process is no
    /// longer there to be waited for: its lock ended with it.
    fn last_batch(&self, journal: &str) -> rusqlite::Result<Option<BatchId>> {
        self.connection
            .prepare_cached("select batch from modsec_batches where journal = ?")?
            .query_row([journal], |row| row.get(0).map(BatchId::from_bytes))
            .optional()
    }

    /// Returns the error for the caller, see [`store_error`].
    fn error(&self, what: &str, error: rusqlite::Error) -> StoreError {
        store_error(&self.name, what, error)
    }
}

/// The prepared statements of one transaction.
struct Inserts<'t> {
    /// The connection that the transaction runs on.
    connection: &'t Connection,
    /// Adds a row to `logs`, unless its hash is there.
    log: CachedStatement<'t>,
    /// Adds a row to `rule_matches`.
    alert: CachedStatement<'t>,
    /// Adds a row to `modsec_rules`, which keeps what all alerts of a rule have in common once.
    rule: CachedStatement<'t>,
    /// Keys of the rules that this transaction has seen to.
    rules: HashSet<i64>,
}

impl Inserts<'_> {
    /// Adds one row with its matches; returns `false` if its hash is there already.
    fn insert(&mut self, row: &Row) -> rusqlite::Result<bool> {
        if self.log.execute(params_from_iter(row.values()))? == 0 {
            return Ok(false);
        }
        let id = self.connection.last_insert_rowid();
        for (position, rule) in (0i64..).zip(&row.rule_matches) {
            let Split {
                rule_key,
                own,
                shared,
            } = Split::new(rule);
            for shared in shared {
                if self.rules.insert(shared.rule_key) {
                    self.rule.execute(params_from_iter(shared.values))?;
                }
            }
            let key = [id, position, rule_key].map(Value::Int);
            self.alert
                .execute(params_from_iter(key.into_iter().chain(own)))?;
        }
        Ok(true)
    }
}

/// Returns `?, ?, …` for so many values.
fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}

impl ToSql for Value<'_> {
    /// Times are text, hashes blobs of 16 bytes. A time that [`sql_time`] cannot write is null.
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Int(number) => ToSqlOutput::Borrowed(ValueRef::Integer(*number)),
            Value::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Value::Hash(hash) => ToSqlOutput::Borrowed(ValueRef::Blob(hash.as_bytes())),
            Value::Address(ip) => ToSqlOutput::Owned(client_key(*ip).to_vec().into()),
            Value::Time(time) => {
                ToSqlOutput::Owned(sql_time(time).map_or(rusqlite::types::Value::Null, Into::into))
            }
        })
    }
}

/// Returns `true` if the row's own values are the reason: constraints and triggers that an
/// administrator added, or a value that is too large.
fn is_refusal(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig)
    )
}

/// Returns what SQLite says, once, and its own number of the error, which says more.
fn cause(error: rusqlite::Error) -> Box<dyn Error + Send + Sync> {
    match error {
        rusqlite::Error::SqliteFailure(failure, Some(said)) => {
            format!("{said} (SQLite's code {})", failure.extended_code).into()
        }
        error => error.into(),
    }
}

/// Returns the error for the caller: `what` was attempted, what is wrong, what to do, and SQLite's
/// words as the source.
///
/// Locks, a full or failing disk and lack of memory pass ([`StoreError::Unavailable`]); permissions
/// and the file itself do not ([`StoreError::Configuration`]). Source: "Result and Error Codes" of
/// SQLite.
fn store_error(store: &str, what: &str, error: rusqlite::Error) -> StoreError {
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "the disk is full; make room",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            "may not write; let this account own the file and its directory"
        }
        Some(ErrorCode::CannotOpen) => {
            "cannot open the file, or make files beside it; see its directory's permissions"
        }
        code => reason(code),
    };
    with_reason(store, what, reason, error)
}

/// As [`store_error`], in the words of who only reads.
fn read_error(store: &str, what: &str, error: rusqlite::Error) -> StoreError {
    let reason = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "there is no room for temporary files; make room in /var/tmp",
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            "may not read; let this account, or a group of it, read the file, and -wal and -shm beside \
             it if they are there"
        }
        code => reason(code),
    };
    with_reason(store, what, reason, error)
}

/// Returns what an error means, and what to do, for who reads and for who writes.
fn reason(code: Option<ErrorCode>) -> &'static str {
    match code {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::FileLockingProtocolFailed,
        ) => "another process holds the database for too long",
        Some(ErrorCode::SystemIoFailure) => "the disk fails; see the system log",
        Some(ErrorCode::OutOfMemory) => "there is not enough memory",
        Some(ErrorCode::NotADatabase) => "the file is not an SQLite database; name another file",
        Some(ErrorCode::DatabaseCorrupt) => {
            "the file is damaged; put it aside and try `sqlite3 FILE .recover`"
        }
        _ => "SQLite does not accept it; are the tables those of this program?",
    }
}

/// Returns the error of this text, with SQLite's words as the source.
fn with_reason(store: &str, what: &str, reason: &str, error: rusqlite::Error) -> StoreError {
    let passes = matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory
        )
    );
    let (store, problem) = (store.to_owned(), format!("{what}: {reason}"));
    let source = Some(cause(error));
    if passes {
        StoreError::Unavailable {
            store,
            problem,
            source,
        }
    } else {
        StoreError::Configuration {
            store,
            problem,
            source,
        }
    }
}

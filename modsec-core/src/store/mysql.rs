//! MySQL, MariaDB and what speaks their protocol: a server, or a cluster, for many sensors.
//!
//! One batch is one transaction of a few large statements. A connection is made when it is needed
//! and given up at the first doubt. What went wrong is repeated for some seconds; a batch can be
//! repeated safely, because the hash of an entry is unique in the table.
//!
//! # How a batch is stored
//!
//! ```text
//! make_tables ── once, and again after the tables were dropped          migrate.rs
//!      │
//!      ▼
//! try_insert ◄───────────────────────────────────────────────┐
//!      │ a commit was sent before and not answered?          │
//!      │    was_committed: read the store again ──► Inserted │
//!      ▼                                                     │ wait: pause, repeat for RETRY_FOR
//! Session::store: begin, rows, ids, matches, batch, commit   │
//!      ├─ Stored ──────────────────────────────► Inserted    │
//!      ├─ SomeKnown: leave them out, once more               │
//!      ├─ Refused ─────────────────────────────► Refused     │
//!      └─ an error: failure::remedy ─────────────────────────┤
//!                                                            └─ give up: an error
//! ```
//!
//! # What holds
//!
//! - *A session is out of [`MysqlStore::session`] while a call uses it.* An error or a dropped
//!   future drops the connection with it, and the server rolls its open transaction back. No call
//!   ever starts on a connection with an unknown state.
//! - *A commit without an answer is looked up, not guessed.* The rows of the transaction were not
//!   in the table before, and it stores all or none: if all are there now, it was committed.
//! - *Every wait has a limit*, except for a migration, which beats as long as the server still
//!   lists the connection.
//!
//! # Rooms
//!
//! `option_file`, `settings`, `options` and `tls` turn a URL and an option file into an address;
//! `migrate` makes the tables; `session` has one connection with its statements; `columns` fits
//! values to the columns that the server describes; `statements` divides rows into statements;
//! `failure` says what an error asks for.

mod columns;
mod failure;
mod migrate;
mod option_file;
mod options;
mod read;
mod rights;
mod session;
mod settings;
mod statements;
mod stream;
mod tls;
mod upkeep;

use std::collections::HashSet;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Error, Opts};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use self::failure::Remedy;
use self::migrate::Failed;
use self::options::Target;
pub(super) use self::read::connect_to_read;
use self::session::{Outcome, Session};
use super::{
    Batch, BatchId, Found, Inserted, Purpose, Reader, Refused, Row, Store, StoreError, StoreFuture,
    StoreOptions,
};
use crate::entry_hash::EntryHash;
use crate::heartbeat::Heartbeat;

/// How long a failed transaction is repeated here before the caller gets the error. A restart of
/// the server takes about this long.
const RETRY_FOR: Duration = Duration::from_secs(10);
/// The first pause between repetitions; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between repetitions.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Time for a connection to be made and its session set up. A packet filter that drops everything
/// shows itself by this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one transaction. Longer than the server's own limit for waiting on a lock (50 s), so
/// that the server can say what is the matter.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the server is asked whether it is still busy with a migration.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// A store on one server. Opened by [`open`]; connects again by itself.
pub(super) struct MysqlStore {
    /// Address, account and name of the server.
    target: Target,
    /// Gets a beat in every wait, so that a watchdog sees the difference between waiting and
    /// hanging.
    heartbeat: Heartbeat,
    /// The connection, between calls. `None` while a call uses it: a call that fails or is dropped
    /// takes its connection along, and the server rolls its transaction back.
    session: Option<Session>,
    /// `true` if the tables are to be made: at first, and after an error said that they or the
    /// database are gone.
    lacks_tables: bool,
}

/// A transaction whose commit was sent and not answered: it may be stored or not.
#[derive(Default)]
struct UnansweredCommit {
    /// Hashes of the rows it would have added. None of them was in the table before it.
    entries: Vec<EntryHash>,
}

/// Opens the store that a `mysql:` URL names: reads the option file, connects, makes or upgrades
/// the tables.
///
/// # Errors
///
/// [`StoreError::Configuration`] for what is wrong with URL, option file or account;
/// [`StoreError::Unavailable`] after [`RETRY_FOR`] without a server; those of
/// [`migrate`](migrate::migrate).
pub(super) async fn open(
    options: &StoreOptions,
    heartbeat: Heartbeat,
) -> Result<MysqlStore, StoreError> {
    let mut store = MysqlStore {
        target: Target::new(options)?,
        heartbeat,
        session: None,
        lacks_tables: true,
    };
    store.make_tables().await?;
    Ok(store)
}

/// Returns what is wrong with the values in URL and option file.
///
/// # Errors
///
/// [`StoreError::Configuration`].
pub(super) fn check(options: &StoreOptions) -> Result<(), StoreError> {
    options::check(options)
}

/// Looks at what a `mysql:` URL names; changes nothing. A rehearsal, too, is told which rights a run
/// lacks: what the first run makes, it must be able to make.
///
/// # Errors
///
/// As for [`open`], after one try.
pub(super) async fn look(options: &StoreOptions) -> Result<Found, StoreError> {
    let mut store = MysqlStore {
        target: Target::new(options)?,
        heartbeat: Heartbeat::default(),
        session: None,
        lacks_tables: false,
    };
    let name = store.target.name.clone();
    let remark = match store.look_at_tables().await {
        Ok(remark) => remark,
        Err(Failed::Store(error)) => return Err(error),
        Err(Failed::Driver(error)) => {
            return Err(failure::store_error(&name, "cannot open", error));
        }
    };
    let is_complete = remark.is_none();
    Ok(Found {
        remark,
        reader: is_complete.then(|| Box::new(store) as Box<dyn Reader>),
    })
}

impl Reader for MysqlStore {
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        Store::known(self, hashes)
    }
}

impl MysqlStore {
    /// Connects, and returns what is to be done to the tables; keeps the connection as the session
    /// if that is nothing.
    async fn look_at_tables(&mut self) -> Result<Option<String>, Failed> {
        let connect = Session::connect(&self.target.opts);
        let mut conn = self.within(CONNECT_TIMEOUT, connect).await?;
        let pending = migrate::look(&self.target.name, &mut conn, Purpose::Write).await?;
        if pending.is_none() {
            self.session = Some(self.within(CONNECT_TIMEOUT, Session::new(conn)).await?);
        }
        Ok(pending)
    }

    /// Makes the tables, or brings them up to date, if [`lacks_tables`](Self::lacks_tables) says
    /// so.
    ///
    /// Repeats what may pass by itself for [`RETRY_FOR`]. After an error the flag stays, so the
    /// next call begins here again.
    async fn make_tables(&mut self) -> Result<(), StoreError> {
        let mut retries = Retries::new();
        while self.lacks_tables {
            match self.prepare().await {
                Ok(()) => self.lacks_tables = false,
                Err(Failed::Store(error)) => return Err(error),
                Err(Failed::Driver(error)) => {
                    self.wait(&mut retries, "cannot open", error).await?;
                }
            }
        }
        Ok(())
    }

    /// Connects, makes or upgrades the tables, and keeps the connection as the session.
    ///
    /// The migration has no time limit, since an index on a table that has grown for years takes
    /// its time. In its place [`beat_while_connected`](Self::beat_while_connected) asks the server:
    /// a connection that the server no longer has ends the wait.
    async fn prepare(&mut self) -> Result<(), Failed> {
        let connect = Session::connect(&self.target.opts);
        let mut conn = self.within(CONNECT_TIMEOUT, connect).await?;
        // No limit: an index on a table that has grown for years takes its time.
        let id = conn.id();
        tokio::select! {
            biased;
            done = migrate::migrate(&self.target.name, &mut conn) => done?,
            gone = self.beat_while_connected(id) => return Err(gone.into()),
        }
        self.session = Some(self.within(CONNECT_TIMEOUT, Session::new(conn)).await?);
        Ok(())
    }

    /// Takes the session, or connects anew. The caller puts it back once its call has succeeded.
    async fn session(&mut self) -> Result<Session, Error> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let connect = async { Session::new(Session::connect(&self.target.opts).await?).await };
        self.within(CONNECT_TIMEOUT, connect).await
    }

    /// Runs a future for at most `limit`, and beats meanwhile.
    ///
    /// A peer that is silent for longer counts as gone: the error is `ConnectionClosed`, which is
    /// repeated on a new connection.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = |_| Error::Driver(DriverError::ConnectionClosed);
        let limited = timeout(limit, work);
        self.heartbeat.wait_for(limited).await.map_err(late)?
    }

    /// Beats as long as the server answers, and returns once it no longer lists connection `id`.
    ///
    /// Asks every [`ASK_EVERY`] over a connection of its own. Behind a proxy the server knows the
    /// connection by another number, so an `id` that was never listed proves nothing. A server that
    /// does not answer gives no beat: a watchdog then ends the program.
    async fn beat_while_connected(&self, id: u32) -> Error {
        // Behind a proxy the server knows the connection by another number.
        let mut was_connected = false;
        loop {
            sleep(ASK_EVERY).await;
            let ask = timeout(CONNECT_TIMEOUT, is_connected(&self.target.opts, id));
            match ask.await {
                Ok(Ok(false)) if was_connected => {
                    return Error::Driver(DriverError::ConnectionClosed);
                }
                Ok(Ok(is_connected)) => {
                    was_connected |= is_connected;
                    self.heartbeat.beat();
                }
                // Too many connections, say: an answer nevertheless.
                Ok(Err(Error::Server(_))) => self.heartbeat.beat(),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Pauses before a repetition, or returns the error for the caller.
    ///
    /// `what` is the attempt in words, such as `cannot read`. Repeated are errors that may pass by
    /// themselves, while [`Retries`] has a pause left.
    ///
    /// # Errors
    ///
    /// The error as [`failure::store_error`] words it: at once for what only an administrator can
    /// change or what takes longer than seconds ([`Remedy::Later`]), else after [`RETRY_FOR`].
    async fn wait(
        &mut self,
        retries: &mut Retries,
        what: &str,
        error: Error,
    ) -> Result<(), StoreError> {
        // Refused data comes here only if no row of the batch can be found that is to blame.
        let transient = matches!(
            failure::remedy(&error),
            Remedy::Repeat | Remedy::Reconnect | Remedy::Data | Remedy::Probe
        );
        match retries.next_pause() {
            Some(pause) if transient => {
                // For minutes on end if the server is away; the caller says so once.
                debug!(store = self.target.name, error = %failure::cause(error), "transaction is repeated");
                self.heartbeat.wait_for(sleep(pause)).await;
                Ok(())
            }
            _ => {
                // Said first: what was stored in them is gone.
                self.lacks_tables |= failure::is_table_missing(&error);
                Err(failure::store_error(&self.target.name, what, error))
            }
        }
    }

    /// Returns those of `hashes` that are in the table, by one try.
    async fn find_known(&mut self, hashes: &[EntryHash]) -> Result<HashSet<EntryHash>, Error> {
        let mut session = self.session().await?;
        let known = self
            .within(TRANSACTION_TIMEOUT, session.known(hashes))
            .await?;
        self.session = Some(session);
        Ok(known)
    }

    /// Returns the batch committed last under `journal`, by one try.
    async fn find_last_batch(&mut self, journal: &str) -> Result<Option<BatchId>, Error> {
        let mut session = self.session().await?;
        let last = self
            .within(TRANSACTION_TIMEOUT, session.last_batch(journal))
            .await?;
        self.session = Some(session);
        Ok(last)
    }

    /// Returns `true` if the transaction was committed of which only the answer is missing.
    ///
    /// With a journal, its last batch must be this one. In either case all entries that the
    /// transaction added must be there. An empty transaction without a journal counts as committed:
    /// it changed nothing.
    async fn was_committed(
        &mut self,
        batch: &Batch,
        unanswered: &UnansweredCommit,
    ) -> Result<bool, Error> {
        if let Some(journal) = &batch.journal
            && self.find_last_batch(journal).await? != Some(batch.id)
        {
            return Ok(false);
        }
        // None of them were there before it, and a transaction stores all or none.
        let known = self.find_known(&unanswered.entries).await?;
        Ok(unanswered.entries.iter().all(|entry| known.contains(entry)))
    }

    /// Tries once to store the batch.
    ///
    /// `unanswered` is the state of an earlier try whose commit had no answer, and is set again if
    /// this one has none. Of an entry that is in the batch more than once the first row counts.
    /// Entries that another writer has stored meanwhile are left out, and the rest is tried again:
    /// each round leaves out at least one, so this ends.
    ///
    /// # Errors
    ///
    /// [`Failed::Store`] with [`StoreError::Refused`] if rows are to blame; [`Failed::Driver`] for
    /// everything that [`failure::remedy`] is to judge.
    async fn try_insert(
        &mut self,
        batch: &Batch,
        unanswered: &mut Option<UnansweredCommit>,
    ) -> Result<Inserted, Failed> {
        if let Some(commit) = unanswered.as_ref() {
            let stored = commit.entries.len();
            if self.was_committed(batch, commit).await? {
                return Ok(Inserted::new(stored, batch.rows.len() - stored));
            }
            *unanswered = None;
        }
        let mut seen = HashSet::new();
        let mut rows: Vec<&Row> = batch
            .rows
            .iter()
            .filter(|row| seen.insert(row.entry_hash))
            .collect();
        loop {
            let mut session = self.session().await?;
            let store = session.store(&rows, batch, unanswered);
            match self.within(TRANSACTION_TIMEOUT, store).await? {
                Outcome::Stored => {
                    self.session = Some(session);
                    let stored = rows.len();
                    return Ok(Inserted::new(stored, batch.rows.len() - stored));
                }
                Outcome::Refused(rows) => {
                    self.session = Some(session);
                    let store = self.target.name.clone();
                    return Err(Failed::Store(StoreError::Refused { store, rows }));
                }
                Outcome::SomeKnown(known) => {
                    self.session = Some(session);
                    rows.retain(|row| !known.contains(&row.entry_hash));
                }
            }
        }
    }

    /// Returns the rows that fail with an unknown error while others do not, as
    /// [`StoreError::Refused`]; if there are none, `error` itself.
    async fn find_faulty_rows(&mut self, batch: &Batch, error: Error) -> StoreError {
        let store = self.target.name.clone();
        match self.try_faulty_rows(batch).await {
            Ok(rows) if !rows.is_empty() => StoreError::Refused { store, rows },
            // Another error now says no more than the one that lasted.
            Ok(_) | Err(_) => failure::store_error(&store, "cannot store the batch", error),
        }
    }

    /// Looks once for rows that are to blame, see [`Session::faulty_rows`]. Stores nothing.
    async fn try_faulty_rows(&mut self, batch: &Batch) -> Result<Vec<Refused>, Error> {
        let mut session = self.session().await?;
        let found = self
            .within(TRANSACTION_TIMEOUT, session.faulty_rows(&batch.rows))
            .await?;
        self.session = Some(session);
        Ok(found)
    }

    /// Stores the batch, repeating for [`RETRY_FOR`] what may pass by itself.
    async fn insert_batch(&mut self, batch: &Batch) -> Result<Inserted, StoreError> {
        self.make_tables().await?;
        let mut retries = Retries::new();
        let mut unanswered = None;
        loop {
            match self.try_insert(batch, &mut unanswered).await {
                Ok(inserted) => return Ok(inserted),
                Err(Failed::Store(error)) => return Err(error),
                Err(Failed::Driver(error))
                    if may_be_a_rows_fault(&error, &retries, unanswered.as_ref()) =>
                {
                    return Err(self.find_faulty_rows(batch, error).await);
                }
                Err(Failed::Driver(error)) => {
                    self.wait(&mut retries, "cannot store the batch", error)
                        .await?;
                }
            }
        }
    }
}

impl Store for MysqlStore {
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        Box::pin(async move {
            self.make_tables().await?;
            let mut retries = Retries::new();
            loop {
                match self.find_known(hashes).await {
                    Ok(known) => return Ok(known),
                    Err(error) => self.wait(&mut retries, "cannot read", error).await?,
                }
            }
        })
    }

    fn insert<'a>(&'a mut self, batch: &'a Batch) -> StoreFuture<'a, Inserted> {
        Box::pin(self.insert_batch(batch))
    }

    fn last_batch<'a>(&'a mut self, journal: &'a str) -> StoreFuture<'a, Option<BatchId>> {
        Box::pin(async move {
            self.make_tables().await?;
            let mut retries = Retries::new();
            loop {
                match self.find_last_batch(journal).await {
                    Ok(last) => return Ok(last),
                    Err(error) => self.wait(&mut retries, "cannot read", error).await?,
                }
            }
        })
    }

    fn name(&self) -> String {
        self.target.name.clone()
    }
}

/// Returns `true` if an error without a known remedy may be caused by the values of a row.
///
/// It has come back for all of [`RETRY_FOR`], and was no answer to a commit. Only then the
/// expensive search for the row is worth it, see [`Session::faulty_rows`].
fn may_be_a_rows_fault(
    error: &Error,
    retries: &Retries,
    unanswered: Option<&UnansweredCommit>,
) -> bool {
    failure::remedy(error) == Remedy::Probe && retries.is_over() && unanswered.is_none()
}

/// Asks the server over another connection whether it still has connection `id`.
///
/// Source: `information_schema.processlist`. An account sees its own connections there without any
/// further right.
async fn is_connected(opts: &Opts, id: u32) -> Result<bool, Error> {
    let mut conn = Conn::new(opts.clone()).await?;
    let found: Option<u8> = conn
        .query_first(format!(
            "select 1 from information_schema.processlist where id = {id}"
        ))
        .await?;
    conn.disconnect().await?;
    Ok(found.is_some())
}

/// Pauses between repetitions of one call: 50 ms, 100 ms, 200 ms, … 2 s, until [`RETRY_FOR`] after
/// the first failure.
struct Retries {
    /// When repetitions end; set by the first failure.
    until: Option<Instant>,
    /// The next pause.
    pause: Duration,
}

impl Retries {
    /// Returns the pauses of a call that has not failed yet.
    fn new() -> Retries {
        Retries {
            until: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Returns the next pause; `None` once repetitions have gone on for [`RETRY_FOR`].
    ///
    /// Time counts from the first failure, not from the beginning of a transaction that took long.
    fn next_pause(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + RETRY_FOR);
        let pause = self.pause;
        self.pause = LAST_PAUSE.min(pause * 2);
        (now + pause <= until).then_some(pause)
    }

    /// Returns `true` if there will be no further pause.
    fn is_over(&self) -> bool {
        self.until
            .is_some_and(|until| Instant::now() + self.pause > until)
    }
}

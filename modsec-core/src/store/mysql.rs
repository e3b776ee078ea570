//! `MySQL`, `MariaDB` and what speaks their protocol: a server, or a cluster, for many sensors.
//!
//! One batch is one transaction of a few large statements. A connection is made when it is needed
//! and given up at the first doubt. What went wrong is repeated for some seconds; a batch can be
//! repeated safely, because the hash of an entry is unique in the table.

mod columns;
mod failure;
mod migrate;
mod option_file;
mod options;
mod session;
mod settings;
mod statements;
mod tls;

use std::collections::HashSet;
use std::time::Duration;

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, DriverError, Error, Opts};
use tokio::time::{Instant, sleep, timeout};
use tracing::debug;

use self::failure::Remedy;
use self::migrate::Failed;
use self::options::Target;
use self::session::{Outcome, Session};
use super::{Batch, BatchId, Inserted, Refused, Row, Store, StoreError, StoreFuture, StoreOptions};
use crate::entry_hash::EntryHash;
use crate::heart::Heart;

/// How long failures are met by repetition here, before the caller hears of them. A restart of
/// the server takes about this long.
const RETRY_FOR: Duration = Duration::from_secs(10);
/// The first pause between repetitions; each is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(2);
/// Time for a connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one transaction. Longer than the server's own limit for waiting on a lock (50 s), so
/// that the server can say what is the matter.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(120);

/// How often the server is asked whether it is still at a migration.
const ASK_EVERY: Duration = Duration::from_secs(2);

struct MysqlStore {
    target: Target,
    heart: Heart,
    /// Not there while a call is under way: a call that is dropped takes its connection along,
    /// and the server rolls its transaction back.
    session: Option<Session>,
    /// The tables are to be made: at first, and when they or the database were dropped.
    lacks_tables: bool,
}

/// A transaction whose commit was sent and not answered.
#[derive(Default)]
struct Unanswered {
    /// The rows it would have added.
    entries: Vec<EntryHash>,
}

pub(super) async fn open(
    options: &StoreOptions,
    heart: Heart,
) -> Result<Box<dyn Store>, StoreError> {
    let mut store = MysqlStore {
        target: Target::new(options)?,
        heart,
        session: None,
        lacks_tables: true,
    };
    store.make_tables().await?;
    Ok(Box::new(store))
}

impl MysqlStore {
    /// Makes the tables, or brings them up to date, if that is to be done.
    async fn make_tables(&mut self) -> Result<(), StoreError> {
        let mut patience = Patience::new();
        while self.lacks_tables {
            match self.prepare().await {
                Ok(()) => self.lacks_tables = false,
                Err(Failed::Store(error)) => return Err(error),
                Err(Failed::Driver(error)) => {
                    self.wait(&mut patience, "cannot open", error).await?;
                }
            }
        }
        Ok(())
    }

    /// Connects, and makes or upgrades the tables.
    async fn prepare(&mut self) -> Result<(), Failed> {
        let connect = Session::connect(&self.target.opts);
        let mut conn = self.within(CONNECT_TIMEOUT, connect).await?;
        // No limit: an index on a table that has grown for years takes its time.
        let id = conn.id();
        tokio::select! {
            biased;
            done = migrate::migrate(&self.target.name, &mut conn) => done?,
            gone = self.beat_while_served(id) => return Err(gone.into()),
        }
        self.session = Some(self.within(CONNECT_TIMEOUT, Session::new(conn)).await?);
        Ok(())
    }

    async fn session(&mut self) -> Result<Session, Error> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let connect = async { Session::new(Session::connect(&self.target.opts).await?).await };
        self.within(CONNECT_TIMEOUT, connect).await
    }

    /// Runs a future for a limited time; a peer that is silent for longer counts as gone.
    async fn within<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = |_| Error::Driver(DriverError::ConnectionClosed);
        let limited = timeout(limit, work);
        self.heart.wait_for(limited).await.map_err(late)?
    }

    /// Beats as long as the server answers, and returns once it has connection `id` no more.
    async fn beat_while_served(&self, id: u32) -> Error {
        // Behind a proxy the server knows the connection by another number.
        let mut was_served = false;
        loop {
            sleep(ASK_EVERY).await;
            let ask = timeout(CONNECT_TIMEOUT, is_served(&self.target.opts, id));
            match ask.await {
                Ok(Ok(false)) if was_served => {
                    return Error::Driver(DriverError::ConnectionClosed);
                }
                Ok(Ok(is_served)) => {
                    was_served |= is_served;
                    self.heart.beat();
                }
                // Too many connections, say: an answer nevertheless.
                Ok(Err(Error::Server(_))) => self.heart.beat(),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Pauses before a repetition, or gives the error up to the caller.
    async fn wait(
        &mut self,
        patience: &mut Patience,
        what: &str,
        error: Error,
    ) -> Result<(), StoreError> {
        // Refused data comes here only if no row of the batch can be found that is to blame.
        let transient = matches!(
            failure::remedy(&error),
            Remedy::Repeat | Remedy::Reconnect | Remedy::Data | Remedy::Probe
        );
        match patience.next() {
            Some(pause) if transient => {
                // For minutes on end if the server is away; the caller says so once.
                debug!(store = self.target.name, error = %failure::cause(error), "transaction is repeated");
                self.heart.wait_for(sleep(pause)).await;
                Ok(())
            }
            _ => {
                // Said first: what was stored in them is gone.
                self.lacks_tables |= failure::is_table_missing(&error);
                Err(failure::store_error(&self.target.name, what, error))
            }
        }
    }

    async fn find_known(&mut self, hashes: &[EntryHash]) -> Result<HashSet<EntryHash>, Error> {
        let mut session = self.session().await?;
        let known = self
            .within(TRANSACTION_TIMEOUT, session.known(hashes))
            .await?;
        self.session = Some(session);
        Ok(known)
    }

    async fn find_last_batch(&mut self, journal: &str) -> Result<Option<BatchId>, Error> {
        let mut session = self.session().await?;
        let last = self
            .within(TRANSACTION_TIMEOUT, session.last_batch(journal))
            .await?;
        self.session = Some(session);
        Ok(last)
    }

    /// Returns `true` if a transaction went through of which only the answer was lost.
    async fn went_through(&mut self, batch: &Batch, lost: &Unanswered) -> Result<bool, Error> {
        if let Some(journal) = &batch.journal
            && self.find_last_batch(journal).await? != Some(batch.id)
        {
            return Ok(false);
        }
        // None of them were there before it, and it brings all or none.
        let known = self.find_known(&lost.entries).await?;
        Ok(lost.entries.iter().all(|entry| known.contains(entry)))
    }

    /// Tries once to store the batch.
    async fn try_insert(
        &mut self,
        batch: &Batch,
        lost: &mut Option<Unanswered>,
    ) -> Result<Result<Inserted, Vec<Refused>>, Error> {
        if let Some(unanswered) = lost.as_ref() {
            let stored = unanswered.entries.len();
            if self.went_through(batch, unanswered).await? {
                return Ok(Ok(Inserted {
                    stored,
                    known: batch.rows.len() - stored,
                }));
            }
            *lost = None;
        }
        let mut seen = HashSet::new();
        let mut rows: Vec<&Row> = batch
            .rows
            .iter()
            .filter(|row| seen.insert(row.entry_hash))
            .collect();
        loop {
            let mut session = self.session().await?;
            let store = session.store(&rows, batch, lost);
            match self.within(TRANSACTION_TIMEOUT, store).await? {
                Outcome::Stored => {
                    self.session = Some(session);
                    let stored = rows.len();
                    return Ok(Ok(Inserted {
                        stored,
                        known: batch.rows.len() - stored,
                    }));
                }
                Outcome::Refused(rows) => {
                    self.session = Some(session);
                    return Ok(Err(rows));
                }
                Outcome::SomeKnown(known) => {
                    self.session = Some(session);
                    rows.retain(|row| !known.contains(&row.entry_hash));
                }
            }
        }
    }

    /// Returns the rows that fail with an unknown error while others do not, or that error.
    async fn find_culprits(&mut self, batch: &Batch, error: Error) -> StoreError {
        let store = self.target.name.clone();
        match self.try_culprits(batch).await {
            Ok(rows) if !rows.is_empty() => StoreError::Refused { store, rows },
            // Another error now says no more than the one that lasted.
            Ok(_) | Err(_) => failure::store_error(&store, "cannot store the batch", error),
        }
    }

    async fn try_culprits(&mut self, batch: &Batch) -> Result<Vec<Refused>, Error> {
        let mut session = self.session().await?;
        let found = self
            .within(TRANSACTION_TIMEOUT, session.culprits(&batch.rows))
            .await?;
        self.session = Some(session);
        Ok(found)
    }

    async fn insert_batch(&mut self, batch: &Batch) -> Result<Inserted, StoreError> {
        self.make_tables().await?;
        let mut patience = Patience::new();
        let mut lost = None;
        loop {
            match self.try_insert(batch, &mut lost).await {
                Ok(Ok(inserted)) => return Ok(inserted),
                Ok(Err(rows)) => {
                    return Err(StoreError::Refused {
                        store: self.target.name.clone(),
                        rows,
                    });
                }
                Err(error) if is_suspicious(&error, &patience, lost.as_ref()) => {
                    return Err(self.find_culprits(batch, error).await);
                }
                Err(error) => {
                    self.wait(&mut patience, "cannot store the batch", error)
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
            let mut patience = Patience::new();
            loop {
                match self.find_known(hashes).await {
                    Ok(known) => return Ok(known),
                    Err(error) => self.wait(&mut patience, "cannot read", error).await?,
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
            let mut patience = Patience::new();
            loop {
                match self.find_last_batch(journal).await {
                    Ok(last) => return Ok(last),
                    Err(error) => self.wait(&mut patience, "cannot read", error).await?,
                }
            }
        })
    }

    fn name(&self) -> String {
        self.target.name.clone()
    }
}

/// Returns `true` if an error that nobody knows may be a row's doing: it has come back for as long as a
/// failure is met by repetition, and not in answer to a commit.
fn is_suspicious(error: &Error, patience: &Patience, lost: Option<&Unanswered>) -> bool {
    failure::remedy(error) == Remedy::Probe && patience.is_over() && lost.is_none()
}

/// Asks the server by another connection whether it still has connection `id`.
async fn is_served(opts: &Opts, id: u32) -> Result<bool, Error> {
    let mut conn = Conn::new(opts.clone()).await?;
    let found: Option<u8> = conn
        .query_first(format!(
            "select 1 from information_schema.processlist where id = {id}"
        ))
        .await?;
    conn.disconnect().await?;
    Ok(found.is_some())
}

/// The pauses between repetitions.
struct Patience {
    until: Option<Instant>,
    pause: Duration,
}

impl Patience {
    fn new() -> Patience {
        Patience {
            until: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Returns the next pause; `None` once repetitions have gone on for [`RETRY_FOR`]. Time
    /// counts from the first failure, not from the beginning of a transaction that took long.
    fn next(&mut self) -> Option<Duration> {
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

//! Opening the file, and bringing its tables up to date.
//!
//! ```text
//! create    make the file with mode 0640 if there is none; sync its directory
//! connect   no URI names, no mutex; note the file's identity; wait for locks; beat while working
//! settings  WAL, synchronous=FULL, checkpoint and cache sizes
//! migrate   version < newest, or a table or column is missing: all in one immediate transaction
//! ```
//!
//! Unlike MySQL, SQLite changes tables within a transaction: a crash during a migration leaves the
//! tables as they were. Two processes that start at once migrate one after the other, and the
//! second finds nothing to do.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;

use super::{Database, Files, Job, SqliteStore, Worker, read_error, store_error};
use crate::heartbeat::Heartbeat;
use crate::named_file;
use crate::store::shared;
use crate::store::{LOG_COLUMNS, Store, StoreError, StoreOptions, foreign_table, foreign_view};

/// How long one call waits for another process that writes. A batch takes some 30 ms; a maintenance
/// job such as `vacuum` may take this long.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How soon to try again what SQLite does not wait for by itself.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// Instructions of SQLite's virtual machine between two signs of life, some microseconds: also an
/// index on millions of rows gives them.
const BEAT_EVERY: i32 = 10_000;

/// The migrations in order; the version of the tables is the number of those applied. A program
/// refuses tables of a version that it does not know.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("../schema/sqlite-0001.sql")];

/// What older programs need not know: they insert rows without it. So it has no version, and what is
/// missing is seen from the tables.
const ADDITIONS: &str = concat!(
    include_str!("../schema/sqlite-0002.sql"),
    include_str!("../schema/sqlite-0003.sql"),
);

/// Columns of `logs` that the first migration makes, and that no later one adds.
const FIRST_COLUMNS: usize = 26;

/// The tables that rows go to, sorted by name. If one is missing, all migrations are gone through
/// again.
pub(super) const TABLES: [&str; 3] = ["logs", "modsec_batches", "rule_matches"];

/// Settings of every connection.
///
/// `synchronous = full`: a commit is on the disk. `wal_autocheckpoint` in pages of 4 KiB, so the
/// log is copied back every 31 MiB: less often is a third of the work under load.
/// `journal_size_limit` in bytes: a log that grew beyond 64 MiB is cut to that. `cache_size` in
/// KiB, if negative.
const SETTINGS: &str = "
    pragma journal_mode = wal;
    pragma synchronous = full;
    pragma wal_autocheckpoint = 8000;
    pragma journal_size_limit = 67108864;
    pragma cache_size = -8192;
";

/// Starts the thread and opens the database on it.
///
/// # Errors
///
/// [`StoreError::Configuration`] for a URL without the path of a file, and those of [`connect`];
/// [`StoreError::Unavailable`] if no thread can be started.
pub(in crate::store) async fn open(
    options: &StoreOptions,
    heartbeat: Heartbeat,
) -> Result<SqliteStore, StoreError> {
    let path = path(&options.url)?;
    let name = format!("sqlite:{}", path.display());
    let (jobs, inbox) = mpsc::channel::<Job>();
    let (reply, answer) = oneshot::channel();
    let (ends, ended) = mpsc::channel();
    let spawned = thread::Builder::new().name("sqlite".to_owned()).spawn({
        let name = name.clone();
        let work = move || match Worker::open(name, path, heartbeat) {
            Ok(mut worker) => {
                let _ = reply.send(Ok(()));
                for job in inbox {
                    job(&mut worker);
                }
            }
            Err(error) => {
                let _ = reply.send(Err(error));
            }
        };
        move || {
            let _ends = ends;
            work();
        }
    });
    let thread = spawned.map_err(|error| StoreError::Unavailable {
        store: name.clone(),
        problem: "cannot start a thread".to_owned(),
        source: Some(error.into()),
    })?;
    let store = SqliteStore {
        name,
        jobs: Some(jobs),
        thread: Some(thread),
        ended,
    };
    match answer.await {
        Ok(opened) => opened.map(|()| store),
        Err(_) => Err(StoreError::Unavailable {
            store: store.name(),
            problem: "the thread of the database ended while opening it".to_owned(),
            source: None,
        }),
    }
}

/// Returns why the URL names no file.
///
/// # Errors
///
/// As for [`path`].
pub(in crate::store) fn check(options: &StoreOptions) -> Result<(), StoreError> {
    path(&options.url).map(drop)
}

/// Returns the path in the URL, if there is one.
pub(in crate::store) fn file(options: &StoreOptions) -> Option<PathBuf> {
    path(&options.url).ok()
}

/// Accepts `sqlite:PATH` and, as other programs write it, `sqlite:///PATH`.
///
/// # Errors
///
/// An empty path and names such as `:memory:` are refused: SQLite would keep the rows in memory.
pub(super) fn path(url: &str) -> Result<PathBuf, StoreError> {
    let path = url.split_once(':').map_or("", |(_, path)| path);
    let path = path
        .strip_prefix("//")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    // SQLite gives these names a meaning of their own: a database that is gone with the process.
    if path.is_empty() || path.starts_with(':') || path.starts_with("//") {
        return Err(StoreError::Configuration {
            store: "sqlite".to_owned(),
            problem: format!("{path:?} is not the path of a file; write sqlite:/path/to/file"),
            source: None,
        });
    }
    Ok(PathBuf::from(path))
}

/// Opens the database at `path`, makes the file and the tables if need be, and reports to
/// `heartbeat` whenever SQLite has executed [`BEAT_EVERY`] instructions.
///
/// # Errors
///
/// [`StoreError::Configuration`] for what an administrator must change, such as a read-only file;
/// [`StoreError::Unavailable`] if another process holds the database for longer than
/// [`BUSY_TIMEOUT`]; [`StoreError::SchemaTooNew`].
pub(super) fn connect(
    name: &str,
    path: &Path,
    heartbeat: &Heartbeat,
) -> Result<Database, StoreError> {
    create(name, path)?;
    let failed = |error| store_error(name, "cannot open the database", error);
    // Without the flag for URIs: a file may be called `file:x?mode=memory`.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let (mut connection, mut files) = Files::open(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let working = heartbeat.clone();
    let beat = move || {
        working.beat();
        false
    };
    connection
        .progress_handler(BEAT_EVERY, Some(beat))
        .map_err(failed)?;
    if connection.is_readonly("main").map_err(failed)? {
        return Err(StoreError::Configuration {
            store: name.to_owned(),
            problem: "the file is read-only for this account; let the account own it".to_owned(),
            source: None,
        });
    }
    retry_while_busy(heartbeat, || connection.execute_batch(SETTINGS)).map_err(failed)?;
    connection.set_prepared_statement_cache_capacity(16);
    migrate(name, &mut connection)?;
    files.note_beside(&connection);
    Ok(Database::new(name.to_owned(), connection, files))
}

/// Repeats what fails because another process is at work on the same database, for
/// [`BUSY_TIMEOUT`].
///
/// SQLite waits for others by itself, but not for the lock that a change to WAL mode needs: two
/// that want to change a new database would wait for each other.
fn retry_while_busy<T>(
    heartbeat: &Heartbeat,
    mut work: impl FnMut() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let until = Instant::now() + BUSY_TIMEOUT;
    loop {
        match work() {
            Err(error) if is_busy(&error) && Instant::now() < until => {
                heartbeat.beat();
                thread::sleep(TRY_AGAIN);
            }
            done => return done,
        }
    }
}

/// Returns `true` for the errors of a lock that another process holds.
fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(
            ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::FileLockingProtocolFailed
        )
    )
}

/// Makes the file if there is none, after a look at who could have put one there ([`named_file`]).
///
/// Entries have session cookies and passwords in them, so others may not read it; the group may,
/// which is how a dashboard gets its access. A file that is there keeps its mode.
fn create(name: &str, path: &Path) -> Result<(), StoreError> {
    let refused = |problem: &str, error: io::Error| StoreError::Configuration {
        store: name.to_owned(),
        problem: problem.to_owned(),
        source: Some(error.into()),
    };
    // Not opened if it is there: closing it would take the locks of other connections away.
    let checked = named_file::check_database(path);
    match checked.and_then(|()| create_durably(path)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(refused(creation_problem(&error), error)),
        Ok(()) => Ok(()),
    }
}

/// Returns what is wrong if the file cannot be made, and what to do.
fn creation_problem(error: &io::Error) -> &'static str {
    match error.kind() {
        // With a reason of ours.
        _ if error.raw_os_error().is_none() => {
            "cannot open the database, name another with --store"
        }
        io::ErrorKind::NotFound => "the file's directory does not exist; make it",
        io::ErrorKind::PermissionDenied => {
            "may not make the file; let this account write to its directory"
        }
        _ => "cannot make the file",
    }
}

/// Makes the file, empty, with mode 0640, and syncs its directory. Fails if it is there.
fn create_durably(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o640);
    options.open(path)?;
    // The name of a new file is on the disk only when its directory is.
    File::open(named_file::parent(path))?.sync_all()
}

/// Brings the tables to this program's version; writes nothing if they have it.
///
/// # Errors
///
/// [`StoreError::SchemaTooNew`]; [`StoreError::Configuration`] for `rule_matches` without `logs`,
/// whose new rows would get the old ones' alerts; SQLite's own. The tables are then as before.
fn migrate(name: &str, connection: &mut Connection) -> Result<(), StoreError> {
    let failed = |error| store_error(name, "cannot make the tables", error);
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    // Without a transaction first: in the normal case opening writes nothing and waits for no lock.
    let found = version(connection).map_err(failed)?;
    if found > newest {
        return Err(StoreError::SchemaTooNew {
            store: name.to_owned(),
            found,
            known: newest,
        });
    }
    judge(name, connection)?;
    let is_complete = found == newest
        && tables(connection).map_err(failed)? == TABLES
        && additions(connection).map_err(failed)?.is_empty();
    if is_complete {
        return Ok(());
    }
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    // Another process may have been faster.
    let found = version(&transaction).map_err(failed)?;
    let tables = tables(&transaction).map_err(failed)?;
    // What is recorded says nothing about tables that were dropped since.
    let found = if tables == TABLES { found } else { 0 };
    apply(&transaction, found).map_err(failed)?;
    for statement in additions(&transaction).map_err(failed)? {
        transaction.execute_batch(&statement).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Refuses tables that are not those of this program, or not all of them.
///
/// # Errors
///
/// [`StoreError::Configuration`].
pub(super) fn judge(name: &str, connection: &Connection) -> Result<(), StoreError> {
    let failed = |error| read_error(name, "cannot read the tables", error);
    let tables = tables(connection).map_err(failed)?;
    let has_logs = tables.contains(&"logs".to_owned());
    if tables.contains(&"rule_matches".to_owned()) && !has_logs {
        // The alerts of new rows would get the same numbers.
        return Err(StoreError::Configuration {
            store: name.to_owned(),
            problem: "the table logs is gone, and rule_matches still has the alerts of its rows; \
                      put logs back, or drop or rename rule_matches too"
                .to_owned(),
            source: None,
        });
    }
    let of_logs = LOG_COLUMNS.into_iter().take(FIRST_COLUMNS).collect();
    let ours = [("logs", of_logs)].into_iter();
    for (table, must) in ours.chain(shared::first_columns()) {
        let has = columns(connection, table).map_err(failed)?;
        let is_missing = |column: &&&str| !has.contains(&column.to_lowercase());
        let missing: Vec<&str> = must.iter().filter(is_missing).copied().collect();
        let foreign = foreign_table(name, table, &missing).filter(|_| !has.is_empty());
        foreign.map_or(Ok(()), Err)?;
    }
    let view = "select 1 from sqlite_schema where type = 'table' and name = ?";
    let mut view = connection.prepare(view).map_err(failed)?;
    if view.exists([shared::VIEW]).map_err(failed)? {
        return Err(foreign_view(name, shared::VIEW));
    }
    Ok(())
}

/// Returns the columns of a table in lower case; none without that table.
fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut columns = connection.prepare("select lower(name) from pragma_table_info(?)")?;
    let names = columns.query_map([table], |row| row.get(0))?;
    names.collect()
}

/// Returns the statements of [`ADDITIONS`] that are still to be done.
pub(super) fn additions(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut columns = connection.prepare("select 1 from pragma_table_info(?) where name = ?")?;
    let mut things = connection.prepare("select 1 from sqlite_schema where name = ?")?;
    let mut missing = Vec::new();
    let statements = ADDITIONS.split_inclusive(";\n").map(without_comments);
    for statement in statements.map(str::to_owned) {
        let words: Vec<&str> = statement.split([' ', '\n']).collect();
        let is_there = match words[..] {
            ["alter", "table", table, "add", "column", column, ..] => {
                columns.exists([table, column])?
            }
            ["create", _, name, ..] => things.exists([name])?,
            _ => true,
        };
        if !is_there {
            missing.push(statement);
        }
    }
    let mut views =
        connection.prepare("select 1 from sqlite_schema where name = ? and instr(sql, ?) > 0")?;
    if !views.exists([shared::VIEW, shared::VIEW_HAS])? {
        let (name, view) = (shared::VIEW, shared::view(""));
        missing.push(format!("drop view if exists {name}; create {view}"));
    }
    Ok(missing)
}

/// Returns a statement without the lines of comments before it.
fn without_comments(statement: &str) -> &str {
    let mut rest = statement.trim_start();
    while rest.starts_with("--") {
        rest = rest
            .split_once('\n')
            .map_or("", |(_, rest)| rest)
            .trim_start();
    }
    rest
}

/// Returns which of [`TABLES`] exist, sorted by name.
pub(super) fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut found = connection.prepare(
        "select name from sqlite_schema
         where type = 'table' and name in ('logs', 'modsec_batches', 'rule_matches')
         order by name",
    )?;
    let names = found.query_map([], |row| row.get(0))?;
    names.collect()
}

/// Executes the migrations behind version `found` and records them, within the caller's
/// transaction.
fn apply(connection: &Connection, found: i64) -> rusqlite::Result<()> {
    connection.execute_batch(
        "create table if not exists modsec_migrations (
             version integer primary key,
             applied_at text not null
         )",
    )?;
    for (version, statements) in (1i64..).zip(MIGRATIONS) {
        if version > found {
            connection.execute_batch(statements)?;
            connection.execute(
                "insert or ignore into modsec_migrations (version, applied_at) values (?, datetime('now'))",
                [version],
            )?;
        }
    }
    Ok(())
}

/// Returns the version of the tables: the number of migrations applied, 0 without a record of them.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    // Not `table_exists`: that asks what this connection knew of the tables when it last read them,
    // and another process may have made them since.
    let table = "select 1 from sqlite_schema where type = 'table' and name = 'modsec_migrations'";
    if !connection.prepare(table)?.exists([])? {
        return Ok(0);
    }
    connection.query_row(
        "select coalesce(max(version), 0) from modsec_migrations",
        [],
        |row| row.get(0),
    )
}

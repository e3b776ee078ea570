//! A look at the file, without changing it.
//!
//! SQLite makes files beside a database (`-wal`, `-shm`) even to read it, and locks are in them. How it
//! is opened for a question:
//!
//! ```text
//! files beside it are there ─────────────────────► read with SQLite's locks
//! or may be made: by root, by the file's owner ──┘
//! neither ─► read as a file that does not change (`immutable`), without a lock
//!               └─ has it changed meanwhile, or has a process opened it? then ask once more
//! ```
//!
//! Files that another account made could keep the writer out, so only root, for whom SQLite gives them to
//! the database's owner, and the owner make them; and only for questions, not for a dry run.
//! Source: "Read-Only Databases" in "Write-Ahead Logging" of SQLite's documentation.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::sync::oneshot;

use super::deadline::is_interrupted;
use super::open::{BUSY_TIMEOUT, MIGRATIONS, TABLES, additions, judge, path, tables, version};
use super::{read_error, store_error};
use crate::entry_hash::EntryHash;
use crate::named_file;
use crate::store::{Found, Purpose, Reader, StoreError, StoreFuture, StoreOptions};

/// How long damaged pages are looked for: enough for some hundred megabytes.
const LOOK_FOR: Duration = Duration::from_secs(3);

/// Steps of SQLite between two looks at the clock. A step may be a page that the disk has to find.
const STEPS: i32 = 100;

/// Finds out whether the database can be opened, and what the first run would make.
///
/// # Errors
///
/// As for [`open`](super::open()), as far as they show without a change.
pub(in crate::store) async fn look(
    options: &StoreOptions,
    purpose: Purpose,
) -> Result<Found, StoreError> {
    let reader = DatabaseFile::of(options)?;
    reader.check_place()?;
    let pending = reader.ask(DatabaseFile::look).await?;
    let is_complete = pending.is_none();
    let mut remark = pending;
    if purpose == Purpose::Write {
        let unread = reader.ask(|file| file.check_pages(LOOK_FOR)).await?;
        reader.ask(DatabaseFile::check_lock).await?;
        remark = remark.or(unread);
    }
    Ok(Found {
        remark,
        reader: is_complete.then(|| Box::new(reader) as Box<dyn Reader>),
    })
}

/// How often a question is asked again because the file was written meanwhile, and there was no lock.
const TRIES: u32 = 10;

/// How long a process may take to make or to remove the files beside a database, on a machine with other
/// things to do.
const CHANGING: Duration = Duration::from_secs(2);

/// What changes when a process writes to a file: device, inode, bytes, times of the last change.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// A database that is open to be read.
enum Opened {
    /// With SQLite's locks.
    Locked(Connection),
    /// Without. What was read holds if the stamp of the file is the same afterwards.
    Unlocked(Connection, Option<Stamp>),
}

/// A database that is opened for each question.
#[derive(Clone)]
pub(super) struct DatabaseFile {
    /// `sqlite:PATH`, for messages.
    pub(super) name: String,
    /// The file, as the URL names it.
    path: PathBuf,
    /// Whether SQLite may make its files beside it.
    may_make_files: bool,
}

impl DatabaseFile {
    /// Returns the file that the URL names, which may not be there yet, after a look at who could have
    /// put it there ([`named_file`]).
    pub(super) fn of(options: &StoreOptions) -> Result<DatabaseFile, StoreError> {
        let path = path(&options.url)?;
        let name = format!("sqlite:{}", path.display());
        let file = DatabaseFile {
            name,
            path,
            may_make_files: false,
        };
        named_file::check_directory_is_there(&named_file::parent(&file.path))
            .and_then(|()| named_file::check_database(&file.path))
            .map_err(|error| file.refused(error))?;
        Ok(file)
    }

    /// Finds out whether a run could write to the file, and make its companions. Who only asks need not.
    fn check_place(&self) -> Result<(), StoreError> {
        let check = || {
            named_file::check_directory(&named_file::parent(&self.path))?;
            if self.path.exists() {
                named_file::check_own(&self.path.canonicalize()?)?;
            }
            Ok(())
        };
        check().map_err(|error| self.refused(error))
    }

    /// Returns the error for a file that is not to be opened.
    fn refused(&self, source: io::Error) -> StoreError {
        StoreError::Configuration {
            store: self.name.clone(),
            problem: "cannot open the database, name another with --store".to_owned(),
            source: Some(source.into()),
        }
    }

    /// Lets SQLite make its files beside the database if that keeps no writer out.
    pub(super) fn with_locks(mut self) -> DatabaseFile {
        let user = rustix::process::geteuid();
        let is_own = |meta: fs::Metadata| meta.uid() == user.as_raw();
        self.may_make_files = user.is_root() || fs::metadata(&self.path).is_ok_and(is_own);
        self
    }

    /// Asks on a thread of its own: it may wait for another process, and the caller is not to.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let file = self.clone();
        let work = move || drop(reply.send(question(&file)));
        let thread = thread::Builder::new().name("sqlite".to_owned());
        let failed = |source: Option<io::Error>| StoreError::Unavailable {
            store: self.name.clone(),
            problem: "cannot start a thread, or it has failed".to_owned(),
            source: source.map(Into::into),
        };
        thread.spawn(work).map_err(|error| failed(Some(error)))?;
        answer.await.unwrap_or_else(|_| Err(failed(None)))
    }

    /// Returns which of the hashes are in `logs`.
    fn known(&self, hashes: &[EntryHash]) -> Result<HashSet<EntryHash>, StoreError> {
        let failed = |error| read_error(&self.name, "cannot read", error);
        self.reading(|connection| {
            let mut select = connection
                .prepare("select 1 from logs where entry_hash = ?")
                .map_err(failed)?;
            let mut known = HashSet::new();
            for hash in hashes {
                if select.exists([hash.as_bytes()]).map_err(failed)? {
                    known.insert(*hash);
                }
            }
            Ok(known)
        })
    }

    /// Looks for damaged pages, for so long at the most; returns what to say if not all of them
    /// were looked at.
    pub(super) fn check_pages(&self, most: Duration) -> Result<Option<String>, StoreError> {
        if !self.path.exists() {
            return Ok(None);
        }
        self.reading(|connection| self.quick_check(connection, most))
    }

    /// Goes through the pages, and through the rows as far as their number and order.
    fn quick_check(
        &self,
        connection: &mut Connection,
        most: Duration,
    ) -> Result<Option<String>, StoreError> {
        let failed = |error| read_error(&self.name, "cannot read all pages", error);
        let until = Instant::now() + most;
        let is_over = move || Instant::now() >= until;
        connection
            .progress_handler(STEPS, Some(is_over))
            .map_err(failed)?;
        let first = "pragma quick_check(1)";
        match connection.query_row(first, [], |row| row.get::<_, String>(0)) {
            Ok(said) if said == "ok" => Ok(None),
            Ok(said) => {
                let damaged = ffi::Error::new(ffi::SQLITE_CORRUPT);
                Err(failed(rusqlite::Error::SqliteFailure(damaged, Some(said))))
            }
            Err(error) if is_interrupted(&error) => {
                let (name, path) = (&self.name, self.path.display());
                let seconds = most.as_secs();
                Ok(Some(format!(
                    "{name}: not all of its pages were looked at, {seconds} seconds were over; \
                     sqlite3 {path} 'pragma quick_check' looks at all of them"
                )))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Waits as long as a run does for the lock of a process that writes, and gives it back.
    ///
    /// Only if the files beside the database say that somebody may have it open: else nobody holds
    /// it, and opening it to write would make these files.
    fn check_lock(&self) -> Result<(), StoreError> {
        if !self.is_open_elsewhere() {
            return Ok(());
        }
        let failed = |error| store_error(&self.name, "cannot write", error);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(failed)?;
        // What is beside it stays as it is, should the other process end now.
        let stays = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
        connection.set_db_config(stays, true).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        let locked = connection.execute_batch("begin immediate; rollback");
        locked.map_err(failed)
    }

    /// Returns `true` if another process has the database open, or was killed while it had, as far as
    /// the files beside it tell.
    fn is_open_elsewhere(&self) -> bool {
        ["-wal", "-journal"].iter().any(|end| {
            let mut name = self.path.clone().into_os_string();
            name.push(end);
            Path::new(&name).exists()
        })
    }

    /// Asks the database that is there now. What it answers is of one instant, whoever writes meanwhile:
    /// without a lock, it is asked again if the file is another one afterwards.
    ///
    /// # Errors
    ///
    /// Those of `ask`; [`StoreError::Unavailable`] if it is written again and again.
    pub(super) fn reading<T>(
        &self,
        mut ask: impl FnMut(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        for _ in 0..TRIES {
            match self.opened()? {
                Opened::Locked(mut connection) => return ask(&mut connection),
                Opened::Unlocked(mut connection, stamp) => {
                    let answer = ask(&mut connection);
                    if self.is_as_it_was(stamp) {
                        return answer;
                    }
                }
            }
        }
        Err(self.written_meanwhile())
    }

    /// Asks once what cannot be asked again, as it hands on what it finds.
    ///
    /// # Errors
    ///
    /// Those of `ask`; [`StoreError::Unavailable`] if there was no lock, and the file was written.
    pub(super) fn reading_once<T>(
        &self,
        ask: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.opened()? {
            Opened::Locked(mut connection) => ask(&mut connection),
            Opened::Unlocked(mut connection, stamp) => {
                let answer = ask(&mut connection);
                if self.is_as_it_was(stamp) {
                    answer
                } else {
                    Err(self.written_meanwhile())
                }
            }
        }
    }

    /// Opens the file, again if a process that ends takes `-wal` and `-shm` away in that instant, or one
    /// that begins makes them.
    fn opened(&self) -> Result<Opened, StoreError> {
        let until = Instant::now() + CHANGING;
        let mut opened = self.open();
        while opened.as_ref().err().is_some_and(is_refused)
            && Instant::now() < until
            && fs::File::open(&self.path).is_ok()
        {
            thread::sleep(Duration::from_millis(1));
            opened = self.open();
        }
        opened.map_err(|error| read_error(&self.name, "cannot open the database", error))
    }

    /// Returns `true` if nobody has written to the file since it had this stamp.
    fn is_as_it_was(&self, stamp: Option<Stamp>) -> bool {
        self.stamp() == stamp && !self.is_open_elsewhere()
    }

    /// Returns the error for an answer that may be of two instants.
    fn written_meanwhile(&self) -> StoreError {
        StoreError::Unavailable {
            store: self.name.clone(),
            problem:
                "the file was written while it was read; ask again, or let this account own the \
                      file, or read the files -wal and -shm beside it"
                    .to_owned(),
            source: None,
        }
    }

    /// Opens the file to read only.
    fn open(&self) -> rusqlite::Result<Opened> {
        let stamp = self.stamp();
        if self.may_make_files || self.is_open_elsewhere() {
            match self.connect("mode=ro") {
                Ok(connection) => return Ok(Opened::Locked(connection)),
                // A file system that is read-only: nobody writes, unless there is a log.
                Err(error) if is_refused(&error) && !self.is_open_elsewhere() => {}
                Err(error) => return Err(error),
            }
        }
        let connection = self.connect("immutable=1")?;
        Ok(Opened::Unlocked(connection, stamp))
    }

    /// Connects, and reads the first page, so that files and locks are there if that is possible.
    fn connect(&self, how: &str) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let connection = Connection::open_with_flags(uri(&self.path, how), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.query_row("select count(*) from sqlite_schema", [], |_| Ok(()))?;
        Ok(connection)
    }

    /// Returns the stamp of the file; `None` if it is not there.
    fn stamp(&self) -> Option<Stamp> {
        let meta = fs::metadata(&self.path).ok()?;
        let written = (meta.mtime(), meta.mtime_nsec());
        let changed = (meta.ctime(), meta.ctime_nsec());
        Some((meta.dev(), meta.ino(), meta.len(), written, changed))
    }

    /// Returns what the first run makes of the tables; `None` if nothing.
    pub(super) fn look(&self) -> Result<Option<String>, StoreError> {
        if !self.path.exists() {
            let name = &self.name;
            return Ok(Some(format!(
                "{name} is not there yet; the first run makes it"
            )));
        }
        self.reading(|connection| self.look_at_tables(connection))
    }

    /// Returns what the first run makes of these tables; `None` if nothing.
    fn look_at_tables(&self, connection: &Connection) -> Result<Option<String>, StoreError> {
        let failed = |error| read_error(&self.name, "cannot read the tables", error);
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let found = version(connection).map_err(failed)?;
        if found > known {
            let store = self.name.clone();
            return Err(StoreError::SchemaTooNew {
                store,
                found,
                known,
            });
        }
        judge(&self.name, connection)?;
        if found < known || tables(connection).map_err(failed)? != TABLES {
            let change = format!("{}: the first run makes the tables", self.name);
            return Ok(Some(change));
        }
        let is_complete = additions(connection).map_err(failed)?.is_empty();
        Ok((!is_complete).then(|| {
            let name = &self.name;
            format!("{name}: the first run adds columns to the tables")
        }))
    }
}

/// Returns `true` if SQLite may not make the files that it needs to read with locks.
fn is_refused(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied)
    )
}

impl Reader for DatabaseFile {
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        let hashes = hashes.to_vec();
        Box::pin(self.ask(move |file| file.known(&hashes)))
    }
}

/// Returns the path as SQLite's URI, with everything escaped that could mean something there, and how
/// it is to be opened.
fn uri(path: &Path, how: &str) -> String {
    use std::fmt::Write as _;
    use std::os::unix::ffi::OsStrExt as _;

    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut uri = "file:".to_owned();
    for byte in absolute.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' => uri.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => uri.push(char::from(*byte)),
            // Writing to a string cannot fail.
            byte => drop(write!(uri, "%{byte:02x}")),
        }
    }
    uri + "?" + how
}

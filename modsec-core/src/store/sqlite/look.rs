//! A look at the file, without making or changing anything.
//!
//! SQLite makes files beside a database (`-wal`, `-shm`) even to read it. Where there are none no
//! process is writing, and it is read as a file that does not change (`immutable`). Each question
//! opens it anew, as a process may come meanwhile.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tokio::sync::oneshot;

use super::open::{BUSY_TIMEOUT, MIGRATIONS, TABLES, additions, judge, path, tables, version};
use super::store_error;
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

/// A database that is opened for each question.
#[derive(Clone)]
pub(super) struct DatabaseFile {
    /// `sqlite:PATH`, for messages.
    pub(super) name: String,
    /// The file, as the URL names it.
    path: PathBuf,
}

impl DatabaseFile {
    /// Returns the file that the URL names, which may not be there yet, after a look at who could have
    /// put it there ([`named_file`]).
    pub(super) fn of(options: &StoreOptions) -> Result<DatabaseFile, StoreError> {
        let path = path(&options.url)?;
        let name = format!("sqlite:{}", path.display());
        let refused = |source: io::Error| StoreError::Configuration {
            store: name.clone(),
            problem: "cannot open the database, name another with --store".to_owned(),
            source: Some(source.into()),
        };
        named_file::check_directory(&named_file::parent(&path)).map_err(refused)?;
        named_file::check_database(&path).map_err(refused)?;
        if path.exists() {
            named_file::check_own(&path.canonicalize().map_err(refused)?).map_err(refused)?;
        }
        Ok(DatabaseFile { name, path })
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
        let failed = |error| store_error(&self.name, "cannot read", error);
        let connection = self.open()?;
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
    }

    /// Looks for damaged pages, for so long at the most; returns what to say if not all of them
    /// were looked at.
    ///
    /// Without a lock a process that writes meanwhile makes a sound file look damaged: then it is
    /// looked at once more.
    pub(super) fn check_pages(&self, most: Duration) -> Result<Option<String>, StoreError> {
        if !self.path.exists() {
            return Ok(None);
        }
        let before = self.state();
        match self.quick_check(most) {
            Err(_) if self.is_open_elsewhere() || self.state() != before => self.quick_check(most),
            done => done,
        }
    }

    /// Returns what changes with every change of the file.
    fn state(&self) -> Option<(u64, SystemTime)> {
        let meta = self.path.metadata().ok()?;
        Some((meta.len(), meta.modified().ok()?))
    }

    /// Goes through the pages, and through the rows as far as their number and order.
    fn quick_check(&self, most: Duration) -> Result<Option<String>, StoreError> {
        let failed = |error| store_error(&self.name, "cannot read all pages", error);
        let mut connection = self.open()?;
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
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
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

    /// Opens the file to read only.
    ///
    /// It is opened as `immutable` if no other process seems to have it open: SQLite then takes
    /// no lock and makes no files beside it, which an account that may only read could not do.
    pub(super) fn open(&self) -> Result<Connection, StoreError> {
        let immutable = !self.is_open_elsewhere();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let uri = uri(&self.path, immutable);
        let open = Connection::open_with_flags(uri, flags);
        open.map_err(|error| store_error(&self.name, "cannot open the database", error))
    }

    /// Returns what the first run makes of the tables; `None` if nothing.
    pub(super) fn look(&self) -> Result<Option<String>, StoreError> {
        if !self.path.exists() {
            let name = &self.name;
            return Ok(Some(format!(
                "{name} is not there yet; the first run makes it"
            )));
        }
        let failed = |error| store_error(&self.name, "cannot read the tables", error);
        let connection = self.open()?;
        let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
        let found = version(&connection).map_err(failed)?;
        if found > known {
            let store = self.name.clone();
            return Err(StoreError::SchemaTooNew {
                store,
                found,
                known,
            });
        }
        judge(&self.name, &connection)?;
        if found < known || tables(&connection).map_err(failed)? != TABLES {
            let change = format!("{}: the first run makes the tables", self.name);
            return Ok(Some(change));
        }
        let is_complete = additions(&connection).map_err(failed)?.is_empty();
        Ok((!is_complete).then(|| {
            let name = &self.name;
            format!("{name}: the first run adds columns to the tables")
        }))
    }
}

impl Reader for DatabaseFile {
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>> {
        let hashes = hashes.to_vec();
        Box::pin(self.ask(move |file| file.known(&hashes)))
    }
}

/// Returns the path as SQLite's URI, with everything escaped that could mean something there.
fn uri(path: &Path, immutable: bool) -> String {
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
    uri.push_str(if immutable {
        "?immutable=1"
    } else {
        "?mode=ro"
    });
    uri
}

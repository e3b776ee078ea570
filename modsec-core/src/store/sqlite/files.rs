//! Whether the path of an open database still leads to it.
//!
//! A deleted or renamed file takes rows as before, but no reader finds them there.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::store::StoreError;

/// How often a database is opened anew because its path led elsewhere meanwhile.
const TRIES: u32 = 5;

/// Device and inode. A file that is open keeps its inode, so no other file has the same.
///
/// Both numbers can come back only after the file was removed and closed by all.
type Identity = (u64, u64);

/// The files of a database as they were when it was opened.
///
/// They are only looked at: closing a descriptor of such a file would drop the locks that SQLite
/// has on it.
pub(super) struct Files {
    /// Path as it was given, and the file it led to.
    main: (PathBuf, Identity),
    /// The same of `-wal` and `-shm`, in which committed rows may be until the next checkpoint.
    beside: Vec<(PathBuf, Identity)>,
}

impl Files {
    /// Opens the database at `path`, and notes which file that is.
    ///
    /// The path is looked at before and after. If it led to two files, the connection may be to
    /// either, and another one is made.
    ///
    /// # Errors
    ///
    /// SQLite's own; `SQLITE_BUSY` if the path leads to another file at each of five looks.
    pub(super) fn open(
        path: &Path,
        flags: OpenFlags,
    ) -> Result<(Connection, Files), rusqlite::Error> {
        let mut before = identity(path).ok();
        for _ in 0..TRIES {
            let connection = Connection::open_with_flags(path, flags)?;
            let after = identity(path).ok();
            if let Some(main) = after.filter(|_| after == before) {
                let main = (path.to_owned(), main);
                let beside = Vec::new();
                return Ok((connection, Files { main, beside }));
            }
            before = after;
        }
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        let problem = "the path leads to another file at every look".to_owned();
        Err(rusqlite::Error::SqliteFailure(busy, Some(problem)))
    }

    /// Notes the files beside the database; they are there once it was read.
    pub(super) fn note_beside(&mut self, connection: &Connection) {
        // The name that SQLite has made of the path, without links.
        let Some(name) = connection.path() else {
            return;
        };
        let named = ["-wal", "-shm"].map(|end| PathBuf::from(format!("{name}{end}")));
        self.beside = named
            .into_iter()
            .filter_map(|path| identity(&path).ok().map(|found| (path, found)))
            .collect();
    }

    /// Fails if a path no longer leads to the file that is open.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: the next call opens what is at the path then.
    pub(super) fn check(&self, store: &str) -> Result<(), StoreError> {
        let unavailable = |problem, source: Option<io::Error>| StoreError::Unavailable {
            store: store.to_owned(),
            problem,
            source: source.map(Into::into),
        };
        for (path, opened) in std::iter::once(&self.main).chain(&self.beside) {
            let file = path.file_name().unwrap_or(OsStr::new("the file"));
            match identity(path) {
                Ok(found) if found == *opened => {}
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let problem = format!("cannot look at {}", file.display());
                    return Err(unavailable(problem, Some(error)));
                }
                _ => {
                    let problem = format!(
                        "{} was replaced or removed while it was open; see that the right \
                         database is there and run again, a service opens it by itself",
                        file.display()
                    );
                    return Err(unavailable(problem, None));
                }
            }
        }
        Ok(())
    }

    /// Returns `true` if what is in the write-ahead log may still be copied into the database that
    /// is open.
    ///
    /// It may if the database was moved away, since its log is then no other one's, and if `-wal`
    /// and `-shm` are the files that were opened, or gone. It must not if another process has begun
    /// a new log there.
    pub(super) fn may_checkpoint(&self) -> bool {
        let is_moved = identity(&self.main.0).ok() != Some(self.main.1);
        let mut beside = self.beside.iter();
        is_moved || beside.all(|(path, opened)| identity(path).map_or(true, |now| now == *opened))
    }
}

/// Returns which file a path leads to, through links, without opening it.
fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|meta| (meta.dev(), meta.ino()))
}

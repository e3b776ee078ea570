//! Why a store did not do what it was asked.

use std::error::Error;
use std::path::PathBuf;

use super::Row;
use crate::entry_hash::EntryHash;

/// Why a store could not be opened, read or written. `store` is its [`name`](super::Store::name).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no backend of this program.
    #[error(
        "no store is called {scheme:?}; this program knows {}, as in sqlite:/var/lib/modsec/logs.db",
        compiled_in.join(", ")
    )]
    UnknownScheme {
        /// What stands before the colon.
        scheme: String,
        /// The schemes there are.
        compiled_in: Vec<&'static str>,
    },
    /// Somebody has to change the configuration, a permission, or the database.
    #[error("{store}: {problem}")]
    Configuration {
        /// The store.
        store: String,
        /// What is wrong, and what to do.
        problem: String,
        /// What the database says.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The database cannot take anything now; the same call may succeed later.
    #[error("{store}: {problem}")]
    Unavailable {
        /// The store.
        store: String,
        /// What is in the way.
        problem: String,
        /// What the database says.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Rows that the database does not accept, for instance because of a trigger or a constraint
    /// that somebody added. Nothing of the batch is stored; without these rows it can be.
    #[error("{store}: the database refuses {} of the batch's entries, first {}", rows.len(), first(rows))]
    Refused {
        /// The store.
        store: String,
        /// All refused rows of the batch; at least one.
        rows: Vec<Refused>,
    },
    /// The tables were made by a newer version of this program.
    #[error(
        "{store}: the tables have version {found}, this program knows them up to {known}; install the newer program"
    )]
    SchemaTooNew {
        /// The store.
        store: String,
        /// Version of the tables.
        found: i64,
        /// Newest version that this program can use.
        known: i64,
    },
    /// The account may not create or alter the tables. The message does not have the statements,
    /// which are many lines; ask [`statements`](StoreError::statements).
    #[error(
        "{store}: the account may not create or alter tables; let an administrator run the statements for it, then start again"
    )]
    MigrationDenied {
        /// The store.
        store: String,
        /// The exact statements, one or more lines each, each ended by a semicolon and a line
        /// feed.
        statements: String,
        /// What the database says.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// One row that the database does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The entry.
    pub entry: EntryHash,
    /// Where it was found, if the row says so.
    pub path: Option<PathBuf>,
    /// What the database says.
    pub reason: String,
}

impl Refused {
    /// Returns what is said of `row`, which the database refuses for this `reason`.
    pub fn new(row: &Row, reason: impl Into<String>) -> Self {
        Refused {
            entry: row.entry_hash,
            path: row.path.clone(),
            reason: reason.into(),
        }
    }
}

#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "a stranger chose the path: escaped"
)]
fn first(rows: &[Refused]) -> String {
    rows.first()
        .map_or_else(String::new, |row| match &row.path {
            Some(path) => format!("{:?} ({:?})", path, row.reason),
            None => format!("{} ({:?})", row.entry, row.reason),
        })
}

impl StoreError {
    /// Returns `true` if the same call may succeed later without anybody changing anything here: the
    /// server is away, its disk is full, or somebody else holds a lock.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }

    /// Returns the statements that an administrator is to run: SQL for the database's own client,
    /// each ended by a semicolon and a line feed, with nothing in them that a stranger chose.
    pub fn statements(&self) -> Option<&str> {
        match self {
            StoreError::MigrationDenied { statements, .. } => Some(statements),
            _ => None,
        }
    }

    /// Returns the rows to leave out of the batch, if they are the reason.
    pub fn refused(&self) -> &[Refused] {
        match self {
            StoreError::Refused { rows, .. } => rows,
            _ => &[],
        }
    }
}

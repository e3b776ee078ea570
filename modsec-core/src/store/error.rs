//! Why a store did not do what it was asked, sorted by who has to act.
//!
//! | variant of [`StoreError`] | who acts | is the batch stored? |
//! | --- | --- | --- |
//! | `UnknownScheme` | an administrator: the URL | no store yet |
//! | `Configuration` | an administrator: settings, permissions, tables | no |
//! | `Unavailable` | the caller: repeat the call later | perhaps, see below |
//! | `Refused` | the caller: repeat without these rows | no |
//! | `SchemaTooNew` | an administrator: install the newer program | no |
//! | `MigrationDenied` | an administrator of the database: run the statements | no |
//! | `Question` | the caller: ask for less | nothing was to be stored |
//!
//! `Unavailable` after a lost connection may come from a commit that went through and had no
//! answer. Repeating a call is safe in every case, see the contract of [`Store`](super::Store). No
//! message quotes a password. What the database says is the `source`, and is not repeated in the
//! text.

use std::error::Error;
use std::path::PathBuf;

use super::Row;
use crate::entry_hash::EntryHash;

/// Why a store could not be opened, read or written.
///
/// `store` in each variant is what [`Store::name`](super::Store::name) returns. A caller needs
/// three questions, and no `match`: [`is_unavailable`](Self::is_unavailable),
/// [`refused`](Self::refused) and [`statements`](Self::statements).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The URL names no backend of this program.
    #[error("{}", unknown_scheme(scheme, *meant, compiled_in))]
    UnknownScheme {
        /// What stands before the colon of the URL. Empty if it cannot be a scheme, because it may
        /// be a password then.
        scheme: String,
        /// What was probably meant, as the form of a URL.
        meant: Option<&'static str>,
        /// Schemes of the backends that this program was built with.
        compiled_in: Vec<&'static str>,
    },
    /// Configuration, permissions or tables must be changed before the call can succeed: a wrong
    /// password, a read-only file, a missing column, a table of an engine without transactions.
    #[error("{store}: {problem}")]
    Configuration {
        /// The store.
        store: String,
        /// What was attempted, what is wrong, and what to do. One line without a final stop.
        problem: String,
        /// What the database says.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The database cannot take anything now, or cannot answer; the same call may succeed later.
    #[error("{store}: {problem}")]
    Unavailable {
        /// The store.
        store: String,
        /// What was attempted and what is in the way. One line without a final stop.
        problem: String,
        /// What the database says.
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Rows that the database does not accept, for instance because of a trigger or a constraint
    /// that an administrator added. Nothing of the batch is stored; without these rows it can be.
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
    /// A question that is too large for any answer: of too many names or values.
    #[error("{problem}")]
    Question {
        /// What is too large, and what to do. One line without a final stop.
        problem: String,
    },
}

/// One row that the database does not accept. The rest of its batch is sound.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Hash of the entry: the key by which to find the row in the batch.
    pub entry: EntryHash,
    /// Where the entry was found, if [`Row::path`] says so.
    pub path: Option<PathBuf>,
    /// What the database says. May quote values of the row, which a client chose: escape it for
    /// display.
    pub reason: String,
}

impl Refused {
    /// Returns what is reported of `row`, which the database refuses for this `reason`.
    pub fn new(row: &Row, reason: impl Into<String>) -> Self {
        Refused {
            entry: row.entry_hash,
            path: row.path.clone(),
            reason: reason.into(),
        }
    }
}

/// Shows the first refused row as `"/path" ("reason")`, or by its hash if it has no path.
///
/// Both texts are escaped: site users choose file names, and clients choose what a reason quotes.
#[expect(
    clippy::unnecessary_debug_formatting,
    reason = "a site user chose the path: escaped"
)]
fn first(rows: &[Refused]) -> String {
    rows.first()
        .map_or_else(String::new, |row| match &row.path {
            Some(path) => format!("{:?} ({:?})", path, row.reason),
            None => format!("{} ({:?})", row.entry, row.reason),
        })
}

/// Returns the error for a table of somebody else that has the name of one of ours, or for one of ours
/// that has lost columns: all those that it lacks of the ones that it must have. `None` if it lacks none.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(super) fn foreign_table(store: &str, table: &str, missing: &[&str]) -> Option<StoreError> {
    let (first, others) = missing.split_first()?;
    let others = match others.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(StoreError::Configuration {
        store: store.to_owned(),
        problem: format!(
            "the table {table} has no column {first}{others}: it is another program's, or was changed; \
             name another database, or rename that table"
        ),
        source: None,
    })
}

/// Returns the error for a table in the place of our view.
#[cfg(any(feature = "mysql", feature = "sqlite"))]
pub(super) fn foreign_view(store: &str, view: &str) -> StoreError {
    StoreError::Configuration {
        store: store.to_owned(),
        problem: format!(
            "{view} is a table, and this program makes a view of that name: it is another program's; \
             name another database, or rename that table"
        ),
        source: None,
    }
}

/// Returns what is wrong with a URL whose scheme is none of ours, or absent: the scheme that
/// was probably meant, or those that are compiled in.
fn unknown_scheme(scheme: &str, meant: Option<&str>, compiled_in: &[&str]) -> String {
    let known = format!(
        "this program knows {}, as in sqlite:/var/lib/modsec/logs.db",
        compiled_in.join(", ")
    );
    let advice = meant.map_or(known, |meant| format!("did you mean {meant}?"));
    if scheme.is_empty() {
        format!("the store has no scheme, such as sqlite: or mysql:; {advice}")
    } else {
        format!("no store is called {scheme:?}; {advice}")
    }
}

impl StoreError {
    /// Returns `true` if the same call may succeed later although nothing is changed here: the
    /// server is away, its disk is full, or another process holds a lock.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }

    /// Returns the statements that an administrator is to run; `None` for all other errors.
    ///
    /// SQL for the database's own client, beginning with `use`, each statement ended by a semicolon
    /// and a line feed. No text of an entry is in it.
    pub fn statements(&self) -> Option<&str> {
        match self {
            StoreError::MigrationDenied { statements, .. } => Some(statements),
            _ => None,
        }
    }

    /// Returns the rows to leave out of the batch, in its order; empty if they are not the reason.
    pub fn refused(&self) -> &[Refused] {
        match self {
            StoreError::Refused { rows, .. } => rows,
            _ => &[],
        }
    }
}

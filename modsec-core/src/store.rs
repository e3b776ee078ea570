//! Databases that keep what the audit log said.
//!
//! [`open`] returns the backend that a URL names. All backends have the same tables, fill them from
//! the same [`Row`]s, and keep the contract of [`Store`], which is executable code in the module
//! `contract` (feature `store-contract`).
//!
//! # From entry to table
//!
//! ```text
//! entry's bytes ─► EntryHash::of ────────────────┐
//!       └──────────► decode ─► Record ─► Row::new ┴► Row ─┐
//!                                                         ├─► Batch::new ─► Store::insert
//!                                                    Row ─┘                   one transaction
//! ```
//!
//! # Tables
//!
//! ```text
//! logs                             rule_matches                    modsec_batches
//! ─────────────────────────────    ────────────────────────────    ─────────────────────────
//! id          key, made there      log_id    ─► logs.id            journal   which merged log
//! entry_hash  unique, 16 bytes     position  from 0, log order     batch     BatchId, 16 bytes
//! …           LOG_COLUMNS          rule_key  ─► modsec_rules       committed_at
//!                                  key: (log_id, position)         key: journal
//! modsec_rules: what repeats from alert to alert, once
//! modsec_alerts: view of rule_matches with modsec_rules, RULE_COLUMNS
//! modsec_migrations: version, applied_at
//! ```
//!
//! One row of `logs` is one entry, one row of `rule_matches` one alert of it; deleting the former
//! deletes the latter. The files in `store/schema` have all columns with their types. MySQL keys
//! `modsec_batches` by a hash of the journal, because its text keys are compared without regard to
//! case.
//!
//! # Exactly once
//!
//! The unique `entry_hash` makes an entry one row, however often, by how many processes and in how
//! many batches it is inserted. The row of `modsec_batches` changes in the same transaction: after
//! a crash [`Store::last_batch`] says whether the batch that the merged log was appended with is
//! committed, so log and store agree. What a crash leaves at each step:
//!
//! | crash | tables | next run |
//! | --- | --- | --- |
//! | before the commit | as before the batch | `last_batch` is another one: take back, repeat |
//! | between commit and answer | the whole batch | `last_batch` is this one: the log keeps it |
//! | after the answer | the whole batch | repeating it finds all rows known |
//!
//! # SQLite
//!
//! `sqlite:PATH`. The file is made if it is not there, readable for owner and group; its directory
//! must exist and be writable, because SQLite keeps two more files beside it. Several processes may
//! write to it, all on one machine. If the file is deleted, renamed or replaced while it is open,
//! calls fail with [`StoreError::Unavailable`], and the next one opens what is at the path.
//!
//! # MySQL and MariaDB
//!
//! `mysql://[user[:password]@][host[:port]][/database][?option=value[&…]]`, percent-encoded where
//! needed. Options:
//!
//! | option | means |
//! | --- | --- |
//! | `socket=PATH` | a Unix socket instead of TCP |
//! | `ssl-ca=PATH` | certificate of the server's authority, PEM |
//! | `ssl-mode=disabled` | plain text |
//! | `ssl-mode=required` | encrypted, but the certificate is not looked at |
//! | `ssl-mode=verify-identity` | encrypted; the certificate and its name are verified |
//!
//! `localhost` without a port is the server's Unix socket in its usual place, as for MySQL's own
//! programs, if there is one; `127.0.0.1` is always TCP.
//!
//! Without `ssl-mode` the last one holds for another host, and wherever `ssl-ca` is given; on the
//! same machine the text is plain. `verify-ca` checks the name, too. Without `ssl-ca` the
//! authorities that the system trusts count. MariaDB's `ssl` and `ssl-verify-server-cert` are
//! understood as well.
//!
//! What the URL leaves out comes from a MySQL option file, groups `[client]` and `[modsec-parser]`:
//! the place for the password. The account needs `select`, `insert`, `update` and `delete` on the
//! database; the first run also `create`, `create view`, `alter`, `index` and `references`, or an administrator
//! runs the statements that [`StoreError::MigrationDenied`] has. An account with the plugin
//! `unix_socket` (MySQL: `auth_socket`), as Debian's `root@localhost`, needs no password: through the
//! socket the server sees which user runs the program. The plugin `ed25519` cannot be used.
//!
//! An old table of `mod_sec_log_parser.py` gets columns and indexes, and keeps what it has: its
//! shorter columns cut values, and its `created_at` has no fractions of a second. Where it takes no
//! null, an unknown value is the empty text, 0 or the time of storing. Its engine must be `InnoDB`.
//! Rows are deleted with `delete from logs`, which takes their matches along; `truncate` is refused
//! by the server because of them.

#[cfg(feature = "store-contract")]
pub mod contract;
mod error;
mod memory;
#[cfg(feature = "mysql")]
mod mysql;
mod read;
mod row;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod upkeep;

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

pub use self::error::{Refused, StoreError};
#[cfg(any(feature = "mysql", feature = "sqlite"))]
use self::error::{foreign_table, foreign_view};
pub use self::memory::MemoryStore;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) use self::read::{Cell, Cells, Connection, See};
pub use self::read::{Dialect, Param};
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) use self::row::cut;
pub use self::row::{
    LOG_COLUMNS, MAX_TEXT, Origin, RULE_COLUMNS, Row, RuleRow, Value, client_key, sql_time,
};
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) use self::shared::alert_column;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) use self::upkeep::{Change, RowOf, Upkeep, list};
use crate::entry_hash::EntryHash;
use crate::heartbeat::Heartbeat;

/// What the methods of a [`Store`] return: boxed, so that a `Store` can be a trait object, and
/// `Send`, so that it can be polled on any thread.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A database to which entries are added.
///
/// The contract, which every backend proves by the same tests:
///
/// - A batch is stored as a whole or not at all, and is durable once `insert` has returned.
/// - An entry is stored once. Inserting it again, alone or within one batch, by this store or by
///   another one on the same database, changes nothing.
/// - Values too long or too large for a column never fail; they are cut to what fits. No text
///   fails, whatever its characters.
/// - After an error nothing of the batch is stored, unless the answer to the final commit was
///   lost; repeating the call is always safe and gives the state that one call would have given.
/// - Dropping a future does not undo what it began; repeat the call.
pub trait Store: Send {
    /// Returns those of the entries that are in the store already. Changes nothing.
    ///
    /// The ingest asks before it appends to the merged log: an entry that is known is neither
    /// stored nor appended again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] or [`StoreError::Configuration`]; the call may be repeated.
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>>;

    /// Adds a batch in one transaction, and in the same transaction remembers its id as the last
    /// one of its journal.
    ///
    /// # Errors
    ///
    /// A row that the database refuses for what is in it fails the batch with
    /// [`StoreError::Refused`], which names all such rows: leave them out and repeat. After
    /// [`StoreError::Unavailable`] the batch may be stored if the answer to the commit was lost;
    /// ask [`Store::last_batch`], or repeat the call.
    fn insert<'a>(&'a mut self, batch: &'a Batch) -> StoreFuture<'a, Inserted>;

    /// Returns the id of the last batch committed under this journal key; `None` if there was none.
    /// After a crash this says whether the transaction was committed.
    ///
    /// The answer must not change afterwards because of a transaction that a dead client left
    /// behind: a backend waits until such a one is committed or rolled back.
    fn last_batch<'a>(&'a mut self, journal: &'a str) -> StoreFuture<'a, Option<BatchId>>;

    /// Returns what messages call the store; never has a password in it.
    fn name(&self) -> String;
}

/// Names one batch: 16 bytes chosen by the caller, such as a hash over the hashes of its entries.
///
/// Two batches under one journal must not have the same id, or a crash during the second would find
/// it committed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BatchId([u8; 16]);

impl BatchId {
    /// Returns the id of a batch of these entries in this order: the first 16 bytes of BLAKE3 over
    /// their hashes.
    ///
    /// ```
    /// use modsec_core::{BatchId, EntryHash};
    ///
    /// let (a, b) = (EntryHash::of(b"a"), EntryHash::of(b"b"));
    /// assert_ne!(BatchId::of([a, b]), BatchId::of([b, a]));
    /// ```
    pub fn of(entries: impl IntoIterator<Item = EntryHash>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for hash in entries {
            hasher.update(hash.as_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(bytes)
    }

    /// Returns the id with these bytes, as read back from a journal.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for BatchId {
    /// Writes 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Rows that are stored together: all of them or none.
///
/// The caller names a batch before it is stored, keeps it until the store has answered, and gives
/// the same batch again after an error.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Batch {
    /// The batch's own name.
    pub id: BatchId,
    /// Key of the merged log's journal whose last committed batch this becomes. Any text;
    /// compared byte by byte.
    pub journal: Option<String>,
    /// The entries. May be empty, and may hold one entry more than once: the first row counts. Clones
    /// of the batch share them, so that a backend can take them to another thread.
    pub rows: Arc<Vec<Row>>,
}

impl Batch {
    /// Returns the batch of `rows`, named after their hashes ([`BatchId::of`]).
    pub fn new(journal: Option<String>, rows: Vec<Row>) -> Self {
        Batch {
            id: BatchId::of(rows.iter().map(|row| row.entry_hash)),
            journal,
            rows: Arc::new(rows),
        }
    }
}

/// What became of the rows of a batch. The sum is the number of rows in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Inserted {
    /// Rows added.
    pub stored: usize,
    /// Rows that were in the store, or earlier in the batch, already.
    pub known: usize,
}

impl Inserted {
    /// Returns the report of a store that added `stored` rows and had `known` already.
    pub fn new(stored: usize, known: usize) -> Self {
        Inserted { stored, known }
    }
}

/// Which of the built-in stores to open, and how.
///
/// ```
/// use modsec_core::store::StoreOptions;
///
/// let mut options = StoreOptions::new("mysql://db.example.org/logs");
/// options.defaults_file = Some("/etc/modsec-tools/my.cnf".into());
/// // The URL may have a password in it, so only its scheme is shown.
/// assert!(format!("{options:?}").starts_with("StoreOptions { scheme: \"mysql\""));
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreOptions {
    /// `sqlite:PATH`, or `mysql://[user[:password]@]host[:port]/database[?option=value…]`.
    pub url: String,
    /// MySQL option file with the credentials; `None`: `~/.my.cnf` if there is one.
    pub defaults_file: Option<PathBuf>,
}

impl StoreOptions {
    /// Returns options that open `url`, without an option file.
    pub fn new(url: impl Into<String>) -> Self {
        StoreOptions {
            url: url.into(),
            defaults_file: None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    /// Leaves the URL out, except for its scheme: it may have a password in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("scheme", &self.scheme())
            .field("defaults_file", &self.defaults_file)
            .finish_non_exhaustive()
    }
}

impl StoreOptions {
    /// Returns the part of the URL before the first colon, if it can be a scheme; else nothing, as
    /// it may be a mistyped password, and the result is shown.
    fn scheme(&self) -> &str {
        let scheme = self.url.split_once(':').map_or("", |(scheme, _)| scheme);
        let plain = scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        if plain { scheme } else { "" }
    }

    /// Returns the form of the URL that was probably meant by one with another scheme, or by a bare
    /// path.
    fn meant(&self) -> Option<&'static str> {
        let (mysql, sqlite) = (Some("mysql://USER@HOST/DATABASE"), Some("sqlite:PATH"));
        match self.scheme().to_ascii_lowercase().as_str() {
            "mariadb" | "percona" | "jdbc" => mysql,
            "file" => sqlite,
            "" => {
                let is_path = !self.url.contains(['@', ':']) && self.url.contains(['/', '.']);
                sqlite.filter(|_| is_path)
            }
            // `mysql+pymysql`, `mysqls`, `sqlite3`, and slips of the finger.
            scheme if is_nearly(scheme, "mysql") => mysql,
            scheme if is_nearly(scheme, "mariadb") => mysql,
            scheme if is_nearly(scheme, "sqlite") => sqlite,
            _ => None,
        }
    }
}

/// Returns `true` if `name` begins with the word, or differs from it by one letter: one too many, one
/// missing, a wrong one, or two that changed places.
fn is_nearly(name: &str, word: &str) -> bool {
    let (name, word) = (name.as_bytes(), word.as_bytes());
    let same = name.iter().zip(word).take_while(|(a, b)| a == b).count();
    let (name_rest, word_rest) = (&name[same..], &word[same..]);
    let ends_alike =
        |skip: usize, skipped: usize| name_rest.get(skip..) == word_rest.get(skipped..);
    let is_swapped = || {
        let swapped = name_rest.iter().take(2).eq(word_rest.iter().take(2).rev());
        swapped && ends_alike(2, 2)
    };
    word_rest.is_empty() || ends_alike(1, 0) || ends_alike(0, 1) || ends_alike(1, 1) || is_swapped()
}

/// Opens a store as often as that is needed: at the start, and again after a failure.
///
/// [`StoreOptions`] open one of the backends here by its URL. For any other store, say how:
///
/// ```
/// use modsec_core::store::{MemoryStore, StoreOpener};
///
/// let store = MemoryStore::new();
/// let opener = StoreOpener::new(move || {
///     let store = store.clone();
///     async move { Ok(store) }
/// });
/// ```
#[derive(Clone)]
pub struct StoreOpener(
    Arc<dyn Fn(Heartbeat) -> StoreFuture<'static, Box<dyn Store>> + Send + Sync>,
);

impl StoreOpener {
    /// Returns an opener that calls `open` each time.
    ///
    /// An error of `open` with [`StoreError::is_unavailable`] is taken for one that passes by
    /// itself: a service waits and opens again. Any other one ends it.
    pub fn new<S, F>(open: impl Fn() -> F + Send + Sync + 'static) -> StoreOpener
    where
        S: Store + 'static,
        F: Future<Output = Result<S, StoreError>> + Send + 'static,
    {
        StoreOpener(Arc::new(move |_| {
            let store = open();
            Box::pin(async move { Ok(Box::new(store.await?) as Box<dyn Store>) })
        }))
    }

    /// Opens the store, which reports its steps to `heartbeat`.
    ///
    /// # Errors
    ///
    /// Those of [`open`], or of the function.
    pub async fn open_watched(&self, heartbeat: Heartbeat) -> Result<Box<dyn Store>, StoreError> {
        (self.0)(heartbeat).await
    }
}

impl fmt::Debug for StoreOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreOpener")
    }
}

impl From<StoreOptions> for StoreOpener {
    fn from(options: StoreOptions) -> StoreOpener {
        StoreOpener(Arc::new(move |heartbeat| {
            let options = options.clone();
            Box::pin(async move { open_watched(&options, heartbeat).await })
        }))
    }
}

/// One backend as [`open`] finds it.
struct Backend {
    /// What the URL begins with, before the colon; compared without regard to case.
    scheme: &'static str,
    /// Connects, makes or upgrades the tables, and reports each step to the heartbeat.
    open: for<'a> fn(&'a StoreOptions, Heartbeat) -> StoreFuture<'a, Box<dyn Store>>,
    /// Returns why the values make no sense, see [`check_url`].
    check: fn(&StoreOptions) -> Result<(), StoreError>,
    /// Returns the file that has the rows, if it is one of this machine.
    file: fn(&StoreOptions) -> Option<PathBuf>,
    /// Looks at what is there, see [`look`].
    look: for<'a> fn(&'a StoreOptions, Purpose) -> StoreFuture<'a, Found>,
    /// Opens it to be read, see [`connect_to_read`].
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    read: for<'a> fn(&'a StoreOptions) -> StoreFuture<'a, Box<dyn Connection>>,
    /// Opens it to look after its rows, see [`open_upkeep`].
    #[cfg(any(feature = "sqlite", feature = "mysql"))]
    upkeep: for<'a> fn(&'a StoreOptions, Heartbeat) -> StoreFuture<'a, Box<dyn Upkeep>>,
}

/// What a store is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To find out what is in it.
    Read,
    /// To find out whether a run could write to it.
    Write,
}

/// What is behind the URL of a store; nothing was changed to find it out.
#[non_exhaustive]
pub struct Found {
    /// What the first run makes or changes there, in words.
    pub remark: Option<String>,
    /// `None` if no entry can be there yet.
    reader: Option<Box<dyn Reader>>,
}

/// A store that is only read.
trait Reader: Send {
    /// As [`Store::known`].
    fn known<'a>(&'a mut self, hashes: &'a [EntryHash]) -> StoreFuture<'a, HashSet<EntryHash>>;
}

impl Found {
    /// Returns those of the entries that are in the store already.
    ///
    /// # Errors
    ///
    /// As for [`Store::known`].
    pub async fn known(&mut self, hashes: &[EntryHash]) -> Result<HashSet<EntryHash>, StoreError> {
        match &mut self.reader {
            Some(reader) => reader.known(hashes).await,
            None => Ok(HashSet::new()),
        }
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("remark", &self.remark)
            .finish_non_exhaustive()
    }
}

/// Boxes a future, and what it returns.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
fn boxed<'a, S, T>(
    open: impl Future<Output = Result<S, StoreError>> + Send + 'a,
    make: fn(S) -> T,
) -> StoreFuture<'a, T>
where
    S: 'a,
    T: 'a,
{
    Box::pin(async move { open.await.map(make) })
}

/// The only list of backends.
const BACKENDS: &[Backend] = &[
    #[cfg(feature = "sqlite")]
    Backend {
        scheme: "sqlite",
        open: |options, heartbeat| boxed(sqlite::open(options, heartbeat), |store| Box::new(store)),
        upkeep: |options, heartbeat| {
            boxed(sqlite::open(options, heartbeat), |store| Box::new(store))
        },
        check: sqlite::check,
        file: sqlite::file,
        look: |options, purpose| Box::pin(sqlite::look(options, purpose)),
        read: |options| Box::pin(sqlite::connect_to_read(options)),
    },
    #[cfg(feature = "mysql")]
    Backend {
        scheme: "mysql",
        open: |options, heartbeat| boxed(mysql::open(options, heartbeat), |store| Box::new(store)),
        upkeep: |options, heartbeat| {
            boxed(mysql::open(options, heartbeat), |store| Box::new(store))
        },
        check: mysql::check,
        file: |_| None,
        look: |options, _| Box::pin(mysql::look(options)),
        read: |options| Box::pin(mysql::connect_to_read(options)),
    },
];

/// Opens the store that the options name, and creates or upgrades its tables.
///
/// # Errors
///
/// [`StoreError::UnknownScheme`] lists the backends that are compiled in. All other errors are
/// the backend's.
pub async fn open(options: &StoreOptions) -> Result<Box<dyn Store>, StoreError> {
    open_watched(options, Heartbeat::default()).await
}

/// Opens a store that reports its steps to `heartbeat`, also while it is opened: as long as a
/// database works or answers, and in waits that have a limit.
///
/// A watchdog that sees no beat can so end a program that hangs, and leave one that waits.
///
/// # Errors
///
/// As for [`open`].
pub async fn open_watched(
    options: &StoreOptions,
    heartbeat: Heartbeat,
) -> Result<Box<dyn Store>, StoreError> {
    (backend(options)?.open)(options, heartbeat).await
}

/// Looks at the store that the options name without changing anything: whether a run could open it,
/// with the rights that it needs, what the first run would make, and which entries are there.
///
/// # Errors
///
/// Those of [`open`], as far as they show without a change. What the first run makes is no error.
pub async fn look(options: &StoreOptions) -> Result<Found, StoreError> {
    (backend(options)?.look)(options, Purpose::Read).await
}

/// As [`look`], and finds out whether a run could write: a lock that another process does not give
/// back, and damaged pages of a file, looked for during three seconds at the most.
///
/// # Errors
///
/// Those of [`open`], as far as they show without a change.
pub async fn look_to_write(options: &StoreOptions) -> Result<Found, StoreError> {
    (backend(options)?.look)(options, Purpose::Write).await
}

/// Connects to the store that the options name, to read it. Changes nothing.
///
/// # Errors
///
/// Those of [`open`]; [`StoreError::Configuration`] also for tables that are not there, or that an older
/// program made and that no run has brought up to date since.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) async fn connect_to_read(
    options: &StoreOptions,
) -> Result<Box<dyn Connection>, StoreError> {
    (backend(options)?.read)(options).await
}

/// Opens the store that the options name to look after its rows, and creates or upgrades its tables.
///
/// # Errors
///
/// As for [`open`].
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) async fn open_upkeep(
    options: &StoreOptions,
    heartbeat: Heartbeat,
) -> Result<Box<dyn Upkeep>, StoreError> {
    (backend(options)?.upkeep)(options, heartbeat).await
}

/// Finds out whether URL and option file make sense; connects to nothing. An option file that cannot
/// be read is no mistake yet: opening the store says so.
///
/// # Errors
///
/// [`StoreError::UnknownScheme`], or [`StoreError::Configuration`] with what is wrong in it.
pub fn check_url(options: &StoreOptions) -> Result<(), StoreError> {
    (backend(options)?.check)(options)
}

/// Returns the file in which the store that the options name keeps its rows; `None` for a server.
pub fn file(options: &StoreOptions) -> Option<PathBuf> {
    (backend(options).ok()?.file)(options)
}

/// Returns the backend that the URL names.
fn backend(options: &StoreOptions) -> Result<&'static Backend, StoreError> {
    let scheme = options.scheme();
    let is_named = |backend: &&Backend| backend.scheme.eq_ignore_ascii_case(scheme);
    let unknown = || StoreError::UnknownScheme {
        scheme: scheme.to_owned(),
        meant: options.meant(),
        compiled_in: BACKENDS.iter().map(|backend| backend.scheme).collect(),
    };
    BACKENDS.iter().find(is_named).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> StoreOptions {
        StoreOptions {
            url: url.to_owned(),
            defaults_file: None,
        }
    }

    #[test]
    fn debug_output_has_no_password() {
        for url in [
            "mysql://u:secret@h/d",
            "u:secret@h/d",
            "//u:secret@h",
            "secret",
        ] {
            let debug = format!("{:?}", options(url));
            assert!(!debug.contains("secret"), "input {url:?}: {debug}");
        }
    }

    #[test]
    fn unknown_scheme_lists_what_is_compiled_in_and_shows_no_password() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        for (url, want) in [
            ("/var/lib/secret", "did you mean sqlite:PATH?"),
            ("secret.db", "did you mean sqlite:PATH?"),
            ("sqlite3:/secret", "\"sqlite3\"; did you mean sqlite:PATH?"),
            (
                "mariadb://u:secret@h/d",
                "did you mean mysql://USER@HOST/DATABASE?",
            ),
            (
                "mysqll://u:secret@h/d",
                "did you mean mysql://USER@HOST/DATABASE?",
            ),
            ("mysq://h/d", "did you mean mysql://USER@HOST/DATABASE?"),
            ("myslq://h/d", "did you mean mysql://USER@HOST/DATABASE?"),
            ("mariadbd://h/d", "did you mean mysql://USER@HOST/DATABASE?"),
            ("sqllite:secret", "did you mean sqlite:PATH?"),
            ("slqite:secret", "did you mean sqlite:PATH?"),
            (
                "pg://u:secret@h",
                "no store is called \"pg\"; this program knows",
            ),
            ("u:secret@h", "no store is called \"u\"; this program knows"),
            ("secret", "the store has no scheme"),
        ] {
            let error = runtime.block_on(open(&options(url))).err().unwrap();
            let text = error.to_string();
            assert!(text.contains(want) && !text.contains("secret"), "{text}");
            assert_eq!(check_url(&options(url)).unwrap_err().to_string(), text);
            if text.contains("mean") {
                continue;
            }
            for backend in BACKENDS {
                assert!(text.contains(backend.scheme), "{text}");
            }
        }
    }
}

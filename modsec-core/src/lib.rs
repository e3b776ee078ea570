//! ModSecurity audit logs: grammar, records, stores, and the chores around them.
//!
//! ```text
//!  bytes ─► format::decode ─────────► Record ─► store::Row ─► SQLite, MySQL, MariaDB
//!           (lossless, borrowed)     (typed)       │
//!                                                  └► json::line
//!  storage_dir ─► ingest ─► merged_log + store, then remove        program `modsec-parser`
//!        │ inotify
//!        └─► watch ─► permissions                                  program `watch-dir`
//! ```
//!
//! An *entry* is one audit-log item as written on disk: lettered *parts* held together by a
//! *boundary*. A [`Record`] is the typed form of the one HTTP *transaction* that it describes. An
//! [`Alert`](record::Alert) with an id is a *rule match*. A *sensor* is the host that wrote the
//! entry.
//!
//! # Reading an entry
//!
//! ```
//! let entry = b"--3fa0c41b-A--
//! [03/Feb/2024:10:11:12 +0100] Zb4kQH8AAAEAAB1cR0MAAAAA 192.0.2.10 40112 198.51.100.4 80
//! --3fa0c41b-B--
//! GET /item?id=1%27 HTTP/1.1
//! Host: shop.example.org
//!
//! --3fa0c41b-H--
//! Message: Warning. Pattern match \"'\" at ARGS:id. [file \"/etc/waf.conf\"] [line \"12\"] [id \"100100\"] [msg \"quote in id\"]
//!
//! --3fa0c41b-Z--
//! ";
//! let record = modsec_core::format::decode(entry)?;
//! assert_eq!(record.request.uri.as_ref().unwrap(), "/item?id=1%27");
//! assert_eq!(record.primary().unwrap().rule_id.as_ref().unwrap(), "100100");
//! # Ok::<(), modsec_core::format::Defect>(())
//! ```
//!
//! Everything in an entry but the engine's own framing was typed by a stranger. What he puts into
//! a body, a header, an argument name or the request line changes no rule field, status, address
//! or score; at most [`Record::flags`] says that somebody tried.
//!
//! # Features
//!
//! Without features the crate is the grammar and the record types: synchronous, without a clock,
//! a disk or a database.
//!
//! | feature | adds |
//! | --- | --- |
//! | `json-lines` | writing one JSON object per transaction |
//! | `storage-dir` | walking, reading and clearing `SecAuditLogStorageDir` by descriptor; index lines |
//! | `merged-log` | appending whole entries to one log, with a journal |
//! | `store` | the `Store` trait, rows, a backend in memory |
//! | `sqlite`, `mysql` | backends |
//! | `store-contract` | what every backend must pass, as functions for tests |
//! | `ingest` | from the storage directory to store and merged log |
//! | `watch` | inotify over the tree |
//! | `permissions` | mode, owner and group of directories |
//! | `recidive` | the offender ledger and the jail file |
//! | `program` | log set-up, stop signals, exit codes, PID file |
//! | `command-line` | the configuration file below flags and environment; manual pages, completions |

#[cfg(feature = "accounts")]
pub mod accounts;
#[cfg(feature = "recidive")]
pub mod ban;
#[cfg(feature = "command-line")]
pub mod command_line;
#[cfg(feature = "crash-points")]
mod crash_points;
#[cfg(any(feature = "merged-log", feature = "store"))]
mod entry_hash;
#[cfg(any(feature = "permissions", feature = "program"))]
mod error_chain;
#[cfg(all(
    not(feature = "crash-points"),
    any(
        feature = "merged-log",
        feature = "mysql",
        feature = "sqlite",
        feature = "storage-dir"
    )
))]
mod crash_points {
    /// Does nothing; see the feature `crash-points`.
    pub(crate) fn pass(_place: &str) {}
}
pub mod format;
#[cfg(any(feature = "program", feature = "store"))]
mod heart;
#[cfg(feature = "storage-dir")]
pub mod index_line;
#[cfg(feature = "ingest")]
pub mod ingest;
#[cfg(feature = "json-lines")]
pub mod json;
pub mod ledger;
#[cfg(any(feature = "ingest", feature = "recidive"))]
mod log_reader;
#[cfg(any(feature = "ingest", feature = "recidive"))]
mod logfile;
#[cfg(feature = "merged-log")]
pub mod merged_log;
#[cfg(any(
    feature = "merged-log",
    feature = "mysql",
    feature = "program",
    feature = "sqlite"
))]
pub mod named_file;
#[cfg(feature = "permissions")]
pub mod permissions;
#[cfg(feature = "program")]
pub mod program;
#[cfg(feature = "recidive")]
pub mod recidive;
pub mod record;
pub mod serial_log;
#[cfg(feature = "storage-dir")]
mod spool;
#[cfg(feature = "storage-dir")]
pub mod storage_dir;
#[cfg(feature = "store")]
pub mod store;
mod text;
#[cfg(feature = "watch")]
pub mod watch;

#[cfg(any(feature = "merged-log", feature = "store"))]
pub use self::entry_hash::{EntryHash, EntryHasher};
#[cfg(any(feature = "permissions", feature = "program"))]
pub use self::error_chain::error_chain;
#[cfg(any(feature = "program", feature = "store"))]
pub use self::heart::Heart;
pub use self::record::Record;
#[cfg(feature = "store")]
pub use self::store::{Batch, BatchId, Inserted, Origin, Row, Store, StoreError, StoreOptions};
pub use self::text::Text;
#[cfg(any(feature = "permissions", feature = "program"))]
pub use self::text::visible;

// The program in README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

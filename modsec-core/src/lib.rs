//! ModSecurity audit logs: grammar, records, stores, and the chores around them.
//!
//! ```text
//!  bytes ─► format::decode ─────────► Record ─► store::Row ─► SQLite, MySQL, MariaDB
//!           (lossless, borrowed)     (typed)       │               │
//!                                                  │               ├► query::Query (with a filter)
//!                                                  │               └► upkeep (what rows of before lack)
//!                                                  ├► json::line
//!                                                  ├► cause::Analysis (which alert it was for)
//!                                                  └► filter::Filter (is it one that is asked for?)
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
//! assert_eq!(record.alerts[0].rule_id.as_ref().unwrap(), "100100");
//! # Ok::<(), modsec_core::format::Defect>(())
//! ```
//!
//! Everything in an entry but the engine's own framing was typed by a stranger. What he puts into
//! a body, a header, an argument name or the request line changes no rule field, status, address
//! or score; at most [`Record::flags`] says that somebody tried.
//!
//! # Features
//!
//! Without features the crate is the grammar, the record types, cutting of logs, lines of the index
//! file, the offender ledger, filters, time spans, rows and the store trait: synchronous, without a clock, a disk or a
//! database.
//!
//! | feature | adds |
//! | --- | --- |
//! | `serde` | `serde::Serialize` and `Deserialize` for [`Record`] and [`Row`]; one JSON object per transaction |
//! | `fs` | walking, reading, watching and clearing `SecAuditLogStorageDir`, keeping its permissions, the merged log |
//! | `sqlite`, `mysql` | databases (each brings `fs`) |
//! | `jobs` | the ingest and the repeat-offender counter (brings `fs` and `serde`) |
//! | `programs` | what the programs share: log set-up, the configuration file below flags and environment, manual pages (brings `jobs`) |
//!
//! Two more are for tests: `store-contract` has what every backend must pass, as functions;
//! `crash-points` lets a process die between two steps.

// Needs no feature.
pub mod cause;
mod entry_hash;
pub mod filter;
pub mod format;
pub mod guide;
mod heartbeat;
pub mod index_line;
pub mod ledger;
mod likeness;
#[cfg_attr(
    not(feature = "fs"),
    expect(dead_code, reason = "much of it is for the file system")
)]
pub mod names;
pub mod query;
pub mod record;
pub mod serial_log;
pub mod span;
pub mod store;
mod text;

#[cfg(feature = "serde")]
pub mod json;

// What is stored.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub mod upkeep;

// The file system.
#[cfg(feature = "fs")]
pub mod accounts;
#[cfg(feature = "fs")]
mod crash_points;
#[cfg(feature = "fs")]
mod error_chain;
#[cfg(feature = "fs")]
mod lock_holder;
#[cfg(feature = "fs")]
#[cfg_attr(
    not(any(feature = "jobs", test)),
    expect(dead_code, reason = "parts are for the jobs")
)]
mod log_once;
#[cfg(feature = "fs")]
pub mod merged_log;
#[cfg(feature = "fs")]
pub mod named_file;
#[cfg(feature = "fs")]
#[cfg_attr(
    not(feature = "jobs"),
    expect(dead_code, reason = "keeping on is for the jobs")
)]
pub mod permissions;
#[cfg(feature = "fs")]
mod spool;
#[cfg(feature = "fs")]
pub mod state_dir;
#[cfg(feature = "fs")]
#[cfg_attr(
    not(feature = "jobs"),
    expect(dead_code, unused_imports, reason = "parts are for the jobs")
)]
pub mod storage_dir;
#[cfg(feature = "fs")]
#[cfg_attr(
    not(feature = "jobs"),
    expect(dead_code, unused_imports, reason = "parts are for the jobs")
)]
pub mod watch;

#[cfg(feature = "jobs")]
pub mod ban;
#[cfg(feature = "jobs")]
pub mod ingest;
#[cfg(feature = "jobs")]
mod log_reader;
#[cfg(feature = "jobs")]
mod logfile;
#[cfg(feature = "jobs")]
pub mod program;
#[cfg(feature = "jobs")]
mod read_steps;
#[cfg(feature = "jobs")]
mod recent;
#[cfg(feature = "jobs")]
pub mod recidive;

#[cfg(feature = "programs")]
pub mod command_line;

pub use self::entry_hash::{EntryHash, EntryHasher};
#[cfg(feature = "fs")]
pub use self::error_chain::error_chain;
pub use self::heartbeat::Heartbeat;
pub use self::record::Record;
pub use self::store::{Batch, BatchId, Inserted, Origin, Row, Store, StoreError, StoreOptions};
pub use self::text::{Text, visible};

// The program in README compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

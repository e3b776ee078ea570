//! A guide in short programs: read an entry, read a log, keep records, count offenders, store.
//!
//! Each of these is a whole program in the directory `examples` of the repository, with its
//! arguments and its errors.
//!
//! # Read one entry
//!
//! With `SecAuditLogType Concurrent` a file has one entry. [`format::decode`](crate::format::decode)
//! takes its bytes, in any dialect, and borrows from them. A [`Record`](crate::Record) shows itself
//! on one line:
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bytes = b"--3fa0c41b-A--
//! [03/Feb/2024:10:11:12 +0100] Zb4kQH8AAAEAAB1cR0MAAAAA 192.0.2.10 40112 198.51.100.4 80
//! --3fa0c41b-B--
//! GET /item?id=1%27 HTTP/1.1
//! --3fa0c41b-F--
//! HTTP/1.1 403 Forbidden
//! --3fa0c41b-Z--
//! ";
//! let record = modsec_core::format::decode(bytes)?;
//! assert_eq!(
//!     record.to_string(),
//!     r#"2024-02-03T10:11:12+01:00 192.0.2.10 "GET /item?id=1%27 HTTP/1.1" 403 (no_part_h)"#
//! );
//! # Ok(())
//! # }
//! ```
//!
//! What the client typed is [`Text`](crate::Text): bytes, which may be anything. Print it with `{:?}`,
//! which escapes, never raw on a terminal. What the flags mean stands at [`Flag`](crate::record::Flag);
//! an [`ambiguous`](crate::record::Flag::Ambiguous) record says that somebody tried to forge one.
//!
//! # Read a log
//!
//! A serial log, or the merged log of `modsec-parser`, has many entries, of several dialects, some cut
//! off. [`serial_log::read`](crate::serial_log::read) cuts it and needs memory for one entry at a
//! time. An entry decodes itself, because only the log knows what stood around it:
//!
//! ```no_run
//! use modsec_core::serial_log::{self, Item};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! for item in serial_log::read(std::fs::File::open("modsec_audit.log")?) {
//!     match item? {
//!         Item::Entry(entry) => match entry.decode() {
//!             Ok(record) => println!("{record}"),
//!             Err(defect) => eprintln!("left out: {defect}"),
//!         },
//!         other => eprintln!("passed over: {other:?}"),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! For bytes that arrive in pieces there is [`serial_log::Splitter`](crate::serial_log::Splitter).
//!
//! # Ask what it was for
//!
//! With anomaly scoring the alert that intercepted says nothing about the request.
//! [`cause::Analysis`](crate::cause::Analysis) finds the detection that does, with what it was about,
//! its points, and whether it alone reached the threshold:
//!
//! ```
//! use modsec_core::cause::Analysis;
//!
//! # let record = modsec_core::Record::default();
//! let analysis = Analysis::of(&record);
//! if let Some(cause) = analysis.cause {
//!     let (alert, meaning) = (&record.alerts[cause], &analysis.alerts[cause]);
//!     println!("{:?} at {:?}: {:?}", alert.rule_id, meaning.target, meaning.points);
//! }
//! ```
//!
//! # Ask which ones
//!
//! A [`Filter`](crate::filter::Filter) is one line of text, the same for people, URLs and databases. It
//! asks a [`Row`](crate::Row) in memory, or is a condition of SQL with bound parameters:
//!
//! ```
//! use modsec_core::filter::{Dialect, Filter};
//! use modsec_core::store::{Origin, Row};
//! use modsec_core::{EntryHash, Record};
//!
//! let filter = Filter::parse("status:>=500 -client:192.0.2.0/24 since:7d", chrono::Utc::now())?;
//! let row = Row::new(&Record::default(), EntryHash::of(b""), &Origin::default(), None);
//! assert!(!filter.matches(&row));
//! let (condition, values) = filter.to_sql(Dialect::Sqlite);
//! println!("select count(*) from logs l where {condition} -- {values:?}");
//! # Ok::<(), modsec_core::filter::FilterError>(())
//! ```
//!
//! # Keep records
//!
//! [`Record::into_owned`](crate::Record::into_owned) copies what is borrowed. With the feature `serde` a
//! record is `Serialize` and `Deserialize`; text that is not UTF-8 becomes a sequence of bytes, so
//! that nothing is lost.
//!
//! ```
//! use modsec_core::{Record, format};
//!
//! fn keep(bytes: &[u8], kept: &mut Vec<Record<'static>>) -> Result<(), format::Defect> {
//!     kept.push(format::decode(bytes)?.into_owned());
//!     Ok(())
//! }
//! ```
//!
//! # Count offenders
//!
//! The [`ledger`](crate::ledger) needs no feature: it is told of attacks and says who passes the
//! threshold. Whose address counts, behind proxies too, is decided by
//! [`TrustedProxies`](crate::record::TrustedProxies).
//!
//! ```
//! use modsec_core::Record;
//! use modsec_core::ledger::{AttackFilter, Ledger, LedgerOptions};
//! use modsec_core::record::TrustedProxies;
//!
//! fn offenders(records: &[Record<'_>]) -> Result<(), Box<dyn std::error::Error>> {
//!     let mut options = LedgerOptions::default();
//!     options.threshold = 5;
//!     let mut ledger = Ledger::new(options)?;
//!     let (attacks, proxies) = (AttackFilter::default(), TrustedProxies::default());
//!     for record in records.iter().filter(|record| attacks.is_attack(record)) {
//!         if let (Some(client), Some(time)) = (proxies.client(record), record.time)
//!             && let Some(offender) = ledger.strike(client, time.to_utc())
//!         {
//!             println!("{} with {} attacks", offender.network, offender.attacks);
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Store rows
//!
//! A [`Row`](crate::Row) is what a database keeps of a record. [`store::open`](crate::store::open) opens
//! SQLite and MySQL (features `sqlite`, `mysql`); your own [`Store`](crate::Store) is a few dozen
//! lines. A store must take the same entry twice and keep it once; the functions of
//! `store::contract` (feature `store-contract`) test that, and all else that the ingest relies on.
//!
//! ```
//! use modsec_core::record::TrustedProxies;
//! use modsec_core::{Batch, EntryHash, Inserted, Origin, Row, Store, StoreError, format};
//!
//! async fn store(bytes: &[u8], store: &mut dyn Store) -> Result<Inserted, StoreError> {
//!     let mut rows = Vec::new();
//!     if let Ok(record) = format::decode(bytes) {
//!         let client = TrustedProxies::default().client(&record);
//!         rows.push(Row::new(&record, EntryHash::of(bytes), &Origin::default(), client));
//!     }
//!     store.insert(&Batch::new(None, rows)).await
//! }
//! ```
//!
//! `ingest::run` (feature `jobs`) does all of it for a whole storage directory, into any store: it
//! reads, appends to the merged log, stores, and only then removes.
//!
//! # Keep a storage directory's permissions
//!
//! `permissions::Keeper` (feature `fs`) corrects mode, owner and group once, or whenever a directory
//! appears; see there.

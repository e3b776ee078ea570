//! Counts attacks per client and names those who do not stop: the job of the program `recidive`.
//!
//! ```text
//! finished entry ─► Record ─► AttackFilter (does it count?) ─► TrustedProxies (whose is it?)
//!                                                            │ address, the transaction's own time
//!                                                            ▼
//!                                        Ledger ─Offender─► JailLog ─► Fail2ban
//! ```
//!
//! The [`ledger`](crate::ledger) says what an attack is and who has made too many. This room brings
//! the attacks to it, each once, and its reports to the jail file, each once.
//!
//! # Where attacks come from
//!
//! | source | file here | knows | misses |
//! | --- | --- | --- | --- |
//! | storage directory | `entry_reader`, `backlog` | whole entries, their owners | what another program removes first |
//! | private directory of `modsec-parser` | `claims`, `taken` | the same | nothing that is claimed while it runs |
//! | merged log | `follow` | whole entries | owners |
//! | index | `follow` | address, status, time | scores, rules, headers of proxies |
//!
//! Files are opened below the held storage directory, never by an absolute path, and no file is
//! changed, renamed or removed. Owners take turns, so that one site's flood does not make another
//! site's attacks wait; a file of many records (`several`) is read between all others. A file whose
//! writer has not finished it waits in `unfinished` until it has, or for `stale_after`.
//!
//! One entry may come by three of these ways. It counts by its bytes (`dedup`), so once.
//!
//! # What survives a crash
//!
//! The state file has the table of clients, the marks of the logs that were read, the hashes of
//! entries that were counted, the reports that are still to be written, and how far the jail file
//! has been written. It is replaced atomically, every few seconds and at the end:
//!
//! 1. lines are appended to the jail file (`reporter`),
//! 2. the jail file is synced, then the state file replaced (`saver`, `state`).
//!
//! After a crash between the two the lines behind the mark in the jail file say what was written
//! already. Attacks since the last save are read again where their source still has them.
//!
//! # Without a service
//!
//! [`replay()`] says who would have been reported, by history; [`Status`] shows a state file. Both
//! write nothing.

mod backlog;
mod claims;
mod counter;
mod dedup;
mod entry_reader;
mod follow;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod options;
mod outcome;
mod replay;
mod reporter;
mod run;
mod saver;
mod session;
mod several;

mod state;
mod status;
mod taken;

mod unfinished;

pub use self::counter::Tally;
pub use self::options::{LogSource, Options, OptionsError};
pub use self::outcome::{RunError, Summary};
pub use self::replay::{
    ReplayError, ReplayOptions, ReplayReport, ReplayedOffender, Tallied, replay,
};
pub use self::run::run;
pub use self::state::{Loaded, State, StateError};
pub use self::status::{Status, StatusRow};

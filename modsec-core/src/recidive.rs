//! Counts attacks per client and names those who do not stop.
//!
//! ```text
//! finished entry ─► Record ─► Attacks (does it count?) ─► TrustedProxies (whose is it?)
//!                                                            │ address, the transaction's own time
//!                                                            ▼
//!                                        Ledger ─Offender─► JailLog ─► Fail2ban
//! ```
//!
//! The [`ledger`](crate::ledger) says what an attack is and who has made too many.

mod backlog;
mod claims;
mod counter;
mod dedup;
mod follow;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod options;
mod replay;
mod reporter;
mod run;
mod saver;
mod session;
mod several;
mod show;
mod state;
mod taken;
mod tree;
mod unfinished;

pub use self::counter::Tally;
pub use self::options::{LogSource, Options, OptionsError};
pub use self::replay::{
    ReplayError, ReplayOptions, ReplayReport, ReplayedOffender, Tallied, replay,
};
pub use self::run::{RunError, Summary, run};
pub use self::show::{Status, StatusRow};
pub use self::state::{Loaded, State, StateError};

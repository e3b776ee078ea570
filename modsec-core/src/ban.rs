//! Where an offender is handed over.
//!
//! A ban is an address or a network, and a time. No text from a log comes this far.

mod jail_log;

pub(crate) use self::jail_log::LINES_PER_MARK;
pub use self::jail_log::{JailLog, JailLogError, JailMark, jail_line};

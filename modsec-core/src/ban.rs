//! Handing an offender over to what bans it.
//!
//! A ban is an address or a network, and a time. No text from a log comes this far, so an attacker
//! cannot write anything but an address into the file that Fail2ban reads.
//!
//! ```no_run
//! use modsec_core::ban::JailLog;
//!
//! let mut log = JailLog::open("/var/log/httpd/modsec_recidive.log")?;
//! log.report("203.0.113.9/32".parse()?, "2026-08-22T10:15:00Z".parse()?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod jail_log;

pub(crate) use self::jail_log::LINES_PER_MARK;
pub use self::jail_log::{JailLog, JailLogError, JailMark, jail_line};

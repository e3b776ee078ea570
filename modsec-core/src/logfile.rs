//! Following a file that another process appends to, over rotation and restarts.
//!
//! The serial audit log, the index and the jail file are all read in this way: read to the end,
//! remember the place, and go on there, even if the program was stopped for days meanwhile.
//!
//! ```text
//! before the stop    audit.log  ████████│ read up to here: Checkpoint
//! while stopped      audit.log  ────────│───  renamed to audit.log-20261127, then compressed
//!                    audit.log  ────────────  a second one, renamed to audit.log-20261128
//!                    audit.log  ──            the third one, being written
//! after the start    audit.log-20261127.gz from the checkpoint on, audit.log-20261128, audit.log
//! ```
//!
//! - [`Checkpoint`] says how far a log was read, in one line of text.
//! - [`unread`] finds the files that hold what comes behind it, the oldest first.
//! - [`Tail`] reads them one after the other, then the log as it grows.
//! - [`Recognition`] says so if there is nothing in a log that should be.
//! - [`Lines`] cuts the bytes into lines, [`crate::serial_log::Splitter`] into entries.
//!
//! Rotation gives the old log any name (`.1`, `-20261127`, `.1.gz`), so what was read is found
//! again by what is in it, not by its name. Nothing is read twice, and nothing is passed over, as
//! long as the rotated files are in the directory of the log.

mod aside;
mod checkpoint;
mod entry_timeout;
mod gzip;
mod lines;
mod log_file;
mod recognition;
mod rotated;
mod tail;

pub(crate) use self::aside::Aside;
pub(crate) use self::checkpoint::Checkpoint;
pub(crate) use self::entry_timeout::EntryTimeout;
pub(crate) use self::gzip::{GZIP, Unpacked, is_trailing_garbage};
pub(crate) use self::lines::{Line, Lines};
pub(crate) use self::recognition::{Content, PipeRecognition, Recognition};
pub(crate) use self::rotated::unread;
pub(crate) use self::tail::{Growth, Tail};

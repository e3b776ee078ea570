//! A file that somebody appends to, read on over rotation and restarts.
//!
//! ```text
//! checkpoint ─► rotated: the files that hold what was not read, oldest first ─► tail ─► bytes
//! ```
//!
//! Rotation gives the old log any name (`.1`, `-20261127`, `.1.gz`) and may have happened several
//! times since. So what was read is found again by what is in it, not by where it is.

mod checkpoint;
mod lines;
mod rotated;
mod source;
mod stuck;
mod tail;

pub(crate) use self::checkpoint::Checkpoint;
pub(crate) use self::lines::{Line, Lines};
pub(crate) use self::rotated::unread;
pub(crate) use self::stuck::Stuck;
pub(crate) use self::tail::{Growth, Tail};

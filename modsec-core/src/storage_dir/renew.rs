//! Files whose time of change lies in the future, because the clock was set back after they were
//! written.
//!
//! A file is taken once it has been unchanged for `--min-age`. Measured by the clock of today, a
//! file of tomorrow would not be old enough until tomorrow, or for years if the clock had been
//! wrong by years. `st_ctime` cannot be set by hand, but the kernel sets it to the present whenever
//! the owner is set, even to the same owner. So the parser calls fchown(2) without a new owner or
//! group: from then on the file ages like all others, for every program and after a restart. A
//! writer that appends to it later sets the time anew.

use chrono::{DateTime, TimeDelta, Utc};
use rustix::fs::fchown;

use super::dir;
use super::entry::EntryFile;
use crate::spool::{Reason, Refusal};

/// How far `st_ctime` may be ahead of this machine's clock before it is taken for a mistake. On a
/// network file system the server's clock counts, which may be some seconds ahead; such files
/// become old enough by themselves.
const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// Returns `true` if `changed` is more than a minute later than `now`.
pub(crate) fn is_ahead(changed: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    changed.signed_duration_since(now) > AHEAD
}

impl EntryFile {
    /// Sets the file's time of change to the present.
    ///
    /// Returns `false`, and leaves the file alone, if the file system's clock is itself ahead of
    /// ours: the time is right then, and will pass. That is found out first, on our own private
    /// directory.
    ///
    /// Changes neither owner, group, mode nor contents. Needs the lock
    /// ([`super::StorageDir::lock`]), as everything does that changes something in the tree.
    ///
    /// # Errors
    ///
    /// [`Reason::NotLocked`], what the file is instead of a plain one, or what fchown(2) said.
    pub(crate) fn renew(&self) -> Result<bool, Refusal> {
        self.try_renew()
            .map_err(|reason| self.dir.refusal(&self.name, reason))
    }

    /// Does the work of [`EntryFile::renew`]; the caller adds the path to the error.
    fn try_renew(&self) -> Result<bool, Reason> {
        let private = self.tree.private().ok_or(Reason::NotLocked)?;
        let ours = private.dir.file();
        fchown(ours, None, None)?;
        if is_ahead(dir::changed(&ours.metadata()?), Utc::now()) {
            return Ok(false);
        }
        let (file, _) = self.dir.open_file(&self.name)?;
        fchown(&file, None, None)?;
        Ok(true)
    }
}

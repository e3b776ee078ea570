//! Files whose time of change has not come yet: the clock was set back after they were written.
//!
//! Such a file would never be old enough to be taken. The time of change is set by the kernel alone,
//! also whenever an owner is set, even to what it was: from then on the file is as old as all
//! others, for every program and over restarts, and whoever still writes to it renews it again.

use chrono::{DateTime, TimeDelta, Utc};
use rustix::fs::fchown;

use super::dir;
use super::entry::EntryFile;
use crate::spool::{Reason, Refusal};

/// What a clock may be ahead without anybody having set it back: that of a file server, by some
/// seconds. It passes by itself.
const AHEAD: TimeDelta = TimeDelta::minutes(1);

/// Returns `true` if `changed` cannot be a time that was.
pub(crate) fn is_ahead(changed: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    changed.signed_duration_since(now) > AHEAD
}

impl EntryFile {
    /// Lets the kernel set the file's time of change to the present. Returns `false` if the file
    /// system's own clock is ahead: then its times are right, and pass.
    ///
    /// Needs the lock ([`super::StorageDir::lock`]), as everything does that changes something.
    ///
    /// # Errors
    ///
    /// What the file is instead of a plain one, or what the kernel said.
    pub(crate) fn renew(&self) -> Result<bool, Refusal> {
        self.try_renew()
            .map_err(|reason| self.dir.refusal(&self.name, reason))
    }

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

//! Keeps the directories of the storage directory usable for those who write and collect there.
//!
//! `ModSecurity` creates directories under the umask of the web server, so `SecAuditLogDirMode`
//! alone cannot give others the right to write. Two layouts exist, and what is right for one
//! breaks the other:
//!
//! - **flat** (`DAY/MINUTE`): all site users share each directory, the first to come creates it.
//!   It gets owner, group and mode of the [`Policy`].
//! - **per user** (`USER/DAY/MINUTE`): each tree belongs to its user. It keeps its owner, and gets
//!   the group, the group's bits and the set-group-id bit, so that the collector needs no root.
//!
//! Above both: nothing here takes the right to write from the owner of a directory. Where a flat
//! directory's owner could not write any more after the change (it is not in the group), it stays
//! the owner.
//!
//! [`Keeper`] does this for what is there and for what appears, and can create the coming
//! directories in advance ([`Options::ahead`]), so that there is no moment at which they are
//! wrong. Everything is done through held descriptors; links, foreign owners, other file systems
//! and names that fit no template are left alone.
//!
//! ```no_run
//! use std::path::{Path, PathBuf};
//! use modsec_core::accounts::Accounts;
//! use modsec_core::permissions::{Keeper, Names, Options};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let accounts = Accounts::below(Path::new("/"))?;
//! let policy = Names::default().resolve(&accounts)?;
//! let options = Options::new(PathBuf::from("/var/log/httpd/modsec_audit"), policy);
//! let tally = Keeper::new(options)?.once(|change| eprintln!("{change}"))?;
//! eprintln!("{} of {} directories corrected", tally.corrected, tally.directories);
//! # Ok(())
//! # }
//! ```

mod advice;
mod ahead;
mod apply;
mod calendar;
mod keeper;
mod named;
mod policy;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

pub use self::advice::set_up_warnings;
pub use self::apply::{Change, ChangeKind};
pub use self::keeper::Keeper;
pub use self::policy::{Attributes, ModeError, Names, Policy, SiteUser, parse_mode};
use crate::watch::{RootError, WatchError};

/// What a [`Keeper`] is to do, and where.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// `SecAuditLogStorageDir`.
    pub storage_dir: PathBuf,
    /// What is right for a directory.
    pub policy: Policy,
    /// For how many minutes ahead directories are created, by the server's local time; 0: never.
    pub ahead: u16,
    /// Which layout the web server writes; matters only for what is created ahead.
    pub layout: Layout,
    /// How often all directories are looked at, whether or not something happened.
    pub check_every: Duration,
}

impl Options {
    /// Returns options with the defaults of the program `watch-dir`.
    pub fn new(storage_dir: PathBuf, policy: Policy) -> Self {
        Self {
            storage_dir,
            policy,
            ahead: 2,
            layout: Layout::default(),
            check_every: Duration::from_secs(600),
        }
    }
}

/// Which layout the web server writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// Told from what is found; as long as nothing is, directories for both are created ahead.
    #[default]
    Auto,
    /// `DAY/MINUTE`: `ModSecurity` up to 2.9.2, libmodsecurity 3, Coraza.
    Flat,
    /// `USER/DAY/MINUTE`: `ModSecurity` since 2.9.3.
    PerUser,
}

/// What has been done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Directories looked at; one that is looked at twice counts twice.
    pub directories: u64,
    /// Directories whose mode, owner or group was changed.
    pub corrected: u64,
    /// Directories created ahead of time.
    pub created: u64,
    /// Directories removed because they were past and empty.
    pub removed: u64,
    /// Things whose name fits no template.
    pub unknown: u64,
    /// Links, directories of foreign owners and on other file systems, left alone.
    pub refused: u64,
    /// Changes that the system did not permit.
    pub failed: u64,
}

/// Why the directories cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The storage directory cannot be used ([`Keeper::once`] only; [`Keeper::run`] waits).
    #[error(transparent)]
    Root(#[from] RootError),
    /// inotify failed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The thread that reports signs of life could not be started.
    #[error("could not start a thread; raise the limit on processes (ulimit -u)")]
    Thread(#[source] io::Error),
}

/// Why one directory could not be created, changed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The mode cannot be set.
    #[error("cannot set mode of {}: run as root or with CAP_FOWNER", .path.display())]
    Mode {
        /// Path below the storage directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Owner or group cannot be set.
    #[error("cannot set owner and group of {}: run as root or with CAP_CHOWN", .path.display())]
    Owner {
        /// Path below the storage directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system ignores the set-group-id bit.
    #[error(
        "cannot set the set-group-id bit of {}: run this process in group {group} \
         (SupplementaryGroups= in the unit) or with CAP_FSETID", .path.display()
    )]
    SetGroupId {
        /// Path below the storage directory.
        path: PathBuf,
        /// The directory's group.
        group: u32,
    },
    /// A directory cannot be created.
    #[error("cannot create {}: run as root or with CAP_DAC_OVERRIDE", .path.display())]
    Create {
        /// Path below the storage directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory cannot be examined or removed.
    #[error("cannot handle {}", .path.display())]
    Other {
        /// Path below the storage directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl ChangeError {
    /// Says that the directory at `path` could not be created, and why.
    fn create(path: &Path, errno: Errno) -> Self {
        let (path, source) = (path.to_owned(), errno.into());
        Self::Create { path, source }
    }

    /// Says that the directory at `path` could not be examined or removed, and why.
    fn other(path: &Path, errno: Errno) -> Self {
        let (path, source) = (path.to_owned(), errno.into());
        Self::Other { path, source }
    }
}

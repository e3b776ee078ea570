//! Watching a storage directory: new directories and finished files, as they appear.
//!
//! [`Watcher`] reports directories and files by inotify(7). It watches only directories whose path
//! fits the layout ([`Place`]), never through a link, and says when it may have missed something
//! ([`Event::Rescan`]).
//!
//! A new directory is reported, then watched, then listed, in this order: what is created in it
//! meanwhile is in the list or in an event, perhaps in both. So **the same directory or file may be
//! reported more than once**, and anything reported may be gone or exchanged by the time the caller
//! looks at it.
//!
//! ```no_run
//! # async fn follow() -> Result<(), modsec_core::watch::WatchError> {
//! use std::path::Path;
//! use modsec_core::watch::{Event, ReportedFiles, Options, Watcher};
//!
//! let mut options = Options::default();
//! options.files = ReportedFiles::New;
//! let mut watcher = Watcher::new(Path::new("/var/log/httpd/modsec_audit"), options)?;
//! loop {
//!     match watcher.next().await? {
//!         Event::File(path) => println!("finished, perhaps: {path:?}"),
//!         Event::Rescan(reason) => println!("walk the whole tree once: {reason}"),
//!         Event::Lost(error) => eprintln!("waiting: {error}"),
//!         _ => {}
//!     }
//! }
//! # }
//! ```
//!
//! A closed file is not always a complete one: libmodsecurity 3 closes it once before it writes the
//! entry. Decode it to find out ([`crate::format`]).
//!
//! # Bounds
//!
//! A site user can make directories and files without end, so everything here has a bound, and what
//! is beyond it is found when the tree is walked:
//!
//! - Watches: eight days per user (or in the storage directory), 256 minutes per day, 1,024
//!   directories in the trees of one user (unless it is root, the owner of the storage directory,
//!   or [`Options::trusted_owner`]). A minute in which nothing happened for an hour and a half is
//!   given up.
//! - Reports of directories: after 2,048 of one owner (or in one tree) in ten seconds, its
//!   directories are looked at again after pauses of 1 to 32 seconds.
//! - Closed files that wait for the caller: 16,384 of one site, 65,536 in all. With more,
//!   [`RescanReason::Overflow`] follows.

mod closed_files;
mod engine;
#[cfg(test)]
#[path = "../tests/machine/inotify.rs"]
pub(crate) mod inotify_instances;
mod listing_queue;
mod rate;
mod root;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Stat;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use self::engine::WatchEngine;
pub(crate) use self::root::Root;
pub use self::root::{RootError, check_root};
pub use crate::names::Place;
use crate::spool::Reason;

/// After how long a service that watches reports that it is ready, although its first walk is not
/// over: a tree of millions of directories takes longer than a service manager waits.
pub(crate) const READY_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// Which files a [`Watcher`] reports.
///
/// A caller that also walks the tree by [`crate::storage_dir::StorageDir::walk`] wants
/// [`ReportedFiles::New`]; one that relies on events alone wants [`ReportedFiles::All`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReportedFiles {
    /// None; directories of minutes are not watched then.
    #[default]
    None,
    /// Those closed after writing or moved in, and those found in a directory that has just
    /// appeared. The caller walks the tree itself on [`Event::Rescan`].
    New,
    /// The same, and whenever the tree is walked every file in it.
    All,
}

/// What a [`Watcher`] reports.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Report directories ([`Event::Directory`]) and what is refused ([`Event::Ignored`]), as a
    /// keeper of permissions needs. Default `false`.
    pub directories: bool,
    /// Report files ([`Event::File`]).
    pub files: ReportedFiles,
    /// Walk the tree again after this time ([`RescanReason::Periodic`]), as a safety net. Default
    /// `None`: never.
    pub rescan_after: Option<Duration>,
    /// User whose directories several sites use, besides root and the owner of the storage
    /// directory: it has no bounds that one of them could use up.
    pub trusted_owner: Option<u32>,
}

/// What has happened in the storage directory. Paths are relative to it.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// A directory appeared, its mode or owner changed, or it was found when the tree was walked.
    Directory(Directory),
    /// A file in the directory of a minute was closed after writing, moved in, or found.
    ///
    /// Any name and any type except directory: the caller opens it without following links.
    File(PathBuf),
    /// Something was left alone, and is not watched.
    Ignored {
        /// Where it is.
        path: PathBuf,
        /// Why.
        reason: Reason,
    },
    /// Everything that existed when this is reported should be looked at, for the reason given.
    ///
    /// It comes after the tree has been walked: every directory is watched again, and reported if
    /// asked for. It is the first event that tells a caller that watching has begun.
    Rescan(RescanReason),
    /// The storage directory cannot be used. The watcher waits for it, and reports
    /// [`Event::Rescan`] with [`RescanReason::Returned`] once it is there (again). Reported once
    /// for each cause.
    Lost(RootError),
}

/// A directory whose path fits the templates, held open.
#[derive(Debug)]
#[non_exhaustive]
pub struct Directory {
    /// Path below the storage directory.
    pub path: PathBuf,
    /// What the directory is for.
    pub place: Place,
    /// The directory itself, for `fstat`, `fchmod` and `fchown`. It was opened component by
    /// component without following a link, and is on the storage directory's file system.
    pub handle: OwnedFd,
}

/// Why a caller should look at the whole tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RescanReason {
    /// Watching has begun.
    Started,
    /// The storage directory is there (again).
    Returned,
    /// The kernel dropped events: `fs.inotify.max_queued_events` was reached.
    Overflow,
    /// Not every directory can be watched: `fs.inotify.max_user_watches` (or memory, or open
    /// files) is exhausted. Repeated every half minute while it lasts.
    Limit,
    /// [`Options::rescan_after`] has passed.
    Periodic,
    /// [`Watcher::rescan`] was called.
    Asked,
}

impl fmt::Display for RescanReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "watching has begun",
            Self::Returned => "the storage directory is there",
            Self::Overflow => "events were lost: raise fs.inotify.max_queued_events",
            Self::Limit => {
                "not every directory can be watched: raise fs.inotify.max_user_watches, or the \
                 limit of open files"
            }
            Self::Periodic => "periodic check",
            Self::Asked => "check on request",
        })
    }
}

/// Why watching cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The kernel refuses another inotify instance.
    #[error(
        "cannot start inotify: raise fs.inotify.max_user_instances, or the limit of open files"
    )]
    Start(#[source] io::Error),
    /// Reading or waiting for events failed.
    #[error("cannot read inotify events")]
    Read(#[source] io::Error),
}

/// Watches a storage directory.
///
/// Use [`next`](Self::next) in a tokio runtime, [`wait`](Self::wait) without one, or
/// [`try_next`](Self::try_next) with a poll loop of your own on the descriptor ([`AsFd`]) that
/// calls it at least every [`patience`](Self::patience).
#[derive(Debug)]
pub struct Watcher {
    /// What does the work, without waiting.
    engine: WatchEngine,
    /// The inotify descriptor, registered with the runtime by the first call of [`Watcher::next`].
    readable: Option<AsyncFd<OwnedFd>>,
}

impl Watcher {
    /// Starts to watch the directory at `path`, which need not exist yet.
    ///
    /// # Errors
    ///
    /// [`WatchError::Start`]. What is wrong with the directory itself comes as [`Event::Lost`].
    pub fn new(path: &Path, options: Options) -> Result<Self, WatchError> {
        Ok(Self {
            engine: WatchEngine::new(path, options)?,
            readable: None,
        })
    }

    /// Returns the next event, as soon as there is one.
    ///
    /// Nothing is lost if the future is dropped before it is ready. Always use it in the same
    /// runtime, one with I/O and time enabled.
    ///
    /// # Errors
    ///
    /// [`WatchError::Read`] if inotify fails; trying again is of no use.
    pub async fn next(&mut self) -> Result<Event, WatchError> {
        loop {
            if let Some(event) = self.engine.try_next()? {
                return Ok(event);
            }
            let patience = self.engine.patience();
            let readable = match &self.readable {
                Some(readable) => readable,
                None => self
                    .readable
                    .insert(register(&self.engine).map_err(WatchError::Read)?),
            };
            if let Ok(guard) = timeout(patience, readable.readable()).await {
                // The next round reads until there is nothing left.
                guard.map_err(WatchError::Read)?.clear_ready();
            }
        }
    }

    /// Returns the next event, or `None` if there is none within `limit`. Blocks the thread.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn wait(&mut self, limit: Duration) -> Result<Option<Event>, WatchError> {
        let start = Instant::now();
        loop {
            if let Some(event) = self.engine.try_next()? {
                return Ok(Some(event));
            }
            let left = limit.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            let until = Timespec::try_from(left.min(self.engine.patience())).ok();
            let mut fds = [PollFd::new(&self.engine, PollFlags::IN)];
            match poll(&mut fds, until.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(WatchError::Read(errno.into())),
            }
        }
    }

    /// Returns an event if there is one now.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn try_next(&mut self) -> Result<Option<Event>, WatchError> {
        self.engine.try_next()
    }

    /// Returns how long a caller that waits on the descriptor may wait before it calls
    /// [`try_next`](Self::try_next) again: at most a second.
    pub fn patience(&self) -> Duration {
        self.engine.patience()
    }

    /// Walks the tree again, as if the kernel had dropped events. [`Event::Rescan`] with
    /// [`RescanReason::Asked`] says when that is done.
    pub fn rescan(&mut self) {
        self.engine.rescan(RescanReason::Asked);
    }

    /// Returns how many directories are watched.
    pub fn watched(&self) -> usize {
        self.engine.watched()
    }

    /// Returns `true` if the storage directory is there.
    pub(crate) fn has_root(&self) -> bool {
        self.engine.root.is_some()
    }

    /// Opens the directory at `relative` as [`Directory::handle`] is opened.
    pub(crate) fn open_below(&self, relative: &Path) -> Result<(OwnedFd, Stat), Reason> {
        let root = self.engine.root.as_ref().ok_or(Reason::Vanished)?;
        root.open_below(relative)
    }

    #[cfg(test)]
    pub(crate) fn lose_events(&mut self) {
        self.engine.lose_events();
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.engine.as_fd()
    }
}

/// Registers the inotify descriptor with the current tokio runtime.
///
/// # Errors
///
/// What dup(2) or `epoll_ctl(2)` said.
#[expect(
    deprecated,
    reason = "its successor is an unsafe function; what that demands holds for an `OwnedFd` that \
              nobody else can reach"
)]
pub(crate) fn register(inotify: &impl AsFd) -> io::Result<AsyncFd<OwnedFd>> {
    let own = inotify.as_fd().try_clone_to_owned()?;
    AsyncFd::with_interest(own, Interest::READABLE)
}

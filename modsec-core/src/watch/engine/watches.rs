//! Which directories are watched, for which events, and when that ends.
//!
//! | directory | events |
//! | --- | --- |
//! | storage directory | created, moved in or out; itself removed or moved |
//! | user, day | the same; mode or owner changed, if directories are asked for |
//! | minute | closed after writing, moved in: no entry is complete before |
//!
//! A watch is set by way of `/proc/self/fd/N` of the opened directory: `inotify_add_watch(2)` takes
//! a path, and at the directory's own path a site user could meanwhile have put a link to elsewhere.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use inotify::{WatchDescriptor, WatchMask};
use rustix::fs::Stat;
use tracing::{debug, warn};

use super::{Discovery, RETRY_EVERY, WatchEngine};
use crate::watch::root::Root;
use crate::watch::table::IDLE_SECONDS;
use crate::watch::{Place, RescanReason};

/// Watches for the trees of one user. A busy site needs about a hundred; root has some thousands to
/// hundred thousands (`fs.inotify.max_user_watches`), for all programs of the machine.
const MAX_OF_OWNER: usize = 1024;
/// Users about whom a warning is logged when they have used up their watches.
const MAX_WARNED: usize = 1024;

impl WatchEngine {
    /// Returns `true` if the directory at `path` should be watched.
    ///
    /// Minutes in the past that are met in a walk are not, because a day has 1,440 of them, nor
    /// what is in a directory that is itself not watched: its removal would not be noticed.
    pub(super) fn is_worth_watching(
        &self,
        path: &Path,
        place: Place,
        stat: &Stat,
        source: Discovery,
    ) -> bool {
        let is_in_watched = || {
            path.parent()
                .is_some_and(|parent| self.table.at(parent).is_some())
        };
        let recent = || {
            source != Discovery::Sweep
                || self.table.at(path).is_some()
                || stat.st_mtime > self.now.unix - IDLE_SECONDS
                || self.now.is_current(path, place)
        };
        match place {
            Place::Root | Place::User | Place::FlatDay => true,
            Place::UserDay => is_in_watched(),
            Place::UserMinute | Place::FlatMinute => is_in_watched() && recent(),
        }
    }

    /// Returns `true` if the owner of the tree may have another watch; warns once for each owner if
    /// not. The walks alone then find what happens in the directory.
    pub(super) fn has_room(&mut self, path: &Path, place: Place, stat: &Stat) -> bool {
        let uid = self.table.charged(path, place, stat);
        let is_bounded =
            place.is_in_user_tree() && !self.is_trusted(uid) && self.table.at(path).is_none();
        let has_room = !is_bounded || self.table.of_owner(uid) < MAX_OF_OWNER;
        if !has_room && self.warned_owners.len() < MAX_WARNED && self.warned_owners.insert(uid) {
            warn!(
                ?path,
                uid,
                watches = MAX_OF_OWNER,
                "too many directories of one owner: further ones are not watched, only checked \
                 with all others"
            );
        }
        has_room
    }

    /// Returns `true` for a user id whose directories many sites use, so that a bound on it would
    /// hit them all: root, the owner of the storage directory, and
    /// [`Options::trusted_owner`](crate::watch::Options).
    pub(super) fn is_trusted(&self, uid: u32) -> bool {
        let owner = self.root.as_ref().map(Root::owner);
        uid == 0 || [self.options.trusted_owner, owner].contains(&Some(uid))
    }

    /// Watches the directory `handle`, opened at `path`, for the events of `mask`; gives up another
    /// one if there are too many beside it.
    ///
    /// If the kernel refuses (`ENOSPC`: `fs.inotify.max_user_watches`), that is logged, and all
    /// directories are walked every half minute until it succeeds.
    pub(super) fn watch(
        &mut self,
        path: &Path,
        place: Place,
        handle: &OwnedFd,
        stat: &Stat,
        mask: WatchMask,
    ) {
        let mask = WatchMask::ONLYDIR | mask;
        // By way of the held descriptor, so that it is this directory whatever is at its path now.
        let held = format!("/proc/self/fd/{}", handle.as_raw_fd());
        match self.inotify.watches().add(held, mask) {
            Ok(wd) => {
                if self.table.at(path).is_some_and(|before| *before != wd) {
                    // Another directory has taken the place of one that was moved unseen.
                    self.unwatch_tree(path);
                }
                let excess = self.table.insert(&wd, path, place, stat, self.now);
                if let Some(path) = excess {
                    self.unwatch_tree(&path);
                }
            }
            Err(error) => {
                debug!(?path, %error, "directory not watched");
                self.limit_reached();
            }
        }
    }

    /// Returns the events to ask for in a directory for `place`, see the table of the module.
    pub(super) fn mask(&self, place: Place) -> WatchMask {
        if place.is_minute() {
            return WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO;
        }
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        // A keeper of directories must know when another process changes one. Those in the storage
        // directory are watched themselves: it must not report one user's endless changes as well.
        if self.options.directories && place != Place::Root {
            mask | WatchMask::ATTRIB
        } else {
            mask
        }
    }

    /// Asks for no more changes of mode and owner in the shared day at `path`, until it is opened
    /// again: one site user changes directories in it without end.
    pub(super) fn ignore_attributes(&mut self, path: &Path) {
        if let Some((handle, stat)) = self.opened(path) {
            let place = Place::FlatDay;
            let mask = self.mask(place).difference(WatchMask::ATTRIB);
            self.watch(path, place, &handle, &stat, mask);
        }
    }

    /// Ends watching the directory at `path` and all below it.
    pub(super) fn unwatch_tree(&mut self, path: &Path) {
        for wd in self.table.at_and_below(path) {
            self.unwatch(&wd);
        }
    }

    /// Logs once that not every directory can be watched, and has the tree walked in
    /// [`RETRY_EVERY`].
    pub(super) fn limit_reached(&mut self) {
        if self.retry_at.is_none() {
            warn!(watches = self.table.len(), "{}", RescanReason::Limit);
            self.retry_at = Some(Instant::now() + RETRY_EVERY);
        }
    }

    /// Ends one watch.
    pub(super) fn unwatch(&mut self, wd: &WatchDescriptor) {
        self.table.forget(wd);
        // Refused if the directory is gone already, and its watch with it.
        let _ = self.inotify.watches().remove(wd.clone());
    }
}

//! Which directories are watched, for what, and when that ends.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use inotify::{WatchDescriptor, WatchMask};
use rustix::fs::Stat;
use tracing::{debug, warn};

use super::{Engine, RETRY_EVERY, Source};
use crate::watch::root::Root;
use crate::watch::table::IDLE_SECONDS;
use crate::watch::{Place, RescanReason};

/// Watches for the trees of one user. A busy site needs about a hundred; root has a few thousand
/// to hundred thousands, for all programs of the machine.
const MAX_OF_OWNER: usize = 1024;
/// Users about whom that is said.
const MAX_TOLD: usize = 1024;

impl Engine {
    /// Old minutes met in a walk are not watched, because a day has 1440 of them, nor is what is in
    /// a directory that is not watched.
    pub(super) fn is_worth_watching(
        &self,
        path: &Path,
        place: Place,
        stat: &Stat,
        source: Source,
    ) -> bool {
        let is_in_watched = || {
            path.parent()
                .is_some_and(|parent| self.table.at(parent).is_some())
        };
        let recent = || {
            source != Source::Sweep
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

    /// Returns `true` if the owner of the tree may have another watch. Otherwise the walks alone
    /// find what happens in the directory.
    pub(super) fn has_room(&mut self, path: &Path, place: Place, stat: &Stat) -> bool {
        let uid = self.table.charged(path, place, stat);
        let is_bounded =
            place.is_in_user_tree() && !self.is_trusted(uid) && self.table.at(path).is_none();
        let has_room = !is_bounded || self.table.of_owner(uid) < MAX_OF_OWNER;
        if !has_room && self.full.len() < MAX_TOLD && self.full.insert(uid) {
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

    /// Returns `true` for a user whose directories many sites use, or who owns the whole tree.
    pub(super) fn is_trusted(&self, uid: u32) -> bool {
        let owner = self.root.as_ref().map(Root::owner);
        uid == 0 || [self.options.trusted_owner, owner].contains(&Some(uid))
    }

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
                    self.give_up(path);
                }
                let excess = self.table.insert(&wd, path, place, stat, self.now);
                if let Some(path) = excess {
                    self.give_up(&path);
                }
            }
            Err(error) => {
                debug!(?path, %error, "directory not watched");
                self.limited();
            }
        }
    }

    pub(super) fn mask(&self, place: Place) -> WatchMask {
        if place.is_minute() {
            return WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO;
        }
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            | WatchMask::MOVED_FROM
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        // Whoever looks after directories wants to know when somebody else changes one. Those in the
        // storage directory are watched themselves: it must not tell of one user's endless changes.
        if self.options.directories && place != Place::Root {
            mask | WatchMask::ATTRIB
        } else {
            mask
        }
    }

    /// Wants to hear no more of changed modes and owners in the shared day at `path` until it is
    /// opened again.
    pub(super) fn hush(&mut self, path: &Path) {
        if let Some((handle, stat)) = self.opened(path) {
            let place = Place::FlatDay;
            let mask = self.mask(place).difference(WatchMask::ATTRIB);
            self.watch(path, place, &handle, &stat, mask);
        }
    }

    /// Ends watching the directory at `path` and those below it.
    pub(super) fn give_up(&mut self, path: &Path) {
        for wd in self.table.at_and_below(path) {
            self.release(&wd);
        }
    }

    pub(super) fn limited(&mut self) {
        if self.retry_at.is_none() {
            warn!(watches = self.table.len(), "{}", RescanReason::Limit);
            self.retry_at = Some(Instant::now() + RETRY_EVERY);
        }
    }

    pub(super) fn release(&mut self, wd: &WatchDescriptor) {
        self.table.forget(wd);
        // Refused if the directory is gone already, and its watch with it.
        let _ = self.inotify.watches().remove(wd.clone());
    }
}

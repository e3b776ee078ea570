//! How far files of several entries were taken, and which of them were left in the middle.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::serial_log::appended::{MAX_RECORDS, Places};
use crate::storage_dir::Identity;

/// Files in the middle of which it is remembered where to go on, one of each owner.
const MAX_LEFT: usize = 64;
/// Records of all of them, for each of which 4 bytes are held.
const MAX_PLACES: usize = 4 * MAX_RECORDS;

/// How far a file was taken, and whether it stays. A file of one entry has no places.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Where the entries are.
    pub(super) places: Places,
    /// Entries that are safe, or for which the file stays.
    done: AtomicUsize,
    /// Whether the file is not to be removed.
    stays: AtomicBool,
    /// Whether it stays for another try.
    again: AtomicBool,
}

impl Progress {
    /// Of a file with entries at these places.
    pub(super) fn new(places: Places) -> Progress {
        Progress {
            places,
            ..Progress::default()
        }
    }

    /// Returns how many entries an earlier pass has taken.
    pub(super) fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Marks the file as one that stays; returns `false` if it was marked before.
    pub(super) fn stay(&self) -> bool {
        !self.stays.swap(true, Ordering::Relaxed)
    }

    /// Marks the file as one that stays until all of it is stored.
    pub(super) fn stay_for_another_try(&self) {
        self.stays.store(true, Ordering::Relaxed);
        self.again.store(true, Ordering::Relaxed);
    }

    /// Returns `true` if the file stays where it is.
    pub(super) fn stays(&self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    /// Returns `true` if the file stays and nothing more is to be had from it.
    pub(super) fn stays_for_good(&self) -> bool {
        self.stays() && !self.again.load(Ordering::Relaxed)
    }
}

/// Where files were left in the middle. Clones share it.
///
/// After another start of the program a file is taken from its beginning; what is stored of it is
/// known by its hash.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOff(Arc<Mutex<HashMap<u32, LeftFile>>>);

/// A file that was left in the middle.
#[derive(Debug)]
struct LeftFile {
    /// By which it is recognized: if it was changed since, it is begun anew.
    identity: Identity,
    /// How far it was taken.
    progress: Arc<Progress>,
    /// When it was left; the oldest is forgotten first.
    at: Instant,
}

impl LeftOff {
    /// Returns how far the file of `owner` was taken, if it was left in the middle.
    pub(super) fn recall(&self, owner: u32, identity: &Identity) -> Option<Arc<Progress>> {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.get(&owner).filter(|left| left.identity == *identity)?;
        Some(Arc::clone(&left.progress))
    }

    /// Remembers the file of `owner`, of which `done` entries are safe; returns by how many it has
    /// got on. Of too many owners or records, the files that were left first are forgotten.
    pub(super) fn remember(
        &self,
        owner: u32,
        identity: Identity,
        progress: &Arc<Progress>,
        done: usize,
    ) -> usize {
        let before = progress.done.swap(done, Ordering::Relaxed);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&owner);
        let places = |left: &LeftFile| left.progress.places.len();
        while all.len() >= MAX_LEFT
            || all.values().map(places).sum::<usize>() + progress.places.len() > MAX_PLACES
        {
            let oldest = all.iter().min_by_key(|(_, left)| left.at);
            let Some(uid) = oldest.map(|(uid, _)| *uid) else {
                break;
            };
            all.remove(&uid);
        }
        let left = LeftFile {
            identity,
            progress: Arc::clone(progress),
            at: Instant::now(),
        };
        all.insert(owner, left);
        done.saturating_sub(before)
    }

    /// Forgets the file of `owner`, which is at its end.
    pub(super) fn forget(&self, owner: u32, identity: &Identity) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all
            .get(&owner)
            .is_some_and(|left| left.identity == *identity)
        {
            all.remove(&owner);
        }
    }
}

//! The rows of a file to which libmodsecurity has appended several records.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::read::{self, CutEntries, Extent, NoRow, ReadRow};
use super::rows::Rows as RowMaker;
use crate::heartbeat::Heartbeat;
use crate::record::Flags;
use crate::storage_dir::Identity;
use crate::store::Origin;

/// Files in the middle of which it is remembered where to go on, one of each owner.
const MAX_LEFT: usize = 64;

/// How far a file was taken, and whether it stays. A file of one entry has no places.
#[derive(Debug, Default)]
pub(super) struct Progress {
    places: Vec<Range<u64>>,
    /// Entries that are safe, or for which the file stays.
    done: AtomicUsize,
    stays: AtomicBool,
    /// Whether it stays for another try.
    again: AtomicBool,
}

impl Progress {
    pub(super) fn new(places: Vec<Range<u64>>) -> Progress {
        Progress {
            places,
            ..Progress::default()
        }
    }

    /// Lets the file stay; returns `false` if it stayed before.
    pub(super) fn stay(&self) -> bool {
        !self.stays.swap(true, Ordering::Relaxed)
    }

    pub(super) fn stay_for_another_try(&self) {
        self.stays.store(true, Ordering::Relaxed);
        self.again.store(true, Ordering::Relaxed);
    }

    pub(super) fn stays(&self) -> bool {
        self.stays.load(Ordering::Relaxed)
    }

    pub(super) fn stays_for_good(&self) -> bool {
        self.stays() && !self.again.load(Ordering::Relaxed)
    }
}

/// Where files were left in the middle.
///
/// After another start of the program a file is taken from its beginning; what is stored of it is
/// known by its hash.
#[derive(Debug, Clone, Default)]
pub(super) struct LeftOff(Arc<Mutex<HashMap<u32, Left>>>);

#[derive(Debug)]
struct Left {
    identity: Identity,
    progress: Arc<Progress>,
    at: Instant,
}

impl LeftOff {
    /// Returns how far the file of `owner` was taken, if it was left in the middle.
    pub(super) fn recall(&self, owner: u32, identity: &Identity) -> Option<Arc<Progress>> {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = left.get(&owner).filter(|left| left.identity == *identity)?;
        Some(Arc::clone(&left.progress))
    }

    /// Remembers the file of `owner`; returns by how many entries it has got on.
    pub(super) fn remember(
        &self,
        owner: u32,
        identity: Identity,
        progress: &Arc<Progress>,
        done: usize,
    ) -> usize {
        let before = progress.done.swap(done, Ordering::Relaxed);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_LEFT && !all.contains_key(&owner) {
            let oldest = all.iter().min_by_key(|(_, left)| left.at);
            if let Some(uid) = oldest.map(|(uid, _)| *uid) {
                all.remove(&uid);
            }
        }
        let left = Left {
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

/// The entries of a file, which are decoded one at a time: all rows of one file would fill the
/// memory, and take as long as the file is large.
#[derive(Debug)]
pub(super) struct Several {
    pub(super) held: Held,
    pub(super) progress: Arc<Progress>,
    /// How many were handed out, now and before.
    pub(super) taken: usize,
    pub(super) origin: Origin,
    pub(super) if_cut: CutEntries,
    pub(super) make: RowMaker,
    pub(super) heartbeat: Heartbeat,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Held {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Several {
    /// Goes on where the file was left. The last entry must be finished and readable.
    pub(super) fn begin(mut self) -> Result<Several, NoRow> {
        self.taken = self.progress.done.load(Ordering::Relaxed);
        if let Some(last) = self.progress.places.last() {
            match self.decode(last) {
                Ok(_) | Err(NoRow::Defect(_)) => {}
                Err(wait) => return Err(wait),
            }
        }
        Ok(self)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.taken >= self.progress.places.len()
    }

    fn decode(&self, entry: &Range<u64>) -> Result<ReadRow, NoRow> {
        let (origin, if_cut) = (self.origin.clone(), self.if_cut);
        match &self.held {
            Held::Memory(bytes) => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                let entry = bytes.get(index(entry.start)..index(entry.end));
                let entry = entry.unwrap_or_default().to_vec();
                read::row(entry, Flags::none(), origin, if_cut, &self.make)
            }
            Held::File(file) => {
                let extent = Extent {
                    file: Arc::clone(file),
                    start: entry.start,
                    len: entry.end - entry.start,
                    flags: Flags::none(),
                };
                read::large_row(extent, origin, if_cut, &self.make, &self.heartbeat)
            }
        }
    }
}

impl Iterator for Several {
    type Item = Result<ReadRow, NoRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.progress.places.get(self.taken)?.clone();
        // Before it is decoded, which may panic.
        self.taken += 1;
        Some(self.decode(&place))
    }
}

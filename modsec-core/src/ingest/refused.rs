//! Files that were read and are no entries, remembered by what they are.
//!
//! They stay where they are, and every walk meets them again. As long as inode, size and times are
//! the same there is nothing new to read in them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use crate::storage_dir::Look;

/// Files remembered: five megabytes at most. Whoever has the most gives way to the others.
const MAX: usize = 100_000;

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has no end yet.
    Incomplete,
    /// It is no entry, or one of several in it is none.
    NotAnAuditLog,
    /// It has holes.
    Sparse,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    verdict: Verdict,
    /// The walk that has met it last.
    walk: u8,
}

/// What is remembered, by owner.
///
/// Files are known by a keyed hash of their identity. That two share one among all that are
/// remembered is as likely as 1 in 10^14; the second would stay until the next start.
#[derive(Debug, Default)]
pub(super) struct Refused {
    owners: HashMap<u32, HashMap<u64, Known>>,
    total: usize,
    walk: u8,
    hasher: RandomState,
}

impl Refused {
    /// Returns what the file turned out to be, if it is remembered and the same since.
    pub(super) fn recall(&mut self, look: &Look) -> Option<Verdict> {
        let hash = self.hasher.hash_one(look.identity);
        let known = self.owners.get_mut(&look.uid)?.get_mut(&hash)?;
        known.walk = self.walk;
        Some(known.verdict)
    }

    /// Remembers what was read after `look`.
    pub(super) fn remember(&mut self, look: &Look, verdict: Verdict) {
        if self.total >= MAX && !self.make_room(look.uid) {
            return;
        }
        let hash = self.hasher.hash_one(look.identity);
        let walk = self.walk;
        let known = self.owners.entry(look.uid).or_default();
        let before = known.insert(hash, Known { verdict, walk });
        self.total += usize::from(before.is_none());
    }

    /// Returns how many files are remembered.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// Forgets half of what the owner with the most has, unless that is `uid`.
    fn make_room(&mut self, uid: u32) -> bool {
        let own = self.owners.get(&uid).map_or(0, HashMap::len);
        let most = self.owners.values_mut().max_by_key(|known| known.len());
        let Some(most) = most.filter(|known| known.len() > own) else {
            return false;
        };
        let before = most.len();
        let mut keep = false;
        most.retain(|_, _| {
            keep = !keep;
            keep
        });
        most.shrink_to_fit();
        self.total -= before - most.len();
        true
    }

    /// Forgets what the walk that ends has not met.
    pub(super) fn end_of_walk(&mut self) {
        let walk = self.walk;
        self.owners.retain(|_, known| {
            known.retain(|_, known| known.walk == walk);
            known.shrink_to(2 * known.len());
            !known.is_empty()
        });
        self.total = self.owners.values().map(HashMap::len).sum();
        self.walk = walk.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::storage_dir::StorageDir;

    /// Looks at a file of `size` bytes as if `uid` were its owner.
    fn look(path: &std::path::Path, uid: u32) -> Look {
        let storage = StorageDir::open(path).unwrap();
        let file = storage.walk().flat_map(|dir| dir.files()).next().unwrap();
        let (look, refused) = file.look().unwrap();
        assert!(refused.is_none());
        Look { uid, ..look }
    }

    fn sized(look: Look, size: u64) -> Look {
        let mut look = look;
        look.identity.set_size(size);
        look
    }

    fn tree() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let minute = dir.path().join("20260304/20260304-0506");
        fs::create_dir_all(&minute).unwrap();
        let path = minute.join("20260304-050607-x");
        fs::write(&path, "no entry").unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_is_known_until_anything_of_it_changes() {
        let (dir, path) = tree();
        let mut refused = Refused::default();
        let first = look(dir.path(), 1);
        assert_eq!(refused.recall(&first), None);
        refused.remember(&first, Verdict::NotAnAuditLog);
        assert_eq!(refused.recall(&first), Some(Verdict::NotAnAuditLog));
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "an entry").unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(times)
            .unwrap();
        assert_eq!(refused.recall(&look(dir.path(), 1)), None);
    }

    #[test]
    fn what_a_walk_has_not_met_is_forgotten() {
        let (dir, _path) = tree();
        let mut refused = Refused::default();
        let (kept, gone) = (look(dir.path(), 1), sized(look(dir.path(), 1), 77));
        for look in [&kept, &gone] {
            refused.remember(look, Verdict::Sparse);
        }
        refused.end_of_walk();
        assert_eq!(refused.recall(&kept), Some(Verdict::Sparse));
        refused.end_of_walk();
        assert_eq!(refused.recall(&gone), None);
        assert_eq!((refused.total, refused.owners.len()), (1, 1));
    }

    #[test]
    fn whoever_has_the_most_gives_way_and_the_bound_holds() {
        let (dir, _path) = tree();
        let mut refused = Refused::default();
        let look = look(dir.path(), 1);
        for size in 0..MAX as u64 + 500 {
            refused.remember(&sized(look, size), Verdict::NotAnAuditLog);
        }
        assert_eq!(refused.total, MAX);
        let other = Look { uid: 2, ..look };
        for size in 0..1000 {
            refused.remember(&sized(other, size), Verdict::NotAnAuditLog);
        }
        assert!(refused.total <= MAX);
        for size in 0..1000 {
            assert!(refused.recall(&sized(other, size)).is_some());
        }
    }
}

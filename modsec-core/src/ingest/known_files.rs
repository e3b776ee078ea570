//! Files that were read and are no entries, remembered by what they are.
//!
//! They stay where they are, and every walk meets them again. As long as inode, size and times are
//! the same there is nothing new to read in them.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::format::{Defect, Wrapping};
use crate::storage_dir::Look;

/// Files remembered: five megabytes at most. Whoever has the most gives way to the others.
const MAX: usize = 100_000;

/// What a file turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileVerdict {
    /// It has no end yet.
    Incomplete,
    /// It is no entry, or one of several in it is none.
    NotAnAuditLog,
    /// It is, in a form that is not read.
    NotRead(NotRead),
    /// It has holes.
    Sparse,
}

/// In which form an audit log is not read. Nobody is told to remove such a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum NotRead {
    /// In another encoding, or with other text around it, such as the header of syslog.
    Wrapped(Wrapping),
    /// Events of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// Lines about entries, as `SecAuditLogType Concurrent` writes them to `SecAuditLog`.
    Index,
    /// JSON, which this build cannot read.
    BuiltWithoutJson,
}

impl NotRead {
    /// Returns the form; `None` if the file is no audit log.
    pub(super) fn of(defect: &Defect) -> Option<NotRead> {
        match *defect {
            Defect::Wrapped { by } => Some(NotRead::Wrapped(by)),
            Defect::Ocsf => Some(NotRead::Ocsf),
            Defect::Index => Some(NotRead::Index),
            Defect::BuiltWithoutJson => Some(NotRead::BuiltWithoutJson),
            Defect::Empty
            | Defect::NotAnAuditLog { .. }
            | Defect::UnknownJson { .. }
            | Defect::Zeros => None,
        }
    }

    /// Returns what says so in words.
    pub(super) fn defect(self) -> Defect {
        match self {
            NotRead::Wrapped(by) => Defect::Wrapped { by },
            NotRead::Ocsf => Defect::Ocsf,
            NotRead::Index => Defect::Index,
            NotRead::BuiltWithoutJson => Defect::BuiltWithoutJson,
        }
    }
}

/// A file as it was before it was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Met {
    /// Identity, size, times and owner, from a look at the name.
    pub(super) look: Look,
    /// Whether it may be remembered by what it is.
    pub(super) is_settled: bool,
}

/// What is remembered from one pass to the next, by owner. Clones share it.
///
/// Files are known by a keyed hash of their identity. That two share one among all that are
/// remembered is as likely as 1 in 10^14; the second would stay until the next start.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownFiles(Arc<Mutex<Owners>>);

/// One remembered file.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// What it turned out to be.
    verdict: FileVerdict,
    /// The walk that has met it last.
    walk: u8,
}

/// What is remembered, by owner.
#[derive(Debug, Default)]
struct Owners {
    /// By user id, then by the keyed hash of the identity.
    files: HashMap<u32, HashMap<u64, Known>>,
    /// Files over all owners; [`MAX`] at the most.
    total: usize,
    /// The number of the walk at hand; it wraps around.
    walk: u8,
    /// The key of the hash, new with each start, so that nobody can provoke equal hashes.
    hasher: RandomState,
}

impl KnownFiles {
    /// Returns what the file turned out to be, if it is remembered and the same since.
    pub(super) fn recall(&self, look: &Look) -> Option<FileVerdict> {
        let mut all = self.lock();
        let (hash, walk) = (all.hasher.hash_one(look.identity), all.walk);
        let known = all.files.get_mut(&look.uid)?.get_mut(&hash)?;
        known.walk = walk;
        Some(known.verdict)
    }

    /// Remembers what the file turned out to be, if it was met and may be remembered.
    pub(super) fn remember(&self, met: Option<Met>, verdict: FileVerdict) {
        let Some(Met { look, .. }) = met.filter(|met| met.is_settled) else {
            return;
        };
        let mut all = self.lock();
        if all.total >= MAX && !all.make_room(look.uid) {
            return;
        }
        let (hash, walk) = (all.hasher.hash_one(look.identity), all.walk);
        let known = all.files.entry(look.uid).or_default();
        let before = known.insert(hash, Known { verdict, walk });
        all.total += usize::from(before.is_none());
    }

    /// Returns how many files are remembered.
    pub(super) fn len(&self) -> usize {
        self.lock().total
    }

    /// Forgets what the walk that ends has not met.
    pub(super) fn end_of_walk(&self) {
        let mut all = self.lock();
        let walk = all.walk;
        all.files.retain(|_, known| {
            known.retain(|_, known| known.walk == walk);
            known.shrink_to(2 * known.len());
            !known.is_empty()
        });
        all.total = all.files.values().map(HashMap::len).sum();
        all.walk = walk.wrapping_add(1);
    }

    /// Locks what is remembered. After a panic of another thread it is still usable: at worst a
    /// file is read once more.
    fn lock(&self) -> MutexGuard<'_, Owners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owners {
    /// Forgets half of what the owner with the most has, unless that is `uid`.
    fn make_room(&mut self, uid: u32) -> bool {
        let own = self.files.get(&uid).map_or(0, HashMap::len);
        let most = self.files.values_mut().max_by_key(|known| known.len());
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

    fn met(look: &Look) -> Met {
        Met {
            look: *look,
            is_settled: true,
        }
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
        let known = KnownFiles::default();
        let first = look(dir.path(), 1);
        assert_eq!(known.recall(&first), None);
        known.remember(Some(met(&first)), FileVerdict::NotAnAuditLog);
        assert_eq!(known.recall(&first), Some(FileVerdict::NotAnAuditLog));
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "an entry").unwrap();
        fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(times)
            .unwrap();
        assert_eq!(known.recall(&look(dir.path(), 1)), None);
    }

    #[test]
    fn what_a_walk_has_not_met_is_forgotten() {
        let (dir, _path) = tree();
        let known = KnownFiles::default();
        let (kept, gone) = (look(dir.path(), 1), sized(look(dir.path(), 1), 77));
        for look in [&kept, &gone] {
            known.remember(Some(met(look)), FileVerdict::Sparse);
        }
        known.end_of_walk();
        assert_eq!(known.recall(&kept), Some(FileVerdict::Sparse));
        known.end_of_walk();
        assert_eq!(known.recall(&gone), None);
        assert_eq!((known.len(), known.lock().files.len()), (1, 1));
    }

    #[test]
    fn whoever_has_the_most_gives_way_and_the_bound_holds() {
        let (dir, _path) = tree();
        let known = KnownFiles::default();
        let look = look(dir.path(), 1);
        for size in 0..MAX as u64 + 500 {
            known.remember(Some(met(&sized(look, size))), FileVerdict::NotAnAuditLog);
        }
        assert_eq!(known.len(), MAX);
        let other = Look { uid: 2, ..look };
        for size in 0..1000 {
            known.remember(Some(met(&sized(other, size))), FileVerdict::NotAnAuditLog);
        }
        assert!(known.len() <= MAX);
        for size in 0..1000 {
            assert!(known.recall(&sized(other, size)).is_some());
        }
    }
}

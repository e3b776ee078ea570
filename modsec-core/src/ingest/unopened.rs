//! What a look is enough for: files that are left where they are without being opened.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::io::Errno;

use super::Options;
use super::known_files::{FileVerdict, KnownFiles, Met, NotRead};
use super::tally::DefectReason;
use crate::storage_dir::holes::MAX_HOLES;
use crate::storage_dir::renew;
use crate::storage_dir::{EntryFile, LeftAlone, Reason, Refusal};

/// How long nothing must have happened to a file before it is remembered by its times: those of a
/// file that is written twice within milliseconds may be the same.
const SETTLED: Duration = Duration::from_secs(1);
/// Owners whose files are counted one by one.
const MAX_OWNERS: usize = 1024;

/// From which age on a file is taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ages {
    /// When the pass began.
    pub(super) now: DateTime<Utc>,
    /// Of a complete file.
    pub(super) min: Duration,
    /// Of an incomplete one.
    pub(super) stale: Duration,
}

impl Ages {
    /// Returns the ages of a pass that begins now.
    pub(super) fn new(options: &Options) -> Ages {
        Ages {
            now: Utc::now(),
            min: options.min_age,
            stale: options.stale_after,
        }
    }

    /// Returns how long ago a file was touched last.
    pub(super) fn of(&self, changed: DateTime<Utc>) -> Duration {
        let age = self.now.signed_duration_since(changed);
        age.to_std().unwrap_or_default()
    }
}

/// What a look says about a file.
#[derive(Debug)]
pub(super) enum Sight {
    /// Only opening it tells more.
    Open(Option<Met>),
    /// It stays where it is; its owner.
    Left(u32),
    /// It was removed or renamed since its name was listed.
    Gone,
}

/// Files of one owner that stay where they are.
#[derive(Debug, Clone, Default)]
pub(super) struct FileCount {
    /// How many.
    pub(super) count: u64,
    /// One of them.
    pub(super) example: PathBuf,
}

/// Counts files by owner. Of so many owners that their number must be bounded the last count as
/// one, `None`.
#[derive(Debug, Default)]
pub(super) struct ByOwner(BTreeMap<Option<u32>, FileCount>);

impl ByOwner {
    /// Counts `count` files, of which `example` is one.
    pub(super) fn add(&mut self, uid: u32, count: u64, example: impl FnOnce() -> PathBuf) {
        self.count(Some(uid), count, example);
    }

    /// Adds what `other` has counted.
    pub(super) fn merge(&mut self, other: ByOwner) {
        for (uid, files) in other.0 {
            self.count(uid, files.count, || files.example);
        }
    }

    /// Counts files of `uid`. If there are [`MAX_OWNERS`] already and this is another one, its
    /// files count for `None`. The first file of an owner is the example.
    fn count(&mut self, uid: Option<u32>, count: u64, example: impl FnOnce() -> PathBuf) {
        let is_known = self.0.contains_key(&uid);
        let uid = uid.filter(|_| is_known || self.0.len() < MAX_OWNERS);
        let files = self.0.entry(uid).or_insert_with(|| FileCount {
            count: 0,
            example: example(),
        });
        files.count += count;
    }

    /// Returns the owners and what was counted for them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Option<u32>, &FileCount)> {
        self.0.iter().map(|(uid, files)| (*uid, files))
    }
}

/// What was left in one pass.
#[derive(Debug, Default)]
pub(super) struct Unopened {
    /// Files that are too young, empty and new, or incomplete.
    pub(super) waiting: u64,
    /// Files that are no entries, by reason and owner.
    pub(super) defects: BTreeMap<DefectReason, ByOwner>,
    /// Audit logs in a form that is not read, by form and owner.
    pub(super) not_read: BTreeMap<NotRead, ByOwner>,
    /// Files that may not be opened or have too many holes.
    pub(super) refused: LeftAlone,
    /// The same files, by owner.
    pub(super) refused_of: ByOwner,
    /// Files from before the clock was set back, which are as old as the pass now.
    pub(super) renewed: FileCount,
    /// Files with a time in the future that stays.
    pub(super) ahead: FileCount,
}

impl Unopened {
    /// Looks at `file`. If nothing more is to be learnt about it, counts it.
    pub(super) fn look(&mut self, file: &EntryFile, ages: &Ages, known: &KnownFiles) -> Sight {
        let (look, refused) = match file.look() {
            Ok(seen) => seen,
            Err(Errno::NOENT) => return Sight::Gone,
            // Opening it tells what is wrong.
            Err(_) => return Sight::Open(None),
        };
        if let Some(reason) = refused {
            self.refuse(file, look.uid, reason);
            return Sight::Left(look.uid);
        }
        if !file.is_claimed() && renew::is_ahead(look.changed(), ages.now) {
            self.renew(file);
            return Sight::Left(look.uid);
        }
        let age = ages.of(look.changed());
        let may_grow = age < ages.stale;
        match known.recall(&look) {
            _ if age < ages.min && !file.is_claimed() => self.waiting += 1,
            Some(FileVerdict::Incomplete) | None if may_grow && look.size() == 0 => {
                self.waiting += 1;
            }
            Some(FileVerdict::Incomplete) if may_grow => self.waiting += 1,
            _ if look.size() == 0 => self.defect(DefectReason::Empty, file, look.uid),
            Some(FileVerdict::NotAnAuditLog) => {
                self.defect(DefectReason::NotAnAuditLog, file, look.uid);
            }
            Some(FileVerdict::NotRead(form)) => {
                let of = self.not_read.entry(form).or_default();
                of.add(look.uid, 1, || file.path());
            }
            Some(FileVerdict::Sparse) => {
                self.refuse(file, look.uid, Reason::Sparse { holes: MAX_HOLES });
            }
            Some(FileVerdict::Incomplete) | None => {
                return Sight::Open(Some(Met {
                    look,
                    is_settled: age >= SETTLED,
                }));
            }
        }
        Sight::Left(look.uid)
    }

    /// Sets the time of change of a file from the future to now, so that its age begins; a later
    /// pass takes it. If the clock of the file system is ahead, the file is left as it is.
    fn renew(&mut self, file: &EntryFile) {
        self.waiting += 1;
        let files = match file.renew() {
            Ok(true) => &mut self.renewed,
            // A dry run.
            Err(Refusal {
                reason: Reason::NotLocked,
                ..
            }) => return,
            Ok(false) | Err(_) => &mut self.ahead,
        };
        if files.count == 0 {
            files.example = file.path();
        }
        files.count += 1;
    }

    /// Counts a file that was recognized as no entry.
    fn defect(&mut self, reason: DefectReason, file: &EntryFile, uid: u32) {
        let of = self.defects.entry(reason).or_default();
        of.add(uid, 1, || file.path());
    }

    /// Counts a file that is left alone, by reason and by owner.
    fn refuse(&mut self, file: &EntryFile, uid: u32, reason: Reason) {
        self.refused_of.add(uid, 1, || file.path());
        self.refused.add(Refusal {
            path: file.path(),
            reason,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;

    use chrono::TimeDelta;

    use super::*;
    use crate::storage_dir::StorageDir;

    #[test]
    fn a_file_from_the_future_is_renewed_only_by_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let minute = dir.path().join("20260304/20260304-0506");
        fs::create_dir_all(&minute).unwrap();
        let path = minute.join("20260304-050607-x");
        fs::write(&path, "x").unwrap();
        let changed = || {
            let meta = fs::metadata(&path).unwrap();
            (meta.ctime(), meta.ctime_nsec())
        };
        let before = changed();
        let mut storage = StorageDir::open(dir.path()).unwrap();
        let ages = |now| Ages {
            now,
            min: Duration::from_secs(2),
            stale: Duration::from_secs(600),
        };
        let look = |storage: &StorageDir, now| {
            let file = storage.walk().flat_map(|dir| dir.files()).next().unwrap();
            let mut unopened = Unopened::default();
            let glance = unopened.look(&file, &ages(now), &KnownFiles::default());
            let counts = (unopened.renewed.count, unopened.ahead.count);
            (matches!(glance, Sight::Open(_)), unopened.waiting, counts)
        };
        let an_hour_ago = Utc::now() - TimeDelta::hours(1);
        // A dry run changes nothing.
        assert_eq!(look(&storage, an_hour_ago), (false, 1, (0, 0)));
        assert_eq!(changed(), before);
        storage = StorageDir::open(dir.path()).unwrap();
        storage.lock().unwrap();
        // As far as clocks of two hosts differ, it passes.
        let a_moment_ago = Utc::now() - TimeDelta::seconds(30);
        assert_eq!(look(&storage, a_moment_ago), (false, 1, (0, 0)));
        assert_eq!(changed(), before);
        assert_eq!(look(&storage, an_hour_ago), (false, 1, (1, 0)));
        assert_ne!(changed(), before);
        let soon = Utc::now() + TimeDelta::seconds(3);
        assert_eq!(look(&storage, soon), (true, 0, (0, 0)));
    }
}

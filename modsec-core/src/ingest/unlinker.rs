//! Removing stored files while the next batch is on its way.
//!
//! Removing is waiting for a disk, and so is storing. A batch is handed over only once it is safe,
//! so it does not matter when its files go, nor whether a crash comes first: the next pass knows
//! their hashes.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::open_dir::OpenDir;
use crate::crash_points;
use crate::heartbeat::Heartbeat;
use crate::storage_dir::{ReadEntry, Refusal};

/// A file of which everything is safe.
#[derive(Debug)]
pub(super) struct StoredFile {
    /// How to remove it, if it is to go.
    pub(super) file: Option<ReadEntry>,
    /// The directory that waits for it.
    pub(super) dir: Option<Arc<OpenDir>>,
}

/// What became of one batch of files.
#[derive(Debug, Default)]
pub(super) struct Removed {
    /// Files that are gone.
    pub(super) files: u64,
    /// Files that could not be removed, directories that could not be pruned.
    pub(super) refusals: Vec<Refusal>,
}

/// Threads, because an `unlink` waits while the file system commits its journal, which each sync of
/// the database and of the log makes it do.
const THREADS: usize = 2;

/// Threads that remove one batch after the other.
#[derive(Debug)]
pub(super) struct Unlinker {
    /// Hands batches to the threads. Dropping it ends them.
    batches: SyncSender<Vec<StoredFile>>,
    /// Receives what became of each batch, in the order in which they are done.
    results: Receiver<Removed>,
    /// Batches handed over and not heard of yet.
    pending: usize,
}

impl Unlinker {
    /// Starts the threads. They let `heartbeat` beat with each file.
    ///
    /// # Errors
    ///
    /// What the system said if a thread could not be started.
    pub(super) fn start(heartbeat: &Heartbeat) -> io::Result<Unlinker> {
        // One batch may wait: whoever is faster than the disk has to wait too.
        let (batches, waiting) = sync_channel::<Vec<StoredFile>>(1);
        let waiting = Arc::new(Mutex::new(waiting));
        let (done, results) = channel();
        for n in 0..THREADS {
            let (waiting, done, heartbeat) =
                (Arc::clone(&waiting), done.clone(), heartbeat.clone());
            let next = move || {
                waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .recv()
            };
            thread::Builder::new()
                .name(format!("remove-{n}"))
                .spawn(move || {
                    while let Ok(batch) = next() {
                        if done.send(remove(batch, &heartbeat)).is_err() {
                            return;
                        }
                    }
                })?;
        }
        Ok(Unlinker {
            batches,
            results,
            pending: 0,
        })
    }

    /// Hands a batch over, and returns what became of earlier ones. Waits if one is waiting
    /// already.
    pub(super) fn remove(&mut self, batch: Vec<StoredFile>) -> Vec<Removed> {
        // The threads end only with this handle.
        if self.batches.send(batch).is_ok() {
            self.pending += 1;
        }
        // Left for the end they would pile up: where nothing can be removed, with each path.
        let removed: Vec<Removed> = self.results.try_iter().collect();
        self.pending -= removed.len();
        removed
    }

    /// Waits until all that was handed over is removed, and returns what became of it.
    pub(super) fn finish(&mut self) -> Vec<Removed> {
        let results = self.results.iter().take(self.pending).collect();
        self.pending = 0;
        results
    }
}

/// Removes the files of one batch and lets their directories know. Files that stay are only counted
/// as done.
///
/// A failure stops nothing: it is returned with the others.
fn remove(batch: Vec<StoredFile>, heartbeat: &Heartbeat) -> Removed {
    let mut removed = Removed::default();
    for StoredFile { file, dir } in batch {
        heartbeat.beat();
        match file.map(|file| file.remove()) {
            Some(Ok(())) => {
                crash_points::pass("removed");
                removed.files += 1;
            }
            Some(Err(refusal)) => removed.refusals.push(refusal),
            None => {}
        }
        removed.refusals.extend(dir.and_then(|dir| dir.done()));
    }
    removed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::ingest::tests::minute;
    use crate::storage_dir::{PruneRules, Reason, StorageDir};

    fn storage(dir: &Path) -> StorageDir {
        let storage = StorageDir::open(dir).unwrap();
        storage.lock().unwrap();
        storage
    }

    /// Reads all files below `storage`, of which each directory is pruned by `rules`.
    fn read(
        storage: &StorageDir,
        rules: Option<&PruneRules>,
        pruned: &Arc<AtomicU64>,
    ) -> Vec<StoredFile> {
        let mut stored = Vec::new();
        for dir in storage.walk() {
            let files: Vec<_> = dir.files().collect();
            let dir = OpenDir::listed(dir, rules.cloned(), pruned);
            for file in files {
                dir.begin();
                let open = file.open(1 << 20).unwrap();
                stored.push(StoredFile {
                    file: Some(open.close()),
                    dir: Some(Arc::clone(&dir)),
                });
            }
            dir.done();
        }
        stored
    }

    #[test]
    fn a_file_that_was_replaced_or_written_to_since_it_was_read_stays() {
        let dir = tempfile::tempdir().unwrap();
        let [kept, replaced, grown] =
            ["kept", "replaced", "grown"].map(|name| minute(dir.path(), name));
        for path in [&kept, &replaced, &grown] {
            fs::write(path, "before").unwrap();
        }
        let storage = storage(dir.path());
        let stored = read(&storage, None, &Arc::default());
        let other = dir.path().join("other");
        fs::write(&other, "behind").unwrap();
        fs::rename(&other, &replaced).unwrap();
        fs::write(&grown, "before and behind").unwrap();
        let mut unlinker = Unlinker::start(&Heartbeat::default()).unwrap();
        let mut removed = unlinker.remove(stored);
        removed.extend(unlinker.finish());
        assert_eq!(removed.iter().map(|batch| batch.files).sum::<u64>(), 1);
        let refusals = removed.iter().flat_map(|batch| &batch.refusals);
        let reasons: Vec<_> = refusals.map(|refusal| &refusal.reason).collect();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(
            reasons
                .iter()
                .all(|reason| matches!(reason, Reason::Changed))
        );
        assert!(!kept.exists());
        assert_eq!(fs::read_to_string(&replaced).unwrap(), "behind");
        assert_eq!(fs::read_to_string(&grown).unwrap(), "before and behind");
    }

    #[test]
    fn all_that_was_handed_over_is_heard_of_and_a_directory_goes_with_its_last_file() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..60 {
            fs::write(minute(dir.path(), &n.to_string()), "x").unwrap();
        }
        // The newest directory stays in any case.
        fs::create_dir_all(dir.path().join("20261123/20261123-0000")).unwrap();
        let storage = storage(dir.path());
        let rules = PruneRules {
            now: chrono::Utc::now().fixed_offset() + chrono::TimeDelta::days(3650),
            min_age: chrono::TimeDelta::zero(),
            users: false,
            accounts: crate::storage_dir::AccountNames::default(),
        };
        let pruned = Arc::default();
        let mut stored = read(&storage, Some(&rules), &pruned);
        assert_eq!(stored.len(), 60);
        let mut unlinker = Unlinker::start(&Heartbeat::default()).unwrap();
        let mut removed = Vec::new();
        while !stored.is_empty() {
            removed.extend(unlinker.remove(stored.drain(..stored.len().min(7)).collect()));
        }
        removed.extend(unlinker.finish());
        assert_eq!(removed.len(), 9);
        assert_eq!(removed.iter().map(|batch| batch.files).sum::<u64>(), 60);
        assert_eq!(pruned.load(Ordering::Relaxed), 1);
        assert!(!dir.path().join("20261122/20261122-0640").exists());
        assert!(unlinker.finish().is_empty());
    }
}

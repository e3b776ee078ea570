//! Removing stored files while the next batch is on its way.
//!
//! Removing is waiting for a disk, and so is storing. A batch is handed over only once it is safe,
//! so it does not matter when its files go, nor whether a crash comes first: the next pass knows
//! their hashes.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::jobs::OpenDir;
use crate::crash_points;
use crate::heartbeat::Heartbeat;
use crate::storage_dir::{ReadEntry, Refusal};

/// A stored entry's file, if it is to go, and the directory that waits for it.
pub(super) type Stored = (Option<ReadEntry>, Option<Arc<OpenDir>>);

/// What became of one batch of files.
#[derive(Debug, Default)]
pub(super) struct Removed {
    pub(super) files: u64,
    /// Files that could not be removed, directories that could not be pruned.
    pub(super) refusals: Vec<Refusal>,
}

/// Threads, because an `unlink` waits while the file system commits its journal, which each sync of
/// the database and of the log makes it do.
const THREADS: usize = 2;

/// Threads that remove one batch after the other.
#[derive(Debug)]
pub(super) struct Remover {
    batches: SyncSender<Vec<Stored>>,
    results: Receiver<Removed>,
    /// Batches handed over and not heard of yet.
    pending: usize,
}

impl Remover {
    pub(super) fn start(heartbeat: &Heartbeat) -> io::Result<Remover> {
        // One batch may wait: whoever is faster than the disk has to wait too.
        let (batches, waiting) = sync_channel::<Vec<Stored>>(1);
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
        Ok(Remover {
            batches,
            results,
            pending: 0,
        })
    }

    /// Hands a batch over, and returns what became of earlier ones. Waits if one is waiting
    /// already.
    pub(super) fn remove(&mut self, batch: Vec<Stored>) -> Vec<Removed> {
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

fn remove(batch: Vec<Stored>, heartbeat: &Heartbeat) -> Removed {
    let mut removed = Removed::default();
    for (file, dir) in batch {
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

//! Removing stored files while the next batch is on its way.
//!
//! Removing is waiting for a disk, and so is storing. A batch is handed over only once it is safe,
//! so it does not matter when its files go, nor whether a crash comes first: the next pass knows
//! their hashes.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;

use super::jobs::OpenDir;
use crate::crash_points;
use crate::heart::Heart;
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

/// A thread that removes one batch after the other.
#[derive(Debug)]
pub(super) struct Remover {
    batches: SyncSender<Vec<Stored>>,
    results: Receiver<Removed>,
    /// Batches handed over and not heard of yet.
    pending: usize,
}

impl Remover {
    pub(super) fn start(heart: Heart) -> io::Result<Remover> {
        // One batch may wait: whoever is faster than the disk has to wait too.
        let (batches, waiting) = sync_channel::<Vec<Stored>>(1);
        let (done, results) = channel();
        thread::Builder::new()
            .name("remove".to_owned())
            .spawn(move || {
                for batch in waiting {
                    if done.send(remove(batch, &heart)).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Remover {
            batches,
            results,
            pending: 0,
        })
    }

    /// Hands a batch over. Waits if two are on their way already.
    pub(super) fn remove(&mut self, batch: Vec<Stored>) {
        // The thread ends only with this handle.
        if self.batches.send(batch).is_ok() {
            self.pending += 1;
        }
    }

    /// Waits until all that was handed over is removed, and returns what became of it.
    pub(super) fn finish(&mut self) -> Vec<Removed> {
        let results = self.results.iter().take(self.pending).collect();
        self.pending = 0;
        results
    }
}

fn remove(batch: Vec<Stored>, heart: &Heart) -> Removed {
    let mut removed = Removed::default();
    for (file, dir) in batch {
        heart.beat();
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

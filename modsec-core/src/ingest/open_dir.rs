//! Directories of the storage directory while their files are on their way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::crash_points;
use crate::storage_dir::{EntryDir, PruneRules, Refusal};

/// A directory whose files are on their way. It is pruned when the last one is done.
#[derive(Debug)]
pub(super) struct OpenDir {
    /// The directory itself, by which it is removed.
    dir: EntryDir,
    /// Files on their way, and one for the listing itself.
    pending: AtomicUsize,
    /// When to remove it; `None` if it is never removed.
    prune: Option<PruneRules>,
    /// Directories that the walk has removed, for the counts.
    pruned: Arc<AtomicU64>,
}

impl OpenDir {
    /// A directory that is listed. If it is pruned by these rules, `pruned` counts it.
    pub(super) fn listed(
        dir: EntryDir,
        prune: Option<PruneRules>,
        pruned: &Arc<AtomicU64>,
    ) -> Arc<OpenDir> {
        Arc::new(OpenDir {
            dir,
            pending: AtomicUsize::new(1),
            prune,
            pruned: Arc::clone(pruned),
        })
    }

    /// A directory of which only single files are taken; it is never pruned.
    pub(super) fn unlisted(dir: EntryDir) -> Arc<OpenDir> {
        OpenDir::listed(dir, None, &Arc::default())
    }

    /// Returns the directory, to resolve names in it.
    pub(super) fn dir(&self) -> &EntryDir {
        &self.dir
    }

    /// One file more is on its way. [`OpenDir::done`] is to be called for it.
    pub(super) fn begin(&self) {
        self.pending.fetch_add(1, Ordering::AcqRel);
    }

    /// One file less. Returns why the directory could not be removed, if it should have been.
    pub(super) fn done(&self) -> Option<Refusal> {
        if self.pending.fetch_sub(1, Ordering::AcqRel) != 1 {
            return None;
        }
        let rules = self.prune.as_ref()?;
        crash_points::pass("before-prune");
        match self.dir.prune(rules) {
            Ok(removed) => {
                self.pruned.fetch_add(u64::from(removed), Ordering::Relaxed);
                None
            }
            Err(refusal) => Some(refusal),
        }
    }
}

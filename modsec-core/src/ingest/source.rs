//! The files of one pass, handed out one at a time in the order of the walk.

mod logs;
mod selector;
mod tree;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::logs::Logs;
use self::selector::Selector;
pub(super) use self::selector::{Job, Uid};
use self::tree::{Claimed, Indexed, Tree};
pub(super) use self::tree::{Cursor, Pause};
use super::index::Wanted;
use super::known_files::KnownFiles;
use super::unopened::{Ages, Unopened};
use super::{Options, Stop};
use crate::heartbeat::Heartbeat;
use crate::storage_dir::budgets::Budgets;
use crate::storage_dir::{LeftAlone, StorageDir};

/// What a pass goes through.
#[derive(Debug)]
pub(super) enum PassSource {
    /// The whole tree, from where the walk is.
    Tree(Box<Cursor>, Option<Pause>),
    /// What was claimed in there, after the file of this number, and how long a turn is.
    Claimed(Arc<StorageDir>, Option<u64>, Budgets),
    /// Files that the index names. The pass may end before the last of them.
    Indexed(Arc<StorageDir>, Vec<Wanted>),
    /// Files, pipes and directories that the administrator names.
    Inputs(Vec<PathBuf>),
}

impl PassSource {
    /// Returns whose turn it is, and what else ends a file of several entries in the middle.
    pub(super) fn budgets(&self) -> (Budgets, Option<Pause>) {
        match self {
            PassSource::Tree(cursor, pause) => (cursor.budgets.clone(), pause.clone()),
            PassSource::Claimed(_, _, budgets) => (budgets.clone(), None),
            PassSource::Indexed(..) | PassSource::Inputs(_) => (Budgets::new(u64::MAX), None),
        }
    }
}

/// What a pass leaves.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Directories that were removed.
    pub(super) pruned: u64,
    /// What the walk left alone, once it is at its end.
    pub(super) left_alone: LeftAlone,
    /// Files that were left after a look, without being opened.
    pub(super) unopened: Unopened,
    /// Where the walk goes on, if it paused.
    pub(super) cursor: Option<Box<Cursor>>,
    /// Whether files were left because their owners' turns were over.
    pub(super) budgets_spent: bool,
    /// Whether a request to stop came before the end.
    pub(super) interrupted: bool,
    /// How long the names of claimed files were looked at.
    pub(super) looking: Duration,
}

/// Finds one file after the other. The threads share it, so that walking takes no thread of its
/// own and nobody is woken for a single file.
#[derive(Debug)]
pub(super) struct Jobs {
    /// Decides which files are read.
    selector: Selector,
    /// `None` once [`Jobs::rest`] was called.
    finder: Option<Finder>,
    /// Whether a request to stop came before the end.
    interrupted: bool,
}

/// Finds files in the way that the source needs.
#[derive(Debug)]
enum Finder {
    /// All of the storage directory.
    Tree(Tree),
    /// The private directory.
    Claimed(Claimed),
    /// Paths from lines of the index.
    Indexed(Indexed),
    /// Inputs, and the entries of logs among them.
    Inputs(Logs),
}

impl Jobs {
    /// Begins to go through `source`.
    ///
    /// # Errors
    ///
    /// What the system said if the thread that walks inputs could not be started.
    pub(super) fn new(
        source: PassSource,
        options: &Options,
        ages: Ages,
        known: &KnownFiles,
        stop: &Stop,
        heartbeat: &Heartbeat,
    ) -> io::Result<Jobs> {
        let prune = options.prune_rules(ages.now);
        let finder = match source {
            PassSource::Tree(cursor, pause) => Finder::Tree(Tree::new(cursor, pause, prune)),
            PassSource::Claimed(storage, after, budgets) => {
                Finder::Claimed(Claimed::new(&storage, after, budgets))
            }
            PassSource::Indexed(storage, wanted) => Finder::Indexed(Indexed::new(storage, wanted)),
            PassSource::Inputs(paths) => Finder::Inputs(Logs::start(paths, options.threads)?),
        };
        Ok(Jobs {
            selector: Selector {
                stop: stop.clone(),
                heartbeat: heartbeat.clone(),
                ages,
                known: known.clone(),
                unopened: Unopened::default(),
            },
            finder: Some(finder),
            interrupted: false,
        })
    }

    /// Returns the next file; `None` at the end, or if the pass is to end.
    pub(super) fn next(&mut self) -> Option<Job> {
        let selector = &mut self.selector;
        let next = match self.finder.as_mut()? {
            _ if selector.stop.requested() => None,
            Finder::Tree(tree) => tree.next(selector),
            Finder::Claimed(claimed) => claimed.next(selector),
            Finder::Indexed(indexed) => indexed.next(),
            Finder::Inputs(logs) => logs.next(&selector.stop),
        };
        self.interrupted |= next.is_none() && selector.stop.requested();
        next
    }

    /// Returns what is left. To be called once, when nobody asks for files any more.
    pub(super) fn rest(&mut self) -> Rest {
        let mut rest = Rest {
            unopened: std::mem::take(&mut self.selector.unopened),
            interrupted: self.interrupted,
            ..Rest::default()
        };
        match self.finder.take() {
            Some(Finder::Tree(Tree { cursor, paused, .. })) => {
                rest.pruned = cursor.pruned.swap(0, Ordering::Relaxed);
                rest.budgets_spent = cursor.budgets.left();
                if paused && !self.selector.stop.requested() {
                    rest.cursor = Some(cursor);
                } else {
                    rest.left_alone = cursor.walk.left_alone();
                }
            }
            Some(Finder::Claimed(claimed)) => {
                rest.budgets_spent = claimed.budgets.left();
                rest.looking = claimed.looking;
            }
            Some(Finder::Indexed(_) | Finder::Inputs(_)) | None => {}
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::ingest::Directories;

    fn options() -> Options {
        Options {
            directories: Directories::Keep,
            min_age: Duration::ZERO,
            stale_after: Duration::ZERO,
            ..Options::default()
        }
    }

    #[test]
    fn a_walk_that_pauses_between_all_files_meets_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut want = BTreeSet::new();
        for number in 0..60 {
            let minute = format!("site{}/20260304/20260304-050{}", number % 3, number % 4);
            let path = dir
                .path()
                .join(minute)
                .join(format!("20260304-050607-{number}"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "x").unwrap();
            want.insert(path);
        }
        let storage = StorageDir::open(dir.path()).unwrap();
        let mut cursor = Some(Box::new(Cursor::new(&storage, Budgets::new(u64::MAX))));
        let (_handle, stop) = Stop::new();
        let options = options();
        let (mut found, mut pauses) = (Vec::new(), 0);
        while let Some(at) = cursor {
            let asked = AtomicU64::new(0);
            let pause = Pause(Arc::new(move || asked.fetch_add(1, Ordering::Relaxed) >= 3));
            let (ages, known) = (Ages::new(&options), KnownFiles::default());
            let source = PassSource::Tree(at, Some(pause));
            let mut jobs =
                Jobs::new(source, &options, ages, &known, &stop, &Heartbeat::default()).unwrap();
            while let Some(job) = jobs.next() {
                if let Job::Entry(file, ..) = job {
                    found.push(file.path());
                }
            }
            cursor = jobs.rest().cursor;
            pauses += 1;
        }
        assert!(pauses > 20, "{pauses}");
        assert_eq!(found.len(), want.len());
        assert_eq!(BTreeSet::from_iter(found), want);
    }
}

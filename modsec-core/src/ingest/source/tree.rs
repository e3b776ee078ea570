//! The storage directory: all of it, what was claimed in there, or what the index names.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use super::selector::{Choice, Job, Selector};
use crate::ingest::index::Wanted;
use crate::ingest::open_dir::OpenDir;
use crate::storage_dir::budgets::{Budgets, Grant};
use crate::storage_dir::{EntryFiles, Name, PruneRules, StorageDir, Walk};

/// Directories that may be open when one more file is looked for by its path. Each such file
/// holds up to three, and the usual limit is 1024 descriptors.
const OPEN_DIRECTORIES: usize = 300;

/// A directory of which files are taken.
type Listed = (Arc<OpenDir>, EntryFiles);

/// A walk through the tree. It may pause between two files and go on in another pass.
#[derive(Debug)]
pub(in crate::ingest) struct Cursor {
    /// The directories still to be listed.
    pub(super) walk: Walk,
    /// The directory that is listed now.
    open: Option<Listed>,
    /// What each owner may still take in this round.
    pub(super) budgets: Budgets,
    /// Directories that were removed.
    pub(super) pruned: Arc<AtomicU64>,
}

impl Cursor {
    /// Begins at the first directory.
    pub(in crate::ingest) fn new(storage: &StorageDir, budgets: Budgets) -> Cursor {
        Cursor {
            walk: storage.walk(),
            open: None,
            budgets,
            pruned: Arc::default(),
        }
    }
}

/// Returns `true` if something else goes first.
#[derive(Clone)]
pub(in crate::ingest) struct Pause(pub(in crate::ingest) Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pause")
    }
}

/// Finds the files of the whole tree.
#[derive(Debug)]
pub(super) struct Tree {
    /// Where the walk is; handed back if it pauses.
    pub(super) cursor: Box<Cursor>,
    /// What says that something else goes first; `None` if nothing can.
    pause: Option<Pause>,
    /// Whether it paused. It does not go on then, even if the reason is gone.
    pub(super) paused: bool,
    /// Which empty directories are removed; `None` if none are.
    prune: Option<PruneRules>,
}

impl Tree {
    /// Goes on where `cursor` is, and removes empty directories by the rules of `prune`.
    pub(super) fn new(
        cursor: Box<Cursor>,
        pause: Option<Pause>,
        prune: Option<PruneRules>,
    ) -> Tree {
        Tree {
            cursor,
            pause,
            paused: false,
            prune,
        }
    }

    /// Returns the next file that is to be read; `None` at the end, at a pause, and once a stop is
    /// requested.
    ///
    /// A directory is listed only if its owner has a turn left. Removing it is left to whoever is
    /// done with its last file.
    pub(super) fn next(&mut self, selector: &mut Selector) -> Option<Job> {
        while !selector.stop.requested() {
            // There may be very many files that are only looked at.
            selector.heartbeat.beat();
            self.paused |= self.pause.as_ref().is_some_and(|pause| pause.0());
            if self.paused {
                return None;
            }
            let cursor = &mut *self.cursor;
            if let Some((dir, files)) = &mut cursor.open {
                let choice = match files.step() {
                    Some(Name::Entry(file)) => selector.choose(file, dir, &cursor.budgets),
                    Some(Name::Other) => cursor.budgets.look(dir.dir().owner()).into(),
                    None => Choice::NextDirectory,
                };
                match choice {
                    Choice::Take(job) => return Some(job),
                    Choice::NextFile => continue,
                    Choice::NextDirectory => {
                        // The listing itself is done. An empty directory that cannot be removed
                        // is tried again by the next pass.
                        dir.done();
                        cursor.open = None;
                    }
                }
            }
            let dir = cursor.walk.next()?;
            if cursor.budgets.directory(dir.owner()) == Grant::Granted {
                let files = dir.files();
                let dir = OpenDir::listed(dir, self.prune.clone(), &cursor.pruned);
                cursor.open = Some((dir, files));
            }
        }
        None
    }
}

/// Finds the files that were claimed.
#[derive(Debug)]
pub(super) struct Claimed {
    /// The number of the last file that is done with.
    after: Option<u64>,
    /// The private directory; `None` if there is none, or once it is at its end.
    open: Option<Listed>,
    /// What each owner may still take in this pass.
    pub(super) budgets: Budgets,
    /// How long their names were looked at.
    pub(super) looking: Duration,
}

impl Claimed {
    /// Begins with the first claimed file whose number is greater than `after`; with the first of
    /// all if that is `None`.
    pub(super) fn new(storage: &StorageDir, after: Option<u64>, budgets: Budgets) -> Claimed {
        Claimed {
            after,
            open: storage.claimed().map(|dir| {
                let files = dir.files();
                (OpenDir::unlisted(dir), files)
            }),
            budgets,
            looking: Duration::ZERO,
        }
    }

    /// Returns the next claimed file that is to be read; `None` at the end, or once a stop is
    /// requested. Adds up the time that finding it took.
    pub(super) fn next(&mut self, selector: &mut Selector) -> Option<Job> {
        let begun = Instant::now();
        let next = self.look(selector);
        self.looking += begun.elapsed();
        next
    }

    /// Finds the next claimed file. Files whose owner has spent his turn are passed over.
    fn look(&mut self, selector: &mut Selector) -> Option<Job> {
        while !selector.stop.requested() {
            // Perhaps very many, if they could not be stored for long.
            selector.heartbeat.beat();
            let (dir, files) = self.open.as_mut()?;
            match files.step() {
                None => self.open = None,
                Some(Name::Entry(file))
                    if self.after.is_none() || file.claim_number() > self.after =>
                {
                    if let Choice::Take(job) = selector.choose(file, dir, &self.budgets) {
                        return Some(job);
                    }
                }
                Some(_) => {}
            }
        }
        None
    }
}

/// Finds files by their paths, each directory once if they come in order.
#[derive(Debug)]
pub(super) struct Indexed {
    /// Resolves paths, which lines give relative to it.
    storage: Arc<StorageDir>,
    /// Files that were not handed out yet, in the order of their paths.
    wanted: std::vec::IntoIter<Wanted>,
    /// The directory of the last file and its path.
    open: Option<(PathBuf, Arc<OpenDir>)>,
}

impl Indexed {
    /// Begins with the first of `wanted`, which are sorted by path.
    pub(super) fn new(storage: Arc<StorageDir>, wanted: Vec<Wanted>) -> Indexed {
        Indexed {
            storage,
            wanted: wanted.into_iter(),
            open: None,
        }
    }

    /// Returns the next file; `None` at the end, or if too many directories are open.
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.storage.open_directories() > OPEN_DIRECTORIES {
            return None;
        }
        let wanted = self.wanted.next()?;
        let parent = wanted.file.parent().unwrap_or(Path::new(""));
        let dir = match &self.open {
            Some((path, dir)) if path == parent => Ok(Arc::clone(dir)),
            _ => self.storage.entry_dir_at(parent).map(|dir| {
                let dir = OpenDir::unlisted(dir);
                self.open = Some((parent.to_owned(), Arc::clone(&dir)));
                dir
            }),
        };
        let name = wanted.file.file_name().unwrap_or_default();
        let file = dir.and_then(|dir| {
            let file = dir.dir().file_named(name)?;
            dir.begin();
            Ok((file, dir))
        });
        Some(Job::Indexed(wanted, file))
    }
}

//! Listing directories a few entries at a time, so that a long list delays nobody.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{Dir, FileType};

use super::layout::Place;

/// Directories still to be listed, and the one being listed.
///
/// Memory is bounded by the directories beside the current path, not by the tree: what is found
/// is listed before its siblings.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pending: Vec<PathBuf>,
    open: Option<Listing>,
}

/// A directory being listed.
pub(crate) struct Listing {
    pub(crate) path: PathBuf,
    pub(crate) place: Place,
    entries: Dir,
}

/// What is next in a walk.
#[derive(Debug)]
pub(crate) enum Step {
    /// Open, watch, and hand over by [`Walk::list`].
    Open(PathBuf),
    /// An entry of the directory being listed.
    Entry {
        path: PathBuf,
        place: Place,
        kind: FileType,
    },
    /// Nothing left.
    Done,
}

impl Walk {
    pub(crate) fn is_done(&self) -> bool {
        self.open.is_none() && self.pending.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn add(&mut self, path: PathBuf) {
        self.pending.push(path);
    }

    /// Goes on with the entries of `handle`, which is at `path`.
    pub(crate) fn list(&mut self, path: PathBuf, place: Place, handle: OwnedFd) {
        self.open = Dir::new(handle).ok().map(|entries| Listing {
            path,
            place,
            entries,
        });
    }

    pub(crate) fn step(&mut self) -> Step {
        // A subdirectory waits until its parent is listed: one open directory at a time.
        if let Some(listing) = &mut self.open {
            if let Some(step) = listing.next() {
                return step;
            }
            self.open = None;
        }
        self.pending.pop().map_or(Step::Done, Step::Open)
    }
}

impl Listing {
    /// Returns the next entry. A directory removed while it is listed simply ends.
    fn next(&mut self) -> Option<Step> {
        loop {
            let entry = self.entries.read()?.ok()?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let path = self.path.join(OsString::from(OsStr::from_bytes(name)));
                return Some(Step::Entry {
                    path,
                    place: self.place,
                    kind: entry.file_type(),
                });
            }
        }
    }
}

impl fmt::Debug for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listing")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

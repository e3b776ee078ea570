//! Files that were there before, in the order of their minutes.
//!
//! Each site has a tree of its own, and one client may have attacked many. So the trees are not
//! gone through one after the other, but minute by minute across all of them.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::fs::Dir;

use super::tree::Tree;
use crate::storage_dir::{EntryName, MinuteDir, StorageDir, StorageDirError};

/// The files that a walk has still to look at.
#[derive(Debug)]
pub(super) struct Backlog {
    minutes: VecDeque<(MinuteDir, PathBuf)>,
    listing: Option<(PathBuf, Dir)>,
    /// Files of the listing that come next, the last one first.
    names: Vec<OsString>,
}

/// Names that are sorted at a time. A minute with more of them is read in pieces.
const SORTED: usize = 4096;

impl Backlog {
    /// Collects the directories of all minutes below `tree`, not the files in them.
    ///
    /// Their number is bounded by users and days: about a hundred bytes for each minute of each
    /// site in which something was logged.
    pub(super) fn new(tree: &Tree) -> Result<Backlog, StorageDirError> {
        let root = tree.root().path();
        let mut minutes: Vec<(MinuteDir, PathBuf)> = StorageDir::open(root)?
            .walk()
            .filter_map(|directory| {
                let path = directory.path();
                let relative = path.strip_prefix(root).ok()?.to_owned();
                Some((directory.minute()?, relative))
            })
            .collect();
        minutes.sort_unstable();
        Ok(Backlog {
            minutes: minutes.into(),
            listing: None,
            names: Vec::new(),
        })
    }

    /// Returns the next file, relative to the root; `None` at the end.
    pub(super) fn next(&mut self, tree: &Tree) -> Option<PathBuf> {
        loop {
            if let Some((path, listing)) = &mut self.listing {
                if self.names.is_empty() {
                    self.names = names(listing);
                }
                if let Some(name) = self.names.pop() {
                    return Some(path.join(name));
                }
            }
            let (_, path) = self.minutes.pop_front()?;
            let opened = tree.root().open_below(&path).ok();
            let listing = opened.and_then(|(handle, _)| Dir::read_from(handle).ok());
            self.listing = listing.map(|listing| (path, listing));
        }
    }
}

/// Reads some names of entries, in reverse: a name begins with its time.
fn names(listing: &mut Dir) -> Vec<OsString> {
    let mut names: Vec<OsString> = listing
        .flatten()
        .map(|entry| OsStr::from_bytes(entry.file_name().to_bytes()).to_owned())
        .filter(|name| EntryName::parse(name.as_bytes()).is_some())
        .take(SORTED)
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn minutes_come_in_order_across_all_users() {
        let dir = tempfile::tempdir().unwrap();
        for path in [
            "site1/20260822/20260822-1015/20260822-101501-b",
            "site1/20260822/20260822-1015/20260822-101500-a",
            "site1/20260822/20260822-1017/20260822-101700-d",
            "site2/20260822/20260822-1016/20260822-101600-c",
            "20260822/20260822-1014/20260822-101400-flat",
            "site2/20260822/20260822-1016/README",
            "site2/notes/x",
            ".modsec-parser/1-1.20260822-101400-flat",
        ] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let tree = Tree::open(dir.path(), None).unwrap();
        let mut backlog = Backlog::new(&tree).unwrap();
        let names: Vec<String> = std::iter::from_fn(|| backlog.next(&tree))
            .map(|path| path.file_name().unwrap().to_str().unwrap()[16..].to_owned())
            .collect();
        assert_eq!(names, ["flat", "a", "b", "c", "d"]);
    }
}

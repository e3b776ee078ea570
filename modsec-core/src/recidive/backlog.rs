//! Files that were there before, in the order of their minutes.
//!
//! Each site has a tree of its own, and one client may have attacked many. So the trees are not
//! gone through one after the other, but minute by minute across all of them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::entry_reader::{EntryReader, Glance, Look, Which};
use crate::names::{EntryName, MinuteDir};
use crate::spool::Listing;
use crate::storage_dir::budgets::{self, Budgets, Grant};
use crate::storage_dir::{StorageDir, StorageDirError};

/// The files that a walk has still to look at.
#[derive(Debug)]
pub(super) struct Backlog {
    /// Directories that were not listed yet, by minute and then by path.
    minutes: VecDeque<(MinuteDir, PathBuf)>,
    /// The directory that is listed now, relative to the root, and its names so far.
    listing: Option<(PathBuf, Listing)>,
    /// Files of the listing that come next, the last one first.
    names: Vec<OsString>,
    /// What need not be looked at: files that have not changed since, in nanoseconds.
    after: i64,
    /// How long the turn of an owner is.
    budget: u64,
    /// What each owner may still take in this round.
    budgets: Budgets,
    /// Files of this round that were met and are not read; a longer round begins at zero again.
    counts: Counts,
}

/// Files that were met and are not read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Files of owners whose entries do not count.
    pub(super) foreign: u64,
    /// What may not or cannot be read.
    pub(super) refused: u64,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// A file to read, relative to the root.
    File(PathBuf),
    /// Nothing yet, though much was looked at.
    Nothing,
    /// The walk is over.
    End(Counts),
    /// The walk has left files out.
    Failed(StorageDirError),
}

/// Names that are sorted at a time. A minute with more of them is read in pieces.
const SORTED: usize = 4096;
/// Files that are looked at before somebody else may do something.
const LOOKS: usize = 64;

impl Backlog {
    /// Collects the directories of all minutes below `tree`, not the files in them.
    ///
    /// Their number is bounded by users and days: about a hundred bytes for each minute of each
    /// site in which something was logged.
    ///
    /// # Errors
    ///
    /// If the storage directory cannot be opened. A directory below it that cannot be listed is
    /// left out.
    pub(super) fn new(tree: &EntryReader, after: i64) -> Result<Backlog, StorageDirError> {
        Ok(Backlog {
            minutes: minutes(tree)?,
            listing: None,
            names: Vec::new(),
            after,
            budget: budgets::FIRST,
            budgets: Budgets::new(budgets::FIRST),
            counts: Counts::default(),
        })
    }

    /// Returns which files are to be read.
    pub(super) fn which(&self) -> Which {
        Which::Found { after: self.after }
    }

    /// Goes on to the next file.
    ///
    /// Whoever has had his turn is left out, and met again, with a longer turn, when all others
    /// have had theirs.
    pub(super) fn next(&mut self, tree: &mut EntryReader) -> Step {
        for _ in 0..LOOKS {
            if let Some(path) = self.next_name() {
                if self.is_to_be_read(tree, &path) {
                    return Step::File(path);
                }
            } else if let Some((_, path)) = self.minutes.pop_front() {
                self.open(tree, path);
            } else if !self.budgets.left() {
                return Step::End(self.counts);
            } else {
                self.budget = Budgets::next(self.budget);
                self.budgets = Budgets::new(self.budget);
                self.counts = Counts::default();
                match minutes(tree) {
                    Ok(minutes) => self.minutes = minutes,
                    Err(error) => return Step::Failed(error),
                }
            }
        }
        Step::Nothing
    }

    /// Returns the next file of the directory at hand, relative to the root; `None` if there is no
    /// such directory or it is at its end.
    ///
    /// Up to [`SORTED`] names are sorted at a time.
    fn next_name(&mut self) -> Option<PathBuf> {
        let (path, listing) = self.listing.as_mut()?;
        if self.names.is_empty() {
            self.names = names(listing);
        }
        let name = self.names.pop();
        if name.is_none() {
            self.listing = None;
            return None;
        }
        Some(path.join(name?))
    }

    /// Begins to list the directory at `path` if its owner has a turn left. One that is gone or
    /// must not be entered is passed over.
    fn open(&mut self, tree: &EntryReader, path: PathBuf) {
        let Ok((handle, stat)) = tree.root().open_below(&path) else {
            return;
        };
        if self.budgets.directory(Some(stat.st_uid)) == Grant::Granted {
            self.listing = Some((path, Listing::new(handle)));
        }
    }

    /// Looks at a file; returns `true` if it is to be read and it is its owner's turn.
    fn is_to_be_read(&mut self, tree: &mut EntryReader, path: &Path) -> bool {
        let (budget, is_file) = match tree.glance(path, self.which()) {
            Glance::File { owner, size } => (self.budgets.file(owner, size), true),
            Glance::Done(look, owner) => {
                match look {
                    Look::Foreign => self.counts.foreign += 1,
                    Look::Refused(_) => self.counts.refused += 1,
                    _ => {}
                }
                (self.budgets.look(owner), false)
            }
        };
        if budget == Grant::AllSpent {
            (self.listing, self.names) = (None, Vec::new());
        }
        budget == Grant::Granted && is_file
    }
}

/// Returns the directories of all minutes below `tree` with their paths relative to it, sorted by
/// minute.
///
/// # Errors
///
/// If the storage directory cannot be opened.
fn minutes(tree: &EntryReader) -> Result<VecDeque<(MinuteDir, PathBuf)>, StorageDirError> {
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
    Ok(minutes.into())
}

/// Reads some names of entries, in reverse: a name begins with its time.
fn names(listing: &mut Listing) -> Vec<OsString> {
    let mut names: Vec<OsString> = listing
        .flatten()
        .map(|found| found.name)
        .filter(|name| EntryName::parse(name.as_bytes()).is_some())
        .take(SORTED)
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;

    use super::*;
    use crate::read_steps::ReadSteps;

    fn next(backlog: &mut Backlog, tree: &mut EntryReader) -> Option<PathBuf> {
        loop {
            match backlog.next(tree) {
                Step::File(path) => return Some(path),
                Step::Nothing => {}
                Step::End(_) | Step::Failed(_) => return None,
            }
        }
    }

    #[test]
    fn what_one_owner_has_comes_after_a_turn_of_all_others() {
        let dir = tempfile::tempdir().unwrap();
        let minute = |site: &str| {
            let minute = dir.path().join(site).join("20260822/20260822-1015");
            fs::create_dir_all(&minute).unwrap();
            minute
        };
        let hostile = minute("a");
        for number in 0..40 {
            let path = hostile.join(format!("20260822-101500-hostile{number:02}"));
            fs::File::create(&path).unwrap().set_len(4 << 20).unwrap();
            chown(&path, Some(54_321), None).unwrap();
        }
        for number in 0..300 {
            fs::write(hostile.join(format!("20260822-101501-empty{number}")), "").unwrap();
        }
        fs::write(minute("b").join("20260822-101500-good"), "x").unwrap();
        let mut tree = EntryReader::open(dir.path(), None, ReadSteps::default()).unwrap();
        let mut backlog = Backlog::new(&tree, i64::MIN).unwrap();
        let mut names = Vec::new();
        while let Some(path) = next(&mut backlog, &mut tree) {
            // As a session does.
            tree.look(&path, backlog.which());
            names.push(path.file_name().unwrap().to_str().unwrap()[16..].to_owned());
        }
        let good = names.iter().position(|name| name == "good");
        assert_eq!(good, Some(16), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 41);
    }

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
            fs::write(path, "x").unwrap();
        }
        let mut tree = EntryReader::open(dir.path(), None, ReadSteps::default()).unwrap();
        let mut backlog = Backlog::new(&tree, i64::MIN).unwrap();
        let names: Vec<String> = std::iter::from_fn(|| next(&mut backlog, &mut tree))
            .map(|path| path.file_name().unwrap().to_str().unwrap()[16..].to_owned())
            .collect();
        assert_eq!(names, ["flat", "a", "b", "c", "d"]);
    }
}

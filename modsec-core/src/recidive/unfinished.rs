//! Files whose writers have not finished yet.
//!
//! A writer may close a file before its entry is complete, be killed, or meet a full disk. Such a
//! file is read when it is closed again, or as it is after `stale_after`. The owner with the most
//! files gives way once there are more than [`MAX_UNFINISHED`], so that one site cannot make the
//! program read the files of others too early.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Files remembered because their writer closed them unfinished.
pub(super) const MAX_UNFINISHED: usize = 4096;

/// The files, the one that has been waiting longest first.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    /// Since when each waits, its owner if known, and its path.
    files: VecDeque<(Instant, Option<u32>, PathBuf)>,
    /// The same paths, so that none waits twice.
    known: HashSet<PathBuf>,
    /// How many files each owner has waiting.
    owners: HashMap<Option<u32>, usize>,
}

impl Unfinished {
    /// Adds a file of `owner` to those that wait, unless it is among them. Returns the file that
    /// does not wait any longer because there are too many.
    pub(super) fn push(&mut self, path: &Path, owner: Option<u32>) -> Option<PathBuf> {
        if !self.known.insert(path.to_owned()) {
            return None;
        }
        self.files
            .push_back((Instant::now(), owner, path.to_owned()));
        *self.owners.entry(owner).or_default() += 1;
        if self.files.len() <= MAX_UNFINISHED {
            return None;
        }
        let (most, _) = self.owners.iter().max_by_key(|(_, count)| **count)?;
        let most = *most;
        let at = self.files.iter().position(|(_, owner, _)| *owner == most)?;
        self.take(at)
    }

    /// Returns the file that has been waiting longest, if it has for `stale_after`.
    pub(super) fn pop(&mut self, stale_after: Duration) -> Option<PathBuf> {
        let (since, ..) = self.files.front()?;
        (since.elapsed() >= stale_after).then(|| self.take(0))?
    }

    /// Takes out the file at this place of the queue.
    fn take(&mut self, at: usize) -> Option<PathBuf> {
        let (_, owner, path) = self.files.remove(at)?;
        self.known.remove(&path);
        if let Some(count) = self.owners.get_mut(&owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&owner);
            }
        }
        Some(path)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_most_gives_way_and_a_file_waits_once() {
        let mut unfinished = Unfinished::default();
        let path = |owner: u32, number: usize| PathBuf::from(format!("{owner}/{number}"));
        for number in 0..10 {
            assert_eq!(unfinished.push(&path(1, number), Some(1)), None);
            assert_eq!(unfinished.push(&path(1, number), Some(1)), None);
        }
        for number in 0..MAX_UNFINISHED + 100 {
            let gone = unfinished.push(&path(2, number), Some(2));
            let want = (number + 10).checked_sub(MAX_UNFINISHED);
            assert_eq!(gone, want.map(|oldest| path(2, oldest)), "file {number}");
        }
        assert_eq!(unfinished.pop(Duration::from_secs(3600)), None);
        let first = unfinished.pop(Duration::ZERO);
        assert_eq!(first, Some(path(1, 0)));
        while unfinished.pop(Duration::ZERO).is_some() {}
        assert!(unfinished.is_empty() && unfinished.known.is_empty());
        assert!(unfinished.owners.is_empty());
    }
}

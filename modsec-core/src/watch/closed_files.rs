//! Files that were closed and are still to be reported: one of each site in turn.
//!
//! The kernel reports them in the order in which they were closed. A site user who closes one file
//! again and again, or a hundred thousand of them, must not make the files of the other sites wait:
//!
//! ```text
//! closed:    a/1 a/2 a/3 a/1 b/1 a/4 c/1         (a/1 twice)
//! reported:  a/1 b/1 c/1 a/2 a/3 a/4
//! ```

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::PathBuf;

use super::listing_queue::site_of;

/// Files of one site that wait: as many as the kernel's own queue holds events by default
/// (`fs.inotify.max_queued_events`).
const MAX_OF_SITE: usize = 16_384;
/// Files that wait in all.
const MAX: usize = 65_536;

/// The files, by site, each path once.
#[derive(Debug, Default)]
pub(crate) struct ClosedFiles {
    /// Paths below the storage directory, by the site they belong to, the oldest first.
    sites: HashMap<OsString, VecDeque<PathBuf>>,
    /// Names of the sites, the one whose turn it is first.
    order: VecDeque<OsString>,
    /// All paths that wait.
    known: HashSet<PathBuf>,
}

impl ClosedFiles {
    /// Lets `path` wait, unless it does already.
    ///
    /// Returns `false` if there is no room for it: then the tree must be walked again, as if the
    /// kernel had dropped the event.
    #[must_use]
    pub(crate) fn push(&mut self, path: PathBuf) -> bool {
        if self.known.contains(&path) {
            return true;
        }
        let name = site_of(&path);
        let of_site = self.sites.get(&name).map_or(0, VecDeque::len);
        if of_site >= MAX_OF_SITE || self.known.len() >= MAX {
            return false;
        }
        if of_site == 0 {
            self.order.push_back(name.clone());
        }
        self.known.insert(path.clone());
        self.sites.entry(name).or_default().push_back(path);
        true
    }

    /// Returns the next file: the oldest one of the site whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<PathBuf> {
        let name = self.order.pop_front()?;
        let files = self.sites.get_mut(&name)?;
        let path = files.pop_front()?;
        self.known.remove(&path);
        if files.is_empty() {
            self.sites.remove(&name);
        } else {
            self.order.push_back(name);
        }
        Some(path)
    }

    /// Forgets all files.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_take_turns_and_a_file_waits_once() {
        let mut closed = ClosedFiles::default();
        for _ in 0..3 {
            for path in ["a/1", "a/2", "a/3", "b/1", "c/1"] {
                assert!(closed.push(path.into()));
            }
        }
        let order: Vec<PathBuf> = std::iter::from_fn(|| closed.pop()).collect();
        let want = ["a/1", "b/1", "c/1", "a/2", "a/3"].map(PathBuf::from);
        assert_eq!(order, want);
        assert!(closed.sites.is_empty() && closed.known.is_empty() && closed.order.is_empty());
    }

    #[test]
    fn one_site_has_room_for_so_many_and_leaves_some_to_the_others() {
        let mut closed = ClosedFiles::default();
        let push = |closed: &mut ClosedFiles, site, count| {
            let paths = (0..count).map(|number| PathBuf::from(format!("{site}/{number}")));
            paths.filter(|path| closed.push(path.clone())).count()
        };
        assert_eq!(push(&mut closed, "a", MAX_OF_SITE + 10), MAX_OF_SITE);
        assert_eq!(push(&mut closed, "b", 10), 10);
        for site in ["c", "d", "e"] {
            push(&mut closed, site, MAX_OF_SITE);
        }
        assert_eq!(closed.known.len(), MAX);
    }
}

//! Directories that wait to be listed, a few names at a time and of each site in turn.
//!
//! A *site* is the first name of a path: a user, or a day of the flat layout. Each site has at most
//! one directory open; what is found below is put on its stack, so a tree is walked depth first:
//!
//! ```text
//! add("site1/20260822")
//! step() ─► Open("site1/20260822")       the caller opens and watches it, and hands it over:
//! list("site1/20260822", UserDay, fd)
//! step() ─► Entry { path: "site1/20260822/20260822-1015", … }   up to 64 names of site1,
//! step() ─► Entry { path: "site2/…", … }                        up to 64 names of site2, …
//! step() ─► Done                         nothing is left of any site
//! ```
//!
//! So a directory that has just appeared is opened and watched although another site has a hundred
//! thousand names in one of its own. Memory is bounded by the directories that wait beside the
//! current path of each site, not by the tree, and by [`MAX_PENDING`] for each site.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::Place;
use crate::spool::{Found, Listing};

/// Names of one site before the next site.
const TURN: u32 = 64;
/// Directories that are open at a time, each of another site.
const MAX_OPEN: usize = 32;
/// Directories of one site that wait. With more, the whole site is listed once more instead:
/// slower, but nothing is forgotten.
const MAX_PENDING: usize = 100_000;

/// Directories still to be listed, and those being listed.
#[derive(Debug, Default)]
pub(crate) struct ListingQueue {
    /// What is to be listed, by site.
    sites: HashMap<OsString, Site>,
    /// Names of the sites, the one whose turn it is first.
    order: VecDeque<OsString>,
    /// Steps of the first site in this turn.
    steps: u32,
    /// Directories that are open, at most [`MAX_OPEN`].
    listings: usize,
}

/// What is to be listed of one site.
#[derive(Debug, Default)]
struct Site {
    /// Directories that wait, the next one last.
    pending: Vec<PathBuf>,
    /// The same as a set, so that a path waits once.
    known: HashSet<PathBuf>,
    /// The directory that is being listed.
    open: Option<OpenListing>,
}

/// A directory being listed.
#[derive(Debug)]
struct OpenListing {
    /// Its path below the root.
    path: PathBuf,
    /// What it is for, a day or a minute, say.
    place: Place,
    /// The names that were not handed out yet.
    names: Listing,
}

/// What is next to do.
#[derive(Debug)]
pub(crate) enum NextStep {
    /// Open this directory, watch it, and hand its descriptor over by [`ListingQueue::list`].
    /// Whoever cannot open it just asks for the next step.
    Open(PathBuf),
    /// A name in the directory being listed: its path, what that directory is for, and what the
    /// listing says about the type of the name.
    Entry {
        path: PathBuf,
        place: Place,
        kind: FileType,
    },
    /// Nothing left.
    Done,
}

impl ListingQueue {
    /// Returns `true` if nothing waits and nothing is open.
    pub(crate) fn is_done(&self) -> bool {
        self.order.is_empty()
    }

    /// Forgets everything and closes all directories.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds the directory at `path` to those that wait, unless it is among them. It may be gone
    /// when its turn comes.
    pub(crate) fn add(&mut self, path: PathBuf) {
        let name = site_of(&path);
        let site = self.site(name.clone());
        if site.pending.len() >= MAX_PENDING {
            (site.pending, site.known) = Default::default();
            site.add(PathBuf::from(name));
        } else {
            site.add(path);
        }
    }

    /// Begins to list the directory `handle`, which was opened at `path` and is for `place`.
    pub(crate) fn list(&mut self, path: PathBuf, place: Place, handle: OwnedFd) {
        let site = self.site(site_of(&path));
        let before = site.open.replace(OpenListing {
            path,
            place,
            names: Listing::new(handle),
        });
        self.listings += usize::from(before.is_none());
    }

    /// Returns what is to be listed of the site called `name`; puts it at the end of the order if
    /// it is new.
    fn site(&mut self, name: OsString) -> &mut Site {
        self.sites.entry(name).or_insert_with_key(|name| {
            self.order.push_back(name.clone());
            Site::default()
        })
    }

    /// Does one step: a name of the open directory of the site whose turn it is, or its next
    /// directory.
    pub(crate) fn step(&mut self) -> NextStep {
        while let Some(name) = self.order.front() {
            let Some(site) = self.sites.get_mut(name) else {
                self.order.pop_front();
                continue;
            };
            // Another site has an open directory then, and gets on with it.
            let must_wait = site.open.is_none() && self.listings >= MAX_OPEN;
            if self.steps >= TURN || must_wait {
                self.steps = 0;
                self.order.rotate_left(1);
                continue;
            }
            self.steps += 1;
            // A subdirectory waits until its parent is listed: one open directory of each site.
            if let Some(listing) = &mut site.open {
                if let Some(step) = listing.next() {
                    return step;
                }
                site.open = None;
                self.listings -= 1;
            } else if let Some(path) = site.pop() {
                return NextStep::Open(path);
            } else {
                self.sites.remove(name);
                self.order.pop_front();
                self.steps = 0;
            }
        }
        NextStep::Done
    }
}

impl Site {
    /// Puts `path` on the stack, unless it is there.
    fn add(&mut self, path: PathBuf) {
        if self.known.insert(path.clone()) {
            self.pending.push(path);
        }
    }

    /// Takes the directory that was added last.
    fn pop(&mut self) -> Option<PathBuf> {
        let path = self.pending.pop()?;
        self.known.remove(&path);
        Some(path)
    }
}

/// Returns the first name of a path; an empty one for the storage directory itself.
pub(crate) fn site_of(path: &Path) -> OsString {
    path.iter().next().unwrap_or_default().to_owned()
}

impl OpenListing {
    /// Returns the next name. A directory that was removed while it is listed, or that cannot be
    /// read further, simply ends.
    fn next(&mut self) -> Option<NextStep> {
        let Found { name, kind } = self.names.next()?.ok()?;
        Some(NextStep::Entry {
            path: self.path.join(name),
            place: self.place,
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{self, File};

    use super::*;

    /// Walks through `root`; `seen` receives of every step, and may add what has appeared.
    fn walk(root: &Path, start: &str, mut seen: impl FnMut(&str, &mut ListingQueue)) {
        let mut walk = ListingQueue::default();
        walk.add(start.into());
        loop {
            match walk.step() {
                NextStep::Open(path) => {
                    seen(&format!("open {}", path.display()), &mut walk);
                    let handle = File::open(root.join(&path)).unwrap();
                    let place = Place::of(&path).unwrap();
                    walk.list(path, place, handle.into());
                    assert!(walk.listings <= MAX_OPEN);
                }
                NextStep::Entry { path, kind, .. } => {
                    seen(&format!("{}", path.display()), &mut walk);
                    if kind == FileType::Directory {
                        walk.add(path);
                    }
                }
                NextStep::Done => break,
            }
        }
        assert!(walk.is_done() && walk.sites.is_empty() && walk.listings == 0);
    }

    #[test]
    fn a_site_with_many_names_lets_the_others_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let minutes = ["a", "b"].map(|site| format!("{site}/20260822/20260822-1015"));
        for minute in &minutes {
            fs::create_dir_all(dir.path().join(minute)).unwrap();
        }
        for number in 0..3000 {
            File::create(dir.path().join(&minutes[0]).join(number.to_string())).unwrap();
        }
        let mut steps = 0;
        let mut opened = None;
        walk(dir.path(), "a", |step, walk| {
            steps += 1;
            if steps == 100 {
                walk.add("b".into());
            }
            if step == format!("open {}", minutes[1]) {
                opened = Some(steps);
            }
        });
        assert!(opened.unwrap() < 300, "{opened:?} of {steps}");
        assert!(steps > 3000);
    }

    #[test]
    fn every_directory_of_many_sites_is_listed_once_and_few_are_open() {
        let dir = tempfile::tempdir().unwrap();
        let mut want = HashSet::new();
        for site in 0..100 {
            for day in 1..4 {
                let path = format!("site{site}/2026080{day}/2026080{day}-1015");
                fs::create_dir_all(dir.path().join(&path)).unwrap();
                want.insert(format!("open {path}"));
            }
        }
        let mut opened = Vec::new();
        walk(dir.path(), "", |step, _| opened.push(step.to_owned()));
        opened.retain(|step| step.starts_with("open ") && step.ends_with("-1015"));
        assert_eq!(opened.len(), want.len());
        assert_eq!(HashSet::from_iter(opened), want);
    }

    #[test]
    fn a_path_waits_once_and_too_many_become_one() {
        let mut walk = ListingQueue::default();
        for number in 0..2 * MAX_PENDING + 10 {
            walk.add(format!("a/{}", number / 2).into());
            walk.add("b/x".into());
        }
        let of = |site: &str| walk.sites[OsStr::new(site)].pending.len();
        assert_eq!(of("b"), 1);
        assert!(of("a") <= MAX_PENDING);
        assert_eq!(walk.sites[OsStr::new("a")].pending[0], Path::new("a"));
    }
}

//! Which directories are watched, and which of them may be given up for others.
//!
//! A watch costs kernel memory (about 1 KiB) and counts against `fs.inotify.max_user_watches`,
//! which all programs of the user share. A site user can make directories without end. So the
//! number is bounded: 8 days in one directory, 256 minutes in one day, and see `MAX_OF_OWNER` in
//! [`super::engine`]. When a ninth day appears, the day is given up that is not current and in
//! which nothing happened for the longest time: invented names such as `20990101` cannot displace
//! today's directory.
//!
//! What is not watched is still found, when the tree is walked.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use chrono::{Days, NaiveDateTime, TimeDelta};
use inotify::WatchDescriptor;
use rustix::fs::Stat;

use crate::names::{Place, begins};

/// Days watched in one directory at a time.
const MAX_DAYS: usize = 8;
/// Minutes watched in one day at a time.
const MAX_MINUTES: usize = 256;
/// For how many seconds a minute is watched after its last event: 90 minutes. Longer than the hour
/// that the end of daylight saving repeats, and than most downloads (libmodsecurity opens its file
/// in the minute in which the request began).
pub(crate) const IDLE_SECONDS: i64 = 90 * 60;
/// How far ahead of the clock a name may be and still count as current: for directories that were
/// created in advance, and for the repeated hour.
const AHEAD: TimeDelta = TimeDelta::hours(2);

/// A watched directory.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its path below the storage directory.
    pub(crate) path: PathBuf,
    /// What it is for.
    pub(crate) place: Place,
    /// User id that its watch is charged to: the owner of the user's tree that it is in, or of
    /// itself in the flat layout.
    pub(crate) uid: u32,
    /// Last event in it, or last change of its contents, in seconds since 1970.
    active: i64,
}

/// The instant at which a decision is made, in both clocks it needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Seconds since 1970.
    pub(crate) unix: i64,
    /// What the server's clock on the wall shows: directories are named by it.
    pub(crate) local: NaiveDateTime,
}

impl Now {
    /// Reads the system's clock and time zone.
    pub(crate) fn read() -> Self {
        let now = chrono::Local::now();
        Self {
            unix: now.timestamp(),
            local: now.naive_local(),
        }
    }

    /// Returns `true` if a writer may use the directory called by the end of `path` about now: a
    /// day from yesterday on, a minute of the last 90 minutes, both up to two hours ahead. A name
    /// that is no time (a user's) is always current.
    pub(crate) fn is_current(self, path: &Path, place: Place) -> bool {
        let Some(begin) = path.file_name().and_then(begins) else {
            return true;
        };
        let past = if place.is_day() {
            self.local
                .date()
                .checked_sub_days(Days::new(1))
                .map(Into::into)
        } else {
            self.local
                .checked_sub_signed(TimeDelta::seconds(IDLE_SECONDS))
        };
        past.is_none_or(|past| begin >= past)
            && self
                .local
                .checked_add_signed(AHEAD)
                .is_none_or(|ahead| begin <= ahead)
    }
}

/// All watched directories, by watch descriptor and by path.
#[derive(Debug, Default)]
pub(crate) struct WatchTable {
    /// The directories, by the number that the kernel gives to a watch.
    nodes: HashMap<WatchDescriptor, Node>,
    /// Watches by path, sorted, so that a directory and all below it are one range.
    paths: BTreeMap<PathBuf, WatchDescriptor>,
    /// Days and minutes by the directory they are in, at most [`MAX_MINUTES`] each.
    siblings: HashMap<PathBuf, Vec<WatchDescriptor>>,
    /// How many watches are charged to each user id, in users' trees only.
    owners: HashMap<u32, usize>,
}

impl WatchTable {
    /// Returns the directory that has the watch `wd`; `None` for an event of a watch that was given
    /// up meanwhile.
    pub(crate) fn get(&self, wd: &WatchDescriptor) -> Option<&Node> {
        self.nodes.get(wd)
    }

    /// Returns how many directories are watched.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Notes that something has happened in a directory just now.
    pub(crate) fn touch(&mut self, wd: &WatchDescriptor, now: Now) {
        if let Some(node) = self.nodes.get_mut(wd) {
            node.active = now.unix;
        }
    }

    /// Returns the watch of the directory at `path`.
    pub(crate) fn at(&self, path: &Path) -> Option<&WatchDescriptor> {
        self.paths.get(path)
    }

    /// Returns how many directories of the trees of the user `uid` are watched.
    pub(crate) fn of_owner(&self, uid: u32) -> usize {
        self.owners.get(&uid).copied().unwrap_or_default()
    }

    /// Returns the user id to which a watch on the directory at `path` is charged: the owner of the
    /// user's tree that it is in. A directory of another owner inside that tree counts there too,
    /// or a user with many ids (user namespaces) would have many shares.
    pub(crate) fn charged(&self, path: &Path, place: Place, stat: &Stat) -> u32 {
        let tree = match place {
            Place::UserDay | Place::UserMinute => path.iter().next(),
            Place::Root | Place::User | Place::FlatDay | Place::FlatMinute => None,
        };
        let node = tree.and_then(|tree| self.nodes.get(self.at(Path::new(tree))?));
        node.map_or(stat.st_uid, |node| node.uid)
    }

    /// Adds a directory with the watch `wd`, under its new path if it was known under another.
    ///
    /// Returns the path of the directory to give up in exchange, if there are too many beside it:
    /// the least recently used one, those of the present last.
    pub(crate) fn insert(
        &mut self,
        wd: &WatchDescriptor,
        path: &Path,
        place: Place,
        stat: &Stat,
        now: Now,
    ) -> Option<PathBuf> {
        self.forget(wd);
        self.paths.insert(path.to_owned(), wd.clone());
        let uid = self.charged(path, place, stat);
        if place.is_in_user_tree() {
            *self.owners.entry(uid).or_default() += 1;
        }
        let node = Node {
            path: path.to_owned(),
            place,
            uid,
            // Only the owner can set a directory's time into the future; it shall not help.
            active: stat.st_mtime.min(now.unix),
        };
        self.nodes.insert(wd.clone(), node);
        let limit = match place {
            Place::FlatDay | Place::UserDay => MAX_DAYS,
            Place::FlatMinute | Place::UserMinute => MAX_MINUTES,
            Place::Root | Place::User => return None,
        };
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        let siblings = self.siblings.entry(parent).or_default();
        siblings.push(wd.clone());
        if siblings.len() <= limit {
            return None;
        }
        let nodes = siblings.iter().filter_map(|wd| self.nodes.get(wd));
        let worth = |node: &&Node| (now.is_current(&node.path, node.place), node.active);
        nodes.min_by_key(worth).map(|node| node.path.clone())
    }

    /// Takes a directory out. The watch itself is the caller's to remove.
    pub(crate) fn forget(&mut self, wd: &WatchDescriptor) {
        let Some(node) = self.nodes.remove(wd) else {
            return;
        };
        if node.place.is_in_user_tree()
            && let Some(count) = self.owners.get_mut(&node.uid)
        {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&node.uid);
            }
        }
        if self.paths.get(&node.path) == Some(wd) {
            self.paths.remove(&node.path);
        }
        if let Some(parent) = node.path.parent()
            && let Some(siblings) = self.siblings.get_mut(parent)
        {
            siblings.retain(|other| other != wd);
            if siblings.is_empty() {
                self.siblings.remove(parent);
            }
        }
    }

    /// Returns the watches on the directory at `path` and on all below it, the deepest first.
    pub(crate) fn at_and_below(&self, path: &Path) -> Vec<WatchDescriptor> {
        let below = self
            .paths
            .range(path.to_owned()..)
            .take_while(|(at, _)| at.starts_with(path));
        let mut found: Vec<_> = below.collect();
        found.sort_by_key(|(at, _)| Reverse(at.components().count()));
        found.into_iter().map(|(_, wd)| wd.clone()).collect()
    }

    /// Returns the watches on minutes in which nothing has happened for [`IDLE_SECONDS`] and
    /// nothing is expected to.
    pub(crate) fn idle(&self, now: Now) -> Vec<WatchDescriptor> {
        let idle = |node: &Node| {
            node.place.is_minute()
                && node.active < now.unix - IDLE_SECONDS
                && !now.is_current(&node.path, node.place)
        };
        self.nodes
            .iter()
            .filter(|(_, node)| idle(node))
            .map(|(wd, _)| wd.clone())
            .collect()
    }
}

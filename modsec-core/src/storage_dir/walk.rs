//! Going through the tree: trees in any order, in each tree days and minutes oldest first.
//!
//! ```text
//! Walk ──► EntryDir  .modsec-parser                   (what was claimed, or left by a crash)
//!      ──► EntryDir  20260822/20260822-1014           (flat tree, by day and minute)
//!      ──► EntryDir  20260822/20260822-1015
//!      ──► EntryDir  site1/20260822/20260822-1015     (each user's tree, in the directory's order)
//!           └─ EntryFiles ──► EntryFile 20260822-101500-ZxA   (in the directory's order, streamed)
//! ```
//!
//! Memory: of a tree only the names of its days and of one day's minutes are held and sorted. A
//! name counts only if it is a real date, so there are at most 36,525 days and 1,440 minutes,
//! however many names a site user makes. Users and files are streamed.
//!
//! Everything that is no part of the layout is counted in a [`LeftAlone`] and skipped: nothing that
//! a site user makes ends a walk.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec;

use chrono::NaiveDate;

use super::SharedTree;
use super::dir::Dir;
use super::entry::EntryFile;
use super::private::{self, PRIVATE, is_private};
use crate::names::{EntryName, LOST_AND_FOUND, MinuteDir, Place, day_name, is_user, parse_day};
use crate::spool::{Found, LeftAlone, Listing, Reason, Refusal};

/// What was left alone so far, counted by several threads: a walk and the directories that it has
/// yielded share one.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Arc<Mutex<LeftAlone>>);

impl Refusals {
    /// Counts one refusal.
    fn add(&self, refusal: Refusal) {
        self.get().add(refusal);
    }

    /// Locks the counters. They are whole even if a thread died holding the lock.
    fn get(&self) -> MutexGuard<'_, LeftAlone> {
        // Counters are whole even if a thread died holding them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every directory that may hold entries: first the private one, then the minute directories of
/// the flat tree, then those of each user's tree.
///
/// Within a tree days and minutes come oldest first. Only the names of days and minutes are
/// collected, and of those there are no more than in a calendar; everything else streams. Links,
/// foreign names and what may not be entered are skipped and counted. A tree that changes
/// meanwhile is fine: what is gone is not yielded, what is new may or may not be.
#[derive(Debug)]
pub struct Walk {
    /// The tree that is walked.
    storage: Arc<SharedTree>,
    /// Counts what is left alone, shared with the directories that were yielded.
    refusals: Refusals,
    /// Whether the private directory is still to come.
    private: bool,
    /// Names in the storage directory that may be users; `None` before the start and after an
    /// error.
    users: Option<Listing>,
    /// The tree that is being walked.
    at: Option<Minutes>,
}

impl Walk {
    /// Begins a walk. Nothing is opened before the first call of `next`.
    pub(super) fn new(storage: Arc<SharedTree>) -> Self {
        Walk {
            storage,
            refusals: Refusals::default(),
            private: true,
            users: None,
            at: None,
        }
    }

    /// Returns what was left alone so far, by this walk and in the directories it yielded.
    pub fn left_alone(&self) -> LeftAlone {
        self.refusals.get().clone()
    }

    /// Opens the flat tree and begins to list users; returns the private directory, if there is
    /// one.
    fn start(&mut self) -> Option<EntryDir> {
        let root = &self.storage.root;
        self.at = Some(Minutes::new(root, Depth::Root, &self.refusals));
        self.users = match root.list() {
            Ok(listing) => Some(listing),
            Err(error) => {
                self.refusals.add(root.own_refusal(error));
                None
            }
        };
        let dir = match self.storage.private() {
            Some(private) => Arc::clone(&private.dir),
            None => self.left_behind()?,
        };
        Some(self.entry_dir(dir, None))
    }

    /// Opens the private directory of an earlier run without its lock, so that a dry run sees the
    /// entries in it too. Only one that belongs to this account: any other may be a site user's.
    fn left_behind(&self) -> Option<Arc<Dir>> {
        let root = &self.storage.root;
        match root.open(OsStr::new(PRIVATE)) {
            Ok(dir) => {
                let owner = dir.file().metadata().ok()?.uid();
                if owner == rustix::process::geteuid().as_raw() {
                    return Some(dir);
                }
                self.refusals.add(root.refusal(dir.name(), Reason::Name));
            }
            Err(refusal) => self.refusals.add(refusal),
        }
        None
    }

    /// Opens the next directory in the storage directory that may be a user's tree; `None` at the
    /// end.
    fn next_user(&mut self) -> Option<Minutes> {
        let root = &self.storage.root;
        loop {
            let found = match self.users.as_mut()?.next()? {
                Ok(found) => found,
                Err(error) => {
                    self.refusals.add(root.own_refusal(error));
                    return None;
                }
            };
            match open_user(root, &found) {
                Ok(Some(dir)) => return Some(Minutes::new(&dir, Depth::User, &self.refusals)),
                Ok(None) => {}
                Err(refusal) => self.refusals.add(refusal),
            }
        }
    }

    /// Makes the item for a directory; `minute` is `None` for the private one.
    fn entry_dir(&self, dir: Arc<Dir>, minute: Option<(MinuteDir, Newest)>) -> EntryDir {
        EntryDir::new(&self.storage, self.refusals.clone(), dir, minute)
    }
}

impl Iterator for Walk {
    type Item = EntryDir;

    /// Opens the next minute. What vanished meanwhile, or cannot be opened, is counted and skipped.
    fn next(&mut self) -> Option<EntryDir> {
        if std::mem::take(&mut self.private)
            && let Some(private) = self.start()
        {
            return Some(private);
        }
        loop {
            if let Some((dir, minute)) = self.at.as_mut().and_then(Minutes::next) {
                return Some(self.entry_dir(dir, Some(minute)));
            }
            self.at = Some(self.next_user()?);
        }
    }
}

/// Returns the private directory alone; `None` if this process has not locked the tree.
pub(super) fn claimed(storage: &Arc<SharedTree>) -> Option<EntryDir> {
    let dir = Arc::clone(&storage.private()?.dir);
    Some(EntryDir::new(storage, Refusals::default(), dir, None))
}

/// Finds one file by its path below the storage directory, see [`super::StorageDir::entry_at`].
pub(super) fn entry_at(storage: &Arc<SharedTree>, relative: &Path) -> Result<EntryFile, Refusal> {
    let refused = || storage.root.refusal(relative.as_os_str(), Reason::Name);
    let (Some(dir), Some(name)) = (relative.parent(), relative.file_name()) else {
        return Err(refused());
    };
    entry_dir_at(storage, dir)?.file_named(name)
}

/// Finds one minute directory by its path, see [`super::StorageDir::entry_dir_at`].
///
/// It counts as the newest of its tree, because the others were not looked at: so it is not pruned.
pub(super) fn entry_dir_at(
    storage: &Arc<SharedTree>,
    relative: &Path,
) -> Result<EntryDir, Refusal> {
    let refused = || storage.root.refusal(relative.as_os_str(), Reason::Name);
    let is_minute = Place::of(relative).is_some_and(Place::is_minute);
    let name = relative.file_name().filter(|_| is_minute);
    let minute = name.and_then(|name| MinuteDir::parse(name.as_bytes()));
    let minute = minute.ok_or_else(refused)?;
    let mut dir = Arc::clone(&storage.root);
    for name in relative {
        dir = dir.open(name)?;
    }
    // The tree is not listed, so it is not known which minute is the newest.
    let minute = Some((minute, Newest::Yes));
    Ok(EntryDir::new(storage, Refusals::default(), dir, minute))
}

/// Opens `found`, an entry of the storage directory, if it may be a user's tree.
///
/// `Ok(None)` for names that are no user's and no mistake either: days of the flat tree, the
/// private directory, one that was about to become it, and `lost+found` of the file system.
///
/// # Errors
///
/// Why anything else was left alone: a foreign name (an index or another log beside the trees
/// counts as one), a link, or what the kernel said.
pub(super) fn open_user(root: &Arc<Dir>, found: &Found) -> Result<Option<Arc<Dir>>, Refusal> {
    let name = found.name.as_bytes();
    if parse_day(name).is_some() || name == PRIVATE.as_bytes() {
        return Ok(None);
    }
    match found.not_a_directory() {
        // The index and other logs may lie beside the trees.
        Some(Reason::File) => Err(root.refusal(&found.name, Reason::Name)),
        Some(reason) => Err(root.refusal(&found.name, reason)),
        None if name == LOST_AND_FOUND.as_bytes() || is_private(&found.name) => Ok(None),
        None if !is_user(name) => Err(root.refusal(&found.name, Reason::Name)),
        None => root.open(&found.name).map(Some),
    }
}

/// At which level of the storage directory a tree of days begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// In the storage directory itself (flat layout), where names that are no day may be users.
    Root,
    /// In a user's directory, where every name that is no day is foreign.
    User,
}

/// Returns the days in the directory `dir`, oldest first; counts in `refusals` what else is there.
pub(super) fn days(dir: &Dir, depth: Depth, refusals: &Refusals) -> Vec<NaiveDate> {
    let foreign = match depth {
        Depth::Root => None, // may be a user's tree, looked at later
        Depth::User => Some(refusals),
    };
    sorted(dir, parse_day, refusals, foreign)
}

/// Returns the minutes in the directory of `day`, oldest first.
///
/// Only those whose name begins with that day: `20260822/20260823-0000` fits no layout, and counts
/// as a foreign name.
pub(super) fn minutes(dir: &Dir, day: NaiveDate, refusals: &Refusals) -> Vec<MinuteDir> {
    let parse = |name: &[u8]| MinuteDir::parse(name).filter(|minute| minute.date == day);
    sorted(dir, parse, refusals, Some(refusals))
}

/// Lists `dir` and returns what `parse` makes of the names, sorted.
///
/// A name that parses but is no directory is counted in `refusals`, one that does not parse in
/// `foreign`, if given. Only what the listing says about the type is used; opening decides.
fn sorted<T: Ord>(
    dir: &Dir,
    parse: impl Fn(&[u8]) -> Option<T>,
    refusals: &Refusals,
    foreign: Option<&Refusals>,
) -> Vec<T> {
    let mut names = Vec::new();
    let listing = dir
        .list()
        .map_err(|error| refusals.add(dir.own_refusal(error)));
    for found in listing.into_iter().flatten() {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                refusals.add(dir.own_refusal(error));
                break;
            }
        };
        match (parse(found.name.as_bytes()), found.not_a_directory()) {
            (Some(name), None) => names.push(name),
            (Some(_), Some(reason)) => refusals.add(dir.refusal(&found.name, reason)),
            (None, _) => {
                if let Some(refusals) = foreign {
                    refusals.add(dir.refusal(&found.name, Reason::Name));
                }
            }
        }
    }
    names.sort_unstable();
    names
}

/// Returns the newest minute directory of the tree `dir`, among `days` (ascending): the one that a
/// writer most likely uses now, so it is never pruned. `None` if no day has any.
pub(super) fn newest_minute(dir: &Arc<Dir>, days: &[NaiveDate]) -> Option<MinuteDir> {
    let uncounted = Refusals::default();
    days.iter().rev().find_map(|day| {
        let dir = dir.open(&day_dir_name(*day)).ok()?;
        minutes(&dir, *day, &uncounted).pop()
    })
}

/// Returns the name of a day's directory, `YYYYMMDD`.
pub(super) fn day_dir_name(day: NaiveDate) -> OsString {
    OsString::from(day_name(day))
}

/// Whether a minute directory is the last one of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    /// It is, and is never pruned.
    Yes,
    /// It is not.
    No,
}

/// The minute directories of one tree, oldest first, opened one at a time.
#[derive(Debug)]
struct Minutes {
    /// The directory with the days.
    tree: Arc<Dir>,
    /// Counts what is left alone, shared with the walk.
    refusals: Refusals,
    /// Days still to come.
    days: vec::IntoIter<NaiveDate>,
    /// The newest minute of the tree when the walk of it began.
    newest: Option<MinuteDir>,
    /// The day at hand, open, and its minutes still to come.
    day: Option<(Arc<Dir>, vec::IntoIter<MinuteDir>)>,
}

impl Minutes {
    /// Lists the days of `tree`, and finds its newest minute.
    fn new(tree: &Arc<Dir>, depth: Depth, refusals: &Refusals) -> Self {
        let days = days(tree, depth, refusals);
        Minutes {
            newest: newest_minute(tree, &days),
            tree: Arc::clone(tree),
            refusals: refusals.clone(),
            days: days.into_iter(),
            day: None,
        }
    }

    /// Opens the next minute. What vanished meanwhile, or cannot be opened, is counted and skipped.
    fn next(&mut self) -> Option<(Arc<Dir>, (MinuteDir, Newest))> {
        loop {
            if let Some((day, minutes)) = &mut self.day
                && let Some(minute) = minutes.next()
            {
                match day.open(OsStr::new(&minute.to_string())) {
                    Ok(dir) if self.newest == Some(minute) => {
                        return Some((dir, (minute, Newest::Yes)));
                    }
                    Ok(dir) => return Some((dir, (minute, Newest::No))),
                    Err(refusal) => self.refusals.add(refusal),
                }
                continue;
            }
            let date = self.days.next()?;
            self.day = match self.tree.open(&day_dir_name(date)) {
                Ok(dir) => {
                    let minutes = minutes(&dir, date, &self.refusals).into_iter();
                    Some((dir, minutes))
                }
                Err(refusal) => {
                    self.refusals.add(refusal);
                    None
                }
            };
        }
    }
}

/// A directory that may hold entries, held open: that of a minute, or the private one.
///
/// It stays the same directory, whatever is at its path later. Clones share the descriptor.
#[derive(Debug, Clone)]
pub struct EntryDir {
    /// The tree. Files of this directory are moved into its private one to be removed.
    storage: Arc<SharedTree>,
    /// Counts what is left alone in it, shared with the walk.
    refusals: Refusals,
    /// The directory itself.
    pub(super) dir: Arc<Dir>,
    /// The minute that it stands for; `None` for the private directory.
    pub(super) minute: Option<(MinuteDir, Newest)>,
    /// Whether it was listed before, so that what is left alone is counted once.
    listed: Arc<AtomicBool>,
}

impl EntryDir {
    /// Makes a directory that was not listed yet; `refusals` counts what is left alone in it.
    fn new(
        storage: &Arc<SharedTree>,
        refusals: Refusals,
        dir: Arc<Dir>,
        minute: Option<(MinuteDir, Newest)>,
    ) -> Self {
        EntryDir {
            storage: Arc::clone(storage),
            refusals,
            dir,
            minute,
            listed: Arc::default(),
        }
    }

    /// Returns the minute that the directory stands for; `None` for the private directory.
    pub fn minute(&self) -> Option<MinuteDir> {
        self.minute.map(|(minute, _)| minute)
    }

    /// Returns by which path it was reached, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.path()
    }

    /// Returns the user id of the directory's owner; `None` if fstat(2) failed.
    pub(crate) fn owner(&self) -> Option<u32> {
        self.dir.owner()
    }

    /// Reads the directory from its beginning, in the file system's order and without
    /// collecting: a million files take as much memory as one.
    ///
    /// POSIX leaves open what a listing yields while files come and go, and some network file
    /// systems then skip a few. So once the files of one listing have been removed, call this
    /// again until nothing more comes that can be taken. What is left alone is counted the first
    /// time only.
    pub fn files(&self) -> EntryFiles {
        let listing = self.dir.list();
        let count = !self.listed.swap(true, Ordering::Relaxed);
        EntryFiles {
            listing: match listing {
                Ok(listing) => Some(listing),
                Err(error) => {
                    self.refusals.add(self.dir.own_refusal(error));
                    None
                }
            },
            of: self.clone(),
            count,
        }
    }

    /// Returns the file `name` of this minute directory, whether it is there or not. Opens nothing.
    ///
    /// # Errors
    ///
    /// [`Reason::Name`] if it is no name of an entry (`YYYYMMDD-HHMMSS-TXID`), or this is the
    /// private directory.
    pub fn file_named(&self, name: &OsStr) -> Result<EntryFile, Refusal> {
        let fits = self.minute.is_some() && EntryName::parse(name.as_bytes()).is_some();
        if !fits {
            return Err(self.dir.refusal(name, Reason::Name));
        }
        Ok(EntryFile {
            tree: Arc::clone(&self.storage),
            dir: Arc::clone(&self.dir),
            name: name.to_owned(),
            claimed: false,
        })
    }

    /// Makes an [`EntryFile`] of a name that was listed; `None` for the program's own files and for
    /// files that a removal works on.
    ///
    /// # Errors
    ///
    /// [`Reason::Name`], or what the listing says that it is instead of a file.
    fn file(&self, found: Found) -> Result<Option<EntryFile>, Refusal> {
        let claimed = self.minute.is_none();
        let is_removing = |name| {
            let private = self.storage.private();
            private.is_some_and(|private| private.is_removing(name))
        };
        if claimed && (private::is_own_file(&found.name) || is_removing(&found.name)) {
            return Ok(None);
        }
        let name = if claimed {
            private::original_name(&found.name)
        } else {
            Some(found.name.as_os_str())
        };
        if name.is_none_or(|name| EntryName::parse(name.as_bytes()).is_none()) {
            return Err(self.dir.refusal(&found.name, Reason::Name));
        }
        if let Some(reason) = found.not_a_file() {
            return Err(self.dir.refusal(&found.name, reason));
        }
        Ok(Some(EntryFile {
            tree: Arc::clone(&self.storage),
            dir: Arc::clone(&self.dir),
            name: found.name,
            claimed,
        }))
    }
}

/// What a listing has come to.
#[derive(Debug)]
pub(crate) enum Name {
    /// A name of an entry.
    Entry(EntryFile),
    /// Any other name, already counted. It is yielded too, so that looking at a million of them can
    /// be charged to the owner of the directory.
    Other,
}

/// Iterates over the files of one directory whose names are those of entries, without opening them.
///
/// Made by [`EntryDir::files`]. Other names are counted in [`Walk::left_alone`] and skipped.
#[derive(Debug)]
pub struct EntryFiles {
    /// The directory that is listed.
    of: EntryDir,
    /// Names still to come; `None` after an error.
    listing: Option<Listing>,
    /// Whether other names are counted: in the first listing of a directory only.
    count: bool,
}

impl EntryFiles {
    /// Goes on to the next name; `None` at the end, or after the directory could not be read
    /// further.
    pub(crate) fn step(&mut self) -> Option<Name> {
        let refusal = match self.listing.as_mut()?.next()? {
            Ok(found) => match self.of.file(found) {
                Ok(Some(file)) => return Some(Name::Entry(file)),
                Ok(None) => return Some(Name::Other),
                Err(refusal) => refusal,
            },
            Err(error) => {
                self.listing = None;
                self.of.dir.own_refusal(error)
            }
        };
        if self.count {
            self.of.refusals.add(refusal);
        }
        Some(Name::Other)
    }
}

impl Iterator for EntryFiles {
    type Item = EntryFile;

    fn next(&mut self) -> Option<EntryFile> {
        loop {
            if let Name::Entry(file) = self.step()? {
                return Some(file);
            }
        }
    }
}

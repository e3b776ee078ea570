//! Going through the tree: trees in any order, in each tree days and minutes oldest first.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec;

use chrono::NaiveDate;

use super::Tree;
use super::dir::Dir;
use super::entry::EntryFile;
use super::private::{self, PRIVATE};
use crate::names::{EntryName, LOST_AND_FOUND, MinuteDir, Place, day_name, is_user, parse_day};
use crate::spool::{Found, LeftAlone, Listing, Reason, Refusal};

/// What was left alone, counted from several threads.
#[derive(Debug, Clone, Default)]
pub(super) struct Left(Arc<Mutex<LeftAlone>>);

impl Left {
    fn add(&self, refusal: Refusal) {
        self.get().add(refusal);
    }

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
    storage: Arc<Tree>,
    left: Left,
    private: bool,
    users: Option<Listing>,
    at: Option<Minutes>,
}

impl Walk {
    pub(super) fn new(storage: Arc<Tree>) -> Self {
        Walk {
            storage,
            left: Left::default(),
            private: true,
            users: None,
            at: None,
        }
    }

    /// Returns what was left alone so far, by this walk and in the directories it yielded.
    pub fn left_alone(&self) -> LeftAlone {
        self.left.get().clone()
    }

    /// Yields the private directory and gets ready for the flat tree.
    fn start(&mut self) -> Option<EntryDir> {
        let root = &self.storage.root;
        self.at = Some(Minutes::new(root, Depth::Root, &self.left));
        self.users = match root.list() {
            Ok(listing) => Some(listing),
            Err(error) => {
                self.left.add(root.own_refusal(error));
                None
            }
        };
        let dir = match self.storage.private() {
            Some(private) => Arc::clone(&private.dir),
            None => self.left_behind()?,
        };
        Some(self.entry_dir(dir, None))
    }

    /// Opens the private directory of an earlier run without locking it.
    fn left_behind(&self) -> Option<Arc<Dir>> {
        let root = &self.storage.root;
        match root.open(OsStr::new(PRIVATE)) {
            Ok(dir) => {
                let owner = dir.file().metadata().ok()?.uid();
                if owner == rustix::process::geteuid().as_raw() {
                    return Some(dir);
                }
                self.left.add(root.refusal(dir.name(), Reason::Name));
            }
            Err(refusal) => self.left.add(refusal),
        }
        None
    }

    /// Opens the next directory in the root that may be a user's tree.
    fn next_user(&mut self) -> Option<Minutes> {
        let root = &self.storage.root;
        loop {
            let found = match self.users.as_mut()?.next()? {
                Ok(found) => found,
                Err(error) => {
                    self.left.add(root.own_refusal(error));
                    return None;
                }
            };
            match open_user(root, &found) {
                Ok(Some(dir)) => return Some(Minutes::new(&dir, Depth::User, &self.left)),
                Ok(None) => {}
                Err(refusal) => self.left.add(refusal),
            }
        }
    }

    fn entry_dir(&self, dir: Arc<Dir>, minute: Option<(MinuteDir, Newest)>) -> EntryDir {
        EntryDir {
            storage: Arc::clone(&self.storage),
            left: self.left.clone(),
            dir,
            minute,
            listed: Arc::default(),
        }
    }
}

impl Iterator for Walk {
    type Item = EntryDir;

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

/// The private directory alone.
pub(super) fn claimed(storage: &Arc<Tree>) -> Option<EntryDir> {
    let dir = Arc::clone(&storage.private()?.dir);
    Some(EntryDir {
        storage: Arc::clone(storage),
        left: Left::default(),
        dir,
        minute: None,
        listed: Arc::default(),
    })
}

/// Finds one file by its path below the root.
pub(super) fn entry_at(storage: &Arc<Tree>, relative: &Path) -> Result<EntryFile, Refusal> {
    let refused = || storage.root.refusal(relative.as_os_str(), Reason::Name);
    let (Some(dir), Some(name)) = (relative.parent(), relative.file_name()) else {
        return Err(refused());
    };
    entry_dir_at(storage, dir)?.file_named(name)
}

/// Finds one minute directory by its path below the root.
pub(super) fn entry_dir_at(storage: &Arc<Tree>, relative: &Path) -> Result<EntryDir, Refusal> {
    let refused = || storage.root.refusal(relative.as_os_str(), Reason::Name);
    let is_minute = Place::of(relative).is_some_and(Place::is_minute);
    let name = relative.file_name().filter(|_| is_minute);
    let minute = name.and_then(|name| MinuteDir::parse(name.as_bytes()));
    let minute = minute.ok_or_else(refused)?;
    let mut dir = Arc::clone(&storage.root);
    for name in relative {
        dir = dir.open(name)?;
    }
    Ok(EntryDir {
        storage: Arc::clone(storage),
        left: Left::default(),
        dir,
        // Who does not list the tree does not know which is the newest.
        minute: Some((minute, Newest::Yes)),
        listed: Arc::default(),
    })
}

/// Opens `found`, an entry of the root, if it may be a user's tree. Day directories, the private
/// directory and that of the file system are no trees and no mistakes.
pub(super) fn open_user(root: &Arc<Dir>, found: &Found) -> Result<Option<Arc<Dir>>, Refusal> {
    let name = found.name.as_bytes();
    if parse_day(name).is_some() || name == PRIVATE.as_bytes() {
        return Ok(None);
    }
    match found.not_a_directory() {
        // The index and other logs may lie beside the trees.
        Some(Reason::File) => Err(root.refusal(&found.name, Reason::Name)),
        Some(reason) => Err(root.refusal(&found.name, reason)),
        None if name == LOST_AND_FOUND.as_bytes() => Ok(None),
        None if !is_user(name) => Err(root.refusal(&found.name, Reason::Name)),
        None => root.open(&found.name).map(Some),
    }
}

/// Where a tree of days begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// In the storage directory itself, beside users' directories.
    Root,
    /// In a user's directory.
    User,
}

/// Returns the days of a tree, oldest first.
pub(super) fn days(dir: &Dir, depth: Depth, left: &Left) -> Vec<NaiveDate> {
    let foreign = match depth {
        Depth::Root => None, // may be a user's tree, looked at later
        Depth::User => Some(left),
    };
    sorted(dir, parse_day, left, foreign)
}

/// Returns the minutes of a day, oldest first. The date of a minute must be that of its day.
pub(super) fn minutes(dir: &Dir, day: NaiveDate, left: &Left) -> Vec<MinuteDir> {
    let parse = |name: &[u8]| MinuteDir::parse(name).filter(|minute| minute.date == day);
    sorted(dir, parse, left, Some(left))
}

fn sorted<T: Ord>(
    dir: &Dir,
    parse: impl Fn(&[u8]) -> Option<T>,
    left: &Left,
    foreign: Option<&Left>,
) -> Vec<T> {
    let mut names = Vec::new();
    let listing = dir.list().map_err(|error| left.add(dir.own_refusal(error)));
    for found in listing.into_iter().flatten() {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                left.add(dir.own_refusal(error));
                break;
            }
        };
        match (parse(found.name.as_bytes()), found.not_a_directory()) {
            (Some(name), None) => names.push(name),
            (Some(_), Some(reason)) => left.add(dir.refusal(&found.name, reason)),
            (None, _) => {
                if let Some(left) = foreign {
                    left.add(dir.refusal(&found.name, Reason::Name));
                }
            }
        }
    }
    names.sort_unstable();
    names
}

/// Returns the newest minute directory among `days` of the tree `dir`. It is never pruned.
pub(super) fn newest_minute(dir: &Arc<Dir>, days: &[NaiveDate]) -> Option<MinuteDir> {
    let uncounted = Left::default();
    days.iter().rev().find_map(|day| {
        let dir = dir.open(&day_dir_name(*day)).ok()?;
        minutes(&dir, *day, &uncounted).pop()
    })
}

pub(super) fn day_dir_name(day: NaiveDate) -> OsString {
    OsString::from(day_name(day))
}

/// Whether a minute directory is the last one of its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    Yes,
    No,
}

/// The minute directories of one tree, oldest first.
#[derive(Debug)]
struct Minutes {
    tree: Arc<Dir>,
    left: Left,
    days: vec::IntoIter<NaiveDate>,
    newest: Option<MinuteDir>,
    day: Option<(Arc<Dir>, vec::IntoIter<MinuteDir>)>,
}

impl Minutes {
    fn new(tree: &Arc<Dir>, depth: Depth, left: &Left) -> Self {
        let days = days(tree, depth, left);
        Minutes {
            newest: newest_minute(tree, &days),
            tree: Arc::clone(tree),
            left: left.clone(),
            days: days.into_iter(),
            day: None,
        }
    }

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
                    Err(refusal) => self.left.add(refusal),
                }
                continue;
            }
            let date = self.days.next()?;
            self.day = match self.tree.open(&day_dir_name(date)) {
                Ok(dir) => {
                    let minutes = minutes(&dir, date, &self.left).into_iter();
                    Some((dir, minutes))
                }
                Err(refusal) => {
                    self.left.add(refusal);
                    None
                }
            };
        }
    }
}

/// A directory that may hold entries, held open.
#[derive(Debug, Clone)]
pub struct EntryDir {
    storage: Arc<Tree>,
    left: Left,
    pub(super) dir: Arc<Dir>,
    pub(super) minute: Option<(MinuteDir, Newest)>,
    listed: Arc<AtomicBool>,
}

impl EntryDir {
    /// Returns the minute that the directory stands for; `None` for the private directory.
    pub fn minute(&self) -> Option<MinuteDir> {
        self.minute.map(|(minute, _)| minute)
    }

    /// Returns by which path it was reached, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.path()
    }

    /// Returns the user id of the directory's owner, if the kernel tells.
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
    pub fn files(&self) -> Files {
        let listing = self.dir.list();
        let count = !self.listed.swap(true, Ordering::Relaxed);
        Files {
            listing: match listing {
                Ok(listing) => Some(listing),
                Err(error) => {
                    self.left.add(self.dir.own_refusal(error));
                    None
                }
            },
            of: self.clone(),
            count,
        }
    }

    /// Returns the file `name` of this minute directory, whether it is there or not.
    ///
    /// # Errors
    ///
    /// [`Reason::Name`] if it is no name of an entry.
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

    fn file(&self, found: Found) -> Result<Option<EntryFile>, Refusal> {
        let claimed = self.minute.is_none();
        if claimed && private::is_own_file(&found.name) {
            return Ok(None);
        }
        let removing = self
            .storage
            .private()
            .is_some_and(|private| claimed && private.is_removing(&found.name));
        if removing {
            return Ok(None);
        }
        let name = if claimed {
            private::original_name(&found.name)
        } else {
            Some(found.name.as_os_str())
        };
        if name
            .and_then(|name| EntryName::parse(name.as_bytes()))
            .is_none()
        {
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

/// A name in a directory.
#[derive(Debug)]
pub(crate) enum Name {
    Entry(EntryFile),
    /// None of an entry.
    Other,
}

/// The files of one directory whose names are those of entries.
#[derive(Debug)]
pub struct Files {
    of: EntryDir,
    listing: Option<Listing>,
    count: bool,
}

impl Files {
    /// Goes on to the next name; `None` at the end.
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
            self.of.left.add(refusal);
        }
        Some(Name::Other)
    }
}

impl Iterator for Files {
    type Item = EntryFile;

    fn next(&mut self) -> Option<EntryFile> {
        loop {
            if let Name::Entry(file) = self.step()? {
                return Some(file);
            }
        }
    }
}

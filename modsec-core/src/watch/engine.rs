//! The watcher without waiting: kernel events, walks, and the state of the storage directory.

mod watches;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor};
use rustix::fs::{FileType, Stat};

use super::closed::Closed;
use super::pace::{Owner, Pace};
use super::root::{Root, RootError};
use super::table::{Now, Table};
use super::walk::{Step, Walk, site_of};
use super::{Directory, Event, Files, Options, Place, RescanReason, WatchError};
use crate::spool::Reason;

/// Room for some thousand events per read.
const BUFFER: usize = 64 * 1024;
/// How often to look whether the storage directory is still the one at its path. inotify does not
/// tell of mounts, nor of a parent that is moved away.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often to look for a storage directory that is not there.
const LOOK_FOR_EVERY: Duration = Duration::from_millis(100);
/// How often to give up watches on idle minutes.
const RETIRE_EVERY: Duration = Duration::from_secs(60);
/// How often to try again to watch what could not be watched.
const RETRY_EVERY: Duration = Duration::from_secs(30);
/// After so many events in a row the walks and the clock get a turn, so that a flood cannot hold
/// them up.
const PATIENCE_OF_OTHERS: u32 = 64;

#[derive(Debug)]
struct Raw {
    wd: WatchDescriptor,
    mask: EventMask,
    name: Option<OsString>,
}

/// How something was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The kernel tells of it.
    Event,
    /// In a directory that has just appeared: urgent.
    Fresh,
    /// In a walk over the whole tree.
    Sweep,
}

#[derive(Debug)]
pub(crate) struct Engine {
    path: PathBuf,
    options: Options,
    inotify: Inotify,
    buffer: Box<[u8]>,
    raw: VecDeque<Raw>,
    out: VecDeque<Event>,
    /// Files to be reported.
    closed: Closed,
    root: Option<Root>,
    /// Text of the last reported reason for not having a root, so that it is reported once.
    complaint: Option<String>,
    /// What the next walk over the whole tree is for, after the current one.
    next_sweep: Option<RescanReason>,
    current_sweep: Option<RescanReason>,
    sweep: Walk,
    fresh: Walk,
    table: Table,
    pace: Pace,
    /// Users who have been told that they have all the watches they get.
    full: BTreeSet<u32>,
    turn: u32,
    now: Now,
    look_at: Instant,
    retire_at: Instant,
    retry_at: Option<Instant>,
    periodic_at: Option<Instant>,
}

impl Engine {
    pub(crate) fn new(path: &Path, options: Options) -> Result<Self, WatchError> {
        let start = Instant::now();
        let mut engine = Self {
            path: path.to_owned(),
            inotify: Inotify::init().map_err(WatchError::Start)?,
            buffer: vec![0; BUFFER].into(),
            raw: VecDeque::new(),
            out: VecDeque::new(),
            closed: Closed::default(),
            root: None,
            complaint: None,
            next_sweep: None,
            current_sweep: None,
            sweep: Walk::default(),
            fresh: Walk::default(),
            table: Table::default(),
            pace: Pace::default(),
            full: BTreeSet::new(),
            turn: 0,
            now: Now::read(),
            look_at: start,
            retire_at: start + RETIRE_EVERY,
            retry_at: None,
            periodic_at: options.rescan_after.map(|after| start + after),
            options,
        };
        engine.look_for_root(RescanReason::Started);
        Ok(engine)
    }

    pub(crate) fn patience(&self) -> Duration {
        self.look_at.saturating_duration_since(Instant::now())
    }

    pub(crate) fn watched(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn rescan(&mut self, reason: RescanReason) {
        if self.root.is_some() {
            self.next_sweep = Some(reason);
        }
    }

    pub(crate) fn try_next(&mut self) -> Result<Option<Event>, WatchError> {
        loop {
            if let Some(event) = self.out.pop_front() {
                return Ok(Some(event));
            }
            if self.raw.is_empty() {
                self.read()?;
            }
            self.turn = self.turn.wrapping_add(1);
            let others_turn = self.turn.is_multiple_of(PATIENCE_OF_OTHERS);
            // After the events: somebody waits for what they bring about.
            if (others_turn || self.raw.is_empty()) && Instant::now() >= self.look_at {
                self.look();
                continue;
            }
            if others_turn {
                let walked = self.walk(Source::Fresh) || self.walk(Source::Sweep);
                if let Some(path) = self.closed.pop() {
                    return Ok(Some(Event::File(path)));
                }
                if walked {
                    continue;
                }
            }
            // All events first, so that every site's files are known when it is decided whose
            // is next.
            if let Some(raw) = self.raw.pop_front() {
                self.take(raw);
            } else if let Some(path) = self.closed.pop() {
                return Ok(Some(Event::File(path)));
            } else if !self.walk(Source::Fresh) && !self.walk(Source::Sweep) {
                return Ok(None);
            }
        }
    }

    fn read(&mut self) -> Result<(), WatchError> {
        match self.inotify.read_events(&mut self.buffer) {
            Ok(events) => self.raw.extend(events.map(|event| Raw {
                wd: event.wd,
                mask: event.mask,
                name: event.name.map(OsString::from),
            })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(WatchError::Read(error)),
        }
        Ok(())
    }

    /// Does what is due by the clock.
    fn look(&mut self) {
        let now = Instant::now();
        self.now = Now::read();
        self.look_at = now + LOOK_EVERY;
        match &self.root {
            None => return self.look_for_root(RescanReason::Returned),
            Some(root) if !root.is_in_place() => return self.lose_root(),
            Some(_) => {}
        }
        for path in self.pace.due(now) {
            self.found_directory(path, Source::Fresh);
        }
        if now >= self.retire_at {
            self.retire_at = now + RETIRE_EVERY;
            for wd in self.table.idle(self.now) {
                self.release(&wd);
            }
        }
        if self.retry_at.is_some_and(|at| now >= at) && self.sweep.is_done() {
            self.retry_at = None;
            self.next_sweep = Some(RescanReason::Limit);
        }
        if self.periodic_at.is_some_and(|at| now >= at) && self.sweep.is_done() {
            self.periodic_at = self.options.rescan_after.map(|after| now + after);
            self.next_sweep = self.next_sweep.or(Some(RescanReason::Periodic));
        }
    }

    fn look_for_root(&mut self, reason: RescanReason) {
        match Root::open(&self.path) {
            Ok(root) => {
                self.root = Some(root);
                self.complaint = None;
                self.next_sweep = Some(reason);
            }
            Err(error) => self.complain(error),
        }
    }

    fn complain(&mut self, error: RootError) {
        self.look_at = Instant::now() + LOOK_FOR_EVERY;
        let text = error.to_string();
        if self.complaint.as_ref() != Some(&text) {
            self.complaint = Some(text);
            self.out.push_back(Event::Lost(error));
        }
    }

    /// Forgets the tree, and looks at once for another at its path.
    fn lose_root(&mut self) {
        let Some(root) = self.root.take() else { return };
        self.give_up(Path::new(""));
        self.raw.clear();
        self.closed.clear();
        self.fresh.clear();
        self.sweep.clear();
        self.pace.clear();
        (self.current_sweep, self.next_sweep, self.retry_at) = (None, None, None);
        self.out.push_back(Event::Lost(RootError::Gone {
            path: root.path().to_owned(),
        }));
        self.look_for_root(RescanReason::Returned);
    }

    fn take(&mut self, raw: Raw) {
        let Raw { wd, mask, name } = raw;
        if mask.contains(EventMask::Q_OVERFLOW) {
            self.next_sweep = Some(RescanReason::Overflow);
            return;
        }
        let Some(node) = self.table.get(&wd) else {
            return;
        };
        let (place, uid, parent) = (node.place, node.uid, node.path.clone());
        if mask.intersects(EventMask::IGNORED | EventMask::UNMOUNT) {
            self.table.forget(&wd);
        } else if matches!(place, Place::User | Place::UserDay)
            && !self.is_answered(uid, &parent, place)
        {
            // Not watched until its owner is answered again: nothing fills the queue meanwhile.
            return self.give_up(&parent);
        }
        let Some(name) = name else {
            return self.changed_itself(&parent, place, mask);
        };
        let path = parent.join(name);
        self.table.touch(&wd, self.now);
        match (
            mask.contains(EventMask::ISDIR),
            mask.contains(EventMask::MOVED_FROM),
        ) {
            (true, true) => self.give_up(&path),
            // What is watched itself tells of itself.
            (true, false) if mask.contains(EventMask::ATTRIB) && self.table.at(&path).is_some() => {
            }
            (true, false) if mask.contains(EventMask::ATTRIB) => self.attributes_changed(&path),
            (true, false) => self.found_directory(path, Source::Event),
            (false, true) => {}
            (false, false) if place.is_minute() => {
                if !self.closed.push(path) {
                    self.next_sweep = Some(RescanReason::Overflow);
                }
            }
            (false, false) => self.found_other(path),
        }
    }

    /// Handles what the kernel tells of a watched directory itself.
    fn changed_itself(&mut self, path: &Path, place: Place, mask: EventMask) {
        let gone = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
        if place != Place::Root && mask.contains(EventMask::ATTRIB) {
            self.attributes_changed(path);
        } else if place == Place::Root && mask.intersects(gone) {
            self.lose_root();
        }
    }

    /// Counts an answer to the owner of the directory at `path`; `false` if it has to wait.
    fn is_answered(&mut self, uid: u32, path: &Path, place: Place) -> bool {
        let owner = match place {
            _ if self.options.directories && !self.is_trusted(uid) => Owner::User(uid),
            Place::User | Place::UserDay | Place::UserMinute => Owner::Site(site_of(path)),
            Place::Root | Place::FlatDay | Place::FlatMinute => return true,
        };
        // With the day what was not heard of in it is found, and it tells of everything again.
        let waits = match place {
            Place::FlatMinute => path.parent().unwrap_or(path),
            _ => path,
        };
        self.pace.answers(owner, waits, Instant::now())
    }

    /// Does one step of a walk; returns `true` if there was one to do.
    fn walk(&mut self, source: Source) -> bool {
        if source == Source::Sweep && self.current_sweep.is_none() {
            let Some(reason) = self.next_sweep.take() else {
                return false;
            };
            self.current_sweep = Some(reason);
            self.sweep.add(PathBuf::new());
        }
        let walk = match source {
            Source::Event | Source::Fresh => &mut self.fresh,
            Source::Sweep => &mut self.sweep,
        };
        match walk.step() {
            Step::Open(path) => self.open(path, source),
            Step::Entry { path, place, kind } => self.entry(path, place, kind, source),
            Step::Done if source != Source::Sweep => return false,
            Step::Done => self
                .out
                .extend(self.current_sweep.take().map(Event::Rescan)),
        }
        true
    }

    /// Watches the directory at `path`, then begins to list it.
    fn open(&mut self, path: PathBuf, source: Source) {
        let Some(place) = Place::of(&path) else {
            return;
        };
        let Some((handle, stat)) = self.opened(&path) else {
            return;
        };
        let was_watched = self.table.at(&path).is_some();
        if self.is_worth_watching(&path, place, &stat, source) && self.has_room(&path, place, &stat)
        {
            self.watch(&path, place, &handle, &stat, self.mask(place));
        }
        let is_new = !was_watched && self.table.at(&path).is_some();
        if is_new && matches!(place, Place::User | Place::FlatDay) {
            // Nothing has told of a change since it was reported.
            self.report(&path, place, Source::Fresh);
        }
        match source {
            Source::Event | Source::Fresh => self.fresh.list(path, place, handle),
            Source::Sweep => self.sweep.list(path, place, handle),
        }
    }

    fn opened(&mut self, path: &Path) -> Option<(OwnedFd, Stat)> {
        match self.root.as_ref()?.open_below(path) {
            Ok(opened) => Some(opened),
            Err(reason) => {
                match reason {
                    Reason::Vanished => {}
                    reason if reason.is_exhausted() => self.limited(),
                    reason => self.refuse(path.to_owned(), reason),
                }
                None
            }
        }
    }

    fn entry(&mut self, path: PathBuf, place: Place, kind: FileType, source: Source) {
        match kind {
            FileType::Directory if !place.is_minute() => self.found_directory(path, source),
            FileType::Directory => {}
            // Some file systems do not say in the list what an entry is.
            FileType::Unknown => {
                let seen = self.root.as_ref().map(|root| root.look_at(&path));
                if let Some(Ok(stat)) = seen {
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    self.entry(path, place, kind, source);
                }
            }
            _ if place.is_minute() && self.reports_found(source) => {
                self.out.push_back(Event::File(path));
            }
            _ if place.is_minute() => {}
            FileType::Symlink => self.refuse(path, Reason::Symlink),
            _ => {}
        }
    }

    fn reports_found(&self, source: Source) -> bool {
        source != Source::Sweep || self.options.files == Files::All
    }

    fn found_directory(&mut self, path: PathBuf, source: Source) {
        let Some(place) = Place::of(&path) else {
            return self.refuse(path, Reason::Name);
        };
        // Others wait for a shared directory too, and corrected it is no longer its maker's.
        let is_shared = matches!(place, Place::FlatDay | Place::FlatMinute);
        let source = match source {
            Source::Event if is_shared => Source::Fresh,
            source => source,
        };
        // Reported first, watched and listed when the caller comes back: who waits for the
        // directory to become usable waits for the least possible time.
        if !self.report(&path, place, source) {
            return;
        }
        if !place.is_minute() || self.options.files != Files::None {
            match source {
                Source::Event | Source::Fresh => self.fresh.add(path),
                Source::Sweep => self.sweep.add(path),
            }
        }
    }

    /// Reports a directory; `false` if that has to wait.
    fn report(&mut self, path: &Path, place: Place, source: Source) -> bool {
        if !self.options.directories {
            return true;
        }
        let Some((handle, stat)) = self.opened(path) else {
            return true;
        };
        // In a directory of one user its owner has been asked already.
        let is_beside_others = matches!(place, Place::User | Place::FlatDay | Place::FlatMinute);
        if source == Source::Event
            && is_beside_others
            && !self.is_answered(stat.st_uid, path, place)
        {
            return false;
        }
        let path = path.to_owned();
        self.out.push_back(Event::Directory(Directory {
            path,
            place,
            handle,
        }));
        true
    }

    /// Looks again at a directory that is known, or about to be: its mode or owner has changed.
    fn attributes_changed(&mut self, path: &Path) {
        let Some(place) = Place::of(path) else {
            return;
        };
        if self.report(path, place, Source::Event) {
            return;
        }
        match place {
            Place::FlatDay => self.hush(path),
            Place::FlatMinute => self.hush(path.parent().unwrap_or(path)),
            _ => {}
        }
    }

    /// Looks at something created that is no directory: only links are worth a word.
    fn found_other(&mut self, path: PathBuf) {
        if !self.options.directories {
            return;
        }
        let seen = self.root.as_ref().map(|root| root.look_at(&path));
        if let Some(Ok(stat)) = seen
            && FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
        {
            self.refuse(path, Reason::Symlink);
        }
    }

    fn refuse(&mut self, path: PathBuf, reason: Reason) {
        if self.options.directories {
            self.out.push_back(Event::Ignored { path, reason });
        }
    }

    pub(crate) fn has_root(&self) -> bool {
        self.root.is_some()
    }

    pub(crate) fn open_below(&self, relative: &Path) -> Result<(OwnedFd, Stat), Reason> {
        self.root
            .as_ref()
            .ok_or(Reason::Vanished)?
            .open_below(relative)
    }

    #[cfg(test)]
    pub(crate) fn lose_events(&mut self) {
        self.raw.clear();
        while let Ok(()) = self.read() {
            if self.raw.is_empty() {
                break;
            }
            self.raw.clear();
        }
        self.next_sweep = Some(RescanReason::Overflow);
    }
}

impl AsFd for Engine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

//! The watcher without waiting: kernel events, walks, and the state of the storage directory.
//!
//! ```text
//! inotify ─read─► raw events ─┬─ directory ─► ready: Event::Directory ─► fresh walk: watch, list
//!                             ├─ file closed ─► closed files, one of each site in turn
//!                             └─ overflow ─► sweep: a walk over the whole tree, then Event::Rescan
//! clock, every second ─► is the storage directory still at its path?  paused owners, idle watches,
//!                        periodic sweep
//! ```
//!
//! Two walks run side by side. The *fresh* walk lists directories that have just appeared; writers
//! wait for them, so it goes first. The *sweep* goes through the whole tree at the start, after
//! lost events, and as a safety net.
//!
//! # No gap between looking and watching
//!
//! A directory is reported, then watched, then listed. What is made in it before the watch is in
//! the list; what is made after it is in an event; what is made between the two is in both. So
//! things may be reported twice, but none is missed. If the kernel's queue overflows, the sweep
//! finds what the lost events would have told.
//!
//! # No site holds the others up
//!
//! Events go first, because a writer may wait for what they bring about. After every 64 of them the
//! clock, each walk and the closed files get one step, so a site user who floods the queue delays
//! the others, and does not stop them. An owner who changes directories without end is put on pause
//! ([`super::rate`]).

mod watches;

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor};
use rustix::fs::{FileType, Stat};

use super::closed_files::ClosedFiles;
use super::listing_queue::{ListingQueue, NextStep, site_of};
use super::rate::{Owner, RateLimit};
use super::root::{Root, RootError};
use super::table::{Now, WatchTable};
use super::{Directory, Event, Options, Place, ReportedFiles, RescanReason, WatchError};
use crate::spool::Reason;

/// Bytes read from inotify at a time: some thousand events.
const BUFFER: usize = 64 * 1024;
/// How often to check whether the storage directory is still the one at its path. inotify reports
/// neither a mount on it, nor that a directory above was moved away.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often to look for a storage directory that is not there.
const RETRY_ROOT_EVERY: Duration = Duration::from_millis(100);
/// How often to end watches on idle minutes.
const UNWATCH_IDLE_EVERY: Duration = Duration::from_secs(60);
/// When to try again to watch what could not be watched.
const RETRY_EVERY: Duration = Duration::from_secs(30);
/// Steps after which walks, closed files and the clock get one each, even if there are more events.
const EVENTS_PER_TURN: u32 = 64;

/// One event as the kernel reports it, see inotify(7).
#[derive(Debug)]
struct RawEvent {
    /// Which watch it belongs to.
    wd: WatchDescriptor,
    /// What has happened.
    mask: EventMask,
    /// The name in the watched directory; `None` if it is about the directory itself.
    name: Option<OsString>,
}

/// How a directory or file was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Discovery {
    /// The kernel has reported it.
    Event,
    /// It was in a directory that has just appeared: urgent.
    Fresh,
    /// It was met in a walk over the whole tree.
    Sweep,
}

/// The state of a [`super::Watcher`].
#[derive(Debug)]
pub(crate) struct WatchEngine {
    /// Path of the storage directory, as the caller gave it.
    path: PathBuf,
    /// What to report.
    options: Options,
    /// The inotify instance; its descriptor becomes readable when there are events.
    inotify: Inotify,
    /// For reading events.
    buffer: Box<[u8]>,
    /// Events that were read and not handled yet.
    raw: VecDeque<RawEvent>,
    /// Events for the caller.
    ready: VecDeque<Event>,
    /// Closed files for the caller; after `ready`.
    closed: ClosedFiles,
    /// The storage directory; `None` while it is not there.
    pub(super) root: Option<Root>,
    /// Text of the last reported reason for not having a root, so that each is reported once.
    reported_loss: Option<String>,
    /// Why the tree is to be walked again once the current walk over it is done.
    next_sweep: Option<RescanReason>,
    /// Why the walk at hand was begun.
    current_sweep: Option<RescanReason>,
    /// The walk over the whole tree.
    sweep: ListingQueue,
    /// The walk through directories that have just appeared.
    fresh: ListingQueue,
    /// All watched directories.
    table: WatchTable,
    /// How much work each owner has caused of late.
    rate: RateLimit,
    /// User ids about which it was logged that they have all the watches they get.
    warned_owners: BTreeSet<u32>,
    /// Counts rounds, see [`EVENTS_PER_TURN`].
    turn: u32,
    /// The clock as of the last check, so that it need not be read for every event.
    now: Now,
    /// When [`WatchEngine::check_clock`] is due.
    check_at: Instant,
    /// When watches on idle minutes are ended next.
    unwatch_idle_at: Instant,
    /// When to try again to watch what could not be watched; `None` if all could be.
    retry_at: Option<Instant>,
    /// When the next walk is due as a safety net; `None`: never.
    periodic_at: Option<Instant>,
}

impl WatchEngine {
    /// Starts inotify and opens the storage directory at `path`, which may be absent.
    ///
    /// # Errors
    ///
    /// [`WatchError::Start`].
    pub(crate) fn new(path: &Path, options: Options) -> Result<Self, WatchError> {
        let start = Instant::now();
        let mut engine = Self {
            path: path.to_owned(),
            inotify: Inotify::init().map_err(WatchError::Start)?,
            buffer: vec![0; BUFFER].into(),
            raw: VecDeque::new(),
            ready: VecDeque::new(),
            closed: ClosedFiles::default(),
            root: None,
            reported_loss: None,
            next_sweep: None,
            current_sweep: None,
            sweep: ListingQueue::default(),
            fresh: ListingQueue::default(),
            table: WatchTable::default(),
            rate: RateLimit::default(),
            warned_owners: BTreeSet::new(),
            turn: 0,
            now: Now::read(),
            check_at: start,
            unwatch_idle_at: start + UNWATCH_IDLE_EVERY,
            retry_at: None,
            periodic_at: options.rescan_after.map(|after| start + after),
            options,
        };
        engine.find_root(RescanReason::Started);
        Ok(engine)
    }

    /// Returns how long a caller may wait for the descriptor before it calls again: until the next
    /// check.
    pub(crate) fn patience(&self) -> Duration {
        self.check_at.saturating_duration_since(Instant::now())
    }

    /// Returns how many directories are watched.
    pub(crate) fn watched(&self) -> usize {
        self.table.len()
    }

    /// Has the whole tree walked once more, after the current walk.
    pub(crate) fn rescan(&mut self, reason: RescanReason) {
        if self.root.is_some() {
            self.next_sweep = Some(reason);
        }
    }

    /// Returns the next event, or `None` if there is nothing to do now.
    ///
    /// Each round does one small step, in this order: hand out what is ready; read from inotify;
    /// check the clock if it is due and the events are handled; handle one raw event; hand out one
    /// closed file; do one step of the fresh walk, or else of the sweep. All raw events come before
    /// the first file, so that the files of every site are known when it is decided whose is next.
    ///
    /// # Errors
    ///
    /// [`WatchError::Read`] if inotify fails.
    pub(crate) fn try_next(&mut self) -> Result<Option<Event>, WatchError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            if self.raw.is_empty() {
                self.read()?;
            }
            self.turn = self.turn.wrapping_add(1);
            let others_turn = self.turn.is_multiple_of(EVENTS_PER_TURN);
            // After the events: a writer may wait for what they bring about.
            if (others_turn || self.raw.is_empty()) && Instant::now() >= self.check_at {
                self.check_clock();
                continue;
            }
            if others_turn {
                let walked = self.walk(Discovery::Fresh) || self.walk(Discovery::Sweep);
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
                self.handle(raw);
            } else if let Some(path) = self.closed.pop() {
                return Ok(Some(Event::File(path)));
            } else if !self.walk(Discovery::Fresh) && !self.walk(Discovery::Sweep) {
                return Ok(None);
            }
        }
    }

    /// Reads what inotify has, one buffer at the most; waits for nothing.
    fn read(&mut self) -> Result<(), WatchError> {
        match self.inotify.read_events(&mut self.buffer) {
            Ok(events) => self.raw.extend(events.map(|event| RawEvent {
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

    /// Does what is due by the clock: checks that the storage directory is in its place, ends the
    /// pauses of owners and the watches on idle minutes, and begins a walk if one is due.
    fn check_clock(&mut self) {
        let now = Instant::now();
        self.now = Now::read();
        self.check_at = now + CHECK_EVERY;
        match &self.root {
            None => return self.find_root(RescanReason::Returned),
            Some(root) if !root.is_in_place() => return self.lose_root(),
            Some(_) => {}
        }
        for path in self.rate.due(now) {
            self.found_directory(path, Discovery::Fresh);
        }
        if now >= self.unwatch_idle_at {
            self.unwatch_idle_at = now + UNWATCH_IDLE_EVERY;
            for wd in self.table.idle(self.now) {
                self.unwatch(&wd);
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

    /// Opens the storage directory; with success a walk begins, which ends with `reason`.
    fn find_root(&mut self, reason: RescanReason) {
        match Root::open(&self.path) {
            Ok(root) => {
                self.root = Some(root);
                self.reported_loss = None;
                self.next_sweep = Some(reason);
            }
            Err(error) => self.report_loss(error),
        }
    }

    /// Reports why there is no storage directory, unless that was the last report, and tries again
    /// soon.
    fn report_loss(&mut self, error: RootError) {
        self.check_at = Instant::now() + RETRY_ROOT_EVERY;
        let text = error.to_string();
        if self.reported_loss.as_ref() != Some(&text) {
            self.reported_loss = Some(text);
            self.ready.push_back(Event::Lost(error));
        }
    }

    /// Drops everything about a storage directory that was moved, removed or covered by a mount,
    /// and looks at once for another at its path.
    fn lose_root(&mut self) {
        let Some(root) = self.root.take() else { return };
        self.unwatch_tree(Path::new(""));
        self.raw.clear();
        self.closed.clear();
        self.fresh.clear();
        self.sweep.clear();
        self.rate.clear();
        (self.current_sweep, self.next_sweep, self.retry_at) = (None, None, None);
        self.ready.push_back(Event::Lost(RootError::Gone {
            path: root.path().to_owned(),
        }));
        self.find_root(RescanReason::Returned);
    }

    /// Handles one event of the kernel.
    ///
    /// An event in the tree of an owner on pause ends the watches there, so that the owner no
    /// longer fills the queue; after the pause the directory is looked at again.
    fn handle(&mut self, raw: RawEvent) {
        let RawEvent { wd, mask, name } = raw;
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
            && !self.may_report(uid, &parent, place)
        {
            // Not watched until its owner is answered again: nothing fills the queue meanwhile.
            return self.unwatch_tree(&parent);
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
            (true, true) => self.unwatch_tree(&path),
            // A directory that is watched itself has an event of its own.
            (true, false) if mask.contains(EventMask::ATTRIB) && self.table.at(&path).is_some() => {
            }
            (true, false) if mask.contains(EventMask::ATTRIB) => self.attributes_changed(&path),
            (true, false) => self.found_directory(path, Discovery::Event),
            (false, true) => {}
            (false, false) if place.is_minute() => {
                if !self.closed.push(path) {
                    self.next_sweep = Some(RescanReason::Overflow);
                }
            }
            (false, false) => self.found_other(path),
        }
    }

    /// Handles an event about a watched directory itself.
    fn changed_itself(&mut self, path: &Path, place: Place, mask: EventMask) {
        let gone = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
        if place != Place::Root && mask.contains(EventMask::ATTRIB) {
            self.attributes_changed(path);
        } else if place == Place::Root && mask.intersects(gone) {
            self.lose_root();
        }
    }

    /// Returns `true` if the owner of the directory at `path` may cause another report now, and
    /// counts it; otherwise the directory is looked at again after the owner's pause.
    ///
    /// Where directories are asked for, untrusted users are counted by user id. Everything else in
    /// a user's tree is counted by tree. Shared directories of trusted owners are never put on
    /// pause.
    fn may_report(&mut self, uid: u32, path: &Path, place: Place) -> bool {
        let owner = match place {
            _ if self.options.directories && !self.is_trusted(uid) => Owner::User(uid),
            Place::User | Place::UserDay | Place::UserMinute => Owner::Site(site_of(path)),
            Place::Root | Place::FlatDay | Place::FlatMinute => return true,
        };
        // When the day is opened again, it is watched again, and what is in it is listed.
        let waits = match place {
            Place::FlatMinute => path.parent().unwrap_or(path),
            _ => path,
        };
        self.rate.answers(owner, waits, Instant::now())
    }

    /// Does one step of the fresh walk or of the sweep; returns `true` if there was one to do. The
    /// end of a sweep is reported as [`Event::Rescan`].
    fn walk(&mut self, source: Discovery) -> bool {
        if source == Discovery::Sweep && self.current_sweep.is_none() {
            let Some(reason) = self.next_sweep.take() else {
                return false;
            };
            self.current_sweep = Some(reason);
            self.sweep.add(PathBuf::new());
        }
        let walk = match source {
            Discovery::Event | Discovery::Fresh => &mut self.fresh,
            Discovery::Sweep => &mut self.sweep,
        };
        match walk.step() {
            NextStep::Open(path) => self.open(path, source),
            NextStep::Entry { path, place, kind } => self.entry(path, place, kind, source),
            NextStep::Done if source != Discovery::Sweep => return false,
            NextStep::Done => self
                .ready
                .extend(self.current_sweep.take().map(Event::Rescan)),
        }
        true
    }

    /// Watches the directory at `path`, if it is worth it and there is room, then begins to list
    /// it.
    ///
    /// A user or a flat day that was not watched is reported once more, because a change of its
    /// mode between the first report and the watch was not noticed.
    fn open(&mut self, path: PathBuf, source: Discovery) {
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
            self.report(&path, place, Discovery::Fresh);
        }
        match source {
            Discovery::Event | Discovery::Fresh => self.fresh.list(path, place, handle),
            Discovery::Sweep => self.sweep.list(path, place, handle),
        }
    }

    /// Opens the directory at `path` below the storage directory. `None` if that fails: it
    /// vanished, it is refused ([`Event::Ignored`]), or descriptors or memory ran out and it is
    /// tried again later.
    fn opened(&mut self, path: &Path) -> Option<(OwnedFd, Stat)> {
        match self.root.as_ref()?.open_below(path) {
            Ok(opened) => Some(opened),
            Err(reason) => {
                match reason {
                    Reason::Vanished => {}
                    reason if reason.is_exhausted() => self.limit_reached(),
                    reason => self.refuse(path.to_owned(), reason),
                }
                None
            }
        }
    }

    /// Handles one name that a walk has met.
    fn entry(&mut self, path: PathBuf, place: Place, kind: FileType, source: Discovery) {
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
                self.ready.push_back(Event::File(path));
            }
            _ if place.is_minute() => {}
            FileType::Symlink => self.refuse(path, Reason::Symlink),
            _ => {}
        }
    }

    /// Returns `true` if files met in a walk are reported: always in a directory that has just
    /// appeared, in a sweep only if the caller asked for all ([`ReportedFiles::All`]).
    fn reports_found(&self, source: Discovery) -> bool {
        source != Discovery::Sweep || self.options.files == ReportedFiles::All
    }

    /// Handles a directory that an event or a walk has met: reports it, then lets it wait to be
    /// watched and listed.
    fn found_directory(&mut self, path: PathBuf, source: Discovery) {
        let Some(place) = Place::of(&path) else {
            return self.refuse(path, Reason::Name);
        };
        // Others wait for a shared directory too, and corrected it is no longer its maker's.
        let is_shared = matches!(place, Place::FlatDay | Place::FlatMinute);
        let source = match source {
            Discovery::Event if is_shared => Discovery::Fresh,
            source => source,
        };
        // Reported first, watched and listed when the caller comes back: who waits for the
        // directory to become usable waits for the least possible time.
        if !self.report(&path, place, source) {
            return;
        }
        if !place.is_minute() || self.options.files != ReportedFiles::None {
            match source {
                Discovery::Event | Discovery::Fresh => self.fresh.add(path),
                Discovery::Sweep => self.sweep.add(path),
            }
        }
    }

    /// Reports the directory at `path` if the caller asked for directories. Returns `false` if its
    /// owner is on pause, so that nothing more should be done with it now.
    fn report(&mut self, path: &Path, place: Place, source: Discovery) -> bool {
        if !self.options.directories {
            return true;
        }
        let Some((handle, stat)) = self.opened(path) else {
            return true;
        };
        // In a directory of one user its owner has been asked already.
        let is_beside_others = matches!(place, Place::User | Place::FlatDay | Place::FlatMinute);
        if source == Discovery::Event
            && is_beside_others
            && !self.may_report(stat.st_uid, path, place)
        {
            return false;
        }
        let path = path.to_owned();
        self.ready.push_back(Event::Directory(Directory {
            path,
            place,
            handle,
        }));
        true
    }

    /// Reports again a directory whose mode or owner has changed. If the owner of one in a shared
    /// day is on pause, the day stops reporting such changes for a while.
    fn attributes_changed(&mut self, path: &Path) {
        let Some(place) = Place::of(path) else {
            return;
        };
        if self.report(path, place, Discovery::Event) {
            return;
        }
        match place {
            Place::FlatDay => self.ignore_attributes(path),
            Place::FlatMinute => self.ignore_attributes(path.parent().unwrap_or(path)),
            _ => {}
        }
    }

    /// Handles something that was created and is no directory: a symbolic link is reported as
    /// refused, anything else is not worth an event.
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

    /// Reports what was left alone, if the caller asked for directories.
    fn refuse(&mut self, path: PathBuf, reason: Reason) {
        if self.options.directories {
            self.ready.push_back(Event::Ignored { path, reason });
        }
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

impl AsFd for WatchEngine {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

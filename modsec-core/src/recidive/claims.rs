//! Files that `modsec-parser` has taken charge of.
//!
//! It renames a finished file into its private directory at once, so that a later record of the
//! same name does not overwrite it. Whoever comes to the old name too late finds the file there.
//!
//! Where site users may write to the storage directory, they can put a directory of their own
//! under that name before the parser starts, or move the parser's away. So what has the name is
//! looked at again and again, and known by what it is; one that was found is held open and
//! watched wherever it is moved.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use rustix::fs::{AtFlags, Stat, fstat, statat};
use rustix::process::geteuid;
use tokio::io::unix::AsyncFd;
use tracing::{debug, warn};

use super::entry_reader::EntryReader;
use crate::spool::{FileId, Found, Listing, Reason};
use crate::storage_dir::PRIVATE;
use crate::watch::register;

/// Bytes of events read at a time.
const EVENTS: usize = 64 * 1024;
/// Name of the lock in the private directory; not an entry.
const LOCK: &[u8] = b"lock";
/// Directories held at a time: that of the parser, and what had its name before or has it now.
const MAX_DIRECTORIES: usize = 8;
/// Files that wait to be read; what comes on top is found by listing its directory.
const MAX_WAITING: usize = 16_384;
/// Different things that are said.
const MAX_SAID: usize = 16;
/// How often watching is tried again where the system has no more of something.
const RETRY_EVERY: Duration = Duration::from_secs(30);
/// How long a directory must not look like the parser's before that is said: `watch_dir.sh` changes
/// the mode of each directory that is made, and the parser changes it back or makes another one.
const LASTING: Duration = Duration::from_secs(1);

/// A file in a directory that has, or had, the name of the private one.
#[derive(Debug)]
pub(super) struct Claimed {
    /// The directory, held open: it may have another name by now.
    directory: Arc<OwnedFd>,
    /// Its name in there.
    name: OsString,
}

impl Claimed {
    /// Returns whose file it is; `None` if it is gone.
    pub(super) fn owner(&self) -> Option<u32> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let stat = statat(&self.directory, &*self.name, flags).ok()?;
        Some(stat.st_uid)
    }

    /// Leads `tree` to the file, and returns its path there.
    pub(super) fn enter(self, tree: &mut EntryReader) -> PathBuf {
        tree.enter(Path::new(PRIVATE), self.directory);
        Path::new(PRIVATE).join(self.name)
    }
}

/// Watches the private directory of `modsec-parser`, once there is one.
#[derive(Debug)]
pub(super) struct Claims {
    /// `None` if the system has no more inotify instances.
    events: Option<Events>,
    /// What has, or had, the name of the private directory; [`MAX_DIRECTORIES`] at the most, oldest
    /// first.
    directories: Vec<Directory>,
    /// Directories that are being listed, those of the parser first.
    listings: VecDeque<Listed>,
    /// What was said already; [`MAX_SAID`] things at the most.
    said: Vec<Trouble>,
    /// When to try again to watch what could not be watched.
    retry_at: Instant,
    /// When the directories that cannot be watched were last looked at, until that is done,
    looking_since: Option<Instant>,
    /// and when they are looked at again.
    look_at: Instant,
}

/// The source of events, see inotify(7).
#[derive(Debug)]
struct Events {
    /// The instance, by which watches are added and events read.
    inotify: Inotify,
    /// The same instance, as something to wait for in the runtime.
    readable: AsyncFd<OwnedFd>,
    /// The storage directory itself, in which the private one appears.
    root: Option<WatchDescriptor>,
    /// Where events are read into, [`EVENTS`] bytes.
    buffer: Vec<u8>,
}

/// A directory that has, or had, the name of the private one.
#[derive(Debug)]
struct Directory {
    /// Device and inode, by which it is recognized at the next look.
    id: FileId,
    /// Held open, so that files in it are found wherever it is moved.
    handle: Arc<OwnedFd>,
    /// `None` if it cannot be watched: it is listed again and again then.
    watch: Option<WatchDescriptor>,
    /// Whether nobody else can have made it, by a look that may be repeated.
    is_trusted: bool,
    /// When it was met first; see [`LASTING`].
    found: Instant,
    /// Whether it may hold files that no event has named.
    is_to_be_listed: bool,
}

/// What is to be said once.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// A directory cannot be watched, and why.
    Unwatched(io::ErrorKind),
    /// What has the name is no directory or cannot be opened, and why.
    Unusable(String),
    /// The directory was not made by the parser; the user id of its owner.
    Foreign(u32),
}

/// The names of one directory, read as they are needed.
#[derive(Debug)]
struct Listed {
    /// Held open until the last of its files was read.
    directory: Arc<OwnedFd>,
    /// The names that were not handed out yet.
    names: Listing,
}

impl Events {
    /// Opens an inotify instance without watches.
    ///
    /// # Errors
    ///
    /// What the system said, mostly that `fs.inotify.max_user_instances` is reached.
    fn new() -> io::Result<Events> {
        let inotify = Inotify::init()?;
        Ok(Events {
            readable: register(&inotify)?,
            inotify,
            root: None,
            buffer: vec![0; EVENTS],
        })
    }

    /// Watches a directory by its handle, through `/proc/self/fd`: by its path another one might be
    /// watched.
    ///
    /// # Errors
    ///
    /// What the system said, mostly that `fs.inotify.max_user_watches` is reached.
    fn watch(&mut self, directory: &OwnedFd, mask: WatchMask) -> io::Result<WatchDescriptor> {
        let held = format!("/proc/self/fd/{}", directory.as_raw_fd());
        self.inotify.watches().add(held, mask | WatchMask::ONLYDIR)
    }
}

impl Claims {
    /// Prepares to watch; to be called in a tokio runtime with I/O.
    pub(super) fn new() -> Claims {
        Claims {
            events: None,
            directories: Vec::new(),
            listings: VecDeque::new(),
            said: Vec::new(),
            retry_at: Instant::now(),
            looking_since: None,
            look_at: Instant::now(),
        }
    }

    /// Looks what has the name of the private directory now. To be called often.
    pub(super) fn refresh(&mut self, tree: &EntryReader) {
        self.prepare(tree);
        self.look(tree);
        self.look_at_unwatched();
        self.list();
    }

    /// Whatever cannot be watched is looked at. A large directory leaves time for all else.
    fn look_at_unwatched(&mut self) {
        if !self.listings.is_empty() {
            return;
        }
        if let Some(since) = self.looking_since.take() {
            self.look_at = Instant::now() + since.elapsed() * 4;
        } else if Instant::now() >= self.look_at {
            self.looking_since = Some(Instant::now());
            let unwatched = |one: &&mut Directory| one.watch.is_none();
            for one in self.directories.iter_mut().filter(unwatched) {
                one.is_to_be_listed = true;
            }
        }
    }

    /// Begins to list what is to be listed. What the parser has made goes first; somebody else's
    /// waits until there is nothing else.
    fn list(&mut self) {
        for one in &mut self.directories {
            let is_being_listed = self
                .listings
                .iter()
                .any(|listing| Arc::ptr_eq(&listing.directory, &one.handle));
            let waits = !one.is_trusted && !self.listings.is_empty();
            if !one.is_to_be_listed || is_being_listed || waits {
                continue;
            }
            one.is_to_be_listed = false;
            let Ok(names) = Listing::of(&one.handle) else {
                continue;
            };
            let directory = Arc::clone(&one.handle);
            let listing = Listed { directory, names };
            if one.is_trusted {
                self.listings.push_front(listing);
            } else {
                self.listings.push_back(listing);
            }
        }
    }

    /// Waits until something has happened in one of the directories.
    pub(super) async fn changed(&self) {
        let readable = match &self.events {
            Some(events) => events.readable.readable().await,
            None => std::future::pending().await,
        };
        match readable {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Adds to `waiting` what was moved into one of the directories since the last call.
    pub(super) fn take(&mut self, tree: &EntryReader, waiting: &mut VecDeque<Claimed>) {
        let Some(events) = &mut self.events else {
            return;
        };
        let (mut is_new, mut overflow, mut gone) = (false, false, Vec::new());
        while let Ok(batch) = events.inotify.read_events(&mut events.buffer) {
            for event in batch {
                overflow |= event.mask.contains(EventMask::Q_OVERFLOW);
                let of = |one: &&mut Directory| one.watch.as_ref() == Some(&event.wd);
                if events.root.as_ref() == Some(&event.wd) {
                    is_new |= event.name == Some(OsStr::new(PRIVATE));
                } else if event.mask.contains(EventMask::IGNORED) {
                    gone.push(event.wd);
                } else if let (Some(name), Some(one)) =
                    (event.name, self.directories.iter_mut().find(of))
                {
                    one.take(name, waiting);
                }
            }
        }
        self.directories
            .retain(|one| !one.watch.as_ref().is_some_and(|wd| gone.contains(wd)));
        for one in &mut self.directories {
            one.is_to_be_listed |= overflow;
        }
        if is_new || overflow || !gone.is_empty() {
            self.look(tree);
        }
        self.list();
    }

    /// Marks the directory of a file for which there is no room as one to be listed, which finds
    /// the file again.
    pub(super) fn list_later(&mut self, claimed: &Claimed) {
        for one in &mut self.directories {
            one.is_to_be_listed |= Arc::ptr_eq(&one.handle, &claimed.directory);
        }
    }

    /// Returns the next file that was in one of the directories when it was found.
    pub(super) fn listed(&mut self) -> Option<Claimed> {
        loop {
            let listing = self.listings.front_mut()?;
            let Some(Ok(Found { name, .. })) = listing.names.next() else {
                self.listings.pop_front();
                self.list();
                continue;
            };
            if is_entry(&name) {
                return Some(Claimed {
                    directory: Arc::clone(&listing.directory),
                    name,
                });
            }
        }
    }

    /// Returns `true` if [`Claims::listed`] may have more.
    pub(super) fn is_listing(&self) -> bool {
        !self.listings.is_empty()
    }

    /// Gets what is needed to watch, again from time to time if the system has no more of it.
    fn prepare(&mut self, tree: &EntryReader) {
        let lacks = |one: &Directory| one.watch.is_none();
        let is_ready = self
            .events
            .as_ref()
            .is_some_and(|events| events.root.is_some())
            && !self.directories.iter().any(lacks);
        if is_ready || Instant::now() < self.retry_at {
            return;
        }
        self.retry_at = Instant::now() + RETRY_EVERY;
        if let Err(error) = self.watch_all(tree) {
            self.say(tree, Trouble::Unwatched(error.kind()));
        }
    }

    /// Adds the watches that are missing: of the storage directory, for the name of the private
    /// one; of the others, for files that are moved into them.
    ///
    /// # Errors
    ///
    /// What the system said at the first watch that it refused; the others are tried again with the
    /// next call.
    fn watch_all(&mut self, tree: &EntryReader) -> io::Result<()> {
        let events = match &mut self.events {
            Some(events) => events,
            None => self.events.insert(Events::new()?),
        };
        if events.root.is_none()
            && let Ok((root, _)) = tree.root().open_below(Path::new(""))
        {
            let mask = WatchMask::CREATE | WatchMask::MOVED_TO;
            events.root = Some(events.watch(&root, mask)?);
        }
        for one in &mut self.directories {
            if one.watch.is_none() {
                one.watch = Some(events.watch(&one.handle, WatchMask::MOVED_TO)?);
            }
        }
        Ok(())
    }

    /// Forgets directories that were removed, and looks what has the name of the private one now. A
    /// directory that was not met before is watched and listed.
    ///
    /// If the system has run out of descriptors or memory, the next call looks again.
    fn look(&mut self, tree: &EntryReader) {
        self.directories.retain(|one| !one.is_removed());
        match tree.root().open_below(Path::new(PRIVATE)) {
            Ok((handle, stat)) => {
                let id = FileId::of(&stat);
                match self.directories.iter_mut().find(|one| one.id == id) {
                    Some(one) if one.is_trusted => {}
                    Some(one) if is_trusted(tree, &stat) => one.is_trusted = true,
                    Some(one) if one.found.elapsed() < LASTING => {}
                    Some(_) => self.say(tree, Trouble::Foreign(stat.st_uid)),
                    None => self.add(tree, handle, &stat),
                }
            }
            Err(Reason::Vanished) => {}
            Err(reason) if reason.is_exhausted() => {}
            Err(reason) => self.say(tree, Trouble::Unusable(reason.to_string())),
        }
    }

    /// Begins to watch a directory, then lists it.
    fn add(&mut self, tree: &EntryReader, handle: OwnedFd, stat: &Stat) {
        let one = Directory {
            id: FileId::of(stat),
            handle: Arc::new(handle),
            watch: None,
            is_trusted: is_trusted(tree, stat),
            found: Instant::now(),
            is_to_be_listed: true,
        };
        debug!(uid = stat.st_uid, "directory of modsec-parser found");
        self.directories.push(one);
        self.retry_at = Instant::now();
        self.prepare(tree);
        self.list();
        if self.directories.len() > MAX_DIRECTORIES {
            self.give_one_up();
        }
    }

    /// Gives up the oldest, rather one that the parser has not made.
    fn give_one_up(&mut self) {
        let others = self.directories.len() - 1;
        let untrusted = self.directories.iter().position(|one| !one.is_trusted);
        let oldest = untrusted.filter(|&at| at < others).unwrap_or(0);
        let one = self.directories.remove(oldest);
        if let Some((events, wd)) = self.events.as_mut().zip(one.watch) {
            // Refused if the directory is gone already, and its watch with it.
            let _ = events.inotify.watches().remove(wd);
        }
    }

    /// Logs a trouble once. After [`MAX_SAID`] different ones nothing more is said: their number
    /// would depend on site users.
    fn say(&mut self, tree: &EntryReader, trouble: Trouble) {
        if self.said.len() >= MAX_SAID || self.said.contains(&trouble) {
            return;
        }
        let path = tree.root().path().join(PRIVATE);
        match &trouble {
            Trouble::Unwatched(error) => warn!(
                ?path,
                %error,
                "cannot be watched: raise fs.inotify.max_user_instances or max_user_watches; looked \
                 at ten times a second, and what modsec-parser removes in between is not counted"
            ),
            Trouble::Unusable(reason) => warn!(
                ?path,
                %reason,
                "not modsec-parser's directory, which it puts there when it starts: look who has \
                 made this"
            ),
            Trouble::Foreign(uid) => warn!(
                ?path,
                uid,
                "its owner is neither root, nor this account, nor that of the storage directory, or \
                 others may write to it: made by somebody else, unless modsec-parser runs as this user"
            ),
        }
        self.said.push(trouble);
    }
}

impl Directory {
    /// Returns `true` if the directory was removed, so nothing is in it. The parser removes its own
    /// when it ends; as it is held open here, its watch does not say so.
    fn is_removed(&self) -> bool {
        fstat(&self.handle).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Lets `name` wait. What is not the parser's for certain, or is too much, is found by listing:
    /// nobody can fill the queue.
    fn take(&mut self, name: &OsStr, waiting: &mut VecDeque<Claimed>) {
        if !self.is_trusted || waiting.len() >= MAX_WAITING {
            self.is_to_be_listed = true;
        } else if is_entry(name) {
            waiting.push_back(Claimed {
                directory: Arc::clone(&self.handle),
                name: name.to_owned(),
            });
        }
    }
}

/// Returns `true` if nobody but the administrator's own accounts can have made the directory.
fn is_trusted(tree: &EntryReader, stat: &Stat) -> bool {
    let of_root = tree.root().open_below(Path::new("")).ok();
    let owner = of_root.map(|(_, root)| root.st_uid);
    let is_ours = [Some(0), Some(geteuid().as_raw()), owner].contains(&Some(stat.st_uid));
    is_ours && stat.st_mode & 0o022 == 0
}

/// Returns `true` for every name but that of the lock and those that begin with a dot, which are
/// files of the parser that are no entries.
fn is_entry(name: &OsStr) -> bool {
    name.as_bytes() != LOCK && !name.as_bytes().starts_with(b".")
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::read_steps::ReadSteps;
    use crate::watch::inotify_instances::can_follow;

    fn listed(claims: &mut Claims) -> Vec<OsString> {
        std::iter::from_fn(|| claims.listed())
            .map(|claimed| claimed.name)
            .collect()
    }

    async fn taken(claims: &mut Claims, tree: &EntryReader) -> Vec<OsString> {
        let mut waiting = VecDeque::new();
        while waiting.is_empty() {
            claims.changed().await;
            claims.take(tree, &mut waiting);
        }
        waiting.into_iter().map(|claimed| claimed.name).collect()
    }

    #[tokio::test]
    async fn claimed_files_are_found_before_and_after_watching_begins() {
        if !can_follow() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = EntryReader::open(dir.path(), None, ReadSteps::default()).unwrap();
        let mut claims = Claims::new();
        claims.refresh(&tree);
        assert!(listed(&mut claims).is_empty(), "no such directory yet");
        let private = dir.path().join(PRIVATE);
        fs::create_dir(&private).unwrap();
        fs::write(private.join("lock"), "").unwrap();
        fs::write(private.join("1-1.x"), "").unwrap();
        claims.refresh(&tree);
        assert_eq!(listed(&mut claims), ["1-1.x"]);
        claims.refresh(&tree);
        assert!(listed(&mut claims).is_empty(), "only once");
        // Wherever this runs, whatever the umask.
        claims.directories[0].is_trusted = true;
        fs::write(dir.path().join("y"), "").unwrap();
        fs::rename(dir.path().join("y"), private.join("2-2.y")).unwrap();
        assert_eq!(taken(&mut claims, &tree).await, ["2-2.y"]);
    }

    #[tokio::test]
    async fn a_directory_that_is_moved_away_is_watched_on_beside_the_new_one() {
        if !can_follow() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut tree = EntryReader::open(dir.path(), None, ReadSteps::default()).unwrap();
        let mut claims = Claims::new();
        let (private, moved) = (dir.path().join(PRIVATE), dir.path().join("moved"));
        fs::create_dir(&private).unwrap();
        claims.refresh(&tree);
        fs::rename(&private, &moved).unwrap();
        for round in 0..20 {
            fs::create_dir(&private).unwrap();
            fs::set_permissions(
                &private,
                std::os::unix::fs::PermissionsExt::from_mode(0o777),
            )
            .unwrap();
            claims.refresh(&tree);
            fs::rename(&private, dir.path().join(format!("other{round}"))).unwrap();
        }
        assert_eq!(claims.directories.len(), MAX_DIRECTORIES);
        fs::write(dir.path().join("y"), "").unwrap();
        fs::rename(dir.path().join("y"), moved.join("2-2.y")).unwrap();
        let mut waiting = VecDeque::new();
        claims.take(&tree, &mut waiting);
        let path = waiting.pop_front().unwrap().enter(&mut tree);
        assert_eq!(path, Path::new(PRIVATE).join("2-2.y"));
        assert!(!matches!(
            tree.look(&path, super::super::entry_reader::Which::Closed),
            super::super::entry_reader::Look::Gone
        ));
    }

    #[tokio::test]
    async fn a_directory_that_comes_and_goes_is_watched_each_time_and_none_is_kept() {
        if !can_follow() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = EntryReader::open(dir.path(), None, ReadSteps::default()).unwrap();
        let mut claims = Claims::new();
        claims.refresh(&tree);
        let (private, fresh) = (dir.path().join(PRIVATE), dir.path().join("fresh"));
        for round in 0..3 * MAX_DIRECTORIES {
            fs::create_dir(&fresh).unwrap();
            fs::set_permissions(&fresh, Permissions::from_mode(0o700)).unwrap();
            fs::rename(&fresh, &private).unwrap();
            claims.refresh(&tree);
            let name = format!("{round}-1.x");
            fs::write(dir.path().join("x"), "").unwrap();
            fs::rename(dir.path().join("x"), private.join(&name)).unwrap();
            assert_eq!(taken(&mut claims, &tree).await, [name.as_str()]);
            fs::remove_file(private.join(&name)).unwrap();
            fs::remove_dir(&private).unwrap();
            claims.refresh(&tree);
            assert_eq!(claims.directories.len(), 0, "round {round}");
        }
        assert_eq!(claims.said, []);
    }

    #[tokio::test]
    async fn a_directory_whose_mode_is_put_right_is_the_parsers() {
        if !can_follow() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let private = dir.path().join(PRIVATE);
        fs::create_dir(&private).unwrap();
        let mode = |mode| fs::set_permissions(&private, Permissions::from_mode(mode)).unwrap();
        let tree = EntryReader::open(dir.path(), None, ReadSteps::default()).unwrap();
        let mut claims = Claims::new();
        mode(0o770);
        claims.refresh(&tree);
        assert!(claims.directories.iter().all(|one| !one.is_trusted));
        mode(0o700);
        claims.refresh(&tree);
        assert!(claims.directories.iter().all(|one| one.is_trusted));
        assert_eq!(claims.said, []);
        // Its mode lasts in another one.
        fs::remove_dir(&private).unwrap();
        fs::create_dir(&private).unwrap();
        mode(0o770);
        claims.refresh(&tree);
        for one in &mut claims.directories {
            one.found = one.found.checked_sub(LASTING).unwrap();
        }
        claims.refresh(&tree);
        let uid = geteuid().as_raw();
        assert_eq!(claims.said, [Trouble::Foreign(uid)]);
    }

    #[tokio::test]
    async fn what_cannot_be_watched_is_looked_at_and_said_once() {
        if !can_follow() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = EntryReader::open(dir.path(), None, ReadSteps::default()).unwrap();
        let private = dir.path().join(PRIVATE);
        fs::create_dir(&private).unwrap();
        let mut claims = Claims::new();
        // As if the system had no more.
        claims.retry_at = Instant::now() + RETRY_EVERY;
        claims.look(&tree);
        for one in &mut claims.directories {
            one.watch = None;
        }
        claims.retry_at = Instant::now() + RETRY_EVERY;
        for name in ["1-1.x", "1-2.x"] {
            fs::write(private.join(name), "").unwrap();
            claims.looking_since = None;
            claims.look_at = Instant::now();
            claims.refresh(&tree);
            assert!(listed(&mut claims).contains(&name.into()));
        }
        for _ in 0..3 {
            claims.say(&tree, Trouble::Foreign(1));
        }
        assert_eq!(claims.said.len(), 1);
    }
}

//! Reading entries' files below the storage directory, without touching them.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dedup::EntryKey;
use crate::format::large::{self, Excerpts, Large};
use crate::format::{self, Among};
use crate::read_steps::{ReadSteps, is_left};
use crate::recent::Recent;
use crate::record::Flag;
use crate::serial_log::appended::{self, Places};
use crate::serial_log::own_file;
use crate::spool::{self, Reason};
use crate::storage_dir::look::Looker;
use crate::storage_dir::{MAX_ENTRY_BYTES, holes, inode};
use crate::watch::{Root, RootError};

/// Longest file that is read as a whole; of a longer one only the parts, a window at a time.
const WHOLE: u64 = 1 << 20;
/// Bytes at both ends of a file that tell whether it may be finished.
const END: u64 = 4096;
/// Files of which it is remembered that they were read, 48 bytes each at most.
const MAX_RECENT: usize = 1 << 16;

/// What a look at a file gave.
#[derive(Debug)]
pub(super) enum Look<'a> {
    /// A finished entry, or one that was read although it is not finished.
    Entry {
        /// What is in the file.
        contents: Contents<'a>,
        /// Time of change, nanoseconds since the Unix epoch.
        changed: i64,
    },
    /// Still being written, or cut off for ever. Whoever writes to a file that is empty closes it,
    /// which an event tells.
    Unfinished { owner: Option<u32>, is_empty: bool },
    /// Not there (any more).
    Gone,
    /// Read or counted before.
    Known,
    /// Owned by somebody whose entries do not count.
    Foreign,
    /// Nothing that may or can be read, and why.
    Refused(String),
}

/// An entry in memory.
#[derive(Debug)]
pub(super) enum Contents<'a> {
    /// All bytes of an entry of at most [`WHOLE`] bytes.
    Whole(&'a [u8]),
    /// What is worth keeping of a larger entry, and its key.
    Parts(Box<Excerpts>, EntryKey),
    /// Several, of an engine that appends.
    Several(Records),
}

/// The records of a file, read when they are asked for.
#[derive(Debug)]
pub(super) struct Records {
    /// The file, held open. It is read at offsets, so it may be removed meanwhile.
    file: File,
    /// Where what is [around](own_file) them ends, in bytes.
    start: u64,
    /// Where the records are behind that.
    places: Places,
    /// How many were read.
    done: usize,
    /// Reports signs of life, and ends the reading at a stop.
    steps: ReadSteps,
}

/// One of several records in a file.
#[derive(Debug)]
pub(super) enum OneOf {
    /// All bytes of an entry of at most [`WHOLE`] bytes.
    Whole(Vec<u8>),
    /// What is worth keeping of a larger entry, and its key.
    Parts(Box<Excerpts>, EntryKey),
}

impl Iterator for Records {
    type Item = io::Result<OneOf>;

    fn next(&mut self) -> Option<io::Result<OneOf>> {
        let place = self.places.get(self.done)?;
        self.done += 1;
        self.steps.heartbeat().beat();
        Some(self.read(place))
    }
}

impl Records {
    /// Returns how many are left.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.done
    }

    /// Returns how many there were at first: their places are held to the end.
    pub(super) fn total(&self) -> usize {
        self.places.len()
    }

    /// Returns how many bytes the next one has.
    pub(super) fn next_len(&self) -> u64 {
        let next = self.places.get(self.done);
        next.map_or(0, |place| place.end - place.start)
    }

    /// Reads the record at `place`, whether it is finished or not.
    ///
    /// # Errors
    ///
    /// What the system said; [`io::ErrorKind::InvalidData`] if a large one does not begin like an
    /// entry.
    fn read(&self, place: Range<u64>) -> io::Result<OneOf> {
        let place = self.start + place.start..self.start + place.end;
        if place.end - place.start <= WHOLE {
            let mut bytes = Vec::new();
            read_range(&self.file, place.start, place.end, &mut bytes)?;
            return Ok(OneOf::Whole(bytes));
        }
        match parts(&self.file, place, false, &self.steps)? {
            Some(Contents::Parts(excerpts, key)) => Ok(OneOf::Parts(excerpts, key)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Which files to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    /// The writer has just closed it.
    Closed,
    /// Found by looking around: unless it was read before, or is not newer than the given time of
    /// change in nanoseconds.
    Found { after: i64 },
    /// Nothing more will be written to it.
    EvenUnfinished,
}

/// What can be seen of a file without opening it.
#[derive(Debug)]
pub(super) enum Glance {
    /// All that there is to know, and the owner.
    Done(Look<'static>, Option<u32>),
    /// A file that may be an entry.
    File { owner: u32, size: u64 },
}

/// The storage directory, held open for reading.
#[derive(Debug)]
pub(super) struct EntryReader {
    /// The directory, by which paths are resolved.
    root: Root,
    /// User ids whose entries count; all if `None`.
    owners: Option<Vec<u32>>,
    /// The directory of the last file: the next is mostly in the same.
    directory: Option<(PathBuf, Arc<OwnedFd>)>,
    /// The files read last.
    recent: Recent<Identity, MAX_RECENT>,
    /// The entry that was read last, if it is in memory; kept for the next one.
    buffer: Vec<u8>,
    /// Looks at names in a directory without opening anything.
    looker: Looker,
    /// Bytes read since this was asked for.
    read: u64,
    /// Reports signs of life, and ends the reading at a stop.
    steps: ReadSteps,
}

impl EntryReader {
    /// Opens the storage directory at `path`. Only entries of `owners`, user ids, are read; all if
    /// `None`.
    ///
    /// # Errors
    ///
    /// If there is no directory at `path`, or it cannot be opened.
    pub(super) fn open(
        path: &Path,
        owners: Option<Vec<u32>>,
        steps: ReadSteps,
    ) -> Result<EntryReader, RootError> {
        let root = Root::open(path)?;
        Ok(EntryReader {
            looker: root.looker(),
            read: 0,
            steps,
            root,
            owners,
            directory: None,
            recent: Recent::default(),
            buffer: Vec::new(),
        })
    }

    /// Returns the storage directory.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    /// Returns `true` if the file that `modsec-parser` has given this name was read a short time
    /// ago, under its old one.
    pub(super) fn has_read(&self, claimed: &Path) -> bool {
        let inode = claimed.file_name().and_then(inode);
        let mut recent = self.recent.iter().rev();
        inode.is_some_and(|inode| recent.any(|(read, ())| read.inode == inode))
    }

    /// Returns how many bytes were read since the last call.
    pub(super) fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }

    /// Takes `directory` for the one at `relative` until a file in another one is looked at.
    pub(super) fn enter(&mut self, relative: &Path, directory: Arc<OwnedFd>) {
        self.directory = Some((relative.to_owned(), directory));
    }

    /// Looks at the file at `relative` without opening it.
    pub(super) fn glance(&mut self, relative: &Path, which: Which) -> Glance {
        let seen = self.in_directory(relative, |directory, name, looker| {
            looker.look(directory, name).map_err(Reason::from)
        });
        let (look, refused) = match seen {
            Ok(seen) => seen,
            Err(reason) => return Glance::Done(failed(&reason), None),
        };
        let owner = Some(look.uid);
        if let Some(reason) = refused {
            return Glance::Done(Look::Refused(reason.to_string()), owner);
        }
        if !self.is_allowed(look.uid) {
            return Glance::Done(Look::Foreign, owner);
        }
        let (inode, modified) = look.contents();
        let identity = Identity {
            inode,
            size: look.size(),
            modified: nanoseconds(modified),
        };
        if self.is_known(identity, nanoseconds(look.changed_at()), which) {
            return Glance::Done(Look::Known, owner);
        }
        if look.size() == 0 {
            let is_empty = true;
            return Glance::Done(Look::Unfinished { owner, is_empty }, owner);
        }
        Glance::File {
            owner: look.uid,
            size: look.size(),
        }
    }

    /// Returns `true` if entries of this user id count.
    fn is_allowed(&self, uid: u32) -> bool {
        self.owners
            .as_ref()
            .is_none_or(|owners| owners.contains(&uid))
    }

    /// Returns `true` if the file need not be read, as it has not changed after the time that a
    /// walk was given, or was read a short time ago. A file that was just closed is always read.
    fn is_known(&self, identity: Identity, changed: i64, which: Which) -> bool {
        matches!(which, Which::Found { after }
            if changed <= after || self.recent.contains(&identity))
    }

    /// Looks at the file at `relative`, and into it if that may be worth it.
    pub(super) fn look(&mut self, relative: &Path, which: Which) -> Look<'_> {
        if let Glance::Done(look, _) = self.glance(relative, which) {
            return look;
        }
        let (file, meta) = match self.open_file(relative) {
            Ok(opened) => opened,
            Err(reason) => return failed(&reason),
        };
        // A file without a name was removed after it was opened: it is whole.
        if !meta.is_file() || meta.nlink() > 1 || meta.len() > MAX_ENTRY_BYTES {
            return Look::Refused("has several names, is no file, or is too large".to_owned());
        }
        if holes::too_many(&file, meta.len()).is_some() {
            return Look::Refused("has holes, and no server makes any".to_owned());
        }
        if !self.is_allowed(meta.uid()) {
            return Look::Foreign;
        }
        let changed = nanoseconds((meta.ctime(), meta.ctime_nsec()));
        let identity = Identity::of(&meta);
        if self.is_known(identity, changed, which) {
            return Look::Known;
        }
        self.read += meta.len();
        let finish = !matches!(which, Which::EvenUnfinished);
        let read = match place(&file, meta.len()).and_then(|place| {
            let records = records(&file, &place, &self.steps)?;
            Ok((place, records))
        }) {
            Ok((place, Some(places))) => file.try_clone().map(|file| {
                Some(Contents::Several(Records {
                    file,
                    start: place.start,
                    places,
                    done: 0,
                    steps: self.steps.clone(),
                }))
            }),
            Ok((place, None)) if meta.len() > WHOLE => parts(&file, place, finish, &self.steps),
            Ok((_, None)) => whole(&file, meta.len(), &mut self.buffer, finish),
            Err(error) => Err(error),
        };
        // Somebody wrote meanwhile: what was read may be a mixture, and he will close it.
        let same = file
            .metadata()
            .is_ok_and(|meta| Identity::of(&meta) == identity);
        match read {
            Ok(Some(contents)) if same => {
                self.recent.add(identity);
                Look::Entry { contents, changed }
            }
            Ok(_) => Look::Unfinished {
                owner: Some(meta.uid()),
                is_empty: false,
            },
            Err(error) if is_left(&error) => Look::Unfinished {
                owner: Some(meta.uid()),
                is_empty: false,
            },
            Err(error) => Look::Refused(error.to_string()),
        }
    }

    /// Opens the file at `relative` for reading, with what the system knows about the opened one.
    ///
    /// # Errors
    ///
    /// [`Reason::Vanished`] if it is gone, and whatever else speaks against it.
    fn open_file(&mut self, relative: &Path) -> Result<(File, Metadata), Reason> {
        self.in_directory(relative, |directory, name, _| {
            let file = spool::open_file(directory, name)?;
            let meta = file.metadata()?;
            Ok((file, meta))
        })
    }

    /// Does `work` with the name in its directory.
    fn in_directory<T>(
        &mut self,
        relative: &Path,
        work: impl Fn(&OwnedFd, &OsStr, Looker) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let name = relative.file_name().ok_or(Reason::Vanished)?;
        let parent = relative.parent().unwrap_or(Path::new(""));
        if let Some((_, directory)) = self.directory.as_ref().filter(|(path, _)| path == parent) {
            match work(directory, name, self.looker) {
                // The directory may have been removed and made again.
                Err(Reason::Vanished) => {}
                other => return other,
            }
        }
        self.directory = None;
        let (handle, _) = self.root.open_below(parent)?;
        let (_, directory) = self.directory.insert((parent.to_owned(), Arc::new(handle)));
        work(directory, name, self.looker)
    }
}

/// Returns what a failed look comes to. Where only descriptors or memory were lacking, the file
/// counts as unfinished and is tried again.
fn failed(reason: &Reason) -> Look<'static> {
    match reason {
        Reason::Vanished => Look::Gone,
        // Worth another attempt later.
        reason if reason.is_exhausted() => Look::Unfinished {
            owner: None,
            is_empty: false,
        },
        reason => Look::Refused(reason.to_string()),
    }
}

/// Returns where in the file its entries are: all of it, but for what is [around](own_file) them.
fn place(file: &File, size: u64) -> io::Result<Range<u64>> {
    let len = size.min(own_file::ENDS as u64);
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    read_range(file, 0, len, &mut head)?;
    let (before, behind) = if len == size {
        own_file::around(&head, &head)
    } else {
        read_range(file, size - len, size, &mut tail)?;
        own_file::around(&head, &tail)
    };
    Ok(before as u64..size - behind as u64)
}

/// Returns where the records are at `place`, from its start on, if there are several.
fn records(file: &File, place: &Range<u64>, steps: &ReadSteps) -> io::Result<Option<Places>> {
    appended::records(place.end - place.start, |range| {
        steps.go_on(range.start)?;
        let mut bytes = Vec::new();
        let (start, end) = (place.start + range.start, place.start + range.end);
        read_range(file, start, end, &mut bytes)?;
        Ok(bytes)
    })
}

/// Reads the file into `buffer`; `None` if it is not finished.
fn whole<'a>(
    mut file: &File,
    size: u64,
    buffer: &'a mut Vec<u8>,
    finish: bool,
) -> io::Result<Option<Contents<'a>>> {
    // Both ends tell of most files that they are not finished, which may be closed a thousand times.
    if finish && size > 2 * END && !may_be_finished(file, size)? {
        return Ok(None);
    }
    buffer.clear();
    file.by_ref().take(WHOLE + 1).read_to_end(buffer)?;
    *buffer = own_file::entry(std::mem::take(buffer));
    let readable = if finish {
        format::is_complete(buffer)
    } else {
        !buffer.is_empty()
    };
    Ok(readable.then_some(Contents::Whole(buffer)))
}

/// Returns `false` if both ends of a file of more than twice [`END`] bytes show that it is not
/// finished.
///
/// # Errors
///
/// What the system said.
fn may_be_finished(file: &File, size: u64) -> io::Result<bool> {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    read_range(file, 0, END, &mut head)?;
    read_range(file, size - END, size, &mut tail)?;
    let (before, behind) = own_file::around(&head, &tail);
    let (_, head) = head.split_at(before);
    let (tail, _) = tail.split_at(tail.len() - behind);
    Ok(own_file::is_copy(head) || large::may_be_complete(head, tail))
}

/// Reads what is worth keeping of a large entry, a window at a time; `None` if it is not finished.
fn parts<'a>(
    file: &File,
    place: Range<u64>,
    finish: bool,
    steps: &ReadSteps,
) -> io::Result<Option<Contents<'a>>> {
    let Range { start, end } = place;
    let size = end - start;
    let mut head = vec![0; Large::HEAD];
    let mut tail = vec![0; 64];
    file.read_exact_at(&mut head, start)?;
    file.read_exact_at(&mut tail, end - 64)?;
    let closed = large::may_be_complete(&head, &tail);
    let Some(mut large) = Large::open_among(&head, Among::Nothing)
        .ok()
        .filter(|_| closed || !finish)
    else {
        return Ok(None);
    };
    let mut hasher = blake3::Hasher::new();
    let mut window = Vec::new();
    let mut offset = 0;
    loop {
        steps.go_on(offset)?;
        let end = size.min(offset + WHOLE);
        read_range(file, start + offset, start + end, &mut window)?;
        large.scan(&window, offset, end == size);
        // Line ends behind the entry are not part of what it is known by.
        let overlap = if offset == 0 { 0 } else { Large::OVERLAP };
        let fresh = window.get(overlap..).unwrap_or_default();
        let last = if end == size {
            trailing_line_ends(fresh)
        } else {
            0
        };
        hasher.update(&fresh[..fresh.len() - last]);
        if end == size {
            break;
        }
        offset = end - Large::OVERLAP as u64;
    }
    let excerpts = large.finish(|range| {
        let mut bytes = Vec::new();
        read_range(file, start + range.start, start + range.end, &mut bytes).map(|()| bytes)
    })?;
    if finish && excerpts.record().flags.contains(Flag::Truncated) {
        return Ok(None);
    }
    let key = EntryKey::from_hash(hasher.finalize());
    Ok(Some(Contents::Parts(Box::new(excerpts), key)))
}

/// Returns how many line feeds stand at the end.
fn trailing_line_ends(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .take_while(|&&byte| byte == b'\n')
        .count()
}

/// Fills `into` with the bytes of `file` from `start` to `end`; what was in it is lost.
///
/// # Errors
///
/// What the system said; [`io::ErrorKind::UnexpectedEof`] if the file is shorter.
fn read_range(file: &File, start: u64, end: u64, into: &mut Vec<u8>) -> io::Result<()> {
    let len = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
    into.resize(len, 0);
    file.read_exact_at(into, start)
}

/// Returns a time of the system as nanoseconds since the Unix epoch; the nearest possible one if it
/// is out of range.
fn nanoseconds((seconds, nanoseconds): (i64, i64)) -> i64 {
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

/// What tells an unchanged file, also after it was renamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Identity {
    /// Number of the inode, unique within a file system.
    inode: u64,
    /// Bytes.
    size: u64,
    /// Time of the last write, nanoseconds since the Unix epoch. A rename does not change it,
    /// unlike the time of change.
    modified: i64,
}

impl Identity {
    /// Returns the identity of an opened file.
    fn of(meta: &Metadata) -> Identity {
        Identity {
            inode: meta.ino(),
            size: meta.len(),
            modified: nanoseconds((meta.mtime(), meta.mtime_nsec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, Mode, mkfifoat};

    use super::*;
    use crate::heartbeat::Heartbeat;
    use crate::program::Stop;
    use crate::recidive::counter::testing::entry;

    const DIR: &str = "site1/20260822/20260822-1015";

    struct Fixture {
        dir: tempfile::TempDir,
        tree: EntryReader,
    }

    fn fixture(owners: Option<Vec<u32>>) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(DIR)).unwrap();
        let tree = EntryReader::open(dir.path(), owners, ReadSteps::default()).unwrap();
        Fixture { dir, tree }
    }

    impl Fixture {
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(DIR).join(name)
        }

        fn look(&mut self, name: &str, which: Which) -> &'static str {
            match self.tree.look(&Path::new(DIR).join(name), which) {
                Look::Entry { .. } => "entry",
                Look::Unfinished { .. } => "unfinished",
                Look::Gone => "gone",
                Look::Known => "known",
                Look::Foreign => "foreign",
                Look::Refused(_) => "refused",
            }
        }
    }

    #[test]
    fn only_finished_plain_files_are_entries() {
        let mut fixture = fixture(None);
        let whole = entry("192.0.2.7", "", "", "403");
        fs::write(fixture.path("whole"), &whole).unwrap();
        fs::write(fixture.path("half"), &whole[..whole.len() - 2]).unwrap();
        fs::write(fixture.path("empty"), "").unwrap();
        fs::write(fixture.path("twice"), &whole).unwrap();
        fs::hard_link(fixture.path("twice"), fixture.path("twice2")).unwrap();
        symlink(fixture.path("whole"), fixture.path("link")).unwrap();
        fs::create_dir(fixture.path("dir")).unwrap();
        mkfifoat(CWD, fixture.path("pipe"), Mode::RUSR).unwrap();
        File::create(fixture.path("huge"))
            .unwrap()
            .set_len(MAX_ENTRY_BYTES + 1)
            .unwrap();
        for (name, want) in [
            ("whole", "entry"),
            ("half", "unfinished"),
            ("empty", "unfinished"),
            ("twice", "refused"),
            ("link", "refused"),
            ("dir", "refused"),
            ("pipe", "refused"),
            ("huge", "refused"),
            ("none", "gone"),
        ] {
            assert_eq!(fixture.look(name, Which::Closed), want, "{name}");
        }
        assert_eq!(fixture.look("half", Which::EvenUnfinished), "entry");
        assert_eq!(fixture.look("whole", Which::Found { after: 0 }), "known");
        let claimed = fixture.path("claimed");
        fs::rename(fixture.path("whole"), claimed).unwrap();
        assert_eq!(fixture.look("claimed", Which::Found { after: 0 }), "known");
        fs::write(fixture.path("new"), &whole).unwrap();
        assert_eq!(
            fixture.look("new", Which::Found { after: i64::MAX }),
            "known"
        );
        assert_eq!(fixture.look("new", Which::Found { after: 0 }), "entry");
    }

    #[test]
    fn what_stands_around_an_entry_takes_nothing_from_it() {
        for body in ["a\r\n", &"x\n".repeat(8 << 10), &"x\n".repeat(1 << 20)] {
            let whole = entry("192.0.2.7", "", body, "403");
            let mut odd = vec![
                format!("\0\0{whole}"),
                format!("\n{whole}"),
                format!("{whole}\r\n"),
                format!("{whole}\0\0\0\0"),
            ];
            if whole.len() <= usize::try_from(WHOLE).unwrap() {
                odd.push(whole.replace('\n', "\r\n"));
            }
            for (number, text) in odd.iter().enumerate() {
                let mut fixture = fixture(None);
                fs::write(fixture.path("odd"), text).unwrap();
                let path = Path::new(DIR).join("odd");
                let key = match fixture.tree.look(&path, Which::Closed) {
                    Look::Entry {
                        contents: Contents::Whole(entry),
                        ..
                    } => EntryKey::of(entry),
                    Look::Entry {
                        contents: Contents::Parts(_, key),
                        ..
                    } => key,
                    other => panic!("{number}: {other:?}"),
                };
                assert_eq!(key, EntryKey::of(whole.as_bytes()), "{number}");
            }
        }
    }

    #[test]
    fn a_large_file_is_left_in_the_middle_once_a_stop_is_requested() {
        let mut fixture = fixture(None);
        let (handle, stop) = Stop::new();
        fixture.tree.steps = ReadSteps::new(&Heartbeat::default(), Some(&stop));
        let body = "x\n".repeat(6 << 20);
        fs::write(fixture.path("large"), entry("192.0.2.7", "", &body, "403")).unwrap();
        fs::write(fixture.path("small"), entry("192.0.2.7", "", "", "403")).unwrap();
        assert_eq!(fixture.look("large", Which::Closed), "entry");
        handle.stop();
        assert_eq!(fixture.look("large", Which::Closed), "unfinished");
        assert_eq!(fixture.look("small", Which::Closed), "entry");
    }

    #[test]
    fn a_directory_made_again_is_found() {
        let mut fixture = fixture(None);
        assert_eq!(fixture.look("x", Which::Closed), "gone");
        fs::remove_dir(fixture.dir.path().join(DIR)).unwrap();
        fs::create_dir(fixture.dir.path().join(DIR)).unwrap();
        fs::write(fixture.path("x"), entry("192.0.2.7", "", "", "403")).unwrap();
        assert_eq!(fixture.look("x", Which::Closed), "entry");
    }

    #[test]
    fn entries_of_others_do_not_count_if_an_owner_is_required() {
        let me = rustix::process::geteuid().as_raw();
        for (owners, want) in [(vec![me + 1], "foreign"), (vec![me + 1, me], "entry")] {
            let mut fixture = fixture(Some(owners));
            fs::write(fixture.path("x"), entry("192.0.2.7", "", "", "403")).unwrap();
            assert_eq!(fixture.look("x", Which::Closed), want);
        }
    }

    #[test]
    fn a_large_entry_is_the_same_read_in_parts() {
        let body = "x".repeat(3 << 20);
        let large = entry("192.0.2.7", "", &body, "403");
        let mut fixture = fixture(None);
        fs::write(fixture.path("large"), &large).unwrap();
        let path = Path::new(DIR).join("large");
        let Look::Entry {
            contents: Contents::Parts(excerpts, key),
            ..
        } = fixture.tree.look(&path, Which::Closed)
        else {
            panic!("not read in parts");
        };
        assert_eq!(key, EntryKey::of(large.as_bytes()));
        let record = excerpts.record();
        assert_eq!(record.response.status, Some(403));
        assert_eq!(record.client.unwrap().text, "192.0.2.7");
        fs::write(fixture.path("cut"), &large[..large.len() - 3]).unwrap();
        assert_eq!(fixture.look("cut", Which::Closed), "unfinished");
    }
}

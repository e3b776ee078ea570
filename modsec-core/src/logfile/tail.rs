//! Reading on in a log that grows, is rotated and is emptied.
//!
//! [`Tail::read`] hands out new bytes and says whether they continue those before. It waits for
//! nothing: at [`Growth::End`] the caller sleeps, or waits for inotify, and calls again.
//!
//! | what happened to the log | how it is noticed | what is read next |
//! | --- | --- | --- |
//! | appended to | more bytes | these |
//! | renamed, new one made | other inode at the path | rest of it, later ones, the new one |
//! | `copytruncate` | shorter, or other first bytes | rest of the copy, then the log anew |
//! | append taken back | shorter, same first bytes | from the new end |
//! | removed | nothing at the path | rest of the open file |
//!
//! A log that is emptied and grows beyond the old offset between two reads is noticed only if its
//! first bytes differ. Entries begin with a random boundary or a time, so they do.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::info;

use super::checkpoint::{COMPARED, Checkpoint};
use super::log_file::LogFile;
use super::rotated::{self, Segment, segment};
use crate::named_file::Links;

/// Bytes asked for at a time: the most that one read adds to the caller's buffer.
const CHUNK: usize = 256 * 1024;

/// A log that is followed.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Where the log is; another file may come there at any time.
    path: PathBuf,
    /// The file that is being read: the log, or one that it was rotated to.
    open: Option<OpenLog>,
    /// What is read after the open file, the oldest first: rotated logs, and the one at the path.
    queue: VecDeque<Segment>,
    /// For how long the old file must not have changed after a rotation before it is left: Apache's
    /// processes write to it until they end.
    patience: Duration,
    /// Since when another file is at the path while nothing was added to the old one.
    replaced: Option<Instant>,
    /// Whether it was said that the open file is over.
    is_over: bool,
    /// Whether the checkpoint was found.
    is_continued: bool,
}

/// A file being read.
#[derive(Debug)]
struct OpenLog {
    /// The open file.
    source: LogFile,
    /// Bytes read so far.
    offset: u64,
    /// Its first bytes, at most 512, to notice that it was emptied and written to again.
    head: Vec<u8>,
    /// The last bytes that were read, at most 512, to find a copy of the file after it was emptied.
    last: Vec<u8>,
}

/// What one call of [`Tail::read`] gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// Bytes were added to the buffer; there may be more.
    Grown,
    /// There is no more for now.
    End,
    /// There will be no more in the open file, and the next read goes on with another one. Until
    /// then the caller may [`Tail::seek`] back, to read again what an entry without end held up.
    Over,
    /// What follows is not the continuation of what came before: another file is at the path, or
    /// the file was emptied or shortened. The caller drops a line or entry that is not complete.
    Restarted,
}

impl Tail {
    /// Follows the log at `path`, which need not exist yet, from `mark` on, wherever rotation has
    /// put what was not read. Begins at the start of the log without a mark, or if its place is not
    /// found any more; see [`Tail::is_continued`].
    ///
    /// # Errors
    ///
    /// What opening the log, or listing its directory, said.
    pub(crate) fn new(path: PathBuf, mark: Option<&Checkpoint>) -> io::Result<Tail> {
        let found = match mark {
            Some(mark) => rotated::unread(&path, mark)?,
            None => None,
        };
        let is_continued = found.is_some();
        let mut queue = VecDeque::from(found.unwrap_or_default());
        let open = match queue.pop_front() {
            Some(segment) => Some(OpenLog::from(segment)),
            None => LogFile::open(&path, Links::Follow)?.map(OpenLog::new),
        };
        Ok(Tail {
            path,
            open,
            queue,
            patience: Duration::ZERO,
            replaced: None,
            is_over: false,
            is_continued,
        })
    }

    /// Leaves an old file only once it has not changed for `patience`, so that its writers can
    /// finish.
    pub(crate) fn with_patience(self, patience: Duration) -> Tail {
        Tail { patience, ..self }
    }

    /// Says if there is no log yet: its path may be mistyped, or its writer, often `modsec-parser`, has
    /// not begun.
    pub(crate) fn say_if_absent(&self) {
        if self.open.is_none() {
            info!(path = ?self.path, "log is not there yet, waiting for it");
        }
    }

    /// Returns the path of the log.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns `true` if reading began at the checkpoint; `false` if there was none or it was not
    /// found.
    pub(crate) fn is_continued(&self) -> bool {
        self.is_continued
    }

    /// Returns the place behind which nothing was consumed; `unread` is the number of bytes at the
    /// end of what was handed out that the caller has not made use of.
    ///
    /// `None` if there is no file, or it was emptied since the last read: then there is no place to
    /// go on.
    ///
    /// # Errors
    ///
    /// What reading the bytes to compare said.
    pub(crate) fn checkpoint(&mut self, unread: u64) -> io::Result<Option<Checkpoint>> {
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        match Checkpoint::of(&mut open.source, open.offset.saturating_sub(unread)) {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns how many bytes of the open file were read, 0 without one.
    pub(crate) fn offset(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.offset)
    }

    /// Goes on reading at `offset` of the open file.
    pub(crate) fn seek(&mut self, offset: u64) {
        if let Some(open) = &mut self.open {
            open.offset = offset;
            open.last.clear();
            self.is_over = false;
        }
    }

    /// Returns up to `len` bytes of the open file from the offset `at` on: as many as can be read. What
    /// is read next does not change.
    pub(crate) fn peek(&mut self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let (Some(open), Some(rest)) = (&mut self.open, bytes.get_mut(filled..)) {
            match open.source.read_at(rest, at + filled as u64) {
                Ok(read) if read > 0 => filled += read,
                _ => break,
            }
        }
        bytes.truncate(filled);
        bytes
    }

    /// Returns the open file: the log, or one that it was rotated to.
    pub(crate) fn file(&self) -> Option<&std::fs::File> {
        self.open.as_ref().map(|open| &open.source.file)
    }

    /// Appends what is new to `buffer`, at most [`CHUNK`] bytes.
    ///
    /// The steps: check that what was read is still there; read the open file; at its end look for
    /// newer ones; if there are any, read once more, because a writer may have added something
    /// between the two; then go on to the next file.
    ///
    /// # Errors
    ///
    /// What the system said. The place is kept, and the next call tries again.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Growth> {
        let Some(open) = &mut self.open else {
            self.open = LogFile::open(&self.path, Links::Follow)?.map(OpenLog::new);
            return Ok(match self.open {
                Some(_) => Growth::Restarted,
                None => Growth::End,
            });
        };
        match open.truncation()? {
            Truncation::No => {}
            // The rest may be in the copy that was made before the file was emptied.
            Truncation::Emptied(mark) if self.find_copy(&mark)? => {}
            Truncation::Emptied(_) | Truncation::Shortened => return Ok(Growth::Restarted),
        }
        if self.read_open(buffer)? {
            return Ok(Growth::Grown);
        }
        if self.queue.is_empty() && !self.find_newer()? {
            return Ok(Growth::End);
        }
        // A writer may have added to the old file between the two looks.
        if self.read_open(buffer)? {
            return Ok(Growth::Grown);
        }
        let since = *self.replaced.get_or_insert_with(Instant::now);
        if self.is_recent() && since.elapsed() < self.patience {
            return Ok(Growth::End);
        }
        if !std::mem::replace(&mut self.is_over, true) {
            return Ok(Growth::Over);
        }
        self.replaced = None;
        self.is_over = false;
        self.open = self.queue.pop_front().map(|next| {
            if next.path != self.path {
                info!(path = ?next.path, "reading a log that was rotated meanwhile");
            }
            OpenLog::from(next)
        });
        Ok(Growth::Restarted)
    }

    /// Reads from the open file; returns `true` if it had more.
    fn read_open(&mut self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        let has_grown = match &mut self.open {
            Some(open) => open.read(buffer)? > 0,
            None => false,
        };
        if has_grown {
            self.replaced = None;
            self.is_over = false;
        }
        Ok(has_grown)
    }

    /// Returns `true` if another file is at the path of the log, after queuing it and those rotated
    /// between the open file and it.
    fn find_newer(&mut self) -> io::Result<bool> {
        let (Some(open), Some(current)) =
            (&mut self.open, LogFile::open(&self.path, Links::Follow)?)
        else {
            return Ok(false);
        };
        if current.is_same_file(&open.source) {
            return Ok(false);
        }
        self.queue
            .extend(rotated::newer(&self.path, &mut open.source)?);
        self.queue.push_back(segment(&self.path, current, 0));
        Ok(true)
    }

    /// Goes on in a copy of the open file, which was emptied since (`copytruncate`); what is in the
    /// log now comes afterwards. Returns `false` if no copy has the bytes at `mark`.
    fn find_copy(&mut self, mark: &Checkpoint) -> io::Result<bool> {
        let Some(mut copy) = rotated::find(&self.path, mark)? else {
            return Ok(false);
        };
        self.queue
            .extend(rotated::newer(&self.path, &mut copy.source)?);
        let current = LogFile::open(&self.path, Links::Follow)?;
        self.queue
            .extend(current.map(|source| segment(&self.path, source, 0)));
        self.open = Some(OpenLog::from(copy));
        Ok(true)
    }

    /// Returns `true` if the open file was changed less than the patience ago, so that its writer
    /// may not have done with it. A time in the future (the clock was set back) counts as recent.
    fn is_recent(&self) -> bool {
        let open = self
            .open
            .as_ref()
            .filter(|open| !open.source.is_compressed());
        let changed = open.and_then(|open| open.source.file.metadata().ok()?.modified().ok());
        // A clock that was set back says nothing.
        changed.is_some_and(|at| at.elapsed().map_or(true, |age| age < self.patience))
    }
}

/// Whether bytes that were read are gone from a file.
enum Truncation {
    /// No.
    No,
    /// Those at the end are, and the beginning is the same: an append was taken back.
    Shortened,
    /// Other bytes are at the beginning, or none. Reading had come to this place.
    Emptied(Checkpoint),
}

impl From<Segment> for OpenLog {
    fn from(segment: Segment) -> OpenLog {
        OpenLog {
            offset: segment.offset,
            ..OpenLog::new(segment.source)
        }
    }
}

impl OpenLog {
    /// Begins at the start of a file.
    fn new(source: LogFile) -> OpenLog {
        OpenLog {
            source,
            offset: 0,
            head: Vec::new(),
            last: Vec::new(),
        }
    }

    /// Compares the file with what was read of it, and moves to the place to go on: its end if it
    /// is shorter with the same beginning, its start if the beginning is another.
    ///
    /// A compressed file is never written to again.
    ///
    /// # Errors
    ///
    /// What reading said.
    fn truncation(&mut self) -> io::Result<Truncation> {
        if self.source.is_compressed() {
            return Ok(Truncation::No);
        }
        let len = self.source.file.metadata()?.len();
        let known = self.head.len() as u64;
        let is_same = match self.source.window(0, known.min(len)) {
            Ok(head) => self.head.starts_with(&head) && (known == 0 || !head.is_empty()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(error),
        };
        if is_same && len >= self.offset {
            self.head = self.source.window(0, len.min(COMPARED)).unwrap_or_default();
            return Ok(Truncation::No);
        }
        if is_same {
            self.offset = len;
            self.last.clear();
            return Ok(Truncation::Shortened);
        }
        let last = Some(&*self.last).filter(|last| last.len() as u64 == self.offset.min(COMPARED));
        let read = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let head = self
            .head
            .get(..read.min(self.head.len()))
            .unwrap_or_default();
        let mark = Checkpoint::from_bytes(&self.source, self.offset, head, last);
        self.offset = 0;
        self.head.clear();
        self.last.clear();
        Ok(Truncation::Emptied(mark))
    }

    /// Appends at most [`CHUNK`] bytes to `buffer` and returns how many.
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        buffer.resize(before + CHUNK, 0);
        let new = buffer.get_mut(before..).unwrap_or_default();
        let read = self.source.read_at(new, self.offset);
        buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        let read = read?;
        let new = buffer.get(before..).unwrap_or_default();
        let kept = usize::try_from(COMPARED).unwrap_or(0);
        self.last
            .extend_from_slice(new.get(read.saturating_sub(kept)..).unwrap_or_default());
        let too_many = self.last.len().saturating_sub(kept);
        self.last.drain(..too_many);
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until there is no more; `|` marks a restart.
    fn drain(tail: &mut Tail) -> String {
        let mut text = Vec::new();
        loop {
            match tail.read(&mut text).unwrap() {
                Growth::Grown | Growth::Over => {}
                Growth::Restarted => text.push(b'|'),
                Growth::End => return String::from_utf8(text).unwrap(),
            }
        }
    }

    #[test]
    fn growth_and_rotation_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut tail = Tail::new(path.clone(), None).unwrap();
        assert_eq!(drain(&mut tail), "", "not there yet");
        append(&path, "one\n");
        assert_eq!(drain(&mut tail), "|one\n");
        append(&path, "two\n");
        assert_eq!(drain(&mut tail), "two\n");
        // By rename, with a last line to the old file.
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        append(&dir.path().join("log.1"), "three\n");
        assert_eq!(drain(&mut tail), "three\n");
        append(&path, "four\n");
        assert_eq!(drain(&mut tail), "|four\n");
        // By copying and emptying; the new text may already be longer than the old.
        fs::write(&path, "five and more\n").unwrap();
        assert_eq!(drain(&mut tail), "|five and more\n");
    }

    #[test]
    fn an_append_that_is_taken_back_is_not_read_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, "one\ntwo\n");
        let mut tail = Tail::new(path.clone(), None).unwrap();
        assert_eq!(drain(&mut tail), "one\ntwo\n");
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4)
            .unwrap();
        assert_eq!(drain(&mut tail), "|");
        append(&path, "three\n");
        assert_eq!(drain(&mut tail), "three\n");
    }

    /// Compresses a file as logrotate does: the time of the last change stays.
    fn compress(path: &Path) {
        let mut name = path.as_os_str().to_owned();
        name.push(".gz");
        let file = fs::File::create_new(name).unwrap();
        let mut encoder = GzEncoder::new(file, Compression::default());
        encoder.write_all(&fs::read(path).unwrap()).unwrap();
        let changed = fs::metadata(path).unwrap().modified().unwrap();
        encoder.finish().unwrap().set_modified(changed).unwrap();
        fs::remove_file(path).unwrap();
    }

    fn drain_from(path: &Path, mark: &Checkpoint) -> String {
        drain(&mut Tail::new(path.to_owned(), Some(mark)).unwrap())
    }

    #[test]
    fn a_checkpoint_continues_whatever_rotation_made_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let beside = |name: &str| dir.path().join(name);
        append(&path, "one\ntw");
        let mut tail = Tail::new(path.clone(), None).unwrap();
        drain(&mut tail);
        let mark = tail.checkpoint(2).unwrap().unwrap();
        append(&path, "o\n");
        assert_eq!(drain_from(&path, &mark), "two\n");
        fs::rename(&path, beside("audit.log.1")).unwrap();
        assert_eq!(drain_from(&path, &mark), "two\n");
        append(&path, "three\n");
        for (name, new) in [
            ("audit.log.1", "audit.log-20261127"),
            ("audit.log-20261127", "audit-20261127.log"),
            ("audit-20261127.log", "whatever"),
        ] {
            assert_eq!(drain_from(&path, &mark), "two\n|three\n", "{name}");
            fs::rename(beside(name), beside(new)).unwrap();
        }
        // A copy has another inode, and so has what gzip makes of it.
        fs::copy(beside("whatever"), beside("audit.log.1")).unwrap();
        fs::remove_file(beside("whatever")).unwrap();
        assert_eq!(drain_from(&path, &mark), "two\n|three\n");
        compress(&beside("audit.log.1"));
        assert_eq!(drain_from(&path, &mark), "two\n|three\n");
        fs::remove_file(beside("audit.log.1.gz")).unwrap();
        let mut tail = Tail::new(path, Some(&mark)).unwrap();
        assert!(!tail.is_continued());
        assert_eq!(drain(&mut tail), "three\n");
    }

    #[test]
    fn several_rotations_are_read_in_their_order() {
        for names in [
            ["audit.log.3", "audit.log.2", "audit.log.1"],
            [
                "audit.log-20261125",
                "audit.log-20261126",
                "audit.log-20261127",
            ],
            ["audit-3.log", "audit-10.log", "audit-2.log"],
        ] {
            for compressed in 0..=3 {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("audit.log");
                append(&path, "one\n");
                let mut tail = Tail::new(path.clone(), None).unwrap();
                let mut follower = Tail::new(path.clone(), None).unwrap();
                assert_eq!(drain(&mut tail), "one\n");
                assert_eq!(drain(&mut follower), "one\n");
                let mark = tail.checkpoint(0).unwrap().unwrap();
                for (number, name) in names.iter().enumerate() {
                    append(&path, &format!("{number}\n"));
                    let at =
                        std::time::UNIX_EPOCH + Duration::from_secs(1000 * (number as u64 + 1));
                    File::options()
                        .write(true)
                        .open(&path)
                        .unwrap()
                        .set_modified(at)
                        .unwrap();
                    fs::rename(&path, dir.path().join(name)).unwrap();
                }
                append(&path, "last\n");
                append(&dir.path().join("audit.log.bak"), "other\n");
                append(&dir.path().join("audit.log-20261201"), "");
                for name in &names[..compressed] {
                    compress(&dir.path().join(name));
                }
                let want = "0\n|1\n|2\n|last\n";
                assert_eq!(drain_from(&path, &mark), want, "{names:?} {compressed}");
                assert_eq!(drain(&mut follower), want, "{names:?} {compressed}");
            }
        }
    }

    #[test]
    fn a_place_in_a_compressed_log_is_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        append(&path, &"line\n".repeat(200));
        let mark = Tail::new(path.clone(), None).unwrap().checkpoint(0);
        let mut tail = Tail::new(path.clone(), None).unwrap();
        drain(&mut tail);
        append(&path, "more\nlast\n");
        let half = tail.checkpoint(0).unwrap().unwrap();
        fs::rename(&path, dir.path().join("audit.log.1")).unwrap();
        compress(&dir.path().join("audit.log.1"));
        let mut tail = Tail::new(path.clone(), Some(&half)).unwrap();
        assert_eq!(drain(&mut tail), "more\nlast\n");
        let mark_in_compressed = tail.checkpoint(5).unwrap().unwrap();
        let text = mark_in_compressed.to_string();
        assert!(text.ends_with(" -"), "{text}");
        assert_eq!(drain_from(&path, &text.parse().unwrap()), "last\n");
        assert_eq!(mark.unwrap().unwrap().offset(), 0);
    }

    #[test]
    fn what_was_copied_before_the_log_was_emptied_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        append(&path, "one\n");
        let mut tail = Tail::new(path.clone(), None).unwrap();
        assert_eq!(drain(&mut tail), "one\n");
        append(&path, "two\n");
        fs::copy(&path, dir.path().join("audit.log-20261127")).unwrap();
        fs::write(&path, "three\n").unwrap();
        assert_eq!(drain(&mut tail), "two\n|three\n");
    }

    #[test]
    fn a_directory_is_no_log() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Tail::new(dir.path().to_owned(), None).is_err());
    }
}

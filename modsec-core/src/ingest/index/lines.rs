//! Lines of the index, from a file that grows or from the pipe that a web server writes to.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::watch;
use tracing::warn;

use super::IndexError;
use super::ledger::{Announced, Digest};
use crate::format::{self, Defect};
use crate::index_line::IndexLine;
use crate::logfile::{
    Checkpoint, Content, GZIP, Growth, Line as Cut, Lines as Cutter, PipeRecognition, Recognition,
    Tail,
};
use crate::named_file::open_to_read;

/// Lines that may wait in memory while their entries cannot be stored.
pub(super) const MAX_WAITING: usize = 16_384;
/// Bytes read from the pipe at a time: as many as it holds.
const CHUNK: usize = 64 * 1024;
/// Bytes at the beginning of a file that are looked at before it is read.
const HEAD: u64 = 4096;

/// One line.
#[derive(Debug)]
pub(super) struct Line {
    /// What it says about an entry.
    pub(super) announced: Announced,
    /// The storage directory, if the line names one.
    pub(super) storage_dir: Option<PathBuf>,
}

/// Reads a line; `None` if it leads to no entry.
fn parse(line: &[u8], before: bool) -> Option<Line> {
    let line = IndexLine::parse(line)?;
    let location = line.location()?;
    let announced = Announced {
        file: location.file.into(),
        digest: Digest {
            size: line.size,
            md5: line.md5,
        },
        appends: line.dialect.appends(),
        before,
    };
    Some(Line {
        announced,
        storage_dir: location.storage_dir.map(Path::to_owned),
    })
}

/// Where lines come from.
#[derive(Debug)]
pub(super) enum Lines {
    /// A file, `SecAuditLog`.
    File(FileLines),
    /// Standard input, to which the web server writes.
    Pipe(Pipe),
}

/// What reading gave.
#[derive(Debug)]
pub(super) enum Next {
    /// A line about an entry.
    Line(Line),
    /// So many lines say nothing about an entry here.
    Foreign(u64),
    /// So many lines were thrown away because nobody came for them.
    Unread(u64),
    /// Part of a line; there is more.
    Part,
    /// No more for now.
    End,
}

impl Lines {
    /// Returns the next line, without waiting for one.
    ///
    /// # Errors
    ///
    /// What the system said when the file was read. A pipe has none: its thread logs them.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        match self {
            Lines::File(file) => file.next(),
            Lines::Pipe(pipe) => Ok(pipe.next()),
        }
    }

    /// Returns the name of the index, for messages.
    pub(super) fn path(&self) -> &Path {
        match self {
            Lines::File(file) => file.tail.path(),
            Lines::Pipe(_) => Path::new("-"),
        }
    }

    /// Says what the file is if it has no lines of an index: it is not looked at again.
    pub(super) fn end(&mut self) {
        if let Lines::File(file) = self {
            file.recognition.end(&mut file.tail);
        }
    }

    /// Returns up to where the file was read, and the end of what was there at first.
    pub(super) fn place(&mut self) -> Option<(Checkpoint, u64)> {
        match self {
            Lines::File(file) => {
                let mark = file.tail.checkpoint(file.cutter.unread() as u64);
                Some((mark.ok()??, file.before))
            }
            Lines::Pipe(_) => None,
        }
    }
}

/// The index as a file.
#[derive(Debug)]
pub(super) struct FileLines {
    /// Reads the file over rotations.
    tail: Tail,
    /// Cuts what was read into lines.
    cutter: Cutter,
    /// Says what the file is if it has no lines of an index.
    recognition: Box<Recognition>,
    /// What stands before this offset was there before account was kept.
    before: u64,
}

impl FileLines {
    /// Opens the index at `path`, which need not exist, at a place that was noted in an earlier
    /// run.
    pub(super) fn open(
        path: &Path,
        place: Option<(Checkpoint, u64)>,
        merged_log: Option<&Path>,
    ) -> Result<FileLines, IndexError> {
        let failed = |source| IndexError::Read {
            path: path.to_owned(),
            source,
        };
        let tail = Tail::new(path.to_owned(), place.as_ref().map(|(mark, _)| mark));
        let tail = tail.map_err(failed)?;
        let size = check(path, merged_log)?;
        let before = match place {
            Some((_, before)) if tail.is_continued() => before,
            Some(_) => 0,
            None => size,
        };
        Ok(FileLines {
            recognition: Box::new(Recognition::new(Content::Lines, tail.offset())),
            tail,
            cutter: Cutter::default(),
            before,
        })
    }

    /// Returns the next line; [`Next::Part`] if some bytes were read and the caller should ask
    /// again.
    ///
    /// # Errors
    ///
    /// What the system said.
    fn next(&mut self) -> io::Result<Next> {
        let start = self.tail.offset() - self.cutter.unread() as u64;
        let before = start < self.before;
        if let Some(cut) = self.cutter.next() {
            let next = Next::of(&cut, before);
            self.recognition
                .line(start, !matches!(next, Next::Foreign(_)));
            return Ok(next);
        }
        let growth = self.tail.read(self.cutter.buffer())?;
        self.recognition.look_at_lines(&mut self.tail, growth);
        match growth {
            Growth::Grown | Growth::Over => {}
            Growth::Restarted => {
                self.cutter.clear();
                self.recognition.restart(self.tail.offset());
                self.before = 0;
            }
            Growth::End => return Ok(Next::End),
        }
        Ok(Next::Part)
    }
}

impl Next {
    /// Reads a line that was cut off. One that is too long leads to no entry.
    fn of(cut: &Cut<'_>, before: bool) -> Next {
        match cut {
            Cut::Whole(line) => parse(line, before).map_or(Next::Foreign(1), Next::Line),
            Cut::TooLong => Next::Foreign(1),
        }
    }
}

/// Makes sure that `path` is not a log of whole entries, and returns its size; 0 if it is not
/// there yet.
pub(super) fn check(path: &Path, merged_log: Option<&Path>) -> Result<u64, IndexError> {
    let failed = |source| IndexError::Read {
        path: path.to_owned(),
        source,
    };
    let file = match open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            warn!(?path, "no index there yet; compare with SecAuditLog");
            return Ok(0);
        }
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    let is_merged_log = merged_log
        .and_then(|log| log.metadata().ok())
        .is_some_and(|log| (log.dev(), log.ino()) == (meta.dev(), meta.ino()));
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head).map_err(failed)?;
    if is_merged_log {
        Err(IndexError::MergedLog {
            path: path.to_owned(),
        })
    } else if head.starts_with(&GZIP) {
        Err(IndexError::Compressed {
            path: path.to_owned(),
        })
    } else if format::detect(&head).is_some() || head.starts_with(b"{") {
        Err(IndexError::Entries {
            path: path.to_owned(),
        })
    } else if let Some(defect) = wrapped(&head) {
        Err(IndexError::Wrapped {
            path: path.to_owned(),
            defect,
        })
    } else {
        Ok(meta.len())
    }
}

/// Returns what stands around the lines of a file that begins with `head`, if no line can be read
/// because of it.
fn wrapped(head: &[u8]) -> Option<Defect> {
    let mut lines = head.split(|byte| *byte == b'\n');
    if lines.any(|line| IndexLine::parse(line).is_some()) {
        return None;
    }
    let defect = format::decode(head).err()?;
    matches!(defect, Defect::Wrapped { .. } | Defect::Ocsf).then_some(defect)
}

/// The pipe that a web server writes its index to.
///
/// A thread reads it without ever waiting for anything else, as the server's children stand still
/// when the pipe is full.
#[derive(Debug)]
pub(in crate::ingest) struct Pipe {
    /// Lines that wait, [`MAX_WAITING`] at the most.
    lines: Receiver<Next>,
    /// Lines that came while as many were waiting.
    unread: Arc<AtomicU64>,
    /// Handed to whoever waits for the end.
    ended: Ended,
}

/// Knows when the web server has closed the pipe. Lines may still be waiting then.
#[derive(Debug, Clone)]
pub(in crate::ingest) struct Ended(watch::Receiver<()>);

impl Ended {
    /// Returns `true` if the pipe is closed.
    pub(in crate::ingest) fn is_now(&self) -> bool {
        self.0.has_changed().is_err()
    }

    /// Waits until the pipe is closed.
    pub(in crate::ingest) async fn wait(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl Pipe {
    /// Starts to read.
    pub(in crate::ingest) fn open(from: impl Read + Send + 'static) -> Result<Pipe, IndexError> {
        let (sender, lines) = sync_channel(MAX_WAITING);
        let (end, ended) = watch::channel(());
        let pipe = Pipe {
            lines,
            unread: Arc::default(),
            ended: Ended(ended),
        };
        let unread = Arc::clone(&pipe.unread);
        thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || {
                read_pipe(from, &sender, &unread);
                drop(end);
            })
            .map_err(IndexError::Thread)?;
        Ok(pipe)
    }

    /// Returns a line that waits; if there is none, how many were thrown away since the last call.
    fn next(&mut self) -> Next {
        match self.lines.try_recv() {
            Ok(next) => next,
            Err(_) => match self.unread.swap(0, Ordering::Relaxed) {
                0 => Next::End,
                lines => Next::Unread(lines),
            },
        }
    }

    /// Returns a handle that knows when the pipe is closed.
    pub(in crate::ingest) fn ended(&self) -> Ended {
        self.ended.clone()
    }
}

/// Reads the pipe to its end and never waits for anything else: a line for which there is no room
/// is counted and thrown away. Ends early if reading fails or nobody wants lines any more.
fn read_pipe(mut from: impl Read, lines: &SyncSender<Next>, unread: &AtomicU64) {
    let mut cutter = Cutter::default();
    let mut recognition = PipeRecognition::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        while let Some(cut) = cutter.next() {
            let next = Next::of(&cut, false);
            if let Cut::Whole(line) = cut {
                recognition.line(line, !matches!(next, Next::Foreign(_)));
            }
            match lines.try_send(next) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    unread.fetch_add(1, Ordering::Relaxed);
                }
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
        match from.read(&mut chunk) {
            Ok(0) => return recognition.end(),
            Ok(read) => {
                let new = chunk.get(..read).unwrap_or_default();
                cutter.buffer().extend_from_slice(new);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                warn!(%error, "pipe not read any more");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn line(name: &str) -> String {
        let md5 = "md5:f4379ec14e40221beb05af5daf25ef7a";
        format!("h 192.0.2.7 /20261122/20261122-1436/20261122-143639-{name} 0 9 {md5} \n")
    }

    /// Names what comes until there is no more for now.
    fn drain(lines: &mut Lines) -> Vec<String> {
        let mut all = Vec::new();
        loop {
            all.push(match lines.next().unwrap() {
                Next::Line(line) => {
                    let name = line.announced.file.to_str().unwrap();
                    let before = if line.announced.before { " before" } else { "" };
                    format!("{}{before}", name.rsplit('-').next().unwrap())
                }
                Next::Foreign(lines) => format!("foreign {lines}"),
                Next::Unread(lines) => format!("unread {lines}"),
                Next::Part => continue,
                Next::End => return all,
            });
        }
    }

    #[test]
    fn only_what_is_there_at_first_is_from_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        fs::write(&path, line("a") + &line("b")).unwrap();
        let mut lines = Lines::File(FileLines::open(&path, None, None).unwrap());
        let mut index = fs::File::options().append(true).open(&path).unwrap();
        write!(index, "{}{}", line("c"), &line("d")[..20]).unwrap();
        assert_eq!(drain(&mut lines), ["a before", "b before", "c"]);
        let place = lines.place();
        write!(index, "{}", &line("d")[20..]).unwrap();
        for mut lines in [
            lines,
            Lines::File(FileLines::open(&path, place, None).unwrap()),
        ] {
            assert_eq!(drain(&mut lines), ["d"]);
        }
        // Of another file nothing is from before.
        let old = dir.path().join("old");
        fs::rename(&path, &old).unwrap();
        fs::write(&path, line("e")).unwrap();
        let mut lines = Lines::File(FileLines::open(&path, place, None).unwrap());
        assert_eq!(drain(&mut lines), ["d", "e"]);
        fs::remove_file(&old).unwrap();
        let mut lines = Lines::File(FileLines::open(&path, place, None).unwrap());
        assert_eq!(drain(&mut lines), ["e"]);
    }

    #[test]
    fn a_place_at_the_start_of_what_is_from_before_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("index");
        fs::write(&path, line("a")).unwrap();
        let place = Lines::File(FileLines::open(&path, None, None).unwrap()).place();
        let mut lines = Lines::File(FileLines::open(&path, place, None).unwrap());
        assert_eq!(drain(&mut lines), ["a before"]);
    }

    #[test]
    fn a_pipe_that_nobody_empties_never_blocks_its_writer() {
        let text = line("a").repeat(MAX_WAITING + 7);
        let pipe = Pipe::open(io::Cursor::new(text.into_bytes())).unwrap();
        let ended = pipe.ended();
        while !ended.is_now() {
            thread::yield_now();
        }
        let all = drain(&mut Lines::Pipe(pipe));
        assert_eq!(all.len(), MAX_WAITING + 1);
        assert_eq!(all.last().unwrap(), "unread 7");
    }
}

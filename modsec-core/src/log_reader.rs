//! Reading a log of many entries once, from a file, through gzip, or from a pipe.
//!
//! A [`LogReader`] feeds a [`Splitter`] and hands out one entry after the other, in bounded memory
//! whatever its size:
//!
//! ```text
//!                       ┌─ small entry ──────────► Taken::Whole   its bytes
//! file, .gz, pipe ─► Splitter ─ large entry ─────► Taken::Large   a range of a file
//!                       └─ bytes of no entry ────► Taken::Unrecognized offset and first bytes
//! ```
//!
//! A large entry, usually an upload that was logged, is a range of the log itself if that is a
//! plain file. Of a pipe or a compressed file, which cannot be read twice, it is copied to a
//! temporary file without a name (`O_TMPFILE` in `TMPDIR`), which goes away with the last
//! reference.
//!
//! To follow a log that grows is the business of [`crate::logfile`].

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::format::{self, Defect, FirstBytes, Wrapping};
use crate::index_line::IndexLine;
use crate::logfile::{Aside, GZIP, Unpacked, is_trailing_garbage};
use crate::program::Stop;
use crate::record::Flags;
use crate::serial_log::{InputState, LineEnds, Piece, Splitter, has_windows_line_ends};

/// How often to check whether to stop, while a pipe gives nothing: every 200 ms.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;
/// Bytes at the beginning of a file that are looked at.
const HEAD: usize = 64 * 1024;
/// Bytes at the beginning of a log that tell what stands around it.
const SHOWN: usize = 4096;
/// Largest entry, in bytes, that is handed out in memory: 512 KiB. Nearly all are smaller; a larger
/// one is read in windows from its file.
pub(crate) const IN_MEMORY: usize = 512 * 1024;

/// A range of bytes of a file.
#[derive(Debug)]
pub(crate) struct Extent {
    /// The log itself, or a temporary file.
    pub(crate) file: Arc<File>,
    /// Offset of the first byte in `file`.
    pub(crate) start: u64,
    /// Number of bytes.
    pub(crate) len: u64,
    /// What is odd about the place where the entry stood, such as
    /// [`crate::record::Flag::Interleaved`]; the record that is decoded from it must get them too.
    pub(crate) flags: Flags,
}

/// What was found next in a log.
#[derive(Debug)]
pub(crate) enum Taken {
    /// An entry in memory, and what is odd about its place (see [`Extent::flags`]).
    Whole(Vec<u8>, Flags),
    /// An entry too large for that.
    Large(Extent),
    /// Bytes that belong to no entry: offset of the first in the log, and some of them for a
    /// message.
    Unrecognized { at: u64, line: FirstBytes },
}

/// Reading ended before the log did.
#[derive(Debug, thiserror::Error)]
#[error("{entries} entries were read, and then: {error}")]
pub(crate) struct BrokenOff {
    /// How many entries were read.
    entries: u64,
    /// The error that ended it, as text: an [`io::Error`] cannot be copied.
    error: String,
}

impl BrokenOff {
    /// Makes the error that says how many entries were read before another one.
    pub(crate) fn after(entries: u64, error: &io::Error) -> io::Error {
        let broken = BrokenOff {
            entries,
            error: error.to_string(),
        };
        io::Error::new(error.kind(), broken)
    }
}

/// A log that is read from its start to its end.
#[derive(Debug)]
pub(crate) struct LogReader {
    /// Where the bytes come from.
    source: Source,
    /// Finds the ends of entries.
    splitter: Splitter,
    /// Whether more bytes will come.
    input: InputState,
    /// Why reading ended before the end of the log; reported after the entries read before it.
    failed: Option<io::Error>,
    /// Ends reading between two portions when a stop is requested; `None`: reading ends at the end.
    stop: Option<Stop>,
    /// Entries that were handed out.
    entries: u64,
    /// The beginning of the log, up to [`SHOWN`] bytes, to say what it is if it is none.
    head: Vec<u8>,
    /// Size of the file in bytes when it was opened (compressed ones of a `.gz`); 0 for a pipe. For
    /// progress.
    pub(crate) size: u64,
}

/// Where the bytes come from.
#[derive(Debug)]
enum Source {
    /// A file that can be read again from any place.
    File { file: Arc<File>, at: u64 },
    /// What can be read only once: a pipe, a terminal, or decompressed bytes.
    Stream(Box<Stream>),
}

/// Shows the type only; the reader inside cannot be shown.
impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

/// A source that can be read only once.
struct Stream {
    /// Where new bytes come from.
    read: Box<dyn Read + Send>,
    /// The large entry at hand, and what is to be read again.
    aside: Aside,
}

impl LogReader {
    /// Begins to read `file`: a plain file, which may be compressed, or anything that can be read,
    /// such as a pipe. A request to stop (`stop`) ends waiting for a pipe within 200 ms.
    ///
    /// # Errors
    ///
    /// What reading the first bytes said.
    pub(crate) fn open(file: File, stop: &Stop) -> io::Result<LogReader> {
        LogReader::holding(file, IN_MEMORY, Some(stop.clone()))
    }

    /// Begins to read like [`LogReader::open`], with entries of up to `held` bytes in memory.
    /// Without `stop`, a pipe is waited for until it ends.
    pub(crate) fn holding(file: File, held: usize, stop: Option<Stop>) -> io::Result<LogReader> {
        let meta = file.metadata()?;
        let source = if meta.is_file() {
            let mut beginning = vec![0; HEAD];
            let got = file.read_at(&mut beginning, 0)?;
            beginning.truncate(got);
            // Of empty members nothing comes out, however many there are.
            let stop = stop.clone();
            if beginning.starts_with(&GZIP) {
                Source::stream(Unpacked::new(Stoppable { file, stop }))
            } else if has_windows_line_ends(&beginning) {
                Source::stream(Stoppable { file, stop })
            } else {
                Source::File {
                    file: Arc::new(file),
                    at: 0,
                }
            }
        } else {
            let stop = stop.clone();
            Source::pipe(Pipe { file, stop })?
        };
        Ok(LogReader {
            source,
            splitter: Splitter::new(0, held),
            input: InputState::More,
            failed: None,
            stop,
            entries: 0,
            head: Vec::new(),
            size: meta.len(),
        })
    }

    /// Returns what comes next; `None` at the end.
    ///
    /// # Errors
    ///
    /// What reading, or writing to the temporary file, said. What was read before has been handed
    /// out, and the log is at its end. A request to stop is such an error.
    pub(crate) fn next(&mut self) -> io::Result<Option<Taken>> {
        loop {
            let Some(piece) = self.splitter.next(self.input) else {
                if self.input == InputState::End {
                    let failed = self.failed.take().map(|error| self.broken_off(error));
                    return failed.map_or(Ok(None), Err);
                }
                if let Err(error) = self.read() {
                    // First what was read before.
                    self.failed = Some(error);
                }
                continue;
            };
            match piece {
                Piece::Entry { bytes, flags, .. } => {
                    self.entries += 1;
                    return Ok(Some(Taken::Whole(bytes.to_vec(), flags)));
                }
                Piece::Part(bytes) => self.source.keep(bytes)?,
                Piece::End {
                    at,
                    len,
                    overrun,
                    flags,
                } => {
                    let rest = overrun.then(|| self.splitter.rewind(at + len));
                    if rest.is_some() {
                        self.input = InputState::More;
                    }
                    let (file, start) = self.source.end(at, len, rest.as_deref())?;
                    if len == 0 {
                        // Announced in vain; it is read again.
                        continue;
                    }
                    self.entries += 1;
                    return Ok(Some(Taken::Large(Extent {
                        file,
                        start,
                        len,
                        flags,
                    })));
                }
                Piece::Unrecognized { at, line, .. } => {
                    return Ok(Some(Taken::Unrecognized { at, line }));
                }
            }
        }
    }

    /// Reads up to [`CHUNK`] bytes into the splitter's buffer; at the end, or after an error, the
    /// splitter is told that no more will come.
    fn read(&mut self) -> io::Result<()> {
        if let Err(error) = unless_stopped(self.stop.as_ref()) {
            self.input = InputState::End;
            return Err(error);
        }
        let buffer = self.splitter.buffer();
        let kept = buffer.len();
        let got = match &mut self.source {
            Source::File { file, at } => {
                // The file may be short; a large buffer for each of many would be waste.
                let left = usize::try_from(self.size.saturating_sub(*at)).unwrap_or(CHUNK);
                buffer.resize(kept + left.clamp(1, CHUNK), 0);
                let got = file.read_at(buffer.get_mut(kept..).unwrap_or_default(), *at);
                buffer.truncate(kept + got.as_ref().copied().unwrap_or(0));
                *at += got.as_ref().map_or(0, |got| *got as u64);
                got
            }
            Source::Stream(stream) => stream.read(buffer),
        };
        let left = SHOWN.saturating_sub(self.head.len());
        self.head.extend(buffer.iter().skip(kept).take(left));
        if !matches!(got, Ok(got) if got > 0) {
            self.input = InputState::End;
        }
        got.map(drop)
    }

    /// Makes the error that says how far the log was read, unless all of it was.
    fn broken_off(&self, error: io::Error) -> io::Error {
        if is_trailing_garbage(&error) {
            return error;
        }
        BrokenOff::after(self.entries, &error)
    }

    /// Returns why no entry was found; `line` is the beginning of the first line.
    pub(crate) fn refusal(&self, line: FirstBytes) -> Defect {
        let lines = self.head.split_inclusive(|byte| *byte == b'\n');
        let is_of_index =
            |line: &&[u8]| IndexLine::parse(line).is_some_and(|line| line.location().is_some());
        let mut of_index = lines.filter(is_of_index).peekable();
        // A client may have written into one what looks like the words of syslog.
        if of_index.peek().is_some() && !of_index.all(|line| Wrapping::of(line).is_some()) {
            return Defect::Index;
        }
        format::unrecognized(&self.head, line)
    }
}

impl Source {
    /// Makes a source of something that can be read only once.
    fn stream(read: impl Read + Send + 'static) -> Source {
        Source::Stream(Box::new(Stream {
            read: Box::new(LineEnds::new(read)),
            aside: Aside::default(),
        }))
    }

    /// Makes a source of a pipe, which may be compressed: its first two bytes are read, compared
    /// with [`GZIP`], and put back in front.
    fn pipe(mut file: Pipe) -> io::Result<Source> {
        let mut magic = Vec::new();
        Read::by_ref(&mut file).take(2).read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP;
        let read = io::Cursor::new(magic).chain(file);
        Ok(if is_gzip {
            Source::stream(Unpacked::new(read))
        } else {
            Source::stream(read)
        })
    }

    /// Copies the next bytes of a large entry to the temporary file; does nothing for a plain file,
    /// where they can be read again.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Source::File { .. } => Ok(()),
            Source::Stream(stream) => stream.aside.keep(bytes),
        }
    }

    /// Returns the file with the large entry that begins at `at` of the log and has `len` bytes,
    /// and where it begins in that file.
    ///
    /// If the splitter has handed out too many bytes for it, `rest` is what was read beyond: all
    /// behind the entry is then read again, from the log or from the temporary file.
    fn end(&mut self, at: u64, len: u64, rest: Option<&[u8]>) -> io::Result<(Arc<File>, u64)> {
        match self {
            Source::File { file, at: next } => {
                if rest.is_some() {
                    *next = at + len;
                }
                Ok((Arc::clone(file), at))
            }
            Source::Stream(stream) => {
                let file = stream.aside.take(len, rest)?;
                Ok((Arc::new(file), 0))
            }
        }
    }
}

/// Returns an error if a stop is requested, so that reading ends there.
///
/// # Errors
///
/// One of the kind [`io::ErrorKind::Other`], with a text for the administrator.
fn unless_stopped(stop: Option<&Stop>) -> io::Result<()> {
    match stop {
        Some(stop) if stop.requested() => Err(io::Error::other("asked to stop")),
        _ => Ok(()),
    }
}

/// A file that is not read any further once a stop is requested: decompressing a log of gigabytes
/// would otherwise go on for minutes without handing out an entry.
struct Stoppable {
    /// The pipe.
    file: File,
    /// What requests the end; `None` if nothing does.
    stop: Option<Stop>,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        unless_stopped(self.stop.as_ref())?;
        self.file.read(buffer)
    }
}

/// A pipe, terminal or socket, whose writer may take any time.
///
/// poll(2) waits for bytes, at most [`LOOK_EVERY`] at a time; between two waits a request to stop
/// becomes an error. The file is not made non-blocking, since standard input is shared with other
/// processes.
struct Pipe {
    /// The pipe, terminal or socket.
    file: File,
    /// What requests the end; `None` if nothing does.
    stop: Option<Stop>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            unless_stopped(self.stop.as_ref())?;
            // Standard input belongs to others too, and may be one that waits.
            let mut ready = [PollFd::new(&self.file, PollFlags::IN)];
            match poll(&mut ready, Some(&LOOK_EVERY)) {
                Ok(0) | Err(Errno::INTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            match self.file.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }
}

impl Stream {
    /// Reads into the end of `buffer`: first what is to be read again, then new bytes. Returns how
    /// many came, at most [`CHUNK`]; 0 at the end. Takes what a pipe has for now and waits for no
    /// more.
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let again = self.aside.read_again(buffer)?;
        if again > 0 {
            return Ok(again);
        }
        let kept = buffer.len();
        buffer.resize(kept + CHUNK, 0);
        // What a pipe has for now is enough.
        let got = loop {
            match self.read.read(buffer.get_mut(kept..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                got => break got,
            }
        };
        buffer.truncate(kept + got.as_ref().copied().unwrap_or(0));
        got
    }
}

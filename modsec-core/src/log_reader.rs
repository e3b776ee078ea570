//! A log of many entries, read from a file, through gzip, or from a pipe.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::format::FirstBytes;
use crate::program::Stop;
use crate::record::Flags;
use crate::serial_log::{Outlook, Piece, Splitter};

/// How often to see whether to stop, while a pipe gives nothing.
const LOOK_EVERY: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 200_000_000,
};

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;
/// What a gzip file starts with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Entries up to this size are handed out in memory. Nearly all are smaller; a larger one is a
/// stored upload, and is read in windows from its file.
pub(crate) const IN_MEMORY: u64 = 512 * 1024;

/// A stretch of a file.
#[derive(Debug)]
pub(crate) struct Extent {
    pub(crate) file: Arc<File>,
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// What is odd about the place where it stood.
    pub(crate) flags: Flags,
}

/// What was found next in a log.
#[derive(Debug)]
pub(crate) enum Taken {
    /// An entry in memory.
    Whole(Vec<u8>, Flags),
    /// An entry too large for that, in the log itself or in a temporary file.
    Large(Extent),
    /// Bytes that belong to no entry.
    Unrecognized { at: u64, line: FirstBytes },
}

/// Reads a log and cuts it into entries.
#[derive(Debug)]
pub(crate) struct LogReader {
    source: Source,
    splitter: Splitter,
    outlook: Outlook,
    /// Why reading ended before the end.
    failed: Option<io::Error>,
    stop: Option<Stop>,
    /// Bytes of the file that were read, for progress: compressed ones of a compressed file.
    pub(crate) size: u64,
}

#[derive(Debug)]
enum Source {
    /// A file that can be read again from any place.
    File { file: Arc<File>, at: u64 },
    /// What can be read once only.
    Stream(Box<Stream>),
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

struct Stream {
    read: Box<dyn Read + Send>,
    /// The large entry at hand.
    spool: Option<File>,
    /// Spooled bytes that belong to other entries after all: file, and where to go on and to end.
    again: Vec<(File, u64, u64)>,
}

impl LogReader {
    /// Begins to read `file`, which may be compressed, or a pipe.
    ///
    /// # Errors
    ///
    /// What reading its first bytes fails with.
    pub(crate) fn open(file: File, stop: &Stop) -> io::Result<LogReader> {
        let held = usize::try_from(IN_MEMORY).unwrap_or(usize::MAX);
        LogReader::holding(file, held, Some(stop.clone()))
    }

    /// The same, with entries of up to `held` bytes in memory.
    pub(crate) fn holding(file: File, held: usize, stop: Option<Stop>) -> io::Result<LogReader> {
        let meta = file.metadata()?;
        let source = if meta.is_file() {
            let mut magic = [0; 2];
            let got = file.read_at(&mut magic, 0)?;
            if got == 2 && magic == GZIP {
                // Of empty members nothing comes out, however many there are.
                let stop = stop.clone();
                Source::stream(MultiGzDecoder::new(Stoppable { file, stop }))
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
            outlook: Outlook::More,
            failed: None,
            stop,
            size: meta.len(),
        })
    }

    /// Returns what comes next; `None` at the end.
    ///
    /// # Errors
    ///
    /// What reading fails with; what was read before has been handed out, and the log is at its
    /// end. A request to stop is such a failure.
    pub(crate) fn next(&mut self) -> io::Result<Option<Taken>> {
        loop {
            let Some(piece) = self.splitter.next(self.outlook) else {
                if self.outlook == Outlook::End {
                    return self.failed.take().map_or(Ok(None), Err);
                }
                if let Err(error) = self.read() {
                    // First what was read before.
                    self.failed = Some(error);
                }
                continue;
            };
            match piece {
                Piece::Entry { bytes, flags, .. } => {
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
                        self.outlook = Outlook::More;
                    }
                    let mut extent = self.source.end(at, len, rest)?;
                    if len == 0 {
                        // Announced in vain; it is read again.
                        continue;
                    }
                    extent.flags = flags;
                    return Ok(Some(Taken::Large(extent)));
                }
                Piece::Unrecognized { at, line, .. } => {
                    return Ok(Some(Taken::Unrecognized { at, line }));
                }
            }
        }
    }

    fn read(&mut self) -> io::Result<()> {
        if let Err(error) = unless_stopped(self.stop.as_ref()) {
            self.outlook = Outlook::End;
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
        if !matches!(got, Ok(got) if got > 0) {
            self.outlook = Outlook::End;
        }
        got.map(drop)
    }
}

impl Source {
    fn stream(read: impl Read + Send + 'static) -> Source {
        Source::Stream(Box::new(Stream {
            read: Box::new(read),
            spool: None,
            again: Vec::new(),
        }))
    }

    /// A pipe may be compressed too; its first bytes are put back.
    fn pipe(mut file: Pipe) -> io::Result<Source> {
        let mut magic = Vec::new();
        Read::by_ref(&mut file).take(2).read_to_end(&mut magic)?;
        let is_gzip = magic == GZIP;
        let read = io::Cursor::new(magic).chain(file);
        Ok(if is_gzip {
            Source::stream(MultiGzDecoder::new(read))
        } else {
            Source::stream(read)
        })
    }

    /// Keeps the next bytes of a large entry.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Source::Stream(stream) = self else {
            return Ok(());
        };
        let spool = match &mut stream.spool {
            Some(spool) => spool,
            none => none.insert(tempfile::tempfile()?),
        };
        spool.write_all(bytes)
    }

    /// Returns the large entry that starts at `at` of the log. `rest` was read beyond what was
    /// kept, and all behind the entry is to be read again.
    fn end(&mut self, at: u64, len: u64, rest: Option<Vec<u8>>) -> io::Result<Extent> {
        match self {
            Source::File { file, at: next } => {
                if rest.is_some() {
                    *next = at + len;
                }
                Ok(Extent {
                    file: Arc::clone(file),
                    start: at,
                    len,
                    flags: Flags::none(),
                })
            }
            Source::Stream(stream) => {
                let mut spool = stream.spool.take().ok_or(io::ErrorKind::UnexpectedEof)?;
                if let Some(rest) = rest {
                    spool.write_all(&rest)?;
                    let end = spool.stream_position()?;
                    stream.again.push((spool.try_clone()?, len, end));
                }
                Ok(Extent {
                    file: Arc::new(spool),
                    start: 0,
                    len,
                    flags: Flags::none(),
                })
            }
        }
    }
}

/// Fails once a stop is requested.
fn unless_stopped(stop: Option<&Stop>) -> io::Result<()> {
    match stop {
        Some(stop) if stop.requested() => Err(io::Error::other("asked to stop")),
        _ => Ok(()),
    }
}

/// A file that is not read any more once a stop is requested.
struct Stoppable {
    file: File,
    stop: Option<Stop>,
}

impl Read for Stoppable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        unless_stopped(self.stop.as_ref())?;
        self.file.read(buffer)
    }
}

/// A pipe, or a socket, whose writer may take his time.
struct Pipe {
    file: File,
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
    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        while let Some((file, at, end)) = self.again.last_mut() {
            let kept = buffer.len();
            let left = usize::try_from(*end - *at).unwrap_or(CHUNK);
            buffer.resize(kept + left.min(CHUNK), 0);
            let got = file.read_at(buffer.get_mut(kept..).unwrap_or_default(), *at)?;
            buffer.truncate(kept + got);
            *at += got as u64;
            if got > 0 {
                return Ok(got);
            }
            self.again.pop();
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

//! The bytes of a log at an offset, whether it is plain or was compressed after rotation.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use tracing::warn;

use super::gzip::{GZIP, Unpacked, is_trailing_garbage};
use crate::named_file::{self, Links};

/// An open log. Offsets are those of the decompressed bytes.
#[derive(Debug)]
pub(crate) struct LogFile {
    /// The file. It is read at offsets, except by the decoder.
    pub(super) file: File,
    /// `st_dev` when it was opened.
    pub(super) device: u64,
    /// `st_ino` when it was opened; with the device, it tells one file from another.
    pub(super) inode: u64,
    /// The decoder, if the file is compressed.
    compressed: Option<Box<Compressed>>,
}

/// Where the decoder of a compressed file is. Reading before that place begins anew at the start.
#[derive(Debug)]
struct Compressed {
    /// Decompresses all members of the file, one after the other.
    decoder: Unpacked<File>,
    /// Decompressed bytes that came out so far.
    at: u64,
}

impl LogFile {
    /// Opens the plain file at `path`; `None` if there is none. Never waits for the writer of a
    /// pipe.
    ///
    /// # Errors
    ///
    /// What the system said, or that it is no plain file.
    pub(super) fn open(path: &Path, links: Links) -> io::Result<Option<LogFile>> {
        match named_file::open(path, File::options().read(true), links) {
            Ok(file) => LogFile::of(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks at the first bytes of `file`, to tell whether it is compressed.
    ///
    /// # Errors
    ///
    /// What fstat(2) or pread(2) said.
    pub(super) fn of(file: File) -> io::Result<LogFile> {
        let meta = file.metadata()?;
        let mut magic = [0; 2];
        let is_compressed = file.read_at(&mut magic, 0)? == 2 && magic == GZIP;
        Ok(LogFile {
            device: meta.dev(),
            inode: meta.ino(),
            compressed: is_compressed
                .then(|| Compressed::open(&file).map(Box::new))
                .transpose()?,
            file,
        })
    }

    /// Returns `true` if both are the same file by device and inode.
    pub(super) fn is_same_file(&self, other: &LogFile) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Returns `true` if the file is compressed by gzip.
    pub(super) fn is_compressed(&self) -> bool {
        self.compressed.is_some()
    }

    /// Reads some bytes from `offset` on into `buffer` and returns how many; 0 at the end.
    ///
    /// Going forward in a compressed file is cheap, going back starts at its beginning. Tries again
    /// after a signal.
    ///
    /// # Errors
    ///
    /// What pread(2) said, or that the compressed data are damaged.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            let read = match &mut self.compressed {
                None => self.file.read_at(buffer, offset),
                Some(compressed) => {
                    if compressed.at > offset {
                        **compressed = Compressed::open(&self.file)?;
                    }
                    // All of the log was read. Behind the end, this is not said again.
                    compressed.read_at(buffer, offset).or_else(|error| {
                        let is_whole = is_trailing_garbage(&error);
                        if is_whole {
                            warn!(%error, "rotated log read to its end");
                        }
                        is_whole.then_some(0).ok_or(error)
                    })
                }
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// Reads the bytes from `start` to `end`, all into memory.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if there are not so many.
    pub(super) fn window(&mut self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let len = usize::try_from(end.saturating_sub(start)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, start + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => filled += read,
            }
        }
        Ok(bytes)
    }
}

impl Compressed {
    /// Begins to decompress `file` at its start. Moves the position of `file` itself, which all
    /// reading by offset ignores.
    fn open(file: &File) -> io::Result<Compressed> {
        let mut file = file.try_clone()?;
        io::Seek::rewind(&mut file)?;
        let decoder = Unpacked::new(file);
        Ok(Compressed { decoder, at: 0 })
    }

    /// Decompresses into `buffer` from `offset` on, which must not lie before [`Compressed::at`],
    /// and returns how many bytes came; 0 at the end, also if that is before `offset`.
    fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        while self.at < offset {
            let passed = io::copy(
                &mut self.decoder.by_ref().take(offset - self.at),
                &mut io::sink(),
            )?;
            if passed == 0 {
                return Ok(0);
            }
            self.at += passed;
        }
        let read = self.decoder.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

//! Reading a directory a bounded number of names at a time.
//!
//! A site user can put ten million names into a directory. `readdir` of the standard library
//! streams too, but opens by path; here a directory is read through a descriptor of its own
//! (getdents64(2)), in portions of 32 KiB, so memory stays flat and the next names wait in the
//! kernel.
//!
//! POSIX leaves open whether names that come or go meanwhile are yielded. None that stays is left
//! out by local file systems.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::Reason;

/// Bytes asked of the kernel at a time: about 500 names.
const CHUNK: usize = 32 * 1024;

/// The names in a directory, in the file system's order, without `.` and `..`.
#[derive(Debug)]
pub(crate) struct Listing {
    /// The directory, opened for this listing alone: the position in it belongs to the descriptor.
    directory: OwnedFd,
    /// Where the kernel writes the next names.
    buffer: Vec<u8>,
    /// Names that were read and not handed out, the next one last.
    chunk: Vec<Found>,
    /// Whether reading has failed; the listing is at its end then.
    failed: bool,
}

/// One name in a directory, and what the directory says it is.
#[derive(Debug)]
pub(crate) struct Found {
    /// The name, any bytes but `/` and NUL.
    pub(crate) name: OsString,
    /// `d_type`. Some file systems do not know it ([`FileType::Unknown`]), and the name may lead to
    /// something else by now: a hint that spares opening what is surely wrong.
    pub(crate) kind: FileType,
}

impl Found {
    /// Returns why this cannot be a directory; `None` if it may be one.
    pub(crate) fn not_a_directory(&self) -> Option<Reason> {
        self.unless(FileType::Directory)
    }

    /// Returns why this cannot be a plain file; `None` if it may be one.
    pub(crate) fn not_a_file(&self) -> Option<Reason> {
        self.unless(FileType::RegularFile)
    }

    /// Returns what it is instead of `wanted`, if the listing knows.
    fn unless(&self, wanted: FileType) -> Option<Reason> {
        let fits = [wanted, FileType::Unknown].contains(&self.kind);
        (!fits).then(|| Reason::of(self.kind))
    }
}

impl Listing {
    /// Reads a directory that was opened for this listing.
    pub(crate) fn new(directory: OwnedFd) -> Listing {
        Listing {
            directory,
            buffer: Vec::with_capacity(CHUNK),
            chunk: Vec::new(),
            failed: false,
        }
    }

    /// Reads the directory behind `directory` from its beginning, independently of its other
    /// readers: it is opened once more, as `.` in itself, so the position is not shared.
    ///
    /// # Errors
    ///
    /// What the kernel said when it was opened once more.
    pub(crate) fn of(directory: impl AsFd) -> Result<Listing, Errno> {
        super::open_dir(directory, Path::new("")).map(Listing::new)
    }

    /// Reads the next portion of names into `chunk`; leaves it empty at the end.
    ///
    /// # Errors
    ///
    /// What getdents64(2) said.
    fn fill(&mut self) -> io::Result<()> {
        let mut entries = RawDir::new(&self.directory, self.buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.chunk.push(Found {
                    name: OsString::from_vec(name.to_vec()),
                    kind: entry.file_type(),
                });
            }
            // The rest stays in the kernel until these have been handed out.
            if entries.is_buffer_empty() && !self.chunk.is_empty() {
                break;
            }
        }
        self.chunk.reverse();
        Ok(())
    }
}

impl Iterator for Listing {
    /// A name, or what getdents64(2) said; after an error there is no more. A directory that was
    /// removed while it was being read simply ends.
    type Item = io::Result<Found>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunk.is_empty()
            && !self.failed
            && let Err(error) = self.fill()
        {
            self.failed = true;
            // A directory that was removed while it was being read has nothing more to give.
            return (error.kind() != io::ErrorKind::NotFound).then_some(Err(error));
        }
        self.chunk.pop().map(Ok)
    }
}

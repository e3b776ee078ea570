//! Reading a directory a bounded number of names at a time.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::Reason;

/// Bytes asked of the kernel at a time: about 500 names. Memory does not grow with the directory.
const CHUNK: usize = 32 * 1024;

/// The names in a directory, in the file system's order, a bounded number at a time.
#[derive(Debug)]
pub(crate) struct Listing {
    directory: OwnedFd,
    buffer: Vec<u8>,
    chunk: Vec<Found>,
    failed: bool,
}

/// One name, and what the directory says it is.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: OsString,
    pub(crate) kind: FileType,
}

impl Found {
    /// Returns why this cannot be a directory, by what the listing says.
    pub(crate) fn not_a_directory(&self) -> Option<Reason> {
        self.unless(FileType::Directory)
    }

    /// Returns why this cannot be a file, by what the listing says.
    pub(crate) fn not_a_file(&self) -> Option<Reason> {
        self.unless(FileType::RegularFile)
    }

    fn unless(&self, wanted: FileType) -> Option<Reason> {
        let fits = [wanted, FileType::Unknown].contains(&self.kind);
        (!fits).then(|| Reason::of(self.kind))
    }
}

impl Listing {
    /// Reads a directory that was opened for this.
    pub(crate) fn new(directory: OwnedFd) -> Listing {
        Listing {
            directory,
            buffer: Vec::with_capacity(CHUNK),
            chunk: Vec::new(),
            failed: false,
        }
    }

    /// Reads a directory from its beginning, independently of its other readers.
    ///
    /// # Errors
    ///
    /// What the kernel said when it was opened once more.
    pub(crate) fn of(directory: impl AsFd) -> Result<Listing, Errno> {
        super::open_dir(directory, Path::new("")).map(Listing::new)
    }

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

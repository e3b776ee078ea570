//! How far a log was read, so that a restart goes on there.
//!
//! The text form is one line, `DEVICE INODE OFFSET HEAD BEFORE`:
//!
//! ```text
//! 2049 131 48230 6f1e…(32 digits) 93a0…(32 digits)
//!                │                └ hash of the 512 bytes before the offset, or `-`
//!                └ hash of the first 512 bytes of the log, or of all up to the offset
//! ```
//!
//! The numbers are decimal: `st_dev`, `st_ino`, and bytes from the start of the (decompressed) log.
//! The hashes are the first 16 bytes of BLAKE3, in hexadecimal. Device and inode alone say little:
//! a new log often gets the inode of one that was removed, and a compressed log has another. So a
//! log is known by its bytes; numbers decide only if nothing had been read.

use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;

use super::log_file::LogFile;

/// Bytes that are compared at the start of the log and before the offset.
pub(super) const COMPARED: u64 = 512;

/// A place in a log, known by the bytes around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// `st_dev` of the log when this was made.
    device: u64,
    /// `st_ino` of the log when this was made.
    inode: u64,
    /// Bytes of the log that were read, from its start; of the decompressed bytes in a `.gz`.
    offset: u64,
    /// Of the first bytes: [`COMPARED`], or as many as had been read if these were fewer.
    head: Hash,
    /// Of the [`COMPARED`] bytes before the offset, or of all if there are fewer. `None` for a
    /// compressed log, where reading them again would mean to decompress it from the start.
    before: Option<Hash>,
}

/// The first 16 bytes of a BLAKE3 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hash(u128);

impl Checkpoint {
    /// Describes the place behind the first `offset` bytes of a log, by reading the bytes to
    /// compare.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if the log is shorter, and what read(2) says.
    pub(super) fn of(source: &mut LogFile, offset: u64) -> io::Result<Checkpoint> {
        // What was read of a compressed log cannot be read again at little cost.
        let before = if source.is_compressed() {
            None
        } else {
            Some(source.window(offset.saturating_sub(COMPARED), offset)?)
        };
        let head = source.window(0, offset.min(COMPARED))?;
        Ok(Checkpoint::from_bytes(
            source,
            offset,
            &head,
            before.as_deref(),
        ))
    }

    /// Describes the present end of a file that is open to be read.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub(crate) fn at_end(file: &File) -> io::Result<Checkpoint> {
        let mut source = LogFile::of(file.try_clone()?)?;
        Checkpoint::of(&mut source, file.metadata()?.len())
    }

    /// Describes a place of which `head` and `before` are still in memory: the file has lost them
    /// since.
    pub(super) fn from_bytes(
        source: &LogFile,
        offset: u64,
        head: &[u8],
        before: Option<&[u8]>,
    ) -> Checkpoint {
        Checkpoint {
            device: source.device,
            inode: source.inode,
            offset,
            head: Hash::of(head),
            before: before.map(Hash::of),
        }
    }

    /// Returns how many bytes of the log had been read.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns `true` if the same file, by device and inode, was open when this was made.
    pub(super) fn is_of(&self, source: &LogFile) -> bool {
        (self.device, self.inode) == (source.device, source.inode)
    }

    /// Returns `true` if the place is in this log: the same bytes are at its start and before the
    /// offset. If nothing had been read, it must be the same file.
    ///
    /// # Errors
    ///
    /// What reading said. A log that is too short is `Ok(false)`.
    pub(super) fn is_in(&self, source: &mut LogFile) -> io::Result<bool> {
        if self.offset == 0 {
            return Ok(self.is_of(source));
        }
        let mut has = |start, end, want| match source.window(start, end) {
            Ok(bytes) => Ok(Hash::of(&bytes) == want),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        };
        if !has(0, self.offset.min(COMPARED), self.head)? {
            return Ok(false);
        }
        let start = self.offset.saturating_sub(COMPARED);
        match self.before {
            Some(before) => has(start, self.offset, before),
            None => Ok(source.window(self.offset - 1, self.offset).is_ok()),
        }
    }
}

impl Hash {
    /// Hashes `bytes`.
    fn of(bytes: &[u8]) -> Hash {
        let mut first = [0; 16];
        first.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        Hash(u128::from_be_bytes(first))
    }
}

impl fmt::Display for Checkpoint {
    /// Writes the line of a checkpoint, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checkpoint {
            device,
            inode,
            offset,
            head: Hash(head),
            before,
        } = self;
        write!(f, "{device} {inode} {offset} {head:032x} ")?;
        match before {
            Some(Hash(before)) => write!(f, "{before:032x}"),
            None => f.write_str("-"),
        }
    }
}

/// A text that is no checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoCheckpoint;

impl FromStr for Checkpoint {
    type Err = NoCheckpoint;

    fn from_str(text: &str) -> Result<Checkpoint, NoCheckpoint> {
        read(text).ok_or(NoCheckpoint)
    }
}

/// Reads the line of a checkpoint; `None` unless it has five words of the right form and no more.
fn read(text: &str) -> Option<Checkpoint> {
    let mut words = text.split_ascii_whitespace();
    let mut number = || words.next()?.parse().ok();
    let (device, inode, offset) = (number()?, number()?, number()?);
    let hash = |hex: &str| {
        let value = u128::from_str_radix(hex, 16).ok();
        value.filter(|_| hex.len() == 32).map(Hash)
    };
    let head = hash(words.next()?)?;
    let before = match words.next()? {
        "-" => None,
        hex => Some(hash(hex)?),
    };
    words.next().is_none().then_some(Checkpoint {
        device,
        inode,
        offset,
        head,
        before,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::named_file::Links;

    fn source(path: &Path) -> LogFile {
        LogFile::open(path, Links::Follow).unwrap().unwrap()
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "x".repeat(5000)).unwrap();
        let place = Checkpoint::of(&mut source(&log), 4000).unwrap();
        assert_eq!(place.to_string().parse(), Ok(place));
        let too_much = format!("{place} 1");
        for text in ["", "1 2", "1 2 3 4 5", "a b c d e", &too_much] {
            assert_eq!(text.parse::<Checkpoint>(), Err(NoCheckpoint), "{text:?}");
        }
    }

    #[test]
    fn the_bytes_of_a_log_decide_and_not_its_inode() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "first\nsecond\n").unwrap();
        let place = Checkpoint::of(&mut source(&log), 6).unwrap();
        for (text, want) in [
            ("first\nsecond\nthird\n", true),
            ("first\n", true),
            ("firsT\nsecond\n", false),
            ("first", false),
            ("", false),
        ] {
            fs::write(&log, text).unwrap();
            assert_eq!(place.is_in(&mut source(&log)).unwrap(), want, "{text:?}");
        }
    }
}

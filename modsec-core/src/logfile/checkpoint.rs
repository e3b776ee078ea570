//! How far a log was read, so that a restart goes on there.
//!
//! One line: `DEVICE INODE OFFSET HEAD BEFORE`. The last two are hashes of the log's first bytes
//! and of those before the offset: an inode alone says little, since a new log often gets the inode
//! of one that was removed, and a compressed log has another.

use std::fmt;
use std::fs::File;
use std::io;
use std::str::FromStr;

use super::source::Source;

/// Bytes that are compared at the start of the log and before the offset.
pub(super) const COMPARED: u64 = 512;

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    device: u64,
    inode: u64,
    /// Bytes from the start.
    offset: u64,
    head: Hash,
    /// Unknown where the log could not be read again.
    before: Option<Hash>,
}

/// The beginning of a BLAKE3 hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Hash(u128);

impl Checkpoint {
    /// Describes the place behind `offset` bytes of a log.
    pub(super) fn of(source: &mut Source, offset: u64) -> io::Result<Checkpoint> {
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

    /// Describes the end of a file that is open to be read.
    pub(crate) fn at_end(file: &File) -> io::Result<Checkpoint> {
        let mut source = Source::of(file.try_clone()?)?;
        Checkpoint::of(&mut source, file.metadata()?.len())
    }

    /// The same of bytes that were kept in memory.
    pub(super) fn from_bytes(
        source: &Source,
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

    /// Returns `true` if the same file was open when this was made.
    pub(super) fn is_of(&self, source: &Source) -> bool {
        (self.device, self.inode) == (source.device, source.inode)
    }

    /// Returns `true` if the place is in this log: the same bytes stand before it, or none did and
    /// it is the same file.
    pub(super) fn is_in(&self, source: &mut Source) -> io::Result<bool> {
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

/// The text is no checkpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoCheckpoint;

impl FromStr for Checkpoint {
    type Err = NoCheckpoint;

    fn from_str(text: &str) -> Result<Checkpoint, NoCheckpoint> {
        read(text).ok_or(NoCheckpoint)
    }
}

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

    fn source(path: &Path) -> Source {
        Source::open(path, Links::Follow).unwrap().unwrap()
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

//! The entries of a whole log, one after the other.

use std::io::{self, Read};

use super::{InputState, LineEnds, Piece, Splitter};
use crate::format::{self, Defect, FirstBytes};
use crate::record::{Flag, Flags, Record};

/// Entries up to this size are handed out by [`read`], in bytes.
pub const LARGEST: usize = 64 << 20;
/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// What stands in a log, as [`read`] hands it out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// An entry.
    Entry(LogEntry),
    /// A stretch that starts with an entry of more than [`LARGEST`] bytes and was passed over. If
    /// the entry's end was in doubt, others behind it are in the stretch too; a [`Splitter`] that
    /// may read the log again, from any place, loses none of them.
    TooLarge {
        /// Offset of its first byte in the log.
        at: u64,
        /// Its length.
        len: u64,
    },
    /// Lines that belong to no entry.
    Unrecognized {
        /// Offset of the first in the log.
        at: u64,
        /// Their length.
        len: u64,
        /// The beginning of the first.
        line: FirstBytes,
    },
}

/// An entry of a log, with what the log knows about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// The entry's own bytes.
    bytes: Vec<u8>,
    /// [`Flag::Interleaved`] or none.
    flags: Flags,
    /// Offset of the first byte in the log.
    at: u64,
}

impl LogEntry {
    /// Decodes the entry. If its lines and those of others stand between each other, the record is
    /// flagged ([`Flag::Interleaved`]) and its alerts are not verified.
    ///
    /// # Errors
    ///
    /// As for [`decode`](crate::format::decode).
    pub fn decode(&self) -> Result<Record<'_>, Defect> {
        let mut record = format::decode(&self.bytes)?;
        if self.flags.contains(Flag::Interleaved) {
            record.mark_interleaved();
        }
        Ok(record)
    }

    /// Returns its bytes, as they would stand in a file of their own.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the offset of its first byte in the log.
    pub fn at(&self) -> u64 {
        self.at
    }
}

/// Returns the entries of a log, whatever its dialect, in the order of the log.
///
/// It takes the memory of the largest entry, and of [`LARGEST`] bytes at the most. Compressed logs
/// must be decompressed by `reader`.
///
/// # Errors
///
/// An item is an error if `reader` failed. What was read before is handed out behind it, the last
/// entry perhaps cut off; then the log is at its end.
///
/// ```
/// use modsec_core::serial_log::{self, Item};
///
/// let log: &[u8] = b"--3fa0c41b-A--\n[03/Feb/2024:10:11:12 +0100] Zb4k 192.0.2.10 40112 \
///     198.51.100.4 80\n--3fa0c41b-Z--\n\nwhat somebody wrote\n";
/// let mut found = serial_log::read(log);
/// let Some(Ok(Item::Entry(entry))) = found.next() else { unreachable!() };
/// assert_eq!(entry.decode()?.unique_id.unwrap(), "Zb4k");
/// assert!(matches!(found.next(), Some(Ok(Item::Unrecognized { at: 98, .. }))));
/// assert!(found.next().is_none());
/// # Ok::<(), modsec_core::format::Defect>(())
/// ```
pub fn read<R: Read>(reader: R) -> Items<R> {
    Items::new(reader, LARGEST)
}

/// The iterator that [`read`] returns.
#[derive(Debug)]
pub struct Items<R> {
    /// The log, with line ends as the engine writes them.
    reader: LineEnds<R>,
    /// Cuts what was read.
    splitter: Splitter,
    /// [`InputState::End`] once the reader has no more, or has failed.
    input: InputState,
    /// Bytes of the large entry at hand.
    passed: u64,
}

impl<R: Read> Items<R> {
    /// Begins at the start of a log. Entries of more than `largest` bytes are passed over.
    fn new(reader: R, largest: usize) -> Items<R> {
        Items {
            reader: LineEnds::new(reader),
            splitter: Splitter::new(0, largest),
            input: InputState::More,
            passed: 0,
        }
    }

    /// Reads up to [`CHUNK`] bytes into the splitter's buffer. An interrupted read is repeated;
    /// at the end, and after any other error, the log counts as read to its end.
    fn fill(&mut self) -> io::Result<()> {
        let buffer = self.splitter.buffer();
        let kept = buffer.len();
        buffer.resize(kept + CHUNK, 0);
        let got = loop {
            match self.reader.read(buffer.get_mut(kept..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                got => break got,
            }
        };
        buffer.truncate(kept + got.as_ref().copied().unwrap_or(0));
        if !matches!(got, Ok(got) if got > 0) {
            self.input = InputState::End;
        }
        got.map(drop)
    }
}

impl<R: Read> Iterator for Items<R> {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<io::Result<Item>> {
        loop {
            let Some(piece) = self.splitter.next(self.input) else {
                if self.input == InputState::End {
                    return None;
                }
                if let Err(error) = self.fill() {
                    return Some(Err(error));
                }
                continue;
            };
            return Some(Ok(match piece {
                Piece::Entry { bytes, flags, at } => Item::Entry(LogEntry {
                    bytes: bytes.to_vec(),
                    flags,
                    at,
                }),
                Piece::Part(bytes) => {
                    self.passed += bytes.len() as u64;
                    continue;
                }
                Piece::End { at, .. } => Item::TooLarge {
                    at,
                    len: std::mem::take(&mut self.passed),
                },
                Piece::Unrecognized { at, len, line } => Item::Unrecognized { at, len, line },
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGS: [(&str, &[u8], usize); 4] = [
        (
            "v2-native",
            include_bytes!("../../tests/data/serial/v2-native-serial/modsec_audit.log"),
            82,
        ),
        (
            "v3-native",
            include_bytes!("../../tests/data/serial/v3-native-serial/modsec_audit.log"),
            81,
        ),
        (
            "v2-json",
            include_bytes!("../../tests/data/serial/v2-json-serial/modsec_audit.log"),
            82,
        ),
        (
            "v3-json",
            include_bytes!("../../tests/data/serial/v3-json-serial/modsec_audit.log"),
            81,
        ),
    ];

    fn all<R: Read>(items: Items<R>) -> Vec<Item> {
        items.map(|item| item.unwrap()).collect()
    }

    /// Gives a few bytes at a time, and then fails.
    struct Slow<'b> {
        bytes: &'b [u8],
        fails: bool,
    }

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.bytes.is_empty() && std::mem::take(&mut self.fails) {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let most = buffer.len().min(997);
            self.bytes.read(&mut buffer[..most])
        }
    }

    #[test]
    fn the_entries_of_every_dialect_are_found_however_the_log_comes() {
        for (name, log, count) in LOGS {
            let whole = all(read(log));
            assert_eq!(whole.len(), count, "{name}");
            for item in &whole {
                let Item::Entry(entry) = item else {
                    panic!("{name}: {item:?}");
                };
                let at = usize::try_from(entry.at()).unwrap();
                assert!(entry.decode().is_ok(), "{name}: {at}");
                assert!(log[at..].starts_with(entry.bytes()));
            }
            let slow = Slow {
                bytes: log,
                fails: false,
            };
            assert!(all(read(slow)) == whole, "{name}");
        }
    }

    #[test]
    fn an_entry_that_another_was_written_into_is_decoded_with_its_flag() {
        let entry = |id: &str, between: &str| {
            format!(
                "--{id}-A--\n[03/Feb/2024:10:11:12 +0100] a 192.0.2.1 1 192.0.2.2 80\n--{id}-H--\n\
                 Message: Warning. [id \"1\"]\n{between}\n--{id}-Z--\n\n"
            )
        };
        let log = entry("0000000a", &entry("0000000b", ""));
        for item in all(read(log.as_bytes())) {
            let Item::Entry(entry) = item else {
                panic!("{item:?}");
            };
            let record = entry.decode().unwrap();
            assert!(record.flags.contains(Flag::Interleaved), "{record:?}");
            assert!(
                record
                    .alerts
                    .iter()
                    .all(|alert| alert.verified != Some(true))
            );
        }
    }

    #[test]
    fn a_large_entry_is_passed_over_and_those_around_it_are_not() {
        let body = "x".repeat(100_000);
        let large = format!(
            "--0000000a-A--\n[03/Feb/2024:10:11:12 +0100] a 192.0.2.1 1 192.0.2.2 80\n--0000000a-B--\n\
             POST / HTTP/1.1\nContent-Length: 100000\n\n--0000000a-C--\n{body}\n--0000000a-Z--\n\n"
        );
        let small = "--0000000b-A--\n[03/Feb/2024:10:11:12 +0100] b 192.0.2.1 1 192.0.2.2 80\n--0000000b-Z--\n\n";
        let log = format!("{small}{large}{small}");
        let slow = Slow {
            bytes: log.as_bytes(),
            fails: false,
        };
        let found = all(Items::new(slow, 4096));
        let kinds: Vec<_> = found
            .iter()
            .map(|item| match item {
                Item::Entry(entry) => ("entry", entry.at()),
                Item::TooLarge { at, .. } => ("too large", *at),
                Item::Unrecognized { at, .. } => ("foreign", *at),
            })
            .collect();
        let (first, last) = (small.len() as u64, (small.len() + large.len()) as u64);
        assert_eq!(kinds, [("entry", 0), ("too large", first), ("entry", last)]);
        let Item::TooLarge { len, .. } = found[1] else {
            unreachable!()
        };
        assert!(first + len <= last, "{len}");
        assert!(len >= 100_000, "{len}");
    }

    #[test]
    fn a_failure_comes_once_and_what_was_read_before_is_not_lost() {
        let (_, log, count) = LOGS[0];
        let mut failures = 0;
        let mut entries = 0;
        for item in read(Slow {
            bytes: log,
            fails: true,
        }) {
            match item {
                Ok(_) => entries += 1,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                    failures += 1;
                }
            }
        }
        assert_eq!((failures, entries), (1, count));
    }
}

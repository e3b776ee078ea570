//! Entries of the merged log with a line before them that says how long they are.
//!
//! ```text
//! # modsec-parser: the next 1234 bytes are one entry, entry_hash 0123456789abcdef0123456789abcdef
//! ```
//!
//! A file of its own is one entry, whatever a body in it looks like. In a log of many, the same
//! bytes may look like several. So whoever appends such an entry announces it, and whoever reads the
//! log takes the announced bytes for one entry.
//!
//! The line is believed in any log, but only where an entry may begin, and only if the bytes behind
//! it have the hash that it names. Clients can write such a line into the log of a server. They can
//! name no hash of bytes that they do not know, so it never covers what the server logs of others.

use super::InputState;
use crate::entry_hash::EntryHash;

/// What the line begins with.
const START: &str = "# modsec-parser: the next ";
/// What follows the length if the bytes are one entry.
const ONE: &str = " bytes are one entry, entry_hash ";
/// What follows it if lines of other entries stand between the entry's own.
const INTERLEAVED: &str = " bytes are one interleaved entry, entry_hash ";
/// Bytes of a line at the most, with its LF.
const MAX_LINE: usize = START.len() + 20 + INTERLEAVED.len() + 32 + 1;
/// Bytes of an entry at the most: as many as the largest file that is read as one.
const MAX_LEN: u64 = 2 << 30;

/// What a line says of the bytes behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Announcement {
    /// Bytes of the entry, from 1 to [`MAX_LEN`]. The first one follows the line's LF.
    pub(crate) len: u64,
    /// Hash of these bytes.
    pub(crate) hash: EntryHash,
    /// Whether lines of other entries stand between the entry's own.
    pub(crate) is_interleaved: bool,
}

/// What begins with a line.
pub(super) enum Line {
    /// An announcement that is well formed. The hash has not been compared yet.
    Announcement(Announcement),
    /// Something else.
    Other,
    /// Depends on more bytes.
    Undecided,
}

impl Announcement {
    /// Returns the line, with its LF.
    pub(crate) fn line(self) -> String {
        let are_one = if self.is_interleaved {
            INTERLEAVED
        } else {
            ONE
        };
        format!("{START}{}{are_one}{}\n", self.len, self.hash)
    }

    /// Returns the announcement at the start of `bytes`, which is the start of a line.
    pub(super) fn open(bytes: &[u8], input: InputState) -> Line {
        let head = bytes.get(..MAX_LINE).unwrap_or(bytes);
        let common = START.len().min(head.len());
        if head.get(..common) != START.as_bytes().get(..common) {
            return Line::Other;
        }
        match memchr::memchr(b'\n', head).and_then(|line_end| head.get(..=line_end)) {
            Some(line) => Announcement::parse(line).map_or(Line::Other, Line::Announcement),
            None if head.len() == MAX_LINE || input == InputState::End => Line::Other,
            None => Line::Undecided,
        }
    }

    /// Reads a line with its LF; `None` unless it is exactly as [`Announcement::line`] writes
    /// it. A second spelling would give the same entry a second form.
    fn parse(line: &[u8]) -> Option<Announcement> {
        let text = std::str::from_utf8(line).ok()?;
        let (len, behind) = text.strip_prefix(START)?.split_once(' ')?;
        let hash = u128::from_str_radix(behind.rsplit(' ').next()?.trim_end(), 16).ok()?;
        let announcement = Announcement {
            len: len.parse().ok().filter(|len| (1..=MAX_LEN).contains(len))?,
            hash: EntryHash::from_bytes(hash.to_be_bytes()),
            is_interleaved: behind.starts_with(INTERLEAVED.trim_start()),
        };
        // There is one way to write it.
        (announcement.line() == text).then_some(announcement)
    }

    /// Returns the length of the line, with its LF.
    pub(super) fn line_len(self) -> u64 {
        self.line().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written_and_no_other_is() {
        for (len, is_interleaved) in [(1, false), (1234, true), (MAX_LEN, false)] {
            let said = Announcement {
                len,
                hash: EntryHash::of(b"x"),
                is_interleaved,
            };
            let line = said.line();
            assert!(line.len() <= MAX_LINE);
            let found = Announcement::open(format!("{line}more").as_bytes(), InputState::More);
            assert!(matches!(found, Line::Announcement(found) if found == said));
            for len in 1..line.len() {
                let part = &line.as_bytes()[..len];
                let found = Announcement::open(part, InputState::Quiet);
                assert!(matches!(found, Line::Undecided), "{len}");
                let found = Announcement::open(part, InputState::End);
                assert!(matches!(found, Line::Other), "{len}");
            }
            for at in 0..line.len() {
                for other in [b"+", b" ", b"0", b"G", b"\n", b"\0", b"\xff"] {
                    let mut changed = line.clone().into_bytes();
                    changed.splice(at..=at, other.iter().copied());
                    let is_same = |found: Announcement| found.line().as_bytes() == &changed[..];
                    match Announcement::open(&changed, InputState::End) {
                        Line::Announcement(found) => assert!(is_same(found)),
                        _ => assert_ne!(changed, line.as_bytes()),
                    }
                }
            }
        }
        for (len, hash) in [
            ("0", 32),
            ("01", 32),
            ("2147483649", 32),
            ("-1", 32),
            ("1", 31),
        ] {
            let hash = "0".repeat(hash);
            let line = format!("{START}{len}{ONE}{hash}\n");
            let found = Announcement::open(line.as_bytes(), InputState::End);
            assert!(matches!(found, Line::Other), "{line}");
        }
    }
}

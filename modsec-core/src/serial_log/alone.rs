//! Whether an entry needs a line before it to be found in a log of many.

use std::io::{self, Read};

use super::lines::Lines;
use super::{InputState, Piece, Splitter};
use crate::format;
use crate::format::native::Boundary;

/// Bytes read at a time, and held of an entry.
const CHUNK: usize = 256 * 1024;

/// Returns `true` if a [`Splitter`] takes the bytes for exactly one entry wherever they stand in a
/// log, whatever stands behind them, and in whatever pieces they come: an end is there, no part holds
/// bytes as they were sent, and each delimiter line is the entry's own and the only one of its part.
/// What does not begin like an entry is none in a log either.
///
/// # Errors
///
/// What `entry` fails with.
pub(crate) fn stands_alone(mut entry: impl Read) -> io::Result<bool> {
    // In the middle of a log: only at its beginning an entry may lack part A.
    let mut splitter = Splitter::new(1, CHUNK);
    let mut tried = Tried::default();
    loop {
        let buffer = splitter.buffer();
        let before = buffer.len();
        entry.by_ref().take(CHUNK as u64).read_to_end(buffer)?;
        let fresh = buffer.get(before..).unwrap_or_default();
        let is_over = fresh.is_empty();
        if tried.len == 0 && !is_over {
            if !format::may_begin(fresh) {
                return Ok(true);
            }
            tried.is_document = fresh.starts_with(b"{");
        }
        tried.len += fresh.len() as u64;
        tried.last = fresh.last().copied().or(tried.last);
        if is_over && tried.len == 0 {
            return Ok(true);
        }
        if is_over {
            // Who decides by this needs to see nothing else of what follows.
            buffer.extend_from_slice(b"\nx\n");
        }
        if !tried.take(&mut splitter) {
            return Ok(false);
        }
        if is_over {
            return Ok(tried.is_alone());
        }
    }
}

/// What became of the bytes of one entry.
#[derive(Debug, Default)]
struct Tried {
    /// Bytes of the entry that were read so far.
    len: u64,
    /// The last of them.
    last: Option<u8>,
    /// Whether it begins with a brace, as JSON does.
    is_document: bool,
    /// The length of the entry that was found.
    found: Option<u64>,
    /// The entry's own boundary, and the letters of its lines as bits.
    own: Option<Boundary>,
    /// One bit for each letter, by its five lowest bits: part A is bit 1.
    letters: u32,
    /// Index of the next delimiter line to look at.
    next: u64,
}

impl Tried {
    /// Takes what the splitter has; `false` if that is not one clean entry.
    fn take(&mut self, splitter: &mut Splitter) -> bool {
        while let Some(piece) = splitter.next(InputState::More) {
            if matches!(piece, Piece::Part(_)) {
                continue;
            }
            let Some((at, len, flags)) = piece.ended_entry() else {
                return false;
            };
            if at != 1 || !flags.is_empty() || self.found.replace(len).is_some() {
                return false;
            }
        }
        self.is_document || self.has_own_lines(&splitter.lines)
    }

    /// Returns `true` if no other boundary has lines, no part comes twice, and none is raw.
    fn has_own_lines(&mut self, lines: &Lines) -> bool {
        while let Some(line) = lines.get(self.next) {
            let letter = 1 << (line.letter & 31);
            let own = *self.own.get_or_insert(line.boundary);
            let is_raw = own.dialect().is_raw(line.letter);
            if line.boundary != own || is_raw || self.letters & letter != 0 {
                return false;
            }
            self.letters |= letter;
            self.next = line.index + 1;
        }
        true
    }

    /// Returns `true` if exactly one entry was found, of all bytes: no more, no fewer. A
    /// document without a line feed gets one in the merged log, so that counts as its own.
    fn is_alone(&self) -> bool {
        // Behind a document there is a LF in a log.
        let in_log = self.len + u64::from(self.is_document && self.last != Some(b'\n'));
        self.found == Some(in_log)
    }
}

//! A document too large to hold, without the middle of its bodies.
//!
//! The copy keeps the structure and the beginning of every string. Of a body, which ModSecurity 2
//! writes as an array of many strings, the beginning is kept of all of them together.
//!
//! ```text
//! document   {"request":{"body":["aaaa","bbbb","cccc"],"headers":{"A":"dddddddd"}}}
//! with 6     {"request":{"body":["aaaa","bb"  ,""    ],"headers":{"A":"dddddd"  }}}
//! gaps                                    `2     `4                         `2, and capped
//! ```
//!
//! The reader adds a gap to the length of a body, which is exact therefore. A gap in any other string
//! makes the record [`Capped`](crate::record::Flag::Capped). An escape is kept or left out as a whole.

use super::document_end::{DocumentEnd, Scanner, Sink};
use super::reader::{Gap, escape};
use crate::record::MAX_BODY_KEPT;

/// Bytes kept of a document. Without bodies a real one has a few megabytes at the most, nearly all
/// of it the rules of the whole Core Rule Set.
const MAX_KEPT: usize = 4 * 1024 * 1024;

/// Keys whose value is a body.
const BODIES: [&[u8]; 2] = [b"\"body\"", b"\"fake_body\""];

/// Copies a document that comes in windows, leaving out what exceeds the bounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abridger {
    /// Finds strings and the end of the document.
    scanner: Scanner,
    /// What is kept.
    copy: Copy,
}

/// What is kept of a large document.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abridged {
    /// The copy: JSON with long strings cut.
    pub(super) bytes: Vec<u8>,
    /// In the order of their offsets.
    pub(super) gaps: Vec<Gap>,
    /// Whether the document outgrew [`MAX_KEPT`].
    pub(super) overflowed: bool,
    /// Whether something else stands behind the document.
    pub(super) followed: bool,
    /// How the document ended, as far as it came.
    pub(super) end: DocumentEnd,
}

/// A copy that grows.
#[derive(Debug, Clone, Default)]
struct Copy {
    /// The copy so far.
    abridged: Abridged,
    /// Objects and arrays that are open.
    depth: u64,
    /// Depth at which the member `body` stands that is being read.
    body: Option<u64>,
    /// Decoded bytes kept of this string, or of all strings of this body.
    kept: usize,
    /// Decoded bytes left out of this string.
    left_out: u64,
}

impl Abridger {
    /// Takes the next bytes; windows follow each other without gap or overlap.
    pub(crate) fn push(&mut self, window: &[u8]) {
        let mut behind = window;
        if self.copy.abridged.end == DocumentEnd::Open {
            let end = self.scanner.scan(window, &mut self.copy);
            self.copy.abridged.end = end;
            behind = match end {
                DocumentEnd::Open => &[],
                DocumentEnd::Whole(at) | DocumentEnd::Cut(at) => {
                    window.get(at..).unwrap_or_default()
                }
            };
        }
        self.copy.abridged.followed |= !behind.trim_ascii().is_empty();
    }

    /// Returns what was kept. A string that the last window cut off ends there.
    pub(crate) fn finish(mut self) -> Abridged {
        self.scanner.finish(&mut self.copy);
        self.copy.leave_gap();
        self.copy.abridged
    }
}

impl Sink for Copy {
    fn structure(&mut self, byte: u8) {
        match byte {
            b'"' if self.body.is_none() => self.kept = 0,
            b':' if self.body.is_none()
                && BODIES.iter().any(|key| self.abridged.bytes.ends_with(key)) =>
            {
                self.body = Some(self.depth);
                self.kept = 0;
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' | b',' => {
                if self.body == Some(self.depth) {
                    self.body = None;
                }
                if byte != b',' {
                    self.depth = self.depth.saturating_sub(1);
                }
            }
            _ => {}
        }
        self.keep(&[byte]);
    }

    fn plain(&mut self, bytes: &[u8]) {
        let room = MAX_BODY_KEPT - self.kept;
        let (kept, left_out) = bytes.split_at(room.min(bytes.len()));
        self.kept += kept.len();
        self.keep(kept);
        self.left_out += left_out.len() as u64;
    }

    fn escape(&mut self, spelled: &[u8]) {
        let len = decoded_len(spelled);
        if self.kept < MAX_BODY_KEPT {
            self.kept = (self.kept + len).min(MAX_BODY_KEPT);
            self.keep(spelled);
        } else {
            self.left_out += len as u64;
        }
    }

    fn close(&mut self, byte: u8) {
        self.leave_gap();
        self.keep(&[byte]);
    }
}

impl Copy {
    /// Adds bytes to the copy. After the first that do not fit, none are added: with a hole
    /// between its members, the copy would be another document.
    fn keep(&mut self, bytes: &[u8]) {
        let abridged = &mut self.abridged;
        let room = MAX_KEPT.saturating_sub(abridged.bytes.len());
        abridged.overflowed |= bytes.len() > room;
        if !abridged.overflowed {
            abridged.bytes.extend_from_slice(bytes);
        }
    }

    /// Notes how much of a string is missing in front of what comes next.
    fn leave_gap(&mut self) {
        let len = std::mem::take(&mut self.left_out);
        if len > 0 && !self.abridged.overflowed {
            let closing_quote = self.abridged.bytes.len();
            self.abridged.gaps.push(Gap { closing_quote, len });
        }
    }
}

impl Abridged {
    /// Returns how many bytes are held.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + std::mem::size_of_val(&self.gaps[..])
    }
}

/// Returns how many bytes the reader makes of an escape.
fn decoded_len(spelled: &[u8]) -> usize {
    match (spelled, escape(spelled.get(1..).unwrap_or_default())) {
        // Half of a pair, which makes four bytes.
        (
            [
                _,
                b'u',
                b'd' | b'D',
                b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F',
                ..,
            ],
            Some(_),
        ) => 2,
        (_, Some((character, _))) => character.len_utf8(),
        // What is no escape is taken as it is spelled.
        (_, None) => spelled.len(),
    }
}

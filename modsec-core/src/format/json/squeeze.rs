//! A document too large to hold, without the middle of its bodies.
//!
//! The copy keeps the structure and the beginning of every string. Of a body, which ModSecurity 2
//! writes as an array of many strings, the beginning is kept of all of them together.

use memchr::memchr3;

use super::extent::{DocumentEnd, Extent};
use super::reader::Gap;
use crate::record::MAX_BODY_KEPT;

/// Bytes kept of a document. Without bodies a real one has a few megabytes at the most, nearly all
/// of it the rules of the whole Core Rule Set.
const MAX_KEPT: usize = 4 * 1024 * 1024;

/// Keys whose value is a body.
const BODIES: [&[u8]; 2] = [b"\"body\"", b"\"fake_body\""];

/// Copies a document that comes in windows, leaving out what exceeds the bounds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Squeezer {
    search: DocumentEnd,
    place: Place,
    depth: u64,
    /// Depth at which the member `body` stands that is being read.
    body: Option<u64>,
    /// Decoded bytes kept of this string, or of all strings of this body.
    kept: usize,
    squeezed: Squeezed,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, Default)]
enum Place {
    #[default]
    Structure,
    String,
    /// An escape, behind its backslash.
    Escape {
        keep: bool,
    },
    /// The digits of `\u`: what they say so far, and how many are missing.
    Digits {
        keep: bool,
        value: u32,
        missing: u8,
    },
}

/// What is kept of a large document.
#[derive(Debug, Clone, Default)]
pub(crate) struct Squeezed {
    pub(super) bytes: Vec<u8>,
    /// In the order of their offsets.
    pub(super) gaps: Vec<Gap>,
    /// Decoded bytes left out of the string that is being copied.
    left_out: u64,
    /// Whether the document outgrew [`MAX_KEPT`].
    pub(super) overflowed: bool,
    /// Whether something else stands behind the document.
    pub(super) followed: bool,
    pub(super) end: End,
}

/// How a document ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum End {
    /// Not yet.
    #[default]
    Open,
    /// With its own brace.
    Whole,
    /// It was cut off, and another one follows.
    Torn,
}

impl Squeezer {
    /// Takes the next bytes; windows follow each other without gap or overlap.
    pub(crate) fn push(&mut self, window: &[u8]) {
        let mut rest = window;
        if self.squeezed.end == End::Open {
            let (at, end) = match self.search.scan(window) {
                Extent::Open => (window.len(), End::Open),
                Extent::Ends(at) => (at, End::Whole),
                Extent::Torn(at) => (at, End::Torn),
            };
            let (mine, behind) = window.split_at(at.min(window.len()));
            self.copy(mine);
            self.squeezed.end = end;
            rest = behind;
        }
        self.squeezed.followed |= !rest.trim_ascii().is_empty();
    }

    /// Returns what was kept.
    pub(crate) fn finish(mut self) -> Squeezed {
        // An escape that was cut off stands for what there is of it.
        match self.place {
            Place::Escape { keep: false } => self.escaped(false, 1),
            Place::Digits {
                keep: false,
                missing,
                ..
            } => self.escaped(false, 6 - usize::from(missing)),
            _ => {}
        }
        self.squeezed.leave_gap();
        self.squeezed
    }

    fn copy(&mut self, mut window: &[u8]) {
        while !window.is_empty() {
            let used = match self.place {
                Place::Structure => self.structure(window),
                Place::String => self.string(window),
                Place::Escape { keep } => self.escape(window, keep),
                Place::Digits {
                    keep,
                    value,
                    missing,
                } => self.digit(window, keep, value, missing),
            };
            window = window.get(used..).unwrap_or_default();
        }
    }

    fn structure(&mut self, window: &[u8]) -> usize {
        let Some(&byte) = window.first() else {
            return 0;
        };
        match byte {
            b'"' => {
                self.place = Place::String;
                if self.body.is_none() {
                    self.kept = 0;
                }
            }
            b':' if BODIES.iter().any(|key| self.squeezed.bytes.ends_with(key))
                && self.body.is_none() =>
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
        self.squeezed.keep(&[byte]);
        1
    }

    /// Copies the string up to its next escape or its end.
    fn string(&mut self, window: &[u8]) -> usize {
        let found = memchr3(b'"', b'\\', b'\n', window).unwrap_or(window.len());
        let (plain, behind) = window.split_at(found);
        let room = MAX_BODY_KEPT - self.kept;
        let (kept, left_out) = plain.split_at(room.min(plain.len()));
        self.kept += kept.len();
        self.squeezed.keep(kept);
        self.squeezed.left_out += left_out.len() as u64;
        match behind.first() {
            Some(b'\\') => {
                let keep = self.kept < MAX_BODY_KEPT;
                self.place = Place::Escape { keep };
                if keep {
                    self.squeezed.keep(b"\\");
                }
                found + 1
            }
            Some(end) => {
                self.place = Place::Structure;
                self.squeezed.close(*end);
                found + 1
            }
            None => found,
        }
    }

    fn escape(&mut self, window: &[u8], keep: bool) -> usize {
        let used = window.get(..1).unwrap_or_default();
        if keep {
            self.squeezed.keep(used);
        }
        if used == b"u" {
            self.place = Place::Digits {
                keep,
                value: 0,
                missing: 4,
            };
        } else {
            // The reader takes others as they are spelled; a line feed is the document's end.
            let is_known = used.iter().all(|byte| b"\"\\/bfnrt\n".contains(byte));
            self.escaped(keep, if is_known { 1 } else { 2 });
        }
        used.len()
    }

    fn digit(&mut self, window: &[u8], keep: bool, value: u32, missing: u8) -> usize {
        let digit = window.first().copied().map(char::from);
        let Some(digit) = digit.and_then(|digit| digit.to_digit(16)) else {
            // No escape at all; the reader takes it as it is spelled.
            self.escaped(keep, 6 - usize::from(missing));
            return 0;
        };
        if keep {
            self.squeezed.keep(window.get(..1).unwrap_or_default());
        }
        let value = value * 16 + digit;
        match missing {
            0 | 1 => self.escaped(
                keep,
                match value {
                    0..0x80 => 1,
                    // Half of a pair, which makes four bytes.
                    0x80..0x800 | 0xd800..0xe000 => 2,
                    _ => 3,
                },
            ),
            _ => {
                self.place = Place::Digits {
                    keep,
                    value,
                    missing: missing - 1,
                }
            }
        }
        1
    }

    /// An escape is over that stands for `len` bytes.
    fn escaped(&mut self, keep: bool, len: usize) {
        self.place = Place::String;
        if keep {
            self.kept = (self.kept + len).min(MAX_BODY_KEPT);
        } else {
            self.squeezed.left_out += len as u64;
        }
    }
}

impl Squeezed {
    /// Returns how many bytes are held.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.bytes.len() + std::mem::size_of_val(&self.gaps[..])
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = MAX_KEPT.saturating_sub(self.bytes.len());
        self.overflowed |= bytes.len() > room;
        if !self.overflowed {
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// Writes the byte that ends a string.
    fn close(&mut self, end: u8) {
        self.leave_gap();
        self.keep(&[end]);
    }

    /// Notes how much of a string is missing in front of what comes next.
    fn leave_gap(&mut self) {
        let left_out = std::mem::take(&mut self.left_out);
        if left_out > 0 && !self.overflowed {
            self.gaps.push(Gap {
                closing_quote: self.bytes.len(),
                len: left_out,
            });
        }
    }
}

//! The bytes of the log that are at hand, by their offsets in it.

use std::ops::Range;

use super::announcement::{Announcement, Line};
use super::{BOM, InputState};
use crate::format::native::Boundary;

/// Bytes of empty lines behind an entry at the most. An engine writes one or two; a client who can make
/// a million of them must not make each place behind an entry a long search.
const MAX_BLANK: usize = 64;
/// What says nothing between two entries: empty lines, also those of Windows, and the marks with which
/// its editors begin a file.
const BLANKS: [&[u8]; 3] = [b"\n", b"\r\n", BOM];

/// A stretch of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'b> {
    /// The bytes, without gaps.
    pub(super) bytes: &'b [u8],
    /// Offset of the first of them.
    pub(super) before: u64,
    /// What is known of the bytes behind them.
    pub(super) input: InputState,
}

/// What stands at some place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// The line that opens a native entry, and its letter.
    Entry(Boundary, char),
    /// The brace that opens a JSON document.
    Document,
    /// A line that announces an entry.
    Announcement(Announcement),
    /// Something else.
    None,
    /// Depends on more bytes.
    Undecided,
}

/// What stands behind an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follows {
    /// Another entry, or the end of the log.
    EntryOrEnd,
    /// Anything else.
    Other,
    /// Depends on more bytes.
    Undecided,
}

/// Returns what begins at the start of `bytes`, which is the start of a line.
///
/// [`Opening::Undecided`] only while more bytes may come and those at hand may be the beginning of a
/// delimiter line or of an announcement. A delimiter line has at most [`Boundary::MAX_LINE`] bytes,
/// so not more than these are ever waited for.
pub(super) fn opening(bytes: &[u8], input: InputState) -> Opening {
    match bytes.first() {
        Some(b'{') => return Opening::Document,
        Some(b'#') => {
            return match Announcement::open(bytes, input) {
                Line::Announcement(said) => Opening::Announcement(said),
                Line::Other => Opening::None,
                Line::Undecided => Opening::Undecided,
            };
        }
        Some(b'-') => {}
        Some(_) => return Opening::None,
        None => return Opening::Undecided,
    }
    let is_whole = bytes
        .iter()
        .take(Boundary::MAX_LINE + 1)
        .any(|b| *b == b'\n');
    if !is_whole && bytes.len() <= Boundary::MAX_LINE && input != InputState::End {
        return Opening::Undecided;
    }
    match Boundary::open(bytes) {
        Some((boundary, letter)) => Opening::Entry(boundary, letter),
        None => Opening::None,
    }
}

impl<'b> View<'b> {
    /// Returns the offset behind the last byte at hand.
    pub(super) fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    /// Returns the bytes from offset `at` on; none if that is not at hand.
    pub(super) fn from(&self, at: u64) -> &'b [u8] {
        self.slice(at..self.end())
    }

    /// Returns the bytes at these offsets of the log; none if not all of them are at hand.
    pub(super) fn slice(&self, range: Range<u64>) -> &'b [u8] {
        let index = |offset: u64| usize::try_from(offset.checked_sub(self.before)?).ok();
        match (index(range.start), index(range.end)) {
            (Some(start), Some(end)) => self.bytes.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    /// Returns `true` if the log ends with these bytes.
    pub(super) fn is_all(&self) -> bool {
        self.input == InputState::End
    }

    /// Returns what stands at `at`, apart from [`BLANKS`]; [`Follows::Other`] if those do not end
    /// within [`MAX_BLANK`].
    pub(super) fn follows(&self, at: u64) -> Follows {
        let mut rest = self.from(at);
        let len = rest.len();
        while let Some(behind) = BLANKS.iter().find_map(|blank| rest.strip_prefix(*blank)) {
            rest = behind;
            if len - rest.len() >= MAX_BLANK {
                return Follows::Other;
            }
        }
        // What a file system leaves after a crash, however long: what is behind that begins anew.
        if rest.starts_with(b"\0") {
            return Follows::EntryOrEnd;
        }
        let may_be_blank = BLANKS.iter().any(|blank| blank.starts_with(rest));
        if rest.is_empty() || (may_be_blank && self.input == InputState::More) {
            return match self.input {
                InputState::More => Follows::Undecided,
                InputState::Quiet | InputState::End => Follows::EntryOrEnd,
            };
        }
        match opening(rest, self.input) {
            Opening::Entry(..) | Opening::Document | Opening::Announcement(_) => {
                Follows::EntryOrEnd
            }
            Opening::Undecided => Follows::Undecided,
            Opening::None => Follows::Other,
        }
    }
}

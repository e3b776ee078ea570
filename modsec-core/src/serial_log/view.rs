//! The bytes of the log that are at hand, by their offsets in it.

use std::ops::Range;

use memchr::memmem::Finder;

use super::Outlook;
use crate::format::native::Boundary;

/// Empty lines behind an entry at the most. An engine writes one or two; somebody who writes a
/// million does not want to be read.
const MAX_BLANK: usize = 64;

/// A stretch of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'b> {
    pub(super) bytes: &'b [u8],
    /// Offset of the first of them.
    pub(super) before: u64,
    pub(super) outlook: Outlook,
}

/// A delimiter line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delimiter {
    pub(super) letter: u8,
    /// Offset of its first dash.
    pub(super) at: u64,
    /// Offset behind its LF.
    pub(super) behind: u64,
}

/// What a search for a delimiter line gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    Found(Delimiter),
    /// There is none before this offset; from there on it depends on more bytes.
    NotBefore(u64),
}

/// What stands at some place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// The line that opens a native entry, and its letter.
    Entry(Boundary, char),
    /// The brace that opens a JSON document.
    Document,
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
    Other,
    Undecided,
}

/// Tells what begins at the start of `bytes`, which is the start of a line.
pub(super) fn opening(bytes: &[u8], outlook: Outlook) -> Opening {
    match bytes.first() {
        Some(b'{') => return Opening::Document,
        Some(b'-') => {}
        Some(_) => return Opening::None,
        None => return Opening::Undecided,
    }
    let is_whole = bytes
        .iter()
        .take(Boundary::MAX_LINE + 1)
        .any(|b| *b == b'\n');
    if !is_whole && bytes.len() <= Boundary::MAX_LINE && outlook != Outlook::End {
        return Opening::Undecided;
    }
    match Boundary::open(bytes) {
        Some((boundary, letter)) => Opening::Entry(boundary, letter),
        None => Opening::None,
    }
}

impl<'b> View<'b> {
    /// Offset behind the last byte.
    pub(super) fn end(&self) -> u64 {
        self.before + self.bytes.len() as u64
    }

    pub(super) fn from(&self, at: u64) -> &'b [u8] {
        self.slice(at..self.end())
    }

    pub(super) fn slice(&self, range: Range<u64>) -> &'b [u8] {
        let index = |offset: u64| usize::try_from(offset.checked_sub(self.before)?).ok();
        match (index(range.start), index(range.end)) {
            (Some(start), Some(end)) => self.bytes.get(start..end).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(super) fn is_all(&self) -> bool {
        self.outlook == Outlook::End
    }

    /// Looks for a delimiter line of `boundary` that starts at `from` or later.
    pub(super) fn delimiter(&self, from: u64, boundary: Boundary) -> Search {
        let finder = Finder::new(boundary.prefix());
        let mut at = from.max(self.before);
        while let Some(found) = finder.find(self.from(at)) {
            let place = at + found as u64;
            at = place + 1;
            let line = self.from(place);
            if line.len() <= boundary.line_len() && !self.is_all() {
                return Search::NotBefore(place);
            }
            let starts_a_line = place
                .checked_sub(1)
                .is_none_or(|before| place == self.before || self.slice(before..place) == b"\n");
            if starts_a_line && let Some((found, letter)) = Boundary::open(line) {
                debug_assert_eq!(found, boundary);
                let behind = place + line.len().min(boundary.line_len() + 1) as u64;
                return Search::Found(Delimiter {
                    letter: letter as u8,
                    at: place,
                    behind,
                });
            }
        }
        // The last bytes may be the beginning of a line.
        let kept = boundary.line_len() as u64;
        Search::NotBefore(at.max(self.end().saturating_sub(kept)))
    }

    /// Returns how many empty lines stand at `at`, up to a bound.
    pub(super) fn blank(&self, at: u64) -> usize {
        let rest = self.from(at).iter().take(MAX_BLANK);
        rest.take_while(|byte| **byte == b'\n').count()
    }

    /// Tells what stands at `at`, apart from empty lines. Nothing, if those do not end soon.
    pub(super) fn follows(&self, at: u64) -> Follows {
        let blank = self.blank(at);
        if blank == MAX_BLANK {
            return Follows::Other;
        }
        let rest = self.from(at + blank as u64);
        if rest.is_empty() {
            return match self.outlook {
                Outlook::More => Follows::Undecided,
                Outlook::Quiet | Outlook::End => Follows::EntryOrEnd,
            };
        }
        match opening(rest, self.outlook) {
            Opening::Entry(..) | Opening::Document => Follows::EntryOrEnd,
            Opening::Undecided => Follows::Undecided,
            Opening::None => Follows::Other,
        }
    }
}

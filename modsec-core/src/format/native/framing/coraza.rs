//! Coraza writes the parts in the order of its configuration, A first and Z last.
//!
//! C and E are raw, and the text of a message in H may hold line feeds. The order proves nothing,
//! so a letter that occurs twice behind raw content is left out, unless the length of C tells.
//!
//! ```text
//! SecAuditLogParts ABCFHZ          a client sends, chunked, a body with a part H
//!
//! A  B  C  H  F  H  Z
//!       |  |     `- genuine, and known only as the last one
//!       |  `- the client's
//!       `- the first raw part: up to it all is certain
//! ```
//!
//! F occurs once, so it is believed. H occurs twice: the last is kept, its alerts prove nothing.
//!
//! Without `SecAuditLogParts` an entry has the parts B, C, F and H, neither A nor Z. It counts as
//! whole if it ends as the engine ends a part, but not as complete: it may still be growing.
//! Releases before 3.4 never write A and Z, and no empty lines; each of their parts starts with
//! what belongs into part A.

use std::borrow::Cow;
use std::ops::Range;

use super::{Delimiter, Dialect, Flag, Flags, Framing, PartLayout, doubtful_h};

impl<'a, F: Fn(Range<u64>) -> Cow<'a, [u8]>> Framing<'_, F> {
    /// Lays out an entry of Coraza. Without part Z it counts as truncated, unless it begins
    /// without part A, too, and ends as a part does: Coraza without `SecAuditLogParts` writes
    /// such entries.
    pub(super) fn coraza(&self) -> PartLayout {
        let mut found = self.but_request_line();
        let complete = self.is_complete(&found);
        let whole = complete || (!is(&found, 0, b'A') && self.ends_like_a_part(&found));
        let mut flags = Flags::none();
        if !whole {
            flags.insert(Flag::Truncated);
        }
        if found.len() < self.outline.delimiters.len() || self.outline.gap {
            flags.insert(Flag::Ambiguous);
        }
        let raw = found.iter().position(is_raw);
        let end = raw.and_then(|raw| self.body_end(&found, raw.checked_sub(1)?, raw));
        let mut alerts_doubtful = false;
        match (raw, end) {
            (Some(raw), Some(end)) if end > raw + 1 => {
                flags.insert(Flag::Ambiguous);
                let between: Vec<_> = found.drain(raw + 1..end).collect();
                let behind = found.get(raw + 1..).unwrap_or_default();
                if let Some(h) = doubtful_h(&between, behind) {
                    alerts_doubtful = true;
                    found.insert(raw + 1, h);
                }
            }
            // Nothing tells where the body stops.
            (Some(raw), None) if !whole => found.truncate(raw + 1),
            _ => {}
        }
        if has_twins(&found) {
            flags.insert(Flag::Ambiguous);
            alerts_doubtful = true;
            found = without_twins(&found);
        }
        self.lay_out(&found, flags, alerts_doubtful)
    }

    /// Returns `true` if an entry without part Z ends as a whole part does.
    fn ends_like_a_part(&self, found: &[Delimiter]) -> bool {
        let len = self.outline.len;
        let last = (self.fetch)(len.saturating_sub(2)..len);
        let content = found.last().is_some_and(|last| last.end < len);
        content && (*last == *b"\n\n" || (self.is_old_coraza() && last.ends_with(b"\n")))
    }

    /// Returns `true` if a release before 3.4 wrote the entry.
    pub(super) fn is_old_coraza(&self) -> bool {
        let may_be = self.traits().may_lack_a;
        self.outline.delimiters.first().is_some_and(|first| {
            let next = self.outline.len.min(first.end + 1);
            may_be && first.letter != b'A' && *(self.fetch)(first.end..next) == *b"["
        })
    }
}

/// Returns `true` if the delimiter at index `n` begins the part `letter`.
fn is(found: &[Delimiter], n: usize, letter: u8) -> bool {
    found.get(n).is_some_and(|part| part.letter == letter)
}

/// Returns `true` if the part may hold bytes as a client or an application has sent them.
fn is_raw(part: &Delimiter) -> bool {
    Dialect::Coraza.is_raw(part.letter)
}

/// Returns `true` if a letter occurs more than once.
fn has_twins(found: &[Delimiter]) -> bool {
    let mut letters: Vec<u8> = found.iter().map(|part| part.letter).collect();
    letters.sort_unstable();
    letters.windows(2).any(|pair| pair.first() == pair.last())
}

/// Leaves the parts that are certain: those up to the first raw one, and behind it what occurs
/// once. The last Z ends the entry; the last H is kept, though its alerts prove nothing.
fn without_twins(found: &[Delimiter]) -> Vec<Delimiter> {
    let raw = found.iter().position(is_raw);
    let raw = raw.unwrap_or(found.len());
    let mut last = [0; 1 + u8::MAX as usize];
    let mut first = [usize::MAX; 1 + u8::MAX as usize];
    for (n, part) in found.iter().enumerate() {
        let index = usize::from(part.letter);
        if let (Some(first), Some(last)) = (first.get_mut(index), last.get_mut(index)) {
            *first = n.min(*first);
            *last = n;
        }
    }
    let certain = |n: usize, part: &Delimiter| {
        let index = usize::from(part.letter);
        let is_first = first.get(index) == Some(&n);
        let is_last = last.get(index) == Some(&n);
        match part.letter {
            _ if n <= raw => is_first,
            b'Z' => is_last,
            b'H' => is_last && first.get(index) > Some(&raw),
            _ => is_first && is_last,
        }
    };
    let parts = found.iter().enumerate();
    parts
        .filter(|(n, part)| certain(*n, part))
        .map(|(_, part)| *part)
        .collect()
}

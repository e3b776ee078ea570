//! libmodsecurity writes the parts in alphabetical order and escapes all of them but C.
//!
//! Behind C, the last of each letter is therefore the genuine one. What the client puts before
//! them in C is found out by the length that his request announces, or by the order of the
//! letters, or by an empty line too many: none of the parts F to K ends with one, and only the
//! engine's own end of C can look as if they did.

use std::borrow::Cow;
use std::ops::Range;

use super::{Boundary, Delimiter, Flag, Flags, Framing, PartLayout, doubtful_h};

impl<'a, F: Fn(Range<u64>) -> Cow<'a, [u8]>> Framing<'_, F> {
    /// Lays out an entry of libmodsecurity that begins with part A: A, B, then C up to its end,
    /// and behind it the letters that ascend. Lines that do not are in C, or were appended, and
    /// make the entry ambiguous.
    pub(super) fn strict_v3(&self) -> PartLayout {
        let found = self.candidates();
        let complete = self.is_complete(&found);
        let mut flags = Flags::none();
        if !complete {
            flags.insert(Flag::Truncated);
        }
        let letter = |n: usize| found.get(n).map(|delimiter| delimiter.letter);
        let body = 1 + usize::from(letter(1) == Some(b'B'));
        let raw = letter(body) == Some(b'C');
        let first_behind = body + usize::from(raw);
        let behind = if raw {
            self.end_of_c(&found, body, complete)
        } else {
            Some(first_behind)
        };
        let mut chosen = found.get(..first_behind).unwrap_or_default().to_vec();
        let mut alerts_doubtful = false;
        if let Some(behind) = behind {
            let rest = found.get(behind..).unwrap_or_default();
            let genuine = ascending(rest, chosen.last());
            let between = found.get(first_behind..behind).unwrap_or_default();
            if let Some(h) = doubtful_h(between, genuine) {
                alerts_doubtful = true;
                chosen.push(h);
            }
            chosen.extend_from_slice(genuine);
            if !between.is_empty() || genuine.len() < rest.len() {
                flags.insert(Flag::Ambiguous);
            }
        }
        let dropped = found.len() < self.outline.delimiters.len() || self.outline.gap;
        if dropped || self.another_entry_follows(&found) {
            flags.insert(Flag::Ambiguous);
        }
        self.lay_out(&chosen, flags, alerts_doubtful)
    }

    /// Returns the index of the delimiter that ends part C, which is at index `c`.
    fn end_of_c(&self, found: &[Delimiter], c: usize, complete: bool) -> Option<usize> {
        let by_length = self.body_end(found, c.checked_sub(1)?, c).filter(|behind| {
            let rest = found.get(*behind..).unwrap_or_default();
            ascending(rest, found.get(c)).len() == rest.len()
        });
        by_length.or_else(|| complete.then(|| self.end_of_c_by_order(found, c)))
    }

    /// Returns the index of the delimiter that ends part C, at index `c`, by what the engine writes
    /// behind it. Part Z ends the entry.
    ///
    /// First backwards from Z, as long as the letters descend and are behind C; a placeholder (D,
    /// G, I, J, K) counts only if it is empty. That gives the longest tail that may be genuine:
    ///
    /// ```text
    ///  n  letter
    ///  2  C     raw
    ///  3  F     HTTP/1.1 200 OK      the client's, with the right boundary
    ///  4  H     ModSecurity: …
    ///  5  F     HTTP/1.1 403         genuine: Z H F descend, then H at 4 does not
    ///  6  H     ModSecurity: …
    ///  7  Z                          behind = 5
    /// ```
    ///
    /// The tail may still begin with a line of the client's. Here part F is not configured, and his
    /// body ends with one:
    ///
    /// ```text
    ///  2  C
    ///  3  F     HTTP/1.1 200 OK⏎     the client's, up to the end of his body
    ///  4  H     ⏎⏎ stand in front: three LFs with that of his last line
    ///  5  Z                          behind = 3, then 4
    /// ```
    ///
    /// No part from F to K ends with an empty line; a body that ends with an LF, and the two LFs of
    /// the engine, look as if one did. So the last delimiter that has three LFs in front, and a part
    /// from F on before it, is the first behind C.
    fn end_of_c_by_order(&self, found: &[Delimiter], c: usize) -> usize {
        let mut behind = found.len().saturating_sub(1);
        while let Some(before) = behind.checked_sub(1).filter(|before| *before > c)
            && let (Some(this), Some(next)) = (found.get(before), found.get(behind))
            && this.letter < next.letter
            && this.letter > b'C'
            // The placeholders are empty, but for the empty line of a part F that is not there.
            && (b"EFH".contains(&this.letter) || next.start <= this.end + 2)
        {
            behind = before;
        }
        (behind + 1..found.len())
            .rev()
            .find(|n| {
                let part = n.checked_sub(1).and_then(|n| found.get(n));
                part.is_some_and(|part| part.letter >= b'F')
                    && found.get(*n).is_some_and(|next| {
                        let before = next.start.saturating_sub(3)..next.start;
                        *(self.fetch)(before) == *b"\n\n\n"
                    })
            })
            .unwrap_or(behind)
    }

    /// Returns `true` if part A of another entry stands behind part Z: the engine appends to a file
    /// that is there already.
    fn another_entry_follows(&self, found: &[Delimiter]) -> bool {
        let Some(z) = found.last().filter(|last| last.letter == b'Z') else {
            return false;
        };
        let end = self.outline.len.min(z.end + Boundary::MAX_LINE as u64 + 2);
        let next = (self.fetch)(z.end..end);
        let next = next.strip_prefix(b"\n").unwrap_or(&next);
        matches!(Boundary::open(next), Some((_, 'A')))
    }
}

/// Returns the delimiters whose letters ascend from that of the part `before` them.
fn ascending<'d>(found: &'d [Delimiter], before: Option<&Delimiter>) -> &'d [Delimiter] {
    let mut last = before.map(|part| part.letter);
    let sorted = found
        .iter()
        .take_while(|part| {
            let last = last.replace(part.letter);
            last < Some(part.letter)
        })
        .count();
    found.get(..sorted).unwrap_or_default()
}

//! Telling the genuine delimiters from forged ones.
//!
//! What the rules rest on:
//!
//! 1. A delimiter brings its own LF: of two that directly follow each other, one is content. Behind
//!    B it is the second: a request line may be exactly `--BND-Z--`. Behind raw content it may be
//!    the first, if the content ends with such a line and the LF of the genuine one closes that.
//! 2. If every letter occurs once and in the engine's order, up to Z at the end, the split is final.
//! 3. Otherwise: nothing the client controls precedes B, whose lines cannot be delimiters, so A and
//!    B are the first ones. The engine alone writes behind H, so H, J, K are the last ones, with
//!    nothing but J, K, Z behind them. Between them, C ends after `Content-Length` bytes, or F is
//!    certain if it is the only candidate. What is not certain is left out.
//! 4. Without Z at the end nothing tells where raw content (C, E) stops, except its length.
//! 5. libmodsecurity escapes all but C, so only C can hold forged delimiters; Coraza writes the
//!    parts in the order of its configuration. Their own rules stand in `v3` and `coraza`.
//! 6. A first line of the own boundary in a raw part is the client's, or begins an entry behind which
//!    this one was cut off. `owner` has the rule by which that is told.

mod coraza;
mod owner;
mod v3;

pub(crate) use self::owner::Owner;
use std::borrow::Cow;
use std::ops::Range;

use super::Dialect;
use super::boundary::Boundary;
use super::lines::content_length;
use super::outline::{Delimiter, Outline};
use crate::format::dialect::Traits;
use crate::record::{Flag, Flags};

/// Letters in the order in which ModSecurity 2 writes them.
const ORDER: &[u8] = b"ABCIFEHJKZ";

/// Where the parts of an entry stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartLayout {
    /// Boundary of the first line.
    pub(super) boundary: Boundary,
    /// The parts, in the order of the bytes; their spans cover the entry without gaps.
    pub(super) parts: Vec<PartRange>,
    /// What the framing has to say against the entry.
    pub(super) flags: Flags,
    /// Whether part H may have been written by the client, so that its alerts prove nothing.
    pub(super) alerts_doubtful: bool,
    /// Whose end the entry has, if another one with the same boundary may begin in a body of it.
    pub(super) owner: Owner,
}

/// Where one part stands; offsets in bytes from the start of the entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartRange {
    /// Letter, `A` to `Z`.
    pub(super) letter: u8,
    /// From the delimiter's first dash to the next part.
    pub(super) span: Range<u64>,
    /// The content alone.
    pub(super) content: Range<u64>,
}

impl Outline {
    /// Decides which delimiters are genuine. `fetch` returns the bytes of a range; it is asked
    /// for the headers, and for the few bytes before a delimiter.
    pub(super) fn layout<'a>(&self, fetch: impl Fn(Range<u64>) -> Cow<'a, [u8]>) -> PartLayout {
        let framing = Framing {
            outline: self,
            fetch,
        };
        let opened = self.delimiters.first().map(|first| first.letter);
        match (self.boundary.dialect(), opened) {
            (Dialect::V2, Some(b'A')) if self.is_alone => framing.strict(),
            (Dialect::V3, Some(b'A')) if self.is_alone => framing.strict_v3(),
            (Dialect::V2, Some(b'A')) => framing.own_parts(framing.strict()),
            (Dialect::V3, Some(b'A')) => framing.own_parts(framing.strict_v3()),
            (Dialect::Coraza, _) => framing.coraza(),
            _ => framing.out_of_order(),
        }
    }
}

/// The delimiters that were found, and a way to read the bytes between them.
struct Framing<'o, F> {
    /// Where the delimiters stand.
    outline: &'o Outline,
    /// Returns the bytes of a range of the entry, or fewer if they cannot be had.
    fetch: F,
}

impl<'a, F: Fn(Range<u64>) -> Cow<'a, [u8]>> Framing<'_, F> {
    /// Lays out an entry of ModSecurity 2 that begins with part A. What is certain is told from
    /// both ends:
    ///
    /// ```text
    /// A  B  C ..................................... H  K  Z
    /// `head´  `- client and application, any lines -´ `tail´
    /// ```
    ///
    /// The tail needs part Z at the end. In an entry that was cut off, H, J and K are taken from the
    /// front instead, if it is known where the last body ends.
    fn strict(&self) -> PartLayout {
        let found = self.but_request_line();
        let complete = self.is_complete(&found);
        let clean = found.len() == self.outline.delimiters.len()
            && !self.outline.gap
            && found.is_sorted_by(|a, b| rank(a.letter) < rank(b.letter))
            && found
                .iter()
                .all(|delimiter| rank(delimiter.letter).is_some());
        let mut flags = Flags::none();
        if !complete {
            flags.insert(Flag::Truncated);
        }
        if !clean {
            flags.insert(Flag::Ambiguous);
        }
        if complete && clean {
            return self.clean(found, flags);
        }
        let tail = if complete {
            tail_start(&found)
        } else {
            found.len()
        };
        let (mut genuine, certain_to) = self.head(&found, tail, complete);
        if complete {
            genuine.extend_from_slice(found.get(tail..).unwrap_or_default());
        } else if let Some(from) = certain_to {
            genuine.extend(forward_tail(found.get(from..).unwrap_or_default()));
        }
        self.lay_out(&genuine, flags, false)
    }

    /// Returns what distinguishes the entry's dialect.
    fn traits(&self) -> &'static Traits {
        self.outline.boundary.dialect().traits()
    }

    /// Returns `true` if part Z ends the entry.
    fn is_complete(&self, found: &[Delimiter]) -> bool {
        found
            .last()
            .is_some_and(|last| last.letter == b'Z' && self.outline.ends_with(last))
    }

    /// Returns all delimiters but one that directly follows part B's: it stands in the place of
    /// the request line, which the client sends.
    fn but_request_line(&self) -> Vec<Delimiter> {
        let mut found = self.outline.delimiters.clone();
        let b = found
            .iter()
            .position(|part| matches!(part.letter, b'B' | b'C' | b'E' | b'H'));
        if let Some(b) = b
            && let (Some(part), Some(next)) = (found.get(b), found.get(b + 1))
            && part.letter == b'B'
            && next.start == part.end
        {
            found.remove(b + 1);
        }
        found
    }

    /// Returns all delimiters but those that directly follow another delimiter line:
    /// libmodsecurity writes empty lines behind raw content, so these are content.
    fn candidates(&self) -> Vec<Delimiter> {
        let mut candidates: Vec<Delimiter> = Vec::with_capacity(self.outline.delimiters.len());
        for delimiter in &self.outline.delimiters {
            if candidates
                .last()
                .is_none_or(|previous| delimiter.start > previous.end)
            {
                candidates.push(*delimiter);
            }
        }
        candidates
    }

    /// Lays out an entry that has every letter once, in order, up to Z at the end. One doubt is
    /// left: part C is shorter than announced, and a later delimiter stands exactly where it
    /// should have ended. Either the engine kept only the beginning of the body, or the parts
    /// between are forged and the server does not log them. Then status and alerts prove
    /// nothing.
    fn clean(&self, mut found: Vec<Delimiter>, mut flags: Flags) -> PartLayout {
        let mut alerts_doubtful = false;
        if let Some(c) = found.iter().position(|delimiter| delimiter.letter == b'C')
            && let Some(next) = self.body_end(&found, c.wrapping_sub(1), c)
            && next > c + 1
        {
            flags.insert(Flag::Ambiguous);
            let between = found
                .drain(c + 1..next)
                .find(|delimiter| delimiter.letter == b'H');
            alerts_doubtful = between.is_some();
            if let Some(h) = between {
                found.insert(c + 1, h);
            }
        }
        self.lay_out(&found, flags, alerts_doubtful)
    }

    /// Chooses A, B and, as far as they are certain, C, I, F and E from the delimiters before
    /// index `limit`. Also returns the index from which on the engine alone has written, if that
    /// is known.
    ///
    /// The walk goes along the engine's order, B C I F E, and stops at the first body whose end
    /// nothing tells. A client sends these five lines, without `Content-Length`, to be taken for one
    /// whose request was answered with 200 (`limit` is at the genuine H):
    ///
    /// ```text
    ///  0  --3fa0c41b-A--
    ///  1  --3fa0c41b-B--       POST / HTTP/1.1, Transfer-Encoding: chunked
    ///  2  --3fa0c41b-C--       at = 2: raw, and no length in B
    ///  3  --3fa0c41b-F--       HTTP/1.1 200 OK             from here
    ///  4  --3fa0c41b-H--       Message: …                  the client's
    ///  5  --3fa0c41b-F--       HTTP/1.1 403 Forbidden      the server's
    ///  6  --3fa0c41b-H--       <- limit
    ///  7  --3fa0c41b-Z--
    /// ```
    ///
    /// A, B and C are chosen. Two lines may be F, so neither is: the status is absent, H and Z come
    /// from the tail, and the flag is `ambiguous`. If B announces a length by which the body ends one
    /// LF in front of line 5, the walk goes on at 5, and F is certain. Without a length, one line F
    /// alone is taken: the engine writes it between C and H.
    fn head(
        &self,
        found: &[Delimiter],
        limit: usize,
        complete: bool,
    ) -> (Vec<Delimiter>, Option<usize>) {
        let letter = |at: usize| {
            found
                .get(at)
                .filter(|_| at < limit)
                .map(|found| found.letter)
        };
        let mut chosen = found.get(..1).unwrap_or_default().to_vec();
        let mut at = 1;
        for part in [b'B', b'C', b'I', b'F', b'E'] {
            if letter(at) != Some(part) {
                continue;
            }
            chosen.extend(found.get(at));
            let raw = self.outline.boundary.dialect().is_raw(part);
            at = match self.body_end(found, at - 1, at) {
                _ if !raw => at + 1,
                Some(next) if next <= limit => next,
                // A body of unknown length: what follows may be part of it.
                _ => {
                    if part == b'C' && complete && !self.outline.gap {
                        chosen.extend(only_f(found.get(at + 1..limit).unwrap_or_default()));
                    }
                    return (chosen, None);
                }
            };
        }
        (chosen, Some(at))
    }

    /// Returns the index of the delimiter that stands exactly where the body that starts at index
    /// `body` ends by the `Content-Length` in the headers at index `head`.
    ///
    /// Of an engine that writes a varying number of LFs behind a body, the largest is tried first.
    /// `None` if the headers do not announce a
    /// length, or no delimiter stands there: the engine may have kept less of the body
    /// (`SecRequestBodyLimitAction ProcessPartial`).
    fn body_end(&self, found: &[Delimiter], head: usize, body: usize) -> Option<usize> {
        let (head, body) = (found.get(head)?, found.get(body)?);
        if !matches!(head.letter, b'B' | b'F') {
            return None;
        }
        let headers = (self.fetch)(head.end..body.start.saturating_sub(1).max(head.end));
        let len = content_length(&headers)?;
        let between = self.traits().lfs_behind_body.clone();
        between.rev().find_map(|between| {
            let next = body.end.checked_add(len)?.checked_add(between)?;
            found
                .binary_search_by_key(&next, |delimiter| delimiter.start)
                .ok()
        })
    }

    /// Lays out an entry that does not start with part A, which no engine has written. Each
    /// part is the first of its letter; nothing in it is certain, and the flag says so.
    fn out_of_order(&self) -> PartLayout {
        let mut flags: Flags = [Flag::OutOfOrder].into_iter().collect();
        let found = &self.outline.delimiters;
        // A lone part Z ends nothing.
        if !found.last().is_some_and(|last| {
            last.letter == b'Z' && last.start > 0 && self.outline.ends_with(last)
        }) {
            flags.insert(Flag::Truncated);
        }
        let mut genuine: Vec<Delimiter> = Vec::new();
        for delimiter in found {
            if genuine.iter().any(|other| other.letter == delimiter.letter) {
                flags.insert(Flag::Ambiguous);
            } else {
                genuine.push(*delimiter);
            }
        }
        self.lay_out(&genuine, flags, false)
    }

    /// Gives each chosen delimiter the bytes up to the next. Contents that consist of lines stop
    /// at the first delimiter line, chosen or not.
    fn lay_out(&self, chosen: &[Delimiter], flags: Flags, alerts_doubtful: bool) -> PartLayout {
        let all = &self.outline.delimiters;
        let traits = self.traits();
        let parts = chosen.iter().enumerate().map(|(n, delimiter)| {
            let next = chosen.get(n + 1).map(|next| next.start);
            let end = next.unwrap_or(self.outline.len);
            let stop = match delimiter.letter {
                b'C' | b'E' => next,
                _ => all
                    .get(all.partition_point(|other| other.start <= delimiter.end)..)
                    .and_then(<[_]>::first)
                    .map(|other| other.start)
                    .filter(|start| *start < end)
                    .or(next),
            };
            let content_end = match stop {
                _ if delimiter.letter == b'Z' && traits.has_empty_lines => delimiter.end,
                // The LF before a delimiter is the delimiter's.
                Some(stop) => {
                    let more = self.blank_lines(chosen, n);
                    self.without_lfs(delimiter.end..stop - 1, more)
                }
                // A whole entry without part Z ends as if another part followed.
                None if traits.may_lack_a && !flags.contains(Flag::Truncated) => {
                    let lfs = 1 + self.blank_lines(chosen, n);
                    self.without_lfs(delimiter.end..self.outline.len, lfs)
                }
                None => self.outline.len,
            }
            .max(delimiter.end);
            PartRange {
                letter: delimiter.letter,
                span: delimiter.start..end,
                content: delimiter.end..content_end,
            }
        });
        let boundary = self.outline.boundary;
        PartLayout {
            boundary,
            parts: parts.collect(),
            flags,
            alerts_doubtful,
            owner: Owner::This,
        }
    }

    /// Returns how many LFs the engine writes between the content of part `n` and the LF of the
    /// next delimiter.
    fn blank_lines(&self, chosen: &[Delimiter], n: usize) -> u64 {
        let traits = self.traits();
        if !traits.has_empty_lines || self.is_old_coraza() {
            return 0;
        }
        let letter = |n: usize| chosen.get(n).map(|part| part.letter);
        let body = matches!(letter(n), Some(b'C' | b'E'));
        let f_is_missing = letter(n) < Some(b'F') && letter(n + 1) > Some(b'F');
        u64::from(body) + u64::from(traits.has_line_of_f && f_is_missing)
    }

    /// Takes up to `most` LFs, those that the engine writes, from the end of `content` and returns where it ends then.
    fn without_lfs(&self, content: Range<u64>, most: u64) -> u64 {
        let mut end = content.end;
        for _ in 0..most {
            if end <= content.start || *(self.fetch)(end - 1..end) != *b"\n" {
                break;
            }
            end -= 1;
        }
        end
    }
}

/// Takes the delimiters of part H out of `between`, which lies within part C by its announced
/// length, if none stands `behind`: the engine may have kept only the beginning of the body, and
/// the client may have known. Its alerts are shown, but prove nothing.
fn doubtful_h(between: &[Delimiter], behind: &[Delimiter]) -> Option<Delimiter> {
    let is_h = |delimiter: &&Delimiter| delimiter.letter == b'H';
    between
        .iter()
        .rev()
        .find(is_h)
        .filter(|_| !behind.iter().any(|other| is_h(&other)))
        .copied()
}

/// Returns the place of a letter in [`ORDER`]; `None` for D, G and letters that no engine writes.
fn rank(letter: u8) -> Option<usize> {
    ORDER.iter().position(|other| *other == letter)
}

/// Returns the index at which the tail that the engine alone writes begins: H, J, K, Z, each at
/// most once and in this order, at the end of a complete entry.
///
/// `A B C H E H K Z` gives 5: behind the first H stands E, which the engine writes before H.
fn tail_start(found: &[Delimiter]) -> usize {
    let mut start = found.len().saturating_sub(1);
    for letter in [b'K', b'J', b'H'] {
        if let Some(before) = start.checked_sub(1)
            && found
                .get(before)
                .is_some_and(|delimiter| delimiter.letter == letter)
        {
            start = before;
        }
    }
    start
}

/// Returns H, J, K as far as they follow each other, in an entry that ends too early: `H K` of
/// `H K`, `H` of `H H K`. What the engine had not written yet is missing at the end.
fn forward_tail(found: &[Delimiter]) -> impl Iterator<Item = Delimiter> {
    let mut last = rank(b'E');
    found.iter().copied().take_while(move |delimiter| {
        let this = rank(delimiter.letter);
        let follows = this > last;
        last = this;
        follows
    })
}

/// Returns F if there is exactly one, and with it the E that directly follows. Of two, one is forged, and
/// nothing says which: the status is absent then.
fn only_f(found: &[Delimiter]) -> Vec<Delimiter> {
    let mut all = (0..found.len()).filter(|n| found.get(*n).is_some_and(|d| d.letter == b'F'));
    match (all.next(), all.next()) {
        (Some(f), None) => {
            let e = found.get(f + 1).filter(|next| next.letter == b'E');
            found.get(f).into_iter().chain(e).copied().collect()
        }
        _ => Vec::new(),
    }
}

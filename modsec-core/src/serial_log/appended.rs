//! Several records in the file of one.
//!
//! libmodsecurity appends to a file that is there already: transactions of one second that have one
//! id share a file. The id may be the client's (`modsecurity_transaction_id "$http_x_request_id"`),
//! and nobody's record may hide behind another one. `ModSecurity` 2 and Coraza truncate the file
//! first, so there a second record is a forgery, and the file is one entry.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::ops::Range;

use super::{InputState, Piece, Splitter};
use crate::format::native::Boundary;
use crate::format::{self, Format};

/// Records of one file at the most, 4 bytes each; a file with more is one ambiguous entry.
///
/// Two cores of a server write 8,000 records each within a second. So many would take a hundred
/// cores with nothing else to do than requests of one id.
pub(crate) const MAX_RECORDS: usize = 1 << 20;
/// Records whose boundaries are told apart at once, 50 bytes each; for more, the file is looked at
/// several times.
const AT_ONCE: usize = 64 * 1024;
/// Bytes that tell the dialect.
const HEAD: u64 = 512;
/// Bytes read at a time, and held of one record.
const CHUNK: u64 = 256 * 1024;
/// Bytes at the end of a record that show its part Z.
const TAIL: u64 = Boundary::MAX_LINE as u64 + 9;

/// Where the records of a file are: each begins where the one before it ends.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Offset of the first record.
    start: u64,
    /// Offset behind each record. Four bytes each: a file of 4 GiB or more does not count as
    /// several records.
    ends: Vec<u32>,
}

impl Places {
    /// Returns how many records there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns where the record `n` is, counted from 0; `None` if there are not so many.
    pub(crate) fn get(&self, n: usize) -> Option<Range<u64>> {
        let end = u64::from(*self.ends.get(n)?);
        let before = n.checked_sub(1).and_then(|before| self.ends.get(before));
        Some(before.map_or(self.start, |end| u64::from(*end))..end)
    }

    /// Adds a record; returns `false` if it does not begin where the last one ends, or is one too
    /// many.
    fn push(&mut self, record: Range<u64>) -> bool {
        let end = u32::try_from(record.end).ok();
        let last = self.ends.last().map_or(record.start, |end| u64::from(*end));
        let Some(end) = end.filter(|_| last == record.start && self.len() < MAX_RECORDS) else {
            return false;
        };
        if self.ends.is_empty() {
            self.start = record.start;
        }
        self.ends.push(end);
        true
    }

    /// Returns where each record is, in the order of the file.
    fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        (0..self.len()).filter_map(|n| self.get(n))
    }
}

/// Returns where the records are in a file of `len` bytes, of which `read` returns a range; `None`
/// if it is one entry, however it looks.
///
/// Native records are several only if nothing stands between them, each ends with its own part Z,
/// and no boundary has lines in two of them ([`are_apart`]).
///
/// # Errors
///
/// What `read` fails with.
pub(crate) fn records(
    len: u64,
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<Option<Places>> {
    let is_native = match format::detect(&read(0..len.min(HEAD))?) {
        Some(Format::Native(dialect)) if dialect.appends() => true,
        Some(Format::Json(dialect)) if dialect.appends() => false,
        _ => return Ok(None),
    };
    let mut splitter = Splitter::new(0, usize::try_from(CHUNK).unwrap_or(usize::MAX));
    let (mut found, mut fed) = (Places::default(), 0);
    while fed < len {
        let more = read(fed..len.min(fed + CHUNK))?;
        fed += more.len() as u64;
        splitter.buffer().extend_from_slice(&more);
        let input = if fed < len {
            InputState::More
        } else {
            InputState::End
        };
        if !take(&mut splitter, input, &mut found) {
            return Ok(None);
        }
    }
    found.ends.shrink_to_fit();
    let are_several = found.len() > 1
        && (!is_native || (are_closed(&found, &mut read)? && are_apart(&found, AT_ONCE, read)?));
    Ok(are_several.then_some(found))
}

/// Takes the records at hand; false if there is anything else.
fn take(splitter: &mut Splitter, input: InputState, found: &mut Places) -> bool {
    while let Some(piece) = splitter.next(input) {
        if matches!(piece, Piece::Part(_)) {
            continue;
        }
        let Some((at, len, flags)) = piece.ended_entry() else {
            return false;
        };
        if !flags.is_empty() || !found.push(at..at + len) {
            return false;
        }
    }
    true
}

/// Returns `true` if each record ends with its own part Z.
fn are_closed(
    records: &Places,
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<bool> {
    for record in records.iter() {
        let head = read(record.start..record.end.min(record.start + TAIL))?;
        let tail = read(record.start.max(record.end.saturating_sub(TAIL))..record.end)?;
        if !Boundary::open(&head).is_some_and(|(boundary, _)| boundary.closes(&tail)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns `true` if each boundary has all its lines within one record, but for boundaries of which
/// all lines stand in *bodies*. The body of a record is what stands between its own line C, with
/// nothing but A and B before that, and the next line of its own.
///
/// Then each record is one that the engine wrote. A client who knows the boundary of his entry can
/// end it in his body and write others behind it, also together with a second entry of his. But the
/// engine writes the genuine first and last line of each entry around all that, with one boundary,
/// which no other entry has. Let all records before this one be genuine:
///
/// - It begins with a genuine first line, which is in no body. So the genuine last line is in this
///   record too.
/// - It ends with a line of its own, so not where a later entry ends. If it went on behind its
///   genuine last line, it would end within a later entry. The first line of that would be in this
///   record and its last line in another, so the first line would have to be in this record's body.
///   But a body ends with the next own line, at the latest with the genuine last one.
///
/// No length that headers announce is believed here, whatever the engine has kept of a body.
///
/// Boundaries of about `at_once` records are held at a time. If there are many more, a client has
/// written them behind a line of his own entry's boundary, and the answer is `false`.
fn are_apart(
    records: &Places,
    at_once: usize,
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<bool> {
    let looks = records.len().div_ceil(at_once) as u64;
    let hashes = RandomState::new();
    for look in 0..looks {
        let is_looked_at = |boundary| looks == 1 || hashes.hash_one(boundary) % looks == look;
        let (mut homes, mut with_lines_in_body) = (HashMap::new(), Vec::new());
        for (home, record) in (0_u32..).zip(records.iter()) {
            let mut has_lines_in_body = false;
            let are_at_home = lines(record, &mut read, |boundary, is_in_body| {
                if !is_looked_at(boundary) {
                    return true;
                }
                if is_in_body {
                    has_lines_in_body = true;
                    return true;
                }
                let is_full = homes.len() > at_once + at_once / 2;
                !is_full && *homes.entry(boundary).or_insert(home) == home
            });
            if !are_at_home? {
                return Ok(false);
            }
            with_lines_in_body.extend(has_lines_in_body.then_some(home));
        }
        for home in with_lines_in_body {
            let record = records.get(home as usize).unwrap_or_default();
            let are_at_home = lines(record, &mut read, |boundary, is_in_body| {
                !is_in_body || homes.get(&boundary).is_none_or(|other| *other == home)
            });
            if !are_at_home? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Calls `visit` with the boundary of each delimiter line of `record`, and whether that stands in
/// the body, until it returns `false`.
fn lines(
    record: Range<u64>,
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
    mut visit: impl FnMut(Boundary, bool) -> bool,
) -> io::Result<bool> {
    let mut body = Body::default();
    let mut at = record.start;
    while at < record.end {
        // So far into the next chunk as a line that starts in this one may reach.
        let end = record.end.min(at + CHUNK);
        let bytes = read(at..record.end.min(end + Boundary::MAX_LINE as u64))?;
        let here = usize::try_from(end - at).unwrap_or(usize::MAX);
        let line_ends = memchr::memchr_iter(b'\n', bytes.get(..here).unwrap_or(&bytes));
        let starts = line_ends.map(|line_end| line_end + 1);
        let first = (at == record.start).then_some(0);
        for start in first.into_iter().chain(starts) {
            let line = Boundary::open(bytes.get(start..).unwrap_or_default());
            if let Some((boundary, letter)) = line
                && !visit(boundary, body.has(boundary, letter))
            {
                return Ok(false);
            }
        }
        at = end;
    }
    Ok(true)
}

/// The body of a record, whose lines are looked at one after the other.
#[derive(Debug, Default)]
struct Body {
    /// The boundary of the record's first line; `None` before that.
    own: Option<Boundary>,
    /// Whether an own line other than A and B was there.
    is_begun: bool,
    /// Whether the last own line was the part C that opens the body.
    is_open: bool,
}

impl Body {
    /// Returns `true` if the next line stands in the body.
    fn has(&mut self, boundary: Boundary, letter: char) -> bool {
        if boundary != *self.own.get_or_insert(boundary) {
            return self.is_open;
        }
        self.is_open = letter == 'C' && !self.is_begun;
        self.is_begun |= !matches!(letter, 'A' | 'B');
        false
    }
}

#[cfg(test)]
mod tests;

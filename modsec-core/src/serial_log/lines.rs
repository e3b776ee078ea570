//! The delimiter lines of the log, each found once.
//!
//! An engine that a full disk stops within a line goes on there with its next entry, so the first line
//! of an entry may also stand behind something else. It counts if part A follows, which no client can
//! write behind a header, as in [`is_part_a`]:
//!
//! ```text
//! Stopwatch: 17--bbbb0002-A--⏎[03/Feb/2024:10:11:12 +0100] …
//!               `- begins an entry
//! ```
//!
//! Every question of a cutter is about lines: which one of this boundary comes next, where does
//! another entry begin, does this boundary come again at all. Each byte is searched once for all
//! of them, so the time to cut a log grows with its length, whatever is in it.

use std::collections::{HashMap, VecDeque};

use memchr::memmem::Finder;

use super::InputState;
use super::lookahead::Lookahead;
use super::view::View;
use crate::format::native::Boundary;
use crate::format::{Dialect, timestamp};

/// Lines that are held at the most, about 80 bytes each. An entry with more of them is handed out
/// in parts, however small it is.
pub(super) const MAX_LINES: usize = 64 * 1024;
/// Bytes of a first line and part A that are looked at.
const MAX_PART_A: usize = 4096;
/// How the first line of an entry ends, and part A begins.
const OPENING: &[u8] = b"-A--\n[";
/// Bytes of a first line up to there, at the most, and one more.
const MAX_OPENING: u64 = Boundary::MAX_LINE as u64 + 3;
/// The index of no line.
const NONE: u64 = u64::MAX;

/// A delimiter line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Its boundary, with the dialect.
    pub(super) boundary: Boundary,
    /// Letter of the part that it begins.
    pub(super) letter: u8,
    /// Whether an entry may begin here: a line of part A with the content of one behind it, or any
    /// line of Coraza, which leaves out part A unless it is asked for.
    pub(super) opens: bool,
    /// Offset of its first dash.
    pub(super) at: u64,
    /// Offset behind its LF.
    pub(super) behind: u64,
    /// Its place among all lines that were found, counted from 0. Unlike the offset it is not
    /// used again after [`Lines::rewind`].
    pub(super) index: u64,
    /// Index of the next line of the same boundary.
    next: u64,
}

/// The first and the last line of a boundary among those that are held.
#[derive(Debug, Clone, Copy)]
struct Chain {
    /// Index of the first.
    first: u64,
    /// Index of the last.
    last: u64,
}

/// The delimiter lines between two offsets of the log.
#[derive(Debug)]
pub(super) struct Lines {
    /// The lines, by offset: at most about [`MAX_LINES`], see [`Lines::are_too_many`].
    held: VecDeque<Line>,
    /// Index of the first of them; indices are never used again.
    base: u64,
    /// For each boundary that has lines among those held.
    chains: HashMap<Boundary, Chain>,
    /// Lines that start before this offset have been found.
    scanned: u64,
    /// Whether a line starts at that offset.
    at_line_start: bool,
    /// Finds the start of a line that may be a delimiter: a line feed and two dashes.
    finder: Finder<'static>,
    /// First lines within other lines whose [`OPENING`] starts before this offset have been found.
    opened: u64,
    /// Finds [`OPENING`].
    opening: Finder<'static>,
    /// The last lines of boundaries that are no longer held.
    pub(super) ahead: Lookahead,
    /// Lines that were looked at, and bytes that were searched.
    #[cfg(test)]
    pub(super) work: std::sync::atomic::AtomicU64,
}

/// What a look at the start of a line gave.
enum Look {
    /// A delimiter line.
    Delimiter(Line),
    /// No delimiter line.
    Other,
    /// Depends on more bytes.
    Undecided,
}

impl Lines {
    /// Begins with no lines, at `at`, the start of a line.
    pub(super) fn new(at: u64) -> Lines {
        Lines {
            held: VecDeque::new(),
            base: 0,
            chains: HashMap::new(),
            scanned: at,
            at_line_start: true,
            finder: Finder::new(b"\n--"),
            opened: at,
            opening: Finder::new(OPENING),
            ahead: Lookahead::default(),
            #[cfg(test)]
            work: std::sync::atomic::AtomicU64::default(),
        }
    }

    /// Adds to the work that was done: one for each line looked at and each byte searched.
    #[cfg(test)]
    pub(super) fn count(&self, work: u64) {
        let order = std::sync::atomic::Ordering::Relaxed;
        self.work.fetch_add(work, order);
    }

    /// Counts work, in tests.
    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "as the one that counts")]
    pub(super) fn count(&self, _: u64) {}

    /// Returns the offset before which all starts of lines have been looked at.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned
    }

    /// Returns `true` if more than [`MAX_LINES`] are held: the entry at hand has to be handed
    /// out in parts.
    pub(super) fn are_too_many(&self) -> bool {
        self.held.len() > MAX_LINES
    }

    /// Returns the index behind that of the last line: the one that the next line gets.
    pub(super) fn end(&self) -> u64 {
        self.base + self.held.len() as u64
    }

    /// Returns the line with this index, or the first one that is held.
    pub(super) fn get(&self, index: u64) -> Option<&Line> {
        self.count(1);
        let index = usize::try_from(index.saturating_sub(self.base)).ok()?;
        self.held.get(index)
    }

    /// Returns the line at `at`.
    pub(super) fn find(&self, at: u64) -> Option<&Line> {
        let index = self.held.partition_point(|line| line.at < at);
        self.held.get(index).filter(|line| line.at == at)
    }

    /// Returns the next line of `boundary` behind the one with index `after`.
    pub(super) fn next_of(&self, boundary: Boundary, after: u64) -> Option<&Line> {
        self.count(1);
        let next = match after.checked_sub(self.base) {
            Some(index) => self.held.get(usize::try_from(index).ok()?)?.next,
            // It is not held any more; what was let go with it had been looked at.
            None => self.chains.get(&boundary)?.first,
        };
        (next != NONE).then(|| self.get(next))?
    }

    /// Looks for lines in what has come since the last call.
    pub(super) fn scan(&mut self, view: &View<'_>) {
        let mut from = self.scanned;
        self.count(view.end().saturating_sub(from));
        if self.at_line_start && !self.take(view, from) {
            return;
        }
        if self.at_line_start {
            from += 1;
            self.at_line_start = false;
        }
        loop {
            let before = from.saturating_sub(1).max(view.before);
            let found = self.finder.find(view.from(before));
            let at = found.map(|found| before + found as u64 + 1);
            if !self.take_within(view, at.unwrap_or(view.end())) {
                return;
            }
            let Some(at) = at else {
                break;
            };
            if !self.take(view, at) {
                return;
            }
            from = at + 1;
        }
        // Before the last bytes, a line would have been seen as far as it takes.
        let unknown = if view.is_all() { 0 } else { MAX_OPENING };
        self.scanned = from.max(view.end().saturating_sub(unknown));
    }

    /// Takes the line that starts at `at`; false if that takes more bytes.
    fn take(&mut self, view: &View<'_>, at: u64) -> bool {
        match look(view, at, self.end()) {
            Look::Delimiter(line) => self.push(line),
            Look::Other => {}
            Look::Undecided => {
                self.scanned = at;
                self.at_line_start = true;
                return false;
            }
        }
        true
    }

    /// Takes the first lines of entries that stand within other lines before `limit`; false if
    /// that takes more bytes.
    fn take_within(&mut self, view: &View<'_>, limit: u64) -> bool {
        let mut from = self.opened.max(view.before);
        while let Some(found) = self.opening.find(view.slice(from..limit.max(from))) {
            let lf = from + found as u64 + OPENING.len() as u64 - 2;
            from += found as u64 + 1;
            let line = view.slice(lf.saturating_sub(MAX_OPENING).max(view.before)..lf);
            let Some((start, _)) = Boundary::last_opening(line) else {
                continue;
            };
            let at = lf - (line.len() - start) as u64;
            let is_start = start == 0 || line.get(start - 1) == Some(&b'\n');
            let is_known = self.held.back().is_some_and(|last| last.at >= at);
            if is_start || is_known {
                continue;
            }
            match look(view, at, self.end()) {
                Look::Delimiter(line) if line.opens => self.push(line),
                Look::Delimiter(_) | Look::Other => {}
                Look::Undecided => {
                    (self.scanned, self.opened) = (at, from - 1);
                    return false;
                }
            }
        }
        self.opened = from.max(limit.saturating_sub(OPENING.len() as u64));
        true
    }

    /// Adds a line behind the others and links it to the last one of its boundary.
    fn push(&mut self, line: Line) {
        self.ahead.record(line.boundary, line.letter, line.at);
        let new = Chain {
            first: line.index,
            last: line.index,
        };
        let chain = self.chains.entry(line.boundary).or_insert(new);
        let last = std::mem::replace(&mut chain.last, line.index);
        if last != line.index
            && let Some(index) = last.checked_sub(self.base)
            && let Some(last) = usize::try_from(index)
                .ok()
                .and_then(|n| self.held.get_mut(n))
        {
            last.next = line.index;
        }
        self.held.push_back(line);
    }

    /// Lets go of the lines that start before `at`. Their indices are not used again.
    pub(super) fn drop_before(&mut self, at: u64) {
        while let Some(line) = self.held.front().copied().filter(|line| line.at < at) {
            self.held.pop_front();
            self.base += 1;
            if line.next == NONE {
                self.chains.remove(&line.boundary);
            } else if let Some(chain) = self.chains.get_mut(&line.boundary) {
                chain.first = line.next;
            }
        }
        self.ahead.drop_before(at);
    }

    /// Begins with the line at `at`; what was not scanned before it is passed over.
    pub(super) fn skip_to(&mut self, at: u64) {
        self.drop_before(at);
        if self.scanned <= at {
            self.scanned = at;
            self.at_line_start = true;
        }
        self.opened = self.opened.max(at);
    }

    /// Begins anew at `at`, the start of a line in what was scanned. What was found out about the
    /// lines behind it stays known.
    pub(super) fn rewind(&mut self, at: u64, is_all: bool) {
        self.ahead.finish(self.scanned, is_all);
        self.base = self.end();
        self.held.clear();
        self.chains.clear();
        (self.scanned, self.opened) = (at, at);
        self.at_line_start = true;
    }

    /// Records from now on the last line of each boundary behind `from`, though the lines are
    /// let go. Does nothing if that is being done already.
    pub(super) fn record_from(&mut self, from: u64) {
        if self.ahead.begin(from) {
            let first = self.held.partition_point(|line| line.at < from);
            for line in self.held.range(first..) {
                self.ahead.record(line.boundary, line.letter, line.at);
            }
        }
    }
}

/// Looks whether a delimiter line starts at `at`; `index` is the one that it would get.
///
/// A line of part A opens an entry only if part A follows, for which the line behind it must be
/// there.
fn look(view: &View<'_>, at: u64, index: u64) -> Look {
    let rest = view.from(at);
    let Some((boundary, letter)) = Boundary::open(rest) else {
        let is_decided = rest.len() > Boundary::MAX_LINE
            || view.is_all()
            || memchr::memchr(b'\n', rest).is_some();
        return if is_decided {
            Look::Other
        } else {
            Look::Undecided
        };
    };
    let len = boundary.line_len();
    if rest.len() <= len && !view.is_all() {
        return Look::Undecided;
    }
    let len = rest.len().min(len + 1);
    let content = rest.get(len..).unwrap_or_default();
    let opens = match (boundary.dialect(), letter) {
        (_, 'A') => match is_part_a(boundary.dialect(), content, view.input) {
            Some(is_part_a) => is_part_a,
            None => return Look::Undecided,
        },
        (dialect, _) => dialect.traits().may_lack_a,
    };
    Look::Delimiter(Line {
        boundary,
        letter: letter as u8,
        opens,
        at,
        behind: at + len as u64,
        index,
        next: NONE,
    })
}

/// What begins within a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Within {
    /// An entry, at this offset of the line.
    Opening(usize),
    /// Nothing.
    None,
    /// Depends on more bytes.
    Undecided,
}

/// Returns where an entry begins in the line of `bytes` that ends with the LF at `line_end`: with its
/// first line, and with part A behind that.
pub(super) fn opening_within(bytes: &[u8], line_end: usize, input: InputState) -> Within {
    let line = bytes.get(..line_end).unwrap_or_default();
    let Some((at, boundary)) = Boundary::last_opening(line) else {
        return Within::None;
    };
    let behind = bytes.get(line_end + 1..).unwrap_or_default();
    match is_part_a(boundary.dialect(), behind, input) {
        Some(true) => Within::Opening(at),
        Some(false) => Within::None,
        None => Within::Undecided,
    }
}

/// Returns `true` if `content` begins as part A does; `None` if that takes more bytes.
///
/// A request line may look like the first line of an entry, but no header can look like part A:
/// headers are logged as `NAME: VALUE`, and no time has a space behind its first colon.
fn is_part_a(dialect: Dialect, content: &[u8], input: InputState) -> Option<bool> {
    let content = content.get(..MAX_PART_A).unwrap_or(content);
    let Some(line_end) = memchr::memchr(b'\n', content) else {
        let is_decided = content.len() == MAX_PART_A || input == InputState::End;
        return is_decided.then_some(false);
    };
    let line = content.get(..line_end).unwrap_or_default();
    let time = line.strip_prefix(b"[").and_then(|line| {
        let end = memchr::memchr(b']', line)?;
        line.get(..end)
    });
    Some(time.is_some_and(|time| {
        if dialect.traits().has_offset {
            timestamp::parse(time).is_some()
        } else {
            timestamp::parse_wall_clock(time).is_some()
        }
    }))
}

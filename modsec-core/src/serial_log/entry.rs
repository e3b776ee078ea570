//! Where a native entry ends.

use std::ops::Range;

use memchr::memmem;

use super::view::{Delimiter, Follows, Search, View};
use super::{LOOKAHEAD, MAX_ENTRY, Outlook, Verdict};
use crate::format::native::{Boundary, Dialect, content_length};
use crate::format::timestamp;
use crate::record::{Flag, Flags};

/// Bytes of a first line and part A that are looked at.
const MAX_PART_A: usize = 4096;

/// An entry of which the end is looked for; offsets in the log.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) start: u64,
    pub(super) handed: u64,
    boundary: Boundary,
    /// Letter of its first line.
    first: char,
    /// Letter and content of the part at hand.
    part: u8,
    content: u64,
    /// Where the body at hand should end by the headers before it.
    announced: Option<u64>,
    /// Delimiters before this offset stand in a body of known length.
    body_end: u64,
    /// Whether a body of unknown length went before: what follows it may be part of it.
    doubtful: bool,
    /// An end behind a body of unknown length, followed by what is no entry: the end, if no
    /// further delimiter of its own comes.
    perhaps: Option<u64>,
    /// The first end within the announced length.
    end_in_body: Option<u64>,
    /// Where to go on looking for delimiters.
    scanned: u64,
    /// Where to go on looking for the first line of another entry.
    looked: u64,
    /// Another entry's first line within a body: begins the next entry if this one has no end.
    resync: Option<u64>,
    /// Another entry's first line where no client's bytes can be.
    pub(super) interleaved: Option<u64>,
}

impl Entry {
    /// Begins with the delimiter line at `start`.
    pub(super) fn open(boundary: Boundary, first: char, start: u64) -> Entry {
        let content = start + boundary.line_len() as u64 + 1;
        Entry {
            start,
            handed: start,
            boundary,
            first,
            part: first as u8,
            content,
            announced: None,
            body_end: 0,
            doubtful: false,
            perhaps: None,
            end_in_body: None,
            scanned: content,
            looked: content,
            resync: None,
            interleaved: None,
        }
    }

    pub(super) fn advance(&mut self, view: &View<'_>) -> Verdict {
        loop {
            if let Some(verdict) = self.check_body(view) {
                return verdict;
            }
            let search = view.delimiter(self.scanned, self.boundary);
            let limit = match search {
                Search::Found(delimiter) => delimiter.at,
                Search::NotBefore(at) => at,
            };
            if let Some(verdict) = self.look_for_others(view, limit) {
                return verdict;
            }
            let verdict = match search {
                Search::Found(delimiter) => self.meet(view, delimiter),
                Search::NotBefore(at) => {
                    self.scanned = self.scanned.max(at);
                    Some(self.run_out(view))
                }
            };
            if let Some(verdict) = verdict {
                return verdict;
            }
        }
    }

    /// Tells whether the part at hand holds bytes as they were sent, and nothing says how many.
    fn is_raw(&self) -> bool {
        let letters: &[u8] = match self.boundary.dialect() {
            Dialect::V2 => b"CE",
            Dialect::V3 => b"C",
            Dialect::Coraza => b"CEH",
        };
        letters.contains(&self.part) && self.body_end < self.content
    }

    /// Looks whether a delimiter stands where the body at hand should end.
    fn check_body(&mut self, view: &View<'_>) -> Option<Verdict> {
        let end = self.announced?;
        let rest = view.from(end);
        let most = 2 + self.boundary.prefix().len();
        if rest.len() < most && view.outlook == Outlook::More {
            return None;
        }
        self.announced = None;
        let blank = rest.iter().take(2).take_while(|b| **b == b'\n').count();
        let next = rest.get(blank..).unwrap_or_default();
        if blank > 0 && next.starts_with(self.boundary.prefix()) {
            self.body_end = end + 1;
            self.scanned = self.scanned.max(end);
            self.resync = None;
            return None;
        }
        // The engine kept less of the body than was announced.
        match self.end_in_body.take() {
            _ if self.content >= view.before => {
                (self.scanned, self.looked) = (self.content, self.content);
                self.resync = None;
                None
            }
            Some(end) => Some(ends(end)),
            None => None,
        }
    }

    /// Looks for first lines of other entries up to `limit`.
    fn look_for_others(&mut self, view: &View<'_>, limit: u64) -> Option<Verdict> {
        while self.interleaved.is_none()
            && let Some(found) =
                memmem::find(view.slice(self.looked.max(view.before)..limit), b"\n--")
        {
            let line = self.looked.max(view.before) + found as u64 + 1;
            match self.is_first_line(view, line) {
                Some(false) => self.looked = line,
                None => {
                    self.looked = line - 1;
                    return None;
                }
                Some(true) => {
                    self.looked = line;
                    if let Some(verdict) = self.meet_other(view, line) {
                        return Some(verdict);
                    }
                }
            }
        }
        // Two bytes of what was looked for may stand before the limit.
        self.looked = self.looked.max(limit.saturating_sub(2));
        None
    }

    /// Without part Z, an entry ends where the next one begins, unless more of it follows: then the
    /// other one's first line stands in a body.
    fn meet_next_without_z(&mut self, view: &View<'_>, at: u64) -> Option<Verdict> {
        if self.announced.is_some() {
            return None;
        }
        match view.delimiter(at, self.boundary) {
            Search::Found(own) if own.at - at <= LOOKAHEAD as u64 => None,
            Search::NotBefore(_) if needs_more(view, at) => {
                self.looked = at - 1;
                Some(Verdict::Wait(self.start))
            }
            _ => Some(ends(at)),
        }
    }

    /// Tells whether another entry's first line is at `at`, with its part A behind it; `None` if
    /// that takes more bytes.
    ///
    /// A request line may look like the first line, but no header can look like part A: headers
    /// are logged as `NAME: VALUE`, and no time has a space behind its first colon.
    fn is_first_line(&self, view: &View<'_>, at: u64) -> Option<bool> {
        let rest = view.from(at);
        let rest = rest.get(..MAX_PART_A).unwrap_or(rest);
        let is_cut = view.outlook == Outlook::More && rest.len() < MAX_PART_A;
        let undecided = (!is_cut).then_some(false);
        let Some(line_end) = memchr::memchr(b'\n', rest) else {
            return undecided.or((rest.len() > Boundary::MAX_LINE).then_some(false));
        };
        let Some((boundary, letter)) = Boundary::open(rest) else {
            return Some(false);
        };
        let dialect = boundary.dialect();
        if boundary == self.boundary
            || dialect != self.boundary.dialect()
            || letter != self.opening_letter()
        {
            return Some(false);
        }
        if letter != 'A' {
            return Some(true);
        }
        let content = rest.get(line_end + 1..).unwrap_or_default();
        let Some(line_end) = memchr::memchr(b'\n', content) else {
            return undecided;
        };
        let line = content.get(..line_end).unwrap_or_default();
        let time = line.strip_prefix(b"[").and_then(|line| {
            let end = memchr::memchr(b']', line)?;
            let time = line.get(..end)?;
            Some(match dialect {
                Dialect::V2 | Dialect::V3 => timestamp::parse(time).is_some(),
                Dialect::Coraza => timestamp::parse_wall_clock(time).is_some(),
            })
        });
        Some(time == Some(true))
    }

    /// Coraza leaves out part A unless it is asked for.
    fn opening_letter(&self) -> char {
        match self.boundary.dialect() {
            Dialect::Coraza => self.first,
            Dialect::V2 | Dialect::V3 => 'A',
        }
    }

    /// Another entry begins at `at`.
    fn meet_other(&mut self, view: &View<'_>, at: u64) -> Option<Verdict> {
        if at < self.body_end {
            return None;
        }
        if self.first != 'A' && self.opening_letter() == self.first {
            return self.meet_next_without_z(view, at);
        }
        if self.announced.is_some() || self.is_raw() {
            self.resync.get_or_insert(at);
            return None;
        }
        if let Some(end) = self.perhaps {
            return Some(ends(end));
        }
        if self.handed > self.start {
            return Some(ends(at));
        }
        match view.delimiter(at, self.boundary) {
            Search::Found(own) if own.letter != b'A' && own.at - at <= LOOKAHEAD as u64 => {
                self.interleaved = Some(at);
                None
            }
            Search::NotBefore(_) if needs_more(view, at) => {
                self.looked = at - 1;
                Some(Verdict::Wait(self.start))
            }
            _ => Some(ends(at)),
        }
    }

    /// One of its own delimiters.
    fn meet(&mut self, view: &View<'_>, found: Delimiter) -> Option<Verdict> {
        self.scanned = found.at + 1;
        if self.announced.is_some() || found.at < self.body_end {
            return self.meet_in_body(view, found);
        }
        // A delimiter brings its own LF: what directly follows another one is content.
        if found.at <= self.content {
            return None;
        }
        match found.letter {
            b'A' if self.is_raw() => {
                self.resync.get_or_insert(found.at);
                None
            }
            b'A' => Some(self.torn(found.at)),
            b'Z' => self.meet_end(view, found),
            _ => {
                self.enter(view, found);
                None
            }
        }
    }

    /// One of its own delimiters in a body of known length. Perhaps there is less of it.
    fn meet_in_body(&mut self, view: &View<'_>, found: Delimiter) -> Option<Verdict> {
        if found.letter != b'Z' || self.announced.is_none() {
            return None;
        }
        match view.follows(found.behind) {
            Follows::EntryOrEnd => {
                self.end_in_body.get_or_insert(self.own_end(view, found));
            }
            Follows::Undecided => {
                self.scanned = found.at;
                return Some(Verdict::Wait(self.start.max(found.at - 1)));
            }
            Follows::Other => {}
        }
        None
    }

    fn enter(&mut self, view: &View<'_>, found: Delimiter) {
        self.perhaps = None;
        self.doubtful |= self.is_raw();
        let headers = self.content..found.at;
        let describes = matches!((self.part, found.letter), (b'B', b'C') | (b'F', b'E'));
        self.part = found.letter;
        self.content = found.behind;
        self.body_end = 0;
        self.looked = self.looked.max(found.behind.saturating_sub(1));
        if describes && self.is_raw() {
            self.announced = announced(view, headers, found.behind);
        }
    }

    fn meet_end(&mut self, view: &View<'_>, found: Delimiter) -> Option<Verdict> {
        let doubtful = self.doubtful || self.is_raw();
        match view.follows(found.behind) {
            Follows::Undecided => {
                self.scanned = found.at;
                return Some(Verdict::Wait(self.start.max(found.at - 1)));
            }
            Follows::Other if doubtful => {
                self.perhaps.get_or_insert(self.own_end(view, found));
                return None;
            }
            Follows::Other | Follows::EntryOrEnd => {}
        }
        if doubtful {
            match view.delimiter(found.behind, self.boundary) {
                Search::Found(own)
                    if own.at - found.behind <= LOOKAHEAD as u64 && own.letter != b'A' =>
                {
                    return None;
                }
                Search::NotBefore(_) if needs_more(view, found.behind) => {
                    self.scanned = found.at;
                    return Some(Verdict::Wait(self.start.max(found.at - 1)));
                }
                _ => {}
            }
        }
        Some(self.ended(self.own_end(view, found)))
    }

    /// Returns the offset behind part Z as it stands in a file of its own: the others write an
    /// empty line behind it also there.
    fn own_end(&self, view: &View<'_>, found: Delimiter) -> u64 {
        let blank = match self.boundary.dialect() {
            Dialect::V2 => false,
            Dialect::V3 | Dialect::Coraza => view.from(found.behind).first() == Some(&b'\n'),
        };
        found.behind + u64::from(blank)
    }

    /// Ends without part Z: at `end`, or where another entry was written into this one.
    pub(super) fn torn(&self, end: u64) -> Verdict {
        self.ended(self.interleaved.unwrap_or(end))
    }

    /// Ends at `end`; an entry that was written into this one is next.
    fn ended(&self, end: u64) -> Verdict {
        let mut flags = Flags::none();
        if self.interleaved.is_some() {
            flags.insert(Flag::Interleaved);
        }
        Verdict::Ends {
            end,
            next: self.interleaved.unwrap_or(end),
            flags,
        }
    }

    /// No more delimiters at hand.
    fn run_out(&self, view: &View<'_>) -> Verdict {
        if view.is_all() || view.end() - self.start > MAX_ENTRY {
            return match self.perhaps {
                Some(end) => self.ended(end),
                None => self.torn(self.resync.unwrap_or(view.end())),
            };
        }
        // One byte more, to see that a line starts.
        let done = self.scanned.min(self.looked).saturating_sub(1);
        Verdict::Wait(done.max(self.start))
    }
}

/// Returns where the body that starts at `body` ends by the headers before it.
fn announced(view: &View<'_>, headers: Range<u64>, body: u64) -> Option<u64> {
    let len = content_length(view.slice(headers)).filter(|len| *len <= MAX_ENTRY)?;
    Some(body + len)
}

fn ends(end: u64) -> Verdict {
    Verdict::Ends {
        end,
        next: end,
        flags: Flags::none(),
    }
}

/// Tells whether less than the lookahead is at hand behind `at`, and more is to come.
fn needs_more(view: &View<'_>, at: u64) -> bool {
    view.outlook == Outlook::More && view.end().saturating_sub(at) < LOOKAHEAD as u64
}

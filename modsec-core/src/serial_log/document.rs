//! Where a JSON document of a log ends, and what belongs to it.
//!
//! ```text
//! {"transaction": …}LF      ends behind the LF after its last brace
//! {"transaction": …{"transaction":{"…   the writer was cut off: ends where the next one begins
//! {"transaction": …         the log ends: the document ends with it, cut off
//! ```
//!
//! The scanner looks at each byte once, whatever the pieces in which the log comes. Nothing in a
//! string can end a document, because JSON escapes quotes and line feeds. For the same reason
//! [`START`] stands nowhere in a document but at its start: a client can be the reason for a member
//! `transaction` (a header of that name), but not for an object in it.

use memchr::memmem;

use super::view::View;
use super::{InputState, MAX_ENTRY, Verdict};
use crate::format::json::{DocumentEnd, Scanner};

/// What the engines begin a document with.
const START: &[u8] = br#"{"transaction":{""#;
/// How the first key in there goes on: `time`, `timestamp` and `client_ip`. (`msc_logging.c`,
/// `auditlog.go`, `transaction.cc`)
const KEYS: [&[u8]; 2] = [b"ti", b"cl"];
/// Bytes of both.
const START_LEN: u64 = START.len() as u64 + 2;

/// A document of which the end is looked for.
#[derive(Debug)]
pub(super) struct Document {
    /// Offset of its first brace in the log.
    pub(super) start: u64,
    /// Offset up to which its bytes were handed out.
    pub(super) handed: u64,
    /// The log was looked at up to here.
    pub(super) scanned: u64,
    /// Bytes at its start that are those of [`START`].
    alike: usize,
    /// Finds the closing brace: knows depth, strings and escapes.
    scanner: Scanner,
    /// Whether its last brace stands there.
    is_closed: bool,
}

impl Document {
    /// Begins with the brace at `start`, an offset in the log.
    pub(super) fn open(start: u64) -> Document {
        Document {
            start,
            handed: start,
            scanned: start,
            alike: 0,
            scanner: Scanner::default(),
            is_closed: false,
        }
    }

    /// Looks on in the bytes at hand. Returns where the document ends, or from which offset on more
    /// bytes are needed.
    ///
    /// The line feed behind the last brace is waited for only while more is to come at once: a
    /// follower of a quiet log hands the document out without it.
    pub(super) fn advance(&mut self, view: &View<'_>, starts: &mut Starts) -> Verdict {
        if !self.is_closed {
            let other = self.other_start(view, starts);
            let window = view.slice(self.scanned..other.unwrap_or(view.end()));
            let (end, len) = match self.scanner.end(window) {
                DocumentEnd::Open => (DocumentEnd::Open, window.len()),
                end @ (DocumentEnd::Cut(at) | DocumentEnd::Whole(at)) => (end, at),
            };
            self.scanned += len as u64;
            match (end, other) {
                (DocumentEnd::Whole(_), _) => self.is_closed = true,
                (DocumentEnd::Cut(_), _) => return Verdict::ends(self.scanned),
                (DocumentEnd::Open, Some(other)) => return Verdict::ends(other),
                (DocumentEnd::Open, None) => return self.run_out(view, starts),
            }
        }
        // The line feed behind the last brace is the document's too.
        match view.from(self.scanned).first() {
            Some(b'\n') => Verdict::ends(self.scanned + 1),
            None if view.input == InputState::More => Verdict::Wait(self.scanned),
            _ => Verdict::ends(self.scanned),
        }
    }

    /// Returns where another document begins within this one, if this one begins as an engine begins
    /// one, as far as it goes. A document of something else may hold such an object.
    fn other_start(&mut self, view: &View<'_>, starts: &mut Starts) -> Option<u64> {
        let head = view.slice(self.start..view.end().min(self.start + START_LEN));
        if !head.is_empty() {
            let pairs = head.iter().zip(START);
            self.alike = pairs.take_while(|(found, want)| found == want).count();
        }
        let at = starts.behind(view, self.start)?;
        (at - self.start <= self.alike as u64 || self.alike == START.len()).then_some(at)
    }

    /// Returns what becomes of a document whose end is not at hand: it ends with the log, or
    /// when it is larger than an entry may be ([`MAX_ENTRY`] bytes).
    fn run_out(&self, view: &View<'_>, starts: &Starts) -> Verdict {
        if view.is_all() || view.end() - self.start > MAX_ENTRY {
            Verdict::ends(view.end())
        } else if view.end() - self.start < START_LEN {
            Verdict::Wait(self.start)
        } else {
            Verdict::Wait(starts.searched.min(self.scanned))
        }
    }
}

/// Where documents of an engine begin in the log, each found once.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// The last one that was found.
    found: u64,
    /// The log was searched up to here; no other one begins between the two.
    searched: u64,
}

impl Starts {
    /// Returns the next one behind `start` in the bytes at hand.
    fn behind(&mut self, view: &View<'_>, start: u64) -> Option<u64> {
        if self.found <= start {
            let from = self.searched.max(start + 1);
            if let Some(at) = find_start(view.from(from)) {
                self.found = from + at as u64;
                self.searched = self.found + 1;
            } else {
                // As much as may be the beginning of one is looked at again.
                self.searched = from.max(view.end().saturating_sub(START_LEN - 1));
            }
        }
        Some(self.found).filter(|found| *found > start)
    }
}

/// Returns where a document of an engine begins in `bytes`.
///
/// One that was cut off behind a header's name may end with the same bytes: in
/// `{"transaction":{"transaction":{"time"`, the second brace is the one.
fn find_start(bytes: &[u8]) -> Option<usize> {
    let has_key = |at: usize| {
        let key = bytes.get(at + START.len()..).unwrap_or_default();
        KEYS.iter().any(|known| key.starts_with(known))
    };
    let mut from = 0;
    loop {
        let at = from + memmem::find(bytes.get(from..)?, START)?;
        if has_key(at) {
            return Some(at);
        }
        from = at + 1;
    }
}

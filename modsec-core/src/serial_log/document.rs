//! Where a JSON document of a log ends, and what belongs to it.
//!
//! ```text
//! {"transaction": …}LF      ends behind the LF after its last brace
//! {"transaction": …{"tra…   the writer was cut off: ends where the next one begins
//! {"transaction": …         the log ends: the document ends with it, cut off
//! ```
//!
//! The scanner looks at each byte once, whatever the pieces in which the log comes. Nothing in a
//! string can end a document, because JSON escapes quotes and line feeds.

use super::view::View;
use super::{MAX_ENTRY, Outlook, Verdict};
use crate::format::json::{DocumentEnd, Scanner};

/// A document of which the end is looked for.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) start: u64,
    pub(super) handed: u64,
    /// The log was looked at up to here.
    scanned: u64,
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
            scanner: Scanner::default(),
            is_closed: false,
        }
    }

    /// Looks on in the bytes at hand. Returns where the document ends, or from which offset on more
    /// bytes are needed.
    ///
    /// The line feed behind the last brace is waited for only while more is to come at once: a
    /// follower of a quiet log hands the document out without it.
    pub(super) fn advance(&mut self, view: &View<'_>) -> Verdict {
        if !self.is_closed {
            match self.scanner.end(view.from(self.scanned)) {
                DocumentEnd::Open => {
                    self.scanned = view.end();
                    return self.run_out(view);
                }
                DocumentEnd::Cut(at) => return Verdict::ends(self.scanned + at as u64),
                DocumentEnd::Whole(at) => self.scanned += at as u64,
            }
            self.is_closed = true;
        }
        // The line feed behind the last brace is the document's too.
        match view.from(self.scanned).first() {
            Some(b'\n') => Verdict::ends(self.scanned + 1),
            None if view.outlook == Outlook::More => Verdict::Wait(self.scanned),
            _ => Verdict::ends(self.scanned),
        }
    }

    /// Says what becomes of a document whose end is not at hand: it ends with the log, or when it
    /// is larger than an entry may be ([`MAX_ENTRY`] bytes).
    fn run_out(&self, view: &View<'_>) -> Verdict {
        if view.is_all() || view.end() - self.start > MAX_ENTRY {
            Verdict::ends(view.end())
        } else {
            Verdict::Wait(self.scanned)
        }
    }
}

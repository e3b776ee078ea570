//! Where a JSON document of a log ends, and what belongs to it.

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
    pub(super) fn open(start: u64) -> Document {
        Document {
            start,
            handed: start,
            scanned: start,
            scanner: Scanner::default(),
            is_closed: false,
        }
    }

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

    fn run_out(&self, view: &View<'_>) -> Verdict {
        if view.is_all() || view.end() - self.start > MAX_ENTRY {
            Verdict::ends(view.end())
        } else {
            Verdict::Wait(self.scanned)
        }
    }
}

//! Where a JSON document ends.

use memchr::memchr3;

use super::view::{Follows, View};
use super::{MAX_ENTRY, Verdict};

/// A document of which the end is looked for: its last brace, counted outside of strings.
///
/// The engines escape every control character, so a line feed within a document stands between
/// values, or the document was cut off there.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) start: u64,
    pub(super) handed: u64,
    scanned: u64,
    depth: u64,
    in_string: bool,
}

impl Document {
    pub(super) fn open(start: u64) -> Document {
        Document {
            start,
            handed: start,
            scanned: start,
            depth: 0,
            in_string: false,
        }
    }

    pub(super) fn advance(&mut self, view: &View<'_>) -> Verdict {
        while let Some((at, byte)) = self.next(view) {
            let behind = at + 1;
            match byte {
                b'\\' if behind < view.end() => self.scanned = behind + 1,
                b'\\' => {
                    self.scanned = at;
                    return self.run_out(view);
                }
                b'"' => {
                    self.in_string = !self.in_string;
                    self.scanned = behind;
                }
                b'{' | b'[' => {
                    self.depth += 1;
                    self.scanned = behind;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return self.end(view, at);
                    }
                    self.scanned = behind;
                }
                _ => match view.follows(behind) {
                    Follows::EntryOrEnd if behind < view.end() => return Verdict::ends(behind),
                    Follows::Undecided | Follows::EntryOrEnd => {
                        self.scanned = at;
                        return self.run_out(view);
                    }
                    // Each of many empty lines would look the same way.
                    Follows::Other => self.scanned = behind + view.blank(behind) as u64,
                },
            }
        }
        self.scanned = view.end();
        self.run_out(view)
    }

    /// Returns the next byte that means something, and its offset.
    fn next(&self, view: &View<'_>) -> Option<(u64, u8)> {
        let rest = view.from(self.scanned);
        let found = if self.in_string {
            memchr3(b'"', b'\\', b'\n', rest)?
        } else {
            rest.iter()
                .position(|byte| matches!(byte, b'"' | b'{' | b'}' | b'[' | b']' | b'\n'))?
        };
        Some((self.scanned + found as u64, *rest.get(found)?))
    }

    /// The last brace stands at `at`. The line feed behind it is the document's too.
    fn end(&mut self, view: &View<'_>, at: u64) -> Verdict {
        let behind = at + 1;
        match view.from(behind).first() {
            Some(b'\n') => Verdict::ends(behind + 1),
            None if view.outlook == super::Outlook::More => {
                self.depth = 1;
                self.scanned = at;
                Verdict::Wait(at)
            }
            _ => Verdict::ends(behind),
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

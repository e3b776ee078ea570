//! An entry of which a line before it says how long it is.

use super::announcement::Announcement;
use super::view::View;
use super::{InputState, Open, Splitter, Step};
use crate::entry_hash::{EntryHash, EntryHasher};
use crate::format::FirstBytes;
use crate::record::{Flag, Flags};

/// An entry that was announced; offsets in the log.
#[derive(Debug)]
pub(super) struct Announced {
    /// Where its line begins, and how.
    pub(super) line: (u64, FirstBytes),
    /// Offset of its first byte, behind the line's LF.
    pub(super) start: u64,
    /// Offset behind its last byte, by the announced length.
    end: u64,
    /// Offset up to which its bytes were handed out.
    pub(super) handed: u64,
    /// [`Flag::Interleaved`] if the line says so.
    flags: Flags,
    /// The announced hash.
    hash: EntryHash,
    /// Takes the entry's bytes as they come.
    hasher: EntryHasher,
    /// Offset up to which they were hashed. Each byte is hashed once.
    hashed: u64,
}

/// Whether the bytes are what was announced.
#[derive(Debug, PartialEq, Eq)]
enum Check {
    /// More bytes are needed.
    Wait,
    /// All bytes are there, and have the announced hash.
    Yes,
    /// They have another hash, or the log ended before all of them had come.
    No,
}

impl Announced {
    /// Begins with the line at `line`.
    pub(super) fn open(line: (u64, FirstBytes), said: Announcement) -> Announced {
        let start = line.0 + said.line_len();
        Announced {
            line,
            start,
            end: start + said.len,
            handed: start,
            flags: said
                .is_interleaved
                .then_some(Flag::Interleaved)
                .into_iter()
                .collect(),
            hash: said.hash,
            hasher: EntryHasher::new(),
            hashed: start,
        }
    }

    /// Hashes the bytes that came since the last call and compares once all are there. A log
    /// that has ended within the entry gives [`Check::No`]; one that is only quiet,
    /// [`Check::Wait`].
    fn check(&mut self, view: &View<'_>) -> Check {
        let known = view.end().clamp(self.hashed, self.end);
        self.hasher.update(view.slice(self.hashed..known));
        self.hashed = known;
        if known == self.end {
            if self.hasher.finish() == self.hash {
                Check::Yes
            } else {
                Check::No
            }
        } else if view.is_all() {
            Check::No
        } else {
            Check::Wait
        }
    }
}

impl Splitter {
    /// Goes on with an announced entry.
    pub(super) fn within_announced(
        &mut self,
        mut announced: Box<Announced>,
        input: InputState,
    ) -> Step {
        let view = self.view(input);
        let end = view.end();
        let known = announced.hashed;
        let check = announced.check(&view);
        self.lines.count(announced.hashed - known);
        let Announced {
            start,
            handed,
            flags,
            ..
        } = *announced;
        match check {
            Check::Yes if handed == start => {
                self.at = announced.end;
                Step::Entry(start..announced.end, flags)
            }
            Check::Yes => {
                self.at = announced.end;
                self.ending = Some((start, announced.end - start, flags));
                Step::Part(handed..announced.end)
            }
            Check::No => self.disbelieve(&announced, end),
            Check::Wait => {
                self.at = start;
                let is_large = end - handed > self.held as u64;
                if is_large {
                    announced.handed = end;
                }
                self.open = Some(Open::Announced(announced));
                if is_large {
                    Step::Part(handed..end)
                } else {
                    Step::Wait
                }
            }
        }
    }

    /// Gives up an announced entry: the bytes up to `end` have another hash, or the log ended
    /// before all had come. What is there is cut as if nothing had been announced. No other
    /// announcement in there is believed, so that each byte is hashed once.
    fn disbelieve(&mut self, announced: &Announced, end: u64) -> Step {
        let Announced {
            line,
            start,
            handed,
            ..
        } = *announced;
        self.vain = announced.end.min(end);
        if announced.end > end {
            // An announced entry that was cut off looks like several.
            self.tangled = self.tangled.max(end);
        }
        self.unrecognized.get_or_insert(line);
        if handed == start {
            self.at = start;
            return Step::Again;
        }
        // For who cannot read it again: no line starts here.
        (self.at, self.in_line) = (handed, true);
        Step::End {
            ending: (start, 0, Flags::none()),
            overrun: true,
        }
    }
}

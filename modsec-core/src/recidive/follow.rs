//! A log on its way into the counter: the merged log, entry by entry, or the index, line by line.
//!
//! The `Tail` finds new bytes, over rotation and restarts; the `Splitter` or `Lines` cut them; the
//! `Counter` decides. An entry with a flag of the splitter (interleaved) counts as a defect: whose
//! status it is cannot be told.
//!
//! An entry that stands open holds up what is behind it. It is ended, and what it held up is read
//! again, if it was not closed for [`PATIENCE`], or if the file is over because it was rotated.
//!
//! The checkpoint stands behind the last entry that was counted, not behind the last byte read, so a
//! restart begins with an entry that was cut in two.

use std::io;
use std::time::Duration;

use tracing::warn;

use super::LogSource;
use super::counter::Counter;
use super::dedup::EntryKey;
use crate::format;
use crate::ledger::Offender;
use crate::logfile::{Checkpoint, Content, EntryTimeout, Growth, Line, Lines, Recognition, Tail};
use crate::serial_log::{InputState, Piece, Splitter};

/// Bytes of one entry that are kept; a larger one counts by its own file only.
pub(super) const HELD: usize = 64 << 20;
/// How long the old log must be quiet after a rotation: a batch may be under way.
const ROTATION: Duration = Duration::from_secs(1);
/// An append takes milliseconds. An entry that stands open at the end of the log for that long
/// will not be closed any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The merged log or the index, and what was read of it but not used yet.
#[derive(Debug)]
pub(super) struct Follow {
    /// Finds new bytes, over rotations and restarts.
    tail: Tail,
    /// What the bytes are cut into, and those that are not used yet.
    shape: Shape,
    /// Finds out whether the log is what it was named for, and says so if it is not.
    recognition: Box<Recognition>,
    /// Since when the last entry has been without its end.
    timeout: EntryTimeout,
    /// The last error, so that it is reported once.
    failed: bool,
}

/// What is cut out of the bytes.
#[derive(Debug)]
enum Shape {
    /// Entries of any dialect.
    Entries(Box<Splitter>),
    /// Lines of the index (`SecAuditLog` in concurrent mode).
    Lines(Lines),
}

impl Follow {
    /// Opens the log and goes on at `mark`, wherever rotation has put that place. Without a mark, or
    /// if the place is gone, reading begins at the start of the log; entries that were counted are
    /// known by their bytes then, lines of an index by the mark alone.
    ///
    /// # Errors
    ///
    /// What opening the log or listing its directory said. A log that is not there is no error.
    pub(super) fn new(source: &LogSource, mark: Option<&Checkpoint>) -> io::Result<Follow> {
        let (LogSource::Merged(path) | LogSource::Index(path)) = source;
        let tail = Tail::new(path.clone(), mark)?.with_patience(ROTATION);
        if mark.is_some() && !tail.is_continued() {
            warn!(
                ?path,
                "neither the log that was read before, nor beside it: starting at its beginning"
            );
        }
        tail.say_if_absent();
        let (shape, content) = match source {
            LogSource::Merged(_) => {
                let splitter = Splitter::new(tail.offset(), HELD);
                (Shape::Entries(Box::new(splitter)), Content::Entries)
            }
            LogSource::Index(_) => (Shape::Lines(Lines::default()), Content::LinesWithClient),
        };
        Ok(Follow {
            recognition: Box::new(Recognition::new(content, tail.offset())),
            tail,
            shape,
            timeout: EntryTimeout::after(PATIENCE),
            failed: false,
        })
    }

    /// Returns where to go on after a restart.
    ///
    /// `None` if the log is not there, or cannot be read now.
    pub(super) fn checkpoint(&mut self) -> Option<Checkpoint> {
        let unread = match &self.shape {
            Shape::Entries(splitter) => splitter.unread(),
            Shape::Lines(lines) => lines.unread() as u64,
        };
        self.tail.checkpoint(unread).ok()?
    }

    /// Reads a piece of the log and counts what is in it; returns `true` if there may be more.
    pub(super) fn step(
        &mut self,
        counter: &mut Counter,
        report: &mut impl FnMut(Offender),
    ) -> bool {
        let buffer = match &mut self.shape {
            Shape::Entries(splitter) => splitter.buffer(),
            Shape::Lines(lines) => lines.buffer(),
        };
        let growth = match self.tail.read(buffer) {
            Ok(growth) => growth,
            Err(error) => {
                if !std::mem::replace(&mut self.failed, true) {
                    warn!(path = ?self.tail.path(), %error, "log not read, trying again");
                }
                return false;
            }
        };
        self.failed = false;
        match &mut self.shape {
            Shape::Entries(_) => {
                // A file that is over has no more than what is here: its last entry has nothing
                // behind it that would close it, and holds nothing up any longer.
                let input = match growth {
                    Growth::Grown => InputState::More,
                    Growth::End | Growth::Restarted => InputState::Quiet,
                    Growth::Over => InputState::End,
                };
                if self.count_entries(input, growth == Growth::Restarted, counter, report) {
                    return true;
                }
            }
            Shape::Lines(lines) => {
                if growth == Growth::Restarted {
                    lines.clear();
                    self.recognition.restart(self.tail.offset());
                }
                self.count_lines(counter, report);
                self.recognition.look_at_lines(&mut self.tail, growth);
            }
        }
        self.give_up_if_stuck(growth, counter, report);
        growth != Growth::End
    }

    /// Takes an entry that nobody will finish as it is.
    fn give_up_if_stuck(
        &mut self,
        growth: Growth,
        counter: &mut Counter,
        report: &mut impl FnMut(Offender),
    ) {
        let Shape::Entries(splitter) = &mut self.shape else {
            return;
        };
        if self.timeout.is_given_up(splitter, growth) {
            warn!(path = ?self.tail.path(), "entry without end in the log, taken as it is");
            self.count_entries(InputState::End, false, counter, report);
        }
        if let Shape::Entries(splitter) = &self.shape {
            let from = splitter.unrecognized_from();
            self.recognition.look(from, &mut self.tail, growth);
        }
    }

    /// Counts what the splitter has; a splitter for the next file takes its place if there is one.
    /// Returns `true` if the log is to be read again from an earlier place, as a large entry turned
    /// out to have no end.
    fn count_entries(
        &mut self,
        input: InputState,
        is_restarted: bool,
        counter: &mut Counter,
        report: &mut impl FnMut(Offender),
    ) -> bool {
        let Shape::Entries(splitter) = &mut self.shape else {
            return false;
        };
        let mut overrun = None;
        while let Some(piece) = splitter.next(input) {
            let offender = match piece {
                Piece::Entry { at, bytes, flags } if flags.is_empty() => {
                    match format::decode(bytes) {
                        Ok(record) => {
                            self.recognition.found();
                            counter.record(&record, || EntryKey::of(bytes), 0)
                        }
                        Err(defect) => {
                            self.recognition.defect(self.tail.path(), at, defect);
                            counter.defect()
                        }
                    }
                }
                Piece::Part(_) => None,
                Piece::End {
                    at,
                    len,
                    overrun: true,
                    ..
                } => {
                    overrun = Some(at + len);
                    break;
                }
                Piece::Unrecognized { at, .. } => {
                    if input == InputState::End {
                        self.recognition.ended(at, &mut self.tail);
                    }
                    counter.defect()
                }
                // Whose status it is in an interleaved entry, nobody can tell.
                Piece::Entry { .. } | Piece::End { .. } => {
                    self.recognition.found();
                    counter.defect()
                }
            };
            offender.into_iter().for_each(&mut *report);
        }
        if is_restarted {
            **splitter = Splitter::new(self.tail.offset(), HELD);
            self.recognition.restart(self.tail.offset());
        } else if let Some(offset) = overrun {
            splitter.rewind(offset);
            self.tail.seek(offset);
            return true;
        }
        false
    }

    /// Counts the whole lines that were read. What stands behind the last line end waits for more.
    fn count_lines(&mut self, counter: &mut Counter, report: &mut impl FnMut(Offender)) {
        let Shape::Lines(lines) = &mut self.shape else {
            return;
        };
        loop {
            let at = self.tail.offset() - lines.unread() as u64;
            let before = counter.tally.defects;
            let offender = match lines.next() {
                None => return,
                Some(Line::Whole(line)) => counter.index_line(line),
                Some(Line::TooLong) => counter.long_line(),
            };
            self.recognition.line(at, counter.tally.defects == before);
            offender.into_iter().for_each(&mut *report);
        }
    }
}

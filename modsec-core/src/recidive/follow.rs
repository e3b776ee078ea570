//! A log on its way into the counter.

use std::io;
use std::time::{Duration, Instant};

use tracing::warn;

use super::counter::Counter;
use super::{LogSource, Offender};
use crate::serial_log::{Outlook, Piece, Splitter};
use crate::tail::{Bookmark, Growth, Tail};

/// Longest index line (`ModSecurity` cuts at 3980 bytes), with room.
const MAX_LINE: usize = 64 * 1024;
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
    tail: Tail,
    shape: Shape,
    /// Where an entry stands open, and since when.
    open_since: Option<(u64, Instant)>,
    /// The last error, so that it is reported once.
    failed: bool,
}

#[derive(Debug)]
enum Shape {
    Entries(Box<Splitter>),
    Lines(Vec<u8>),
}

impl Follow {
    pub(super) fn new(source: &LogSource, bookmark: Option<Bookmark>) -> io::Result<Follow> {
        let (LogSource::Merged(path) | LogSource::Index(path)) = source;
        let tail = Tail::new(path.clone(), bookmark)?.with_patience(ROTATION);
        let shape = match source {
            LogSource::Merged(_) => Shape::Entries(Box::new(Splitter::new(tail.offset(), HELD))),
            LogSource::Index(_) => Shape::Lines(Vec::new()),
        };
        Ok(Follow {
            tail,
            shape,
            open_since: None,
            failed: false,
        })
    }

    /// Returns where to go on after a restart.
    pub(super) fn bookmark(&self) -> Option<Bookmark> {
        self.tail.bookmark(match &self.shape {
            Shape::Entries(splitter) => usize::try_from(splitter.unread()).unwrap_or(usize::MAX),
            Shape::Lines(buffer) => buffer.len(),
        })
    }

    /// Reads a piece of the log and counts what is in it; tells whether there may be more.
    pub(super) fn step(
        &mut self,
        counter: &mut Counter,
        report: &mut impl FnMut(Offender),
    ) -> bool {
        let buffer = match &mut self.shape {
            Shape::Entries(splitter) => splitter.buffer(),
            Shape::Lines(buffer) => buffer,
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
            Shape::Entries(splitter) => {
                // With another file at the path, the old one has no more than what is here: its
                // last entry has nothing behind it that would close it.
                let outlook = match growth {
                    Growth::Grown => Outlook::More,
                    Growth::End | Growth::Restarted => Outlook::Quiet,
                };
                let overrun = count_entries(splitter, outlook, counter, report);
                if growth == Growth::Restarted {
                    **splitter = Splitter::new(self.tail.offset(), HELD);
                } else if let Some(offset) = overrun {
                    self.tail.seek(offset);
                    return true;
                }
            }
            Shape::Lines(buffer) => {
                if growth == Growth::Restarted {
                    buffer.clear();
                }
                count_lines(buffer, counter, report);
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
        // That the log goes on behind the entry does not count: its end is written with it.
        let at = splitter.position();
        if !splitter.is_open() || self.open_since.is_none_or(|(open, _)| open != at) {
            self.open_since = splitter.is_open().then(|| (at, Instant::now()));
            return;
        }
        let stuck = self
            .open_since
            .is_some_and(|(_, since)| since.elapsed() > PATIENCE);
        if stuck && growth == Growth::End {
            warn!(path = ?self.tail.path(), "entry without end in the log, taken as it is");
            if let Some(offset) = count_entries(splitter, Outlook::End, counter, report) {
                self.tail.seek(offset);
            }
            self.open_since = None;
        }
    }
}

/// Counts what the splitter has. If a large entry turned out to have no end, returns from which
/// offset of the log to read again.
fn count_entries(
    splitter: &mut Splitter,
    outlook: Outlook,
    counter: &mut Counter,
    report: &mut impl FnMut(Offender),
) -> Option<u64> {
    while let Some(piece) = splitter.next(outlook) {
        let offender = match piece {
            Piece::Entry { bytes, flags, .. } if flags.is_empty() => counter.entry(bytes, 0),
            Piece::Part(_) => None,
            Piece::End {
                at, len, overrun, ..
            } => {
                if overrun {
                    splitter.rewind(at + len);
                    return Some(at + len);
                }
                counter.defect()
            }
            // Whose status it is in an interleaved entry, nobody can tell.
            Piece::Entry { .. } | Piece::Foreign { .. } => counter.defect(),
        };
        offender.into_iter().for_each(&mut *report);
    }
    None
}

fn count_lines(buffer: &mut Vec<u8>, counter: &mut Counter, report: &mut impl FnMut(Offender)) {
    let mut used = 0;
    while let Some(end) = memchr::memchr(b'\n', &buffer[used..]) {
        let offender = counter.index_line(&buffer[used..used + end]);
        offender.into_iter().for_each(&mut *report);
        used += end + 1;
    }
    buffer.drain(..used);
    if buffer.len() > MAX_LINE {
        buffer.clear();
        counter.defect();
    }
}

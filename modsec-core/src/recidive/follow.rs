//! A log on its way into the counter.

use std::io;
use std::time::{Duration, Instant};

use tracing::warn;

use super::counter::Counter;
use super::pieces::Pieces;
use super::{LogSource, Offender};
use crate::tail::{Bookmark, Growth, Tail};

/// Longest index line (`ModSecurity` cuts at 3980 bytes), with room.
const MAX_LINE: usize = 64 * 1024;
/// An append takes milliseconds. An entry that stands open at the end of the log for that long
/// will not be closed any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// The merged log or the index, and what was read of it but not used yet.
#[derive(Debug)]
pub(super) struct Follow {
    tail: Tail,
    shape: Shape,
    open_since: Option<Instant>,
    /// The last error, so that it is reported once.
    failed: bool,
}

#[derive(Debug)]
enum Shape {
    Entries(Pieces),
    Lines(Vec<u8>),
}

impl Follow {
    pub(super) fn new(source: &LogSource, bookmark: Option<Bookmark>) -> io::Result<Follow> {
        let (path, shape) = match source {
            LogSource::Merged(path) => (path, Shape::Entries(Pieces::default())),
            LogSource::Index(path) => (path, Shape::Lines(Vec::new())),
        };
        Ok(Follow {
            tail: Tail::new(path.clone(), bookmark)?,
            shape,
            open_since: None,
            failed: false,
        })
    }

    /// Returns where to go on after a restart.
    pub(super) fn bookmark(&self) -> Option<Bookmark> {
        self.tail.bookmark(match &self.shape {
            Shape::Entries(pieces) => pieces.unread(),
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
            Shape::Entries(pieces) => pieces.buffer(),
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
            Shape::Entries(pieces) => {
                // With another file at the path, the old one has no more than what is here: its
                // last entry has nothing behind it that would close it.
                while let Some(entry) = pieces.next(growth != Growth::Grown) {
                    counter.entry(entry, 0).into_iter().for_each(&mut *report);
                }
                if growth == Growth::Restarted {
                    pieces.restart();
                }
            }
            Shape::Lines(buffer) => {
                if growth == Growth::Restarted {
                    buffer.clear();
                }
                count_lines(buffer, counter, report);
            }
        }
        self.give_up_if_stuck(growth);
        growth != Growth::End
    }

    /// Drops the beginning of an entry that nobody will finish, and all behind it up to here.
    fn give_up_if_stuck(&mut self, growth: Growth) {
        let Shape::Entries(pieces) = &mut self.shape else {
            return;
        };
        if growth != Growth::End || !pieces.is_open() {
            self.open_since = None;
            return;
        }
        let since = *self.open_since.get_or_insert_with(Instant::now);
        if since.elapsed() > PATIENCE {
            warn!(path = ?self.tail.path(), "entry without end in the log, skipped to the end");
            pieces.restart();
            self.open_since = None;
        }
    }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::counter::testing::entry;
    use super::super::seen::Seen;
    use super::super::{Attacks, Ledger, LedgerOptions};
    use super::*;
    use crate::record::TrustedProxies;

    #[test]
    fn the_last_entry_of_a_log_that_is_rotated_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let attack = |peer: &str| entry(peer, "", "", "403 Forbidden") + "\n";
        fs::write(&path, attack("192.0.2.1") + &attack("192.0.2.2")).unwrap();
        let mut follow = Follow::new(&LogSource::Merged(path.clone()), None).unwrap();
        // Before all of it was read.
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        fs::write(&path, attack("192.0.2.3")).unwrap();
        let mut counter = Counter {
            attacks: Attacks::default(),
            proxies: TrustedProxies::default(),
            ledger: Ledger::new(LedgerOptions::default()).unwrap(),
            seen: Seen::default(),
            tally: super::super::Tally::default(),
        };
        while follow.step(&mut counter, &mut |_| {}) {}
        assert_eq!(counter.tally.attacks, 3);
    }
}

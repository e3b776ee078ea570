//! Noticing an entry at the end of a growing log that its writer will not finish.
//!
//! An Apache process that is killed while it writes leaves an entry without its last part. Its end
//! is found only when the next entry begins, which on a quiet server may take days. So after a
//! while the entry is handed out as it is, as if the log ended there.

use std::time::{Duration, Instant};

use super::Growth;
use crate::serial_log::Splitter;

/// The clock of the entry that stands open at the end of a log.
#[derive(Debug)]
pub(crate) struct EntryTimeout {
    /// How long an entry may stand open.
    patience: Duration,
    /// The offset of the open entry in the log, and since when it has been seen to be open.
    open: Option<(u64, Instant)>,
}

impl EntryTimeout {
    /// Gives an entry up after it has stood open for `patience`.
    pub(crate) fn after(patience: Duration) -> EntryTimeout {
        EntryTimeout {
            patience,
            open: None,
        }
    }

    /// Returns `true` if the entry at which `splitter` is has been open for too long, and the log
    /// has no more bytes (`growth`). Call it after each read.
    ///
    /// As long as bytes come, the entry is not given up: its end is still to be read.
    pub(crate) fn is_given_up(&mut self, splitter: &Splitter, growth: Growth) -> bool {
        let at = splitter.position();
        if !splitter.is_open() {
            self.open = None;
            return false;
        }
        match self.open {
            Some((open, since)) if open == at => {
                let is_over = growth == Growth::End && since.elapsed() > self.patience;
                if is_over {
                    self.open = None;
                }
                is_over
            }
            _ => {
                self.open = Some((at, Instant::now()));
                false
            }
        }
    }
}

//! An entry that stands open at the end of a log.

use std::time::{Duration, Instant};

use super::Growth;
use crate::serial_log::Splitter;

/// Notices that nobody will finish an entry.
#[derive(Debug)]
pub(crate) struct Stuck {
    patience: Duration,
    /// Where an entry stands open, and since when.
    open: Option<(u64, Instant)>,
}

impl Stuck {
    /// Waits for the end of an entry as long as `patience`.
    pub(crate) fn after(patience: Duration) -> Stuck {
        Stuck {
            patience,
            open: None,
        }
    }

    /// Returns `true` if the entry at hand has been open for too long and the log has ended. That
    /// the log goes on behind it does not count: its end is written with it.
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

//! Handing offenders over, and not losing one because a disk is full.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::path::Path;

use chrono::Utc;
use tracing::{error, info, warn};

use super::state::{JailFile, Report};
use crate::ban::{JailLog, JailLogError, JailMark, LINES_PER_MARK, jail_line};
use crate::ledger::Offender;

/// Lines kept while the jail file cannot be written, 40 bytes each.
const MAX_UNSENT: usize = 1 << 16;

/// Writes to the jail file, or to standard output in a dry run.
#[derive(Debug)]
pub(super) struct Reporter {
    /// The jail file; `None` in a dry run.
    jail: Option<JailLog>,
    /// Offenders that were not written yet, oldest first; [`MAX_UNSENT`] at the most.
    unsent: VecDeque<Report>,
    /// Offenders that were dropped because `unsent` was full; at the end, also those that are left
    /// in it.
    lost: u64,
    /// Lines written since the state was saved.
    unmarked: usize,
    /// Why standard output does not take lines any more.
    lost_output: Option<io::Error>,
}

/// Returns which of `unsent` were written after all, and what else was written.
fn without(unsent: &[Report], written: Vec<Report>) -> (VecDeque<Report>, Vec<Report>) {
    let mut unsent = VecDeque::from(unsent.to_vec());
    let is_other = |(network, at): &Report| {
        let is_same = |other: &Report| (other.0, other.1.timestamp()) == (*network, at.timestamp());
        // They are written in their order.
        let is_first = unsent.front().is_some_and(is_same);
        if is_first {
            unsent.pop_front();
        }
        !is_first
    };
    let others = written.into_iter().filter(is_other).collect();
    (unsent, others)
}

impl Reporter {
    /// Opens the jail file; without one, lines go to standard output. `unsent` was not handed over
    /// by the run before.
    ///
    /// Returns also what that run wrote behind `mark`, and did not note in its state.
    pub(super) fn open(
        path: Option<&Path>,
        mark: Option<JailMark>,
        unsent: &[Report],
    ) -> Result<(Reporter, Vec<Report>), JailLogError> {
        let jail = path.map(JailLog::open).transpose()?;
        let written = match (&jail, mark) {
            (Some(jail), Some(mark)) => jail.lines_since(&mark)?,
            _ => Vec::new(),
        };
        let (unsent, written) = without(unsent, written);
        let reporter = Reporter {
            jail,
            unsent,
            lost: 0,
            unmarked: 0,
            lost_output: None,
        };
        Ok((reporter, written))
    }

    /// Hands over an offender, at once or as soon as it is possible.
    pub(super) fn report(&mut self, offender: &Offender) {
        let Offender {
            network,
            at,
            attacks,
            reports,
        } = offender;
        // Fail2ban does not know what to do with the future; a clock may have been ahead.
        let at = (*at).min(Utc::now());
        info!(client = %network, %at, attacks, reports, "offender reported");
        if self.unsent.len() == MAX_UNSENT {
            self.unsent.pop_front();
            self.lost += 1;
        }
        self.unsent.push_back((*network, at));
        if self.unsent.len() == 1 {
            self.send();
        }
    }

    /// Writes what could not be written before; returns `true` if nothing is left.
    pub(super) fn send(&mut self) -> bool {
        while let Some(&(network, at)) = self.unsent.front() {
            let sent = if let Some(jail) = &mut self.jail {
                jail.report(network, at)
            } else {
                self.print(&jail_line(network, at));
                Ok(())
            };
            if let Err(error) = sent {
                if self.unsent.len() == 1 {
                    warn!(%error, cause = std::error::Error::source(&error).map(tracing::field::display), "jail file not written, trying again");
                }
                return false;
            }
            self.unsent.pop_front();
            self.unmarked += 1;
        }
        true
    }

    /// Writes a line to standard output, unless one was lost before.
    fn print(&mut self, line: &str) {
        if self.lost_output.is_none() {
            let mut out = io::stdout().lock();
            let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            self.lost_output = written.err();
        }
    }

    /// Returns why standard output has taken a line less than was reported, once.
    pub(super) fn lost_output(&mut self) -> Option<io::Error> {
        self.lost_output.take()
    }

    /// Returns how far the jail file has been written.
    pub(super) fn mark(&self) -> Option<JailMark> {
        self.jail.as_ref()?.mark().ok()
    }

    /// Returns what was not handed over yet.
    pub(super) fn unsent(&self) -> impl Iterator<Item = Report> {
        self.unsent.iter().copied()
    }

    /// Returns `true` if so many lines were written that the state should be saved.
    pub(super) fn is_mark_due(&self) -> bool {
        self.unmarked >= LINES_PER_MARK
    }

    /// Returns the jail file, for whoever saves a state that says what is in it.
    pub(super) fn marked(&mut self) -> Option<JailFile> {
        self.unmarked = 0;
        let jail = self.jail.as_ref()?;
        Some(JailFile {
            path: jail.path().to_owned(),
            file: jail.try_clone_file(),
        })
    }

    /// Opens the jail file anew, after SIGHUP.
    pub(super) fn reopen(&mut self) {
        if let Some(jail) = &mut self.jail
            && let Err(error) = jail.reopen()
        {
            warn!(%error, cause = std::error::Error::source(&error).map(tracing::field::display), "jail file not reopened, going on with the old one");
        }
    }

    /// Makes a last attempt; returns how many were not handed over.
    pub(super) fn finish(&mut self) -> u64 {
        if !self.send() {
            self.lost += self.unsent.len() as u64;
        }
        if self.lost > 0 {
            error!(lines = self.lost, "offenders not handed over");
        }
        self.lost
    }
}

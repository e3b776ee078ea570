//! Handing offenders over, and not losing one because a disk is full.

use std::collections::VecDeque;
use std::io::Write as _;
use std::path::Path;

use chrono::{DateTime, Utc};
use ipnet::IpNet;
use tracing::{error, info, warn};

use crate::ban::{JailLog, JailLogError, JailMark, jail_line};
use crate::ledger::Offender;

/// Lines kept while the jail file cannot be written, 40 bytes each.
const MAX_UNSENT: usize = 1 << 16;

/// Writes to the jail file, or to standard output in a dry run.
#[derive(Debug)]
pub(super) struct Reporter {
    jail: Option<JailLog>,
    unsent: VecDeque<(IpNet, DateTime<Utc>)>,
    lost: u64,
}

impl Reporter {
    /// Opens the jail file; without one, lines go to standard output.
    ///
    /// What an interrupted run wrote behind `mark` is not written again.
    pub(super) fn open(
        path: Option<&Path>,
        mark: Option<JailMark>,
    ) -> Result<Reporter, JailLogError> {
        let mut jail = path.map(JailLog::open).transpose()?;
        if let Some((jail, mark)) = jail.as_mut().zip(mark) {
            jail.skip_written_since(&mark)?;
        }
        Ok(Reporter {
            jail,
            unsent: VecDeque::new(),
            lost: 0,
        })
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
                // Nobody reads it any more if this fails.
                let _ = std::io::stdout().write_all(jail_line(network, at).as_bytes());
                Ok(())
            };
            if let Err(error) = sent {
                if self.unsent.len() == 1 {
                    warn!(%error, cause = std::error::Error::source(&error).map(tracing::field::display), "jail file not written, trying again");
                }
                return false;
            }
            self.unsent.pop_front();
        }
        true
    }

    /// Returns how far the jail file has been written.
    pub(super) fn mark(&self) -> Option<JailMark> {
        self.jail.as_ref()?.mark().ok()
    }

    /// Forgets what an interrupted run wrote.
    pub(super) fn forget_written_before(&mut self) {
        self.jail
            .iter_mut()
            .for_each(JailLog::forget_written_before);
    }

    /// Opens the jail file anew, after SIGHUP.
    pub(super) fn reopen(&mut self) {
        if let Some(jail) = &mut self.jail
            && let Err(error) = jail.reopen()
        {
            warn!(%error, cause = std::error::Error::source(&error).map(tracing::field::display), "jail file not reopened, the old one stays in use");
        }
    }

    /// Makes a last attempt and says what was lost.
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

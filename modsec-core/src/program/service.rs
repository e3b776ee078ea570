//! The service manager, if there is one.

use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

/// The connection to systemd of a unit with `Type=notify`.
///
/// Without `NOTIFY_SOCKET` in the environment every call does nothing. Failures are logged at
/// `debug` only: a program must not fail because nobody listens.
#[derive(Debug, Clone, Default)]
pub struct Service {
    watchdog: Option<Duration>,
}

impl Service {
    /// Reads what the service manager has put into the environment.
    pub fn from_env() -> Self {
        Self {
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// Returns how often [`Service::alive`] is to be called: half of `WatchdogSec`.
    ///
    /// `None` if the unit has no watchdog. Call it from the loop that does the work, so that a
    /// loop that hangs is noticed.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|period| period / 2)
    }

    /// Says that the program works now (`READY=1`).
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// Says that the program still works (`WATCHDOG=1`).
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// Shows one line of text in `systemctl status`.
    pub fn status(&self, text: &str) {
        notify(&[NotifyState::Status(text)]);
    }

    /// Says that the program is about to end (`STOPPING=1`).
    pub fn stopping(&self) {
        notify(&[NotifyState::Stopping]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "service manager not reached");
    }
}

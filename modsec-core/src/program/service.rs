//! The service manager, if there is one.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

use crate::heartbeat::Heartbeat;

/// The connection to systemd of a unit with `Type=notify`.
///
/// Without `NOTIFY_SOCKET` in the environment nothing is reported, nor by the default, for what runs
/// inside another program. Failures are logged at `debug` only: a program must not fail because
/// nobody listens.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Whether anything is reported; `false` inside another program.
    reports: bool,
    /// `WatchdogSec` of the unit, from `WATCHDOG_USEC`; `None` if it has none.
    watchdog: Option<Duration>,
}

impl Service {
    /// Reads what the service manager has put into the environment.
    pub fn from_env() -> Self {
        Self {
            reports: true,
            watchdog: sd_notify::watchdog_enabled(),
        }
    }

    /// Says that the program works now (`READY=1`).
    pub(super) fn ready(&self) {
        self.say(NotifyState::Ready);
    }

    /// Says that the program still works (`WATCHDOG=1`) each time all `heartbeats` have beaten
    /// again, until the returned value is dropped. Does nothing if the unit has no watchdog.
    ///
    /// A thread looks four times per `WatchdogSec`, so a heartbeat may stand still for three quarters
    /// of that, and the program is ended after five quarters at the latest.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub(super) fn watch(&self, heartbeats: Vec<Heartbeat>) -> io::Result<Option<Watchdog>> {
        let Some(period) = self.watchdog else {
            return Ok(None);
        };
        let service = self.clone();
        let (handle, dropped) = channel::<std::convert::Infallible>();
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                let mut last: Vec<u64> = heartbeats.iter().map(Heartbeat::count).collect();
                while dropped.recv_timeout(period / 4) == Err(RecvTimeoutError::Timeout) {
                    let now: Vec<u64> = heartbeats.iter().map(Heartbeat::count).collect();
                    if now.iter().zip(&last).all(|(now, last)| now != last) {
                        service.say(NotifyState::Watchdog);
                        last = now;
                    }
                }
            })?;
        Ok(Some(Watchdog { _handle: handle }))
    }

    /// Shows one line of text in `systemctl status`.
    pub(super) fn status(&self, text: &str) {
        self.say(NotifyState::Status(text));
    }

    /// Says that the program is about to end (`STOPPING=1`).
    pub(super) fn stopping(&self) {
        self.say(NotifyState::Stopping);
    }

    /// Sends one message to the service manager, see `sd_notify(3)`. Does nothing if nothing is to be
    /// reported. A failure is logged at `debug`.
    fn say(&self, state: NotifyState<'_>) {
        if self.reports
            && let Err(error) = sd_notify::notify(&[state])
        {
            debug!(%error, "service manager not reached");
        }
    }
}

/// A thread that passes signs of life on to the service manager. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// The thread ends once this is dropped; nothing is ever sent.
    _handle: Sender<std::convert::Infallible>,
}

//! The service manager, if there is one.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

use crate::heart::Heart;

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

    /// Says that the program still works each time all `hearts` have beaten again, until the
    /// returned value is dropped. Does nothing if the unit has no watchdog.
    ///
    /// A thread looks four times per `WatchdogSec`, so a heart may stand still for three quarters
    /// of that, and the program is ended after five quarters at the latest.
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub fn watch(&self, hearts: Vec<Heart>) -> io::Result<Option<Watchdog>> {
        let Some(period) = self.watchdog else {
            return Ok(None);
        };
        let service = self.clone();
        let (handle, dropped) = channel::<std::convert::Infallible>();
        thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || {
                let mut last: Vec<u64> = hearts.iter().map(Heart::beats).collect();
                while dropped.recv_timeout(period / 4) == Err(RecvTimeoutError::Timeout) {
                    let now: Vec<u64> = hearts.iter().map(Heart::beats).collect();
                    if now.iter().zip(&last).all(|(now, last)| now != last) {
                        service.alive();
                        last = now;
                    }
                }
            })?;
        Ok(Some(Watchdog { _handle: handle }))
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

/// A thread that passes signs of life on to the service manager. Dropping this ends it.
#[derive(Debug)]
pub struct Watchdog {
    _handle: Sender<std::convert::Infallible>,
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "service manager not reached");
    }
}

//! What every service does from its start to its end.

use std::fmt;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::service::{Service, Watchdog};
use super::signals::{Hangups, Signals, Stop};
use crate::heartbeat::Heartbeat;

/// Signals, service manager and watchdog of one service.
///
/// The loop of a service works, and waits in it for what comes next. That also
/// answers a request to stop, a hangup, and the time at which the service manager wants to hear
/// that the service is ready.
///
/// ```no_run
/// use modsec_core::program::{Lifecycle, Service, Signals};
///
/// let signals = Signals::listen()?;
/// let reopen = || println!("opening files again");
/// let lifecycle = Lifecycle::new(signals, Service::from_env()).on_hangup(reopen);
/// # Ok::<(), modsec_core::program::ProgramError>(())
/// ```
pub struct Lifecycle<'a> {
    /// SIGTERM or SIGINT, or a stop by a caller.
    stop: Stop,
    /// SIGHUP.
    hangups: Hangups,
    /// What the program does at a hangup; nothing by default.
    on_hangup: Box<dyn FnMut() + Send + 'a>,
    /// What the program does once the service is ready; taken when it was done.
    on_ready: Option<Box<dyn FnOnce() + Send + 'a>>,
    /// The service manager, to which readiness and status are reported.
    service: Service,
    /// Whether readiness was reported.
    readiness: Readiness,
    /// The thread that reports signs of life; `None` before [`Lifecycle::watch`] and without a
    /// watchdog.
    watchdog: Option<Watchdog>,
}

/// Whether the service manager knows that the service works.
#[derive(Debug, Clone, Copy)]
enum Readiness {
    /// It does not. Readiness is reported at this time at the latest; without one, when the service
    /// calls for it.
    Starting(Option<Instant>),
    /// It does. This is reported once.
    Ready,
}

/// What ended a wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wake<T> {
    /// A stop is requested.
    Stop,
    /// A hangup, which was answered by what the program does then.
    Hangup,
    /// What was waited for.
    Done(T),
}

impl fmt::Debug for Lifecycle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("stop", &self.stop)
            .field("service", &self.service)
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

impl<'a> Lifecycle<'a> {
    /// Listens to `signals` and reports to `service`.
    pub fn new(signals: Signals, service: Service) -> Self {
        let Signals { stop, hangups } = signals;
        Self {
            stop,
            hangups,
            on_hangup: Box::new(|| {}),
            on_ready: None,
            service,
            readiness: Readiness::Starting(None),
            watchdog: None,
        }
    }

    /// Calls `answer` at each hangup, before the service itself opens its files again.
    #[must_use]
    pub fn on_hangup(self, answer: impl FnMut() + Send + 'a) -> Self {
        Self {
            on_hangup: Box::new(answer),
            ..self
        }
    }

    /// Calls `answer` when the service is ready.
    #[must_use]
    pub fn on_ready(self, answer: impl FnOnce() + Send + 'a) -> Self {
        Self {
            on_ready: Some(Box::new(answer)),
            ..self
        }
    }

    /// Returns the request to stop.
    pub(crate) fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Says that the service is ready; once, however often it is called.
    pub(crate) fn ready(&mut self) {
        if matches!(self.readiness, Readiness::Starting(_)) {
            self.readiness = Readiness::Ready;
            debug!("ready");
            self.service.ready();
            self.on_ready.take().into_iter().for_each(|answer| answer());
        }
    }

    /// Says so after this time, if not before.
    pub(crate) fn ready_within(&mut self, time: Duration) {
        if matches!(self.readiness, Readiness::Starting(_)) {
            self.readiness = Readiness::Starting(Some(Instant::now() + time));
        }
    }

    /// Reports these heartbeats to the watchdog from now on, see [`Service::watch`].
    ///
    /// # Errors
    ///
    /// The thread could not be started.
    pub(crate) fn watch(&mut self, heartbeats: Vec<Heartbeat>) -> io::Result<()> {
        self.watchdog = self.service.watch(heartbeats)?;
        Ok(())
    }

    /// Shows one line of text in `systemctl status`.
    pub(crate) fn status(&self, text: &str) {
        self.service.status(text);
    }

    /// Says that the service is about to end.
    pub(crate) fn stopping(&self) {
        self.service.stopping();
    }

    /// Waits until `next` is done, a stop is requested, or a hangup comes; in this order if there
    /// are several. A `next` that is not done is dropped.
    pub(crate) async fn until<T>(&mut self, next: impl Future<Output = T>) -> Wake<T> {
        let mut next = pin!(next);
        loop {
            let due = match self.readiness {
                Readiness::Starting(due) => due,
                Readiness::Ready => None,
            };
            tokio::select! {
                biased;
                () = self.stop.wait() => return Wake::Stop,
                () = or_never(due.map(sleep_until)) => self.ready(),
                () = self.hangups.next() => {
                    (self.on_hangup)();
                    return Wake::Hangup;
                }
                done = &mut next => return Wake::Done(done),
            }
        }
    }
}

/// Waits for what there is, or for ever.
pub(crate) async fn or_never<T>(next: Option<impl Future<Output = T>>) -> T {
    match next {
        Some(next) => next.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::{advance, sleep, timeout};

    use super::super::signals::{HangupHandle, StopHandle};
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn lifecycle<'a>() -> (StopHandle, HangupHandle, Lifecycle<'a>) {
        let (stop_handle, stop) = Stop::new();
        let (hangup_handle, hangups) = Hangups::new();
        let signals = Signals { stop, hangups };
        let lifecycle = Lifecycle::new(signals, Service::default());
        (stop_handle, hangup_handle, lifecycle)
    }

    fn is_ready(lifecycle: &Lifecycle<'_>) -> bool {
        matches!(lifecycle.readiness, Readiness::Ready)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_goes_before_a_hangup_and_that_before_work() {
        let hung_up = AtomicU32::new(0);
        let (stop, hangup, lifecycle) = lifecycle();
        let mut lifecycle = lifecycle.on_hangup(|| {
            hung_up.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(lifecycle.until(async { 7 }).await, Wake::Done(7));
        hangup.hang_up();
        hangup.hang_up();
        assert_eq!(lifecycle.until(async { 7 }).await, Wake::Hangup);
        assert_eq!(hung_up.load(Ordering::Relaxed), 1);
        assert_eq!(lifecycle.until(async { 7 }).await, Wake::Done(7));
        hangup.hang_up();
        stop.stop();
        for _ in 0..2 {
            assert_eq!(lifecycle.until(async { 7 }).await, Wake::Stop);
        }
        assert!(lifecycle.stop().requested());
        assert_eq!(hung_up.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_a_wait_at_once() {
        let (stop, _hangup, mut lifecycle) = lifecycle();
        let begun = Instant::now();
        let later = async {
            sleep(Duration::from_millis(10)).await;
            stop.stop();
        };
        let (wake, ()) = tokio::join!(lifecycle.until(sleep(HOUR)), later);
        assert_eq!(wake, Wake::Stop);
        assert_eq!(begun.elapsed(), Duration::from_millis(10));
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_said_when_it_is_due_and_the_wait_goes_on() {
        let (_stop, _hangup, mut lifecycle) = lifecycle();
        let _ = timeout(HOUR, lifecycle.until(sleep(2 * HOUR))).await;
        assert!(!is_ready(&lifecycle), "nobody has set a time");
        lifecycle.ready_within(Duration::from_secs(5));
        let waited = lifecycle.until(sleep(Duration::from_secs(4))).await;
        assert_eq!(waited, Wake::Done(()));
        assert!(!is_ready(&lifecycle));
        let waited = lifecycle.until(sleep(Duration::from_secs(4))).await;
        assert_eq!(waited, Wake::Done(()));
        assert!(is_ready(&lifecycle));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_service_is_ready_in_time() {
        let (_stop, _hangup, mut lifecycle) = lifecycle();
        lifecycle.ready_within(Duration::from_secs(5));
        for second in 0..8 {
            assert_eq!(is_ready(&lifecycle), second > 5, "{second}");
            let _ = lifecycle.until(async {}).await;
            advance(Duration::from_secs(1)).await;
        }
        lifecycle.ready_within(Duration::ZERO);
        assert!(is_ready(&lifecycle), "it stays so");
    }
}

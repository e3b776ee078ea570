//! SIGTERM and SIGINT as a request to stop, SIGHUP as a request to open files again.

use std::future;
use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use super::{Exit, ProgramError};

/// The signals that the programs answer.
#[derive(Debug)]
pub struct Signals {
    /// SIGTERM or SIGINT.
    pub stop: Stop,
    /// SIGHUP.
    pub hangups: Hangups,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT and SIGHUP for this process.
    ///
    /// They are received by a thread of their own, so that a runtime busy with blocking calls
    /// does not delay them.
    ///
    /// # Errors
    ///
    /// [`ProgramError::Signals`] if the system refuses a handler or a thread.
    pub fn listen() -> Result<Self, ProgramError> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(ProgramError::Signals)?;
        let [term, int, hup] = {
            let _inside = runtime.enter();
            let new = |kind| signal(kind).map_err(ProgramError::Signals);
            [
                new(SignalKind::terminate())?,
                new(SignalKind::interrupt())?,
                new(SignalKind::hangup())?,
            ]
        };
        let (handle, stop) = Stop::new();
        let (hangup, hangups) = Hangups::new();
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(forward(term, int, hup, handle, hangup)))
            .map_err(ProgramError::Signals)?;
        Ok(Self { stop, hangups })
    }
}

/// Makes a request of each signal: to stop after SIGTERM and SIGINT, to open files again after
/// SIGHUP. Runs as long as the process.
async fn forward(
    mut term: Signal,
    mut int: Signal,
    mut hup: Signal,
    handle: StopHandle,
    hangup: HangupHandle,
) {
    loop {
        tokio::select! {
            Some(()) = term.recv() => handle.stop_by(Exit::Terminated),
            Some(()) = int.recv() => handle.stop_by(Exit::Interrupted),
            Some(()) = hup.recv() => hangup.hang_up(),
            else => return,
        }
    }
}

/// A request to finish what is at hand and end; made by signals, or by a [`StopHandle`].
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<Option<Exit>>);

/// Makes the request that its [`Stop`] waits for.
#[derive(Debug)]
pub struct StopHandle(watch::Sender<Option<Exit>>);

impl Stop {
    /// Returns a request that has not been made yet, and the handle to make it.
    pub fn new() -> (StopHandle, Self) {
        let (sender, receiver) = watch::channel(None);
        (StopHandle(sender), Self(receiver))
    }

    /// Returns `true` if the request has been made.
    pub fn requested(&self) -> bool {
        self.exit().is_some()
    }

    /// Returns how a program ends that leaves work because of the request:
    /// [`Exit::Interrupted`] after SIGINT, else [`Exit::Terminated`]. `None` without a request.
    pub fn exit(&self) -> Option<Exit> {
        *self.0.borrow()
    }

    /// Waits for the request; for ever if its handle is gone without having made it.
    pub async fn wait(&mut self) {
        if self.0.wait_for(Option::is_some).await.is_err() {
            future::pending::<()>().await;
        }
    }
}

impl StopHandle {
    /// Makes the request. Cannot be taken back.
    pub fn stop(&self) {
        self.stop_by(Exit::Terminated);
    }

    /// Makes the request, after which a program ends with `exit` if it leaves work. The first
    /// request counts.
    fn stop_by(&self, exit: Exit) {
        self.0.send_if_modified(|first| {
            let is_new = first.is_none();
            first.get_or_insert(exit);
            is_new
        });
    }
}

/// SIGHUPs, of which several at once count as one.
#[derive(Debug)]
pub struct Hangups(watch::Receiver<()>);

/// Makes the hangups that its [`Hangups`] wait for.
#[derive(Debug)]
pub(crate) struct HangupHandle(watch::Sender<()>);

impl HangupHandle {
    /// Makes a hangup. Those that come before anybody waits count as one.
    pub(crate) fn hang_up(&self) {
        self.0.send_replace(());
    }
}

impl Hangups {
    /// Returns a source of hangups and what makes them.
    pub(crate) fn new() -> (HangupHandle, Self) {
        let (sender, receiver) = watch::channel(());
        (HangupHandle(sender), Self(receiver))
    }

    /// Returns hangups that never come, for a caller without signals.
    pub fn never() -> Self {
        Self(watch::channel(()).1)
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_clone_sees_the_request() {
        let (handle, mut stop) = Stop::new();
        let other = stop.clone();
        assert!(!other.requested());
        handle.stop();
        drop(handle);
        stop.wait().await;
        assert!(other.requested());
    }

    #[test]
    fn the_first_signal_decides_how_an_interrupted_program_ends() {
        let (handle, stop) = Stop::new();
        assert_eq!(stop.exit(), None);
        handle.stop_by(Exit::Interrupted);
        handle.stop();
        assert_eq!(stop.exit(), Some(Exit::Interrupted));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_handle_is_no_request() {
        let (handle, mut stop) = Stop::new();
        drop(handle);
        let waited = tokio::time::timeout(std::time::Duration::from_hours(1), stop.wait()).await;
        assert!(waited.is_err() && !stop.requested());
    }
}

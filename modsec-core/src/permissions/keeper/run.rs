//! The service: [`Keeper::run`], which goes on until it is stopped.
//!
//! Each round handles the events that are there, creates one directory ahead, and then waits for
//! the first of these: a request to stop, the tick, a new policy, another event. It does not wait
//! if there is more to do.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};
use tracing::info;

use super::{Keeper, Task};
use crate::heartbeat::Heartbeat;
use crate::permissions::{Change, KeepError, Policy, Tally};
use crate::program::{Lifecycle, Wake};
use crate::watch::{Event, READY_WITHIN, WatchError};

/// How often the clock is looked at. It may be set, and the machine may have slept.
const TICK: Duration = Duration::from_secs(1);

/// What ends a wait.
enum Next {
    /// A directory was found, or something happened to the storage directory.
    Event(Result<Event, WatchError>),
    /// Users or groups have changed.
    Policy,
    /// The clock is to be read.
    Tick,
    /// There is more to do: nothing was waited for.
    Turn,
}

impl Keeper {
    /// Corrects what is there and what appears until a stop is requested, and returns the counts.
    ///
    /// The service is ready when all that was there has been handled, or when the storage
    /// directory turns out to be absent and is waited for; in a large tree after five seconds. A
    /// policy that arrives by `policies` takes the place of the one in the options; without a
    /// sender the first remains.
    ///
    /// # Errors
    ///
    /// [`KeepError::Watch`] if inotify fails, [`KeepError::Thread`] if there is no thread for the
    /// watchdog. Whatever happens to the storage directory is logged and waited for.
    pub async fn run(
        mut self,
        lifecycle: &mut Lifecycle<'_>,
        mut policies: watch::Receiver<Policy>,
    ) -> Result<Tally, KeepError> {
        let heartbeat = Heartbeat::default();
        lifecycle.ready_within(READY_WITHIN);
        let heartbeats = vec![heartbeat.clone()];
        lifecycle.watch(heartbeats).map_err(KeepError::Thread)?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let quiet = &mut |_: &Change| {};
        loop {
            heartbeat.beat();
            let mut busy = self.drain(&mut || lifecycle.ready(), quiet)?;
            if let Some(next) = self.ahead.pop_front() {
                self.create(&next, quiet);
                busy = true;
            }
            let next = async {
                tokio::select! {
                    biased;
                    _ = tick.tick() => Next::Tick,
                    Ok(()) = policies.changed() => Next::Policy,
                    () = yield_now(), if busy => Next::Turn,
                    event = self.watcher.next(), if !busy => Next::Event(event),
                }
            };
            match lifecycle.until(next).await {
                Wake::Stop => break,
                Wake::Hangup | Wake::Done(Next::Turn) => {}
                Wake::Done(Next::Tick) => self.check_clock(),
                Wake::Done(Next::Policy) => self.replace_policy(&policies.borrow_and_update()),
                Wake::Done(Next::Event(event)) => {
                    self.handle(event?, Task::Everything, &mut || lifecycle.ready(), quiet);
                }
            }
        }
        lifecycle.stopping();
        self.named.close();
        Ok(self.tally)
    }

    /// Takes a new policy over (users or groups have changed), and has all directories checked.
    fn replace_policy(&mut self, policy: &Policy) {
        if self.options.policy != *policy {
            info!(
                site_users = policy.site_users.len(),
                "users and groups have changed"
            );
            self.options.policy = policy.clone();
            self.advice.forget_outsiders();
            self.watcher.rescan();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::permissions::Options;
    use crate::permissions::tests::{mode, policy};
    use crate::program::{Hangups, Service, Signals, Stop, StopHandle};
    use crate::watch::inotify_instances::can_follow;

    fn signals() -> (StopHandle, Signals) {
        let (handle, stop) = Stop::new();
        let hangups = Hangups::never();
        (handle, Signals { stop, hangups })
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_tree_does_not_keep_the_service_from_becoming_ready() {
        if !can_follow() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        for number in 0..5000 {
            let day = dir.path().join(format!("site{}/20260822", number % 20));
            made.push(day.join(format!(
                "20260822-{:02}{:02}",
                number / 60 % 24,
                number % 60
            )));
            fs::create_dir_all(made.last().unwrap()).unwrap();
        }
        let is_wrong = |path: &std::path::PathBuf| mode(path) != 0o2750;
        let keeper = Keeper::new(Options::new(dir.path().to_owned(), policy())).unwrap();
        let (_policies, receiver) = tokio::sync::watch::channel(policy());
        let (stop, signals) = signals();
        let wrong = AtomicUsize::new(0);
        let ready = || {
            let left = made.iter().filter(|path| is_wrong(path)).count();
            wrong.store(left, Ordering::Relaxed);
            stop.stop();
        };
        let mut lifecycle = Lifecycle::new(signals, Service::default()).on_ready(ready);
        let five_seconds = tokio::time::advance(crate::watch::READY_WITHIN);
        let (done, ()) = tokio::join!(keeper.run(&mut lifecycle, receiver), five_seconds);
        done.unwrap();
        drop(lifecycle);
        assert!(wrong.into_inner() > 0, "it was ready before all was done");
    }

    #[tokio::test]
    async fn the_loop_ends_when_told_and_reports_what_it_did() {
        if !can_follow() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("site1/20260822")).unwrap();
        let keeper = Keeper::new(Options::new(dir.path().to_owned(), policy())).unwrap();
        let (policies, receiver) = tokio::sync::watch::channel(policy());
        let (stop, signals) = signals();
        let mut lifecycle = Lifecycle::new(signals, Service::default()).on_ready(|| stop.stop());
        let tally = keeper.run(&mut lifecycle, receiver).await.unwrap();
        drop(policies);
        assert_eq!(tally.corrected, 2);
    }
}

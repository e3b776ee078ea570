//! The loop of the program.

use std::path::Path;
use std::time::Duration;

use tokio::time::sleep;
use tracing::info;

use super::Options;
use super::claims::Claims;
use super::outcome::{RunError, Summary};
use super::session::{SLICE, Session, TICK};
use crate::program::{self, Lifecycle, Wake, or_never};
use crate::watch::{Event, READY_WITHIN, ReportedFiles, WatchError, Watcher};

/// How often the tree is walked although no event was lost.
const WALK_EVERY: Duration = Duration::from_secs(900);

/// Counts attacks and reports offenders until a stop is requested.
///
/// What is in the storage directory already is counted too, minute by minute; what an earlier run
/// counted is not counted again (state file). A hangup reopens the jail file.
///
/// # Errors
/// [`RunError`]. Once running, nothing but a failing inotify ends it: a storage directory that is
/// away, a full disk and a log that cannot be read are reported and tried again.
pub async fn run(options: &Options, lifecycle: &mut Lifecycle<'_>) -> Result<Summary, RunError> {
    let mut session = Session::new(options)?;
    session.stop = Some(lifecycle.stop().clone());
    // From here on the state says what an interrupted run has written, and a state file that cannot
    // be written is found out now.
    session.save_now().await?;
    let mut watcher = options.storage_dir.as_deref().map(watch).transpose()?;
    info!("started");
    if watcher.is_some() {
        lifecycle.ready_within(READY_WITHIN);
    } else {
        lifecycle.ready();
    }
    let heartbeats = vec![session.heartbeat.clone()];
    lifecycle.watch(heartbeats).map_err(RunError::Thread)?;
    loop {
        session.heartbeat.beat();
        let busy = session.work().await;
        if let Some(error) = session.reporter.lost_output() {
            program::unless_closed(Err(error))?;
            break;
        }
        let next = async {
            tokio::select! {
                biased;
                event = or_never(watcher.as_mut().map(Watcher::next)) => Next::Event(event),
                () = or_never(session.claims.as_ref().map(Claims::changed)) => Next::Claims,
                () = pause(busy) => Next::Turn,
            }
        };
        match lifecycle.until(next).await {
            Wake::Stop => break,
            Wake::Hangup => session.reporter.reopen(),
            Wake::Done(Next::Event(event)) => {
                session.begin_slice();
                session.event(event?, lifecycle);
                for _ in 0..SLICE * 16 {
                    if !session.may_read_on() {
                        break;
                    }
                    match watcher
                        .as_mut()
                        .map(Watcher::try_next)
                        .transpose()?
                        .flatten()
                    {
                        Some(event) => session.event(event, lifecycle),
                        None => break,
                    }
                }
            }
            Wake::Done(Next::Claims) => session.claimed(),
            Wake::Done(Next::Turn) => {}
        }
    }
    lifecycle.stopping();
    session.finish().await
}

/// What comes next.
enum Next {
    /// The watcher has seen something, or cannot go on.
    Event(Result<Event, WatchError>),
    /// `modsec-parser` has taken charge of files.
    Claims,
    /// Nothing from outside.
    Turn,
}

/// Watches `path` for directories that are made and files that are closed; asks for a walk every
/// [`WALK_EVERY`].
///
/// # Errors
///
/// What stands against watching, such as a limit of inotify.
fn watch(path: &Path) -> Result<Watcher, WatchError> {
    let options = crate::watch::Options {
        files: ReportedFiles::New,
        rescan_after: Some(WALK_EVERY),
        ..crate::watch::Options::default()
    };
    Watcher::new(path, options)
}

/// Gives the other branches a turn; waits for [`TICK`] if there is nothing to do.
async fn pause(busy: bool) {
    if busy {
        tokio::task::yield_now().await;
    } else {
        sleep(TICK).await;
    }
}

//! Saving the state now and then, without making attacks wait for the disk.
//!
//! Making the bytes of a million clients takes time on the thread that counts; writing and syncing
//! them does not. A save that fails is warned of and tried again at the next turn: the file on disk
//! is the old one, whole, and says less than was counted, so attacks are read again after a crash
//! and never lost.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, spawn_blocking};
use tracing::{debug, warn};

use super::StateError;
use super::state::{JailFile, save};
use crate::error_chain::error_chain;

/// Saving takes at most this share of the time: a table of a million clients is saved less often.
const SHARE: u32 = 50;

/// Saves the state at most every few seconds; disk and `fsync` are left to another thread.
#[derive(Debug)]
pub(super) struct Saver {
    /// The state file.
    path: PathBuf,
    /// The shortest time between two saves.
    every: Duration,
    /// When the state may be saved next.
    next: Instant,
    /// The save at work in another thread, or its result.
    running: Option<JoinHandle<Result<(), StateError>>>,
}

impl Saver {
    /// Saves into `path`, for the first time after `every`.
    pub(super) fn new(path: PathBuf, every: Duration) -> Saver {
        Saver {
            path,
            every,
            next: Instant::now() + every,
            running: None,
        }
    }

    /// Returns `true` if nothing is being saved.
    pub(super) fn is_idle(&self) -> bool {
        self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Returns `true` if it is time to save.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    /// Returns `true` if there is no state file: another process has removed it.
    pub(super) fn is_gone(&self) -> bool {
        !self.path.exists()
    }

    /// Saves what `bytes` returns, in the background, once what it says of the jail file is on the
    /// disk.
    pub(super) async fn save(&mut self, jail: Option<JailFile>, bytes: impl FnOnce() -> Vec<u8>) {
        self.wait().await;
        let start = Instant::now();
        let bytes = bytes();
        let took = start.elapsed();
        self.next = start + self.every.max(took.saturating_mul(SHARE));
        debug!(
            bytes = bytes.len(),
            elapsed_ms = took.as_millis(),
            "state saved"
        );
        let path = self.path.clone();
        self.running = Some(spawn_blocking(move || save(&path, jail, &bytes)));
    }

    /// Saves at once and waits for it.
    pub(super) async fn save_now(
        &mut self,
        jail: Option<JailFile>,
        bytes: Vec<u8>,
    ) -> Result<(), StateError> {
        self.wait().await;
        save(&self.path, jail, &bytes)
    }

    /// Waits until what is being saved is saved, and warns if that failed.
    async fn wait(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        match running.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                warn!(%error, cause = std::error::Error::source(&error).map(tracing::field::display), "state not saved, trying again");
            }
            Err(error) => warn!(error = error_chain(&error), "state not saved, trying again"),
        }
    }
}

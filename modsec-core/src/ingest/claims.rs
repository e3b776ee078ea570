//! Taking charge of finished files at once, on a thread that nothing else can hold up.
//!
//! A name can be used again within a second, and the next record then overwrites the file. So a
//! file is moved away as soon as its writer has closed it, also while the store is away; what has
//! been moved is read later.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tracing::{debug, warn};

use super::IngestError;
use super::entry::IN_MEMORY;
use crate::error_chain::error_chain;
use crate::format;
use crate::format::large::{self, Large};
use crate::heartbeat::Heartbeat;
use crate::serial_log::own_file;
use crate::storage_dir::{EntryFile, MAX_ENTRY_BYTES, Reason, Refusal, StorageDir};
use crate::watch::{Event, Options, ReportedFiles, RescanReason, Watcher};

/// How soon the thread notices that nobody listens any more.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes at both ends of a large file that tell whether it is complete.
const END: u64 = 4096;

/// What has happened since watching began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct News {
    /// Files that were moved into the private directory.
    pub(super) claimed: u64,
    /// The number of the last of them; see [`EntryFile::claim_number`].
    pub(super) last: Option<u64>,
    /// Reasons to walk the tree: events may be missing.
    pub(super) walks: u64,
    /// The storage directory is not the one that was opened any more.
    pub(super) lost: bool,
}

/// The thread that claims. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Claims(watch::Receiver<News>);

impl Claims {
    /// Starts to watch and to claim. `storage` is locked and was opened by `path`.
    pub(super) fn start(
        storage: Arc<StorageDir>,
        path: &Path,
        heartbeat: Heartbeat,
    ) -> Result<Claims, IngestError> {
        let (news, listener) = watch::channel(News::default());
        let options = Options {
            files: ReportedFiles::New,
            ..Options::default()
        };
        // The administrator may name a link; what it leads to is watched.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let claimer = Claimer {
            watcher: Watcher::new(&path, options)?,
            storage,
            news,
            heartbeat,
        };
        thread::Builder::new()
            .name("claim".to_owned())
            .spawn(move || claimer.run())
            .map_err(IngestError::Thread)?;
        Ok(Claims(listener))
    }

    /// Returns what has happened since watching began. `lost` is also set if the thread has ended.
    pub(super) fn news(&self) -> News {
        let mut news = *self.0.borrow();
        // Without the thread nothing is claimed any more, whatever has ended it.
        news.lost |= self.0.has_changed().is_err();
        news
    }

    /// Returns what tells the news to another thread.
    pub(super) fn listener(&self) -> watch::Receiver<News> {
        self.0.clone()
    }

    /// Waits until `wanted` says yes.
    pub(super) async fn wait_for(&mut self, wanted: impl FnMut(&News) -> bool) {
        // The error: the thread has ended, which `news` says.
        let _ = self.0.wait_for(wanted).await;
    }
}

/// What the thread owns. It ends once nobody receives the news any more.
struct Claimer {
    /// Reports files below the storage directory as their writers close them.
    watcher: Watcher,
    /// The storage directory, held open; names that events report are resolved below it.
    storage: Arc<StorageDir>,
    /// The counts that passes compare with what they have handled.
    news: watch::Sender<News>,
    /// Beats at least once in [`PATIENCE`].
    heartbeat: Heartbeat,
}

impl Claimer {
    /// Claims until nobody listens, or until events can no longer be read: then the storage
    /// directory counts as lost and has to be opened anew.
    fn run(mut self) {
        while !self.news.is_closed() {
            self.heartbeat.beat();
            match self.watcher.wait(PATIENCE) {
                Ok(Some(event)) => self.take(event),
                Ok(None) => {}
                Err(error) => {
                    warn!(
                        error = error_chain(&error),
                        "events can no longer be read, starting anew"
                    );
                    self.news.send_modify(|news| news.lost = true);
                    return self.rest();
                }
            }
        }
    }

    /// Waits until somebody starts anew, who may be in the middle of a long pass.
    fn rest(&self) {
        while !self.news.is_closed() {
            self.heartbeat.beat();
            thread::sleep(PATIENCE);
        }
    }

    /// Claims the file of an event, or notes that a walk is needed.
    ///
    /// A file that cannot be claimed stays where it is, and the next walk takes it.
    fn take(&self, event: Event) {
        match event {
            Event::File(path) => match self.claim(&path) {
                Ok(Some(claimed)) => self.news.send_modify(|news| {
                    news.claimed += 1;
                    news.last = claimed.claim_number();
                }),
                Ok(None) => debug!(?path, "entry not complete, left where it is"),
                // A walk finds what is left, and counts it.
                Err(refusal) => debug!(error = %refusal, "file not claimed"),
            },
            Event::Rescan(reason) => {
                if reason == RescanReason::Overflow {
                    warn!(%reason, "walking the storage directory");
                } else {
                    debug!(%reason, "walking the storage directory");
                }
                self.news.send_modify(|news| news.walks += 1);
            }
            Event::Lost(error) => {
                warn!(error = error_chain(&error), "storage directory lost");
                self.news.send_modify(|news| news.lost = true);
            }
            _ => {}
        }
    }

    /// Moves the file away if it is complete.
    fn claim(&self, relative: &Path) -> Result<Option<EntryFile>, Refusal> {
        let entry = self.storage.entry_at(relative)?;
        let open = entry.clone().open(MAX_ENTRY_BYTES)?;
        let complete = is_complete(open.file(), open.size()).map_err(|error| Refusal {
            path: entry.path(),
            reason: Reason::from(error),
        })?;
        complete.then(|| entry.claim()).transpose()
    }
}

/// Returns `true` if the file is a complete entry. Looks at both ends of a larger one, and at all of
/// it only if they do not tell: it may be closed a thousand times.
///
/// A JSON document that is none of an audit log is complete too, but is left with its owner: in
/// the private directory it would be met by each pass, for ever.
fn is_complete(file: &File, size: u64) -> io::Result<bool> {
    let read = |from: u64, len: u64| {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_exact_at(&mut bytes, from).map(|()| bytes)
    };
    if size > 2 * END {
        let (head, tail) = (read(0, END)?, read(size - END, END)?);
        let (before, behind) = own_file::around(&head, &tail);
        let (_, begin) = head.split_at(before);
        let (end, _) = tail.split_at(tail.len() - behind);
        let is_small_copy = size <= IN_MEMORY as u64 && own_file::is_copy(&head);
        if !is_small_copy && (!large::may_be_complete(begin, end) || Large::open(begin).is_err()) {
            return Ok(false);
        }
        // Of a document, both ends do not tell.
        if size > IN_MEMORY as u64 || begin.starts_with(b"--") && !is_small_copy {
            return Ok(true);
        }
    }
    let bytes = own_file::entry(read(0, size)?);
    let is_entry = bytes.starts_with(b"--") || format::decode(&bytes).is_ok();
    Ok(is_entry && format::is_complete(&bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_document_of_anything_else_is_no_complete_entry() {
        for size in [1, IN_MEMORY] {
            let mut file = tempfile::tempfile().unwrap();
            let text = format!("{{\"a\":\"{}\"}}\n", "x".repeat(size));
            file.write_all(text.as_bytes()).unwrap();
            assert!(!is_complete(&file, text.len() as u64).unwrap());
        }
    }

    #[test]
    fn a_file_is_complete_if_its_own_part_z_ends_it_whatever_its_size() {
        let (head, end) = ("--1a2b3c4d-A--\n", "\n--1a2b3c4d-Z--\n");
        for size in [1, 10_000, IN_MEMORY + 1] {
            let body = "x".repeat(size);
            for (text, want) in [
                (format!("{head}{body}{end}"), true),
                (format!("{head}{body}\n"), false),
                (format!("{head}{body}\n--00000000-Z--\n"), false),
                (format!("{body}{end}"), false),
                (String::new(), false),
            ] {
                let mut file = tempfile::tempfile().unwrap();
                file.write_all(text.as_bytes()).unwrap();
                let complete = is_complete(&file, text.len() as u64).unwrap();
                assert_eq!(complete, want, "{} bytes", text.len());
            }
        }
    }
}

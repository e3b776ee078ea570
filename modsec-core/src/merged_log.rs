//! Appending whole entries to one log, all of a batch or none of it.
//!
//! The merged log is what the serial log of ModSecurity would have been, without its mutex: the
//! entries' own bytes, one after the other. A native entry ends with its Z line and an empty line,
//! as in the serial log of ModSecurity 2; a JSON entry with a line feed. An entry that was cut
//! short gets the missing line end, so that the next one always starts on a fresh line. So the log
//! can be read again as a serial log.
//!
//! In a log of many, a body may look like the end of its entry and like entries of others, and an
//! entry without an end like the beginning of the next. So a line stands before each entry with a
//! body in it, and before any other that would not be found as just that one entry:
//!
//! ```text
//! # modsec-parser: the next 1234 bytes are one entry, entry_hash 0123456789abcdef0123456789abcdef
//! ```
//!
//! An [interleaved](crate::record::Flag::Interleaved) entry of another log is announced as `one
//! interleaved entry`. [`serial_log`](crate::serial_log) says which such lines are believed, and
//! when.
//!
//! # Together with a store
//!
//! An append and a database transaction cannot be made one. Instead the append can be undone:
//!
//! 1. [`MergedLog::begin`]; [`AppendBatch::append`] for each entry; [`AppendBatch::finish`] syncs. Before the
//!    first byte a journal beside the log (`<log>.journal`) notes the batch's id, the length of the
//!    log and hashes of what will be written, and is synced. (A batch of more than 4 MiB is noted,
//!    written and synced in pieces.)
//! 2. The store commits the batch together with its id.
//! 3. [`Appended::commit`], or [`Appended::rollback`] if the store refused.
//!
//! After a crash [`MergedLog::pending`] names the batch that was interrupted. The store knows
//! whether it counts, and [`MergedLog::recover`] keeps it or takes it back. Only bytes that
//! provably are the batch's are taken out; if another program appended behind them, they stay
//! ([`Recovered::LeftIn`]), except for half of an announced entry: its bytes become line ends.
//!
//! What a crash, also a loss of power, leaves at each step:
//!
//! | crash | journal | log | store | recovery |
//! | --- | --- | --- | --- | --- |
//! | before the journal's sync | done, torn, pending | untouched | no | none, or nothing to cut |
//! | while entries are written | pending | a beginning of the batch | no | cut off |
//! | after the log is synced | pending | the batch | no | cut off |
//! | after the store's commit | pending | the batch | yes | kept |
//! | after [`Appended::commit`] | done, or still pending | the batch | yes | none, or kept |
//!
//! # Locks
//!
//! The journal is locked (flock(2)) as long as the log is open, so one process appends. The lock is
//! on the journal and not on the log: a log is renamed by rotation, and the lock would go with it.
//! A program that does not know the journal is not kept away; what it appends is never cut off.
//!
//! # Rotation
//!
//! By rename (`create` in logrotate): noticed at the next batch, no signal is needed. A batch that
//! is hit is taken back and reported as [`MergedLogError::Rotated`], for the renamed log may have
//! been compressed before the batch was in there. By copy (`copytruncate`): works too, with the
//! same report; but logrotate itself loses what is written between its copying and its truncating.
//! Prefer rename, with `delaycompress`: an interrupted batch in a file that is already compressed
//! cannot be taken back ([`Recovered::NotFound`]).
//!
//! # Example
//!
//! ```
//! use modsec_core::merged_log::{MergedLog, Stored};
//!
//! # fn is_in_store(batch: [u8; 16]) -> Stored { Stored::No }
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("modsec_audit.log");
//! let mut log = MergedLog::open(&path)?;
//! if let Some(batch) = log.pending() {
//!     log.recover(is_in_store(batch))?;
//! }
//! let mut batch = log.begin([7; 16])?;
//! batch.append(b"--0a1b2c3d-A--\n...\n--0a1b2c3d-Z--\n")?;
//! let appended = batch.finish()?;
//! // Here the store commits the batch; then:
//! appended.commit()?;
//!
//! // A process that dies without an answer leaves its batch pending.
//! let mut batch = log.begin([8; 16])?;
//! batch.append(b"--4e5f6071-A--\n...\n--4e5f6071-Z--\n")?;
//! drop(batch.finish()?);
//! drop(log);
//! let mut log = MergedLog::open(&path)?;
//! assert_eq!(log.pending(), Some([8; 16]));
//! log.recover(is_in_store([8; 16]))?;
//! let kept = std::fs::read_to_string(&path)?;
//! assert!(kept.contains("0a1b2c3d-Z") && !kept.contains("4e5f6071"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod block_hashes;
mod file;
mod journal;
mod remainder;
mod undo;

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

pub use self::batch::{AppendBatch, Appended};
use self::block_hashes::BlockHashes;
use self::journal::JournalRecord;
use self::undo::Undo;
pub use self::undo::{Cut, Recovered};
use crate::crash_points;
use crate::named_file::is_at;
use crate::{lock_holder, named_file};

/// Why the merged log cannot be used, or a batch not be appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergedLogError {
    /// The directory of the log is missing.
    #[error("the directory of merged log {path:?} does not exist; make it")]
    NoDirectory {
        /// The log.
        path: PathBuf,
    },
    /// There is something else at the path.
    #[error(
        "merged log {path:?} is a {kind}, not a file; name a file that can be appended to with --merged-log"
    )]
    NotAFile {
        /// The log.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// The file is the index that ModSecurity writes in Concurrent mode.
    #[error(
        "merged log {path:?} is the index that SecAuditLog names; name another file, or give SecAuditLog another one"
    )]
    Index {
        /// The log.
        path: PathBuf,
    },
    /// The file is of a kind that lines appended to it would damage.
    #[error("merged log {path:?} is {kind}, and nothing is appended to it; name another file")]
    Foreign {
        /// The log.
        path: PathBuf,
        /// What it is, with an article.
        kind: &'static str,
    },
    /// The log has more than one name, and cutting it would change a file that the other name may
    /// mean.
    #[error("merged log {path:?} has other hard links; remove them or name another file")]
    HardLinked {
        /// The log.
        path: PathBuf,
    },
    /// The kernel said no.
    #[error("may not write merged log {path:?}; check owner and mode of it and its directory")]
    PermissionDenied {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process appends to the log.
    #[error("merged log {path:?} is in use by another process; stop that one first")]
    Locked {
        /// The log.
        path: PathBuf,
    },
    /// No space or quota left. The batch was taken back.
    #[error("no space left to write merged log {path:?}; free some, nothing is lost until then")]
    DiskFull {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The log could not be written for another reason. The batch was taken back.
    #[error("could not write merged log {path:?}")]
    Write {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An entry could not be read. The batch was taken back.
    #[error("could not read an entry for the merged log")]
    Read {
        /// What the reader said.
        source: io::Error,
    },
    /// The log was emptied or renamed while it was appended to. The batch was taken back.
    #[error("merged log {path:?} was rotated meanwhile; append the batch again")]
    Rotated {
        /// The log.
        path: PathBuf,
    },
    /// The batch was taken back earlier, because of an error that was reported then.
    #[error("the batch for merged log {path:?} was taken back already; begin a new one")]
    TakenBack {
        /// The log.
        path: PathBuf,
    },
    /// The journal could not be opened, written or locked, or is not ours.
    #[error("could not use journal {path:?} of the merged log; check its owner and directory")]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An earlier batch was interrupted, and it is not known yet whether it counts: see
    /// [`MergedLog::recover`].
    #[error("a batch for merged log {path:?} was interrupted; it must be recovered first")]
    Unrecovered {
        /// The log.
        path: PathBuf,
    },
    /// A batch could not be taken back; it is pending still.
    #[error("could not take back the last batch of merged log {path:?}; it is tried again")]
    Undo {
        /// The log.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl MergedLogError {
    /// Returns the error of a failed write: full disks and quotas have their own, as making room
    /// mends them.
    fn of_write(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                MergedLogError::DiskFull { path, source }
            }
            _ => MergedLogError::Write { path, source },
        }
    }
}

/// Whether the store has a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It was committed.
    Yes,
    /// It was not, and will not be.
    No,
}

/// A log to which one process appends.
///
/// `path` is where the log should be; `file` is the one that is open, which rotation may have
/// moved.
#[derive(Debug)]
pub struct MergedLog {
    /// Where the log should be.
    path: PathBuf,
    /// The open log, for appending.
    file: File,
    /// Path of the log and `.journal`.
    journal_path: PathBuf,
    /// Locked as long as it is open.
    journal: File,
    /// Name of the journal, see [`MergedLog::id`].
    id: String,
    /// The batch in the log that is neither committed nor taken back.
    pending: Option<JournalRecord>,
}

impl MergedLog {
    /// Opens the log and its journal, and makes them if they are missing (mode 0640 and 0600).
    ///
    /// The journal is locked until this is dropped or the process ends, however it does.
    ///
    /// # Errors
    ///
    /// Links, pipes, devices and directories are refused, as is a log that is in use.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, MergedLogError> {
        let path = path.as_ref().to_owned();
        let file = file::open_log(&path)?;
        let journal_path = journal_path(&path);
        let (journal, id, pending) = open_and_lock_journal(&path, &journal_path)?;
        Ok(MergedLog {
            path,
            file,
            journal_path,
            journal,
            id,
            pending,
        })
    }

    /// Finds out whether [`MergedLog::open`] could open the log at `path`, without making or locking
    /// anything.
    ///
    /// # Errors
    ///
    /// As for [`MergedLog::open`]. A process in another PID namespace that uses the log is not seen.
    pub fn check(path: &Path) -> Result<(), MergedLogError> {
        file::check_log(path)?;
        let journal_path = journal_path(path);
        let failed = |source| MergedLogError::Journal {
            path: journal_path.clone(),
            source,
        };
        named_file::check_own(&journal_path).map_err(failed)?;
        let journal = match named_file::open_to_read(&journal_path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(failed)?,
        };
        if !journal::is_ours(&journal).map_err(failed)? {
            return Err(failed(io::ErrorKind::PermissionDenied.into()));
        }
        match lock_holder::holder(&journal) {
            None => Ok(()),
            Some(_) => Err(MergedLogError::Locked {
                path: path.to_owned(),
            }),
        }
    }

    /// Returns the name of this log's journal, 32 hexadecimal digits that no other journal has: the
    /// key under which the store remembers the last batch.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the id of the batch that was interrupted, if there is one. Ask the store about it,
    /// and pass the answer to [`MergedLog::recover`].
    pub fn pending(&self) -> Option<[u8; 16]> {
        self.pending.as_ref().map(|record| record.batch)
    }

    /// Keeps or takes back the batch that was interrupted, also if the log was rotated since.
    ///
    /// Returns `None` if there was none. Afterwards the log can be appended to again.
    ///
    /// # Errors
    ///
    /// [`MergedLogError::Undo`] or [`MergedLogError::Journal`]. The batch is then still pending,
    /// and this can be called again.
    pub fn recover(&mut self, stored: Stored) -> Result<Option<Recovered>, MergedLogError> {
        let Some(record) = &self.pending else {
            return Ok(None);
        };
        let recovered = match stored {
            Stored::Yes => Recovered::Kept,
            Stored::No => self.undo(record, None)?,
        };
        crash_points::pass("recovered");
        self.close_journal()?;
        Ok(Some(recovered))
    }

    /// Begins a batch. If the log was rotated by renaming, the new one is opened first, and a new
    /// journal, with another name, if that was removed.
    ///
    /// `batch` must be new, and be committed by the store together with the entries.
    ///
    /// # Errors
    ///
    /// [`MergedLogError::Unrecovered`] if an earlier batch is pending, else as for
    /// [`MergedLog::open`]. Nothing was written.
    pub fn begin(&mut self, batch: [u8; 16]) -> Result<AppendBatch<'_>, MergedLogError> {
        if self.pending.is_some() {
            return Err(MergedLogError::Unrecovered {
                path: self.path.clone(),
            });
        }
        let path = self.path.clone();
        let failed = |source| MergedLogError::of_write(&path, source);
        if self.check_journal().is_err() {
            (self.journal, self.id, self.pending) =
                open_and_lock_journal(&path, &self.journal_path)?;
            if self.pending.is_some() {
                return Err(MergedLogError::Unrecovered { path });
            }
        }
        if !is_at(&path, &self.file).map_err(failed)? {
            self.reopen()?;
        }
        Ok(AppendBatch::new(self, batch))
    }

    /// Opens the log again by its path, for SIGHUP. Without a signal the next batch does it.
    ///
    /// # Errors
    ///
    /// As for [`MergedLog::open`]; the old file then stays open.
    pub fn reopen(&mut self) -> Result<(), MergedLogError> {
        self.file = file::open_log(&self.path)?;
        Ok(())
    }

    /// Notes a piece of a batch in the journal before its first byte is written.
    ///
    /// First the hashes, then the record that makes them count; one sync for both. `number` counts
    /// the batch's pieces from 0.
    fn note(
        &mut self,
        record: &JournalRecord,
        hashes: &BlockHashes,
        number: usize,
    ) -> Result<(), MergedLogError> {
        self.pending = Some(record.clone());
        block_hashes::note(&self.journal, hashes, number)
            .and_then(|()| journal::begin(&self.journal, record))
            .map_err(|source| self.journal_error(source))
    }

    /// Takes back the batch that was noted, if one was; `written` bytes of it are in the log.
    ///
    /// # Errors
    ///
    /// [`MergedLogError::Undo`] if the bytes cannot be found or must stay. The batch is then
    /// pending.
    fn take_back(&mut self, written: u64) -> Result<(), MergedLogError> {
        let Some(record) = &self.pending else {
            return Ok(());
        };
        if written > 0 {
            let reason = match self.undo(record, Some(written))? {
                Recovered::Kept | Recovered::TakenBack(_) => return self.close_journal(),
                Recovered::LeftIn { .. } => {
                    "another program appended behind it; let only one program do so"
                }
                Recovered::NotFound => "the log was emptied and no copy of it was found",
            };
            return Err(MergedLogError::Undo {
                path: self.path.clone(),
                source: io::Error::other(reason),
            });
        }
        self.close_journal()
    }

    /// Cuts the batch out of the file that has it; see `undo.rs`. The journal stays as it is.
    fn undo(
        &self,
        record: &JournalRecord,
        written: Option<u64>,
    ) -> Result<Recovered, MergedLogError> {
        let failed = |source| self.journal_error(source);
        let undo = Undo {
            log: &self.path,
            record,
            hashes: block_hashes::read(&self.journal, record).map_err(failed)?,
            written,
            since: journal::written(&self.journal).map_err(failed)?,
        };
        undo.run(&self.file).map_err(|source| MergedLogError::Undo {
            path: self.path.clone(),
            source,
        })
    }

    /// Notes that nothing is pending any more. After an error it still is.
    fn close_journal(&mut self) -> Result<(), MergedLogError> {
        if let Some(record) = self.pending.take() {
            let finished = journal::finish(&self.journal, &record);
            if let Err(source) = finished {
                self.pending = Some(record);
                return Err(self.journal_error(source));
            }
        }
        Ok(())
    }

    /// Fails if the journal is not at its path any more: no later start could take the batch back
    /// then, and the lock keeps no other process away.
    fn check_journal(&self) -> Result<(), MergedLogError> {
        match is_at(&self.journal_path, &self.journal) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.journal_error(io::Error::other(
                "it was replaced or removed while it was open",
            ))),
            Err(source) => Err(self.journal_error(source)),
        }
    }

    /// Returns the error of an operation on the journal.
    fn journal_error(&self, source: io::Error) -> MergedLogError {
        MergedLogError::Journal {
            path: self.journal_path.clone(),
            source,
        }
    }
}

impl Drop for MergedLog {
    /// Gives the lock back at once: a process that another thread is about to start has inherited
    /// the journal, and would keep the lock until it has become another program.
    fn drop(&mut self) {
        // Nothing to do about a failure; closing the file unlocks it, too.
        let _ = flock(&self.journal, FlockOperation::Unlock);
    }
}

/// Opens and locks the journal of a log; returns it with its name and the batch that was
/// interrupted.
///
/// # Errors
///
/// [`MergedLogError::Locked`] if another process appends; [`MergedLogError::Journal`] if the file
/// is not ours: of another account, or with a second name.
fn open_and_lock_journal(
    log: &Path,
    path: &Path,
) -> Result<(File, String, Option<JournalRecord>), MergedLogError> {
    let failed = |source| MergedLogError::Journal {
        path: path.to_owned(),
        source,
    };
    let journal = file::open_journal(path).map_err(failed)?;
    if !journal::is_ours(&journal).map_err(failed)? {
        return Err(failed(io::ErrorKind::PermissionDenied.into()));
    }
    match flock(&journal, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN) => {
            return Err(MergedLogError::Locked {
                path: log.to_owned(),
            });
        }
        Err(error) => return Err(failed(error.into())),
    }
    let pending = journal::pending(&journal).map_err(failed)?;
    let machine = journal::machine();
    let id = journal::id(&journal, machine.as_deref(), pending.is_some()).map_err(failed)?;
    Ok((journal, id, pending))
}

/// Returns the log's path with `.journal` behind it.
fn journal_path(log: &Path) -> PathBuf {
    let mut path = OsString::from(log);
    path.push(".journal");
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_ends_with_the_log_even_if_a_child_has_the_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let log = MergedLog::open(&path).unwrap();
        // As inherited: the same open file.
        let inherited = log.journal.try_clone().unwrap();
        let second = MergedLog::open(&path);
        assert!(matches!(second, Err(MergedLogError::Locked { .. })));
        drop(log);
        MergedLog::open(&path).unwrap();
        drop(inherited);
    }
}

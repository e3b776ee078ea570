//! One batch on its way into the log.

use std::io::{self, Read, Write as _};
use std::os::unix::fs::MetadataExt as _;

use super::file::{FINGERPRINT, hash_before, last_byte};
use super::journal::{BatchId, Record, State};
use super::{MergedLog, MergedLogError};
use crate::crash_points;

/// Bytes collected before they are written, so that small entries do not cost a call each.
const BUFFER: usize = 256 * 1024;

/// Entries that are being appended.
///
/// Dropping it without an answer leaves the batch pending, as a crash would: the next
/// [`MergedLog::begin`] refuses until [`MergedLog::recover`] has been told what the store says.
#[derive(Debug)]
#[must_use = "a batch that is dropped must be recovered"]
pub struct Batch<'a> {
    log: &'a mut MergedLog,
    record: Record,
    buffer: Vec<u8>,
    /// Bytes of this batch in the file.
    written: u64,
    entry: Entry,
    undone: bool,
}

/// What must be known of the entry at hand to separate it from the next.
#[derive(Debug, Default)]
struct Entry {
    first: Option<u8>,
    last: [u8; 2],
}

impl<'a> Batch<'a> {
    pub(super) fn new(log: &'a mut MergedLog, batch: BatchId) -> io::Result<Self> {
        let meta = log.file.metadata()?;
        let length = meta.len();
        let record = Record {
            batch,
            state: State::Pending,
            device: meta.dev(),
            inode: meta.ino(),
            uid: meta.uid(),
            length,
            before: hash_before(&log.file, length)?,
            head: (0, blake3::hash(b"")),
        };
        let mut buffer = Vec::new();
        // What stands there was cut short; the first entry still starts on a fresh line.
        if last_byte(&log.file, length)?.is_some_and(|byte| byte != b'\n') {
            buffer.push(b'\n');
        }
        Ok(Batch {
            log,
            record,
            buffer,
            written: 0,
            entry: Entry::default(),
            undone: false,
        })
    }

    /// Appends one whole entry, and what separates it from the next.
    ///
    /// # Errors
    ///
    /// [`MergedLogError::DiskFull`] or what else the kernel said; [`MergedLogError::Rotated`] if
    /// the log was emptied meanwhile: append the same entries again in a new batch. In any case
    /// the whole batch has been taken back, and every further call fails.
    pub fn append(&mut self, entry: &[u8]) -> Result<(), MergedLogError> {
        self.append_from(entry)
    }

    /// Appends one whole entry from `reader`, whatever its size, in constant memory.
    ///
    /// # Errors
    ///
    /// As for [`Batch::append`]; [`MergedLogError::Read`] if it was the reader that failed.
    pub fn append_from(&mut self, mut reader: impl Read) -> Result<(), MergedLogError> {
        if self.undone {
            return Err(MergedLogError::TakenBack {
                path: self.log.path.clone(),
            });
        }
        self.entry = Entry::default();
        loop {
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
            let room = (BUFFER - self.buffer.len()) as u64;
            let start = self.buffer.len();
            let read = reader.by_ref().take(room).read_to_end(&mut self.buffer);
            let read = read.or_else(|source| self.fail(MergedLogError::Read { source }))?;
            if read == 0 {
                break;
            }
            self.entry.saw(&self.buffer[start..]);
        }
        self.buffer.extend_from_slice(self.entry.separator());
        Ok(())
    }

    /// Writes what is left and waits until all of it is on disk. Now the store may commit.
    ///
    /// # Errors
    ///
    /// As for [`Batch::append`].
    pub fn finish(mut self) -> Result<Appended<'a>, MergedLogError> {
        if self.undone {
            return Err(MergedLogError::TakenBack {
                path: self.log.path.clone(),
            });
        }
        self.flush()?;
        if self.written > 0 {
            let synced = self.log.file.sync_data();
            synced.or_else(|source| self.fail_write(source))?;
            crash_points::pass("log-synced");
            self.check_length()?;
        }
        Ok(Appended {
            log: self.log,
            bytes: self.written,
        })
    }

    /// Takes back what was appended so far.
    ///
    /// # Errors
    ///
    /// As for [`MergedLog::recover`]; the batch is then pending.
    pub fn rollback(self) -> Result<(), MergedLogError> {
        self.log.take_back()
    }

    fn flush(&mut self) -> Result<(), MergedLogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.written == 0 {
            let head = &self.buffer[..self.buffer.len().min(fingerprint())];
            self.record.head = (head.len() as u64, blake3::hash(head));
            let noted = self.log.note(&self.record);
            noted.or_else(|error| self.fail(error))?;
            crash_points::pass("journal-noted");
        }
        // Bytes behind a truncation have nothing before them to be recognised by; write none.
        self.check_length()?;
        let wrote = (&self.log.file).write_all(&self.buffer);
        wrote.or_else(|source| self.fail_write(source))?;
        crash_points::pass("part-written");
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Fails if the log was emptied by `copytruncate` since the batch began.
    fn check_length(&mut self) -> Result<(), MergedLogError> {
        let meta = self.log.file.metadata();
        let length = meta.or_else(|source| self.fail_write(source))?.len();
        if length == self.record.length + self.written {
            return Ok(());
        }
        let path = self.log.path.clone();
        self.fail(MergedLogError::Rotated { path })
    }

    fn fail_write<T>(&mut self, source: io::Error) -> Result<T, MergedLogError> {
        let error = MergedLogError::of_write(&self.log.path, source);
        self.fail(error)
    }

    /// Takes the batch back because of `error`, which it returns unless that fails too.
    fn fail<T>(&mut self, error: MergedLogError) -> Result<T, MergedLogError> {
        self.undone = true;
        self.log.take_back()?;
        Err(error)
    }
}

fn fingerprint() -> usize {
    usize::try_from(FINGERPRINT).unwrap_or(usize::MAX)
}

impl Entry {
    fn saw(&mut self, bytes: &[u8]) {
        self.first = self.first.or(bytes.first().copied());
        for byte in &bytes[bytes.len().saturating_sub(2)..] {
            self.last = [self.last[1], *byte];
        }
    }

    /// Returns what must follow: a native entry ends in an empty line, as in the serial log; a
    /// JSON document in one line feed. An entry that was cut short gets a line end of its own.
    fn separator(&self) -> &'static [u8] {
        match (self.first, self.last) {
            (None, _) | (Some(_), [b'\n', b'\n']) | (Some(b'{'), [_, b'\n']) => b"",
            (Some(b'{'), _) | (Some(_), [_, b'\n']) => b"\n",
            (Some(_), _) => b"\n\n",
        }
    }
}

/// Entries that are in the log and on disk, and count if the store says so.
///
/// Dropping it leaves the batch pending, like dropping a [`Batch`]. That is the right thing to
/// do if it is not known whether the store committed.
#[derive(Debug)]
#[must_use = "a batch that is dropped must be recovered"]
pub struct Appended<'a> {
    log: &'a mut MergedLog,
    bytes: u64,
}

impl Appended<'_> {
    /// Returns how many bytes the log grew by.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes that the store has the batch.
    ///
    /// Not synced: if the note is lost, [`MergedLog::recover`] asks the store.
    ///
    /// # Errors
    ///
    /// [`MergedLogError::Journal`]; the batch is then pending.
    pub fn commit(self) -> Result<(), MergedLogError> {
        self.log.close_journal()
    }

    /// Takes the batch back because the store does not have it.
    ///
    /// # Errors
    ///
    /// As for [`MergedLog::recover`]; the batch is then pending.
    pub fn rollback(self) -> Result<(), MergedLogError> {
        self.log.take_back()
    }
}

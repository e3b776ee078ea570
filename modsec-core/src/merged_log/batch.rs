//! One batch on its way into the log.
//!
//! ```text
//! append ─► announcement? entry, separator ─► buffer of one piece (4 MiB)
//!                                                │ full, or finish
//!                                                ▼ write_piece
//!             first piece:  reopen if rotated; length and last bytes of the log into the record
//!             later pieces: sync the log, so that the noted pieces are on disk; its length?
//!                                                ▼
//!             journal: hashes, record, sync          then the log: write by chunks
//!                                                ▼ finish
//!             still at its path?  sync  still as long?  journal still at its path?  ─► Appended
//! ```
//!
//! What holds: no byte is written before a synced note of it. Nothing is written behind bytes that
//! are not the batch's: the length is compared before each chunk, the position after it. Every
//! error takes the batch back at once.

use std::fs::Metadata;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;

use blake3::Hasher;

use super::block_hashes::{BlockHashes, PIECE};
use super::file::{FINGERPRINT, hash_before, last_byte, was_removed};
use super::journal::{JournalRecord, State};
use super::{MergedLog, MergedLogError};
use crate::crash_points;
use crate::entry_hash::{EntryHash, EntryHasher};
use crate::named_file::is_at;
use crate::record::{Flag, Flags};
use crate::serial_log::alone::stands_alone;
use crate::serial_log::announcement::Announcement;

/// Bytes that are written with one call, up to the next multiple of it in the log: so what a kill
/// leaves of a piece ends with a page, and with a block of its note.
const CHUNK: u64 = 256 * 1024;
/// Bytes of entries in a piece. One line end fits before them, and two behind.
const FULL: usize = PIECE - 3;

/// Entries that are being appended.
///
/// Dropping it without an answer leaves the batch pending, as a crash would: the next
/// [`MergedLog::begin`] refuses until [`MergedLog::recover`] has been told what the store says.
#[derive(Debug)]
#[must_use = "a batch that is dropped must be recovered"]
pub struct AppendBatch<'a> {
    /// The log, which has no other batch meanwhile.
    log: &'a mut MergedLog,
    /// The batch's id, as the store gets it.
    id: [u8; 16],
    /// What the journal has of the batch; `None` until the first piece is written.
    record: Option<JournalRecord>,
    /// The piece that is being filled.
    buffer: Vec<u8>,
    /// Bytes of this batch in the file.
    written: u64,
    /// Pieces that were written: the number of the next one.
    pieces: usize,
    /// Hash of the bytes of all pieces that were written, except the last one.
    hasher: Hasher,
    /// First and last bytes of the entry that is being appended.
    entry: EntryEnds,
    /// `true` after an error: the batch was taken back, or that failed, too.
    undone: bool,
}

/// What must be known of an entry to separate it from the next.
#[derive(Debug, Default)]
struct EntryEnds {
    /// Its first byte: `{` for JSON, `-` for a native entry.
    first: Option<u8>,
    /// Its last two bytes, zero where it is shorter.
    last: [u8; 2],
}

impl<'a> AppendBatch<'a> {
    /// Begins a batch of which nothing is noted or written yet.
    pub(super) fn new(log: &'a mut MergedLog, id: [u8; 16]) -> Self {
        AppendBatch {
            log,
            id,
            record: None,
            buffer: Vec::with_capacity(PIECE),
            written: 0,
            pieces: 0,
            hasher: Hasher::new(),
            entry: EntryEnds::default(),
            undone: false,
        }
    }

    /// Appends one whole entry, and what separates it from the next. If it would not be found in
    /// the log as just this entry, a line before it announces it.
    ///
    /// An empty entry adds nothing. Memory is that of one piece, 4 MiB, whatever the number of
    /// entries.
    ///
    /// # Errors
    ///
    /// [`MergedLogError::DiskFull`] or what else the kernel said; [`MergedLogError::Rotated`] if
    /// the log was rotated meanwhile: append the same entries again in a new batch. In any case the
    /// whole batch has been taken back, and every further call fails; except for
    /// [`MergedLogError::Undo`], after which it is pending.
    pub fn append(&mut self, entry: &[u8]) -> Result<(), MergedLogError> {
        self.append_flagged(entry, Flags::none())
    }

    /// Appends an entry that was found in another log, where it got these flags: that it is
    /// [`Flag::Interleaved`] is announced too.
    ///
    /// # Errors
    ///
    /// As for [`AppendBatch::append`].
    pub fn append_flagged(&mut self, entry: &[u8], flags: Flags) -> Result<(), MergedLogError> {
        self.put(entry, || EntryHash::of(entry), flags)
    }

    /// Appends an entry as [`append_flagged`](Self::append_flagged) does; `hash` is that of its
    /// bytes, which a caller that has it already need not compute again.
    #[cfg(feature = "jobs")]
    pub(crate) fn append_hashed(
        &mut self,
        entry: &[u8],
        hash: EntryHash,
        flags: Flags,
    ) -> Result<(), MergedLogError> {
        self.put(entry, || hash, flags)
    }

    /// Appends an entry that is in memory. `hash` is asked only if the entry is to be announced.
    fn put(
        &mut self,
        entry: &[u8],
        hash: impl FnOnce() -> EntryHash,
        flags: Flags,
    ) -> Result<(), MergedLogError> {
        let is_interleaved = flags.contains(Flag::Interleaved);
        let is_alone = stands_alone(entry).or_else(|source| self.fail_read(source))?;
        if is_interleaved || !is_alone {
            self.announce(Announcement {
                len: entry.len() as u64,
                hash: hash(),
                is_interleaved,
            })?;
        }
        self.copy(entry)?;
        self.separate();
        Ok(())
    }

    /// Appends the entry with this hash, whatever its size, in constant memory: that of a piece,
    /// 4 MiB. It is read twice, with what `open` returns.
    ///
    /// Returns `false` if another entry was read. Roll the batch back then.
    ///
    /// # Errors
    ///
    /// As for [`AppendBatch::append`]; [`MergedLogError::Read`] if it was a reader that failed.
    pub fn append_from<R: Read>(
        &mut self,
        hash: EntryHash,
        flags: Flags,
        mut open: impl FnMut() -> R,
    ) -> Result<bool, MergedLogError> {
        let mut seen = HashingReader::new(open());
        let is_alone = stands_alone(&mut seen).or_else(|source| self.fail_read(source))?;
        let rest = io::copy(&mut seen, &mut io::sink());
        rest.or_else(|source| self.fail_read(source))?;
        let said = Announcement {
            len: seen.len,
            hash: seen.hasher.finish(),
            is_interleaved: flags.contains(Flag::Interleaved),
        };
        if said.hash != hash {
            return Ok(false);
        }
        if said.is_interleaved || !is_alone {
            self.announce(said)?;
        }
        let mut copied = HashingReader::new(open());
        self.copy(&mut copied)?;
        self.separate();
        Ok(copied.hasher.finish() == hash)
    }

    /// Appends the line that announces the next entry.
    fn announce(&mut self, said: Announcement) -> Result<(), MergedLogError> {
        self.copy(said.line().as_bytes())
    }

    /// Appends what `reader` gives, and writes each piece that is full.
    fn copy(&mut self, mut reader: impl Read) -> Result<(), MergedLogError> {
        if self.undone {
            return Err(MergedLogError::TakenBack {
                path: self.log.path.clone(),
            });
        }
        self.entry = EntryEnds::default();
        loop {
            if self.buffer.len() >= FULL {
                self.write_piece()?;
                self.hasher.update(&self.buffer);
                self.buffer.clear();
            }
            let room = (FULL - self.buffer.len()) as u64;
            let start = self.buffer.len();
            let read = reader.by_ref().take(room).read_to_end(&mut self.buffer);
            let read = read.or_else(|source| self.fail_read(source))?;
            if read == 0 {
                return Ok(());
            }
            self.entry.update(&self.buffer[start..]);
        }
    }

    /// Separates what was copied last from the next entry.
    fn separate(&mut self) {
        self.buffer.extend_from_slice(self.entry.separator());
    }

    /// Writes what is left and waits until all of it is on disk. Now the store may commit.
    ///
    /// # Errors
    ///
    /// As for [`AppendBatch::append`].
    pub fn finish(mut self) -> Result<Appended<'a>, MergedLogError> {
        if self.undone {
            return Err(MergedLogError::TakenBack {
                path: self.log.path.clone(),
            });
        }
        if !self.buffer.is_empty() {
            self.write_piece()?;
        }
        if self.written > 0 {
            // A program that compresses a renamed log may have read it before the batch was in
            // there. A log that is still in its place is not being compressed yet.
            let in_place = is_at(&self.log.path, &self.log.file);
            if !in_place.or_else(|source| self.fail_write(source))? {
                return self.fail_rotated();
            }
            let synced = self.log.file.sync_data();
            synced.or_else(|source| self.fail_write(source))?;
            crash_points::pass("log-synced");
            if self.log_length()? < self.end() {
                return self.fail_rotated();
            }
            if let Err(error) = self.log.check_journal() {
                return self.fail(error);
            }
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
        self.log.take_back(self.written)
    }

    /// Notes the piece at hand and writes it.
    fn write_piece(&mut self) -> Result<(), MergedLogError> {
        let mut piece = std::mem::take(&mut self.buffer);
        let noted = match self.record.take() {
            None => self.note_first(&mut piece),
            Some(record) => self.note_later(record, &piece),
        };
        noted.or_else(|error| self.fail(error))?;
        crash_points::pass("journal-noted");
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let room = usize::try_from(CHUNK - self.end() % CHUNK).unwrap_or(rest.len());
            let (chunk, behind) = rest.split_at(room.min(rest.len()));
            self.write(chunk)?;
            crash_points::pass("part-written");
            rest = behind;
        }
        self.pieces += 1;
        self.buffer = piece;
        Ok(())
    }

    /// Notes the first piece and the log as it is now.
    ///
    /// A log that was rotated since the batch began is opened anew first: nothing is in it yet. If
    /// the log ends within a line, a line end is put before the piece.
    fn note_first(&mut self, piece: &mut Vec<u8>) -> Result<(), MergedLogError> {
        let path = self.log.path.clone();
        let failed = |source| MergedLogError::of_write(&path, source);
        if !is_at(&path, &self.log.file).map_err(failed)? {
            self.log.reopen()?;
        }
        let meta = self.log.file.metadata().map_err(failed)?;
        let length = meta.len();
        // What stands there was cut short; the first entry still starts on a fresh line.
        let last = last_byte(&self.log.file, length).map_err(failed)?;
        if last.is_some_and(|byte| byte != b'\n') {
            piece.insert(0, b'\n');
        }
        let head = &piece[..piece.len().min(FINGERPRINT)];
        let record = JournalRecord {
            batch: self.id,
            state: State::Pending,
            device: meta.dev(),
            inode: meta.ino(),
            uid: meta.uid(),
            length,
            before: hash_before(&self.log.file, length).map_err(failed)?,
            head: (head.len() as u64, blake3::hash(head)),
        };
        self.note(record, &meta, piece)
    }

    /// Notes another piece. Those before it must be in their place, and are synced first: the new
    /// note describes them by one hash, which holds only for all of them.
    fn note_later(&mut self, record: JournalRecord, piece: &[u8]) -> Result<(), MergedLogError> {
        let path = self.log.path.clone();
        let failed = |source| MergedLogError::of_write(&path, source);
        self.log.file.sync_data().map_err(failed)?;
        let meta = self.log.file.metadata().map_err(failed)?;
        if meta.len() != record.length + self.written {
            return Err(MergedLogError::Rotated { path });
        }
        self.note(record, &meta, piece)
    }

    /// Writes the note of one piece, with the hash of the pieces before it.
    fn note(
        &mut self,
        record: JournalRecord,
        log: &Metadata,
        piece: &[u8],
    ) -> Result<(), MergedLogError> {
        let done = (self.written, self.hasher.finalize());
        let hashes = BlockHashes::of_piece(&record, log, done, piece);
        self.log.note(&record, &hashes, self.pieces)?;
        self.record = Some(record);
        Ok(())
    }

    /// Writes behind what of the batch is in the log, or fails: bytes behind a truncation have
    /// nothing before them to be recognised by, and bytes behind another program's neither.
    fn write(&mut self, chunk: &[u8]) -> Result<(), MergedLogError> {
        if self.log_length()? != self.end() {
            return self.fail_rotated();
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            match (&self.log.file).write(rest) {
                Ok(0) => return self.fail_write(io::ErrorKind::WriteZero.into()),
                Ok(wrote) => {
                    self.written += wrote as u64;
                    rest = &rest[wrote..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.fail_write(error),
            }
        }
        // The end of what was appended, wherever that was.
        let position = (&self.log.file).stream_position();
        if position.or_else(|source| self.fail_write(source))? != self.end() {
            return self.fail_rotated();
        }
        Ok(())
    }

    /// Returns where the batch ends in the log.
    fn end(&self) -> u64 {
        self.record.as_ref().map_or(0, |record| record.length) + self.written
    }

    /// Returns how many bytes the open log has.
    fn log_length(&mut self) -> Result<u64, MergedLogError> {
        let meta = self.log.file.metadata();
        Ok(meta.or_else(|source| self.fail_write(source))?.len())
    }

    /// Takes the batch back because the log was emptied or renamed.
    fn fail_rotated<T>(&mut self) -> Result<T, MergedLogError> {
        let path = self.log.path.clone();
        self.fail(MergedLogError::Rotated { path })
    }

    /// Takes the batch back because the log could not be written or looked at.
    fn fail_write<T>(&mut self, source: io::Error) -> Result<T, MergedLogError> {
        let error = MergedLogError::of_write(&self.log.path, source);
        self.fail(error)
    }

    /// Takes the batch back because an entry could not be read.
    fn fail_read<T>(&mut self, source: io::Error) -> Result<T, MergedLogError> {
        self.fail(MergedLogError::Read { source })
    }

    /// Takes the batch back because of `error`, which it returns unless that fails too.
    fn fail<T>(&mut self, error: MergedLogError) -> Result<T, MergedLogError> {
        self.undone = true;
        self.log.take_back(self.written)?;
        Err(error)
    }
}

/// Hashes and counts the bytes that are read through it.
struct HashingReader<R> {
    /// Where the bytes come from.
    reader: R,
    /// Hashes every byte that was read.
    hasher: EntryHasher,
    /// Bytes read so far.
    len: u64,
}

impl<R: Read> HashingReader<R> {
    /// Returns a reader through which nothing was read yet.
    fn new(reader: R) -> HashingReader<R> {
        HashingReader {
            reader,
            hasher: EntryHasher::new(),
            len: 0,
        }
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.reader.read(buffer)?;
        self.hasher.update(&buffer[..got]);
        self.len += got as u64;
        Ok(got)
    }
}

impl EntryEnds {
    /// Takes the next bytes of the entry into account.
    fn update(&mut self, bytes: &[u8]) {
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
/// Dropping it leaves the batch pending, like dropping an [`AppendBatch`]. That is the right thing to
/// do if it is not known whether the store committed.
#[derive(Debug)]
#[must_use = "a batch that is dropped must be recovered"]
pub struct Appended<'a> {
    /// The log; its journal has the batch as pending.
    log: &'a mut MergedLog,
    /// Bytes that the log grew by.
    bytes: u64,
}

impl Appended<'_> {
    /// Returns how many bytes the log grew by.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the name of the journal that has the batch, see [`MergedLog::id`].
    pub fn journal(&self) -> &str {
        self.log.id()
    }

    /// Returns `true` if the log was removed or replaced since, and the batch is lost with it:
    /// append it again after [`Appended::commit`]. A log that was renamed first still has it,
    /// though it may be compressed.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn is_lost(&self) -> io::Result<bool> {
        was_removed(&self.log.path, &self.log.file)
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
        self.log.take_back(self.bytes)
    }
}

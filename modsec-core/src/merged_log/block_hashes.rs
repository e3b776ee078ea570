//! Which bytes of a file are a batch's own.
//!
//! A batch that was cut off leaves some of its first bytes behind, and another program may have
//! appended to the log since. So that the one can be told from the other, each piece of a batch is
//! noted with a hash of every block before its first byte is written. Blocks end where the pages of
//! the log do, since that is where the kernel ends what it did not write whole.
//!
//! ```text
//! log        0        4096       8192      12288     16384
//!            ├─ before ─┼─┬────────┼─────────┼────┬────┤
//!                         │ start = 4500          │ start + piece
//! blocks                  [4500,8192) [8192,12288) [12288,14000)
//! ```
//!
//! The note of a later piece must not destroy that of the one before, whose bytes are in the log
//! already: it goes to the other of two slots behind the journal's first page.
//!
//! ```text
//! journal    offset        what
//!            0             the record, one sector of text (journal.rs)
//!            512           id and machine (journal.rs)
//!            4096          slot of pieces 0, 2, 4, …
//!            20480         slot of pieces 1, 3, 5, …
//!
//! slot       offset bytes  what, all numbers in little endian
//!            0      16     batch
//!            16     8      start: length of the log before the batch
//!            24     8      when the log was made, in ns since 1970; 0 if not known
//!            32     8      bytes of the batch in earlier pieces
//!            40     32     hash of these bytes (BLAKE3)
//!            72     8      bytes of this piece, n blocks
//!            80     8 n    first 8 bytes of each block's hash
//!            80+8n  32     hash of all that
//! ```
//!
//! A slot that is torn fails its last hash, and the other one counts: its piece is in the log, and
//! of the torn one's nothing is, as it was not synced.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::SystemTime;

use blake3::{Hash, Hasher};

use super::journal::JournalRecord;

/// Most bytes of a piece: those of an ordinary batch, which then costs one sync of the journal.
pub(super) const PIECE: usize = 4 * 1024 * 1024;
/// Most bytes of a block: a page of the log.
const BLOCK: u64 = 4096;
/// Where the two slots begin in the journal.
const SLOTS: [u64; 2] = [4096, 4096 + 16 * 1024];
/// Bytes of a slot before the blocks.
const HEADER: usize = 16 + 8 + 8 + 8 + 32 + 8;
/// Bytes of the hash at a slot's end.
const CHECK: usize = 32;
/// Bytes of the longest slot: a piece that begins within a page has one block more.
const MOST: usize = HEADER + 8 * (PIECE / 4096 + 1) + CHECK;

/// What proves that bytes are the batch's: one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BlockHashes {
    /// Id of the batch.
    batch: [u8; 16],
    /// Length of the log before the batch.
    start: u64,
    /// When the log was made (nanoseconds since 1970), if the file system knows.
    born: Option<u64>,
    /// Length and hash of the pieces before this one.
    done: (u64, Hash),
    /// Length of this piece.
    piece: u64,
    /// Beginning of the hash of each block of this piece.
    blocks: Vec<[u8; 8]>,
}

impl BlockHashes {
    /// Describes a piece before it is written. `done` are the pieces before it.
    pub(super) fn of_piece(
        record: &JournalRecord,
        log: &Metadata,
        done: (u64, Hash),
        piece: &[u8],
    ) -> Self {
        let mut hashes = BlockHashes {
            batch: record.batch,
            start: record.length,
            born: born(log),
            done,
            piece: piece.len() as u64,
            blocks: Vec::new(),
        };
        let mut rest = piece;
        hashes.blocks = hashes
            .lengths()
            .map(|length| {
                let (block, behind) = rest.split_at(usize::try_from(length).unwrap_or(rest.len()));
                rest = behind;
                short(&blake3::hash(block))
            })
            .collect();
        hashes
    }

    /// Returns what the record alone proves, where no slot of its batch can be read: the first
    /// bytes, whose hash it has.
    fn of_record(record: &JournalRecord) -> Self {
        BlockHashes {
            batch: record.batch,
            start: record.length,
            born: None,
            done: record.head,
            piece: 0,
            blocks: Vec::new(),
        }
    }

    /// Returns `true` if a file with the log's inode may be the log. File systems use an inode
    /// again, even at once, for a file that is made later; then the times differ.
    pub(super) fn may_be_log(&self, meta: &Metadata) -> bool {
        match (self.born, born(meta)) {
            (Some(noted), Some(found)) => noted == found,
            _ => true,
        }
    }

    /// Returns how many bytes from `start` to at most `end` are the first ones of the batch: whole
    /// earlier pieces, then whole blocks of this one; 0 if the earlier pieces are not there.
    pub(super) fn first_bytes(&self, file: &File, start: u64, end: u64) -> io::Result<u64> {
        let (done, hash) = self.done;
        if end.saturating_sub(start) < done || hash_of(file, start, done)? != Some(hash) {
            return Ok(0);
        }
        Ok(done + self.blocks_at(file, start + done, end, 0)?)
    }

    /// Returns how many bytes at the beginning of the file are some of the batch: those of a log
    /// that was emptied while it was appended to. They may begin with any block.
    pub(super) fn any_bytes(&self, file: &File, end: u64) -> io::Result<u64> {
        let mut most = self.first_bytes(file, 0, end)?;
        for first in 0..self.blocks.len() {
            if most == end {
                break;
            }
            most = most.max(self.blocks_at(file, 0, end, first)?);
        }
        Ok(most)
    }

    /// Returns how many bytes from `start` to at most `end` equal the blocks from `first` on.
    fn blocks_at(&self, file: &File, start: u64, end: u64, first: usize) -> io::Result<u64> {
        let mut at = start;
        for (length, block) in self.lengths().zip(&self.blocks).skip(first) {
            if end.saturating_sub(at) < length {
                break;
            }
            let found = hash_of(file, at, length)?;
            if found.is_none_or(|hash| short(&hash) != *block) {
                break;
            }
            at += length;
        }
        Ok(at - start)
    }

    /// Returns the lengths of the piece's blocks, 1 to [`BLOCK`] bytes each, in order.
    fn lengths(&self) -> impl Iterator<Item = u64> + use<> {
        let mut at = self.start.wrapping_add(self.done.0);
        let mut left = self.piece;
        std::iter::from_fn(move || {
            let length = left.min(BLOCK - at % BLOCK);
            at = at.wrapping_add(length);
            left -= length;
            (length > 0).then_some(length)
        })
    }

    /// Returns the slot as it is in the journal.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MOST);
        bytes.extend_from_slice(&self.batch);
        bytes.extend_from_slice(&self.start.to_le_bytes());
        bytes.extend_from_slice(&self.born.unwrap_or(0).to_le_bytes());
        bytes.extend_from_slice(&self.done.0.to_le_bytes());
        bytes.extend_from_slice(self.done.1.as_bytes());
        bytes.extend_from_slice(&self.piece.to_le_bytes());
        bytes.extend_from_slice(self.blocks.as_flattened());
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }

    /// Reads a slot. One that is torn, foreign or never written is `None`.
    fn decode(slot: &[u8]) -> Option<Self> {
        let mut rest = slot;
        let batch = *take(&mut rest)?;
        let start = number(&mut rest)?;
        let born = Some(number(&mut rest)?).filter(|nanos| *nanos > 0);
        let done = (number(&mut rest)?, Hash::from_bytes(*take(&mut rest)?));
        let piece = number(&mut rest)?;
        let mut hashes = BlockHashes {
            batch,
            start,
            born,
            done,
            piece: (piece <= PIECE as u64).then_some(piece)?,
            blocks: Vec::new(),
        };
        for _ in hashes.lengths() {
            hashes.blocks.push(*take(&mut rest)?);
        }
        let check = blake3::hash(&slot[..slot.len() - rest.len()]);
        (check == Hash::from_bytes(*take(&mut rest)?)).then_some(hashes)
    }
}

/// Writes the slot of a batch's piece with this number, counted from 0. Not synced: the record is
/// synced behind it, in the same file.
pub(super) fn note(journal: &File, hashes: &BlockHashes, number: usize) -> io::Result<()> {
    journal.write_all_at(&hashes.encode(), SLOTS[number % SLOTS.len()])
}

/// Returns what is known of a batch: its last piece that was noted, or what the record alone
/// proves.
pub(super) fn read(journal: &File, record: &JournalRecord) -> io::Result<BlockHashes> {
    let mut found = Vec::new();
    for at in SLOTS {
        let mut slot = vec![0; MOST];
        let read = read_most(journal, &mut slot, at)?;
        found.extend(BlockHashes::decode(&slot[..read]));
    }
    let of_batch = found
        .into_iter()
        .filter(|hashes| (hashes.batch, hashes.start) == (record.batch, record.length));
    let last = of_batch.max_by_key(|hashes| hashes.done.0);
    Ok(last.unwrap_or_else(|| BlockHashes::of_record(record)))
}

/// Fills as much of `buffer` as the file has from `at` on; returns how much that is.
pub(super) fn read_most(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read_at(&mut buffer[read..], at + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Hashes `length` bytes from `start`; `None` if the file is too short.
fn hash_of(file: &File, start: u64, length: u64) -> io::Result<Option<Hash>> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; usize::try_from(length.min(64 * 1024)).unwrap_or_default()];
    let mut at = 0;
    while at < length {
        let part = usize::try_from(length - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        match file.read_exact_at(&mut buffer[..part], start + at) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        hasher.update(&buffer[..part]);
        at += part as u64;
    }
    Ok(Some(hasher.finalize()))
}

/// Returns the first eight bytes of a hash.
fn short(hash: &Hash) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    first
}

/// Returns when a file was made, in nanoseconds since 1970, if the file system knows (statx(2)).
fn born(meta: &Metadata) -> Option<u64> {
    let since = meta.created().ok()?.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.ok()?.as_nanos())
        .ok()
        .filter(|nanos| *nanos > 0)
}

/// Splits the next `N` bytes off.
fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(taken)
}

/// Splits a number in little endian off.
fn number(rest: &mut &[u8]) -> Option<u64> {
    take(rest).map(|bytes| u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merged_log::journal::State;

    fn record(length: u64) -> JournalRecord {
        JournalRecord {
            batch: [7; 16],
            state: State::Pending,
            device: 1,
            inode: 2,
            uid: 3,
            length,
            before: blake3::hash(b"before"),
            head: (4, blake3::hash(b"head")),
        }
    }

    fn hashes(length: u64, done: &[u8], piece: &[u8]) -> BlockHashes {
        let meta = tempfile::tempfile().unwrap().metadata().unwrap();
        let done = (done.len() as u64, blake3::hash(done));
        BlockHashes::of_piece(&record(length), &meta, done, piece)
    }

    #[test]
    fn the_longest_note_fits_its_slot_and_is_read_back() {
        for start in [0, 1, u64::MAX] {
            let hashes = hashes(start, b"done", &vec![b'x'; PIECE]);
            let bytes = hashes.encode();
            assert!(bytes.len() <= MOST && MOST as u64 <= SLOTS[1] - SLOTS[0]);
            assert_eq!(BlockHashes::decode(&bytes), Some(hashes));
        }
    }

    #[test]
    fn a_note_with_any_byte_changed_or_missing_is_none() {
        let good = hashes(100, b"done", &[b'x'; 9000]).encode();
        for at in 0..good.len() {
            let mut torn = good.clone();
            torn[at] ^= 1;
            assert_eq!(BlockHashes::decode(&torn), None, "byte {at}");
            assert_eq!(BlockHashes::decode(&good[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn the_last_note_of_the_batch_counts_and_without_one_the_record() {
        let journal = tempfile::tempfile().unwrap();
        let record = record(100);
        let of_record = BlockHashes::of_record(&record);
        assert_eq!(read(&journal, &record).unwrap(), of_record);
        let pieces = [b"".as_slice(), b"a", b"ab", b"abc"].map(|done| hashes(100, done, b"x"));
        for (number, piece) in pieces.iter().enumerate() {
            note(&journal, piece, number).unwrap();
            assert_eq!(&read(&journal, &record).unwrap(), piece);
        }
        // The last one is torn.
        journal.write_all_at(b"torn", SLOTS[1]).unwrap();
        assert_eq!(read(&journal, &record).unwrap(), pieces[2]);
        let other = JournalRecord {
            batch: [8; 16],
            ..record
        };
        let found = read(&journal, &other).unwrap();
        assert_eq!(found, BlockHashes::of_record(&other));
    }

    #[test]
    fn a_prefix_is_recognised_to_the_page_and_nothing_behind_it() {
        let piece: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
        let hashes = hashes(1103, b"abc", &piece);
        let whole = [b"abc".as_slice(), &piece].concat();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&whole, 1103).unwrap();
        let end = 1103 + whole.len() as u64;
        // The first block ends with the page, at 4096.
        for (length, own) in [
            (0, 0),
            (2, 0),
            (3, 3),
            (2992, 3),
            (2993, 2993),
            (2994, 2993),
        ] {
            let found = hashes.first_bytes(&file, 1103, 1103 + length).unwrap();
            assert_eq!(found, own, "{length}");
        }
        let found = hashes.first_bytes(&file, 1103, end).unwrap();
        assert_eq!(found, whole.len() as u64);
        file.write_all_at(b"foreign", end).unwrap();
        let found = hashes.first_bytes(&file, 1103, end + 7).unwrap();
        assert_eq!(found, whole.len() as u64);
    }
}

//! The note beside the log that makes an append undoable.
//!
//! One sector of text, so that an administrator can read it and the disk writes it whole:
//!
//! ```text
//! modsec merged log journal 1
//! batch 000102030405060708090a0b0c0d0e0f      id of the batch, chosen by the caller
//! state pending                               or done
//! file 64768 131073 0                         device, inode and owner of the log
//! length 81920                                of the log before the batch
//! before 8d74…                                hash of the last 4096 bytes before that length
//! head 4096 51ab…                             length and hash of the batch's first bytes
//! check 03fe…                                 hash of all lines above
//! ```
//!
//! (The comments at the right are not in the file.) The sector behind it holds `id` and 32 digits:
//! the journal's own name, made with it, under which a store remembers its last batch. A path or a
//! host name would not do, as two hosts can share them, and either can change. Behind it stands
//! `machine` and 32 digits, a hash of the machine's own id: on a copy of the machine the journal
//! gets another name.
//!
//! From the second page on follows what proves bytes to be the batch's, see
//! [`block_hashes`](super::block_hashes).
//!
//! The state goes from done to pending with a sync, and back without one. So a pending batch is
//! always known after a crash; one that is done may look pending, and then the store has it or
//! nothing of it is left to cut.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::SystemTime;

use blake3::Hash;

/// Bytes of the record: one sector of any disk.
const SIZE: usize = 512;
/// Key of the journal's name.
const ID: &str = "id ";
/// Key of the machine's hash.
const MACHINE: &str = "machine ";
/// Length of the two lines that begin with these keys, 32 digits and a line feed each.
const NAMES: usize = ID.len() + 33 + MACHINE.len() + 33;
/// First line. Its number is that of the form.
const TITLE: &str = "modsec merged log journal 1";

/// How far the batch got, as far as the journal knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The log may hold some, all or nothing of the batch; the store knows if it counts.
    Pending,
    /// Committed or taken back.
    Done,
}

/// What must be known to take a batch back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JournalRecord {
    /// Id of the batch.
    pub(super) batch: [u8; 16],
    /// Whether the store must be asked.
    pub(super) state: State,
    /// Device of the log, `st_dev`.
    pub(super) device: u64,
    /// Inode of the log, `st_ino`.
    pub(super) inode: u64,
    /// Owner of the log: copies of it have the same.
    pub(super) uid: u32,
    /// Length of the log before the batch.
    pub(super) length: u64,
    /// Hash of the last bytes before that length, at most 4096.
    pub(super) before: Hash,
    /// Length and hash of the batch's first bytes; the only proof if the log was empty.
    pub(super) head: (u64, Hash),
}

impl JournalRecord {
    /// Returns the record as a sector, filled up with line feeds.
    fn encode(&self) -> [u8; SIZE] {
        let state = match self.state {
            State::Pending => "pending",
            State::Done => "done",
        };
        let batch = u128::from_be_bytes(self.batch);
        let (device, inode, uid, length) = (self.device, self.inode, self.uid, self.length);
        let (head, head_hash) = self.head;
        let text = format!(
            "{TITLE}\nbatch {batch:032x}\nstate {state}\nfile {device} {inode} {uid}\n\
             length {length}\nbefore {}\nhead {head} {}\n",
            self.before.to_hex(),
            head_hash.to_hex(),
        );
        let check = blake3::hash(text.as_bytes()).to_hex();
        let text = format!("{text}check {check}\n");
        let mut sector = [b'\n'; SIZE];
        // 447 bytes with the longest numbers.
        sector[..text.len()].copy_from_slice(text.as_bytes());
        sector
    }

    /// Reads a record. A torn or foreign one is `None`.
    fn decode(sector: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(sector).ok()?;
        let (body, check) = text.split_once("check ")?;
        if Hash::from_hex(check.trim_ascii_end()).ok()? != blake3::hash(body.as_bytes()) {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let mut value = |key: &str| lines.next()?.strip_prefix(key)?.strip_prefix(' ');
        let batch = u128::from_str_radix(value("batch")?, 16).ok()?;
        let state = match value("state")? {
            "pending" => State::Pending,
            "done" => State::Done,
            _ => return None,
        };
        let mut file = value("file")?.split(' ');
        let (device, inode, uid) = (file.next()?, file.next()?, file.next()?);
        let length = value("length")?.parse().ok()?;
        let before = Hash::from_hex(value("before")?).ok()?;
        let (head, head_hash) = value("head")?.split_once(' ')?;
        Some(JournalRecord {
            batch: batch.to_be_bytes(),
            state,
            device: device.parse().ok()?,
            inode: inode.parse().ok()?,
            uid: uid.parse().ok()?,
            length,
            before,
            head: (head.parse().ok()?, Hash::from_hex(head_hash).ok()?),
        })
    }
}

/// Returns the record if it says that a batch was interrupted.
///
/// A torn record counts as none: the record is on disk before the first byte of its batch is
/// written, so where it is torn, the log was not touched; and the batch before it was finished.
pub(super) fn pending(file: &File) -> io::Result<Option<JournalRecord>> {
    let mut sector = [0; SIZE];
    match file.read_exact_at(&mut sector, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok(JournalRecord::decode(&sector).filter(|record| record.state == State::Pending))
}

/// Writes the record and waits until it is on disk.
///
/// The slot that was written before is in the same file and gets to the disk with it.
pub(super) fn begin(file: &File, record: &JournalRecord) -> io::Result<()> {
    file.write_all_at(&record.encode(), 0)?;
    file.sync_data()
}

/// Marks the record as done. Not synced: if the mark is lost, the next start asks the store or
/// finds nothing left to take back.
pub(super) fn finish(file: &File, record: &JournalRecord) -> io::Result<()> {
    let done = JournalRecord {
        state: State::Done,
        ..record.clone()
    };
    file.write_all_at(&done.encode(), 0)
}

/// Returns the journal's own name, and makes one if it has none, or if it was copied from another
/// machine; but not while a batch is pending, which the store knows under the old name.
///
/// A journal that was made without knowing the machine gets its hash added, as soon as one is
/// known.
pub(super) fn id(file: &File, machine: Option<&str>, is_pending: bool) -> io::Result<String> {
    let mut lines = [0; NAMES];
    let read = file.read_at(&mut lines, SIZE as u64)?;
    let text = std::str::from_utf8(&lines[..read]).unwrap_or_default();
    let known = digits(text, ID);
    let noted = text
        .get(ID.len() + 33..)
        .and_then(|text| digits(text, MACHINE));
    let is_copy = noted.is_some() && machine.is_some() && noted != machine;
    if let Some(id) = known.filter(|_| is_pending || !is_copy) {
        // The time of the journal tells which copies of the log are older than a pending batch.
        if noted.is_none() && machine.is_some() && !is_pending {
            name(file, id, machine)?;
        }
        return Ok(id.to_owned());
    }
    // Each state is seeded by the system's random numbers.
    let random = || RandomState::new().build_hasher().finish();
    let id = format!("{:016x}{:016x}", random(), random());
    name(file, &id, machine)?;
    Ok(id)
}

/// Writes the journal's name and the machine's hash, and waits until they are on disk.
fn name(file: &File, id: &str, machine: Option<&str>) -> io::Result<()> {
    let machine = machine.map(|hash| format!("{MACHINE}{hash}\n"));
    let lines = format!("{ID}{id}\n{}", machine.unwrap_or_default());
    file.write_all_at(lines.as_bytes(), SIZE as u64)?;
    file.sync_all()
}

/// Returns the 32 hexadecimal digits behind `key` at the beginning of `text`.
fn digits<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let digits = text.strip_prefix(key)?.get(..32)?;
    let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then_some(digits)
}

/// Returns a hash of this machine's id, 32 digits; `None` if it has none. Source: machine-id(5).
pub(super) fn machine() -> Option<String> {
    let id = std::fs::read_to_string("/etc/machine-id").ok()?;
    let is_id = id.trim_end().len() == 32;
    // The id itself is not to be shown to others, says machine-id(5).
    let hash = blake3::hash(format!("{TITLE} {id}").as_bytes()).to_hex();
    is_id.then(|| hash[..32].to_owned())
}

/// Returns when the record was written. Nothing of its batch is older.
pub(super) fn written(file: &File) -> io::Result<SystemTime> {
    file.metadata()?.modified()
}

/// Returns `true` if the opened journal is a plain file with one name that belongs to this account.
pub(super) fn is_ours(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    let us = rustix::process::geteuid().as_raw();
    Ok(meta.is_file() && meta.nlink() == 1 && meta.uid() == us)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> JournalRecord {
        JournalRecord {
            batch: u128::MAX.to_be_bytes(),
            state: State::Pending,
            device: u64::MAX,
            inode: u64::MAX,
            uid: u32::MAX,
            length: u64::MAX,
            before: blake3::hash(b"before"),
            head: (u64::MAX, blake3::hash(b"head")),
        }
    }

    #[test]
    fn the_longest_record_fits_a_sector_and_is_read_back() {
        for state in [State::Pending, State::Done] {
            let record = JournalRecord { state, ..record() };
            assert_eq!(JournalRecord::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn a_record_with_any_byte_changed_is_none() {
        let good = record().encode();
        let end = good.trim_ascii_end().len();
        for at in 0..end {
            let mut torn = good;
            torn[at] ^= 1;
            assert_eq!(JournalRecord::decode(&torn), None, "byte {at}");
        }
    }

    #[test]
    fn an_empty_or_short_journal_means_nothing_is_pending() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(pending(&file).unwrap(), None);
        file.write_all_at(b"modsec", 0).unwrap();
        assert_eq!(pending(&file).unwrap(), None);
        begin(&file, &record()).unwrap();
        assert_eq!(pending(&file).unwrap(), Some(record()));
        finish(&file, &record()).unwrap();
        assert_eq!(pending(&file).unwrap(), None);
    }

    #[test]
    fn a_journal_keeps_its_name_except_on_a_copy_of_the_machine() {
        let file = tempfile::tempfile().unwrap();
        let (one, other) = ("1".repeat(32), "2".repeat(32));
        let old = "0123456789abcdef".repeat(2);
        // As an earlier version wrote it.
        file.write_all_at(format!("id {old}\n").as_bytes(), SIZE as u64)
            .unwrap();
        let name = |machine: Option<&str>, is_pending| id(&file, machine, is_pending).unwrap();
        assert_eq!(name(None, false), old);
        assert_eq!(name(Some(&one), false), old);
        assert_eq!(name(Some(&one), false), old);
        assert_eq!(name(None, false), old);
        assert_eq!(name(Some(&other), true), old);
        let new = name(Some(&other), false);
        assert_ne!(new, old);
        assert_eq!(name(Some(&other), false), new);
        assert_ne!(name(Some(&one), false), new);
    }
}

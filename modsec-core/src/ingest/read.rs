//! One file, from its descriptor to a row.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::rows::Rows as RowMaker;
use super::several::{Held, Progress, Several};
use crate::entry_hash::{EntryHash, EntryHasher};
use crate::format::large::{Excerpts, Large};
use crate::format::{self, Defect};
use crate::heartbeat::Heartbeat;
pub(super) use crate::log_reader::{Extent, IN_MEMORY};
use crate::record::{Flag, Flags, Record};
use crate::serial_log::appended;
use crate::store::{Origin, Row};

/// Bytes read at a time of a larger entry.
const WINDOW: usize = 256 * 1024;

/// Taken while a large entry is decoded: what is kept of one may have several megabytes, which the
/// reservations of the readers do not cover.
static ONE_LARGE: Mutex<()> = Mutex::new(());

/// An entry's own bytes: in memory, or in their file still.
#[derive(Debug)]
pub(super) enum Bytes {
    Whole(Vec<u8>),
    InFile(Extent),
}

impl Bytes {
    pub(super) fn len(&self) -> u64 {
        match self {
            Bytes::Whole(bytes) => bytes.len() as u64,
            Bytes::InFile(extent) => extent.len,
        }
    }

    /// Bytes that are held in memory.
    pub(super) fn held(&self) -> usize {
        match self {
            Bytes::Whole(bytes) => bytes.len(),
            Bytes::InFile(_) => 0,
        }
    }
}

/// What was read of an entry.
#[derive(Debug)]
pub(super) struct ReadRow {
    pub(super) row: Row,
    pub(super) flags: Flags,
    pub(super) json: Option<String>,
    pub(super) bytes: Bytes,
    /// What all but `bytes` takes in memory, in bytes, about.
    pub(super) row_size: usize,
}

impl ReadRow {
    fn new((row, json): (Row, Option<String>), flags: Flags, bytes: Bytes) -> ReadRow {
        ReadRow {
            row_size: row.size() + json.as_ref().map_or(0, String::len),
            row,
            flags,
            json,
            bytes,
        }
    }

    /// Bytes that it holds in memory, about.
    pub(super) fn size(&self) -> usize {
        self.row_size + self.bytes.held()
    }
}

/// Why there is no row.
#[derive(Debug)]
pub(super) enum NoRow {
    /// The entry is not complete; it may still be growing.
    Incomplete,
    /// It is no entry.
    Defect(Defect),
    /// It could not be read, or changed while it was.
    Io(io::Error),
}

/// How a row is made.
pub(super) trait MakeRow: Sync {
    /// Makes the row, and the JSON line if one is wanted.
    fn make(&self, record: &Record<'_>, hash: EntryHash, origin: Origin) -> (Row, Option<String>);
}

/// Reads `size` bytes from `file`, which has one entry, or several of an engine that appends, and
/// decodes them. An incomplete entry is taken only `if_cut`. Several are decoded when they are asked
/// for, from where `left_off` says on.
pub(super) fn read(
    file: File,
    size: u64,
    origin: Origin,
    if_cut: CutEntries,
    make: &RowMaker,
    heartbeat: &Heartbeat,
    left_off: Option<Arc<Progress>>,
) -> Result<Rows, NoRow> {
    if size == 0 {
        return Err(if_cut.incomplete(Defect::Empty));
    }
    let several = |held, progress, origin| {
        Rows::of(Several {
            held,
            progress,
            taken: 0,
            origin,
            if_cut,
            make: make.clone(),
            heartbeat: heartbeat.clone(),
        })
    };
    let places = |read: &dyn Fn(Range<u64>) -> io::Result<Vec<u8>>| match left_off {
        Some(progress) => Ok(Some(progress)),
        None => appended::records(size, read)
            .map(|places| places.map(|places| Arc::new(Progress::new(places))))
            .map_err(NoRow::Io),
    };
    if size <= IN_MEMORY {
        let bytes = read_range(&file, 0..size).map_err(NoRow::Io)?;
        let slice = |range: Range<u64>| {
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            Ok(bytes
                .get(index(range.start)..index(range.end))
                .unwrap_or_default()
                .to_vec())
        };
        if let Some(progress) = places(&slice)? {
            return several(Held::Memory(bytes), progress, origin);
        }
        return row(bytes, Flags::none(), origin, if_cut, make).map(Rows::from);
    }
    let whole = Extent {
        file: Arc::new(file),
        start: 0,
        len: size,
        flags: Flags::none(),
    };
    let window = |range| {
        heartbeat.beat();
        read_range(&whole.file, range)
    };
    if let Some(progress) = places(&window)? {
        return several(Held::File(whole.file), progress, origin);
    }
    large_row(whole, origin, if_cut, make, heartbeat).map(Rows::from)
}

/// The rows of one file.
#[derive(Debug)]
pub(super) enum Rows {
    One(Option<Box<ReadRow>>),
    Several(Box<Several>),
}

impl From<ReadRow> for Rows {
    fn from(row: ReadRow) -> Rows {
        Rows::One(Some(Box::new(row)))
    }
}

impl Rows {
    fn of(several: Several) -> Result<Rows, NoRow> {
        several.begin().map(Box::new).map(Rows::Several)
    }

    /// Returns how far the file was taken.
    pub(super) fn progress(&self) -> Arc<Progress> {
        match self {
            Rows::One(_) => Arc::default(),
            Rows::Several(several) => Arc::clone(&several.progress),
        }
    }

    /// Returns how many of several were handed out, now and before; `None` at the end, and for a
    /// file of one entry.
    pub(super) fn is_within(&self) -> Option<usize> {
        match self {
            Rows::Several(several) if !several.is_at_end() => Some(several.taken),
            _ => None,
        }
    }

    pub(super) fn are_several(&self) -> bool {
        matches!(self, Rows::Several(_))
    }

    /// Bytes that they hold in memory before the first of several is asked for, about.
    pub(super) fn size(&self) -> usize {
        match self {
            Rows::One(row) => row.as_ref().map_or(0, |row| row.size()),
            Rows::Several(several) => match &several.held {
                Held::Memory(bytes) => bytes.len(),
                Held::File(_) => 0,
            },
        }
    }
}

impl Iterator for Rows {
    type Item = Result<ReadRow, NoRow>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Rows::One(row) => row.take().map(|row| Ok(*row)),
            Rows::Several(several) => several.next(),
        }
    }
}

/// Decodes an entry that is in memory; `flags` is what is odd about the place where it stood.
pub(super) fn row(
    mut bytes: Vec<u8>,
    flags: Flags,
    origin: Origin,
    if_cut: CutEntries,
    make: &impl MakeRow,
) -> Result<ReadRow, NoRow> {
    let cut = !format::is_complete(&bytes);
    let is_line = bytes.last() == Some(&b'\n');
    // The line feed behind a document is not there in every log.
    while bytes.first() == Some(&b'{') && bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let mut record = format::decode(&bytes).map_err(|defect| match defect {
        defect if is_line => NoRow::Defect(defect),
        defect => if_cut.defect(defect, &bytes),
    })?;
    if cut && if_cut == CutEntries::Wait {
        return Err(NoRow::Incomplete);
    }
    if flags.contains(Flag::Interleaved) {
        record.mark_interleaved();
    }
    let flags = record.flags;
    let row = make.make(&record, EntryHash::of(&bytes), origin);
    Ok(ReadRow::new(row, flags, Bytes::Whole(bytes)))
}

/// Decodes an entry that is too large for memory.
pub(super) fn large_row(
    extent: Extent,
    origin: Origin,
    if_cut: CutEntries,
    make: &impl MakeRow,
    heartbeat: &Heartbeat,
) -> Result<ReadRow, NoRow> {
    let _one = ONE_LARGE.lock().unwrap_or_else(PoisonError::into_inner);
    // In a thread of its own, which ends: of what a thread has freed, the allocator keeps a few
    // megabytes for it, and would do so for each reader.
    thread::scope(|scope| {
        let decode = || decode_large(extent, origin, if_cut, make, heartbeat);
        let decoding = thread::Builder::new()
            .name("read-large".to_owned())
            .spawn_scoped(scope, decode)
            .map_err(NoRow::Io)?;
        decoding.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn decode_large(
    mut extent: Extent,
    origin: Origin,
    if_cut: CutEntries,
    make: &impl MakeRow,
    heartbeat: &Heartbeat,
) -> Result<ReadRow, NoRow> {
    extent.trim().map_err(NoRow::Io)?;
    let (excerpts, hash) = read_large(&extent, if_cut, heartbeat)?;
    let mut record = excerpts.record();
    if record.flags.contains(Flag::Truncated) && if_cut == CutEntries::Wait {
        return Err(NoRow::Incomplete);
    }
    if extent.flags.contains(Flag::Interleaved) {
        record.mark_interleaved();
    }
    let flags = record.flags;
    let row = make.make(&record, hash, origin);
    Ok(ReadRow::new(row, flags, Bytes::InFile(extent)))
}

impl Extent {
    /// Leaves out the line feed behind a document, which is not there in every log.
    fn trim(&mut self) -> io::Result<()> {
        let byte = |at: u64| read_range(&self.file, at..at + 1);
        if self.len > 0 && byte(self.start)? == b"{" && byte(self.start + self.len - 1)? == b"\n" {
            self.len -= 1;
        }
        Ok(())
    }
}

/// What to do with an entry that does not end with part Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CutEntries {
    /// Its writer may still be at work.
    Wait,
    /// Nothing more will come.
    Take,
}

impl CutEntries {
    fn incomplete(self, defect: Defect) -> NoRow {
        match self {
            CutEntries::Wait => NoRow::Incomplete,
            CutEntries::Take => NoRow::Defect(defect),
        }
    }

    /// The first line itself may be incomplete.
    fn defect(self, defect: Defect, bytes: &[u8]) -> NoRow {
        let line_is_open = !bytes.contains(&b'\n') && bytes.len() < 64;
        if line_is_open {
            self.incomplete(defect)
        } else {
            NoRow::Defect(defect)
        }
    }
}

/// Reads a large entry in windows, for its hash and to find what is worth keeping, and then that.
fn read_large(
    extent: &Extent,
    if_cut: CutEntries,
    heartbeat: &Heartbeat,
) -> Result<(Excerpts, EntryHash), NoRow> {
    let Extent {
        file, start, len, ..
    } = extent;
    let mut window = Vec::with_capacity(WINDOW + Large::OVERLAP);
    let mut hasher = EntryHasher::new();
    let mut large: Option<Large> = None;
    let (mut offset, mut read) = (0, 0);
    while read < *len {
        let more = read..*len.min(&(read + WINDOW as u64));
        let more = read_range(file, start + more.start..start + more.end).map_err(NoRow::Io)?;
        read += more.len() as u64;
        heartbeat.beat();
        hasher.update(&more);
        window.extend_from_slice(&more);
        let found = match &mut large {
            Some(large) => large,
            none => {
                none.insert(Large::open(&window).map_err(|defect| if_cut.defect(defect, &window))?)
            }
        };
        found.scan(&window, offset, read == *len);
        let done = window.len().saturating_sub(Large::OVERLAP);
        window.drain(..done);
        offset += done as u64;
    }
    let large = large.ok_or(NoRow::Incomplete)?;
    let excerpts = large
        .finish(|range| read_range(file, start + range.start..start + range.end))
        .map_err(NoRow::Io)?;
    Ok((excerpts, hasher.finish()))
}

pub(super) fn read_range(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Reads an entry from its beginning, whatever was read of it before.
pub(super) struct Rereading<'f> {
    file: &'f File,
    heartbeat: &'f Heartbeat,
    at: u64,
    left: u64,
}

impl<'f> Rereading<'f> {
    pub(super) fn new(extent: &'f Extent, heartbeat: &'f Heartbeat) -> Self {
        Rereading {
            file: &extent.file,
            heartbeat,
            at: extent.start,
            left: extent.len,
        }
    }
}

impl Read for Rereading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let got = self
            .file
            .read_at(buffer.get_mut(..most).unwrap_or_default(), self.at)?;
        self.heartbeat.beat();
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

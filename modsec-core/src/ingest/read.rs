//! One file, from its descriptor to a row.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use crate::entry_hash::{EntryHash, EntryHasher};
use crate::format::native::{Excerpts, Outline};
use crate::format::{self, Defect};
use crate::heart::Heart;
use crate::record::{Flag, Flags, Record};
use crate::store::{Origin, Row};

/// Entries up to this size are read into memory as a whole. Nearly all are smaller; a larger one
/// is a stored upload, and is read in windows and copied from its file.
pub(super) const IN_MEMORY: u64 = 512 * 1024;

/// Bytes read at a time of a larger entry.
const WINDOW: usize = 256 * 1024;

/// An entry's own bytes: in memory, or in their file still.
#[derive(Debug)]
pub(super) enum Bytes {
    Whole(Vec<u8>),
    InFile { file: File, len: u64 },
}

impl Bytes {
    pub(super) fn len(&self) -> u64 {
        match self {
            Bytes::Whole(bytes) => bytes.len() as u64,
            Bytes::InFile { len, .. } => *len,
        }
    }

    /// Bytes that are held in memory.
    pub(super) fn held(&self) -> usize {
        match self {
            Bytes::Whole(bytes) => bytes.len(),
            Bytes::InFile { .. } => 0,
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
pub(super) trait MakeRow {
    /// Makes the row, and the JSON line if one is wanted.
    fn make(&self, record: &Record<'_>, hash: EntryHash, origin: Origin) -> (Row, Option<String>);
}

/// Reads `size` bytes from `file` and decodes them. An incomplete entry is taken only `if_cut`.
pub(super) fn read(
    file: File,
    size: u64,
    origin: Origin,
    if_cut: CutEntries,
    make: &impl MakeRow,
    heart: &Heart,
) -> Result<ReadRow, NoRow> {
    if size == 0 {
        return Err(if_cut.incomplete(Defect::Empty));
    }
    if size <= IN_MEMORY {
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        (&file)
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(NoRow::Io)?;
        let cut = !format::is_complete(&bytes);
        let record = format::decode(&bytes).map_err(|defect| if_cut.defect(defect, &bytes))?;
        if cut && if_cut == CutEntries::Wait {
            return Err(NoRow::Incomplete);
        }
        let flags = record.flags;
        let (row, json) = make.make(&record, EntryHash::of(&bytes), origin);
        return Ok(ReadRow {
            row,
            flags,
            json,
            bytes: Bytes::Whole(bytes),
        });
    }
    let (excerpts, hash) = read_large(&file, size, if_cut, heart)?;
    let record = excerpts.record();
    if record.flags.contains(Flag::Truncated) && if_cut == CutEntries::Wait {
        return Err(NoRow::Incomplete);
    }
    let flags = record.flags;
    let (row, json) = make.make(&record, hash, origin);
    Ok(ReadRow {
        row,
        flags,
        json,
        bytes: Bytes::InFile { file, len: size },
    })
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

/// Reads a large entry twice: once in windows, for its hash and its delimiters, and then the
/// beginnings of its parts.
fn read_large(
    mut file: &File,
    size: u64,
    if_cut: CutEntries,
    heart: &Heart,
) -> Result<(Excerpts, EntryHash), NoRow> {
    file.seek(SeekFrom::Start(0)).map_err(NoRow::Io)?;
    let mut window = Vec::with_capacity(WINDOW + Outline::OVERLAP);
    let mut hasher = EntryHasher::new();
    let mut outline: Option<Outline> = None;
    let (mut start, mut read) = (0, 0);
    while read < size {
        let kept = window.len();
        let most = (size - read).min(WINDOW as u64);
        let got = file
            .take(most)
            .read_to_end(&mut window)
            .map_err(NoRow::Io)?;
        if got == 0 {
            return Err(NoRow::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        read += got as u64;
        heart.beat();
        hasher.update(window.get(kept..).unwrap_or_default());
        let found = match &mut outline {
            Some(outline) => outline,
            none => none
                .insert(Outline::open(&window).map_err(|defect| if_cut.defect(defect, &window))?),
        };
        found.scan(&window, start, read == size);
        let done = window.len().saturating_sub(Outline::OVERLAP);
        window.drain(..done);
        start += done as u64;
    }
    let outline = outline.ok_or(NoRow::Incomplete)?;
    let layout = outline.layout(|range| {
        let end = range.end.min(range.start + Excerpts::MAX_PART);
        read_range(file, range.start..end)
            .unwrap_or_default()
            .into()
    });
    let excerpts = Excerpts::read(layout, |range| read_range(file, range)).map_err(NoRow::Io)?;
    Ok((excerpts, hasher.finish()))
}

fn read_range(file: &File, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Reads a file from its beginning, whatever was read of it before, and hashes what goes by.
pub(super) struct Rereading<'f> {
    file: &'f File,
    heart: &'f Heart,
    at: u64,
    left: u64,
    hasher: EntryHasher,
}

impl<'f> Rereading<'f> {
    pub(super) fn new(file: &'f File, len: u64, heart: &'f Heart) -> Self {
        Rereading {
            file,
            heart,
            at: 0,
            left: len,
            hasher: EntryHasher::new(),
        }
    }

    pub(super) fn hash(&self) -> EntryHash {
        self.hasher.finish()
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
        self.heart.beat();
        self.at += got as u64;
        self.left -= got as u64;
        self.hasher.update(buffer.get(..got).unwrap_or_default());
        Ok(got)
    }
}

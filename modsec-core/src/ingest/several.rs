//! Several entries in the file of one: libmodsecurity appends to a file that exists already.
//!
//! ModSecurity 2 never does, so there a second entry is somebody's forgery, and the file is one
//! ambiguous entry. So is what is not entries from its first to its last byte.

use std::fs::File;
use std::io;
use std::sync::Arc;

use super::read::{self, CutEntries, Extent, NoRow, ReadRow, read_range};
use super::rows::Rows as RowMaker;
use crate::format::{self, Defect, Format};
use crate::heart::Heart;
use crate::record::Flags;
use crate::serial_log::{Outlook, Piece, Splitter};
use crate::store::Origin;

/// Entries of one file at the most. One that holds more is a log, and stays for whoever reads it
/// as an input.
const MAX_ENTRIES: usize = 64;
/// Bytes read at a time.
const CHUNK: u64 = 256 * 1024;

/// The entries of a file, which are decoded one at a time: all rows of one file would fill the
/// memory.
#[derive(Debug)]
pub(super) struct Several {
    pub(super) held: Held,
    /// By start and length.
    pub(super) entries: Vec<(u64, u64)>,
    /// How many were handed out.
    pub(super) taken: usize,
    pub(super) origin: Origin,
    pub(super) if_cut: CutEntries,
    pub(super) make: RowMaker,
    pub(super) heart: Heart,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Held {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Several {
    /// Decodes all entries once, and shows the rows to `seen`. An entry that is none harms only
    /// itself, and is returned; one that is not finished, or cannot be read, is waited for.
    pub(super) fn check(&self, mut seen: impl FnMut(&ReadRow)) -> Result<Option<Defect>, NoRow> {
        let mut defect = None;
        for entry in &self.entries {
            match self.decode(*entry) {
                Ok(row) => seen(&row),
                Err(NoRow::Defect(found)) => defect = Some(found),
                Err(wait) => return Err(wait),
            }
        }
        Ok(defect)
    }

    fn decode(&self, (start, len): (u64, u64)) -> Result<ReadRow, NoRow> {
        let (origin, if_cut) = (self.origin.clone(), self.if_cut);
        match &self.held {
            Held::Memory(bytes) => {
                let slice = || {
                    let start = usize::try_from(start).ok()?;
                    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
                };
                let entry = slice().unwrap_or_default().to_vec();
                read::row(entry, Flags::none(), origin, if_cut, &self.make)
            }
            Held::File(file) => {
                let extent = Extent {
                    file: Arc::clone(file),
                    start,
                    len,
                    flags: Flags::none(),
                };
                read::large_row(extent, origin, if_cut, &self.make, &self.heart)
            }
        }
    }
}

impl Iterator for Several {
    type Item = Result<ReadRow, NoRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let entry = *self.entries.get(self.taken)?;
        self.taken += 1;
        Some(self.decode(entry))
    }
}

/// Returns the entries by start and length, if there are several.
pub(super) fn in_memory(bytes: &[u8]) -> io::Result<Option<Vec<(u64, u64)>>> {
    if !may_be_several(bytes) {
        return Ok(None);
    }
    let mut splitter = Splitter::new(0, usize::MAX);
    splitter.buffer().extend_from_slice(bytes);
    let mut found = Found::default();
    found.take_all(&mut splitter, Outlook::End);
    found.entries()
}

/// The same of a large file.
pub(super) fn in_file(file: &Extent, heart: &Heart) -> io::Result<Option<Vec<(u64, u64)>>> {
    let chunk = |from: u64| read_range(&file.file, from..file.len.min(from + CHUNK));
    let head = chunk(0)?;
    if !may_be_several(&head) {
        return Ok(None);
    }
    let mut splitter = Splitter::new(0, usize::try_from(CHUNK).unwrap_or(usize::MAX));
    let mut found = Found::default();
    let mut read = 0;
    while read < file.len && !found.is_log() {
        let more = chunk(read)?;
        read += more.len() as u64;
        heart.beat();
        splitter.buffer().extend_from_slice(&more);
        let outlook = if read < file.len {
            Outlook::More
        } else {
            Outlook::End
        };
        found.take_all(&mut splitter, outlook);
    }
    found.entries()
}

fn may_be_several(head: &[u8]) -> bool {
    !matches!(format::detect(head), None | Some(Format::NativeV2))
}

/// Entries, by start and length.
#[derive(Debug, Default)]
struct Found {
    entries: Vec<(u64, u64)>,
    is_odd: bool,
}

impl Found {
    fn take_all(&mut self, splitter: &mut Splitter, outlook: Outlook) {
        while let Some(piece) = splitter.next(outlook) {
            match piece {
                Piece::Entry { bytes, flags, at } => {
                    self.entries.push((at, bytes.len() as u64));
                    self.is_odd |= !flags.is_empty();
                }
                Piece::End {
                    at,
                    len,
                    overrun,
                    flags,
                } => {
                    self.entries.push((at, len));
                    self.is_odd |= overrun || !flags.is_empty();
                }
                Piece::Foreign { .. } => self.is_odd = true,
                Piece::Part(_) => {}
            }
        }
    }

    fn is_log(&self) -> bool {
        self.entries.len() > MAX_ENTRIES
    }

    fn entries(self) -> io::Result<Option<Vec<(u64, u64)>>> {
        if self.is_log() {
            return Err(io::Error::other(format!(
                "holds more than {MAX_ENTRIES} entries; read it as an INPUT, then remove it"
            )));
        }
        Ok((self.entries.len() > 1 && !self.is_odd).then_some(self.entries))
    }
}

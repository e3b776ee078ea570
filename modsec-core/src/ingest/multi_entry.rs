//! The entries of one file: nearly always one, or those that libmodsecurity has appended.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::decoder::EntryDecoder;
use super::entry::{CutEntries, DecodedEntry, Extent, IN_MEMORY, NoEntry};
use super::large_entry::read_range;
use super::progress::Progress;
use crate::format::{self, Among, Defect};
use crate::record::Flags;
use crate::serial_log::{appended, own_file};
use crate::store::Origin;

/// What was read of one file.
#[derive(Debug)]
pub(super) enum FileEntries {
    /// A file with a single entry, which is decoded already.
    One(Box<DecodedEntry>),
    /// A file to which the engine has appended entries.
    Several(MultiEntry),
}

impl FileEntries {
    /// Returns how many bytes they hold in memory, about; of several, before the first is asked for.
    pub(super) fn held(&self) -> usize {
        match self {
            FileEntries::One(entry) => entry.held(),
            FileEntries::Several(several) => match &several.bytes {
                FileBytes::Memory(bytes) => bytes.len(),
                FileBytes::File(..) => 0,
            },
        }
    }
}

/// The entries of a file, which are decoded one at a time: all rows of one file would fill the
/// memory, and take as long as the file is large.
#[derive(Debug)]
pub(super) struct MultiEntry {
    /// What the entries are cut from.
    bytes: FileBytes,
    /// How far the file was taken.
    pub(super) progress: Arc<Progress>,
    /// How many were handed out, now and before.
    taken: usize,
    /// Sensor, account and path of the rows.
    origin: Origin,
    /// What to do if the last entry has no end.
    if_cut: CutEntries,
    /// Decodes each entry when it is asked for.
    decoder: Arc<EntryDecoder>,
}

/// Where the bytes of a whole file are, but for what stands [around](own_file) its entries.
#[derive(Debug)]
enum FileBytes {
    /// Those of a file of at most [`IN_MEMORY`] bytes.
    Memory(Vec<u8>),
    /// A larger file, which is read again for each entry, and where in it they are.
    File(Arc<File>, Range<u64>),
}

impl FileBytes {
    /// Reads `size` bytes of `file`, or both ends of a large one.
    ///
    /// # Errors
    ///
    /// As for [`FileBytes::range`].
    fn read(file: File, size: u64) -> io::Result<FileBytes> {
        if size <= IN_MEMORY as u64 {
            let bytes = read_range(&file, 0..size)?;
            return Ok(FileBytes::Memory(own_file::entry(bytes)));
        }
        let ends = own_file::ENDS as u64;
        let head = read_range(&file, 0..ends)?;
        let tail = read_range(&file, size - ends..size)?;
        let (before, behind) = own_file::around(&head, &tail);
        let place = before as u64..size - behind as u64;
        Ok(FileBytes::File(Arc::new(file), place))
    }

    /// Returns how many there are.
    fn len(&self) -> u64 {
        match self {
            FileBytes::Memory(bytes) => bytes.len() as u64,
            FileBytes::File(_, place) => place.end - place.start,
        }
    }

    /// Returns these of the bytes. Outside of what is in memory there are none.
    ///
    /// # Errors
    ///
    /// What the system said; [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
    fn range(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        match self {
            FileBytes::Memory(bytes) => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                let bytes = bytes.get(index(range.start)..index(range.end));
                Ok(bytes.unwrap_or_default().to_vec())
            }
            FileBytes::File(file, place) => {
                read_range(file, place.start + range.start..place.start + range.end)
            }
        }
    }
}

/// Reads `size` bytes from `file`, which has one entry, or several of an engine that appends.
///
/// One is decoded; an incomplete one is taken only `if_cut`. Several are decoded when they are asked
/// for, from where `left_off` says on.
///
/// # Errors
///
/// [`NoEntry`] of the only entry. Of several, [`NoEntry::Incomplete`] if the last one is not finished,
/// and [`NoEntry::Io`] for what the system said.
pub(super) fn read(
    file: File,
    size: u64,
    origin: Origin,
    if_cut: CutEntries,
    decoder: &Arc<EntryDecoder>,
    left_off: Option<Arc<Progress>>,
) -> Result<FileEntries, NoEntry> {
    if size == 0 {
        return Err(if_cut.incomplete(Defect::Empty));
    }
    let bytes = FileBytes::read(file, size)?;
    let read = |range: Range<u64>| {
        decoder.steps.go_on(range.start)?;
        bytes.range(range)
    };
    let progress = match left_off {
        Some(progress) => Some(progress),
        None => appended::records(bytes.len(), read)?.map(|places| Arc::new(Progress::new(places))),
    };
    let Some(progress) = progress else {
        let entry = match bytes {
            FileBytes::Memory(bytes) => {
                decoder.decode(bytes, Flags::none(), &origin, if_cut, Among::Nothing)
            }
            FileBytes::File(file, place) => {
                let extent = extent(file, place);
                decoder.decode_extent(extent, &origin, if_cut, Among::Nothing)
            }
        };
        return Ok(FileEntries::One(Box::new(entry?)));
    };
    let several = MultiEntry {
        bytes,
        taken: progress.done(),
        progress,
        origin,
        if_cut,
        decoder: Arc::clone(decoder),
    };
    several.is_finished()?;
    Ok(FileEntries::Several(several))
}

/// Describes an entry in a file of its own, about which nothing is odd.
fn extent(file: Arc<File>, place: Range<u64>) -> Extent {
    Extent {
        file,
        start: place.start,
        len: place.end - place.start,
        flags: Flags::none(),
    }
}

impl MultiEntry {
    /// Returns how many entries were handed out, now and before; `None` at the end.
    pub(super) fn is_within(&self) -> Option<usize> {
        (self.taken < self.progress.places.len()).then_some(self.taken)
    }

    /// Makes sure that nothing more is to be waited for.
    fn is_finished(&self) -> Result<(), NoEntry> {
        let places = &self.progress.places;
        let last = places.len().checked_sub(1).and_then(|n| places.get(n));
        let Some(last) = last.filter(|_| self.if_cut == CutEntries::Wait) else {
            return Ok(());
        };
        if last.end - last.start <= IN_MEMORY as u64 {
            let is_complete = format::is_complete(&self.bytes.range(last)?);
            return is_complete.then_some(()).ok_or(NoEntry::Incomplete);
        }
        match self.decode(&last) {
            Ok(_) | Err(NoEntry::Defect(_)) => Ok(()),
            Err(wait) => Err(wait),
        }
    }

    /// Decodes the entry at `place`, an offset of its first byte and one behind its last.
    fn decode(&self, place: &Range<u64>) -> Result<DecodedEntry, NoEntry> {
        let (origin, if_cut) = (&self.origin, self.if_cut);
        match &self.bytes {
            FileBytes::Memory(_) => {
                let bytes = self.bytes.range(place.clone())?;
                self.decoder
                    .decode(bytes, Flags::none(), origin, if_cut, Among::Nothing)
            }
            FileBytes::File(file, all) => {
                let place = all.start + place.start..all.start + place.end;
                let extent = extent(Arc::clone(file), place);
                self.decoder
                    .decode_extent(extent, origin, if_cut, Among::Nothing)
            }
        }
    }
}

impl Iterator for MultiEntry {
    type Item = Result<DecodedEntry, NoEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        let place = self.progress.places.get(self.taken)?;
        // Before it is decoded, which may panic.
        self.taken += 1;
        Some(self.decode(&place))
    }
}

#[cfg(test)]
mod tests;

//! Entries too large for memory, read from their file in windows.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::entry::{CutEntries, Extent, NoEntry};
use crate::entry_hash::{EntryHash, EntryHasher};
use crate::format::large::{Excerpts, Large};
use crate::format::{Among, Defect, Wrapping};
use crate::read_steps::ReadSteps;

/// Bytes read at a time.
const WINDOW: usize = 256 * 1024;

/// Reads an entry for its hash and to find what is worth keeping, and then that: a few megabytes at
/// the most.
///
/// # Errors
///
/// [`NoEntry::Defect`] or [`NoEntry::Incomplete`] if it does not begin like an entry;
/// [`NoEntry::Io`] for what the system said, or if it was left in the middle.
pub(super) fn read(
    extent: &Extent,
    if_cut: CutEntries,
    among: Among,
    steps: &ReadSteps,
) -> Result<(Excerpts, EntryHash), NoEntry> {
    let Extent {
        file, start, len, ..
    } = extent;
    let mut window = Vec::with_capacity(WINDOW + Large::OVERLAP);
    let mut hasher = EntryHasher::new();
    let mut large: Option<Large> = None;
    let (mut offset, mut read) = (0, 0);
    while read < *len {
        let more = read..*len.min(&(read + WINDOW as u64));
        let more = read_range(file, start + more.start..start + more.end)?;
        read += more.len() as u64;
        steps.go_on(read)?;
        hasher.update(&more);
        window.extend_from_slice(&more);
        let found = match &mut large {
            Some(large) => large,
            none => none.insert(open(&window, among, if_cut)?),
        };
        found.scan(&window, offset, read == *len);
        let done = window.len().saturating_sub(Large::OVERLAP);
        window.drain(..done);
        offset += done as u64;
    }
    let large = large.ok_or(NoEntry::Incomplete)?;
    let excerpts =
        large.finish(|range| read_range(file, start + range.start..start + range.end))?;
    Ok((excerpts, hasher.finish()))
}

/// Begins with the first `window` of an entry.
///
/// # Errors
///
/// As for [`read`].
fn open(window: &[u8], among: Among, if_cut: CutEntries) -> Result<Large, NoEntry> {
    Large::open_among(window, among).map_err(|defect| match Wrapping::of_line_ends(window) {
        Some(by) => NoEntry::Defect(Defect::Wrapped { by }),
        None => if_cut.defect(defect, window),
    })
}

/// Returns the bytes of a range of `file`.
///
/// # Errors
///
/// What the system said; [`io::ErrorKind::UnexpectedEof`] if the file has become shorter.
pub(super) fn read_range(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Reads an entry from its beginning, whatever was read of it before.
pub(super) struct Rereading<'f> {
    /// The file. It is read at offsets, so its position does not matter.
    file: &'f File,
    /// Receives each step; ends the reading at a stop.
    steps: &'f ReadSteps,
    /// Where the entry begins, in bytes.
    start: u64,
    /// Where the next bytes are read.
    at: u64,
    /// Bytes of the entry that were not read yet. If the file ends before, so does the reading.
    left: u64,
}

impl<'f> Rereading<'f> {
    /// Begins at the first byte of the entry.
    pub(super) fn new(extent: &'f Extent, steps: &'f ReadSteps) -> Self {
        Rereading {
            file: &extent.file,
            steps,
            start: extent.start,
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
        self.at += got as u64;
        self.steps.go_on(self.at - self.start)?;
        self.left -= got as u64;
        Ok(got)
    }
}

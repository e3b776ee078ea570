//! Several entries in the file of one: libmodsecurity appends to a file that exists already.
//!
//! ModSecurity 2 never does, so there a second entry is somebody's forgery, and the file is one
//! ambiguous entry. So is what is not entries from its first to its last byte.

use std::io;
use std::sync::Arc;

use super::read::{Extent, read_range};
use crate::format::{self, Format};
use crate::heart::Heart;
use crate::record::Flags;
use crate::serial_log::{Outlook, Piece, Splitter};

/// Entries of one file at the most, so that their rows do not fill the memory. One that holds more
/// is a log, and stays for whoever reads it as an input.
const MAX_ENTRIES: usize = 64;
/// Bytes read at a time.
const CHUNK: u64 = 256 * 1024;

/// Returns the entries, if there are several.
pub(super) fn in_memory(bytes: &[u8]) -> io::Result<Option<Vec<&[u8]>>> {
    if !may_be_several(bytes) {
        return Ok(None);
    }
    let mut splitter = Splitter::new(0, usize::MAX);
    splitter.buffer().extend_from_slice(bytes);
    let mut found = Found::default();
    found.take_all(&mut splitter, Outlook::End);
    let Some(entries) = found.entries()? else {
        return Ok(None);
    };
    let slice = |(start, len): (u64, u64)| {
        let start = usize::try_from(start).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
    };
    Ok(entries.into_iter().map(slice).collect())
}

/// Returns where the entries of a large file stand, if there are several.
pub(super) fn in_file(file: &Extent, heart: &Heart) -> io::Result<Option<Vec<Extent>>> {
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
    let Some(entries) = found.entries()? else {
        return Ok(None);
    };
    let extent = |(start, len)| Extent {
        file: Arc::clone(&file.file),
        start,
        len,
        flags: Flags::none(),
    };
    Ok(Some(entries.into_iter().map(extent).collect()))
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

//! What is left of an announced entry in a log to which somebody else has appended.
//!
//! ```text
//! # modsec-parser: the next 9000000 bytes are one entry, …      own: overwritten with line ends
//! --3fa0c41b-A--                                                own: the same
//! … a body with entries that its client has made up …           own: the same
//! --77aa01c2-A--                                                another program's: stays
//! ```
//!
//! Whoever reads the log finds that the bytes are not what the line announces, and looks for entries
//! in them: those in the body would be found. Nothing can be cut out in front of another program's
//! bytes. But bytes that provably are the batch's can be overwritten where they are.

use std::fs::{File, Metadata};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use super::block_hashes::read_most;
use super::file::open_existing;
use crate::serial_log::{InputState, Piece, Splitter};

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;
/// Line ends written at a time: a page of the log, which a kill leaves as it was, or overwritten.
const PAGE: usize = 4096;

/// Overwrites what is left of an announced entry among the batch's bytes, which stand at `own` in
/// `file`, and syncs the file. `path` is where the file is.
///
/// The end goes first: if that is interrupted, what proves bytes to be the batch's still proves
/// those in front.
///
/// # Errors
///
/// What the system said.
pub(super) fn overwrite(path: &Path, file: &File, own: Range<u64>) -> io::Result<()> {
    let Some(start) = broken_announcement(file, &own)? else {
        return Ok(());
    };
    // Not the handle that appends: with it, each write would go to the end.
    let Ok(there) = open_existing(path) else {
        return Ok(()); // Renamed meanwhile.
    };
    let identity = |meta: Metadata| (meta.dev(), meta.ino());
    if identity(there.metadata()?) != identity(file.metadata()?) {
        return Ok(());
    }
    let (blank, page) = ([b'\n'; PAGE], PAGE as u64);
    let mut end = own.end;
    while end > start {
        let at = start.max((end - 1) / page * page);
        // Emptied meanwhile: writing would make it long again.
        if there.metadata()?.len() < own.end {
            return Ok(());
        }
        let len = usize::try_from(end - at).unwrap_or(PAGE);
        there.write_all_at(&blank[..len], at)?;
        end = at;
    }
    there.sync_all()
}

/// Returns where the line stands, among the batch's own bytes, that announces what does not follow
/// it: half an entry, or half of the line itself.
fn broken_announcement(file: &File, own: &Range<u64>) -> io::Result<Option<u64>> {
    let mut splitter = Splitter::new(own.start, CHUNK);
    let (mut fed, mut chunk) = (own.start, vec![0; CHUNK]);
    // An announced entry may go on behind the bytes that are proven, and be whole.
    while splitter.position() < own.end {
        let read = read_most(file, &mut chunk, fed)?;
        splitter.buffer().extend_from_slice(&chunk[..read]);
        fed += read as u64;
        let input = if read < CHUNK {
            InputState::End
        } else {
            InputState::More
        };
        while let Some(piece) = splitter.next(input) {
            if let Piece::Unrecognized { at, .. } = piece {
                let mut first = [0];
                let is_line = read_most(file, &mut first, at)? == 1 && first == *b"#";
                return Ok((is_line && own.contains(&at)).then_some(at));
            }
        }
        if input == InputState::End {
            break;
        }
    }
    Ok(None)
}

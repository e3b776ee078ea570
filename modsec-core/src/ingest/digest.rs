//! Size and MD5 of entries, to compare with the index.
//!
//! MD5 is what the engines write. It finds what was cut or mixed up; a site user who can forge an
//! entry needs no collision for that.

use std::fs::File;
use std::io::{self, Read};

use md5::{Digest as _, Md5};

use super::index::Digest;
use super::read::{Bytes, ReadRow, Rereading};
use crate::entry_hash::EntryHash;
use crate::heart::Heart;

/// Bytes read at a time.
const WINDOW: usize = 64 * 1024;

/// Returns size and MD5 of an entry that was read; `None` if it has changed or vanished since.
pub(super) fn of(read: &ReadRow, heart: &Heart) -> Option<Digest> {
    match &read.bytes {
        Bytes::Whole(bytes) => Some(Digest {
            size: bytes.len() as u64,
            md5: Md5::digest(bytes).into(),
        }),
        Bytes::InFile { file, len } => {
            let (digest, hash) = of_file(file, *len, heart).ok()?;
            (hash == read.row.entry_hash).then_some(digest)
        }
    }
}

/// Reads `size` bytes from the beginning of `file`, and returns by what they are known.
pub(super) fn of_file(file: &File, size: u64, heart: &Heart) -> io::Result<(Digest, EntryHash)> {
    let mut reader = Rereading::new(file, size, heart);
    let mut md5 = Md5::new();
    let mut window = vec![0; WINDOW.min(usize::try_from(size).unwrap_or(WINDOW).max(1))];
    loop {
        let read = reader.read(&mut window)?;
        if read == 0 {
            break;
        }
        md5.update(window.get(..read).unwrap_or_default());
    }
    let digest = Digest {
        size,
        md5: md5.finalize().into(),
    };
    Ok((digest, reader.hash()))
}

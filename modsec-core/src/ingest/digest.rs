//! Size and MD5 of files, to compare with the index.
//!
//! MD5 is what the engines write. It finds what was cut or mixed up; a site user who forges an
//! entry needs no collision for that. A file that changes after this keeps its place: only what
//! is as it was when it was opened is removed.

use std::fs::File;
use std::io;

use md5::{Digest as _, Md5};

use super::entry::{Bytes, DecodedEntry};
use super::index::Digest;
use super::large_entry::read_range;
use crate::read_steps::ReadSteps;

/// Bytes read at a time.
const WINDOW: u64 = 64 * 1024;

/// Reads `size` bytes from the beginning of `file`, and returns by what they are known.
pub(super) fn of_file(file: &File, size: u64, steps: &ReadSteps) -> io::Result<Digest> {
    let mut md5 = Md5::new();
    let mut at = 0;
    while at < size {
        let end = size.min(at + WINDOW);
        md5.update(read_range(file, at..end)?);
        at = end;
        steps.go_on(at)?;
    }
    Ok(Digest {
        size,
        md5: md5.finalize().into(),
    })
}

/// Returns by what an entry may be known that stands in a file behind others: libmodsecurity
/// counts the line feeds between them to the one before.
pub(super) fn of_one_of_many(read: &DecodedEntry) -> Vec<Digest> {
    let Bytes::Whole(bytes) = &read.bytes else {
        return Vec::new();
    };
    let ends: [&[u8]; 3] = [b"", b"\n", b"\n\n"];
    ends.iter()
        .map(|end| Digest {
            size: (bytes.len() + end.len()) as u64,
            md5: Md5::new()
                .chain_update(bytes)
                .chain_update(end)
                .finalize()
                .into(),
        })
        .collect()
}

//! Size and MD5 of files, to compare with the index.
//!
//! MD5 is what the engines write. It finds what was cut or mixed up; a site user who forges an
//! entry needs no collision for that. A file that changes after this keeps its place: only what
//! is as it was when it was opened is removed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use md5::{Digest as _, Md5};

use super::index::Digest;
use super::read::{Bytes, ReadRow};
use crate::heartbeat::Heartbeat;

/// Bytes read at a time.
const WINDOW: u64 = 64 * 1024;

/// Reads `size` bytes from the beginning of `file`, and returns by what they are known.
pub(super) fn of_file(file: &File, size: u64, heartbeat: &Heartbeat) -> io::Result<Digest> {
    let mut md5 = Md5::new();
    let mut window = vec![0; usize::try_from(size.min(WINDOW)).unwrap_or(0)];
    let mut at = 0;
    while at < size {
        let most = usize::try_from(size - at).unwrap_or(usize::MAX);
        let most = most.min(window.len());
        let part = window.get_mut(..most).unwrap_or_default();
        file.read_exact_at(part, at)?;
        md5.update(&*part);
        at += most as u64;
        heartbeat.beat();
    }
    Ok(Digest {
        size,
        md5: md5.finalize().into(),
    })
}

/// Returns by what an entry may be known that stands in a file behind others: libmodsecurity
/// counts the line feeds between them to the one before.
pub(super) fn of_one_of_many(read: &ReadRow) -> Vec<Digest> {
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

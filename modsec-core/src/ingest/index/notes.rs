//! What is remembered of the index between two runs.
//!
//! ```text
//! # modsec-parser index 1
//! read BEFORE CHECKPOINT
//! taken SIZE MD5
//! open SIZE MD5 FLAGS PATH
//! ```
//!
//! How far it was read, which entries still want their line, and which lines their entry. A file that makes no sense is as
//! good as none: nothing depends on it but counts.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::ledger::{Announced, Digest};
use crate::logfile::Checkpoint;

/// First line.
const HEADER: &str = "# modsec-parser index 1";
/// Open lines that are remembered, the newest of them.
pub(super) const MAX_OPEN: usize = 4096;

/// How far the index was read, and which lines are open; those that share their name are marked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Up to where a file was read, and the offset before which lines are from before account was
    /// kept; `None` for a pipe.
    pub(super) place: Option<(Checkpoint, u64)>,
    /// Entries that were read and have no line yet.
    pub(super) unlisted: Vec<Digest>,
    /// Lines that have no entry yet, and whether another line has the same path.
    pub(super) open: Vec<(Announced, bool)>,
}

/// Writes notes.
pub(super) fn write<'a>(
    place: Option<(Checkpoint, u64)>,
    unlisted: impl Iterator<Item = &'a Digest>,
    open: impl Iterator<Item = (&'a Announced, bool)>,
) -> Vec<u8> {
    // Writing to a string cannot fail.
    let mut text = format!("{HEADER}\n");
    if let Some((mark, before)) = place {
        let _ = writeln!(text, "read {before} {mark}");
    }
    for digest in unlisted {
        let md5 = u128::from_be_bytes(digest.md5);
        let _ = writeln!(text, "taken {} {md5:032x}", digest.size);
    }
    for (line, shared) in open {
        let flags = u8::from(shared) | u8::from(line.appends) << 1 | u8::from(line.before) << 2;
        let md5 = u128::from_be_bytes(line.digest.md5);
        let _ = write!(text, "open {} {md5:032x} {flags} ", line.digest.size);
        // A name may have any byte in it.
        for byte in line.file.as_os_str().as_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text.into_bytes()
}

/// Reads notes; `None` if they make no sense.
pub(super) fn read(bytes: &[u8]) -> Option<Notes> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    (lines.next() == Some(HEADER)).then_some(())?;
    let mut notes = Notes::default();
    for line in lines {
        let (keyword, rest) = line.split_once(' ')?;
        match keyword {
            "read" => notes.place = Some(read_place(rest)?),
            "taken" if notes.unlisted.len() < MAX_OPEN => {
                notes.unlisted.push(read_digest(&mut rest.split(' '))?);
            }
            "open" if notes.open.len() < MAX_OPEN => notes.open.push(read_open(rest)?),
            _ => return None,
        }
    }
    Some(notes)
}

/// Reads what follows `read`: offset and checkpoint.
fn read_place(text: &str) -> Option<(Checkpoint, u64)> {
    let (before, mark) = text.split_once(' ')?;
    Some((mark.parse().ok()?, before.parse().ok()?))
}

/// Reads size and MD5 from the next two words, decimal and hexadecimal.
fn read_digest<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Digest> {
    let size = words.next()?.parse().ok()?;
    let md5 = u128::from_str_radix(words.next()?, 16).ok()?.to_be_bytes();
    Some(Digest { size, md5 })
}

/// Reads what follows `open`. The path is in hexadecimal, two digits for each byte; flag 1 is a
/// shared path, 2 an engine that appends, 4 a line from before account was kept.
fn read_open(text: &str) -> Option<(Announced, bool)> {
    let mut words = text.split(' ');
    let digest = read_digest(&mut words)?;
    let flags: u8 = words.next()?.parse().ok()?;
    let hex = words.next()?;
    let name: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let line = Announced {
        file: Path::new(OsStr::from_bytes(&name?)).into(),
        digest,
        appends: flags & 2 != 0,
        before: flags & 4 != 0,
    };
    Some((line, flags & 1 != 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_noted_is_read_back(
            place in any::<Option<(u64, [u64; 3], u128, Option<u128>)>>(),
            open in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 1..40), any::<(u64, [u8; 16])>(), any::<[bool; 3]>()),
                0..5,
            ),
        ) {
            let place = place.map(|(before, [device, inode, offset], head, hash)| {
                let hash = hash.map_or("-".to_owned(), |hash| format!("{hash:032x}"));
                let mark = format!("{device} {inode} {offset} {head:032x} {hash}");
                (mark.parse().unwrap(), before)
            });
            let open: Vec<_> = open
                .into_iter()
                .map(|(name, (size, md5), [shared, appends, before])| {
                    let file = Path::new(OsStr::from_bytes(&name)).into();
                    (Announced { file, digest: Digest { size, md5 }, appends, before }, shared)
                })
                .collect();
            let unlisted: Vec<_> = open.iter().map(|(line, _)| line.digest).collect();
            let lines = open.iter().map(|(line, shared)| (line, *shared));
            let bytes = write(place, unlisted.iter(), lines);
            prop_assert_eq!(read(&bytes), Some(Notes { place, unlisted, open }));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
            let _ = read(&[HEADER.as_bytes(), b"\nopen 1 0 0 ", &bytes, b"\n"].concat());
        }
    }
}

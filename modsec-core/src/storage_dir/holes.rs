//! Refusing sparse files: those that are larger than what was ever written to them.
//!
//! A hole costs the user who makes it nothing, not even disk quota, but a program that copies the
//! file writes the hole out as zeros. With `truncate -s 2G` in each of a thousand files a site user
//! could fill the disk of the merged log. Neither `ModSecurity` nor Coraza leaves holes in an
//! entry, so a file with many is no entry.

use std::fs::File;

use rustix::fs::{SeekFrom, seek};

/// Bytes of holes that a file may have: 1 MiB. Some file systems (ZFS with compression, Btrfs with
/// hole detection) turn long runs of written zeros, as in an uploaded image, into holes.
pub(crate) const MAX_HOLES: u64 = 1 << 20;

/// Returns how many bytes of holes were found in the first `len` bytes of `file`, if these are more
/// than [`MAX_HOLES`]; counting stops there, so the number is a lower bound.
///
/// Source: `SEEK_HOLE` and `SEEK_DATA` of lseek(2). Where a file system does not support them, the
/// whole file counts as written, and the answer is `None`. The read position is at the start of the
/// file afterwards.
pub(crate) fn too_many(file: &File, len: u64) -> Option<u64> {
    if len <= MAX_HOLES {
        return None;
    }
    let found = count(file, len);
    seek(file, SeekFrom::Start(0)).ok()?;
    (found > MAX_HOLES).then_some(found)
}

/// Adds up the holes before `len`, until there are more than [`MAX_HOLES`].
///
/// ```text
/// data....hole......data..hole.....|len
///         ^hole     ^data ^hole      SEEK_DATA in the last hole fails (ENXIO): it ends at len
/// ```
fn count(file: &File, len: u64) -> u64 {
    let (mut at, mut holes) = (0, 0);
    while holes <= MAX_HOLES
        && let Ok(hole) = seek(file, SeekFrom::Hole(at))
        && hole < len
    {
        // There is none behind the last hole.
        let data = seek(file, SeekFrom::Data(hole)).unwrap_or(len).min(len);
        holes += data - hole;
        at = data;
    }
    holes
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn only_what_was_never_written_is_a_hole() {
        const MIB: u64 = 1 << 20;
        let mut written = tempfile::tempfile().unwrap();
        written.write_all(&vec![0; 3 << 20]).unwrap();
        let end = tempfile::tempfile().unwrap();
        end.set_len(4 * MIB).unwrap();
        let middle = tempfile::tempfile().unwrap();
        middle.write_all_at(b"x", 0).unwrap();
        middle.write_all_at(b"x", 3 * MIB).unwrap();
        let small = tempfile::tempfile().unwrap();
        small.set_len(MIB).unwrap();
        for (what, file, want) in [
            ("written", written, false),
            ("end", end, true),
            ("middle", middle, true),
            ("small", small, false),
        ] {
            let len = file.metadata().unwrap().len();
            assert_eq!(too_many(&file, len).is_some(), want, "{what}");
            assert_eq!(seek(&file, SeekFrom::Current(0)).unwrap(), 0, "{what}");
        }
    }
}

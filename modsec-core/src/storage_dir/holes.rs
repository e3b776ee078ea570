//! Files that are larger than what was ever written to them.
//!
//! A hole costs its maker nothing, not even quota, and whoever copies the file writes it out as
//! zeros: a few thousand bytes would fill the disk of the merged log.

use std::fs::File;

use rustix::fs::{SeekFrom, seek};

/// Bytes of holes that are nobody's business: some file systems make them of zeros that were
/// written, as in an upload.
pub(crate) const MAX_HOLES: u64 = 1 << 20;

/// Returns how many bytes of `file`, which has `len`, are holes, as soon as there are more than
/// [`MAX_HOLES`]. The file is at its start afterwards.
///
/// What cannot be told counts as written.
pub(crate) fn too_many(file: &File, len: u64) -> Option<u64> {
    if len <= MAX_HOLES {
        return None;
    }
    let found = count(file, len);
    seek(file, SeekFrom::Start(0)).ok()?;
    (found > MAX_HOLES).then_some(found)
}

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

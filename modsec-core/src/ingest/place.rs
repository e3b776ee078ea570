//! How far a log was stored, on disk, so that a restart goes on there.
//!
//! One line: `DEVICE INODE OFFSET HEAD BEFORE`. The last two are hashes of the first bytes of the
//! log and of those before the offset: an inode alone says little, since a new log often gets the
//! inode of one that was removed. Where anything differs, the log is read from its start, and the
//! store knows what it has already.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::entry_hash::EntryHash;
use crate::named_file::{open_own, open_to_read, replace};
use crate::tail::Bookmark;

/// Bytes that are compared at the start of the log and before the offset.
const COMPARED: u64 = 512;
/// More than the line can have.
const MAX_BYTES: u64 = 512;
/// Nobody else's business.
const MODE: u32 = 0o600;

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    bookmark: Bookmark,
    head: EntryHash,
    before: EntryHash,
}

impl Place {
    /// Describes the place behind `offset` bytes of `file`.
    pub(super) fn of(file: &File, offset: u64) -> io::Result<Place> {
        let meta = file.metadata()?;
        Ok(Place {
            bookmark: Bookmark {
                device: meta.dev(),
                inode: meta.ino(),
                offset,
            },
            head: hash(file, 0, offset)?,
            before: hash(file, offset.saturating_sub(COMPARED), offset)?,
        })
    }

    /// Reads what [`Place::save`] wrote; `None` if there is nothing, or nothing that makes sense.
    pub(super) fn load(path: &Path) -> io::Result<Option<Place>> {
        match open_own(path) {
            Ok(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_BYTES).read_to_end(&mut bytes)?;
                Ok(str::from_utf8(&bytes).ok().and_then(parse))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file at `path` as a whole, and waits until it is on disk.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let Bookmark {
            device,
            inode,
            offset,
        } = self.bookmark;
        let (head, before) = (self.head, self.before);
        let text = format!("{device} {inode} {offset} {head} {before}\n");
        replace(path, text.as_bytes(), MODE)
    }

    /// Returns where to go on, if the log at `log`, or at `log.1` after a rotation, is still the
    /// one of this place. A rotated log may be a copy.
    pub(super) fn in_log(&self, log: &Path) -> Option<Bookmark> {
        let offset = self.bookmark.offset;
        let here = |path: PathBuf| Place::of(&open_to_read(&path).ok()?, offset).ok();
        if here(log.to_owned()).is_some_and(|place| place == *self) {
            return Some(self.bookmark);
        }
        let rotated = here(with_suffix(log, ".1")).filter(|_| offset > 0)?;
        ((rotated.head, rotated.before) == (self.head, self.before)).then_some(rotated.bookmark)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Hashes at most [`COMPARED`] bytes from `start` on, not beyond `end`.
fn hash(file: &File, start: u64, end: u64) -> io::Result<EntryHash> {
    let len = usize::try_from((end - start).min(COMPARED)).unwrap_or(0);
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, start)?;
    Ok(EntryHash::of(&bytes))
}

fn parse(text: &str) -> Option<Place> {
    let mut words = text.split_ascii_whitespace();
    let mut number = || words.next()?.parse().ok();
    let bookmark = Bookmark {
        device: number()?,
        inode: number()?,
        offset: number()?,
    };
    let mut hash = || {
        let hex = words.next().filter(|hex| hex.len() == 32)?;
        let value = u128::from_str_radix(hex, 16).ok()?;
        Some(EntryHash::from_bytes(value.to_be_bytes()))
    };
    Some(Place {
        bookmark,
        head: hash()?,
        before: hash()?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_place_is_found_again_in_its_own_log_only() {
        let dir = tempfile::tempdir().unwrap();
        let (log, saved) = (dir.path().join("log"), dir.path().join("place"));
        assert_eq!(Place::load(&saved).unwrap(), None);
        fs::write(&log, "x".repeat(5000)).unwrap();
        let place = Place::of(&File::open(&log).unwrap(), 4000).unwrap();
        place.save(&saved).unwrap();
        let loaded = Place::load(&saved).unwrap().unwrap();
        assert_eq!(loaded, place);
        assert_eq!(loaded.in_log(&log).map(|mark| mark.offset), Some(4000));
        fs::rename(&log, dir.path().join("log.1")).unwrap();
        fs::write(&log, "y".repeat(5000)).unwrap();
        assert!(loaded.in_log(&log).is_some(), "in the rotated log");
        let old = dir.path().join("log.1");
        fs::copy(&old, dir.path().join("copy")).unwrap();
        fs::rename(dir.path().join("copy"), &old).unwrap();
        let mark = loaded.in_log(&log).unwrap();
        assert_eq!(mark.inode, fs::metadata(&old).unwrap().ino(), "in a copy");
        fs::remove_file(dir.path().join("log.1")).unwrap();
        assert!(loaded.in_log(&log).is_none());
        for text in ["", "1 2", "1 2 3 4 5", "a b c d e", "\u{fffd}"] {
            fs::write(&saved, text).unwrap();
            assert_eq!(Place::load(&saved).unwrap(), None, "{text:?}");
        }
    }

    #[test]
    fn a_log_of_the_same_inode_with_other_bytes_is_another_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "first\nsecond\n").unwrap();
        let place = Place::of(&File::open(&log).unwrap(), 6).unwrap();
        for (text, want) in [
            ("first\nsecond\nthird\n", true),
            ("first\n", true),
            ("firsT\nsecond\n", false),
            ("first", false),
        ] {
            fs::write(&log, text).unwrap();
            assert_eq!(place.in_log(&log).is_some(), want, "{text:?}");
        }
    }
}

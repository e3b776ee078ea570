//! Opening log and journal, and proving that a file is the one that was written.
//!
//! Both are opened by [`named_file::open_or_make`]: never a link, never waiting, and not where
//! another account may have put them.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use blake3::Hash;

use super::MergedLogError;
use crate::named_file::{self, Links};

/// Bytes that are hashed to recognise a position in the log: more than the first part of any entry,
/// with its time and transaction id.
pub(super) const FINGERPRINT: usize = 4096;

/// Opens an existing file to read and write; follows no link and does not wait.
pub(super) fn open_existing(path: &Path) -> io::Result<File> {
    let options = File::options().read(true).write(true).to_owned();
    named_file::open(path, &options, Links::Refuse)
}

/// Opens the log for appending, and makes it with mode 0640 if it is missing.
///
/// # Errors
///
/// [`MergedLogError::HardLinked`], since a cut would hit another name, too;
/// [`MergedLogError::Index`] for a file that ModSecurity itself appends to;
/// [`MergedLogError::Foreign`] for a database or a compressed file; what else is in the way.
pub(super) fn open_log(path: &Path) -> Result<File, MergedLogError> {
    let mut options = File::options();
    options.read(true).append(true).mode(0o640);
    let file = named_file::open_or_make(path, &options).map_err(|error| refuse(path, error))?;
    judge(path, &file)?;
    Ok(file)
}

/// Finds out whether [`open_log`] could open the log, without making it.
pub(super) fn check_log(path: &Path) -> Result<(), MergedLogError> {
    named_file::check_own(path).map_err(|error| refuse(path, error))?;
    match open_existing(path) {
        Ok(file) => judge(path, &file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refuse(path, error)),
    }
}

/// Refuses a log that must not be cut, or that is none.
fn judge(path: &Path, file: &File) -> Result<(), MergedLogError> {
    let meta = file.metadata().map_err(|error| refuse(path, error))?;
    if meta.nlink() > 1 {
        return Err(MergedLogError::HardLinked {
            path: path.to_owned(),
        });
    }
    if is_index(file, meta.len()).map_err(|error| refuse(path, error))? {
        return Err(MergedLogError::Index {
            path: path.to_owned(),
        });
    }
    if let Some(kind) = foreign_kind(file).map_err(|error| refuse(path, error))? {
        return Err(MergedLogError::Foreign {
            path: path.to_owned(),
            kind,
        });
    }
    Ok(())
}

/// What files begin with that lines appended to them would damage.
const FOREIGN: [(&[u8], &str); 2] = [
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x1f\x8b", "a file compressed with gzip"),
];

/// Returns what the file is, if it can be no log.
fn foreign_kind(file: &File) -> io::Result<Option<&'static str>> {
    let mut head = [0; 16];
    let len = file.read_at(&mut head, 0)?;
    let head = head.get(..len).unwrap_or_default();
    let mut kinds = FOREIGN.iter();
    Ok(kinds
        .find(|(magic, _)| head.starts_with(magic))
        .map(|(_, kind)| *kind))
}

/// Returns `true` if the last line is one of the index (`SecAuditLog` in Concurrent mode), such as
/// `host 192.0.2.7 - - [time] "GET / HTTP/1.1" 403 0 "-" "-" id "-" /path 0 5120 md5:…`.
fn is_index(file: &File, length: u64) -> io::Result<bool> {
    // Twice the longest line of an index.
    let most = length.min(8192);
    let mut end = vec![0; usize::try_from(most).unwrap_or(0)];
    file.read_exact_at(&mut end, length - most)?;
    let last = end
        .trim_ascii_end()
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let words: Vec<&[u8]> = last.split(|byte| *byte == b' ').collect();
    Ok(match words[..] {
        [.., path, b"0", size, md5] | [.., path, b"0", size, md5, b"L"] => {
            path.starts_with(b"/")
                && size.first().is_some_and(u8::is_ascii_digit)
                && md5
                    .strip_prefix(b"md5:")
                    .is_some_and(|digits| digits.len() == 32)
        }
        _ => false,
    })
}

/// Opens the journal, and makes it with mode 0600 if it is missing.
pub(super) fn open_journal(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    named_file::open_or_make(path, &options)
}

/// Returns the error for a log that cannot be opened. Says what is at the path rather than the
/// system's number for it: a socket, a link or a pipe fails with one that means many things.
fn refuse(path: &Path, source: io::Error) -> MergedLogError {
    let owned = path.to_owned();
    // A socket, a link or a pipe may fail to open; say what it is rather than what errno it is.
    if let Ok(meta) = path.symlink_metadata()
        && !meta.is_file()
    {
        return MergedLogError::NotAFile {
            path: owned,
            kind: named_file::name_of(meta.file_type()),
        };
    }
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            MergedLogError::NoDirectory { path: owned }
        }
        io::ErrorKind::PermissionDenied => MergedLogError::PermissionDenied {
            path: owned,
            source,
        },
        _ => MergedLogError::of_write(path, source),
    }
}

/// Hashes the last bytes before `end`, at most [`FINGERPRINT`] of them.
pub(super) fn hash_before(file: &File, end: u64) -> io::Result<Hash> {
    let length = end.min(FINGERPRINT as u64);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, end - length)?;
    Ok(blake3::hash(&bytes))
}

/// Returns `true` if the log was removed or replaced at its path, and what is in it is lost.
///
/// A log that was renamed before it was removed has another last name: rotation has compressed it,
/// and what is in it is kept. Source: the link `/proc/self/fd/N` ends in the last name and `
/// (deleted)`, see proc(5).
pub(super) fn was_removed(path: &Path, file: &File) -> io::Result<bool> {
    if file.metadata()?.nlink() > 0 {
        return Ok(false);
    }
    // The kernel knows the last name.
    let last = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let mut removed = path.file_name().unwrap_or_default().to_owned();
    removed.push(" (deleted)");
    Ok(last.file_name() == Some(&removed))
}

/// Returns the last byte, or none of an empty file.
pub(super) fn last_byte(file: &File, length: u64) -> io::Result<Option<u8>> {
    let Some(at) = length.checked_sub(1) else {
        return Ok(None);
    };
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(Some(byte[0]))
}

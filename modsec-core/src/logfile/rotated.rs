//! Finding what was not read of a log, wherever rotation has put it.
//!
//! - The log that was being read is known by its bytes ([`Checkpoint`]), whatever its name is now:
//!   renamed, copied (`copytruncate`), or compressed by gzip.
//! - Logs that came after it and were rotated too have a name that rotation gives: that of the log
//!   and a number or a date, perhaps `.gz`. They are ordered by the time of their last change
//!   (`st_mtime`), which renaming and compressing keep.
//!
//! ```text
//! audit.log-20261126.gz   older than the log that was read: not opened further
//! audit.log-20261127.gz   the checkpoint's bytes are in it: read from the offset on
//! audit.log-20261128      changed later, rotated name: read from the start
//! audit.log               the log itself: read from the start
//! ```
//!
//! Where a log is being compressed, both `NAME` and `NAME.gz` are there for a moment; of two files
//! with the same first bytes only one is taken. All are looked for in the directory of the log;
//! with the `olddir` of logrotate they are not found, and reading goes on in the new log.
//!
//! Cost: each plain file in that directory is opened, and up to 1 KiB of it is read. A compressed
//! one may have to be decompressed up to the offset, but only if its first bytes are the right
//! ones.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::checkpoint::{COMPARED, Checkpoint};
use super::log_file::LogFile;
use crate::named_file::{Links, is_of_sqlite, parent};

/// A file that holds a part of a log, and from where on it was not read.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Where it was found, for messages.
    pub(crate) path: PathBuf,
    /// The open file.
    pub(crate) source: LogFile,
    /// Bytes that were read before, decompressed.
    pub(crate) offset: u64,
}

impl Segment {
    /// Returns the last bytes of what was not read, at most `most`. Of a plain file only these are
    /// read; a compressed one is decompressed to its end, in bounded memory.
    ///
    /// # Errors
    ///
    /// What reading said.
    pub(crate) fn last_bytes(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let mut at = self.offset;
        if !self.source.is_compressed() {
            let len = self.source.file.metadata()?.len();
            at = at.max(len.saturating_sub(most as u64));
        }
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 * 1024];
        loop {
            let read = self.source.read_at(&mut chunk, at)?;
            if read == 0 {
                return Ok(bytes);
            }
            at += read as u64;
            bytes.extend_from_slice(chunk.get(..read).unwrap_or_default());
            let too_many = bytes.len().saturating_sub(most);
            bytes.drain(..too_many);
        }
    }
}

/// Returns the files that hold what comes behind `mark`, the oldest first: those that the log was
/// rotated to, then the log itself. `None` if no file has the place any more.
///
/// # Errors
///
/// What opening or reading the log, or listing its directory, said.
pub(crate) fn unread(log: &Path, mark: &Checkpoint) -> io::Result<Option<Vec<Segment>>> {
    let mut current = LogFile::open(log, Links::Follow)?;
    if let Some(source) = &mut current
        && mark.is_in(source)?
    {
        return Ok(current.map(|source| vec![segment(log, source, mark.offset())]));
    }
    let Some(mut marked) = find(log, mark)? else {
        return Ok(None);
    };
    let mut all = newer(log, &mut marked.source)?;
    all.insert(0, marked);
    all.extend(current.map(|source| segment(log, source, 0)));
    Ok(Some(all))
}

/// Returns the file beside the log that `mark` is in.
///
/// If several have the same bytes (a copy, a backup), the best one: the same inode, then a name
/// that rotation gives, then the latest change.
///
/// # Errors
///
/// What listing the directory said. Files that cannot be read are passed over.
pub(super) fn find(log: &Path, mark: &Checkpoint) -> io::Result<Option<Segment>> {
    let mut found: Option<((bool, bool, SystemTime), Segment)> = None;
    for (path, mut source) in beside(log, |_| true)? {
        // What cannot be read is not what was read.
        if !mark.is_in(&mut source).unwrap_or(false) {
            continue;
        }
        let rank = (
            mark.is_of(&source),
            is_rotated(&path, log),
            modified(&source),
        );
        if found.as_ref().is_none_or(|(best, _)| *best <= rank) {
            found = Some((rank, segment(&path, source, mark.offset())));
        }
    }
    Ok(found.map(|(_, segment)| segment))
}

/// Returns the logs that were rotated after `old`, the oldest first, each to be read from its
/// start.
///
/// Left out are `old` itself, empty files, and copies: files whose first 512 bytes are those of
/// `old`, of the log at its path, or of another that is taken already.
///
/// # Errors
///
/// What opening the log or listing its directory said.
pub(super) fn newer(log: &Path, old: &mut LogFile) -> io::Result<Vec<Segment>> {
    let since = modified(old);
    let mut heads = vec![head(old)];
    if let Some(mut current) = LogFile::open(log, Links::Follow)? {
        heads.push(head(&mut current));
    }
    let mut found: Vec<(SystemTime, Segment)> = Vec::new();
    let mut rotated = beside(log, |path| is_rotated(path, log))?;
    // Of a log that is being compressed, the plain file comes first.
    rotated.sort_by_key(|(_, source)| source.is_compressed());
    for (path, mut source) in rotated {
        let at = modified(&source);
        let head = head(&mut source);
        // Not `old` itself, nor a copy of it or of another.
        if at < since || source.is_same_file(old) || head.is_empty() || heads.contains(&head) {
            continue;
        }
        heads.push(head);
        found.push((at, segment(&path, source, 0)));
    }
    found.sort_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, segment)| segment).collect())
}

/// Makes a segment of an open file.
pub(super) fn segment(path: &Path, source: LogFile, offset: u64) -> Segment {
    let path = path.to_owned();
    Segment {
        path,
        source,
        offset,
    }
}

/// Opens the other plain files in the directory of the log whose path `is_wanted`.
///
/// Left out are links, files that cannot be opened, and databases of SQLite with what is kept
/// beside them: closing such a file would take away the locks that this process holds on it.
///
/// # Errors
///
/// What listing the directory said.
fn beside(log: &Path, is_wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<(PathBuf, LogFile)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(parent(log))? {
        let entry = entry?;
        let path = entry.path();
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        let is_log = path.file_name() == log.file_name();
        if !is_file || is_log || is_of_sqlite(&path) || !is_wanted(&path) {
            continue;
        }
        // An error means: gone meanwhile, or not ours to read.
        if let Ok(Some(source)) = LogFile::open(&path, Links::Refuse) {
            found.push((path, source));
        }
    }
    Ok(found)
}

/// Returns the last change of contents; 1970 if the system does not say.
fn modified(source: &LogFile) -> SystemTime {
    let meta = source.file.metadata();
    meta.and_then(|meta| meta.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns the first [`COMPARED`] bytes, or as many as there are and can be read.
fn head(source: &mut LogFile) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(COMPARED).unwrap_or(0)];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read_at(rest, filled as u64) {
            Ok(read @ 1..) => filled += read,
            _ => break,
        }
    }
    bytes.truncate(filled);
    bytes
}

/// Returns `true` if `path` has a name that rotation gives the log at `log`.
///
/// For `audit.log`: `audit.log.1`, `audit.log-20261127` (`dateext`), `audit-20261127.log`
/// (`extension .log`), and each with `.gz`. Source: logrotate(8).
fn is_rotated(path: &Path, log: &Path) -> bool {
    let bytes = |name: Option<&OsStr>| name.map(|name| name.as_bytes().to_vec());
    let (Some(name), Some(log_name)) = (bytes(path.file_name()), bytes(log.file_name())) else {
        return false;
    };
    let name = name.strip_suffix(b".gz").unwrap_or(&name);
    if name.strip_prefix(&*log_name).is_some_and(is_number_or_date) {
        return true;
    }
    let (Some(stem), Some(extension)) = (bytes(log.file_stem()), bytes(log.extension())) else {
        return false;
    };
    name.strip_prefix(&*stem)
        .and_then(|rest| rest.strip_suffix(&*extension)?.strip_suffix(b"."))
        .is_some_and(is_number_or_date)
}

/// Returns `true` for a separator (`.`, `-` or `_`) and a number or a date behind it, such as `.1`,
/// `-20261127` or `-2026-11-27T10:15:00` (`dateformat`).
fn is_number_or_date(text: &[u8]) -> bool {
    let [separator, rest @ ..] = text else {
        return false;
    };
    let is_part = |byte: &u8| byte.is_ascii_digit() || b"-_.:T".contains(byte);
    b".-_".contains(separator)
        && rest.first().is_some_and(u8::is_ascii_digit)
        && rest.iter().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rotated_logs_are_known() {
        let log = Path::new("/var/log/audit.log");
        for (name, want) in [
            ("audit.log.1", true),
            ("audit.log.12.gz", true),
            ("audit.log-20261127", true),
            ("audit.log-20261127.gz", true),
            ("audit.log-2026-11-27T10:15:00", true),
            ("audit.log_1", true),
            ("audit-20261127.log", true),
            ("audit.1.log.gz", true),
            ("audit.log", false),
            ("audit.log.gz", false),
            ("audit.log.bak", false),
            ("audit.log~", false),
            ("audit.log.1.swp", false),
            ("audit-ssl.log", false),
            ("audit-ssl.log.1", false),
            ("audit.json.1", false),
            ("other.log.1", false),
            ("audit.log.", false),
            ("audit.log1", false),
        ] {
            assert_eq!(is_rotated(Path::new(name), log), want, "{name}");
        }
        let plain = Path::new("modsec");
        assert!(is_rotated(Path::new("modsec-20261127"), plain));
        assert!(!is_rotated(Path::new("modsec.log"), plain));
    }
}

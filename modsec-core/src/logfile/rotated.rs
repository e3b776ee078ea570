//! What was not read of a log, wherever rotation has put it.
//!
//! - The log that was being read is known by its bytes, whatever its name is now: renamed, copied
//!   (`copytruncate`), or compressed by gzip.
//! - Logs that came after it and were rotated too have a name that rotation gives: that of the log
//!   and a number or a date. They are ordered by the time of their last change, which renaming and
//!   compressing keep.
//!
//! All are looked for in the directory of the log.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::checkpoint::{COMPARED, Checkpoint};
use super::source::Source;
use crate::named_file::{Links, is_of_sqlite, parent};

/// A file, and from where on it was not read.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) source: Source,
    pub(crate) offset: u64,
}

impl Segment {
    /// Returns the last bytes of what was not read, at most so many.
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

/// Returns the files that hold what came behind `mark`, the oldest first: the log itself, and before
/// it those that it was rotated to. `None` if the place is not found any more.
pub(crate) fn unread(log: &Path, mark: &Checkpoint) -> io::Result<Option<Vec<Segment>>> {
    let mut current = Source::open(log, Links::Follow)?;
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
pub(super) fn find(log: &Path, mark: &Checkpoint) -> io::Result<Option<Segment>> {
    let mut found: Option<(bool, bool, SystemTime, Segment)> = None;
    for (path, mut source) in beside(log, |_| true)? {
        // What cannot be read is not what was read.
        if !mark.is_in(&mut source).unwrap_or(false) {
            continue;
        }
        let is_older = found.as_ref().is_some_and(|(is_same, is_named, at, _)| {
            let this = (
                mark.is_of(&source),
                is_rotated(&path, log),
                modified(&source),
            );
            (*is_same, *is_named, *at) > this
        });
        if !is_older {
            let (is_same, is_named) = (mark.is_of(&source), is_rotated(&path, log));
            let at = modified(&source);
            let segment = segment(&path, source, mark.offset());
            found = Some((is_same, is_named, at, segment));
        }
    }
    Ok(found.map(|(.., segment)| segment))
}

/// Returns the logs that were rotated after `old`, the oldest first.
pub(super) fn newer(log: &Path, old: &mut Source) -> io::Result<Vec<Segment>> {
    let since = modified(old);
    let mut heads = vec![head(old)];
    if let Some(mut current) = Source::open(log, Links::Follow)? {
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

fn segment(path: &Path, source: Source, offset: u64) -> Segment {
    let path = path.to_owned();
    Segment {
        path,
        source,
        offset,
    }
}

/// Opens the other plain files in the directory of the log.
fn beside(log: &Path, is_wanted: impl Fn(&Path) -> bool) -> io::Result<Vec<(PathBuf, Source)>> {
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
        if let Ok(Some(source)) = Source::open(&path, Links::Refuse) {
            found.push((path, source));
        }
    }
    Ok(found)
}

fn modified(source: &Source) -> SystemTime {
    let meta = source.file.metadata();
    meta.and_then(|meta| meta.modified())
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns the first bytes, none if there are none or they cannot be read.
fn head(source: &mut Source) -> Vec<u8> {
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

/// Returns `true` if `path` has a name that rotation gives the log: its name, or that without the
/// extension, and a number or a date (`dateext`, `dateformat`, `extension`), perhaps `.gz`.
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

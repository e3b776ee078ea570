//! Following a file that grows, and is rotated.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::named_file::open_to_read;

/// Bytes asked for at a time.
const CHUNK: usize = 256 * 1024;
/// Bytes by which the beginning of a file is known again: a date, and with it a day, is in them.
const HEAD: usize = 96;

/// How far a file that grows has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bookmark {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    /// Bytes from the start.
    pub(crate) offset: u64,
}

/// A file that somebody appends to.
#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    open: Option<Open>,
    /// How long the old file must be quiet after a rotation.
    patience: Duration,
    /// Since when another file is at the path and the old one is quiet.
    replaced: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    file: File,
    device: u64,
    inode: u64,
    offset: u64,
    head: Vec<u8>,
}

/// What one look at the file gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growth {
    /// Bytes were added to the buffer; there may be more.
    Grown,
    /// There is no more for now.
    End,
    /// What follows is not the continuation of what came before: another file is at the path, or
    /// the file was emptied, or an interrupted append was taken back.
    Restarted,
}

impl Tail {
    /// Follows the file at `path`, which need not exist yet, from `bookmark` if the file is still
    /// the one it was made in, otherwise from the file's start.
    ///
    /// If that file was renamed to `PATH.1` since, its rest is read first.
    pub(crate) fn new(path: PathBuf, bookmark: Option<Bookmark>) -> io::Result<Tail> {
        let mut tail = Tail {
            path,
            open: None,
            patience: Duration::ZERO,
            replaced: None,
        };
        if let Some(bookmark) = bookmark {
            let mut rotated = tail.path.as_os_str().to_owned();
            rotated.push(".1");
            for path in [tail.path.clone(), PathBuf::from(rotated)] {
                let found = Open::at(&path)?;
                tail.open = found.filter(|open| open.is_marked(bookmark));
                if let Some(open) = &mut tail.open {
                    open.offset = bookmark.offset;
                    return Ok(tail);
                }
            }
        }
        tail.open = Open::at(&tail.path)?;
        Ok(tail)
    }

    /// Lets writers finish with the old file after a rotation: it is left when it has been quiet
    /// for so long.
    pub(crate) fn with_patience(self, patience: Duration) -> Tail {
        Tail { patience, ..self }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the place behind which nothing was consumed, `unread` being the number of bytes
    /// that were handed out but not made use of.
    pub(crate) fn bookmark(&self, unread: usize) -> Option<Bookmark> {
        self.open.as_ref().map(|open| Bookmark {
            device: open.device,
            inode: open.inode,
            offset: open.offset.saturating_sub(unread as u64),
        })
    }

    /// Returns how far the file was read, 0 without one.
    pub(crate) fn offset(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.offset)
    }

    /// Goes on reading at `offset` of the same file.
    pub(crate) fn seek(&mut self, offset: u64) {
        if let Some(open) = &mut self.open {
            open.offset = offset;
        }
    }

    /// Returns the file that is being read.
    #[cfg(feature = "ingest")]
    pub(crate) fn file(&self) -> Option<&File> {
        self.open.as_ref().map(|open| &open.file)
    }

    /// Appends what is new to `buffer`, a bounded piece at a time.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Growth> {
        let Some(open) = &mut self.open else {
            self.open = Open::at(&self.path)?;
            return Ok(match self.open {
                Some(_) => Growth::Restarted,
                None => Growth::End,
            });
        };
        if open.was_cut()? {
            return Ok(Growth::Restarted);
        }
        if open.read(buffer)? > 0 {
            self.replaced = None;
            return Ok(Growth::Grown);
        }
        match Open::at(&self.path)? {
            Some(new) if (new.device, new.inode) != (open.device, open.inode) => {
                // A writer may have added to the old file between the two looks.
                if open.read(buffer)? > 0 {
                    self.replaced = None;
                    return Ok(Growth::Grown);
                }
                let since = *self.replaced.get_or_insert_with(Instant::now);
                if since.elapsed() < self.patience {
                    return Ok(Growth::End);
                }
                self.replaced = None;
                self.open = Some(new);
                Ok(Growth::Restarted)
            }
            _ => Ok(Growth::End),
        }
    }
}

impl Open {
    /// Opens a plain file; `None` if there is none. Never waits.
    fn at(path: &Path) -> io::Result<Option<Open>> {
        let file = match open_to_read(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        Ok(Some(Open {
            device: meta.dev(),
            inode: meta.ino(),
            offset: 0,
            head: Vec::new(),
            file,
        }))
    }

    fn is_marked(&self, bookmark: Bookmark) -> bool {
        let len = self.file.metadata().map_or(0, |meta| meta.len());
        (self.device, self.inode) == (bookmark.device, bookmark.inode) && bookmark.offset <= len
    }

    /// Tells whether the file became shorter than what was read, and finds the place to go on:
    /// its end if the beginning is still the same (a batch was taken back), else its start.
    fn was_cut(&mut self) -> io::Result<bool> {
        let len = self.file.metadata()?.len();
        let known = usize::try_from(len).map_or(self.head.len(), |len| len.min(self.head.len()));
        let mut head = vec![0; known];
        let same = self.file.read_exact_at(&mut head, 0).is_ok() && self.head.starts_with(&head);
        if same && len >= self.offset {
            self.head.resize(HEAD, 0);
            let known = self.file.read_at(&mut self.head, 0)?;
            self.head.truncate(known);
            return Ok(false);
        }
        if same {
            self.offset = len;
        } else {
            self.offset = 0;
            self.head.clear();
        }
        Ok(true)
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let before = buffer.len();
        buffer.resize(before + CHUNK, 0);
        let read = self.file.read_at(&mut buffer[before..], self.offset);
        let read = match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
            other => other,
        };
        buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        let read = read?;
        self.offset += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write as _;

    use super::*;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until there is no more; `|` marks a restart.
    fn drain(tail: &mut Tail) -> String {
        let mut text = Vec::new();
        loop {
            match tail.read(&mut text).unwrap() {
                Growth::Grown => {}
                Growth::Restarted => text.push(b'|'),
                Growth::End => return String::from_utf8(text).unwrap(),
            }
        }
    }

    #[test]
    fn growth_and_rotation_are_followed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut tail = Tail::new(path.clone(), None).unwrap();
        assert_eq!(drain(&mut tail), "", "not there yet");
        append(&path, "one\n");
        assert_eq!(drain(&mut tail), "|one\n");
        append(&path, "two\n");
        assert_eq!(drain(&mut tail), "two\n");
        // By rename, with a last line to the old file.
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        append(&dir.path().join("log.1"), "three\n");
        assert_eq!(drain(&mut tail), "three\n");
        append(&path, "four\n");
        assert_eq!(drain(&mut tail), "|four\n");
        // By copying and emptying; the new text may already be longer than the old.
        fs::write(&path, "five and more\n").unwrap();
        assert_eq!(drain(&mut tail), "|five and more\n");
    }

    #[test]
    fn an_append_that_is_taken_back_is_not_read_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, "one\ntwo\n");
        let mut tail = Tail::new(path.clone(), None).unwrap();
        assert_eq!(drain(&mut tail), "one\ntwo\n");
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(4)
            .unwrap();
        assert_eq!(drain(&mut tail), "|");
        append(&path, "three\n");
        assert_eq!(drain(&mut tail), "three\n");
    }

    #[test]
    fn a_bookmark_continues_also_in_the_rotated_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, "one\ntw");
        let mut tail = Tail::new(path.clone(), None).unwrap();
        drain(&mut tail);
        let bookmark = tail.bookmark(2);
        append(&path, "o\n");
        assert_eq!(
            drain(&mut Tail::new(path.clone(), bookmark).unwrap()),
            "two\n"
        );
        fs::rename(&path, dir.path().join("log.1")).unwrap();
        append(&path, "three\n");
        assert_eq!(
            drain(&mut Tail::new(path.clone(), bookmark).unwrap()),
            "two\n|three\n"
        );
        fs::remove_file(dir.path().join("log.1")).unwrap();
        assert_eq!(drain(&mut Tail::new(path, bookmark).unwrap()), "three\n");
    }

    #[test]
    fn a_directory_is_no_log() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Tail::new(dir.path().to_owned(), None).is_err());
    }
}

//! The parts of a large entry, put aside where the log cannot be read a second time.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Bytes read at a time.
const CHUNK: u64 = 256 * 1024;

/// Temporary files with bytes of a log.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Where they are made; where the system has its temporary files, if `None`.
    dir: Option<PathBuf>,
    /// The large entry at hand.
    entry: Option<File>,
    /// Bytes that belong to other entries after all: file, and where to go on and to end.
    again: Vec<(File, u64, u64)>,
}

impl Aside {
    pub(crate) fn in_dir(dir: PathBuf) -> Aside {
        Aside {
            dir: Some(dir),
            ..Aside::default()
        }
    }

    /// Keeps the next bytes of the entry.
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match (&mut self.entry, &self.dir) {
            (Some(file), _) => file,
            (none, Some(dir)) => none.insert(tempfile::tempfile_in(dir)?),
            (none, None) => none.insert(tempfile::tempfile()?),
        };
        file.write_all(bytes)
    }

    /// Returns the file in which the entry stands from the beginning. Of what was kept, only the
    /// first `len` bytes may be the entry's: then `rest` is what was read behind them, and all
    /// behind the entry is to be read again.
    pub(crate) fn take(&mut self, len: u64, rest: Option<&[u8]>) -> io::Result<File> {
        let mut file = self.entry.take().ok_or(io::ErrorKind::UnexpectedEof)?;
        if let Some(rest) = rest {
            file.write_all(rest)?;
            let end = file.stream_position()?;
            self.again.push((file.try_clone()?, len, end));
        }
        Ok(file)
    }

    /// Returns `true` if something is to be read again.
    pub(crate) fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    /// Appends to `buffer` what is to be read again, a bounded piece at a time. Returns how many
    /// bytes, 0 if there is no more.
    pub(crate) fn read_again(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        while let Some((file, at, end)) = self.again.last_mut() {
            let kept = buffer.len();
            let left = usize::try_from((*end - *at).min(CHUNK)).unwrap_or(0);
            buffer.resize(kept + left, 0);
            let got = file.read_at(buffer.get_mut(kept..).unwrap_or_default(), *at);
            buffer.truncate(kept + got.as_ref().copied().unwrap_or(0));
            let got = got?;
            *at += got as u64;
            if got > 0 {
                return Ok(got);
            }
            self.again.pop();
        }
        Ok(0)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.entry = None;
        self.again.clear();
    }
}

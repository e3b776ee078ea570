//! The bytes of a large entry, put aside where the log cannot be read a second time.
//!
//! An entry of a pipe, of a compressed log, or of one that may be rotated away at any moment is too
//! large for memory: its bytes go to a temporary file without a name as they come
//! ([`Aside::keep`]). When its end has been found, the file is handed out ([`Aside::take`]).
//!
//! The end may turn out to lie before what has been kept. The bytes behind it belong to other
//! entries, and are read again from the temporary file before anything new ([`Aside::read_again`]):
//!
//! ```text
//! temporary file   ██████ entry ██████│ kept in vain │ rest
//!                  0                  len            │ end
//!                                     └─ read again ─┘
//! ```

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

/// Bytes read again at a time.
const CHUNK: u64 = 256 * 1024;

/// Temporary files with bytes of a log. They go away with the last handle, also after a crash.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    /// Where they are made; `None`: in the system's directory for temporary files (`TMPDIR`).
    dir: Option<PathBuf>,
    /// The large entry at hand.
    entry: Option<File>,
    /// Bytes that belong to other entries after all: file, next offset, end. The last one is read
    /// first.
    again: Vec<(File, u64, u64)>,
}

impl Aside {
    /// Makes the files in `dir`, which must exist: a service may not write anywhere else.
    pub(crate) fn in_dir(dir: PathBuf) -> Aside {
        Aside {
            dir: Some(dir),
            ..Aside::default()
        }
    }

    /// Keeps the next bytes of the entry.
    ///
    /// # Errors
    ///
    /// What making the file, or writing to it, said (`ENOSPC`).
    pub(crate) fn keep(&mut self, bytes: &[u8]) -> io::Result<()> {
        let file = match (&mut self.entry, &self.dir) {
            (Some(file), _) => file,
            (none, Some(dir)) => none.insert(tempfile::tempfile_in(dir)?),
            (none, None) => none.insert(tempfile::tempfile()?),
        };
        file.write_all(bytes)
    }

    /// Returns the file in which the entry stands from its beginning, `len` bytes long.
    ///
    /// `rest` is given if more was kept than the entry has: what was read behind that. All behind
    /// the entry is then to be read again.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] if nothing was kept, or what writing said.
    pub(crate) fn take(&mut self, len: u64, rest: Option<&[u8]>) -> io::Result<File> {
        let mut file = self.entry.take().ok_or(io::ErrorKind::UnexpectedEof)?;
        if let Some(rest) = rest {
            file.write_all(rest)?;
            let end = file.stream_position()?;
            self.again.push((file.try_clone()?, len, end));
        }
        Ok(file)
    }

    /// Returns `true` if bytes are to be read again.
    pub(crate) fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    /// Appends to `buffer` what is to be read again, at most [`CHUNK`] bytes, and returns how many;
    /// 0 if there is no more.
    ///
    /// # Errors
    ///
    /// What reading said.
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

    /// Forgets the entry at hand and what is to be read again: the log goes on elsewhere.
    pub(crate) fn clear(&mut self) {
        self.entry = None;
        self.again.clear();
    }
}

//! A note in the private directory: what is to be remembered from one run to the next.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::Errno;

use super::dir::Dir;
use super::private::{NEW_NOTE, NOTE};

/// Longest note that is read, in bytes.
const MAX: u64 = 64 << 20;

const FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Returns what was noted last; `None` if nothing was.
pub(super) fn read(dir: &Dir) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | FLAGS;
    let file = match openat(dir.file(), NOTE, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut note = Vec::new();
    file.take(MAX).read_to_end(&mut note)?;
    Ok(Some(note))
}

/// Replaces the note: at any moment, also after a loss of power, it is the old or the new.
pub(super) fn write(dir: &Dir, note: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | FLAGS;
    let dir = dir.file();
    let mut file = File::from(openat(dir, NEW_NOTE, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(note)?;
    file.sync_all()?;
    renameat(dir, NEW_NOTE, dir, NOTE)?;
    dir.sync_all()
}

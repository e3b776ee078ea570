//! A state file: what one run of the program leaves to the next, such as its place in the index.
//!
//! The file is replaced as a whole: written under another name, synced, renamed over the old one,
//! and the directory synced. A crash or a loss of power between any two of these steps leaves the
//! old file or the new one. Its contents are the caller's.

use std::fs::File;
use std::io::{self, Read as _, Write as _};

use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::Errno;

/// Bytes of a state file that are read at most, 64 MiB; nothing that the program writes comes near.
/// What stands behind is cut off, and the reader of the contents sees an incomplete text.
const MAX_BYTES: u64 = 64 << 20;

/// Never through a link and never waiting, although only this account can write to the directory.
const FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// Returns the contents of the state file `name` in `dir`; `None` if there is none.
///
/// # Errors
///
/// What openat(2) or read(2) said.
pub(super) fn read(dir: &File, name: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | FLAGS;
    let file = match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut state = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut state)?;
    Ok(Some(state))
}

/// Replaces the contents of the state file `name` in `dir` by `state`. When it returns, the new contents
/// survive a loss of power.
///
/// # Errors
///
/// What the kernel said. If writing failed, the old contents are still there, and at most a file
/// `NAME.new` beside them, which the next call overwrites.
pub(super) fn write(dir: &File, name: &str, state: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | FLAGS;
    let new = format!("{name}.new");
    let mut file = File::from(openat(dir, &new, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(state)?;
    file.sync_all()?;
    renameat(dir, &new, dir, name)?;
    dir.sync_all()
}

//! Files and directories that are read and left as they are.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::spool::{self, Listing};
use crate::{named_file, storage_dir};

/// Names of one directory that are sorted at a time: enough for every directory a person looks
/// at, and a bound for the others.
const SORTED: usize = 65_536;
/// How deep directories may nest; deeper ones are reported, not entered.
const MAX_DEPTH: usize = 64;

/// Opens `path`, or all files below it in the order of their names, and hands each to `take`
/// until that returns false. Returns false then.
///
/// The path itself may be a link, or a pipe: the administrator wrote it. `-` is standard input.
/// Below it links are not followed, and only plain files are opened.
pub(super) fn walk(path: &Path, take: &mut impl FnMut(PathBuf, io::Result<File>) -> bool) -> bool {
    let is_stdin = path == Path::new("-");
    let opened = if is_stdin {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        named_file::open_input(path)
    };
    match opened.and_then(|file| Ok((file.metadata()?, file))) {
        Ok((meta, file)) if meta.file_type().is_fifo() || meta.file_type().is_socket() => {
            take(path.to_owned(), Ok(file))
        }
        Ok((meta, file)) if meta.is_dir() => descend(&file, path, MAX_DEPTH, take),
        Ok((meta, file)) if meta.is_file() => take(path.to_owned(), Ok(file)),
        // Nothing to read, as a service manager gives it.
        Ok((meta, file)) if is_stdin && named_file::is_null(&meta) => {
            take(path.to_owned(), Ok(file))
        }
        Ok(_) => take(path.to_owned(), Err(not_a_file(FileType::CharacterDevice))),
        Err(error) => take(path.to_owned(), Err(error)),
    }
}

/// Returns the error for something that is neither a plain file nor a directory: of kind
/// [`io::ErrorKind::InvalidInput`], with advice for links and mount points.
fn not_a_file(kind: FileType) -> io::Error {
    let what = match kind {
        FileType::Symlink => {
            "a symbolic link and was not followed; name what it leads to as an input"
        }
        FileType::Unknown => "a mount point and was not entered; name it as an input",
        _ => "not a plain file or directory and was not read",
    };
    io::Error::new(io::ErrorKind::InvalidInput, format!("is {what}"))
}

/// Hands over the files below `dir`, which is at `path`, at most `depth` directories deep. Returns
/// `false` once `take` does.
///
/// Names are sorted in portions of [`SORTED`]. Files that the programs keep for themselves are
/// passed over. What cannot be listed, looked at or opened is handed over as an error, and the
/// others go on; what vanishes meanwhile is passed over without one.
fn descend(
    dir: &File,
    path: &Path,
    depth: usize,
    take: &mut impl FnMut(PathBuf, io::Result<File>) -> bool,
) -> bool {
    if depth == 0 {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "directories nest too deeply");
        return take(path.to_owned(), Err(error));
    }
    let mut listing = match Listing::of(dir) {
        Ok(listing) => listing,
        Err(error) => return take(path.to_owned(), Err(error.into())),
    };
    loop {
        let mut names: Vec<_> = listing
            .by_ref()
            .map_while(Result::ok)
            .map(|found| found.name)
            .take(SORTED)
            .collect();
        if names.is_empty() {
            return true;
        }
        names.sort_unstable();
        for name in names {
            let path = path.join(&name);
            if storage_dir::is_own_file(&path) {
                continue;
            }
            let kind = match spool::look(dir, &name) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(Errno::XDEV) => FileType::Unknown,
                Err(Errno::NOENT) => continue, // gone since
                Err(errno) => {
                    if !take(path, Err(errno.into())) {
                        return false;
                    }
                    continue;
                }
            };
            let go_on = match kind {
                FileType::Directory => match spool::open_dir(dir, Path::new(&name)) {
                    Ok(dir) => descend(&File::from(dir), &path, depth - 1, take),
                    Err(errno) => take(path, Err(errno.into())),
                },
                FileType::RegularFile => {
                    let file = spool::open_file(dir, &name).map_err(io::Error::from);
                    take(path, file)
                }
                kind => take(path, Err(not_a_file(kind))),
            };
            if !go_on {
                return false;
            }
        }
    }
}

//! Opening below a directory that is held: the only way into the storage directory's tree.
//!
//! Site users own directories in the tree. They put links and pipes into it, and mount file
//! systems of their own on it (FUSE), whose server need never answer: whoever opens something
//! there, or asks for its attributes, waits for ever and cannot be killed. So a name is never
//! opened before it is known that no file system is mounted on it. The kernel refuses to cross
//! with openat2(2), since Linux 5.6. Where it is missing, or a filter of system calls does not
//! know it, a name is held by `O_PATH`, which neither waits nor mounts anything, and compared
//! with its directory before it is opened by way of that descriptor.

mod listing;
mod refusal;

use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path};
use std::sync::OnceLock;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, StatxFlags, fstat,
    makedev, openat, openat2, renameat, renameat_with, statx,
};
use rustix::io::Errno;

pub(crate) use self::listing::{Found, Listing};
pub use self::refusal::{LeftAlone, Reason, Refusal};

/// Flags to open a directory: never through a link, and without waiting for a server.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
/// Flags to open a file to read. With `O_NONBLOCK` a pipe opens at once, and a lease that the
/// file's owner holds (fcntl(2), `F_SETLEASE`) is an error instead of a wait.
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);
/// Flags to hold a name without opening it: a device or a pipe does not notice.
const HELD: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// How the kernel resolves a name: to something below the directory, in the same mount, through no
/// link. Source: openat2(2).
const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Which file or directory it is, whatever its name: two equal ones are the same as long as one of
/// them is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    /// `st_dev`.
    pub(crate) device: u64,
    /// `st_ino`.
    pub(crate) inode: u64,
}

impl FileId {
    /// Returns the identity of what fstat(2) has described.
    pub(crate) fn of(stat: &Stat) -> FileId {
        FileId {
            device: stat.st_dev,
            inode: stat.st_ino,
        }
    }
}

/// Opens the directory at `path` below `parent`, or `parent` anew if `path` is empty.
///
/// Follows no link, crosses no mount point, and does not mount what autofs would. Needs the right
/// to enter it, as everything does that is done in it afterwards.
///
/// # Errors
///
/// `EXDEV` if a file system is mounted on a component, `ENOTDIR` for a link and whatever else is
/// no directory, `EINVAL` if `path` leads out of `parent`.
pub(crate) fn open_dir(parent: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let mut held: Option<OwnedFd> = None;
    for component in path.components() {
        let Component::Normal(name) = component else {
            return Err(Errno::INVAL);
        };
        let parent = held.as_ref().map_or(parent.as_fd(), AsFd::as_fd);
        held = Some(hold(parent, name)?);
    }
    let held = held.as_ref().map_or(parent.as_fd(), AsFd::as_fd);
    openat(held, c".", DIRECTORY, Mode::empty())
}

/// Opens the directory at `path` as [`open_dir`] does, and says what it is.
///
/// # Errors
///
/// What is there instead of a directory in the file system that has the number `device`.
pub(crate) fn enter(
    parent: impl AsFd,
    path: &Path,
    device: u64,
) -> Result<(OwnedFd, Stat), Reason> {
    let opened = open_dir(&parent, path);
    let handle = opened.map_err(|errno| why_not(parent.as_fd(), path, errno))?;
    let stat = fstat(&handle)?;
    // A subvolume of Btrfs is no mount, but files cannot be moved out of it.
    if stat.st_dev == device {
        Ok((handle, stat))
    } else {
        Err(Reason::OtherFileSystem)
    }
}

/// Returns why the directory at `path` could not be opened, of which the kernel said `errno`.
///
/// `ENOTDIR` may mean a link, a file or a pipe, at the end of the path or on the way to it: each
/// name is looked at from the end on, until one can be reached.
fn why_not(parent: BorrowedFd<'_>, path: &Path, errno: Errno) -> Reason {
    match (errno, path.parent().zip(path.file_name())) {
        (Errno::INVAL, _) => Reason::Name,
        // For a link as well: what it is, or what is on the way to it.
        (Errno::NOTDIR | Errno::LOOP, Some((above, name))) => {
            let seen = open_dir(parent, above).and_then(|directory| look(directory, name));
            match seen {
                Ok(stat) => Reason::of(FileType::from_raw_mode(stat.st_mode)),
                Err(errno) => why_not(parent, above, errno),
            }
        }
        (errno, _) => errno.into(),
    }
}

/// Opens the file `name` in `parent` to read, whatever kind of file it is. Never waits.
///
/// # Errors
///
/// `EXDEV` if a file system is mounted on it, `ELOOP` for a link, `ENXIO` for a socket.
pub(crate) fn open_file(parent: impl AsFd, name: &OsStr) -> Result<File, Errno> {
    let opened = if has_openat2() {
        openat2(parent, name, FILE | OFlags::NOFOLLOW, Mode::empty(), WITHIN)
    } else {
        let held = hold(parent.as_fd(), name)?;
        let path = format!("/proc/self/fd/{}", held.as_raw_fd());
        openat(CWD, path, FILE, Mode::empty())
    };
    opened.map(File::from)
}

/// Returns what `name` in `parent` is (fstat(2)), without opening it or following it if it is a
/// link.
///
/// # Errors
///
/// `EXDEV` if a file system is mounted on it, `ENOENT` if there is nothing.
pub(crate) fn look(parent: impl AsFd, name: &OsStr) -> Result<Stat, Errno> {
    fstat(hold(parent.as_fd(), name)?)
}

/// Gets hold of `name` in `parent` without opening it: fit for `fstat`, and for opening what is
/// in it.
///
/// # Errors
///
/// `EXDEV` if a file system is mounted on it.
pub(crate) fn hold(parent: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    if has_openat2() {
        return openat2(parent, name, HELD, Mode::empty(), WITHIN);
    }
    let held = openat(parent, name, HELD, Mode::empty())?;
    if mount(held.as_fd())? == mount(parent)? {
        Ok(held)
    } else {
        Err(Errno::XDEV)
    }
}

/// Finds out once whether the kernel has openat2(2). A filter of system calls that does not know
/// it answers `EPERM`, which this call cannot get otherwise.
fn has_openat2() -> bool {
    /// Set by the first call, for the whole process.
    static HAS_OPENAT2: OnceLock<bool> = OnceLock::new();
    *HAS_OPENAT2.get_or_init(|| {
        let tried = openat2(CWD, c"/", HELD, Mode::empty(), ResolveFlags::empty());
        !matches!(tried, Err(Errno::NOSYS | Errno::PERM))
    })
}

/// Returns the file system, and since Linux 5.8 the mount, of something held. Asks no server.
fn mount(held: BorrowedFd<'_>) -> Result<(u64, Option<u64>), Errno> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    match statx(held, c"", flags, StatxFlags::TYPE | StatxFlags::MNT_ID) {
        Ok(stat) => {
            let has_mount =
                StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
            let device = makedev(stat.stx_dev_major, stat.stx_dev_minor);
            Ok((device, has_mount.then_some(stat.stx_mnt_id)))
        }
        // Before Linux 4.11.
        Err(Errno::NOSYS) => Ok((fstat(held)?.st_dev, None)),
        Err(errno) => Err(errno),
    }
}

/// Renames the directory `name` in `from` to `new` in `to`, without replacing anything that holds
/// something: `EEXIST` or `ENOTEMPTY` instead.
///
/// A file system that cannot refuse to replace (`RENAME_NOREPLACE`) replaces an empty directory, and
/// nothing else: rename(2) puts a directory only in the place of an empty one.
pub(crate) fn rename_dir(
    from: impl AsFd,
    name: &str,
    to: impl AsFd,
    new: &OsStr,
) -> Result<(), Errno> {
    match renameat_with(&from, name, &to, new, RenameFlags::NOREPLACE) {
        renamed if is_unsupported(renamed) => renameat(from, name, to, new),
        renamed => renamed,
    }
}

/// Returns `true` if renameat2(2) failed because kernel or file system does not know the flag.
pub(crate) fn is_unsupported(renamed: Result<(), Errno>) -> bool {
    matches!(renamed, Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP))
}

/// Returns `prefix` with 16 hexadecimal digits that no other user can foresee, for a name in a
/// directory that others may write to. They come from the keys of the standard library's hash
/// tables, which the kernel's random numbers seed.
pub(crate) fn random_name(prefix: &str) -> String {
    format!(
        "{prefix}{:016x}",
        RandomState::new().build_hasher().finish()
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_is_opened_through_a_link_or_outside() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir_all(dir.path().join("out/b")).unwrap();
        symlink("../out", tree.join("link")).unwrap();
        symlink(dir.path().join("out"), tree.join("a/link")).unwrap();
        fs::write(tree.join("file"), "x").unwrap();
        let root = File::open(&tree).unwrap();
        for path in ["a/b", "a", ""] {
            assert!(open_dir(&root, Path::new(path)).is_ok(), "{path}");
        }
        for (path, want) in [
            ("link", Errno::NOTDIR),
            ("link/b", Errno::NOTDIR),
            ("a/link/b", Errno::NOTDIR),
            ("file", Errno::NOTDIR),
            ("a/..", Errno::INVAL),
            ("/etc", Errno::INVAL),
            ("absent", Errno::NOENT),
        ] {
            let opened = open_dir(&root, Path::new(path));
            assert_eq!(opened.unwrap_err(), want, "{path}");
        }
        assert!(open_file(&root, OsStr::new("file")).is_ok());
        let link = open_file(&root, OsStr::new("link"));
        assert_eq!(link.unwrap_err(), Errno::LOOP);
        let id = |name| FileId::of(&look(&root, OsStr::new(name)).unwrap());
        assert_eq!(id("a"), id("a"));
        assert_ne!(id("a"), id("link"));
    }
}

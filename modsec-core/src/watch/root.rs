//! The storage directory of a watcher, held open, and what is opened from it.
//!
//! The path is the administrator's, but its last component must not be a link: inotify watches what
//! a path leads to at one moment, and a link could lead elsewhere later. Everything below is opened
//! by way of the descriptor, so moving the directory away changes nothing until the watcher notices
//! it ([`Root::is_in_place`]) and looks for a new one at the path.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::spool::{self, DIRECTORY, FileId, Reason};
use crate::storage_dir::look::Looker;

/// Why the storage directory cannot be used at the moment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Nothing is there.
    #[error("storage directory {} does not exist", .path.display())]
    Absent {
        /// Its path, without a slash at the end.
        path: PathBuf,
    },
    /// A symbolic link is there.
    #[error(
        "storage directory {} is a symbolic link: name the directory itself, {}",
        .path.display(), .target.display()
    )]
    Link {
        /// The storage directory.
        path: PathBuf,
        /// Where the link points.
        target: PathBuf,
    },
    /// Something else than a directory is there.
    #[error("storage directory {} is not a directory", .path.display())]
    NotADirectory {
        /// The storage directory.
        path: PathBuf,
    },
    /// It cannot be opened.
    #[error(
        "cannot open storage directory {}: reading it needs its owner's rights or \
         CAP_DAC_OVERRIDE", .path.display()
    )]
    Unreadable {
        /// The storage directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It was moved away, removed, or another one was put or mounted in its place.
    #[error("storage directory {} has been moved or removed", .path.display())]
    Gone {
        /// The storage directory.
        path: PathBuf,
    },
}

/// Finds out whether there is a storage directory at `path` that can be read.
///
/// # Errors
///
/// Why not.
pub fn check_root(path: &Path) -> Result<(), RootError> {
    Root::open(path).map(drop)
}

/// A storage directory, held open.
#[derive(Debug)]
pub(crate) struct Root {
    /// The path as given, without a slash at the end.
    path: PathBuf,
    /// The descriptor.
    handle: OwnedFd,
    /// Which directory it is, to notice another at its path.
    id: FileId,
    /// User id of its owner when it was opened.
    owner: u32,
}

impl Root {
    /// Opens the directory at `path`, whose last component must not be a link.
    ///
    /// # Errors
    ///
    /// Why there is none that can be used; see [`RootError`].
    pub(crate) fn open(path: &Path) -> Result<Self, RootError> {
        // A slash at the end would make the system follow a link in spite of O_NOFOLLOW.
        let path: PathBuf = path.components().collect();
        let handle =
            openat(CWD, &path, DIRECTORY, Mode::empty()).map_err(|errno| explain(&path, errno))?;
        let stat = fstat(&handle).map_err(|errno| explain(&path, errno))?;
        Ok(Self {
            id: FileId::of(&stat),
            owner: stat.st_uid,
            path,
            handle,
        })
    }

    /// Returns the path, without a slash at the end.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the user id of its owner when it was opened.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }

    /// Returns what looks at files below.
    pub(crate) fn looker(&self) -> Looker {
        Looker::new(&self.handle, self.id.device)
    }

    /// Returns `true` if the held directory is still what its path leads to: it was not renamed or
    /// removed, and nothing is mounted on it.
    pub(crate) fn is_in_place(&self) -> bool {
        statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileId::of(&stat) == self.id)
    }

    /// Opens the directory at `relative`, one component at a time, none of them a link, all on the
    /// storage directory's own file system.
    ///
    /// # Errors
    ///
    /// What is there instead of a directory; [`Reason::Vanished`] if nothing is, [`Reason::Name`]
    /// for a path that leads out.
    pub(crate) fn open_below(&self, relative: &Path) -> Result<(OwnedFd, Stat), Reason> {
        spool::enter(&self.handle, relative, self.id.device)
    }

    /// Returns the attributes of the last component of `relative`, without opening or following it.
    ///
    /// # Errors
    ///
    /// As for [`Root::open_below`].
    pub(crate) fn look_at(&self, relative: &Path) -> Result<Stat, Reason> {
        let name = relative.file_name().ok_or(Reason::Name)?;
        let parent = relative.parent().unwrap_or(Path::new(""));
        let (handle, _) = self.open_below(parent)?;
        Ok(spool::look(&handle, name)?)
    }
}

/// Says why `path` cannot be opened as a storage directory. With `O_NOFOLLOW` and `O_DIRECTORY` a
/// link fails with `ENOTDIR` or `ELOOP`; where it leads is part of the message.
fn explain(path: &Path, errno: Errno) -> RootError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT => RootError::Absent { path },
        Errno::LOOP | Errno::NOTDIR => match fs::read_link(&path) {
            Ok(target) => RootError::Link {
                target: fs::canonicalize(&path).unwrap_or(target),
                path,
            },
            Err(_) => RootError::NotADirectory { path },
        },
        errno => RootError::Unreadable {
            path,
            source: errno.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_as_storage_directory_is_refused_with_and_without_a_slash() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::create_dir(&real).unwrap();
        symlink(&real, &link).unwrap();
        for path in [link.clone(), link.join(""), link.join(".")] {
            let error = Root::open(&path).unwrap_err();
            assert!(matches!(error, RootError::Link { .. }), "{path:?}: {error}");
            assert!(error.to_string().ends_with("/real"), "{error}");
        }
        assert!(Root::open(&real.join("")).unwrap().is_in_place());
    }

    #[test]
    fn nothing_is_opened_through_a_link_or_outside() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir_all(dir.path().join("out/b")).unwrap();
        symlink("../out", tree.join("link")).unwrap();
        symlink(dir.path().join("out"), tree.join("a/link")).unwrap();
        fs::write(tree.join("file"), "").unwrap();
        let root = Root::open(&tree).unwrap();
        assert!(root.open_below(Path::new("a/b")).is_ok());
        assert!(root.open_below(Path::new("")).is_ok());
        let cases = [
            ("link", Reason::Symlink),
            ("link/b", Reason::Symlink),
            ("a/link/b", Reason::Symlink),
            ("file", Reason::File),
            ("file/b", Reason::File),
            ("a/..", Reason::Name),
            ("/etc", Reason::Name),
            ("absent", Reason::Vanished),
            ("absent/b", Reason::Vanished),
        ];
        for (path, want) in cases {
            let reason = root.open_below(Path::new(path)).unwrap_err();
            assert_eq!(reason.label(), want.label(), "{path}");
        }
    }

    #[test]
    fn a_directory_put_in_its_place_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        fs::create_dir(&path).unwrap();
        let root = Root::open(&path).unwrap();
        fs::rename(&path, dir.path().join("old")).unwrap();
        assert!(!root.is_in_place());
        fs::create_dir(&path).unwrap();
        assert!(!root.is_in_place());
    }
}

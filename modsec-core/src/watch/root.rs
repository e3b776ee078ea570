//! The storage directory, held open, and what is opened from it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, Stat, fstat, openat, statat};
use rustix::io::Errno;

use crate::spool::{self, DIRECTORY, FileId};
#[cfg(feature = "recidive")]
use crate::storage_dir::look::Looker;

/// Why the storage directory cannot be used at the moment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Nothing is there.
    #[error("storage directory {} does not exist", .path.display())]
    Absent {
        /// The storage directory.
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

/// Why something in the tree is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Its name fits no template.
    #[error("the name fits no template")]
    Name,
    /// It is a symbolic link, or became something else than a directory.
    #[error("it is a link or not a directory")]
    NotADirectory,
    /// It is on another file system than the storage directory.
    #[error("it is on another file system")]
    OtherFileSystem,
    /// Its owner is not one of those whose directories may be touched.
    #[error("its owner is not allowed")]
    Owner,
    /// It is in the tree of a user, or named after one, and belongs to another.
    #[error("it does not belong to the user of this tree")]
    OtherUser,
    /// It cannot be opened.
    #[error("it cannot be opened")]
    Unreadable,
}

/// How opening below the root failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It is gone, or was never there: nothing to say.
    Gone,
    /// It must be left alone.
    Refused(Refusal),
    /// The system has no more of something; worth another attempt.
    Exhausted,
}

/// A held storage directory.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    handle: OwnedFd,
    id: FileId,
    owner: u32,
}

impl Root {
    /// Opens `path`, whose last component must not be a link.
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

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns who owned the storage directory when it was opened.
    pub(crate) fn owner(&self) -> u32 {
        self.owner
    }

    /// Returns what looks at files below.
    #[cfg(feature = "recidive")]
    pub(crate) fn looker(&self) -> Looker {
        Looker::new(&self.handle, self.id.device)
    }

    /// Tells whether the held directory is still what its path leads to.
    pub(crate) fn is_in_place(&self) -> bool {
        statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileId::of(&stat) == self.id)
    }

    /// Opens the directory at `relative`, one component at a time, none of them a link, all on
    /// the storage directory's own file system.
    pub(crate) fn open_below(&self, relative: &Path) -> Result<(OwnedFd, Stat), Failure> {
        let handle = spool::open_dir(&self.handle, relative).map_err(classify)?;
        let stat = fstat(&handle).map_err(classify)?;
        // A subvolume of Btrfs is no mount, but files cannot be moved out of it.
        if stat.st_dev != self.id.device {
            return Err(Failure::Refused(Refusal::OtherFileSystem));
        }
        Ok((handle, stat))
    }

    /// Looks at the last component of `relative` without following it.
    pub(crate) fn look_at(&self, relative: &Path) -> Result<Stat, Failure> {
        let name = relative
            .file_name()
            .ok_or(Failure::Refused(Refusal::Name))?;
        let parent = relative.parent().unwrap_or(Path::new(""));
        let (handle, _) = self.open_below(parent)?;
        spool::look(&handle, name).map_err(classify)
    }
}

pub(crate) fn classify(errno: Errno) -> Failure {
    match errno {
        Errno::NOENT | Errno::STALE => Failure::Gone,
        Errno::INVAL => Failure::Refused(Refusal::Name),
        Errno::LOOP | Errno::NOTDIR => Failure::Refused(Refusal::NotADirectory),
        Errno::XDEV => Failure::Refused(Refusal::OtherFileSystem),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC => Failure::Exhausted,
        _ => Failure::Refused(Refusal::Unreadable),
    }
}

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
        let not_a_directory = Failure::Refused(Refusal::NotADirectory);
        let cases = [
            ("link", not_a_directory),
            ("link/b", not_a_directory),
            ("a/link/b", not_a_directory),
            ("file", not_a_directory),
            ("a/..", Failure::Refused(Refusal::Name)),
            ("/etc", Failure::Refused(Refusal::Name)),
            ("absent", Failure::Gone),
        ];
        for (path, want) in cases {
            assert_eq!(
                root.open_below(Path::new(path)).unwrap_err(),
                want,
                "{path}"
            );
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

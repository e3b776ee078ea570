//! Why something below the storage directory was left alone, and how often.
//!
//! A site user can make anything in the tree, so what is no part of the layout is never an error
//! that ends a pass: it is a [`Refusal`], counted in a [`LeftAlone`] by kind, with the first three
//! paths of each as examples for the administrator.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

use rustix::fs::FileType;

/// One thing that was left where it is, and why.
///
/// Never a reason to stop: the rest of the tree is unaffected.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refusal {
    /// Where it is, under the path by which the storage directory was opened. For people only:
    /// another file may be there by now, so nothing should be opened by it.
    pub path: PathBuf,
    /// What is wrong with it and what to do.
    pub reason: Reason,
}

impl fmt::Display for Refusal {
    #[expect(
        clippy::unnecessary_debug_formatting,
        reason = "site users choose the path; it must reach no terminal unescaped"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.path, self.reason)
    }
}

impl Error for Refusal {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.reason.source()
    }
}

/// What kept a file or directory from being used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The name is none that an engine gives ([`crate::names`]).
    #[error("has no name of an audit log; move it elsewhere if it is yours")]
    Name,
    /// A symbolic link where a file or directory was expected.
    #[error("is a symbolic link and was not followed; remove it")]
    Symlink,
    /// A named pipe. It was not read.
    #[error("is a named pipe, not a file; remove it")]
    Fifo,
    /// A socket.
    #[error("is a socket, not a file; remove it")]
    Socket,
    /// A block or character device. It was not read.
    #[error("is a device, not a file; remove it")]
    Device,
    /// A directory where a file was expected.
    #[error("is a directory, not a file; remove it")]
    Directory,
    /// A file where a directory was expected.
    #[error("is a file, not a directory; remove it")]
    File,
    /// A file with more than one name; another one may be outside of the tree, so it is neither
    /// read nor removed.
    #[error("has {links} hard links; remove all but one of its names")]
    HardLink {
        /// How many names it has.
        links: u64,
    },
    /// A file larger than the caller's limit, see [`crate::storage_dir::MAX_ENTRY_BYTES`].
    #[error("has {size} bytes, more than the limit of {limit}; look at it and remove it")]
    TooBig {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// A file with more than 1 MiB that was never written. It would fill the disk when it is
    /// copied.
    #[error(
        "has holes of {holes} bytes or more, and no server makes any; look at it and remove it"
    )]
    Sparse {
        /// Bytes of holes that were found before the search was given up.
        holes: u64,
    },
    /// A file system is mounted there, or it is a subvolume. It was not opened: the server of a
    /// user's file system might never answer.
    #[error("is a mount point or on another file system than the storage directory; unmount it")]
    OtherFileSystem,
    /// This account may not read, move or remove it (`EACCES`, `EPERM`).
    #[error(
        "may not be used by this account; run as root, or with CAP_DAC_READ_SEARCH to read, and \
         CAP_DAC_OVERRIDE and CAP_FOWNER to remove"
    )]
    Permission(#[source] io::Error),
    /// It is gone. Normal where several programs read one tree.
    #[error("vanished")]
    Vanished,
    /// The name leads to another file than the one that was read, or it was written to since.
    #[error("changed since it was read; it is read again in the next pass")]
    Changed,
    /// Its owner is not one of those whose directories may be touched, see
    /// [`crate::permissions::Policy::allows_owner`].
    #[error(
        "belongs to user {uid}, whose directories are not touched; if they should be, name the user \
         with --site-user, or set --allow-uid-min to {uid}"
    )]
    Owner {
        /// The owner.
        uid: u32,
    },
    /// It is in the tree of a user, or named after one, and belongs to another.
    #[error(
        "belongs to user {uid}, and not to the user after whom it, or a directory above it, is \
         named; see who made it, and chown or remove it"
    )]
    OtherUser {
        /// The owner.
        uid: u32,
    },
    /// The program does not hold the lock on the storage directory.
    #[error("may be moved or removed only by the program that locked the storage directory")]
    NotLocked,
    /// Another error of the kernel. Also used if descriptors or memory ran out.
    #[error("could not be used; it is tried again in the next pass")]
    Io(#[source] io::Error),
}

impl Reason {
    /// Names the kind in a word or two, for counting and as a key of [`LeftAlone`].
    pub fn label(&self) -> &'static str {
        match self {
            Reason::Name => "foreign name",
            Reason::Symlink => "symbolic link",
            Reason::Fifo => "named pipe",
            Reason::Socket => "socket",
            Reason::Device => "device",
            Reason::Directory => "directory",
            Reason::File => "file",
            Reason::HardLink { .. } => "hard link",
            Reason::TooBig { .. } => "too big",
            Reason::Sparse { .. } => "sparse file",
            Reason::OtherFileSystem => "other file system",
            Reason::Permission(_) => "permission denied",
            Reason::Vanished => "vanished",
            Reason::Changed => "changed",
            Reason::Owner { .. } => "owner not allowed",
            Reason::OtherUser { .. } => "another user's",
            Reason::NotLocked => "not locked",
            Reason::Io(_) => "input/output error",
        }
    }

    /// Returns the reason to refuse something of the type `kind`. Callers ask only about a type
    /// that they do not want.
    pub(crate) fn of(kind: FileType) -> Self {
        match kind {
            FileType::Symlink => Reason::Symlink,
            FileType::Fifo => Reason::Fifo,
            FileType::Socket => Reason::Socket,
            FileType::Directory => Reason::Directory,
            FileType::RegularFile => Reason::File,
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => Reason::Device,
        }
    }

    /// Returns `true` if descriptors, memory or watches ran out (`EMFILE`, `ENFILE`, `ENOMEM`,
    /// `ENOSPC`): the same attempt may succeed later.
    pub(crate) fn is_exhausted(&self) -> bool {
        use rustix::io::Errno;
        let Reason::Io(error) = self else {
            return false;
        };
        let scarce = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOSPC];
        Errno::from_io_error(error).is_some_and(|errno| scarce.contains(&errno))
    }
}

impl From<io::Error> for Reason {
    /// Sorts an error of the kernel: `EXDEV` means another file system, `ENOENT` and `ESTALE` that
    /// it is gone, `EACCES` and `EPERM` a missing right.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::CrossesDevices => Reason::OtherFileSystem,
            io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle => Reason::Vanished,
            io::ErrorKind::PermissionDenied => Reason::Permission(error),
            _ => Reason::Io(error),
        }
    }
}

impl From<rustix::io::Errno> for Reason {
    fn from(error: rustix::io::Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// Paths kept per kind as examples; the number of refusals is counted without bound.
const EXAMPLES: usize = 3;

/// How many things were left alone, by kind, with the first few paths of each. Memory is bounded:
/// there are as many kinds as [`Reason`] has labels.
#[derive(Debug, Clone, Default)]
pub struct LeftAlone {
    /// Number and examples by label.
    kinds: BTreeMap<&'static str, (u64, Vec<PathBuf>)>,
    /// What is wrong with the first of each kind, and what to do.
    reasons: BTreeMap<&'static str, String>,
}

impl LeftAlone {
    /// Counts one refusal. One with [`Reason::Vanished`] is not counted: nothing is left of it.
    pub fn add(&mut self, refusal: Refusal) {
        if matches!(refusal.reason, Reason::Vanished) {
            return;
        }
        let label = refusal.reason.label();
        self.reasons
            .entry(label)
            .or_insert_with(|| refusal.reason.to_string());
        let (count, examples) = self.kinds.entry(label).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            examples.push(refusal.path);
        }
    }

    /// Adds what `other` has counted; its examples come after those that are here.
    pub fn merge(&mut self, other: LeftAlone) {
        for (label, (count, paths)) in other.kinds {
            let (total, examples) = self.kinds.entry(label).or_default();
            *total += count;
            let room = EXAMPLES - examples.len();
            examples.extend(paths.into_iter().take(room));
        }
        for (label, reason) in other.reasons {
            self.reasons.entry(label).or_insert(reason);
        }
    }

    /// Returns what is wrong with things of the kind called `label`, and what to do, as the message
    /// of the first of them; `None` if there were none.
    pub fn reason(&self, label: &str) -> Option<&str> {
        self.reasons.get(label).map(String::as_str)
    }

    /// Returns for each kind its label (see [`Reason::label`]), the number, and up to three paths,
    /// in the alphabetical order of the labels.
    pub fn kinds(&self) -> impl Iterator<Item = (&'static str, u64, &[PathBuf])> {
        self.kinds
            .iter()
            .map(|(label, (count, examples))| (*label, *count, examples.as_slice()))
    }

    /// Returns the number over all kinds.
    pub fn total(&self) -> u64 {
        self.kinds.values().map(|(count, _)| count).sum()
    }

    /// Returns how many were of the kind called `label`.
    pub fn count(&self, label: &str) -> u64 {
        self.kinds.get(label).map_or(0, |(count, _)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_bounded_and_counts_are_not() {
        let mut left = LeftAlone::default();
        for number in 0..1000 {
            let path = PathBuf::from(format!("/log/{number}"));
            left.add(Refusal {
                path,
                reason: Reason::Symlink,
            });
        }
        left.add(Refusal {
            path: "/log/gone".into(),
            reason: Reason::Vanished,
        });
        let kinds: Vec<_> = left.kinds().collect();
        assert_eq!(kinds.len(), 1);
        assert_eq!((kinds[0].0, kinds[0].1), ("symbolic link", 1000));
        assert_eq!(kinds[0].2.len(), EXAMPLES);
        assert!(left.reason("symbolic link").unwrap().ends_with("remove it"));
        assert_eq!(left.total(), 1000);
    }

    #[test]
    fn a_hostile_path_is_escaped_and_the_remedy_named() {
        let refusal = Refusal {
            path: "/log/\x1b[2J\nx".into(),
            reason: Reason::Symlink,
        };
        let text = refusal.to_string();
        assert!(!text.contains('\x1b') && !text.contains('\n'), "{text:?}");
        assert!(text.ends_with("remove it"), "{text}");
    }
}

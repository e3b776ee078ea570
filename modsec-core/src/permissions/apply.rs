//! Changing mode, owner and group of one directory through a held descriptor.
//!
//! Never by path: between looking and changing a site user could put a link to `/etc` there. The
//! order of the system calls keeps the promise that no owner loses the right to write in between.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid, fchmod, fchown, fstat};

use super::ChangeError;
use super::policy::Attributes;
use crate::text::Text;

/// A change to one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Path below the storage directory.
    pub path: PathBuf,
    /// What was done.
    pub kind: ChangeKind,
}

/// What was done to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind {
    /// Mode, owner or group were changed.
    Corrected {
        /// How the directory was.
        from: Attributes,
        /// How it is.
        to: Attributes,
    },
    /// The directory was created ahead of time.
    Created(Attributes),
    /// The directory was past and empty, and was removed.
    Removed,
}

impl fmt::Display for Change {
    /// Writes one line, in which the path is quoted: a site user may have chosen its names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Text::from(self.path.as_os_str().as_bytes());
        match self.kind {
            ChangeKind::Corrected { from, to } => write!(f, "correct {path:?}: {from} to {to}"),
            ChangeKind::Created(to) => write!(f, "create {path:?}: {to}"),
            ChangeKind::Removed => write!(f, "remove {path:?}"),
        }
    }
}

/// Returns mode, owner and group of the directory behind `handle`; `path` is for the message.
///
/// # Errors
///
/// [`ChangeError::Other`] with what fstat(2) said.
pub(crate) fn attributes(handle: BorrowedFd<'_>, path: &Path) -> Result<Attributes, ChangeError> {
    let stat = fstat(handle).map_err(|errno| ChangeError::other(path, errno))?;
    Ok(Attributes::from(&stat))
}

/// Changes the directory behind `handle` from what it is `now` to what it should be.
///
/// 1. If owner and mode both change: fchmod(2) first, so that the new owner and the group can write
///    as soon as they are in place.
/// 2. fchown(2) of owner and group, each only if it changes.
/// 3. fchmod(2) again, because the kernel may have dropped the set-group-id bit in step 2, and the
///    old owner may have changed the mode until then.
/// 4. If the set-group-id bit is wanted: fstat(2), because without `CAP_FSETID` the kernel drops it
///    silently when the caller is not in the group.
///
/// At no moment can the owner, old or new, not write. After an error some of it may have been done;
/// doing it again is harmless.
///
/// # Errors
///
/// [`ChangeError::Mode`], [`ChangeError::Owner`] or [`ChangeError::SetGroupId`], each with what to
/// do.
pub(crate) fn apply(
    handle: BorrowedFd<'_>,
    path: &Path,
    now: Attributes,
    wanted: Attributes,
) -> Result<(), ChangeError> {
    let set_mode = |mode| {
        fchmod(handle, Mode::from_raw_mode(mode)).map_err(|errno| ChangeError::Mode {
            path: path.to_owned(),
            source: errno.into(),
        })
    };
    let mut mode = now.mode;
    if wanted.uid != now.uid && wanted.mode != mode {
        mode = wanted.mode;
        set_mode(mode)?;
    }
    if (wanted.uid, wanted.gid) != (now.uid, now.gid) {
        let owner = (wanted.uid != now.uid).then(|| Uid::from_raw(wanted.uid));
        let group = (wanted.gid != now.gid).then(|| Gid::from_raw(wanted.gid));
        fchown(handle, owner, group).map_err(|errno| ChangeError::Owner {
            path: path.to_owned(),
            source: errno.into(),
        })?;
    }
    // A change of owner may have cost bits, depending on capabilities; and until then the old owner
    // may have changed the mode.
    if wanted.uid != now.uid || wanted.mode != mode || wanted.mode & !0o777 != 0 {
        set_mode(wanted.mode)?;
    }
    // Without CAP_FSETID the kernel drops the bit silently. Another mode is the owner's doing.
    let set_group_id = wanted.mode & Mode::SGID.bits();
    if set_group_id != 0 && attributes(handle, path)?.mode == wanted.mode & !set_group_id {
        return Err(ChangeError::SetGroupId {
            path: path.to_owned(),
            group: wanted.gid,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn the_mode_of_an_own_directory_is_changed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let handle = File::open(dir.path()).unwrap();
        let now = attributes(handle.as_fd(), dir.path()).unwrap();
        let wanted = Attributes {
            mode: 0o2770,
            ..now
        };
        apply(handle.as_fd(), dir.path(), now, wanted).unwrap();
        let after = fs::metadata(dir.path()).unwrap();
        assert_eq!(
            (after.mode() & 0o7777, after.uid(), after.gid()),
            (0o2770, now.uid, now.gid)
        );
    }

    #[test]
    fn changes_are_shown_on_one_line() {
        let from = Attributes {
            mode: 0o755,
            uid: 1001,
            gid: 1001,
        };
        let to = Attributes {
            mode: 0o2770,
            uid: 1001,
            gid: 700,
        };
        let change = Change {
            path: PathBuf::from("a\n\x1b[31m"),
            kind: ChangeKind::Corrected { from, to },
        };
        assert_eq!(
            change.to_string(),
            r#"correct "a\n\x1b[31m": 0755 1001:1001 to 2770 1001:700"#
        );
    }
}

//! Creating directories before the writer needs them, and removing those that stayed empty.
//!
//! Between `mkdir` by the web server and the correction of the mode another site's record can be
//! lost. So the directories of the coming minutes are made in advance, with the right mode and
//! owner:
//!
//! ```text
//! 1  mkdir DIR/.watch-dir-RANDOM (0700)    ours alone, fits no layout, so no program looks into it
//! 2  open it, and check that it is ours    a user who may write to DIR could have exchanged it
//! 3  chown, chmod                          see `apply`
//! 4  rename to its place, NOREPLACE        the writer meets it finished or not at all
//! ```
//!
//! If the writer is faster, its own directory stays, and is corrected like any other. A process
//! that is killed after step 1 leaves an empty directory, which a later walk removes.
//!
//! Where a name is put into another directory, that one must be the same user's, or one that all
//! share: otherwise a user could have a directory made in the tree of another.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use chrono::{DateTime, TimeZone};
use rustix::fs::{AtFlags, FileType, Mode, Stat, fstat, mkdirat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::ChangeError;
use super::apply::apply;
use super::calendar::coming;
use super::policy::{Attributes, SiteUser};
use crate::names::day_name;
use crate::spool::{self, Listing, Reason};
use crate::watch::{Place, Watcher};

/// Prefix of the names of directories being made.
const TEMPORARY: &str = ".watch-dir-";
/// Age in seconds after which a directory with such a name is left over: making one takes
/// milliseconds.
const LEFTOVER_AFTER: i64 = 60;
/// Random names tried before giving up.
const ATTEMPTS: u32 = 8;

/// A directory that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedDir {
    /// Path below the storage directory.
    pub(crate) path: PathBuf,
    /// What it is for; it decides on mode and owner ([`super::Policy`]).
    pub(crate) place: Place,
    /// The user of the tree; `None` in the flat layout.
    pub(crate) uid: Option<u32>,
}

/// Lists the directories of the minute of `now` and of the next `ahead` minutes, parents first.
///
/// `user` is the owner of the tree, `None` for the flat layout. With `ahead` 0 nothing is listed
/// but the directory of the user. At 23:59 with `ahead` 1 and the user `site1`:
///
/// ```text
/// site1
/// site1/20260822  site1/20260822/20260822-2359
/// site1/20260823  site1/20260823/20260823-0000
/// ```
///
/// Nothing is listed for a user whose name fits no layout, such as one with a dot in front.
pub(crate) fn plan<Tz: TimeZone>(
    now: &DateTime<Tz>,
    ahead: u16,
    user: Option<&SiteUser>,
) -> Vec<PlannedDir> {
    let uid = user.map(|user| user.uid);
    let tree = user
        .map(|user| PathBuf::from(&user.name))
        .unwrap_or_default();
    if user.is_some() && Place::of(&tree) != Some(Place::User) {
        return Vec::new();
    }
    let mut list: Vec<PathBuf> = user.map(|_| tree.clone()).into_iter().collect();
    let minutes = if ahead == 0 {
        Vec::new()
    } else {
        coming(now, ahead)
    };
    let mut last_day = None;
    for minute in minutes {
        let day = tree.join(day_name(minute.date));
        let minute = day.join(minute.to_string());
        if last_day.as_ref() != Some(&day) {
            list.push(day.clone());
            last_day = Some(day);
        }
        list.push(minute);
    }
    let directory = |path: PathBuf| {
        Some(PlannedDir {
            place: Place::of(&path)?,
            path,
            uid,
        })
    };
    list.into_iter().filter_map(directory).collect()
}

/// How an attempt to create or remove a directory ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// There was nothing to do: it is there, or gone, or the system ran out of something and the
    /// next minute tries again.
    Nothing,
    /// The directory is not empty, or something is mounted on it: it stays.
    InUse,
    /// Something else is in the way and is left alone: at the path itself, or in its parent's place.
    Refused { path: PathBuf, reason: Reason },
    /// The system did not permit it.
    Failed(ChangeError),
}

impl Outcome {
    /// Says what is at `path`, or in the place of a directory that should be there. Nothing is
    /// wrong with a name that vanished; if the system ran out of something, the next minute tries
    /// again; anything else is left alone.
    fn of(path: &Path, reason: Reason) -> Self {
        match reason {
            Reason::Vanished => Self::Nothing,
            reason if reason.is_exhausted() => Self::Nothing,
            reason => Self::refused(path, reason),
        }
    }

    /// Says that what is at `path` is left alone.
    fn refused(path: &Path, reason: Reason) -> Self {
        let path = path.to_owned();
        Self::Refused { path, reason }
    }
}

/// Returns `true` if `path` is the name of a directory that is being made, or was never finished.
pub(crate) fn is_temporary(path: &Path) -> bool {
    path.to_str()
        .is_some_and(|name| name.starts_with(TEMPORARY))
}

/// Returns `true` if the directory at `path` is missing.
///
/// # Errors
///
/// An [`Outcome`] that says why it cannot be created: something else has the name, or the parent
/// belongs to a user whose `may_hold` is `false`.
pub(crate) fn is_missing(
    watcher: &Watcher,
    path: &Path,
    may_hold: impl Fn(u32) -> bool,
) -> Result<bool, Outcome> {
    let (parent, name) = split(path)?;
    let handle = match open_parent(watcher, parent, may_hold) {
        // Without its parent it cannot be there.
        Err(Reason::Vanished) => return Ok(true),
        opened => opened.map_err(|reason| Outcome::of(parent, reason))?,
    };
    match spool::look(&handle, name).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::Directory) => Ok(false),
        Ok(kind) => Err(Outcome::refused(path, Reason::of(kind))),
        Err(Errno::NOENT) => Ok(true),
        Err(errno) => Err(Outcome::of(path, Reason::from(errno))),
    }
}

/// Opens the directory `parent` in which another is to be created; `may_hold` is asked about its
/// owner, except for the storage directory itself.
fn open_parent(
    watcher: &Watcher,
    parent: &Path,
    may_hold: impl Fn(u32) -> bool,
) -> Result<OwnedFd, Reason> {
    let (handle, stat) = watcher.open_below(parent)?;
    if parent == Path::new("") || may_hold(stat.st_uid) {
        Ok(handle)
    } else {
        Err(Reason::OtherUser { uid: stat.st_uid })
    }
}

/// Creates the directory at `path` with mode, owner and group as `wanted`; see the module for the
/// steps. `may_hold` is asked about the owner of its parent.
pub(crate) fn create(
    watcher: &Watcher,
    path: &Path,
    wanted: Attributes,
    may_hold: impl Fn(u32) -> bool,
) -> Outcome {
    let created = try_create(watcher, path, wanted, may_hold);
    created.err().unwrap_or(Outcome::Done)
}

/// Does the work of [`create`]; anything but success is an "error". After a failure the temporary
/// directory is removed.
fn try_create(
    watcher: &Watcher,
    path: &Path,
    wanted: Attributes,
    may_hold: impl Fn(u32) -> bool,
) -> Result<(), Outcome> {
    let (parent, name) = split(path)?;
    let opened = open_parent(watcher, parent, may_hold);
    let parent = opened.map_err(|reason| Outcome::of(parent, reason))?;
    let (root, _) = open(watcher, Path::new(""))?;
    let failed = |errno| Outcome::Failed(ChangeError::create(path, errno));
    let temporary = make(root.as_fd()).map_err(failed)?;
    let finished = finish(root.as_fd(), &temporary, path, wanted).map_err(Outcome::Failed);
    let placed = finished.and_then(|()| {
        spool::rename_dir(&root, &temporary, &parent, name).map_err(|errno| match errno {
            // The writer was faster; what it made is looked at like any other.
            Errno::EXIST | Errno::NOTEMPTY => Outcome::Nothing,
            Errno::NOTDIR => Outcome::refused(path, Reason::File),
            errno => failed(errno),
        })
    });
    if placed.is_err() {
        // Fails only if a site user has put something else into its place, which then stays.
        let _ = unlinkat(&root, &temporary, AtFlags::REMOVEDIR);
    }
    placed
}

/// Splits a path into directory and name.
fn split(path: &Path) -> Result<(&Path, &OsStr), Outcome> {
    path.parent()
        .zip(path.file_name())
        .ok_or_else(|| Outcome::refused(path, Reason::Name))
}

/// Opens the directory at `path` below the storage directory.
fn open(watcher: &Watcher, path: &Path) -> Result<(OwnedFd, Stat), Outcome> {
    let opened = watcher.open_below(path);
    opened.map_err(|reason| Outcome::of(path, reason))
}

/// Makes a directory in `root`, under a name no other user can foresee, which only this account can
/// enter; returns its name.
fn make(root: BorrowedFd<'_>) -> Result<String, Errno> {
    let mut last = Errno::EXIST;
    for _ in 0..ATTEMPTS {
        let name = spool::random_name(TEMPORARY);
        match mkdirat(root, &name, Mode::RWXU) {
            Ok(()) => return Ok(name),
            Err(errno) => last = errno,
        }
    }
    Err(last)
}

/// Sets mode, owner and group of the directory `temporary` in `root`, if it still is the one that
/// was made. `path` is its later place, for messages.
fn finish(
    root: BorrowedFd<'_>,
    temporary: &str,
    path: &Path,
    wanted: Attributes,
) -> Result<(), ChangeError> {
    let failed = |errno| ChangeError::create(path, errno);
    let handle = spool::open_dir(root, Path::new(temporary)).map_err(failed)?;
    let stat = fstat(&handle).map_err(failed)?;
    // In a directory that others may write to, it could have been exchanged.
    if stat.st_uid != geteuid().as_raw() {
        return Err(failed(Errno::PERM));
    }
    apply(handle.as_fd(), path, Attributes::from(&stat), wanted)
}

/// Removes the directory at `path` if it is empty, by one rmdir(2).
pub(crate) fn remove(watcher: &Watcher, path: &Path) -> Outcome {
    let opened = split(path).and_then(|(parent, name)| Ok((open(watcher, parent)?, name)));
    let ((parent, _), name) = match opened {
        Ok(opened) => opened,
        Err(outcome) => return outcome,
    };
    match unlinkat(&parent, name, AtFlags::REMOVEDIR) {
        Ok(()) => Outcome::Done,
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::BUSY) => Outcome::InUse,
        Err(Errno::NOENT) => Outcome::Nothing,
        Err(Errno::NOTDIR) => Outcome::refused(path, Reason::File),
        Err(errno) => Outcome::Failed(ChangeError::other(path, errno)),
    }
}

/// Removes a directory with a temporary name, left behind by a process that was killed more than a
/// minute before `now` (seconds since 1970). One that is not empty stays.
pub(crate) fn remove_leftover(watcher: &Watcher, path: &Path, now: i64) {
    let is_old = |stat: &Stat| stat.st_mtime < now - LEFTOVER_AFTER;
    if watcher
        .open_below(path)
        .is_ok_and(|(_, stat)| is_old(&stat))
    {
        remove(watcher, path);
    }
}

/// Returns `true` if the directory behind `handle` has no entries; `false` also if it cannot be
/// read.
pub(crate) fn is_empty(handle: BorrowedFd<'_>) -> bool {
    Listing::of(handle).is_ok_and(|mut names| names.next().is_none())
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveDate, Utc};

    use super::*;

    fn paths(ahead: u16, user: Option<&SiteUser>) -> Vec<String> {
        let date = NaiveDate::from_ymd_opt(2026, 8, 22).unwrap();
        let now = Utc.from_utc_datetime(&date.and_hms_opt(23, 59, 30).unwrap());
        plan(&now, ahead, user)
            .iter()
            .map(|next| next.path.display().to_string())
            .collect()
    }

    #[test]
    fn parents_come_before_children_and_midnight_brings_a_day() {
        assert_eq!(
            paths(1, None),
            [
                "20260822",
                "20260822/20260822-2359",
                "20260823",
                "20260823/20260823-0000"
            ]
        );
        let user = SiteUser {
            name: "site1".to_owned(),
            uid: 1001,
            groups: None,
        };
        assert_eq!(paths(1, Some(&user))[..2], ["site1", "site1/20260822"]);
        assert_eq!(paths(1, Some(&user)).len(), 5);
    }

    #[test]
    fn with_nothing_ahead_only_the_users_own_directory_is_wanted() {
        let user = SiteUser {
            name: "site1".to_owned(),
            uid: 1001,
            groups: None,
        };
        assert_eq!(paths(0, Some(&user)), ["site1"]);
        assert!(paths(0, None).is_empty());
    }

    #[test]
    fn users_with_a_name_that_fits_no_template_get_nothing() {
        for name in ["", "..", "a/b", "lost+found", ".ssh", "20260822", "a\nb"] {
            let user = SiteUser {
                name: name.to_owned(),
                uid: 1001,
                groups: None,
            };
            assert!(plan(&Utc::now(), 1, Some(&user)).is_empty(), "{name:?}");
        }
    }
}

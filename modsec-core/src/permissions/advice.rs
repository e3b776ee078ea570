//! Warnings about the set-up as a whole, each logged once: what no change of a directory can cure.
//!
//! | observed | warned of |
//! | --- | --- |
//! | a flat directory's owner is not in the group | it stays the owner: add the user to the group |
//! | shared directories with `MODE` 0770 | each site can remove the others' entries: use 1770 |
//! | the storage directory: others write, not sticky | sites can move trees of others: `chmod +t` |
//! | a directory on the way there is closed to a site's user | nothing of that site is logged |
//!
//! Source: unlink(2) needs the right to write to the directory, not to the file, unless the sticky
//! bit is set.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, Stat, getxattr};
use tracing::warn;

use super::policy::{Attributes, Policy, SiteUser};

/// Rights with which users other than the owner can create names in a directory, and so remove
/// them.
const OTHERS_WRITE: u32 = Mode::WGRP.union(Mode::WOTH).bits();

/// Said of a storage directory in which sites can rename what is others'.
const OPEN_STORAGE: &str = "each site that can write to the storage directory can move and replace \
                            the directories of the others in it: chmod +t";
/// Said of [`Policy::is_world_writable`].
pub(crate) const WORLD_WRITABLE: &str =
    "everybody on this machine will be able to write to the directories";

/// What has been said already.
#[derive(Debug, Default)]
pub(crate) struct Advice {
    /// User ids outside the group that own flat directories.
    outsiders: BTreeSet<u32>,
    /// Whether the mode of shared directories was warned of.
    shared: bool,
    /// Whether the mode of the storage directory was warned of.
    storage: bool,
    /// Directories that were said to be closed to a site's user.
    closed: BTreeSet<PathBuf>,
}

impl Advice {
    /// Forgets which users were warned of: the groups may have other members now.
    pub(crate) fn forget_outsiders(&mut self) {
        self.outsiders.clear();
        self.closed.clear();
    }

    /// Looks at the storage directory and all directories above it; see [`closed_directories`].
    pub(crate) fn way(&mut self, storage: &Path, policy: &Policy) {
        let closed = closed_directories(storage, policy);
        self.closed
            .retain(|dir| closed.iter().any(|now| now.path == *dir));
        for dir in closed {
            if self.closed.insert(dir.path.clone()) {
                let mode = format_args!("{:04o}", dir.mode);
                warn!(%mode, others = dir.others, "{dir}");
            }
        }
    }

    /// Looks at the flat directory at `path`, which all sites share and which is to be as `wanted`.
    pub(crate) fn shared(&mut self, path: &Path, wanted: Attributes, policy: &Policy) {
        if wanted.uid != policy.owner && self.outsiders.insert(wanted.uid) {
            warn!(
                ?path,
                uid = wanted.uid,
                group = wanted.gid,
                "the owner is not in the group and stays the owner: add the user to the group"
            );
        }
        if is_open(policy.mode) && !std::mem::replace(&mut self.shared, true) {
            warn!(
                ?path,
                mode = %format_args!("{:04o}", policy.mode),
                "in directories that sites share each can remove and replace the entries of the \
                 others: use --mode 1770, unless the entries are collected by a program that is \
                 only in the group (modsec-parser.service can)"
            );
        }
    }

    /// Looks at the attributes of the storage directory itself. They are the administrator's;
    /// nothing here changes them.
    pub(crate) fn storage(&mut self, stat: &Stat) {
        if is_open(stat.st_mode) && !std::mem::replace(&mut self.storage, true) {
            let mode = format_args!("{:04o}", stat.st_mode & 0o7777);
            warn!(%mode, "{OPEN_STORAGE}");
        }
    }
}

/// Returns what a [`Keeper`](super::Keeper) warns of at its start, as far as it can be known without
/// the directories below `storage_dir`: rights of the storage directory and those above it, and of
/// the policy itself. Changes nothing; what cannot be read is not warned of.
///
/// Of a storage directory that is not there yet, those above it that are there are looked at.
pub fn set_up_warnings(storage_dir: &Path, policy: &Policy) -> Vec<String> {
    let closed = closed_directories(storage_dir, policy);
    let mut warnings: Vec<String> = closed.iter().map(ToString::to_string).collect();
    if fs::metadata(storage_dir).is_ok_and(|meta| is_open(meta.mode())) {
        warnings.push(format!("{}: {OPEN_STORAGE}", storage_dir.display()));
    }
    if policy.is_world_writable() {
        warnings.push(format!("mode {:04o}: {WORLD_WRITABLE}", policy.mode));
    }
    warnings
}

/// A directory on the way to the entries that a site's user cannot enter, so that nothing of that
/// site is logged.
#[derive(Debug)]
struct ClosedDirectory {
    /// The storage directory, or one above it, without links.
    path: PathBuf,
    /// Its permission bits.
    mode: u32,
    /// The first of the site users that cannot enter it.
    user: String,
    /// How many of the other site users cannot either.
    others: usize,
}

impl fmt::Display for ClosedDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (user, path) = (&self.user, self.path.display());
        write!(
            f,
            "{user} cannot enter {path}, and so cannot log: chmod o+x {path}"
        )
    }
}

/// Returns those of the storage directory and the directories above it that a site's user cannot
/// enter, from the deepest upwards: under MPM-ITK the process that logs is the site's user by then.
///
/// A directory with an access control list is passed over: its mode does not tell who may enter.
fn closed_directories(storage_dir: &Path, policy: &Policy) -> Vec<ClosedDirectory> {
    let mut above = storage_dir.ancestors();
    let Some(deepest) = above.find_map(|dir| fs::canonicalize(dir).ok()) else {
        return Vec::new();
    };
    let look = |dir: &Path| {
        let meta = fs::metadata(dir).ok()?;
        let of = (meta.mode(), meta.uid(), meta.gid());
        let mut shut_out = policy.site_users.iter().filter(|user| !may_enter(user, of));
        let first = shut_out.next().filter(|_| !has_acl(dir))?;
        Some(ClosedDirectory {
            path: dir.to_owned(),
            mode: meta.mode() & 0o7777,
            user: first.name.clone(),
            others: shut_out.count(),
        })
    };
    deepest.ancestors().filter_map(look).collect()
}

/// Returns `true` if the user may enter a directory of this mode, owner and group. If its groups are
/// not known it may be in the right one.
fn may_enter(user: &SiteUser, (mode, uid, gid): (u32, u32, u32)) -> bool {
    let bits = match &user.groups {
        _ if user.uid == 0 => return true,
        _ if user.uid == uid => Mode::XUSR,
        None => Mode::XGRP | Mode::XOTH,
        Some(groups) if groups.contains(&gid) => Mode::XGRP,
        Some(_) => Mode::XOTH,
    };
    mode & bits.bits() != 0
}

/// Returns `true` if the directory has a POSIX access control list.
fn has_acl(dir: &Path) -> bool {
    let mut none: [u8; 0] = [];
    getxattr(dir, "system.posix_acl_access", &mut none).is_ok_and(|size| size > 0)
}

/// Returns `true` if other users' names can be removed from a directory with this `mode`.
fn is_open(mode: u32) -> bool {
    mode & OTHERS_WRITE != 0 && mode & Mode::SVTX.bits() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_enter_is_told_by_owner_group_or_the_rest() {
        let user = |uid, groups: Option<&[u32]>| SiteUser {
            name: "site1".to_owned(),
            uid,
            groups: groups.map(<[u32]>::to_vec),
        };
        for (mode, uid, groups, want) in [
            (0o750, 0, None, true),
            (0o750, 1001, Some(&[1001][..]), false),
            (0o750, 1001, Some(&[1001, 4][..]), true),
            (0o751, 1001, Some(&[1001][..]), true),
            (0o701, 1001, Some(&[4][..]), false),
            (0o610, 30, Some(&[4][..]), false),
            (0o700, 30, Some(&[][..]), true),
            (0o750, 1001, None, true),
            (0o700, 1001, None, false),
        ] {
            let got = may_enter(&user(uid, groups), (mode, 30, 4));
            assert_eq!(got, want, "{mode:04o} {uid} {groups:?}");
        }
    }

    #[test]
    fn the_sticky_bit_closes_what_others_may_write_to() {
        let cases = [
            (0o770, true),
            (0o2770, true),
            (0o777, true),
            (0o1770, false),
            (0o3770, false),
            (0o1777, false),
            (0o750, false),
            (0o755, false),
        ];
        for (mode, want) in cases {
            assert_eq!(is_open(mode), want, "{mode:04o}");
        }
    }
}

//! Warnings about the set-up as a whole, each logged once: what no change of a directory can cure.
//!
//! | observed | warned of |
//! | --- | --- |
//! | a flat directory's owner is not in the group | it stays the owner: add the user to the group |
//! | shared directories with `MODE` 0770 | each site can remove the others' entries: use 1770 |
//! | the storage directory: others write, not sticky | sites can move trees of others: `chmod +t` |
//!
//! Source: unlink(2) needs the right to write to the directory, not to the file, unless the sticky
//! bit is set.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::{Mode, Stat};
use tracing::warn;

use super::policy::{Attributes, Policy};

/// Rights with which users other than the owner can create names in a directory, and so remove
/// them.
const OTHERS_WRITE: u32 = Mode::WGRP.union(Mode::WOTH).bits();

/// What has been said already.
#[derive(Debug, Default)]
pub(crate) struct Advice {
    /// User ids outside the group that own flat directories.
    outsiders: BTreeSet<u32>,
    /// Whether the mode of shared directories was warned of.
    shared: bool,
    /// Whether the mode of the storage directory was warned of.
    storage: bool,
}

impl Advice {
    /// Forgets which users were warned of: the group may have other members now.
    pub(crate) fn forget_outsiders(&mut self) {
        self.outsiders.clear();
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
            warn!(
                mode = %format_args!("{:04o}", stat.st_mode & 0o7777),
                "each site that can write to the storage directory can move and replace the \
                 directories of the others in it: chmod +t"
            );
        }
    }
}

/// Returns `true` if other users' names can be removed from a directory with this `mode`.
fn is_open(mode: u32) -> bool {
    mode & OTHERS_WRITE != 0 && mode & Mode::SVTX.bits() == 0
}

#[cfg(test)]
mod tests {
    use super::*;

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

//! What the administrator should know of the set-up, each said once.

use std::collections::BTreeSet;
use std::path::Path;

use rustix::fs::{Mode, Stat};
use tracing::warn;

use super::policy::{Attributes, Policy};

/// Rights with which somebody else than the owner can create, and so remove, names.
const OTHERS_WRITE: u32 = Mode::WGRP.union(Mode::WOTH).bits();

/// What has been said already.
#[derive(Debug, Default)]
pub(crate) struct Advice {
    /// Users outside of the group who own flat directories.
    outsiders: BTreeSet<u32>,
    shared: bool,
    storage: bool,
}

impl Advice {
    /// A policy has changed: who is in the group may have too.
    pub(crate) fn forget_outsiders(&mut self) {
        self.outsiders.clear();
    }

    /// Looks at the directory at `path`, which all sites share and which is to be as `wanted`.
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

    /// Looks at the storage directory itself.
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

/// Returns `true` if names of others can be removed under these permission bits.
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

//! What a file is, by one system call and without opening it.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;

use chrono::{DateTime, Utc};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, StatxFlags, StatxTimestamp, fstatfs, makedev, openat, statx,
};
use rustix::io::Errno;

use super::dir;
use super::entry::EntryFile;
use super::entry::{Identity, MAX_ENTRY_BYTES};
use crate::spool::Reason;

/// File systems whose attributes are always those of the moment (`f_type` of statfs(2)): ext4,
/// XFS, Btrfs, tmpfs, ZFS, overlayfs, F2FS.
const CURRENT: [u64; 7] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x0102_1994,
    0x2FC1_2FC1,
    0x794C_7630,
    0xF2F5_2010,
];

/// What a look at a file gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    pub(crate) identity: Identity,
    /// User id of the owner.
    pub(crate) uid: u32,
}

impl Look {
    pub(crate) fn size(&self) -> u64 {
        self.identity.size
    }

    /// Returns inode and time of the last change of contents.
    pub(crate) fn contents(&self) -> (u64, (i64, i64)) {
        (self.identity.inode, self.identity.modified)
    }

    /// Returns when the file was last touched in any way, in seconds and nanoseconds.
    pub(crate) fn changed_at(&self) -> (i64, i64) {
        self.identity.changed
    }

    /// Returns when the file was last touched in any way, according to the kernel.
    pub(crate) fn changed(&self) -> DateTime<Utc> {
        let (seconds, nanos) = self.identity.changed;
        dir::clamp(seconds, nanos)
    }
}

/// Where a look is taken: one file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looker {
    device: u64,
    /// Whether attributes in this file system need not be asked of a server.
    is_current: bool,
}

impl Looker {
    /// Returns what looks in the file system of `directory`, which has the number `device`.
    pub(crate) fn new(directory: impl AsFd, device: u64) -> Looker {
        let is_current = fstatfs(directory)
            .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| CURRENT.contains(&kind)));
        Looker { device, is_current }
    }

    /// Returns what `name` in `directory` leads to and whose it is, and why it is nothing to be
    /// opened, if so.
    ///
    /// Never waits for whoever serves a file system that is mounted on the name.
    ///
    /// # Errors
    ///
    /// What the kernel said: nothing is known about the file.
    pub(crate) fn look(
        self,
        directory: impl AsFd,
        name: &OsStr,
    ) -> Result<(Look, Option<Reason>), Errno> {
        let mut seen = attributes(&directory, name, AtFlags::STATX_DONT_SYNC)?;
        let mut refused = self.why_not(&seen);
        if refused.is_none() && !self.is_current {
            seen = attributes(&directory, name, AtFlags::empty())?;
            refused = self.why_not(&seen);
        }
        let look = Look {
            identity: seen.identity,
            uid: seen.uid,
        };
        Ok((look, refused))
    }

    /// Returns why a file is nothing to be opened.
    fn why_not(self, seen: &Attributes) -> Option<Reason> {
        let Identity { device, size, .. } = seen.identity;
        if device != self.device {
            return Some(Reason::OtherFileSystem);
        }
        match seen.kind {
            FileType::RegularFile if seen.links > 1 => Some(Reason::HardLink { links: seen.links }),
            FileType::RegularFile if size > MAX_ENTRY_BYTES => Some(Reason::TooBig {
                size,
                limit: MAX_ENTRY_BYTES,
            }),
            FileType::RegularFile => None,
            kind => Some(Reason::of(kind)),
        }
    }
}

struct Attributes {
    identity: Identity,
    kind: FileType,
    links: u64,
    uid: u32,
}

fn attributes(directory: impl AsFd, name: &OsStr, sync: AtFlags) -> Result<Attributes, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let time = |time: StatxTimestamp| (time.tv_sec, i64::from(time.tv_nsec));
    match statx(&directory, name, flags | sync, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(Attributes {
            identity: Identity {
                device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                size: stat.stx_size,
                modified: time(stat.stx_mtime),
                changed: time(stat.stx_ctime),
            },
            kind: FileType::from_raw_mode(stat.stx_mode.into()),
            links: stat.stx_nlink.into(),
            uid: stat.stx_uid,
        }),
        // Before Linux 4.11.
        Err(Errno::NOSYS) => {
            let path = openat(
                &directory,
                name,
                OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let meta = File::from(path).metadata();
            let meta = meta.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            Ok(Attributes {
                identity: Identity::of(&meta),
                kind: FileType::from_raw_mode(meta.mode()),
                links: meta.nlink(),
                uid: meta.uid(),
            })
        }
        Err(error) => Err(error),
    }
}

impl EntryFile {
    /// Looks at the file, see [`Looker::look`].
    ///
    /// # Errors
    ///
    /// As for [`Looker::look`].
    pub(crate) fn look(&self) -> Result<(Look, Option<Reason>), Errno> {
        self.tree.looker().look(self.dir.file(), &self.name)
    }
}

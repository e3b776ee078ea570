//! What a file is, by one system call and without opening it.

use std::os::unix::fs::MetadataExt as _;

use chrono::{DateTime, Utc};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, fstatfs, makedev, statx};
use rustix::io::Errno;

use super::dir::{self, Dir};
use super::entry::{EntryFile, Identity, MAX_ENTRY_BYTES};
use super::refusal::Reason;

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

    /// Returns when the file was last touched in any way, according to the kernel.
    pub(crate) fn changed(&self) -> DateTime<Utc> {
        let (seconds, nanos) = self.identity.changed;
        dir::clamp(seconds, nanos)
    }
}

impl EntryFile {
    /// Returns what the name leads to and whose it is, and why it is nothing to be opened, if so.
    ///
    /// Never waits for whoever serves a file system that is mounted on the name.
    ///
    /// # Errors
    ///
    /// What the kernel said: nothing is known about the file.
    pub(crate) fn look(&self) -> Result<(Look, Option<Reason>), Errno> {
        let mask = StatxFlags::BASIC_STATS;
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let held = self.dir.file();
        let mut stat = statx(held, &self.name, flags | AtFlags::STATX_DONT_SYNC, mask)?;
        let mut refused = self.dir.why_not(&stat);
        if refused.is_none() && !self.tree.is_current() {
            stat = statx(held, &self.name, flags, mask)?;
            refused = self.dir.why_not(&stat);
        }
        let time = |time: rustix::fs::StatxTimestamp| (time.tv_sec, i64::from(time.tv_nsec));
        let look = Look {
            identity: Identity {
                device: makedev(stat.stx_dev_major, stat.stx_dev_minor),
                inode: stat.stx_ino,
                size: stat.stx_size,
                modified: time(stat.stx_mtime),
                changed: time(stat.stx_ctime),
            },
            uid: stat.stx_uid,
        };
        Ok((look, refused))
    }
}

impl Dir {
    /// Returns why a file in this directory is nothing to be opened.
    fn why_not(&self, stat: &Statx) -> Option<Reason> {
        if makedev(stat.stx_dev_major, stat.stx_dev_minor) != self.device() {
            return Some(Reason::OtherFileSystem);
        }
        match FileType::from_raw_mode(stat.stx_mode.into()) {
            FileType::RegularFile if stat.stx_nlink > 1 => Some(Reason::HardLink {
                links: stat.stx_nlink.into(),
            }),
            FileType::RegularFile if stat.stx_size > MAX_ENTRY_BYTES => Some(Reason::TooBig {
                size: stat.stx_size,
                limit: MAX_ENTRY_BYTES,
            }),
            FileType::RegularFile => None,
            FileType::Symlink => Some(Reason::Symlink),
            FileType::Fifo => Some(Reason::Fifo),
            FileType::Socket => Some(Reason::Socket),
            FileType::Directory => Some(Reason::Directory),
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
                Some(Reason::Device)
            }
        }
    }

    /// Returns `true` if attributes in this file system need not be asked of a server.
    pub(super) fn is_current(&self) -> bool {
        fstatfs(self.file())
            .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| CURRENT.contains(&kind)))
    }

    /// Returns the user id of the directory's owner.
    pub(super) fn owner(&self) -> Option<u32> {
        self.file().metadata().ok().map(|meta| meta.uid())
    }
}

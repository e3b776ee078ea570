//! What a name leads to and whose it is, by one statx(2) and without opening anything.
//!
//! A walk meets every file of the tree again and again: files that are too young, files that were
//! refused, files of an owner whose turn is over. Opening each of them would cost three system
//! calls and, on a file system of a site user (FUSE), could wait for ever. So a file is first
//! looked at:
//!
//! ```text
//! statx(NOFOLLOW, NO_AUTOMOUNT, DONT_SYNC)
//!   another device?                            Reason::OtherFileSystem, no server was asked
//!   no plain file, several links, too big?     that reason
//!   a local file system?                       these are the attributes
//!   any other (NFS, ...)?                      statx once more, now asking the server
//! ```
//!
//! The first call never reaches a server: `AT_STATX_DONT_SYNC` answers from what the kernel has
//! cached. Only once it is known that nothing is mounted on the name is the server of the storage
//! directory's own file system asked.
//!
//! What is learnt here is a hint, never a permission: the name may lead to another file in the next
//! moment. Code that reads or removes the file opens it and checks again ([`EntryFile::open`]).

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

/// File systems whose attributes are always those of the moment, by `f_type` of statfs(2): ext4
/// (and ext2, ext3), XFS, Btrfs, tmpfs, ZFS, overlayfs, F2FS. For any other a second, synchronising
/// statx(2) is made, because a cached size or time could be minutes old.
const CURRENT: [u64; 7] = [
    0xEF53,
    0x5846_5342,
    0x9123_683E,
    0x0102_1994,
    0x2FC1_2FC1,
    0x794C_7630,
    0xF2F5_2010,
];

/// Attributes of a name at one moment: what its identity is, and whose it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Device, inode, size in bytes, and both times; equal to that of a later look if nothing
    /// changed.
    pub(crate) identity: Identity,
    /// User id of the owner.
    pub(crate) uid: u32,
}

impl Look {
    /// Returns the size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.identity.size
    }

    /// Returns inode and time of the last change of contents, in seconds since 1970 and
    /// nanoseconds.
    ///
    /// The owner of a file can set this time to anything (utimensat(2)): use it to notice that a
    /// file was written to, not to tell how old it is.
    pub(crate) fn contents(&self) -> (u64, (i64, i64)) {
        (self.identity.inode, self.identity.modified)
    }

    /// Returns the time of the last change of contents, name, mode or owner, in seconds since 1970
    /// and nanoseconds: `st_ctime`, which only the kernel sets.
    pub(crate) fn changed_at(&self) -> (i64, i64) {
        self.identity.changed
    }

    /// Returns the time of [`Look::changed_at`] as an instant. A time beyond what [`DateTime`] can
    /// hold becomes the first or last instant that it can.
    pub(crate) fn changed(&self) -> DateTime<Utc> {
        let (seconds, nanos) = self.identity.changed;
        dir::clamp(seconds, nanos)
    }
}

/// Looks at names in one file system: that of the storage directory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looker {
    /// `st_dev` of the storage directory; a name on any other device is refused.
    device: u64,
    /// Whether the file system is one of [`CURRENT`], so that one statx(2) is enough.
    is_current: bool,
}

impl Looker {
    /// Makes a looker for the file system of `directory`, whose `st_dev` is `device`.
    ///
    /// If statfs(2) fails, every look asks the server as well: slower, never wrong.
    pub(crate) fn new(directory: impl AsFd, device: u64) -> Looker {
        let is_current = fstatfs(directory)
            .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| CURRENT.contains(&kind)));
        Looker { device, is_current }
    }

    /// Returns what `name` in `directory` is, and why it is nothing to be opened, if so.
    ///
    /// `None` as the second value means: a plain file with at most one link and at most
    /// [`MAX_ENTRY_BYTES`] bytes, on the expected device. Neither follows a link, nor mounts what
    /// autofs would, nor waits for the server of a file system that a site user has mounted on the
    /// name.
    ///
    /// # Errors
    ///
    /// What statx(2) said (`ENOENT` for a name that is gone); nothing is known about the file then.
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

    /// Returns why a file with these attributes is not to be opened, the device first: of a foreign
    /// file system not even the type is believed.
    fn why_not(self, seen: &Statx) -> Option<Reason> {
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

/// What one statx(2), or fstat(2) on an old kernel, returned.
struct Statx {
    /// Device, inode, size and times.
    identity: Identity,
    /// Type of the file, from `st_mode`.
    kind: FileType,
    /// Number of names, `st_nlink`.
    links: u64,
    /// Owner, `st_uid`.
    uid: u32,
}

/// Reads the attributes of `name` in `directory`, without following a link or mounting anything.
///
/// `sync` is `AT_STATX_DONT_SYNC` or nothing. Linux before 4.11 has no statx(2): there the name is
/// opened with `O_PATH`, which asks no server, and examined by fstat(2).
fn attributes(directory: impl AsFd, name: &OsStr, sync: AtFlags) -> Result<Statx, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let time = |time: StatxTimestamp| (time.tv_sec, i64::from(time.tv_nsec));
    match statx(&directory, name, flags | sync, StatxFlags::BASIC_STATS) {
        Ok(stat) => Ok(Statx {
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
            Ok(Statx {
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

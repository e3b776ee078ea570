//! Opening the private directory and taking its lock, or making it, whatever stands in its place.
//!
//! In many installations each site user may write to the storage directory. Such a user can make
//! anything under the name `.modsec-parser`, at any moment and again at once. So the directory is
//! never made under that name:
//!
//! ```text
//! 1  what has the name?   ours      → lock it; still at that name? done
//!                         nothing   → steps 2 to 4 with RENAME_NOREPLACE
//!                         foreign   → steps 2 to 5 with RENAME_EXCHANGE
//! 2  mkdir .modsec-parser.RANDOM (0700), open it, lock it
//! 3  rename it to .modsec-parser; with EXCHANGE there is no moment at which the name is free
//! 4  is the directory at that name ours?   no → again from 1
//! 5  rename what was there to .modsec-parser.aside-RANDOM, and report that path
//! ```
//!
//! Because the directory is locked before it gets its name, two parsers that start together cannot
//! both believe that they hold it. A program that ends removes the directory while it holds the
//! lock; so who gets the lock looks whether the directory is still there. "Ours" means: a directory
//! of this account, not writable for others, whose lock file, if it has one, is this account's too.
//! A directory that this account once made elsewhere, and that a user has moved here with prepared
//! contents, is not; nor is one that another user could open before it was closed to him, and has
//! locked.
//!
//! A user who changes the name without pause can win every attempt; after [`MAX_ATTEMPTS`] the
//! start fails with a message that says how to take that right away.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat, fchmod, flock, fstat,
    mkdirat, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{LOCK, PRIVATE, rename_in};
use crate::lock_holder::holder;
use crate::spool::{self, FileId, Reason, Refusal};
use crate::storage_dir::StorageDirError;
use crate::storage_dir::dir::Dir;

/// Prefix of the name under which the directory is made; 16 hexadecimal digits follow.
pub(super) const FRESH: &str = ".modsec-parser.";
/// Prefix of the name of what stood in its place; 16 hexadecimal digits follow. Never removed by
/// the program: it may be evidence, or the administrator's.
const ASIDE: &str = ".modsec-parser.aside-";
/// Attempts before the start fails, a fraction of a second in all. Measured: four processes that do
/// nothing but change the name win 64 attempts in a row once in some thousand starts.
const MAX_ATTEMPTS: u32 = 1024;

/// How often the lock of the storage directory is asked for while another parser starts,
const ROOT_LOCK_TRIES: u32 = 100;
/// and how long the pause between two attempts is: half a second in all.
const ROOT_LOCK_WAIT: Duration = Duration::from_millis(5);

/// The private directory with its lock held.
#[derive(Debug)]
pub(super) struct Made {
    /// The open directory.
    pub(super) dir: Arc<Dir>,
    /// The directory once more, or its lock file: this process holds an exclusive flock(2) on it.
    pub(super) lock: OwnedFd,
    /// New paths of what stood in its place.
    pub(super) aside: Vec<PathBuf>,
}

/// What has a certain name in the storage directory.
enum Occupant {
    /// Nothing.
    None,
    /// A private directory of this account, with mode 0700 and without others' files.
    Ours(Arc<Dir>),
    /// Anything else: a link, a file, a mount point, another user's directory.
    Foreign,
}

/// How one attempt ended.
enum Attempt {
    /// The directory has its name and is locked.
    Done(Made),
    /// Another process has changed something meanwhile.
    Retry,
    /// Another attempt would end in the same way.
    Failed(StorageDirError),
}

/// Opens the private directory in `root` and takes its lock; makes it if it is missing, or if
/// something has its name that is not ours. See the module for the steps.
///
/// If `is_locked`, another lock is held already, and a directory that cannot be locked needs no lock
/// file.
///
/// # Errors
///
/// [`StorageDirError::Locked`] if another process holds the lock,
/// [`StorageDirError::PrivateContested`] after [`MAX_ATTEMPTS`], and what [`outcome`] makes of a
/// system call that failed.
pub(super) fn open(root: &Arc<Dir>, is_locked: bool) -> Result<Made, StorageDirError> {
    let mut aside = Vec::new();
    let mut root_lock = None;
    for _ in 0..MAX_ATTEMPTS {
        let attempt = match occupant(root, OsStr::new(PRIVATE))? {
            Occupant::Ours(dir) => match lock_found(root, &dir, is_locked)? {
                Taken::Ours(lock) if is_at(root, OsStr::new(PRIVATE), dir.file()) => {
                    return Ok(Made { dir, lock, aside });
                }
                // Who held it has ended at this moment, and has removed it.
                Taken::Ours(_) => Attempt::Retry,
                Taken::Squatted => make(root, true, is_locked, &mut aside),
            },
            _ if root_lock.is_none() => {
                root_lock = Some(lock_root(root));
                Attempt::Retry
            }
            Occupant::None => make(root, false, is_locked, &mut aside),
            Occupant::Foreign => make(root, true, is_locked, &mut aside),
        };
        match attempt {
            Attempt::Done(made) => return Ok(Made { aside, ..made }),
            Attempt::Retry => {}
            Attempt::Failed(error) => return Err(error),
        }
    }
    Err(StorageDirError::PrivateContested {
        path: root.path().join(PRIVATE),
    })
}

/// Takes an flock(2) on the storage directory itself while the private directory is made, so that
/// one starting parser does not take for foreign what another has just put there.
///
/// `None` if it cannot be had within half a second: any user who may read the storage directory can
/// hold it for ever. The steps are safe without it; it only spares a retry.
fn lock_root(root: &Dir) -> Option<OwnedFd> {
    let root = spool::open_dir(root.file(), Path::new("")).ok()?;
    for _ in 0..ROOT_LOCK_TRIES {
        match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(root),
            Err(Errno::AGAIN) => thread::sleep(ROOT_LOCK_WAIT),
            // Not every file system can lock a directory.
            Err(_) => return None,
        }
    }
    None
}

/// Returns what has the name `name` in `root`, and sets the mode of a directory of ours to 0700.
///
/// # Errors
///
/// [`StorageDirError::Private`] if the kernel does not let us find out.
fn occupant(root: &Arc<Dir>, name: &OsStr) -> Result<Occupant, StorageDirError> {
    let failed = |source| StorageDirError::Private {
        path: root.path().join(PRIVATE),
        source,
    };
    let dir = match root.open(name) {
        Ok(dir) => dir,
        Err(Refusal { reason, .. }) => {
            return match reason {
                Reason::Vanished => Ok(Occupant::None),
                Reason::Io(error) => Err(failed(error)),
                _ => Ok(Occupant::Foreign),
            };
        }
    };
    let me = geteuid().as_raw();
    let stat = dir.file().metadata().map_err(failed)?;
    let lock = spool::look(dir.file(), OsStr::new(LOCK));
    let is_ours = stat.uid() == me
        && stat.mode() & 0o022 == 0
        && match lock {
            Ok(lock) => {
                FileType::from_raw_mode(lock.st_mode) == FileType::RegularFile && lock.st_uid == me
            }
            Err(errno) => errno == Errno::NOENT,
        };
    if !is_ours {
        return Ok(Occupant::Foreign);
    }
    only_us(dir.file()).map_err(failed)?;
    Ok(Occupant::Ours(dir))
}

/// Sets the mode to 0700 if it is another, such as 0770 set by an older `watch_dir.sh`.
fn only_us(dir: &File) -> io::Result<()> {
    if dir.metadata()?.mode() & 0o7777 != 0o700 {
        dir.set_permissions(Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// Returns `true` if `name` in `root` is what `handle` has open.
pub(super) fn is_at(root: &Dir, name: &OsStr, handle: &File) -> bool {
    let (there, here) = (spool::look(root.file(), name), fstat(handle));
    matches!((there, here), (Ok(there), Ok(here)) if FileId::of(&there) == FileId::of(&here))
}

/// What became of an attempt to lock a directory of ours.
enum Taken {
    /// The lock is held for as long as this lives.
    Ours(OwnedFd),
    /// A process of another user holds it.
    Squatted,
}

/// Takes the lock of a directory of ours that was found in its place: its own, and that of a lock
/// file that an earlier build has left in it.
///
/// # Errors
///
/// [`StorageDirError::Locked`] with the process that holds it, or [`StorageDirError::Private`].
fn lock_found(root: &Dir, dir: &Dir, is_locked: bool) -> Result<Taken, StorageDirError> {
    let failed = |errno: Errno| StorageDirError::Private {
        path: dir.path(),
        source: errno.into(),
    };
    let busy = |holder| StorageDirError::Locked {
        path: root.path(),
        holder,
    };
    let handle = spool::open_dir(dir.file(), Path::new("")).map_err(failed)?;
    let locked = match flock(&handle, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(Errno::AGAIN) => match holder(&handle) {
            Some(holder) if is_of_another_user(holder.pid) => return Ok(Taken::Squatted),
            holder => return Err(busy(holder)),
        },
        // Not every file system can lock a directory.
        Err(_) => false,
    };
    let has_lock_file = spool::look(dir.file(), OsStr::new(LOCK)).is_ok();
    if !has_lock_file && (locked || is_locked) {
        return Ok(Taken::Ours(handle));
    }
    let lock = open_lock(dir.file(), LOCK).map_err(failed)?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) if locked => Ok(Taken::Ours(handle)),
        Ok(()) => Ok(Taken::Ours(lock.into())),
        Err(Errno::AGAIN) => Err(busy(holder(&lock))),
        Err(errno) => Err(failed(errno)),
    }
}

/// Returns `true` if the process certainly runs under another account.
fn is_of_another_user(pid: u32) -> bool {
    let process = std::fs::metadata(format!("/proc/{pid}"));
    process.is_ok_and(|process| process.uid() != geteuid().as_raw())
}

/// Opens the lock file `name` in `dir`, or makes it with mode 0600. Through no link and without
/// waiting.
pub(super) fn open_lock(dir: impl AsFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC
        | OFlags::NOCTTY;
    openat(dir, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Makes a private directory and gives it its name: in exchange for what is there if `is_occupied`,
/// whose new path is then added to `aside`.
///
/// After a failure the new directory is removed again. If it could not be finished
/// ([`NewPrivate::make`]), an empty one may stay under its random name; all programs pass over it,
/// and pruning removes it.
fn make(root: &Arc<Dir>, is_occupied: bool, is_locked: bool, aside: &mut Vec<PathBuf>) -> Attempt {
    let fresh = match NewPrivate::make(root, is_locked) {
        Ok(fresh) => fresh,
        Err(errno) => return outcome(root, errno, false),
    };
    let placed = if is_occupied {
        exchange(root, &fresh.name)
    } else {
        rename_to_free_name(root, &fresh.name)
    };
    if let Err(errno) = placed {
        fresh.discard(root);
        return outcome(root, errno, is_occupied);
    }
    // At once: a process that moves it away later moves one that is held open and locked.
    let is_in_place = spool::look(root.file(), OsStr::new(PRIVATE))
        .is_ok_and(|stat| FileId::of(&stat) == FileId::of(&fresh.stat));
    if is_occupied {
        // Another parser that starts at this moment may have been faster: its directory stays.
        if is_another_parsers(root, &fresh.name) {
            let _ = exchange(root, &fresh.name);
            fresh.discard(root);
            return Attempt::Retry;
        }
        aside.push(move_aside(root, &fresh.name));
    }
    if is_in_place {
        fresh.done(root)
    } else {
        Attempt::Retry
    }
}

/// Returns `true` if `name` is a directory of another parser that starts at this moment.
fn is_another_parsers(root: &Arc<Dir>, name: &str) -> bool {
    let Ok(Occupant::Ours(dir)) = occupant(root, OsStr::new(name)) else {
        return false;
    };
    !matches!(lock_found(root, &dir, true), Ok(Taken::Squatted))
}

/// Decides from what the kernel said whether another attempt is worth it.
///
/// Errors that mean "another process changed the name meanwhile" lead to [`Attempt::Retry`]. `EBUSY` means
/// a mount point, which cannot be renamed. `EPERM` in an exchange comes from a sticky directory in
/// which the name belongs to another user.
fn outcome(root: &Dir, errno: Errno, is_occupied: bool) -> Attempt {
    let path = root.path().join(PRIVATE);
    let uid = || spool::look(root.file(), OsStr::new(PRIVATE)).map(|stat| stat.st_uid);
    match errno {
        Errno::AGAIN
        | Errno::EXIST
        | Errno::ISDIR
        | Errno::LOOP
        | Errno::NOENT
        | Errno::NOTDIR
        | Errno::NOTEMPTY => Attempt::Retry,
        Errno::BUSY => Attempt::Failed(StorageDirError::PrivateMounted { path }),
        Errno::PERM | Errno::ACCESS if is_occupied => uid().map_or(Attempt::Retry, |uid| {
            Attempt::Failed(StorageDirError::PrivateTaken { path, uid })
        }),
        errno => Attempt::Failed(StorageDirError::Private {
            path,
            source: errno.into(),
        }),
    }
}

/// Renames `fresh` to the name of the private directory, which must be free.
///
/// It appears by being renamed, not made: `watch_dir.sh`, beside which we may have to work, hands
/// every directory whose creation it sees over to another user, some milliseconds later and by its
/// path.
fn rename_to_free_name(root: &Dir, fresh: &str) -> Result<(), Errno> {
    spool::rename_dir(root.file(), fresh, root.file(), OsStr::new(PRIVATE))
}

/// Exchanges the names of `fresh` and of what is in the place of the private directory.
///
/// Without `RENAME_EXCHANGE` (NFS, some FUSE file systems) in three renames, between which another
/// process may take the name; the attempt is then repeated.
fn exchange(root: &Dir, fresh: &str) -> Result<(), Errno> {
    let file = root.file();
    let exchanged = renameat_with(file, fresh, file, PRIVATE, RenameFlags::EXCHANGE);
    if !spool::is_unsupported(exchanged) {
        return exchanged;
    }
    // In three steps then, between which another process may take the name again.
    let aside = spool::random_name(ASIDE);
    rename_in(root, OsStr::new(PRIVATE), root, OsStr::new(&aside))?;
    rename_to_free_name(root, fresh)?;
    rename_in(root, OsStr::new(&aside), root, OsStr::new(fresh))
}

/// Renames what was found in our place to a name that says so, and returns its path: the old one if
/// it could not be renamed.
fn move_aside(root: &Dir, name: &str) -> PathBuf {
    let aside = spool::random_name(ASIDE);
    let moved = rename_in(root, OsStr::new(name), root, OsStr::new(&aside));
    root.path().join(if moved.is_ok() { &aside } else { name })
}

/// A new private directory, locked, that has a random name still.
struct NewPrivate {
    /// Its name in the storage directory.
    name: String,
    /// The directory itself.
    dir: OwnedFd,
    /// Its attributes, to tell later whether the directory in the right place is this one.
    stat: Stat,
    /// The directory once more, or its lock file, with an exclusive flock(2).
    lock: OwnedFd,
}

impl NewPrivate {
    /// Makes the directory, opens it, and locks it; by a lock file in it if there is no other way.
    fn make(root: &Dir, is_locked: bool) -> Result<NewPrivate, Errno> {
        let name = spool::random_name(FRESH);
        mkdirat(root.file(), &name, Mode::RWXU)?;
        let made = NewPrivate::open(root, name.clone(), is_locked);
        if made.is_err() {
            let _ = unlinkat(root.file(), &name, AtFlags::REMOVEDIR);
        }
        made
    }

    /// Opens and locks the directory that was just made as `name`.
    ///
    /// In between a user who may write to the storage directory could exchange it, and
    /// `watch_dir.sh` gives it to another user: one of another owner is not used (`EAGAIN`).
    fn open(root: &Dir, name: String, is_locked: bool) -> Result<NewPrivate, Errno> {
        let dir = spool::open_dir(root.file(), Path::new(&name))?;
        let stat = fstat(&dir)?;
        // A user who may write to the root could have exchanged it.
        if stat.st_uid != geteuid().as_raw() {
            return Err(Errno::AGAIN);
        }
        fchmod(&dir, Mode::RWXU)?;
        let mut lock = spool::open_dir(&dir, Path::new(""))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() && !is_locked {
            lock = open_lock(&dir, LOCK)?.into();
            flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        }
        Ok(NewPrivate {
            name,
            dir,
            stat,
            lock,
        })
    }

    /// Ends the attempt: the directory is in its place.
    fn done(self, root: &Arc<Dir>) -> Attempt {
        Attempt::Done(Made {
            dir: root.child(OsStr::new(PRIVATE), self.dir, &self.stat),
            lock: self.lock,
            aside: Vec::new(),
        })
    }

    /// Removes lock file and directory after an attempt that failed.
    fn discard(self, root: &Dir) {
        let _ = unlinkat(&self.dir, LOCK, AtFlags::empty());
        let _ = unlinkat(root.file(), &self.name, AtFlags::REMOVEDIR);
    }
}

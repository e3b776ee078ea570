//! Opening the private directory, or making it whatever stands in its place.
//!
//! Whoever may write to the root can put anything under the name of the private directory, and do
//! it again at once. So it is made under a name that nobody can foresee, with its lock held, and
//! takes the place of what is there in one step (`RENAME_EXCHANGE`): there is no moment at which
//! the name is free.

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
    mkdirat, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{LOCK, PRIVATE, holder, rename_in, unsupported};
use crate::spool::{self, FileId, Reason, Refusal};
use crate::storage_dir::StorageDirError;
use crate::storage_dir::dir::Dir;

/// Beginning of the name under which the directory is made.
pub(super) const FRESH: &str = ".modsec-parser.";
/// Beginning of the name of what stood in its place.
const ASIDE: &str = ".modsec-parser.aside-";
/// Attempts until somebody who changes the name all the time has won: a fraction of a second. Four
/// processes that do nothing else win 64 in a row once in some thousand starts.
const ROUNDS: u32 = 1024;

/// How often and how long the turn of another parser is waited for: half a second in all.
const TURN_TRIES: u32 = 100;
const TURN_WAIT: Duration = Duration::from_millis(5);

/// The private directory with its lock held.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) dir: Arc<Dir>,
    pub(super) lock: File,
    /// What stood in its place, where it is now.
    pub(super) aside: Vec<PathBuf>,
}

/// What has a name in the root.
enum Found {
    Nothing,
    Ours(Arc<Dir>),
    Foreign,
}

/// How one attempt ended.
enum Attempt {
    Done(Made),
    /// Somebody else has done something meanwhile.
    Again,
    Failed(StorageDirError),
}

/// Opens the private directory and takes its lock; makes it if it is missing, or if something has
/// its name that is not ours.
pub(super) fn open(root: &Arc<Dir>) -> Result<Made, StorageDirError> {
    let mut aside = Vec::new();
    let mut turn = None;
    for _ in 0..ROUNDS {
        let attempt = match find(root, OsStr::new(PRIVATE))? {
            Found::Ours(dir) => lock_found(root, dir)?,
            _ if turn.is_none() => {
                turn = Some(wait_for_turn(root));
                Attempt::Again
            }
            Found::Nothing => make(root, false, &mut aside),
            Found::Foreign => make(root, true, &mut aside),
        };
        match attempt {
            Attempt::Done(made) => return Ok(Made { aside, ..made }),
            Attempt::Again => {}
            Attempt::Failed(error) => return Err(error),
        }
    }
    Err(StorageDirError::PrivateContested {
        path: root.path().join(PRIVATE),
    })
}

/// Waits until no other parser is making the directory: what one has just put in its place must not
/// be taken for somebody else's by the next. Whoever may read the storage directory can keep this
/// lock as long as he likes, so it is not waited for longer than a parser may need.
fn wait_for_turn(root: &Dir) -> Option<OwnedFd> {
    let root = spool::open_dir(root.file(), Path::new("")).ok()?;
    for _ in 0..TURN_TRIES {
        match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(root),
            Err(Errno::AGAIN) => thread::sleep(TURN_WAIT),
            // Not every file system can lock a directory.
            Err(_) => return None,
        }
    }
    None
}

/// Returns what `name` leads to. It is ours if it belongs to this account and so does its lock, and
/// nobody else could write to it: any directory of this account could have been moved here, with
/// what others have put into it.
fn find(root: &Arc<Dir>, name: &OsStr) -> Result<Found, StorageDirError> {
    let failed = |source| StorageDirError::Private {
        path: root.path().join(PRIVATE),
        source,
    };
    let dir = match root.open(name) {
        Ok(dir) => dir,
        Err(Refusal { reason, .. }) => {
            return match reason {
                Reason::Vanished => Ok(Found::Nothing),
                Reason::Io(error) => Err(failed(error)),
                _ => Ok(Found::Foreign),
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
        return Ok(Found::Foreign);
    }
    only_us(dir.file()).map_err(failed)?;
    Ok(Found::Ours(dir))
}

fn only_us(dir: &File) -> io::Result<()> {
    if dir.metadata()?.mode() & 0o7777 != 0o700 {
        dir.set_permissions(Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn lock_found(root: &Dir, dir: Arc<Dir>) -> Result<Attempt, StorageDirError> {
    let failed = |source| StorageDirError::Private {
        path: dir.path(),
        source,
    };
    let lock = open_lock(dir.file()).map_err(|errno| failed(errno.into()))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Attempt::Done(Made {
            dir,
            lock,
            aside: Vec::new(),
        })),
        Err(Errno::AGAIN) => Err(StorageDirError::Locked {
            path: root.path(),
            holder: holder(&lock),
        }),
        Err(errno) => Err(failed(errno.into())),
    }
}

fn open_lock(dir: impl AsFd) -> Result<File, Errno> {
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC
        | OFlags::NOCTTY;
    openat(dir, LOCK, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

/// Makes a directory and puts it where it belongs, in exchange for what is there if
/// `is_occupied`.
fn make(root: &Arc<Dir>, is_occupied: bool, aside: &mut Vec<PathBuf>) -> Attempt {
    let fresh = match Fresh::make(root) {
        Ok(fresh) => fresh,
        Err(errno) => return why(root, errno, false),
    };
    let placed = if is_occupied {
        exchange(root, &fresh.name)
    } else {
        put(root, &fresh.name)
    };
    if let Err(errno) = placed {
        fresh.discard(root);
        return why(root, errno, is_occupied);
    }
    // At once: whoever moves it away later does so with one that is held open and locked.
    let is_in_place = spool::look(root.file(), OsStr::new(PRIVATE))
        .is_ok_and(|stat| FileId::of(&stat) == FileId::of(&fresh.stat));
    if is_occupied {
        // Another parser that starts at this moment may have been faster: its directory stays.
        if matches!(find(root, OsStr::new(&fresh.name)), Ok(Found::Ours(_))) {
            let _ = exchange(root, &fresh.name);
            fresh.discard(root);
            return Attempt::Again;
        }
        aside.push(set_aside(root, &fresh.name));
    }
    if is_in_place {
        fresh.done(root)
    } else {
        Attempt::Again
    }
}

/// Tells from what the kernel said whether another attempt is worth it.
fn why(root: &Dir, errno: Errno, is_occupied: bool) -> Attempt {
    let path = root.path().join(PRIVATE);
    let uid = || spool::look(root.file(), OsStr::new(PRIVATE)).map(|stat| stat.st_uid);
    match errno {
        Errno::AGAIN
        | Errno::EXIST
        | Errno::ISDIR
        | Errno::LOOP
        | Errno::NOENT
        | Errno::NOTDIR
        | Errno::NOTEMPTY => Attempt::Again,
        Errno::BUSY => Attempt::Failed(StorageDirError::PrivateMounted { path }),
        Errno::PERM | Errno::ACCESS if is_occupied => uid().map_or(Attempt::Again, |uid| {
            Attempt::Failed(StorageDirError::PrivateTaken { path, uid })
        }),
        errno => Attempt::Failed(StorageDirError::Private {
            path,
            source: errno.into(),
        }),
    }
}

/// Renames `fresh` to the free name. It appears by being renamed: `watch_dir.sh`, beside which we
/// may have to work, hands every directory over to another user whose creation it sees, some
/// milliseconds later and by its path.
fn put(root: &Dir, fresh: &str) -> Result<(), Errno> {
    let root = root.file();
    match renameat_with(root, fresh, root, PRIVATE, RenameFlags::NOREPLACE) {
        // Not every file system knows the flag. What replaces an empty directory at the most
        // cannot replace that of another parser, which holds a lock.
        placed if unsupported(placed) => renameat(root, fresh, root, PRIVATE),
        placed => placed,
    }
}

/// Gives `fresh` the name of the private directory, and what has that name the name of `fresh`.
fn exchange(root: &Dir, fresh: &str) -> Result<(), Errno> {
    let file = root.file();
    let exchanged = renameat_with(file, fresh, file, PRIVATE, RenameFlags::EXCHANGE);
    if !unsupported(exchanged) {
        return exchanged;
    }
    // In three steps then, between which somebody else may take the name again.
    let aside = spool::random_name(ASIDE);
    rename_in(root, OsStr::new(PRIVATE), root, OsStr::new(&aside))?;
    put(root, fresh)?;
    rename_in(root, OsStr::new(&aside), root, OsStr::new(fresh))
}

/// Gives what was found in our place a name that says so; returns its path.
fn set_aside(root: &Dir, name: &str) -> PathBuf {
    let aside = spool::random_name(ASIDE);
    let moved = rename_in(root, OsStr::new(name), root, OsStr::new(&aside));
    root.path().join(if moved.is_ok() { &aside } else { name })
}

/// A directory that is ours, under a name of its own.
struct Fresh {
    name: String,
    dir: OwnedFd,
    stat: Stat,
    lock: File,
}

impl Fresh {
    fn make(root: &Dir) -> Result<Fresh, Errno> {
        let name = spool::random_name(FRESH);
        mkdirat(root.file(), &name, Mode::RWXU)?;
        let dir = spool::open_dir(root.file(), Path::new(&name))?;
        let stat = fstat(&dir)?;
        // Whoever may write to the root could have exchanged it.
        if stat.st_uid != geteuid().as_raw() {
            return Err(Errno::AGAIN);
        }
        fchmod(&dir, Mode::RWXU)?;
        let lock = open_lock(&dir)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Fresh {
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

    /// Removes what was made in vain.
    fn discard(self, root: &Dir) {
        let _ = unlinkat(&self.dir, LOCK, AtFlags::empty());
        let _ = unlinkat(root.file(), &self.name, AtFlags::REMOVEDIR);
    }
}

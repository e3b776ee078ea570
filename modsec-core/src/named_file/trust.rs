//! Whose files are used.
//!
//! The rule: only an account to which the administrator has given that right may have put a file
//! there, or may change it.
//!
//! - No directory on the way may be writable by everybody, unless it is sticky like `/tmp`.
//! - In such a sticky directory, what is on the way (file, directory or link) belongs to root, to
//!   the account of the program, or to the owner of the directory, and a file has no second name.
//!   Kernels have the same rule, if it is switched on: `fs.protected_regular` and its siblings in
//!   proc(5).
//! - The file itself is not writable by everybody.
//!
//! Owners and groups say nothing else. A log of `root:adm`, a database in the directory of its own
//! account, a file that was given to Fail2ban: only an administrator could arrange that.
//!
//! ```text
//! /var/log/modsec.log        root:adm 0640           taken
//! /var/log/modsec.log        root:adm 0666           refused: everybody may write to it
//! /srv/open/x.log            /srv/open has 0777      refused: everybody may replace it
//! /tmp/x.log                 of the program          taken: /tmp is sticky
//! /tmp/x.log                 of a site user          refused: it may have been put there
//! /tmp/x.log                 two names               refused: the other one may be anywhere
//! /tmp/link -> /etc/x        link of a site user     refused
//! ```
//!
//! For SQLite a sticky directory is refused as well: it takes what it finds beside a database.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::Links;

/// Links that are followed on the way to one file, as many as the kernel follows.
const MAX_LINKS: u32 = 40;
/// Mode bit of a directory in which only the owner of a file may remove or rename it.
const STICKY: u32 = 0o1000;
/// Mode bit of a file that every user may write to.
const OTHERS_WRITE: u32 = 0o002;

/// Why a file is not used, and what to do.
#[derive(Debug, thiserror::Error)]
enum Untrusted {
    /// A directory on the way, in which everybody may rename and remove what others have made.
    #[error(
        "everybody may replace what is in directory {0:?}; run chmod o-w on it, or name a file \
         elsewhere"
    )]
    Replaceable(PathBuf),
    /// A file of another user, in a directory like `/tmp`.
    #[error(
        "{path:?} belongs to user {owner}, in a directory in which everybody may make files; \
         name a file elsewhere, or remove it"
    )]
    Foreign { path: PathBuf, owner: u32 },
    /// A file with several names, in a directory like `/tmp`: another user may have made one of
    /// them.
    #[error(
        "{0:?} has a second name, in a directory in which everybody may make files; name a file \
         elsewhere, or remove it"
    )]
    HardLinked(PathBuf),
    /// A file that everybody may write to.
    #[error(
        "everybody may write to {0:?}; look what is in it and run chmod o-w on it, or remove it"
    )]
    Writable(PathBuf),
    /// A directory in which everybody may make files, for a database of SQLite, beside which `-wal`
    /// and `-journal` are read.
    #[error(
        "everybody may make files in directory {0:?}, and SQLite takes what it finds beside a \
         database for a part of it; name a file elsewhere"
    )]
    Public(PathBuf),
}

impl From<Untrusted> for io::Error {
    fn from(untrusted: Untrusted) -> io::Error {
        io::Error::new(io::ErrorKind::PermissionDenied, untrusted)
    }
}

/// A path whose every step was judged and found to be trusted, but not yet what is at its end.
#[derive(Debug)]
pub(super) struct CheckedPath {
    /// The path without links.
    pub(super) path: PathBuf,
    /// Where the last component lies.
    directory: Directory,
    /// What is at the end, a link itself if links are refused; `None` if nothing is.
    pub(super) meta: Option<Metadata>,
}

/// A directory on the way in which only trusted accounts can replace a name.
#[derive(Debug)]
struct Directory {
    /// The directory without links.
    path: PathBuf,
    /// Its owner, if everybody may make files in it.
    public: Option<u32>,
}

impl CheckedPath {
    /// Walks to `path` as the kernel does, and judges each step.
    ///
    /// A link on the way is followed, and judged like a file. A link at the end is followed if
    /// `links` say so; if not, it counts as what is there. The last component may be missing, no
    /// other.
    ///
    /// # Errors
    ///
    /// What the system says, and [`io::ErrorKind::PermissionDenied`] with the reason.
    pub(super) fn walk(path: &Path, links: Links) -> io::Result<CheckedPath> {
        let mut at = PathBuf::from("/");
        let mut ahead = Vec::new();
        push(&mut ahead, &std::path::absolute(path)?);
        let mut followed = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let directory = Directory::at(&at)?;
            let next = at.join(name);
            let is_end = ahead.is_empty();
            let meta = match fs::symlink_metadata(&next) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && is_end => None,
                found => Some(found?),
            };
            if let Some(meta) = &meta {
                directory.admit(&next, meta)?;
            }
            let is_link = meta.as_ref().is_some_and(Metadata::is_symlink);
            if is_link && !(is_end && links == Links::Refuse) {
                followed += 1;
                if followed > MAX_LINKS {
                    return Err(Errno::LOOP.into());
                }
                // An absolute one begins at the root again.
                push(&mut ahead, &at.join(fs::read_link(&next)?));
                at = PathBuf::from("/");
            } else if is_end {
                let path = next;
                return Ok(CheckedPath {
                    path,
                    directory,
                    meta,
                });
            } else {
                at = next;
            }
        }
        Err(io::ErrorKind::IsADirectory.into())
    }

    /// Refuses the file at the end of the path if another account may have made or changed it.
    ///
    /// `meta` is of the file as it was opened, so a file that was exchanged after the walk is
    /// judged by itself.
    pub(super) fn admit(&self, meta: &Metadata) -> io::Result<()> {
        self.directory.admit(&self.path, meta)?;
        if meta.is_file() && meta.mode() & OTHERS_WRITE != 0 {
            return Err(Untrusted::Writable(self.path.clone()).into());
        }
        if meta.is_file() && meta.nlink() > 1 && self.directory.public.is_some() {
            return Err(Untrusted::HardLinked(self.path.clone()).into());
        }
        Ok(())
    }

    /// Refuses a directory in which every user may make files.
    pub(super) fn refuse_public(&self) -> io::Result<()> {
        match self.directory.public {
            Some(_) => Err(Untrusted::Public(self.directory.path.clone()).into()),
            None => Ok(()),
        }
    }
}

impl Directory {
    /// Looks at a directory. Refuses one in which every user may replace what others made.
    fn at(path: &Path) -> io::Result<Directory> {
        let meta = fs::symlink_metadata(path)?;
        let is_public = meta.mode() & OTHERS_WRITE != 0;
        if is_public && meta.mode() & STICKY == 0 {
            return Err(Untrusted::Replaceable(path.to_owned()).into());
        }
        Ok(Directory {
            path: path.to_owned(),
            public: is_public.then(|| meta.uid()),
        })
    }

    /// Refuses what another account may have put into this directory.
    fn admit(&self, path: &Path, meta: &Metadata) -> io::Result<()> {
        let Some(host) = self.public else {
            return Ok(());
        };
        let owner = meta.uid();
        let us = rustix::process::geteuid().as_raw();
        if [0, us, host].contains(&owner) {
            return Ok(());
        }
        let path = path.to_owned();
        Err(Untrusted::Foreign { path, owner }.into())
    }
}

/// Puts the steps of a path on those ahead, so that the first one is taken next.
fn push(ahead: &mut Vec<OsString>, path: &Path) {
    let steps = path.components().rev().filter_map(|step| match step {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    ahead.extend(steps);
}

#[cfg(test)]
mod tests {
    use std::fs::{File, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};

    use super::super::{check_database, open_own, open_own_to_read, read, replace};
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn make(path: &Path) -> io::Result<File> {
        let mut options = File::options();
        open_own(path, options.append(true).create(true))
    }

    /// Gives something to another account; `false`, with a message, for who is not root.
    fn give_away(path: &Path) -> bool {
        let given = lchown(path, Some(4242), Some(4242));
        if given.is_err() {
            eprintln!("skipped: only root can give a file away");
        }
        given.is_ok()
    }

    #[track_caller]
    fn refused<T>(result: io::Result<T>, reason: &str) {
        let error = result.err().expect("must be refused");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }

    #[test]
    fn nothing_is_kept_where_everybody_may_replace_it() {
        let dir = tempfile::tempdir().unwrap();
        let public = dir.path().join("public");
        fs::create_dir_all(public.join("own")).unwrap();
        chmod(&public, 0o777);
        for path in [public.join("x"), public.join("own/x")] {
            refused(make(&path), "everybody may replace");
            refused(replace(&path, b"", 0o640), "chmod o-w");
            refused(check_database(&path), "everybody may replace");
            assert!(!path.exists(), "nothing was made");
        }
        chmod(&public, 0o1777);
        for path in [public.join("x"), public.join("own/x")] {
            make(&path).unwrap();
        }
        check_database(&public.join("own/new")).unwrap();
        refused(check_database(&public.join("new")), "SQLite");
    }

    #[test]
    fn what_everybody_may_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let wal = dir.path().join("x-wal");
        drop(make(&path).unwrap());
        symlink("x", dir.path().join("link")).unwrap();
        let link = dir.path().join("link");
        chmod(&path, 0o666);
        let reason = "everybody may write to";
        refused(make(&path), reason);
        refused(replace(&path, b"", 0o640), reason);
        refused(read(&link, 9), reason);
        refused(open_own_to_read(&link), reason);
        refused(check_database(&link), reason);
        chmod(&path, 0o660);
        make(&path).unwrap();
        open_own_to_read(&link).unwrap();
        check_database(&link).unwrap();
        fs::write(&wal, "").unwrap();
        chmod(&wal, 0o666);
        refused(check_database(&link), "x-wal");
    }

    #[test]
    fn what_somebody_else_puts_into_a_directory_for_everybody_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let public = dir.path().join("public");
        fs::create_dir_all(public.join("theirs")).unwrap();
        chmod(&public, 0o1777);
        fs::write(public.join("x"), "").unwrap();
        symlink(dir.path(), public.join("link")).unwrap();
        for name in ["x", "theirs", "link"] {
            if !give_away(&public.join(name)) {
                return;
            }
        }
        for path in ["x", "theirs/x", "link/x"] {
            refused(make(&public.join(path)), "belongs to user 4242");
        }
        assert!(!dir.path().join("x").exists());
        refused(read(&public.join("x"), 9), "belongs to user 4242");
        fs::write(public.join("linked"), "").unwrap();
        fs::hard_link(public.join("linked"), dir.path().join("passwd")).unwrap();
        refused(make(&public.join("linked")), "second name");
    }

    #[test]
    fn what_an_administrator_has_given_to_others_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("group");
        fs::create_dir(&group).unwrap();
        chmod(&group, 0o2770);
        fs::write(group.join("database"), "").unwrap();
        chmod(&group.join("database"), 0o660);
        fs::write(dir.path().join("jail.log"), "").unwrap();
        for path in ["group/database", "group", "jail.log"] {
            if !give_away(&dir.path().join(path)) {
                return;
            }
        }
        symlink(&group, dir.path().join("way")).unwrap();
        for path in [
            "group/database",
            "group/new",
            "jail.log",
            "way/../jail.log",
            "way/database",
        ] {
            make(&dir.path().join(path)).unwrap();
        }
        check_database(&dir.path().join("way/database")).unwrap();
    }

    #[test]
    fn links_in_a_circle_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let error = make(&dir.path().join("a/x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }
}

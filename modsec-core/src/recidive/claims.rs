//! Files that `modsec-parser` has taken charge of.
//!
//! It renames a finished file into its private directory at once, so that a later record of the
//! same name does not overwrite it. Whoever comes to the old name too late finds the file there.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchMask};
use rustix::fs::Dir;
use tokio::io::unix::AsyncFd;

use super::tree::Tree;
use crate::storage_dir::PRIVATE;
use crate::watch::register;

/// Bytes of events read at a time.
const EVENTS: usize = 64 * 1024;
/// Name of the lock in the private directory; not an entry.
const LOCK: &[u8] = b"lock";

/// Watches the private directory of `modsec-parser`, once there is one.
#[derive(Debug)]
pub(super) struct Claims {
    inotify: Inotify,
    readable: AsyncFd<OwnedFd>,
    watching: bool,
    buffer: Vec<u8>,
}

impl Claims {
    /// Prepares to watch; to be called in a tokio runtime with I/O.
    pub(super) fn new() -> io::Result<Claims> {
        let inotify = Inotify::init()?;
        Ok(Claims {
            readable: register(&inotify)?,
            inotify,
            watching: false,
            buffer: vec![0; EVENTS],
        })
    }

    /// Starts to watch if the directory has appeared since, and returns what is in it then.
    pub(super) fn refresh(&mut self, tree: &Tree) -> Vec<PathBuf> {
        if self.watching {
            return Vec::new();
        }
        let Ok((handle, _)) = tree.root().open_below(Path::new(PRIVATE)) else {
            return Vec::new();
        };
        let held = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let mask = WatchMask::MOVED_TO | WatchMask::ONLYDIR;
        self.watching = self.inotify.watches().add(held, mask).is_ok();
        list(handle)
    }

    /// Waits until something was moved into the directory.
    pub(super) async fn changed(&self) {
        match self.readable.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Returns what was moved into the directory since the last call.
    pub(super) fn take(&mut self, tree: &Tree) -> Vec<PathBuf> {
        let mut names = Vec::new();
        let mut again = false;
        while let Ok(events) = self.inotify.read_events(&mut self.buffer) {
            for event in events {
                again |= event
                    .mask
                    .intersects(EventMask::Q_OVERFLOW | EventMask::IGNORED);
                names.extend(event.name.map(OsStr::to_owned));
            }
        }
        if again {
            // Events were lost, or the directory was removed: look at what there is.
            self.watching = false;
            return self.refresh(tree);
        }
        names
            .into_iter()
            .filter_map(|name| relative(&name))
            .collect()
    }
}

fn list(handle: OwnedFd) -> Vec<PathBuf> {
    let names = Dir::read_from(handle).into_iter().flatten().flatten();
    names
        .map(|entry| OsString::from(OsStr::from_bytes(entry.file_name().to_bytes())))
        .filter_map(|name| relative(&name))
        .collect()
}

fn relative(name: &OsStr) -> Option<PathBuf> {
    let own = name.as_bytes() == LOCK || name.as_bytes().starts_with(b".");
    (!own).then(|| Path::new(PRIVATE).join(name))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::heart::Heart;

    #[tokio::test]
    async fn claimed_files_are_found_before_and_after_watching_begins() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path(), None, Heart::default()).unwrap();
        let mut claims = Claims::new().unwrap();
        assert!(claims.refresh(&tree).is_empty(), "no such directory yet");
        let private = dir.path().join(PRIVATE);
        fs::create_dir(&private).unwrap();
        fs::write(private.join("lock"), "").unwrap();
        fs::write(private.join("1-1.x"), "").unwrap();
        assert_eq!(claims.refresh(&tree), [Path::new(PRIVATE).join("1-1.x")]);
        assert!(claims.refresh(&tree).is_empty(), "only once");
        fs::write(dir.path().join("y"), "").unwrap();
        fs::rename(dir.path().join("y"), private.join("2-2.y")).unwrap();
        claims.changed().await;
        assert_eq!(claims.take(&tree), [Path::new(PRIVATE).join("2-2.y")]);
    }
}

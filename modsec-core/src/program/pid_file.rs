//! One instance per PID file.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Duration, sleep};
use tracing::warn;

use super::advice;
use crate::error_chain::error_chain;
use crate::{lock_holder, named_file};

/// Starts that may remove the file between our opening and locking it before we give up.
const ATTEMPTS: u32 = 16;

/// How often to look whether the file is in its place.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// No PID file has more bytes. What is longer, or has more lines, is not emptied.
const MAX_BYTES: u64 = 64;

/// A file with the number of this process, locked while the process lives.
///
/// The lock is what counts. It goes with the process however that ends, so a file left behind is
/// no obstacle, whatever number is in it. A file with more than one short line in it is no PID file. Dropping the value removes the file.
#[derive(Debug)]
#[must_use = "dropping it removes the file"]
pub struct PidFile {
    /// As the administrator has named it.
    path: PathBuf,
    /// Locked by flock(2) for as long as it is open.
    file: File,
}

/// Why the PID file could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidFileError {
    /// Another process has it.
    #[error(
        "already running as {holder}: it holds {}; stop it, or give this one its own --pid-file",
        .path.display()
    )]
    Held {
        /// The PID file.
        path: PathBuf,
        /// Number and name of the other process, as far as known.
        holder: String,
    },
    /// The file cannot be opened, locked or written.
    #[error("cannot write PID file {}, {}", .path.display(), advice(.source, "--pid-file"))]
    Io {
        /// The PID file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PidFile {
    /// Creates `path` or takes over a stale one, and writes the number of this process.
    ///
    /// # Errors
    ///
    /// [`PidFileError::Held`] names the process that has it; the file is untouched then.
    /// [`PidFileError::Io`] if the directory is absent or not writable, if `path` is a link, or if
    /// there is something in it that a PID file never has.
    pub fn take(path: &Path) -> Result<Self, PidFileError> {
        let failed = |source| PidFileError::Io {
            path: path.to_owned(),
            source,
        };
        for _ in 0..ATTEMPTS {
            let mut file = open(path).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let holder = holder(&mut file);
                    return Err(PidFileError::Held {
                        path: path.to_owned(),
                        holder,
                    });
                }
                Err(errno) => return Err(failed(errno.into())),
            }
            // The previous holder removes the file when it ends: the lock must be on the file
            // that is at the path now, or the next start would not see it.
            if named_file::is_at(path, &file).map_err(failed)? {
                refuse_other_content(&mut file).map_err(failed)?;
                let written = file
                    .set_len(0)
                    .and_then(|()| writeln!(file, "{}", std::process::id()));
                written.map_err(failed)?;
                return Ok(Self {
                    path: path.to_owned(),
                    file,
                });
            }
        }
        Err(failed(io::Error::other("it is replaced again and again")))
    }

    /// Finds out whether another process has the file, or it is no PID file, without taking or
    /// making it.
    ///
    /// # Errors
    ///
    /// As for [`PidFile::take`]. A process in another PID namespace is not seen.
    pub fn check(path: &Path) -> Result<(), PidFileError> {
        let Ok(mut file) = named_file::open_own_to_read(path) else {
            // There is none, or it cannot be used, which taking it says.
            return Ok(());
        };
        match lock_holder::holder(&file) {
            None => refuse_other_content(&mut file).map_err(|source| PidFileError::Io {
                path: path.to_owned(),
                source,
            }),
            Some(_) => Err(PidFileError::Held {
                path: path.to_owned(),
                holder: holder(&mut file),
            }),
        }
    }

    /// Holds the file, if there is one, until `work` is done.
    ///
    /// Writes it again if somebody has removed or replaced it: a second start would find nothing in
    /// its way.
    pub async fn hold<T>(held: Option<PidFile>, work: impl Future<Output = T>) -> T {
        let Some(held) = held else {
            return work.await;
        };
        tokio::select! {
            done = work => done,
            never = held.keep() => match never {},
        }
    }

    /// Looks every [`LOOK_EVERY`] whether the file is in its place, and writes it again if not.
    /// Failures are logged once, and tried again.
    async fn keep(mut self) -> Infallible {
        let mut is_told = false;
        loop {
            sleep(LOOK_EVERY).await;
            if self.is_in_place() {
                continue;
            }
            match PidFile::take(&self.path) {
                Ok(again) => {
                    self = again;
                    is_told = false;
                }
                Err(error) if !is_told => {
                    warn!(
                        error = error_chain(&error),
                        "PID file is gone, trying again"
                    );
                    is_told = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Returns `true` if the path leads to the locked file. If that cannot be found out, it counts
    /// as gone.
    fn is_in_place(&self) -> bool {
        named_file::is_at(&self.path, &self.file).is_ok_and(|is_at| is_at)
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.is_in_place() {
            // A file that stays is no obstacle to the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens the PID file for reading and writing, or makes it with mode 0644.
///
/// # Errors
///
/// What the system said, or that a link is in the last place.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o644);
    named_file::open_own(path, &options)
}

/// Refuses a file with something in it that is no number of a process, nor ever was one: whoever
/// mistypes a path is not to lose a log. Leaves the position at the start.
fn refuse_other_content(file: &mut File) -> io::Result<()> {
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    file.rewind()?;
    named_file::only_short_line(&bytes, MAX_BYTES)
}

/// Names the process that a PID file speaks of, by number and, if `/proc` has it, by name; `another
/// process` if there is no number in the file.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    // The other process may have locked and not written yet.
    let _ = file.take(32).read_to_string(&mut text);
    let Ok(pid) = text.trim().parse::<u32>() else {
        return "another process".to_owned();
    };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", name.trim_end()),
        Err(_) => format!("process {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_start_is_told_who_holds_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let held = PidFile::take(&path).unwrap();
        let error = PidFile::take(&path).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(error.contains(&format!("process {pid} (")), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{pid}\n"));
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_file_is_no_obstacle_whatever_is_in_it() {
        for content in [
            "",
            "1\n",
            "99999999\n",
            "no number",
            "4194304444444444444444444",
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.pid");
            fs::write(&path, content).unwrap();
            let held = PidFile::take(&path).unwrap();
            let want = format!("{}\n", std::process::id());
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                want,
                "stale content {content:?}"
            );
            drop(held);
        }
    }

    #[test]
    fn a_file_that_never_was_a_pid_file_is_not_emptied() {
        for content in ["--3fa0c41b-A--\n[x] id\n", &"long".repeat(20)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("audit.log");
            fs::write(&path, content).unwrap();
            let checked = PidFile::check(&path).unwrap_err();
            let error = PidFile::take(&path).unwrap_err();
            assert!(matches!(error, PidFileError::Io { .. }), "{error}");
            assert_eq!(error_chain(&error), error_chain(&checked));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_was_removed_or_replaced_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let held = PidFile::take(&path).unwrap();
        let mut keeping = Box::pin(held.keep());
        for replace in [false, true] {
            fs::remove_file(&path).unwrap();
            if replace {
                fs::write(&path, "1\n").unwrap();
            }
            tokio::select! {
                never = &mut keeping => match never {},
                () = sleep(LOOK_EVERY + Duration::from_secs(1)) => {}
            }
            let error = PidFile::take(&path).unwrap_err();
            assert!(matches!(error, PidFileError::Held { .. }), "{error}");
            let number = fs::read_to_string(&path).unwrap();
            assert_eq!(number, format!("{}\n", std::process::id()));
        }
        drop(keeping);
        assert!(!path.exists());
    }

    #[test]
    fn links_are_refused_and_a_foreign_file_at_the_path_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, target) = (dir.path().join("x.pid"), dir.path().join("target"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(PidFile::take(&path), Err(PidFileError::Io { .. })));
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        fs::remove_file(&path).unwrap();

        let held = PidFile::take(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "other").unwrap();
        drop(held);
        assert_eq!(fs::read_to_string(&path).unwrap(), "other");
    }
}

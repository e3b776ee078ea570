//! Who holds an flock(2), without taking it.
//!
//! The kernel lists all locks in `/proc/locks`. To look there is no lock itself: a program that starts
//! at the same moment finds nothing in its way.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::fstat;

/// A process that holds the lock on a file or directory, for the message to the administrator.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Process id, in the PID namespace of this process.
    pub pid: u32,
    /// Name of its program, at most 15 bytes with control characters escaped (`/proc/PID/comm`);
    /// `None` if it could not be read.
    pub program: Option<String>,
}

/// Looks up who holds the lock on the open file `lock`, in the kernel's own list `/proc/locks`.
/// Unlike a PID file that list cannot be stale. `None` without `/proc`, or if the holder is in
/// another PID namespace.
pub(crate) fn holder(lock: impl AsFd) -> Option<Holder> {
    let stat = fstat(lock).ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = lock_owner(&locks, stat.st_dev, stat.st_ino)?;
    let comm = PathBuf::from(format!("/proc/{pid}/comm"));
    Some(Holder {
        pid,
        program: program(&comm),
    })
}

/// Reads the name of a program from the file `comm` of its process.
fn program(comm: &Path) -> Option<String> {
    let bytes = std::fs::read(comm).ok()?;
    Some(bytes.trim_ascii_end().escape_ascii().to_string())
}

/// Finds the process that holds an `flock` on the file with these numbers in the text of
/// `/proc/locks`. Lines with `->` are processes that wait for it, and do not count.
fn lock_owner(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    // 1: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, pid) = (words.next()?, words.nth(2)?);
        (kind == "FLOCK" && words.next()? == file).then(|| pid.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_lock_is_found_in_the_kernels_list() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 08:01:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4242 08:01:131 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4243 08:01:131 0 EOF\n";
        let device = rustix::fs::makedev(8, 1);
        assert_eq!(lock_owner(locks, device, 131), Some(4242));
        assert_eq!(lock_owner(locks, device, 132), None);
    }
}

//! No space left, at each of the three places that are written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::inotify::can_follow;
use crate::site::{Database as _, Site, Sqlite, until};

/// A small file system in memory.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one. `None`, and a message, without the right to mount.
    fn mount(at: PathBuf, size: &str) -> Option<Disk> {
        fs::create_dir(&at).unwrap();
        let options = format!("mode=755,size={size}");
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at);
        let mounted = mount.output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: a small disk can be mounted by root only");
            return None;
        }
        Some(Disk(at))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes all space that is left.
    fn fill(&self) {
        let bytes = vec![b'x'; 4096];
        let mut file = fs::File::create(self.path("filler")).unwrap();
        while std::io::Write::write_all(&mut file, &bytes).is_ok() {}
    }

    fn enlarge(&self) {
        let mut mount = Command::new("mount");
        mount.args(["-o", "remount,size=64m"]).arg(&self.0);
        assert!(mount.status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Full {
    Store,
    MergedLog,
    Journal,
}

/// A site of which one part is on a small disk.
fn site_on(dir: &Path, full: Full) -> Option<(Site<Sqlite>, Disk)> {
    let space = if full == Full::MergedLog {
        "500k"
    } else {
        "600k"
    };
    let disk = Disk::mount(dir.join("disk"), space)?;
    let mut site = Site::with_sqlite();
    if full == Full::Store {
        site.database = Sqlite::at(disk.path("modsec.db"));
    } else {
        site.log = disk.path("merged.log");
    }
    if full == Full::Journal {
        disk.fill();
    }
    site.put_all(1500, 1000);
    Some((site, disk))
}

#[test]
fn one_pass_on_a_full_disk_fails_and_the_next_finishes() {
    for full in [Full::Store, Full::MergedLog, Full::Journal] {
        let dir = tempfile::tempdir().unwrap();
        let Some((site, disk)) = site_on(dir.path(), full) else {
            return;
        };
        let (status, text) = site.run();
        assert_eq!(status.code(), Some(1), "{full:?}: {text}");
        let stored = site.database.rows().len();
        assert!(stored + site.left().len() >= site.count(), "{full:?}: lost");
        disk.enlarge();
        let (status, text) = site.run();
        assert!(status.success(), "{full:?}: {text}");
        site.check(&[&site.log], &format!("{full:?}"));
    }
}

#[test]
fn following_waits_until_there_is_space_again() {
    if !can_follow() {
        return;
    }
    for full in [Full::Store, Full::MergedLog, Full::Journal] {
        let dir = tempfile::tempdir().unwrap();
        let Some((site, disk)) = site_on(dir.path(), full) else {
            return;
        };
        let running = site.follow(&[]);
        until("the warning", || {
            running.log().contains("nothing can be kept")
        });
        disk.enlarge();
        site.wait_for_rows();
        until("files removed", || site.left().is_empty());
        let log = running.stop();
        assert_eq!(log.matches("nothing can be kept").count(), 1, "{log}");
        site.check(&[&site.log], &format!("{full:?}"));
    }
}

//! What is no entry costs its owner's time and nobody else's: counted in files opened.

use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::following;
use crate::inotify::can_follow;
use crate::site::{Database as _, Site, Sqlite, entry, until};

/// Somebody who is not the owner of anything else.
const TENANT: u32 = 54_321;

/// Sees every file that is opened in some directories.
struct Opened {
    inotify: OwnedFd,
    names: Vec<String>,
}

impl Opened {
    fn watch<'d>(dirs: impl IntoIterator<Item = &'d Path>) -> Opened {
        let inotify = inotify::init(CreateFlags::NONBLOCK).unwrap();
        for dir in dirs {
            inotify::add_watch(&inotify, dir, WatchFlags::OPEN).unwrap();
        }
        let names = Vec::new();
        Opened { inotify, names }
    }

    /// Returns the names of all files opened so far, in their order.
    fn names(&mut self) -> &[String] {
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = reader.next() {
            assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            if let Some(name) = event
                .file_name()
                .filter(|_| !event.events().contains(ReadFlags::ISDIR))
            {
                self.names.push(name.to_str().unwrap().to_owned());
            }
        }
        &self.names
    }
}

/// Puts one more entry in its place without an event: only a walk finds what was linked.
pub(crate) fn put_unnoticed(site: &mut Site<Sqlite>) -> PathBuf {
    let (path, bytes) = site.announce(10);
    let elsewhere = site.dir.path().join("elsewhere");
    fs::write(&elsewhere, bytes).unwrap();
    fs::hard_link(&elsewhere, &path).unwrap();
    fs::remove_file(&elsewhere).unwrap();
    path
}

/// Waits until a walk has begun and ended `times` times: no event tells of a file that is linked.
fn walks(site: &mut Site<Sqlite>, times: usize) {
    for _ in 0..times {
        let path = put_unnoticed(site);
        until("a walk", || !path.exists());
    }
}

fn tenants_minute(site: &Site<Sqlite>) -> PathBuf {
    let minute = site.tree().join("tenant/20260304/20260304-0606");
    fs::create_dir_all(&minute).unwrap();
    chown(&minute, Some(TENANT), None).unwrap();
    minute
}

fn plant(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    chown(path, Some(TENANT), None).unwrap();
}

#[test]
fn what_is_no_entry_is_opened_once_and_not_at_each_walk() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let arguments = ["--rescan-every", "1", "--keep-dirs"];
    let running = following(&mut site, &arguments);
    let minute = tenants_minute(&site);
    let name = |kind: &str| minute.join(format!("20260304-060607-{kind}"));
    for number in 0..500 {
        plant(&name(&format!("empty{number}")), b"");
        plant(&name(&format!("text{number}")), b"<html>\n");
    }
    plant(&name("half"), &entry("half", 1000)[..900]);
    plant(&name("large"), &b"no entry\n".repeat(200_000));
    let holes = File::create(name("holes")).unwrap();
    holes.set_len(64 << 20).unwrap();
    chown(name("holes"), Some(TENANT), None).unwrap();
    fs::hard_link(name("large"), name("twice")).unwrap();
    fs::hard_link(name("text1"), site.dir.path().join("outside")).unwrap();
    symlink("/etc/passwd", name("link")).unwrap();
    // Files are remembered once they have not changed for a second, and a walk may leave some of a
    // tenant's many for the next one.
    let mut opened = Opened::watch([&*minute]);
    until("a walk that opens nothing", || {
        opened.names.clear();
        walks(&mut site, 1);
        opened.names().is_empty()
    });
    walks(&mut site, 2);
    assert_eq!(opened.names(), [""; 0]);
    // What is changed in place is an entry then.
    fs::write(name("large"), entry("changed", 1000)).unwrap();
    fs::remove_file(name("twice")).unwrap();
    until("the changed file", || {
        site.database.rows().contains_key("changed")
    });
    let log = running.stop();
    assert_eq!(log.matches("no entry, file kept").count(), 1, "{log}");
    assert!(log.contains("files that are no entries are kept"), "{log}");
}

#[test]
fn the_turn_of_one_owner_ends_before_the_others_have_waited_for_all_he_has() {
    const FILES: usize = 40;
    if !can_follow() {
        return;
    }
    let site = Site::with_sqlite();
    let minute = tenants_minute(&site);
    for number in 0..FILES {
        let path = minute.join(format!("20260304-060607-hostile{number}"));
        // Quick to refuse, but who is to know.
        File::create(&path).unwrap().set_len(4 << 20).unwrap();
        chown(&path, Some(TENANT), None).unwrap();
    }
    let others: Vec<PathBuf> = (0..8)
        .map(|number| {
            let minute = site
                .tree()
                .join(format!("other{number}/20260304/20260304-0606"));
            fs::create_dir_all(&minute).unwrap();
            let id = format!("good{number}");
            let path = minute.join(format!("20260304-060607-{id}"));
            fs::write(&path, entry(&id, 100)).unwrap();
            minute
        })
        .collect();
    let dirs = others.iter().chain([&minute]).map(PathBuf::as_path);
    let mut opened = Opened::watch(dirs);
    let output = site.command().output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("8 stored"), "{text}");
    assert!(text.contains(&format!("{FILES} left alone")), "{text}");
    let names = opened.names();
    let is_hostile = |name: &&String| name.contains("hostile");
    assert!(names.iter().filter(is_hostile).count() >= FILES);
    let last_good = names
        .iter()
        .rposition(|name| name.contains("good"))
        .unwrap();
    let before = names[..last_good].iter().filter(is_hostile).count();
    assert!(before <= 17, "{before} of {FILES}: 64 MiB and one");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(log.matches("has holes of").count(), 1, "{log}");
}

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;

use chrono::{Days, Local};
use tempfile::TempDir;

use super::inotify_instances::can_follow;
use super::*;
use crate::names::{MinuteDir, day_name};

/// Longer than any of these tests takes on a busy machine; nothing waits for it to pass.
const LONG: Duration = Duration::from_secs(60);

struct Tree {
    dir: TempDir,
    watcher: Watcher,
}

impl Tree {
    /// Starts to watch a tree that `fill` has filled, and returns the events up to the first
    /// [`Event::Rescan`].
    fn watch(options: Options, fill: impl FnOnce(&Path)) -> (Self, Vec<Event>) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fill(&dir.path().join("tree"));
        let watcher = Watcher::new(&dir.path().join("tree"), options).unwrap();
        let mut tree = Self { dir, watcher };
        let events = tree.until_rescan();
        (tree, events)
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn next(&mut self) -> Event {
        self.watcher
            .wait(LONG)
            .unwrap()
            .expect("an event within a minute")
    }

    fn until_rescan(&mut self) -> Vec<Event> {
        self.until(|event| matches!(event, Event::Rescan(_)))
    }

    fn until(&mut self, last: impl Fn(&Event) -> bool) -> Vec<Event> {
        let mut events = Vec::new();
        while !events.last().is_some_and(&last) {
            events.push(self.next());
        }
        events
    }
}

fn directories() -> Options {
    Options {
        directories: true,
        ..Options::default()
    }
}

fn files(files: ReportedFiles) -> Options {
    Options {
        files,
        ..Options::default()
    }
}

fn reported(events: &[Event]) -> Vec<String> {
    let mut paths: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Event::Directory(directory) => Some(directory.path.display().to_string()),
            Event::File(path) => Some(path.display().to_string()),
            Event::Ignored { path, reason } => {
                Some(format!("{}: {}", path.display(), reason.label()))
            }
            _ => None,
        })
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

fn today() -> (String, String) {
    let now = Local::now().naive_local();
    (day_name(now.date()), MinuteDir::at(now).to_string())
}

#[test]
fn what_is_there_at_start_is_reported_before_the_first_rescan() {
    if !can_follow() {
        return;
    }
    let (_tree, events) = Tree::watch(directories(), |root| {
        fs::create_dir_all(root.join("site1/20200101/20200101-0000/deeper")).unwrap();
        fs::create_dir_all(root.join("20200101/20200101-0000")).unwrap();
        fs::create_dir_all(root.join("lost+found")).unwrap();
        fs::write(root.join("site1/file"), "").unwrap();
        symlink("/etc", root.join("site2")).unwrap();
    });
    assert_eq!(
        reported(&events),
        [
            "20200101",
            "20200101/20200101-0000",
            "lost+found: foreign name",
            "site1",
            "site1/20200101",
            "site1/20200101/20200101-0000",
            "site2: symbolic link",
        ]
    );
    assert!(
        matches!(events.last(), Some(Event::Rescan(RescanReason::Started))),
        "{events:?}"
    );
}

#[test]
fn nested_directories_created_at_once_are_all_reported() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(directories(), |_| {});
    let mut want = Vec::new();
    for user in 0..20 {
        for minute in 0..10 {
            let path = format!("site{user}/20200101/20200101-00{minute:02}");
            fs::create_dir_all(tree.root().join(&path)).unwrap();
            want.push(path);
        }
    }
    while !want.is_empty() {
        if let Event::Directory(directory) = tree.next() {
            want.retain(|path| Path::new(path) != directory.path);
        }
    }
}

#[test]
fn a_file_is_reported_when_it_is_closed_or_moved_in() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(files(ReportedFiles::New), |_| {});
    let (day, minute) = today();
    let path = tree.root().join("site1").join(&day).join(&minute);
    fs::create_dir_all(&path).unwrap();
    let mut file = File::create(path.join("one")).unwrap();
    file.write_all(b"x").unwrap();
    drop(file);
    let is = |event: &Event, name: &str| matches!(event, Event::File(path) if path.ends_with(name));
    tree.until(|event| is(event, "one"));
    fs::write(tree.root().join("two"), "").unwrap();
    fs::rename(tree.root().join("two"), path.join("two")).unwrap();
    let events = tree.until(|event| is(event, "two"));
    assert_eq!(
        reported(&events).last().unwrap(),
        &format!("site1/{day}/{minute}/two")
    );
}

#[test]
fn files_that_were_there_are_reported_only_on_demand() {
    if !can_follow() {
        return;
    }
    let (day, minute) = today();
    for (option, want) in [
        (ReportedFiles::None, 0),
        (ReportedFiles::New, 0),
        (ReportedFiles::All, 2),
    ] {
        let (_tree, events) = Tree::watch(files(option), |root| {
            for minute in [&minute[..], "20200101-0000"] {
                let path = root.join(&minute[..8]).join(minute);
                fs::create_dir_all(&path).unwrap();
                fs::write(path.join("entry"), "").unwrap();
            }
        });
        assert_eq!(reported(&events).len(), want, "{option:?} on {day}");
    }
}

#[test]
fn a_change_of_mode_is_reported() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(directories(), |root| {
        fs::create_dir_all(root.join("site1/20200101")).unwrap();
    });
    for path in ["site1", "site1/20200101"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(tree.root().join(path), mode).unwrap();
        assert_eq!(reported(&[tree.next()]), [path]);
    }
}

#[test]
fn after_an_overflow_everything_is_reported_again() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(directories(), |_| {});
    fs::create_dir_all(tree.root().join("site1/20200101")).unwrap();
    tree.watcher.lose_events();
    let events = tree.until_rescan();
    assert_eq!(reported(&events), ["site1", "site1/20200101"]);
    assert!(matches!(
        events.last(),
        Some(Event::Rescan(RescanReason::Overflow))
    ));
    fs::create_dir(tree.root().join("site1/20200101/20200101-0000")).unwrap();
    tree.until(|event| matches!(event, Event::Directory(d) if d.place == Place::UserMinute));
}

#[test]
fn the_tree_may_vanish_and_come_back() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(directories(), |_| {});
    let moved = tree.dir.path().join("moved");
    fs::rename(tree.root(), &moved).unwrap();
    let events = tree.until(|event| matches!(event, Event::Lost(RootError::Absent { .. })));
    assert!(
        matches!(events[0], Event::Lost(RootError::Gone { .. })),
        "{events:?}"
    );
    fs::create_dir_all(moved.join("site1")).unwrap();
    fs::create_dir_all(tree.root().join("site2")).unwrap();
    let events = tree.until_rescan();
    assert_eq!(reported(&events), ["site2"]);
    assert!(matches!(
        events.last(),
        Some(Event::Rescan(RescanReason::Returned))
    ));
    fs::create_dir(tree.root().join("site3")).unwrap();
    assert_eq!(reported(&[tree.next()]), ["site3"]);
}

#[test]
fn a_tree_that_is_not_there_yet_is_waited_for() {
    if !can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let watcher = Watcher::new(&dir.path().join("tree"), directories()).unwrap();
    let mut tree = Tree { dir, watcher };
    assert!(matches!(tree.next(), Event::Lost(RootError::Absent { .. })));
    symlink("/etc", tree.root()).unwrap();
    assert!(matches!(tree.next(), Event::Lost(RootError::Link { .. })));
    fs::remove_file(tree.root()).unwrap();
    fs::create_dir(tree.root()).unwrap();
    tree.until_rescan();
}

#[test]
fn a_directory_moved_within_the_tree_is_known_by_its_new_name() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(directories(), |root| {
        fs::create_dir_all(root.join("site1/20200101")).unwrap();
    });
    fs::rename(tree.root().join("site1"), tree.root().join("site2")).unwrap();
    tree.until(|event| matches!(event, Event::Directory(d) if d.place == Place::UserDay));
    fs::create_dir(tree.root().join("site2/20200101/20200101-0000")).unwrap();
    let events =
        tree.until(|event| matches!(event, Event::Directory(d) if d.place == Place::UserMinute));
    assert_eq!(reported(&events), ["site2/20200101/20200101-0000"]);
}

#[test]
fn a_directory_moved_out_of_the_tree_is_not_watched_any_more() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(directories(), |root| {
        fs::create_dir_all(root.join("site1/20200101")).unwrap();
    });
    assert_eq!(tree.watcher.watched(), 3);
    let outside = tree.dir.path().join("outside");
    fs::rename(tree.root().join("site1"), &outside).unwrap();
    fs::create_dir(outside.join("20200102")).unwrap();
    fs::create_dir(tree.root().join("site2")).unwrap();
    let events =
        tree.until(|event| matches!(event, Event::Directory(d) if d.path == Path::new("site2")));
    assert_eq!(reported(&events), ["site2"]);
    assert_eq!(tree.watcher.watched(), 1);
}

#[test]
fn the_number_of_watches_is_bounded_and_todays_are_kept() {
    if !can_follow() {
        return;
    }
    let (day, minute) = today();
    let (tree, _) = Tree::watch(files(ReportedFiles::New), |root| {
        fs::create_dir_all(root.join(&day).join(&minute)).unwrap();
        let start = Local::now().date_naive();
        for back in 5..200 {
            let name = day_name(start - Days::new(back));
            fs::create_dir_all(root.join(&name).join(format!("{name}-0000"))).unwrap();
        }
    });
    // The root, eight days, and for each of these at most its one minute.
    let watched = tree.watcher.watched();
    assert!((3..=17).contains(&watched), "{watched} watches");
    let mut tree = tree;
    fs::write(tree.root().join(&day).join(&minute).join("entry"), "").unwrap();
    tree.until(|event| matches!(event, Event::File(_)));
}

#[test]
fn every_file_in_a_burst_is_reported() {
    if !can_follow() {
        return;
    }
    let (mut tree, _) = Tree::watch(files(ReportedFiles::New), |_| {});
    let (day, minute) = today();
    let path = tree.root().join(day).join(minute);
    let mut want = 500;
    fs::create_dir_all(&path).unwrap();
    for number in 0..want {
        fs::write(path.join(number.to_string()), "").unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    while want > 0 {
        if let Event::File(path) = tree.next()
            && seen.insert(path)
        {
            want -= 1;
        }
    }
}

#[tokio::test]
async fn events_can_be_awaited() {
    if !can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut watcher = Watcher::new(dir.path(), directories()).unwrap();
    assert!(matches!(
        watcher.next().await.unwrap(),
        Event::Rescan(RescanReason::Started)
    ));
    let path = dir.path().join("site1");
    let (event, ()) = tokio::join!(watcher.next(), async {
        tokio::task::yield_now().await;
        fs::create_dir(&path).unwrap();
    });
    assert!(matches!(event.unwrap(), Event::Directory(d) if d.path == Path::new("site1")));
}

#[test]
fn a_site_that_closes_thousands_of_files_does_not_make_another_wait() {
    if !can_follow() {
        return;
    }
    let minutes = ["hostile", "other"].map(|site| format!("{site}/20260822/20260822-1015"));
    let (mut tree, _) = Tree::watch(files(ReportedFiles::New), |root| {
        for minute in &minutes {
            fs::create_dir_all(root.join(minute)).unwrap();
        }
    });
    let write = |minute: &str, name: String| {
        fs::write(tree.dir.path().join("tree").join(minute).join(name), "x").unwrap();
    };
    for number in 0..3000 {
        write(&minutes[0], format!("20260822-101500-{}", number % 1000));
    }
    write(&minutes[1], "20260822-101500-x".to_owned());
    let is_other = |event: &Event| matches!(event, Event::File(path) if path.starts_with("other"));
    let before = tree.until(is_other).len();
    // One after so many events, and those in the turns of walks.
    assert!(before < 100, "{before} events first");
}

/// A tree in which two users, who are not its owner's, have directories; `None` without root.
fn tree_of_two_users() -> Option<Tree> {
    let (mut tree, _) = Tree::watch(directories(), |root| {
        fs::create_dir_all(root.join("site1/20200101/20200101-0000")).unwrap();
        fs::create_dir_all(root.join("20200102/20200102-0000")).unwrap();
    });
    let owners = [
        ("site1", 64_001),
        ("20200102", 64_002),
        ("20200102/20200102-0000", 64_002),
    ];
    for (path, uid) in owners {
        if chown(tree.root().join(path), Some(uid), Some(uid)).is_err() {
            eprintln!("skipped: only root gives directories away");
            return None;
        }
    }
    // Watched anew, as its new owner's.
    tree.watcher.rescan();
    tree.until_rescan();
    Some(tree)
}

impl Tree {
    /// Changes the mode of a directory until the kernel does not tell of it any more.
    fn change_until_it_is_not_heard(&mut self, path: &str) {
        let heard = (0..200_000).find(|number| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700 + number % 2);
            fs::set_permissions(self.root().join(path), mode).unwrap();
            let mut fds = [PollFd::new(&self.watcher, PollFlags::IN)];
            let is_heard = poll(&mut fds, Some(&Timespec::default())).unwrap() > 0;
            while self.watcher.try_next().unwrap().is_some() {}
            !is_heard
        });
        assert!(heard.is_some(), "{path}: the kernel tells of every change");
    }
}

#[test]
fn endless_changes_are_not_even_heard_of() {
    if !can_follow() {
        return;
    }
    let paths = [
        "site1",
        "site1/20200101",
        "site1/20200101/20200101-0000",
        "20200102",
        "20200102/20200102-0000",
    ];
    std::thread::scope(|scope| {
        for path in paths {
            scope.spawn(move || change_without_end(path));
        }
    });
}

fn change_without_end(path: &str) {
    let Some(mut tree) = tree_of_two_users() else {
        return;
    };
    let is_it = |event: &Event| matches!(event, Event::Directory(d) if d.path == Path::new(path));
    tree.change_until_it_is_not_heard(path);
    // In the end it is looked at again, and heard of as before.
    tree.until(is_it);
    while tree.watcher.try_next().unwrap().is_some() {}
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o750);
    fs::set_permissions(tree.root().join(path), mode).unwrap();
    tree.until(is_it);
}

#[test]
fn a_shared_directory_is_reported_at_once_whoever_has_made_it() {
    if !can_follow() {
        return;
    }
    let Some(mut tree) = tree_of_two_users() else {
        return;
    };
    let path = "20200102/20200102-0001";
    let outside = tree.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    chown(&outside, Some(64_001), None).unwrap();
    tree.change_until_it_is_not_heard("site1");
    fs::rename(&outside, tree.root().join(path)).unwrap();
    let events: Vec<_> = std::iter::from_fn(|| tree.watcher.try_next().unwrap()).collect();
    let reported = reported(&events);
    assert!(reported.contains(&path.to_owned()), "{reported:?}");
}

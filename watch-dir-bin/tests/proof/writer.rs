//! What runs under another user's id: this test program again, told by variables what to do.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{Local, NaiveDateTime, TimeDelta};
use modsec_core::names::{MinuteDir, day_name};
use rustix::fs::{CWD, RenameFlags, renameat_with};

pub(crate) const ROLE: &str = "WATCH_DIR_TEST_ROLE";
pub(crate) const ARGUMENT: &str = "WATCH_DIR_TEST_ARGUMENT";
pub(crate) const TREE: &str = "WATCH_DIR_TEST_TREE";

/// Does nothing unless started by another test.
#[test]
fn act() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let argument = std::env::var(ARGUMENT).unwrap();
    let tree = PathBuf::from(std::env::var_os(TREE).unwrap());
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let numbers = match &role[..] {
        "log" => log_flat(&tree, &argument),
        "trees" => make_trees(&tree, &argument),
        "make" => make_directories(&tree, &argument),
        "swap" => swap_links(&tree, &argument),
        "collect" => collect(&tree),
        "steal" => steal(&tree),
        "flip" => flip(&tree, &argument),
        "move" => move_in(&tree, &argument),
        _ => panic!("unknown role {role}"),
    };
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    // Not by `println!`, which the test harness would keep.
    writeln!(io::stdout(), "RESULT {}", numbers.join(" ")).unwrap();
}

/// Logs as `ModSecurity` 2.9.2 does: the directory of the minute is created from the deepest level
/// upwards and down again, then the file is opened once. Reports records and losses.
///
/// `argument`: number of records, and the milliseconds between two.
fn log_flat(tree: &Path, argument: &str) -> Vec<u64> {
    let (count, pause) = argument.split_once(' ').unwrap();
    let (count, pause): (u64, u64) = (count.parse().unwrap(), pause.parse().unwrap());
    let uid = rustix::process::getuid().as_raw();
    let start = Instant::now();
    let mut lost = 0;
    for number in 0..count {
        let due = Duration::from_millis(number * pause);
        thread::sleep(due.saturating_sub(start.elapsed()));
        let now = Local::now().naive_local();
        let minute = tree
            .join(day_name(now.date()))
            .join(MinuteDir::at(now).to_string());
        if let Err(error) = log_one(
            &minute,
            &now.format("%Y%m%d-%H%M%S").to_string(),
            &format!("{uid}x{}", now.format("%6f")),
        ) {
            lost += 1;
            if lost <= 3 {
                eprintln!("lost at {now}: {error}");
            }
        }
    }
    vec![count, lost]
}

fn log_one(minute: &Path, time: &str, id: &str) -> io::Result<()> {
    let mkdir = |path: &Path| match DirBuilder::new().mode(0o777).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    };
    match mkdir(minute) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            mkdir(minute.parent().unwrap())?;
            mkdir(minute)?;
        }
        result => result?,
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(minute.join(format!("{time}-{id}")))?;
    let entry = format!(
        "--a1b2c3d4-A--\n[22/Aug/2026:10:15:00 +0000] {id} 192.0.2.1 40000 192.0.2.2 80\n\
         --a1b2c3d4-B--\nGET /{id} HTTP/1.1\nHost: www.example.org\n\n\
         --a1b2c3d4-F--\nHTTP/1.1 403 Forbidden\n\n"
    );
    file.write_all(entry.as_bytes())?;
    file.write_all(b"--a1b2c3d4-Z--\n\n")
}

/// Creates nested directories at full speed: the user's own, of many days and minutes, and flat
/// ones beside the other users. Reports how many there should be.
///
/// `argument`: name of the user, and how many minutes.
fn make_directories(tree: &Path, argument: &str) -> Vec<u64> {
    let (user, count) = argument.split_once(' ').unwrap();
    let count: i64 = count.parse().unwrap();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o777);
    let start = NaiveDateTime::default() + TimeDelta::days(20_000);
    for number in 0..count {
        let time = start + TimeDelta::minutes(number * 7);
        let minute = tree
            .join(user)
            .join(day_name(time.date()))
            .join(MinuteDir::at(time).to_string());
        builder.create(minute).unwrap();
    }
    let mut made = 0;
    for day in fs::read_dir(tree.join(user)).unwrap() {
        made += 1 + fs::read_dir(day.unwrap().path()).unwrap().count() as u64;
    }
    vec![made + 1]
}

/// Creates as many trees as `argument` says, with names that no user has. Reports how many.
fn make_trees(tree: &Path, argument: &str) -> Vec<u64> {
    let count = argument.parse().unwrap();
    for number in 0..count {
        fs::create_dir_all(tree.join(format!("x{number}/20260822"))).unwrap();
    }
    vec![count]
}

/// Swaps directories of its own tree for links, as fast as it can. Reports the number of swaps.
///
/// `argument`: for how many milliseconds at least, how many swaps at least, and where the links lead.
fn swap_links(tree: &Path, argument: &str) -> Vec<u64> {
    let (time, rest) = argument.split_once(' ').unwrap();
    let (least, target) = rest.split_once(' ').unwrap();
    let least: u64 = least.parse().unwrap();
    let end = Instant::now() + Duration::from_millis(time.parse().unwrap());
    let own = tree.join("mswsite3");
    fs::create_dir_all(own.join("20260822/20260822-1015")).unwrap();
    for (link, to) in [
        ("link", ""),
        ("deep", "20260822"),
        ("minute", "20260822/20260822-1015"),
    ] {
        symlink(Path::new(target).join(to), own.join(link)).unwrap();
    }
    symlink(target, tree.join(".own")).unwrap();
    let swap = |one: &Path, other: &Path| {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
    };
    let mut swaps = 0;
    let mut number = 0u32;
    // Swaps that never succeed are the end of it, too.
    while Instant::now() < end || (swaps < least && u64::from(number) < 1000 * least) {
        number += 1;
        swaps += u64::from(swap(&own.join("deep"), &own.join("20260822")));
        swaps += u64::from(swap(&own, &tree.join(".own")));
        swaps += u64::from(swap(&own, &tree.join(".own")));
        swaps += u64::from(swap(&own.join("20260822"), &own.join("deep")));
        let minute = own.join("20260822/20260822-1015");
        swaps += u64::from(swap(&own.join("minute"), &minute));
        swaps += u64::from(swap(&own.join("minute"), &minute));
        // New directories, replaced the moment they are noticed.
        let day = own.join(format!("2026{:02}{:02}", number % 12 + 1, number % 28 + 1));
        if fs::create_dir(&day).is_ok() {
            let _ = fs::remove_dir(&day);
            let _ = symlink(target, &day);
            let _ = fs::remove_file(&day);
        }
    }
    vec![swaps]
}

/// Reads the names of all entries and deletes them, as who collects without being root.
fn collect(tree: &Path) -> Vec<u64> {
    let mut removed = 0;
    for user in fs::read_dir(tree).unwrap() {
        for day in fs::read_dir(user.unwrap().path()).unwrap() {
            for minute in fs::read_dir(day.unwrap().path()).unwrap() {
                for entry in fs::read_dir(minute.unwrap().path()).unwrap() {
                    fs::remove_file(entry.unwrap().path()).unwrap();
                    removed += 1;
                }
            }
        }
    }
    vec![removed]
}

/// Tries to take away, to rename and to replace what other users have in a flat tree. Reports how
/// often it tried, and how often it succeeded.
fn steal(tree: &Path) -> Vec<u64> {
    let uid = rustix::process::getuid().as_raw();
    let aside = tree.join(format!("aside{uid}"));
    fs::create_dir(&aside).unwrap();
    let (mut tried, mut done) = (0, 0);
    let mut attempt = |result: io::Result<()>| {
        tried += 1;
        done += u64::from(result.is_ok());
    };
    for day in fs::read_dir(tree).unwrap().map(|day| day.unwrap().path()) {
        if day == aside {
            continue;
        }
        for minute in fs::read_dir(&day).unwrap().map(|at| at.unwrap().path()) {
            for entry in fs::read_dir(&minute).unwrap().map(|at| at.unwrap()) {
                if entry.metadata().unwrap().uid() != uid {
                    let own = minute.join(format!("own{uid}"));
                    fs::write(&own, "forged").unwrap();
                    attempt(fs::rename(&own, entry.path()));
                    attempt(fs::rename(entry.path(), aside.join(entry.file_name())));
                    attempt(fs::remove_file(entry.path()));
                    let _ = fs::remove_file(&own);
                }
            }
            attempt(fs::rename(&minute, minute.with_extension("moved")));
        }
        attempt(fs::rename(&day, day.with_extension("moved")));
    }
    fs::remove_dir_all(&aside).unwrap();
    vec![tried, done]
}

/// Moves directories into the tree: `argument` is words, from where and to where in turn. Reports
/// how many.
fn move_in(tree: &Path, argument: &str) -> Vec<u64> {
    let words: Vec<_> = argument.split(' ').collect();
    for pair in words.chunks(2) {
        fs::rename(pair[0], tree.join(pair[1])).unwrap();
    }
    vec![words.len() as u64 / 2]
}

/// Changes the modes of own directories as fast as it can. Reports how often.
///
/// `argument`: how often, and the directories.
fn flip(tree: &Path, argument: &str) -> Vec<u64> {
    let (count, paths) = argument.split_once(' ').unwrap();
    let paths: Vec<_> = paths.split(' ').map(|path| tree.join(path)).collect();
    let mut flips = 0;
    for (number, path) in (0..count.parse().unwrap()).zip(paths.iter().cycle()) {
        let mode = if number % 2 == 0 { 0o700 } else { 0o755 };
        fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        flips += 1;
    }
    vec![flips]
}

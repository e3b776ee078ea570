//! Following: what is finished is stored at once, whatever happens meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
mod junk;
mod site;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use self::inotify::can_follow;
use self::site::{Database as _, LIMIT, Running, Site, Sqlite, entries_of, entry, until};

/// So that nothing is found by walking.
const NO_WALKS: [&str; 2] = ["--rescan-every", "86400"];

/// Starts following and waits until it does.
fn following(site: &mut Site<Sqlite>, arguments: &[&str]) -> Running {
    let running = site.follow(arguments);
    // Stored by the first walk or by an event: either way, from then on it watches.
    site.put(10);
    site.wait_for_rows();
    running
}

fn until_done(site: &Site<Sqlite>) {
    site.wait_for_rows();
    until("files removed", || site.left().is_empty());
}

#[test]
fn what_is_written_while_following_is_stored_and_removed() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    site.put_all(300, 500);
    let running = site.follow(&NO_WALKS);
    site.put_all(2000, 500);
    until_done(&site);
    running.stop();
    site.check(&[&site.log], "2,000 files");
}

#[test]
fn an_incomplete_entry_is_left_alone_until_it_is_complete() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let running = following(&mut site, &["--rescan-every", "1", "--keep-dirs"]);
    let (half, bytes) = site.announce(2000);
    let (first, second) = bytes.split_at(1000);
    fs::write(&half, first).unwrap();
    let empty = half.with_file_name("20260304-050607-empty");
    fs::write(&empty, "").unwrap();
    // A link makes no event, so this one is found by a walk, and the walk saw the others as well.
    let path = junk::put_unnoticed(&mut site);
    until("the walk", || !path.exists());
    assert_eq!(fs::read(&half).unwrap(), first);
    assert!(empty.exists());
    fs::remove_file(&empty).unwrap();
    let mut file = fs::File::options().append(true).open(&half).unwrap();
    file.write_all(second).unwrap();
    drop(file);
    until_done(&site);
    running.stop();
    site.check(&[&site.log], "completed");
}

#[test]
fn an_entry_that_nobody_finishes_is_stored_and_flagged() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let arguments = ["--rescan-every", "1", "--stale-after", "2", "--keep-dirs"];
    let running = following(&mut site, &arguments);
    let minute = site.tree().join("site1/20260304/20260304-0507");
    fs::create_dir_all(&minute).unwrap();
    let path = minute.join("20260304-050708-cut");
    fs::write(&path, &entry("cut", 1000)[..900]).unwrap();
    until("the cut entry", || site.database.rows().contains_key("cut"));
    until("its file removed", || !path.exists());
    running.stop();
}

#[test]
fn a_name_that_is_used_again_and_again_never_yields_a_mixture() {
    const VERSIONS: usize = 2000;
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let running = following(&mut site, &[&NO_WALKS[..], &["--keep-dirs"]].concat());
    let minute = site.tree().join("site1/20260304/20260304-0507");
    fs::create_dir_all(&minute).unwrap();
    let path = minute.join("20260304-050708-same");
    // As under MPM-ITK: opened, truncated and written in place. Lengths go up and down.
    let version = |number: usize| entry(&format!("version{number:07}"), number * 7919 % 20_000);
    for number in 0..VERSIONS {
        fs::write(&path, version(number)).unwrap();
    }
    let last = format!("version{:07}", VERSIONS - 1);
    until("the last version", || {
        site.database.rows().contains_key(&last)
    });
    until("its file removed", || !path.exists());
    running.stop();
    // A version that was written to while it was moved aside, and could not be moved back since the
    // name was taken again, waits in the private directory for the next walk.
    let (status, text) = site.run();
    assert!(status.success(), "{text}");
    assert_eq!(site.left(), Vec::<PathBuf>::new());
    let rows = site.database.rows();
    let mut merged = entries_of(&site.log);
    assert_eq!(merged.len(), rows.len());
    assert!(rows.values().all(|count| *count == 1));
    merged.retain(|entry| !(0..VERSIONS).any(|number| *entry == version(number)));
    assert_eq!(merged.len(), 1, "besides versions only the first entry");
    eprintln!("{} of {VERSIONS} versions stored", rows.len() - 1);
}

#[test]
fn after_rotation_and_a_hangup_both_logs_are_written_anew() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let own = site.dir.path().join("own.log");
    let arguments = [&NO_WALKS[..], &["--log-file", own.to_str().unwrap()]].concat();
    let running = following(&mut site, &arguments);
    until_done(&site);
    let old = site.log.with_extension("log.1");
    fs::rename(&site.log, &old).unwrap();
    fs::rename(&own, own.with_extension("log.1")).unwrap();
    running.signal(Signal::HUP);
    until("new logs", || own.exists() && site.log.exists());
    site.put_all(10, 100);
    until_done(&site);
    running.stop();
    assert_eq!(
        (entries_of(&old).len(), entries_of(&site.log).len()),
        (1, 10)
    );
    site.check(&[&old, &site.log], "rotated");
    let text = fs::read_to_string(&own).unwrap();
    assert!(
        text.contains("reopened") && text.contains("stopped"),
        "{text}"
    );
}

#[test]
fn rotation_by_renaming_at_any_moment_loses_and_doubles_nothing() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let running = following(&mut site, &NO_WALKS);
    let mut logs = vec![site.log.clone()];
    for number in 0..30 {
        site.put_all(40, 2000);
        until("a new log", || site.log.exists());
        let old = site.log.with_extension(format!("log.{number}"));
        fs::rename(&site.log, &old).unwrap();
        logs.push(old);
        // Half of the times the next batch has to notice by itself.
        if number % 2 == 0 {
            running.signal(Signal::HUP);
        }
    }
    until_done(&site);
    running.stop();
    let logs: Vec<&Path> = logs.iter().map(PathBuf::as_path).collect();
    site.check(&logs, "rotated thirty times");
}

#[test]
fn rotation_by_copying_loses_nothing_of_the_store() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let running = following(&mut site, &NO_WALKS);
    let truncated = fs::File::options().write(true).open(&site.log).unwrap();
    for _ in 0..20 {
        site.put_all(20, 2000);
        truncated.set_len(0).unwrap();
    }
    until_done(&site);
    running.stop();
    let whole =
        |entry: &Vec<u8>| entry.starts_with(b"--1a2b3c4d-A--\n") && entry.ends_with(b"-Z--\n\n");
    assert!(entries_of(&site.log).iter().all(whole));
}

#[test]
fn a_storage_directory_that_is_replaced_is_followed() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let running = following(&mut site, &NO_WALKS);
    until_done(&site);
    fs::rename(site.tree(), site.dir.path().join("old")).unwrap();
    until("the loss", || {
        running.log().contains("storage directory lost")
    });
    fs::create_dir(site.tree()).unwrap();
    site.put_all(10, 100);
    until_done(&site);
    site.put_all(10, 100);
    until_done(&site);
    running.stop();
    site.check(&[&site.log], "replaced");
}

#[test]
fn the_service_manager_hears_that_it_is_ready_alive_and_ending() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    site.put(100);
    let path = site.dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let heard = |want: &str| {
        let mut bytes = [0; 512];
        loop {
            let len = socket
                .recv(&mut bytes)
                .unwrap_or_else(|_| panic!("no {want}"));
            if bytes[..len]
                .windows(want.len())
                .any(|part| part == want.as_bytes())
            {
                return;
            }
        }
    };
    let mut command = site.command();
    command.arg("--follow").env("NOTIFY_SOCKET", &path);
    let mut child = command.env("WATCHDOG_USEC", "200000").spawn().unwrap();
    heard("READY=1");
    for _ in 0..3 {
        heard("WATCHDOG=1");
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), Signal::INT).unwrap();
    heard("STOPPING=1");
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_contradicts_following_is_refused() {
    let site = Site::with_sqlite();
    for argument in ["--jsonl", "--dry-run", "/tmp/input"] {
        let status = site
            .command()
            .args(["--follow", argument])
            .output()
            .unwrap()
            .status;
        assert_eq!(status.code(), Some(2), "{argument}");
    }
}

#[test]
fn one_pass_beside_a_program_that_follows_is_refused() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let running = following(&mut site, &NO_WALKS);
    let (status, text) = site.run();
    assert_eq!(status.code(), Some(1), "{text}");
    assert!(text.contains("in use by modsec-parser (process"), "{text}");
    until_done(&site);
    running.stop();
    site.check(&[&site.log], "refused");
}

#[test]
fn what_is_wrong_at_the_start_ends_it_with_the_reason() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let fails = |site: &Site<Sqlite>| {
        let output = site.command().arg("--follow").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let nowhere = site.dir.path().join("nowhere");
    let log = std::mem::replace(&mut site.log, nowhere.join("log"));
    let text = fails(&site);
    assert!(text.contains("directory of merged log"), "{text}");
    site.log = log;
    site.database = Sqlite::at(nowhere.join("modsec.db"));
    let text = fails(&site);
    assert!(text.contains("nowhere"), "{text}");
    fs::remove_dir_all(site.tree()).unwrap();
    let text = fails(&site);
    assert!(text.contains("does not exist"), "{text}");
}

#[test]
fn without_enough_watches_the_tree_is_walked_and_the_setting_named() {
    const LIMITED: &str = "echo 2 > /proc/sys/user/max_inotify_watches && exec \"$@\"";
    if !can_follow() {
        return;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "sh", "-c", LIMITED, "sh"]);
    let mut probe = Command::new("unshare");
    let probe = probe.args(unshare.get_args()).arg("true").output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: the limit on watches cannot be set for one program here");
        return;
    }
    let mut site = Site::with_sqlite();
    let program = site.command();
    let arguments = program.get_args();
    unshare.arg(program.get_program()).args(arguments);
    unshare.args(["--follow", "--rescan-every", "1"]);
    let running = site.start(unshare);
    until("the message", || {
        site.put(10);
        running.log().contains("fs.inotify.max_user_watches")
    });
    site.put_all(100, 100);
    until_done(&site);
    running.stop();
    site.check(&[&site.log], "few watches");
}

#[test]
fn what_stays_is_named_once_and_again_when_it_changes() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    let running = following(&mut site, &["--rescan-every", "1", "--keep-dirs"]);
    let minute = site.tree().join("site1/20260304/20260304-0507");
    fs::create_dir_all(&minute).unwrap();
    let plant = |name: &str| symlink("/etc/passwd", minute.join(name)).unwrap();
    let named = || running.log().matches("symbolic link").count();
    plant("20260304-050708-one");
    until("the first message", || named() == 1);
    // A hard link makes no event: each of these is found by another walk.
    for number in 0..3 {
        let (path, bytes) = site.announce(10);
        let elsewhere = site.dir.path().join("elsewhere");
        fs::write(&elsewhere, bytes).unwrap();
        fs::hard_link(&elsewhere, &path).unwrap();
        fs::remove_file(&elsewhere).unwrap();
        until("a walk", || !path.exists());
        assert_eq!(named(), 1, "walk {number}");
    }
    plant("20260304-050708-two");
    until("the second message", || named() == 2);
    running.stop();
}

#[test]
fn where_other_programs_use_all_of_inotify_a_test_says_so_and_ends() {
    const NONE: &str = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    let without = |words: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "sh", "-c", NONE, "sh"]);
        unshare.args(words).output()
    };
    if !without(&["true"]).is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: user namespaces are not permitted here");
        return;
    }
    let tests = std::env::current_exe().unwrap();
    let one = "what_is_written_while_following_is_stored_and_removed";
    let ran = without(&[tests.to_str().unwrap(), "--exact", one]).unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{ran:?}");
    assert!(said.contains("fs.inotify.max_user_instances"), "{said}");
}

#[test]
fn what_was_too_young_when_it_started_is_not_left_to_the_next_walk() {
    if !can_follow() {
        return;
    }
    let mut site = Site::with_sqlite();
    // Closed before anybody watched, so no event comes.
    site.put_all(3, 100);
    let usual = site.command();
    let arguments = usual.get_args().map(|word| match word.to_str() {
        Some("0") => "2".as_ref(),
        _ => word,
    });
    let mut command = Command::new(usual.get_program());
    command
        .args(arguments)
        .args(NO_WALKS)
        .arg("--follow")
        .env_clear();
    for (name, value) in usual.get_envs() {
        command.env(name, value.unwrap());
    }
    let running = site.start(command);
    until_done(&site);
    running.stop();
}

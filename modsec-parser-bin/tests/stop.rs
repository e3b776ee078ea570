//! SIGTERM and SIGINT end a run at once, also while it reads what has no end. A run that has left
//! work says so; a service was asked to end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../modsec-core/tests/machine/inotify.rs"]
mod inotify;
#[path = "../../modsec-core/tests/machine/signals.rs"]
mod signals;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tempfile::TempDir;

use self::inotify::can_follow;
use self::signals::sleeps;

/// Longest time for what takes less than a second, on a machine with other work. What the tests
/// give to read takes longer.
const LIMIT: Duration = Duration::from_secs(60);

const ENTRY: &str = "--3fa0c41b-A--\n[04/Mar/2026:05:06:07 +0000] id 192.0.2.7 1 192.0.2.1 80\n\
    --3fa0c41b-B--\nGET / HTTP/1.1\n\n--3fa0c41b-F--\nHTTP/1.1 200\n\n\
    --3fa0c41b-H--\n\n--3fa0c41b-Z--\n";

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < LIMIT, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// What a client or a broken writer may repeat for ever.
fn patterns() -> Vec<(&'static str, Vec<u8>)> {
    let line = "h 192.0.2.7 /20261122/20261122-1436/20261122-143639-x 0 9 \
                md5:f4379ec14e40221beb05af5daf25ef7a \n";
    vec![
        ("no line end", b"x".to_vec()),
        ("empty lines", b"\n".to_vec()),
        ("objects", br#"{"a":"#.to_vec()),
        ("arrays", b"[1,".to_vec()),
        ("first lines", b"--aaaaaaaa-A--\n".to_vec()),
        ("entries", ENTRY.into()),
        ("index lines", line.into()),
    ]
}

fn program(dir: &TempDir, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("modsec-parser"));
    command
        .env("MODSEC_CONFIG", "none")
        .current_dir(dir.path())
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Returns how many bytes a process has read so far.
fn bytes_read(child: &Child) -> u64 {
    let io = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.map_or(0, |number| number.parse().unwrap())
}

/// Waits until the program has read so much, asks it to end, and waits for that: with this status.
fn stop(mut child: Child, after: u64, (signal, status): (Signal, i32), what: &str) {
    until(&format!("{what}: reading"), || {
        let reads = || bytes_read(&child) >= after && sleeps(&child).is_some();
        reads() || child.try_wait().unwrap().is_some()
    });
    assert!(
        child.try_wait().unwrap().is_none(),
        "{what}: ended by itself"
    );
    kill_process(Pid::from_child(&child), signal).unwrap();
    until(&format!("{what}: the end"), || {
        child.try_wait().unwrap().is_some()
    });
    let ended = child.wait().unwrap();
    assert_eq!(ended.code(), Some(status), "{what}");
}

/// What a run of which work is left ends with.
const TERMINATED: (Signal, i32) = (Signal::TERM, 143);
const INTERRUPTED: (Signal, i32) = (Signal::INT, 130);
/// What a service ends with.
const ENDED: (Signal, i32) = (Signal::TERM, 0);

/// Writes a pattern into the program's standard input until nobody reads it.
fn endless(mut command: Command, pattern: &[u8]) -> Child {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let text = pattern.repeat((1 << 16) / pattern.len() + 1);
    thread::spawn(move || while pipe.write_all(&text).is_ok() {});
    child
}

#[test]
fn a_pipe_without_end_is_left() {
    for (name, pattern) in patterns() {
        for arguments in [&["--jsonl", "-"][..], &["--store", "sqlite:x.db", "-"]] {
            let dir = tempfile::tempdir().unwrap();
            let child = endless(program(&dir, arguments), &pattern);
            stop(child, 1 << 20, TERMINATED, name);
        }
    }
}

#[test]
fn an_index_without_end_is_left() {
    if !can_follow() {
        return;
    }
    for (name, pattern) in patterns() {
        if !["no line end", "entries", "index lines"].contains(&name) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("audit")).unwrap();
        let arguments = ["--storage-dir", "audit", "--store", "sqlite:x.db"];
        let command = program(&dir, &[&arguments[..], &["--index", "-"]].concat());
        stop(endless(command, &pattern), 1 << 20, ENDED, name);
    }
}

#[test]
fn an_idle_pipe_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(&dir, &["--jsonl", "-"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(ENTRY.repeat(100).as_bytes()).unwrap();
    stop(child, 1 << 10, INTERRUPTED, "idle");
    drop(pipe);
}

/// Makes a gzip file of a pattern, of so many members of 64 MiB.
fn bomb(dir: &Path, pattern: &[u8], members: usize) {
    let plain = dir.join("plain");
    fs::write(&plain, pattern.repeat((1 << 26) / pattern.len())).unwrap();
    let mut gzip = Command::new("gzip");
    assert!(gzip.arg("-1").arg(&plain).status().unwrap().success());
    let member = fs::read(dir.join("plain.gz")).unwrap();
    let mut file = fs::File::create(dir.join("bomb.gz")).unwrap();
    for _ in 0..members {
        file.write_all(&member).unwrap();
    }
}

#[test]
fn a_compressed_log_of_many_gigabytes_is_left() {
    for (name, pattern) in patterns() {
        if ["empty lines", "entries"].contains(&name) {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        bomb(dir.path(), &pattern, 400);
        let child = program(&dir, &["--jsonl", "bomb.gz"]).spawn().unwrap();
        stop(child, 1 << 14, TERMINATED, name);
    }
}

#[test]
fn empty_members_without_number_are_left() {
    let dir = tempfile::tempdir().unwrap();
    let mut gzip = Command::new("gzip");
    let empty = gzip.stdin(Stdio::null()).output().unwrap().stdout;
    let many = empty.repeat((1 << 26) / empty.len());
    let mut file = fs::File::create(dir.path().join("bomb.gz")).unwrap();
    for _ in 0..8 {
        file.write_all(&many).unwrap();
    }
    let child = program(&dir, &["--jsonl", "bomb.gz"]).spawn().unwrap();
    stop(child, 1 << 17, TERMINATED, "empty members");
}

#[test]
fn a_file_of_a_terabyte_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let log = fs::File::create(dir.path().join("log")).unwrap();
    log.set_len(1 << 40).unwrap();
    fs::create_dir(dir.path().join("audit")).unwrap();
    let store = ["--store", "sqlite:x.db"];
    for arguments in [
        &["--jsonl", "log"][..],
        &["log"],
        &["--follow", "log", "--offset-file", "place"],
        &["--storage-dir", "audit", "--index", "log"],
        &["--storage-dir", "audit", "--index", "log", "--follow"],
    ] {
        if arguments.ends_with(&["--follow"]) && !can_follow() {
            continue;
        }
        let mut child = program(&dir, &[&store[..], arguments].concat());
        stop(
            { child }.spawn().unwrap(),
            1 << 22,
            if arguments.contains(&"--follow") {
                ENDED
            } else {
                TERMINATED
            },
            &arguments.join(" "),
        );
    }
}

#[test]
fn an_interrupted_pass_says_so_and_the_next_one_does_the_rest() {
    const FILES: usize = 3000;
    let dir = tempfile::tempdir().unwrap();
    let minute = dir.path().join("audit/20260304/20260304-0506");
    fs::create_dir_all(&minute).unwrap();
    for number in 0..FILES {
        let entry = ENTRY.replace("id 192", &format!("id{number} 192"));
        fs::write(minute.join(format!("20260304-050607-{number}")), entry).unwrap();
    }
    let tree = [
        "--storage-dir",
        "audit",
        "--store",
        "sqlite:x.db",
        "--min-age",
        "0",
    ];
    for (signal, status) in [INTERRUPTED, TERMINATED] {
        let mut command = program(&dir, &[&tree[..], &["--jsonl"]].concat());
        let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        // It waits, as what it writes is not read.
        let mut first = [0];
        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut first)
            .unwrap();
        let before = sleeps(&child);
        kill_process(Pid::from_child(&child), signal).unwrap();
        until("the signal", || sleeps(&child) > before);
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(status));
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(
            said.contains("interrupted: what is not stored yet is still in audit"),
            "{said}"
        );
        assert!(fs::read_dir(&minute).unwrap().count() > 0);
    }
    let out = program(&dir, &tree)
        .stdout(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(0));
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(
        said.contains(" 0 waiting") && !said.contains("interrupted"),
        "{said}"
    );
    assert!(!minute.exists() || fs::read_dir(&minute).unwrap().count() == 0);
}

#[test]
fn the_summary_of_an_interrupted_run_begins_with_that() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(&dir, &["--store", "sqlite:x.db", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(ENTRY.repeat(100).as_bytes()).unwrap();
    until("reading", || {
        bytes_read(&child) >= 1 << 10 && sleeps(&child).is_some()
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let out = child.wait_with_output().unwrap();
    drop(pipe);
    assert_eq!(out.status.code(), Some(130));
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.starts_with("interrupted: "), "{said}");
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(
        said.contains("interrupted: not everything was read"),
        "{said}"
    );
}

/// Bytes of the large entry. Reading it once takes a second.
const LARGE: u64 = 48 << 20;

/// Writes a tree of one entry, whose body is a pattern.
fn large_entry(dir: &Path, line: &str) {
    let minute = dir.join("audit/20261122/20261122-1436");
    fs::create_dir_all(&minute).unwrap();
    let mut file = fs::File::create(minute.join("20261122-143639-x")).unwrap();
    let (head, tail) = ENTRY.split_once("--3fa0c41b-F").unwrap();
    let chunk = line.repeat((1 << 20) / line.len());
    writeln!(file, "{head}--3fa0c41b-C--").unwrap();
    for _ in 0..LARGE / chunk.len() as u64 {
        file.write_all(chunk.as_bytes()).unwrap();
    }
    write!(file, "\n--3fa0c41b-F{tail}").unwrap();
}

/// Asks the program to end once it has read so much; returns how much it has read after that.
fn stop_reading(mut child: Child, after: u64) -> u64 {
    until("reading", || bytes_read(&child) >= after);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let read = bytes_read(&child);
    let pid = Pid::from_child(&child);
    // Its counts are there until somebody asks how it has ended.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).unwrap();
    let more = bytes_read(&child) - read;
    let status = child.wait().unwrap();
    assert!(matches!(status.code(), Some(0 | 143)), "{status}");
    more
}

#[test]
fn a_large_entry_is_left_and_taken_at_the_next_start() {
    for (line, reads) in [("--3fa0c41b-Z--\n", 0), ("--3fa0c41b-A--\n", 2), ("x", 1)] {
        let dir = tempfile::tempdir().unwrap();
        large_entry(dir.path(), line);
        let arguments = ["--min-age", "0", "--storage-dir", "audit"];
        let store = ["--store", "sqlite:x.db", "--merged-log", "merged.log"];
        let collect = || program(&dir, &[&arguments[..], &store].concat());
        // While it is decoded, hashed, or copied. Afterwards it was read once more, if the request
        // came at the last moment.
        let more = stop_reading(collect().spawn().unwrap(), reads * LARGE + (16 << 20));
        assert!(
            more < LARGE,
            "{line:?}, after {reads} times: {more} bytes more"
        );
        let merged = || fs::metadata(dir.path().join("merged.log")).unwrap().len();
        let first = merged();
        assert!(first == 0 || first > LARGE - (2 << 20), "{first}");
        assert!(collect().status().unwrap().success());
        assert!(merged() > LARGE - (2 << 20) && merged() < LARGE + (1 << 20));
        let database = rusqlite::Connection::open(dir.path().join("x.db")).unwrap();
        let count = database.query_row("select count(*) from logs", [], |row| row.get::<_, i64>(0));
        assert_eq!(count.unwrap(), 1);
    }
}

/// Entries of one minute in `audit`.
fn tree(dir: &Path, entries: usize) {
    let minute = dir.join("audit/20260304/20260304-0506");
    fs::create_dir_all(&minute).unwrap();
    for number in 0..entries {
        let entry = ENTRY.replace("id 192", &format!("id{number} 192"));
        fs::write(minute.join(format!("20260304-050607-{number}")), entry).unwrap();
    }
}

/// Asks a program that waits for a database to end; returns what it said.
fn stop_waiting(child: Child, (signal, status): (Signal, i32), what: &str) -> String {
    kill_process(Pid::from_child(&child), signal).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(status), "{what}: {said}");
    said
}

/// Waits until a process has the database open, and has had time to find it locked.
fn waits_for(child: &Child, database: &Path) {
    let database = database.canonicalize().unwrap();
    until("the database to be opened", || {
        let Ok(open) = fs::read_dir(format!("/proc/{}/fd", child.id())) else {
            return false;
        };
        let mut open = open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok());
        open.any(|path| path == database) && sleeps(child).is_some()
    });
}

#[test]
fn a_database_that_another_process_holds_is_no_reason_not_to_end() {
    const ENTRIES: usize = 20;
    for (signal, status) in [INTERRUPTED, TERMINATED] {
        for mode in ["delete", "wal"] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("x.db");
            let arguments = ["--storage-dir", "audit", "--store", "sqlite:x.db"];
            let more = ["--min-age", "0", "--merged-log", "merged.log"];
            let collect = || {
                let mut command = program(&dir, &[&arguments[..], &more].concat());
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command
            };
            tree(dir.path(), 0);
            assert!(collect().status().unwrap().success());
            tree(dir.path(), ENTRIES);
            let other = rusqlite::Connection::open(&path).unwrap();
            let lock = format!("pragma journal_mode = {mode}; begin exclusive");
            other.execute_batch(&lock).unwrap();

            let child = collect().spawn().unwrap();
            waits_for(&child, &path);
            let said = stop_waiting(child, (signal, status), mode);
            let want = "interrupted: what is not stored yet is still in audit";
            assert!(said.contains(want), "{mode}: {said}");

            other.execute_batch("rollback").unwrap();
            drop(other);
            let out = collect().output().unwrap();
            let said = String::from_utf8(out.stdout).unwrap();
            assert_eq!(out.status.code(), Some(0), "{said}");
            assert!(
                said.starts_with("20 entries, 20 stored, 0 already known, 20 removed"),
                "{said}"
            );
            let merged = fs::read_to_string(dir.path().join("merged.log")).unwrap();
            assert_eq!(merged.matches("-A--\n").count(), ENTRIES);
        }
    }
}

#[test]
fn a_service_whose_database_another_process_holds_ends_too() {
    if !can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    tree(dir.path(), 1);
    fs::write(dir.path().join("serial.log"), ENTRY).unwrap();
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("pragma journal_mode = wal; create table x (y); begin exclusive")
        .unwrap();
    for input in [
        &["--storage-dir", "audit", "--min-age", "0"][..],
        &["serial.log", "--offset-file", "offset"],
    ] {
        let arguments = ["--follow", "--store", "sqlite:x.db", "--merged-log", "none"];
        let mut command = program(&dir, &[&arguments[..], input].concat());
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        waits_for(&child, &path);
        let said = stop_waiting(child, ENDED, input[0]);
        assert!(!said.contains("too long"), "{said}");
    }
}

#[test]
fn a_rehearsal_whose_database_another_process_holds_ends_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.db");
    tree(dir.path(), 1);
    let other = rusqlite::Connection::open(&path).unwrap();
    other
        .execute_batch("create table x (y); begin exclusive; insert into x values (1)")
        .unwrap();
    let arguments = ["--storage-dir", "audit", "--store", "sqlite:x.db"];
    let mut command = program(&dir, &[&arguments[..], &["--dry-run"]].concat());
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    waits_for(&child, &path);
    let said = stop_waiting(child, TERMINATED, "--dry-run");
    assert!(said.contains("interrupted: "), "{said}");
}

#[test]
fn a_large_entry_of_a_followed_log_is_left_and_taken_at_the_next_start() {
    for (line, reads) in [("x", 0), ("x", 1), ("x", 2)] {
        let dir = tempfile::tempdir().unwrap();
        large_entry(dir.path(), line);
        let entry = dir
            .path()
            .join("audit/20261122/20261122-1436/20261122-143639-x");
        // One before it, and one behind it.
        let small = |id: &str| ENTRY.replace(" id ", &format!(" {id} ")) + "\n";
        let mut log = fs::File::create(dir.path().join("log")).unwrap();
        log.write_all(small("before").as_bytes()).unwrap();
        std::io::copy(&mut fs::File::open(entry).unwrap(), &mut log).unwrap();
        log.write_all(small("behind").as_bytes()).unwrap();
        let arguments = ["--follow", "log", "--offset-file", "place"];
        let store = ["--store", "sqlite:x.db", "--merged-log", "merged.log"];
        let follow = || {
            program(&dir, &[&arguments[..], &store].concat())
                .spawn()
                .unwrap()
        };
        // While it is read, decoded, hashed, or copied.
        let more = stop_reading(follow(), reads * LARGE + (16 << 20));
        assert!(
            more < LARGE,
            "{line:?}, after {reads} times: {more} bytes more"
        );
        let rows = || {
            let database = rusqlite::Connection::open(dir.path().join("x.db")).unwrap();
            let count = database.query_row("select count(*) from logs", [], |row| row.get(0));
            count.unwrap_or(0_i64)
        };
        let first = rows();
        assert!(first < 3, "{line:?}, after {reads} times: nothing left");
        let child = follow();
        until("the rest", || rows() == 3);
        stop(child, 0, ENDED, "the rest");
        let merged = fs::metadata(dir.path().join("merged.log")).unwrap().len();
        assert!(
            merged > LARGE - (2 << 20) && merged < LARGE + (1 << 20),
            "{merged}"
        );
    }
}

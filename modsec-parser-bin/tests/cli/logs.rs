//! Logs of many entries: every dialect, compressed, from a pipe, damaged, and the merged log again.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use super::site::{Site, entry, entry_with, files, run};

/// How long something may take that normally takes a second.
const LIMIT: Duration = Duration::from_secs(60);

fn serial(dialect: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../modsec-core/tests/data/serial")
        .join(dialect)
        .join("modsec_audit.log")
}

/// All columns of all rows that do not depend on where an entry was found.
fn rows(site: &Site) -> BTreeMap<String, String> {
    let db = Connection::open(site.path("logs.db")).unwrap();
    let mut query = db
        .prepare(
            "select lower(hex(entry_hash)), json_array(REQUEST_METHOD, REQUEST_URI, REMOTE_ADDR, ruleId,
                Host, msg, data, unique_id, severity, maturity, accuracy, User_Agent, responce_header,
                Engine_Mode, Score, SQLi, XSS, phase, created_at, client_ip, status_line, intercepted,
                flags, (select group_concat(json_array(position, m.ruleId, m.msg, m.data, m.tags, m.verified))
                        from modsec_alerts m where m.log_id = logs.id))
             from logs",
        )
        .unwrap();
    query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn serial_logs_of_every_dialect_become_rows_compressed_or_not() {
    for (dialect, entries, denied) in [
        ("v2-native-serial", 82, true),
        ("v3-native-serial", 81, true),
        ("v2-json-serial", 82, true),
        // Says nowhere what the engine did.
        ("v3-json-serial", 81, false),
    ] {
        let site = Site::new();
        let mut command = site.keeping();
        command.arg(serial(dialect));
        let said = format!("{entries} entries, {entries} stored");
        run(command).expect(0, &[&said]);
        assert_eq!(site.query::<i64>("select count(*) from logs"), entries);
        let matches: i64 = site.query("select count(distinct ruleId) from rule_matches");
        assert!(matches > 20, "{dialect}: {matches} rules");
        let intercepted: i64 = site.query("select count(*) from logs where intercepted");
        assert_eq!(intercepted > 20, denied, "{dialect}: {intercepted}");
        assert_eq!(
            site.query::<i64>("select count(*) from logs where created_at is null"),
            0
        );

        // The same log again, rotated and compressed, brings nothing new.
        let log = fs::read(serial(dialect)).unwrap();
        let packed = site.path("modsec_audit.log-20261123.gz");
        let mut gzip = Command::new("gzip");
        gzip.stdin(Stdio::piped())
            .stdout(fs::File::create(&packed).unwrap());
        let mut gzip = gzip.spawn().unwrap();
        gzip.stdin.take().unwrap().write_all(&log).unwrap();
        assert!(gzip.wait().unwrap().success());
        let mut command = site.keeping();
        command.arg(&packed);
        let said = format!("{entries} entries, 0 stored, {entries} already known");
        run(command).expect(0, &[&said]);

        // And from a pipe.
        run(in_shell(&site, &format!("\"$@\" - < {packed:?}"))).expect(0, &[&said]);
        run(in_shell(&site, &format!("zcat {packed:?} | \"$@\" -"))).expect(0, &[&said]);
    }
}

/// A line of shell in which `"$@"` is the program.
fn in_shell(site: &Site, line: &str) -> Command {
    let program = site.keeping();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", line, "sh"])
        .arg(program.get_program())
        .args(program.get_args());
    shell
        .env("MODSEC_CONFIG", "none")
        .current_dir(site.path(""));
    shell
}

#[test]
fn the_merged_log_read_again_gives_the_same_rows() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modsec-core/tests/data");
    let site = Site::new();
    let mut count = 0;
    for (path, bytes) in files(&data) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.components().any(|part| part.as_os_str() == "audit")
            && name.starts_with("20261122-")
        {
            let minute = site.spool().join("20200122/20200122-1200");
            fs::create_dir_all(&minute).unwrap();
            fs::write(minute.join(format!("20200122-120000-{count:06}")), bytes).unwrap();
            count += 1;
        }
    }
    assert!(count > 300, "{count} entries of all dialects");
    let mut command = site.collecting();
    command.args(["--stale-after", "0"]);
    run(command);
    let stored = rows(&site);
    let again = Site::new();
    let mut command = again.keeping();
    command.arg(site.path("merged.log"));
    run(command);
    let read = rows(&again);
    assert_eq!(stored.len(), read.len());
    for (hash, row) in &stored {
        assert_eq!(read.get(hash), Some(row), "{hash}");
    }
    // What was merged a second time is the same log.
    assert!(site.merged() == again.merged());
}

#[test]
fn several_records_in_one_file_are_as_many_rows_and_then_the_file_goes() {
    let place = |line: &str| -> (usize, usize) {
        let path = line.split('"').nth(3).unwrap();
        let (at, len) = path.split_once('@').unwrap().1.split_once('+').unwrap();
        (at.parse().unwrap(), len.parse().unwrap())
    };
    for dialect in ["v3-native-serial", "v3-json-serial"] {
        let bytes = fs::read(serial(dialect)).unwrap();
        let truth = fs::read_to_string(serial(dialect).with_file_name("truth.jsonl")).unwrap();
        let (at, len) = place(truth.lines().next().unwrap());
        let (next, next_len) = place(truth.lines().nth(1).unwrap());
        let site = Site::new();
        let both = [&bytes[at..at + len], &bytes[next..next + next_len]].concat();
        site.put(0, "both", &both);
        // The second one is not finished yet.
        let growing = site.put(0, "growing", &both[..both.len() - 10]);
        site.collect()
            .expect(0, &["2 entries, 2 stored", "1 removed", "1 waiting"]);
        assert_eq!(site.files(), [growing]);
    }
}

#[test]
fn what_is_wrong_with_one_record_of_a_file_harms_only_that() {
    let site = Site::new();
    let log = fs::read(serial("v3-json-serial")).unwrap();
    let records: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let odd = site.put(
        0,
        "odd",
        &[records[0], b"{\"foo\":1}\n", records[1]].concat(),
    );
    let many = site.put(0, "many", &records[2..70].concat());
    let ran = site.collect();
    ran.expect(3, &[" 70 stored", "1 removed", "no key of a transaction"]);
    assert!(!many.exists());
    assert_eq!(site.files(), [odd]);
}

#[test]
fn a_client_who_knows_the_boundary_makes_no_rows_of_others() {
    let site = Site::new();
    let record = |boundary: &str, client: &str, body: &str| {
        format!(
            "---{boundary}---A--\n[22/Nov/2020:11:50:10 +0000] 1.1 {client} 4711 198.51.100.4 80\n\
             ---{boundary}---B--\nPOST / HTTP/1.1\nTransfer-Encoding: chunked\n\n\
             ---{boundary}---C--\n{body}\n\n---{boundary}---F--\nHTTP/1.1 403\n\n\
             ---{boundary}---H--\n\n---{boundary}---Z--\n\n"
        )
    };
    let forged: String = (0..10)
        .map(|n| record(&format!("forged{n:02}"), "203.0.113.7", "x"))
        .collect();
    let (end, open) = (
        "---genuine0---F--\nHTTP/1.1 200\n\n---genuine0---H--\n\n---genuine0---Z--\n\n",
        "---genuine0---A--\n[22/Nov/2020:11:50:10 +0000] 1.1 203.0.113.7 4711 198.51.100.4 80\n\
         ---genuine0---B--\nPOST / HTTP/1.1\n\n---genuine0---C--\nx",
    );
    for (n, far) in ["", &"y\n".repeat(400_000)].into_iter().enumerate() {
        let body = format!("a\n\n{end}{forged}{open}{far}");
        site.put(
            n.try_into().unwrap(),
            "1.1",
            record("genuine0", "192.0.2.1", &body).as_bytes(),
        );
    }
    // Looked at where it lies, too.
    let mut history = site.program();
    history.args(["--jsonl", "audit"]);
    let seen = run(history);
    assert_eq!(seen.stdout.lines().count(), 2, "{}", seen.stdout);
    assert!(!seen.stdout.contains("203.0.113.7\""), "{}", seen.stdout);
    site.collect().expect(0, &["2 entries, 2 stored"]);
    let forged = "select count(*) from logs where REMOTE_ADDR <> '192.0.2.1'";
    assert_eq!(site.query::<i64>(forged), 0);
    let flagged = "select count(*) from logs where flags like '%ambiguous%'";
    assert_eq!(site.query::<i64>(flagged), 2);
}

#[test]
fn two_bodies_with_a_line_of_one_boundary_hide_no_request() {
    let site = Site::new();
    let line =
        "x\n---aaaaaaaa---A--\n[22/Nov/2020:11:50:10 +0000] 1.1 203.0.113.7 1 198.51.100.4 80\ny";
    let record = |n: usize| {
        let head = ["Transfer-Encoding: chunked", "Content-Length: 90"][n % 2];
        let body = if n < 4 { line } else { "z" };
        format!(
            "---{n:08}---A--\n[22/Nov/2020:11:50:10 +0000] 1.1 192.0.2.1 4711 198.51.100.4 80\n\
             ---{n:08}---B--\nPOST /{n} HTTP/1.1\n{head}\n\n\
             ---{n:08}---C--\n{body}\n\n---{n:08}---F--\nHTTP/1.1 403\n\n\
             ---{n:08}---H--\n\n---{n:08}---Z--\n\n"
        )
    };
    let file: String = (0..150).map(record).collect();
    site.put(0, "1.1", file.as_bytes());
    site.collect().expect(0, &["150 entries, 150 stored"]);
    let denied =
        "select count(*) from logs where REMOTE_ADDR = '192.0.2.1' and responce_header = 403";
    assert_eq!(site.query::<i64>(denied), 150);
}

#[test]
fn what_is_no_entry_is_named_by_its_offset_and_the_rest_is_stored() {
    let site = Site::new();
    let log = [&entry(1)[..], b"\nsome words\nmore\n", &entry(2), b"\n"].concat();
    fs::write(site.path("serial.log"), log).unwrap();
    let mut command = site.keeping();
    command.arg("serial.log");
    run(command).expect(
        3,
        &[
            "2 stored",
            "1 defective",
            "serial.log",
            "offset=",
            "some words",
            "belong to no entry",
        ],
    );
    let log = [b"its beginning is lost\n", &entry(3)[..]].concat();
    fs::write(site.path("cut.log"), log).unwrap();
    let mut command = site.keeping();
    command.arg("cut.log");
    let said = ["1 stored", "1 defective", "offset=0", "its beginning is"];
    run(command).expect(3, &said);
    for (text, said) in [
        ("<html>\nx\n", "not an audit log: line 1 is \"<html>\""),
        ("", "the file is empty"),
    ] {
        fs::write(site.path("other"), text).unwrap();
        let mut command = site.keeping();
        command.arg("other");
        run(command).expect(3, &["other", said]);
    }
    // A file that says it is compressed and breaks off.
    fs::write(
        site.path("broken.gz"),
        [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 2],
    )
    .unwrap();
    let mut command = site.keeping();
    command.arg("broken.gz");
    let ran = run(command);
    ran.expect(1, &["broken.gz"]);
}

#[test]
fn entries_that_were_written_into_each_other_are_flagged() {
    let site = Site::new();
    let first = String::from_utf8(entry(1)).unwrap();
    let second = String::from_utf8(entry(2))
        .unwrap()
        .replace("1a2b3c4d", "2b3c4d5e");
    let (head, tail) = first.split_at(first.find("Message").unwrap());
    fs::write(site.path("serial.log"), format!("{head}{second}\n{tail}\n")).unwrap();
    let mut command = site.keeping();
    command.arg("serial.log");
    run(command).expect(0, &["2 stored"]);
    let flags: String = site.query("select group_concat(flags, ' ') from logs");
    assert_eq!(flags.matches("interleaved").count(), 2, "{flags}");
    assert_eq!(flags.matches("unverified").count(), 2, "{flags}");
}

#[test]
fn a_large_entry_in_a_pipe_takes_little_memory_and_loses_nothing() {
    let site = Site::new();
    let body = "0123456789abcdef".repeat(1 << 18);
    let part = format!("--1a2b3c4d-C--\n{body}\n");
    let large = entry_with("large", "POST / HTTP/1.1\n", part.as_bytes());
    let log = [&entry(1)[..], b"\n", &large, b"\n", &entry(2), b"\n"].concat();
    fs::write(site.path("serial.log"), &log).unwrap();
    run(in_shell(&site, "cat serial.log | \"$@\" -")).expect(0, &["3 stored"]);
    assert!(site.merged_entries() == log);
}

struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Following {
    fn start(site: &Site) -> Following {
        let mut command = site.keeping();
        command
            .args(["--follow", "serial.log", "--offset-file", "place"])
            .stdout(Stdio::null())
            .stderr(
                fs::File::options()
                    .create(true)
                    .append(true)
                    .open(site.path("said"))
                    .unwrap(),
            );
        Following(command.spawn().unwrap())
    }

    fn stop(mut self) {
        let pid = Pid::from_child(&self.0);
        kill_process(pid, Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

fn append(site: &Site, name: &str, bytes: &[u8]) {
    let mut file = fs::File::options()
        .create(true)
        .append(true)
        .open(site.path(name))
        .unwrap();
    file.write_all(bytes).unwrap();
}

fn wait_for_rows(site: &Site, want: i64) {
    let end = Instant::now() + LIMIT;
    loop {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let rows = Connection::open_with_flags(site.path("logs.db"), flags)
            .and_then(|db| db.query_row("select count(*) from logs", [], |row| row.get(0)));
        if rows == Ok(want) {
            return;
        }
        let said = fs::read_to_string(site.path("said")).unwrap_or_default();
        assert!(
            Instant::now() < end,
            "{rows:?} instead of {want} rows; {said}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_rotated_log_is_read_to_its_end_also_if_everybody_may_write_to_it() {
    let site = Site::new();
    let serial = |number: usize| [&entry(number)[..], b"\n"].concat();
    append(&site, "serial.log", &serial(1));
    let following = Following::start(&site);
    wait_for_rows(&site, 1);
    wait_until("the offset", || site.path("place").exists());
    following.stop();
    append(&site, "serial.log", &serial(2));
    fs::set_permissions(site.path("serial.log"), fs::Permissions::from_mode(0o666)).unwrap();
    fs::rename(site.path("serial.log"), site.path("serial.log.1")).unwrap();
    append(&site, "serial.log", &serial(3));
    let following = Following::start(&site);
    wait_for_rows(&site, 3);
    following.stop();
}

#[test]
fn an_offset_file_that_is_removed_is_written_again() {
    let site = Site::new();
    append(&site, "serial.log", &entry(1));
    let following = Following::start(&site);
    let place = site.path("place");
    wait_until("the offset", || place.exists());
    fs::remove_file(&place).unwrap();
    wait_until("the offset without a new entry", || place.exists());
    following.stop();
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_an_open_entry_holds_up_is_stored_when_the_log_is_rotated() {
    let serial = |number: usize| [&entry(number)[..], b"\n"].concat();
    let open = String::from_utf8(entry(0)).unwrap();
    let open = open.replace("1a2b3c4d", "deadbeef");
    let (open, _) = open.split_once("--deadbeef-F--").unwrap();
    let hash = "0".repeat(32);
    let line = format!("# modsec-parser: the next 9000000 bytes are one entry, entry_hash {hash}");
    let far = "x\n".repeat(1 << 19);
    // An entry without end, and an announcement of more than comes.
    for (before, its_rows) in [
        (format!("{open}--deadbeef-C--\n{far}"), 1),
        (format!("{line}\n{far}"), 0),
    ] {
        let site = Site::new();
        let following = Following::start(&site);
        append(&site, "serial.log", before.as_bytes());
        for number in 1..20 {
            append(&site, "serial.log", &serial(number));
        }
        wait_until("the log is read", || site.path("place").exists());
        fs::rename(site.path("serial.log"), site.path("serial.log.1")).unwrap();
        for number in 20..30 {
            append(&site, "serial.log", &serial(number));
        }
        wait_for_rows(&site, 29 + its_rows);
        following.stop();
    }
}

#[test]
fn a_serial_log_is_followed_over_rotation_and_restarts() {
    let site = Site::new();
    let serial = |number: usize| [&entry(number)[..], b"\n"].concat();
    append(&site, "serial.log", &serial(1));
    let following = Following::start(&site);
    wait_for_rows(&site, 1);
    // An entry comes in pieces.
    let two = serial(2);
    append(&site, "serial.log", &two[..100]);
    append(&site, "serial.log", &two[100..]);
    wait_for_rows(&site, 2);
    // Rotation by renaming, with a late line to the old file.
    fs::rename(site.path("serial.log"), site.path("serial.log.1")).unwrap();
    append(&site, "serial.log.1", &serial(3));
    wait_for_rows(&site, 3);
    append(&site, "serial.log", &serial(4));
    wait_for_rows(&site, 4);
    // By copying and emptying.
    fs::write(site.path("serial.log"), serial(5)).unwrap();
    wait_for_rows(&site, 5);
    following.stop();
    // While nobody follows: more, and a rotation.
    append(&site, "serial.log", &serial(6));
    fs::rename(site.path("serial.log"), site.path("serial.log.1")).unwrap();
    append(&site, "serial.log", &serial(7));
    let following = Following::start(&site);
    wait_for_rows(&site, 7);
    // Killed at any moment, nothing is doubled.
    append(&site, "serial.log", &serial(8));
    drop(following);
    append(&site, "serial.log", &serial(9));
    let following = Following::start(&site);
    wait_for_rows(&site, 9);
    following.stop();
    let entries: Vec<Vec<u8>> = (1..=9).map(entry).collect();
    site.assert_kept(&entries);
}

/// Gives the log another name, and compresses it if that name says so.
fn rotate(site: &Site, name: &str, new: &str, age: u64) {
    let plain = new.strip_suffix(".gz").unwrap_or(new);
    // Long ago, so that nobody waits for a last line.
    let at = SystemTime::now() - Duration::from_secs(age);
    let log = fs::File::options().write(true).open(site.path(name));
    log.unwrap().set_modified(at).unwrap();
    fs::rename(site.path(name), site.path(plain)).unwrap();
    if plain != new {
        let gzip = Command::new("gzip").arg(site.path(plain)).status();
        assert!(gzip.unwrap().success());
    }
}

#[test]
fn whatever_rotation_calls_the_logs_none_is_lost_while_nobody_follows() {
    let serial = |number: usize| [&entry(number)[..], b"\n"].concat();
    for names in [
        ["serial.log-20261126", "serial.log-20261127"],
        ["serial.log-20261126.gz", "serial.log-20261127"],
        ["serial.log.2.gz", "serial.log.1.gz"],
        ["serial-20261126.log", "serial-20261127.log.gz"],
    ] {
        let site = Site::new();
        append(&site, "serial.log", &serial(1));
        let following = Following::start(&site);
        wait_for_rows(&site, 1);
        following.stop();
        append(&site, "serial.log", &serial(2));
        rotate(&site, "serial.log", names[0], 2000);
        append(&site, "serial.log", &serial(3));
        rotate(&site, "serial.log", names[1], 1000);
        append(&site, "serial.log", &serial(4));
        let following = Following::start(&site);
        wait_for_rows(&site, 4);
        following.stop();
        site.assert_kept(&(1..=4).map(entry).collect::<Vec<_>>());
        let said = fs::read_to_string(site.path("said")).unwrap();
        assert!(!said.contains("starting at its beginning"), "{said}");
    }
}

#[test]
fn a_log_that_was_replaced_while_nobody_followed_is_read_from_its_start() {
    let site = Site::new();
    let serial = |number: usize| [&entry(number)[..], b"\n"].concat();
    append(&site, "serial.log", &[serial(1), serial(2)].concat());
    let following = Following::start(&site);
    wait_for_rows(&site, 2);
    following.stop();
    // The same inode, other bytes.
    fs::write(
        site.path("serial.log"),
        [serial(3), serial(4), serial(5)].concat(),
    )
    .unwrap();
    let following = Following::start(&site);
    wait_for_rows(&site, 5);
    following.stop();
}

#[test]
fn following_more_than_one_log_or_none_that_can_be_read_is_refused() {
    let site = Site::new();
    fs::create_dir(site.path("dir")).unwrap();
    for (args, status, said) in [
        (&["--follow", "a", "b"][..], 2, "one INPUT"),
        (
            &["--follow", "dir", "--offset-file", "place"],
            1,
            "must be a plain file",
        ),
    ] {
        let mut command = site.keeping();
        command.args(args);
        run(command).expect(status, &[said]);
    }
}

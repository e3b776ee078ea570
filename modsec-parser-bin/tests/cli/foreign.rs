//! Logs as others pass them on: damaged, copied, wrapped, in formats that are not read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Pid, Signal, kill_process};

use super::inotify::can_follow;
use super::site::{Ran, Site, entry, run};
use super::wrapped::{take_off, utf16, wrapped};

/// Longest time that anything is waited for. Nothing is measured by it.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn field(name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modsec-core/tests/data/field");
    data.join(name)
}

pub(super) fn reading(site: &Site, name: impl AsRef<Path>) -> Command {
    let mut command = site.keeping();
    command.arg(name.as_ref());
    command
}

#[test]
fn zeros_marks_and_line_ends_of_windows_lose_no_entry() {
    for (name, status, said) in [
        ("nul-bom-crlf/nul-between.log", 3, "4 stored"),
        ("nul-bom-crlf/bom-json.log", 0, "2 stored"),
        ("nul-bom-crlf/crlf-native.log", 0, "4 stored"),
    ] {
        let site = Site::new();
        run(reading(&site, field(name))).expect(status, &[said]);
        // As standard input, and from a pipe, nothing new.
        for line in [r#""$@" - <"$LOG""#, r#"cat "$LOG" | "$@" -"#] {
            let program = site.keeping();
            let mut shell = Command::new("sh");
            shell
                .args(["-c", line, "sh"])
                .arg(program.get_program())
                .args(program.get_args())
                .env("LOG", field(name))
                .env("MODSEC_CONFIG", "none")
                .current_dir(site.path(""));
            run(shell).expect(status, &["0 stored"]);
        }
    }
}

#[test]
fn a_large_entry_of_a_copy_is_read() {
    let site = Site::new();
    let body = "x\n".repeat(400_000);
    let large = String::from_utf8(entry(1)).unwrap();
    let large = large.replacen(
        "--1a2b3c4d-F--",
        &format!("--1a2b3c4d-C--\n{body}\n--1a2b3c4d-F--"),
        1,
    );
    assert!(large.len() > body.len());
    fs::write(site.path("log"), &large).unwrap();
    fs::write(site.path("copy"), large.replace('\n', "\r\n")).unwrap();
    run(reading(&site, "log")).expect(0, &["1 stored"]);
    run(reading(&site, "copy")).expect(0, &["0 stored, 1 already known"]);
}

#[test]
fn what_stands_around_a_log_is_named_and_the_command_takes_it_off() {
    let native =
        String::from_utf8(entry(1)).unwrap() + "\n" + &String::from_utf8(entry(2)).unwrap();
    let json = fs::read_to_string(field("seconds-id/entry.json")).unwrap();
    for (log, entries) in [(native, 2), (json, 1)] {
        for (name, text) in wrapped(&log) {
            let site = Site::new();
            fs::write(site.path("log"), &text).unwrap();
            let ran = run(reading(&site, "log"));
            ran.expect(
                3,
                &[
                    "log",
                    "an audit log",
                    name,
                    "which is not read; take that off with",
                ],
            );
            assert!(!ran.stderr.contains("nobody needs"), "{}", ran.stderr);
            take_off(&site.path(""), &ran.stderr);
            let noun = if entries == 1 { "entry" } else { "entries" };
            let said = format!("{entries} {noun}, {entries} stored");
            run(reading(&site, "plain")).expect(0, &[&said]);
            // Nor is it followed.
            let mut command = site.keeping();
            command.args(["--follow", "log", "--offset-file", "place"]);
            run(command).expect(1, &["log to --follow", name, "take that off with"]);
        }
    }
}

#[test]
fn what_is_not_read_in_the_tree_is_named_and_nobody_is_told_to_remove_it() {
    let native = String::from_utf8(entry(1)).unwrap();
    for (name, text) in wrapped(&native) {
        let site = Site::new();
        let path = site.put(1, "x", &text);
        fs::copy(path, site.path("log")).unwrap();
        let mut command = site.collecting();
        command.args(["--stale-after", "0"]);
        let ran = run(command);
        ran.expect(3, &[name, "entry not read, file kept"]);
        assert!(!ran.stderr.contains("nobody needs"), "{}", ran.stderr);
        take_off(&site.path(""), &ran.stderr);
        run(reading(&site, "plain")).expect(0, &["1 stored"]);
    }
}

#[test]
fn several_forms_that_are_not_read_are_each_named_once() {
    let site = Site::new();
    let ocsf = r#"{"class_uid":6001,"type_uid":600101}"#;
    for number in 0..30 {
        site.put(1, format!("junk{number}"), b"<html>\n");
        site.put(1, format!("ocsf{number}"), format!("{ocsf}\n").as_bytes());
        site.put(1, format!("zeros{number}"), &[0; 300]);
        site.put(
            1,
            format!("utf16{number}"),
            &utf16(&String::from_utf8(entry(1)).unwrap()),
        );
    }
    let mut command = site.collecting();
    command.args(["--stale-after", "0"]);
    let ran = run(command);
    for said in [
        "line 1 is \"<html>",
        "Open Cybersecurity Schema Framework",
        "in UTF-16",
        "zeros, which a crash leaves",
    ] {
        let lines = ran.stderr.lines().filter(|line| line.contains(said));
        let named = lines.filter(|line| line.contains("20200101-000100-"));
        assert_eq!(named.count(), 1, "{said}: {}", ran.stderr);
    }
    for line in ran.stderr.lines() {
        let is_junk = !["Cybersecurity", "UTF-16"]
            .iter()
            .any(|form| line.contains(form));
        assert!(is_junk || !line.contains("nobody needs"), "{line}");
    }
}

#[test]
fn a_log_of_zeros_is_called_that() {
    let site = Site::new();
    fs::write(site.path("log"), vec![0; 100_000]).unwrap();
    run(reading(&site, "log")).expect(3, &["log", "zeros, which a crash leaves"]);
}

/// Runs a service until it has said all `words`, asks it to end, and returns what it said. Once it
/// is at work, something is done.
fn until_said(site: &Site, mut command: Command, then: impl FnOnce(), words: &[&str]) -> String {
    let path = site.path("said");
    let file = fs::File::create(&path).unwrap();
    let mut child = command.stderr(file).stdout(Stdio::null()).spawn().unwrap();
    let said = || fs::read_to_string(&path).unwrap();
    let since = Instant::now();
    let mut wait_for = |words: &[&str]| {
        while !words.iter().all(|word| said().contains(word)) {
            let is_running = child.try_wait().unwrap().is_none();
            let is_right = is_running && since.elapsed() < LIMIT;
            assert!(is_right, "{words:?} in {}", said());
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait_for(&["following"]);
    then();
    wait_for(words);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success(), "{}", said());
    said()
}

#[test]
fn a_followed_file_without_entries_is_said_to_be_none_once() {
    let index = r#"www 192.0.2.7 - - [22/Nov/2026:14:36:39 +0300] "GET / HTTP/1.1" 403 5 "-" "-" x "-" /20261122/20261122-1436/20261122-143639-x 0 5 md5:f4379ec14e40221beb05af5daf25ef7a "#;
    for (line, want) in [
        ("root:x:0:0:root:/root:/bin/bash", "line 1 is \"root:x:0:0"),
        (r#"{"time":"x","status":200}"#, "JSON that starts with"),
        (index, "the index of an audit log"),
        ("--1a2b3c4d-A--\r", "line ends of Windows"),
    ] {
        let site = Site::new();
        fs::write(site.path("log"), format!("{line}\n").repeat(30)).unwrap();
        let mut command = site.keeping();
        command.args(["--follow", "log", "--offset-file", "place"]);
        let message = "no entry in this log, waiting for one";
        let said = until_said(&site, command, || (), &[message]);
        assert_eq!(said.matches(message).count(), 1, "{said}");
        assert!(said.contains(want), "{want} in {said}");
        assert!(!said.contains("nobody needs"), "{said}");
    }
    // What comes at a rotation is looked at, too.
    let site = Site::new();
    fs::write(site.path("log"), entry(1)).unwrap();
    let mut command = site.keeping();
    command.args(["--follow", "log", "--offset-file", "place"]);
    let long_ago = SystemTime::now() - Duration::from_secs(100);
    let log = fs::File::options().append(true).open(site.path("log"));
    log.unwrap().set_modified(long_ago).unwrap();
    let lines = String::from_utf8(entry(2)).unwrap();
    let lines = lines.lines().map(|line| format!("web-1  | {line}\n"));
    fs::write(site.path("next"), lines.collect::<String>()).unwrap();
    let rotate = || {
        while !site.path("place").exists() {
            thread::yield_now();
        }
        fs::rename(site.path("log"), site.path("log.1")).unwrap();
        fs::rename(site.path("next"), site.path("log")).unwrap();
    };
    let said = until_said(&site, command, rotate, &["take that off with sed"]);
    assert!(said.contains("Docker Compose"), "{said}");
    assert_eq!(site.query::<i64>("select count(*) from logs"), 1);
}

#[test]
fn an_index_without_lines_of_one_is_said_to_be_none() {
    let docker = r#"{"log":"www 192.0.2.7 - -\n","stream":"stdout"}"#;
    for (line, want) in [
        (
            "root:x:0:0:root:/root:/bin/bash",
            "the first line is \"root:x:0:0",
        ),
        ("a b deadbeef", "the first line is \"a b deadbeef"),
        ("w\0w\0w\0", "in UTF-16"),
        (docker, "whole audit-log entries"),
    ] {
        let site = Site::new();
        fs::write(site.path("index"), format!("{line}\n").repeat(30)).unwrap();
        let with = |arguments: &[&str]| {
            let mut command = site.collecting();
            command.args(arguments);
            command
        };
        let message = "no line of an index in this file, waiting for one";
        let ran = run(with(&["--index", "index"]));
        assert!(ran.stderr.contains(want), "{want} in {ran:#?}");
        if ran.status == Some(1) {
            continue;
        }
        assert_eq!(ran.stderr.matches(message).count(), 1, "{ran:#?}");
        // Those lines are known; more of them are not.
        let more = run(with(&["--index", "index"]));
        assert!(!more.stderr.contains(message), "{more:#?}");
        if can_follow() {
            let follow = with(&["--index", "index", "--follow"]);
            fs::write(site.path("index"), format!("{line}\n").repeat(40)).unwrap();
            let said = until_said(&site, follow, || (), &[message]);
            assert_eq!(said.matches(message).count(), 1, "{said}");
        }
        let mut pipe = with(&["--index", "-"]);
        pipe.stdin(fs::File::open(site.path("index")).unwrap());
        let ran = Ran::from(pipe.output().unwrap());
        assert_eq!(ran.stderr.matches(message).count(), 1, "{line:?}: {ran:#?}");
        assert!(ran.stderr.contains(want), "{want} in {ran:#?}");
    }
}

#[test]
fn ocsf_is_named() {
    let site = Site::new();
    let event = r#"{"activity_id":1,"category_uid":6,"class_uid":6001,"http_request":{"http_method":"GET"},"type_uid":600101}"#;
    fs::write(site.path("log"), format!("{event}\n{event}\n")).unwrap();
    let said = [
        "Open Cybersecurity Schema Framework",
        "SecAuditLogFormat JSON",
    ];
    run(reading(&site, "log")).expect(3, &said);
}

#[test]
fn advice_fits_what_somebody_named() {
    let site = Site::new();
    fs::create_dir(site.path("etc")).unwrap();
    for name in ["passwd", "group"] {
        fs::write(
            site.path("etc").join(name),
            "root:x:0:0:root:/root:/bin/bash\n",
        )
        .unwrap();
    }
    symlink("../init.d/apache2", site.path("etc/S01apache2")).unwrap();
    for (input, said) in [
        ("etc/passwd", "no entry in this input; name an audit log"),
        ("etc", "passed over"),
    ] {
        let ran = run(reading(&site, input));
        assert!(ran.stderr.contains(said), "{}", ran.stderr);
        for word in ["nobody needs", "remove"] {
            assert!(!ran.stderr.contains(word), "{}", ran.stderr);
        }
    }
}

#[test]
fn line_feeds_behind_the_last_part_make_no_file_wait() {
    let site = Site::new();
    let v3 = fs::read_to_string(field("uri-cut/real.log")).unwrap();
    let mut put = 0;
    for lfs in 0..4 {
        let v2 = String::from_utf8(entry(lfs)).unwrap();
        let z = v2.trim_end().to_owned() + &"\n".repeat(lfs);
        site.put(1, format!("20200122-120100-{lfs}"), z.as_bytes());
        let v3 = v3.trim_end().replace("/a%3fb", &format!("/{lfs}"));
        let v3 = v3.replace("[uri \"/a\"]", &format!("[uri \"/{lfs}/deny\"]"));
        let z = v3 + &"\n".repeat(lfs);
        site.put(2, format!("20200122-120200-{lfs}"), z.as_bytes());
        put += 2;
    }
    let said = format!("{put} entries, {put} stored, 0 already known, {put} removed, 0 defective");
    run(site.collecting()).expect(0, &[&said]);
    assert_eq!(
        site.query::<i64>("select count(*) from logs where flags is not null"),
        0
    );
    // The merged log has the same entries.
    let again = Site::new();
    run(reading(&again, site.path("merged.log"))).expect(0, &[&format!("{put} stored")]);
    let hashes = |site: &Site| -> String {
        site.query(
            "select group_concat(hex(entry_hash)) from (select entry_hash from logs order by 1)",
        )
    };
    assert_eq!(hashes(&again), hashes(&site));
}

/// Compresses a file.
fn gzip(path: &Path) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    gzip.arg("-c").arg(path).output().unwrap().stdout
}

#[test]
fn a_compressed_log_that_was_cut_off_is_called_that() {
    let site = Site::new();
    let log: Vec<u8> = (0..400)
        .flat_map(|n| [&entry(n)[..], b"\n"].concat())
        .collect();
    fs::write(site.path("log"), log).unwrap();
    let packed = gzip(&site.path("log"));
    fs::write(site.path("cut.gz"), &packed[..packed.len() / 2]).unwrap();
    let ran = run(reading(&site, "cut.gz"));
    ran.expect(
        1,
        &[
            "not read to its end",
            "cut.gz",
            "the end of the compressed file is missing",
        ],
    );
    assert!(
        !ran.stderr.contains("could not be opened"),
        "{}",
        ran.stderr
    );
    let (_, count) = ran.stderr.split_once("error=").unwrap();
    let (count, _) = count.split_once(" entries were read").unwrap();
    let count: i64 = count.parse().unwrap();
    assert!((10..400).contains(&count), "{}", ran.stderr);
    assert_eq!(site.query::<i64>("select count(*) from logs"), count);
    let mut bad = packed.clone();
    // The checksum.
    let place = bad.len() - 8;
    bad[place] ^= 1;
    fs::write(site.path("bad.gz"), bad).unwrap();
    let ran = run(reading(&site, "bad.gz"));
    ran.expect(
        1,
        &[
            "not read to its end",
            "entries were read",
            "the compressed file is damaged",
        ],
    );
}

#[test]
fn what_stands_behind_a_whole_compressed_log_is_called_garbage() {
    let site = Site::new();
    fs::write(site.path("log"), entry(1)).unwrap();
    let packed = gzip(&site.path("log"));
    fs::write(site.path("log.gz"), [&packed[..], b"garb"].concat()).unwrap();
    let mut check = Command::new("gzip");
    let said = check.arg("-t").arg(site.path("log.gz")).output().unwrap();
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("trailing garbage ignored"), "{said}");
    let ran = run(reading(&site, "log.gz"));
    ran.expect(3, &["log.gz", "1 stored", "trailing garbage ignored"]);
    assert!(!ran.stderr.contains("missing"), "{}", ran.stderr);
    // Zeros fill up a block.
    fs::write(site.path("log.gz"), [&packed[..], &[0; 500]].concat()).unwrap();
    run(reading(&site, "log.gz")).expect(0, &["1 already known"]);
}

#[test]
fn an_index_is_called_one_compressed_or_not() {
    let site = Site::new();
    let line = r#"www 192.0.2.7 - - [22/Nov/2026:14:36:39 +0300] "GET / HTTP/1.1" 403 5 "-" "-" x "-" /20261122/20261122-1436/20261122-143639-x 0 5 md5:f4379ec14e40221beb05af5daf25ef7a "#;
    fs::write(site.path("index"), format!("{line}\n").repeat(3)).unwrap();
    fs::write(site.path("index.gz"), gzip(&site.path("index"))).unwrap();
    for name in ["index", "index.gz"] {
        run(reading(&site, name)).expect(3, &[name, "the index of an audit log", "--index"]);
    }
    // It does not grow any more.
    let mut command = site.collecting();
    command.args(["--index", "index.gz"]);
    run(command).expect(1, &["index.gz", "compressed"]);
}

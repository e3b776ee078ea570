//! A log that is followed and has nothing that counts: said once, and how to mend it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;
#[path = "../../modsec-core/tests/wrapped/mod.rs"]
mod wrapped;

use std::fs::{self, File};
use std::process::Stdio;
use std::thread;

use crate::program::inotify::can_follow;
use crate::program::{Place, Running, entry, wait_for};
use crate::wrapped::{take_off, wrapped};

/// What is said of a log without entries, and of an index without lines.
const NO_ENTRY: &str = "no entry in this log, waiting for one";
const NO_LINE: &str = "no line of an index in this file, waiting for one";

/// Follows a log, with what the program says in the file `said`.
fn follow(place: &Place, arguments: &[&str]) -> Running {
    let said = File::create(place.path("said")).unwrap();
    let mut command = place.recidive(&["--threshold", "1"]);
    command.args(arguments).arg("-v").stdout(Stdio::null());
    let running = Running::of(command.stderr(said).spawn().unwrap());
    wait_for("the program", || said_by(place).contains("ready"));
    running
}

fn said_by(place: &Place) -> String {
    fs::read_to_string(place.path("said")).unwrap()
}

fn lines_of_index(count: usize) -> String {
    let line = r#"www 192.0.2.7 - - [22/Aug/2026:10:15:00.026716 +0200] "GET / HTTP/1.1" 403 57 "-" "-" awLTx2NZOYE2v-Kd-3Z8jAAAAAE "-" /site2/20260822/20260822-1015/20260822-101500-awLTx2NZOYE2v-Kd-3Z8jAAAAAE 0 22099 md5:f4379ec14e40221beb05af5daf25ef7a "#;
    format!("{line}\n").repeat(count)
}

fn entries(client: &str, count: u32) -> String {
    (0..count)
        .map(|second| entry(client, second, "", "403 Forbidden") + "\n")
        .collect()
}

/// Follows the file `log` and makes `plain` of it by the command in the one message.
fn said_once(place: &Place, source: &str, message: &str, name: &str) {
    let running = follow(place, &["--source", source, "--merged-log", "log"]);
    wait_for(name, || said_by(place).contains(message));
    assert!(running.stop().success());
    let said = said_by(place);
    assert_eq!(said.matches(message).count(), 1, "{said}");
    for word in [name, "path=\"log\"", "offset=0", "take that off with"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    assert!(place.jail().is_empty());
    take_off(&place.path(""), &said);
    fs::remove_file(place.path("log")).unwrap();
}

#[test]
fn what_stands_around_a_log_is_said_once_and_the_command_takes_it_off() {
    if !can_follow() {
        return;
    }
    let merged = (entries("192.0.2.7", 30), "merged-log", NO_ENTRY);
    let index = (lines_of_index(30), "index=log", NO_LINE);
    for (log, source, message) in [merged, index] {
        // They wait most of the time.
        thread::scope(|scope| {
            for (name, text) in wrapped(&log) {
                scope.spawn(move || wrapped_log(name, &text, source, message));
            }
        });
    }
}

fn wrapped_log(name: &str, text: &[u8], source: &str, message: &str) {
    let place = Place::new();
    fs::write(place.path("log"), text).unwrap();
    said_once(&place, source, message, name);
    // Line ends of Windows are the second thing.
    let plain = fs::read(place.path("plain")).unwrap();
    if message == NO_ENTRY && plain.windows(2).any(|two| two == b"\r\n") {
        fs::rename(place.path("plain"), place.path("log")).unwrap();
        said_once(&place, source, message, "line ends of Windows");
    }
    fs::rename(place.path("plain"), place.path("log")).unwrap();
    let running = follow(&place, &["--source", source, "--merged-log", "log"]);
    assert_eq!(place.reported(30), ["192.0.2.7"; 30], "{name}");
    assert!(running.stop().success());
    let said = said_by(&place);
    assert!(!said.contains(message), "{name}: {said}");
}

#[test]
fn a_replay_names_what_stands_around_an_index() {
    let index = lines_of_index(20);
    for (name, text) in wrapped(&index) {
        let place = Place::new();
        fs::write(place.path("log"), text).unwrap();
        let output = place.recidive(&["replay", "log"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(name), "{name}: {said}");
        take_off(&place.path(""), &said);
        let output = place
            .recidive(&["replay", "--json", "plain"])
            .output()
            .unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["attacks"], 20, "{name}: {said:#}");
    }
}

#[test]
fn a_replay_says_why_no_line_of_an_index_counts() {
    let v3 = "h 192.0.2.7 - [22/Nov/2026:14:36:39 +0300] \"GET / HTTP/1.1\" 403 0 - \"x\" 1 - \
              /srv/audit/20261122/20261122-1436/20261122-143639-1.2 0 7.000000 \
              md5:00000000000000000000000000000001\n";
    let place = Place::new();
    fs::write(place.path("log"), v3.repeat(3)).unwrap();
    let output = place.recidive(&["replay", "log"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("none of them counts"), "{said}");
}

#[test]
fn a_replay_names_what_is_compressed() {
    for (name, head) in [
        ("xz", &b"\xfd7zXZ\0\0\x04"[..]),
        ("zstd", b"\x28\xb5\x2f\xfd\x04"),
        ("bzip2", b"BZh91AY&SY"),
    ] {
        let place = Place::new();
        fs::write(place.path("log"), [head, &[0x93; 100]].concat()).unwrap();
        let output = place.recidive(&["replay", "log"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let want =
            format!("compressed with {name}, which is not read; take that off with {name} -dc");
        assert!(said.contains(&want), "{said}");
        let minute = place.path("audit/site/20260822/20260822-1015");
        fs::create_dir_all(&minute).unwrap();
        fs::rename(place.path("log"), minute.join("20260822-101500-x")).unwrap();
        let output = place.recidive(&["replay", "audit"]).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(&want), "{said}");
    }
}

#[test]
fn any_other_file_is_said_to_be_none() {
    if !can_follow() {
        return;
    }
    let ocsf = r#"{"class_uid":6001,"type_uid":600101}"#;
    let json = r#"{"time":"x","status":200}"#;
    let v3 = "h 192.0.2.7 - [22/Nov/2026:14:36:39 +0300] \"GET / HTTP/1.1\" 403 0 - \"x\" 1 - \
              /srv/audit/20261122/20261122-1436/20261122-143639-1.2 0 7.000000 \
              md5:00000000000000000000000000000001";
    let passwd = "root:x:0:0:root:/root:/bin/bash";
    let (index, whole) = (lines_of_index(1), entries("192.0.2.7", 1));
    thread::scope(|scope| {
        for (source, text, want) in [
            ("merged-log", passwd, "line 1 is \"root:x:0:0"),
            ("merged-log", ocsf, "Open Cybersecurity Schema Framework"),
            ("merged-log", json, "JSON that starts with"),
            ("merged-log", v3, "the index of an audit log"),
            ("merged-log", &*index, "--source index=FILE"),
            ("merged-log", "--1a2b3c4d-A--\r\nx", "line ends of Windows"),
            ("index=log", passwd, "the first line is \"root:x:0:0"),
            ("index=log", ocsf, "Open Cybersecurity Schema Framework"),
            ("index=log", &*whole, "whole entries"),
            ("index=log", v3, "an index of libmodsecurity"),
        ] {
            scope.spawn(move || strange_log(source, text, want));
        }
    });
}

fn strange_log(source: &str, text: &str, want: &str) {
    let place = Place::new();
    let text = format!("{}\n", text.trim_end()).repeat(3);
    fs::write(place.path("log"), text).unwrap();
    let running = follow(&place, &["--source", source, "--merged-log", "log"]);
    wait_for(want, || said_by(&place).contains("waiting for one"));
    assert!(running.stop().success());
    let said = said_by(&place);
    assert_eq!(said.matches("waiting for one").count(), 1, "{said}");
    assert!(said.contains(want), "{want} in {said}");
}

#[test]
fn each_rotated_log_is_spoken_of_once_and_a_sound_one_ends_it() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    let rotate = |number: usize, text: &str| {
        fs::write(place.path("next"), text).unwrap();
        let _ = fs::rename(place.path("log"), place.path(&format!("log.{number}")));
        fs::rename(place.path("next"), place.path("log")).unwrap();
    };
    rotate(1, "no log at all\n");
    let running = follow(&place, &["--source", "merged-log", "--merged-log", "log"]);
    for number in 1..4 {
        wait_for("the message", || {
            said_by(&place).matches(NO_ENTRY).count() == number
        });
        rotate(number, &format!("number {number}\n").repeat(100));
    }
    rotate(9, &entries("192.0.2.7", 2));
    assert_eq!(place.reported(2).len(), 2);
    assert!(running.stop().success());
    let said = said_by(&place);
    assert!(said.matches(NO_ENTRY).count() <= 4, "{said}");
}

#[test]
fn a_log_that_begins_or_ends_in_the_middle_of_an_entry_is_nothing_to_speak_of() {
    if !can_follow() {
        return;
    }
    let one = entry("192.0.2.7", 1, "", "403 Forbidden");
    let json = r#"{"transaction":{"time":"22/Aug/2026:10:15:00 +0200","transaction_id":"a","remote_address":"192.0.2.7"},"request":{"headers":{}},"response":{"status":403}}"#;
    let place = Place::new();
    let mut number = 0;
    let mut rotate = |text: &[u8]| {
        number += 1;
        fs::write(place.path("next"), text).unwrap();
        let _ = fs::rename(place.path("log"), place.path(&format!("log.{number}")));
        fs::rename(place.path("next"), place.path("log")).unwrap();
    };
    rotate(b"");
    let running = follow(&place, &["--source", "merged-log", "--merged-log", "log"]);
    let mut reported = 0;
    for part in 0..8 {
        // The rest alone, and each log is at its end before the next one comes.
        let at = one.len() * part / 8;
        rotate(&one.as_bytes()[at..]);
        rotate(&json.as_bytes()[json.len() * part / 8..]);
        rotate(b"");
        // An entry behind the rest, told from others by its second.
        reported += 1;
        let next = entry("198.51.100.9", reported, "", "403 Forbidden");
        rotate(
            [&one[one.len() * (part + 1) / 9..], "\n", &next]
                .concat()
                .as_bytes(),
        );
        wait_for("the entry behind the rest", || {
            let jail = place.jail();
            let lines = jail.iter().filter(|line| line.starts_with("198.51.100.9 "));
            lines.count() == reported as usize
        });
    }
    assert!(running.stop().success());
    let said = said_by(&place);
    assert!(!said.contains("waiting for one"), "{said}");
}

//! A log with an entry that a full disk cut off: nobody pays for what stands behind it.

mod program;

use std::fs;
use std::path::{Path, PathBuf};

use crate::program::Place;
use crate::program::inotify::can_follow;

fn field(name: &str) -> PathBuf {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modsec-core/tests/data/field");
    data.join(name)
}

/// An entry that was cut off, and the next one, written right behind it.
fn cut_logs() -> Vec<(String, String)> {
    let text = fs::read_to_string(field("cut/innocent.log")).expect("a log");
    let (cut, next) = text.split_at(text.find("--bbbb").expect("the next entry"));
    let mut logs = vec![(cut.to_owned(), next.to_owned())];
    // Of one boundary, as under MPM-ITK, and cut in a body.
    let data = "../modsec-core/tests/data/serial/v2-native-serial/modsec_audit.log";
    let log = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(data)).expect("a log");
    let log = String::from_utf8_lossy(&log);
    let first_line = "--74fcf803-A--\n";
    let entries: Vec<&str> = log.split(first_line).skip(1).collect();
    let of = |n: usize, client: &str| {
        let entry = entries[n].replacen(" 127.0.0.1 ", &format!(" {client} "), 1);
        format!("{first_line}{entry}")
    };
    let posted = of(3, "192.0.2.200");
    let denied = entries.iter().position(|entry| entry.contains("10006"));
    let denied = of(denied.expect("an entry that was denied"), "203.0.113.66");
    for line in ["-C--\nname", "-E--\n", "-E--\n<html>"] {
        let len = posted.find(line).expect("the line") + line.len();
        logs.push((posted[..len].to_owned(), denied.clone()));
        // The same, with the clock set back in between.
        let earlier = denied.replacen("2026:06:", "2026:05:", 1);
        assert_ne!(earlier, denied);
        logs.push((posted[..len].to_owned(), earlier));
    }
    // Near in time: behind a body that takes seconds to write, or in the next second.
    logs.extend([(3, 4 << 20), (1, 20)].map(|(later, len)| near(later, len)));
    logs
}

/// An entry that was cut off in a body of this length, and one whose request arrived so many seconds later.
fn near(later: u32, len: usize) -> (String, String) {
    let first = |second: u32, id: &str, client: &str| {
        format!(
            "--74fcf803-A--\n[22/Nov/2026:06:40:{second} +0000] {id} {client} 40112 192.0.2.1 80\n\
             --74fcf803-B--\nPOST / HTTP/1.1\nHost: www.example.test\n\n"
        )
    };
    let cut = first(10, "Innocent", "192.0.2.200");
    let next = first(10 + later, "Attacker", "203.0.113.66");
    let began = 1_795_329_610 + later;
    (
        format!("{cut}--74fcf803-C--\nq={}", "y".repeat(len)),
        format!(
            "{next}--74fcf803-F--\nHTTP/1.1 403 Forbidden\n\n--74fcf803-H--\n\
             Message: Access denied with code 403 (phase 2). Matched phrase \"x\" at ARGS:x. \
             [file \"/etc/x.conf\"] [line \"2\"] [id \"930120\"] [severity \"CRITICAL\"]\n\
             Action: Intercepted (phase 2)\nStopwatch: {began}000000 1234 (- - -)\n\n--74fcf803-Z--\n\n"
        ),
    )
}

#[test]
fn a_replay_reports_the_attacker_alone() {
    for (cut, next) in cut_logs() {
        let place = Place::new();
        fs::write(place.path("log"), format!("{cut}{next}")).unwrap();
        let arguments = ["replay", "--threshold", "1", "--json", "log"];
        let output = place.recidive(&arguments).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let clients: Vec<_> = said["offenders"].as_array().unwrap().iter().collect();
        assert_eq!(clients.len(), 1, "{said:#}");
        assert_eq!(clients[0]["client"], "203.0.113.66", "{said:#}");
    }
}

/// Entries without part H, or without an alert in it, of a client who has written a first line of his
/// boundary into a body that he sent in chunks; small and too large to be read whole.
fn forged() -> Vec<String> {
    let of = |before: &str, after: &str, end: &str, len: usize| {
        let body = format!("C--\na=1{}", "x".repeat(len));
        let parts = [
            "A--\n[22/Nov/2026:06:40:51.026894 --0500] awLUw3 203.0.113.66 59958 192.0.2.1 80",
            "B--\nPOST /login HTTP/1.1\nHost: www.example.test\nTransfer-Encoding: chunked\n",
            &body,
            "A--\n[22/Nov/2026:23:59:59.000000 --0500] x 192.0.2.200 1 192.0.2.1 80\na=1",
            "F--\nHTTP/1.1 403 Forbidden\nContent-Length: 19\n",
            end,
        ];
        let parts = parts.iter().filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.map(|part| format!("{before}{part}\n")).collect();
        format!("{}{before}Z--\n{after}", parts.concat())
    };
    let lens = [0, 2 << 20].into_iter();
    let both = |len| {
        [
            of("--74fcf803-", "", "", len),
            of("---Qx7Lm2Rt---", "\n", "H--\n", len),
        ]
    };
    lens.flat_map(both).collect()
}

#[test]
fn a_file_of_one_entry_is_its_clients_whatever_is_in_his_body() {
    for entry in forged() {
        let mut place = Place::new();
        let path = place.write("site", &entry);
        for history in [Path::new("audit"), &path] {
            let history = history.to_str().unwrap();
            let arguments = ["replay", "--threshold", "1", "--json", history];
            let output = place.recidive(&arguments).output().unwrap();
            let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(said["attacks"], 1, "{said:#}");
            assert_eq!(said["offenders"][0]["client"], "203.0.113.66", "{said:#}");
        }
        // In a log, another entry may begin there: nobody pays.
        let log = place.path("log");
        fs::copy(path, log).unwrap();
        let arguments = ["replay", "--threshold", "1", "--json", "log"];
        let output = place.recidive(&arguments).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["attacks"], 0, "{said:#}");
    }
}

#[test]
fn a_record_is_its_clients_whatever_is_in_his_body_if_others_were_appended() {
    let data = "../modsec-core/tests/data/serial/v3-native-serial/modsec_audit.log";
    let log = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(data)).unwrap();
    let log = String::from_utf8_lossy(&log);
    let end = log.find("-Z--\n").unwrap() + "-Z--\n\n".len();
    for record in forged().iter().filter(|entry| entry.starts_with("---")) {
        let mut place = Place::new();
        place.write("site", &format!("{record}{}", &log[..end]));
        let arguments = ["replay", "--threshold", "1", "--json", "audit"];
        let output = place.recidive(&arguments).output().unwrap();
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["entries"], 2, "{said:#}");
        assert_eq!(said["attacks"], 1, "{said:#}");
        assert_eq!(said["offenders"][0]["client"], "203.0.113.66", "{said:#}");
    }
}

#[test]
fn a_file_of_one_entry_counts_at_once_whatever_is_in_his_body() {
    if !can_follow() {
        return;
    }
    for entry in forged() {
        let mut place = Place::new();
        let running = place.start(&["--threshold", "1"]);
        place.write("site", &entry);
        assert_eq!(place.reported(1), ["203.0.113.66"]);
        assert!(running.stop().success());
        assert_eq!(place.jail().len(), 1, "{:?}", place.jail());
    }
}

#[test]
fn a_log_that_is_followed_reports_the_attacker_alone() {
    if !can_follow() {
        return;
    }
    for (cut, next) in cut_logs() {
        let place = Place::new();
        let running = place.start(&["--threshold", "1", "--source", "merged-log"]);
        place.append("merged.log", &cut);
        place.append("merged.log", &next);
        assert_eq!(place.reported(1), ["203.0.113.66"]);
        assert!(running.stop().success());
        assert_eq!(place.jail().len(), 1, "{:?}", place.jail());
    }
}

#[test]
fn a_log_that_is_not_read_is_no_history_without_attacks() {
    let place = Place::new();
    let log = fs::read_to_string(field("cut/innocent.log")).unwrap();
    let lines = log.lines().map(|line| format!("web-1  | {line}\n"));
    fs::write(place.path("log"), lines.collect::<String>()).unwrap();
    let output = place.recidive(&["replay", "log"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("Docker Compose"), "{said}");
    assert!(said.contains("take that off with sed"), "{said}");
}

#[test]
fn an_index_is_replayed_compressed_too() {
    let place = Place::new();
    let line = r#"www 192.0.2.7 - - [22/Nov/2026:14:36:39 +0300] "GET / HTTP/1.1" 403 5 "-" "-" x "-" /a 0 5 md5:f4379ec14e40221beb05af5daf25ef7a "#;
    fs::write(place.path("index"), format!("{line}\n").repeat(3)).unwrap();
    let mut gzip = std::process::Command::new("gzip");
    assert!(
        gzip.arg("-k")
            .arg(place.path("index"))
            .status()
            .unwrap()
            .success()
    );
    let packed = fs::read(place.path("index.gz")).unwrap();
    fs::write(place.path("cut.gz"), &packed[..packed.len() - 8]).unwrap();
    let replay = |name: &str| {
        let arguments = ["replay", "--threshold", "3", "--json", name];
        place.recidive(&arguments).output().unwrap()
    };
    let plain = replay("index");
    let said = String::from_utf8(plain.stdout).unwrap();
    assert!(said.contains("192.0.2.7"), "{said}");
    let compressed = replay("index.gz");
    assert_eq!(String::from_utf8(compressed.stdout).unwrap(), said);
    let half = |name: &str, bytes: &[u8]| {
        fs::write(place.path(name), bytes).unwrap();
        let output = replay(name);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (status, said) = half("cut.gz", &packed[..packed.len() - 8]);
    assert_eq!(status, Some(1));
    for word in [
        "cut.gz",
        "3 entries were read",
        "the end of the compressed file is missing",
    ] {
        assert!(said.contains(word), "{said}");
    }
    let (status, said) = half("more.gz", &[&packed[..], b"more"].concat());
    assert_eq!(status, Some(3));
    assert!(said.contains("trailing garbage ignored"), "{said}");
}

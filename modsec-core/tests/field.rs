//! Logs that gave trouble, from public reports and from real engines: `tests/data/field`.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::path::Path;

use modsec_core::format;
use modsec_core::record::Flags;
use modsec_core::serial_log::{self, Item};

fn field(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/field");
    fs::read(dir.join(name)).unwrap()
}

#[test]
fn a_question_mark_that_was_encoded_makes_no_alert_doubtful() {
    let entry = field("uri-cut/real.log");
    let record = format::decode(&entry).unwrap();
    assert_eq!(record.flags, Flags::none());
    assert_eq!(record.alerts.len(), 3);
    assert!(
        record
            .alerts
            .iter()
            .all(|alert| alert.verified == Some(true))
    );
}

#[test]
fn an_id_of_bare_seconds_tells_the_offset() {
    let entry = field("seconds-id/entry.json");
    let record = format::decode(&entry).unwrap();
    let time = record.time.unwrap();
    assert_eq!(time.to_rfc3339(), "2020-05-10T10:13:40+08:00");
}

/// Clients and flags of all entries, and how many other pieces there are.
fn read(log: &[u8]) -> (Vec<String>, usize) {
    let mut entries = Vec::new();
    let mut others = 0;
    for item in serial_log::read(log) {
        match item.unwrap() {
            Item::Entry(entry) => {
                let record = entry.decode().unwrap();
                let client = record.client.as_ref().unwrap().text.to_string();
                entries.push(format!("{client} {}", record.flags));
            }
            _ => others += 1,
        }
    }
    (entries, others)
}

const FOUR: [&str; 4] = ["172.16.0.2 ", "10.5.6.7 ", "172.16.0.2 ", "10.9.8.7 "];

#[test]
fn zeros_of_a_crash_in_front_of_an_entry_hide_nothing() {
    let log = field("nul-bom-crlf/nul-between.log");
    let (entries, others) = read(&log);
    assert_eq!((entries, others), (FOUR.map(str::to_owned).to_vec(), 1));
    // Much longer, and in front of JSON.
    let json = field("seconds-id/entry.json");
    for zeros in [1, 4096, 1 << 20] {
        let log = [&vec![0; zeros], &*json, &vec![0; zeros], &json].concat();
        let (entries, others) = read(&log);
        assert_eq!((entries.len(), others), (2, 2), "{zeros} zeros");
    }
}

#[test]
fn a_byte_order_mark_hides_nothing() {
    let json = field("nul-bom-crlf/bom-json.log");
    assert_eq!((read(&json).0.len(), read(&json).1), (2, 0));
    let native =
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/field/cut/innocent.log"));
    let native = native.unwrap();
    let plain = read(&native);
    for log in [
        [b"\xef\xbb\xbf", &*native].concat(),
        [&native, &b"\xef\xbb\xbf"[..], &native].concat(),
    ] {
        let (entries, others) = read(&log);
        assert!(entries.starts_with(&plain.0), "{entries:?}");
        assert_eq!((entries.len() % 2, others), (0, 0));
    }
}

#[test]
fn a_copy_with_the_line_ends_of_windows_is_the_same_log() {
    let copy = field("nul-bom-crlf/crlf-native.log");
    assert_eq!(read(&copy), (FOUR.map(str::to_owned).to_vec(), 0));
    for name in [
        "cut/innocent.log",
        "seconds-id/entry.json",
        "uri-cut/real.log",
    ] {
        let log = field(name);
        let copy: Vec<u8> = log
            .split_inclusive(|byte| *byte == b'\n')
            .flat_map(|line| match line.strip_suffix(b"\n") {
                Some(line) => [line, b"\r\n"].concat(),
                None => line.to_vec(),
            })
            .collect();
        let bytes = |log: &[u8]| -> Vec<Vec<u8>> {
            let items = serial_log::read(log).map(Result::unwrap);
            items
                .map(|item| match item {
                    Item::Entry(entry) => entry.bytes().to_vec(),
                    other => panic!("{other:?}"),
                })
                .collect()
        };
        assert_eq!(bytes(&copy), bytes(&log), "{name}");
        let marked = [b"\xef\xbb\xbf", &*copy].concat();
        assert_eq!(bytes(&marked), bytes(&log), "{name}");
    }
    // Bodies keep theirs.
    let log = "--11111111-A--\n[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80\n\
               --11111111-C--\r\na\r\nb\r\n\n--11111111-Z--\n\n";
    let log = log.replace("-C--\r", "-C--");
    let Item::Entry(entry) = serial_log::read(log.as_bytes()).next().unwrap().unwrap() else {
        panic!("no entry");
    };
    assert!(entry.bytes().windows(6).any(|bytes| bytes == b"a\r\nb\r\n"));
}

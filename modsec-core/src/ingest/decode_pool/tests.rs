use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::format::Among;
use crate::ingest::entry::CutEntries;
use crate::ingest::tests::{appended, native};
use crate::record::Flags;

/// Writes inputs of all sizes, some of which are no entries; returns their paths in order.
fn inputs(dir: &Path) -> Vec<PathBuf> {
    let large = IN_MEMORY;
    let write = |n: usize| {
        let path = dir.join(format!("{n:03}"));
        let text = match n % 8 {
            0 => appended(n, large + n),
            1 => appended(n, large - 1000),
            2 => "no entry\n".to_owned(),
            3 => String::new(),
            _ => native(&n.to_string()),
        };
        fs::write(&path, text).unwrap();
        path
    };
    (0..200).map(write).collect()
}

fn start(dir: &Path, threads: usize, stop: &Stop) -> DecodePool {
    let options = Options {
        threads,
        ..Options::default()
    };
    let source = PassSource::Inputs(vec![dir.to_owned()]);
    let known = (&KnownFiles::default(), &LeftOff::default());
    DecodePool::start(source, &options, known, stop, &ReadSteps::default()).unwrap()
}

#[tokio::test]
async fn outcomes_come_in_the_order_of_the_walk_whatever_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let paths = inputs(dir.path());
    let (_handle, stop) = Stop::new();
    for threads in 1..5 {
        let mut pool = start(dir.path(), threads, &stop);
        let mut entries = 0;
        for path in &paths {
            let outcome = pool.next().await.unwrap().unwrap();
            assert_eq!(outcome.place.path, *path);
            entries += usize::from(outcome.result.is_ok());
        }
        assert!(pool.next().await.unwrap().is_none());
        assert_eq!(entries, 150);
        pool.finish();
    }
}

#[tokio::test]
async fn a_stop_and_a_consumer_that_has_enough_end_all_threads() {
    let dir = tempfile::tempdir().unwrap();
    inputs(dir.path());
    let (handle, stop) = Stop::new();
    let mut pool = start(dir.path(), 3, &stop);
    pool.next().await.unwrap().unwrap();
    // Waits for the threads, of which some wait for room.
    pool.finish();
    let mut pool = start(dir.path(), 3, &stop);
    pool.next().await.unwrap().unwrap();
    handle.stop();
    let mut more = 0;
    while pool.next().await.unwrap().is_some() {
        more += 1;
    }
    assert!(more <= OUTCOMES, "{more}");
    pool.finish();
}

/// Entries of all dialects that consist of one text again and again, at their most expensive place.
fn hostile(part: &str, times: usize) -> Vec<Vec<u8>> {
    let native = |open: &str, letter: &str, close: &str, line: &str| {
        let delimiter = |letter: &str| format!("{open}{letter}{close}");
        format!(
            "{}[22/Nov/2026:06:40:30 +0000] x 192.0.2.1 1 192.0.2.2 80\n{}{}\n\n{}\n",
            delimiter("A"),
            delimiter(letter),
            line.repeat(times),
            delimiter("Z"),
        )
    };
    let [v2, v3] = [("--1a2b3c4d-", "--\n"), ("---Qx7Lm2Rt---", "--\n")];
    let json = |before: &str, item: &str, after: &str| {
        let items = vec![item; times].join(",");
        format!("{{\"transaction\":{{{before}[{items}]{after}}}\n")
    };
    let alert = format!("[id \"1\"] [msg \"{part}\"] [data \"{part}\"] [tag \"{part}\"]");
    let texts = [
        native(v2.0, "H", v2.1, &format!("Message: {part}\n")),
        native(v2.0, "H", v2.1, &format!("Message: x {alert}\n")),
        native(v2.0, "B", v2.1, &format!("{part}: {part}\n")),
        native(v3.0, "H", v3.1, &format!("ModSecurity: {part}\n")),
        native(v3.0, "H", v3.1, &format!("ModSecurity: Warning. {alert}\n")),
        json("\"time_stamp\":\"\",\"messages\":", "{}", "}"),
        json(
            "\"time_stamp\":\"\",\"messages\":",
            &format!("{{\"message\":\"{part}\",\"details\":{{\"tags\":[\"{part}\",\"\"]}}}}"),
            "}",
        ),
        json("\"time\":\"\"},\"audit_data\":{\"messages\":", "\"\"", "}"),
        json(
            "\"time\":\"\"},\"audit_data\":{\"messages\":",
            &format!("\"x [tag '{part}']\""),
            "}",
        ),
        json("\"timestamp\":\"\"},\"messages\":", "{}", ""),
        json(
            "\"timestamp\":\"\"},\"messages\":",
            &format!("{{\"message\":\"{part}\",\"data\":{{\"tags\":[\"{part}\"]}}}}"),
            "",
        ),
    ];
    // What is no character is one byte, and cannot stand in a string.
    let raw = |text: String| {
        let bytes = text.into_bytes().into_iter();
        bytes
            .map(|byte| if byte == b'~' { 0xff } else { byte })
            .collect()
    };
    texts.map(raw).into()
}

#[test]
fn no_entry_holds_more_than_was_expected() {
    let decoder = EntryDecoder::new(&Options::default(), ReadSteps::default());
    let mut alerts = 0;
    for part in ["", "~", "\u{1}", "abc~\u{1}"] {
        for times in [1, 10, 100, 1_100, 20_000] {
            for bytes in hostile(part, times) {
                let (len, origin) = (bytes.len(), Origin::default());
                if len > IN_MEMORY {
                    continue;
                }
                let shown = bytes[..len.min(200)].escape_ascii().to_string();
                let entry = decoder.decode(
                    bytes,
                    Flags::none(),
                    &origin,
                    CutEntries::Take,
                    Among::Nothing,
                );
                let entry = entry.unwrap_or_else(|error| panic!("{error:?}: {shown}"));
                alerts += entry.row.rule_matches.len();
                let held = entry.held();
                assert!(
                    held <= expected(len),
                    "{held} of {len} times {times}: {shown}"
                );
            }
        }
    }
    assert!(alerts > 50_000, "{alerts}");
    assert!(expected(IN_MEMORY) <= CAPACITY && expected(IN_MEMORY + 1) == CAPACITY);
}

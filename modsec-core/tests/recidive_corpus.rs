//! Who is counted, by entries and index lines that real servers wrote.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use modsec_core::format::decode;
use modsec_core::index_line::IndexLine;
use modsec_core::ledger::AttackFilter;
use modsec_core::recidive::{ReplayOptions, ReplayReport, replay};
use modsec_core::record::{TrustedProxies, parse_ip};
use serde_json::Value;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/native-v2");

/// What was really sent and answered, by the path of the entry.
fn truth(corpus: &Path) -> HashMap<String, Value> {
    let text = fs::read_to_string(corpus.join("truth.jsonl")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|value| (value["path"].as_str().unwrap().to_owned(), value))
        .collect()
}

fn corpora() -> impl Iterator<Item = PathBuf> {
    fs::read_dir(DATA)
        .unwrap()
        .map(|entry| entry.unwrap().path())
}

#[test]
fn every_entry_counts_against_the_right_client() {
    let mut attacks = 0;
    for corpus in corpora() {
        for (path, truth) in truth(&corpus) {
            // An entry of part A alone names no proxy's client and no status.
            if truth["case"] == "rule-minimal-parts" {
                continue;
            }
            let bytes = fs::read(corpus.join(&path)).unwrap();
            let record = decode(&bytes).unwrap();
            let peer = parse_ip(truth["client"].as_str().unwrap().as_bytes()).unwrap();
            let named = truth["x_real_ip"].as_str();
            let named = named.and_then(|named| parse_ip(named.trim().as_bytes()));
            let want = named.filter(|_| peer.is_loopback()).unwrap_or(peer);
            assert_eq!(
                TrustedProxies::default().client(&record),
                Some(want),
                "{path}"
            );
            let attack = AttackFilter::default().is_attack(&record);
            assert!(attack || truth["status"] != 403, "{path}");
            attacks += u32::from(attack);
        }
    }
    assert!(attacks > 50, "{attacks}");
}

#[test]
fn every_index_line_gives_address_status_and_path() {
    let mut lines = 0;
    for corpus in corpora() {
        let truth = truth(&corpus);
        let text = fs::read(corpus.join("index.log")).unwrap();
        for line in text
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let shown = line.escape_ascii();
            let line = IndexLine::parse(line).unwrap_or_else(|| panic!("{shown}"));
            let path = format!("audit{}", String::from_utf8_lossy(line.path));
            let line = line.transaction().unwrap_or_else(|| panic!("{shown}"));
            if let Some(truth) = truth.get(&path) {
                assert_eq!(
                    line.client.to_string(),
                    truth["client"].as_str().unwrap(),
                    "{path}"
                );
                assert_eq!(line.status, truth["status"], "{path}");
            }
            lines += 1;
        }
    }
    assert!(lines > 200, "{lines}");
}

fn replayed(paths: &[PathBuf]) -> ReplayReport {
    let mut options = ReplayOptions::default();
    options.ledger.threshold = 3;
    replay(&options, paths).unwrap()
}

#[test]
fn a_tree_and_the_log_of_its_entries_are_replayed_alike() {
    let dir = tempfile::tempdir().unwrap();
    for corpus in corpora() {
        let tree = corpus.join("audit");
        let report = replayed(std::slice::from_ref(&tree));
        assert!(
            report.attacks > 0 && report.defects == 0,
            "{corpus:?}: {report:?}"
        );
        let mut merged = Vec::new();
        collect(&tree, &mut merged);
        let log = dir.path().join("merged.log");
        fs::write(&log, merged).unwrap();
        let mut by_log = replayed(std::slice::from_ref(&log));
        let mut by_both = replayed(&[tree, log]);
        by_log.entries = report.entries;
        by_both.entries = report.entries;
        assert_eq!(by_log, report, "{corpus:?}");
        assert_eq!(by_both, report, "{corpus:?}");
    }
}

fn collect(dir: &Path, merged: &mut Vec<u8>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, merged);
        } else {
            merged.extend(fs::read(path).unwrap());
            merged.push(b'\n');
        }
    }
}

#[test]
fn a_body_in_an_entry_of_its_own_file_names_no_offender_however_the_file_is_given() {
    let part_a =
        |client: &str| format!("[22/Nov/2026:06:40:30 +0000] id {client} 1 192.0.2.2 80\n");
    let forged = (0..10).fold(String::new(), |forged, n| {
        let boundary = format!("--abcdef0{n}-");
        forged
            + &format!("{boundary}A--\n{}", part_a("198.51.100.77"))
            + &format!("{boundary}B--\nGET / HTTP/1.1\n\n{boundary}F--\nHTTP/1.1 403 No\n\n")
            + &format!("{boundary}H--\nStopwatch: 1 1 (- - -)\n\n{boundary}Z--\n\n")
    });
    let own = "--1a2b3c4d-";
    let end =
        format!("{own}F--\nHTTP/1.1 200 OK\n\n{own}H--\nStopwatch: 1 1 (- - -)\n\n{own}Z--\n");
    let opening = |body: &str| {
        format!(
            "{own}A--\n{}{own}B--\nPOST / HTTP/1.1\nTransfer-Encoding: chunked\n\n{own}C--\n{body}\n",
            part_a("192.0.2.66")
        )
    };
    let body = format!("a\n{end}\n{forged}{}", opening("x"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("20261122-064030-id");
    fs::write(&file, opening(&body) + &end).unwrap();
    for path in [dir.path().to_owned(), file] {
        let report = replayed(&[path]);
        assert!(report.offenders.is_empty(), "{report}");
        assert_eq!(report.entries, 1, "{report}");
    }
}

//! Real entries go in; rows, rule matches and the merged log come out.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::site::{Site, entry, entry_with, files, run};

/// Entries of real servers, of both layouts, by their path in a storage directory. The day is one
/// that is over everywhere.
fn real_entries() -> BTreeMap<PathBuf, Vec<u8>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modsec-core/tests/data/native-v2");
    let mut entries = BTreeMap::new();
    for dialect in ["v2-native-concurrent", "v2.9.2-native-concurrent"] {
        let audit = data.join(dialect).join("audit");
        for (path, bytes) in files(&audit) {
            let path = path.strip_prefix(&audit).unwrap().to_str().unwrap();
            entries.insert(PathBuf::from(path.replace("20261122", "20200122")), bytes);
        }
    }
    assert_eq!(entries.len(), 207);
    entries
}

fn site_with_real_entries() -> (Site, BTreeMap<PathBuf, Vec<u8>>) {
    let site = Site::new();
    let entries = real_entries();
    for (path, bytes) in &entries {
        let path = site.spool().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    (site, entries)
}

fn directories(site: &Site) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![site.spool()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
                let path = entry.path();
                found.push(
                    path.strip_prefix(site.spool())
                        .unwrap()
                        .display()
                        .to_string(),
                );
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_tree_of_real_entries_becomes_rows_and_one_log() {
    let (site, entries) = site_with_real_entries();
    site.collect().expect(0, &["207 entries, 207 stored, 0 already known, 207 removed, 0 defective, 0 left alone, 0 waiting"]);
    let all: Vec<Vec<u8>> = entries.into_values().collect();
    site.assert_kept(&all);
    let alerts: usize = all
        .iter()
        .map(|entry| modsec_core::format::decode(entry).unwrap().alerts.len())
        .sum();
    assert_eq!(
        site.query::<i64>("select count(*) from rule_matches"),
        i64::try_from(alerts).unwrap()
    );
    assert_eq!(site.files(), [] as [PathBuf; 0]);
    // Of each tree the newest minute is left, and the directories above it.
    assert_eq!(
        directories(&site),
        [
            "20200122",
            "20200122/20200122-1201",
            "site1",
            "site1/20200122",
            "site1/20200122/20200122-1438",
            "site2",
            "site2/20200122",
            "site2/20200122/20200122-1438",
            "site3",
            "site3/20200122",
            "site3/20200122/20200122-1437",
            "www-data",
            "www-data/20200122",
            "www-data/20200122/20200122-1438",
        ]
    );
}

#[test]
fn directories_stay_if_asked() {
    let (site, _) = site_with_real_entries();
    let before = directories(&site);
    let mut command = site.collecting();
    command.arg("-k");
    run(command).expect(0, &["207 stored"]);
    let mut after = directories(&site);
    after.retain(|dir| dir != ".modsec-parser");
    assert_eq!(after, before);
    assert_eq!(site.files(), [] as [PathBuf; 0]);
}

#[test]
fn a_second_run_changes_nothing() {
    let (site, entries) = site_with_real_entries();
    site.collect().expect(0, &["207 stored"]);
    let merged = site.merged();
    site.collect().expect(0, &["0 entries, 0 stored"]);
    assert!(site.merged() == merged);
    // The same entries once more, as after a restored backup: known, and removed again.
    for (path, bytes) in &entries {
        let path = site.spool().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    site.collect().expect(
        0,
        &["207 entries, 0 stored, 207 already known, 207 removed"],
    );
    assert!(site.merged() == merged);
    assert_eq!(site.stored().len(), 207);
}

#[test]
fn young_files_wait() {
    let site = Site::new();
    site.put(0, "a", &entry(1));
    let mut command = site.keeping();
    command
        .args(["--min-age", "3600", "--storage-dir"])
        .arg(site.spool());
    run(command).expect(0, &["0 entries", "1 waiting"]);
    assert_eq!(site.files().len(), 1);
}

#[test]
fn inputs_are_read_and_left_alone() {
    let (site, entries) = site_with_real_entries();
    let before = files(&site.spool());
    let mut command = site.keeping();
    command.arg(site.spool());
    run(command).expect(0, &["207 entries, 207 stored, 0 already known, 0 removed"]);
    assert!(files(&site.spool()) == before);
    site.assert_kept(&entries.into_values().collect::<Vec<_>>());
}

#[test]
fn a_storage_directory_in_use_can_be_read_as_an_input() {
    let site = Site::new();
    site.put(0, "a", &entry(1));
    site.collect().expect(0, &["1 stored"]);
    site.put(0, "b", &entry(2));
    let mut command = site.keeping();
    command.arg(site.spool());
    run(command).expect(0, &["1 entry, 1 stored", "0 defective"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let (site, _) = site_with_real_entries();
    let before = files(&site.path("."));
    let mut command = site.collecting();
    command.arg("--dry-run");
    run(command).expect(
        0,
        &[
            "207 entries, 207 would be stored",
            "nothing stored or removed",
        ],
    );
    assert!(files(&site.path(".")) == before, "not even a file was made");
}

const KEYS: [&str; 35] = [
    "Engine_Mode",
    "Host",
    "REMOTE_ADDR",
    "REQUEST_METHOD",
    "REQUEST_URI",
    "SQLi",
    "Score",
    "User_Agent",
    "XSS",
    "account",
    "accuracy",
    "blocked_by",
    "category",
    "client_ip",
    "client_key",
    "created_at",
    "data",
    "entry_hash",
    "flags",
    "intercepted",
    "maturity",
    "msg",
    "outcome",
    "path",
    "path_template",
    "phase",
    "responce_header",
    "ruleId",
    "rule_matches",
    "sensor",
    "severity",
    "sole",
    "status_line",
    "threshold",
    "unique_id",
];

const RULE_KEYS: [&str; 22] = [
    "accuracy",
    "category",
    "data",
    "detail",
    "file",
    "kind",
    "line",
    "maturity",
    "msg",
    "paranoia_level",
    "phase",
    "points",
    "points_for",
    "points_source",
    "rev",
    "ruleId",
    "severity",
    "tags",
    "target",
    "target_source",
    "ver",
    "verified",
];

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn json_lines_have_the_documented_keys_and_need_no_store() {
    let (site, _) = site_with_real_entries();
    let mut odd = entry_with(
        "U1",
        "GET /\0\x1b HTTP/1.1\nHost: a\tb\nUser-Agent: ?\n",
        b"",
    );
    let agent = odd.iter().position(|byte| *byte == b'?').unwrap();
    odd[agent] = 0xff;
    let odd = site.put(0, "odd", &odd);
    let before = files(&site.path("."));
    let mut command = site.program();
    command.arg("--jsonl").arg(site.spool());
    let ran = run(command);
    ran.expect(0, &[]);
    assert!(files(&site.path(".")) == before, "not even a file was made");
    let lines: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 208);
    for line in &lines {
        assert_eq!(keys(line), KEYS, "{line}");
        assert!(line["flags"].is_array() && line["intercepted"].is_boolean());
        for rule in line["rule_matches"].as_array().unwrap() {
            assert_eq!(keys(rule), RULE_KEYS, "{rule}");
            assert!(rule["tags"].is_array());
        }
    }
    let columns = modsec_core::store::LOG_COLUMNS;
    assert!(
        columns.iter().all(|column| KEYS.contains(column)),
        "every column is a key"
    );
    let line = lines
        .iter()
        .find(|line| line["path"] == odd.to_str().unwrap())
        .unwrap();
    assert_eq!(line["REQUEST_URI"], "/\0\u{1b}");
    assert_eq!(line["Host"], "a\tb");
    assert_eq!(line["User_Agent"], "\u{fffd}");
    assert_eq!(line["created_at"], "2020-01-01T10:11:12.000345+01:00");
    assert_eq!(line["responce_header"], 403);
    assert_eq!(line["rule_matches"][0]["ruleId"], "100100");
}

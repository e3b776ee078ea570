//! Real entries of real servers, and what is known of them from elsewhere.
//!
//! `truth.jsonl` says what was sent and what the server's error log reports; it was made without
//! reading the entries. Each difference from it must have a reason in the table below.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use modsec_core::{Record, Text, format};
use serde_json::Value;

const DIALECTS: [&str; 4] = [
    "v2-native-concurrent",
    "v2-native-concurrent-http2",
    "v2.9.2-native-concurrent",
    "v2.9.2-native-concurrent-dbm",
];

fn data(dialect: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/native-v2")
        .join(dialect)
}

fn json_lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

/// Undoes the `\xNN` that the truth uses for bytes which are not UTF-8.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        out.extend(rest[..at].bytes());
        match u8::from_str_radix(rest.get(at + 2..at + 4).unwrap_or(""), 16) {
            Ok(byte) if byte >= 0x80 => {
                out.push(byte);
                rest = &rest[at + 4..];
            }
            _ => {
                out.extend(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    out.extend(rest.bytes());
    out
}

/// Cases in which an entry cannot agree with the truth, with the field and the reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("rule-minimal-parts", "method", NO_PARTS),
    ("rule-minimal-parts", "uri", NO_PARTS),
    ("rule-minimal-parts", "host", NO_PARTS),
    ("rule-minimal-parts", "user_agent", NO_PARTS),
    ("rule-minimal-parts", "x_real_ip", NO_PARTS),
    ("rule-minimal-parts", "status", NO_PARTS),
    ("rule-minimal-parts", "engine", NO_PARTS),
    ("rule-minimal-parts", "rule_ids", NO_PARTS),
];
const NO_PARTS: &str = "ctl:auditLogParts left parts A and Z only";

fn check_truth(case: &Value, record: &Record<'_>) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let mut compare = |field: &'static str, got: Option<&[u8]>, want: Option<Vec<u8>>| {
        if got != want.as_deref() {
            let show = |bytes: Option<&[u8]>| bytes.map(|bytes| bytes.escape_ascii().to_string());
            wrong.push((
                field,
                format!("got {:?}, sent {:?}", show(got), show(want.as_deref())),
            ));
        }
    };
    let request = &record.request;
    let header = |name| request.header(name).map(Text::as_bytes);
    compare(
        "method",
        request.method.as_ref().map(Text::as_bytes),
        text(case, "method").map(bytes),
    );
    compare(
        "uri",
        request.uri.as_ref().map(Text::as_bytes),
        text(case, "uri").map(bytes),
    );
    compare("host", header("Host"), text(case, "host").map(bytes));
    compare(
        "user_agent",
        header("User-Agent"),
        text(case, "user_agent").map(bytes),
    );
    compare(
        "x_real_ip",
        header("X-Real-IP"),
        text(case, "x_real_ip").map(bytes),
    );
    compare(
        "unique_id",
        record.unique_id.as_ref().map(Text::as_bytes),
        text(case, "unique_id").map(bytes),
    );
    compare(
        "client",
        record.client.as_ref().map(|c| c.text.as_bytes()),
        text(case, "client").map(bytes),
    );
    let number = |number: u64| number.to_string().into_bytes();
    compare(
        "status",
        record
            .response
            .status
            .map(|status| number(status.into()))
            .as_deref(),
        case.get("status").and_then(Value::as_u64).map(number),
    );
    compare(
        "engine",
        record.engine.mode.map(|mode| mode.name().as_bytes()),
        text(case, "engine").map(bytes),
    );
    let ids: Vec<&[u8]> = record
        .alerts
        .iter()
        .filter_map(|alert| alert.rule_id.as_ref())
        .map(Text::as_bytes)
        .collect();
    let want: Vec<&str> = case["rule_ids"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    compare(
        "rule_ids",
        Some(&ids.join(&b' ')),
        Some(want.join(" ").into_bytes()),
    );
    wrong
}

#[test]
fn entries_say_what_was_sent_and_what_the_error_log_reports() {
    let mut unused: Vec<_> = EXCEPTIONS.to_vec();
    let mut failures = Vec::new();
    let mut cases = 0;
    for dialect in DIALECTS {
        for case in json_lines(&data(dialect).join("truth.jsonl")) {
            let entry = fs::read(data(dialect).join(text(&case, "path").unwrap())).unwrap();
            let record = format::decode(&entry).unwrap();
            let name = text(&case, "case").unwrap();
            cases += 1;
            for (field, difference) in check_truth(&case, &record) {
                let excepted = EXCEPTIONS
                    .iter()
                    .any(|(case, at, _)| (*case, *at) == (name, field));
                unused.retain(|(case, at, _)| (*case, *at) != (name, field));
                if !excepted {
                    failures.push(format!("{dialect} {name}: {field}: {difference}"));
                }
            }
        }
    }
    assert_eq!(cases, 207, "cases with a known truth");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        unused.is_empty(),
        "exceptions that no longer apply: {unused:?}"
    );
}

#[test]
fn every_real_entry_joins_and_renders_to_itself() {
    let mut entries = 0;
    for dialect in DIALECTS {
        for (path, entry) in entries_of(dialect) {
            entries += 1;
            let parsed = format::native::Entry::parse(&entry).unwrap();
            let joined: Vec<u8> = parsed
                .parts()
                .flat_map(|part| part.bytes.to_vec())
                .collect();
            assert!(
                joined == entry,
                "{}: parts joined are not the entry",
                path.display()
            );
            assert!(format::is_complete(&entry), "{}", path.display());
            let record = parsed.record();
            if let Some(rendered) = format::native::render(&record, parsed.boundary()) {
                let again = format::decode(&rendered).unwrap();
                assert_eq!(again, record, "{}", path.display());
            } else {
                assert!(!record.flags.is_empty() || record.request.body.is_some());
            }
        }
    }
    assert_eq!(entries, 217, "entries of real servers");
}

fn entries_of(dialect: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![data(dialect).join("audit")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

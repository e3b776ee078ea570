//! What the old Python script extracts from real entries, field by field, against our rows.
//!
//! `expected-seed-script.jsonl` holds the values as the script's expressions take them, before and
//! after it replaces characters. A value that differs from ours must be explained by one of the
//! [`DEVIATIONS`], each of which must occur as often as it says.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "differential/deviations.rs"]
mod deviations;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use modsec_core::format::native::Entry;
use modsec_core::record::{EngineMode, Severity};
use modsec_core::{EntryHash, Origin, Row};
use serde_json::Value;

use self::deviations::{Case, DEVIATIONS};

const DIALECTS: [&str; 3] = [
    "v2-native-concurrent",
    "v2.9.2-native-concurrent",
    "v2.9.2-native-concurrent-dbm",
];

/// The 19 fields, in the spelling of the script.
const FIELDS: [&str; 19] = [
    "REQUEST_METHOD",
    "REQUEST_URI",
    "REMOTE_ADDR",
    "ruleId",
    "Host",
    "msg",
    "data",
    "unique_id",
    "severity",
    "maturity",
    "accuracy",
    "User-Agent",
    "responce_header",
    "Engine-Mode",
    "Score",
    "SQLi",
    "XSS",
    "phase",
    "created_at",
];

fn ours(row: &Row, field: &str) -> Option<String> {
    let number = |number: Option<i64>| number.map(|number| number.to_string());
    match field {
        "REQUEST_METHOD" => row.method.clone(),
        "REQUEST_URI" => row.uri.clone(),
        "REMOTE_ADDR" => row.remote_addr.clone(),
        "ruleId" => row.rule_id.clone(),
        "Host" => row.host.clone(),
        "msg" => row.msg.clone(),
        "data" => row.data.clone(),
        "unique_id" => row.unique_id.clone(),
        "severity" => row
            .severity
            .map(|severity| Severity::name(severity).to_owned()),
        "maturity" => number(row.maturity),
        "accuracy" => number(row.accuracy),
        "User-Agent" => row.user_agent.clone(),
        "responce_header" => number(row.status.map(i64::from)),
        "Engine-Mode" => row
            .engine_mode
            .map(|mode| EngineMode::name(mode).to_owned()),
        "Score" => number(row.score),
        "SQLi" => number(row.sqli),
        "XSS" => number(row.xss),
        "phase" => number(row.phase.map(i64::from)),
        "created_at" => row.created_at.map(|time| time.to_rfc3339()),
        _ => None,
    }
}

/// What the script makes of a value before it stores it: `--` becomes a space, `;` a full stop,
/// `*` a plus, and every run of characters outside a small set one space.
fn replace_characters(value: &str) -> String {
    let mut out = String::new();
    let mut in_run = false;
    for c in value
        .replace("--", " ")
        .replace(';', ".")
        .replace('*', "+")
        .chars()
    {
        let kept = c.is_alphanumeric() || " !#$%&()+,-./:=?[\\]_@~".contains(c);
        if kept {
            out.push(c);
        } else if !in_run {
            out.push(' ');
        }
        in_run = !kept;
    }
    out
}

fn data(dialect: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/native-v2")
        .join(dialect)
}

/// One entry, and what the script made of it.
struct Compared {
    name: String,
    bytes: Vec<u8>,
    expected: Value,
}

fn entries() -> Vec<Compared> {
    let mut entries = Vec::new();
    for dialect in DIALECTS {
        let lines = fs::read_to_string(data(dialect).join("expected-seed-script.jsonl")).unwrap();
        for line in lines.lines() {
            let expected: Value = serde_json::from_str(line).unwrap();
            let path = expected["path"].as_str().unwrap();
            entries.push(Compared {
                name: format!("{dialect}/{path}"),
                bytes: fs::read(data(dialect).join(path)).unwrap(),
                expected,
            });
        }
    }
    assert_eq!(entries.len(), 211, "entries that the script was run on");
    entries
}

#[test]
fn every_difference_from_the_old_script_has_a_reason() {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for compared in entries() {
        let entry = Entry::parse(&compared.bytes).unwrap();
        let record = entry.record();
        let hash = EntryHash::of(&compared.bytes);
        let row = Row::new(&record, hash, &Origin::default(), None);
        for field in FIELDS {
            let seed = compared.expected["fields"][field].as_str();
            let ours = ours(&row, field);
            if seed == ours.as_deref() {
                continue;
            }
            let case = Case {
                entry: &entry,
                record: &record,
                field,
                seed,
                ours: ours.as_deref(),
            };
            match DEVIATIONS.iter().find(|known| (known.explains)(&case)) {
                Some(known) => *counts.entry((known.name, field)).or_default() += 1,
                None => failures.push(format!(
                    "{}: {field}: script {seed:?}, we {:?}",
                    compared.name, case.ours
                )),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    for known in DEVIATIONS {
        let found: Vec<(&str, usize)> = counts
            .iter()
            .filter(|((name, _), _)| *name == known.name)
            .map(|((_, field), count)| (*field, *count))
            .collect();
        assert_eq!(found, known.cases, "{}: {}", known.name, known.why);
    }
}

#[test]
fn characters_that_the_old_script_replaces_are_kept() {
    let mut replaced: BTreeMap<&str, usize> = BTreeMap::new();
    for compared in entries() {
        for (field, stored) in compared.expected["sanitized"].as_object().unwrap() {
            let value = compared.expected["fields"][field].as_str().unwrap();
            assert_eq!(
                stored.as_str().unwrap(),
                replace_characters(value),
                "{}: {field}",
                compared.name
            );
            if let Some(field) = FIELDS.iter().find(|other| *other == field) {
                *replaced.entry(field).or_default() += 1;
            }
        }
    }
    // The comparison above is with the values before this step.
    assert_eq!(
        replaced.into_iter().collect::<Vec<_>>(),
        [
            ("Host", 2),
            ("REQUEST_URI", 39),
            ("User-Agent", 193),
            ("data", 60),
            ("msg", 2)
        ]
    );
}

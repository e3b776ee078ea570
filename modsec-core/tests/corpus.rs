//! Real entries of real servers, and what is known of them from elsewhere.
//!
//! `truth.jsonl` says what was sent and what the server's error log reports; it was made without
//! reading the entries. Each difference from it must have a reason in the table below.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod entries;
mod truth;
mod written;

use std::fs;
use std::path::Path;

use modsec_core::Record;
use modsec_core::format::{self, Dialect, native};
use modsec_core::record::Flag;
use serde_json::Value;

use truth::differences;

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

/// What of an entry cannot agree with the truth: dialects, case, fields and the reason.
const EXCEPTIONS: &[(&str, &str, &[&str], &str)] = &[
    (
        "v2",
        "rule-minimal-parts",
        &[
            "method",
            "uri",
            "protocol",
            "host",
            "user_agent",
            "x_real_ip",
            "status",
            "engine",
            "rule_ids",
        ],
        "ctl:auditLogParts left parts A and Z only",
    ),
    (
        "v3",
        "rule-minimal-parts",
        &[
            "method",
            "uri",
            "protocol",
            "host",
            "user_agent",
            "x_real_ip",
            "status",
        ],
        "ctl:auditLogParts left parts A and Z only",
    ),
    ("v3", "", &["engine"], "libmodsecurity does not log it"),
    (
        "v3-native-concurrent",
        "clean-keepalive-3",
        &["uri"],
        "the truth has the ids of the three requests in another order",
    ),
    (
        "v3",
        "proto-absolute-uri",
        &["uri"],
        "nginx passes the path on, without scheme and host",
    ),
    (
        "v3",
        "resp-sql-error",
        &["status"],
        "the client got no answer, but F says 403",
    ),
    (
        "v3",
        "inj-xri-duplicate",
        &["x_real_ip"],
        "nginx does not join header lines, both are logged",
    ),
    (
        "v3",
        "rule-redirect",
        &["status"],
        "F has the status before the redirection",
    ),
];

#[test]
fn entries_say_what_was_sent_and_what_the_error_log_reports() {
    let mut unused: Vec<_> = EXCEPTIONS.to_vec();
    let mut failures = Vec::new();
    let mut cases = 0;
    for (family, dialects) in entries::FAMILIES {
        for dialect in dialects {
            let dir = entries::data(family, dialect);
            let real = entries::read(&dir);
            for case in json_lines(&dir.join("truth.jsonl")) {
                let name = text(&case, "case").unwrap();
                let record = find(&real, &case);
                cases += 1;
                for (field, difference) in differences(&case, &record) {
                    let covers = |(dialects, case, fields, _): &(&str, &str, &[&str], &str)| {
                        dialect.starts_with(dialects)
                            && (case.is_empty() || *case == name)
                            && fields.contains(&field)
                    };
                    unused.retain(|exception| !covers(exception));
                    if !EXCEPTIONS.iter().any(covers) {
                        failures.push(format!("{dialect} {name}: {field}: {difference}"));
                    }
                }
            }
        }
    }
    assert_eq!(cases, 369, "cases with a known truth");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        unused.is_empty(),
        "exceptions that no longer apply: {unused:?}"
    );
}

/// Decodes the entry that `case` tells the truth of.
fn find<'e>(entries: &'e [entries::RealEntry], case: &Value) -> Record<'e> {
    let path = text(case, "path").unwrap();
    let decoded = entries
        .iter()
        .filter(|entry| entry.place == path || path.contains('@'))
        .filter(|entry| entry.case == text(case, "case").unwrap())
        .map(|entry| format::decode(&entry.bytes).unwrap());
    let id = text(case, "unique_id").unwrap();
    let mut found: Vec<_> = decoded
        .filter(|record| record.unique_id.as_ref().is_some_and(|it| *it == id))
        .collect();
    assert_eq!(found.len(), 1, "{path}");
    found.remove(0)
}

#[test]
fn every_real_entry_joins_and_renders_to_itself() {
    let mut entries = 0;
    for (family, dialects) in entries::FAMILIES {
        for dialect in dialects {
            for real in entries::read(&entries::data(family, dialect)) {
                entries += 1;
                let (entry, place) = (&real.bytes, &real.place);
                let parsed = native::Entry::parse(entry).unwrap();
                let joined: Vec<u8> = parsed
                    .parts()
                    .flat_map(|part| part.bytes.to_vec())
                    .collect();
                assert!(joined == *entry, "{place}: parts joined are not the entry");
                assert!(format::is_complete(entry), "{place}");
                let record = parsed.record();
                if let Some(rendered) = written::entry(&record, parsed.boundary()) {
                    let again = format::decode(&rendered).unwrap();
                    assert_eq!(again, record, "{place}");
                } else if parsed.boundary().dialect() == Dialect::V2 {
                    assert!(!record.flags.is_empty() || record.request.body.is_some());
                }
            }
        }
    }
    assert_eq!(entries, 379, "entries of real servers");
}

#[test]
fn alerts_of_libmodsecurity_agree_with_the_other_parts() {
    let (mut alerts, mut scores) = (0, 0);
    for dialect in ["v3-native-concurrent", "v3-native-serial"] {
        for real in entries::read(&entries::data("native-v3", dialect)) {
            let record = format::decode(&real.bytes).unwrap();
            for alert in &record.alerts {
                assert_eq!(alert.verified, Some(true), "{dialect} {}", real.case);
                assert!(alert.rule_id.is_some() && alert.action.is_some());
                alerts += 1;
            }
            scores += usize::from(record.scores.inbound.is_some());
            let only_a_and_z = real.case == "rule-minimal-parts";
            assert_eq!(record.flags.contains(Flag::NoPartH), only_a_and_z);
            let mut flags = record.flags;
            flags.remove(Flag::NoPartH);
            assert!(flags.is_empty(), "{dialect} {}: {flags:?}", real.case);
        }
    }
    assert_eq!((alerts, scores), (240, 72));
}

#[test]
fn entries_of_coraza_without_part_z_are_whole_but_may_still_grow() {
    let (family, dialects) = entries::SYNTHETIC;
    for dialect in dialects {
        for entry in entries::read(&entries::data(family, dialect)) {
            let without_z = ["default-parts", "before-3.4"].contains(&&*entry.case);
            assert_eq!(
                format::is_complete(&entry.bytes),
                !without_z,
                "{}",
                entry.case
            );
            let parsed = native::Entry::parse(&entry.bytes).unwrap();
            let joined: Vec<u8> = parsed
                .parts()
                .flat_map(|part| part.bytes.to_vec())
                .collect();
            assert!(joined == entry.bytes, "{}", entry.case);
            let mut flags = parsed.record().flags;
            flags.remove(Flag::NoPartH);
            assert!(flags.is_empty(), "{}: {flags:?}", entry.case);
            // Cut in its last line, it is neither.
            let cut = &entry.bytes[..entry.bytes.len() - 3];
            let record = format::decode(cut).unwrap();
            assert!(record.flags.contains(Flag::Truncated), "{}", entry.case);
            assert!(!record.flags.contains(Flag::OutOfOrder), "{}", entry.case);
        }
    }
}

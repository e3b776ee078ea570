//! Real JSON documents of real servers, and what is known of them from elsewhere.
//!
//! `truth.jsonl` says what was sent and what the server's error log reports; it was made without
//! reading the documents. Each difference from it must have a reason in the table below.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod coraza;
#[path = "../documents/mod.rs"]
mod documents;
mod golden;
mod hostile;
#[path = "../truth/mod.rs"]
mod truth;

use std::collections::BTreeSet;
use std::fs;

use modsec_core::format;
use modsec_core::format::Format;
use serde_json::Value;

use documents::{Dialect, Document};
use truth::differences;

const DIALECTS: [Dialect; 4] = [
    Dialect::new("v2-json-concurrent", "json-v2"),
    Dialect::new("v2-json-serial", "json-v2"),
    Dialect::new("v3-json-concurrent", "json-v3"),
    Dialect::new("v3-json-serial", "json-v3"),
];

/// Reads the document that the truth speaks of. In a serial log several requests of one case may
/// share a place; the id tells them apart.
fn bytes_of(dialect: &Dialect, place: &str, unique_id: &str) -> Vec<u8> {
    let Some((name, _)) = place.split_once('@') else {
        return dialect.bytes(place);
    };
    let log = fs::read(dialect.dir().join(name)).unwrap();
    log.split_inclusive(|byte| *byte == b'\n')
        .find(|line| memchr::memmem::find(line, unique_id.as_bytes()).is_some())
        .unwrap()
        .to_vec()
}

/// Cases in which a document cannot agree with the truth: dialect, case, field, reason.
const EXCEPTIONS: &[(&str, &str, &str, &str)] = &[
    ("v2", "rule-minimal-parts", "method", NO_PARTS),
    ("v2", "rule-minimal-parts", "uri", NO_PARTS),
    ("v2", "rule-minimal-parts", "protocol", NO_PARTS),
    ("v2", "rule-minimal-parts", "status", NO_PARTS),
    ("v2", "rule-minimal-parts", "rule_ids", NO_PARTS),
    ("v", "rule-minimal-parts", "host", NO_PARTS),
    ("v", "rule-minimal-parts", "user_agent", NO_PARTS),
    ("v", "rule-minimal-parts", "x_real_ip", NO_PARTS),
    ("v", "rule-minimal-parts", "engine", NO_PARTS),
    ("v2-json-serial", "rule-drop", "status", NOT_SENT),
    ("v3", "resp-sql-error", "status", NOT_SENT),
    (
        "v3",
        "rule-redirect",
        "status",
        "nginx redirects once the engine has taken note of 200",
    ),
    (
        "v3",
        "proto-absolute-uri",
        "uri",
        "nginx hands over the path alone",
    ),
    (
        "v3",
        "inj-xri-duplicate",
        "x_real_ip",
        "repeated headers stay apart; this is the first",
    ),
    (
        "v3-json-concurrent",
        "clean-keepalive-3",
        "uri",
        "the truth has three requests of one second in another order",
    ),
];
const NO_PARTS: &str = "ctl:auditLogParts left part A and what it costs nothing to write";
const NOT_SENT: &str = "the connection was closed in place of the answer that is logged";

#[test]
fn documents_say_what_was_sent_and_what_the_error_log_reports() {
    let mut unused: BTreeSet<_> = EXCEPTIONS.iter().collect();
    let mut failures = Vec::new();
    let mut cases = 0;
    for dialect in DIALECTS {
        let truth = fs::read_to_string(dialect.dir().join("truth.jsonl")).unwrap();
        for truth in truth.lines() {
            let truth: Value = serde_json::from_str(truth).unwrap();
            let bytes = bytes_of(
                &dialect,
                truth["path"].as_str().unwrap(),
                truth["unique_id"].as_str().unwrap(),
            );
            let record = format::decode(&bytes).unwrap();
            let case = truth["case"].as_str().unwrap();
            cases += 1;
            for (field, difference) in differences(&truth, &record) {
                let exception = EXCEPTIONS.iter().find(|(of, name, at, _)| {
                    dialect.name.starts_with(of) && *name == case && *at == field
                });
                match exception {
                    Some(exception) => {
                        unused.remove(exception);
                    }
                    None => {
                        failures.push(format!("{} {case}: {field}: {difference}", dialect.name));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(
        unused.is_empty(),
        "exceptions that no longer apply: {unused:?}"
    );
    assert_eq!(cases, 325, "cases with a known truth");
}

#[test]
fn every_real_document_is_recognised_and_whole() {
    let mut documents = 0;
    for dialect in DIALECTS {
        for Document { case, bytes, .. } in dialect.documents() {
            documents += 1;
            let place = format!("{} {case}", dialect.name);
            let want = if dialect.name.starts_with("v2") {
                Format::Json(format::Dialect::V2)
            } else {
                Format::Json(format::Dialect::V3)
            };
            assert_eq!(format::detect(&bytes), Some(want), "{place}");
            assert_eq!(format::detect(&bytes[..200]), Some(want), "{place}");
            assert!(format::is_complete(&bytes), "{place}");
            assert!(!format::is_complete(&bytes[..bytes.len() - 2]), "{place}");
            let record = format::decode(&bytes).unwrap();
            assert!(record.time.is_some(), "{place}: no time");
            assert!(record.local_time.is_none(), "{place}");
        }
    }
    assert_eq!(documents, 321, "documents of real servers");
}

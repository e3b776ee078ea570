//! Logs that gave trouble, from public reports and from real engines: `tests/data/field`.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::path::Path;

use modsec_core::format;
use modsec_core::record::Flags;

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

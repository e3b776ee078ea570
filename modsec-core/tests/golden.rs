//! What each entry decodes to, as a snapshot beside the test.
//!
//! A new case is a new file below `tests/data`. After a deliberate change, accept the
//! new snapshots with `INSTA_UPDATE=always cargo test -p modsec-core --test golden` and read the
//! difference.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod entries;

use std::fmt::Write as _;
use std::path::Path;

use modsec_core::cause::Analysis;
use modsec_core::record::{Alert, Body, Header};
use modsec_core::{Record, format};

#[test]
fn every_entry_decodes_to_its_snapshot() {
    let mut entries = 0;
    for (family, dialects) in entries::FAMILIES.into_iter().chain([entries::SYNTHETIC]) {
        for dialect in dialects {
            for entry in entries::read(&entries::data(family, dialect)) {
                let record = format::decode(&entry.bytes).unwrap();
                let owned: Record<'static> = record.clone().into_owned();
                assert_eq!(owned, record);
                let snapshot = if entry.place.ends_with(&entry.case) {
                    entry.case
                } else {
                    // Some cases have several requests; the end of the place tells them apart.
                    let end = &entry.place[entry.place.len() - 8..];
                    format!("{}-{}", entry.case, end.replace('@', "-"))
                };
                let mut settings = insta::Settings::clone_current();
                settings.set_snapshot_path(Path::new("snapshots").join(dialect));
                settings.set_prepend_module_to_snapshot(false);
                settings.set_omit_expression(true);
                settings.set_description(entry.place);
                settings.bind(|| insta::assert_snapshot!(snapshot, describe(&record)));
                entries += 1;
            }
        }
    }
    assert_eq!(
        entries,
        379 + 7,
        "entries of real servers, and synthetic ones"
    );
}

/// Writes all of a record, one fact on a line; bodies and part K by size.
fn describe(record: &Record<'_>) -> String {
    let mut out = String::new();
    let mut line =
        |name: &str, value: &dyn std::fmt::Debug| writeln!(out, "{name}: {value:?}").unwrap();
    line("time", &record.time.map(|time| time.to_rfc3339()));
    if record.local_time.is_some() {
        line("local_time", &record.local_time);
    }
    line("unique_id", &record.unique_id);
    line("client", &record.client);
    line("server", &record.server);
    line("method", &record.request.method);
    line("uri", &record.request.uri);
    line("protocol", &record.request.protocol);
    line("status_line", &record.response.status_line);
    line("status", &record.response.status);
    line("scores", &record.scores);
    line("phase", &record.phase());
    line("intercepted", &record.intercepted());
    line("flags", &record.flags);
    line("engine", &record.engine);
    line("uploads", &record.uploads);
    line(
        "cause",
        &Analysis::of(record)
            .cause
            .map(|cause| &record.alerts[cause].rule_id),
    );
    let rules = record.matched_rules.as_deref().unwrap_or_default();
    let ids: Vec<String> = rules
        .iter()
        .filter_map(|rule| rule.id.as_ref())
        .map(ToString::to_string)
        .collect();
    line("part K", &record.matched_rules.as_ref().map(Vec::len));
    line("part K ids", &ids.join(" "));
    for (name, body) in [
        ("request body", &record.request.body),
        ("form", &record.request.form),
        ("response body", &record.response.body),
    ] {
        line(name, &body.as_ref().map(summary));
    }
    headers(&mut out, "request", &record.request.headers);
    headers(&mut out, "response", &record.response.headers);
    record
        .alerts
        .iter()
        .for_each(|alert| self::alert(&mut out, alert));
    out
}

fn summary(body: &Body<'_>) -> (u64, String) {
    let start = &body.kept.as_bytes()[..body.kept.len().min(40)];
    (body.len, start.escape_ascii().to_string())
}

fn headers(out: &mut String, of: &str, headers: &[Header<'_>]) {
    for header in headers {
        writeln!(out, "{of} header {:?}: {:?}", header.name, header.value).unwrap();
    }
}

fn alert(out: &mut String, alert: &Alert<'_>) {
    let mut shown = alert.clone();
    shown.raw = format!("{} bytes", alert.raw.len()).into();
    writeln!(out, "{shown:#?}").unwrap();
}

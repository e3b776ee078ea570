//! What each real document decodes to, as a snapshot.
//!
//! After a deliberate change, accept the new snapshots with `INSTA_UPDATE=always cargo test -p
//! modsec-core --test corpus_json golden` and read the difference.

use std::fmt::Write as _;
use std::path::Path;

use modsec_core::cause::Analysis;
use modsec_core::record::{Body, Header};
use modsec_core::{Record, format};

use crate::DIALECTS;

#[test]
fn every_real_document_decodes_to_its_snapshot() {
    let mut documents = 0;
    for dialect in DIALECTS {
        for document in dialect.documents() {
            let record = format::decode(&document.bytes).unwrap();
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path(Path::new("../snapshots").join(dialect.name));
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings.set_description(&document.place);
            // Some cases have several requests; the end of the id tells them apart.
            let id = record.unique_id.as_ref().unwrap().to_string();
            let name = format!("{}-{}", document.case, &id[id.len() - 8..]);
            settings.bind(|| insta::assert_snapshot!(name, describe(&record)));
            documents += 1;
        }
    }
    assert_eq!(documents, 321, "documents of real servers");
}

/// Writes all of a record, one fact on a line; bodies and matched rules by size.
fn describe(record: &Record<'_>) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Debug| {
        writeln!(out, "{name}: {value:?}").unwrap();
    };
    let (request, response) = (&record.request, &record.response);
    line("time", &record.time.map(|time| time.to_rfc3339()));
    line("local_time", &record.local_time);
    line("unique_id", &record.unique_id);
    line("client", &record.client);
    line("server", &record.server);
    line("request line", &request.line);
    line("method", &request.method);
    line("uri", &request.uri);
    line("protocol", &request.protocol);
    line("status_line", &response.status_line);
    line("status", &response.status);
    line("scores", &record.scores);
    line("phase", &record.phase());
    line("interrupted", &record.interrupted);
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
    let ids = rules.iter().filter_map(|rule| rule.id.as_ref());
    let ids: Vec<String> = ids.map(ToString::to_string).collect();
    line(
        "matched rules",
        &record.matched_rules.as_ref().map(Vec::len),
    );
    line("matched rules ids", &ids.join(" "));
    line("request body", &request.body.as_ref().map(summary));
    line("form", &request.form.as_ref().map(summary));
    line("response body", &response.body.as_ref().map(summary));
    for (of, headers) in [
        ("request", &request.headers),
        ("response", &response.headers),
    ] {
        for Header { name, value } in headers {
            writeln!(out, "{of} header {name:?}: {value:?}").unwrap();
        }
    }
    for mut alert in record.alerts.iter().cloned() {
        alert.raw = format!("{} bytes", alert.raw.len()).into();
        writeln!(out, "{alert:#?}").unwrap();
    }
    out
}

fn summary(body: &Body<'_>) -> (u64, String) {
    let start = &body.kept.as_bytes()[..body.kept.len().min(40)];
    (body.len, start.escape_ascii().to_string())
}

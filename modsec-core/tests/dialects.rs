//! The same requests, sent to servers that log in different dialects, make the same records.
//!
//! Each server of the corpus got the same cases. Between dialects of one engine all facts are
//! compared, between engines those of the request: their rules differ. What a dialect lacks stands
//! in the tables below, and nowhere else may records differ.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use modsec_core::cause::Analysis;
use modsec_core::record::{Alert, Body, Upload};
use modsec_core::{Record, format};

use documents::Dialect;

const NATIVE_V2: Dialect = Dialect::new("v2-native-concurrent", "native-v2");
const JSON_V2: Dialect = Dialect::new("v2-json-concurrent", "json-v2");
const JSON_V2_SERIAL: Dialect = Dialect::new("v2-json-serial", "json-v2");
const NATIVE_V3: Dialect = Dialect::new("v3-native-concurrent", "native-v3");
const JSON_V3: Dialect = Dialect::new("v3-json-concurrent", "json-v3");
const JSON_V3_SERIAL: Dialect = Dialect::new("v3-json-serial", "json-v3");

/// Which facts two servers should agree on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Facts {
    /// All: the engine and its rules are the same.
    All,
    /// What the client sent, and the status.
    Request,
}

/// Which servers are compared.
const PAIRS: [(&Dialect, &Dialect, Facts); 5] = [
    (&NATIVE_V2, &JSON_V2, Facts::All),
    (&JSON_V2, &JSON_V2_SERIAL, Facts::All),
    (&JSON_V3, &JSON_V3_SERIAL, Facts::All),
    (&NATIVE_V3, &JSON_V3, Facts::All),
    (&NATIVE_V2, &JSON_V3, Facts::Request),
];

/// What a dialect lacks, in every case: the dialect, the fact, and what it has instead.
const LACKS: &[(&str, &str, &str)] = &[
    (
        "v2-json",
        "status line",
        "protocol and number, no reason phrase",
    ),
    (
        "v2-json",
        "stopwatch",
        "time spent by phase, neither start nor length",
    ),
    (
        "v2-json",
        "numbers and types of uploads",
        "the position in the list, not the number among the parts of the body; a type that was \
         not given is spelled in another way",
    ),
    (
        "v3-json",
        "request line",
        "method, URI and version on their own",
    ),
    ("v3-json", "status line", "the number alone"),
    (
        "v3-json",
        "action and phase",
        "nothing before is_interrupted, of 2026",
    ),
    ("v3-json", "phase", "nothing"),
    (
        "v3-json",
        "intercepted",
        "the status; is_interrupted since 2026",
    ),
    ("v3-native", "engine mode", "nothing"),
    ("v3-native", "producer", "nothing"),
    (
        "v3-native",
        "response body",
        "bytes that are not printable ASCII as \\xhh, and a backslash as it is",
    ),
];

/// What cannot be compared in a case: both servers, the case, the fact, and why.
const DIFFERENCES: &[(&str, &str, &str, &str, &str)] = &[
    (
        "v2-native",
        "v2-json",
        "body-binary-nul",
        "request body",
        ENDS_AT_NUL,
    ),
    (
        "v2-native",
        "v2-json",
        "body-multipart-files",
        "request body",
        ENDS_AT_NUL,
    ),
    (
        "v2-json",
        "v2-json",
        "clean-keepalive-3",
        "requests",
        LISTED_ONCE,
    ),
    (
        "v3-json",
        "v3-json",
        "clean-keepalive-3",
        "requests",
        LISTED_ONCE,
    ),
    (
        "v2-native",
        "v3-json",
        "rule-minimal-parts",
        "method",
        KEEPS_MORE,
    ),
    (
        "v2-native",
        "v3-json",
        "rule-minimal-parts",
        "uri",
        KEEPS_MORE,
    ),
    (
        "v2-native",
        "v3-json",
        "rule-minimal-parts",
        "protocol",
        KEEPS_MORE,
    ),
    (
        "v2-native",
        "v3-json",
        "rule-minimal-parts",
        "status",
        KEEPS_MORE,
    ),
    (
        "v2-native",
        "v3-json",
        "proto-absolute-uri",
        "uri",
        "nginx hands over the path alone",
    ),
    (
        "v2-native",
        "v3-json",
        "inj-xri-duplicate",
        "request headers",
        "httpd joins repeated headers, libmodsecurity lists them",
    ),
    (
        "v2-native",
        "v3-json",
        "rule-redirect",
        "status",
        "nginx redirects after it has logged",
    ),
    (
        "v2-native",
        "v3-json",
        "body-json-invalid",
        "status",
        OTHER_ANSWER,
    ),
    (
        "v2-native",
        "v3-json",
        "body-multipart-unterminated",
        "status",
        OTHER_ANSWER,
    ),
    (
        "v2-native",
        "v3-json",
        "body-over-limit",
        "status",
        OTHER_ANSWER,
    ),
    (
        "v2-native",
        "v3-json",
        "clean-post-multipart",
        "status",
        OTHER_ANSWER,
    ),
    (
        "v2-native",
        "v3-json",
        "status-500-cgi",
        "status",
        OTHER_ANSWER,
    ),
    (
        "v2-native",
        "v3-json",
        "status-503-dead-backend",
        "status",
        OTHER_ANSWER,
    ),
    (
        "v3-native",
        "v3-json",
        "body-binary-nul",
        "request body",
        ENDS_AT_NUL,
    ),
    (
        "v3-native",
        "v3-json",
        "body-multipart-files",
        "request body",
        ENDS_AT_NUL,
    ),
    (
        "v3-native",
        "v3-json",
        "body-form-invalid-utf8",
        "data",
        ENDS_AT_NUL,
    ),
    ("v3-native", "v3-json", "lfi-crs2-null", "data", ENDS_AT_NUL),
    (
        "v3-native",
        "v3-json",
        "resp-sql-error",
        "data",
        "the native format cuts data at 200 bytes",
    ),
    (
        "v3-native",
        "v3-json",
        "rule-minimal-parts",
        "method",
        KEEPS_MORE,
    ),
    (
        "v3-native",
        "v3-json",
        "rule-minimal-parts",
        "uri",
        KEEPS_MORE,
    ),
    (
        "v3-native",
        "v3-json",
        "rule-minimal-parts",
        "protocol",
        KEEPS_MORE,
    ),
    (
        "v3-native",
        "v3-json",
        "rule-minimal-parts",
        "status",
        KEEPS_MORE,
    ),
];
const ENDS_AT_NUL: &str = "a string of this dialect ends before the first NUL";
const KEEPS_MORE: &str = "the JSON of libmodsecurity has these whatever parts are configured";
const LISTED_ONCE: &str = "in the serial logs three requests of one connection are listed as one";
const OTHER_ANSWER: &str = "the servers really answered in different ways";

/// Facts of part K, which not every host of the corpus logs.
const NEEDS_PART_K: [&str; 2] = ["matched rules", "verified"];

fn shown<T: Debug>(value: T) -> String {
    format!("{value:?}")
}

/// Returns what the client sent, as far as it has got through to the engine.
fn request_facts(record: &Record<'_>) -> Vec<(&'static str, String)> {
    let request = &record.request;
    let headers = request.headers.iter().map(|header| {
        let name = header.name.to_string().to_ascii_lowercase();
        format!("{name}: {:?}", header.value)
    });
    // The proxy in front of the Apache servers adds this one, the one in front of nginx does not.
    let mut headers: Vec<String> = headers
        .filter(|header| !header.starts_with("x-forwarded-for: "))
        .collect();
    headers.sort();
    vec![
        ("method", shown(&request.method)),
        ("uri", shown(&request.uri)),
        ("protocol", shown(&request.protocol)),
        ("host", shown(request.header("Host"))),
        ("user agent", shown(request.header("User-Agent"))),
        ("request headers", headers.join("\n")),
        (
            "client",
            shown(record.client.as_ref().map(|client| &client.text)),
        ),
        (
            "server",
            shown(record.server.as_ref().map(|server| &server.text)),
        ),
        ("status", shown(record.response.status)),
    ]
}

fn body(body: Option<&Body<'_>>) -> String {
    shown(body.filter(|body| body.len > 0))
}

fn alert_facts(alerts: &[Alert<'_>]) -> Vec<(&'static str, String)> {
    let of_alerts = |fact: &dyn Fn(&Alert<'_>) -> String| {
        let facts: Vec<String> = alerts.iter().map(fact).collect();
        facts.join("\n")
    };
    vec![
        (
            "action and phase",
            of_alerts(&|alert| shown((alert.action, alert.phase))),
        ),
        (
            "operator's sentence",
            of_alerts(&|alert| shown(&alert.detail)),
        ),
        ("rule ids", of_alerts(&|alert| shown(&alert.rule_id))),
        ("msg", of_alerts(&|alert| shown(&alert.msg))),
        ("data", of_alerts(&|alert| shown(&alert.data))),
        ("severity", of_alerts(&|alert| shown(alert.severity))),
        (
            "rev and ver",
            of_alerts(&|alert| shown((&alert.rev, &alert.ver))),
        ),
        (
            "maturity and accuracy",
            of_alerts(&|alert| shown((alert.maturity, alert.accuracy))),
        ),
        ("tags", of_alerts(&|alert| shown(&alert.tags))),
        ("verified", of_alerts(&|alert| shown(alert.verified))),
    ]
}

fn upload_facts(uploads: Option<&Vec<Upload<'_>>>) -> Vec<(&'static str, String)> {
    let of_uploads = |fact: &dyn Fn(&Upload<'_>) -> String| {
        shown(uploads.map(|uploads| uploads.iter().map(fact).collect::<Vec<_>>()))
    };
    vec![
        (
            "uploads",
            of_uploads(&|upload| shown((&upload.name, upload.size))),
        ),
        (
            "numbers and types of uploads",
            of_uploads(&|upload| shown((upload.index, &upload.content_type))),
        ),
    ]
}

fn engine_facts(record: &Record<'_>) -> Vec<(&'static str, String)> {
    let engine = &record.engine;
    let rules = record.matched_rules.as_ref().map(|rules| {
        let rules = rules.iter().map(|rule| (&rule.id, rule.matched, rule.logs));
        rules.collect::<Vec<_>>()
    });
    vec![
        ("request line", shown(&record.request.line)),
        ("request body", body(record.request.body.as_ref())),
        ("form", body(record.request.form.as_ref())),
        ("response body", body(record.response.body.as_ref())),
        ("status line", shown(&record.response.status_line)),
        (
            "cause",
            shown(
                Analysis::of(record)
                    .cause
                    .map(|cause| &record.alerts[cause].rule_id),
            ),
        ),
        ("phase", shown(record.phase())),
        ("intercepted", shown(record.intercepted())),
        ("scores", shown(record.scores)),
        ("engine mode", shown(engine.mode)),
        ("producer", shown(&engine.producer)),
        ("server software", shown(&engine.server)),
        ("handler", shown(&engine.handler)),
        ("sensor", shown(&engine.sensor_id)),
        ("application", shown(&engine.webapp_info)),
        ("Apache errors", shown(engine.apache_errors.len())),
        ("stopwatch", shown(engine.stopwatch.is_some())),
        ("other lines", shown(&engine.other)),
        ("matched rules", shown(rules)),
        ("flags", shown(record.flags)),
    ]
}

type FactList = Vec<(&'static str, String)>;

/// Returns the facts of each case; of a case with several requests, in the order of their facts.
fn cases(dialect: &Dialect, facts: Facts) -> BTreeMap<String, Vec<FactList>> {
    let mut cases: BTreeMap<String, Vec<FactList>> = BTreeMap::new();
    for document in dialect.documents() {
        let record = format::decode(&document.bytes).expect(&document.place);
        let mut found = request_facts(&record);
        if facts == Facts::All {
            found.extend(engine_facts(&record));
            found.extend(alert_facts(&record.alerts));
            found.extend(upload_facts(record.uploads.as_ref()));
        }
        if record.matched_rules.is_none() {
            found.retain(|(fact, _)| !NEEDS_PART_K.contains(fact));
        }
        cases.entry(document.case).or_default().push(found);
    }
    for requests in cases.values_mut() {
        requests.sort();
    }
    cases
}

/// Returns the facts that differ, and how many were compared.
fn differences(ours: &[FactList], theirs: &[FactList]) -> (Vec<(&'static str, String)>, usize) {
    if ours.len() != theirs.len() {
        let counts = format!("{} and {}", ours.len(), theirs.len());
        return (vec![("requests", counts)], 0);
    }
    let mut compared = 0;
    let mut found = Vec::new();
    for (ours, theirs) in ours.iter().zip(theirs) {
        let theirs: BTreeMap<_, _> = theirs.iter().map(|(fact, value)| (fact, value)).collect();
        for (fact, ours) in ours {
            let Some(theirs) = theirs.get(fact) else {
                continue;
            };
            compared += 1;
            if ours != *theirs {
                found.push((*fact, format!("\n  {ours}\n  {theirs}")));
            }
        }
    }
    (found, compared)
}

/// Returns the entry of a table that excuses a difference.
fn excuse(one: &str, other: &str, case: &str, fact: &str) -> Option<String> {
    let lack = LACKS.iter().find(|(dialect, of, _)| {
        *of == fact && one.starts_with(dialect) != other.starts_with(dialect)
    });
    let difference = DIFFERENCES.iter().find(|(first, second, name, of, _)| {
        one.starts_with(first) && other.starts_with(second) && (*name, *of) == (case, fact)
    });
    lack.map(shown).or(difference.map(shown))
}

#[test]
fn the_same_request_makes_the_same_record() {
    let mut failures = Vec::new();
    let mut used = BTreeSet::new();
    for (one, other, facts) in PAIRS {
        let right = cases(other, facts);
        let mut all = 0;
        for (case, ours) in cases(one, facts) {
            let Some(theirs) = right.get(&case) else {
                continue;
            };
            let (found, compared) = differences(&ours, theirs);
            all += compared;
            for (fact, difference) in found {
                if let Some(entry) = excuse(one.name, other.name, &case, fact) {
                    used.insert(entry);
                } else {
                    let pair = format!("{} and {}", one.name, other.name);
                    failures.push(format!("{pair}, {case}: {fact}: {difference}"));
                }
            }
        }
        assert!(all > 700, "{all} facts of {} and {}", one.name, other.name);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let entries = LACKS.iter().map(shown);
    let entries = entries.chain(DIFFERENCES.iter().map(shown));
    let unused: Vec<String> = entries.filter(|entry| !used.contains(entry)).collect();
    assert!(unused.is_empty(), "no longer true: {unused:#?}");
}

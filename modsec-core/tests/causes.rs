//! What the alerts of real entries mean.
//!
//! After a deliberate change, accept the new snapshots with `INSTA_UPDATE=always cargo test -p
//! modsec-core --test causes` and read the difference.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod entries;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use entries::{RealEntry, SYNTHETIC};
use flate2::read::GzDecoder;
use modsec_core::Record;
use modsec_core::cause::{Analysis, Category, Direction, Kind, Outcome};
use modsec_core::format;
use modsec_core::serial_log::{self, Item};

/// JSON dialects with entries in files of their own.
const JSON: [(&str, &[&str]); 2] = [
    ("json-v2", &["v2-json-concurrent"]),
    ("json-v3", &["v3-json-concurrent"]),
];

/// Logs of the same requests, cut as a log is.
const LOGS: [&str; 3] = ["v2-native-serial", "v2-json-serial", "v3-json-serial"];

fn labelled(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/labelled")
        .join(name)
}

/// Calls `visit` with the dialect, the case and the record of each entry. In a log, the case is the
/// number of the entry.
fn each(mut visit: impl FnMut(&str, &str, &Record<'_>)) {
    let families = entries::FAMILIES.iter().chain(&JSON).chain([&SYNTHETIC]);
    for (family, dialect) in families
        .flat_map(|(family, dialects)| dialects.iter().map(move |dialect| (family, dialect)))
    {
        for RealEntry { case, place, bytes } in entries::read(&entries::data(family, dialect)) {
            let record =
                format::decode(&bytes).unwrap_or_else(|defect| panic!("{place}: {defect}"));
            visit(dialect, &case, &record);
        }
    }
    for dialect in LOGS {
        let log = entries::data("serial", dialect).join("modsec_audit.log");
        let mut number = 0;
        each_of(File::open(log).unwrap(), |record| {
            visit(dialect, &format!("entry {number}"), record);
            number += 1;
        });
    }
}

/// Calls `visit` with the record of each entry of a log.
fn each_of(log: impl Read, mut visit: impl FnMut(&Record<'_>)) {
    for item in serial_log::read(log) {
        if let Item::Entry(entry) = item.unwrap() {
            visit(&entry.decode().unwrap());
        }
    }
}

fn rule(record: &Record<'_>, at: Option<usize>) -> String {
    let id = at.and_then(|at| record.alerts[at].rule_id.as_ref());
    id.map_or("-".to_owned(), ToString::to_string)
}

/// Returns the release of the Core Rule Set that the detections are of, such as `3.3.4`.
fn release(record: &Record<'_>) -> Option<String> {
    record.alerts.iter().find_map(|alert| {
        let ver = alert.ver.as_ref()?.to_str()?;
        Some(ver.strip_prefix("OWASP_CRS/")?.to_owned())
    })
}

#[test]
fn every_real_entry_has_its_cause() {
    let mut dialects: BTreeMap<String, String> = BTreeMap::new();
    each(|dialect, case, record| {
        let analysis = Analysis::of(record);
        let cause = analysis.cause.map(|at| &analysis.alerts[at]);
        let target = cause.and_then(|cause| cause.target.as_ref());
        let category = cause.and_then(|cause| cause.category);
        writeln!(
            dialects.entry(dialect.to_owned()).or_default(),
            "{case}: {} cause {} by {} threshold {:?} sole {:?} {} {}",
            analysis.outcome.map_or("-", Outcome::name),
            rule(record, analysis.cause),
            rule(record, analysis.blocked_by),
            analysis.threshold,
            analysis.is_sole,
            category.map_or("-", Category::name),
            target.map_or("-".to_owned(), |target| format!("{:?}", target.text)),
        )
        .unwrap();
    });
    assert_eq!(dialects.len(), 12);
    for (dialect, causes) in dialects {
        insta::assert_snapshot!(format!("causes-{dialect}"), causes);
    }
}

#[test]
fn bookkeeping_is_no_cause_where_there_is_a_detection() {
    let mut transactions = 0;
    each(|dialect, case, record| {
        let analysis = Analysis::of(record);
        let is_detection = |at: usize| analysis.alerts[at].kind == Kind::Detection;
        if (0..analysis.alerts.len()).any(is_detection) {
            assert!(is_detection(analysis.cause.unwrap()), "{dialect} {case}");
            transactions += 1;
        }
    });
    assert!(transactions > 400, "{transactions}");
}

/// The sum of the points against the score that the rule set itself logged.
#[test]
fn points_add_up_to_the_logged_score() {
    let mut table: BTreeMap<(String, String), (u32, u32)> = BTreeMap::new();
    let mut count = |dialect: &str, record: &Record<'_>| {
        let Some(score) = record.scores.inbound.filter(|score| *score > 0) else {
            return;
        };
        let release = release(record).unwrap_or_else(|| "none".to_owned());
        let cell = table.entry((dialect.to_owned(), release)).or_default();
        let points = Analysis::of(record).alerts.into_iter();
        let inbound = points
            .filter_map(|meaning| meaning.points)
            .filter(|points| points.direction == Direction::Inbound);
        cell.0 += u32::from(inbound.map(|points| points.value).sum::<i64>() == score);
        cell.1 += 1;
    };
    each(|dialect, _, record| count(dialect, record));
    for name in ["v2-native", "v3-json"] {
        each_labelled(name, |_, record| count(&format!("labelled {name}"), record));
    }
    let lines = table.iter().map(|((dialect, release), (equal, all))| {
        format!("{dialect}, CRS {release}: {equal} of {all}\n")
    });
    insta::assert_snapshot!("points-against-scores", lines.collect::<String>());

    // The manual page has the sums.
    let mut sums: BTreeMap<(&str, &str), (u32, u32)> = BTreeMap::new();
    for ((dialect, release), (equal, all)) in &table {
        let engine = match dialect {
            dialect if dialect.contains("coraza") => "Coraza",
            dialect if dialect.contains("v3") => "libmodsecurity 3",
            _ => "ModSecurity 2",
        };
        let sum = sums.entry((engine, release)).or_default();
        *sum = (sum.0 + equal, sum.1 + all);
    }
    let page = include_str!("../man/modsec-logs.5");
    for ((engine, release), (equal, all)) in sums {
        let line = format!("{engine}, CRS {release}: {equal} of {all}\n");
        assert!(page.contains(&line), "modsec-logs.5 lacks {line}");
    }
}

/// Calls `visit` with the id and the record of each transaction.
fn each_labelled(name: &str, mut visit: impl FnMut(&str, &Record<'_>)) {
    let log = File::open(labelled(&format!("{name}.log.gz"))).unwrap();
    for item in serial_log::read(GzDecoder::new(log)) {
        if let Item::Entry(entry) = item.unwrap() {
            let record = entry.decode().unwrap();
            visit(
                record.unique_id.as_ref().unwrap().to_str().unwrap(),
                &record,
            );
        }
    }
}

#[test]
fn the_cause_is_a_rule_that_the_request_was_known_to_trip() {
    for (name, least) in [("v2-native", 150), ("v3-json", 300)] {
        let table = fs::read_to_string(labelled(&format!("{name}.tsv"))).unwrap();
        let truth: HashMap<&str, Vec<&str>> = table
            .lines()
            .map(|line| line.split('\t').collect::<Vec<_>>())
            .map(|fields| (fields[0], fields[1..].to_vec()))
            .collect();
        let mut seen = 0;
        each_labelled(name, |id, record| {
            let [answer, label, rules] = truth[id][..] else {
                panic!("{id}")
            };
            let analysis = Analysis::of(record);
            let is_blocked = analysis.outcome == Some(Outcome::Blocked);
            assert_eq!(is_blocked, answer == "blocked", "{label} {id}");
            let cause = rule(record, analysis.cause);
            if rules != "-" && cause != "-" {
                assert!(
                    rules.split(',').any(|rule| rule == cause),
                    "{label} {id}: {cause}"
                );
                seen += 1;
            }
        });
        assert!(seen >= least, "{name}: {seen}");
    }
}

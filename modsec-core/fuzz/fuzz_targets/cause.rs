//! What alerts mean, whatever their texts are: nothing is invented, and bookkeeping is no cause.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::cause::{Analysis, Kind, path, path_template};
use modsec_core::record::{Alert, MatchedRule, Record, Severity};
use modsec_core::Text;

fuzz_target!(|bytes: &[u8]| {
    let record = record(bytes);
    let analysis = Analysis::of(&record);
    assert_eq!(analysis.alerts.len(), record.alerts.len());
    for (alert, meaning) in record.alerts.iter().zip(&analysis.alerts) {
        if let Some(target) = &meaning.target {
            let told = [Some(&alert.detail), alert.data.as_ref()];
            let mut told = told.into_iter().flatten();
            assert!(told.any(|text| has(text.as_bytes(), target.text.as_bytes())));
        }
        assert!(meaning.kind == Kind::Detection || meaning.points.is_none());
        assert!(meaning.paranoia_level.is_none_or(|level| (1..=4).contains(&level)));
    }
    let kind = |at: usize| analysis.alerts[at].kind;
    let detects = |at: usize| kind(at) == Kind::Detection;
    match analysis.cause {
        Some(cause) => assert!(detects(cause) || !(0..record.alerts.len()).any(detects)),
        None => assert!(record.alerts.is_empty()),
    }
    assert!(analysis.blocked_by.is_none_or(|at| at < record.alerts.len()));

    let template = path_template(path(bytes));
    assert_eq!(path_template(&template), template, "a template stays as it is");
});

/// Records of alerts and a rule of part K, with a byte between texts that occurs in no UTF-8.
fn record(bytes: &[u8]) -> Record<'_> {
    let mut record = Record::default();
    let mut fields = bytes.split(|byte| *byte == 0xff);
    let directive = fields.next().unwrap_or_default();
    let mut rule = MatchedRule::default();
    rule.directive = Text::from(directive);
    rule.id = Some(Text::from("942100"));
    record.matched_rules = Some(vec![rule]);
    while let Some(detail) = fields.next() {
        let mut next = || fields.next().filter(|field| !field.is_empty()).map(Text::from);
        let mut alert = Alert::default();
        alert.detail = Text::from(detail);
        alert.data = next();
        alert.msg = next();
        alert.file = next();
        alert.rule_id = next();
        alert.tags.extend(next());
        alert.severity = detail.first().and_then(|byte| Severity::from_number(byte % 8));
        record.alerts.push(alert);
    }
    record
}

fn has(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

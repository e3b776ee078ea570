//! Causes of transactions made by hand.

use super::*;
use crate::record::{MatchedRule, Response, Severity};

/// An alert of a detection, or of bookkeeping by its id.
fn alert(id: &'static str, severity: Severity) -> Alert<'static> {
    Alert {
        action: Some(AlertAction::Warning),
        rule_id: Some(id.into()),
        severity: Some(severity),
        detail: "Pattern match \"x\" at ARGS:id.".into(),
        ..Alert::default()
    }
}

/// The alert of the rule that blocks at 5.
fn blocking(action: AlertAction) -> Alert<'static> {
    Alert {
        action: Some(action),
        rule_id: Some("949110".into()),
        detail: "Operator GE matched 5 at TX:anomaly_score.".into(),
        msg: Some("Inbound Anomaly Score Exceeded (Total Score: 5)".into()),
        ..Alert::default()
    }
}

fn record(alerts: Vec<Alert<'static>>) -> Record<'static> {
    Record {
        alerts,
        ..Record::default()
    }
}

fn summary(record: &Record<'_>) -> (Option<usize>, Option<usize>, Option<bool>, Option<Outcome>) {
    let analysis = Analysis::of(record);
    (
        analysis.cause,
        analysis.blocked_by,
        analysis.is_sole,
        analysis.outcome,
    )
}

#[test]
fn the_cause_is_the_detection_with_the_most_points() {
    use AlertAction::{Denied, Warning};
    let warning = || alert("920350", Severity::Warning);
    let critical = || alert("942100", Severity::Critical);
    let other = || alert("941100", Severity::Critical);
    let blocked = Some(Outcome::Blocked);
    for (alerts, want) in [
        (vec![], (None, None, None, None)),
        (
            vec![warning(), critical(), blocking(Denied)],
            (Some(1), Some(2), Some(true), blocked),
        ),
        (
            vec![critical(), other(), blocking(Denied)],
            (Some(0), Some(2), Some(false), blocked),
        ),
        (
            vec![warning(), warning(), blocking(Denied)],
            (Some(0), Some(2), Some(true), blocked),
        ),
        (
            vec![
                warning(),
                alert("920300", Severity::Notice),
                blocking(Denied),
            ],
            (Some(0), Some(2), Some(false), blocked),
        ),
        (
            vec![critical(), blocking(Warning)],
            (Some(0), None, Some(true), Some(Outcome::Detected)),
        ),
        (
            vec![warning()],
            (Some(0), None, None, Some(Outcome::Detected)),
        ),
        // Nothing but bookkeeping is left of it.
        (vec![blocking(Denied)], (Some(0), Some(0), None, blocked)),
    ] {
        let record = record(alerts);
        assert_eq!(summary(&record), want, "{record:?}");
    }
}

#[test]
fn a_detection_that_itself_intercepts_is_the_cause() {
    let own = Alert {
        action: Some(AlertAction::Denied),
        ..alert("10", Severity::Warning)
    };
    let record = record(vec![alert("942100", Severity::Critical), own]);
    let want = (Some(1), Some(1), Some(true), Some(Outcome::Blocked));
    assert_eq!(summary(&record), want);
}

#[test]
fn what_a_client_may_have_written_comes_after_what_is_certain() {
    let forged = Alert {
        verified: Some(false),
        ..alert("942100", Severity::Critical)
    };
    let genuine = alert("920350", Severity::Warning);
    let mut record = record(vec![forged.clone(), genuine]);
    assert_eq!(Analysis::of(&record).cause, Some(1));
    // But bookkeeping is no cause.
    record.alerts = vec![blocking(AlertAction::Denied), forged];
    assert_eq!(Analysis::of(&record).cause, Some(1));
}

#[test]
fn a_response_is_blocked_for_what_is_in_the_response() {
    let leak = Alert {
        file: Some("/crs/rules/RESPONSE-951-DATA-LEAKAGES-SQL.conf".into()),
        ..alert("951110", Severity::Error)
    };
    let blocked = Alert {
        action: Some(AlertAction::Denied),
        rule_id: Some("959100".into()),
        detail: "Operator GE matched 4 at TX:outbound_anomaly_score.".into(),
        msg: Some("Outbound Anomaly Score Exceeded (Total Score: 4)".into()),
        ..Alert::default()
    };
    let record = record(vec![alert("942430", Severity::Critical), leak, blocked]);
    let analysis = Analysis::of(&record);
    assert_eq!((analysis.cause, analysis.blocked_by), (Some(1), Some(2)));
    assert_eq!(
        (analysis.threshold, analysis.is_sole),
        (Some(4), Some(true))
    );
}

#[test]
fn a_dialect_without_the_word_is_blocked_by_status_and_a_blocking_alert() {
    let detection = Alert {
        action: None,
        ..alert("942100", Severity::Critical)
    };
    let evaluation = Alert {
        action: None,
        detail: "Matched \"Operator `Ge' with parameter `5' against variable `TX:ANOMALY_SCORE' (Value: `10' )".into(),
        ..blocking(AlertAction::Denied)
    };
    let with = |alerts: &[&Alert<'static>], status| Record {
        response: Response {
            status: Some(status),
            ..Response::default()
        },
        ..record(alerts.iter().map(|alert| (*alert).clone()).collect())
    };
    let outcome = |record: &Record<'_>| Analysis::of(record).outcome.map(Outcome::name);
    let both = [&detection, &evaluation];
    let mut blocked = with(&both, 403);
    assert_eq!(outcome(&blocked), Some("blocked"));
    let analysis = Analysis::of(&blocked);
    assert_eq!(
        (analysis.cause, analysis.blocked_by, analysis.threshold),
        (Some(0), Some(1), Some(5))
    );
    assert_eq!(outcome(&with(&both, 200)), Some("detected"));
    assert_eq!(outcome(&with(&[&detection], 403)), Some("detected"));
    blocked.engine.mode = Some(EngineMode::DetectionOnly);
    assert_eq!(outcome(&blocked), Some("detected"));
    blocked.engine.mode = None;
    blocked.interrupted = Some(false);
    assert_eq!(outcome(&blocked), Some("detected"));
}

#[test]
fn the_threshold_is_that_of_part_k_where_no_alert_compares() {
    let mut record = record(vec![alert("942100", Severity::Critical)]);
    let rule = MatchedRule {
        id: Some("901100".into()),
        matched: true,
        directive:
            "SecRule \"x\" \"@eq 0\" \"id:901100,setvar:tx.inbound_anomaly_score_threshold=20\""
                .into(),
        ..MatchedRule::default()
    };
    record.matched_rules = Some(vec![rule]);
    let analysis = Analysis::of(&record);
    assert_eq!(
        (analysis.threshold, analysis.is_sole),
        (Some(20), Some(false))
    );
}

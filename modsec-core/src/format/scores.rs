//! Anomaly scores of the Core Rule Set, from the sentences in which its rules report them.
//!
//! | Core Rule Set | rule | phase | message |
//! | --- | --- | --- | --- |
//! | 2.2 | 981176 | 2 | `Inbound Anomaly Score Exceeded (Total Score: N, SQLi=N, XSS=N): …` |
//! | 2.2 | 981203, 981204 | 5 | `Inbound Anomaly Score … (Total Inbound Score: N, SQLi=N, XSS=N): …` |
//! | 3, 4 | 949110 | 2 | `Inbound Anomaly Score Exceeded (Total Score: N)` |
//! | 4 | 949111 | 1 | `Inbound Anomaly Score Exceeded in phase 1 (Total Score: N)` |
//! | 3 | 980120, 980130 | 5 | `Inbound Anomaly Score … (Total Inbound Score: N - SQLI=N,XSS=N,…): …` |
//! | 4 | 980170 | 5 | `Anomaly Scores: (Inbound Scores: blocking=N, …) - (Outbound …) - (SQLI=N, …)` |
//!
//! A macro that did not resolve leaves nothing (`SQLi=`): absent, not 0. The rules of phase 5 have
//! `noauditlog`: libmodsecurity, and Coraza since 3.7, do not log them, so that the total alone is known.
//!
//! Every release words them differently. The sentence is anchored at the start of the rule's
//! message, and the counters are taken from its own parentheses only, because the rest quotes
//! other messages. Outbound and correlated scores are not counted.

use std::sync::LazyLock;

use regex::bytes::Regex;

use super::digits::signed;
use crate::record::{Alert, AnomalyScores};

// Inbound Anomaly Score Exceeded (Total Inbound Score: 13, SQLi=6, XSS=0): SQL Injection
// Inbound Anomaly Score Exceeded (Total Inbound Score: 5 - SQLI=5,XSS=0,…,SESS=0): individual …
// Inbound Anomaly Score Exceeded in phase 1 (Total Score: 5)
/// The sentence of releases 2 and 3 of the Core Rule Set. A test proves that it compiles.
static CLASSIC: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^Inbound Anomaly Score(?: Exceeded)?(?: in phase [0-9])? \(Total (?<summary>Inbound )?Score: (?<total>[0-9]*)(?:(?:, | - )(?<counters>[^()]*))?\)",
    )
    .ok()
});

// Anomaly Scores: (Inbound Scores: blocking=5, …) - (Outbound Scores: …) - (SQLI=5, XSS=0, …)
/// The sentence of release 4, in phase 5.
static CRS_4: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^Anomaly Scores: \(Inbound Scores: blocking=(?<total>[0-9]*),[^()]*\) - \(Outbound Scores: [^()]*\) - \((?<counters>[^()]*)\)",
    )
    .ok()
});

/// A sentence that reports inbound scores.
struct Reported {
    /// Written at the end of the transaction (phase 5), so it has the final numbers.
    summary: bool,
    /// The scores that it names.
    scores: AnomalyScores,
}

/// Returns the inbound scores that the alerts report: those of the summary in phase 5, and what
/// it leaves open from the blocking rule.
pub(super) fn of(alerts: &[Alert<'_>]) -> AnomalyScores {
    let mut best = AnomalyScores::default();
    let mut blocking = AnomalyScores::default();
    for alert in alerts.iter().filter(|alert| alert.is_trusted()) {
        let Some(msg) = &alert.msg else { continue };
        if let Some(reported) = read(msg.as_bytes()) {
            let kept = if reported.summary {
                &mut best
            } else {
                &mut blocking
            };
            *kept = reported.scores;
        }
    }
    AnomalyScores {
        inbound: best.inbound.or(blocking.inbound),
        sqli: best.sqli.or(blocking.sqli),
        xss: best.xss.or(blocking.xss),
    }
}

/// Reads one message; `None` if it reports no inbound scores.
fn read(msg: &[u8]) -> Option<Reported> {
    let (regex, crs_4) = if msg.starts_with(b"Inbound Anomaly Score") {
        (CLASSIC.as_ref()?, false)
    } else if msg.starts_with(b"Anomaly Scores: (Inbound") {
        (CRS_4.as_ref()?, true)
    } else {
        return None;
    };
    let found = regex.captures(msg)?;
    let counters = found
        .name("counters")
        .map_or(&b""[..], |counters| counters.as_bytes());
    Some(Reported {
        summary: crs_4 || found.name("summary").is_some(),
        scores: AnomalyScores {
            inbound: found
                .name("total")
                .and_then(|total| signed(total.as_bytes())),
            sqli: counter(counters, b"SQLI"),
            xss: counter(counters, b"XSS"),
        },
    })
}

/// Finds `NAME=digits` in a list separated by commas; empty when a macro did not resolve.
fn counter(counters: &[u8], name: &[u8]) -> Option<i64> {
    counters.split(|byte| *byte == b',').find_map(|item| {
        let item = item.trim_ascii();
        let equals = item.iter().position(|byte| *byte == b'=')?;
        let (key, value) = item.split_at_checked(equals)?;
        key.eq_ignore_ascii_case(name)
            .then(|| signed(value.get(1..)?))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(messages: &[&'static str]) -> (Option<i64>, Option<i64>, Option<i64>) {
        let alerts: Vec<Alert<'_>> = messages
            .iter()
            .map(|msg| Alert {
                msg: Some((*msg).into()),
                ..Alert::default()
            })
            .collect();
        let scores = of(&alerts);
        (scores.inbound, scores.sqli, scores.xss)
    }

    #[test]
    fn patterns_compile() {
        assert!(CLASSIC.is_some() && CRS_4.is_some());
    }

    #[test]
    fn every_spelling_of_an_inbound_score() {
        for (msg, want) in [
            (
                "Inbound Anomaly Score Exceeded (Total Score: 13, SQLi=6, XSS=0): Last Matched Message: Outbound (Total Inbound Score: 99, SQLi=9, XSS=9)",
                (Some(13), Some(6), Some(0)),
            ),
            (
                "Inbound Anomaly Score (Total Inbound Score: 2, SQLi=, XSS=): x",
                (Some(2), None, None),
            ),
            (
                "Inbound Anomaly Score Exceeded (Total Inbound Score: 13, SQLi=6, XSS=1): x",
                (Some(13), Some(6), Some(1)),
            ),
            (
                "Inbound Anomaly Score Exceeded (Total Inbound Score: , SQLi=, XSS=): x",
                (None, None, None),
            ),
            (
                "Inbound Anomaly Score Exceeded (Total Score: 5)",
                (Some(5), None, None),
            ),
            (
                "Inbound Anomaly Score Exceeded in phase 1 (Total Score: 7)",
                (Some(7), None, None),
            ),
            (
                "Inbound Anomaly Score (Total Inbound Score: 3): x (SQLI=4)",
                (Some(3), None, None),
            ),
            (
                "Inbound Anomaly Score Exceeded (Total Inbound Score: 15 - SQLI=10,XSS=5,RFI=0,LFI=0,RCE=0,PHPI=0,HTTP=0,SESS=0): x",
                (Some(15), Some(10), Some(5)),
            ),
            (
                "Inbound Anomaly Score (Total Inbound Score: 3 - SQLI=0,XSS=3,RFI=0,LFI=0,RCE=0,PHPI=0,HTTP=0,SESS=0): x; individual paranoia level scores: 3, 0, 0, 0",
                (Some(3), Some(0), Some(3)),
            ),
            (
                "Inbound Anomaly Score Exceeded (Total Inbound Score: 5 - SQLI=5,XSS=0,RFI=0,LFI=0,RCE=0,PHPI=0,HTTP=0,SESS=0): individual paranoia level scores: 5, 0, 0, 0",
                (Some(5), Some(5), Some(0)),
            ),
            (
                "Anomaly Scores: (Inbound Scores: blocking=8, detection=9, per_pl=8-0-0-0, threshold=5) - (Outbound Scores: blocking=4, detection=4, per_pl=4-0-0-0, threshold=4) - (SQLI=5, XSS=3, RFI=0, LFI=0, RCE=0, PHPI=0, HTTP=0, SESS=0, COMBINED_SCORE=12)",
                (Some(8), Some(5), Some(3)),
            ),
            (
                "Anomaly Scores: (Inbound Scores: blocking=, detection=, per_pl=---, threshold=5) - (Outbound Scores: blocking=0, detection=0, per_pl=0-0-0-0, threshold=4) - (SQLI=, XSS=, RFI=, LFI=, RCE=, PHPI=, HTTP=, SESS=)",
                (None, None, None),
            ),
        ] {
            assert_eq!(scores(&[msg]), want, "input {msg:?}");
        }
    }

    #[test]
    fn outbound_and_correlated_scores_are_not_inbound() {
        for msg in [
            "Outbound Anomaly Score Exceeded (Total Score: 4)",
            "Outbound Anomaly Score Exceeded (score 4): Last Matched Message: x",
            "Outbound Anomaly Score Exceeded in phase 3 (Total Score: 4)",
            "Outbound Anomaly Score (Total Outbound Score: 4): x",
            "Correlated Successful Attack Identified: (Total Score: 9, SQLi=1, XSS=1) Inbound Attack (x - Inbound Anomaly Score: 5) + Outbound Data Leakage (x - Outbound Anomaly Score: 4)",
            "Correlated Attack Attempt Identified: (Total Score: 9) Inbound Attack (Inbound Anomaly Score: 5) + Outbound Application Error (Outbound Anomaly Score: 4)",
            "x Inbound Anomaly Score Exceeded (Total Score: 5)",
            "Inbound Anomaly Score Exceeded (Total Score: 99999999999999999999)",
        ] {
            assert_eq!(scores(&[msg]), (None, None, None), "input {msg:?}");
        }
    }

    #[test]
    fn the_summary_of_phase_5_is_preferred_wherever_it_stands() {
        let blocking = "Inbound Anomaly Score Exceeded (Total Score: 5)";
        let summary =
            "Inbound Anomaly Score Exceeded (Total Inbound Score: 8 - SQLI=5,XSS=3,RFI=0): x";
        let want = (Some(8), Some(5), Some(3));
        assert_eq!(scores(&[blocking, summary]), want);
        assert_eq!(scores(&[summary, blocking]), want);
    }

    #[test]
    fn an_alert_that_cannot_be_trusted_reports_no_score() {
        let alert = Alert {
            msg: Some("Inbound Anomaly Score Exceeded (Total Score: 5)".into()),
            verified: Some(false),
            ..Alert::default()
        };
        assert_eq!(of(&[alert]), AnomalyScores::default());
    }
}

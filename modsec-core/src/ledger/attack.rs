//! Which transactions count as attacks.

use std::str::FromStr;

use regex::bytes::Regex;

use crate::record::{Record, Severity};

/// The status with which a server refuses; `deny` of `ModSecurity` uses it unless told otherwise.
const FORBIDDEN: u16 = 403;

/// One kind of transaction that counts as an attack, as given with `--count`.
///
/// ```
/// use modsec_core::ledger::Criterion;
///
/// assert!(matches!("blocked".parse(), Ok(Criterion::Blocked)));
/// assert!(matches!("score>=5".parse(), Ok(Criterion::Score(5))));
/// assert!("severity<=CRITICAL".parse::<Criterion>().is_ok());
/// assert!("rule=^942".parse::<Criterion>().is_ok());
/// let error = "score>5".parse::<Criterion>().unwrap_err();
/// assert!(error.to_string().starts_with("\"score>5\" is none of any, blocked"));
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Criterion {
    /// `any`: every entry in the audit log.
    Any,
    /// `blocked`: intercepted by the engine (part H), or answered 403 (part F).
    Blocked,
    /// `score>=N`: the inbound anomaly score is at least that.
    Score(i64),
    /// `severity<=N`: an alert is at least that severe (0 is the worst).
    Severity(Severity),
    /// `rule=REGEX`: an alert's rule id matches somewhere; anchor it to match the whole id.
    Rule(Regex),
}

/// A text is not a [`Criterion`].
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCriterionError {
    /// None of the forms.
    #[error("{text:?} is none of any, blocked, score>=N, severity<=N, rule=REGEX")]
    Form {
        /// The text in question.
        text: String,
    },
    /// The number behind `score>=` or `severity<=` is none.
    #[error("{text:?}: {what} must be {allowed}")]
    Number {
        /// The text in question.
        text: String,
        /// What the number is.
        what: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// The expression behind `rule=` cannot be used.
    #[error("{text:?} has no usable regular expression")]
    Regex {
        /// The text in question.
        text: String,
        /// Where it is wrong.
        source: regex::Error,
    },
}

impl FromStr for Criterion {
    type Err = ParseCriterionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad_number = |what, allowed| ParseCriterionError::Number {
            text: text.to_owned(),
            what,
            allowed,
        };
        if let Some(score) = text.strip_prefix("score>=") {
            let score = score.trim().parse().ok();
            return score
                .map(Criterion::Score)
                .ok_or_else(|| bad_number("a score", "a whole number"));
        }
        if let Some(severity) = text.strip_prefix("severity<=") {
            return Severity::parse(severity.trim().as_bytes())
                .map(Criterion::Severity)
                .ok_or_else(|| bad_number("a severity", "0 to 7, or a name such as CRITICAL"));
        }
        if let Some(pattern) = text.strip_prefix("rule=") {
            return match Regex::new(pattern) {
                Ok(regex) => Ok(Criterion::Rule(regex)),
                Err(source) => Err(ParseCriterionError::Regex {
                    text: text.to_owned(),
                    source,
                }),
            };
        }
        match text {
            "any" => Ok(Criterion::Any),
            "blocked" => Ok(Criterion::Blocked),
            _ => Err(ParseCriterionError::Form {
                text: text.to_owned(),
            }),
        }
    }
}

impl Criterion {
    /// Returns `true` if `record` is such a transaction.
    ///
    /// Only alerts count that are certain to be the engine's: those that were cut, or that part K
    /// contradicts, may be a client's own text.
    fn matches(&self, record: &Record<'_>) -> bool {
        // What was cut, or what part K contradicts, may be a client's own text.
        let mut alerts = record.alerts.iter().filter(|alert| alert.is_trusted());
        match self {
            Criterion::Any => true,
            Criterion::Blocked => record.intercepted() || record.response.status == Some(FORBIDDEN),
            Criterion::Score(least) => record.scores.inbound.is_some_and(|score| score >= *least),
            Criterion::Severity(least_severe) => alerts.any(|alert| {
                alert
                    .severity
                    .is_some_and(|severity| severity <= *least_severe)
            }),
            Criterion::Rule(regex) => alerts
                .filter_map(|alert| alert.rule_id.as_ref())
                .any(|id| regex.is_match(id.as_bytes())),
        }
    }
}

/// What counts as an attack: a transaction that matches any of several [`Criterion`]s. The default
/// is [`Criterion::Blocked`] alone.
#[derive(Debug, Clone)]
pub struct AttackFilter {
    /// The criteria, of which one is enough. Without any, nothing is an attack.
    counts: Vec<Criterion>,
}

impl Default for AttackFilter {
    fn default() -> Self {
        AttackFilter::from(vec![Criterion::Blocked])
    }
}

impl From<Vec<Criterion>> for AttackFilter {
    /// Counts what matches one of `counts`; nothing if there are none.
    fn from(counts: Vec<Criterion>) -> Self {
        AttackFilter { counts }
    }
}

impl AttackFilter {
    /// Returns `true` if the transaction counts.
    pub fn is_attack(&self, record: &Record<'_>) -> bool {
        self.counts.iter().any(|count| count.matches(record))
    }

    /// Returns `true` if a transaction counts of which only the status is known (from a line of the
    /// index); `None` if a criterion needs more than the status.
    ///
    /// The engine's own interception is not in the index, so [`Criterion::Blocked`] means status
    /// 403 here.
    pub fn is_attack_by_status(&self, status: Option<u16>) -> Option<bool> {
        let mut attack = false;
        for count in &self.counts {
            attack |= match count {
                Criterion::Any => true,
                Criterion::Blocked => status == Some(FORBIDDEN),
                Criterion::Score(_) | Criterion::Severity(_) | Criterion::Rule(_) => return None,
            };
        }
        Some(attack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Alert, AlertAction, AnomalyScores, Engine, Response};

    fn attacks(counts: &[&str]) -> AttackFilter {
        let counts: Vec<Criterion> = counts.iter().map(|count| count.parse().unwrap()).collect();
        AttackFilter::from(counts)
    }

    fn with_status(status: u16) -> Record<'static> {
        Record {
            response: Response {
                status: Some(status),
                ..Response::default()
            },
            ..Record::default()
        }
    }

    fn with_alert(rule_id: &'static str, severity: u8, verified: Option<bool>) -> Record<'static> {
        Record {
            alerts: vec![Alert {
                action: Some(AlertAction::Warning),
                rule_id: Some(rule_id.into()),
                severity: Severity::from_number(severity),
                verified,
                ..Alert::default()
            }],
            ..with_status(200)
        }
    }

    #[test]
    fn interceptions_and_refusals_count_by_default() {
        let intercepted = Record {
            engine: Engine {
                intercepted_phase: Some(1),
                ..Engine::default()
            },
            ..with_status(302)
        };
        for (record, want) in [
            (with_status(403), true),
            (with_status(404), false),
            (Record::default(), false),
            (intercepted, true),
            (with_alert("942100", 2, None), false),
        ] {
            assert_eq!(
                AttackFilter::default().is_attack(&record),
                want,
                "{record:?}"
            );
        }
    }

    #[test]
    fn several_kinds_add_up() {
        let scored = |inbound| Record {
            scores: AnomalyScores {
                inbound,
                ..AnomalyScores::default()
            },
            ..with_status(200)
        };
        for (counts, record, want) in [
            (&["any"][..], with_status(200), true),
            (&["score>=5"], scored(Some(5)), true),
            (&["score>=5"], scored(Some(4)), false),
            (&["score>=5"], scored(None), false),
            (&["score>=5", "blocked"], with_status(403), true),
            (&["severity<=2"], with_alert("1", 2, None), true),
            (&["severity<=critical"], with_alert("1", 3, None), false),
            (&["severity<=2"], with_alert("1", 2, Some(false)), false),
            (&["rule=^942"], with_alert("942100", 2, Some(true)), true),
            (&["rule=^942"], with_alert("194200", 2, None), false),
            (&["rule=^942"], with_alert("942100", 2, Some(false)), false),
            (&[], with_status(403), false),
        ] {
            assert_eq!(attacks(counts).is_attack(&record), want, "{counts:?}");
        }
    }

    #[test]
    fn a_status_alone_decides_where_it_can() {
        for (counts, status, want) in [
            (&["blocked"][..], Some(403), Some(true)),
            (&["blocked"], Some(200), Some(false)),
            (&["blocked"], None, Some(false)),
            (&["any"], None, Some(true)),
            (&["blocked", "score>=5"], Some(403), None),
        ] {
            assert_eq!(
                attacks(counts).is_attack_by_status(status),
                want,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_read_says_what_can() {
        for (text, want) in [
            ("all", "none of any, blocked"),
            ("score>=x", "a score must be a whole number"),
            ("severity<=9", "a severity must be 0 to 7"),
            ("rule=(", "no usable regular expression"),
        ] {
            let error = text.parse::<Criterion>().unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}

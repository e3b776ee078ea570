//! What an alert added to the anomaly score, and the threshold of the score.
//!
//! Part K has the rules as they are configured, so that the weight of each can be read:
//!
//! ```text
//! SecRule … "id:942100,…,setvar:tx.anomaly_score_pl1=+%{tx.critical_anomaly_score},…"
//! SecRule … "id:901140,…,setvar:tx.critical_anomaly_score=5"
//! SecRule … "id:901100,…,setvar:tx.inbound_anomaly_score_threshold=5"
//! ```
//!
//! Without part K the weight follows from the severity, as the Core Rule Set 3 and 4 have it unless
//! they are configured otherwise.

use std::collections::HashMap;

use memchr::memmem;

use super::kind::rule_number;
use crate::record::{Alert, MatchedRule, Severity};

/// What an alert added to the anomaly score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Points {
    /// Points of the Core Rule Set; at its defaults, 2 to 5.
    pub value: i64,
    /// The score that they count for.
    pub direction: Direction,
    /// How they are known.
    pub source: PointsSource,
}

/// The half of the transaction that a score is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
pub enum Direction {
    /// The request.
    Inbound,
    /// The response.
    Outbound,
}

impl Direction {
    /// Returns the name as in JSON and in the database: `inbound` or `outbound`.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        }
    }
}

/// How [`Points`] are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum PointsSource {
    /// By the rule's action `setvar` (part K).
    Rule,
    /// By the alert's severity: an estimate.
    Severity,
}

impl PointsSource {
    /// Returns the name as in JSON and in the database: `rule` or `severity`.
    pub fn name(self) -> &'static str {
        match self {
            PointsSource::Rule => "rule",
            PointsSource::Severity => "severity",
        }
    }
}

/// What part K says of scores.
#[derive(Debug, Default)]
pub(super) struct Weights<'r> {
    /// By rule id, what one match adds.
    rules: HashMap<&'r [u8], (Direction, i64)>,
    inbound_threshold: Option<i64>,
    outbound_threshold: Option<i64>,
    is_known: bool,
}

/// One `setvar` of a collection `TX`: name in lower case, sign, and value as written.
struct SetVar<'r> {
    name: Vec<u8>,
    is_added: bool,
    value: &'r [u8],
}

impl<'r> Weights<'r> {
    /// Reads part K.
    pub(super) fn of(rules: &'r [MatchedRule<'_>]) -> Weights<'r> {
        let mut weights = Weights {
            is_known: !rules.is_empty(),
            ..Weights::default()
        };
        let mut variables: HashMap<Vec<u8>, i64> = HashMap::new();
        let mut rule = None;
        for line in rules {
            // Lines without an id go on with the chain of the rule above. A rule that matched
            // several times is listed as often; each of its alerts is one match.
            if let Some(id) = &line.id {
                let is_first = !weights.rules.contains_key(id.as_bytes());
                rule = is_first.then_some(id.as_bytes());
            }
            for set in set_vars(line.directive.as_bytes()) {
                let value = number(set.value, &variables);
                if set.is_added {
                    let direction = direction_of(&set.name);
                    if let (Some(id), Some(direction), Some(value)) = (rule, direction, value) {
                        weights.rules.entry(id).or_insert((direction, 0)).1 += value;
                    }
                } else if let Some(value) = value {
                    weights.note_threshold(&set.name, value);
                    variables.insert(set.name, value);
                }
            }
        }
        weights
    }

    fn note_threshold(&mut self, name: &[u8], value: i64) {
        match name {
            b"inbound_anomaly_score_threshold"
            | b"inbound_anomaly_score_level"
            | b"incoming_points_limit" => self.inbound_threshold = Some(value),
            b"outbound_anomaly_score_threshold"
            | b"outbound_anomaly_score_level"
            | b"outgoing_points_limit" => self.outbound_threshold = Some(value),
            _ => {}
        }
    }

    /// Returns the threshold that is configured.
    pub(super) fn threshold(&self, direction: Direction) -> Option<i64> {
        match direction {
            Direction::Inbound => self.inbound_threshold,
            Direction::Outbound => self.outbound_threshold,
        }
    }

    /// Returns what the alert of a detection added.
    pub(super) fn points(&self, alert: &Alert<'_>) -> Option<Points> {
        let id = alert.rule_id.as_ref()?;
        if let Some(&(direction, value)) = self.rules.get(id.as_bytes()) {
            return Some(Points {
                value,
                direction,
                source: PointsSource::Rule,
            });
        }
        // A rule of part K that sets no score adds nothing.
        if self.is_known && alert.verified == Some(true) {
            return None;
        }
        by_severity(alert)
    }
}

/// Returns what a rule of the Core Rule Set adds at its default weights.
fn by_severity(alert: &Alert<'_>) -> Option<Points> {
    let id = rule_number(alert)?;
    if !(900_000..1_000_000).contains(&id) {
        return None;
    }
    let value = match alert.severity? {
        Severity::Critical => 5,
        Severity::Error => 4,
        Severity::Warning => 3,
        Severity::Notice => 2,
        _ => return None,
    };
    let is_response = alert.file.as_ref().is_some_and(|file| {
        let holds = |part: &[u8]| memmem::find(file.as_bytes(), part).is_some();
        holds(b"RESPONSE-95") || holds(b"crs_50_outbound")
    });
    let direction = if is_response || (alert.file.is_none() && (950_100..957_000).contains(&id)) {
        Direction::Outbound
    } else {
        Direction::Inbound
    };
    Some(Points {
        value,
        direction,
        source: PointsSource::Severity,
    })
}

/// Returns the score that a variable is part of, if any. The totals of an attack's kind, such as
/// `sql_injection_score`, are none.
fn direction_of(name: &[u8]) -> Option<Direction> {
    // anomaly_score_pl1: by paranoia level since release 3.
    let by_level = [&b"_pl1"[..], b"_pl2", b"_pl3", b"_pl4"];
    let total = by_level.iter().find_map(|level| name.strip_suffix(*level));
    let name = total.unwrap_or(name);
    match name {
        b"anomaly_score" | b"inbound_anomaly_score" | b"incoming_points" | b"points" => {
            Some(Direction::Inbound)
        }
        b"outbound_anomaly_score" | b"outgoing_points" => Some(Direction::Outbound),
        _ => None,
    }
}

/// Returns the variables that a directive sets.
fn set_vars(directive: &[u8]) -> impl Iterator<Item = SetVar<'_>> {
    const SET: &[u8] = b"setvar:";
    memmem::find_iter(directive, SET).filter_map(|at| {
        let text = directive.get(at + SET.len()..)?;
        let (text, end): (&[u8], &[u8]) = match text.split_first() {
            Some((b'\'', quoted)) => (quoted, b"'"),
            _ => (text, b",\""),
        };
        let end = text.iter().position(|byte| end.contains(byte));
        let text = text.get(..end.unwrap_or(text.len()))?;
        let (collection, text) = text.split_at_checked(3)?;
        collection.eq_ignore_ascii_case(b"tx.").then_some(())?;
        let (name, value) = text.split_at_checked(memchr::memchr(b'=', text)?)?;
        let value = value.get(1..)?;
        let added = value.strip_prefix(b"+");
        Some(SetVar {
            name: name.to_ascii_lowercase(),
            is_added: added.is_some(),
            value: added.unwrap_or(value),
        })
    })
}

/// Returns the number that a value stands for: itself, or a variable of the collection `TX`.
fn number(value: &[u8], variables: &HashMap<Vec<u8>, i64>) -> Option<i64> {
    let Some(name) = value
        .strip_prefix(b"%{")
        .and_then(|name| name.strip_suffix(b"}"))
    else {
        return std::str::from_utf8(value).ok()?.parse().ok();
    };
    let (collection, name) = name.split_at_checked(3)?;
    collection.eq_ignore_ascii_case(b"tx.").then_some(())?;
    let name = name.to_ascii_lowercase();
    variables.get(&name).copied().or(match &name[..] {
        b"critical_anomaly_score" => Some(5),
        b"error_anomaly_score" => Some(4),
        b"warning_anomaly_score" => Some(3),
        b"notice_anomaly_score" => Some(2),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: Option<&'static str>, directive: &'static str) -> MatchedRule<'static> {
        MatchedRule {
            id: id.map(Into::into),
            matched: true,
            logs: true,
            directive: directive.into(),
        }
    }

    fn alert(id: &'static str, severity: Option<Severity>) -> Alert<'static> {
        Alert {
            rule_id: Some(id.into()),
            severity,
            verified: Some(true),
            ..Alert::default()
        }
    }

    #[test]
    fn part_k_says_what_a_match_adds() {
        let rules = [
            rule(
                Some("901100"),
                "SecRule \"x\" \"@eq 0\" \"id:901100,setvar:tx.inbound_anomaly_score_threshold=7\"",
            ),
            rule(
                Some("901140"),
                "SecRule \"x\" \"@eq 0\" \"id:901140,setvar:'tx.critical_anomaly_score=6'\"",
            ),
            rule(
                Some("942100"),
                "SecRule \"ARGS\" \"@detectSQLi \" \"id:942100,setvar:tx.sql_injection_score=+%{tx.critical_anomaly_score},setvar:tx.anomaly_score_pl1=+%{tx.critical_anomaly_score},severity:CRITICAL\"",
            ),
            rule(
                Some("942100"),
                "SecRule \"ARGS\" \"@detectSQLi \" \"id:942100,setvar:tx.anomaly_score_pl1=+%{tx.critical_anomaly_score}\"",
            ),
            rule(
                Some("920180"),
                "SecRule \"x\" \"@rx y\" \"id:920180,chain\"",
            ),
            rule(
                None,
                "SecRule \"x\" \"@rx y\" \"setvar:'TX.Inbound_Anomaly_Score_PL2=+%{tx.NOTICE_anomaly_score}'\"",
            ),
            rule(
                Some("950130"),
                "SecRule \"x\" \"@rx y\" \"id:950130,setvar:tx.outbound_anomaly_score_pl1=+%{tx.error_anomaly_score}\"",
            ),
            rule(
                Some("12"),
                "SecRule \"x\" \"@rx y\" \"id:12,setvar:ip.anomaly_score=+9,setvar:tx.counter=+1\"",
            ),
        ];
        let weights = Weights::of(&rules);
        let by_rule = |value, direction| {
            Some(Points {
                value,
                direction,
                source: PointsSource::Rule,
            })
        };
        for (id, want) in [
            ("942100", by_rule(6, Direction::Inbound)),
            ("920180", by_rule(2, Direction::Inbound)),
            ("950130", by_rule(4, Direction::Outbound)),
            ("12", None),
            ("901140", None),
        ] {
            assert_eq!(
                weights.points(&alert(id, Some(Severity::Critical))),
                want,
                "{id}"
            );
        }
        assert_eq!(weights.threshold(Direction::Inbound), Some(7));
        assert_eq!(weights.threshold(Direction::Outbound), None);
    }

    #[test]
    fn without_part_k_the_severity_says() {
        let weights = Weights::default();
        let points = |id, severity| {
            let points = weights.points(&alert(id, severity))?;
            assert_eq!(points.source, PointsSource::Severity);
            Some((points.value, points.direction))
        };
        let inbound = |value| Some((value, Direction::Inbound));
        assert_eq!(points("942100", Some(Severity::Critical)), inbound(5));
        assert_eq!(points("942100", Some(Severity::Error)), inbound(4));
        assert_eq!(points("920350", Some(Severity::Warning)), inbound(3));
        assert_eq!(points("920300", Some(Severity::Notice)), inbound(2));
        assert_eq!(
            points("950130", Some(Severity::Error)),
            Some((4, Direction::Outbound))
        );
        assert_eq!(points("942100", Some(Severity::Debug)), None);
        assert_eq!(points("942100", None), None);
        assert_eq!(points("10001", Some(Severity::Critical)), None);
        assert_eq!(points("x", Some(Severity::Critical)), None);
    }
}

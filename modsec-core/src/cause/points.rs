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

use memchr::memmem::Finder;

use super::kind::{file_name, rule_number};
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
    /// What one match of a rule adds. Few rules of an entry set a score.
    rules: Vec<Weight<'r>>,
    /// What rules of the transaction set these variables to.
    variables: Variables,
    /// Whether part K lists any rules: then a rule without a weight is known to add nothing.
    is_known: bool,
}

/// What one `setvar` of a rule adds to a score.
#[derive(Debug)]
struct Weight<'r> {
    /// Id of the rule.
    id: &'r [u8],
    /// Which directive of part K has the id.
    at: usize,
    /// The score to which it is added.
    direction: Direction,
    /// The points of one match.
    value: i64,
}

/// Variables of the collection `TX` that weights and thresholds depend on.
#[derive(Debug, Default)]
struct Variables([Option<i64>; NAMES.len()]);

/// Their names, with the value that the Core Rule Set gives them unless it is configured otherwise.
/// The last six are thresholds.
const NAMES: [(&str, Option<i64>); 10] = [
    ("critical_anomaly_score", Some(5)),
    ("error_anomaly_score", Some(4)),
    ("warning_anomaly_score", Some(3)),
    ("notice_anomaly_score", Some(2)),
    ("inbound_anomaly_score_threshold", None),
    ("inbound_anomaly_score_level", None),
    ("incoming_points_limit", None),
    ("outbound_anomaly_score_threshold", None),
    ("outbound_anomaly_score_level", None),
    ("outgoing_points_limit", None),
];

impl Variables {
    /// Returns the index of a variable in [`NAMES`], in any case, without `TX.`; `None` for any
    /// other.
    fn place(name: &[u8]) -> Option<usize> {
        let mut names = NAMES.iter();
        names.position(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name))
    }

    /// Returns the value that a rule set, or else the default of the Core Rule Set. `None` if
    /// there is neither, as for thresholds that part K does not set.
    fn get(&self, at: usize) -> Option<i64> {
        self.0.get(at).copied().flatten().or(NAMES.get(at)?.1)
    }

    /// Sets a variable. Names that nothing depends on are left out.
    fn set(&mut self, name: &[u8], value: i64) {
        if let Some(place) = Variables::place(name).and_then(|at| self.0.get_mut(at)) {
            *place = Some(value);
        }
    }

    /// Returns the number that a value stands for: itself, or one of the variables.
    fn number(&self, value: &[u8]) -> Option<i64> {
        let variable = value
            .strip_prefix(b"%{")
            .and_then(|name| name.strip_suffix(b"}"));
        let Some(name) = variable else {
            return std::str::from_utf8(value).ok()?.parse().ok();
        };
        let (collection, name) = name.split_at_checked(3)?;
        collection.eq_ignore_ascii_case(b"tx.").then_some(())?;
        self.get(Variables::place(name)?)
    }
}

/// One `setvar` of the collection `TX`.
struct SetVar<'r> {
    /// Name of the variable, without the collection.
    name: &'r [u8],
    /// Whether the value is added to what is there.
    is_added: bool,
    /// What is set or added: a number, or a macro such as `%{tx.critical_anomaly_score}`.
    value: &'r [u8],
}

impl<'r> Weights<'r> {
    /// Reads part K, in its order: a rule sees the variables that the rules before it have set.
    /// Values that are neither a number nor one of the known variables are left out.
    pub(super) fn of(rules: &'r [MatchedRule<'_>]) -> Weights<'r> {
        let mut weights = Weights {
            is_known: !rules.is_empty(),
            ..Weights::default()
        };
        let finder = Finder::new(SETVAR);
        let mut rule: Option<(usize, &[u8])> = None;
        for (at, line) in rules.iter().enumerate() {
            // Lines without an id go on with the chain of the rule above.
            if let Some(id) = &line.id {
                rule = Some((at, id.as_bytes()));
            }
            for set in set_vars(line.directive.as_bytes(), &finder) {
                let Some(value) = weights.variables.number(set.value) else {
                    continue;
                };
                match (set.is_added, rule) {
                    (false, _) => weights.variables.set(set.name, value),
                    (true, Some((at, id))) => weights.add(id, at, set.name, value),
                    (true, None) => {}
                }
            }
        }
        weights
    }

    /// Notes what a rule adds to a score, if the variable is one.
    fn add(&mut self, id: &'r [u8], at: usize, variable: &[u8], value: i64) {
        let Some(direction) = direction_of(variable) else {
            return;
        };
        match self.rules.iter_mut().find(|weight| weight.id == id) {
            Some(weight) if weight.at == at => {
                weight.value = weight.value.saturating_add(value);
            }
            // A rule that matched several times is listed as often; each of its alerts is one match.
            Some(_) => {}
            None => self.rules.push(Weight {
                id,
                at,
                direction,
                value,
            }),
        }
    }

    /// Returns the threshold that the rules of part K set; `None` if they set none.
    pub(super) fn threshold(&self, direction: Direction) -> Option<i64> {
        let places = match direction {
            Direction::Inbound => 4..7,
            Direction::Outbound => 7..10,
        };
        places.into_iter().find_map(|at| self.variables.get(at))
    }

    /// Returns what the alert of a detection added to a score: by its rule in part K, or else
    /// estimated by its severity. `None` if it added nothing, or nobody knows what.
    pub(super) fn points(&self, alert: &Alert<'_>) -> Option<Points> {
        let id = alert.rule_id.as_ref()?.as_bytes();
        if let Some(weight) = self.rules.iter().find(|weight| weight.id == id) {
            return Some(Points {
                value: weight.value,
                direction: weight.direction,
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
    let is_response = file_name(alert).is_some_and(|name| {
        name.starts_with(b"RESPONSE-95") || name.starts_with(b"modsecurity_crs_50_outbound")
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
    let total = match name.split_last_chunk::<4>() {
        Some((total, [b'_', b'p' | b'P', b'l' | b'L', b'1'..=b'4'])) => total,
        _ => name,
    };
    let is = |names: &[&str]| {
        let mut names = names.iter();
        names.any(|known| known.as_bytes().eq_ignore_ascii_case(total))
    };
    if is(&[
        "anomaly_score",
        "inbound_anomaly_score",
        "incoming_points",
        "points",
    ]) {
        Some(Direction::Inbound)
    } else if is(&["outbound_anomaly_score", "outgoing_points"]) {
        Some(Direction::Outbound)
    } else {
        None
    }
}

/// The action's name and what stands before its argument.
const SETVAR: &[u8] = b"setvar:";

/// Returns the variables of the collection `TX` that a directive's actions `setvar` set, in
/// their order. The argument may stand in single quotes.
fn set_vars<'r>(directive: &'r [u8], setvar: &Finder<'_>) -> impl Iterator<Item = SetVar<'r>> {
    setvar.find_iter(directive).filter_map(|at| {
        let text = directive.get(at + SETVAR.len()..)?;
        let (text, end) = match text.split_first() {
            Some((b'\'', quoted)) => (quoted, memchr::memchr(b'\'', quoted)),
            _ => (text, memchr::memchr2(b',', b'"', text)),
        };
        let text = text.get(..end.unwrap_or(text.len()))?;
        let (collection, text) = text.split_at_checked(3)?;
        collection.eq_ignore_ascii_case(b"tx.").then_some(())?;
        let (name, value) = text.split_at_checked(memchr::memchr(b'=', text)?)?;
        let value = value.get(1..)?;
        let added = value.strip_prefix(b"+");
        Some(SetVar {
            name,
            is_added: added.is_some(),
            value: added.unwrap_or(value),
        })
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
    fn weights_beyond_all_numbers_do_no_harm() {
        let most = "id:7,setvar:tx.anomaly_score=+9223372036854775807,\
                    setvar:tx.anomaly_score=+9223372036854775807";
        let rules = [rule(Some("7"), most)];
        let points = Weights::of(&rules).points(&alert("7", None));
        assert_eq!(points.map(|points| points.value), Some(i64::MAX));
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

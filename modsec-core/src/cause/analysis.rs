//! What the alerts of a transaction say together.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::points::Weights;
use super::{Category, Direction, Kind, Points, Target};
use crate::record::{Alert, AlertAction, EngineMode, Record};
use crate::text::Text;

/// What one alert means.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Meaning<'r> {
    /// Whether it is about the request, or bookkeeping.
    pub kind: Kind,
    /// What of the request or the response it is about.
    pub target: Option<Target<'r>>,
    /// What a detection added to the anomaly score.
    pub points: Option<Points>,
    /// The paranoia level from which on the rule is active, 1 to 4 (its tag `paranoia-level/N`).
    pub paranoia_level: Option<u8>,
    /// What kind of attack a detection is about.
    pub category: Option<Category>,
}

/// What became of a transaction with alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum Outcome {
    /// The engine intercepted it. Where the dialect has no word for that (JSON of libmodsecurity
    /// before 2026): it was answered with 4xx or 5xx, and a blocking rule matched.
    Blocked,
    /// A rule found something, and the transaction went on.
    Detected,
}

impl Outcome {
    /// Returns the name as in JSON and in the database: `blocked` or `detected`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Blocked => "blocked",
            Outcome::Detected => "detected",
        }
    }
}

/// What the alerts of a transaction say together.
///
/// Indices are those of [`Record::alerts`].
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Analysis<'r> {
    /// One for each alert, in the same order.
    pub alerts: Vec<Meaning<'r>>,
    /// The alert that says what was wrong: the detection that itself intercepted, else the one with
    /// the most points for the score that was exceeded (of the response if that was blocked), of
    /// equals the first in the entry. An alert that may be a client's own text
    /// comes after those that are certain, and bookkeeping after every detection.
    pub cause: Option<usize>,
    /// The alert that intercepted, be it bookkeeping or not.
    pub blocked_by: Option<usize>,
    /// The score at which the blocking rule intercepts; of the response if that was blocked.
    pub threshold: Option<i64>,
    /// Whether the cause's rule alone reached the threshold, and all others together did not:
    /// without this rule the transaction would have passed. `None` if points or threshold are not
    /// known.
    pub is_sole: Option<bool>,
    /// `None` if there is neither an interception nor a detection.
    pub outcome: Option<Outcome>,
}

impl<'r> Analysis<'r> {
    /// Analyses a transaction. Takes time in proportion to its alerts and part K.
    pub fn of(record: &'r Record<'_>) -> Analysis<'r> {
        let weights = Weights::of(record.matched_rules.as_deref().unwrap_or_default());
        let alerts: Vec<_> = record
            .alerts
            .iter()
            .map(|alert| Meaning::of(alert, &weights))
            .collect();
        let mut analysis = Analysis {
            alerts,
            cause: None,
            blocked_by: None,
            threshold: None,
            is_sole: None,
            outcome: None,
        };
        analysis.blocked_by = analysis.find_blocking(record);
        analysis.outcome = analysis.judge(record);
        let direction = analysis.direction(record);
        analysis.cause = analysis.find_cause(record, direction);
        analysis.threshold = analysis
            .blocked_by
            .or_else(|| analysis.first_evaluation())
            .and_then(|at| compared_with(record.alerts.get(at)?))
            .or_else(|| weights.threshold(direction));
        analysis.is_sole = analysis.judge_sole(record, direction);
        analysis
    }

    /// Finds the alert that intercepted: the first certain one that says so. Where the entry
    /// has no word for it, that is the first alert of a blocking rule, if the response was a
    /// refusal.
    fn find_blocking(&self, record: &Record<'_>) -> Option<usize> {
        let denied =
            |alert: &Alert<'_>| alert.is_trusted() && alert.action == Some(AlertAction::Denied);
        record.alerts.iter().position(denied).or_else(|| {
            is_blocked_without_word(record).then_some(())?;
            let is_blocking = |at: &usize| {
                let is_trusted = record.alerts.get(*at).is_some_and(Alert::is_trusted);
                is_trusted && self.kind(*at) == Some(Kind::BlockingEvaluation)
            };
            (0..self.alerts.len()).find(is_blocking)
        })
    }

    /// Returns what became of the transaction; `None` if nothing intercepted it and no rule
    /// found anything.
    fn judge(&self, record: &Record<'_>) -> Option<Outcome> {
        if record.intercepted() || self.blocked_by.is_some() {
            return Some(Outcome::Blocked);
        }
        let is_detection = |meaning: &Meaning<'_>| meaning.kind == Kind::Detection;
        self.alerts
            .iter()
            .any(is_detection)
            .then_some(Outcome::Detected)
    }

    /// Returns what the alert at this index is; `None` if there is none.
    fn kind(&self, at: usize) -> Option<Kind> {
        self.alerts.get(at).map(|meaning| meaning.kind)
    }

    /// Returns the index of the first alert of a rule that compares the score with its
    /// threshold. It names the threshold also where the engine only detects.
    fn first_evaluation(&self) -> Option<usize> {
        let is_evaluation = |meaning: &Meaning<'_>| meaning.kind == Kind::BlockingEvaluation;
        self.alerts.iter().position(is_evaluation)
    }

    /// Returns the score by which the transaction was blocked.
    fn direction(&self, record: &Record<'_>) -> Direction {
        let is_outbound = |alert: &Alert<'_>| {
            let msg = alert.msg.as_ref().map_or(&b""[..], |msg| msg.as_bytes());
            msg.starts_with(b"Outbound ")
        };
        let by = self.blocked_by.and_then(|at| record.alerts.get(at));
        if by.is_some_and(is_outbound) {
            Direction::Outbound
        } else {
            Direction::Inbound
        }
    }

    /// Returns the index of the alert that says what was wrong, by the order that
    /// [`Analysis::cause`] names; `None` if there are no alerts.
    fn find_cause(&self, record: &Record<'_>, direction: Direction) -> Option<usize> {
        let rank = |at: &usize| {
            let meaning = self.alerts.get(*at);
            let alert = record.alerts.get(*at);
            let points = meaning.and_then(|meaning| meaning.points);
            let of_score = points.filter(|points| points.direction == direction);
            let class = match meaning.map(|meaning| meaning.kind) {
                Some(Kind::Detection) => 0,
                Some(Kind::BlockingEvaluation) => 1,
                Some(Kind::Correlation) => 2,
                Some(Kind::Notice) | None => 3,
            };
            let is_blocking = self.blocked_by == Some(*at);
            (
                class,
                Reverse(alert.is_some_and(Alert::is_trusted)),
                Reverse(is_blocking),
                Reverse(of_score.map_or(0, |points| points.value)),
                Reverse(points.map_or(0, |points| points.value)),
            )
        };
        (0..self.alerts.len()).min_by_key(rank)
    }

    /// Returns `true` if the cause's rule alone reached the threshold, and all other rules
    /// together did not. Points of one rule are added up over its alerts.
    ///
    /// A cause that itself intercepted is the only one. `None` if there is no cause, if it is
    /// no detection, or if the threshold is not known.
    fn judge_sole(&self, record: &Record<'_>, direction: Direction) -> Option<bool> {
        let cause = self.cause?;
        (self.kind(cause) == Some(Kind::Detection)).then_some(())?;
        if self.blocked_by == Some(cause) {
            return Some(true);
        }
        let threshold = self.threshold?;
        let mut sums: HashMap<Option<&Text<'_>>, i64> = HashMap::new();
        for (alert, meaning) in record.alerts.iter().zip(&self.alerts) {
            let points = meaning
                .points
                .filter(|points| points.direction == direction);
            let sum = sums.entry(alert.rule_id.as_ref()).or_default();
            *sum = sum.saturating_add(points.map_or(0, |points| points.value));
        }
        let rule = record.alerts.get(cause)?.rule_id.as_ref();
        let own = sums.remove(&rule).unwrap_or_default();
        let others = sums.into_values().fold(0, i64::saturating_add);
        Some(own >= threshold && others < threshold)
    }
}

impl<'r> Meaning<'r> {
    /// Returns what an alert says. Points and category are those of detections alone.
    fn of(alert: &'r Alert<'_>, weights: &Weights<'_>) -> Meaning<'r> {
        let target = Target::of(alert);
        let kind = Kind::with_target(alert, target.as_ref());
        let is_detection = kind == Kind::Detection;
        Meaning {
            kind,
            target,
            points: is_detection.then(|| weights.points(alert)).flatten(),
            paranoia_level: alert.tags.iter().find_map(|tag| paranoia_level(tag)),
            category: is_detection.then(|| Category::of(alert)).flatten(),
        }
    }
}

/// Returns the paranoia level that a tag such as `paranoia-level/2` names, 1 to 4; `None` for
/// any other tag.
fn paranoia_level(tag: &Text<'_>) -> Option<u8> {
    match tag.as_bytes().strip_prefix(b"paranoia-level/")? {
        [digit @ b'1'..=b'4'] => Some(digit - b'0'),
        _ => None,
    }
}

/// Returns `true` if the entry has no word for an interception, and its status is one of a refusal.
fn is_blocked_without_word(record: &Record<'_>) -> bool {
    let has_word = record.interrupted.is_some()
        || record.engine.intercepted_phase.is_some()
        || record.alerts.iter().any(|alert| alert.action.is_some());
    let is_refusal = record.response.status.is_some_and(|status| status >= 400);
    let blocks = record.engine.mode != Some(EngineMode::DetectionOnly);
    !has_word && is_refusal && blocks
}

/// Returns the number with which a blocking rule compared the score.
fn compared_with(alert: &Alert<'_>) -> Option<i64> {
    let detail = alert.detail.to_str()?;
    let behind = |mark: &str| Some(detail.split_once(mark)?.1);
    let number = behind("Operator GE matched ")
        .or_else(|| behind("Operator GT matched "))
        .or_else(|| behind("with parameter `"))?;
    let end = number.find(|c: char| !c.is_ascii_digit())?;
    number.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests;

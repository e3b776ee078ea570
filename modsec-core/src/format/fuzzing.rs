//! What fuzz targets call and nobody else: the parsers inside of an entry.
//!
//! Only there with `--cfg fuzzing`, and no part of the interface.

use chrono::{DateTime, FixedOffset, NaiveDateTime};

use super::rule_match::{self, coraza, v3};
use super::{scores, timestamp};
use crate::record::{Alert, AnomalyScores};
use crate::text::Text;

/// Parses an alert of ModSecurity 2; also tells whether something did not fit.
pub fn alert_v2(raw: &[u8]) -> (Alert<'_>, bool) {
    let mut capped = false;
    (rule_match::parse(raw, &mut capped), capped)
}

/// Parses metadata that stands alone on a line.
pub fn alert_bare(line: &[u8]) -> Alert<'_> {
    rule_match::parse_bare(line, &mut false)
}

/// Parses an alert of libmodsecurity in an entry with this id and URI.
pub fn alert_v3<'a>(line: &'a [u8], unique_id: &[u8], uri: &[u8]) -> Alert<'a> {
    let anchor = v3::Anchor::new(&Text::from(unique_id), &Text::from(uri));
    v3::parse(line, Some(&anchor), &mut false)
}

/// Splits part H of Coraza in an entry with this id.
pub fn alerts_coraza<'a>(part: &'a [u8], unique_id: &[u8]) -> Vec<Alert<'a>> {
    coraza::split(part, Some(unique_id), &mut false)
}

/// Returns the scores that alerts report.
pub fn scores(alerts: &[Alert<'_>]) -> AnomalyScores {
    scores::of(alerts)
}

/// Parses a time of part A.
pub fn time(text: &[u8]) -> Option<DateTime<FixedOffset>> {
    timestamp::parse(text)
}

/// Parses a time of Coraza.
pub fn wall_clock(text: &[u8]) -> Option<NaiveDateTime> {
    timestamp::parse_wall_clock(text)
}

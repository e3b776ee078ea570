//! What a replay finds.

use chrono::{DateTime, Utc};
use serde::Serialize;

/// Who would have been reported.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayReport {
    /// Entries read.
    pub entries: u64,
    /// What was no entry, or was cut off.
    pub defects: u64,
    /// Attacks counted.
    pub attacks: u64,
    /// Attacks from addresses that are ignored.
    pub ignored: u64,
    /// Attacks without a time or an address.
    pub unplaced: u64,
    /// Lines that would have been written to the jail file.
    pub reports: u64,
    /// The clients in them, those with most attacks first.
    pub offenders: Vec<ReplayedOffender>,
    /// Offenders left out of the list because there are too many.
    pub offenders_left_out: u64,
}

/// A client that would have been reported.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReplayedOffender {
    /// The client.
    pub client: String,
    /// Its attacks in all history.
    pub attacks: u64,
    /// Time of the first.
    pub first: DateTime<Utc>,
    /// Time of the last.
    pub last: DateTime<Utc>,
    /// How often it would have been reported.
    pub reports: u64,
    /// When, as far as kept.
    pub reported_at: Vec<DateTime<Utc>>,
    /// Ids of the rules that matched, most frequent first.
    pub rules: Vec<Tallied>,
    /// What was asked for, most frequent first.
    pub uris: Vec<Tallied>,
}

/// Something and how often it occurred.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Tallied {
    /// The thing; control characters are escaped, long ones cut. `…` stands for all others.
    pub what: String,
    /// How often.
    pub count: u64,
}

//! Attacks for which an earlier, interrupted run has already reported the client.
//!
//! A run that is killed may have written a report to the jail file, but not yet saved that it
//! counted the attacks. The next run reads the same entries again. Without this table it would
//! count them from the last saved state and report the client a second time.
//!
//! ```text
//! saved state: 3 attacks │ 7 more counted, threshold 10 reached, report written │ killed
//! next run:    3 attacks │ note_report: 10 attacks up to 10:15:07 are reported
//!                        │ 3 of them are in the saved window: taken out, 7 are missing
//!                        │ 7 attacks up to 10:15:07 come again: taken, no report
//! ```
//!
//! Attacks come again in any order, and some may never come, so a report covers a span of time and
//! a number of attacks, not certain ones.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use ipnet::IpNet;

/// Reports that are remembered at most, about 100 bytes each.
const MAX_REPORTS: usize = 1 << 16;

/// Reports of an interrupted run, by client, and how many of the attacks that they stand for have
/// not come in again.
#[derive(Debug, Default)]
pub(super) struct Answered {
    /// Reports by client, each list ascending by time.
    clients: HashMap<IpNet, Vec<PastReport>>,
    /// Number of reports in all lists.
    reports: usize,
}

/// One report of one client.
#[derive(Debug)]
struct PastReport {
    /// Last millisecond of the second in which its last attack was (the jail file has whole
    /// seconds), milliseconds since the Unix epoch.
    until: i64,
    /// How many of its attacks have not come in again.
    missing: u32,
}

/// Returns the last millisecond of the second of `at`, milliseconds since the Unix epoch.
pub(super) fn end_of_second(at: DateTime<Utc>) -> i64 {
    at.timestamp().saturating_mul(1000).saturating_add(999)
}

/// Returns the time in which the attacks of a report lie, both ends included, in milliseconds: from
/// one find time before the second that ends with `until`, to its end.
pub(super) fn span(until: i64, find_time: i64) -> RangeInclusive<i64> {
    until.saturating_sub(999).saturating_sub(find_time)..=until
}

impl Answered {
    /// Remembers that `missing` attacks of `network` up to `until` are reported. Beyond
    /// [`MAX_REPORTS`] it is not remembered: a report too many is better than one too few.
    pub(super) fn add(&mut self, network: IpNet, until: i64, missing: u32) {
        if missing == 0 || self.reports >= MAX_REPORTS {
            return;
        }
        let reports = self.clients.entry(network).or_default();
        if let Some(report) = reports.iter_mut().find(|report| report.until == until) {
            report.missing = report.missing.saturating_add(missing);
            return;
        }
        reports.push(PastReport { until, missing });
        reports.sort_unstable_by_key(|report| report.until);
        self.reports += 1;
    }

    /// Takes an attack of `network` at the time `at` out; returns `true` if a report stands for it,
    /// so that it must not count again.
    ///
    /// Of several reports the earliest one that covers the time is charged: later ones can still
    /// stand for later attacks.
    pub(super) fn take(&mut self, network: IpNet, at: i64, find_time: i64) -> bool {
        let Some(reports) = self.clients.get_mut(&network) else {
            return false;
        };
        let covers = |report: &PastReport| span(report.until, find_time).contains(&at);
        // The earliest: later ones can still stand for later attacks.
        let Some(place) = reports.iter().position(covers) else {
            return false;
        };
        reports[place].missing -= 1;
        if reports[place].missing == 0 {
            reports.remove(place);
            self.reports -= 1;
        }
        if reports.is_empty() {
            self.clients.remove(&network);
        }
        true
    }

    /// Forgets reports whose last attack was before `horizon`, milliseconds since the Unix epoch.
    pub(super) fn forget(&mut self, horizon: i64) {
        self.clients.retain(|_, reports| {
            reports.retain(|report| report.until >= horizon);
            !reports.is_empty()
        });
        self.reports = self.clients.values().map(Vec::len).sum();
    }

    /// Returns the reports of one client, ascending: last millisecond, and attacks missing.
    pub(super) fn of(&self, network: IpNet) -> Vec<(i64, u32)> {
        let reports = self.clients.get(&network);
        let reports = reports.into_iter().flatten();
        reports
            .map(|report| (report.until, report.missing))
            .collect()
    }
}

//! Attacks that an earlier report stands for.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use ipnet::IpNet;

/// Reports that are remembered at most, 100 bytes each.
const MAX_REPORTS: usize = 1 << 16;

/// Reports of a run that was interrupted, and how many of their attacks have not come in again.
///
/// The run is known to have written the reports, but not to have counted the attacks. Those come in
/// once more, in whatever order, and must not lead to a report again.
#[derive(Debug, Default)]
pub(super) struct Answered {
    clients: HashMap<IpNet, Vec<Report>>,
    reports: usize,
}

/// Attacks of one client up to a second.
#[derive(Debug)]
struct Report {
    /// End of the second of the last of them, milliseconds since the Unix epoch.
    until: i64,
    /// How many have not come in again.
    missing: u32,
}

/// Returns the last millisecond of a second.
pub(super) fn end_of_second(at: DateTime<Utc>) -> i64 {
    at.timestamp().saturating_mul(1000).saturating_add(999)
}

/// Returns when attacks were for which a report stands, the last of them in the second that ends
/// with `until`.
pub(super) fn span(until: i64, find_time: i64) -> RangeInclusive<i64> {
    until.saturating_sub(999).saturating_sub(find_time)..=until
}

impl Answered {
    /// Remembers that `missing` attacks up to `until` are reported. Beyond [`MAX_REPORTS`] it is
    /// not remembered: a report too many is better than one too few.
    pub(super) fn add(&mut self, network: IpNet, until: i64, missing: u32) {
        if missing == 0 || self.reports >= MAX_REPORTS {
            return;
        }
        let reports = self.clients.entry(network).or_default();
        if let Some(report) = reports.iter_mut().find(|report| report.until == until) {
            report.missing = report.missing.saturating_add(missing);
            return;
        }
        reports.push(Report { until, missing });
        reports.sort_unstable_by_key(|report| report.until);
        self.reports += 1;
    }

    /// Takes one attack out; returns `true` if a report stands for it.
    pub(super) fn take(&mut self, network: IpNet, at: i64, find_time: i64) -> bool {
        let Some(reports) = self.clients.get_mut(&network) else {
            return false;
        };
        let covers = |report: &Report| span(report.until, find_time).contains(&at);
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

    /// Forgets reports of attacks before `horizon`.
    pub(super) fn forget(&mut self, horizon: i64) {
        self.clients.retain(|_, reports| {
            reports.retain(|report| report.until >= horizon);
            !reports.is_empty()
        });
        self.reports = self.clients.values().map(Vec::len).sum();
    }

    /// Returns the reports of one client: until when, and how many attacks are missing.
    pub(super) fn of(&self, network: IpNet) -> Vec<(i64, u32)> {
        let reports = self.clients.get(&network);
        let reports = reports.into_iter().flatten();
        reports
            .map(|report| (report.until, report.missing))
            .collect()
    }
}

//! What is kept of each client for the report.

use std::cmp::Reverse;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use ipnet::IpNet;

use super::{ReplayedOffender, Tallied};
use crate::record::network_text;
use crate::text::visible;

/// Rules, and URIs, kept of one client; further ones are counted as others.
pub(super) const MAX_KINDS: usize = 16;
/// Characters kept of a rule id or URI.
const MAX_TEXT: usize = 120;
/// Report times kept of one client.
const MAX_TIMES: usize = 64;

/// An attack that waits for earlier ones.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attack {
    pub(super) at: DateTime<Utc>,
    pub(super) arrival: u64,
    pub(super) client: IpAddr,
    pub(super) rules: Vec<String>,
    pub(super) uri: Option<String>,
}

/// What is known of a client's attacks.
#[derive(Debug)]
pub(super) struct Detail {
    pub(super) attacks: u64,
    pub(super) first: DateTime<Utc>,
    pub(super) last: DateTime<Utc>,
    pub(super) reports: u64,
    pub(super) reported_at: Vec<DateTime<Utc>>,
    pub(super) rules: Kinds,
    pub(super) uris: Kinds,
}

#[derive(Debug, Default)]
pub(super) struct Kinds {
    pub(super) counted: Vec<Tallied>,
    pub(super) others: u64,
}

impl Detail {
    /// Returns a detail without attacks, to which one at `at` is about to be added.
    pub(super) fn new(at: DateTime<Utc>) -> Detail {
        Detail {
            attacks: 0,
            first: at,
            last: at,
            reports: 0,
            reported_at: Vec::new(),
            rules: Kinds::default(),
            uris: Kinds::default(),
        }
    }

    /// Notes a report.
    pub(super) fn report(&mut self, at: DateTime<Utc>) {
        self.reports += 1;
        if self.reported_at.len() < MAX_TIMES {
            self.reported_at.push(at);
        }
    }

    pub(super) fn add(&mut self, attack: &Attack) {
        self.attacks += 1;
        self.first = self.first.min(attack.at);
        self.last = self.last.max(attack.at);
        attack.rules.iter().for_each(|rule| self.rules.add(rule));
        attack.uri.iter().for_each(|uri| self.uris.add(uri));
    }

    pub(super) fn offender(self, client: IpNet) -> ReplayedOffender {
        ReplayedOffender {
            client: network_text(client),
            attacks: self.attacks,
            first: self.first,
            last: self.last,
            reports: self.reports,
            reported_at: self.reported_at,
            rules: self.rules.tallied(),
            uris: self.uris.tallied(),
        }
    }
}

impl Kinds {
    pub(super) fn add(&mut self, what: &str) {
        if let Some(tallied) = self.counted.iter_mut().find(|tallied| tallied.what == what) {
            tallied.count += 1;
        } else if self.counted.len() < MAX_KINDS {
            self.counted.push(Tallied {
                what: what.to_owned(),
                count: 1,
            });
        } else {
            self.others += 1;
        }
    }

    pub(super) fn tallied(mut self) -> Vec<Tallied> {
        self.counted.sort_by_key(|tallied| Reverse(tallied.count));
        if self.others > 0 {
            self.counted.push(Tallied {
                what: "…".to_owned(),
                count: self.others,
            });
        }
        self.counted
    }
}

/// Makes a stranger's text fit for a terminal.
pub(super) fn shown(text: &str) -> String {
    let end = text
        .char_indices()
        .nth(MAX_TEXT)
        .map_or(text.len(), |(end, _)| end);
    visible(text.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_is_fit_for_a_terminal() {
        assert_eq!(shown("/\u{1b}[31m\n"), "/\\u{1b}[31m\\n");
        assert_eq!(shown("\u{202e}x\u{2028}"), "\\u{202e}x\\u{2028}");
        assert_eq!(shown(&"x".repeat(500)).len(), MAX_TEXT);
    }
}

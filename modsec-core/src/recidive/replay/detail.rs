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
    /// The transaction's own time.
    pub(super) at: DateTime<Utc>,
    /// The place in the order of reading, which decides among equal times.
    pub(super) arrival: u64,
    /// From part A, or from the header of a trusted proxy.
    pub(super) client: IpAddr,
    /// Ids of the rules that matched, each once; [`MAX_KINDS`] at the most.
    pub(super) rules: Vec<String>,
    /// The URI of the request line; `None` for a line of an index.
    pub(super) uri: Option<String>,
}

/// What is known of a client's attacks.
#[derive(Debug)]
pub(super) struct Detail {
    /// Attacks counted.
    pub(super) attacks: u64,
    /// Time of the earliest attack.
    pub(super) first: DateTime<Utc>,
    /// Time of the latest attack.
    pub(super) last: DateTime<Utc>,
    /// Reports so far.
    pub(super) reports: u64,
    /// Times of the first [`MAX_TIMES`] reports.
    pub(super) reported_at: Vec<DateTime<Utc>>,
    /// Rules that matched.
    pub(super) rules: Kinds,
    /// What was asked for.
    pub(super) uris: Kinds,
}

/// What a client's attacks had in common, counted in bounded memory.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    /// The first [`MAX_KINDS`] different texts and how often each occurred.
    pub(super) counted: Vec<Tallied>,
    /// How often any other text occurred.
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

    /// Adds an attack. Times may come in any order.
    pub(super) fn add(&mut self, attack: &Attack) {
        self.attacks += 1;
        self.first = self.first.min(attack.at);
        self.last = self.last.max(attack.at);
        attack.rules.iter().for_each(|rule| self.rules.add(rule));
        attack.uri.iter().for_each(|uri| self.uris.add(uri));
    }

    /// Returns what the report says about the client, an address or a network.
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
    /// Counts a text once.
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

    /// Returns the texts, the most frequent first, and behind them `…` for all others.
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

//! What speaks for and against: attacks, or visitors whom a rule takes for attackers.
//!
//! A [`Spot`] is where a rule found something: rule, host, path and target. Its [`Evidence`] are counts
//! that a judgement can be made of. Nothing is judged here.

use chrono::{DateTime, Utc};

/// Where a rule found something.
///
/// Parts are compared byte by byte. `None` is a value like any other: transactions without a host, say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub struct Spot {
    /// The rule's id: `ruleId` of an alert that is a detection.
    pub rule: String,
    /// The host that the client meant, in lower case: `Host`.
    pub host: Option<String>,
    /// `path_template`.
    pub path: Option<String>,
    /// What of the request the alert is about, such as `ARGS:q`: `target`.
    pub target: Option<String>,
}

impl Spot {
    /// Returns the spot of this rule at an unknown host, path and target.
    pub fn new(rule: impl Into<String>) -> Spot {
        Spot {
            rule: rule.into(),
            ..Spot::default()
        }
    }
}

/// Counts of the transactions in which a rule found something at one [`Spot`].
///
/// # What the rows do not say
///
/// - Whether a client was reported as an offender or banned: `recidive` keeps that in its own files.
/// - Who a client is. Clients behind one address count as one; one with many addresses counts as many.
/// - What happened outside of window and scope. Somebody who may see one account asks what clients did
///   there, and not what they did elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Evidence {
    /// Where.
    pub spot: Spot,
    /// Transactions, each counted once.
    pub transactions: u64,
    /// Those that were blocked.
    pub blocked: u64,
    /// Those in which something was found and that went on.
    pub detected: u64,
    /// Those for which the rule alone reached the threshold: without it they would have gone on.
    pub sole: u64,
    /// Those of which that is not known.
    pub sole_unknown: u64,
    /// Different clients.
    pub clients: u64,
    /// Different networks of these clients: /24 of IPv4, /48 of IPv6.
    pub networks: u64,
    /// Different days in UTC.
    pub days: u64,
    /// Clients that did nothing else anywhere: each transaction of theirs within window and scope that was
    /// blocked or detected is one of these, whatever the filter is.
    pub lone_clients: u64,
    /// The first one; `None` if no time is known.
    pub first: Option<DateTime<Utc>>,
    /// The last one.
    pub last: Option<DateTime<Utc>>,
}

impl Evidence {
    /// Returns the evidence about `spot`, of which at most one was found; zeros if none was.
    pub(super) fn only(found: Vec<Evidence>, spot: &Spot) -> Evidence {
        let nothing = || Evidence {
            spot: spot.clone(),
            ..Evidence::default()
        };
        found.into_iter().next().unwrap_or_else(nothing)
    }
}

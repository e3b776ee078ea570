//! All transactions one after the other, for judging them again.
//!
//! Whoever asks "whom would this policy have banned?" needs each transaction of a month, in order, and
//! little of each. So nothing is collected: [`Query::scan`](super::Query::scan) hands out one
//! [`Scanned`] at a time, and the database goes on reading when these were seen.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::cause::Outcome;
use crate::record::Severity;

/// Bytes that are kept of a name, which a client may have chosen. More than any host name has.
pub(super) const MOST_BYTES: usize = 512;

/// What is called with each transaction of a scan.
pub type Visit<'v> = dyn FnMut(&Scanned) + Send + 'v;

/// A transaction as policies judge it. Shapes and sources are those of [`Row`](crate::store::Row).
///
/// Names have at most 512 bytes here; what is longer is cut there, and U+FFFD stands for a character
/// that is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scanned {
    /// The row's number: `id` in `logs`.
    pub number: i64,
    /// When it was written: `created_at`.
    pub time: DateTime<Utc>,
    /// Who sent the request. IPv4 is never mapped into IPv6.
    pub client: Option<IpAddr>,
    /// The site's account.
    pub account: Option<String>,
    /// The host that the client meant, as he wrote it.
    pub host: Option<String>,
    /// The HTTP status: `responce_header`.
    pub status: Option<u16>,
    /// Of the cause.
    pub severity: Option<Severity>,
    /// The inbound anomaly score, in points.
    pub score: Option<i64>,
    /// `true` if the engine stopped the transaction.
    pub intercepted: bool,
    /// What became of it.
    pub outcome: Option<Outcome>,
    /// In the order of the log.
    pub alerts: Vec<ScannedAlert>,
}

/// An alert of a [`Scanned`] transaction, bookkeeping included.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScannedAlert {
    /// The rule's id.
    pub rule_id: Option<String>,
    /// The rule's severity.
    pub severity: Option<Severity>,
    /// `false` if it may be a client's own text: it was cut, or another part of the entry contradicts it.
    /// `None` if there is nothing to compare it with.
    pub verified: Option<bool>,
}

/// Returns the first [`MOST_BYTES`] of a text.
pub(super) fn cut(text: &str) -> String {
    let bytes = text.as_bytes();
    let start = bytes.get(..MOST_BYTES).unwrap_or(bytes);
    String::from_utf8_lossy(start).into_owned()
}

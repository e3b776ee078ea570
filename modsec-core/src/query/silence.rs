//! Who is quiet against its own habit.
//!
//! A site whose web application firewall was switched off, an account whose directory the service may
//! no longer read, and a sensor that has died look alike: nothing comes any more. So does a site at
//! night. What tells them apart is how long it has been quiet before.

use chrono::{DateTime, Utc};

use super::Facet;

/// Days with transactions that make a habit.
pub const LEAST_DAYS: u64 = 7;

/// Hours without transactions that may be a silence.
pub const LEAST_HOURS: u64 = 3;

/// Who may be quiet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A site, by the host that clients mean, in lower case.
    Host,
    /// A site's account.
    Account,
    /// A host that writes entries.
    Sensor,
}

impl Source {
    /// Returns the facet that has the names.
    pub(super) fn facet(self) -> Facet {
        match self {
            Source::Host => Facet::Host,
            Source::Account => Facet::Account,
            Source::Sensor => Facet::Sensor,
        }
    }
}

/// A source that is quiet against its own habit.
///
/// # The judgement
///
/// Time is looked at in hours, from the Unix epoch on. A *pause* is a number of whole hours without
/// any transaction between two that have some; nights and weekends are pauses like all others. Now is a
/// [`Silence`] if
///
/// - there were transactions on at least [`LEAST_DAYS`] days, so that there is a habit;
/// - there was none in at least [`LEAST_HOURS`] whole hours, the running one not counted;
/// - that is more than one and a half times the longest pause before.
///
/// The window should have some weeks, at least two for sites that are quiet on weekends. A longer pause
/// that lies before the window is not known of.
///
/// # How sure it is
///
/// If the pauses of each day are alike, the longest of them is as likely to come on any day: that today
/// has the longest of `n + 1` days by chance has a probability of 1 in `n + 1`. So
/// [`Silence::confidence`] is `n / (n + 1)`. It is a lower bound as far as days are alike; a pause of one
/// and a half times the longest is rarer. It says nothing of *why* it is quiet: attacks that stopped are
/// quiet, too.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Silence {
    /// Its name.
    pub key: String,
    /// Transactions before.
    pub transactions: u64,
    /// Days in UTC on which they were.
    pub days: u64,
    /// The beginning of the last hour with one.
    pub last: DateTime<Utc>,
    /// Whole hours without any since then.
    pub quiet_hours: u64,
    /// Whole hours of the longest pause before.
    pub longest_pause: u64,
}

impl Silence {
    /// Returns how sure it is that this is no pause as usual, from 0 to 1.
    /// After a habit of nine days it is 0.9.
    #[expect(clippy::cast_precision_loss, reason = "there are few days")]
    pub fn confidence(&self) -> f64 {
        self.days as f64 / (self.days as f64 + 1.0)
    }
}

/// Hours of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Habit {
    /// Transactions.
    pub(super) transactions: u64,
    /// Days on which they were.
    pub(super) days: u64,
    /// The last hour with one, since the Unix epoch.
    pub(super) last: i64,
    /// Whole hours of the longest pause.
    pub(super) longest_pause: u64,
}

impl Habit {
    /// Returns the silence, if it is one in this hour since the Unix epoch. The same condition as that of
    /// the statement.
    pub(super) fn silence(self, key: String, hour: i64) -> Option<Silence> {
        let quiet_hours = u64::try_from(hour - self.last - 1).ok()?;
        let is_silence = self.days >= LEAST_DAYS
            && quiet_hours >= LEAST_HOURS
            && quiet_hours * 2 > self.longest_pause * 3;
        let last = DateTime::from_timestamp(self.last.checked_mul(3600)?, 0)?;
        is_silence.then_some(Silence {
            key,
            transactions: self.transactions,
            days: self.days,
            last,
            quiet_hours,
            longest_pause: self.longest_pause,
        })
    }
}

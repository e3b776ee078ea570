//! What is asked: whose transactions, from when, which, and how long it may take.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::filter::Filter;
use crate::store::{Dialect, Row, StoreError, sql_time};

/// Which transactions a question is about, and how long the answer may take.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Question {
    /// Whose transactions the asker may see.
    pub scope: Scope,
    /// From when to when; for ever by default.
    pub window: Window,
    /// Which of them; all by default.
    pub filter: Filter,
    /// How long the answer may take; `None` for as long as it takes.
    pub deadline: Option<Duration>,
}

impl Question {
    /// Returns the question about all transactions within `scope`.
    pub fn new(scope: Scope) -> Question {
        Question {
            scope,
            window: Window::default(),
            filter: Filter::default(),
            deadline: None,
        }
    }

    /// Returns an error if nobody could answer the question.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let names = [&self.scope.accounts, &self.scope.hosts];
        let count: usize = names.into_iter().flatten().map(BTreeSet::len).sum();
        if count <= Scope::MAX_NAMES {
            return Ok(());
        }
        Err(StoreError::Question {
            problem: format!(
                "the scope names {count} accounts and hosts, and may name {}; ask about fewer of them \
                 at once, or about all",
                Scope::MAX_NAMES
            ),
        })
    }

    /// Returns `true` if the question is about the transaction.
    pub(super) fn is_about(&self, row: &Row) -> bool {
        self.scope.has(row) && self.window.has(row) && self.filter.matches(row)
    }
}

/// Whose transactions somebody may see. Not a filter: it cannot be left out or negated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Names as in the column `account`; `None` for all.
    pub(super) accounts: Option<BTreeSet<String>>,
    /// Names as in the column `Host`, in lower case; `None` for all.
    pub(super) hosts: Option<BTreeSet<String>>,
}

impl Scope {
    /// Accounts and hosts that a scope may name. A question about more is an error, as databases take a
    /// limited number of values.
    pub const MAX_NAMES: usize = 10_000;

    /// Returns the scope of somebody who may see everything, as the administrator may.
    pub fn all() -> Scope {
        Scope {
            accounts: None,
            hosts: None,
        }
    }

    /// Returns the scope of these accounts: the owners of the entries' files, which no client can choose.
    pub fn accounts<T: Into<String>>(accounts: impl IntoIterator<Item = T>) -> Scope {
        Scope {
            accounts: Some(accounts.into_iter().map(Into::into).collect()),
            hosts: None,
        }
    }

    /// Narrows the scope to these hosts, in any case. Of hosts that it is limited to already, those stay
    /// that are in both lists.
    ///
    /// A client says which host he means, and may say so to any site. So hosts only narrow a scope; they
    /// keep nobody's transactions apart.
    #[must_use]
    pub fn with_hosts<T: AsRef<str>>(mut self, hosts: impl IntoIterator<Item = T>) -> Scope {
        let hosts = hosts
            .into_iter()
            .map(|host| host.as_ref().to_ascii_lowercase());
        let is_seen = |host: &String| self.hosts.as_ref().is_none_or(|seen| seen.contains(host));
        let hosts = hosts.filter(is_seen).collect();
        self.hosts = Some(hosts);
        self
    }

    /// Returns `true` if the scope includes the row. A row without an account (or host) is in
    /// no scope that names accounts (or hosts): what has no known owner is shown only to those
    /// who may see everything.
    fn has(&self, row: &Row) -> bool {
        let is_of = |names: &Option<BTreeSet<String>>, name: Option<String>| match names {
            Some(names) => name.is_some_and(|name| names.contains(&name)),
            None => true,
        };
        is_of(&self.accounts, row.account.clone())
            && is_of(
                &self.hosts,
                row.host.as_ref().map(|host| host.to_ascii_lowercase()),
            )
    }
}

/// From when to when. A transaction of an unknown time is in no window that has a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Window {
    /// The first instant that is in it; `None` for the beginning.
    pub since: Option<DateTime<Utc>>,
    /// The first instant that is no longer in it; `None` for no end.
    pub until: Option<DateTime<Utc>>,
}

impl Window {
    /// Returns the window of these bounds.
    pub fn new(since: Option<DateTime<Utc>>, until: Option<DateTime<Utc>>) -> Window {
        Window { since, until }
    }

    /// Compares as the databases do, to the microsecond.
    fn has(&self, row: &Row) -> bool {
        let time = row.created_at.as_ref().and_then(sql_time);
        let bound = |bound: DateTime<Utc>| sql_time(&within_years(bound));
        let is_beyond = |bound: &DateTime<Utc>| bound.timestamp() > Dialect::Sqlite.last_second();
        let is_since = |since| !is_beyond(&since) && time.is_some() && time >= bound(since);
        let is_until = |until| time.is_some() && (is_beyond(&until) || time < bound(until));
        self.since.is_none_or(is_since) && self.until.is_none_or(is_until)
    }
}

/// Returns the time, or the nearest one that a database can write: of the years 0 to 9999.
pub(super) fn within_years(time: DateTime<Utc>) -> DateTime<Utc> {
    /// 0000-01-01 00:00:00 and 9999-12-31 23:59:59, in seconds since 1970.
    const YEARS: (i64, i64) = (-62_167_219_200, 253_402_300_799);
    let nearest = time.timestamp().clamp(YEARS.0, YEARS.1);
    if nearest == time.timestamp() {
        time
    } else {
        DateTime::from_timestamp(nearest, 0).unwrap_or(time)
    }
}

/// The place of a transaction in the order of [`Query::transactions`](super::Query::transactions).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cursor {
    /// When it was written; `None` if that is not known.
    pub time: Option<DateTime<Utc>>,
    /// Its number.
    pub number: i64,
}

impl Cursor {
    /// Returns the place of the transaction of this time and number.
    pub fn new(time: Option<DateTime<Utc>>, number: i64) -> Cursor {
        Cursor { time, number }
    }
}

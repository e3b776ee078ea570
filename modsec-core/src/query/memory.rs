//! Answers about rows in memory: for logs that no database has, and what others are compared with.

mod evidence;
mod scan;
mod silence;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use chrono::{DateTime, DurationRound as _, Utc};

use super::facet::Table;
use super::scan::Visit;
use super::{
    Answer, Bin, Count, Cursor, Evidence, Facet, Query, QueryFuture, Question, Silence, Source,
    Spot, Totals, Transaction,
};
use crate::cause::{Category, Kind, Outcome};
use crate::store::{LOG_COLUMNS, RULE_COLUMNS, Row, RuleRow, Value};

/// Rows between two looks at the clock.
const LOOK_EVERY: usize = 1024;

/// Rows in memory. Their numbers count from 1 in the order given.
#[derive(Debug, Clone, Default)]
pub struct MemoryQuery(Vec<Row>);

impl MemoryQuery {
    /// Returns what answers about these rows.
    pub fn new(rows: Vec<Row>) -> MemoryQuery {
        MemoryQuery(rows)
    }

    /// Calls `see` with each row that the question is about, and its number. Returns `false` if the
    /// deadline passed before that.
    fn each<'r>(&'r self, question: &Question, mut see: impl FnMut(i64, &'r Row)) -> bool {
        let started = Instant::now();
        for (at, (number, row)) in (1..).zip(&self.0).enumerate() {
            let is_time_to_look = at % LOOK_EVERY == 0;
            if is_time_to_look
                && question
                    .deadline
                    .is_some_and(|limit| started.elapsed() >= limit)
            {
                return false;
            }
            if question.is_about(row) {
                see(number, row);
            }
        }
        true
    }

    /// Returns what `see` made of all rows, or nothing at all if there was no time.
    fn fold<T: Default>(
        &self,
        question: &Question,
        mut see: impl FnMut(&mut T, &Row),
    ) -> Answer<Option<T>> {
        let mut value = T::default();
        if self.each(question, |_, row| see(&mut value, row)) {
            Answer::complete(Some(value))
        } else {
            Answer::late(None, None)
        }
    }

    /// Returns the totals: all, blocked and detected transactions, and the first and the last
    /// time among them. `None` if the deadline passed.
    fn count_all(&self, question: &Question) -> Answer<Option<Totals>> {
        self.fold(question, |totals: &mut Totals, row| {
            totals.transactions += 1;
            totals.blocked += u64::from(row.outcome == Some(Outcome::Blocked));
            totals.detected += u64::from(row.outcome == Some(Outcome::Detected));
            let time = stored_time(row);
            totals.first = [totals.first, time].into_iter().flatten().min();
            totals.last = totals.last.max(time);
        })
    }

    /// Returns the transactions of each `step` seconds, counted from the Unix epoch, oldest
    /// first. Rows whose time is unknown, or cannot be stored, are not counted. A `step` of 0
    /// counts as 1.
    fn count_by_time(&self, question: &Question, step: u32) -> Answer<Option<Vec<Bin>>> {
        let step = i64::from(step.max(1));
        let bins = self.fold(question, |bins: &mut BTreeMap<i64, Totals>, row| {
            if let Some(time) = stored_time(row) {
                let bin = bins.entry(time.timestamp().div_euclid(step)).or_default();
                bin.transactions += 1;
                bin.blocked += u64::from(row.outcome == Some(Outcome::Blocked));
                bin.detected += u64::from(row.outcome == Some(Outcome::Detected));
            }
        });
        let bin = |(place, totals): (i64, Totals)| {
            Some(Bin {
                start: DateTime::from_timestamp(place * step, 0)?,
                transactions: totals.transactions,
                blocked: totals.blocked,
                detected: totals.detected,
                estimated: 0,
            })
        };
        bins.map(|bins| bins.map(|bins| bins.into_iter().filter_map(bin).collect()))
    }

    /// Returns the `most` values of a facet with the most transactions; of equals, the first in
    /// the order of bytes. A row whose alerts have one value several times counts once for it.
    /// Message and category are the smallest in the order of bytes, as `min()` in SQL gives
    /// them.
    fn count_by(
        &self,
        question: &Question,
        facet: Facet,
        most: usize,
    ) -> Answer<Option<Vec<Count>>> {
        let groups = self.fold(question, |groups: &mut BTreeMap<String, Group>, row| {
            let mut seen = BTreeSet::new();
            for (key, msg, category) in keys(facet, row) {
                let group = groups.entry(key.clone()).or_default();
                let first = |kept: &mut Option<String>, new: Option<String>| {
                    *kept = [kept.take(), new].into_iter().flatten().min();
                };
                first(&mut group.count.msg, msg);
                first(&mut group.count.category, category);
                if seen.insert(key) {
                    group.add(row);
                }
            }
        });
        let sorted = |groups: BTreeMap<String, Group>| {
            let groups = groups.into_iter();
            let mut counts: Vec<Count> = groups.map(|(key, group)| group.count(key)).collect();
            // Stable, so those with as many stay in the order of their keys.
            counts.sort_by_key(|count| Reverse(count.transactions));
            counts.truncate(most);
            counts
        };
        groups.map(|groups| groups.map(sorted))
    }

    /// Returns up to `most` transactions that come after `after`, newest first, those of an
    /// unknown time last. All rows are looked at before the first is known, so there are none
    /// if the deadline passed.
    fn page(
        &self,
        question: &Question,
        after: Option<Cursor>,
        most: usize,
    ) -> Answer<Vec<Transaction>> {
        let place = |time: Option<DateTime<Utc>>, number: i64| (time, number);
        let after = after.map(|after| place(after.time.map(to_microseconds), after.number));
        let mut found = Vec::new();
        let is_complete = self.each(question, |number, row| {
            let place = place(stored_time(row), number);
            if after.is_none_or(|after| place < after) {
                found.push((place, row));
            }
        });
        if !is_complete {
            return Answer::late(Vec::new(), None);
        }
        found.sort_unstable_by_key(|(place, _)| Reverse(*place));
        found.truncate(most);
        let transactions = found.into_iter().map(|((_, number), row)| Transaction {
            number,
            values: owned(row.values()),
            is_estimated: Some(false),
            alerts: Vec::new(),
        });
        Answer::complete(transactions.collect())
    }

    /// Returns the transaction with this number, counted from 1 in the order of the rows, and
    /// its alerts. `None` if there is none or the question is not about it. The deadline is not
    /// checked: it is one look-up.
    fn one(&self, question: &Question, number: i64) -> Answer<Option<Transaction>> {
        let at = number
            .checked_sub(1)
            .and_then(|at| usize::try_from(at).ok());
        let row = at.and_then(|at| self.0.get(at));
        let row = row.filter(|row| question.is_about(row));
        Answer::complete(row.map(|row| {
            Transaction {
                number,
                values: owned(row.values()),
                is_estimated: Some(false),
                alerts: row
                    .rule_matches
                    .iter()
                    .map(|rule| owned(rule.values()))
                    .collect(),
            }
        }))
    }
}

impl Query for MemoryQuery {
    fn totals<'a>(&'a mut self, question: &'a Question) -> QueryFuture<'a, Option<Totals>> {
        Box::pin(async { question.check().map(|()| self.count_all(question)) })
    }

    fn time_line<'a>(
        &'a mut self,
        question: &'a Question,
        step: u32,
    ) -> QueryFuture<'a, Option<Vec<Bin>>> {
        Box::pin(async move {
            question
                .check()
                .map(|()| self.count_by_time(question, step))
        })
    }

    fn top<'a>(
        &'a mut self,
        question: &'a Question,
        facet: Facet,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Count>>> {
        Box::pin(async move {
            question
                .check()
                .map(|()| self.count_by(question, facet, most))
        })
    }

    fn transactions<'a>(
        &'a mut self,
        question: &'a Question,
        after: Option<Cursor>,
        most: usize,
    ) -> QueryFuture<'a, Vec<Transaction>> {
        Box::pin(async move { question.check().map(|()| self.page(question, after, most)) })
    }

    fn evidence<'a>(
        &'a mut self,
        question: &'a Question,
        spot: &'a Spot,
    ) -> QueryFuture<'a, Option<Evidence>> {
        Box::pin(async move {
            question.check()?;
            let found = self.evidence_of(question, |it| it == spot);
            Ok(found.map(|found| found.map(|found| Evidence::only(found, spot))))
        })
    }

    fn candidates<'a>(
        &'a mut self,
        question: &'a Question,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Evidence>>> {
        Box::pin(async move {
            question.check()?;
            let mut found = self.evidence_of(question, |_| true);
            if let Some(found) = &mut found.value {
                found.truncate(most);
            }
            Ok(found)
        })
    }

    fn silences<'a>(
        &'a mut self,
        question: &'a Question,
        source: Source,
        now: DateTime<Utc>,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Silence>>> {
        Box::pin(async move {
            question.check()?;
            Ok(self.silences_of(question, source, now, most))
        })
    }

    fn scan<'a>(
        &'a mut self,
        question: &'a Question,
        visit: &'a mut Visit<'_>,
    ) -> QueryFuture<'a, u64> {
        Box::pin(async move { question.check().map(|()| self.visit(question, visit)) })
    }

    fn transaction<'a>(
        &'a mut self,
        question: &'a Question,
        number: i64,
    ) -> QueryFuture<'a, Option<Transaction>> {
        Box::pin(async move { question.check().map(|()| self.one(question, number)) })
    }
}

/// What is counted of one value of a facet.
#[derive(Debug, Default)]
struct Group {
    /// The counts so far. Key and the numbers of clients and hosts are filled in at the end.
    count: Count,
    /// The clients' addresses as the column `client_key` keeps them, so that an IPv4 address
    /// and its mapped IPv6 form are one.
    clients: BTreeSet<[u8; 16]>,
    /// The hosts in lower case.
    hosts: BTreeSet<String>,
}

impl Group {
    /// Adds one transaction. To be called once for each row.
    fn add(&mut self, row: &Row) {
        self.count.transactions += 1;
        self.count.blocked += u64::from(row.outcome == Some(Outcome::Blocked));
        self.count.detected += u64::from(row.outcome == Some(Outcome::Detected));
        let time = stored_time(row);
        self.count.first = [self.count.first, time].into_iter().flatten().min();
        self.count.last = self.count.last.max(time);
        self.clients
            .extend(row.client_ip.map(crate::store::client_key));
        self.hosts
            .extend(row.host.as_ref().map(|host| host.to_ascii_lowercase()));
    }

    /// Returns the counts under this key, with the numbers of different clients and hosts.
    fn count(self, key: String) -> Count {
        Count {
            key,
            clients: self.clients.len() as u64,
            hosts: self.hosts.len() as u64,
            ..self.count
        }
    }
}

/// Returns the row's values of a facet, with message and category where they belong to it.
fn keys(facet: Facet, row: &Row) -> Vec<(String, Option<String>, Option<String>)> {
    let (table, column) = facet.column();
    let of_rule = |msg: &Option<String>, category: Option<Category>| {
        let category = category.map(|category| category.name().to_owned());
        if facet.is_rule() {
            (msg.clone(), category)
        } else {
            (None, None)
        }
    };
    match table {
        Table::Logs => {
            let key = text(&LOG_COLUMNS, &row.values(), column);
            let key = key.map(|key| {
                if facet == Facet::Host {
                    key.to_ascii_lowercase()
                } else {
                    key
                }
            });
            let (msg, category) = of_rule(&row.msg, row.category);
            key.map(|key| (key, msg, category)).into_iter().collect()
        }
        Table::Detections => {
            let is_detection = |rule: &&RuleRow| rule.kind == Some(Kind::Detection);
            let detections = row.rule_matches.iter().filter(is_detection);
            detections
                .filter_map(|rule| {
                    let key = text(&RULE_COLUMNS, &rule.values(), column)?;
                    let (msg, category) = of_rule(&rule.msg, rule.category);
                    Some((key, msg, category))
                })
                .collect()
        }
    }
}

/// Returns the text in the column of this name; `None` if there is no such column, or if its
/// value is null or no text.
fn text(names: &[&str], values: &[Value<'_>], column: &str) -> Option<String> {
    let at = names.iter().position(|name| *name == column)?;
    match values.get(at)? {
        Value::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

/// Returns a row's time as a database keeps it, to the microsecond. `None` if it is not known,
/// or if no database can hold it.
fn stored_time(row: &Row) -> Option<DateTime<Utc>> {
    let time = row
        .created_at
        .filter(|time| crate::store::sql_time(time).is_some());
    time.map(to_microseconds)
}

/// Cuts off what is less than a microsecond, the precision of the column `created_at`.
fn to_microseconds(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(chrono::TimeDelta::microseconds(1))
        .unwrap_or(time)
}

/// Returns the values with texts of their own, and times as a database keeps them.
fn owned<const N: usize>(values: [Value<'_>; N]) -> Vec<Value<'static>> {
    values
        .into_iter()
        .map(|value| match value {
            Value::Time(time) if crate::store::sql_time(&time).is_none() => Value::Null,
            Value::Time(time) => Value::Time(to_microseconds(time)),
            Value::Address(ip) => Value::Address(ip.to_canonical()),
            value => value.into_owned(),
        })
        .collect()
}

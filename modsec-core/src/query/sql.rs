//! Questions as SQL: one text for both databases, apart from how texts and times are written.
//!
//! Each statement is about `logs l`, and each has the [conditions](Statement::about) of the question,
//! the scope among them: there is no other way to make one. Names of columns and tables are ours; all
//! that somebody typed is a bound parameter.

mod decode;
mod evidence;
mod scan;
mod statement;

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use self::statement::Statement;
use super::scan::Visit;
use super::{
    Answer, Bin, Count, Cursor, Evidence, Facet, Query, QueryFuture, Question, Silence, Source,
    Spot, Totals, Transaction,
};
use crate::store::{self, Cells, Connection, Dialect, Param, StoreError, StoreOptions};

/// The newest stretch of time that is looked at when there is a deadline. The next ones are each twice
/// as long.
const FIRST_STRETCH: TimeDelta = TimeDelta::hours(1);

/// Opens a database for questions. Changes nothing.
///
/// # Errors
///
/// Those of [`store::open`]; [`StoreError::Configuration`] also for tables that are not there, or that an
/// older program made and that no run has brought up to date since.
pub async fn open(options: &StoreOptions) -> Result<Box<dyn Query>, StoreError> {
    Ok(Box::new(SqlQuery(store::connect_to_read(options).await?)))
}

/// Answers questions by SQL.
struct SqlQuery(Box<dyn Connection>);

impl SqlQuery {
    /// Returns the SQL and its values, unless they are more than the database takes.
    fn checked(&self, statement: Statement) -> Result<(String, Vec<Param>), StoreError> {
        let (sql, params) = statement.finish();
        let most = self.0.dialect().most_values();
        if params.len() <= most {
            return Ok((sql, params));
        }
        Err(StoreError::Question {
            problem: format!(
                "the question has {} names and values, and the database takes {most}; ask about \
                 fewer accounts, hosts or values at once",
                params.len()
            ),
        })
    }

    /// Runs a statement and makes something of its rows; not complete without them.
    async fn ask<T: Default>(
        &mut self,
        statement: Statement,
        deadline: Option<Instant>,
        make: impl FnOnce(Cells) -> T,
    ) -> Result<Answer<T>, StoreError> {
        let (sql, params) = self.checked(statement)?;
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let cells = if is_late {
            None
        } else {
            self.0.run(sql, params, deadline).await?
        };
        Ok(match cells {
            Some(cells) => Answer::complete(make(cells)),
            None => Answer::late(T::default(), None),
        })
    }

    /// Adds from when on rows are known. Asked for last: that is noted in the transaction that removes the
    /// first row, so whoever sees rows missing finds it.
    async fn with_horizon<T>(
        &mut self,
        answer: Result<Answer<T>, StoreError>,
    ) -> Result<Answer<T>, StoreError> {
        let mut answer = answer?;
        let (sql, params) = Statement::horizon(self.0.dialect()).finish();
        let cells = self.0.run(sql, params, None).await?;
        answer.known_from = cells.and_then(decode::horizon);
        Ok(answer)
    }

    /// Returns the transaction of this number with its alerts.
    async fn one(
        &mut self,
        question: &Question,
        number: i64,
    ) -> Result<Answer<Option<Transaction>>, StoreError> {
        question.check()?;
        let deadline = deadline(question);
        let statement = Statement::one(self.0.dialect(), question, number);
        let first = |cells| decode::transactions(cells).into_iter().next();
        let mut answer = self.ask(statement, deadline, first).await?;
        if let Some(transaction) = &mut answer.value {
            let statement = Statement::alerts(self.0.dialect(), question, number);
            let alerts = self.ask(statement, deadline, decode::alerts).await?;
            if !alerts.is_complete {
                return Ok(Answer::late(None, None));
            }
            transaction.alerts = alerts.value;
        }
        Ok(answer)
    }

    /// Counts what a statement selects.
    async fn count<T: Default>(
        &mut self,
        question: &Question,
        statement: Statement,
        make: impl FnOnce(Cells) -> T,
    ) -> Result<Answer<T>, StoreError> {
        question.check()?;
        self.ask(statement, deadline(question), make).await
    }

    /// Returns up to `most` transactions that come after `after`, newest first, and behind them
    /// those of an unknown time, which only a question without time bounds is about.
    ///
    /// With a deadline, one statement is run for each stretch of time, so that what was found
    /// before the deadline can be handed out. [`Answer::reached`] then is the start of the last
    /// stretch that was searched completely.
    async fn page(
        &mut self,
        question: &Question,
        after: Option<Cursor>,
        most: usize,
    ) -> Result<Answer<Vec<Transaction>>, StoreError> {
        question.check()?;
        let deadline = deadline(question);
        let mut found = Vec::new();
        let mut reached = None;
        let behind = match after {
            Some(after) => match self.behind(question, after, deadline).await? {
                Some(behind) => Some(behind),
                None => return Ok(Answer::late(found, reached)),
            },
            None => None,
        };
        if behind.as_ref().is_none_or(|behind| behind.time.is_some()) {
            for stretch in self.stretches(question, after, deadline).await? {
                let statement = Statement::page(
                    self.0.dialect(),
                    question,
                    behind.as_ref(),
                    &stretch,
                    most - found.len(),
                );
                let part = self.ask(statement, deadline, decode::transactions).await?;
                found.extend(part.value);
                if !part.is_complete {
                    return Ok(Answer::late(found, reached));
                }
                if found.len() >= most {
                    return Ok(Answer::complete(found));
                }
                reached = stretch.since;
            }
        }
        let has_bounds = question.window.since.is_some() || question.window.until.is_some();
        if !has_bounds {
            let (behind, most) = (behind.as_ref(), most - found.len());
            let statement = Statement::untimed(self.0.dialect(), question, behind, most);
            let part = self.ask(statement, deadline, decode::transactions).await?;
            found.extend(part.value);
            if !part.is_complete {
                return Ok(Answer::late(found, reached));
            }
        }
        Ok(Answer::complete(found))
    }

    /// Returns the place that a page begins behind; `None` if the deadline passed.
    ///
    /// In SQLite times are texts, and another program may have written one with fewer digits, or one
    /// that says no time. So the row itself is asked how it is written; a row that is gone, or that the
    /// question is not about, is taken for one of ours.
    async fn behind(
        &mut self,
        question: &Question,
        after: Cursor,
        deadline: Option<Instant>,
    ) -> Result<Option<Behind>, StoreError> {
        let mut time = after.time.map(statement::written);
        if self.0.dialect() == Dialect::Sqlite {
            let statement = Statement::time_of(self.0.dialect(), question, after.number);
            let stored = self.ask(statement, deadline, decode::text).await?;
            if !stored.is_complete {
                return Ok(None);
            }
            let is_same = |stored: &String| {
                let time = time.as_ref();
                time.is_none_or(|time| time.starts_with(stored.as_str()))
            };
            time = stored.value.filter(is_same).or(time);
        }
        Ok(Some(Behind {
            time,
            number: after.number,
        }))
    }

    /// Divides the time that a page is looked for in, newest first. Without a deadline it is one stretch.
    async fn stretches(
        &mut self,
        question: &Question,
        after: Option<Cursor>,
        deadline: Option<Instant>,
    ) -> Result<Vec<Stretch>, StoreError> {
        let whole = Stretch {
            since: question.window.since,
            until: question.window.until,
        };
        if deadline.is_none() {
            return Ok(vec![whole]);
        }
        let bounds = self
            .ask(
                Statement::bounds(self.0.dialect(), question),
                deadline,
                decode::bounds,
            )
            .await?;
        let Some((first, last)) = bounds.value else {
            return Ok(vec![whole]);
        };
        let newest = after
            .and_then(|after| after.time)
            .map_or(last, |time| time.min(last));
        Ok(whole.divided(first, newest))
    }
}

/// The place of a row, as the database has it.
pub(super) struct Behind {
    /// Its `created_at` as text; `None` for null.
    time: Option<String>,
    /// Its number.
    number: i64,
}

/// A stretch of time; the first instant is in it, the last is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first instant that is in it; `None` for no lower bound.
    pub(super) since: Option<DateTime<Utc>>,
    /// The first instant that is no longer in it; `None` for no upper bound.
    pub(super) until: Option<DateTime<Utc>>,
}

impl Stretch {
    /// Divides it into parts without gap or overlap, newest first, for transactions from `first` to
    /// `newest`.
    fn divided(self, first: DateTime<Utc>, newest: DateTime<Utc>) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut until = self.until;
        let mut length = FIRST_STRETCH;
        let mut begin = newest.checked_sub_signed(length);
        while let Some(since) =
            begin.filter(|since| *since > first && self.since.is_none_or(|oldest| *since > oldest))
        {
            if until.is_none_or(|until| since < until) {
                stretches.push(Stretch {
                    since: Some(since),
                    until,
                });
                until = Some(since);
            }
            length = length * 2;
            begin = since.checked_sub_signed(length);
        }
        stretches.push(Stretch {
            since: self.since,
            until,
        });
        stretches
    }
}

/// Returns when the time for the answer is over.
fn deadline(question: &Question) -> Option<Instant> {
    question
        .deadline
        .and_then(|limit: Duration| Instant::now().checked_add(limit))
}

impl Query for SqlQuery {
    fn totals<'a>(&'a mut self, question: &'a Question) -> QueryFuture<'a, Option<Totals>> {
        Box::pin(async move {
            let statement = Statement::totals(self.0.dialect(), question);
            let make = |cells| Some(decode::totals(cells));
            let answer = self.count(question, statement, make).await;
            self.with_horizon(answer).await
        })
    }

    fn time_line<'a>(
        &'a mut self,
        question: &'a Question,
        step: u32,
    ) -> QueryFuture<'a, Option<Vec<Bin>>> {
        Box::pin(async move {
            let step = step.max(1);
            let statement = Statement::time_line(self.0.dialect(), question, step);
            let make = move |cells| Some(decode::bins(cells, step));
            let answer = self.count(question, statement, make).await;
            self.with_horizon(answer).await
        })
    }

    fn top<'a>(
        &'a mut self,
        question: &'a Question,
        facet: Facet,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Count>>> {
        Box::pin(async move {
            let statement = Statement::top(self.0.dialect(), question, facet, most);
            let make = |cells| Some(decode::counts(cells));
            let answer = self.count(question, statement, make).await;
            self.with_horizon(answer).await
        })
    }

    fn transactions<'a>(
        &'a mut self,
        question: &'a Question,
        after: Option<Cursor>,
        most: usize,
    ) -> QueryFuture<'a, Vec<Transaction>> {
        Box::pin(async move {
            let answer = self.page(question, after, most).await;
            self.with_horizon(answer).await
        })
    }

    fn evidence<'a>(
        &'a mut self,
        question: &'a Question,
        spot: &'a Spot,
    ) -> QueryFuture<'a, Option<Evidence>> {
        Box::pin(async move {
            let found = self.evidence_of(question, Some(spot), 1).await;
            let found = self.with_horizon(found).await?;
            Ok(found.map(|found| found.map(|found| Evidence::only(found, spot))))
        })
    }

    fn candidates<'a>(
        &'a mut self,
        question: &'a Question,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Evidence>>> {
        Box::pin(async move {
            let answer = self.evidence_of(question, None, most).await;
            self.with_horizon(answer).await
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
            let hour = now.timestamp().div_euclid(3600);
            let statement = Statement::silences(self.0.dialect(), question, source, hour, most);
            let make = move |cells| Some(decode::silences(cells, hour));
            let answer = self.count(question, statement, make).await;
            self.with_horizon(answer).await
        })
    }

    fn scan<'a>(
        &'a mut self,
        question: &'a Question,
        visit: &'a mut Visit<'_>,
    ) -> QueryFuture<'a, u64> {
        Box::pin(async move {
            let answer = self.visit_all(question, visit).await;
            self.with_horizon(answer).await
        })
    }

    fn transaction<'a>(
        &'a mut self,
        question: &'a Question,
        number: i64,
    ) -> QueryFuture<'a, Option<Transaction>> {
        Box::pin(async move {
            let answer = self.one(question, number).await;
            self.with_horizon(answer).await
        })
    }
}

#[cfg(test)]
mod tests;

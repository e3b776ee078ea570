//! Removing rows that are too old.
//!
//! ```text
//! round ─► step: 50 oldest rows ─ one transaction: horizon, alerts, rows, what only they shared
//!           │ pause: nine times as long as the step took
//!           └─► step …  until none is too old
//! ```

use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::error_chain::error_chain;
use crate::heartbeat::Heartbeat;
use crate::store::{
    Cell, Change, Dialect, Param, StoreError, StoreOptions, Upkeep, list, open_upkeep, sql_time,
};

/// Rows that one step removes: a few milliseconds, for which other writers to SQLite wait.
const STEP: usize = 50;

/// How much longer than a step the pause behind it is, so that others have nine tenths of the time.
const PAUSE: u32 = 9;

/// The longest time between two rounds of [`keep_rows`].
const ROUND: Duration = Duration::from_secs(600);

/// How soon to try again after an error.
const AGAIN: Duration = Duration::from_secs(60);

/// Removes rows that are older than a span of time, with all that hangs on them.
///
/// Rows of all sensors are removed, whoever stored them, the oldest first. Several programs may do so at
/// once. A row whose time is not known stays.
///
/// What alerts share goes with the last alert that has it, if a client chose a part of it; texts of the
/// rules themselves stay, as there are only so many.
///
/// [`Answer::known_from`](crate::query::Answer::known_from) says from when on rows are complete. It is
/// noted together with the first row that is removed.
pub struct Retention {
    /// The database.
    store: Box<dyn Upkeep>,
    /// How old rows may become.
    keep: TimeDelta,
    /// Rows before this are removed, until none is left: the same for a whole round.
    before: Option<DateTime<Utc>>,
    /// Whether the server itself keeps what an alert refers to.
    guards_rules: bool,
}

impl Retention {
    /// Opens the store, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// As for [`store::open`](crate::store::open).
    pub async fn open(options: &StoreOptions, keep: Duration) -> Result<Retention, StoreError> {
        let mut store = open_upkeep(options, Heartbeat::default()).await?;
        let guards_rules = match store.dialect() {
            Dialect::Sqlite => true,
            Dialect::Mysql => has_foreign_key(&mut *store).await?,
        };
        Ok(Retention {
            store,
            keep: TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX),
            before: None,
            guards_rules,
        })
    }

    /// Removes the oldest rows; returns how many. After 0 nothing is too old any more at this moment.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] for what passes: the step may be repeated.
    /// [`StoreError::Configuration`] for what an administrator must change.
    pub async fn step(&mut self, now: DateTime<Utc>) -> Result<usize, StoreError> {
        let begins = self.before.is_none();
        let before = self.before.or_else(|| now.checked_sub_signed(self.keep));
        let Some((time, text)) = before.and_then(|time| Some((time, sql_time(&time)?))) else {
            return Ok(0);
        };
        let sql =
            format!("select id from logs where created_at < ? order by created_at limit {STEP}");
        let ids = self.numbers(sql, vec![Param::Text(text)]).await?;
        if ids.is_empty() {
            self.before = None;
            return Ok(0);
        }
        let mut changes = Vec::new();
        if begins {
            changes.push(Change::Horizon(time));
        }
        let rules = self.rules_of(&ids).await?;
        let removed = ids.len();
        changes.push(Change::Remove(ids));
        changes.extend(rules.into_iter().map(Change::RemoveRule));
        self.store.change(changes).await?;
        self.before = Some(time);
        Ok(removed)
    }

    /// Removes all rows that are too old, with a pause behind each step; returns how many.
    ///
    /// # Errors
    ///
    /// As for [`Retention::step`]. What was removed stays removed.
    pub async fn round(&mut self) -> Result<u64, StoreError> {
        let mut removed = 0;
        loop {
            let started = Instant::now();
            match self.step(Utc::now()).await? {
                0 => return Ok(removed),
                count => removed += count as u64,
            }
            sleep(started.elapsed() * PAUSE).await;
        }
    }

    /// Returns the keys of `modsec_rules` that only alerts of these rows have, and in which a client
    /// chose a name: that of the target.
    async fn rules_of(&mut self, ids: &[i64]) -> Result<Vec<i64>, StoreError> {
        if !self.guards_rules {
            return Ok(Vec::new());
        }
        let ids = list(ids);
        let sql = format!(
            "select r.rule_key from modsec_rules r
             where instr(r.target, ':') > 0
             and r.rule_key in (select m.rule_key from rule_matches m where m.log_id in ({ids}))
             and not exists (select 1 from rule_matches o
                             where o.rule_key = r.rule_key and o.log_id not in ({ids}))"
        );
        self.numbers(sql, Vec::new()).await
    }

    /// Returns the numbers that a statement selects.
    async fn numbers(&mut self, sql: String, params: Vec<Param>) -> Result<Vec<i64>, StoreError> {
        let rows = self.store.read(sql, params).await?;
        let number = |row: Vec<Cell>| row.into_iter().next().and_then(Cell::int);
        Ok(rows.into_iter().filter_map(number).collect())
    }
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retention")
            .field("keep", &self.keep)
            .field("before", &self.before)
            .finish_non_exhaustive()
    }
}

/// Removes rows that are older than `keep`, again and again. Never returns: to be dropped with the
/// program's own work. Errors are logged, and the next round tries again.
pub async fn keep_rows(options: &StoreOptions, keep: Duration) -> Infallible {
    let mut retention = None;
    loop {
        let pause = match remove_once(options, keep, &mut retention).await {
            Ok(removed) => {
                debug!(removed, "old rows removed");
                ROUND.min(keep / 10)
            }
            Err(error) => {
                retention = None;
                let error = error_chain(&error);
                warn!(error, "old rows could not be removed; tried again");
                AGAIN
            }
        };
        sleep(pause).await;
    }
}

/// Does one round; opens the store first if need be.
async fn remove_once(
    options: &StoreOptions,
    keep: Duration,
    retention: &mut Option<Retention>,
) -> Result<u64, StoreError> {
    match retention {
        Some(retention) => retention.round().await,
        none => {
            let opened = Retention::open(options, keep).await?;
            none.insert(opened).round().await
        }
    }
}

/// Returns `true` if the server itself keeps a row of `modsec_rules` as long as an alert has its key.
async fn has_foreign_key(store: &mut dyn Upkeep) -> Result<bool, StoreError> {
    let sql = "select count(*) from information_schema.referential_constraints
               where constraint_schema = database() and table_name = 'rule_matches'
               and referenced_table_name = 'modsec_rules'";
    let rows = store.read(sql.to_owned(), Vec::new()).await?;
    let count = rows.into_iter().flatten().next().and_then(Cell::int);
    Ok(count.is_some_and(|count| count > 0))
}

//! Filling in what rows of older programs lack.

use std::collections::BTreeMap;

use super::meaning::{ALERT_COLUMNS, LOG_COLUMNS, StoredAlert, StoredRow};
use crate::heartbeat::Heartbeat;
use crate::store::{
    self, Cell, Cells, Param, StoreError, StoreOptions, Upkeep, connect_to_read, open_upkeep,
};

/// Rows that one step looks at.
const PAGE: usize = 1000;

/// Rows that one step changes: some 10 ms, for which other writers to SQLite wait.
const STEP: usize = 100;

/// Fills in what rows of older programs lack: the cause in the rule columns, outcome, client and path
/// as keys, and what each alert means.
///
/// All of it is computed from what the rows hold, and marked as such in the column `estimated` where
/// the entry could have said more. What an entry itself once said is never overwritten. Rows that others
/// add meanwhile are left for the next time.
///
/// ```no_run
/// use modsec_core::store::StoreOptions;
/// use modsec_core::upkeep::Reindex;
///
/// # async fn example() -> Result<(), modsec_core::store::StoreError> {
/// let mut reindex = Reindex::open(&StoreOptions::new("sqlite:/srv/modsec.db")).await?;
/// while reindex.step().await? {}
/// println!("{} rows were completed", reindex.progress().completed);
/// # Ok(())
/// # }
/// ```
pub struct Reindex {
    /// The database.
    store: Box<dyn Upkeep>,
    /// Number of the last row that was looked at.
    after: i64,
    /// Numbers of the last row of the page that is worked on.
    page: i64,
    /// Number of the last row that is looked at.
    last: i64,
    progress: ReindexProgress,
}

/// How far a [`Reindex`] has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReindexProgress {
    /// Rows that were there when it began.
    pub rows: u64,
    /// Rows that were looked at.
    pub seen: u64,
    /// Rows that lacked something and are complete now.
    pub completed: u64,
    /// Those of them whose values are estimates.
    pub estimated: u64,
}

impl Reindex {
    /// Opens the store, and brings its tables up to date.
    ///
    /// # Errors
    ///
    /// As for [`store::open`].
    pub async fn open(options: &StoreOptions) -> Result<Reindex, StoreError> {
        let mut store = open_upkeep(options, Heartbeat::default()).await?;
        let sql = "select count(*), min(id), max(id) from logs".to_owned();
        let mut row = first(store.read(sql, Vec::new()).await?);
        let mut next = || row.next().and_then(Cell::int);
        let rows = next().and_then(|rows| rows.try_into().ok());
        let (lowest, last) = (next(), next());
        let after = lowest.map_or(0, |lowest| lowest.saturating_sub(1));
        Ok(Reindex {
            store,
            after,
            page: after,
            last: last.unwrap_or(after),
            progress: ReindexProgress {
                rows: rows.unwrap_or_default(),
                ..ReindexProgress::default()
            },
        })
    }

    /// Returns how far it has come.
    pub fn progress(&self) -> ReindexProgress {
        self.progress
    }

    /// Completes some rows; returns `false` once none is left.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] for what passes: the step may be repeated.
    /// [`StoreError::Configuration`] for what an administrator must change.
    pub async fn step(&mut self) -> Result<bool, StoreError> {
        if self.after >= self.page && !self.turn_page().await? {
            return Ok(false);
        }
        let rows = self.incomplete().await?;
        let is_last = rows.len() < STEP;
        let reached = rows.last_key_value().map_or(self.page, |(id, _)| *id);
        let mut changes = Vec::new();
        let mut estimated = 0;
        for row in rows.values() {
            let (more, is_estimated) = row.changes();
            changes.extend(more);
            estimated += u64::from(is_estimated);
        }
        if !changes.is_empty() {
            self.store.change(changes).await?;
        }
        self.progress.completed += rows.len() as u64;
        self.progress.estimated += estimated;
        self.after = if is_last { self.page } else { reached };
        Ok(true)
    }

    /// Goes on to the next rows; returns `false` if there are none.
    async fn turn_page(&mut self) -> Result<bool, StoreError> {
        loop {
            let sql = format!(
                "select max(id), count(*), count(estimated) from
                 (select id, estimated from logs where id > ? and id <= ?
                  order by id limit {PAGE}) page"
            );
            let bounds = [self.page, self.last].map(Param::Int).to_vec();
            let mut row = first(self.store.read(sql, bounds).await?);
            let mut next = || row.next().and_then(Cell::int);
            let Some(page) = next() else {
                return Ok(false);
            };
            let (all, complete) = (next().unwrap_or_default(), next().unwrap_or_default());
            self.after = self.page;
            self.page = page;
            self.progress.seen += u64::try_from(all).unwrap_or_default();
            if complete < all {
                return Ok(true);
            }
            self.after = page;
        }
    }

    /// Returns the next rows of the page that lack something, with their alerts.
    async fn incomplete(&mut self) -> Result<BTreeMap<i64, StoredRow>, StoreError> {
        let sql = format!(
            "select {LOG_COLUMNS} from logs
             where id > ? and id <= ? and estimated is null order by id limit {STEP}"
        );
        let bounds = [self.after, self.page].map(Param::Int).to_vec();
        let rows = self.store.read(sql, bounds).await?;
        let rows = rows.into_iter().map(StoredRow::new);
        let mut rows: BTreeMap<i64, StoredRow> = rows.map(|row| (row.id, row)).collect();
        let (Some((first, _)), Some((last, _))) = (rows.first_key_value(), rows.last_key_value())
        else {
            return Ok(rows);
        };
        let sql = format!(
            "select {ALERT_COLUMNS} from rule_matches
             where log_id >= ? and log_id <= ? order by log_id, position"
        );
        let bounds = [*first, *last].map(Param::Int).to_vec();
        for cells in self.store.read(sql, bounds).await? {
            let alert = StoredAlert::new(cells);
            if let Some(row) = rows.get_mut(&alert.log_id) {
                row.add(alert);
            }
        }
        Ok(rows)
    }
}

impl std::fmt::Debug for Reindex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reindex")
            .field("progress", &self.progress)
            .finish_non_exhaustive()
    }
}

/// What a [`Reindex`] would find, and nothing is changed to find it out.
///
/// Returns how many rows lack something; `None` if no program has added the columns yet, so that all
/// rows do.
///
/// # Errors
///
/// As for [`store::look`].
pub async fn missing(options: &StoreOptions) -> Result<Option<u64>, StoreError> {
    if store::look(options).await?.remark.is_some() {
        return Ok(None);
    }
    let mut store = connect_to_read(options).await?;
    let sql = "select count(*) from logs where estimated is null".to_owned();
    let rows = store.run(sql, Vec::new(), None).await?.unwrap_or_default();
    let count = first(rows).next().and_then(Cell::int);
    Ok(count.and_then(|count| count.try_into().ok()))
}

/// Returns the values of the first row.
fn first(rows: Cells) -> std::vec::IntoIter<Cell> {
    rows.into_iter().next().unwrap_or_default().into_iter()
}

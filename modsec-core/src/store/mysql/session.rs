//! One connection with its statements: what is said to the server.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, Value as MyValue};

use super::Unanswered;
use super::columns::{self, Columns};
use super::failure::{self, Remedy};
use super::statements::Statement;
use crate::crash_points;
use crate::entry_hash::EntryHash;
use crate::store::{Batch, BatchId, LOG_COLUMNS, RULE_COLUMNS, Refused, Row};

/// For every connection. A `timestamp` is converted from the session's time zone, which differs
/// from server to server. The mode is not strict: in strict mode one value that a column of an old
/// table cannot hold would be an error.
const SETTINGS: [&str; 2] = [
    "set names utf8mb4",
    "set time_zone = '+00:00', autocommit = 1, sql_mode = 'NO_ENGINE_SUBSTITUTION'",
];

/// Bytes of a packet that are not values.
const PACKET_MARGIN: usize = 8 * 1024;

/// What the server made of a batch.
pub(super) enum Outcome {
    /// It is committed.
    Stored,
    /// Nothing is stored: these entries were there already.
    SomeKnown(HashSet<EntryHash>),
    /// Nothing is stored: these rows cannot be.
    Refused(Vec<Refused>),
}

pub(super) struct Session {
    conn: Conn,
    log_columns: Columns,
    rule_columns: Columns,
    insert_logs: Statement,
    insert_rules: Statement,
    select_ids: Statement,
    /// Bytes of one text, so that one row always fits into a packet.
    max_text: usize,
}

impl Session {
    /// Connects and sets the session up.
    pub(super) async fn connect(opts: &Opts) -> Result<Conn, Error> {
        let mut conn = Conn::new(opts.clone()).await?;
        for settings in SETTINGS {
            conn.query_drop(settings).await?;
        }
        // Galera: what is read includes what another node has committed. Elsewhere there is no
        // such variable, or it has no effect.
        let galera: Option<(String, String)> = conn
            .query_first("show session variables like 'wsrep_sync_wait'")
            .await?;
        if galera.is_some() {
            conn.query_drop("set session wsrep_sync_wait = 1").await?;
        }
        Ok(conn)
    }

    /// Reads what the tables can hold, and builds the statements for it.
    pub(super) async fn new(mut conn: Conn) -> Result<Session, Error> {
        let log_columns = columns::describe(&mut conn, "logs", &LOG_COLUMNS).await?;
        let rule_columns = columns::describe(&mut conn, "rule_matches", &RULE_COLUMNS).await?;
        let packet: Option<u64> = conn.query_first("select @@max_allowed_packet").await?;
        let packet = usize::try_from(packet.unwrap_or(1 << 20)).unwrap_or(usize::MAX);
        let log_row = format!("({})", log_columns.placeholders());
        let rule_row = format!("(?, ?, {})", rule_columns.placeholders());
        let insert_logs = format!("insert into logs ({}) values", LOG_COLUMNS.join(", "));
        let insert_rules = format!(
            "insert into rule_matches (log_id, position, {}) values",
            RULE_COLUMNS.join(", ")
        );
        let select_ids = "select id, entry_hash from logs where entry_hash in (";
        Ok(Session {
            conn,
            insert_logs: Statement::new(&insert_logs, &log_row, "", packet),
            insert_rules: Statement::new(&insert_rules, &rule_row, "", packet),
            select_ids: Statement::new(select_ids, "?", ")", packet),
            max_text: packet.saturating_sub(PACKET_MARGIN) / LOG_COLUMNS.len(),
            log_columns,
            rule_columns,
        })
    }

    /// Returns those of the entries that are in the table.
    pub(super) async fn known(
        &mut self,
        hashes: &[EntryHash],
    ) -> Result<HashSet<EntryHash>, Error> {
        Ok(self
            .ids(hashes.iter().copied())
            .await?
            .into_keys()
            .collect())
    }

    /// Returns the ids of those of the entries that are in the table.
    async fn ids(
        &mut self,
        hashes: impl IntoIterator<Item = EntryHash>,
    ) -> Result<HashMap<EntryHash, i64>, Error> {
        let rows = hashes
            .into_iter()
            .map(|hash| vec![hash_value(hash)])
            .collect();
        let mut ids = HashMap::new();
        for step in self.select_ids.steps(rows) {
            let found: Vec<(i64, Vec<u8>)> = self.conn.exec(step.text, step.params).await?;
            ids.extend(
                found.into_iter().filter_map(|(id, hash)| {
                    Some((EntryHash::from_bytes(hash.try_into().ok()?), id))
                }),
            );
        }
        Ok(ids)
    }

    /// Returns the last batch of a journal. Waits for a transaction that is still under way, whose
    /// client may have died with its commit sent: the answer must not change afterwards.
    pub(super) async fn last_batch(&mut self, journal: &str) -> Result<Option<BatchId>, Error> {
        let key = hash_value(EntryHash::of(journal.as_bytes()));
        let batch: Option<Vec<u8>> = self
            .conn
            .exec_first(
                "select batch from modsec_batches where journal_key = ? for update",
                (key,),
            )
            .await?;
        Ok(batch
            .and_then(|batch| batch.try_into().ok())
            .map(BatchId::from_bytes))
    }

    /// Stores the rows, of which none is known to be in the table, in one transaction.
    ///
    /// `lost` is set while a commit is under way, and left so if it has no answer.
    pub(super) async fn store(
        &mut self,
        rows: &[&Row],
        batch: &Batch,
        lost: &mut Option<Unanswered>,
    ) -> Result<Outcome, Error> {
        self.conn.query_drop("begin").await?;
        match self.fill(rows, batch).await {
            Ok(()) => {}
            Err(error) if failure::remedy(&error) == Remedy::Data => {
                self.conn.query_drop("rollback").await?;
                return self.explain(rows, error).await;
            }
            // The caller drops the connection, which rolls back.
            Err(error) => return Err(error),
        }
        *lost = Some(Unanswered {
            entries: rows.iter().map(|row| row.entry_hash).collect(),
        });
        crash_points::pass("in-transaction");
        match self.conn.query_drop("commit").await {
            Ok(()) => {
                crash_points::pass("committed");
                *lost = None;
            }
            Err(error) => {
                // A clear no: with Galera, another node was faster.
                if failure::remedy(&error) == Remedy::Repeat {
                    *lost = None;
                }
                return Err(error);
            }
        }
        Ok(Outcome::Stored)
    }

    async fn fill(&mut self, rows: &[&Row], batch: &Batch) -> Result<(), Error> {
        self.insert(rows).await?;
        let Some(journal) = &batch.journal else {
            return Ok(());
        };
        let key = hash_value(EntryHash::of(journal.as_bytes()));
        let shown: String = journal.chars().take(255).collect();
        let id = MyValue::Bytes(batch.id.as_bytes().to_vec());
        self.conn
            .exec_drop(
                "replace into modsec_batches (journal_key, journal, batch) values (?, ?, ?)",
                (key, shown, id),
            )
            .await
    }

    /// Adds rows with their matches to the transaction.
    ///
    /// The ids are asked for, not computed: how a server numbers the rows of one statement
    /// depends on its settings, and on the number of nodes in a cluster.
    async fn insert(&mut self, rows: &[&Row]) -> Result<(), Error> {
        let now = Utc::now();
        let logs = rows.iter().map(|row| self.log_values(row, now)).collect();
        run(&mut self.conn, &self.insert_logs, logs).await?;
        let with_matches = rows.iter().filter(|row| !row.rule_matches.is_empty());
        let ids = self.ids(with_matches.map(|row| row.entry_hash)).await?;
        let mut rules = Vec::new();
        for row in rows {
            if let Some(id) = ids.get(&row.entry_hash) {
                self.rule_values(*id, row, now, &mut rules);
            }
        }
        run(&mut self.conn, &self.insert_rules, rules).await
    }

    fn log_values(&self, row: &Row, now: DateTime<Utc>) -> Vec<MyValue> {
        let values = self.log_columns.fit(row.values(), self.max_text, now);
        values.collect()
    }

    fn rule_values(&self, id: i64, row: &Row, now: DateTime<Utc>, rules: &mut Vec<Vec<MyValue>>) {
        for (position, rule) in (0i64..).zip(&row.rule_matches) {
            let mut values = Vec::with_capacity(2 + RULE_COLUMNS.len());
            values.extend([MyValue::Int(id), MyValue::Int(position)]);
            values.extend(self.rule_columns.fit(rule.values(), self.max_text, now));
            rules.push(values);
        }
    }

    /// Finds out why the rows were refused.
    async fn explain(&mut self, rows: &[&Row], error: Error) -> Result<Outcome, Error> {
        if failure::code(&error) == Some(failure::DUPLICATE) {
            let hashes: Vec<EntryHash> = rows.iter().map(|row| row.entry_hash).collect();
            let known = self.known(&hashes).await?;
            if !known.is_empty() {
                return Ok(Outcome::SomeKnown(known));
            }
        }
        let refused = self.refused(rows).await?;
        // Not the rows, then: the journal's entry, or somebody has just changed the table.
        if refused.is_empty() {
            Err(error)
        } else {
            Ok(Outcome::Refused(refused))
        }
    }

    /// Inserts the rows by halves, and leaves out what fails alone. Rolls back in the end.
    async fn refused(&mut self, rows: &[&Row]) -> Result<Vec<Refused>, Error> {
        self.conn.query_drop("begin").await?;
        let mut refused = Vec::new();
        for (row, error) in self.halve(rows, &[Remedy::Data]).await?.bad {
            refused.push(refusal(row, error));
        }
        self.conn.query_drop("rollback").await?;
        Ok(refused)
    }

    /// Returns the rows that are to blame for an error that nobody knows.
    ///
    /// A row is to blame only if it fails alone, and a witness can be inserted right before and
    /// right after: it is neither an outage nor a defect that all rows meet. The witness is another
    /// row of the batch or, if all of them fail, the row with harmless texts. Nothing is stored.
    pub(super) async fn culprits(&mut self, rows: &[Row]) -> Result<Vec<Refused>, Error> {
        let hashes: Vec<EntryHash> = rows.iter().map(|row| row.entry_hash).collect();
        let mut seen = self.known(&hashes).await?;
        let rows: Vec<&Row> = rows
            .iter()
            .filter(|row| seen.insert(row.entry_hash))
            .collect();
        self.conn.query_drop("begin").await?;
        let halved = self.halve(&rows, &[Remedy::Data, Remedy::Probe]).await?;
        // The witness must not be there already.
        self.conn.query_drop("rollback").await?;
        let mut culprits = Vec::new();
        self.conn.query_drop("begin").await?;
        for (row, error) in halved.bad {
            let witness = halved.good.cloned().unwrap_or_else(|| harmless(row));
            let before = self.fails(&witness).await?;
            let still = self.fails(row).await?;
            let after = self.fails(&witness).await?;
            let same = still.is_some_and(|still| failure::code(&still) == failure::code(&error));
            if before.is_none() && same && after.is_none() {
                culprits.push(refusal(row, error));
            }
        }
        self.conn.query_drop("rollback").await?;
        Ok(culprits)
    }

    /// Tries one row within the transaction and takes it back; returns why it cannot be inserted.
    async fn fails(&mut self, row: &Row) -> Result<Option<Error>, Error> {
        self.conn.query_drop("savepoint part").await?;
        let result = self.insert(&[row]).await;
        self.conn.query_drop("rollback to savepoint part").await?;
        Ok(result.err())
    }

    /// Inserts the rows by halves into the transaction, except for those that fail alone with an
    /// error of the given kinds. Other errors end it.
    async fn halve<'r>(&mut self, rows: &[&'r Row], kinds: &[Remedy]) -> Result<Halved<'r>, Error> {
        let mut halved = Halved::default();
        let mut left = vec![rows];
        while let Some(rows) = left.pop() {
            self.conn.query_drop("savepoint part").await?;
            match self.insert(rows).await {
                Ok(()) => halved.good = halved.good.or(rows.first().copied()),
                Err(error) if kinds.contains(&failure::remedy(&error)) => {
                    self.conn.query_drop("rollback to savepoint part").await?;
                    if let [row] = rows {
                        halved.bad.push((*row, error));
                    } else {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        left.extend([second, first]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(halved)
    }
}

/// What became of rows that were inserted by halves.
#[derive(Default)]
struct Halved<'r> {
    /// One that could be inserted.
    good: Option<&'r Row>,
    /// Those that could not, even alone.
    bad: Vec<(&'r Row, Error)>,
}

/// Returns a row as large as this one, without the texts that a client can choose.
fn harmless(row: &Row) -> Row {
    let mut row = row.clone();
    row.entry_hash = EntryHash::of(row.entry_hash.as_bytes());
    let texts = [
        &mut row.method,
        &mut row.uri,
        &mut row.host,
        &mut row.msg,
        &mut row.data,
        &mut row.unique_id,
        &mut row.user_agent,
        &mut row.status_line,
    ];
    let rules = row.rule_matches.iter_mut();
    let rule_texts = rules.flat_map(|rule| [&mut rule.msg, &mut rule.data, &mut rule.detail]);
    for text in texts.into_iter().chain(rule_texts).flatten() {
        *text = "x".repeat(text.len());
    }
    row
}

fn refusal(row: &Row, error: Error) -> Refused {
    Refused {
        entry: row.entry_hash,
        path: row.path.clone(),
        reason: failure::cause(error).to_string(),
    }
}

async fn run(conn: &mut Conn, statement: &Statement, rows: Vec<Vec<MyValue>>) -> Result<(), Error> {
    for step in statement.steps(rows) {
        conn.exec_drop(step.text, step.params).await?;
    }
    Ok(())
}

fn hash_value(hash: EntryHash) -> MyValue {
    MyValue::Bytes(hash.as_bytes().to_vec())
}

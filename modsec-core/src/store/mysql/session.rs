//! One connection with its statements: what is said to the server.
//!
//! A batch in SQL, with the values that [`Columns`] has made fit:
//!
//! ```sql
//! begin;
//! insert into logs (REQUEST_METHOD, …) values (?, …), (?, …), …;     -- some statements
//! select id, entry_hash from logs where entry_hash in (?, ?, …);     -- rows with matches only
//! select rule_key from modsec_rules where rule_key in (?, …);        -- most are there
//! insert into modsec_rules (rule_key, msg, …) values (?, …), …;      -- new ones
//! insert into rule_matches (log_id, position, rule_key, …) values (?, …), …;
//! replace into modsec_batches (journal_key, journal, batch) values (?, ?, ?);
//! commit;
//! ```
//!
//! Rows that may be known are not skipped by the server (`insert ignore` would hide every other
//! error, too). A duplicate key fails the statement, the transaction is rolled back, the known rows
//! are asked for and left out.
//!
//! Nothing here has a time limit or repeats anything; that is the business of the store.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, Utc};
use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error, Opts, Value as MyValue};

use super::UnansweredCommit;
use super::columns::{self, Columns};
use super::failure::{self, Remedy};
use super::statements::Statement;
use crate::crash_points;
use crate::entry_hash::EntryHash;
use crate::store::shared::{ALERT_COLUMNS, Split, rule_table_columns};
use crate::store::{Batch, BatchId, LOG_COLUMNS, Refused, Row, Value};

/// Settings for every connection.
///
/// Text is sent as `utf8mb4`. A `timestamp` is converted from the session's time zone, which
/// differs from server to server, so it is UTC here. The mode is not strict: in strict mode one
/// value that a column of an old table cannot hold would be an error.
const SETTINGS: [&str; 2] = [
    "set names utf8mb4",
    "set time_zone = '+00:00', autocommit = 1, sql_mode = 'NO_ENGINE_SUBSTITUTION'",
];

/// Bytes of a packet that are not values: headers, types, the map of nulls.
const PACKET_MARGIN: usize = 8 * 1024;

/// Columns of one row whose texts are a client's or a rule's, and so of any length.
const LONG_TEXTS: usize = 15;

/// What became of the rows of one transaction, where that is no error.
pub(super) enum Outcome {
    /// It is committed.
    Stored,
    /// Nothing is stored: these entries were there already, at least one.
    SomeKnown(HashSet<EntryHash>),
    /// Nothing is stored: these rows cannot be, at least one.
    Refused(Vec<Refused>),
}

/// A connection that is set up, and the statements for the tables as they are on this server.
pub(super) struct Session {
    /// The connection. No transaction is open on it between two calls that succeeded.
    pub(super) conn: Conn,
    /// What the columns of `logs` can hold, in the order of [`LOG_COLUMNS`].
    log_columns: Columns,
    /// What the columns of `rule_matches` can hold, in the order of [`ALERT_COLUMNS`].
    alert_columns: Columns,
    /// What the columns of `modsec_rules` can hold, in the order of [`rule_table_columns`].
    rule_columns: Columns,
    /// `insert into logs …`.
    insert_logs: Statement,
    /// `insert into rule_matches …`.
    insert_alerts: Statement,
    /// `insert into modsec_rules …`.
    insert_rules: Statement,
    /// `select rule_key from modsec_rules …`.
    select_rules: Statement,
    /// `select id, entry_hash from logs …`.
    select_ids: Statement,
    /// Bytes of one text, so that one row always fits into a packet.
    pub(super) max_text: usize,
}

impl Session {
    /// Connects and sets the session up, without a look at the tables, which may not exist yet.
    ///
    /// With Galera the session also waits until this node has applied what others committed
    /// (`wsrep_sync_wait`), so that an entry stored through another node is known here.
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
    ///
    /// One text is limited to a share of `max_allowed_packet`, so that a row with a long text in
    /// every column still fits into one packet. Of a server that does not say, 1 MiB is assumed.
    pub(super) async fn new(mut conn: Conn) -> Result<Session, Error> {
        let log_columns = columns::describe(&mut conn, "logs", &LOG_COLUMNS).await?;
        let alert_columns = columns::describe(&mut conn, "rule_matches", &ALERT_COLUMNS).await?;
        let rule_columns =
            columns::describe(&mut conn, "modsec_rules", &rule_table_columns()).await?;
        let packet: Option<u64> = conn.query_first("select @@max_allowed_packet").await?;
        let packet = usize::try_from(packet.unwrap_or(1 << 20)).unwrap_or(usize::MAX);
        let log_row = format!("({}, 0)", log_columns.placeholders());
        let alert_row = format!("(?, ?, ?, {})", alert_columns.placeholders());
        let rule_row = format!("({})", rule_columns.placeholders());
        let insert_logs = format!(
            "insert into logs ({}, estimated) values",
            LOG_COLUMNS.join(", ")
        );
        let insert_alerts = format!(
            "insert into rule_matches (log_id, position, rule_key, {}) values",
            ALERT_COLUMNS.join(", ")
        );
        let insert_rules = format!(
            "insert into modsec_rules ({}) values",
            rule_table_columns().join(", ")
        );
        // Another writer may be faster.
        let keep = " on duplicate key update rule_key = values(rule_key)";
        let select_rules = "select rule_key from modsec_rules where rule_key in (";
        let select_ids = "select id, entry_hash from logs where entry_hash in (";
        Ok(Session {
            conn,
            insert_logs: Statement::new(&insert_logs, &log_row, "", packet),
            insert_alerts: Statement::new(&insert_alerts, &alert_row, "", packet),
            insert_rules: Statement::new(&insert_rules, &rule_row, keep, packet),
            select_rules: Statement::new(select_rules, "?", ")", packet),
            select_ids: Statement::new(select_ids, "?", ")", packet),
            max_text: packet.saturating_sub(PACKET_MARGIN) / LONG_TEXTS,
            log_columns,
            alert_columns,
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

    /// Returns the last batch of a journal.
    ///
    /// `for update` waits for a transaction that is still under way, whose client may have died
    /// with its commit sent: the answer must not change afterwards. The lock ends with the
    /// statement, because the session commits automatically.
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
    /// `unanswered` is set while a commit is under way, and left so if it has no answer.
    ///
    /// After `Ok` no transaction is open. After an error the caller must drop the session: that
    /// rolls back. Killed before the commit, the server rolls back; killed after it, the batch is
    /// stored as a whole, and [`last_batch`](Self::last_batch) says so.
    pub(super) async fn store(
        &mut self,
        rows: &[&Row],
        batch: &Batch,
        unanswered: &mut Option<UnansweredCommit>,
    ) -> Result<Outcome, Error> {
        self.conn.query_drop("begin").await?;
        match self.insert_batch(rows, batch).await {
            Ok(()) => {}
            Err(error) if failure::remedy(&error) == Remedy::Data => {
                self.conn.query_drop("rollback").await?;
                return self.explain_refusal(rows, error).await;
            }
            // The caller drops the connection, which rolls back.
            Err(error) => return Err(error),
        }
        *unanswered = Some(UnansweredCommit {
            entries: rows.iter().map(|row| row.entry_hash).collect(),
        });
        crash_points::pass("in-transaction");
        match self.conn.query_drop("commit").await {
            Ok(()) => {
                crash_points::pass("committed");
                *unanswered = None;
            }
            Err(error) => {
                // A clear no: with Galera, another node was faster.
                if failure::remedy(&error) == Remedy::Repeat {
                    *unanswered = None;
                }
                return Err(error);
            }
        }
        Ok(Outcome::Stored)
    }

    /// Puts rows, matches and the batch's id into the open transaction.
    ///
    /// `modsec_batches` is keyed by a hash of the journal, since text keys are compared without
    /// regard to case and trailing spaces, and may be longer than a key may be. The journal's first
    /// 255 characters stand beside it for people.
    async fn insert_batch(&mut self, rows: &[&Row], batch: &Batch) -> Result<(), Error> {
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
    /// The ids are asked for, not computed: how a server numbers the rows of one statement depends
    /// on its settings, and on the number of nodes in a cluster. Rows without matches need no id.
    async fn insert(&mut self, rows: &[&Row]) -> Result<(), Error> {
        let now = Utc::now();
        let logs = rows.iter().map(|row| self.log_values(row, now)).collect();
        run(&mut self.conn, &self.insert_logs, logs).await?;
        let with_matches = rows.iter().filter(|row| !row.rule_matches.is_empty());
        let ids = self.ids(with_matches.map(|row| row.entry_hash)).await?;
        let mut alerts = Vec::new();
        let mut rules = BTreeMap::new();
        for row in rows {
            if let Some(id) = ids.get(&row.entry_hash) {
                for (position, rule) in (0i64..).zip(&row.rule_matches) {
                    let Split {
                        rule_key,
                        own,
                        shared,
                    } = Split::new(rule);
                    let mut values = [*id, position, rule_key].map(MyValue::Int).to_vec();
                    values.extend(self.alert_columns.fit(own, self.max_text, now));
                    alerts.push(values);
                    let shared = shared.into_iter();
                    rules.extend(shared.map(|shared| (shared.rule_key, shared.values)));
                }
            }
        }
        self.insert_rules(rules, now).await?;
        run(&mut self.conn, &self.insert_alerts, alerts).await
    }

    /// Adds those of the rules that are not in `modsec_rules`, in the order of their keys, so that
    /// two writers do not wait for each other.
    ///
    /// They are asked for first, since an insert would lock the rows that are there until the commit.
    async fn insert_rules(
        &mut self,
        mut rules: BTreeMap<i64, Vec<Value<'_>>>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let keys = rules.keys().map(|key| vec![MyValue::Int(*key)]).collect();
        for step in self.select_rules.steps(keys) {
            let known: Vec<i64> = self.conn.exec(step.text, step.params).await?;
            for key in known {
                rules.remove(&key);
            }
        }
        let fit = |values| self.rule_columns.fit(values, self.max_text, now).collect();
        let missing = rules.into_values().map(fit).collect();
        run(&mut self.conn, &self.insert_rules, missing).await
    }

    /// Returns the values of one row of `logs`, made to fit. `now` stands for an unknown time where
    /// the column takes no null.
    fn log_values(&self, row: &Row, now: DateTime<Utc>) -> Vec<MyValue> {
        let values = self.log_columns.fit(row.values(), self.max_text, now);
        values.collect()
    }

    /// Finds out why the server refused the rows, after the transaction was rolled back.
    ///
    /// A duplicate key means that another writer was faster; else rows are tried one by one.
    /// `error` is returned if no row can be blamed: then it was the journal's entry, or the table
    /// was changed meanwhile.
    async fn explain_refusal(&mut self, rows: &[&Row], error: Error) -> Result<Outcome, Error> {
        if failure::code(&error) == Some(failure::DUPLICATE) {
            let hashes: Vec<EntryHash> = rows.iter().map(|row| row.entry_hash).collect();
            let known = self.known(&hashes).await?;
            if !known.is_empty() {
                return Ok(Outcome::SomeKnown(known));
            }
        }
        let refused = self.refused(rows).await?;
        // Not the rows, then: the journal's entry, or the table was just changed.
        if refused.is_empty() {
            Err(error)
        } else {
            Ok(Outcome::Refused(refused))
        }
    }

    /// Returns the rows that fail alone with an error of [`Remedy::Data`]. Rolls back in the end.
    async fn refused(&mut self, rows: &[&Row]) -> Result<Vec<Refused>, Error> {
        self.conn.query_drop("begin").await?;
        let mut refused = Vec::new();
        for (row, error) in self.bisect(rows, &[Remedy::Data]).await?.rejected {
            refused.push(Refused::new(row, failure::cause(error).to_string()));
        }
        self.conn.query_drop("rollback").await?;
        Ok(refused)
    }

    /// Returns the rows that are to blame for an error without a known remedy. Stores nothing.
    ///
    /// A row is to blame only if three things hold:
    ///
    /// 1. It fails alone.
    /// 2. A control row can be inserted right before and right after it: the server works.
    /// 3. It fails between the two with the same error number.
    ///
    /// So neither an outage nor a defect that all rows meet makes a row be left out. The control
    /// row is another row of the batch that was accepted or, if all of them fail, the row itself
    /// with neutral texts.
    pub(super) async fn faulty_rows(&mut self, rows: &[Row]) -> Result<Vec<Refused>, Error> {
        let hashes: Vec<EntryHash> = rows.iter().map(|row| row.entry_hash).collect();
        let mut seen = self.known(&hashes).await?;
        let rows: Vec<&Row> = rows
            .iter()
            .filter(|row| seen.insert(row.entry_hash))
            .collect();
        self.conn.query_drop("begin").await?;
        let bisected = self.bisect(&rows, &[Remedy::Data, Remedy::Probe]).await?;
        // The witness must not be there already.
        self.conn.query_drop("rollback").await?;
        let mut faulty = Vec::new();
        self.conn.query_drop("begin").await?;
        for (row, error) in bisected.rejected {
            let witness = bisected
                .accepted
                .cloned()
                .unwrap_or_else(|| with_neutral_texts(row));
            let before = self.try_alone(&witness).await?;
            let still = self.try_alone(row).await?;
            let after = self.try_alone(&witness).await?;
            let same = still.is_some_and(|still| failure::code(&still) == failure::code(&error));
            if before.is_none() && same && after.is_none() {
                faulty.push(Refused::new(row, failure::cause(error).to_string()));
            }
        }
        self.conn.query_drop("rollback").await?;
        Ok(faulty)
    }

    /// Tries one row within the transaction and takes it back; returns the error it fails with, or
    /// `None` if it can be inserted.
    ///
    /// The outer error is one of the savepoint: the connection is of no further use.
    async fn try_alone(&mut self, row: &Row) -> Result<Option<Error>, Error> {
        self.conn.query_drop("savepoint part").await?;
        let result = self.insert(&[row]).await;
        self.conn.query_drop("rollback to savepoint part").await?;
        Ok(result.err())
    }

    /// Inserts the rows by halves into the open transaction, except for those that fail alone with
    /// an error of the given kinds. Other errors end it.
    ///
    /// Finds *k* faulty rows of *n* by about *k* · log₂ *n* statements. Order stays that of `rows`:
    /// the first half is always tried first.
    async fn bisect<'r>(
        &mut self,
        rows: &[&'r Row],
        kinds: &[Remedy],
    ) -> Result<Bisected<'r>, Error> {
        let mut bisected = Bisected::default();
        let mut left = vec![rows];
        while let Some(rows) = left.pop() {
            self.conn.query_drop("savepoint part").await?;
            match self.insert(rows).await {
                Ok(()) => bisected.accepted = bisected.accepted.or(rows.first().copied()),
                Err(error) if kinds.contains(&failure::remedy(&error)) => {
                    self.conn.query_drop("rollback to savepoint part").await?;
                    if let [row] = rows {
                        bisected.rejected.push((*row, error));
                    } else {
                        let (first, second) = rows.split_at(rows.len() / 2);
                        left.extend([second, first]);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bisected)
    }
}

/// What became of rows that were inserted by halves.
#[derive(Default)]
struct Bisected<'r> {
    /// One row that could be inserted; `None` if none could.
    accepted: Option<&'r Row>,
    /// Rows that could not be inserted, even alone, each with its error.
    rejected: Vec<(&'r Row, Error)>,
}

/// Returns a row as large as this one, with `x` in place of each text that a client can choose.
///
/// Its hash is another one, so that it does not collide with the row itself.
fn with_neutral_texts(row: &Row) -> Row {
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

/// Executes a statement for all rows, divided as [`Statement::steps`] says.
async fn run(conn: &mut Conn, statement: &Statement, rows: Vec<Vec<MyValue>>) -> Result<(), Error> {
    for step in statement.steps(rows) {
        conn.exec_drop(step.text, step.params).await?;
    }
    Ok(())
}

/// Returns a hash as the `binary(16)` that its column is.
fn hash_value(hash: EntryHash) -> MyValue {
    MyValue::Bytes(hash.as_bytes().to_vec())
}

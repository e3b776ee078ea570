//! Makes the tables, or brings those that are there up to date.
//!
//! MySQL commits after each change of a table, so a migration can be interrupted halfway, and two
//! sensors of a fleet can start at once. Therefore nothing is assumed: what there is is read from
//! the server, and only what is missing is added.
//!
//! ```text
//! schema/mysql-0001.sql ─ statements_of ─► create table logs …
//!                                          alter table logs add column entry_hash …
//! Existing::read ─ what there is ────────► alter table logs add key …
//!                         │ missing
//!                         ▼
//!         table is absent: create it
//!         additions to one table in a row: one `alter table`, which goes through the rows once
//!         is there already: left out
//!                         │ run, one by one
//!                         ├─ "exists already": another process was faster; read again, 20 times
//!                         ├─ no right: MigrationDenied with the statements that are left
//!                         └─ done: insert the version into modsec_migrations
//! ```
//!
//! A crash between any two statements leaves tables that the next start completes: the version is
//! written last. Rows go into the tables only after all statements are done, so no row ever meets
//! half of a migration made by this process.
//!
//! A migration is never edited once it was released; another one is added. Columns that older programs
//! need not know have no version, so that those go on inserting rows: see [`ADDITIONS`].

use std::collections::{HashMap, HashSet};

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error};
use tracing::{info, warn};

use super::failure::{self, Remedy};
use super::rights;
use crate::store::{LOG_COLUMNS, Purpose, StoreError, foreign_table, foreign_view, shared};

/// The migrations in order; the version of the tables is the number of those applied.
const MIGRATIONS: &[&str] = &[include_str!("../schema/mysql-0001.sql")];

/// Columns that older programs need not know: they insert rows without them. What is missing is seen
/// from the tables.
const ADDITIONS: &str = concat!(
    include_str!("../schema/mysql-0002.sql"),
    include_str!("../schema/mysql-0003.sql"),
);

/// Columns of `logs` that the old script's table has, and that the first migration makes with it.
const SCRIPT_COLUMNS: usize = 19;

/// The tables that rows go to. If one is missing, whatever version is recorded, all migrations are
/// gone through again.
const TABLES: [&str; 3] = ["logs", "rule_matches", "modsec_batches"];

/// The table of applied migrations. Made by the first one, kept by all.
const RECORD: &str = "create table if not exists modsec_migrations (
    version int not null primary key,
    applied_at timestamp not null default current_timestamp
) engine=InnoDB";

/// Numbers of "table exists already", "duplicate column", "duplicate key name" and "duplicate
/// entry": another process is migrating, too.
const DONE_BY_ANOTHER: [u16; 4] = [1050, 1060, 1061, 1062];
/// How often to look again because of that. Each time at least one statement has been done.
const ATTEMPTS: usize = 20;

/// Why the tables are not as they should be, or a batch is not stored.
pub(super) enum Failed {
    /// An error of the server or the connection, for [`failure::remedy`] to judge.
    Driver(Error),
    /// An error for the caller, which no repetition changes.
    Store(StoreError),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Driver(error)
    }
}

/// Brings the tables of the current database to this program's version. Does nothing, and locks
/// nothing, if they have it.
///
/// # Errors
///
/// [`StoreError::SchemaTooNew`]; [`StoreError::MigrationDenied`] with the statements that are left;
/// [`StoreError::Configuration`] for tables without transactions, or alerts without their `logs`;
/// or the driver's error. After any of them drop the connection: it may hold the lock of
/// migrations.
pub(super) async fn migrate(store: &str, conn: &mut Conn) -> Result<(), Failed> {
    let (existing, found) = judge(store, conn).await?;
    if statements(&existing, found).is_empty() {
        return Ok(());
    }
    // Spares those who start at the same time the repetition; nothing depends on it, and in a Galera
    // cluster it holds for one node only.
    let _: Option<i64> = conn
        .query_first("select get_lock('modsec-tools', 60)")
        .await?;
    // After an error the connection is dropped, and the lock with it.
    apply(store, conn, found).await?;
    make_view(store, conn).await?;
    let _: Option<i64> = conn
        .query_first("select release_lock('modsec-tools')")
        .await?;
    info!(store, "tables brought up to date");
    Ok(())
}

/// Creates the view for people, unless it is there.
///
/// The programs do without it, so an account that may not create one goes on.
async fn make_view(store: &str, conn: &mut Conn) -> Result<(), Failed> {
    let Some(view) = missing_view(conn).await? else {
        return Ok(());
    };
    match conn.query_drop(&view).await {
        Err(error) if failure::remedy(&error) == Remedy::Permission => {
            let statement = for_administrator(conn, &[view]).await?;
            warn!(
                store,
                "this account may not create the view {}, which only people need; let an \
                 administrator run:\n{statement}",
                shared::VIEW
            );
        }
        Err(error) if !is_done_by_another(&error) => return Err(error.into()),
        _ => {}
    }
    Ok(())
}

/// Returns the statement for the view; `None` if it is there, and not one of an earlier version.
async fn missing_view(conn: &mut Conn) -> Result<Option<String>, Error> {
    // Its text is empty for an account that may not see it.
    let select = "select view_definition from information_schema.views
                  where table_schema = database() and table_name = ?";
    let definition: Option<String> = conn.exec_first(select, (shared::VIEW,)).await?;
    let is_there =
        definition.is_some_and(|text| text.is_empty() || text.contains(shared::VIEW_HAS));
    // An explicit collation holds for both sides. The rights are those of who asks: the account that made
    // the view may be gone one day.
    let view = || {
        let view = shared::view(" collate utf8mb4_bin");
        format!("create or replace sql security invoker {view}")
    };
    Ok((!is_there).then(view))
}

/// Returns what is still to be done, in order, for tables of version `found`.
fn statements(existing: &Existing, found: i64) -> Vec<String> {
    let mut statements = Vec::new();
    for (version, source) in (1i64..).zip(MIGRATIONS) {
        if version > found {
            statements.push(RECORD.to_owned());
            statements.extend(existing.missing(source));
            statements.push(format!(
                "insert ignore into modsec_migrations (version) values ({version})"
            ));
        }
    }
    statements.extend(existing.missing(ADDITIONS));
    statements
}

/// Returns what [`migrate`] would do, in words; `None` if nothing. Changes nothing.
///
/// # Errors
///
/// As for [`migrate`]; missing rights only if it is looked at to be written.
pub(super) async fn look(
    store: &str,
    conn: &mut Conn,
    purpose: Purpose,
) -> Result<Option<String>, Failed> {
    let (existing, found) = judge(store, conn).await?;
    let left = statements(&existing, found);
    let is_complete = left.is_empty();
    if purpose == Purpose::Write {
        if is_complete {
            rights::to_insert(conn, &[&TABLES[..], &["modsec_rules"]].concat()).await?;
        } else if let Err(error) = rights::to_make_tables(conn).await {
            return Err(match failure::remedy(&error) {
                Remedy::Permission => denied(store, conn, &left, error).await?,
                _ => error.into(),
            });
        } else {
            rights::to_insert(conn, &[rights::NOWHERE]).await?;
        }
    }
    Ok((!is_complete).then(|| {
        if existing.tables.contains_key("logs") {
            format!(
                "{store}: the first run brings the table logs up to date, and makes what is missing"
            )
        } else {
            format!("{store}: the first run makes the tables")
        }
    }))
}

/// Returns what there is, and its version, unless it cannot be used.
async fn judge(store: &str, conn: &mut Conn) -> Result<(Existing, i64), Failed> {
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let existing = Existing::read(conn).await?;
    let found = version(conn, &existing).await?;
    if found > newest {
        let store = store.to_owned();
        return Err(Failed::Store(StoreError::SchemaTooNew {
            store,
            found,
            known: newest,
        }));
    }
    belonging_together(store, &existing)?;
    of_this_program(store, &existing)?;
    transactional(store, &existing)?;
    Ok((existing, found))
}

/// Returns the version of the tables: 0 if one of [`TABLES`] or the record of migrations is
/// missing.
async fn version(conn: &mut Conn, existing: &Existing) -> Result<i64, Error> {
    let has = |table: &&str| existing.tables.contains_key(*table);
    // What is recorded says nothing about tables that were dropped since.
    if !has(&"modsec_migrations") || !TABLES.iter().all(has) {
        return Ok(0);
    }
    let version: Option<i64> = conn
        .query_first("select coalesce(max(version), 0) from modsec_migrations")
        .await?;
    Ok(version.unwrap_or_default())
}

/// Brings tables of version `found` up to date, again and again as long as another process does the
/// same.
///
/// # Errors
///
/// As for [`migrate`]. What was done stays done, and is left out the next time.
async fn apply(store: &str, conn: &mut Conn, found: i64) -> Result<(), Failed> {
    let mut attempts = 0;
    loop {
        let statements = statements(&Existing::read(conn).await?, found);
        attempts += 1;
        match run(conn, &statements).await {
            Ok(()) => return Ok(()),
            Err((_, error)) if attempts < ATTEMPTS && is_done_by_another(&error) => {}
            Err((left, error)) if failure::remedy(&error) == Remedy::Permission => {
                return Err(denied(store, conn, left, error).await?);
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
}

/// Returns the error of an account that may not do what is `left`.
async fn denied(
    store: &str,
    conn: &mut Conn,
    left: &[String],
    error: Error,
) -> Result<Failed, Error> {
    let mut left = left.to_vec();
    left.extend(missing_view(conn).await?);
    let statements = for_administrator(conn, &left).await?;
    Ok(Failed::Store(StoreError::MigrationDenied {
        store: store.to_owned(),
        statements,
        source: failure::cause(error),
    }))
}

/// Returns `true` if a statement failed because its work is done already.
fn is_done_by_another(error: &Error) -> bool {
    failure::code(error).is_some_and(|code| DONE_BY_ANOTHER.contains(&code))
}

/// Runs the statements in order; on failure returns those that have not been done, the failed one
/// first.
///
/// Foreign keys are not checked meanwhile: their columns are empty, and a server that checks them copies
/// the table, for which every writer waits.
async fn run<'s>(conn: &mut Conn, statements: &'s [String]) -> Result<(), (&'s [String], Error)> {
    let all = |error| (statements, error);
    conn.query_drop("set session foreign_key_checks = 0")
        .await
        .map_err(all)?;
    for (done, statement) in statements.iter().enumerate() {
        conn.query_drop(statement)
            .await
            .map_err(|error| (&statements[done..], error))?;
    }
    conn.query_drop("set session foreign_key_checks = 1")
        .await
        .map_err(all)
}

/// Returns the statements for a client that has not chosen a database yet, as [`script`].
async fn for_administrator(conn: &mut Conn, statements: &[String]) -> Result<String, Error> {
    let database: Option<String> = conn.query_first("select database()").await?;
    Ok(script(&database.unwrap_or_default(), statements))
}

/// Returns the statements with `use` first, and a semicolon and a line feed behind each.
fn script(database: &str, statements: &[String]) -> String {
    let quoted = database.replace('`', "``");
    let mut text = format!("use `{quoted}`;\n");
    for statement in statements {
        text.push_str(statement);
        text.push_str(";\n");
    }
    text
}

/// Refuses tables of an engine that cannot roll back: half a batch could stay in them.
///
/// Absent tables and engines that are not listed pass: `TiDB` and others call theirs by other
/// names.
fn transactional(store: &str, existing: &Existing) -> Result<(), Failed> {
    for table in TABLES {
        let engine = existing
            .tables
            .get(table)
            .map(String::as_str)
            .unwrap_or_default();
        if ["MyISAM", "Aria", "MEMORY", "CSV", "ARCHIVE"].contains(&engine) {
            return Err(Failed::Store(StoreError::Configuration {
                store: store.to_owned(),
                problem: format!(
                    "the table {table} has the engine {engine}, which knows no transactions; \
                     let an administrator run: alter table {table} engine=InnoDB;"
                ),
                source: None,
            }));
        }
    }
    Ok(())
}

/// Refuses `rule_matches` without `logs`: a new `logs` would number its rows from 1 again, and the
/// old alerts would belong to new entries.
fn belonging_together(store: &str, existing: &Existing) -> Result<(), Failed> {
    let has = |table: &str| existing.tables.contains_key(table);
    if has("rule_matches") && !has("logs") {
        return Err(Failed::Store(StoreError::Configuration {
            store: store.to_owned(),
            problem: "the table logs is gone, and rule_matches still has the alerts of its rows; \
                      put logs back, or drop rule_matches too or move it to another database"
                .to_owned(),
            source: None,
        }));
    }
    Ok(())
}

/// Refuses tables of our names without the columns that they have from their beginning, which no
/// migration adds: `logs` without those of the old script's, or another program's `modsec_rules`.
fn of_this_program(store: &str, existing: &Existing) -> Result<(), Failed> {
    let of_script = LOG_COLUMNS.into_iter().take(SCRIPT_COLUMNS).collect();
    let ours = [("logs", of_script)].into_iter();
    let ours = ours.chain(shared::first_columns());
    for (table, must) in ours.filter(|(table, _)| existing.tables.contains_key(*table)) {
        let is_missing = |column: &&&str| {
            let key = (table.to_owned(), column.to_lowercase());
            !existing.columns.contains(&key)
        };
        let missing: Vec<&str> = must.iter().filter(is_missing).copied().collect();
        if let Some(error) = foreign_table(store, table, &missing) {
            return Err(Failed::Store(error));
        }
    }
    // A view has no engine.
    let view = existing.tables.get(shared::VIEW);
    if view.is_some_and(|engine| !engine.is_empty()) {
        return Err(Failed::Store(foreign_view(store, shared::VIEW)));
    }
    Ok(())
}

/// What there is in the current database. Names in lower case, as servers differ in what they keep.
#[derive(Debug, Default)]
struct Existing {
    /// Tables with their engine, such as `InnoDB`; the empty text for a view.
    tables: HashMap<String, String>,
    /// Columns of our tables, as (table, column).
    columns: HashSet<(String, String)>,
    /// Indexes of all tables, as (table, index).
    indexes: HashSet<(String, String)>,
    /// First columns of the indexes, as (table, column).
    indexed: HashSet<(String, String)>,
    /// Type of `logs.id` in full, such as `int(11)`; `None` without that table.
    id_type: Option<String>,
}

impl Existing {
    /// Reads all of it from `information_schema`, in three queries.
    async fn read(conn: &mut Conn) -> Result<Existing, Error> {
        let mut existing = Existing::default();
        let tables: Vec<(String, Option<String>)> = conn
            .query(
                "select table_name, engine from information_schema.tables
                 where table_schema = database()",
            )
            .await?;
        existing.tables = tables
            .into_iter()
            .map(|(table, engine)| (table.to_lowercase(), engine.unwrap_or_default()))
            .collect();
        let columns: Vec<(String, String, String)> = conn
            .query(
                "select table_name, column_name, column_type from information_schema.columns
                 where table_schema = database()
                 and table_name in ('logs', 'rule_matches', 'modsec_batches', 'modsec_rules')",
            )
            .await?;
        for (table, column, column_type) in columns {
            let key = (table.to_lowercase(), column.to_lowercase());
            if key.0 == "logs" && key.1 == "id" {
                existing.id_type = Some(column_type);
            }
            existing.columns.insert(key);
        }
        let indexes: Vec<(String, String, String)> = conn
            .query(
                "select table_name, index_name, column_name from information_schema.statistics
                 where table_schema = database() and seq_in_index = 1 and column_name is not null",
            )
            .await?;
        for (table, index, column) in indexes {
            let table = table.to_lowercase();
            existing
                .indexes
                .insert((table.clone(), index.to_lowercase()));
            existing.indexed.insert((table, column.to_lowercase()));
        }
        Ok(existing)
    }

    /// Returns the statements of a migration that are still to be done, in order.
    ///
    /// Consecutive additions to one table become one statement. No statement ends with a semicolon.
    fn missing(&self, source: &str) -> Vec<String> {
        let mut statements: Vec<String> = Vec::new();
        let mut altered = None;
        for statement in statements_of(source) {
            match addition(&statement) {
                Some((table, addition)) if self.has(table, addition) => {}
                Some((table, addition)) if altered.as_deref() == Some(table) => {
                    if let Some(last) = statements.last_mut() {
                        last.push_str(",\n    ");
                        last.push_str(addition);
                    }
                }
                Some((table, addition)) => {
                    statements.push(format!("alter table {table}\n    {addition}"));
                    altered = Some(table.to_owned());
                }
                None if self.has_table(&statement) => {}
                None => {
                    statements.push(self.with_id_type(statement));
                    altered = None;
                }
            }
        }
        statements
    }

    /// Returns `true` for a `create table` whose table exists.
    fn has_table(&self, statement: &str) -> bool {
        let table = statement
            .strip_prefix("create table ")
            .and_then(|rest| rest.split(' ').next());
        table.is_some_and(|table| self.tables.contains_key(table))
    }

    /// Returns `true` if `add column NAME …`, `add [unique] key NAME (COLUMN…)` or `add constraint
    /// NAME …` has been done.
    ///
    /// Any index that begins with the column serves as well as ours, unless it must be unique.
    fn has(&self, table: &str, addition: &str) -> bool {
        let lower = addition.to_lowercase();
        let key = |name: &str| (table.to_owned(), name.to_owned());
        let name_after = |start: &str| lower.strip_prefix(start)?.split([' ', '(']).next().map(key);
        if let Some(column) = name_after("add column ") {
            return self.columns.contains(&column);
        }
        // A foreign key has an index of its name.
        let index = name_after("add unique key ").or_else(|| name_after("add constraint "));
        if let Some(index) = index {
            return self.indexes.contains(&index);
        }
        let index = name_after("add key ");
        let column = lower.split(['(', ')']).nth(1).map(key);
        index.is_some_and(|index| self.indexes.contains(&index))
            || column.is_some_and(|column| self.indexed.contains(&column))
    }

    /// Puts the type of an existing `logs.id` in place of `bigint`: a foreign key must have the
    /// very type of the column it names, and in an old table that is `int`.
    fn with_id_type(&self, statement: String) -> String {
        match &self.id_type {
            Some(id_type) => statement.replace(
                "log_id bigint not null",
                &format!("log_id {id_type} not null"),
            ),
            None => statement,
        }
    }
}

/// Splits `alter table TABLE add …` into the table and what is added; `None` for other statements.
fn addition(statement: &str) -> Option<(&str, &str)> {
    statement.strip_prefix("alter table ")?.split_once(' ')
}

/// Splits the text of a migration into statements, without comments and semicolons.
///
/// A comment is a line that begins with `--`; a statement ends with a semicolon at the end of a
/// line.
fn statements_of(source: &str) -> Vec<String> {
    let lines: Vec<&str> = source
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    lines
        .join("\n")
        .split(";\n")
        .map(|statement| statement.trim().trim_end_matches(';').to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> (String, String) {
        ("logs".to_owned(), name.to_owned())
    }

    #[test]
    fn empty_database_gets_everything() {
        let statements = Existing::default().missing(MIGRATIONS[0]);
        let starts: Vec<&str> = statements
            .iter()
            .map(|text| text.split([' ', '\n']).nth(2).unwrap())
            .collect();
        assert_eq!(starts, ["logs", "logs", "rule_matches", "modsec_batches"]);
        assert!(
            statements
                .iter()
                .all(|text| !text.contains(';') && !text.contains("--"))
        );
        assert_eq!(statements[1].matches("add column").count(), 7);
        assert_eq!(statements[1].matches(" key ").count(), 5);
    }

    #[test]
    fn statements_for_the_administrator_choose_the_database() {
        for (database, want) in [("logs", "use `logs`;"), ("a`b c", "use `a``b c`;")] {
            let text = script(database, &["select 1".to_owned()]);
            assert_eq!(text, format!("{want}\nselect 1;\n"));
        }
    }

    #[test]
    fn only_what_is_missing_is_added() {
        let mut existing = Existing {
            id_type: Some("int(11)".to_owned()),
            ..Existing::default()
        };
        for table in ["logs", "modsec_batches"] {
            existing
                .tables
                .insert(table.to_owned(), "InnoDB".to_owned());
        }
        for column in [
            "entry_hash",
            "sensor",
            "account",
            "client_ip",
            "status_line",
            "flags",
        ] {
            existing.columns.insert(key(column));
        }
        existing.indexes.insert(key("logs_entry_hash"));
        for column in ["created_at", "ruleid", "host"] {
            existing.indexed.insert(key(column));
        }
        let statements = existing.missing(MIGRATIONS[0]);
        assert_eq!(
            statements[0],
            "alter table logs\n    add column intercepted tinyint null,\n    \
             add key logs_remote_addr (REMOTE_ADDR)"
        );
        assert!(
            statements[1].contains("log_id int(11) not null"),
            "{}",
            statements[1]
        );
        assert_eq!(statements.len(), 2);
    }
}

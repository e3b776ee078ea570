//! Whether the account may do what a run does, found out without doing it.
//!
//! A server first asks whether the account may, and then whether the table is there. So a statement
//! about a table that is not there fails with error 1146 if the account has the right, and with 1142
//! if not. Where the tables are there, statements are prepared and not executed: that asks for the
//! rights, too. Roles and rights on single tables count as they do in a run.

use mysql_async::prelude::Queryable as _;
use mysql_async::{Conn, Error};

use super::failure::{self, Remedy};

/// A table that is not there.
pub(super) const NOWHERE: &str = "modsec_no_such_table";

/// The table of which a run replaces rows.
const BATCHES: &str = "modsec_batches";

/// Server error 1146: the table is not there.
const NO_SUCH_TABLE: u16 = 1146;

/// Seconds that a table is waited for which another client has locked.
const PATIENCE: &str = "set session lock_wait_timeout = 5";

/// Finds out whether the account may add rows to these tables, and replace a batch.
///
/// # Errors
///
/// What the server says to the first statement that the account may not use.
pub(super) async fn to_insert(conn: &mut Conn, tables: &[&str]) -> Result<(), Error> {
    conn.query_drop(PATIENCE).await?;
    let inserts = tables
        .iter()
        .map(|table| format!("insert into {table} () values ()"));
    let batches = if tables.contains(&NOWHERE) {
        NOWHERE
    } else {
        BATCHES
    };
    let replaces = [
        format!("replace into {batches} () values ()"),
        format!("select 1 from {batches} for update"),
    ];
    can_change(conn).await?;
    for statement in inserts.chain(replaces) {
        match conn.prep(&statement).await {
            Ok(prepared) => conn.close(prepared).await?,
            Err(error) if failure::code(&error) == Some(NO_SUCH_TABLE) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Finds out whether the server takes changes at all: one with `read_only` says so before it looks for
/// the table. Whether the account has a right on such a table is of no account.
async fn can_change(conn: &mut Conn) -> Result<(), Error> {
    let change = format!("insert into {NOWHERE} () values ()");
    match conn.query_drop(change).await {
        Err(error) if failure::code(&error) == Some(NO_SUCH_TABLE) => Ok(()),
        Err(error) if failure::remedy(&error) == Remedy::Permission => Ok(()),
        done => done,
    }
}

/// Finds out whether the account may make and change tables. Keys need no right of their own where
/// `alter table` adds them; `references`, which MySQL wants, shows only in a run.
///
/// # Errors
///
/// As for [`to_insert`].
pub(super) async fn to_make_tables(conn: &mut Conn) -> Result<(), Error> {
    for statement in [
        format!("create table {NOWHERE}_either like {NOWHERE}"),
        format!("alter table {NOWHERE} add column a int"),
    ] {
        match conn.query_drop(&statement).await {
            Err(error) if failure::code(&error) == Some(NO_SUCH_TABLE) => {}
            done => done?,
        }
    }
    Ok(())
}

//! Reading a database by SQL, for questions: the same words for each.

#[cfg(any(feature = "sqlite", feature = "mysql"))]
use std::time::Instant;

#[cfg(any(feature = "sqlite", feature = "mysql"))]
use super::StoreFuture;

/// The SQL of which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// MySQL and MariaDB. The session must have `set names utf8mb4` and `set time_zone = '+00:00'`.
    Mysql,
}

impl Dialect {
    /// The last second that a stored time can be in: MySQL's `timestamp` ends there. A column of it is
    /// not to be compared with a later time: MariaDB 10.11 then finds nothing in some plans.
    pub(crate) fn last_second(self) -> i64 {
        match self {
            // 9999-12-31 23:59:59
            Dialect::Sqlite => 253_402_300_799,
            Dialect::Mysql => 2_147_483_647,
        }
    }
}

#[cfg(any(feature = "sqlite", feature = "mysql"))]
impl Dialect {
    /// Values that a statement takes: `SQLITE_MAX_VARIABLE_NUMBER`, and the two bytes of MySQL's protocol.
    pub(crate) fn most_values(self) -> usize {
        match self {
            Dialect::Sqlite => 32_766,
            Dialect::Mysql => 65_535,
        }
    }
}

/// A value for one `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Param {
    /// A whole number.
    Int(i64),
    /// Text; may hold any character, NUL included.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// A value as a database's driver has it.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// Null.
    Null,
    /// A whole number.
    Int(i64),
    /// Text or bytes.
    Bytes(Vec<u8>),
}

/// Rows of them.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) type Cells = Vec<Vec<Cell>>;

/// A database that can be read.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) trait Connection: Send {
    /// Returns whose SQL it understands.
    fn dialect(&self) -> Dialect;

    /// Runs a statement that changes nothing. `None`: the deadline passed.
    fn run(
        &mut self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
    ) -> StoreFuture<'_, Option<Cells>>;

    /// Runs a statement that changes nothing, and calls `see` with each row as it comes. `false`: the
    /// deadline passed before the last one.
    fn each_row<'a>(
        &'a mut self,
        sql: String,
        params: Vec<Param>,
        deadline: Option<Instant>,
        see: &'a mut See<'_>,
    ) -> StoreFuture<'a, bool>;
}

/// What is called with a row.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) type See<'s> = dyn FnMut(Vec<Cell>) + Send + 's;

//! One language for the question "which transactions?", on command lines, in URLs and for stores.
//!
//! ```text
//! client:203.0.113.0/24 -rule:930120 host:shop.* status:>=500 since:2h "free text"
//! ```
//!
//! A [`Filter`] is read once ([`Filter::parse`]), then asks rows in memory ([`Filter::matches`]) or
//! becomes a condition of SQL ([`Filter::to_sql`]). Both say the same of every row: what a filter means
//! is defined on the columns as they are stored ([`LOG_COLUMNS`], [`RULE_COLUMNS`]).
//!
//! ```
//! use modsec_core::filter::{Dialect, Filter, Param};
//!
//! let now = "2026-11-27T19:00:00Z".parse()?;
//! let filter = Filter::parse("rule:(942100,942110) -status:403 since:2h", now)?;
//! let (sql, params) = filter.to_sql(Dialect::Sqlite);
//! assert!(!sql.contains("942100") && params.contains(&Param::Text("942100".to_owned())));
//!
//! let error = Filter::parse("ip:192.0.2.7 status:403", now).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "unknown name \"ip\": did you mean client?\n  ip:192.0.2.7 status:403\n  ^^"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Grammar
//!
//! ```ebnf
//! filter = [or] ;                                 an empty filter is true of every transaction
//! or     = and {"OR" and} ;
//! and    = not {["AND"] not} ;                    side by side means AND, which binds more than OR
//! not    = ["NOT" | "-"] term ;
//! term   = "(" or ")" | test | text ;
//! test   = name operator value ;                  no spaces in between
//! operator = ":" | "=" | ">" | ">=" | "<" | "<=" ;    "=" is ":", and ":>=" is ">="
//! value  = word | "(" word {"," word} ")" ;       in a list, one of them is enough
//! word   = {character | "*" | quoted} ;           ends at a space or parenthesis, in a list at a comma
//! quoted = '"' {character | '\"' | '\\'} '"' ;
//! text   = word ;                                 found anywhere in URI, log data or user agent
//! ```
//!
//! - `AND`, `OR` and `NOT` are written in capitals; in quotes they are text.
//! - `*` is any text, also none; in quotes it is an asterisk. `host:*` is true if there is a host.
//! - Numbers may be `403`, `>=500`, `400..499`, `400..`, `..499`; `status` also `5xx`.
//! - Times are `2026-11-20`, `2026-11-20T14`, `2026-11-20T14:05`, `2026-11-20T14:05:30`, each with or
//!   without `Z` or an offset such as `+03:00` (UTC without), or a [span](crate::span) before now such
//!   as `2h`. Each stands for the whole day, hour, minute or second: `time:2026-11-20..2026-11-27` and
//!   `since:2026-11-20 until:2026-11-27` contain both days.
//! - Severities are names or numbers, 0 the worst; `>=ERROR` is an error or worse.
//!
//! # Names
//!
//! | name | column | compared | example |
//! | --- | --- | --- | --- |
//! | `client` | `client_key` of `logs` | address or network | `client:203.0.113.0/24` |
//! | `host` | `Host` of `logs` | any case | `host:shop.*` |
//! | `account` | `account` of `logs` | exactly | `account:site42` |
//! | `sensor` | `sensor` of `logs` | any case | `sensor:web1*` |
//! | `rule` | `ruleId` of `modsec_alerts` | exactly | `rule:(942100,942110)` |
//! | `cause` | `ruleId` of `logs` | exactly | `cause:942*` |
//! | `category` | `category` of `logs` | any case | `category:sqli` |
//! | `target` | `target` of `modsec_alerts` | any case | `target:ARGS:q` |
//! | `path` | `path_template` of `logs` | exactly | `path:/item/{n}` |
//! | `uri` | `REQUEST_URI` of `logs` | any case | `uri:*union*select*` |
//! | `method` | `REQUEST_METHOD` of `logs` | any case | `method:POST` |
//! | `status` | `responce_header` of `logs` | number | `status:5xx` |
//! | `score` | `Score` of `logs` | number | `score:>=20` |
//! | `threshold` | `threshold` of `logs` | number | `threshold:5` |
//! | `severity` | `severity` of `logs` | severity | `severity:>=ERROR` |
//! | `pl` | `paranoia_level` of `modsec_alerts` | number | `pl:>2` |
//! | `agent` | `User_Agent` of `logs` | any case | `agent:curl*` |
//! | `blocked` | `outcome` of `logs` | yes or no | `blocked:yes` |
//! | `outcome` | `outcome` of `logs` | blocked or detected | `outcome:detected` |
//! | `flag` | `flags` of `logs` | one of the flags | `flag:truncated` |
//! | `data` | `data` of `modsec_alerts` | any case | `data:*passwd*` |
//! | `msg` | `msg` of `modsec_alerts` | any case | `msg:*injection*` |
//! | `time` | `created_at` of `logs` | time | `time:2026-11-20..2026-11-27` |
//! | `since` | `created_at` of `logs` | from this time on | `since:2h` |
//! | `until` | `created_at` of `logs` | up to this time | `until:2026-11-27` |
//! | `id` | `unique_id` of `logs` | exactly | `id:Zb4kQH8AAAEAAB1cR0MAAAAA` |
//! | `hash` | `entry_hash` of `logs` | first digits | `hash:3fa0c41b` |
//!
//! Text without a name is looked for in `REQUEST_URI`, `data` (of the cause) and `User_Agent` of `logs`,
//! in any case.
//!
//! # What a test means
//!
//! - *Any case* is about the letters A to Z. All other characters, accents and the Turkish İ among
//!   them, are compared as they are.
//! - A value that is not known (null) passes no test; so `-status:403` is true of a transaction without a
//!   status. There is no third answer.
//! - A name of `modsec_alerts` asks whether there is an alert with it. Two tests may be passed by two alerts,
//!   and `-rule:930120` means that no alert has it. Bookkeeping counts, except in `cause`.
//! - `host` is the header as it was sent, with a port if it has one: `host:shop.example.org*` finds both.
//! - `path` compares with the template, in which numbers are `{n}`; `uri` has the text itself.
//!
//! # Bounds
//!
//! Filters come from strangers, too: a text has at most [`MAX_LENGTH`] bytes, [`MAX_DEPTH`]
//! parentheses within each other, [`MAX_VALUES`] values, and each value at most [`MAX_STARS`] `*`. More is
//! refused. [`FilterError`] names what is expected, and where.

mod error;
mod field;
mod lexer;
mod matches;
mod parse;
mod pattern;
mod show;
mod sql;
mod tree;
mod value;

#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};

pub use self::error::FilterError;
use self::tree::Node;
pub use crate::store::{Dialect, Param};
#[cfg(doc)]
use crate::store::{LOG_COLUMNS, RULE_COLUMNS};

/// Bytes that the text of a filter may have, also as [`Display`](std::fmt::Display) writes it.
pub const MAX_LENGTH: usize = 16 * 1024;

/// Parentheses that may stand within each other.
pub const MAX_DEPTH: usize = 64;

/// Values that a filter may have, each element of a list and each text being one. `SQLite` allows
/// expressions of a depth of 1000, and a condition of so many values joined by `and` is that deep.
pub const MAX_VALUES: usize = 256;

/// How often `*` may stand in one value.
pub const MAX_STARS: usize = 4;

/// Which transactions are meant. Made by [`Filter::parse`]; the default is all.
///
/// [`Display`](std::fmt::Display) writes a text that is read as the same filter again. Spans before now have
/// become times in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// The condition as a tree.
    root: Node,
}

impl Filter {
    /// Reads a filter. Spans such as `since:2h` are counted back from `now`, in whole seconds.
    ///
    /// # Errors
    ///
    /// [`FilterError`], with the place. No text makes it panic, or run longer than its length allows.
    pub fn parse(text: &str, now: DateTime<Utc>) -> Result<Filter, FilterError> {
        let root = parse::parse(text, now)?;
        let filter = Filter { root };
        // Quotes, escapes and times in full make it longer than it was.
        let written = filter.to_string().len();
        if written > MAX_LENGTH {
            return Err(FilterError::whole(format!(
                "the filter has {written} bytes when it is written in full, and may have {MAX_LENGTH}"
            )));
        }
        Ok(filter)
    }

    /// Returns `true` if the filter is empty: every transaction is meant.
    pub fn is_all(&self) -> bool {
        self.root == Node::default()
    }

    /// Returns the names that a test may begin with, in the order of the table above.
    pub fn names() -> impl Iterator<Item = &'static str> {
        field::FIELDS.iter().map(|field| field.name)
    }
}

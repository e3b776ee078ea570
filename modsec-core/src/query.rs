//! Questions about what is stored, and their answers.
//!
//! One trait, [`Query`], for each place that transactions are kept in: the databases of
//! [`store`](crate::store), and memory ([`MemoryQuery`]) for logs without a database. All of them give
//! the same answers about the same transactions.
//!
//! ```text
//! Question ─ Scope    whose transactions the asker may see: no question without one
//!          ├ Window   from when to when
//!          ├ Filter   which of them
//!          └ deadline how long the answer may take
//!               │
//!               ▼
//! Query::totals, top, transactions, scan, evidence, … ─► Answer: value, complete or not
//! ```
//!
//! # Words
//!
//! A transaction is *blocked* or *detected* as its column `outcome` says, or neither. What counts as
//! its *cause* is the row's rule columns; see [`cause`](crate::cause).
//!
//! [`scan`](Query::scan) serves judging all transactions again, [`evidence`](Query::evidence) and
//! [`candidates`](Query::candidates) the judgement of rules, [`silences`](Query::silences) finds who does not
//! report any more. [`Evidence`] and [`Silence`] say what they are made of.
//!
//! # Example
//!
//! ```
//! use modsec_core::EntryHash;
//! use modsec_core::query::{Facet, MemoryQuery, Query, Question, Scope};
//! use modsec_core::record::Record;
//! use modsec_core::store::{Origin, Row};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let mut origin = Origin::default();
//! origin.account = Some("site42".to_owned());
//! let row = Row::new(&Record::default(), EntryHash::of(b"entry"), &origin, None);
//! let mut logs = MemoryQuery::new(vec![row]);
//!
//! let all = Question::new(Scope::all());
//! let answer = logs.top(&all, Facet::Account, 10).await?;
//! assert!(answer.is_complete);
//! assert_eq!(answer.value.unwrap()[0].key, "site42");
//!
//! let other = Question::new(Scope::accounts(["site7"]));
//! assert_eq!(logs.totals(&other).await?.value.unwrap().transactions, 0);
//! # Ok::<(), modsec_core::store::StoreError>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
#[cfg(feature = "store-contract")]
pub mod contract;
mod evidence;
mod facet;
mod memory;
mod question;
mod scan;
mod silence;
#[cfg(any(feature = "sqlite", feature = "mysql"))]
mod sql;

use std::pin::Pin;

use chrono::{DateTime, Utc};

pub use self::answer::{Answer, Bin, Count, Totals, Transaction};
pub use self::evidence::{Evidence, Spot};
pub use self::facet::Facet;
pub use self::memory::MemoryQuery;
pub use self::question::{Cursor, Question, Scope, Window};
pub use self::scan::{Scanned, ScannedAlert, Visit};
pub use self::silence::{LEAST_DAYS, LEAST_HOURS, Silence, Source};
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub use self::sql::open;
use crate::store::StoreError;

/// What the methods of a [`Query`] return: boxed, so that a `Query` can be a trait object.
pub type QueryFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<Answer<T>, StoreError>> + Send + 'a>>;

/// A place that transactions are kept in and that answers questions about them. Changes nothing.
///
/// What holds of every answer:
///
/// - Only transactions of the question's [`Scope`] are in it, also in counts.
/// - Equal transactions give equal answers, whatever keeps them: order is defined, ties included.
/// - When the deadline passes, the answer says that it is not complete. What it has then is right as far
///   as it goes: transactions down to [`Answer::reached`]; counts are `None`. It comes within a tenth of
///   the deadline, if the machine is not too busy.
///
/// # Errors
///
/// All methods: [`StoreError::Unavailable`] for what passes, [`StoreError::Configuration`] for what an
/// administrator must change; [`StoreError::Question`] for a scope of more than [`Scope::MAX_NAMES`] names.
///
/// The contract is executable: module `contract` (feature `store-contract`).
pub trait Query: Send {
    /// Counts the transactions.
    fn totals<'a>(&'a mut self, question: &'a Question) -> QueryFuture<'a, Option<Totals>>;

    /// Counts the transactions of each span of `step` seconds, from the Unix epoch on, oldest first.
    /// Spans without any are left out, as are transactions of an unknown time. A `step` of 0 counts as 1.
    fn time_line<'a>(
        &'a mut self,
        question: &'a Question,
        step: u32,
    ) -> QueryFuture<'a, Option<Vec<Bin>>>;

    /// Counts the transactions by a facet: the `most` values with the most transactions, of equals the
    /// first in the order of bytes. Transactions without a value are not in it.
    fn top<'a>(
        &'a mut self,
        question: &'a Question,
        facet: Facet,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Count>>>;

    /// Returns up to `most` transactions, the newest first, those of an unknown time last, without their
    /// alerts. `after` is the [cursor](Transaction::cursor) of the last one that was seen.
    fn transactions<'a>(
        &'a mut self,
        question: &'a Question,
        after: Option<Cursor>,
        most: usize,
    ) -> QueryFuture<'a, Vec<Transaction>>;

    /// Returns the evidence about one spot: zeros if nothing was found there.
    fn evidence<'a>(
        &'a mut self,
        question: &'a Question,
        spot: &'a Spot,
    ) -> QueryFuture<'a, Option<Evidence>>;

    /// Returns the evidence about the `most` spots with the most clients; of equals those with the most
    /// transactions, then in the order of the spots. Rules without an id are left out.
    ///
    /// All detections of window, scope and filter are looked at, so a deadline is advisable.
    fn candidates<'a>(
        &'a mut self,
        question: &'a Question,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Evidence>>>;

    /// Returns who is quiet against its own habit at `now`: of the silent sources the `most` with the most
    /// transactions, of equals the first in the order of bytes. [`Silence`] says how that is judged. The
    /// window is what the habit is taken from, some weeks up to now.
    fn silences<'a>(
        &'a mut self,
        question: &'a Question,
        source: Source,
        now: DateTime<Utc>,
        most: usize,
    ) -> QueryFuture<'a, Option<Vec<Silence>>>;

    /// Calls `visit` with each transaction of a known time, the oldest first, of equal times the one with
    /// the lowest number, and returns how many there were. Needs the memory of some thousand of them,
    /// however many there are.
    ///
    /// In `SQLite` it is a look at one instant: what is stored meanwhile is not in it. While it lasts, `SQLite`
    /// cannot shorten its write-ahead log, and a server waits with what it has found. So `visit` is to be
    /// quick: what takes long comes afterwards.
    ///
    /// When the deadline passes, all up to [`Answer::reached`] were seen, and [`Answer::value`] is how many
    /// that were.
    fn scan<'a>(
        &'a mut self,
        question: &'a Question,
        visit: &'a mut Visit<'_>,
    ) -> QueryFuture<'a, u64>;

    /// Returns the transaction of this number with its alerts, if the question is about it.
    fn transaction<'a>(
        &'a mut self,
        question: &'a Question,
        number: i64,
    ) -> QueryFuture<'a, Option<Transaction>>;
}

//! The contract of [`Query`] as code: every function is one clause, and panics if it is broken.
//!
//! A backend proves itself by a [`Fixture`] and one test per function:
//!
//! ```
//! use modsec_core::query::contract::{self, Fixture, FixtureFuture};
//! use modsec_core::query::{MemoryQuery, Query};
//! use modsec_core::store::Row;
//!
//! struct Memory;
//!
//! impl Fixture for Memory {
//!     fn holding(&self, rows: Vec<Row>) -> FixtureFuture<'_, Box<dyn Query>> {
//!         Box::pin(async { Box::new(MemoryQuery::new(rows)) as Box<dyn Query> })
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! contract::answers_are_those_of_memory(&Memory).await;
//! contract::a_late_answer_says_so(&Memory).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! `tests/query_contract.rs` has all of them on every backend; a new clause must be added there.
#![expect(
    clippy::missing_panics_doc,
    reason = "to panic is what each of these functions is for"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Cursor, Facet, MemoryQuery, Query, Question, Scope, Transaction, Window};
use crate::cause::{Category, Kind, Outcome};
use crate::entry_hash::EntryHash;
use crate::filter::Filter;
use crate::store::{Row, StoreError, Value, contract};

pub use crate::store::contract::FixtureFuture;

/// One backend.
pub trait Fixture {
    /// Returns what answers about these rows and no others. Their numbers ascend in the order given.
    fn holding(&self, rows: Vec<Row>) -> FixtureFuture<'_, Box<dyn Query>>;
}

/// Rows of a page.
const PAGE: usize = 7;

/// Texts that mean something to SQL, to patterns, or to nobody.
const HOSTILE: [&str; 9] = [
    "'; drop table logs; --",
    "\" or \"\"=\"",
    "%_!\\",
    "a\0b",
    "\u{202e}\u{7}\r\n",
    "İıſK",
    "日本語😀",
    "{target}",
    "*",
];

/// Returns rows that differ in what questions are about: times, accounts, hosts, outcomes, alerts.
pub fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = (0..60).map(contract::row).collect();
    for (n, row) in rows.iter_mut().enumerate() {
        row.account = [Some("site1"), Some("Site1"), Some("site2"), None][n % 4].map(str::to_owned);
        row.host = ["shop.example.org", "SHOP.example.org", "b.example"]
            .get(n % 5)
            .map(|host| (*host).to_owned());
        row.outcome = [Some(Outcome::Blocked), Some(Outcome::Detected), None][n % 3];
        row.category = [Some(Category::Sqli), Some(Category::Xss), None][n % 3];
        // Some at the same time, some at none.
        let minutes = i64::try_from(n / 3).unwrap_or_default() * 40;
        row.created_at = row
            .created_at
            .map(|_| start() + TimeDelta::minutes(minutes));
        if n % 11 == 10 {
            row.created_at = None;
        }
        for (at, rule) in row.rule_matches.iter_mut().enumerate() {
            rule.kind = [Some(Kind::Detection), Some(Kind::Correlation), None][(n + at) % 3];
            rule.target = Some(["ARGS:q", "ARGS:id", "REQUEST_URI"][n % 3].to_owned());
        }
    }
    rows
}

/// Returns the time of the first of [`rows`].
fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000)
}

/// Returns the question about these accounts that a filter narrows.
fn question(scope: Scope, filter: &str) -> Question {
    let mut question = Question::new(scope);
    question.filter = Filter::parse(filter, start()).expect("is a filter");
    question
}

/// Returns questions with and without a scope, a window, a filter and a deadline.
fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    let scopes = [
        Scope::all(),
        Scope::accounts(["site1"]),
        Scope::accounts(["site1", "site2"]).with_hosts(["Shop.example.org"]),
        Scope::accounts::<String>([]),
    ];
    for scope in scopes {
        for filter in [
            "",
            "category:sqli",
            "-outcome:blocked OR target:args:q",
            "rule:942100 status:4xx",
        ] {
            let all = question(scope.clone(), filter);
            let mut some = all.clone();
            let middle = start() + TimeDelta::hours(5);
            some.window = Window::new(Some(middle), Some(middle + TimeDelta::hours(3)));
            some.deadline = Some(Duration::from_secs(600));
            questions.extend([all, some]);
        }
    }
    questions
}

/// All answers are those of [`MemoryQuery`] about the same rows.
pub async fn answers_are_those_of_memory(db: &dyn Fixture) {
    let mut query = db.holding(rows()).await;
    let mut memory = MemoryQuery::new(rows());
    for question in questions() {
        let got = query.totals(&question).await.expect("answers");
        let want = memory.totals(&question).await.expect("answers");
        assert_eq!(got, want, "{question:?}");
        let got = query.time_line(&question, 3600).await.expect("answers");
        let want = memory.time_line(&question, 3600).await.expect("answers");
        assert_eq!(got, want, "{question:?}");
        for facet in Facet::ALL {
            let got = query.top(&question, facet, 3).await.expect("answers");
            let want = memory.top(&question, facet, 3).await.expect("answers");
            assert_eq!(got, want, "{facet:?} {question:?}");
        }
        let got = pages(&mut *query, &question).await;
        let want = pages(&mut memory, &question).await;
        assert_eq!(
            whole(&mut *query, &got).await,
            whole(&mut memory, &want).await
        );
    }
}

/// Returns all transactions of a question, page by page.
async fn pages(query: &mut dyn Query, question: &Question) -> Vec<Transaction> {
    let mut all: Vec<Transaction> = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = query
            .transactions(question, after, PAGE)
            .await
            .expect("answers");
        assert!(page.is_complete && page.value.len() <= PAGE);
        let Some(last) = page.value.last() else {
            return all;
        };
        after = Some(last.cursor());
        all.extend(page.value);
    }
}

/// Returns the values of transactions and of their alerts, in order.
async fn whole(
    query: &mut dyn Query,
    transactions: &[Transaction],
) -> Vec<(Vec<Value<'static>>, Vec<Vec<Value<'static>>>)> {
    let all = Question::new(Scope::all());
    let mut found = Vec::new();
    for transaction in transactions {
        let one = query.transaction(&all, transaction.number).await;
        let one = one.expect("answers").value.expect("is there");
        assert_eq!(one.values, transaction.values);
        found.push((one.values, one.alerts));
    }
    found
}

/// Page by page, every transaction comes once, the newest first.
pub async fn pages_have_every_transaction_once(db: &dyn Fixture) {
    let mut query = db.holding(rows()).await;
    let all = pages(&mut *query, &Question::new(Scope::all())).await;
    let numbers: BTreeSet<i64> = all.iter().map(|one| one.number).collect();
    assert_eq!((all.len(), numbers.len()), (rows().len(), rows().len()));
    let places = all.iter().map(|one| (one.cursor().time, one.number));
    assert!(places.is_sorted_by(|one, next| one > next));
}

/// No answer has a byte of a transaction that is not in the scope.
pub async fn nothing_is_shown_that_is_not_in_the_scope(db: &dyn Fixture) {
    let mut query = db.holding(rows()).await;
    let mine = Scope::accounts(["site1"]);
    let everything = pages(&mut *query, &Question::new(Scope::all())).await;
    for filter in [
        "",
        "account:site2 OR account:Site1 OR host:*",
        "-account:site1",
    ] {
        let question = question(mine.clone(), filter);
        let shown = pages(&mut *query, &question).await;
        assert!(
            shown
                .iter()
                .all(|one| one.value("account") == &Value::Text("site1".into()))
        );
        let totals = query.totals(&question).await.expect("answers").value;
        assert_eq!(
            totals.map(|totals| totals.transactions),
            Some(shown.len() as u64)
        );
        let accounts = query
            .top(&question, Facet::Account, 9)
            .await
            .expect("answers");
        let accounts = accounts.value.unwrap_or_default();
        assert!(accounts.iter().all(|count| count.key == "site1"));
        for one in &everything {
            let found = query
                .transaction(&question, one.number)
                .await
                .expect("answers")
                .value;
            assert_eq!(
                found.is_some(),
                shown.iter().any(|mine| mine.number == one.number)
            );
            // Nor is a page behind another's transaction any different.
            let after = Some(one.cursor());
            let page = query
                .transactions(&question, after, 99)
                .await
                .expect("answers")
                .value;
            assert!(page.iter().all(|found| shown.contains(found)));
        }
    }
}

/// When the time is over, counts are not known, and the answer says that it is not complete.
pub async fn a_late_answer_says_so(db: &dyn Fixture) {
    let mut query = db.holding(rows()).await;
    let mut question = Question::new(Scope::all());
    question.deadline = Some(Duration::ZERO);
    let totals = query.totals(&question).await.expect("answers");
    assert!(!totals.is_complete && totals.value.is_none());
    let line = query.time_line(&question, 60).await.expect("answers");
    assert!(!line.is_complete && line.value.is_none());
    let top = query
        .top(&question, Facet::Cause, 5)
        .await
        .expect("answers");
    assert!(!top.is_complete && top.value.is_none());
    let page = query
        .transactions(&question, None, 5)
        .await
        .expect("answers");
    assert!(!page.is_complete && page.value.is_empty() && page.reached.is_none());
}

/// A scope may name as many accounts and hosts as it says, and is refused beyond.
pub async fn a_scope_names_many_and_not_too_many(db: &dyn Fixture) {
    let mut query = db.holding(rows()).await;
    let names = |count: usize| (0..count).map(|n| format!("h{n}.example"));
    let shop = ["shop.example.org".to_owned()];
    let scope = |hosts: usize| {
        let mine = ["site1".to_owned()];
        Scope::accounts(mine.into_iter().chain(names(Scope::MAX_NAMES - hosts - 2)))
            .with_hosts(shop.iter().cloned().chain(names(hosts)))
    };
    for hosts in [0, 5_000] {
        let question = question(scope(hosts), "status:403");
        let totals = query.totals(&question).await.expect("answers").value;
        let few = Scope::accounts(["site1"]).with_hosts(&shop);
        let want = query
            .totals(&Question::new(few))
            .await
            .expect("answers")
            .value;
        assert!(totals == want && want.is_some_and(|want| want.transactions > 0));
        assert!(!pages(&mut *query, &question).await.is_empty());
    }
    let question = Question::new(Scope::all().with_hosts(names(Scope::MAX_NAMES + 1)));
    let refused = [
        query.totals(&question).await.err(),
        query.time_line(&question, 60).await.err(),
        query.top(&question, Facet::Rule, 1).await.err(),
        query.transactions(&question, None, 1).await.err(),
        query.transaction(&question, 1).await.err(),
    ];
    for error in refused {
        let error = error.expect("is refused");
        assert!(matches!(error, StoreError::Question { .. }), "{error}");
        assert!(
            error.to_string().contains("10001 accounts and hosts"),
            "{error}"
        );
    }
}

/// Texts of any characters in every column are answered as they are, and found by a filter.
pub async fn hostile_texts_are_only_texts(db: &dyn Fixture) {
    let rows: Vec<Row> = HOSTILE
        .iter()
        .enumerate()
        .map(|(n, text)| hostile(n, text))
        .collect();
    let mut query = db.holding(rows.clone()).await;
    let mut memory = MemoryQuery::new(rows);
    let all = Question::new(Scope::all());
    for facet in Facet::ALL {
        let got = query.top(&all, facet, 99).await.expect("answers");
        let want = memory.top(&all, facet, 99).await.expect("answers");
        assert_eq!(got, want, "{facet:?}");
    }
    let got = pages(&mut *query, &all).await;
    let want = pages(&mut memory, &all).await;
    assert_eq!(
        whole(&mut *query, &got).await,
        whole(&mut memory, &want).await
    );
    for text in HOSTILE {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        for name in [
            "uri", "host", "agent", "cause", "account", "rule", "target", "msg", "id",
        ] {
            for filter in [
                format!("{name}:\"{quoted}\""),
                format!("{name}:\"{quoted}\"*"),
            ] {
                let question = question(Scope::all(), &filter);
                let got = query.totals(&question).await.expect("answers");
                let want = memory.totals(&question).await.expect("answers");
                assert_eq!(got, want, "{filter}");
            }
        }
        let question = Question::new(Scope::accounts([text]).with_hosts([text]));
        let totals = query.totals(&question).await.expect("answers").value;
        assert_eq!(
            totals.map(|totals| totals.transactions),
            Some(1),
            "{text:?}"
        );
    }
}

/// Returns a row that has this text wherever a text can be.
fn hostile(n: usize, text: &str) -> Row {
    let mut row = contract::row(n);
    let any = || Some(text.to_owned());
    row.entry_hash = EntryHash::of(text.as_bytes());
    (row.method, row.uri, row.remote_addr, row.host) = (any(), any(), any(), any());
    (row.msg, row.data, row.unique_id, row.user_agent) = (any(), any(), any(), any());
    (row.rule_id, row.sensor, row.account, row.status_line) = (any(), any(), any(), any());
    (row.blocked_by, row.path_template, row.flags) = (any(), any(), any());
    for rule in &mut row.rule_matches {
        rule.kind = Some(Kind::Detection);
        (rule.rule_id, rule.msg, rule.data, rule.file) = (any(), any(), any(), any());
        (rule.rev, rule.ver, rule.tags) = (any(), any(), any());
        rule.target = Some(format!("ARGS:{text}"));
        rule.detail = Some(format!("Pattern match \"x\" at ARGS:{text}."));
    }
    row
}

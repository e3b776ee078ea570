//! Rows as older programs stored them get what this one would have stored, as far as they say it.
#![cfg(all(feature = "sqlite", feature = "mysql", feature = "store-contract"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[expect(dead_code, reason = "not every family is read here")]
mod entries;
#[path = "reindex/places.rs"]
#[expect(
    dead_code,
    reason = "each test binary uses another part of this module"
)]
mod places;
#[path = "mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;
#[path = "filter/stored.rs"]
mod stored;

use std::collections::HashSet;

use modsec_core::query::{self, Query, Question, Scope, Totals, Transaction};
use modsec_core::store::{self, LOG_COLUMNS, Origin, RULE_COLUMNS, Row, Value};
use modsec_core::upkeep::{self, Reindex};
use modsec_core::{EntryHash, format};

use self::places::{Place, each_place};
use self::stored::{insert, runtime};

/// Columns of `logs` that the program before had.
const OLD_LOG_COLUMNS: usize = 26;
/// Columns of `rule_matches` that it had.
const OLD_RULE_COLUMNS: usize = 14;

/// Rows of real entries of both engines, most of them with part K.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut seen = HashSet::new();
    for (family, dialects) in entries::FAMILIES.iter().chain([&entries::SYNTHETIC]) {
        for dialect in *dialects {
            for entry in entries::read(&entries::data(family, dialect)) {
                let record = format::decode(&entry.bytes).unwrap();
                let client = record.client.as_ref().and_then(|client| client.ip);
                let hash = EntryHash::of(&entry.bytes);
                if seen.insert(hash) {
                    rows.push(Row::new(&record, hash, &Origin::default(), client));
                }
            }
        }
    }
    rows
}

/// Statements that leave rows as the program before stored them: the alert that intercepted in the rule
/// columns, texts in `rule_matches`, and nothing in columns that it did not know.
fn as_before() -> Vec<String> {
    let old = RULE_COLUMNS[..OLD_RULE_COLUMNS].join(", ");
    let new = LOG_COLUMNS[OLD_LOG_COLUMNS..].iter();
    let nothing: Vec<String> = new.map(|column| format!("{column} = null")).collect();
    vec![
        format!("create table before_it as select log_id, position, {old} from modsec_alerts"),
        "delete from rule_matches".to_owned(),
        format!(
            "insert into rule_matches (log_id, position, {old})
             select log_id, position, {old} from before_it"
        ),
        "drop table before_it".to_owned(),
        "update logs set ruleId = blocked_by, msg = 'Inbound Anomaly Score Exceeded', data = null,
         severity = null where blocked_by is not null"
            .to_owned(),
        format!("update logs set estimated = null, {}", nothing.join(", ")),
    ]
}

/// All transactions with their alerts, in the order of their numbers.
async fn all(query: &mut dyn Query) -> Vec<Transaction> {
    let question = Question::new(Scope::all());
    let page = query.transactions(&question, None, 10_000).await.unwrap();
    let mut numbers: Vec<i64> = page.value.iter().map(|one| one.number).collect();
    numbers.sort_unstable();
    let mut all = Vec::new();
    for number in numbers {
        let one = query.transaction(&question, number).await.unwrap().value;
        all.push(one.unwrap());
    }
    all
}

async fn reindex(place: &Place) -> upkeep::ReindexProgress {
    let mut reindex = Reindex::open(&place.options).await.unwrap();
    while reindex.step().await.unwrap() {}
    reindex.progress()
}

fn alert_value<'v>(alert: &'v [Value<'static>], column: &str) -> &'v Value<'static> {
    let at = RULE_COLUMNS.iter().position(|name| *name == column);
    &alert[at.unwrap()]
}

#[test]
fn rows_of_the_program_before_get_what_they_say() {
    each_place(|place| {
        runtime().block_on(async {
            let rows = rows();
            let mut store = store::open(&place.options).await.unwrap();
            insert(&mut *store, rows.clone()).await;
            let mut query = query::open(&place.options).await.unwrap();
            let want = all(&mut *query).await;
            for statement in as_before() {
                place.run(&statement).await;
            }
            let question = Question::new(Scope::all());
            let before = query.totals(&question).await.unwrap().value.unwrap();
            assert_eq!((before.blocked, before.estimated), (0, rows.len() as u64));
            let missing = upkeep::missing(&place.options).await.unwrap();
            assert_eq!(missing, Some(rows.len() as u64));

            let progress = reindex(place).await;
            assert_eq!(progress.completed, rows.len() as u64);
            assert_eq!(progress.seen, progress.rows);
            let got = all(&mut *query).await;
            compare(&want, &got);

            // The second time there is nothing to do.
            let progress = reindex(place).await;
            assert_eq!((progress.completed, progress.estimated), (0, 0));
            assert_eq!(all(&mut *query).await, got);
        });
    });
}

/// Compares what was computed from entries with what was computed from rows.
fn compare(want: &[Transaction], got: &[Transaction]) {
    assert_eq!(want.len(), got.len());
    let mut equal_causes = 0;
    let mut equal_outcomes = 0;
    for (want, got) in want.iter().zip(got) {
        let id = want.value("unique_id");
        let has_alerts = !want.alerts.is_empty();
        assert_eq!(got.is_estimated, Some(has_alerts), "{id:?}");
        for column in LOG_COLUMNS {
            let is_rule = ["ruleId", "msg", "data", "severity", "maturity", "accuracy"];
            let is_estimate = ["blocked_by", "outcome", "category", "threshold", "sole"];
            // Part K has the threshold also where there are no alerts.
            let is_certain = !has_alerts && column != "threshold";
            if is_certain || !(is_rule.contains(&column) || is_estimate.contains(&column)) {
                assert_eq!(got.value(column), want.value(column), "{id:?} {column}");
            } else if got.value(column) != want.value(column) && std::env::var("SHOW").is_ok() {
                eprintln!(
                    "{id:?} {column} {:?} {:?}",
                    want.value(column),
                    got.value(column)
                );
            }
        }
        equal_causes += usize::from(got.value("ruleId") == want.value("ruleId"));
        equal_outcomes += usize::from(got.value("outcome") == want.value("outcome"));
        for (want, got) in want.alerts.iter().zip(&got.alerts) {
            for column in RULE_COLUMNS {
                // Part K says it better.
                let is_estimate = ["points", "points_for", "points_source"].contains(&column);
                if !is_estimate {
                    let (got, want) = (alert_value(got, column), alert_value(want, column));
                    assert_eq!(got, want, "{id:?} {column}");
                }
            }
        }
    }
    let least = want.len() * 95 / 100;
    assert!(equal_causes >= least, "{equal_causes} of {}", want.len());
    assert!(
        equal_outcomes >= least,
        "{equal_outcomes} of {}",
        want.len()
    );
}

/// What the old script has stored, and what is known of it afterwards.
#[test]
fn rows_of_the_old_script_keep_what_they_say() {
    each_place(|place| {
        runtime().block_on(async {
            if place.is_mariadb() {
                // As servers of its time made it: the first timestamp becomes that of each change.
                place
                    .run(
                        "create table logs (id int(11) not null auto_increment primary key,
                         REQUEST_METHOD varchar(10), REQUEST_URI text, REMOTE_ADDR varchar(45),
                         ruleId varchar(10), Host varchar(255), msg text, data text,
                         unique_id varchar(50), severity varchar(20), maturity int(11),
                         accuracy int(11), User_Agent text, responce_header int(3),
                         Engine_Mode varchar(20), Score int(11), SQLi int(11), XSS int(11),
                         phase int(11), created_at timestamp not null default current_timestamp
                         on update current_timestamp) default charset=latin1",
                    )
                    .await;
            }
            drop(store::open(&place.options).await.unwrap());
            for (uri, address, rule, mode, phase) in [
                ("'/a/17?x=1'", "'192.0.2.7'", "'942100'", "'ENABLED'", "2"),
                ("'/b'", "'::1'", "'949110'", "'DETECTION_ONLY'", "null"),
                // The script took the port for the address.
                ("'/caf\u{e9}'", "'40112'", "'942100'", "'ENABLED'", "null"),
                ("null", "null", "null", "null", "null"),
            ] {
                place
                    .run(&format!(
                        "insert into logs (REQUEST_URI, REMOTE_ADDR, ruleId, msg, Engine_Mode,
                         phase, created_at) values ({uri}, {address}, {rule}, 'what it kept',
                         {mode}, {phase}, '2020-02-29 12:00:00')"
                    ))
                    .await;
            }
            assert_eq!(reindex(place).await.estimated, 4);
            let got = all(&mut *query::open(&place.options).await.unwrap()).await;
            let text = |one: &Transaction, column| match one.value(column) {
                Value::Text(text) => text.to_string(),
                Value::Address(ip) => ip.to_string(),
                Value::Time(time) => time.to_rfc3339(),
                _ => "-".to_owned(),
            };
            let shown: Vec<String> = got
                .iter()
                .map(|one| {
                    assert_eq!(one.is_estimated, Some(true));
                    assert_eq!(text(one, "created_at"), "2020-02-29T12:00:00+00:00");
                    assert_eq!(text(one, "msg"), "what it kept");
                    [
                        "ruleId",
                        "outcome",
                        "client_ip",
                        "client_key",
                        "path_template",
                    ]
                    .map(|column| text(one, column))
                    .join(" ")
                })
                .collect();
            assert_eq!(
                shown,
                [
                    "942100 blocked 192.0.2.7 192.0.2.7 /a/{n}",
                    "949110 - ::1 ::1 /b",
                    "942100 detected - - /caf\u{e9}",
                    "- - - - -",
                ]
            );
        });
    });
}

/// Between any two steps older programs store rows, others are removed, and the work may be begun anew.
#[test]
fn rows_come_and_go_between_the_steps() {
    each_place(|place| {
        runtime().block_on(async {
            let mut store = store::open(&place.options).await.unwrap();
            let rows: Vec<Row> = (0..1250).map(store::contract::row).collect();
            for rows in rows.chunks(250) {
                insert(&mut *store, rows.to_vec()).await;
            }
            for statement in as_before() {
                place.run(&statement).await;
            }
            let mut steps = 0;
            let mut completed = 0;
            let mut reindex = Reindex::open(&place.options).await.unwrap();
            while reindex.step().await.unwrap() {
                steps += 1;
                place
                    .run("insert into logs (ruleId, REQUEST_URI) values ('1', '/later')")
                    .await;
                place
                    .run(&format!("delete from logs where id = {}", 100 * steps + 7))
                    .await;
                if steps % 5 == 0 {
                    completed += reindex.progress().completed;
                    reindex = Reindex::open(&place.options).await.unwrap();
                }
            }
            completed += reindex.progress().completed;
            assert!(steps > 12 && completed > 1200, "{steps} {completed}");
            drop(reindex);
            let mut query = query::open(&place.options).await.unwrap();
            let left = query.totals(&Question::new(Scope::all())).await.unwrap();
            let missing = upkeep::missing(&place.options).await.unwrap().unwrap();
            assert!(missing <= 5, "{missing}");
            while {
                let mut again = Reindex::open(&place.options).await.unwrap();
                again.step().await.unwrap()
            } {}
            assert_eq!(upkeep::missing(&place.options).await.unwrap(), Some(0));
            let now = query.totals(&Question::new(Scope::all())).await.unwrap();
            let count = |totals: Option<Totals>| totals.map(|totals| totals.transactions);
            assert_eq!(count(left.value), count(now.value));
        });
    });
}

//! Rows that are too old go with all that hangs on them, and nothing else does.
#![cfg(all(feature = "sqlite", feature = "mysql", feature = "store-contract"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "reindex/places.rs"]
mod places;
#[path = "mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;
#[path = "filter/stored.rs"]
mod stored;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use modsec_core::EntryHash;
use modsec_core::query::{self, Question, Scope};
use modsec_core::store::{self, Batch, Row};
use modsec_core::upkeep::Retention;

use self::places::{Place, each_place};
use self::stored::{insert, runtime};

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> DateTime<Utc> {
    "2026-11-27T12:00:00Z".parse().unwrap()
}

/// A row of this age with an alert about an argument of this name.
fn row(number: u64, age: Option<TimeDelta>, argument: &str) -> Row {
    let mut row = store::contract::row(usize::try_from(number % 100).unwrap());
    row.entry_hash = EntryHash::of(&number.to_le_bytes());
    row.unique_id = Some(format!("row{number}"));
    row.created_at = age.map(|age| now() - age);
    let target = format!("ARGS:{argument}");
    row.rule_matches.truncate(1);
    for rule in &mut row.rule_matches {
        rule.detail = Some(format!("Pattern match \"x\" at {target}."));
        rule.target = Some(target.clone());
        rule.msg = Some("a message".to_owned());
    }
    row
}

async fn remove(place: &Place, keep: Duration) -> usize {
    let mut retention = Retention::open(&place.options, keep).await.unwrap();
    let mut removed = 0;
    loop {
        match retention.step(now()).await.unwrap() {
            0 => return removed,
            count => removed += count,
        }
    }
}

#[test]
fn what_is_too_old_goes_with_all_that_hangs_on_it() {
    each_place(|place| {
        runtime().block_on(async {
            let mut store = store::open(&place.options).await.unwrap();
            let mut query = query::open(&place.options).await.unwrap();
            let question = Question::new(Scope::all());
            // Nothing is removed, and nothing noted, where nothing is too old.
            insert(&mut *store, vec![row(0, Some(TimeDelta::zero()), "young")]).await;
            assert_eq!(remove(place, HOUR).await, 0);
            let known_from = query.totals(&question).await.unwrap().known_from;
            assert_eq!(known_from, None);

            let minutes = |minutes| Some(TimeDelta::minutes(minutes));
            let mut rows: Vec<Row> = (1..=120)
                .map(|number| row(number, minutes(60 + i64::try_from(number).unwrap()), "old"))
                .collect();
            rows.push(row(200, minutes(61), "shared"));
            rows.push(row(201, minutes(60), "shared"));
            rows.push(row(202, minutes(59), "kept"));
            rows.push(row(203, None, "undated"));
            insert(&mut *store, rows).await;
            assert_eq!(remove(place, HOUR).await, 121);

            let left = query.transactions(&question, None, 100).await.unwrap();
            let ids: Vec<_> = left
                .value
                .iter()
                .map(|one| one.value("unique_id"))
                .collect();
            let text = |text: &str| store::Value::Text(text.to_owned().into());
            let want = ["row0", "row202", "row201", "row203"].map(text);
            assert_eq!(ids, want.iter().collect::<Vec<_>>());
            // Each kind of answer says from when on rows are known.
            let known_from = Some(now() - TimeDelta::hours(1));
            assert_eq!(left.known_from, known_from);
            assert_eq!(
                query.totals(&question).await.unwrap().known_from,
                known_from
            );
            let line = query.time_line(&question, 60).await.unwrap();
            assert_eq!(line.known_from, known_from);
            let top = query.top(&question, query::Facet::Rule, 9).await.unwrap();
            assert_eq!(top.known_from, known_from);
            let one = query
                .transaction(&question, left.value[2].number)
                .await
                .unwrap();
            assert_eq!(
                (one.value.unwrap().alerts.len(), one.known_from),
                (1, known_from)
            );

            assert_eq!(place.count("select count(*) from rule_matches").await, 4);
            let named = "select count(*) from modsec_rules where target = ";
            for (target, want) in [("old", 0), ("shared", 1), ("kept", 1), ("undated", 1)] {
                let count = place.count(&format!("{named}'ARGS:{target}'")).await;
                assert_eq!(count, want, "{target}");
            }
            // A shorter horizon is not noted over a longer one.
            let later = Retention::open(&place.options, 2 * HOUR).await;
            assert_eq!(later.unwrap().step(now()).await.unwrap(), 0);
            assert_eq!(
                query.totals(&question).await.unwrap().known_from,
                known_from
            );
        });
    });
}

/// What a removed alert had shared is used by a new one at the same moment, again and again.
#[test]
fn texts_that_others_are_about_to_use_are_there() {
    each_place(|place| {
        runtime().block_on(async {
            let mut store = store::open(&place.options).await.unwrap();
            let mut retention = Retention::open(&place.options, HOUR).await.unwrap();
            let mut other = Retention::open(&place.options, HOUR).await.unwrap();
            let writing = async {
                for number in 0..60 {
                    let old = Some(TimeDelta::days(1));
                    let rows = (0..4).map(|at| row(4 * number + at, old, "same")).collect();
                    store.insert(&Batch::new(None, rows)).await.unwrap();
                }
            };
            let removing = async |retention: &mut Retention| {
                loop {
                    retention.step(now()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                () = writing => {}
                () = removing(&mut retention) => {}
                () = removing(&mut other) => {}
            }
            drop((retention, other));
            let orphans = "select count(*) from rule_matches m where not exists
                           (select 1 from modsec_rules r where r.rule_key = m.rule_key)";
            assert_eq!(place.count(orphans).await, 0);
            remove(place, HOUR).await;
            for table in ["logs", "rule_matches"] {
                let count = place.count(&format!("select count(*) from {table}")).await;
                assert_eq!(count, 0, "{table}");
            }
        });
    });
}

/// The rule is removed after a writer has found it, and before the writer's alert names it.
#[test]
fn a_rule_that_is_removed_under_a_writer_is_added_again() {
    each_place(|place| {
        if !place.is_mariadb() {
            return; // there a writer is alone
        }
        runtime().block_on(async {
            let mut store = store::open(&place.options).await.unwrap();
            insert(&mut *store, vec![row(1, None, "name")]).await;
            place.run("delete from rule_matches").await;
            // What is done to this table no rollback takes back, so it happens once.
            place
                .run("create table once engine=MyISAM select 1 as left_over")
                .await;
            place
                .run(
                    "create trigger removed_meanwhile before insert on rule_matches for each row
                     begin
                         if exists (select 1 from once) then
                             delete from once;
                             delete from modsec_rules where rule_key = new.rule_key;
                         end if;
                     end",
                )
                .await;
            insert(&mut *store, vec![row(2, None, "name")]).await;
            let named = "select count(*) from modsec_alerts where target = 'ARGS:name'
                         and msg = 'a message'";
            assert_eq!(place.count(named).await, 1);
            assert_eq!(place.count("select count(*) from once").await, 0);
        });
    });
}

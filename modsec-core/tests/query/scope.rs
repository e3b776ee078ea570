//! Whoever may see one account sees no byte of another's rows, whatever he asks.

use std::fmt::Debug;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use modsec_core::query::{Facet, Query, Question, Scope, Source, Spot};
use modsec_core::store::{self, Row};

use super::scan::scan;

/// Stands in every text of the other account's rows.
const SECRET: &str = "hidden";

/// Rows of two accounts; those of the other one differ in each text, rule and address.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = (0..40).map(store::contract::row).collect();
    for (at, row) in rows.iter_mut().enumerate() {
        row.account = Some("own".to_owned());
        if at % 2 == 0 {
            continue;
        }
        let secret = Some(SECRET.to_owned());
        for text in [
            &mut row.account,
            &mut row.host,
            &mut row.uri,
            &mut row.rule_id,
            &mut row.msg,
            &mut row.data,
            &mut row.unique_id,
            &mut row.user_agent,
            &mut row.sensor,
            &mut row.path_template,
            &mut row.blocked_by,
        ] {
            text.clone_from(&secret);
        }
        row.client_ip = "2001:db8:5ec::1".parse().ok();
        for rule in &mut row.rule_matches {
            for text in [
                &mut rule.rule_id,
                &mut rule.msg,
                &mut rule.data,
                &mut rule.target,
                &mut rule.detail,
            ] {
                text.clone_from(&secret);
            }
        }
    }
    rows
}

/// Writes an answer down.
fn note(all: &mut String, answer: impl Debug) {
    writeln!(all, "{answer:?}").unwrap();
}

pub(crate) async fn check(query: &mut dyn Query) {
    let own = Question::new(Scope::accounts(["own"]));
    let now: DateTime<Utc> = "2027-01-01T00:00:00Z".parse().unwrap();
    let mut all = String::new();
    note(&mut all, query.totals(&own).await.unwrap());
    note(&mut all, query.time_line(&own, 1).await.unwrap());
    for facet in Facet::ALL {
        note(&mut all, query.top(&own, facet, 100).await.unwrap());
    }
    note(&mut all, query.transactions(&own, None, 100).await.unwrap());
    for number in 1..=40 {
        note(&mut all, query.transaction(&own, number).await.unwrap());
    }
    let (answer, seen) = scan(query, &own).await.unwrap();
    assert_eq!((answer.value, seen.len()), (20, 20));
    note(&mut all, seen);
    let candidates = query.candidates(&own, 100).await.unwrap();
    assert!(
        candidates
            .value
            .as_ref()
            .is_some_and(|found| !found.is_empty())
    );
    note(&mut all, candidates);
    for source in [Source::Host, Source::Account, Source::Sensor] {
        let silences = query.silences(&own, source, now, 100).await.unwrap();
        note(&mut all, silences);
    }
    for sign in [SECRET, "2001:db8:5ec"] {
        assert!(!all.contains(sign), "{sign} is in {all}");
    }
    let mut spot = Spot::new(SECRET);
    spot.host = Some(SECRET.to_owned());
    spot.path.clone_from(&spot.host);
    spot.target.clone_from(&spot.host);
    let evidence = query.evidence(&own, &spot).await.unwrap().value.unwrap();
    assert_eq!((evidence.transactions, evidence.clients), (0, 0));
    let everybody = Question::new(Scope::all());
    let evidence = query
        .evidence(&everybody, &spot)
        .await
        .unwrap()
        .value
        .unwrap();
    assert_eq!((evidence.transactions, evidence.clients), (20, 1));
}

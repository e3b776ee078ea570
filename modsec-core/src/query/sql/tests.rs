#[cfg(feature = "sqlite")]
mod plans;

use super::*;
use crate::filter::Filter;
use crate::query::{Scope, Source, Spot, Window};
use crate::store::{Dialect, Param};

fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn stretches_have_neither_gap_nor_overlap() {
    let (first, newest) = (time("2026-01-01T00:00:00Z"), time("2026-11-27T12:00:00Z"));
    let cases = [
        (None, None),
        (Some(time("2026-11-20T00:00:00Z")), None),
        (None, Some(time("2026-11-01T00:00:00Z"))),
        (
            Some(time("2025-01-01T00:00:00Z")),
            Some(time("2027-01-01T00:00:00Z")),
        ),
    ];
    for (since, until) in cases {
        let stretches = Stretch { since, until }.divided(first, newest);
        assert_eq!(stretches.first().unwrap().until, until);
        assert_eq!(stretches.last().unwrap().since, since);
        for pair in stretches.windows(2) {
            assert_eq!(pair[0].since, pair[1].until);
            assert!(pair[0].since.is_some());
        }
        assert!(stretches.len() < 20, "{since:?} {until:?}: {stretches:?}");
    }
}

/// All statements of a question.
fn statements(dialect: Dialect, question: &Question) -> Vec<(String, Vec<Param>)> {
    let stretch = Stretch {
        since: None,
        until: None,
    };
    let mut statements = vec![
        Statement::totals(dialect, question),
        Statement::time_line(dialect, question, 60),
        Statement::page(dialect, question, None, &stretch, 5),
        Statement::untimed(dialect, question, None, 5),
        Statement::one(dialect, question, 1),
        Statement::alerts(dialect, question, 1),
        Statement::scan(dialect, question),
        Statement::evidence(dialect, question, None, 5),
        Statement::evidence(dialect, question, Some(&Spot::new("wo'rd")), 1),
        Statement::silences(dialect, question, Source::Host, 400_000, 5),
        Statement::lone_clients(dialect, question, &Spot::new("wo'rd")),
    ];
    statements.extend(Facet::ALL.map(|facet| Statement::top(dialect, question, facet, 5)));
    statements.into_iter().map(Statement::finish).collect()
}

#[test]
fn every_statement_has_the_scope_and_no_word_of_the_asker() {
    let mut question = Question::new(Scope::accounts(["acc'ount"]).with_hosts(["ho'st"]));
    question.filter = Filter::parse("uri:\"wo'rd\" OR msg:wo'rd", Utc::now()).unwrap();
    question.window = Window::new(Some(time("2026-01-01T00:00:00Z")), None);
    for dialect in [Dialect::Sqlite, Dialect::Mysql] {
        for (sql, params) in statements(dialect, &question) {
            assert!(sql.contains("l.account") && sql.contains("l.Host"), "{sql}");
            assert!(
                !sql.contains("'ount") && !sql.contains("'st") && !sql.contains("'rd"),
                "{sql}"
            );
            assert_eq!(sql.matches('?').count(), params.len(), "{sql}");
            assert_eq!(
                params[..2],
                ["acc'ount", "ho'st"].map(|name| Param::Text(name.to_owned()))
            );
        }
    }
}

#[test]
fn a_scope_of_nobody_sees_nothing() {
    let nobody = Question::new(Scope::accounts::<String>([]));
    for (sql, _) in statements(Dialect::Sqlite, &nobody) {
        assert!(sql.contains("1 = 0"), "{sql}");
    }
}

//! Habits of three weeks, and who is quiet afterwards.

use chrono::{DateTime, TimeDelta, Utc};
use modsec_core::EntryHash;
use modsec_core::query::{Query, Question, Scope, Silence, Source};
use modsec_core::record::Record;
use modsec_core::store::{Origin, Row};

/// Hours of the habit: three weeks.
const HOURS: i64 = 21 * 24;

/// The first instant, a Monday.
const FIRST: &str = "2026-11-02T00:00:00Z";

/// Whether something comes in an hour of the three weeks.
type Habit = fn(i64) -> bool;

/// Names, and their habits.
const HABITS: [(&str, Habit); 8] = [
    // Day and night, and silent for four hours.
    ("always", |hour| hour < HOURS - 4),
    // The same, for two hours.
    ("resting", |hour| hour < HOURS - 2),
    // By day; the night is not over.
    ("nightly", |hour| (8..20).contains(&(hour % 24))),
    // By day, and silent since yesterday noon.
    ("daily", |hour| {
        (8..20).contains(&(hour % 24)) && hour < HOURS - 36
    }),
    // From Monday to Friday; it is Monday, 0 h.
    ("weekly", |hour| {
        hour / 24 % 7 < 5 && (8..20).contains(&(hour % 24))
    }),
    // Six days old, and silent for long.
    ("new", |hour| (48..48 + 6 * 24).contains(&hour)),
    // Seven days old, and silent for long.
    ("gone", |hour| (48..48 + 7 * 24).contains(&hour)),
    // Once in a week or so.
    ("seldom", |hour| hour % 60 == 7),
];

/// A row for each of these hours.
pub(crate) fn rows() -> Vec<Row> {
    let first: DateTime<Utc> = FIRST.parse().unwrap();
    let mut rows = Vec::new();
    for (name, is_there) in HABITS {
        for hour in (0..HOURS).filter(|hour| is_there(*hour)) {
            let mut origin = Origin::default();
            origin.account = Some(name.to_owned());
            let hash = EntryHash::of(format!("{name} {hour}").as_bytes());
            let mut row = Row::new(&Record::default(), hash, &origin, None);
            row.host = Some(name.to_uppercase());
            row.created_at = Some(first + TimeDelta::minutes(hour * 60 + hour % 60));
            rows.push(row);
        }
    }
    rows
}

fn now() -> DateTime<Utc> {
    FIRST.parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(HOURS * 60 + 30)
}

/// Returns names, quiet hours and longest pauses.
fn told(silences: &[Silence]) -> Vec<(&str, u64, u64)> {
    let told = silences.iter();
    told.map(|it| (it.key.as_str(), it.quiet_hours, it.longest_pause))
        .collect()
}

pub(crate) async fn check(query: &mut dyn Query) {
    let all = Question::new(Scope::all());
    for source in [Source::Host, Source::Account] {
        let silences = query.silences(&all, source, now(), 10).await.unwrap();
        let want = [("always", 4, 0), ("daily", 36, 12), ("gone", 288, 0)];
        assert_eq!(told(silences.value.as_ref().unwrap()), want, "{source:?}");
        let gone = &silences.value.as_ref().unwrap()[2];
        assert_eq!((gone.transactions, gone.days), (168, 7));
        assert!((gone.confidence() - 0.875).abs() < 1e-9);
        let last: DateTime<Utc> = "2026-11-10T23:00:00Z".parse().unwrap();
        assert_eq!(gone.last, last);
    }
    let one = query.silences(&all, Source::Host, now(), 1).await.unwrap();
    assert_eq!(told(one.value.as_ref().unwrap()), [("always", 4, 0)]);
    let none = query.silences(&all, Source::Sensor, now(), 10).await;
    assert_eq!(none.unwrap().value.unwrap(), []);
    // Two hours later one more is quiet; of accounts, only those of the scope.
    let later = now() + TimeDelta::hours(2);
    let few = Question::new(Scope::accounts(["resting", "gone"]));
    let silences = query.silences(&few, Source::Host, later, 10).await.unwrap();
    assert_eq!(
        told(silences.value.as_ref().unwrap()),
        [("resting", 4, 0), ("gone", 290, 0)]
    );
}

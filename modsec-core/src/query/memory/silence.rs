//! Silences among rows in memory.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{MemoryQuery, keys, stored_time};
use crate::query::silence::Habit;
use crate::query::{Answer, Question, Silence, Source};

/// Transactions of each hour since the Unix epoch.
type Hours = BTreeMap<i64, u64>;

impl MemoryQuery {
    /// Returns the `most` silences of the sources with the most transactions; of equals the first in
    /// the order of bytes.
    pub(super) fn silences_of(
        &self,
        question: &Question,
        source: Source,
        now: DateTime<Utc>,
        most: usize,
    ) -> Answer<Option<Vec<Silence>>> {
        let hours = self.fold(question, |sources: &mut BTreeMap<String, Hours>, row| {
            let Some(time) = stored_time(row) else { return };
            let hour = time.timestamp().div_euclid(3600);
            for (key, ..) in keys(source.facet(), row) {
                *sources.entry(key).or_default().entry(hour).or_default() += 1;
            }
        });
        let now = now.timestamp().div_euclid(3600);
        let silent = |sources: BTreeMap<String, Hours>| {
            let silence = |(key, hours): (String, Hours)| habit(&hours)?.silence(key, now);
            let mut silences: Vec<Silence> = sources.into_iter().filter_map(silence).collect();
            silences.sort_by_key(|silence| Reverse(silence.transactions));
            silences.truncate(most);
            silences
        };
        hours.map(|sources| sources.map(silent))
    }
}

/// Returns the habit that these hours show; `None` if there are none.
fn habit(hours: &Hours) -> Option<Habit> {
    let (last, _) = hours.last_key_value()?;
    let days: BTreeSet<i64> = hours.keys().map(|hour| hour.div_euclid(24)).collect();
    let later = hours.keys().skip(1);
    let pauses = hours.keys().zip(later).map(|(hour, next)| next - hour - 1);
    Some(Habit {
        transactions: hours.values().sum(),
        days: days.len() as u64,
        last: *last,
        longest_pause: pauses.max().unwrap_or_default().unsigned_abs(),
    })
}

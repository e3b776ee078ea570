//! All rows one after the other.

use super::{MemoryQuery, stored_time};
use crate::query::scan::{Scanned, ScannedAlert, Visit, cut};
use crate::query::{Answer, Question};
use crate::store::{Row, RuleRow};

impl MemoryQuery {
    /// Calls `visit` with each row of a known time that the question is about, oldest first. If
    /// the deadline passes while they are looked for, with none: their order is not known before.
    pub(super) fn visit(&self, question: &Question, visit: &mut Visit<'_>) -> Answer<u64> {
        let mut found = Vec::new();
        let is_complete = self.each(question, |number, row| {
            if let Some(time) = stored_time(row) {
                found.push((time, number, row));
            }
        });
        if !is_complete {
            return Answer::late(0, None);
        }
        found.sort_unstable_by_key(|(time, number, _)| (*time, *number));
        for (time, number, row) in &found {
            visit(&Scanned {
                number: *number,
                time: *time,
                ..scanned(row)
            });
        }
        Answer::complete(found.len() as u64)
    }
}

/// Returns what is seen of a row, apart from number and time.
fn scanned(row: &Row) -> Scanned {
    let alert = |rule: &RuleRow| ScannedAlert {
        rule_id: rule.rule_id.as_deref().map(cut),
        severity: rule.severity,
        verified: rule.verified,
    };
    Scanned {
        number: 0,
        time: chrono::DateTime::UNIX_EPOCH,
        client: row.client_ip.map(|ip| ip.to_canonical()),
        account: row.account.as_deref().map(cut),
        host: row.host.as_deref().map(cut),
        status: row.status,
        severity: row.severity,
        score: row.score,
        intercepted: row.intercepted,
        outcome: row.outcome,
        alerts: row.rule_matches.iter().map(alert).collect(),
    }
}

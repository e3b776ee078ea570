//! What libmodsecurity says in its own way: part H.
//!
//! One line for each alert, and nothing else: no keys, no mode, no stopwatch, no producer. The
//! source is `Transaction::toOldAuditLogFormat` in `transaction.cc`, and `RuleMessage::log`.

use super::engine_lines::surplus;
use super::lines::lines;
use crate::format::rule_match::v3::{Anchor, parse};
use crate::record::Record;

/// Reads part H: one alert a line, which is compared with the parts A and B in `record`.
pub(super) fn read<'a>(content: &'a [u8], record: &mut Record<'a>, capped: &mut bool) {
    let anchor = record.unique_id.as_ref().zip(record.request.uri.as_ref());
    let anchor = anchor.map(|(id, uri)| Anchor::new(id, uri));
    let alerts = || lines(content).filter(|line| !line.is_empty());
    let dropped = surplus(alerts().count());
    *capped |= !dropped.is_empty();
    for (n, line) in alerts().enumerate() {
        if !dropped.contains(&n) {
            let alert = parse(line, anchor.as_ref(), capped);
            record.alerts.push(alert);
        }
    }
}

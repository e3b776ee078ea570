//! Part A: when, which transaction, between whom.
//!
//! ```text
//! [03/Feb/2024:10:11:12 +0100] Zb4kQH8AAAEAAB1cR0MAAAAA 192.0.2.10 40112 198.51.100.4 80
//! [TIME]                       TXID                     CIP        CPORT SIP          SPORT
//! ```
//!
//! An id of libmodsecurity may be the client's (`modsecurity_transaction_id "$http_x_request_id"`)
//! and hold spaces, so the line is read from the right: the last four words are the connection.

use memchr::memchr;

use super::Dialect;
use super::lines::{first_line, lines};
use crate::format::digits::number;
use crate::format::rule_match;
use crate::format::timestamp;
use crate::record::{Endpoint, MAX_ALERTS, Record, parse_ip};
use crate::text::Text;

/// Reads time, id and both ends of the connection. What is not of its form stays absent.
pub(super) fn read<'a>(content: &'a [u8], dialect: Dialect, record: &mut Record<'a>) {
    let line = first_line(content);
    let Some(stamp) = stamp(line) else {
        return;
    };
    record.time = timestamp::parse(stamp);
    if record.time.is_none() && !dialect.traits().has_offset {
        record.local_time = timestamp::parse_wall_clock(stamp);
    }
    let rest = line.get(stamp.len() + 2..).unwrap_or_default();
    let mut words = rest.rsplitn(5, |byte| *byte == b' ');
    let mut end = || -> Option<Endpoint<'a>> {
        let port = number(words.next()?)?;
        let text = words.next()?;
        Some(Endpoint {
            text: text.into(),
            ip: parse_ip(text),
            port: Some(port),
        })
    };
    let (Some(server), Some(client)) = (end(), end()) else {
        return;
    };
    record.server = Some(server);
    record.client = Some(client);
    record.unique_id = words
        .next()
        .and_then(|id| id.strip_prefix(b" "))
        .filter(|id| !id.is_empty())
        .map(Text::from);
}

/// Reads part A of an entry that was written by hand: an address alone, or a usual line, and below
/// it the metadata of one rule.
///
/// ```text
/// --a1b2c3d4-A--
/// 192.0.2.10
/// [id "942100"] [msg "SQL Injection"] [severity "CRITICAL"]
/// ```
pub(super) fn read_by_hand<'a>(
    content: &'a [u8],
    dialect: Dialect,
    record: &mut Record<'a>,
    capped: &mut bool,
) {
    let line = first_line(content).trim_ascii();
    if let Some(ip) = parse_ip(line) {
        record.client = Some(Endpoint {
            text: line.into(),
            ip: Some(ip),
            port: None,
        });
    } else {
        read(content, dialect, record);
    }
    for line in lines(content).skip(1) {
        let alert = rule_match::parse_bare(line, capped);
        if alert.has_metadata() && record.alerts.len() < MAX_ALERTS {
            record.alerts.push(alert);
        }
    }
}

/// Returns what stands in the brackets at the start of `line`.
pub(super) fn stamp(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_prefix(b"[")?;
    line.get(..memchr(b']', line)?)
}

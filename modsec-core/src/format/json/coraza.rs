//! Coraza.
//!
//! ```text
//! transaction  timestamp, unix_timestamp, id, client_ip, client_port, host_ip, host_port,         A
//!              server_id, highest_severity, is_interrupted
//!   request    method, protocol, uri, headers {name: [value, …]}                                  B
//!              body                                                                               C
//!              files [{name, size, mime}, …]                                                      J
//!   response   protocol, status, headers {name: [value, …]}                                       F
//!              body                                                                               E
//!   producer   connector, version, server, rule_engine, stopwatch, rulesets [name, …]             H
//! messages     [{actionset, message, error_message,                                               H
//!              data {file, line, id, rev, msg, data, severity, ver, maturity, accuracy,           K
//!              tags [tag, …], raw}}, …]
//! ```
//!
//! The sources are `internal/auditlog/auditlog.go` and `Transaction.AuditLog` in
//! `internal/corazawaf/transaction.go`. Go's encoder writes UTF-8 alone: other bytes became U+FFFD before
//! they were logged. Names of headers are in lower case. There is one message for each match, so a rule
//! may be in the list several times.
//!
//! The instant is a number of nanoseconds, beside a wall clock that gives its offset away. The
//! fields of an alert stand apart under `data`, which is `null` unless part K is configured. What
//! the engine did, and in which phase, stands only in the words at the start of `error_message`;
//! the client's text comes behind them. As in libmodsecurity 0 is written for "not set", from 3.7 on
//! -1 for a severity, so that a severity of 0 is absent too.

use chrono::DateTime;

use super::members::{ProducerKeys, body, headers, once, producer, rule_field, status};
use super::reader::{JsonReader, Malformed};
use super::{Draft, Instant};
use crate::format::timestamp;
use crate::record::{Alert, AlertAction, Flag, MAX_UPLOADS, Upload};

/// What the members of `producer` are called.
const PRODUCER: ProducerKeys = ProducerKeys {
    engine: b"version",
    rule_sets: b"rulesets",
    mode: b"rule_engine",
};

/// Reads a document.
pub(super) fn read<'a>(
    reader: &mut JsonReader<'a>,
    draft: &mut Draft<'a>,
) -> Result<(), Malformed> {
    reader.object(|reader, key| match key.as_ref() {
        b"transaction" => reader.object(|reader, key| transaction(reader, &key, draft)),
        b"messages" => reader.array(|reader| {
            draft.record.flags.remove(Flag::NoPartH);
            message(reader, draft)
        }),
        _ => reader.skip(),
    })
}

/// Reads a member of `transaction`. `unix_timestamp` counts nanoseconds.
fn transaction<'a>(
    reader: &mut JsonReader<'a>,
    key: &[u8],
    draft: &mut Draft<'a>,
) -> Result<(), Malformed> {
    let repeated = &mut draft.repeated;
    match key {
        b"timestamp" => {
            let text = reader.text()?.unwrap_or_default();
            once(
                &mut draft.wall_clock,
                timestamp::parse_wall_clock(text.as_bytes()),
                repeated,
            );
        }
        b"unix_timestamp" => {
            let time = reader.number()?.map(DateTime::from_timestamp_nanos);
            once(&mut draft.instant, time.map(Instant::Certain), repeated);
        }
        b"id" => once(&mut draft.record.unique_id, reader.filled()?, repeated),
        b"client_ip" => once(&mut draft.client.address, reader.filled()?, repeated),
        b"client_port" => once(&mut draft.client.port, reader.number()?, repeated),
        b"host_ip" => once(&mut draft.server.address, reader.filled()?, repeated),
        b"host_port" => once(&mut draft.server.port, reader.number()?, repeated),
        b"is_interrupted" => once(&mut draft.record.interrupted, reader.truth()?, repeated),
        b"request" => return request(reader, draft),
        b"response" => return response(reader, draft),
        b"producer" => return producer(reader, draft, PRODUCER),
        _ => reader.skip()?,
    }
    Ok(())
}

/// Reads parts B, C and J.
fn request<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let request = &mut draft.record.request;
    reader.object(|reader, key| {
        match key.as_ref() {
            b"method" => once(&mut request.method, reader.filled()?, &mut draft.repeated),
            b"uri" => once(&mut request.uri, reader.filled()?, &mut draft.repeated),
            b"protocol" => once(&mut request.protocol, reader.filled()?, &mut draft.repeated),
            b"headers" => headers(reader, &mut request.headers, &mut draft.capped)?,
            b"body" => body(reader, &mut request.body)?,
            b"files" => {
                let uploads = &mut draft.record.uploads;
                reader.array(|reader| file(reader, uploads, &mut draft.capped))?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })
}

/// Reads an uploaded file. The index is its place in the list, from 1.
fn file<'a>(
    reader: &mut JsonReader<'a>,
    uploads: &mut Option<Vec<Upload<'a>>>,
    capped: &mut bool,
) -> Result<(), Malformed> {
    let (mut size, mut name, mut content_type) = (None, None, None);
    reader.object(|reader, key| match key.as_ref() {
        b"size" => reader.number().map(|number| size = number),
        b"name" => reader.text().map(|text| name = text),
        b"mime" => reader.text().map(|text| content_type = text),
        _ => reader.skip(),
    })?;
    let uploads = uploads.get_or_insert_default();
    if let (Some(size), Some(name)) = (size, name) {
        if uploads.len() == MAX_UPLOADS {
            *capped = true;
            return Ok(());
        }
        uploads.push(Upload {
            index: u32::try_from(uploads.len() + 1).unwrap_or(u32::MAX),
            size,
            name,
            content_type: content_type.unwrap_or_default(),
        });
    }
    Ok(())
}

/// Reads parts F and E.
fn response<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let response = &mut draft.record.response;
    reader.object(|reader, key| {
        match key.as_ref() {
            b"status" => once(&mut response.status, status(reader)?, &mut draft.repeated),
            b"headers" => headers(reader, &mut response.headers, &mut draft.capped)?,
            b"body" => body(reader, &mut response.body)?,
            _ => reader.skip()?,
        }
        Ok(())
    })
}

/// Reads an alert. Its `message` is `msg` with macros expanded, and stands for it without part K.
fn message<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let mut alert = Alert::default();
    reader.object(|reader, key| {
        match key.as_ref() {
            b"message" => alert.detail = reader.text()?.unwrap_or_default(),
            b"error_message" => {
                alert.raw = reader.text()?.unwrap_or_default();
                (alert.action, alert.phase) = action(alert.raw.as_bytes());
            }
            b"data" => {
                reader.object(|reader, key| data(reader, &key, &mut alert, &mut draft.capped))?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    })?;
    if alert.msg.is_none() {
        alert.msg = Some(alert.detail.clone()).filter(|text| !text.is_empty());
    }
    draft.alerts.push(alert);
    Ok(())
}

/// Reads a member of `data`, which is `null` unless part K is configured.
fn data<'a>(
    reader: &mut JsonReader<'a>,
    key: &[u8],
    alert: &mut Alert<'a>,
    capped: &mut bool,
) -> Result<(), Malformed> {
    match key {
        b"line" => alert.line = reader.number()?.filter(|number| *number != 0),
        b"id" => alert.rule_id = reader.filled()?.filter(|id| *id != "0"),
        b"msg" => alert.msg = reader.filled()?,
        _ => rule_field(reader, key, alert, capped)?,
    }
    Ok(())
}

// [client "192.0.2.10"] Coraza: Access denied (phase 2). …
/// Returns what Coraza did and in which phase, by the beginning of an error message. That
/// stands before anything the client may have written. `None` for an action of the
/// administrator's own, and for a phase that is not named or none of 1 to 5.
fn action(text: &[u8]) -> (Option<AlertAction>, Option<u8>) {
    let words = text
        .strip_prefix(b"[client \"")
        .and_then(|text| text.get(memchr::memchr(b'"', text)?..))
        .and_then(|text| text.strip_prefix(b"\"] Coraza: "));
    let Some(words) = words else {
        return (None, None);
    };
    let (action, rest) = if words.starts_with(b"Warning. ") {
        return (Some(AlertAction::Warning), None);
    } else if let Some(rest) = words.strip_prefix(b"Access allowed ") {
        (Some(AlertAction::Allowed), rest)
    } else if let Some(rest) = [&b"denied "[..], b"dropped ", b"redirected "]
        .iter()
        .find_map(|verb| words.strip_prefix(b"Access ")?.strip_prefix(*verb))
    {
        (Some(AlertAction::Denied), rest)
    } else if let Some(rest) = words.strip_prefix(b"Custom disruptive action triggered ") {
        (None, rest)
    } else {
        return (None, None);
    };
    let phase = match rest.strip_prefix(b"(phase ") {
        Some([digit @ b'1'..=b'5', b')', ..]) => Some(digit - b'0'),
        _ => None,
    };
    (action, phase)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_and_phase_stand_before_the_clients_text() {
        use AlertAction::{Allowed, Denied, Warning};
        for (text, want) in [
            ("Warning. x (phase 2)", (Some(Warning), None)),
            ("Access denied (phase 2). x", (Some(Denied), Some(2))),
            ("Access dropped (phase 1). x", (Some(Denied), Some(1))),
            ("Access redirected (phase 3). x", (Some(Denied), Some(3))),
            ("Access allowed (phase 1). x", (Some(Allowed), Some(1))),
            (
                "Custom disruptive action triggered (phase 4). x",
                (None, Some(4)),
            ),
            ("Access denied (phase 9). (phase 2)", (Some(Denied), None)),
            ("x Access denied (phase 2). x", (None, None)),
        ] {
            let text = format!("[client \"192.0.2.10\"] Coraza: {text}");
            assert_eq!(action(text.as_bytes()), want, "text {text:?}");
        }
        assert_eq!(action(b"Access denied (phase 2). x"), (None, None));
    }
}

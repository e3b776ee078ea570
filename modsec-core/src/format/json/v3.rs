//! libmodsecurity 3.
//!
//! ```text
//! transaction  client_ip, client_port, host_ip, host_port, time_stamp, unique_id (`id` up to      A
//!              3.0.2), server_id, is_interrupted (since 2026)
//!   request    method, http_version, uri, headers {name: value}                                   B
//!              body                                                                               C
//!   response   http_code, headers {name: value}                                                   F
//!              body                                                                               E
//!   producer   modsecurity, connector, secrules_engine, components [name, …]                      H
//!   messages   [{message, details {match, reference, ruleId, file, lineNumber, data, severity,    H
//!              ver, rev, tags [tag, …], maturity, accuracy}}, …]
//! ```
//!
//! The source is `Transaction::toJSON` in `transaction.cc`. `match` is the sentence of the operator, the
//! record's `detail`; `message` is the action `msg`. `http_version` is a number that the connector's text is
//! pasted as, and since 2025 a string. A rule with `nolog` or `noauditlog` as its last word is not in
//! `messages`.
//!
//! The fields of an alert stand apart, so no client text can run into them. They are all strings;
//! `"0"` and `""` are what the engine writes for values that a rule does not set, so a severity of
//! 0 is absent too.
//!
//! There is no phase, and before 2026 no word on whether the engine intercepted. The time is a wall
//! clock without its offset; `zoneless_time` has what can be made of it.

use super::members::{ProducerKeys, body, headers, once, producer, rule_field, status};
use super::reader::{JsonReader, Malformed};
use super::{Draft, Instant, zoneless_time};
use crate::format::timestamp;
use crate::record::{Alert, Flag};
use crate::text::Text;

/// What the members of `producer` are called.
const PRODUCER: ProducerKeys = ProducerKeys {
    engine: b"modsecurity",
    rule_sets: b"components",
    mode: b"secrules_engine",
};

/// Reads a document.
pub(super) fn read<'a>(
    reader: &mut JsonReader<'a>,
    draft: &mut Draft<'a>,
) -> Result<(), Malformed> {
    reader.object(|reader, key| match key.as_ref() {
        b"transaction" => reader.object(|reader, key| transaction(reader, &key, draft)),
        _ => reader.skip(),
    })
}

/// Reads a member of `transaction`.
fn transaction<'a>(
    reader: &mut JsonReader<'a>,
    key: &[u8],
    draft: &mut Draft<'a>,
) -> Result<(), Malformed> {
    let repeated = &mut draft.repeated;
    match key {
        b"client_ip" => once(&mut draft.client.address, reader.filled()?, repeated),
        b"client_port" => once(&mut draft.client.port, reader.number()?, repeated),
        b"host_ip" => once(&mut draft.server.address, reader.filled()?, repeated),
        b"host_port" => once(&mut draft.server.port, reader.number()?, repeated),
        b"time_stamp" => {
            let text = reader.text()?.unwrap_or_default();
            once(
                &mut draft.wall_clock,
                timestamp::parse_asctime(text.as_bytes()),
                repeated,
            );
        }
        // `id` up to 3.0.2.
        b"unique_id" | b"id" => {
            let id = reader.filled()?;
            let second = id
                .as_ref()
                .and_then(|id| zoneless_time::second_of_id(id.as_bytes()));
            draft.instant = draft.instant.or(second.map(Instant::Likely));
            once(&mut draft.record.unique_id, id, repeated);
        }
        b"is_interrupted" => once(&mut draft.record.interrupted, reader.truth()?, repeated),
        b"request" => return request(reader, draft),
        b"response" => return response(reader, draft),
        b"producer" => {
            draft.record.flags.remove(Flag::NoPartH);
            return producer(reader, draft, PRODUCER);
        }
        b"messages" => {
            draft.record.flags.remove(Flag::NoPartH);
            return reader.array(|reader| message(reader, draft));
        }
        _ => reader.skip()?,
    }
    Ok(())
}

/// Reads parts B and C. There is no request line; the protocol is `HTTP/` and the version.
fn request<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let request = &mut draft.record.request;
    reader.object(|reader, key| {
        match key.as_ref() {
            b"method" => once(&mut request.method, reader.filled()?, &mut draft.repeated),
            b"uri" => once(&mut request.uri, reader.filled()?, &mut draft.repeated),
            b"http_version" => {
                let version = reader
                    .filled()?
                    .map(|version| Text::from([&b"HTTP/"[..], version.as_bytes()].concat()));
                once(&mut request.protocol, version, &mut draft.repeated);
            }
            b"headers" => headers(reader, &mut request.headers, &mut draft.capped)?,
            b"body" => body(reader, &mut request.body)?,
            _ => reader.skip()?,
        }
        Ok(())
    })
}

/// Reads parts F and E. There is no status line.
fn response<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let response = &mut draft.record.response;
    reader.object(|reader, key| {
        match key.as_ref() {
            b"http_code" => once(&mut response.status, status(reader)?, &mut draft.repeated),
            b"headers" => headers(reader, &mut response.headers, &mut draft.capped)?,
            b"body" => body(reader, &mut response.body)?,
            _ => reader.skip()?,
        }
        Ok(())
    })
}

/// Reads an alert. One without `details` has its message alone.
fn message<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let mut alert = Alert::default();
    reader.object(|reader, key| match key.as_ref() {
        b"message" => reader.filled().map(|text| alert.msg = text),
        b"details" => {
            reader.object(|reader, key| detail(reader, &key, &mut alert, &mut draft.capped))
        }
        _ => reader.skip(),
    })?;
    draft.alerts.push(alert);
    Ok(())
}

/// Reads a member of `details`.
fn detail<'a>(
    reader: &mut JsonReader<'a>,
    key: &[u8],
    alert: &mut Alert<'a>,
    capped: &mut bool,
) -> Result<(), Malformed> {
    match key {
        b"match" => {
            alert.detail = reader.text()?.unwrap_or_default();
            alert.raw = alert.detail.clone();
        }
        b"ruleId" => alert.rule_id = reader.filled()?,
        b"lineNumber" => alert.line = reader.number()?,
        _ => rule_field(reader, key, alert, capped)?,
    }
    Ok(())
}

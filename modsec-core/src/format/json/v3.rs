//! libmodsecurity 3.
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

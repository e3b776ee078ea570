//! `ModSecurity` 2, and Coraza's imitation of it (`JsonLegacy`).
//!
//! ```text
//! transaction    time, transaction_id, remote_address, remote_port, local_address, local_port     A
//! request        request_line, headers {name: value}                                              B
//!                body [chunk, …]                                                                  C
//!                fake_body                                                                        I
//! response       protocol, status, headers {name: value}                                          F
//!                body                                                                             E
//! audit_data     messages [text, …], error_messages [text, …], action {intercepted, phase,        H
//!                message}, handler, stopwatch {p1, …}, response_body_dechunked, producer, server,
//!                sanitized {args, request_headers, response_headers}, webapp_info {id, session,
//!                user_id}, sensor_id, engine_mode, rules_performance_info {id: time}
//! uploads        info [{file_size, file_name, content_type}, …], total                            J
//! matched_rules  [{chain, rules [{actionset {id, …}, operator, config, unparsed, is_matched}]}]   K
//! ```
//!
//! The source is `sec_audit_logger_json` in `msc_logging.c` (2.9.1 and later, built with YAJL). All but
//! `uploads` and `matched_rules` are always there, empty if their part is not logged. Strings end at
//! their first NUL; the chunks of a body each do.
//!
//! Texts are those of the native format: an alert is the text behind `Message: ` with its own
//! escapes inside JSON's, and the facts of part H that are put together of several members are
//! spelled here as in part H. What the native format has and this one lacks: the reason phrase of
//! the status line, the start and length of the transaction (`Stopwatch`), and the number of an
//! uploaded file among the parts of the body, in place of which its position in the list is given.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::Draft;
use super::members::{headers, mode, once, status};
use super::reader::{JsonReader, Malformed};
use crate::format::native::matched_rules;
use crate::format::rule_match::{self, sentences};
use crate::format::{escape, request_line, timestamp};
use crate::record::{
    Alert, Flag, MAX_ALERTS, MAX_MATCHED_RULES, MAX_UPLOADS, MatchedRule, Request, Upload,
};
use crate::text::Text;

/// Reads a document.
pub(super) fn read<'a>(
    reader: &mut JsonReader<'a>,
    draft: &mut Draft<'a>,
) -> Result<(), Malformed> {
    reader.object(|reader, key| match key.as_ref() {
        b"transaction" => transaction(reader, draft),
        b"request" => request(reader, draft),
        b"response" => response(reader, draft),
        b"audit_data" => audit_data(reader, draft),
        b"uploads" => uploads(reader, draft),
        b"matched_rules" => matched_rules(reader, draft),
        _ => reader.skip(),
    })
}

/// Reads part A. `JsonLegacy` has Coraza's wall clock for a time.
fn transaction<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    reader.object(|reader, key| {
        let repeated = &mut draft.repeated;
        match key.as_ref() {
            b"time" => {
                let text = reader.text()?.unwrap_or_default();
                once(
                    &mut draft.record.time,
                    timestamp::parse(text.as_bytes()),
                    repeated,
                );
                once(
                    &mut draft.wall_clock,
                    timestamp::parse_wall_clock(text.as_bytes()),
                    repeated,
                );
            }
            b"transaction_id" => once(&mut draft.record.unique_id, reader.filled()?, repeated),
            b"remote_address" => once(&mut draft.client.address, reader.filled()?, repeated),
            b"remote_port" => once(&mut draft.client.port, reader.number()?, repeated),
            b"local_address" => once(&mut draft.server.address, reader.filled()?, repeated),
            b"local_port" => once(&mut draft.server.port, reader.number()?, repeated),
            _ => reader.skip()?,
        }
        Ok(())
    })
}

/// Reads parts B, C and I.
fn request<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    reader.object(|reader, key| match key.as_ref() {
        b"request_line" => {
            let line = reader.filled()?;
            match (line, &draft.record.request.line) {
                (Some(line), None) => set_line(&mut draft.record.request, line),
                (Some(_), Some(_)) => draft.repeated = true,
                (None, _) => {}
            }
            Ok(())
        }
        b"headers" => headers(reader, &mut draft.record.request.headers, &mut draft.capped),
        b"body" => reader.body(&mut draft.record.request.body),
        b"fake_body" => reader.body(&mut draft.record.request.form),
        _ => reader.skip(),
    })
}

/// Keeps the request line and its words; a line with escapes is copied.
fn set_line<'a>(request: &mut Request<'a>, line: Text<'a>) {
    match line.into_bytes() {
        Cow::Borrowed(line) => {
            let words = request_line::split(line);
            request.method = words.method.map(Text::from);
            request.uri = words.uri.map(Text::from);
            request.protocol = words.protocol.map(Text::from);
            request.line = Some(line.into());
        }
        Cow::Owned(line) => {
            let words = request_line::split(&line);
            let owned = |word: &[u8]| Text::from(word.to_vec());
            request.method = words.method.map(owned);
            request.uri = words.uri.map(owned);
            request.protocol = words.protocol.map(owned);
            request.line = Some(line.into());
        }
    }
}

/// Reads parts F and E. `protocol` is always `HTTP/1.1` and says nothing.
fn response<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let response = &mut draft.record.response;
    reader.object(|reader, key| match key.as_ref() {
        b"status" => {
            once(&mut response.status, status(reader)?, &mut draft.repeated);
            Ok(())
        }
        b"headers" => headers(reader, &mut response.headers, &mut draft.capped),
        b"body" => reader.body(&mut response.body),
        _ => reader.skip(),
    })
}

/// Reads part H. An object without members is what the engine writes if H is not configured.
fn audit_data<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    reader.object(|reader, key| {
        draft.record.flags.remove(Flag::NoPartH);
        let engine = &mut draft.record.engine;
        let repeated = &mut draft.repeated;
        match key.as_ref() {
            b"messages" => reader.texts(|text| {
                let mut alert = alert(text, &mut draft.capped);
                // A text cannot become two here, but what it quotes may look like metadata.
                if alert.has_metadata() && sentences::may_quote(&alert) {
                    alert.verified = Some(false);
                }
                draft.alerts.push(alert);
            })?,
            b"error_messages" => reader.texts(|text| {
                if engine.apache_errors.len() < MAX_ALERTS {
                    engine.apache_errors.push(text);
                } else {
                    draft.capped = true;
                }
            })?,
            b"action" => once(&mut engine.intercepted_phase, action(reader)?, repeated),
            b"handler" => once(&mut engine.handler, reader.filled()?, repeated),
            b"stopwatch" => once(&mut engine.stopwatch2, stopwatch(reader)?, repeated),
            b"producer" => once(&mut engine.producer, producer(reader)?, repeated),
            b"server" => once(&mut engine.server, reader.filled()?, repeated),
            b"webapp_info" => once(&mut engine.webapp_info, webapp_info(reader)?, repeated),
            b"sensor_id" => once(&mut engine.sensor_id, reader.filled()?, repeated),
            b"engine_mode" => {
                let word = reader.text()?;
                let mode = word.and_then(|word| mode(word.as_bytes()));
                once(&mut engine.mode, mode, repeated);
            }
            key => {
                let other = &mut engine.other;
                other_line(reader, key, |key, value| other.push((key.into(), value)))?;
            }
        }
        Ok(())
    })
}

/// Parses an alert. Its text mostly holds quotes, which JSON escapes, so it is mostly a copy.
fn alert<'a>(text: Text<'a>, capped: &mut bool) -> Alert<'a> {
    match text.into_bytes() {
        Cow::Borrowed(text) => rule_match::parse(text, capped),
        Cow::Owned(text) => {
            let alert = rule_match::parse(&text, capped);
            let owned = |text: Option<Text<'_>>| text.map(Text::into_owned);
            Alert {
                action: alert.action,
                phase: alert.phase,
                detail: alert.detail.into_owned(),
                file: owned(alert.file),
                line: alert.line,
                rule_id: owned(alert.rule_id),
                rev: owned(alert.rev),
                msg: owned(alert.msg),
                data: owned(alert.data),
                severity: alert.severity,
                ver: owned(alert.ver),
                maturity: alert.maturity,
                accuracy: alert.accuracy,
                tags: alert.tags.into_iter().map(Text::into_owned).collect(),
                verified: alert.verified,
                raw: text.into(),
            }
        }
    }
}

/// Reads in which phase the transaction was intercepted.
fn action(reader: &mut JsonReader<'_>) -> Result<Option<u8>, Malformed> {
    let (mut intercepted, mut phase) = (None, None);
    reader.object(|reader, key| match key.as_ref() {
        b"intercepted" => reader.truth().map(|truth| intercepted = truth),
        b"phase" => reader.number().map(|number| phase = number),
        _ => reader.skip(),
    })?;
    Ok(phase.filter(|phase| intercepted == Some(true) && (1..=5).contains(phase)))
}

/// Reads the time spent by phase, in microseconds, spelled as in `Stopwatch2`: `p1=210, p2=340`.
fn stopwatch(reader: &mut JsonReader<'_>) -> Result<Option<Text<'static>>, Malformed> {
    let mut text = String::new();
    reader.object(|reader, key| {
        if let Some(time) = reader.number::<i64>()? {
            let comma = if text.is_empty() { "" } else { ", " };
            let key = String::from_utf8_lossy(&key);
            // Writing to a string cannot fail.
            let _ = write!(text, "{comma}{key}={time}");
        }
        Ok(())
    })?;
    Ok(Some(text).filter(|text| !text.is_empty()).map(Text::from))
}

/// Reads the engine and its components, which the native format separates by `; `.
fn producer<'a>(reader: &mut JsonReader<'a>) -> Result<Option<Text<'a>>, Malformed> {
    let mut names: Vec<Text<'a>> = Vec::new();
    reader.texts(|name| names.push(name))?;
    Ok(match names.len() {
        0 | 1 => names.pop().filter(|name| !name.is_empty()),
        _ => {
            let names: Vec<&[u8]> = names.iter().map(Text::as_bytes).collect();
            Some(names.join(&b"; "[..]).into())
        }
    })
}

/// Reads what `SecWebAppId`, `SESSION` and `USERID` were, spelled as in part H: `"shop" "-" "-"`.
fn webapp_info(reader: &mut JsonReader<'_>) -> Result<Option<Text<'static>>, Malformed> {
    let mut words: [Option<Text<'_>>; 3] = Default::default();
    reader.object(|reader, key| {
        let place = match key.as_ref() {
            b"id" => 0,
            b"session" => 1,
            b"user_id" => 2,
            _ => return reader.skip(),
        };
        let text = reader.filled()?;
        if let Some(word) = words.get_mut(place) {
            *word = text;
        }
        Ok(())
    })?;
    let quoted = words.iter().map(|word| {
        let word = word.as_ref().map_or(&b"-"[..], Text::as_bytes);
        [b"\"", word, b"\""].concat()
    });
    Ok(words
        .iter()
        .any(Option::is_some)
        .then(|| quoted.collect::<Vec<_>>().join(&b' ').into()))
}

/// Reads what the record keeps as lines of part H.
fn other_line<'a>(
    reader: &mut JsonReader<'a>,
    key: &[u8],
    mut push: impl FnMut(&'static str, Text<'a>),
) -> Result<(), Malformed> {
    match key {
        b"response_body_dechunked" => {
            if reader.truth()? == Some(true) {
                push("Response-Body-Transformed", "Dechunked".into());
            }
            Ok(())
        }
        b"sanitized" => reader.object(|reader, key| {
            let key = match key.as_ref() {
                b"args" => "Sanitised-Args",
                b"request_headers" => "Sanitised-Request-Headers",
                b"response_headers" => "Sanitised-Response-Headers",
                _ => return reader.skip(),
            };
            let mut names: Vec<Vec<u8>> = Vec::new();
            reader.texts(|name| names.push([b"\"", name.as_bytes(), b"\""].concat()))?;
            push(key, list(&names));
            Ok(())
        }),
        b"rules_performance_info" => {
            let mut rules = Vec::new();
            reader.object(|reader, rule| {
                let time = reader.text()?.unwrap_or_default();
                rules.push([b"\"", &rule[..], b"=", time.as_bytes(), b"\""].concat());
                Ok(())
            })?;
            push("Rules-Performance-Info", list(&rules));
            Ok(())
        }
        _ => reader.skip(),
    }
}

/// Joins items as the lines of part H do, with a full stop at the end.
fn list(items: &[Vec<u8>]) -> Text<'static> {
    let mut text = items.join(&b", "[..]);
    text.push(b'.');
    text.into()
}

/// Reads part J. Names and types have the escapes of the native format inside those of JSON.
fn uploads<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let uploads = draft.record.uploads.get_or_insert_default();
    reader.object(|reader, key| match key.as_ref() {
        b"info" => reader.array(|reader| {
            let (mut size, mut name, mut content_type) = (None, None, None);
            reader.object(|reader, key| match key.as_ref() {
                b"file_size" => reader.number().map(|number| size = number),
                b"file_name" => reader.text().map(|text| name = text),
                b"content_type" => reader.text().map(|text| content_type = text),
                _ => reader.skip(),
            })?;
            if let (Some(size), Some(name), Some(content_type)) = (size, name, content_type) {
                if uploads.len() == MAX_UPLOADS {
                    draft.capped = true;
                    return Ok(());
                }
                uploads.push(Upload {
                    index: u32::try_from(uploads.len() + 1).unwrap_or(u32::MAX),
                    size,
                    name: unescaped(name),
                    content_type: unescaped(content_type),
                });
            }
            Ok(())
        }),
        _ => reader.skip(),
    })
}

/// Undoes the engine's own escapes, which stand inside JSON's.
fn unescaped(text: Text<'_>) -> Text<'_> {
    match text.into_bytes() {
        Cow::Borrowed(text) => escape::unescape(text).into(),
        Cow::Owned(text) => match escape::unescape(&text) {
            Cow::Owned(plain) => plain.into(),
            Cow::Borrowed(_) => text.into(),
        },
    }
}

/// Reads part K: chains, each of one rule or more, in the order in which they matched.
fn matched_rules<'a>(reader: &mut JsonReader<'a>, draft: &mut Draft<'a>) -> Result<(), Malformed> {
    let rules = draft.record.matched_rules.get_or_insert_default();
    reader.array(|chains| {
        chains.object(|chain, key| match key.as_ref() {
            b"rules" => chain.array(|reader| {
                let Some(rule) = rule(reader)? else {
                    return Ok(());
                };
                if rules.len() == MAX_MATCHED_RULES {
                    draft.capped = true;
                } else {
                    rules.push(rule);
                }
                Ok(())
            }),
            _ => chain.skip(),
        })
    })
}

/// Reads a rule. Whether it logs is told by the directive alone.
fn rule<'a>(reader: &mut JsonReader<'a>) -> Result<Option<MatchedRule<'a>>, Malformed> {
    let (mut id, mut matched, mut directive) = (None, None, None);
    reader.object(|reader, key| match key.as_ref() {
        b"actionset" => reader.object(|reader, key| match key.as_ref() {
            b"id" => reader.filled().map(|text| id = text),
            _ => reader.skip(),
        }),
        b"unparsed" => reader.text().map(|text| directive = text),
        b"is_matched" => reader.truth().map(|truth| matched = truth),
        _ => reader.skip(),
    })?;
    Ok(directive.map(|directive| MatchedRule {
        id: id.map(unescaped),
        matched: matched.unwrap_or(true),
        logs: matched_rules::read(directive.as_bytes(), &mut false)
            .first()
            .is_some_and(|rule| rule.logs),
        directive,
    }))
}

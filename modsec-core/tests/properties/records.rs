//! Records of arbitrary values, as far as an engine could have written them.

use std::net::IpAddr;

use chrono::{DateTime, FixedOffset, TimeZone as _};
use modsec_core::Text;
use modsec_core::record::{
    Alert, Body, Endpoint, Engine, EngineMode, Flag, Header, MatchedRule, Record, Request,
    Response, Stopwatch, Upload, parse_ip,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::alerts;

/// Bytes of one line.
fn line() -> impl Strategy<Value = Vec<u8>> {
    alerts::text().prop_map(|mut text| {
        text.retain(|byte| *byte != b'\n');
        text
    })
}

fn line_text() -> impl Strategy<Value = Text<'static>> {
    line().prop_map(Text::from)
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    "[!-~]{1,12}".prop_map(String::into_bytes)
}

fn time() -> impl Strategy<Value = DateTime<FixedOffset>> {
    (0..4_102_444_800_000_000i64, -14 * 60..=14 * 60i32).prop_map(|(micros, minutes)| {
        let offset = FixedOffset::east_opt(minutes * 60).unwrap();
        offset.timestamp_micros(micros).unwrap()
    })
}

fn endpoint() -> impl Strategy<Value = Endpoint<'static>> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| {
        let text = ip.to_string();
        filled!(Endpoint {
            ip: parse_ip(text.as_bytes()),
            text: text.into(),
            port: Some(port),
        })
    })
}

fn headers() -> impl Strategy<Value = Vec<Header<'static>>> {
    let name = prop_oneof![
        "[A-Za-z-]{0,10}",
        select(vec!["Host".to_owned(), "user-agent".to_owned()])
    ];
    vec(
        (name, line_text()).prop_map(|(name, value)| Header {
            name: name.into(),
            value,
        }),
        0..6,
    )
}

fn body() -> impl Strategy<Value = Option<Body<'static>>> {
    option::of(alerts::text().prop_map(|bytes| {
        filled!(Body {
            len: bytes.len() as u64,
            kept: bytes.into(),
        })
    }))
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let uri = line().prop_map(|text| [b"/", &text[..]].concat());
    let words = option::of((word(), option::of((uri, "HTTP/[0-9]\\.[0-9]"))));
    (words, headers(), body(), body()).prop_map(|(words, headers, body, form)| {
        let mut request = filled!(Request {
            headers,
            body,
            form,
        });
        let Some((method, rest)) = words else {
            return request;
        };
        let mut line = method.clone();
        request.method = Some(method.into());
        if let Some((uri, protocol)) = rest {
            line.extend([b" ", &uri[..], b" ", protocol.as_bytes()].concat());
            request.uri = Some(uri.into());
            request.protocol = Some(protocol.into());
        }
        request.line = Some(line.into());
        request
    })
}

fn response() -> impl Strategy<Value = Response<'static>> {
    let status = option::of((100..1000u16, line()));
    (status, headers(), body()).prop_map(|(status, headers, body)| {
        let line = |(status, reason): &(u16, Vec<u8>)| {
            [format!("HTTP/1.1 {status} ").as_bytes(), reason].concat()
        };
        filled!(Response {
            status_line: status.as_ref().map(line).map(Text::from),
            status: status.map(|(status, _)| status),
            headers,
            body,
        })
    })
}

fn engine() -> impl Strategy<Value = Engine<'static>> {
    let modes = select(
        &[
            EngineMode::Enabled,
            EngineMode::DetectionOnly,
            EngineMode::Disabled,
        ][..],
    );
    let line = || option::of(line_text());
    let stopwatch = (0..i64::MAX, 0..i64::MAX).prop_map(|(start_us, duration_us)| Stopwatch {
        start_us,
        duration_us,
    });
    (
        (
            option::of(modes),
            option::of(1..=4u8),
            option::of(stopwatch),
            vec(line_text(), 0..3),
        ),
        (line(), line(), line(), line(), line(), line()),
    )
        .prop_map(
            |((mode, intercepted_phase, stopwatch, apache_errors), lines)| {
                filled!(Engine {
                    mode,
                    intercepted_phase,
                    apache_errors,
                    stopwatch,
                    handler: lines.0,
                    stopwatch2: lines.1,
                    producer: lines.2,
                    server: lines.3,
                    sensor_id: lines.4,
                    webapp_info: lines.5,
                    other: Vec::new(),
                })
            },
        )
}

fn rule() -> impl Strategy<Value = MatchedRule<'static>> {
    ("[1-9][0-9]{0,5}", any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(id, matched, logs, quoted)| {
        let sign = if matched { "" } else { "#" };
        let quote = if quoted { "'" } else { "" };
        let log = if logs { "log" } else { "nolog" };
        let directive = format!(r#"{sign}SecRule "ARGS" "@rx \"," "phase:2,id:{quote}{id}{quote},msg:'a, id:1',{log}""#);
        filled!(MatchedRule { id: Some(id.into()), matched, logs, directive: directive.into() })
    })
}

fn uploads() -> impl Strategy<Value = Vec<Upload<'static>>> {
    let upload = (any::<u32>(), any::<u64>(), alerts::text(), alerts::text());
    let upload = upload.prop_map(|(index, size, name, kind)| {
        filled!(Upload {
            index,
            size,
            name: name.into(),
            content_type: kind.into(),
        })
    });
    vec(upload, 0..4)
}

/// Alerts, of which some name a rule of part K.
fn found() -> impl Strategy<Value = (Vec<Alert<'static>>, Option<Vec<MatchedRule<'static>>>)> {
    let alerts = vec(
        (
            alerts::composed(),
            any::<prop::sample::Index>(),
            any::<bool>(),
        ),
        0..4,
    );
    (alerts, option::of(vec(rule(), 1..5))).prop_map(|(composed, rules)| {
        let alerts = composed.into_iter().map(|(mut composed, which, listed)| {
            if let Some(rules) = rules.as_ref().filter(|_| listed) {
                composed.id = which
                    .get(rules)
                    .id
                    .as_ref()
                    .map(|id| id.as_bytes().to_vec());
            }
            let raw = composed.text();
            let mut alert = composed.alert(&raw);
            if let (Some(id), Some(rules)) = (&alert.rule_id, &rules) {
                let lists = |rule: &MatchedRule<'_>| rule.matched && rule.id.as_ref() == Some(id);
                alert.verified = Some(rules.iter().any(lists));
            }
            alert
        });
        (
            alerts
                .filter(|alert| alert.raw.len() != alerts::CUT_AT)
                .collect(),
            rules,
        )
    })
}

pub(crate) fn record() -> impl Strategy<Value = Record<'static>> {
    let opening = (
        time(),
        line().prop_filter("an id", |id| !id.is_empty()),
        endpoint(),
        endpoint(),
    );
    (
        opening,
        request(),
        response(),
        option::of(engine()),
        found(),
        option::of(uploads()),
    )
        .prop_map(
            |(
                (time, id, client, server),
                request,
                response,
                engine,
                (alerts, matched_rules),
                uploads,
            )| {
                let mut record = filled!(Record {
                    time: Some(time),
                    unique_id: Some(id.into()),
                    client: Some(client),
                    server: Some(server),
                    request,
                    response,
                    matched_rules,
                    uploads,
                });
                match engine {
                    Some(engine) => {
                        record.engine = engine;
                        record.alerts = alerts;
                    }
                    None => record.flags.insert(Flag::NoPartH),
                }
                if record.alerts.iter().any(|alert| !alert.is_trusted()) {
                    record.flags.insert(Flag::Unverified);
                }
                record
            },
        )
}

//! `truth.jsonl`: what was sent, and what the server's error log reports.

use modsec_core::{Record, Text};
use serde_json::Value;

/// Returns the fields in which the record differs from the truth.
pub(crate) fn differences(truth: &Value, record: &Record<'_>) -> Vec<(&'static str, String)> {
    let text = |key: &str| truth[key].as_str().map(bytes);
    let request = &record.request;
    let header = |name| request.header(name).map(Text::as_bytes);
    let number = |number: u64| number.to_string().into_bytes();
    let status = record.response.status.map(|status| number(status.into()));
    let client = record.client.as_ref().map(|client| &client.text);
    let mode = record.engine.mode.map(|mode| mode.name().as_bytes());
    let ids = record
        .alerts
        .iter()
        .filter_map(|alert| alert.rule_id.as_ref());
    let ids = ids.map(Text::as_bytes).collect::<Vec<_>>().join(&b' ');
    // The error log of nginx does not have them.
    let want_ids = truth["rule_ids"].as_array().map(|ids| {
        let ids: Vec<&str> = ids.iter().filter_map(Value::as_str).collect();
        ids.join(" ").into_bytes()
    });
    let want_status = truth["status"].as_u64().map(number);
    let ids = want_ids.as_ref().map(|_| ids.as_slice());
    [
        ("method", got(request.method.as_ref()), text("method")),
        ("uri", got(request.uri.as_ref()), text("uri")),
        ("protocol", got(request.protocol.as_ref()), text("protocol")),
        ("host", header("Host"), text("host")),
        ("user_agent", header("User-Agent"), text("user_agent")),
        ("x_real_ip", header("X-Real-IP"), text("x_real_ip")),
        (
            "unique_id",
            got(record.unique_id.as_ref()),
            text("unique_id"),
        ),
        ("client", got(client), text("client")),
        ("status", status.as_deref(), want_status),
        ("engine", mode, text("engine")),
        ("rule_ids", ids, want_ids),
    ]
    .into_iter()
    .filter(|(_, got, want)| *got != want.as_deref())
    .map(|(field, got, want)| {
        let (got, want) = (shown(got), shown(want.as_deref()));
        (field, format!("got {got:?}, sent {want:?}"))
    })
    .collect()
}

fn got<'r>(text: Option<&'r Text<'_>>) -> Option<&'r [u8]> {
    text.map(Text::as_bytes)
}

fn shown(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| bytes.escape_ascii().to_string())
}

/// Undoes the `\xNN` that the truth uses for bytes which are not UTF-8.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        out.extend(rest[..at].bytes());
        match u8::from_str_radix(rest.get(at + 2..at + 4).unwrap_or(""), 16) {
            Ok(byte) if byte >= 0x80 => {
                out.push(byte);
                rest = &rest[at + 4..];
            }
            _ => {
                out.extend(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    out.extend(rest.bytes());
    out
}

//! Alerts written as the engine writes them: fixed order of keys, one way of escaping for each.

use modsec_core::Text;
use modsec_core::record::{Alert, AlertAction, Severity};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Length at which the engine cuts an alert.
pub(crate) const CUT_AT: usize = 1023;

/// What has a meaning in an alert.
const PIECES: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"[",
    b"]",
    b"\"]",
    b" [",
    b"\n",
    b".",
    b" [id \"1\"]",
    b" [msg \"forged\"]",
    b" [severity \"DEBUG\"]",
    b" [tag \"",
    b" [file \"",
    b" [file \"/f\"] [line \"1\"] [id \"1",
    b"\\x22",
    b"Message: ",
    b"(phase 1)",
    b"\xd0\x9f",
    b"\xff",
    b"\0",
    b"%{tx.score}",
];

/// The values of one alert.
#[derive(Debug, Clone)]
pub(crate) struct Composed {
    /// What the engine did, and the text that says so.
    pub(crate) action: Option<(AlertAction, Option<u8>, String)>,
    /// Whether the operator's sentence is there.
    pub(crate) has_detail: bool,
    /// The client's part of that sentence: the name of an argument.
    pub(crate) client: Vec<u8>,
    pub(crate) file: String,
    pub(crate) line: u32,
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) rev: Option<Vec<u8>>,
    pub(crate) msg: Option<Vec<u8>>,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) severity: Option<Severity>,
    pub(crate) ver: Option<Vec<u8>>,
    pub(crate) maturity: Option<u32>,
    pub(crate) accuracy: Option<u32>,
    pub(crate) tags: Vec<Vec<u8>>,
}

/// Text of a client or of a rule's author, with all that has a meaning in an alert.
pub(crate) fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(PIECES).prop_map(<[u8]>::to_vec),
        vec(any::<u8>(), 0..6),
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn action() -> impl Strategy<Value = Option<(AlertAction, Option<u8>, String)>> {
    (0..6u8, 1..=4u8).prop_map(|(kind, phase)| {
        let (action, text) = match kind {
            0 => return None,
            1 => return Some((AlertAction::Warning, None, "Warning.".to_owned())),
            2 => (AlertAction::Denied, format!("Access denied with code 403 (phase {phase}).")),
            3 => (
                AlertAction::Denied,
                format!("Access denied with redirection to http://a.example/?(phase 9) using status 302 (phase {phase})."),
            ),
            4 => (AlertAction::Denied, format!("Access denied with connection close (phase {phase}).")),
            _ => (AlertAction::Allowed, format!("Access allowed (phase {phase}).")),
        };
        Some((action, Some(phase), text))
    })
}

pub(crate) fn composed() -> impl Strategy<Value = Composed> {
    let severity = (0..8u8).prop_map(|number| Severity::from_number(number).unwrap());
    let location = ("/[a-z \\]\\[\\\\]{0,20}", any::<u32>());
    let first = (action(), any::<bool>(), text(), location);
    let texts = (
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(text()),
    );
    let rest = (
        option::of(severity),
        option::of(any::<u32>()),
        option::of(any::<u32>()),
        vec(text(), 0..4),
    );
    (first, texts, rest).prop_map(|(first, texts, rest)| Composed {
        // Without interception the sentence is always there.
        has_detail: first.1 || !matches!(&first.0, Some((AlertAction::Denied, ..))),
        action: first.0,
        client: first.2,
        file: first.3.0,
        line: first.3.1,
        id: texts.0,
        rev: texts.1,
        msg: texts.2,
        data: texts.3,
        severity: rest.0,
        ver: texts.4,
        maturity: rest.1,
        accuracy: rest.2,
        tags: rest.3,
    })
}

impl Composed {
    fn detail(&self) -> Vec<u8> {
        if !self.has_detail {
            return Vec::new();
        }
        let name = log_escape(&self.client, false);
        [b"Pattern match \"(?i)[\\\"']\" at ARGS:", &name[..], b"."].concat()
    }

    /// The text behind `Message: `.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut words = Vec::new();
        words.extend(
            self.action
                .as_ref()
                .map(|(.., text)| text.clone().into_bytes()),
        );
        words.extend(Some(self.detail()).filter(|detail| !detail.is_empty()));
        let mut out = words.join(&b' ');
        let mut tag = |key: &str, value: Option<Vec<u8>>| {
            if let Some(value) = value {
                out.extend([b" [", key.as_bytes(), b" \"", &value, b"\"]"].concat());
            }
        };
        let escaped = |value: &Option<Vec<u8>>| value.as_ref().map(|value| log_escape(value, true));
        let number = |number: Option<u32>| number.map(|number| number.to_string().into_bytes());
        tag("file", Some(self.file.clone().into_bytes()));
        tag("line", number(Some(self.line)));
        tag("id", escaped(&self.id));
        tag("rev", escaped(&self.rev));
        tag("msg", escaped(&self.msg));
        tag("data", self.data.as_ref().map(|data| log_escape_hex(data)));
        tag(
            "severity",
            self.severity.map(|severity| severity.name().into()),
        );
        tag("ver", escaped(&self.ver));
        tag("maturity", number(self.maturity));
        tag("accuracy", number(self.accuracy));
        for value in &self.tags {
            tag("tag", Some(log_escape(value, true)));
        }
        out
    }

    /// What must be read from `raw`, the text above.
    pub(crate) fn alert(&self, raw: &[u8]) -> Alert<'static> {
        let text = |value: &Option<Vec<u8>>| value.clone().map(Text::from);
        filled!(Alert {
            raw: raw.to_vec().into(),
            action: self.action.as_ref().map(|(action, ..)| *action),
            phase: self.action.as_ref().and_then(|(_, phase, _)| *phase),
            detail: self.detail().into(),
            file: Some(self.file.clone().into()),
            line: Some(self.line),
            rule_id: text(&self.id),
            rev: text(&self.rev),
            msg: text(&self.msg),
            data: text(&self.data),
            severity: self.severity,
            ver: text(&self.ver),
            maturity: self.maturity.map(i64::from),
            accuracy: self.accuracy.map(i64::from),
            tags: self.tags.iter().cloned().map(Text::from).collect(),
            verified: None,
        })
    }
}

/// The engine's `log_escape`; without `quotes` its `log_escape_nq`, which leaves quotes alone.
fn log_escape(value: &[u8], quotes: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in value {
        match byte {
            b'"' if !quotes => out.push(b'"'),
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            0x08 => out.extend(b"\\b"),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x0b => out.extend(b"\\v"),
            0x20..0x7f => out.push(*byte),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    out
}

/// The engine's `log_escape_hex`.
fn log_escape_hex(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in value {
        match byte {
            b'"' | b'\\' | ..0x20 | 0x7f.. => out.extend(format!("\\x{byte:02x}").bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

/// An alert of libmodsecurity: a variable's name and value, and the request's host, all raw.
pub(crate) fn v3(name: &[u8], value: &[u8], host: &[u8]) -> Vec<u8> {
    let line = [
        b"ModSecurity: Warning. Matched \"Operator `Rx' with parameter `x' against variable `ARGS:",
        name,
        b"' (Value: `",
        value,
        b"' ) [file \"/f\"] [line \"1\"] [id \"942100\"] [rev \"\"] [msg \"real\"] [data \"\"] [severity \"2\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [tag \"t\"] [hostname \"",
        host,
        b"\"] [uri \"/a\"] [unique_id \"ID\"] [ref \"\"]",
    ]
    .concat();
    let mut out = Vec::new();
    for byte in line {
        match byte {
            b' '..=b'~' => out.push(byte),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    out.push(b'\n');
    out
}

/// An alert of Coraza with a message, raw and quoted.
pub(crate) fn coraza(message: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::new();
    for byte in message {
        match byte {
            b'"' | b'\\' => quoted.extend([b'\\', *byte]),
            b'\n' => quoted.extend(b"\\n"),
            b' '..=b'~' => quoted.push(*byte),
            _ => quoted.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    [
        b"[client \"192.0.2.1\"] Coraza: Warning. ",
        message,
        b" [file \"/f\"] [line \"1\"] [id \"7\"] [rev \"\"] [msg \"",
        &quoted,
        b"\"] [data \"\"] [severity \"critical\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [hostname \"\"] [uri \"/a?b\"] [unique_id \"ID\"]\n",
    ]
    .concat()
}

//! The texts of alerts: what an engine wrote is read back, whatever a client put into it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::format::fuzzing::{alert_bare, alert_v2, alert_v3, alerts_coraza};
use modsec_core::record::{Alert, MAX_TAGS};
use modsec_core_fuzz::escape_v2;

/// Length at which ModSecurity 2 cuts an alert.
const CUT_AT: usize = 1023;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, text)) = bytes.split_first() else {
        return;
    };
    match choice % 6 {
        0 => any_v2(text),
        1 => composed_v2(text),
        2 => check(&alert_v3(text, b"ID", b"/a?b"), text),
        3 => composed_v3(text),
        4 => any_coraza(text),
        _ => composed_coraza(text),
    }
});

/// Checks what holds for an alert that was read from `text`.
fn check(alert: &Alert<'_>, text: &[u8]) {
    assert_eq!(alert.raw.as_bytes(), text);
    assert!(alert.tags.len() <= MAX_TAGS);
    assert!(alert.phase.is_none_or(|phase| (1..=5).contains(&phase)));
    let detail = alert.detail.as_bytes();
    assert!(detail.is_empty() || text.windows(detail.len()).any(|part| part == detail));
}

fn any_v2(text: &[u8]) {
    let (alert, capped) = alert_v2(text);
    check(&alert, text);
    assert_eq!(alert.verified, (text.len() == CUT_AT).then_some(false));
    assert!(!capped || alert.tags.len() == MAX_TAGS);
    check(&alert_bare(text), text);
}

/// The fields of the input, which a byte separates that occurs in no UTF-8.
fn fields<const N: usize>(text: &[u8]) -> [&[u8]; N] {
    let mut fields = text.splitn(N, |byte| *byte == 0xff);
    [(); N].map(|()| fields.next().unwrap_or_default())
}

fn composed_v2(text: &[u8]) {
    let [client, msg, data, tag] = fields(text);
    // The engine leaves quotes in names of arguments alone.
    let name: Vec<u8> = escape_v2(client);
    let name = String::from_utf8(name)
        .expect("escaped")
        .replace("\\\"", "\"");
    let [msg_text, data_text, tag_text] =
        [msg, data, tag].map(|value| String::from_utf8(escape_v2(value)).expect("escaped"));
    let line = format!(
        "Warning. Pattern match \"'\" at ARGS:{name}. [file \"/f\"] [line \"1\"] [id \"942100\"] \
         [msg \"{msg_text}\"] [data \"{data_text}\"] [severity \"CRITICAL\"] [tag \"{tag_text}\"]"
    );
    if line.len() == CUT_AT {
        return;
    }
    let (alert, _) = alert_v2(line.as_bytes());
    assert_eq!(alert.rule_id.expect("an id"), "942100");
    assert_eq!(alert.msg.expect("a message").as_bytes(), msg);
    assert_eq!(alert.tags.len(), 1);
    assert_eq!(alert.tags[0].as_bytes(), tag);
    assert_eq!(
        alert.detail,
        &*format!("Pattern match \"'\" at ARGS:{name}.")
    );
    // Data is escaped in another way, in which only `\x` is an escape.
    if !data.iter().any(|byte| matches!(byte, b'\\' | b'"' | b'\n')) {
        assert_eq!(alert.data.expect("data").as_bytes(), data);
    }
}

fn composed_v3(text: &[u8]) {
    let [name, value, host] = fields(text);
    let line = [
        b"ModSecurity: Warning. Matched \"Operator `Rx' with parameter `x' against variable `ARGS:",
        name,
        b"' (Value: `",
        value,
        b"' ) [file \"/f\"] [line \"1\"] [id \"942100\"] [rev \"\"] [msg \"real\"] [data \"\"] \
          [severity \"2\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [tag \"t\"] [hostname \"",
        host,
        b"\"] [uri \"/a\"] [unique_id \"ID\"] [ref \"\"]",
    ]
    .concat();
    let mut written = Vec::new();
    for byte in line {
        match byte {
            b' '..=b'~' => written.push(byte),
            _ => written.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    let alert = alert_v3(&written, b"ID", b"/a?b");
    check(&alert, &written);
    if alert.verified != Some(false) {
        assert_eq!(alert.verified, Some(true));
        assert_eq!(alert.rule_id.expect("an id"), "942100");
        assert_eq!(alert.msg.expect("a message"), "real");
        assert_eq!(alert.tags, ["t"]);
    }
    let harmless = |text: &[u8]| !text.windows(2).any(|two| two == b" [");
    if harmless(name) && harmless(value) && !host.contains(&b' ') {
        assert_eq!(alert.verified, Some(true));
    }
}

fn any_coraza(part: &[u8]) {
    let alerts = alerts_coraza(part, b"ID");
    let mut at = 0;
    for alert in &alerts {
        let raw = alert.raw.as_bytes();
        check(alert, raw);
        let found = find(&part[at..], raw).expect("alerts stand in the part, in order");
        at += found + raw.len();
    }
}

fn find(part: &[u8], text: &[u8]) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    part.windows(text.len()).position(|window| window == text)
}

fn composed_coraza(text: &[u8]) {
    let messages: [&[u8]; 3] = fields(text);
    let mut part = Vec::new();
    for message in messages {
        let mut quoted = Vec::new();
        for byte in message {
            match byte {
                b'"' | b'\\' => quoted.extend([b'\\', *byte]),
                b'\n' => quoted.extend(b"\\n"),
                b' '..=b'~' => quoted.push(*byte),
                _ => quoted.extend(format!("\\x{byte:02x}").bytes()),
            }
        }
        part.extend(b"[client \"192.0.2.1\"] Coraza: Warning. ");
        part.extend(message);
        part.extend(b" [file \"/f\"] [line \"1\"] [id \"7\"] [rev \"\"] [msg \"");
        part.extend(quoted);
        part.extend(
            b"\"] [data \"\"] [severity \"critical\"] [ver \"\"] [maturity \"0\"] \
              [accuracy \"0\"] [hostname \"\"] [uri \"/a?b\"] [unique_id \"ID\"]\n",
        );
    }
    let alerts = alerts_coraza(&part, b"ID");
    let got: Vec<_> = alerts
        .iter()
        .map(|alert| alert.msg.as_ref().map_or(&b""[..], |msg| msg.as_bytes()))
        .collect();
    assert_eq!(got, messages);
    assert!(alerts.iter().all(|alert| alert.verified == Some(true)));
}

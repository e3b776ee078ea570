//! Documents that somebody broke, cut, or wrote with ill intent.

use std::fs;

use modsec_core::format::large::{Excerpts, Large};
use modsec_core::format::{self, Defect};
use modsec_core::record::{Flag, Header};
use modsec_core::serial_log::{InputState, Piece, Splitter};
use modsec_core::{Record, Text};
use proptest::prelude::*;
use serde_json::json;

use crate::DIALECTS;
use crate::coraza;

/// Real documents of all dialects that are small enough to be cut at every byte.
fn samples() -> Vec<Vec<u8>> {
    let mut samples: Vec<Vec<u8>> = DIALECTS
        .iter()
        .flat_map(|dialect| {
            let mut documents = dialect.documents();
            documents.retain(|document| document.bytes.len() < 6000);
            documents
                .into_iter()
                .step_by(16)
                .map(|document| document.bytes)
        })
        .collect();
    for name in ["intercepted.json", "legacy.json", "without-part-k.json"] {
        samples.push(fs::read(coraza::file(name)).unwrap());
    }
    samples
}

fn v2(inner: &str) -> String {
    format!(r#"{{"transaction":{{"transaction_id":"x","remote_address":"192.0.2.10"}},{inner}}}"#)
}

fn v3(inner: &str) -> String {
    format!(r#"{{"transaction":{{"client_ip":"192.0.2.10","time_stamp":"",{inner}}}}}"#)
}

fn decode(document: &str) -> Record<'_> {
    format::decode(document.as_bytes()).unwrap()
}

/// Tells whether `part` says nothing that `whole` does not say.
fn is_prefix(part: &Record<'_>, whole: &Record<'_>) -> bool {
    fn agrees<T: PartialEq>(part: Option<&T>, whole: Option<&T>) -> bool {
        part.is_none() || part == whole
    }
    let ids = |record: &Record<'_>| -> Vec<Text<'static>> {
        let alerts = record.alerts.iter();
        alerts.map(|alert| alert.raw.clone().into_owned()).collect()
    };
    let body = |part: &Record<'_>| part.request.body.as_ref().map_or(0, |body| body.len);
    agrees(part.time.as_ref(), whole.time.as_ref())
        && agrees(part.unique_id.as_ref(), whole.unique_id.as_ref())
        && agrees(part.request.method.as_ref(), whole.request.method.as_ref())
        && agrees(part.request.uri.as_ref(), whole.request.uri.as_ref())
        && agrees(
            part.request.protocol.as_ref(),
            whole.request.protocol.as_ref(),
        )
        && agrees(
            part.response.status.as_ref(),
            whole.response.status.as_ref(),
        )
        && agrees(part.engine.mode.as_ref(), whole.engine.mode.as_ref())
        && agrees(
            part.engine.intercepted_phase.as_ref(),
            whole.engine.intercepted_phase.as_ref(),
        )
        && agrees(part.interrupted.as_ref(), whole.interrupted.as_ref())
        && part
            .client
            .as_ref()
            .is_none_or(|part| part.text == whole.client.as_ref().unwrap().text)
        && whole.request.headers.starts_with(&part.request.headers)
        && whole.response.headers.starts_with(&part.response.headers)
        && ids(whole).starts_with(&ids(part))
        && body(part) <= body(whole)
}

#[test]
fn a_cut_document_says_what_stands_before_the_cut() {
    for document in samples() {
        let whole = format::decode(&document).unwrap();
        let end = document.trim_ascii_end().len();
        let mut decoded = 0;
        for cut in 0..end {
            let bytes = &document[..cut];
            assert!(!format::is_complete(bytes), "cut at {cut}");
            let Ok(record) = format::decode(bytes) else {
                assert!(cut < 60, "cut at {cut}");
                continue;
            };
            decoded += 1;
            assert!(record.flags.contains(Flag::Truncated), "cut at {cut}");
            assert!(is_prefix(&record, &whole), "cut at {cut}: {record:#?}");
        }
        assert!(decoded > 0);
    }
}

#[test]
fn a_document_that_was_torn_says_nothing_of_the_next() {
    for document in samples() {
        let whole = format::decode(&document).unwrap();
        for cut in (60..document.trim_ascii_end().len()).step_by(3) {
            let torn = [&document[..cut], b"\n", &document].concat();
            let record = format::decode(&torn).unwrap();
            assert!(record.flags.contains(Flag::Truncated), "cut at {cut}");
            assert!(is_prefix(&record, &whole), "cut at {cut}: {record:#?}");
        }
    }
}

#[test]
fn a_document_that_is_no_json_still_makes_a_record() {
    for (document, status) in [
        // libmodsecurity without a version from its connector.
        (
            v3(
                r#""request":{"method":"GET","http_version":,"uri":"/x"},"response":{"http_code":403}"#,
            ),
            Some(403),
        ),
        (v3(r#""response":{"http_code":"403"}"#), Some(403)),
        (v3(r#""response":{"http_code":1e9999}"#), None),
        (v3(r#""response":{"http_code":{"a":[403]}}"#), None),
        (v3(r#""response":{"http_code":403e}"#), None),
        (v2(r#""response":{"status":99999999999999999999999}"#), None),
        (
            v2(r#""response":{"status":"403","headers":[1,2],"body":{}}"#),
            Some(403),
        ),
        (v2(r#""response":{"status":999.5}"#), None),
        (
            v2(r#""audit_data":7,"request":"GET","response":{"status": 403 }"#),
            Some(403),
        ),
        (
            v2(r#""request":{"headers":null,"body":null},"response":{"status":403}"#),
            Some(403),
        ),
        (
            v2(r#""unknown":[{"status":1}],"response":{"status":403},"#),
            Some(403),
        ),
    ] {
        let record = decode(&document);
        assert_eq!(record.client.unwrap().text, "192.0.2.10", "{document}");
        assert_eq!(record.response.status, status, "{document}");
        assert!(!record.flags.contains(Flag::Truncated), "{document}");
    }
    let document = v3(r#""request":{"method":"GET","http_version":,"uri":"/x"}"#);
    let record = decode(&document);
    assert_eq!(record.request.uri.unwrap(), "/x");
    assert_eq!(record.request.protocol, None);
}

#[test]
fn numbers_and_strings_stand_for_each_other() {
    let document = v3(
        r#""client_port":"40112","request":{"http_version":"1.1","method":7},"messages":[{"message":1,"details":{"ruleId":942100,"lineNumber":12,"severity":2,"maturity":"7","tags":"one"}}]"#,
    );
    let record = decode(&document);
    assert_eq!(record.client.as_ref().unwrap().port, Some(40112));
    assert_eq!(record.request.protocol.as_ref().unwrap(), "HTTP/1.1");
    let alert = &record.alerts[0];
    assert_eq!(alert.rule_id.as_ref().unwrap(), "942100");
    assert_eq!(
        (alert.line, alert.severity.unwrap().number()),
        (Some(12), 2)
    );
    assert_eq!((alert.maturity, alert.tags.len()), (Some(7), 1));
}

#[test]
fn repeated_headers_are_all_kept_in_their_order() {
    let headers = r#"{"X-A":"1","x-a":"2","X-A":"3"}"#;
    for document in [
        v2(&format!(r#""request":{{"headers":{headers}}}"#)),
        v3(&format!(r#""request":{{"headers":{headers}}}"#)),
    ] {
        let record = decode(&document);
        let values: Vec<_> = record
            .request
            .headers
            .iter()
            .map(|h| h.value.to_string())
            .collect();
        assert_eq!(values, ["1", "2", "3"]);
        assert!(!record.flags.contains(Flag::Ambiguous));
    }
}

#[test]
fn a_field_given_twice_has_its_first_value_and_a_flag() {
    for document in [
        v2(r#""response":{"status":403,"status":200}"#),
        v2(r#""response":{"status":403},"response":{"status":200}"#),
        v2(r#""response":{"status":403},"transaction":{"remote_address":"192.0.2.66"}"#),
        v3(r#""response":{"http_code":403},"client_ip":"192.0.2.66""#),
    ] {
        let record = decode(&document);
        assert_eq!(record.response.status, Some(403), "{document}");
        assert_eq!(record.client.unwrap().text, "192.0.2.10", "{document}");
        assert!(record.flags.contains(Flag::Ambiguous), "{document}");
    }
}

#[test]
fn bytes_that_are_not_utf8_stay_as_they_are() {
    let document = br#"{"transaction":{"transaction_id":"x"},"request":{"headers":{"X-\xff":"\xc3(\x00\x7f"},"body":["\xff\\\xfe\u0000\ud800"]}}"#;
    let mut bytes = Vec::new();
    let mut rest = &document[..];
    while let Some((byte, behind)) = rest.split_first() {
        if let [b'x', high, low, ..] = behind
            && *byte == b'\\'
            && let Ok(value) = u8::from_str_radix(&String::from_utf8_lossy(&[*high, *low]), 16)
        {
            bytes.push(value);
            rest = &behind[3..];
        } else {
            bytes.push(*byte);
            rest = behind;
        }
    }
    let record = format::decode(&bytes).unwrap();
    let Header { name, value } = &record.request.headers[0];
    assert_eq!(name.as_bytes(), b"X-\xff");
    assert_eq!(value.as_bytes(), b"\xc3(\0\x7f");
    let body = record.request.body.as_ref().unwrap();
    assert_eq!(body.kept.as_bytes(), b"\xff\\\xfe\0\xef\xbf\xbd");
    assert!(record.flags.contains(Flag::NoPartH) && !record.flags.contains(Flag::Truncated));
}

#[test]
fn what_a_client_sends_sets_no_field_but_its_own() {
    let text = r#"x","status":200},"audit_data":{"messages":["[id \"1\"]"]},"response":{"status":200}}
{"transaction":{"transaction_id":"forged"}}
--3fa0c41b-H--
Message: [id "1"]"#;
    let document = json!({
        "transaction": {"transaction_id": "x", "remote_address": "192.0.2.10"},
        "request": {
            "request_line": format!("GET {text} HTTP/1.1"),
            "headers": {"status": "200", "messages": text, "audit_data": text, text: "1"},
            "body": [text, text],
        },
        "response": {"status": 403, "headers": {"body": text}, "body": text},
        "audit_data": {"messages": ["Warning. y [file \"/f\"] [line \"1\"] [id \"7\"]"]},
    })
    .to_string();
    let record = decode(&document);
    assert_eq!(record.response.status, Some(403));
    assert_eq!(record.unique_id.unwrap(), "x");
    assert_eq!(record.alerts.len(), 1);
    assert_eq!(record.alerts[0].rule_id.as_ref().unwrap(), "7");
    assert_eq!(record.request.headers.len(), 4);
    assert!(record.flags.is_empty());
    assert!(format::is_complete(document.as_bytes()));
}

#[test]
fn depth_and_size_cost_no_stack() {
    let deep = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    let braces = r#"{"a":"#.repeat(1 << 18) + "1" + &"}".repeat(1 << 18);
    for inner in [&deep, &braces] {
        let document = v2(&format!(
            r#""request":{inner},"x":{inner},"matched_rules":{inner},"response":{{"status":403}}"#
        ));
        assert_eq!(decode(&document).response.status, Some(403));
        let open = format!(r#"{{"transaction":{{"transaction_id":"x"}},"request":{inner}"#);
        assert!(decode(&open).flags.contains(Flag::Truncated));
    }
}

#[test]
fn marks_and_line_ends_around_a_document_do_no_harm() {
    let document = v2(r#""response":{"status":403},"audit_data":{"engine_mode":"ENABLED"}"#);
    for text in [
        format!("\u{feff}{document}\n"),
        format!("\u{feff}\r\n {document}\r\n"),
        document.replace(',', ",\r\n  "),
        document.replace(':', "\t:\n "),
    ] {
        let record = decode(&text);
        assert_eq!(record.response.status, Some(403), "{text:?}");
        assert!(record.flags.is_empty(), "{text:?}: {}", record.flags);
        assert!(format::is_complete(text.as_bytes()), "{text:?}");
    }
}

#[test]
fn entries_run_together_are_ambiguous_and_can_be_told_apart() {
    let (one, two) = (v2(r#""audit_data":{"server":"1"}"#), v3(r#""producer":{}"#));
    let both = format!("{one}\n{two}\n");
    let record = decode(&both);
    assert!(record.flags.contains(Flag::Ambiguous));
    assert_eq!(record.engine.server.unwrap(), "1");
    let mut splitter = Splitter::new(0, both.len());
    splitter.buffer().extend_from_slice(both.as_bytes());
    for document in [one, two] {
        match splitter.next(InputState::End) {
            Some(Piece::Entry { bytes, .. }) => {
                assert_eq!(bytes.trim_ascii_end(), document.as_bytes());
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_no_audit_log_is_a_defect() {
    for (text, want) in [
        (
            r#"{"error":"ModSecurity was not built with JSON support."}"#,
            "no transaction: libmodsecurity",
        ),
        ("{}", "not an audit log: JSON that starts with \"{}\""),
        (
            r#"{"a":{"transaction":{"time":1}}}"#,
            "not an audit log: JSON that",
        ),
        (r#"{"transaction":{"x":1}}"#, "not an audit log: JSON that"),
        ("{", "not an audit log: JSON that"),
        ("[{\"transaction\":{}}]", "not an audit log: line 1"),
    ] {
        let defect = format::decode(text.as_bytes()).unwrap_err();
        assert!(defect.to_string().starts_with(want), "{text}: {defect}");
        assert_eq!(format::detect(text.as_bytes()), None, "{text}");
    }
    let error = br#"{"error":"x"}"#;
    assert_eq!(format::decode(error), Err(Defect::BuiltWithoutJson));
}

fn in_windows(document: &[u8], size: usize) -> Option<Excerpts> {
    let mut large = Large::open(document.get(..Large::HEAD).unwrap_or(document)).ok()?;
    let (mut start, mut end) = (0, document.len().min(Large::OVERLAP + size));
    loop {
        large.scan(&document[start..end], start as u64, end == document.len());
        if end == document.len() {
            break;
        }
        start = end - Large::OVERLAP;
        end = document.len().min(end + size);
    }
    large.finish(|_| Err("a document is not read twice")).ok()
}

proptest! {
    #[test]
    fn any_bytes_behind_a_documents_start_are_decoded(
        start in prop::sample::select(vec![
            r#"{"transaction":{"time":"#,
            r#"{"transaction":{"client_ip":"192.0.2.10","#,
            r#"{"transaction":{"timestamp":"","#,
            r#"{"audit_data":{"messages":["#,
        ]),
        bytes in prop::collection::vec(
            prop_oneof![
                3 => prop::sample::select(br#"{}[]",:\ ue1-."#.to_vec()),
                1 => any::<u8>(),
            ],
            0..300,
        ),
        size in 1..50usize,
    ) {
        let document = [start.as_bytes(), &bytes].concat();
        let record = format::decode(&document).unwrap();
        let complete = format::is_complete(&document);
        prop_assert!(!complete || format::detect(&document).is_some());
        let excerpts = in_windows(&document, size).unwrap();
        let mut squeezed = excerpts.record();
        // What follows a broken document is not looked at in the same way.
        squeezed.flags = record.flags;
        prop_assert_eq!(squeezed, record);
    }

    #[test]
    fn a_real_document_with_a_few_odd_bytes_is_decoded(
        sample in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        size in 1..2000usize,
    ) {
        let samples = samples();
        let mut document = sample.get(&samples).clone();
        for (at, byte) in changes {
            let at = at.index(document.len());
            document[at] = byte;
        }
        let decoded = format::decode(&document);
        let excerpts = in_windows(&document, size);
        if let (Ok(mut record), Some(excerpts)) = (decoded, excerpts) {
            record.flags = excerpts.record().flags;
            prop_assert_eq!(excerpts.record(), record);
        }
    }

    #[test]
    fn what_an_encoder_writes_is_read_back(
        headers in prop::collection::vec((any::<String>(), any::<String>()), 0..8),
        body in prop::collection::vec(any::<String>(), 1..4),
        id in "\\PC{1,20}",
        status in 100..1000u16,
    ) {
        let pairs: Vec<String> = headers
            .iter()
            .map(|(name, value)| format!("{}:{}", json!(name), json!(value)))
            .collect();
        let document = v2(&format!(
            r#""request":{{"headers":{{{}}},"body":{}}},"response":{{"status":{status}}},"audit_data":{{"sensor_id":{}}}"#,
            pairs.join(","), json!(body), json!(id),
        ));
        let record = decode(&document);
        let got: Vec<(String, String)> = record
            .request
            .headers
            .iter()
            .map(|header| (header.name.to_string(), header.value.to_string()))
            .collect();
        prop_assert_eq!(got, headers);
        prop_assert_eq!(record.request.body.unwrap().kept.to_string(), body.concat());
        prop_assert_eq!(record.engine.sensor_id.unwrap().to_string(), id);
        prop_assert_eq!(record.response.status, Some(status));
        prop_assert!(record.flags.is_empty());
    }
}

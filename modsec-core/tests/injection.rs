//! What a client puts into bodies, headers, argument names and the request line never becomes a
//! finding of the engine.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "injection/coraza.rs"]
mod coraza;
#[path = "injection/engine_lines.rs"]
mod engine_lines;
#[path = "injection/v3.rs"]
mod v3;

use modsec_core::record::{EngineMode, Flag};
use modsec_core::{Record, format};

/// An entry with the given request headers, body (part C), response body (part E) and alerts.
struct Entry {
    headers: String,
    body: Option<String>,
    response: Option<String>,
    parts_behind: &'static str,
}

const FORGED: &str = "x\n--6ce10769-F--\nHTTP/1.1 200 OK\n\n--6ce10769-H--\nMessage: Access denied with code 403 (phase 1). [id \"666\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 99)\"] [severity \"EMERGENCY\"]\nAction: Intercepted (phase 1)\nEngine-Mode: \"DISABLED\"\n";

const GENUINE_F: &str = "--6ce10769-F--\nHTTP/1.1 403 Forbidden\nContent-Type: text/html\n\n";
const GENUINE_H: &str = "--6ce10769-H--\nMessage: Warning. Pattern match \"'\" at ARGS:id. [file \"/f\"] [line \"1\"] [id \"942100\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 5)\"] [severity \"CRITICAL\"]\nAction: Intercepted (phase 2)\nEngine-Mode: \"ENABLED\"\n\n";
const GENUINE_K: &str =
    "--6ce10769-K--\nSecRule \"ARGS\" \"@rx '\" \"phase:2,deny,id:942100\"\n\n\n";

impl Entry {
    fn bytes(&self) -> Vec<u8> {
        let mut out = format!(
            "--6ce10769-A--\n[22/Nov/2026:14:38:15.029491 +0300] awLUJ2NZ 192.0.2.7 53511 198.51.100.1 80\n--6ce10769-B--\nPOST /x HTTP/1.1\nHost: www.example.test\n{}\n",
            self.headers
        );
        if let Some(body) = &self.body {
            out = out + "--6ce10769-C--\n" + body + "\n";
        }
        for part in self.parts_behind.chars() {
            match part {
                'F' => out += GENUINE_F,
                'E' => {
                    let body = self.response.as_deref().unwrap_or("ok");
                    out = out + "--6ce10769-E--\n" + body + "\n";
                }
                'H' => out += GENUINE_H,
                'K' => out += GENUINE_K,
                _ => out += "--6ce10769-Z--\n",
            }
        }
        out.into_bytes()
    }
}

fn honest(body: &str) -> String {
    format!("Content-Length: {}\n", body.len())
}

fn assert_genuine(record: &Record<'_>, what: &str) {
    assert_eq!(record.alerts.len(), 1, "{what}");
    assert_eq!(
        record.alerts[0].rule_id.as_ref().unwrap(),
        "942100",
        "{what}"
    );
    assert_eq!(record.engine.mode, Some(EngineMode::Enabled), "{what}");
    assert_eq!(record.engine.intercepted_phase, Some(2), "{what}");
    assert_eq!(record.scores.inbound, Some(5), "{what}");
    assert_eq!(record.client.as_ref().unwrap().text, "192.0.2.7", "{what}");
    assert_eq!(record.request.method.as_ref().unwrap(), "POST", "{what}");
}

#[test]
fn delimiters_in_a_body_change_nothing_but_the_flag() {
    let z = format!("{FORGED}\n--6ce10769-Z--\n");
    let two = format!(
        "{z}--6ce10769-A--\n[01/Jan/2000:00:00:00 +0000] x 203.0.113.9 1 1.1.1.1 1\n--6ce10769-Z--\n"
    );
    let tail = "x\n--6ce10769-H--\nMessage: [id \"666\"]\n\n--6ce10769-J--\n\n--6ce10769-K--\nSecAction \"id:666\"\n\n--6ce10769-Z--\n".to_owned();
    for body in [
        FORGED.to_owned(),
        z,
        two,
        tail,
        "--6ce10769-Z--\nx".to_owned(),
    ] {
        let entry = Entry {
            headers: honest(&body),
            body: Some(body.clone()),
            response: None,
            parts_behind: "FEHKZ",
        };
        let bytes = entry.bytes();
        let record = format::decode(&bytes).unwrap();
        assert_genuine(&record, &body);
        assert_eq!(record.response.status, Some(403), "body {body:?}");
        assert!(record.flags.contains(Flag::Ambiguous), "body {body:?}");
        assert_eq!(
            record.request.body.as_ref().unwrap().kept,
            *body,
            "body {body:?}"
        );

        // Without a length, F is one of two: the status is unknown, the findings are not.
        let chunked = Entry {
            headers: "Transfer-Encoding: chunked\n".into(),
            ..entry
        };
        let bytes = chunked.bytes();
        let record = format::decode(&bytes).unwrap();
        assert_genuine(&record, &body);
        assert!(
            [None, Some(403)].contains(&record.response.status),
            "body {body:?}"
        );
    }
}

#[test]
fn a_line_that_the_genuine_delimiter_closes_hides_nothing() {
    for letter in "BCDEFGHIJKZ".chars() {
        let end = format!("\n--6ce10769-{letter}--");
        // At the end of the request's body, with and without its length.
        let body = format!("{FORGED}{end}");
        for (headers, status) in [
            (honest(&body), Some(403)),
            ("Transfer-Encoding: chunked\n".to_owned(), None),
        ] {
            let entry = Entry {
                headers,
                body: Some(body.clone()),
                response: None,
                parts_behind: "FEHKZ",
            };
            let bytes = entry.bytes();
            let record = format::decode(&bytes).unwrap();
            assert_genuine(&record, &letter.to_string());
            assert_eq!(record.response.status, status, "{letter}");
            assert!(record.flags.contains(Flag::Ambiguous), "{letter}");
        }
        // At the end of a response that reflects it, before H and before Z.
        for parts_behind in ["FEHKZ", "FEHZ"] {
            let entry = Entry {
                headers: String::new(),
                body: None,
                response: Some(body.clone()),
                parts_behind,
            };
            let bytes = entry.bytes();
            let record = format::decode(&bytes).unwrap();
            assert_genuine(&record, &letter.to_string());
            assert_eq!(record.response.status, Some(403), "{letter}");
            assert!(record.flags.contains(Flag::Ambiguous), "{letter}");
        }
    }
}

#[test]
fn delimiters_of_another_boundary_do_not_even_set_the_flag() {
    let body = FORGED.replace("6ce10769", "00000000");
    let entry = Entry {
        headers: honest(&body),
        body: Some(body),
        response: None,
        parts_behind: "FEHKZ",
    };
    let bytes = entry.bytes();
    let record = format::decode(&bytes).unwrap();
    assert_genuine(&record, "foreign boundary");
    assert_eq!(record.response.status, Some(403));
    assert!(record.flags.is_empty());
}

#[test]
fn a_response_that_reflects_delimiters_changes_nothing_but_the_flag() {
    let entry = Entry {
        headers: String::new(),
        body: None,
        response: Some(format!("{FORGED}\n--6ce10769-Z--\n")),
        parts_behind: "FEHKZ",
    };
    let bytes = entry.bytes();
    let record = format::decode(&bytes).unwrap();
    assert_genuine(&record, "reflected");
    assert_eq!(record.response.status, Some(403));
    assert!(record.flags.contains(Flag::Ambiguous));
}

#[test]
fn a_request_line_may_be_a_delimiter() {
    for letter in ['H', 'Z', 'F', 'C'] {
        let entry = Entry {
            headers: String::new(),
            body: None,
            response: None,
            parts_behind: "FEHKZ",
        };
        let line = format!("--6ce10769-{letter}--");
        let bytes = String::from_utf8(entry.bytes())
            .unwrap()
            .replace("POST /x HTTP/1.1", &line);
        let record = format::decode(bytes.as_bytes()).unwrap();
        assert_eq!(record.request.line.as_ref().unwrap(), line.as_str());
        assert_eq!(record.request.header("Host").unwrap(), "www.example.test");
        assert_eq!(record.response.status, Some(403), "letter {letter}");
        assert_eq!(
            record.alerts[0].rule_id.as_ref().unwrap(),
            "942100",
            "letter {letter}"
        );
        assert!(record.flags.contains(Flag::Ambiguous));
    }
}

#[test]
fn an_entry_cut_anywhere_is_right_or_silent() {
    let body = format!("{FORGED}\n--6ce10769-Z--\n");
    for headers in [honest(&body), "Transfer-Encoding: chunked\n".to_owned()] {
        let entry = Entry {
            headers,
            body: Some(body.clone()),
            response: Some(FORGED.to_owned()),
            parts_behind: "FEHKZ",
        };
        let bytes = entry.bytes();
        for end in 15..bytes.len() - 2 {
            let record = format::decode(&bytes[..end]).unwrap();
            let forged_z = bytes[..end].ends_with(b"\n--6ce10769-Z--\n")
                || bytes[..end].ends_with(b"\n--6ce10769-Z--")
                || bytes[..end].ends_with(b"\n--6ce10769-Z--\n\n");
            if forged_z {
                // Indistinguishable from an entry of a server that logs no more parts.
                continue;
            }
            assert!(record.flags.contains(Flag::Truncated), "cut at {end}");
            for alert in &record.alerts {
                assert!(
                    alert.rule_id.is_none() || alert.rule_id.as_ref().unwrap() == "942100",
                    "cut at {end}"
                );
            }
            assert_ne!(record.response.status, Some(200), "cut at {end}");
            assert_ne!(
                record.engine.mode,
                Some(EngineMode::Disabled),
                "cut at {end}"
            );
            assert_ne!(record.scores.inbound, Some(99), "cut at {end}");
            if let Some(client) = &record.client {
                assert_eq!(client.text, "192.0.2.7", "cut at {end}");
            }
        }
    }
}

#[test]
fn without_part_h_in_the_configuration_a_forged_one_is_not_trusted() {
    // The server logs A, B, C and Z only; the body brings F and H.
    let body = FORGED.to_owned();
    let entry = Entry {
        headers: honest(&body),
        body: Some(body),
        response: None,
        parts_behind: "Z",
    };
    let bytes = entry.bytes();
    let record = format::decode(&bytes).unwrap();
    assert!(record.flags.contains(Flag::Ambiguous) && record.flags.contains(Flag::Unverified));
    assert_eq!(record.response.status, None);
    assert_eq!(record.scores.inbound, None);
    assert!(
        record
            .alerts
            .iter()
            .all(|alert| alert.verified == Some(false))
    );
}

const BY_HAND: &str = r#"--f3c9d4c6-B--
GET /some/resource HTTP/1.1
Host: example.com
User-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/87.0.4280.88 Safari/537.36
--f3c9d4c6-A--
192.168.1.10
[id "944"] [msg "Cross-site scripting attempt blocked"] [data "javascript:alert('malicious');"] [severity "WARNING"] [maturity "4"] [accuracy "4"]
--f3c9d4c6-F--
HTTP/1.1 403 Forbidden
"#;

#[test]
fn an_entry_written_by_hand_is_read_and_flagged() {
    for text in [BY_HAND, BY_HAND.trim_end()] {
        let record = format::decode(text.as_bytes()).unwrap();
        assert_eq!(record.request.method.as_ref().unwrap(), "GET");
        assert_eq!(record.request.uri.as_ref().unwrap(), "/some/resource");
        assert_eq!(record.request.header("host").unwrap(), "example.com");
        assert_eq!(record.client.as_ref().unwrap().text, "192.168.1.10");
        let alert = &record.alerts[0];
        assert_eq!(alert.rule_id.as_ref().unwrap(), "944");
        assert_eq!(
            alert.msg.as_ref().unwrap(),
            "Cross-site scripting attempt blocked"
        );
        assert_eq!(
            alert.data.as_ref().unwrap(),
            "javascript:alert('malicious');"
        );
        assert_eq!(alert.severity.unwrap().name(), "WARNING");
        assert_eq!((alert.maturity, alert.accuracy), (Some(4), Some(4)));
        assert_eq!(
            record.response.status_line.as_ref().unwrap(),
            "HTTP/1.1 403 Forbidden"
        );
        assert_eq!(record.response.status, Some(403));
        assert!(record.flags.contains(Flag::OutOfOrder));
    }
}

#[test]
fn a_genuine_entry_gets_none_of_the_leniency() {
    // Metadata and a bare address in part A mean nothing once A comes first.
    let entry = "--f3c9d4c6-A--\n192.168.1.10\n[id \"944\"] [msg \"x\"]\n--f3c9d4c6-B--\nGET / HTTP/1.1\n\n--f3c9d4c6-Z--\n";
    let record = format::decode(entry.as_bytes()).unwrap();
    assert_eq!((record.client, record.alerts.len()), (None, 0));
    assert!(!record.flags.contains(Flag::OutOfOrder));
}

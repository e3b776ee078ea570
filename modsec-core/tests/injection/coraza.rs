//! Entries of Coraza.

use modsec_core::format::native::Entry as Parsed;
use modsec_core::record::{AlertAction, Flag};
use modsec_core::{Record, format};

const ID: &str = "QxaLmbRtcdQxaLmbRtc";

const FORGED: &str = "x\n\n--QxaLmbRtcd-F--\nHTTP/1.1 200 OK\n\n--QxaLmbRtcd-H--\n[client \"192.0.2.7\"] Coraza: Access denied (phase 1). fake [file \"/f\"] [line \"1\"] [id \"666\"] [rev \"\"] [msg \"fake\"] [data \"\"] [severity \"alert\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [hostname \"\"] [uri \"/\"] [unique_id \"QxaLmbRtcdQxaLmbRtc\"]\n";

/// A value as Go quotes it.
fn quoted(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", value.replace('\n', "\\n").replace('\r', "\\r"))
}

fn alert(words: &str, id: &str, message: &str) -> String {
    format!(
        "[client \"192.0.2.7\"] Coraza: {words} {message} [file \"/f\"] [line \"1\"] [id \"{id}\"] [rev \"\"] [msg {}] [data \"\"] [severity \"critical\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [tag \"t\"] [hostname \"\"] [uri \"/\"] [unique_id \"{ID}\"]\n",
        quoted(message)
    )
}

fn denied() -> String {
    alert(
        "Access denied (phase 2).",
        "949110",
        "Inbound Anomaly Score Exceeded (Total Score: 5)",
    )
}

/// An entry with parts in the order given.
fn entry(parts: &str, headers: &str, body: &str, response: &str, alerts: &str) -> String {
    let part = |letter: char| {
        let content = match letter {
            'A' => {
                return format!(
                    "--QxaLmbRtcd-A--\n[2024/02/03 10:11:12] {ID} 192.0.2.7 40112 198.51.100.4 80\n"
                );
            }
            'B' => format!("POST / HTTP/1.1\nHost: shop.example\n{headers}"),
            'C' if !body.is_empty() => format!("{body}\n"),
            'E' if !response.is_empty() => format!("{response}\n"),
            'F' => "HTTP/1.1 403 Forbidden\nServer: x\n".to_owned(),
            'H' => alerts.to_owned(),
            _ => String::new(),
        };
        format!("--QxaLmbRtcd-{letter}--\n{content}\n")
    };
    parts.chars().map(part).collect()
}

#[test]
fn parts_are_what_was_written_in_any_order() {
    for parts in ["ABCEFHZ", "ABIJDEFHZ", "AZ", "AKHFECBZ", "BCFH", "ABCZ"] {
        for body in ["", "id=1", "\n", "a\n\n", "\r\n"] {
            let length = format!("Content-Length: {}\n", body.len());
            let text = entry(parts, &length, body, body, &denied());
            let parsed = Parsed::parse(text.as_bytes()).unwrap();
            assert!(parsed.flags().is_empty(), "{parts} {body:?}");
            for (part, letter) in parsed.parts().zip(parts.chars()) {
                assert_eq!(part.letter, letter, "{parts} {body:?}");
                let want = match letter {
                    'C' | 'E' => body.to_owned(),
                    'H' => denied(),
                    'D' | 'I' | 'J' | 'K' | 'Z' => String::new(),
                    _ => continue,
                };
                assert_eq!(part.content, want.as_bytes(), "{parts} {body:?}");
            }
        }
    }
}

fn forged_bodies() -> Vec<String> {
    let z = format!("{FORGED}\n--QxaLmbRtcd-Z--\n\n");
    let all: Vec<String> = ('A'..='Z')
        .map(|letter| format!("\n\n--QxaLmbRtcd-{letter}--\nx\n"))
        .collect();
    let all = all.concat();
    vec![FORGED.to_owned(), z, all.clone(), all.repeat(200)]
}

const ORDERS: [&str; 5] = ["ABCFHZ", "ABCEFHKZ", "ABIJDCEFHZ", "ABHCFZ", "ABFHKCZ"];

#[test]
fn delimiters_in_a_body_of_known_length_change_nothing_but_the_flag() {
    for parts in ORDERS.into_iter().filter(|parts| parts.contains("BC")) {
        for body in forged_bodies() {
            let length = format!("Content-Length: {}\n", body.len());
            let clean = entry(parts, &length, "a", "ok", &denied());
            let forged = entry(parts, &length, &body, "ok", &denied());
            let mut want = format::decode(clean.as_bytes()).unwrap();
            let mut got = format::decode(forged.as_bytes()).unwrap();
            assert!(got.flags.contains(Flag::Ambiguous), "{parts} {body:.60}");
            got.flags.remove(Flag::Ambiguous);
            assert_eq!(
                got.request.body.take().unwrap().len,
                body.len() as u64,
                "{parts}"
            );
            want.request.body = None;
            assert_eq!(got, want, "{parts} {body:.60}");
            assert_eq!(got.alerts[0].verified, Some(true));
        }
    }
}

fn assert_right_or_silent(record: &Record<'_>, what: &str) {
    let status = record.response.status;
    assert!(status.is_none() || status == Some(403), "{what}");
    for alert in record.alerts.iter().filter(|alert| alert.is_trusted()) {
        assert_eq!(alert.rule_id.as_ref().unwrap(), "949110", "{what}");
    }
    if let Some(client) = &record.client {
        assert_eq!(client.text, "192.0.2.7", "{what}");
    }
    if let Some(uri) = &record.request.uri {
        assert_eq!(*uri, "/", "{what}");
    }
}

#[test]
fn delimiters_in_any_raw_content_are_right_or_silent() {
    for parts in ORDERS {
        for forged in forged_bodies() {
            let chunked = "Transfer-Encoding: chunked\n";
            for text in [
                entry(parts, chunked, &forged, "ok", &denied()),
                entry(parts, chunked, "a", &forged, &denied()),
                entry(parts, chunked, &forged, &forged, &denied()),
            ] {
                if text.contains(&forged) {
                    let record = format::decode(text.as_bytes()).unwrap();
                    assert!(record.flags.contains(Flag::Ambiguous), "{text:.800}");
                    assert_right_or_silent(&record, &text);
                }
            }
            let other = forged.replace("QxaLmbRtcd-", "QxaLmbRtce-");
            let text = entry("ABCEFHZ", chunked, &other, &other, &denied());
            let record = format::decode(text.as_bytes()).unwrap();
            assert!(record.flags.is_empty(), "{:?}", record.flags);
        }
    }
}

#[test]
fn an_entry_cut_anywhere_is_right_or_silent() {
    for body in ["", FORGED] {
        for headers in [format!("Content-Length: {}\n", body.len()), String::new()] {
            let text = entry("ABCFHZ", &headers, body, "", &denied());
            let z = text.rfind("--QxaLmbRtcd-Z--").unwrap();
            for end in 16..z + 16 {
                let record = format::decode(&text.as_bytes()[..end]).unwrap();
                assert!(record.flags.contains(Flag::Truncated), "cut at {end}");
                assert_right_or_silent(&record, &format!("cut at {end}"));
            }
        }
    }
}

#[test]
fn the_text_of_a_message_never_passes_for_an_alert() {
    let whole = alert("Access denied (phase 1).", "666", "fake");
    let mut forgeries = vec![
        whole.clone(),
        format!("x\n{whole}"),
        format!("x\n{whole}\n{whole}y"),
        format!("x\n{whole}[client \"192.0.2.7\"] Coraza: Warning. "),
        "x\n[client \"192.0.2.7\"] Coraza: Warning. y".to_owned(),
        " [file \"".to_owned(),
        "x [file ".to_owned(),
        "\n".to_owned(),
        "\n\n[client \"".to_owned(),
        "\\\" [msg \"".to_owned(),
    ];
    forgeries.extend(
        (1..whole.len())
            .step_by(5)
            .map(|end| format!("x\n{}", &whole[..end])),
    );
    forgeries.extend(
        (1..whole.len())
            .step_by(5)
            .map(|start| whole[start..].to_owned()),
    );
    for message in forgeries {
        let alerts = alert("Warning.", "1001", &message)
            + &denied()
            + &alert("Access allowed (phase 2).", "1002", &message);
        for parts in ["ABCFHZ", "BCFH"] {
            let text = entry(parts, "", "", "", &alerts);
            let record = format::decode(text.as_bytes()).unwrap();
            let ids: Vec<_> = record
                .alerts
                .iter()
                .map(|alert| {
                    (
                        alert.rule_id.clone().unwrap().to_string(),
                        alert.action,
                        alert.phase,
                    )
                })
                .collect();
            let want = [
                ("1001", AlertAction::Warning, None),
                ("949110", AlertAction::Denied, Some(2)),
                ("1002", AlertAction::Allowed, Some(2)),
            ]
            .map(|(id, action, phase)| (id.to_owned(), Some(action), phase));
            assert_eq!(ids, want, "{message}");
            let verified = parts.starts_with('A').then_some(true);
            assert!(record.alerts.iter().all(|alert| alert.verified == verified));
            assert_eq!(record.alerts[0].msg.as_ref().unwrap(), &*message);
            assert_eq!(record.scores.inbound, Some(5));
        }
    }
}

#[test]
fn a_value_that_ends_like_the_beginning_of_metadata_hides_nothing() {
    let alerts = denied() + &denied();
    for (from, value) in [
        ("[data \"\"]", "[data \"Matched Data: x [file \"]"),
        ("[tag \"t\"]", "[tag \"t [file \"] [tag \" [file \"]"),
        ("[uri \"/\"]", "[uri \"/ [file \"]"),
        ("[uri \"/\"]", "[uri \"/ [file \\\" [file \"]"),
    ] {
        let text = entry("ABFHZ", "", "", "", &alerts.replace(from, value));
        let record = format::decode(text.as_bytes()).unwrap();
        assert_eq!(record.alerts.len(), 2, "{value}");
        for alert in &record.alerts {
            assert_eq!(alert.rule_id.as_ref().unwrap(), "949110", "{value}");
            assert_eq!(alert.verified, Some(true), "{value}");
        }
        assert_eq!(record.scores.inbound, Some(5), "{value}");
    }
}

#[test]
fn an_alert_of_another_transaction_is_not_trusted() {
    for (what, line) in [
        ("id", denied().replace(ID, "QxaLmbRtcdQxaLmbRtd")),
        ("msg", denied().replacen("[msg \"I", "[msg \"i", 1)),
        ("tag cut off", denied().replace("] [hostname", " [hostname")),
        (
            "beginning",
            denied().replacen("[client \"", "x[client \"", 1),
        ),
        (
            "words",
            denied().replace("Access denied", "Access whatever"),
        ),
    ] {
        let text = entry("ABCFHZ", "", "", "", &line);
        let record = format::decode(text.as_bytes()).unwrap();
        assert!(
            record.flags.contains(Flag::Unverified) || what == "tag cut off",
            "{what}"
        );
        assert_eq!(record.scores.inbound, None, "{what}");
    }
}

//! Entries of libmodsecurity.

use modsec_core::format::native::Entry as Parsed;
use modsec_core::record::{AlertAction, Flag, Severity};
use modsec_core::{Record, format};

const ID: &str = "170695147212.345678";
const PATH: &str = "/item";

const FORGED: &str = "x\n\n---Qx7Lm2Rt---F--\nHTTP/1.1 200\n\n---Qx7Lm2Rt---H--\nModSecurity: Access denied with code 403 (phase 1). [file \"/f\"] [line \"1\"] [id \"666\"] [rev \"\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 99)\"] [data \"\"] [severity \"1\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [hostname \"h\"] [uri \"/item\"] [unique_id \"1\"] [ref \"\"]\n";

/// What the server writes of one alert: the words in front of the tags, host and URI.
fn alert(words: &str, host: &str, uri: &str) -> String {
    format!(
        "ModSecurity: {words} [file \"/etc/waf.conf\"] [line \"12\"] [id \"942100\"] [rev \"\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 5)\"] [data \"\"] [severity \"2\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [tag \"attack-sqli\"] [hostname \"{host}\"] [uri \"{uri}\"] [unique_id \"{ID}\"] [ref \"o1,1v12,2\"]\n"
    )
}

fn denied() -> String {
    let words = "Access denied with code 403 (phase 2). Matched \"Operator `Rx' with parameter `'' against variable `ARGS:id' (Value: `1'' )";
    alert(words, "shop.example", PATH)
}

/// An entry with the given parts, as the server writes them.
struct Entry<'a> {
    parts: &'a str,
    uri: &'a str,
    headers: String,
    body: &'a str,
    alerts: String,
}

impl Default for Entry<'_> {
    fn default() -> Self {
        Entry {
            parts: "ABCDEFGHIJKZ",
            uri: PATH,
            headers: String::new(),
            body: "",
            alerts: denied(),
        }
    }
}

impl Entry<'_> {
    fn text(&self) -> String {
        let mut out = String::new();
        for letter in "ABCDEFGHIJKZ".chars() {
            let configured = self.parts.contains(letter);
            if configured && (letter != 'C' || !self.body.is_empty()) {
                out = out + "---Qx7Lm2Rt---" + &letter.to_string() + "--\n" + &self.content(letter);
            }
            // The engine ends part F even if it does not write it.
            if letter == 'F' || (configured && (letter != 'A' && letter != 'C' && letter != 'E')) {
                out += if letter == 'F' || configured {
                    "\n"
                } else {
                    ""
                };
            }
        }
        out
    }

    fn content(&self, letter: char) -> String {
        match letter {
            'A' => {
                format!("[03/Feb/2024:10:11:12 -0330] {ID} 192.0.2.7 40112 198.51.100.4 443\n")
            }
            'B' => format!(
                "POST {} HTTP/2.0\nhost: shop.example\n{}",
                self.uri, self.headers
            ),
            'C' => format!("{}\n\n", self.body),
            'E' => "<p>no</p>\\x0a\n\n".to_owned(),
            'F' => "HTTP/2.0 403\nServer: nginx\n".to_owned(),
            'H' => self.alerts.clone(),
            _ => String::new(),
        }
    }
}

#[test]
fn parts_are_what_was_written_whatever_is_configured() {
    let letters = "BCDEFGHIJK";
    for set in 0..1 << letters.len() {
        let chosen = letters.chars().enumerate();
        let chosen = chosen.filter(|(n, _)| set >> n & 1 == 1);
        let parts: String = chosen.map(|(_, letter)| letter).collect();
        let parts = format!("A{parts}Z");
        for body in ["id=1", "\n", "a\n", "\r\n\r\n", "\n\n\n\n", "\0\u{ff}"] {
            let entry = Entry {
                headers: length_of(body),
                parts: &parts,
                body,
                ..Entry::default()
            };
            let text = entry.text();
            let parsed = Parsed::parse(text.as_bytes()).unwrap();
            let got: Vec<_> = parsed
                .parts()
                .map(|part| (part.letter, part.content.escape_ascii().to_string()))
                .collect();
            let want = parts.chars().map(|letter| {
                let content = match letter {
                    'C' => body.to_owned(),
                    'A' | 'E' => entry.content(letter).trim_end_matches('\n').to_owned(),
                    _ => entry.content(letter),
                };
                (letter, content.as_bytes().escape_ascii().to_string())
            });
            assert_eq!(got, want.collect::<Vec<_>>(), "{parts} {body:?}");
            assert!(parsed.flags().is_empty(), "{parts} {body:?}");
        }
    }
}

fn length_of(body: &str) -> String {
    format!("content-length: {}\n", body.len())
}

/// Bodies with delimiters of the entry's own boundary.
fn forged_bodies() -> Vec<String> {
    let z = format!("{FORGED}\n---Qx7Lm2Rt---Z--\n\n");
    let two = format!(
        "{z}---Qx7Lm2Rt---A--\n[01/Jan/2000:00:00:00 +0000] 1 203.0.113.9 1 1.1.1.1 1\n---Qx7Lm2Rt---B--\nGET /forged HTTP/1.1\nhost: evil.example\n\n---Qx7Lm2Rt---Z--\n\n"
    );
    let all: Vec<String> = ('A'..='Z')
        .map(|letter| format!("\n\n---Qx7Lm2Rt---{letter}--\nx\n"))
        .collect();
    let all = all.concat();
    let mut bodies = vec![
        FORGED.to_owned(),
        z,
        two,
        all.clone(),
        all.repeat(200),
        format!("{FORGED}\n\n\n"),
        "---Qx7Lm2Rt---H--".to_owned(),
        "\n---Qx7Lm2Rt---C--\n".to_owned(),
    ];
    bodies.extend(('A'..='Z').map(|letter| format!("x\n\n---Qx7Lm2Rt---{letter}--\nGET / y\n")));
    bodies
}

/// The record without what the body itself is.
fn without_body<'a>(record: &Record<'a>) -> Record<'a> {
    let mut record = record.clone();
    record.request.body = None;
    record.request.headers.clear();
    record.flags.remove(Flag::Ambiguous);
    record
}

#[test]
fn delimiters_in_a_body_change_nothing_but_the_flag() {
    for parts in [
        "ABCFHZ",
        "ABCDEFGHIJKZ",
        "ABCDEFHZ",
        "ABIJDEFHZC",
        "ABCEFHJKZ",
    ] {
        for body in forged_bodies() {
            for headers in [length_of(&body), "transfer-encoding: chunked\n".to_owned()] {
                let chunked = headers.starts_with('t');
                let clean = Entry {
                    parts,
                    headers,
                    body: "a",
                    ..Entry::default()
                };
                let forged = Entry {
                    body: &body,
                    headers: clean.headers.clone(),
                    parts,
                    ..Entry::default()
                };
                let (clean, forged) = (clean.text(), forged.text());
                let (mut want, mut got) = (
                    format::decode(clean.as_bytes()).unwrap(),
                    format::decode(forged.as_bytes()).unwrap(),
                );
                let what = format!("{parts} {chunked} {body:.60}");
                // An E that nothing contradicts may be the server's.
                let plausible = chunked && body.starts_with("x\n\n---Qx7Lm2Rt---E");
                assert!(got.flags.contains(Flag::Ambiguous) || plausible, "{what}");
                assert!(format::is_complete(forged.as_bytes()));
                if chunked {
                    // Nothing tells where C ends and E, which has no fields, begins.
                    want.response.body = None;
                    got.response.body = None;
                } else {
                    let kept = got.request.body.as_ref().unwrap();
                    assert_eq!(kept.len, body.len() as u64, "{what}");
                    assert!(body.as_bytes().starts_with(kept.kept.as_bytes()), "{what}");
                }
                assert_eq!(without_body(&got), without_body(&want), "{what}");
                assert_eq!(got.alerts[0].verified, Some(true), "{what}");
                assert_eq!(got.response.status, Some(403), "{what}");
            }
        }
    }
}

#[test]
fn delimiters_of_another_boundary_do_not_even_set_the_flag() {
    for boundary in ["Qx7Lm2Ru", "qx7Lm2Rt", "6ce10769"] {
        let body = FORGED.replace("Qx7Lm2Rt", boundary);
        let entry = Entry {
            headers: length_of(&body),
            body: &body,
            ..Entry::default()
        };
        let text = entry.text();
        let record = format::decode(text.as_bytes()).unwrap();
        assert!(record.flags.is_empty(), "{boundary}: {:?}", record.flags);
        assert_eq!(record.request.body.unwrap().kept, *body);
    }
}

#[test]
fn parts_that_are_not_configured_are_not_taken_from_the_body() {
    for (parts, headers) in [
        ("ABCHZ", "content-length: #\n"),
        ("ABCHZ", "transfer-encoding: chunked\n"),
        ("ABCZ", "content-length: #\n"),
        ("ABCZ", "transfer-encoding: chunked\n"),
        ("ABCFZ", "transfer-encoding: chunked\n"),
        ("ABCIKZ", "transfer-encoding: chunked\n"),
    ] {
        for body in [
            FORGED.to_owned(),
            format!("{FORGED}\n\n---Qx7Lm2Rt---K--\n"),
        ] {
            let headers = headers.replace('#', &body.len().to_string());
            let entry = Entry {
                parts,
                headers,
                body: &body,
                ..Entry::default()
            };
            let text = entry.text();
            let record = format::decode(text.as_bytes()).unwrap();
            let what = format!("{parts} {}", entry.headers);
            assert!(record.flags.contains(Flag::Ambiguous), "{what}");
            let status = parts.contains('F').then_some(403);
            assert_eq!(record.response.status, status, "{what}");
            let trusted: Vec<_> = record.alerts.iter().filter(|it| it.is_trusted()).collect();
            assert_eq!(trusted.len(), usize::from(parts.contains('H')), "{what}");
            assert!(record.scores.inbound != Some(99), "{what}");
        }
    }
}

#[test]
fn an_entry_cut_anywhere_is_right_or_silent() {
    let body = FORGED.to_owned();
    for headers in [length_of(&body), String::new()] {
        let entry = Entry {
            headers,
            body: &body,
            ..Entry::default()
        };
        let text = entry.text();
        let z = text.rfind("---Qx7Lm2Rt---Z--").unwrap();
        for end in 18..z + 17 {
            let record = format::decode(&text.as_bytes()[..end]).unwrap();
            assert!(record.flags.contains(Flag::Truncated), "cut at {end}");
            for alert in record.alerts.iter().filter(|alert| alert.is_trusted()) {
                assert_eq!(alert.rule_id.as_ref().unwrap(), "942100", "cut at {end}");
            }
            assert_ne!(record.response.status, Some(200), "cut at {end}");
            if let Some(client) = &record.client {
                assert_eq!(client.text, "192.0.2.7", "cut at {end}");
            }
        }
    }
}

#[test]
fn of_two_entries_in_a_row_the_first_is_read() {
    let second = "---aaaaaaaa---A--\n[01/Jan/2000:00:00:00 +0000] 1 203.0.113.9 1 1.1.1.1 1\n---aaaaaaaa---B--\nGET /second HTTP/1.1\nhost: evil.example\n\n---aaaaaaaa---Z--\n\n";
    for second in [second.to_owned(), second.replace("aaaaaaaa", "Qx7Lm2Rt")] {
        for body in ["", "id=1"] {
            let entry = Entry {
                headers: length_of(body),
                body,
                ..Entry::default()
            };
            let text = entry.text() + &second;
            let record = format::decode(text.as_bytes()).unwrap();
            assert!(record.flags.contains(Flag::Ambiguous), "{body}");
            assert_eq!(record.client.unwrap().text, "192.0.2.7");
            assert_eq!(record.request.uri.unwrap(), PATH);
        }
    }
}

fn only_alert(uri: &str, line: String) -> (Record<'static>, String) {
    let entry = Entry {
        uri,
        alerts: line,
        ..Entry::default()
    };
    let text: &'static str = entry.text().leak();
    (format::decode(text.as_bytes()).unwrap(), text.to_owned())
}

/// Either the server's own values, or a warning.
fn assert_right_or_unverified(uri: &str, line: &str) -> bool {
    let (record, text) = only_alert(uri, line.to_owned());
    assert_eq!(record.alerts.len(), 1, "{text}");
    let alert = &record.alerts[0];
    let right = alert.rule_id.as_ref().is_some_and(|id| *id == "942100")
        && alert.severity == Some(Severity::Critical)
        && alert
            .msg
            .as_ref()
            .is_some_and(|msg| *msg == "Inbound Anomaly Score Exceeded (Total Score: 5)")
        && alert.tags == ["attack-sqli"]
        && alert.action == Some(AlertAction::Warning)
        && alert.phase.is_none();
    assert!(right || alert.verified == Some(false), "{line}\n{alert:#?}");
    assert_eq!(
        record.flags.contains(Flag::Unverified),
        alert.verified == Some(false)
    );
    alert.verified == Some(true)
}

const RUN: &str = " [file \"/f\"] [line \"1\"] [id \"1\"] [rev \"\"] [msg \"fake\"] [data \"\"] [severity \"7\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"]";

fn forgeries() -> Vec<String> {
    let tail = format!(" [hostname \"h\"] [uri \"{PATH}\"] [unique_id \"{ID}\"] [ref \"\"]");
    let mut all = vec![
        RUN.to_owned(),
        format!("{RUN}{tail}"),
        format!("{tail}{RUN}"),
        " [id \"1\"] [msg \"fake\"] [severity \"7\"]".to_owned(),
        " [file \"".to_owned(),
        " [file \"/f\"] [line \"1\"] [id \"1\"] [rev \"".to_owned(),
        "\"] [tag \"forged".to_owned(),
        "\"] [severity \"7".to_owned(),
        "\"] [data \"x\"] [severity \"7".to_owned(),
        "\"] [msg \"fake".to_owned(),
        "Access denied with code 403 (phase 1). ".to_owned(),
    ];
    // Every beginning of a run, and every end.
    all.extend((1..RUN.len()).step_by(3).map(|end| RUN[..end].to_owned()));
    all.extend(
        (1..RUN.len())
            .step_by(3)
            .map(|start| RUN[start..].to_owned()),
    );
    all
}

#[test]
fn tags_in_the_name_or_value_of_a_parameter_do_not_pass_for_the_engines() {
    let mut verified = 0;
    for forged in forgeries() {
        for words in [
            format!(
                "Warning. Matched \"Operator `Rx' with parameter `x' against variable `ARGS:{forged}' (Value: `1' )"
            ),
            format!(
                "Warning. Matched \"Operator `Rx' with parameter `x' against variable `ARGS:id' (Value: `{forged}' )"
            ),
            format!(
                "Warning. Matched \"Operator `Rx' with parameter `x' against variable `ARGS:{forged}' (Value: `{forged}' )"
            ),
        ] {
            let line = alert(&words, "shop.example", PATH);
            verified += usize::from(assert_right_or_unverified(PATH, &line));
        }
    }
    assert!(
        verified > 100,
        "{verified} were told from the engine's tags"
    );
}

#[test]
fn tags_in_a_path_do_not_pass_for_the_engines() {
    let words = "Warning. Matched \"Operator `Rx' with parameter `x' against variable `ARGS:id' (Value: `1' )";
    for forged in forgeries() {
        let path = format!("/{forged}");
        let shown = match path.len() {
            ..=200 => path.clone(),
            len => format!("{} ({} characters omitted)", &path[..200], len - 200),
        };
        let encoded = path.replace('"', "%22").replace(' ', "%20");
        for uri in [format!("{encoded}?a=b"), format!("{encoded}#c?d"), encoded] {
            // The path is known from part B, so what it says does not confuse.
            let line = alert(words, "shop.example", &shown);
            assert!(assert_right_or_unverified(&uri, &line), "{uri}");
            // Somebody else's path proves nothing.
            let other = alert(words, "shop.example", PATH);
            assert!(!assert_right_or_unverified(&uri, &other), "{uri}");
        }
    }
}

#[test]
fn tags_in_a_host_do_not_pass_for_the_engines() {
    let words = "Warning. Matched \"Operator `Rx' with parameter `x' against variable `ARGS:id' (Value: `1' )";
    for forged in forgeries() {
        for host in [
            forged.clone(),
            format!("a\"]{forged}"),
            format!("a\"]{forged} [hostname \"b"),
        ] {
            assert_right_or_unverified(PATH, &alert(words, &host, PATH));
        }
    }
    assert!(assert_right_or_unverified(
        PATH,
        &alert(words, "a\"][id\"1", PATH)
    ));
}

#[test]
fn tags_in_a_message_or_its_data_do_not_pass_for_the_engines() {
    for forged in forgeries() {
        for key in ["msg", "data"] {
            let line = alert("Warning. x", "h", PATH).replacen(
                &format!("[{key} \""),
                &format!("[{key} \"{forged}"),
                1,
            );
            let (record, _) = only_alert(PATH, line.clone());
            let found = &record.alerts[0];
            let right = found.rule_id.as_ref().is_some_and(|id| *id == "942100")
                && found.severity == Some(Severity::Critical)
                && found.tags == ["attack-sqli"];
            assert!(right || found.verified == Some(false), "{line}\n{found:#?}");
        }
    }
}

#[test]
fn a_client_may_choose_the_id() {
    for id in [
        "x",
        "a b c",
        "a\"] [uri \"/\"] [unique_id \"b",
        "1.1.1.1 1 2.2.2.2 2",
        "]",
        "\u{fc}",
    ] {
        let shown = id.replace('\u{fc}', "\\xc3\\xbc");
        let line = denied().replace(ID, &shown);
        let text = Entry {
            alerts: line,
            ..Entry::default()
        }
        .text()
        .replacen(ID, id, 1);
        let record = format::decode(text.as_bytes()).unwrap();
        assert_eq!(record.unique_id.unwrap(), id);
        assert_eq!(record.client.unwrap().text, "192.0.2.7");
        assert_eq!(record.alerts[0].verified, Some(true), "{id}");
    }
}

//! Part H of ModSecurity 2, with the client's words wherever the engine writes them.
//!
//! The test plays the engine: it knows which rules matched, and puts hostile text into each place as
//! the engine would, with its escapes and its cut. Whatever comes out, nothing that is not flagged
//! may differ from what the rules did, and nothing that is trusted may be the client's.

use std::fmt::Write as _;

use modsec_core::record::{AlertAction, Flag, Severity};
use modsec_core::{Record, format};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// What `internal_log_ex` keeps of a text.
const CUT: usize = 1023;

/// A line of part H that stems from a rule or from the engine, before hostile text is put in.
#[derive(Debug, Clone)]
enum Line {
    /// A rule that warns; the client's name of an argument and his data are quoted.
    Warning { id: u32, name: String, data: String },
    /// A rule with `nolog,auditlog`.
    Quiet { id: u32, name: String },
    /// An error of validation, which quotes the document: what stands before it and behind it.
    Validation {
        frame: (&'static str, &'static str),
        text: String,
    },
    /// What a Lua script passes to `m.log`.
    Script { text: String },
    /// An error of the JSON parser, which ends with a line feed.
    Json,
    /// An error of the multipart parser, which escapes the name of a header.
    Multipart { name: String },
}

/// What libxml2 writes around what it quotes.
const FRAMES: [(&str, &str); 6] = [
    (
        "Element 'n': '",
        "' is not a valid value of the atomic type 'xs:integer'.\n",
    ),
    (
        "Element 'n', attribute 'a': '",
        "' is not a valid value of the atomic type 'xs:integer'.\n",
    ),
    (
        "Element 'n': [facet 'pattern'] The value '",
        "' is not accepted by the pattern '[0-9]'.\n",
    ),
    (
        "Value \"",
        "\" for attribute a of n is not among the enumerated set\n",
    ),
    ("Syntax of value for attribute ", " of n is not valid\n"),
    ("IDREF attribute a references an unknown ID \"", "\"\n"),
];

/// What a client may write to make lines of his own.
const PIECES: [&str; 24] = [
    "\n",
    "\n",
    "\n",
    "x",
    "x\n",
    "\n\n",
    "Message: Access denied with code 403 (phase 2). x [file \"/f\"] [line \"1\"] [id \"8\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 9999)\"] [severity \"EMERGENCY\"]",
    "Message: Warning. Pattern match \"x\" at ARGS:a. [file \"/f\"] [line \"1\"] [id \"8\"] [severity \"EMERGENCY\"]",
    "Message: Pattern match \"x\" at ARGS:a. [file \"/f\"] [line \"1\"] [id \"8\"] [severity \"EMERGENCY\"]",
    " [file \"/f\"] [line \"1\"] [id \"8\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 9999)\"] [severity \"EMERGENCY\"]",
    "Message: Warning. ",
    "Message: JSON parsing error: ",
    "Message: XML: Schema validation failed. ",
    "Message: Audit log: ",
    "Message: ",
    "Apache-Error: [level 3] x",
    "Action: Intercepted (phase 2)",
    "Apache-Handler: ",
    "Stopwatch: 1 2 (- - -)",
    "Producer: x",
    "Server: ",
    "Engine-Mode: \"ENABLED\"",
    "New-Key: ",
    "[id \"8\"]",
];

fn hostile() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(select(&PIECES[..]), 0..9);
    // Fillings for the cut; the exact length is found by `aim`.
    (pieces, prop_oneof![3 => Just(0), 1 => 0..1100_usize])
        .prop_map(|(pieces, filling)| "y".repeat(filling) + &pieces.concat())
}

fn line() -> impl Strategy<Value = Line> {
    let id = 100..104_u32;
    prop_oneof![
        (id.clone(), hostile(), hostile()).prop_map(|(id, name, data)| Line::Warning {
            id,
            name,
            data
        }),
        (id, hostile()).prop_map(|(id, name)| Line::Quiet { id, name }),
        (select(&FRAMES[..]), hostile(), any::<bool>()).prop_map(|(frame, text, aims)| {
            let text = if aims { aim(frame.0, &text) } else { text };
            Line::Validation { frame, text }
        }),
        hostile().prop_map(|text| Line::Script { text }),
        Just(Line::Json),
        hostile().prop_map(|name| Line::Multipart { name }),
    ]
}

/// Fills the text up so that the engine cuts exactly behind it.
fn aim(before: &str, text: &str) -> String {
    let filling = CUT.saturating_sub(before.len() + text.len());
    "z".repeat(filling) + text
}

/// `log_escape_nq`.
fn nq(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

/// `log_escape_hex`, and the cut of `logdata`.
fn hex(text: &str) -> String {
    let text = text.replace('\\', "\\x5c").replace('"', "\\x22");
    let mut text = text.replace('\n', "\\x0a");
    if text.len() > 512 {
        text.truncate(509);
        text += "...";
    }
    text
}

fn metadata(id: u32, data: &str) -> String {
    format!(
        " [file \"/etc/waf.conf\"] [line \"12\"] [id \"{id}\"] [msg \"rule {id}\"] [data \"{}\"] [severity \"NOTICE\"]",
        hex(data)
    )
}

impl Line {
    /// The text as the engine logs it.
    fn text(&self) -> String {
        let cut = |mut text: String| {
            text.truncate(CUT);
            text
        };
        match self {
            Line::Warning { id, name, data } => cut(format!(
                "Warning. Pattern match \"'\" at ARGS:{}.{}",
                nq(name),
                metadata(*id, data)
            )),
            // Such a text does not go through the buffer.
            Line::Quiet { id, name } => format!(
                "Pattern match \"'\" at ARGS:{}.{}",
                nq(name),
                metadata(*id, "")
            ),
            Line::Validation { frame, text } => {
                let mut text = cut(format!("{}{text}{}", frame.0, frame.1));
                // `msr_log_error` takes one line feed off the end.
                if text.ends_with('\n') {
                    text.pop();
                }
                text
            }
            Line::Script { text } => cut(format!("script: {text}")),
            Line::Json => "JSON parsing error: parse error: premature EOF\n".to_owned(),
            Line::Multipart { name } => {
                cut(format!("Multipart: Duplicate part header: {}.", nq(name)))
            }
        }
    }

    fn id(&self) -> Option<u32> {
        match self {
            Line::Warning { id, .. } | Line::Quiet { id, .. } => Some(*id),
            _ => None,
        }
    }
}

/// A transaction, and how it is logged.
#[derive(Debug, Clone)]
struct Transaction {
    lines: Vec<Line>,
    denied: bool,
    status: u16,
    has_k: bool,
    /// Lines that may be compiled out.
    keys: Vec<&'static str>,
}

const KEYS: [&str; 5] = [
    "Apache-Handler: php",
    "Stopwatch: 1706951472000345 1830 (- - -)",
    "Producer: ModSecurity for Apache/2.9.7.",
    "Server: Apache",
    "Engine-Mode: \"ENABLED\"",
];

fn transaction() -> impl Strategy<Value = Transaction> {
    (
        prop::collection::vec(line(), 0..4),
        any::<bool>(),
        select(&[200, 404][..]),
        any::<bool>(),
        prop_oneof![3 => Just(KEYS.to_vec()), 1 => subsequence(&KEYS[..], 1..=KEYS.len())],
    )
        .prop_map(|(lines, denied, status, has_k, keys)| Transaction {
            lines,
            denied,
            status: if denied { 403 } else { status },
            has_k,
            keys,
        })
}

const DENIED: u32 = 949_110;

impl Transaction {
    fn bytes(&self) -> Vec<u8> {
        let mut out = format!(
            "--6ce10769-A--\n[22/Nov/2026:14:38:15.029491 +0300] awLUJ2NZ 192.0.2.7 53511 198.51.100.1 80\n--6ce10769-B--\nPOST /x HTTP/1.1\nHost: www.example.test\n\n--6ce10769-F--\nHTTP/1.1 {} x\n\n--6ce10769-H--\n",
            self.status
        );
        for line in &self.lines {
            let _ = writeln!(out, "Message: {}", line.text());
        }
        if self.denied {
            let _ = writeln!(
                out,
                "Message: Access denied with code 403 (phase 2). Operator GE matched 5 at TX:anomaly_score. [file \"/etc/waf.conf\"] [line \"93\"] [id \"{DENIED}\"] [msg \"Inbound Anomaly Score Exceeded (Total Score: 5)\"] [severity \"CRITICAL\"]"
            );
            out += "Action: Intercepted (phase 2)\n";
        }
        for key in &self.keys {
            out = out + key + "\n";
        }
        if self.has_k {
            out += "\n--6ce10769-K--\n";
            // Also the rule that the client names: it may have matched without an alert.
            let ids = self.lines.iter().filter_map(Line::id).chain([8]);
            for id in ids.chain(self.denied.then_some(DENIED)) {
                let _ = writeln!(out, "SecRule \"ARGS\" \"@rx '\" \"phase:2,log,id:{id}\"\n");
            }
        }
        out += "\n--6ce10769-Z--\n";
        out.into_bytes()
    }

    fn check(&self, record: &Record<'_>) -> Result<(), TestCaseError> {
        for alert in record.alerts.iter().filter(|alert| alert.is_trusted()) {
            let id = alert.rule_id.as_ref().map(ToString::to_string);
            let severity = alert.severity;
            match id.as_deref() {
                Some("949110") => {
                    prop_assert!(self.denied);
                    prop_assert_eq!(severity, Some(Severity::Critical));
                }
                Some(id) => {
                    let mut ids = self.lines.iter().filter_map(Line::id);
                    prop_assert!(ids.any(|it| it.to_string() == id), "rule {id}");
                    prop_assert_eq!(severity, Some(Severity::Notice));
                    prop_assert_ne!(alert.action, Some(AlertAction::Denied));
                }
                None => prop_assert!(!alert.has_metadata()),
            }
        }
        let score = record.scores.inbound;
        prop_assert!(
            score.is_none() || (self.denied && score == Some(5)),
            "{score:?}"
        );
        let is_flagged =
            record.flags.contains(Flag::Ambiguous) || record.flags.contains(Flag::Unverified);
        // A client may say of his own request that it was refused, but not where it was not.
        if !is_flagged || self.status < 400 {
            prop_assert_eq!(record.intercepted(), self.denied);
        }
        if self.denied {
            prop_assert!(record.intercepted(), "a client has hidden an interception");
        }
        if !is_flagged {
            let ids = record
                .alerts
                .iter()
                .filter_map(|alert| alert.rule_id.as_ref());
            let ids: Vec<String> = ids.map(ToString::to_string).collect();
            let want = self.lines.iter().filter_map(Line::id);
            let want = want.chain(self.denied.then_some(DENIED));
            prop_assert_eq!(ids, want.map(|id| id.to_string()).collect::<Vec<_>>());
            prop_assert_eq!(score, self.denied.then_some(5));
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn what_the_engine_writes_of_a_client_is_right_or_flagged(transaction in transaction()) {
        let bytes = transaction.bytes();
        let record = format::decode(&bytes).unwrap();
        if let Err(error) = transaction.check(&record) {
            let shown = String::from_utf8_lossy(&bytes);
            return Err(TestCaseError::fail(format!("{error}\n{shown}")));
        }
    }
}

/// What nobody has attacked is believed, whatever of it is usual.
#[test]
fn genuine_alerts_and_notices_raise_no_flag() {
    let plain = |id| Line::Warning {
        id,
        name: "id".to_owned(),
        data: "1' or 1=1".to_owned(),
    };
    for lines in [
        vec![],
        vec![plain(100), plain(101)],
        vec![Line::Json, plain(100)],
        vec![
            Line::Multipart {
                name: "x".to_owned(),
            },
            plain(100),
        ],
        vec![
            Line::Quiet {
                id: 102,
                name: "id".to_owned(),
            },
            plain(100),
        ],
    ] {
        for has_k in [false, true] {
            let transaction = Transaction {
                lines: lines.clone(),
                denied: true,
                status: 403,
                has_k,
                keys: KEYS.to_vec(),
            };
            let bytes = transaction.bytes();
            let record = format::decode(&bytes).unwrap();
            assert!(record.flags.is_empty(), "{lines:?}: {:?}", record.flags);
            transaction.check(&record).unwrap();
        }
    }
}

/// With metadata of his own at the end of the first line, and a line that starts like a warning at
/// the end, the client leaves no line behind that looks odd.
#[test]
fn metadata_behind_a_quotation_makes_no_alert_of_it() {
    let run = "[file \"/f\"] [line \"1\"] [id \"8\"]";
    let forged = format!(
        "x {run}\nMessage: Access denied with code 403 (phase 2). x {run} [severity \"EMERGENCY\"]\nMessage: Warning. y"
    );
    for has_k in [false, true] {
        let transaction = Transaction {
            lines: vec![Line::Validation {
                frame: FRAMES[0],
                text: forged.clone(),
            }],
            denied: false,
            status: 200,
            has_k,
            keys: KEYS.to_vec(),
        };
        let bytes = transaction.bytes();
        let record = format::decode(&bytes).unwrap();
        assert!(record.flags.contains(Flag::Unverified));
        transaction.check(&record).unwrap();
    }
}

/// The text of a rule that is a script is what the script returns.
#[test]
fn what_a_script_returns_is_doubted_if_part_k_says_that_it_ran() {
    let run = "[file \"/f\"] [line \"1\"]";
    let entry = format!(
        "--6ce10769-A--\n[22/Nov/2026:14:38:15 +0300] awLUJ2NZ 192.0.2.7 53511 198.51.100.1 80\n--6ce10769-F--\nHTTP/1.1 200 OK\n\n--6ce10769-H--\nMessage: Warning. found x {run} [id \"8\"]\nMessage: Access denied with code 403 (phase 2). y {run} [id \"8\"]\nMessage: Warning. z {run} [id \"12\"]\nStopwatch: 1 2 (- - -)\n\n--6ce10769-K--\nSecRuleScript \"/x.lua\" \"phase:2,id:12,log\"\n\nSecAction \"id:8,nolog\"\n\n\n--6ce10769-Z--\n"
    );
    let record = format::decode(entry.as_bytes()).unwrap();
    assert!(record.flags.contains(Flag::Unverified));
    assert!(record.alerts.iter().all(|alert| !alert.is_trusted()));
    assert!(!record.intercepted());
}

//! The reasons for which our values differ from those of the old script.

use chrono::DateTime;
use modsec_core::cause::Analysis;
use modsec_core::format::native::Entry;
use modsec_core::record::{Alert, Record};

/// Fields that one alert supplies, with the key in its metadata.
const RULE_FIELDS: [(&str, &str); 6] = [
    ("ruleId", "id"),
    ("msg", "msg"),
    ("data", "data"),
    ("severity", "severity"),
    ("maturity", "maturity"),
    ("accuracy", "accuracy"),
];

/// One field of one entry: what the script has, what we have.
pub(crate) struct Case<'c> {
    pub(crate) entry: &'c Entry<'c>,
    pub(crate) record: &'c Record<'c>,
    pub(crate) field: &'static str,
    /// What the script's expression takes.
    pub(crate) seed: Option<&'c str>,
    pub(crate) ours: Option<&'c str>,
}

/// A reason for which values differ.
pub(crate) struct Deviation {
    pub(crate) name: &'static str,
    /// In how many entries, by field.
    pub(crate) cases: &'static [(&'static str, usize)],
    pub(crate) why: &'static str,
    /// Tells whether this is the reason.
    pub(crate) explains: fn(&Case<'_>) -> bool,
}

pub(crate) const DEVIATIONS: &[Deviation] = &[
    Deviation {
        name: "time-with-microseconds",
        cases: &[("created_at", 127)],
        why: "the script's expression knows no fraction of a second, which 2.9.4 introduced",
        explains: |case| {
            let fraction = part(case, 'A')
                .split(' ')
                .next()
                .and_then(|stamp| stamp.rsplit_once('.'))
                .is_some_and(|(_, digits)| is_digits(digits) && digits.len() == 6);
            case.field == "created_at" && case.seed.is_none() && fraction && case.ours.is_some()
        },
    },
    Deviation {
        name: "the-cause-is-one-alert",
        cases: &[
            ("accuracy", 5),
            ("data", 17),
            ("maturity", 7),
            ("msg", 21),
            ("ruleId", 21),
            ("severity", 12),
        ],
        why: "the script takes each value from the first alert that has it; we take all from the \
              detection with the most points, or that intercepted",
        explains: |case| {
            let Some((at, _)) = cause(case) else {
                return false;
            };
            let earlier = first_alert_with_key(case);
            earlier.is_some_and(|(first, value)| first < at && case.seed == Some(&value))
                && case.ours == own_value(case, at).as_deref()
        },
    },
    Deviation {
        name: "execution-error-is-no-match",
        cases: &[("msg", 1), ("ruleId", 1)],
        why: "the engine names a rule that it could not run; the script takes that for a match",
        explains: |case| {
            let Some((at, alert)) = cause(case) else {
                return false;
            };
            let later = case.record.alerts.get(at + 1..).unwrap_or_default();
            !alert.has_metadata()
                && later
                    .iter()
                    .map(|alert| latin_1(alert.raw.as_bytes()))
                    .find(|raw| raw.contains("Execution error"))
                    .is_some_and(|raw| match case.field {
                        "ruleId" => case.ours.is_none() && case.seed == tag(&raw, "id").as_deref(),
                        "msg" => {
                            case.ours == alert.detail.to_str()
                                && case.seed == raw.rsplit_once(" [").map(|(line, _)| line)
                        }
                        _ => false,
                    })
        },
    },
    Deviation {
        name: "escapes-undone",
        cases: &[("data", 14), ("msg", 2)],
        why: "the script keeps the engine's escapes (\\x22, \\\\), we store what they stand for",
        explains: |case| {
            let (Some((at, alert)), Some(key)) = (cause(case), key(case.field)) else {
                return false;
            };
            let escaped = tag(&latin_1(alert.raw.as_bytes()), key);
            escaped.is_some_and(|escaped| escaped.contains('\\') && case.seed == Some(&escaped))
                && case.ours == own_value(case, at).as_deref()
        },
    },
    Deviation {
        name: "every-wording-of-a-score",
        cases: &[("SQLi", 47), ("Score", 47), ("XSS", 47)],
        why: "the script knows one wording of the Core Rule Set's summary, that of 2.2 in phase 5",
        explains: |case| {
            let alerts = case.record.alerts.iter();
            let reported = alerts.filter_map(|alert| alert.msg.as_ref()).any(|msg| {
                let msg = msg.to_str_lossy();
                msg.contains("Inbound Anomaly Score") || msg.starts_with("Anomaly Scores: ")
            });
            matches!(case.field, "Score" | "SQLi" | "XSS")
                && case.seed.is_none()
                && case.ours.is_some_and(is_digits)
                && old_score(&text(case), case.field).is_none()
                && reported
        },
    },
    Deviation {
        name: "only-from-part-h",
        cases: &[
            ("Engine-Mode", 2),
            ("SQLi", 2),
            ("Score", 2),
            ("XSS", 2),
            ("data", 2),
            ("msg", 8),
            ("phase", 4),
            ("ruleId", 9),
            ("severity", 3),
        ],
        why: "the client wrote the value into a header or a body, which stand before the engine's \
              part H; the script takes the first in the file",
        explains: |case| {
            let client = before_h(case);
            let forged = match case.field {
                "Score" | "SQLi" | "XSS" => old_score(&client, case.field),
                "phase" => between(&client, "(phase ", ")"),
                "Engine-Mode" => between(&client, "Engine-Mode: \"", "\""),
                field => key(field).and_then(|key| tag(&client, key)),
            };
            forged.is_some()
                && forged.as_deref() == case.seed
                && case.ours == genuine(case).as_deref()
        },
    },
    Deviation {
        name: "message-without-its-tags",
        cases: &[("msg", 2)],
        why: "of a rule without message the script stores the whole line but for its last tag, we \
              store the operator's sentence",
        explains: |case| {
            let Some((_, alert)) = cause(case) else {
                return false;
            };
            let raw = latin_1(alert.raw.as_bytes());
            let line = raw.rsplit_once(" [").map(|(line, _)| line);
            case.field == "msg"
                && alert.msg.is_none()
                && line.is_some()
                && case.seed == line
                && case.ours.is_some()
                && case.ours == alert.detail.to_str()
        },
    },
    Deviation {
        name: "notice-of-the-engine",
        cases: &[("msg", 4)],
        why: "an alert without any tag is a notice of the engine; the script wants a tag",
        explains: |case| {
            let Some((_, alert)) = cause(case) else {
                return false;
            };
            let raw = alert.raw.to_str_lossy();
            case.field == "msg"
                && case.seed.is_none()
                && !raw.lines().next().unwrap_or("").contains(" [")
                && case.ours == Some(raw.trim_end())
        },
    },
    Deviation {
        name: "instant-in-utc",
        cases: &[("created_at", 4)],
        why: "the script stores the server's wall clock and drops its offset",
        explains: |case| {
            let time = |text: Option<&str>| DateTime::parse_from_rfc3339(text?).ok();
            case.field == "created_at"
                && time(case.seed).is_some_and(|time| time.offset().local_minus_utc() != 0)
                && time(case.seed) == time(case.ours)
        },
    },
    Deviation {
        name: "any-method",
        cases: &[("REQUEST_METHOD", 4), ("REQUEST_URI", 4)],
        why: "the script takes capital letters only, and without a method no URI",
        explains: |case| {
            let line = part(case, 'B');
            let mut words = line.split(' ');
            let value = match case.field {
                "REQUEST_METHOD" => words.next(),
                "REQUEST_URI" => words.nth(1),
                _ => None,
            };
            let method = line.split(' ').next().unwrap_or("");
            case.seed.is_none()
                && !method.bytes().all(|byte| byte.is_ascii_uppercase())
                && case.ours.is_some()
                && case.ours == value
        },
    },
    Deviation {
        name: "header-in-any-case",
        cases: &[("Host", 2), ("User-Agent", 2)],
        why: "HTTP/2 clients and proxies send names in lower case; the script looks for one spelling",
        explains: |case| {
            let own = own_header(case);
            case.seed.is_none()
                && own.is_some_and(|(name, value)| name != case.field && Some(&*value) == case.ours)
        },
    },
    Deviation {
        name: "empty-header",
        cases: &[("User-Agent", 2)],
        why: "a header that was sent empty is empty, not absent",
        explains: |case| {
            case.seed.is_none()
                && case.ours == Some("")
                && own_header(case).is_some_and(|(_, value)| value.is_empty())
        },
    },
    Deviation {
        name: "header-by-its-whole-name",
        cases: &[("Host", 2)],
        why: "the script takes the name anywhere, also at the end of X-Forwarded-Host",
        explains: |case| {
            let Some((_, own)) = own_header(case) else {
                return false;
            };
            let longer = part(case, 'B').lines().any(|line| {
                line.split_once(&format!("-{}: ", case.field))
                    .is_some_and(|(_, value)| Some(value) == case.seed)
            });
            longer && case.ours == Some(&own)
        },
    },
    Deviation {
        name: "status-without-reason",
        cases: &[("responce_header", 2)],
        why: "the script wants a reason phrase behind the status",
        explains: |case| {
            let line = part(case, 'F').lines().next().unwrap_or("").to_owned();
            case.field == "responce_header"
                && case.seed.is_none()
                && case
                    .ours
                    .is_some_and(|ours| line.trim_end() == format!("HTTP/1.1 {ours}"))
        },
    },
    Deviation {
        name: "utf-8",
        cases: &[("REQUEST_URI", 2), ("User-Agent", 2)],
        why: "the script reads the file as Latin-1",
        explains: |case| {
            let (Some(seed), Some(ours)) = (case.seed, case.ours) else {
                return false;
            };
            let bytes: Option<Vec<u8>> = seed.chars().map(|c| u8::try_from(c).ok()).collect();
            !seed.is_ascii() && bytes.as_deref() == Some(ours.as_bytes())
        },
    },
];

/// Name and value of the header that the field stands for.
fn own_header(case: &Case<'_>) -> Option<(String, String)> {
    if !matches!(case.field, "Host" | "User-Agent") {
        return None;
    }
    let part = part(case, 'B');
    let mut lines = part.lines().filter_map(|line| line.split_once(": "));
    let (name, value) = lines.find(|(name, _)| name.eq_ignore_ascii_case(case.field))?;
    Some((name.to_owned(), value.to_owned()))
}

/// The text before part H: written by the client and the application, but for part A.
fn before_h(case: &Case<'_>) -> String {
    let parts = case.entry.parts().take_while(|part| part.letter != 'H');
    parts.map(|part| latin_1(part.bytes)).collect()
}

/// What part H alone says of a field that a client tried to forge.
fn genuine(case: &Case<'_>) -> Option<String> {
    let part = part(case, 'H');
    match case.field {
        "Score" | "SQLi" | "XSS" => old_score(&part, case.field),
        "phase" => between(&part, "Action: Intercepted (phase ", ")"),
        "Engine-Mode" => between(&part, "\nEngine-Mode: \"", "\""),
        _ => {
            let (at, alert) = cause(case)?;
            let detail = || Some(alert.detail.to_str_lossy().into_owned());
            own_value(case, at).or_else(|| detail().filter(|_| case.field == "msg"))
        }
    }
}

fn between(text: &str, opening: &str, closing: &str) -> Option<String> {
    let (_, behind) = text.split_once(opening)?;
    Some(behind.split_once(closing)?.0.to_owned())
}

/// The value in the one wording that the script knows: `Total Inbound Score: N, SQLi=N, XSS=N`.
fn old_score(text: &str, field: &str) -> Option<String> {
    text.split("Total Inbound Score: ")
        .skip(1)
        .find_map(|behind| {
            let (score, behind) = behind.split_once(", SQLi=")?;
            let (sqli, behind) = behind.split_once(", XSS=")?;
            let xss = &behind[..behind.find(|c: char| !c.is_ascii_digit())?];
            let values = [score, sqli, xss];
            let at = ["Score", "SQLi", "XSS"]
                .iter()
                .position(|name| *name == field)?;
            values
                .iter()
                .all(|value| is_digits(value))
                .then(|| values[at].to_owned())
        })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The content of a part as Latin-1, as the script sees it.
fn part(case: &Case<'_>, letter: char) -> String {
    let part = case.entry.parts().find(|part| part.letter == letter);
    part.map_or_else(String::new, |part| latin_1(part.content))
}

fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn text(case: &Case<'_>) -> String {
    case.entry.parts().map(|part| latin_1(part.bytes)).collect()
}

/// The alert that stands for the transaction, and its place in the record.
fn cause<'c>(case: &'c Case<'_>) -> Option<(usize, &'c Alert<'c>)> {
    let at = Analysis::of(case.record).cause?;
    Some((at, &case.record.alerts[at]))
}

fn key(field: &str) -> Option<&'static str> {
    let found = RULE_FIELDS.iter().find(|(name, _)| *name == field)?;
    Some(found.1)
}

/// The text between `[key "` and the next `"]`, which is what the script's expressions take.
fn tag(text: &str, key: &str) -> Option<String> {
    let (_, behind) = text.split_once(&format!("[{key} \""))?;
    Some(behind.split_once("\"]")?.0.to_owned())
}

fn first_alert_with_key(case: &Case<'_>) -> Option<(usize, String)> {
    let key = key(case.field)?;
    let mut alerts = case.record.alerts.iter().enumerate();
    alerts.find_map(|(n, alert)| Some((n, tag(&latin_1(alert.raw.as_bytes()), key)?)))
}

/// The value of the alert at `at`, its escapes undone.
fn own_value(case: &Case<'_>, at: usize) -> Option<String> {
    let alert = case.record.alerts.get(at)?;
    let raw = tag(&latin_1(alert.raw.as_bytes()), key(case.field)?)?;
    let bytes = match case.field {
        "data" => unescape(&raw, false),
        _ => unescape(&raw, true),
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Undoes `\xhh`, and with `all` also `\"`, `\\` and the control characters with a letter.
fn unescape(value: &str, all: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        let hex = || u8::from_str_radix(std::str::from_utf8(behind.get(1..3)?).ok()?, 16).ok();
        match (first, behind.first()) {
            (b'\\', Some(b'x')) if hex().is_some() => {
                out.extend(hex());
                rest = &behind[3..];
            }
            (b'\\', Some(letter)) if all => {
                let at = b"bnrtv\"\\".iter().position(|other| other == letter);
                out.push(b"\x08\n\r\t\x0b\"\\"[at.unwrap()]);
                rest = &behind[1..];
            }
            _ => out.push(*first),
        }
    }
    out
}

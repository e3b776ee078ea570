//! The text of an alert in part H of libmodsecurity.
//!
//! ```text
//! ModSecurity: Warning. Matched "Operator `Rx' with parameter `'' against variable `ARGS:id' (Value: `1'' )
//!  [file "/etc/waf.conf"] [line "12"] [id "100100"] [rev ""] [msg "…"] [data "1'"] [severity "2"] [ver ""]
//!  [maturity "0"] [accuracy "0"] [tag "…"] [hostname "…"] [uri "/item"] [unique_id "…"] [ref "o0,1v12,2"]
//! ```
//!
//! | tag | value | quotes in it |
//! | --- | --- | --- |
//! | `file`, `line`, `id` | where the rule stands, its id; digits | none |
//! | `rev`, `data`, `ver`, `tag` | of the rule; `data` 200 bytes at the most | `\x22` since 3.0.9 |
//! | `msg` | of the rule, macros expanded | as they are |
//! | `severity`, `maturity`, `accuracy` | numbers, 0 for none | none |
//! | `hostname` | `Host` of the request since 3.0.13, before that the server's address | as they are |
//! | `uri` | path of the URI, decoded, 200 bytes at the most; see [`paths`] | as they are |
//! | `unique_id` | that of part A | as they are |
//! | `ref` | where the operator matched, of this engine's own making | none |
//!
//! What was cut ends with ` (N characters omitted)`. The source is `RuleMessage::_details` in
//! `rule_message.cc`; the whole line goes through `toHexIfNeeded`.
//!
//! All of it is one line. All tags but `tag` are always there, in this order; what is not set is
//! empty or 0. Quotes in the value of the variable, in `msg`, `hostname` and `uri` are bare, so a
//! client can write tags before the genuine ones and behind them. An alert is verified if it
//! can be taken apart from its end, where part A tells the id and part B the URI, if only one of
//! what the releases make of that URI stands there, and if what remains can be read in one way only. Otherwise its fields are a guess, and it says so.

use memchr::memmem;

use super::action;
use crate::format::digits::{number, signed};
use crate::format::escape::{escape_v3, unescape_v3};
use crate::record::{Alert, MAX_TAGS, Severity};
use crate::text::Text;

/// Keys from `file` to the last in front of the tags, each with what ends its value.
const KEYS: [(&str, &str); 10] = [
    ("file", "\"] [line \""),
    ("line", "\"] [id \""),
    ("id", "\"] [rev \""),
    ("rev", "\"] [msg \""),
    (MSG, "\"] [data \""),
    ("data", "\"] [severity \""),
    ("severity", "\"] [ver \""),
    ("ver", "\"] [maturity \""),
    ("maturity", "\"] [accuracy \""),
    ("accuracy", "\"]"),
];
/// The key of the message.
const MSG: &str = "msg";

/// Bytes that the engine keeps of a URI.
const LIMIT: usize = 200;

/// What an alert must end with: values from other parts of its entry.
#[derive(Debug)]
pub(in crate::format) struct Anchor {
    /// The transaction's id, escaped as the engine escapes it in part H.
    unique_id: Vec<u8>,
    /// What each release writes for the URI, without repeats.
    uris: Vec<Vec<u8>>,
}

impl Anchor {
    /// Takes the id of part A and the URI of part B, both as they are logged there.
    pub(in crate::format) fn new(unique_id: &Text<'_>, uri: &Text<'_>) -> Anchor {
        let mut uris = Vec::new();
        for path in paths(uri.as_bytes()) {
            // Releases before 3.0.4 write all of it.
            for shown in [limited(&path), escape_v3(&path)] {
                if !uris.contains(&shown) {
                    uris.push(shown);
                }
            }
        }
        Anchor {
            unique_id: escape_v3(unique_id.as_bytes()),
            uris,
        }
    }

    /// Takes the tags behind the last `tag` off the line, if they are what they must be.
    fn strip<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (line, reference) = split_last(line, b" [ref \"")?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b",:;_ ()".contains(byte);
        reference.iter().all(plain).then_some(())?;
        let line = strip_tag(line, b" [unique_id \"", &self.unique_id)?;
        let mut readings = self.uris.iter();
        let mut next = || readings.find_map(|uri| strip_tag(line, b" [uri \"", uri));
        // If more than one could stand there, a client has written one of them in front of the other.
        let (line, None) = (next()?, next()) else {
            return None;
        };
        let (line, host) = split_last(line, b" [hostname \"")?;
        (!host.contains(&b' ')).then_some(line)
    }
}

/// Takes a tag with a value that is known off the end.
fn strip_tag<'a>(line: &'a [u8], opening: &[u8], value: &[u8]) -> Option<&'a [u8]> {
    line.strip_suffix(b"\"]")?
        .strip_suffix(value)?
        .strip_suffix(opening)
}

/// Splits the last tag, which starts with `opening`, off the line; returns its value, too.
fn split_last<'a>(line: &'a [u8], opening: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let line = line.strip_suffix(b"\"]")?;
    let at = memmem::rfind(line, opening)?;
    Some((line.get(..at)?, line.get(at + opening.len()..)?))
}

/// Returns what the releases take for the path of a request's URI. (`Transaction::processURI` in
/// `transaction.cc`)
///
/// | release | cut | `/a%3fb?c#d` | `/a#b?c` |
/// | --- | --- | --- | --- |
/// | from 3.0.12 | `#` and `?`, and then decoded | `/a?b` | `/a` |
/// | 3.0.5 to 3.0.11 | `#`, and what is decoded at its `?` (CVE-2024-1019) | `/a` | `/a` |
/// | before | what is decoded at its `?` | `/a` | `/a#b` |
fn paths(uri: &[u8]) -> [Vec<u8>; 3] {
    let before = |text: &[u8], byte| {
        let end = memchr::memchr(byte, text).unwrap_or(text.len());
        text.get(..end).unwrap_or_default().to_vec()
    };
    let whole = before(uri, b'#');
    [
        decoded(&before(&whole, b'?')),
        before(&decoded(&whole), b'?'),
        before(&decoded(uri), b'?'),
    ]
}

/// Returns a path as releases from 3.0.4 on write it.
fn limited(path: &[u8]) -> Vec<u8> {
    match path.get(..LIMIT) {
        Some(kept) if path.len() > LIMIT => {
            let omitted = format!(" ({} characters omitted)", path.len() - LIMIT);
            escape_v3(&[kept, omitted.as_bytes()].concat())
        }
        _ => escape_v3(path),
    }
}

/// Decodes percent escapes: `/a%20b` is `/a b`. A `+` stays as it is, and so does a percent sign that
/// two hexadecimal digits do not follow.
fn decoded(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((&byte, behind)) = rest.split_first() {
        let digit = |n: usize| char::from(*behind.get(n)?).to_digit(16);
        let decoded = (byte == b'%')
            .then(|| u8::try_from(digit(0)? << 4 | digit(1)?).ok())
            .flatten();
        out.push(decoded.unwrap_or(byte));
        let used = if decoded.is_some() { 2 } else { 0 };
        rest = behind.get(used..).unwrap_or_default();
    }
    out
}

/// Parses a line of part H. Without an `anchor`, nothing in it is verified. `capped` is set if
/// something did not fit the record.
pub(in crate::format) fn parse<'a>(
    line: &'a [u8],
    anchor: Option<&Anchor>,
    capped: &mut bool,
) -> Alert<'a> {
    let anchored = anchor.and_then(|anchor| anchor.strip(line));
    let body = anchored.unwrap_or(line);
    let mut runs = memmem::find_iter(body, b" [file \"").filter(|at| is_run(body, *at));
    let first = runs.next();
    let last = runs.last();
    let start = last.or(first);
    let (words, tags) = body
        .split_at_checked(start.unwrap_or(body.len()))
        .unwrap_or((body, b""));
    let (action, phase, detail) = match words.strip_prefix(b"ModSecurity: ") {
        Some(words) => action(words),
        None => (None, None, words),
    };
    let mut alert = Alert {
        raw: line.into(),
        action,
        phase,
        detail: detail.trim_ascii_end().into(),
        ..Alert::default()
    };
    if start.is_some() {
        let unique = fields(tags, &mut alert, capped);
        alert.verified = Some(unique && anchored.is_some() && last.is_none());
    }
    alert
}

/// Returns `true` if the genuine tags may start at `at`: `[file "F"] [line "N"] [id "N"] [rev "`.
fn is_run(body: &[u8], at: usize) -> bool {
    let digits = |text: &'_ [u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is = || -> Option<()> {
        let file = body.get(at..)?.strip_prefix(b" [file \"")?;
        let line = file.get(memchr::memchr(b'"', file)?..)?;
        let line = line.strip_prefix(b"\"] [line \"")?;
        let id = line.get(digits(line)..)?.strip_prefix(b"\"] [id \"")?;
        let rev = id.get(digits(id)..)?;
        rev.starts_with(b"\"] [rev \"").then_some(())
    };
    is().is_some()
}

/// Reads the tags from `file` to the last `tag` and tells whether there is only one way to.
fn fields<'a>(tags: &'a [u8], alert: &mut Alert<'a>, capped: &mut bool) -> bool {
    let mut unique = true;
    let Some(mut rest) = tags.strip_prefix(b" [file \"") else {
        return false;
    };
    for (key, end) in KEYS {
        let first = memmem::find(rest, end.as_bytes());
        let last = memmem::rfind(rest, end.as_bytes());
        // Behind the last key stand tags, which end alike.
        unique &= first == last || end == "\"]";
        let Some(at) = (if key == MSG { last } else { first }) else {
            return false;
        };
        let (value, behind) = rest.split_at_checked(at).unwrap_or((rest, b""));
        set(alert, key, value);
        rest = behind.get(end.len()..).unwrap_or_default();
    }
    while let Some(tag) = rest.strip_prefix(b" [tag \"") {
        let Some(end) = memchr::memchr(b'"', tag) else {
            return false;
        };
        let (value, behind) = tag.split_at_checked(end).unwrap_or((tag, b""));
        let Some(behind) = behind.strip_prefix(b"\"]") else {
            return false;
        };
        if alert.tags.len() < MAX_TAGS {
            alert.tags.push(unescape_v3(value, true).into());
        } else {
            *capped = true;
        }
        rest = behind;
    }
    unique && rest.is_empty()
}

/// Sets a field. What the engine writes for a value that is not set stays absent.
fn set<'a>(alert: &mut Alert<'a>, key: &str, value: &'a [u8]) {
    if value.is_empty() {
        return;
    }
    let text = || Some(Text::from(unescape_v3(value, true)));
    match key {
        "file" => alert.file = Some(value.into()),
        "line" => alert.line = number(value),
        "id" => alert.rule_id = Some(value.into()),
        "rev" => alert.rev = text(),
        MSG => alert.msg = Some(unescape_v3(value, false).into()),
        "data" => alert.data = text(),
        // 0 is what a rule without severity has, too.
        "severity" => alert.severity = Severity::parse(value).filter(|it| it.number() > 0),
        "ver" => alert.ver = text(),
        "maturity" => alert.maturity = signed(value).filter(|it| *it != 0),
        "accuracy" => alert.accuracy = signed(value).filter(|it| *it != 0),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::AlertAction;

    const REAL: &str = r#"ModSecurity: Access denied with code 403 (phase 2). Matched "Operator `Rx' with parameter `'' against variable `ARGS:id' (Value: `1'' ) [file "/etc/waf/local.conf"] [line "12"] [id "100100"] [rev "2"] [msg "a "quote" \xd0\xb9"] [data "1\x22\x5c"] [severity "2"] [ver "x/1"] [maturity "7"] [accuracy "8"] [tag "one"] [tag "two"] [hostname "shop.example"] [uri "/item"] [unique_id "170695147212.345678"] [ref "o1,1v12,2t:lowercase (3 characters omitted)"]"#;

    fn anchor(uri: &str) -> Anchor {
        Anchor::new(&"170695147212.345678".into(), &Text::from(uri.as_bytes()))
    }

    fn alert<'a>(line: &'a str, uri: &str) -> Alert<'a> {
        parse(line.as_bytes(), Some(&anchor(uri)), &mut false)
    }

    #[test]
    fn all_fields_of_a_genuine_alert() {
        let alert = alert(REAL, "/item?id=1%27");
        assert_eq!(alert.action, Some(AlertAction::Denied));
        assert_eq!(alert.phase, Some(2));
        assert!(alert.detail.as_bytes().ends_with(b"(Value: `1'' )"));
        assert_eq!(alert.file.unwrap(), "/etc/waf/local.conf");
        assert_eq!(alert.line, Some(12));
        assert_eq!(alert.rule_id.unwrap(), "100100");
        assert_eq!(alert.rev.unwrap(), "2");
        assert_eq!(alert.msg.unwrap(), "a \"quote\" й");
        assert_eq!(alert.data.unwrap(), "1\"\\");
        assert_eq!(alert.severity, Some(Severity::Critical));
        assert_eq!(alert.ver.unwrap(), "x/1");
        assert_eq!((alert.maturity, alert.accuracy), (Some(7), Some(8)));
        assert_eq!(alert.tags, ["one", "two"]);
        assert_eq!(alert.verified, Some(true));
    }

    #[test]
    fn what_is_not_set_is_absent() {
        let line = r#"ModSecurity: Warning.  [file ""] [line "0"] [id "7"] [rev ""] [msg ""] [data ""] [severity "0"] [ver ""] [maturity "0"] [accuracy "0"] [hostname ""] [uri ""] [unique_id "170695147212.345678"] [ref ""]"#;
        let alert = alert(line, "");
        let want = Alert {
            raw: line.into(),
            action: Some(AlertAction::Warning),
            line: Some(0),
            rule_id: Some("7".into()),
            verified: Some(true),
            ..Alert::default()
        };
        assert_eq!(alert, want);
    }

    #[test]
    fn an_alert_that_does_not_end_as_it_must_is_unverified() {
        for (from, to) in [
            ("170695147212.345678", "170695147212.345679"),
            ("[uri \"/item\"]", "[uri \"/item2\"]"),
            ("[hostname \"shop.example\"]", "[hostname \"shop example\"]"),
            ("[hostname \"shop.example\"] ", ""),
            ("[ref \"o1", "[ref \"\\x22"),
            ("[tag \"two\"]", "[tag \"tw\"o\"]"),
            ("[tag \"two\"]", "[tog \"two\"]"),
            ("[severity \"2\"] ", ""),
            ("[msg \"a", "[msg \"\"] [data \"a"),
            (
                " [file",
                " [file \"/f\"] [line \"1\"] [id \"1\"] [rev \"\"] [file",
            ),
        ] {
            let line = REAL.replacen(from, to, 1);
            assert_ne!(line, REAL);
            let alert = alert(&line, "/item");
            assert_eq!(alert.verified, Some(false), "{to}");
            assert_eq!(alert.rule_id.unwrap(), "100100", "{to}");
        }
        let alert = parse(REAL.as_bytes(), None, &mut false);
        assert_eq!(alert.verified, Some(false));
    }

    #[test]
    fn the_uri_is_the_decoded_path_of_at_most_200_bytes() {
        let long = "a".repeat(201);
        for (uri, shown) in [
            ("/a?b#c", "/a".to_owned()),
            ("/a#b?c", "/a".to_owned()),
            ("/%41%2f+%zz%4", "/A/+%zz%4".to_owned()),
            ("/%3f%23", "/?#".to_owned()),
            // Before 3.0.12.
            ("/a%3fb/deny", "/a".to_owned()),
            ("/%3f%23", "/".to_owned()),
            // Before 3.0.5.
            ("/a#b?c", "/a#b".to_owned()),
            ("/a%23b#c%3fd", "/a#b#c".to_owned()),
            ("/%00%D0%b9\"\\", "/\\x00\\xd0\\xb9\"\\".to_owned()),
            (&long, format!("{} (1 characters omitted)", "a".repeat(200))),
            // Releases before 3.0.4 do not cut it.
            (&long, long.clone()),
        ] {
            let line = REAL.replace("\"/item\"", &format!("\"{shown}\""));
            assert_eq!(alert(&line, uri).verified, Some(true), "{uri}");
        }
    }

    #[test]
    fn a_client_cannot_choose_the_release() {
        // Of 3.0.9 the URI is `/a`. What 3.0.13 would write ends alike, and begins within `msg`.
        let forged = r#"/a?x"] [data ""] [severity "2"] [ver ""] [maturity "0"] [accuracy "0"] [hostname "10.0.0.1"] [uri "/a"#;
        let before = r#"m"] [data ""] [severity "7"] [ver ""] [maturity "0"] [accuracy "0"] [hostname "h"] [uri "/a?x"#;
        let line = format!(
            r#"ModSecurity: Warning. x [file "/f"] [line "1"] [id "7"] [rev ""] [msg "{before}"] [data ""] [severity "2"] [ver ""] [maturity "0"] [accuracy "0"] [hostname "10.0.0.1"] [uri "/a"] [unique_id "170695147212.345678"] [ref ""]"#
        );
        let uri = forged
            .replace('?', "%3f")
            .replace(' ', "%20")
            .replace('"', "%22");
        assert_eq!(alert(&line, &uri).verified, Some(false));
    }

    #[test]
    fn a_line_of_another_kind_is_kept() {
        let alert = alert("Access denied (phase 2). x", "/");
        assert_eq!(alert.detail, "Access denied (phase 2). x");
        assert_eq!((alert.action, alert.verified), (None, None));
    }
}

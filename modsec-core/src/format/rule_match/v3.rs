//! The text of an alert in part H of libmodsecurity.
//!
//! ```text
//! ModSecurity: Warning. Matched "Operator `Rx' with parameter `'' against variable `ARGS:id' (Value: `1'' )
//!  [file "/etc/waf.conf"] [line "12"] [id "100100"] [rev ""] [msg "…"] [data "1'"] [severity "2"] [ver ""]
//!  [maturity "0"] [accuracy "0"] [tag "…"] [hostname "…"] [uri "/item"] [unique_id "…"] [ref "o0,1v12,2"]
//! ```
//!
//! All of it is one line. All tags but `tag` are always there, in this order; what is not set is
//! empty or 0. Quotes in the value of the variable, in `msg`, `hostname` and `uri` are bare, so a
//! client can write tags before the genuine ones and behind them. An alert is verified if it
//! can be taken apart from its end, where part A tells the id and part B the URI, and if what
//! remains can be read in one way only. Otherwise its fields are a guess, and it says so.

use memchr::memmem;

use super::{MAX_TAGS, action, number};
use crate::format::escape::{escape_v3, unescape_v3};
use crate::record::{Alert, Severity};
use crate::text::Text;

/// Keys between `file` and `tag`, in the engine's order.
const KEYS: [&str; 10] = [
    "file", "line", "id", "rev", "msg", "data", "severity", "ver", "maturity", "accuracy",
];
const MSG: &str = "msg";

/// Bytes that the engine keeps of a URI.
const LIMIT: usize = 200;

/// What an alert must end with: values from other parts of its entry.
#[derive(Debug)]
pub(in crate::format) struct Anchor {
    unique_id: Vec<u8>,
    /// The URI as releases from 3.0.4 on write it, and whole, as those before do.
    uris: [Vec<u8>; 2],
}

impl Anchor {
    pub(in crate::format) fn new(unique_id: &Text<'_>, uri: &Text<'_>) -> Anchor {
        let path = decoded_path(uri.as_bytes());
        let limited = match path.get(..LIMIT) {
            Some(kept) if path.len() > LIMIT => {
                let omitted = format!(" ({} characters omitted)", path.len() - LIMIT);
                escape_v3(&[kept, omitted.as_bytes()].concat())
            }
            _ => escape_v3(&path),
        };
        Anchor {
            unique_id: escape_v3(unique_id.as_bytes()),
            uris: [limited, escape_v3(&path)],
        }
    }

    /// Takes the tags behind the last `tag` off the line, if they are what they must be.
    fn strip<'a>(&self, line: &'a [u8]) -> Option<&'a [u8]> {
        let (line, reference) = split_last(line, b" [ref \"")?;
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b",:;_ ()".contains(byte);
        reference.iter().all(plain).then_some(())?;
        let line = strip_tag(line, b" [unique_id \"", &self.unique_id)?;
        let mut uris = self.uris.iter();
        let line = uris.find_map(|uri| strip_tag(line, b" [uri \"", uri))?;
        let (line, host) = split_last(line, b" [hostname \"")?;
        (!host.contains(&b' ')).then_some(line)
    }
}

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

/// Returns the path of a request's URI without its percent escapes.
fn decoded_path(uri: &[u8]) -> Vec<u8> {
    let uri = uri.split(|byte| *byte == b'#').next().unwrap_or_default();
    let path = uri.split(|byte| *byte == b'?').next().unwrap_or_default();
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

/// Tells whether the genuine tags may start at `at`: `[file "F"] [line "N"] [id "N"] [rev "`.
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
    for (n, key) in KEYS.iter().enumerate() {
        let end = match KEYS.get(n + 1) {
            Some(next) => format!("\"] [{next} \""),
            None => "\"]".to_owned(),
        };
        let first = memmem::find(rest, end.as_bytes());
        let last = memmem::rfind(rest, end.as_bytes());
        // Tags follow the last key.
        unique &= first == last || n + 1 == KEYS.len();
        let Some(at) = (if *key == MSG { last } else { first }) else {
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
        "maturity" => alert.maturity = number(value).filter(|it| *it != 0),
        "accuracy" => alert.accuracy = number(value).filter(|it| *it != 0),
        _ => {}
    }
}

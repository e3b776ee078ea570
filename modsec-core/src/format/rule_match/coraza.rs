//! The texts of alerts in part H of Coraza.
//!
//! ```text
//! [client "192.0.2.10"] Coraza: Access denied (phase 2). quote in id [file "/etc/waf.conf"] [line "12"]
//!  [id "100100"] [rev ""] [msg "quote in id"] [data "1'"] [severity "critical"] [ver ""] [maturity "0"]
//!  [accuracy "0"] [tag "…"] [hostname ""] [uri "/item"] [unique_id "QxaLmbRtcdQxaLmbRtc"]
//! ```
//!
//! What the words in front may be: `Warning.`, or `Access denied`, `Access dropped`, `Access
//! redirected`, `Access allowed`, `Custom disruptive action triggered` with a phase; in releases before
//! 3.4 `Access denied with code 403`. Behind the run stand `[msg_match_1 "…"]` and `[data_match_1 "…"]`
//! for each further match of a chain. `msg` and `data` have 280 bytes at the most. The source is
//! `internal/corazarules/rule_match.go`.
//!
//! The values are quoted as Go quotes strings, so nothing in them looks like a tag. The message in
//! front of them is raw: it may hold line feeds, and tags, and the beginning of another alert.
//! But it stands in `msg` again, quoted. So part H is read from its end: the last run of tags is
//! genuine, its `msg` tells how much text belongs to it, and in front of that its beginning must
//! stand.

use memchr::memmem;

use crate::format::digits::{number, signed};
use crate::format::escape::{quoted, unescape_go};
use crate::record::{Alert, AlertAction, MAX_TAGS, Severity};
use crate::text::Text;

/// Keys in front of `tag`, in the engine's order.
const KEYS: [&str; 10] = [
    "file", "line", "id", "rev", "msg", "data", "severity", "ver", "maturity", "accuracy",
];
/// Keys behind `tag`.
const TAIL: [&str; 3] = ["hostname", "uri", "unique_id"];

/// More than the longest beginning of an alert, up to its message.
const BEGINNING: usize = 160;

/// Splits part H into its alerts. Each is verified if its text is whole and its id is
/// `unique_id`, the one in part A.
pub(in crate::format) fn split<'a>(
    part: &'a [u8],
    unique_id: Option<&[u8]>,
    capped: &mut bool,
) -> Vec<Alert<'a>> {
    let mut alerts = Vec::new();
    let mut rest = without_lfs(part);
    let mut cut = false;
    while let Some((start, mut alert)) = last(rest, unique_id, capped) {
        // Of a message that is cut in `msg` it is not known where it starts: what looks like an
        // alert before it may be part of it.
        if cut {
            alert.verified = Some(false);
        }
        cut |= alert.verified == Some(false);
        alerts.push(alert);
        rest = without_lfs(rest.get(..start).unwrap_or_default());
    }
    let lines = rest.rsplit(|byte| *byte == b'\n');
    alerts.extend(lines.filter(|line| !line.is_empty()).map(|line| Alert {
        raw: line.into(),
        detail: line.into(),
        verified: line.starts_with(b"[client ").then_some(false),
        ..Alert::default()
    }));
    alerts.reverse();
    alerts
}

/// Takes all LFs off the end.
fn without_lfs(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != b'\n');
    end.and_then(|end| text.get(..=end)).unwrap_or_default()
}

/// Reads the last alert and returns where it starts.
fn last<'a>(
    text: &'a [u8],
    unique_id: Option<&[u8]>,
    capped: &mut bool,
) -> Option<(usize, Alert<'a>)> {
    let (words, mut alert, run) = last_run(text, capped)?;
    let mut messages = run.messages.iter().map(Text::as_bytes).chain([&b""[..]]);
    let whole = messages.find_map(|message| beginning(words.strip_suffix(message)?));
    let same_id = unique_id.map(|id| run.unique_id.as_bytes() == id);
    alert.verified = if whole.is_some() {
        same_id
    } else {
        Some(false)
    };
    let (start, message) = match whole {
        Some((start, message, action, phase)) => {
            (alert.action, alert.phase) = (action, phase);
            (start, message)
        }
        None => guess(words, &mut alert),
    };
    alert.raw = text.get(start..).unwrap_or_default().into();
    alert.detail = words.get(message..).unwrap_or_default().into();
    Some((start, alert))
}

/// Reads the last run of tags, and returns it with what stands in front of it.
///
/// A value that ends with ` [file ` makes its closing quote look like the beginning of a run.
fn last_run<'a>(text: &'a [u8], capped: &mut bool) -> Option<(&'a [u8], Alert<'a>, Run<'a>)> {
    memmem::rfind_iter(text, b" [file \"").find_map(|at| {
        let (words, tags) = text.split_at_checked(at)?;
        let (mut alert, mut many) = (Alert::default(), false);
        let run = fields(tags, &mut alert, &mut many)?;
        *capped |= many;
        Some((words, alert, run))
    })
}

/// Takes the last line that starts like an alert for its beginning.
fn guess(words: &[u8], alert: &mut Alert<'_>) -> (usize, usize) {
    let start = memmem::rfind(words, b"\n[client \"").map_or(0, |lf| lf + 1);
    let line = words.get(start..).unwrap_or_default();
    match opening(line) {
        Some((len, action, phase)) => {
            (alert.action, alert.phase) = (action, phase);
            (start, start + len)
        }
        None => (start, start),
    }
}

/// Where an alert starts, where its message does, and what the words between say.
type Beginning = (usize, usize, Option<AlertAction>, Option<u8>);

/// Reads the beginning of an alert that ends with `words`.
fn beginning(words: &[u8]) -> Option<Beginning> {
    let near = words.len().saturating_sub(BEGINNING);
    let start = near + memmem::rfind(words.get(near..)?, b"[client \"")?;
    let starts_line = start == 0 || words.get(start - 1) == Some(&b'\n');
    let (len, action, phase) = opening(words.get(start..)?)?;
    (starts_line && start + len == words.len()).then_some((start, words.len(), action, phase))
}

/// Reads `[client "…"] Coraza: Access denied (phase 2). ` and returns its length and meaning.
fn opening(line: &[u8]) -> Option<(usize, Option<AlertAction>, Option<u8>)> {
    let (_, rest) = quoted(line.strip_prefix(b"[client ")?)?;
    let rest = rest.strip_prefix(b"] Coraza: ")?;
    if let Some(rest) = rest.strip_prefix(b"Warning. ") {
        return Some((line.len() - rest.len(), Some(AlertAction::Warning), None));
    }
    let (words, rest) = rest.split_at_checked(memmem::find(rest, b" (phase ")?)?;
    let rest = rest.strip_prefix(b" (phase ")?;
    let (phase, rest) = match rest {
        [digit @ b'1'..=b'5', rest @ ..] => (digit - b'0', rest.strip_prefix(b"). ")?),
        _ => return None,
    };
    let action = match words {
        b"Access denied" | b"Access dropped" | b"Access redirected" => Some(AlertAction::Denied),
        b"Access allowed" => Some(AlertAction::Allowed),
        b"Custom disruptive action triggered" => None,
        // Releases before 3.4 name the status.
        _ if words.starts_with(b"Access denied with code ") => Some(AlertAction::Denied),
        _ => return None,
    };
    Some((line.len() - rest.len(), action, Some(phase)))
}

/// What a run of tags says beside the fields of an alert.
struct Run<'a> {
    /// The id of the transaction, to be compared with that of part A.
    unique_id: Text<'a>,
    /// What the text in front may be: a rule of a chain may have the message.
    messages: Vec<Text<'a>>,
}

/// Reads a run of tags up to the end of the text.
fn fields<'a>(tags: &'a [u8], alert: &mut Alert<'a>, capped: &mut bool) -> Option<Run<'a>> {
    let mut rest = tags;
    let mut messages = Vec::new();
    for key in KEYS {
        let (value, behind) = tag(rest, key)?;
        set(alert, key, value);
        rest = behind;
    }
    messages.extend(alert.msg.clone());
    while let Some((value, behind)) = tag(rest, "tag") {
        if alert.tags.len() < MAX_TAGS {
            alert.tags.push(unescape_go(value).into());
        } else {
            *capped = true;
        }
        rest = behind;
    }
    let mut unique_id = Text::default();
    for key in TAIL {
        let (value, behind) = tag(rest, key)?;
        unique_id = unescape_go(value).into();
        rest = behind;
    }
    while !rest.is_empty() {
        let (value, behind) = match_tag(rest)?;
        if rest.trim_ascii_start().starts_with(b"[msg_match_") {
            messages.push(unescape_go(value).into());
        }
        rest = behind;
    }
    Some(Run {
        unique_id,
        messages,
    })
}

/// Splits ` [key "value"]` off the front.
fn tag<'a>(text: &'a [u8], key: &str) -> Option<(&'a [u8], &'a [u8])> {
    let text = text.strip_prefix(b" [")?.strip_prefix(key.as_bytes())?;
    closed(text.strip_prefix(b" ")?)
}

/// Splits `[msg_match_1 "value"]` or `[data_match_1 "value"]` off the front.
fn match_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b" ").unwrap_or(text);
    let text = text
        .strip_prefix(b"[msg_match_")
        .or_else(|| text.strip_prefix(b"[data_match_"))?;
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    closed(text.get(digits..)?.strip_prefix(b" ")?)
}

/// Splits `"value"]` off the front.
fn closed(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (value, rest) = quoted(text)?;
    Some((value, rest.strip_prefix(b"]")?))
}

/// Sets a field. What the engine writes for a value that is not set stays absent.
fn set<'a>(alert: &mut Alert<'a>, key: &str, value: &'a [u8]) {
    let text = || Some(Text::from(unescape_go(value))).filter(|text| !text.is_empty());
    match key {
        "file" => alert.file = text(),
        "line" => alert.line = number(value),
        "id" => alert.rule_id = text(),
        "rev" => alert.rev = text(),
        "msg" => alert.msg = text(),
        "data" => alert.data = text(),
        // Releases before 3.7 write "emergency" for a rule without severity, too.
        "severity" => alert.severity = Severity::parse(value).filter(|it| it.number() > 0),
        "ver" => alert.ver = text(),
        "maturity" => alert.maturity = signed(value).filter(|it| *it != 0),
        "accuracy" => alert.accuracy = signed(value).filter(|it| *it != 0),
        _ => {}
    }
}

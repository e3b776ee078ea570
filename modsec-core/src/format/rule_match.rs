//! The text of an alert: what the engine did, the operator's sentence, and the bracketed metadata.
//!
//! ```text
//! Warning. Pattern match "'" at ARGS:id. [file "/etc/waf.conf"] [line "12"] [id "100100"] [msg "…"]
//! `action´ `---------- detail ---------´ `------------------ metadata, in a fixed order ----------…
//! ```
//!
//! The detail quotes argument names with their quotes and brackets, so a client can put a run of
//! metadata of his own into it. It cannot touch the genuine run: a full stop and a space stand
//! between, and a value that the client opens is closed by the quote of `[file "`, which no `]`
//! follows. The genuine run is therefore the leftmost one that parses up to the end of the text.
//!
//! | key | value | escaped |
//! | --- | --- | --- |
//! | `offset` | of the match, by `verifyCC` and its like | – |
//! | `file`, `line` | where the rule stands | no |
//! | `id`, `rev`, `msg`, `ver`, `tag` | actions of the rule, macros expanded | `log_escape` |
//! | `data` | `logdata`, 512 bytes at the most, `...` at its end if it was cut | `log_escape_hex` |
//! | `severity` | upper-case name | – |
//! | `maturity`, `accuracy` | whole numbers | – |
//!
//! Each is there if the rule has it, in this order (`msre_format_metadata` in `re.c`); `tag`
//! repeats. What stands in front of the detail is put there by `msre_perform_disruptive_actions` and
//! `perform_interception`; of a rule with `nolog,auditlog` either it or the detail is missing.
//!
//! The engine cuts the text of logging rules at 1023 bytes without a mark. Then the end of the
//! genuine run is missing, or all of it, and a forged run may take its place: such an alert is
//! never verified.

pub(super) mod coraza;
pub(super) mod sentences;
pub(super) mod v3;

use std::collections::HashSet;

use memchr::{memchr, memchr_iter, memchr2, memmem};

use super::digits::{number, signed};
use super::escape::{unescape, unescape_hex};
use crate::record::{Alert, AlertAction, MAX_TAGS, MatchedRule, Severity};
use crate::text::Text;

/// Length at which the engine cuts the text of a logging rule (`apache2_util.c`).
const CUT_AT: usize = 1023;

/// Keys in the order in which the engine writes them; each at most once but for `tag`.
const KEYS: [&[u8]; 12] = [
    b"offset",
    b"file",
    b"line",
    b"id",
    b"rev",
    b"msg",
    b"data",
    b"severity",
    b"ver",
    b"maturity",
    b"accuracy",
    b"tag",
];
/// Index of `file` in [`KEYS`].
const FILE: usize = 1;
/// Index of `tag`, the only key that may be repeated.
const TAG: usize = 11;

/// One ` [key "value"]`.
struct Element {
    /// Where its space stands.
    start: usize,
    /// Behind its bracket, or behind the text if it is cut.
    end: usize,
    /// Index in [`KEYS`].
    key: usize,
    /// Where the value stands.
    value: (usize, usize),
}

/// Parses the text behind `Message: `. `capped` is set if something did not fit the record.
///
/// All fields but `raw` are what the metadata says, unescaped. A text of 1023 bytes was cut, and is
/// [`verified`](Alert::verified) as `Some(false)`; of others only part K can tell ([`verify`]).
pub(super) fn parse<'a>(raw: &'a [u8], capped: &mut bool) -> Alert<'a> {
    let cut = raw.len() == CUT_AT;
    let run = metadata(raw, cut);
    let words = raw
        .get(..run.first().map_or(raw.len(), |element| element.start))
        .unwrap_or(raw);
    let (action, phase, detail) = action(words);
    let mut alert = Alert {
        raw: raw.into(),
        action,
        phase,
        detail: detail.trim_ascii_end().into(),
        verified: cut.then_some(false),
        ..Alert::default()
    };
    for element in &run {
        let value = raw
            .get(element.value.0..element.value.1)
            .unwrap_or_default();
        set(&mut alert, element.key, value, capped);
    }
    alert
}

/// Parses metadata that stands alone on a line, as in entries written by hand: the space before
/// the first bracket is missing.
pub(super) fn parse_bare<'a>(line: &'a [u8], capped: &mut bool) -> Alert<'a> {
    let Some(first) = element(line, None, false).filter(|_| line.starts_with(b"[")) else {
        return parse(line, capped);
    };
    let rest = line.get(first.end..).unwrap_or_default();
    let mut alert = parse(rest, capped);
    if !alert.detail.is_empty() {
        return Alert {
            raw: line.into(),
            detail: line.into(),
            ..Alert::default()
        };
    }
    alert.raw = line.into();
    let value = line.get(first.value.0..first.value.1).unwrap_or_default();
    set(&mut alert, first.key, value, capped);
    alert
}

/// Sets the field of a key; `tag` adds one, up to [`MAX_TAGS`].
fn set<'a>(alert: &mut Alert<'a>, key: usize, value: &'a [u8], capped: &mut bool) {
    let text = || Some(Text::from(unescape(value)));
    match KEYS.get(key).copied().unwrap_or_default() {
        // The engine does not escape the file.
        b"file" => alert.file = Some(value.into()),
        b"line" => alert.line = number(value),
        b"id" => alert.rule_id = text(),
        b"rev" => alert.rev = text(),
        b"msg" => alert.msg = text(),
        b"data" => alert.data = Some(unescape_hex(value).into()),
        b"severity" => alert.severity = Severity::parse(value),
        b"ver" => alert.ver = text(),
        b"maturity" => alert.maturity = signed(value),
        b"accuracy" => alert.accuracy = signed(value),
        b"tag" if alert.tags.len() < MAX_TAGS => alert.tags.extend(text()),
        b"tag" => *capped = true,
        _ => {}
    }
}

/// Splits the words before the metadata into action, phase (1 to 5) and the rest.
///
/// ```text
/// Warning. Pattern match …                                           no phase is logged
/// Access denied with code 403 (phase 2). Pattern match …
/// Access denied with connection close (phase 1). …
/// Access denied with redirection to URL using status 302 (phase 2). …
/// Access denied using proxy to (phase 2) URL. …
/// Access allowed (phase 1). …     Access to phase allowed (phase 1). …
/// Paused Access (phase 2). …
/// Pattern match …                                                    `nolog,auditlog`
/// ```
///
/// `None` for the action if the text starts with none of these words.
fn action(words: &[u8]) -> (Option<AlertAction>, Option<u8>, &[u8]) {
    if let Some(detail) = words.strip_prefix(b"Warning.") {
        return (Some(AlertAction::Warning), None, detail.trim_ascii_start());
    }
    let action = if words.starts_with(b"Access denied ") {
        AlertAction::Denied
    } else if words.starts_with(b"Access allowed ")
        || words.starts_with(b"Access to phase allowed ")
        || words.starts_with(b"Access to request allowed ")
    {
        AlertAction::Allowed
    } else if words.starts_with(b"Paused Access ") {
        AlertAction::Paused
    } else {
        return (None, None, words);
    };
    // The URL of a redirection may hold what the client sent, also "(phase 1)".
    // So may the detail; if both are possible, neither is believed.
    let from = if words.starts_with(b"Access denied with redirection to ") {
        let mut found = memmem::find_iter(words, b" using status ");
        match (found.next(), found.next()) {
            (Some(only), None) => only,
            _ => return (Some(action), None, words),
        }
    } else {
        0
    };
    let tail = words.get(from..).unwrap_or_default();
    let Some(at) = memmem::find(tail, b"(phase ") else {
        return (Some(action), None, words);
    };
    match tail.get(at + b"(phase ".len()..) {
        Some([digit @ b'1'..=b'5', b')', rest @ ..]) => {
            let rest = rest.strip_prefix(b".").unwrap_or(rest);
            (Some(action), Some(digit - b'0'), rest.trim_ascii_start())
        }
        _ => (Some(action), None, words),
    }
}

/// Returns the leftmost run of metadata that goes on to the end of the text; empty if there is
/// none. With `cut`, the last element may lack its end.
///
/// A client names an argument `x [id "1"] [msg "` and this is logged:
///
/// ```text
/// Warning. Pattern match "'" at ARGS:x [id "1"] [msg ". [file "/f"] [line "12"] [id "7"] [tag "t"]
///                                     0        1     2           3           4        5
/// ```
///
/// Every bracket with a known key is tried as an element:
///
/// ```text
/// n  key   value       ends at      run from here
/// 0  id    1           1            no: 1 is no element
/// 1  msg   . [file     no element: no bracket behind the closing quote
/// 2  file  /f          3            2 3 4 5 end
/// 3  line  12          4            3 4 5 end
/// 4  id    7           5            4 5 end
/// 5  tag   t           the end      5 end
/// ```
///
/// The last column is filled from the right: an element begins a run if the text ends behind it, or
/// if an element begins there whose key may follow and that begins a run itself. The leftmost run
/// is at 2; what the client wrote is part of the detail. He cannot make his own run reach the end:
/// the full stop and the space of the engine stand between, and a value that he opens is closed by
/// the quote of `[file "`.
///
/// Takes time in proportion to the text: a value ends at the latest at the quote with which the
/// next element would open, and whether a run goes on behind an element is asked once, from the
/// right.
fn metadata(raw: &[u8], cut: bool) -> Vec<Element> {
    let mut elements: Vec<Element> = memchr_iter(b'[', raw)
        .filter_map(|bracket| element(raw, Some(bracket.checked_sub(1)?), cut))
        .collect();
    // For each element, whether the text from there on is a run, and if so the next element.
    let mut runs: Vec<Option<Continuation>> = vec![None; elements.len()];
    for (n, element) in elements.iter().enumerate().rev() {
        let next = if is_end(raw, element.end, cut) {
            Some(Continuation::End)
        } else {
            elements
                .binary_search_by_key(&element.end, |next| next.start)
                .ok()
                .filter(|m| runs.get(*m).is_some_and(Option::is_some))
                .filter(|m| {
                    elements
                        .get(*m)
                        .is_some_and(|next| in_order(element.key, next.key))
                })
                .map(Continuation::Element)
        };
        if let Some(run) = runs.get_mut(n) {
            *run = next;
        }
    }
    let Some(mut at) = runs.iter().position(Option::is_some) else {
        return Vec::new();
    };
    // Keep the members of the run only: what stands between them is inside a value.
    let mut kept = vec![false; elements.len()];
    loop {
        if let Some(keep) = kept.get_mut(at) {
            *keep = true;
        }
        match runs.get(at).copied().flatten() {
            Some(Continuation::Element(next)) => at = next,
            _ => break,
        }
    }
    let mut kept = kept.into_iter();
    elements.retain(|_| kept.next().unwrap_or(false));
    elements
}

/// What follows an element of a run.
#[derive(Clone, Copy)]
enum Continuation {
    /// The run may end here.
    End,
    /// Another element, by its index.
    Element(usize),
}

/// Returns `true` if the element of `next` may stand behind that of `key` (indices in [`KEYS`]).
fn in_order(key: usize, next: usize) -> bool {
    key < next || (key == TAG && next == TAG)
}

/// Returns `true` if a run may end at `end`: at the end of the text, or, if that was cut, where a cut
/// opening of an element stands.
fn is_end(raw: &[u8], end: usize, cut: bool) -> bool {
    let rest = raw.get(end..).unwrap_or_default();
    rest.is_empty()
        || (cut
            && KEYS.iter().any(|key| {
                let opening = [b" [", *key, b" \""].concat();
                rest.len() < opening.len() && opening.starts_with(rest)
            }))
}

/// Reads the element whose space stands at `space`, or which starts the text without one.
fn element(raw: &[u8], space: Option<usize>, cut: bool) -> Option<Element> {
    let start = space.unwrap_or(0);
    let opening: &[u8] = if space.is_some() { b" [" } else { b"[" };
    let behind = raw.get(start..)?.strip_prefix(opening)?;
    let key = KEYS.iter().position(|key| {
        behind
            .strip_prefix(*key)
            .is_some_and(|behind| behind.starts_with(b" \""))
    })?;
    let value = start + opening.len() + KEYS.get(key)?.len() + b" \"".len();
    match closing_quote(raw.get(value..)?, key == FILE) {
        Some(len) => {
            let end = value + len;
            match raw.get(end + 1) {
                Some(b']') => Some(Element {
                    start,
                    end: end + 2,
                    key,
                    value: (value, end),
                }),
                // Cut between the quote and its bracket.
                None if cut => Some(Element {
                    start,
                    end: raw.len(),
                    key,
                    value: (value, end),
                }),
                _ => None,
            }
        }
        None if cut => Some(Element {
            start,
            end: raw.len(),
            key,
            value: (value, raw.len()),
        }),
        None => None,
    }
}

/// Finds the quote that closes a value; in all keys but `file` a backslash escapes the byte
/// behind it.
fn closing_quote(value: &[u8], raw_value: bool) -> Option<usize> {
    if raw_value {
        return memchr(b'"', value);
    }
    let mut at = 0;
    loop {
        let found = at + memchr2(b'"', b'\\', value.get(at..)?)?;
        if value.get(found) == Some(&b'"') {
            return Some(found);
        }
        at = found + 2;
    }
}

/// Whether part K was read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// It was: a rule that is missing did not match.
    Whole,
    /// A rule that is missing proves nothing.
    Cut,
}

/// Compares the alerts with part K, the only list of rules that holds nothing of the client's.
///
/// An alert is verified if K lists its id. If it does not, the alert is not to be trusted, unless K
/// itself was cut. An alert without id stays as it is.
///
/// An alert whose text was cut takes the id of the one rule in K that may log and that no other
/// alert claims; its remaining fields may still be forged, so the id is all it gets.
pub(super) fn verify<'a>(alerts: &mut [Alert<'a>], rules: &[MatchedRule<'a>], list: List) {
    let listed: HashSet<&Text<'a>> = rules
        .iter()
        .filter(|rule| rule.matched)
        .filter_map(|rule| rule.id.as_ref())
        .collect();
    for alert in alerts.iter_mut().filter(|alert| alert.verified.is_none()) {
        alert.verified = alert
            .rule_id
            .as_ref()
            .map(|id| listed.contains(id))
            .filter(|found| *found || list == List::Whole);
    }
    if !alerts.iter().any(|alert| alert.raw.len() == CUT_AT) {
        return;
    }
    let claimed: HashSet<&Text<'a>> = alerts
        .iter()
        .filter(|alert| alert.verified == Some(true))
        .filter_map(|alert| alert.rule_id.as_ref())
        .collect();
    let mut open: Vec<&Text<'a>> = rules
        .iter()
        .filter(|rule| rule.matched && rule.logs)
        .filter_map(|rule| rule.id.as_ref())
        .filter(|id| !claimed.contains(id))
        .collect();
    open.sort_unstable();
    open.dedup();
    if let [only] = open[..]
        && list == List::Whole
    {
        let only = only.clone();
        for alert in alerts.iter_mut().filter(|alert| alert.raw.len() == CUT_AT) {
            if alert.rule_id.as_ref() != Some(&only) {
                *alert = without_metadata(alert);
                alert.rule_id = Some(only.clone());
            }
        }
    }
}

/// Returns the alert without what its metadata said.
fn without_metadata<'a>(alert: &Alert<'a>) -> Alert<'a> {
    Alert {
        raw: alert.raw.clone(),
        action: alert.action,
        phase: alert.phase,
        detail: alert.detail.clone(),
        verified: alert.verified,
        ..Alert::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(raw: &str) -> Alert<'_> {
        parse(raw.as_bytes(), &mut false)
    }

    #[test]
    fn all_fields_of_a_genuine_alert() {
        let alert = alert(
            r#"Access denied with code 403 (phase 2). String match "/x" at REQUEST_URI. [file "/etc/waf.conf"] [line "159"] [id "10003"] [rev "3"] [msg "Full \"rule\""] [data "a=[q \x22v\x22] \x5c"] [severity "EMERGENCY"] [ver "local/1.0"] [maturity "7"] [accuracy "8"] [tag "local/one"] [tag "local/two"]"#,
        );
        assert_eq!(alert.action, Some(AlertAction::Denied));
        assert_eq!(alert.phase, Some(2));
        assert_eq!(alert.detail, r#"String match "/x" at REQUEST_URI."#);
        assert_eq!(alert.file.unwrap(), "/etc/waf.conf");
        assert_eq!(alert.line, Some(159));
        assert_eq!(alert.rule_id.unwrap(), "10003");
        assert_eq!(alert.rev.unwrap(), "3");
        assert_eq!(alert.msg.unwrap(), "Full \"rule\"");
        assert_eq!(alert.data.unwrap(), "a=[q \"v\"] \\");
        assert_eq!(alert.severity, Some(Severity::Emergency));
        assert_eq!(alert.ver.unwrap(), "local/1.0");
        assert_eq!((alert.maturity, alert.accuracy), (Some(7), Some(8)));
        assert_eq!(alert.tags, ["local/one", "local/two"]);
        assert_eq!(alert.verified, None);
    }

    /// A message, and the action, phase and remaining words in it.
    const OPENINGS: [(&str, Option<AlertAction>, Option<u8>, &str); 13] = [
        (
            "Warning. detected XSS using libinjection.",
            Some(AlertAction::Warning),
            None,
            "detected XSS using libinjection.",
        ),
        (
            "Access denied with code 403 (phase 2).",
            Some(AlertAction::Denied),
            Some(2),
            "",
        ),
        (
            "Access denied with connection close (phase 1). x",
            Some(AlertAction::Denied),
            Some(1),
            "x",
        ),
        (
            "Access denied with redirection to http://a.example/?(phase 4) using status 302 (phase 1). x",
            Some(AlertAction::Denied),
            Some(1),
            "x",
        ),
        (
            "Access denied with redirection to http://a.example/ using status 302 (phase 2). at ARGS:x using status 302 (phase 1). y.",
            Some(AlertAction::Denied),
            None,
            "Access denied with redirection to http://a.example/ using status 302 (phase 2). at ARGS:x using status 302 (phase 1). y.",
        ),
        (
            "Access denied using proxy to (phase 2) http://b.example/.",
            Some(AlertAction::Denied),
            Some(2),
            "http://b.example/.",
        ),
        (
            "Access allowed (phase 1). x",
            Some(AlertAction::Allowed),
            Some(1),
            "x",
        ),
        (
            "Access to phase allowed (phase 2). x",
            Some(AlertAction::Allowed),
            Some(2),
            "x",
        ),
        (
            "Access to request allowed (phase 2). x",
            Some(AlertAction::Allowed),
            Some(2),
            "x",
        ),
        (
            "Paused Access (phase 2). x",
            Some(AlertAction::Paused),
            Some(2),
            "x",
        ),
        (
            "Warning. (phase 2) at ARGS",
            Some(AlertAction::Warning),
            None,
            "(phase 2) at ARGS",
        ),
        (
            "JSON parser error: x (phase 2)",
            None,
            None,
            "JSON parser error: x (phase 2)",
        ),
        (
            "Access denied with code 403 (phase 9). x",
            Some(AlertAction::Denied),
            None,
            "Access denied with code 403 (phase 9). x",
        ),
    ];

    #[test]
    fn the_words_at_the_start_tell_action_and_phase() {
        for (raw, action, phase, detail) in OPENINGS {
            let alert = alert(raw);
            assert_eq!(
                (alert.action, alert.phase),
                (action, phase),
                "input {raw:?}"
            );
            assert_eq!(alert.detail, detail, "input {raw:?}");
        }
    }

    #[test]
    fn tags_in_an_argument_name_change_nothing() {
        for name in [
            r#"x [id "1"] [msg "fake"] [severity "DEBUG"]"#,
            r#"x [file "/f"] [line "1"] [id "1"] [msg "fake"] [tag ""#,
            r#"x [tag "open"#,
            r#"x [tag "open\"#,
            r#"x [id "1"] [file "/f"#,
        ] {
            let raw = format!(
                r#"Warning. Pattern match "'" at ARGS:{name}. [file "/etc/waf.conf"] [line "12"] [id "100100"] [msg "real"] [severity "CRITICAL"]"#
            );
            let alert = alert(&raw);
            assert_eq!(alert.rule_id.as_ref().unwrap(), "100100", "name {name:?}");
            assert_eq!(alert.msg.as_ref().unwrap(), "real", "name {name:?}");
            assert_eq!(alert.severity, Some(Severity::Critical), "name {name:?}");
        }
    }

    #[test]
    fn metadata_must_reach_the_end_in_order_with_known_keys() {
        for raw in [
            r#"x [id "1"] y"#,
            r#"x [id "1"] "#,
            r#"x [id "1"][msg "y"]"#,
            r#"x [msg "y"] [unknown "z"]"#,
            r#"x [hostname "h"] [uri "/"] [unique_id "u"]"#,
            r#"x [id "1""#,
            r#"x [id "1"#,
            "no metadata",
            "",
        ] {
            assert!(!alert(raw).has_metadata(), "input {raw:?}");
        }
        // A run that breaks the order starts anew behind the break.
        let broken = alert(r#"x [msg "early"] [id "1"] [msg "y"]"#);
        assert_eq!(
            (broken.rule_id.unwrap(), broken.msg.unwrap()),
            ("1".into(), "y".into())
        );
        let twice = alert(r#"x [id "1"] [id "2"]"#);
        assert_eq!(twice.rule_id.unwrap(), "2");
    }

    fn cut(head: &str, tail: &str) -> String {
        let fill = CUT_AT - head.len() - tail.len();
        format!("{head}{}{tail}", "a".repeat(fill))
    }

    #[test]
    fn a_text_of_exactly_1023_bytes_is_unverified() {
        let head = r#"Warning. Pattern match "'" at ARGS:"#;
        let forged = cut(head, r#" [id "999"] [msg "forged"]"#);
        assert_eq!(alert(&forged).verified, Some(false));
        assert_eq!(alert(&forged).rule_id.unwrap(), "999");

        for tail in [
            r#". [file "/f"] [line "1"] [id "7"] [msg "m"] [data "cut her"#,
            r#". [file "/f"] [line "1"] [id "7"] [msg "m"] [data "cut""#,
            r#". [file "/f"] [line "1"] [id "7"] [msg "m"] [da"#,
            r#". [file "/f"] [line "1"] [id "7"] [msg "m"] "#,
            r#". [file "/f"] [line "1"] [id "7"] [msg "m"] [data "x\"#,
        ] {
            let text = cut(head, tail);
            let alert = alert(&text);
            assert_eq!(
                (alert.rule_id.unwrap(), alert.verified),
                ("7".into(), Some(false)),
                "tail {tail:?}"
            );
            assert_eq!(alert.msg.unwrap(), "m", "tail {tail:?}");
        }
    }

    fn rule(id: &'static str, logs: bool) -> MatchedRule<'static> {
        MatchedRule {
            id: Some(id.into()),
            matched: true,
            logs,
            directive: "".into(),
        }
    }

    #[test]
    fn part_k_confirms_or_contradicts_an_id() {
        let mut alerts = [
            alert(r#"x [id "1"]"#),
            alert(r#"x [id "2"]"#),
            alert("notice"),
        ];
        verify(
            &mut alerts,
            &[rule("1", true), rule("3", false)],
            List::Whole,
        );
        assert_eq!(
            alerts.map(|alert| alert.verified),
            [Some(true), Some(false), None]
        );

        // A list that was cut confirms, but does not contradict.
        let mut alerts = [alert(r#"x [id "1"]"#), alert(r#"x [id "2"]"#)];
        verify(&mut alerts, &[rule("1", true)], List::Cut);
        assert_eq!(alerts.map(|alert| alert.verified), [Some(true), None]);
    }

    #[test]
    fn a_cut_alert_takes_the_one_id_that_part_k_leaves() {
        let text = cut("Warning. at ARGS:", r#" [id "999"] [msg "forged"]"#);
        let rules = [rule("900", false), rule("1", true), rule("942100", true)];
        let mut alerts = [alert(r#"x [id "1"]"#), alert(&text)];
        verify(&mut alerts, &rules, List::Whole);
        assert_eq!(alerts[1].rule_id.as_ref().unwrap(), "942100");
        assert_eq!((&alerts[1].msg, alerts[1].verified), (&None, Some(false)));

        // Two candidates: nothing to choose by.
        let mut alerts = [alert(&text)];
        verify(&mut alerts, &rules, List::Whole);
        assert_eq!(alerts[0].rule_id.as_ref().unwrap(), "999");
    }

    #[test]
    fn a_flood_of_brackets_takes_linear_time() {
        let raw = r#" [id ""#.repeat(200_000);
        assert!(!alert(&raw).has_metadata());
        let raw = r#" [tag "x"]"#.repeat(200_000);
        let mut capped = false;
        let alert = parse(raw.as_bytes(), &mut capped);
        assert_eq!((alert.tags.len(), capped), (MAX_TAGS, true));
    }
}

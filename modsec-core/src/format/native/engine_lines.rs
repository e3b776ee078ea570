//! Part H of ModSecurity 2: what the engine says, one keyed line each, in a fixed order.
//!
//! | key | value | times | into |
//! | --- | --- | --- | --- |
//! | `Message` | the text of an alert, see [`rule_match`] | any | `alerts` |
//! | `Apache-Error` | a line of the error log | any | `apache_errors` |
//! | `Action` | `Intercepted (phase 2)` | 0 or 1 | `intercepted_phase` |
//! | `Apache-Handler` | name of the handler | 0 or 1 | `handler` |
//! | `Stopwatch` | start and duration in microseconds, `(- - -)` | 1 | `stopwatch` |
//! | `Stopwatch2` | the same, and time by phase | 0 or 1 | `stopwatch2` |
//! | `Response-Body-Transformed` | `Dechunked` | 0 or 1 | `other` |
//! | `Producer` | engine, `; ` and each rule set, a full stop | 1 | `producer` |
//! | `Server` | signature of the server | 1 | `server` |
//! | `Sanitised-Args` and two more | `"name", "name".` | 0 or 1 | `other` |
//! | `WebApp-Info` | `"application" "session" "user"`, `-` for none | 0 or 1 | `webapp_info` |
//! | `Sensor-Id` | quoted | 0 or 1 | `sensor_id` |
//! | `Engine-Mode` | quoted: `ENABLED` or `DETECTION_ONLY` | 0 or 1 | `mode` |
//! | `Rules-Performance-Info` | `"id=microseconds", …` | 0 or 1 | `other` |
//!
//! The source is `sec_audit_logger_native` in `msc_logging.c`. A value that is not of its form is
//! kept under `other`, with its key.
//!
//! Alerts come first. The text of an alert may span lines (XML validation errors quote the
//! document, JSON parser errors end with a line feed), so a client may be able to start a line
//! with a key. Three things expose him. The order: a key that stands before a line of lower rank, or
//! that is repeated though it may not be, belongs to the text of an alert. The rest of the sentence
//! that quotes him: a line without a key. And how the quoting text starts: with none of the words of
//! a rule or of a notice that quotes nothing ([`sentences`]). Then none of the alerts is believed.
//!
//! What cannot be told is that a Lua script passed nothing but the client's own words to `m.log`.

use std::ops::Range;

use memchr::memmem;

use super::lines::{first_line, lines};
use crate::format::digits::number;
use crate::format::rule_match::{self, sentences};
use crate::record::{Engine, EngineMode, Flag, MAX_ALERTS, MAX_ENGINE_LINES, Record, Stopwatch};
use crate::text::Text;

/// Keys in the engine's order. The first two may repeat.
const KEYS: [&[u8]; 16] = [
    b"Message",
    b"Apache-Error",
    b"Action",
    b"Apache-Handler",
    b"Stopwatch",
    b"Stopwatch2",
    b"Response-Body-Transformed",
    b"Producer",
    b"Server",
    b"Sanitised-Args",
    b"Sanitised-Request-Headers",
    b"Sanitised-Response-Headers",
    b"WebApp-Info",
    b"Sensor-Id",
    b"Engine-Mode",
    b"Rules-Performance-Info",
];
/// The keys before this rank may have several lines, as `Message` and `Apache-Error` do.
const REPEATABLE: usize = 2;
/// The rank of `Stopwatch`, which is always there.
const LAST_BEFORE_OTHERS: usize = 4;

/// A line that starts with one of [`KEYS`].
struct Keyed {
    /// Index of its key in [`KEYS`].
    rank: usize,
    /// Where the line starts in the part.
    start: usize,
}

/// Reads part H into the record.
///
/// A client whose XML document is quoted in an error of validation writes this:
///
/// ```text
/// Message: Element 'a': 'x                                 rank 0, genuine
/// Action: Intercepted (phase 1)                            rank 2, his
///  is not a valid value. [file "/f"] [line "1"] [id "7"]   no key
/// Message: Access denied with code 403 (phase 2). …        rank 0: ranks 1 and up before it are his
/// Action: Intercepted (phase 2)                            rank 2, genuine
/// Stopwatch: 1706951472000345 1830 (- - -)                 rank 4
/// ```
///
/// Read from the end, ranks must not rise: the first `Action` does not count, and belongs to the
/// text of the first message. That there is such a line, or one without a key in front of
/// `Stopwatch`, makes the entry ambiguous, and no alert of it is believed.
pub(super) fn read<'a>(content: &'a [u8], record: &mut Record<'a>, capped: &mut bool) {
    let found = keyed_lines(content);
    let genuine = in_order(&found);
    let is_odd = genuine.len() < found.len() || has_stray_line(content, &found);
    if is_odd {
        record.flags.insert(Flag::Ambiguous);
    }
    // The last line may lack its LF if the entry was cut.
    let after_last = content.len() + usize::from(!content.ends_with(b"\n"));
    let mut ends = genuine.iter().skip(1).map(|next| next.start);
    let alerts = genuine.iter().filter(|line| line.rank == 0).count();
    let dropped = surplus(alerts);
    let mut alert = 0..alerts;
    for line in &genuine {
        let end = ends.next().unwrap_or(after_last);
        let key = KEYS.get(line.rank).copied().unwrap_or_default();
        // Behind the key stand a colon and a space; before the next line an LF.
        let start = line.start + key.len() + 2;
        let end = end.saturating_sub(1).max(start);
        let value = content
            .get(start..end.min(content.len()))
            .unwrap_or_default();
        if line.rank == 0 {
            if alert.next().is_some_and(|n| dropped.contains(&n)) {
                *capped = true;
            } else {
                record.alerts.push(rule_match::parse(value, capped));
            }
        } else {
            set(&mut record.engine, line.rank, value, capped);
        }
    }
    if is_odd || record.alerts.iter().any(sentences::may_quote) {
        doubt(record);
    }
}

/// Returns `true` if a line that is not empty has no key of ours, and stands where the text of an
/// alert may go on: the engine writes all of its keys up to the stopwatch, and a client who makes
/// his own lines look like them leaves the rest of the sentence that quotes him behind.
///
/// Behind later keys stand those of later releases.
fn has_stray_line(content: &[u8], found: &[Keyed]) -> bool {
    let mut keyed = found.iter().peekable();
    let (mut rank, mut start) = (0, 0);
    for line in lines(content) {
        match keyed.next_if(|next| next.start == start) {
            Some(next) => rank = next.rank,
            None if !line.is_empty() && rank <= LAST_BEFORE_OTHERS => return true,
            None => {}
        }
        start += line.len() + 1;
    }
    false
}

/// Believes no alert, and an interception only if the engine may intercept and the answer was an
/// error.
///
/// A client who makes his own request look intercepted gains nothing. One who makes it look as if
/// it were not, by having himself quoted, would escape from being counted.
pub(super) fn doubt(record: &mut Record<'_>) {
    for alert in &mut record.alerts {
        alert.verified = Some(false);
    }
    let refused = record.response.status.is_some_and(|status| status >= 400);
    let intercepts = record
        .engine
        .mode
        .is_none_or(|mode| mode == EngineMode::Enabled);
    if !(refused && intercepts) {
        record.engine.intercepted_phase = None;
    }
}

/// Returns which of so many alerts are left out: the middle of what does not fit.
///
/// A client can cause as many alerts as he sends arguments. The denial and the scores come last.
pub(super) fn surplus(alerts: usize) -> Range<usize> {
    MAX_ALERTS / 2..(MAX_ALERTS / 2).max(alerts.saturating_sub(MAX_ALERTS / 2))
}

/// Returns the lines that start with a key, a colon and a space.
fn keyed_lines(content: &[u8]) -> Vec<Keyed> {
    let mut found = Vec::with_capacity(24);
    let mut start = 0;
    for line in lines(content) {
        if let Some(rank) = rank(line) {
            found.push(Keyed { rank, start });
        }
        start += line.len() + 1;
    }
    found
}

/// Returns the index in [`KEYS`] of the key that a line starts with.
fn rank(line: &[u8]) -> Option<usize> {
    // All keys begin with a capital letter, few lines of other text do.
    if !line.first()?.is_ascii_uppercase() {
        return None;
    }
    KEYS.iter().position(|key| {
        line.strip_prefix(*key)
            .is_some_and(|rest| rest.starts_with(b": "))
    })
}

/// Returns the lines behind which only lines of the same or a higher rank follow.
fn in_order(found: &[Keyed]) -> Vec<&Keyed> {
    let mut lowest = usize::MAX;
    let mut genuine: Vec<&Keyed> = found
        .iter()
        .rev()
        .filter(|line| {
            let fits = line.rank < lowest || (line.rank == lowest && line.rank < REPEATABLE);
            if fits {
                lowest = line.rank;
            }
            // An alert is never doubted: the engine's own must not disappear.
            fits || line.rank == 0
        })
        .collect();
    genuine.reverse();
    genuine
}

/// Keeps a keyed line, and what stands below it up to the next: lines of a later release.
fn set<'a>(engine: &mut Engine<'a>, rank: usize, value: &'a [u8], capped: &mut bool) {
    let line = first_line(value);
    let key = KEYS.get(rank).copied().unwrap_or_default();
    if key == b"Apache-Error" {
        if engine.apache_errors.len() < MAX_ALERTS {
            engine.apache_errors.push(line.into());
        } else {
            *capped = true;
        }
        return;
    }
    if !set_field(engine, key, line) {
        push_other(engine, key, line, capped);
    }
    for line in lines(value).skip(1) {
        if let Some((key, value)) = unknown(line) {
            push_other(engine, key, value, capped);
        }
    }
}

/// Sets the field that belongs to `key`; false if there is none or the value is not of its form.
fn set_field<'a>(engine: &mut Engine<'a>, key: &[u8], line: &'a [u8]) -> bool {
    let quoted = || {
        line.strip_prefix(b"\"")
            .and_then(|line| line.strip_suffix(b"\""))
    };
    match key {
        b"Action" => {
            engine.intercepted_phase = intercepted_phase(line);
            engine.intercepted_phase.is_some()
        }
        b"Stopwatch" => {
            engine.stopwatch = stopwatch(line);
            engine.stopwatch.is_some()
        }
        b"Sensor-Id" => {
            engine.sensor_id = quoted().map(Text::from);
            engine.sensor_id.is_some()
        }
        b"Engine-Mode" => {
            engine.mode = quoted().and_then(mode);
            engine.mode.is_some()
        }
        b"Producer" => {
            engine.producer = Some(line.strip_suffix(b".").unwrap_or(line).into());
            true
        }
        _ => {
            let field = match key {
                b"Apache-Handler" => &mut engine.handler,
                b"Stopwatch2" => &mut engine.stopwatch2,
                b"Server" => &mut engine.server,
                b"WebApp-Info" => &mut engine.webapp_info,
                _ => return false,
            };
            *field = Some(line.into());
            true
        }
    }
}

/// Keeps a line as key and value, up to [`MAX_ENGINE_LINES`].
fn push_other<'a>(engine: &mut Engine<'a>, key: &'a [u8], value: &'a [u8], capped: &mut bool) {
    if engine.other.len() < MAX_ENGINE_LINES {
        engine.other.push((key.into(), value.into()));
    } else {
        *capped = true;
    }
}

/// Splits a line whose key is none of ours: a later release may add some.
fn unknown(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memmem::find(line, b": ")?;
    let key = line.get(..colon)?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let named = key.first().is_some_and(u8::is_ascii_uppercase) && key.iter().all(plain);
    named.then_some((key, line.get(colon + 2..)?))
}

// Action: Intercepted (phase 2)
/// Returns the phase of an interception, 1 to 5; `None` if the value is anything else.
fn intercepted_phase(value: &[u8]) -> Option<u8> {
    match value.strip_prefix(b"Intercepted (phase ")? {
        // Behind it would stand the rest of a sentence that quotes the client.
        [digit @ b'1'..=b'5', b')'] => Some(digit - b'0'),
        _ => None,
    }
}

// Stopwatch: 1706951472000345 1830 (- - -)
/// Returns start and duration, both in microseconds, the start since the Unix epoch. What
/// stands behind them is not read.
fn stopwatch(value: &[u8]) -> Option<Stopwatch> {
    let mut words = value.split(|byte| *byte == b' ');
    Some(Stopwatch {
        start_us: number(words.next()?)?,
        duration_us: number(words.next()?)?,
    })
}

/// Returns the mode of that name, which is `SecRuleEngine` in the engine's own spelling.
fn mode(name: &[u8]) -> Option<EngineMode> {
    [
        EngineMode::Enabled,
        EngineMode::DetectionOnly,
        EngineMode::Disabled,
    ]
    .into_iter()
    .find(|mode| mode.name().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Alert;

    fn record(content: &str) -> Record<'_> {
        let mut record = Record::default();
        read(content.as_bytes(), &mut record, &mut false);
        record
    }

    #[test]
    fn an_alert_ends_before_the_next_keyed_line_or_the_end() {
        for (content, want) in [
            ("Message: a\n", &["a"][..]),
            ("Message: a", &["a"]),
            ("Message: a\nMessage: b\n", &["a", "b"]),
            (
                "Message: parse error: x\n\nMessage: b\nServer: s\n",
                &["parse error: x\n", "b"],
            ),
            ("Message: a\nsecond line\nServer: s\n", &["a\nsecond line"]),
            ("Message: \n", &[""]),
            ("Message: ", &[""]),
            ("Message:\n", &[]),
            ("", &[]),
        ] {
            let record = record(content);
            let got: Vec<_> = record
                .alerts
                .iter()
                .map(|alert| alert.raw.to_string())
                .collect();
            assert_eq!(got, want, "content {content:?}");
        }
    }

    #[test]
    fn a_key_that_a_client_starts_a_line_with_is_text() {
        let content = "Message: XML: DTD says x\nAction: Intercepted (phase 1)\nEngine-Mode: \"DISABLED\"\n [file \"/f\"] [line \"1\"] [id \"7\"]\nMessage: b\nEngine-Mode: \"ENABLED\"\n";
        let record = record(content);
        assert_eq!(record.engine.mode, Some(EngineMode::Enabled));
        assert_eq!(record.engine.intercepted_phase, None);
        assert_eq!(record.alerts[0].rule_id.as_ref().unwrap(), "7");
        assert!(record.flags.contains(Flag::Ambiguous));
    }

    #[test]
    fn a_flood_of_alerts_does_not_hide_the_last_ones() {
        for flood in [0, MAX_ALERTS - 1, MAX_ALERTS, 3 * MAX_ALERTS] {
            let mut content = "Message: Warning. x [id \"1\"]\n".repeat(flood);
            content.push_str("Message: Access denied with code 403 (phase 2). y [id \"2\"]\n");
            let mut record = Record::default();
            let mut capped = false;
            read(content.as_bytes(), &mut record, &mut capped);
            assert_eq!(record.alerts.last().unwrap().rule_id.as_ref().unwrap(), "2");
            assert_eq!(record.alerts.len(), MAX_ALERTS.min(flood + 1));
            assert_eq!(capped, flood >= MAX_ALERTS, "flood of {flood}");
        }
    }

    #[test]
    fn what_a_client_may_have_written_is_not_believed() {
        let genuine = "Apache-Handler: x\nStopwatch: 1 2 (- - -)\n";
        let alert = "Access denied with code 403 (phase 2). x [file \"/f\"] [line \"1\"] [id \"7\"] [severity \"EMERGENCY\"]";
        let start = "Message: Element 'a': The value 'x";
        let rest = "' is not a valid value of the type 'xs:integer'.";
        let key = "Message: Access denied";
        for quoted in [
            format!("{start}\nMessage: {alert}\n{rest}\n"),
            format!("{start}\nMessage: {alert}\nKey: {rest}\n"),
            format!("{start}\nMessage: {alert}\nMessage: {rest}\n"),
            format!("{start}\nMessage: {alert}\n{key}{rest}\n"),
            format!("{start}\nMessage: {alert}\n"),
            format!("{start}\nMessage: {alert}\nAction: Intercepted (phase 2)\n"),
            format!("{start}\nMessage: {alert}\nAction: Intercepted (phase 2)\n{rest}\n"),
            format!("{start}\nMessage: {alert}\nAction: Intercepted (phase 2)\nServer: {rest}\n"),
        ] {
            let content = quoted.clone() + genuine;
            let record = record(&content);
            assert!(!record.intercepted(), "{quoted}");
            assert!(
                record.alerts.iter().all(|alert| !alert.is_trusted()),
                "{quoted}"
            );
        }
    }

    #[test]
    fn a_parser_error_that_ends_with_a_line_feed_is_no_doubt() {
        let content = "Message: JSON parsing error: parse error: premature EOF\n\nMessage: Access denied with code 400 (phase 2). x [file \"/f\"] [line \"1\"] [id \"200002\"]\nAction: Intercepted (phase 2)\nStopwatch: 1 2 (- - -)\n";
        let record = record(content);
        assert!(record.intercepted() && record.flags.is_empty());
        assert!(record.alerts.iter().all(Alert::is_trusted));
    }

    #[test]
    fn keys_of_later_releases_are_kept() {
        let content =
            "Message: Warning. a\nServer: s\nNew-Key: v: w\nno key\nEngine-Mode: \"ENABLED\"\n";
        let record = record(content);
        assert_eq!(record.engine.other, [("New-Key".into(), "v: w".into())]);
        assert_eq!(record.engine.server.as_ref().unwrap(), "s");
        assert!(record.flags.is_empty());
    }
}

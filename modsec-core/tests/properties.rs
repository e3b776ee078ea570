//! What holds for any input: bytes, records and alerts made up by proptest.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

/// A struct that only the library may write as a literal, since it may grow.
macro_rules! filled {
    ($type:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {{
        let mut it = $type::default();
        $(it.$field = filled!(@ $field $(, $value)?);)*
        it
    }};
    (@ $field:ident) => { $field };
    (@ $field:ident, $value:expr) => { $value };
}

#[path = "properties/alerts.rs"]
mod alerts;
#[path = "properties/records.rs"]
mod records;
mod written;

use std::time::{Duration, Instant};

use chrono::{DateTime, FixedOffset};
use modsec_core::format::large::{Excerpts, Large};
use modsec_core::format::{self, native};
use modsec_core::record::{Alert, Flag};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use self::alerts::Composed;

/// Pieces of real entries: what leads into the deeper paths of the grammar.
const FRAGMENTS: &[&[u8]] = &[
    b"\n",
    b"\n\n",
    b" ",
    b"--1a2b3c4d-A--\n",
    b"\n--1a2b3c4d-B--\n",
    b"\n--1a2b3c4d-C--\n",
    b"\n--1a2b3c4d-E--\n",
    b"\n--1a2b3c4d-F--\n",
    b"\n--1a2b3c4d-H--\n",
    b"\n--1a2b3c4d-I--\n",
    b"\n--1a2b3c4d-J--\n",
    b"\n--1a2b3c4d-K--\n",
    b"\n--1a2b3c4d-Q--\n",
    b"\n--1a2b3c4d-Z--\n",
    b"--1a2b3c4d-Z--",
    b"\n--1a2b3c4d-H-- \n",
    b"\n--00000000-H--\n",
    b"[03/Feb/2024:10:11:12.000345 --03-30] Zb4kQH8AAAEAAB1cR0MAAAAA 192.0.2.1 4 ::1 80",
    b"192.0.2.10\n[id \"944\"] [msg \"x\"]\n",
    b"POST /a b HTTP/1.1\n",
    b"--1a2b3c4d-Z--\n",
    b"Content-Length: 5\n",
    b"Content-Length: 18446744073709551615\n",
    b"Transfer-Encoding: chunked\n",
    b"Host: \xff\0\r\n",
    b"HTTP/1.1 403 Forbidden\n",
    b"12345",
    b"Message: Warning. at ARGS:x [id \"1\"] [tag \"",
    b" [file \"/f\"] [line \"1\"] [id \"7\"] [msg \"m\\\"\"] [data \"\\x5c",
    b"\"] [severity \"CRITICAL\"]",
    b"Message: Access denied with code 403 (phase 2). x\n",
    b"Action: Intercepted (phase 2)\n",
    b"Apache-Error: [file \"a.c\"] [line 1] x\n",
    b"Stopwatch: 1706951472000345 1830 (- - -)\n",
    b"Engine-Mode: \"ENABLED\"\n",
    b"New-Key: value\n",
    b"1,5,\"a\\\"\",\"text/plain\"\nTotal,5\n",
    b"SecRule \"ARGS\" \"@rx \\\",\" \"phase:2,id:'7',msg:'a,b'\"\n\n",
    b"#SecRule \"ARGS\" \"@rx x\" \"nolog\"\n",
];

/// Pieces that only libmodsecurity or Coraza write.
const FRAGMENTS_OF_OTHERS: &[&[u8]] = &[
    b"\n\n\n",
    b"\n---Qx7Lm2Rt---D--\n",
    b"---Qx7Lm2Rt---Z--\n\n",
    b"\n---aaaaaaaa---A--\n",
    b"\n--QxaLmbRtcd-H--\n",
    b"--QxaLmbRtcd-Z--\n\n",
    b"[2024/02/03 10:11:12] x 192.0.2.1 4 ::1 80",
    b"[2024/02/03 10:11:12] x y 192.0.2.1 4 ::1 80GET / HTTP/1.1\n",
    b"- /a HTTP/2.0\n",
    b"ModSecurity: Warning. Matched \"Operator `Rx' with",
    b"ModSecurity: Access denied with code 403 (phase 2). ",
    b" [file \"/f\"] [line \"1\"] [id \"7\"] [rev \"\"] [msg \"m\"] [data \"\x5cx22\"] [severity \"2\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"]",
    b" [tag \"t\"]",
    b" [hostname \"h\"] [uri \"/a\"] [unique_id \"x\"]",
    b" [ref \"v0,1\"]\n",
    b"[client \"192.0.2.1\"] Coraza: Warning. ",
    b"[client \"192.0.2.1\"] Coraza: Access denied (phase 2). m",
    b"[msg_match_1 \"m\"] [data_match_1 \"\x5cu2028\"]",
];

/// Entries of any dialect. All of them know all pieces.
fn fragments() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        6 => select(FRAGMENTS).prop_map(<[u8]>::to_vec),
        3 => select(FRAGMENTS_OF_OTHERS).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..20),
    ];
    let dialect = select(&["--1a2b3c4d-", "---Qx7Lm2Rt---", "--QxaLmbRtcd-"][..]);
    let opening = select(&["", "A--\n", "A--\n", "B--\n"][..]);
    (dialect, opening, vec(fragment, 0..40)).prop_map(|(dialect, opening, pieces)| {
        let opening = match opening {
            "" => String::new(),
            letter => format!("{dialect}{letter}"),
        };
        let pieces = replace(&pieces.concat(), b"--1a2b3c4d-", dialect.as_bytes());
        [opening.as_bytes(), &pieces].concat()
    })
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(from) {
            out.extend_from_slice(to);
            rest = behind;
        } else {
            out.push(*first);
            rest = behind;
        }
    }
    out
}

/// Everything that must hold for `bytes`, looked at in windows of `step` fresh bytes each.
fn check(bytes: &[u8], step: usize) -> Result<(), TestCaseError> {
    let Ok(entry) = native::Entry::parse(bytes) else {
        prop_assert!(format::detect(bytes).is_none());
        return Ok(());
    };
    let mut joined = Vec::new();
    for part in entry.parts() {
        prop_assert_eq!(part.offset, joined.len());
        joined.extend_from_slice(part.bytes);
    }
    prop_assert_eq!(joined, bytes);

    let record = entry.record();
    let truncated = record.flags.contains(Flag::Truncated);
    // Without part A, Coraza writes no part Z either.
    let without_z = entry.boundary().dialect() == format::Dialect::Coraza
        && entry.parts().next().is_some_and(|part| part.letter != 'A');
    prop_assert!(truncated || format::is_complete(bytes) || without_z);
    let excerpts = excerpts(bytes, step);
    prop_assert_eq!(&excerpts.record(), &record);
    if let Some(rendered) = written::entry(&record, entry.boundary()) {
        let mut again = format::decode(&rendered).unwrap();
        // Lines with keys that no engine writes have no place of their own in part H.
        let mut record = record.clone();
        record.engine.other.clear();
        again.engine.other.clear();
        prop_assert_eq!(again, record);
    }
    Ok(())
}

/// What is kept of an entry that comes in windows of `step` fresh bytes each.
fn excerpts(bytes: &[u8], step: usize) -> Excerpts {
    let mut large = Large::open(bytes).unwrap();
    let (mut start, mut end) = (0, bytes.len().min(Large::OVERLAP + step));
    loop {
        large.scan(&bytes[start..end], start as u64, end == bytes.len());
        if end == bytes.len() {
            break;
        }
        start = end - Large::OVERLAP;
        end = bytes.len().min(end + step);
    }
    let range = |at: u64| usize::try_from(at).unwrap();
    large
        .finish(|part| Ok::<_, ()>(bytes[range(part.start)..range(part.end)].to_vec()))
        .unwrap()
}

/// An entry of libmodsecurity or Coraza with the given part H.
fn entry_of(opening: &str, alerts: &[u8]) -> Vec<u8> {
    let (before, behind) = opening.split_once('A').unwrap();
    let part = |letter: char| format!("{before}{letter}{behind}\n");
    [
        part('A').as_bytes(),
        b"[03/Feb/2024:10:11:12 +0100] ID 192.0.2.1 4 ::1 80\n",
        part('B').as_bytes(),
        b"GET /a?b HTTP/1.1\n\n",
        part('F').as_bytes(),
        b"HTTP/1.1 403\n\n",
        part('H').as_bytes(),
        alerts,
        b"\n",
        part('Z').as_bytes(),
        b"\n",
    ]
    .concat()
}

/// An entry with one alert, given as the text behind `Message: `.
fn entry_with_alert(raw: &[u8]) -> Vec<u8> {
    [
        b"--1a2b3c4d-A--\n\n--1a2b3c4d-H--\nMessage: ",
        raw,
        b"\nEngine-Mode: \"ENABLED\"\n\n--1a2b3c4d-Z--\n",
    ]
    .concat()
}

fn only_alert(entry: &[u8]) -> Alert<'_> {
    let mut record = format::decode(entry).unwrap();
    assert_eq!(record.alerts.len(), 1);
    record.alerts.remove(0)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_bytes_are_read_without_loss(bytes in vec(any::<u8>(), 0..400), step in 1..64usize) {
        check(&bytes, step)?;
    }

    #[test]
    fn any_mixture_of_real_pieces_is_read_without_loss(bytes in fragments(), step in 1..64usize) {
        check(&bytes, step)?;
    }

    #[test]
    fn an_alert_gives_back_what_the_engine_put_into_it(composed in alerts::composed()) {
        let raw = composed.text();
        prop_assume!(raw.len() != alerts::CUT_AT);
        let entry = entry_with_alert(&raw);
        prop_assert_eq!(only_alert(&entry), composed.alert(&raw));
    }

    #[test]
    fn an_alert_that_the_engine_cut_is_never_trusted(composed in alerts::composed(), fill in 900..2000usize) {
        let long = Composed { client: [vec![b'a'; fill], composed.client.clone()].concat(), ..composed };
        let mut raw = long.text();
        prop_assume!(raw.len() >= alerts::CUT_AT);
        raw.truncate(alerts::CUT_AT);
        let entry = entry_with_alert(&raw);
        prop_assert_eq!(only_alert(&entry).verified, Some(false));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn an_alert_of_libmodsecurity_is_right_or_unverified(client in alerts::text(), value in alerts::text(), host in alerts::text()) {
        let line = alerts::v3(&client, &value, &host);
        let entry = entry_of("---Qx7Lm2Rt---A--", &line);
        let alert = only_alert(&entry);
        if alert.verified != Some(false) {
            prop_assert_eq!(alert.verified, Some(true));
            prop_assert_eq!(alert.rule_id.unwrap(), "942100");
            prop_assert_eq!(alert.msg.unwrap(), "real");
            prop_assert_eq!(alert.tags, ["t"]);
        }
        let harmless = |text: &[u8]| !text.windows(2).any(|two| two == b" [");
        if harmless(&client) && harmless(&value) && !host.contains(&b' ') {
            prop_assert!(alert.verified == Some(true));
        }
    }

    #[test]
    fn alerts_of_coraza_give_back_what_the_engine_put_into_them(messages in vec(alerts::text(), 0..5)) {
        let lines: Vec<_> = messages.iter().map(|message| alerts::coraza(message)).collect();
        let entry = entry_of("--QxaLmbRtcd-A--", &lines.concat());
        let record = format::decode(&entry).unwrap();
        let got: Vec<_> = record.alerts.iter().map(|alert| alert.msg.as_ref().map_or(&b""[..], |msg| msg.as_bytes())).collect();
        prop_assert_eq!(got, messages);
        prop_assert!(record.alerts.iter().all(|alert| alert.verified == Some(true)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn a_record_of_any_values_is_read_back(record in records::record()) {
        let (boundary, _) = native::Boundary::open(b"--1a2b3c4d-A--").unwrap();
        let rendered = written::entry(&record, boundary).unwrap();
        prop_assert!(format::is_complete(&rendered));
        let again = format::decode(&rendered).unwrap();
        prop_assert_eq!(again.time.map(|time| *time.offset()), record.time.map(|time| *time.offset()));
        prop_assert_eq!(again, record);
    }
}

#[test]
fn a_time_of_any_zone_is_read_back() {
    for seconds in [0, 3 * 3600, -5 * 3600, -12_600, 37_800, -1800, 14 * 3600] {
        let offset = FixedOffset::east_opt(seconds).unwrap();
        let time = DateTime::from_timestamp_micros(1_706_951_472_000_345)
            .unwrap()
            .with_timezone(&offset);
        let text = written::time(&time);
        let entry = format!("--1a2b3c4d-A--\n[{text}] x 192.0.2.1 4 ::1 80\n--1a2b3c4d-Z--\n");
        let back = format::decode(entry.as_bytes()).unwrap().time.unwrap();
        assert_eq!(
            (back, back.offset()),
            (time, time.offset()),
            "text {text:?}"
        );
    }
}

/// `opening`, as much of `piece` as makes `bytes` bytes, and `closing`, as content of part `letter`.
fn filled(letter: char, opening: &str, piece: &str, closing: &str, bytes: usize) -> Vec<u8> {
    format!(
        "--1a2b3c4d-A--\n\n--1a2b3c4d-{letter}--\n{opening}{}{closing}\n--1a2b3c4d-Z--\n",
        piece.repeat(bytes / piece.len())
    )
    .into_bytes()
}

fn time_to_decode(entry: &[u8]) -> Duration {
    let start = Instant::now();
    std::hint::black_box(format::decode(std::hint::black_box(entry)).unwrap());
    start.elapsed()
}

const METADATA: &str = "Message: Warning. x [file \"/f\"] [line \"1\"] [msg \"";
const RULE: &str = "SecRule \"ARGS\" \"@rx x\" \"phase:2,";

/// Parts that repeat: what it is, the part's letter, its beginning, the piece, and its end.
const REPEATED: [(&str, char, &str, &str, &str); 26] = [
    ("delimiters", 'C', "", "\n--1a2b3c4d-H--\n", ""),
    (
        "delimiters without content",
        'C',
        "",
        "--1a2b3c4d-C--\n",
        "",
    ),
    ("almost delimiters", 'C', "", "\n--1a2b3c4d-", ""),
    ("headers", 'B', "GET / HTTP/1.1\n", "a: b\n", ""),
    (
        "lengths",
        'B',
        "GET / HTTP/1.1\n",
        "Content-Length: 1\n",
        "",
    ),
    ("spaces in a request line", 'B', "GET", " ", "\n"),
    ("alerts", 'H', "", "Message: x\n", ""),
    (
        "keys out of order",
        'H',
        "",
        "Engine-Mode: x\nServer: y\n",
        "",
    ),
    ("unknown keys", 'H', "Server: x\n", "New-Key: x\n", ""),
    ("lines of one alert", 'H', "Message: ", "x\n", ""),
    ("opened tags", 'H', "Message: ", " [id \"", "\n"),
    (
        "opened and closed tags",
        'H',
        "Message: ",
        " [id \"x\"] y",
        "\n",
    ),
    ("tags in order", 'H', "Message: x", " [tag \"x\"]", "\n"),
    (
        "tags that end too early",
        'H',
        "Message: x",
        " [tag \"x\"]",
        " y\n",
    ),
    ("brackets", 'H', "Message: ", "[", "\n"),
    ("quotes", 'H', METADATA, "\"", "\"]\n"),
    ("backslashes", 'H', METADATA, "\\", "\\\"]\n"),
    ("escapes", 'H', METADATA, "\\x41", "\"]\n"),
    ("scores", 'H', METADATA, "(Total Score: 1", "\"]\n"),
    ("uploads", 'J', "", "1,1,\"a\",\"b\"\n", ""),
    ("backslashes in a name", 'J', "1,1,\"", "\\", "\n"),
    ("rules", 'K', "", "SecAction \"id:1\"\n", ""),
    ("commas", 'K', RULE, ",", "\"\n"),
    ("quoted commas", 'K', RULE, "',',", "\"\n"),
    ("arguments", 'K', "SecRule", " \"x\"", "\n"),
    ("open arguments", 'K', "SecRule", " \"", "\n"),
];

#[test]
fn four_times_the_bytes_take_about_four_times_as_long() {
    for (what, letter, opening, piece, closing) in REPEATED {
        takes_linear_time(what, |bytes| filled(letter, opening, piece, closing, bytes));
    }
}

#[test]
fn four_times_the_alerts_of_the_others_take_about_four_times_as_long() {
    let v3 = " [file \"/f\"] [line \"1\"] [id \"7\"] [rev \"\"] [msg \"m\"] [data \"\"] [severity \"2\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"]";
    let coraza = String::from_utf8(alerts::coraza(b"x")).unwrap();
    let without_end = coraza.trim_end();
    for (what, opening, piece) in [
        ("lines", "---Qx7Lm2Rt---A--", "ModSecurity: x\n"),
        ("runs", "---Qx7Lm2Rt---A--", v3),
        ("openings", "---Qx7Lm2Rt---A--", " [file \""),
        ("tags", "---Qx7Lm2Rt---A--", " [tag \"x\"]"),
        ("ends", "---Qx7Lm2Rt---A--", "\"] [ref \""),
        (
            "delimiters",
            "---Qx7Lm2Rt---A--",
            "\n\n\n---Qx7Lm2Rt---H--\n",
        ),
        ("alerts", "--QxaLmbRtcd-A--", &coraza),
        ("alerts on one line", "--QxaLmbRtcd-A--", without_end),
        ("lines", "--QxaLmbRtcd-A--", "[client \"\n"),
        ("openings", "--QxaLmbRtcd-A--", " [file \""),
        ("quotes", "--QxaLmbRtcd-A--", "\""),
        ("backslashes", "--QxaLmbRtcd-A--", "\\"),
        ("delimiters", "--QxaLmbRtcd-A--", "\n--QxaLmbRtcd-H--\n"),
    ] {
        takes_linear_time(what, |bytes| {
            entry_of(opening, piece.repeat(bytes / piece.len()).as_bytes())
        });
    }
}

fn takes_linear_time(what: &str, entry: impl Fn(usize) -> Vec<u8>) {
    let (one, four) = (entry(1_000_000), entry(4_000_000));
    // Other processes slow down one run, not all three.
    let ratios = (0..3).map(|_| {
        let one = time_to_decode(&one).max(Duration::from_millis(1));
        time_to_decode(&four).as_secs_f64() / one.as_secs_f64()
    });
    let seen: Vec<f64> = ratios.take_while(|ratio| *ratio >= 12.0).collect();
    assert!(
        seen.len() < 3,
        "{what}: four times the bytes take {seen:?} times as long"
    );
}

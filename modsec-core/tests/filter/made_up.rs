//! Rows with hostile texts in every column, and filters that have a chance to mean some of them.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta};
use modsec_core::EntryHash;
use modsec_core::cause::{Category, Outcome};
use modsec_core::record::{Record, Severity};
use modsec_core::store::{Origin, Row, RuleRow};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// What texts are made of: few, so that rows and filters meet.
const PIECES: [&str; 40] = [
    "a",
    "A",
    "b",
    "ab",
    "aB",
    "k",
    "\u{212a}",
    "i",
    "I",
    "\u{130}",
    "\u{131}",
    "i\u{307}",
    "é",
    "É",
    "e\u{301}",
    "ß",
    "ss",
    "\0",
    "a\0b",
    "a\0c",
    "%",
    "_",
    "\\",
    "!",
    "*",
    "'",
    "\"",
    "(",
    ",",
    " ",
    "\n",
    "\u{fffd}",
    "\u{7f}",
    "😀",
    "\u{10ffff}",
    "ÿ",
    "ã",
    "shop.",
    "942100",
    "\u{202e}",
];

/// Addresses of both families, some alike.
const ADDRESSES: [&str; 9] = [
    "192.0.2.7",
    "192.0.2.8",
    "203.0.113.0",
    "203.0.113.255",
    "203.0.114.0",
    "::ffff:192.0.2.7",
    "2001:db8::1",
    "2001:db8:1::",
    "::",
];

const NETWORKS: [&str; 10] = [
    "192.0.2.7",
    "192.0.2.0/29",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
    "::ffff:0:0/96",
    "2001:db8::1",
    "::",
    "198.51.100.0/24",
];

/// Half a minute before the first full day that a filter may name.
const FIRST: &str = "2026-11-19T23:59:30Z";

const TIMES: [&str; 12] = [
    "2026-11-20",
    "2026-11-20T00",
    "2026-11-20T00:00",
    "2026-11-20T00:00:01",
    "2026-11-19T23:59:59",
    "2026-11-20T03:00:00+03:00",
    "2026-11-21",
    "1970-01-02",
    "2037-12-31",
    "9998-12-30",
    "7d",
    "99999w",
];

/// Pieces that are easily taken for each other.
const ALIKE: [&[&str]; 8] = [
    &["a\0b", "a\0c", "A\0b"],
    &["k", "K", "\u{212a}"],
    &["i", "I", "\u{130}", "\u{131}", "i\u{307}"],
    &["é", "É", "e\u{301}", "e"],
    &["ã", "Ã", "\u{33e3}"],
    &["ß", "ss", "SS"],
    &["a", "A", "aa", "%"],
    &["b", "\\", "_", "!"],
];

/// What the texts of one set of rows and filters are made of: so few pieces that they meet.
pub(crate) type Palette = Vec<&'static str>;

pub(crate) fn palette() -> impl Strategy<Value = Palette> {
    let more = vec(select(&PIECES[..]), 1..3);
    (select(&ALIKE[..]), more).prop_map(|(alike, more)| [alike.to_vec(), more].concat())
}

fn text(palette: &Palette) -> BoxedStrategy<String> {
    let pieces = vec(select(palette.clone()), 0..4);
    pieces.prop_map(|pieces| pieces.concat()).boxed()
}

fn maybe(palette: &Palette) -> impl Strategy<Value = Option<String>> + use<> {
    option::weighted(0.9, text(palette))
}

/// A row without a hash of its own.
pub(crate) fn row(palette: &Palette) -> impl Strategy<Value = Row> + use<> {
    let texts = vec(maybe(palette), 12);
    let numbers = vec(option::of(-3_i64..8), 3);
    let names = (
        option::of((0_u8..8).prop_map(|number| Severity::from_number(number).unwrap())),
        option::of(select(vec![Outcome::Blocked, Outcome::Detected])),
        option::of(select(vec![Category::Sqli, Category::Xss])),
        option::of(select(vec![
            "ambiguous",
            "ambiguous,truncated",
            "no_part_h",
            "xambiguous",
            "",
        ])),
    );
    // Whole seconds, and the last microsecond before them.
    let time = option::weighted(0.9, (0_i64..62, select(vec![0_i64, 1, 999_999])));
    let client = option::weighted(0.9, select(&ADDRESSES[..]));
    let status = option::of(select(vec![200_u16, 403, 404, 500, 599, 999]));
    (
        texts,
        numbers,
        names,
        time,
        client,
        status,
        vec(rule(palette), 0..3),
    )
        .prop_map(|(mut texts, numbers, names, time, client, status, rules)| {
            let client: Option<IpAddr> = client.map(|ip| ip.parse().unwrap());
            let hash = EntryHash::of(b"");
            let mut row = Row::new(&Record::default(), hash, &Origin::default(), client);
            let mut next = || texts.pop().unwrap();
            // At most 32 characters.
            row.method = next().map(|text| text.chars().take(8).collect());
            row.uri = next();
            row.remote_addr = next();
            row.rule_id = next();
            row.host = next();
            row.msg = next();
            row.data = next();
            row.unique_id = next();
            row.user_agent = next();
            row.sensor = next();
            row.account = next();
            row.path_template = next();
            [row.score, row.threshold, row.sqli] = numbers.try_into().unwrap();
            row.severity = names.0;
            row.outcome = names.1;
            row.category = names.2;
            row.flags = names.3.map(str::to_owned);
            row.status = status;
            row.created_at = time.map(|(seconds, micros)| {
                let first: DateTime<chrono::Utc> = FIRST.parse().unwrap();
                first + TimeDelta::seconds(seconds) + TimeDelta::microseconds(micros)
            });
            row.rule_matches = rules;
            row
        })
}

fn rule(palette: &Palette) -> impl Strategy<Value = RuleRow> + use<> {
    (vec(maybe(palette), 4), option::of(0_u8..5)).prop_map(|(mut texts, level)| {
        let mut next = || texts.pop().unwrap();
        let mut rule = RuleRow::default();
        rule.rule_id = next();
        rule.msg = next();
        rule.data = next();
        rule.target = next();
        rule.paranoia_level = level;
        rule
    })
}

/// Gives each row a hash of its own.
pub(crate) fn with_hashes(mut rows: Vec<Row>) -> Vec<Row> {
    for (n, row) in rows.iter_mut().enumerate() {
        row.entry_hash = EntryHash::of(&n.to_le_bytes());
    }
    rows
}

/// A filter as text.
pub(crate) fn filter(palette: &Palette) -> impl Strategy<Value = String> + use<> {
    let leaf = prop_oneof![4 => test(palette), 1 => free_text(palette)];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} {other})")),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one} OR {other})")),
            inner.clone().prop_map(|inner| format!("-({inner})")),
            inner.prop_map(|inner| format!("NOT {inner}")),
        ]
    })
}

fn test(palette: &Palette) -> impl Strategy<Value = String> + use<> {
    let texts = select(vec![
        "host", "account", "sensor", "rule", "cause", "target", "uri", "method", "agent", "data",
        "msg", "id",
    ]);
    let categories = select(vec!["sqli", "(XSS,lfi)", "s*", "*i", "*", "(*ss,dos)"]);
    let numbers = select(vec!["status", "score", "threshold", "pl"]);
    let number = || prop_oneof![-3_i64..8, select(vec![200_i64, 403, 500, i64::MAX - 1])];
    let operator = || select(vec![":", "=", ">", ">=", "<", "<=", ":>="]);
    let severity = select(vec!["EMERGENCY", "CRITICAL", "error", "4", "NOTICE", "6"]);
    let severity_operator = select(vec![":", ">=", "<="]);
    prop_oneof![
        8 => (texts, vec(pattern(palette, 4), 1..3)).prop_map(|(name, values)| format!("{name}:{}", list(&values))),
        1 => categories.prop_map(|value| format!("category:{value}")),
        1 => path(palette).prop_map(|value| format!("path:{value}")),
        1 => (numbers.clone(), operator(), number()).prop_map(|(name, op, n)| format!("{name}{op}{n}")),
        1 => (numbers, number(), 0_i64..5).prop_map(|(name, n, more)| format!("{name}:{n}..{}", n.saturating_add(more))),
        1 => select(vec!["status:5xx", "status:4xx", "status:(403,>=500)"]).prop_map(str::to_owned),
        1 => (severity_operator, severity).prop_map(|(op, name)| format!("severity{op}{name}")),
        1 => select(vec!["blocked:yes", "blocked:no", "outcome:detected", "blocked:(yes,no)"]).prop_map(str::to_owned),
        1 => select(vec!["flag:ambiguous", "flag:truncated", "flag:(no-part-h,capped)"]).prop_map(str::to_owned),
        2 => vec(select(&NETWORKS[..]), 1..3).prop_map(|values| format!("client:{}", list(&values))),
        2 => (operator(), select(&TIMES[..10])).prop_map(|(op, time)| format!("time{op}{time}")),
        1 => (select(vec!["since", "until"]), select(&TIMES[..])).prop_map(|(name, time)| format!("{name}:{time}")),
        1 => (select(&TIMES[..5]), select(&TIMES[6..7])).prop_map(|(from, to)| format!("time:{from}..{to}")),
        1 => (0_usize..ROWS, 1_usize..33).prop_map(|(n, digits)| {
            let hash = EntryHash::of(&n.to_le_bytes()).to_string();
            format!("hash:{}", &hash[..digits])
        }),
    ]
}

const ROWS: usize = super::ROWS;

fn list<T: AsRef<str>>(values: &[T]) -> String {
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    match values.as_slice() {
        [only] => (*only).to_owned(),
        several => format!("({})", several.join(", ")),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A text with at most so many stars.
fn pattern(palette: &Palette, stars: usize) -> impl Strategy<Value = String> + use<> {
    let parts = prop_oneof![
        2 => vec(text(palette), 1..=2),
        1 => vec(text(palette), 1..=stars + 1),
    ];
    parts.prop_map(|parts| {
        let parts: Vec<String> = parts.iter().map(|part| quoted(part)).collect();
        parts.join("*")
    })
}

/// Paths without digits, which are never stored as such.
fn path(palette: &Palette) -> impl Strategy<Value = String> + use<> {
    pattern(palette, 3).prop_map(|pattern| pattern.replace("942100", "{n}"))
}

fn free_text(palette: &Palette) -> impl Strategy<Value = String> + use<> {
    pattern(palette, 2).prop_map(|pattern| {
        let is_empty = pattern.chars().all(|char| matches!(char, '"' | '*'));
        if is_empty { "a".to_owned() } else { pattern }
    })
}

/// Patterns that chance seldom finds: with ends that overlap, parts that lie outside of the middle.
const PATTERNS: [&str; 17] = [
    "a*a",
    "aa*aa",
    "aa*a*aa",
    "aa*a*a*aa",
    "a*b*c*ab",
    "*abc*abc*",
    "abc*b*abc",
    "*a*a*a*",
    "a*",
    "*a",
    "*",
    "a\0*",
    "*\0*",
    "*\0b",
    "\"à\"*",
    "*\u{80}*",
    "ab*ba*ab",
];

/// What chance seldom finds: such patterns, long texts, many values, a deep filter.
pub(crate) fn corners() -> (Vec<Row>, Vec<String>) {
    let long = "ab".repeat(30_000);
    let uris = [
        "",
        "a",
        "aa",
        "aaa",
        "aaaa",
        "abcab",
        "abcabc",
        "A\0B",
        "ÀÀ",
        long.as_str(),
    ];
    let rows = uris.into_iter().map(|uri| {
        let mut row = Row::new(
            &Record::default(),
            EntryHash::of(b""),
            &Origin::default(),
            None,
        );
        row.uri = Some(uri.to_owned());
        row.path_template = Some(uri.to_owned());
        row
    });
    let filters = PATTERNS.into_iter().flat_map(|it| {
        [
            format!("uri:{it}"),
            format!("path:{it}"),
            format!("-uri:{it}"),
        ]
    });
    let mut filters: Vec<String> = filters.collect();
    filters.push(format!("uri:({})", vec!["a*a"; 256].join(",")));
    filters.push(vec!["*a*a*"; 256].join(" "));
    filters.push(vec!["uri:*a*b*c*"; 256].join(" OR "));
    filters.push(format!("{}uri:a{}", "-(".repeat(64), ")".repeat(64)));
    filters.push(format!(
        "{}uri:a{}",
        "(-(path:b OR ".repeat(32),
        "))".repeat(32)
    ));
    (rows.collect(), filters)
}

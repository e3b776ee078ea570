//! What is read as what, what is refused, and that the documentation has all names.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::field::{FIELDS, Kind, Table};
use super::value::expected;
use super::{Dialect, Filter, MAX_DEPTH, MAX_LENGTH, MAX_VALUES};
use crate::record::{Flag, Severity};
use crate::store::{LOG_COLUMNS, RULE_COLUMNS};

fn now() -> DateTime<Utc> {
    "2026-11-27T19:30:15.75Z".parse().unwrap()
}

fn parse(text: &str) -> Filter {
    Filter::parse(text, now()).unwrap_or_else(|error| panic!("{error}"))
}

fn shown(text: &str) -> String {
    let filter = parse(text);
    let shown = filter.to_string();
    assert_eq!(parse(&shown), filter, "{text} became {shown}");
    shown
}

/// Filters, and how they are written.
const FORMS: &[(&str, &str)] = &[
    ("", ""),
    (" \t\n", ""),
    (
        "client:203.0.113.7/24 -rule:930120",
        "client:203.0.113.0/24 -rule:930120",
    ),
    (
        "client:(192.0.2.7,2001:DB8::/32)",
        "client:(192.0.2.7,2001:db8::/32)",
    ),
    ("client:::ffff:192.0.2.7", "client:192.0.2.7"),
    ("client:::ffff:192.0.2.0/120", "client:192.0.2.0/24"),
    ("client=192.0.2.7", "client:192.0.2.7"),
    ("HOST:Shop.*", "host:shop.*"),
    ("host:**a****b*", "host:*a*b*"),
    ("host:\"\"", "host:\"\""),
    ("uri:*\"a b\"c*", "uri:*\"a bc\"*"),
    ("uri:\"*\"", "uri:\"*\""),
    (r#"data:"say \"\\\"""#, r#"data:"say \"\\\"""#),
    (r"agent:a\b", r#"agent:"a\\b""#),
    ("target:ARGS:q", "target:args:q"),
    ("path:/item/{n}", "path:/item/{n}"),
    ("account:Site*", "account:Site*"),
    ("status>=500", "status:>=500"),
    ("status:>500", "status:>=501"),
    ("status<400", "status:<=399"),
    ("status:5xx", "status:500..599"),
    ("status:400..", "status:>=400"),
    ("status:(404,>=500)", "status:(404,>=500)"),
    ("status>(1,2)", "status:(>=2,>=3)"),
    ("score:-5..-1", "score:-5..-1"),
    ("severity:>=error", "severity:>=ERROR"),
    ("severity>ERROR", "severity:>=CRITICAL"),
    ("severity<=4", "severity:<=WARNING"),
    ("severity:WARNING..2", "severity:CRITICAL..WARNING"),
    ("severity:>=EMERGENCY", "severity:EMERGENCY"),
    ("blocked:yes", "outcome:blocked"),
    ("blocked:no", "-outcome:blocked"),
    ("-blocked:no", "outcome:blocked"),
    ("flag:out-of-order", "flag:out_of_order"),
    ("hash:3FA", "hash:3fa"),
    ("since:2h", "time:>=2026-11-27T17:30:15"),
    ("since:99999999999w", "time:>=1970-01-01T00:00:00"),
    ("since:2026-11-20", "time:>=2026-11-20T00:00:00"),
    ("until:2026-11-20", "time:<=2026-11-20T23:59:59"),
    (
        "time:2026-11-20",
        "time:2026-11-20T00:00:00..2026-11-20T23:59:59",
    ),
    (
        "time:2026-11-20T14",
        "time:2026-11-20T14:00:00..2026-11-20T14:59:59",
    ),
    (
        "time:2026-11-20T14:05",
        "time:2026-11-20T14:05:00..2026-11-20T14:05:59",
    ),
    ("time:2026-11-20T14:05:06Z", "time:2026-11-20T14:05:06"),
    (
        "time:\"2026-11-20 14:05:06+03:00\"",
        "time:2026-11-20T11:05:06",
    ),
    (
        "time:2026-11-20..2026-11-27",
        "time:2026-11-20T00:00:00..2026-11-27T23:59:59",
    ),
    ("time>2026-11-20", "time:>=2026-11-21T00:00:00"),
    ("time<2026-11-20", "time:<=2026-11-19T23:59:59"),
    ("time:2h..", "time:>=2026-11-27T17:30:15"),
    ("free TEXT", "free text"),
    ("\"free text\" *x* a*b", "\"free text\" x a*b"),
    (
        "<script> 1'='1 \"and\" \"-x\"",
        "\"<script>\" \"1'='1\" \"and\" \"-x\"",
    ),
    ("a AND b", "a b"),
    ("a (b (c))", "a b c"),
    ("a OR b c OR d", "a OR b c OR d"),
    ("(a OR b) OR c", "a OR b OR c"),
    ("(a OR b) c", "(a OR b) c"),
    ("NOT(a)", "-a"),
    ("NOT - a", "a"),
    ("-(a b)", "-(a b)"),
    ("-- - a", "-a"),
    ("rule:( 1 , 2 )", "rule:(1,2)"),
    ("rule:(1)", "rule:1"),
    (
        "host:(\":x\",\"=y\",\"a,b\",\">\")",
        "host:(:x,\"=y\",\"a,b\",\">\")",
    ),
    ("host:a,b", "host:\"a,b\""),
    (
        "uri:(\"/item/17\",\"/item/17\"?*)",
        "uri:(/item/17,\"/item/17?\"*)",
    ),
];

#[test]
fn each_filter_has_one_form() {
    for (text, want) in FORMS {
        assert_eq!(shown(text), *want, "{text}");
    }
    assert!(parse(" ").is_all() && !parse("a").is_all());
}

/// Texts that are no filters, and what is said of them.
const WRONG: &[(&str, &str)] = &[
    (
        "ip:192.0.2.7 x",
        "unknown name \"ip\": did you mean client?\n  ip:192.0.2.7 x\n  ^^",
    ),
    (
        "hots:a",
        "unknown name \"hots\": did you mean host?\n  hots:a\n  ^^^^",
    ),
    (
        "a from:2h",
        "unknown name \"from\": did you mean since?\n  a from:2h\n    ^^^^",
    ),
    (
        "status!=200",
        "unknown operator !=: expected -status:VALUE\n  status!=200\n  ^^^^^^^^",
    ),
    (
        "host: a",
        "expected a text, with * for any text right behind host\n  host: a\n       ^",
    ),
    (
        "host>a",
        "host has no order: expected host:VALUE\n  host>a\n       ^",
    ),
    (
        "client:shop",
        "expected an address or a network such as 203.0.113.0/24\n  client:shop\n         ^^^^",
    ),
    (
        "client:192.0.2.*",
        "expected an address or a network such as 203.0.113.0/24\n  client:192.0.2.*\n         ^^^^^^^^^",
    ),
    (
        "status:abc",
        "expected a whole number, or a range such as >=400 or 400..499, or 5xx\n  status:abc\n         ^^^",
    ),
    (
        "score:99999999999999999999",
        "expected a whole number, or a range such as >=400 or 400..499\n  score:99999999999999999999\n        ^^^^^^^^^^^^^^^^^^^^",
    ),
    (
        "severity:>EMERGENCY",
        "no severity is so: EMERGENCY is the worst, DEBUG the least\n  severity:>EMERGENCY\n            ^^^^^^^^^",
    ),
    (
        "time:2h",
        "a span before now is no time: expected since:2h\n  time:2h\n       ^^",
    ),
    (
        "time:2026-11-27..2026-11-20",
        "the range ends before it begins\n  time:2026-11-27..2026-11-20\n       ^^^^^^^^^^^^^^^^^^^^^^",
    ),
    (
        "path:/item/17",
        "paths are stored with names for numbers: expected path:/item/{n}, or uri:(\"/item/17\",\"/item/17\"?*) for this one alone\n  path:/item/17\n       ^^^^^^^^",
    ),
    (
        "blocked:maybe",
        "expected yes or no\n  blocked:maybe\n          ^^^^^",
    ),
    (
        "a or b",
        "expected OR in capitals, or \"or\" in quotes for the text\n  a or b\n    ^^",
    ),
    ("OR b", "expected a term before OR\n  OR b\n  ^^"),
    (
        "a AND",
        "expected a test such as host:shop.example.org, or a text\n  a AND\n       ^",
    ),
    (
        "-",
        "expected a test such as host:shop.example.org, or a text\n  -\n   ^",
    ),
    (
        "()",
        "expected a test such as host:shop.example.org, or a text\n  ()\n   ^",
    ),
    (
        "(a",
        "expected a closing parenthesis: this one is never closed\n  (a\n  ^",
    ),
    ("a)", "nothing opens this parenthesis\n  a)\n   ^"),
    (
        "sleep(5)",
        "a parenthesis within a word: expected a space before it, or quotes around the text\n  sleep(5)\n  ^^^^^^",
    ),
    (
        "rule:(1,2",
        "expected a closing parenthesis: this list is never closed\n  rule:(1,2\n       ^",
    ),
    (
        "rule:(1 2)",
        "expected a comma or a closing parenthesis\n  rule:(1 2)\n          ^",
    ),
    (
        "\"abc",
        "expected a second quote: this one is never closed\n  \"abc\n  ^",
    ),
    (
        "\"\\n\"",
        "unknown escape in quotes: expected \\\" or \\\\\n  \"\\n\"\n   ^^",
    ),
    (
        "*",
        "expected a text to look for in REQUEST_URI, data, User_Agent\n  *\n  ^",
    ),
    (
        "host:*a*b*c*d*",
        "more than 4 * in one value\n  host:*a*b*c*d*\n       ^^^^^^^^^",
    ),
    (
        "a*b*c*d",
        "more than 2 * within a text\n  a*b*c*d\n  ^^^^^^^",
    ),
    (
        "hash:xyz",
        "expected the first of the hash's 32 hexadecimal digits\n  hash:xyz\n       ^^^",
    ),
    (
        "\u{202e}\"x\x1b",
        "expected a second quote: this one is never closed\n  \\u{202e}\"x\\u{1b}\n          ^",
    ),
];

#[test]
fn what_is_wrong_is_shown_with_what_is_expected() {
    for (text, want) in WRONG {
        let error = Filter::parse(text, now()).unwrap_err();
        assert_eq!(error.to_string(), *want, "{text}");
        assert!(text.get(error.place()).is_some(), "{text}");
    }
    let long = format!("{} ip:1 {}", "é ".repeat(300), "b ".repeat(300));
    let error = Filter::parse(&long, now()).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn all_flags_and_severities_are_offered() {
    for flag in Flag::ALL.map(Flag::name) {
        assert!(expected(Kind::Flag).contains(flag), "{flag}");
    }
    for severity in (0..8).filter_map(Severity::from_number) {
        let name = severity.name();
        assert!(expected(Kind::Severity).contains(name), "{name}");
    }
}

#[test]
fn words_of_closed_sets_are_known_or_refused() {
    for (text, want) in [
        (
            "category:sql",
            "unknown category \"sql\": did you mean sqli?",
        ),
        (
            "category:(xss,session-fixation)",
            "unknown category \"session-fixation\": did you mean session_fixation?",
        ),
        ("-category:zzzz", "expected one of sqli, xss, rce, "),
        ("category:zz*", "expected one of sqli, xss, rce, "),
        (
            "severity:CRITCAL",
            "unknown severity \"CRITCAL\": did you mean CRITICAL?",
        ),
        (
            "severity>=warn",
            "unknown severity \"warn\": did you mean WARNING?",
        ),
        (
            "severity:EROR..ALERT",
            "unknown severity \"EROR\": did you mean ERROR?",
        ),
        ("severity:bad", "expected a severity: EMERGENCY, "),
        (
            "flag:truncate",
            "unknown flag \"truncate\": did you mean truncated?",
        ),
        ("flag:zzzz", "expected a flag: ambiguous, "),
        (
            "outcome:block",
            "unknown outcome \"block\": did you mean blocked?",
        ),
        ("outcome:allowed", "expected blocked or detected"),
        ("status:5x", "unknown status \"5x\": did you mean 5xx?"),
        ("status:4XX", "unknown status \"4XX\": did you mean 4xx?"),
        ("blocked:maybe", "expected yes or no"),
    ] {
        let error = Filter::parse(text, now()).unwrap_err();
        assert!(
            error.message().starts_with(want),
            "{text}: {}",
            error.message()
        );
    }
    for text in [
        "category:SQLI",
        "category:*",
        "category:s*i",
        "category:(sqli,dos)",
        "category:*_*",
    ] {
        parse(text);
    }
}

#[test]
fn what_is_no_time_is_refused() {
    for text in [
        "",
        "x",
        "2026",
        "2026-11",
        "2026-13-01",
        "2026-11-31",
        "1969-12-31",
        "9999-01-01",
        "26-11-20",
        "+2026-11-20",
        "2026-11-20T24",
        "2026-11-20T1",
        "2026-11-20T10:60",
        "2026-11-20T10:00:00:00",
        "2026-11-20T10:00:00.5",
        "2026-11-20+25:00",
        "2026-11-20T10:00+3",
        "..",
        "1h30m",
        "2026-11-20T",
    ] {
        for name in ["time", "since", "until"] {
            let filter = format!("{name}:\"{text}\"");
            assert!(Filter::parse(&filter, now()).is_err(), "{filter}");
        }
    }
}

#[test]
fn no_range_of_times_leaves_the_years_that_can_be_written() {
    for text in ["time>9998-12-31", "time<1970-01-01"] {
        let error = Filter::parse(text, now()).unwrap_err();
        assert_eq!(
            error.message(),
            "expected a time within the years 1970 to 9998"
        );
    }
    shown("time>=9998-12-31");
    shown("time<=1970-01-01");
}

#[test]
fn what_is_too_much_is_refused() {
    let nested = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    parse(&nested(MAX_DEPTH));
    for (text, want) in [
        (
            nested(MAX_DEPTH + 1),
            "more than 64 parentheses within each other",
        ),
        (
            "(".repeat(10_000),
            "more than 64 parentheses within each other",
        ),
        (
            nested(10_000),
            "the filter has 20001 bytes, and may have 16384",
        ),
        (
            "a ".repeat(50_000),
            "the filter has 100000 bytes, and may have 16384",
        ),
        ("a ".repeat(MAX_VALUES + 1), "more than 256 values"),
        (
            format!("rule:({}1)", "1,".repeat(MAX_VALUES)),
            "more than 256 values",
        ),
    ] {
        let error = Filter::parse(&text, now()).unwrap_err();
        assert_eq!(error.message(), want);
        assert!(error.to_string().len() < 300, "{error}");
    }
    // What is read can be written and read again: no deeper, and no longer than may be.
    let deep = format!("{}x{}", "(a OR b ".repeat(MAX_DEPTH), ")".repeat(MAX_DEPTH));
    shown(&deep);
    let signs = "\\".repeat(MAX_LENGTH / 2 - 1);
    shown(&signs);
    let error = Filter::parse(&(signs + "\\"), now()).unwrap_err();
    let want = "the filter has 16386 bytes when it is written in full, and may have 16384";
    assert_eq!(error.message(), want);
    // As long as it may be, and no deeper for it.
    let signs = "-".repeat(MAX_LENGTH - 1) + "a";
    assert_eq!(parse(&signs), parse("-a"));
}

#[test]
fn no_text_of_the_filter_gets_into_the_sql() {
    let text = "host:(zq1,zq2*,*zq3) zq4 zq5*zq6 rule:zq7* -data:*zq8*zq9* id:zq time:2026-11-20";
    for dialect in [Dialect::Sqlite, Dialect::Mysql] {
        let (sql, params) = parse(text).to_sql(dialect);
        assert!(!sql.contains("zq") && !sql.contains("2026"), "{sql}");
        assert_eq!(sql.matches('?').count(), params.len(), "{sql}");
    }
}

#[test]
fn the_documentation_has_all_names() {
    let table = include_str!("../filter.rs");
    let mut wanted = String::new();
    for field in &FIELDS {
        let columns: &[&str] = match field.table {
            Table::Logs => &LOG_COLUMNS,
            Table::Alerts | Table::Rules => &RULE_COLUMNS,
        };
        assert!(columns.contains(&field.column), "{}", field.name);
        let table_name = match field.table {
            Table::Logs => "logs",
            Table::Alerts | Table::Rules => "modsec_alerts",
        };
        let compared = match field.kind {
            Kind::Client => "address or network",
            Kind::Exact => "exactly",
            Kind::AnyCase => "any case",
            Kind::Number => "number",
            Kind::Severity => "severity",
            Kind::Blocked => "yes or no",
            Kind::Outcome => "blocked or detected",
            Kind::Flag => "one of the flags",
            Kind::Time => "time",
            Kind::Since => "from this time on",
            Kind::Until => "up to this time",
            Kind::Hash => "first digits",
        };
        let line = format!(
            "//! | `{}` | `{}` of `{table_name}` | {compared} | `",
            field.name, field.column
        );
        let found = table.lines().find_map(|known| known.strip_prefix(&line));
        let example = found.and_then(|rest| rest.strip_suffix("` |"));
        let example = example.unwrap_or_else(|| panic!("{line}"));
        assert!(example.starts_with(field.name), "{example}");
        shown(example);
        let _ = writeln!(wanted, "{line}{example}` |");
    }
    assert_eq!(
        table
            .lines()
            .filter(|line| line.starts_with("//! | `"))
            .count(),
        FIELDS.len()
    );
    assert!(
        table.contains(&wanted),
        "in the order of the code:\n{wanted}"
    );
}

//! Logs that something else has put its own words around.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// A log in UTF-16, little end first.
pub(crate) fn utf16(log: &str) -> Vec<u8> {
    log.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A log in UTF-16, big end first.
pub(crate) fn utf16_be(log: &str) -> Vec<u8> {
    log.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// What is put around the lines of a log, by name.
pub(crate) fn wrapped(log: &str) -> Vec<(&'static str, Vec<u8>)> {
    let lines = |before: &str| -> Vec<u8> {
        let lines = log.lines().map(|line| format!("{before}{line}\n"));
        lines.collect::<String>().into_bytes()
    };
    let mut docker = String::new();
    for line in log.split_inclusive('\n') {
        let line = serde_json::to_string(line).unwrap();
        writeln!(
            docker,
            r#"{{"log":{line},"stream":"stdout","time":"2026-11-27T10:00:00Z"}}"#
        )
        .unwrap();
    }
    let marked = [b"\xff\xfe", &*utf16(log)].concat();
    // As other programs write JSON, with the names in their order.
    let mut blanks = String::new();
    for line in log.split_inclusive('\n') {
        let line = serde_json::to_string(line).unwrap();
        writeln!(blanks, r#"{{ "stream": "stdout", "log" : {line} }}"#).unwrap();
    }
    let mut journal = String::new();
    for line in log.lines() {
        let line = serde_json::to_string(line).unwrap();
        writeln!(
            journal,
            r#"{{"__CURSOR":"s=1","MESSAGE":{line},"PRIORITY":"6","_COMM":"nginx"}}"#
        )
        .unwrap();
    }
    vec![
        ("journalctl --output json", journal.into_bytes()),
        ("RFC 5424", lines("2026-11-27T10:00:00.1Z web nginx 7 - - ")),
        ("UTF-16", marked),
        ("UTF-16LE", utf16(&log.replace('\n', "\r\n"))),
        ("UTF-16BE", utf16_be(log)),
        (
            "RFC 5424",
            lines("<14>1 2026-11-27T10:00:00.1Z web nginx 7 - - "),
        ),
        (
            "RFC 5424",
            lines("1 - web nginx - x [a@1 b=\"]\\\"\\] [\"][c@1] \u{feff}"),
        ),
        ("kubectl logs --prefix", lines("[pod/web-0/nginx] ")),
        (
            "kubectl logs",
            lines("[pod/web-0/nginx] 2026-11-27T10:00:00.123Z "),
        ),
        ("Compose", lines("\u{1b}[36mweb-1  | \u{1b}[0m")),
        ("Compose", lines("web-1  | 2026-11-27T10:00:00.123456789Z ")),
        ("Docker", blanks.into_bytes()),
        ("syslog", lines("Nov  7 10:00:00 web apache2[7]: ")),
        ("syslog", lines("2026-11-27T10:00:00.123+01:00 web nginx: ")),
        ("Docker", docker.into_bytes()),
        ("Compose", lines("web-1  | ")),
        ("Compose", lines("\u{1b}[36mweb-1  |\u{1b}[0m ")),
        ("CRI", lines("2026-11-27T10:00:00.123456789Z stdout F ")),
        ("with a time", lines("2026-11-27T10:00:00.123456789Z ")),
    ]
}

/// Runs the command that a message names on `log` in `dir`, into `plain`.
pub(crate) fn take_off(dir: &Path, said: &str) {
    let (_, command) = said.split_once("take that off with ").unwrap();
    let (command, _) = command.split_once('\n').unwrap();
    // As it stands in the message, in front of its last quote.
    let command = command.trim_end_matches(|c| c != '\'' && !char::is_alphanumeric(c));
    let shell = format!("{command} log >plain");
    let mut sh = Command::new("sh");
    let status = sh.args(["-c", &shell]).current_dir(dir).status().unwrap();
    assert!(status.success(), "{shell}");
}

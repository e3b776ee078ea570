//! Audit logs that something else has put its own words around, or written in another encoding.
//!
//! ```text
//! Nov 27 10:00:00 web apache2[7]: --3fa0c41b-A--            syslog, journalctl
//! {"log":"--3fa0c41b-A--\n","stream":"stdout","time":"…"}   Docker, json-file
//! web-1  | --3fa0c41b-A--                                   Docker Compose
//! 2026-11-27T10:00:00.1Z stdout F --3fa0c41b-A--            CRI: containerd, CRI-O
//! 2026-11-27T10:00:00.1Z --3fa0c41b-A--                     docker logs --timestamps
//! ```
//!
//! They are not read: whether a line that begins so was written by an engine cannot be told once others
//! share the stream. Each has a command that takes the words off, and the message names it.

use std::fmt;

use super::native::Boundary;

/// Lines at the beginning of a log that are looked at.
const LINES: usize = 50;

/// What has been put around an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrapping {
    /// UTF-16, as `PowerShell` and editors of Windows write it.
    Utf16 {
        /// What `iconv` calls it.
        encoding: &'static str,
    },
    /// Time, host and program of syslog or the journal before each line.
    Syslog,
    /// A JSON object around each line, of Docker's logging driver `json-file`.
    DockerJson,
    /// The name of a service before each line, of Docker Compose.
    Compose,
    /// Time, stream and a tag before each line, of a container runtime in Kubernetes.
    Cri,
    /// A time before each line.
    Timestamp,
}

impl Wrapping {
    /// Recognises it by the beginning of a log: by what stands before the first line of a part, or
    /// before a document.
    pub(crate) fn of(head: &[u8]) -> Option<Wrapping> {
        if let Some(encoding) = utf16(head) {
            return Some(Wrapping::Utf16 { encoding });
        }
        if head.starts_with(b"{\"log\":\"") {
            return Some(Wrapping::DockerJson);
        }
        let lines = head.split(|byte| *byte == b'\n').take(LINES);
        lines.filter_map(before).find_map(named)
    }

    /// Returns the command that takes it off a log.
    pub fn command(self) -> String {
        let command = match self {
            Wrapping::Utf16 { encoding } => return format!("iconv -f {encoding} -t UTF-8"),
            Wrapping::Syslog => {
                r"sed -E 's/^(<[0-9]+>)?([A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9][^ ]*) [^ ]+ [^ ]+: ?//'"
            }
            Wrapping::DockerJson => "jq -j .log",
            Wrapping::Compose => r"sed -E 's/^[^|]*[|](\x1b\[0m)? ?//'",
            Wrapping::Cri => {
                r#"awk '{p=$3; sub(/^[^ ]+ [^ ]+ [^ ]+ ?/,""); printf "%s%s",$0,(p=="P"?"":"\n")}'"#
            }
            Wrapping::Timestamp => "sed -E 's/^[^ ]+ ?//'",
        };
        command.to_owned()
    }
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrapping::Utf16 { .. } => "in UTF-16",
            Wrapping::Syslog => "with time, host and program before each line, as syslog writes it",
            Wrapping::DockerJson => {
                "with a JSON object around each line, as Docker (json-file) writes it"
            }
            Wrapping::Compose => "with a name before each line, as Docker Compose shows it",
            Wrapping::Cri => {
                "with time, stream and tag before each line, as container runtimes (CRI) write it"
            }
            Wrapping::Timestamp => "with a time before each line",
        })
    }
}

/// Returns the encoding of a log in UTF-16, with a byte order mark or without one.
fn utf16(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16"),
        [b'-' | b'{', 0, b'-' | b'"', 0, ..] => Some("UTF-16LE"),
        [0, b'-' | b'{', 0, b'-' | b'"', ..] => Some("UTF-16BE"),
        _ => None,
    }
}

/// Returns what stands in `line` before the line of part A, or before a document of an engine.
fn before(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let document = || memchr::memmem::find(line, b"{\"transaction\":{\"");
    let at = Boundary::last_opening(line)
        .map(|(at, _)| at)
        .or_else(document)?;
    line.get(..at).filter(|before| !before.is_empty())
}

/// Names what stands before each line by how it looks before one.
fn named(before: &[u8]) -> Option<Wrapping> {
    let text = std::str::from_utf8(before).ok()?;
    let bare = text.strip_suffix(' ').unwrap_or(text);
    let words: Vec<&str> = bare.split(' ').collect();
    let is_time = |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('T');
    match *words {
        [time] if is_time(time) => Some(Wrapping::Timestamp),
        [time, "stdout" | "stderr", "F" | "P"] if is_time(time) => Some(Wrapping::Cri),
        _ if bare.trim_end_matches("\u{1b}[0m").ends_with('|') => Some(Wrapping::Compose),
        [.., last] if words.len() > 2 && last.ends_with(':') => Some(Wrapping::Syslog),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_each_line_is_named() {
        let utf16 = |encoding| Some(Wrapping::Utf16 { encoding });
        for (before, want) in [
            ("Nov 27 10:00:00 web apache2[7]: ", Some(Wrapping::Syslog)),
            ("Nov  7 10:00:00 web apache2: ", Some(Wrapping::Syslog)),
            ("<14>Nov  7 10:00:00 web apache2: ", Some(Wrapping::Syslog)),
            (
                "2026-11-27T10:00:00+01:00 web nginx[1]: ",
                Some(Wrapping::Syslog),
            ),
            ("web-1  | ", Some(Wrapping::Compose)),
            ("\u{1b}[36mweb-1  |\u{1b}[0m ", Some(Wrapping::Compose)),
            (
                "2026-11-27T10:00:00.123456789Z stdout F ",
                Some(Wrapping::Cri),
            ),
            (
                "2026-11-27T10:00:00.123456789Z stderr P ",
                Some(Wrapping::Cri),
            ),
            ("2026-11-27T10:00:00.123456789Z ", Some(Wrapping::Timestamp)),
            ("x", None),
            ("", None),
        ] {
            for line in [
                "--3fa0c41b-A--",
                "---Qx7Lm2Rt---A--",
                "{\"transaction\":{\"time\":\"x\"}}",
            ] {
                for log in [
                    format!("{before}{line}\n{before}x\n"),
                    format!("{before}started\n{before}{line}\r\n"),
                ] {
                    assert_eq!(Wrapping::of(log.as_bytes()), want, "{log:?}");
                }
            }
        }
        for (log, want) in [
            (&b"\xff\xfe-\0-\0"[..], utf16("UTF-16")),
            (b"\xfe\xff\0-", utf16("UTF-16")),
            (b"-\0-\x003\0", utf16("UTF-16LE")),
            (b"\0{\0\"", utf16("UTF-16BE")),
            (br#"{"log":"--3fa0c41b-A--\n"}"#, Some(Wrapping::DockerJson)),
            (b"--3fa0c41b-A--\n", None),
            (b"", None),
        ] {
            assert_eq!(Wrapping::of(log), want, "{}", log.escape_ascii());
        }
    }
}

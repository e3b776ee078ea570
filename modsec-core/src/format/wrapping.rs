//! Audit logs that something else has put its own words around, or written in another encoding.
//!
//! ```text
//! Nov 27 10:00:00 web apache2[7]: --3fa0c41b-A--            syslog, journalctl
//! <14>1 2026-11-27T10:00:00Z web nginx 7 - - --3fa0c41b-A-- syslog, RFC 5424
//! {"log":"--3fa0c41b-A--\n","stream":"stdout","time":"…"}   Docker, json-file
//! web-1  | --3fa0c41b-A--                                   Docker Compose
//! 2026-11-27T10:00:00.1Z stdout F --3fa0c41b-A--            CRI: containerd, CRI-O
//! [pod/web-0/nginx] --3fa0c41b-A--                          kubectl logs --prefix
//! 2026-11-27T10:00:00.1Z --3fa0c41b-A--                     docker logs --timestamps
//! {"MESSAGE":"--3fa0c41b-A--","PRIORITY":"6",…}             journalctl --output json
//! ```
//!
//! They are not read: whether a line that begins so was written by an engine cannot be told once others
//! share the stream. Each has a command that takes the words off, and the message names it.

use std::fmt;

use super::native::Boundary;

/// Lines at the beginning of a log that are looked at.
const LINES: usize = 50;
/// What editors of Windows put before the first line.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// What the formats begin with that are not unpacked here, or not in the place where they were found.
const PACKED: [(&[u8], Wrapping); 4] = [
    (b"\x1f\x8b\x08", Wrapping::Gzip),
    (b"\xfd7zXZ\0", Wrapping::Xz),
    (b"\x28\xb5\x2f\xfd", Wrapping::Zstd),
    (b"BZh", Wrapping::Bzip2),
];
/// Takes the time off that `--timestamps` puts before each line.
const TIME: &str = "s/^[^ ]+ ?//";

/// What has been put around an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Wrapping {
    /// UTF-16 with a byte order mark, as `PowerShell` and editors of Windows write it.
    Utf16,
    /// UTF-16 without a byte order mark, little end first.
    Utf16Le,
    /// UTF-16 without a byte order mark, big end first.
    Utf16Be,
    /// A byte order mark of UTF-8 before an entry. Whoever reads logs and files of their own passes over
    /// it.
    ByteOrderMark,
    /// Lines that end with CR LF, after a copy by way of Windows or of git, in an entry that is too
    /// large to be read as one.
    WindowsLineEnds,
    /// Compressed with gzip, in a place where that is not unpacked: a file of the storage directory.
    Gzip,
    /// Compressed with xz.
    Xz,
    /// Compressed with Zstandard.
    Zstd,
    /// Compressed with bzip2.
    Bzip2,
    /// Time, host and program of syslog or the journal before each line.
    Syslog,
    /// The header of syslog before each line, as RFC 5424 has it, also without priority and version.
    Rfc5424,
    /// A JSON object around each line, of Docker's logging driver `json-file`.
    DockerJson,
    /// A JSON object around each line, of the journal.
    JournalJson,
    /// The name of a service before each line, of Docker Compose.
    Compose {
        /// Whether a time stands behind the name (`--timestamps`).
        has_time: bool,
    },
    /// The names of pod and container before each line, of `kubectl logs --prefix`.
    Pod {
        /// Whether a time stands behind the names (`--timestamps`).
        has_time: bool,
    },
    /// Time, stream and a tag before each line, of a container runtime in Kubernetes.
    Cri,
    /// A time before each line.
    Timestamp,
}

impl Wrapping {
    /// Recognises it by the beginning of a log: by what stands before the first line of a part,
    /// before a document, or before a line of an index.
    pub(crate) fn of(head: &[u8]) -> Option<Wrapping> {
        if let Some(encoding) = Wrapping::of_utf16(head) {
            return Some(encoding);
        }
        let marked = head.strip_prefix(BOM);
        if marked.is_some_and(|entry| Boundary::open(entry).is_some()) {
            return Some(Wrapping::ByteOrderMark);
        }
        let mut packed = PACKED.iter();
        if let Some((_, by)) = packed.find(|(magic, _)| head.starts_with(magic)) {
            return Some(*by);
        }
        let lines = head.split(|byte| *byte == b'\n').take(LINES);
        lines.filter_map(before).find_map(named)
    }

    /// Recognises [`Wrapping::WindowsLineEnds`] by the first line of an entry.
    #[cfg(feature = "jobs")]
    pub(crate) fn of_line_ends(head: &[u8]) -> Option<Wrapping> {
        let end = memchr::memchr(b'\n', head)?;
        let line = head.get(..end)?.strip_suffix(b"\r")?;
        Boundary::open(line).map(|_| Wrapping::WindowsLineEnds)
    }

    /// Recognises UTF-16 by the first four bytes of a log, with a byte order mark or without one.
    pub(crate) fn of_utf16(head: &[u8]) -> Option<Wrapping> {
        let is_text = |a: u8, b: u8| a.is_ascii() && b.is_ascii() && a != 0 && b != 0;
        match *head {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Wrapping::Utf16),
            [a, 0, b, 0, ..] if is_text(a, b) => Some(Wrapping::Utf16Le),
            [0, a, 0, b, ..] if is_text(a, b) => Some(Wrapping::Utf16Be),
            _ => None,
        }
    }

    /// Returns what is known of the bytes: within what is compressed, anything may stand.
    pub(crate) fn noun(self) -> &'static str {
        if PACKED.iter().any(|(_, by)| *by == self) {
            "a file"
        } else {
            "an audit log"
        }
    }

    /// Returns the command that takes it off a log, which is its last argument or standard input.
    pub fn command(self) -> String {
        let sed = |script: &str, has_time| {
            if has_time {
                format!("sed -E -e '{script}' -e '{TIME}'")
            } else {
                format!("sed -E '{script}'")
            }
        };
        match self {
            Wrapping::Utf16 => "iconv -f UTF-16 -t UTF-8".to_owned(),
            Wrapping::Utf16Le => "iconv -f UTF-16LE -t UTF-8".to_owned(),
            Wrapping::Utf16Be => "iconv -f UTF-16BE -t UTF-8".to_owned(),
            Wrapping::ByteOrderMark => sed(r"1s/^\xef\xbb\xbf//", false),
            Wrapping::WindowsLineEnds => sed(r"s/\r$//", false),
            Wrapping::Gzip => "gzip -dc".to_owned(),
            Wrapping::Xz => "xz -dc".to_owned(),
            Wrapping::Zstd => "zstd -dc".to_owned(),
            Wrapping::Bzip2 => "bzip2 -dc".to_owned(),
            Wrapping::Syslog => sed(
                r"s/^(<[0-9]+>)?([A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9][^ ]*) [^ ]+ [^ ]+: ?//",
                false,
            ),
            // Quotes, brackets and backslashes in a value have a backslash before them.
            Wrapping::Rfc5424 => sed(
                r#"s/^((<[0-9]+>)?1 )?[^ ]+( [^ ]+){4} (-|(\[([^]"]|"([^"\]|\\.)*")*\])+)( (\xef\xbb\xbf)?)?//"#,
                false,
            ),
            Wrapping::DockerJson => "jq -j .log".to_owned(),
            // What is not UTF-8 is a list of bytes there.
            Wrapping::JournalJson => {
                "jq -r '.MESSAGE | if type == \"array\" then implode else . end'".to_owned()
            }
            // Coloured, the blank stands before or behind the end of the colour.
            Wrapping::Compose { has_time } => sed(
                r"s/^(\x1b\[[0-9;]*m[^|]*[|]( \x1b\[[0-9;]*m|\x1b\[[0-9;]*m ?)?|[^|]*[|] ?)//",
                has_time,
            ),
            Wrapping::Pod { has_time } => sed(r"s/^\[[^]]*\] ?//", has_time),
            Wrapping::Cri => {
                r#"awk '{p=$3; sub(/^[^ ]+ [^ ]+ [^ ]+ ?/,""); printf "%s%s",$0,(p=="P"?"":"\n")}'"#
                    .to_owned()
            }
            Wrapping::Timestamp => sed(TIME, false),
        }
    }
}

impl fmt::Display for Wrapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrapping::Utf16 | Wrapping::Utf16Le | Wrapping::Utf16Be => "in UTF-16",
            Wrapping::ByteOrderMark => "with a byte order mark before the entry",
            Wrapping::WindowsLineEnds => "with line ends of Windows (CR LF)",
            Wrapping::Gzip => "compressed with gzip",
            Wrapping::Xz => "compressed with xz",
            Wrapping::Zstd => "compressed with zstd",
            Wrapping::Bzip2 => "compressed with bzip2",
            Wrapping::Syslog => "with time, host and program before each line, as syslog writes it",
            Wrapping::Rfc5424 => "with the header of syslog (RFC 5424) before each line",
            Wrapping::DockerJson => {
                "with a JSON object around each line, as Docker (json-file) writes it"
            }
            Wrapping::JournalJson => {
                "with a JSON object around each line, as journalctl --output json writes it"
            }
            Wrapping::Compose { has_time: false } => {
                "with a name before each line, as Docker Compose shows it"
            }
            Wrapping::Compose { has_time: true } => {
                "with a name and a time before each line, as Docker Compose shows it"
            }
            Wrapping::Pod { has_time: false } => {
                "with pod and container before each line, as kubectl logs --prefix shows it"
            }
            Wrapping::Pod { has_time: true } => {
                "with pod, container and time before each line, as kubectl logs shows it"
            }
            Wrapping::Cri => {
                "with time, stream and tag before each line, as container runtimes (CRI) write it"
            }
            Wrapping::Timestamp => "with a time before each line",
        })
    }
}

/// Returns what stands in `line` before the line of part A, before a document of an engine, or
/// before a line of an index.
fn before(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let document = || memchr::memmem::find(line, b"{\"transaction\":{\"");
    let at = Boundary::last_opening(line)
        .map(|(at, _)| at)
        .or_else(document)
        .or_else(|| index_line(line))?;
    line.get(..at).filter(|before| !before.is_empty())
}

/// Returns where the host of an index line stands.
fn index_line(line: &[u8]) -> Option<usize> {
    let end = memchr::memmem::rfind(line, b" md5:")?;
    // Host, client and user; ModSecurity 2 has one more.
    let words = if line.get(..end)?.ends_with(b".000000") {
        3
    } else {
        4
    };
    let mut times = memchr::memmem::find_iter(line, b" [");
    let time = times.find(|at| line.get(at + 2).is_some_and(u8::is_ascii_digit))?;
    let space = memchr::memrchr_iter(b' ', line.get(..time)?).nth(words - 1)?;
    Some(space + 1)
}

/// Names what stands before each line by how it looks before one.
fn named(before: &[u8]) -> Option<Wrapping> {
    let text = without_colors(std::str::from_utf8(before).ok()?);
    // Behind the header of RFC 5424 it says that the message is UTF-8.
    let text = text.trim_end_matches('\u{feff}');
    let bare = text.strip_suffix(' ').unwrap_or(text);
    let is_time = |word: &str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('T');
    if let Some(wrapping) = named_source(bare, false) {
        return Some(wrapping);
    }
    let words: Vec<&str> = bare.split(' ').collect();
    match *words {
        [time] if is_time(time) => Some(Wrapping::Timestamp),
        [time, "stdout" | "stderr", "F" | "P"] if is_time(time) => Some(Wrapping::Cri),
        [version, time, _, _, _, _, .., last]
            if matches!(version, "1") || version.starts_with('<') && version.ends_with(">1") =>
        {
            let is_header = (time == "-" || is_time(time)) && (last == "-" || last.ends_with(']'));
            is_header.then_some(Wrapping::Rfc5424)
        }
        // Without priority and version, as rsyslog's file formats of that header have it.
        [time, _, _, _, _, .., last] if is_time(time) && (last == "-" || last.ends_with(']')) => {
            Some(Wrapping::Rfc5424)
        }
        [.., last] if words.len() > 2 && last.ends_with(':') => Some(Wrapping::Syslog),
        [.., time] if is_time(time) => {
            named_source(bare.strip_suffix(time)?.strip_suffix(' ')?, true)
        }
        _ => None,
    }
}

/// Names what says of each line whose it is.
fn named_source(name: &str, has_time: bool) -> Option<Wrapping> {
    if name.ends_with('|') {
        return Some(Wrapping::Compose { has_time });
    }
    let is_pod = name.starts_with("[pod/") && name.find(']') == Some(name.len() - 1);
    is_pod.then_some(Wrapping::Pod { has_time })
}

/// Takes out what colours a terminal: `ESC [ 36 m`.
fn without_colors(text: &str) -> String {
    let mut pieces = text.split("\x1b[");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        plain += rest.strip_prefix('m').unwrap_or(rest);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_each_line_is_named() {
        let compose = |has_time| Some(Wrapping::Compose { has_time });
        let pod = |has_time| Some(Wrapping::Pod { has_time });
        for (before, want) in [
            ("Nov 27 10:00:00 web apache2[7]: ", Some(Wrapping::Syslog)),
            ("Nov  7 10:00:00 web apache2: ", Some(Wrapping::Syslog)),
            ("<14>Nov  7 10:00:00 web apache2: ", Some(Wrapping::Syslog)),
            (
                "2026-11-27T10:00:00+01:00 web nginx[1]: ",
                Some(Wrapping::Syslog),
            ),
            ("web-1  | ", compose(false)),
            ("\u{1b}[36mweb-1  |\u{1b}[0m ", compose(false)),
            ("\u{1b}[1;36mweb-1  | \u{1b}[0m", compose(false)),
            ("web-1  | 2026-11-27T10:00:00.1Z ", compose(true)),
            ("[pod/web-0/nginx] ", pod(false)),
            ("[pod/web-0/nginx] 2026-11-27T10:00:00.1Z ", pod(true)),
            (
                "<14>1 2026-11-27T10:00:00.1+01:00 web nginx 7 - - ",
                Some(Wrapping::Rfc5424),
            ),
            ("1 - - - - - [a@1 b=\"c d\"] ", Some(Wrapping::Rfc5424)),
            ("<14>1 - web nginx - - - \u{feff}", Some(Wrapping::Rfc5424)),
            (
                "2026-11-27T10:00:00.123456789Z stdout F ",
                Some(Wrapping::Cri),
            ),
            (
                "2026-11-27T10:00:00.123456789Z stderr P ",
                Some(Wrapping::Cri),
            ),
            ("2026-11-27T10:00:00.123456789Z ", Some(Wrapping::Timestamp)),
            (
                "2026-11-27T10:00:00.1Z web nginx 7 - - ",
                Some(Wrapping::Rfc5424),
            ),
            (
                "2026-11-27T10:00:00.1Z web nginx 7 - [a@1 b=\"c\"] ",
                Some(Wrapping::Rfc5424),
            ),
            ("x", None),
            ("", None),
        ] {
            for line in [
                "--3fa0c41b-A--",
                "---Qx7Lm2Rt---A--",
                "{\"transaction\":{\"time\":\"x\"}}",
                "h 192.0.2.7 - - [22/Nov/2026:14:36:39 +0300] \"GET / HTTP/1.1\" 403 0 md5:00 ",
                "h 192.0.2.7 - [22/Nov/2026:14:36:39 +0300] \"GET / [1\" 403 7.000000 md5:00",
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
            (&b"\xff\xfe-\0-\0"[..], Some(Wrapping::Utf16)),
            (b"\xfe\xff\0-", Some(Wrapping::Utf16)),
            (b"-\0-\x003\0", Some(Wrapping::Utf16Le)),
            (b"\0{\0\"", Some(Wrapping::Utf16Be)),
            (
                b"\xef\xbb\xbf--3fa0c41b-A--\n",
                Some(Wrapping::ByteOrderMark),
            ),
            (b"\xef\xbb\xbfx\n", None),
            (b"\x1f\x8b\x08\0", Some(Wrapping::Gzip)),
            (b"\xfd7zXZ\0\0", Some(Wrapping::Xz)),
            (b"\x28\xb5\x2f\xfd\x04", Some(Wrapping::Zstd)),
            (b"BZh91AY", Some(Wrapping::Bzip2)),
            (b"--3fa0c41b-A--\n", None),
            (b"\0\0\0\0--3fa0c41b-A--\n", None),
            (b"", None),
        ] {
            assert_eq!(Wrapping::of(log), want, "{}", log.escape_ascii());
        }
    }
}

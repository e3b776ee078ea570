//! From the bytes of an audit log to [`Record`]s: the list of dialects.
//!
//! The grammar works on bytes, allocates little, and cannot fail on what an attacker put into an
//! entry: whatever cannot be told for certain is absent from the record, and a flag says so.
//! [`Defect`] is left for input that is no audit log at all.
//!
//! # Reading an entry
//!
//! [`decode`] takes the bytes of one entry, whatever engine wrote it, and borrows from them:
//!
//! ```
//! use modsec_core::format;
//! use modsec_core::record::Flag;
//!
//! let bytes = b"--3fa0c41b-A--
//! [03/Feb/2024:10:11:12 +0100] Zb4kQH8AAAEAAB1cR0MAAAAA 192.0.2.10 40112 198.51.100.4 80
//! --3fa0c41b-F--
//! HTTP/1.1 403 Forbidden
//!
//! --3fa0c41b-Z--
//! ";
//! let record = format::decode(bytes)?;
//! assert_eq!(record.client.unwrap().text, "192.0.2.10");
//! assert_eq!(record.response.status, Some(403));
//! // Part B was not logged: what would be in it is absent.
//! assert_eq!(record.request.uri, None);
//! assert!(record.flags.contains(Flag::NoPartH));
//! # Ok::<(), format::Defect>(())
//! ```
//!
//! | to read | use |
//! | --- | --- |
//! | one entry in memory | [`decode`] |
//! | its parts, byte for byte | [`native::Entry`] |
//! | one entry that is too large for memory | [`large::Large`] |
//! | a log of many entries, one that grows, a file to which was appended | [`serial_log`](crate::serial_log) |
//! | a file that may still be written | [`is_complete`] first; [`large::may_be_complete`] of its ends |
//!
//! # Where the fields of a record come from
//!
//! The letters are those of `SecAuditLogParts`; without a letter its fields are absent in every
//! dialect and format. Part A and the end (Z) are always there, but in Coraza.
//!
//! | field | part | native | JSON of `ModSecurity` 2 | JSON of libmodsecurity | JSON of Coraza |
//! | --- | --- | --- | --- | --- | --- |
//! | [`time`](Record::time) | A | in brackets | `transaction.time` | `time_stamp` | `unix_timestamp` |
//! | [`unique_id`](Record::unique_id) | A | 2nd word | `transaction_id` | `unique_id`, `id` | `id` |
//! | [`client`](Record::client), [`server`](Record::server) | A | last four words | `remote_…`, `local_…` | `client_…`, `host_…` | as libmodsecurity |
//! | [`request`](Record::request) line | B | line 1 | `request_line` | put together | put together |
//! | request headers | B | below | `request.headers` | `request.headers` | `request.headers` |
//! | request body | C | content | `request.body` | `request.body` | `request.body` |
//! | form without its files | I | content | `fake_body` | – | – |
//! | response [`status`](crate::record::Response::status) | F | line 1 | `response.status` | `http_code` | `status` |
//! | response body | E | content | `response.body` | `response.body` | `response.body` |
//! | [`alerts`](Record::alerts) | H | `Message:`, lines | `messages` | `messages` | `messages` |
//! | [`engine`](Record::engine) | H | other keys | `audit_data` | `producer` | `producer` |
//! | [`uploads`](Record::uploads) | J | lines | `uploads.info` | – | `request.files` |
//! | [`matched_rules`](Record::matched_rules) | K | lines | `matched_rules` | – | – |
//!
//! [`scores`](Record::scores) are read from the messages of rules of the Core Rule Set, so they need
//! part H too.
//!
//! # What a record is worth
//!
//! An alert that [`is_trusted`](crate::record::Alert::is_trusted) says what the engine found. Of
//! others, text of the client's may be taken for the engine's, and
//! [`Unverified`](crate::record::Flag::Unverified) is set. A record that is
//! [`Ambiguous`](crate::record::Flag::Ambiguous) has delimiters or lines that could be read in more
//! than one way; its fields are those that are certain.
//!
//! # Dialects
//!
//! [`detect`] needs only the first bytes, and nothing has to be configured.
//!
//! | | `ModSecurity` 2 | libmodsecurity 3 | Coraza |
//! | --- | --- | --- | --- |
//! | native, recognised by line 1 | `--3fa0c41b-A--` | `---Qx7Lm2Rt---A--` | `--QxaLmbRtcd-A--` (`-B--` with default parts) |
//! | JSON | yes | yes | yes, also `JsonLegacy`; `OCSF` is recognised and not read |
//! | index (`SecAuditLog` in concurrent mode) | yes | yes | no: it has neither size nor MD5 |
//!
//! What one dialect lacks of another was found by sending the same requests to servers that log in
//! each. The test `dialects` fails if a line on `ModSecurity` or libmodsecurity is no longer true.
//!
//! | dialect | lacks | has instead |
//! | --- | --- | --- |
//! | JSON, `ModSecurity` 2 | reason phrase of the status line | protocol and number |
//! | | start and length of the transaction (`Stopwatch`) | time spent by phase |
//! | | number of an upload among the parts of the body | position in the list |
//! | | body behind its first NUL | |
//! | JSON, libmodsecurity 3 | whether and in which phase the engine intercepted | the status; `is_interrupted` since 2026 |
//! | | which rule intercepted | rule fields are those of the first alert |
//! | | offset of its time from UTC | computed from the transaction id if that is the engine's own; else this machine's zone |
//! | | request line, status line | method, URI, version and number on their own |
//! | | body and `data` behind their first NUL | |
//! | native, libmodsecurity 3 | engine mode, producer, uploads, matched rules (part K) | |
//! | | reason phrase of the status line; `SQLi`, `XSS` (summaries of phase 5 are not logged) | the number; the total score |
//! | | response body as sent | bytes that are not printable ASCII as `\xhh` |
//! | | `data` behind 200 bytes | length of what was omitted |
//! | native, Coraza | offset of its time from UTC | this machine's zone |
//! | | engine mode, `Stopwatch`, producer; client, server and id without part A | |
//! | | alerts and status before 3.4 | flag `no_part_h` |
//! | | `SQLi`, `XSS` since 3.7 | the total score |
//! | JSON, Coraza, without part K | rule id, severity, tags | message, action and phase |
//!
//! - libmodsecurity and Coraza write `0` (Coraza before 3.7 `emergency`) for a rule without
//!   severity, maturity or accuracy. The field is `None` then.
//! - libmodsecurity appends to a file that exists; such a file holds several records.
//! - Coraza without parts A and Z: nothing shows that an entry is complete.
//! - A time without a zone is in [`Record::local_time`]; [`Record::instant`] reads it in the zone
//!   that you name. The programs take that of this machine (`TZ`).
//! - JSON is read even if it is not quite JSON: bytes that are not UTF-8, repeated headers,
//!   `"http_version":,`, a document that was cut off (flag
//!   [`Truncated`](crate::record::Flag::Truncated)). libmodsecurity built without YAJL writes
//!   `{"error":…}`: [`Defect::BuiltWithoutJson`].
//!
//! What a client can forge in which dialect is a matter of what the server logs: see
//! `modsec-parser(8)`, and [`serial_log`](crate::serial_log) for where an entry ends in a log of many.

#![deny(clippy::indexing_slicing, clippy::string_slice)]

mod alert_limits;
mod dialect;
pub(crate) mod digits;
mod escape;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod json;
pub mod large;
pub mod native;
mod request_line;
mod rule_match;
mod scores;
pub(crate) mod timestamp;
mod wrapping;

use std::fmt;

pub use self::dialect::Dialect;
pub(crate) use self::dialect::IndexForm;
pub use self::wrapping::Wrapping;
use crate::record::Record;

/// The form of an entry (`SecAuditLogFormat`), and the engine that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Lettered parts, held together by a boundary.
    Native(Dialect),
    /// A JSON document. Coraza's `JsonLegacy` imitates `ModSecurity` 2 and counts as
    /// [`Dialect::V2`].
    Json(Dialect),
}

/// Recognises the dialect: of a native entry by its first line, of a JSON document by its first
/// keys. `None` for what [`decode`] would refuse, and for a `head` that is too short to tell.
///
/// Of a native entry, [`Boundary::MAX_LINE`](native::Boundary::MAX_LINE) bytes and one more are
/// enough, and a few hundred of a document with its keys in the order of the engine. Coraza's
/// `JsonLegacy` imitates `ModSecurity` 2, and is taken for it.
pub fn detect(head: &[u8]) -> Option<Format> {
    if json::starts(head) {
        return json::detect(head).map(Format::Json);
    }
    let (boundary, _) = native::Boundary::open(head)?;
    Some(Format::Native(boundary.dialect()))
}

/// Returns `true` if [`decode`] may take bytes that start so for an entry. White space alone may go
/// on with a document.
#[cfg(feature = "fs")]
pub(crate) fn may_begin(head: &[u8]) -> bool {
    json::starts(head) || head.trim_ascii().is_empty() || native::Boundary::open(head).is_some()
}

/// Says what bytes are that do not begin like an entry, as well as their beginning tells. `line` is what
/// their first line begins with.
pub(crate) fn unrecognized(head: &[u8], line: FirstBytes) -> Defect {
    match Wrapping::of(head) {
        Some(by) => Defect::Wrapped { by },
        None if !head.is_empty() && head.iter().all(|byte| *byte == 0) => Defect::Zeros,
        None => Defect::NotAnAuditLog { found: line },
    }
}

/// Decodes one entry. Of several JSON documents, the first; the record is
/// [`Ambiguous`](crate::record::Flag::Ambiguous) then.
///
/// # Errors
///
/// [`Defect`] if the bytes are empty, or start neither with a part's delimiter line nor with a
/// JSON object that has a key of an audit log. Everything that starts like an entry becomes a
/// record, however broken, with [`flags`](Record::flags).
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, Defect> {
    if json::starts(bytes) {
        return json::decode(bytes);
    }
    Ok(native::Entry::parse(bytes)?.record())
}

/// What may stand behind an entry.
#[cfg(feature = "jobs")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    /// Nothing of its boundary: it has a file of its own (`SecAuditLogType Concurrent`), or one to which
    /// libmodsecurity has appended others. All lines of that boundary are the entry's own, whatever its
    /// client has sent.
    Nothing,
    /// Other entries. If it was cut off, the next one was written right behind it.
    Others,
}

/// Decodes an entry as [`decode`] does, with what is known of the place where it stood.
///
/// # Errors
///
/// As for [`decode`].
#[cfg(feature = "jobs")]
pub(crate) fn decode_among(bytes: &[u8], among: Among) -> Result<Record<'_>, Defect> {
    if among == Among::Nothing && !json::starts(bytes) {
        return Ok(native::Entry::parse_alone(bytes)?.record());
    }
    decode(bytes)
}

/// Returns `true` if an entry has been written to its end: its last line is part Z of the boundary
/// in its first line, or its JSON object is closed.
///
/// A file for which this is false may still be growing. Coraza writes no part Z unless
/// `SecAuditLogParts` asks for it; such an entry is never complete.
pub fn is_complete(bytes: &[u8]) -> bool {
    if json::starts(bytes) {
        return json::is_complete(bytes);
    }
    native::Boundary::open(bytes).is_some_and(|(boundary, _)| boundary.closes(bytes))
}

/// Why some bytes did not become a [`Record`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Defect {
    /// There are no bytes.
    #[error("the file is empty")]
    Empty,
    /// The first line is not the delimiter of a part. A line that a text editor has touched (CRLF,
    /// a space at its end) is none.
    #[error("not an audit log: line 1 is {found}, not a delimiter like --1a2b3c4d-A--")]
    NotAnAuditLog {
        /// What stands there instead.
        found: FirstBytes,
    },
    /// The first keys of a JSON object are not those of an audit log.
    #[error("not an audit log: JSON that starts with {found} has no key of a transaction")]
    UnknownJson {
        /// What the object starts with.
        found: FirstBytes,
    },
    /// Zeros stand where an entry would begin.
    #[error(
        "zeros, which a crash leaves where the bytes of a file have not reached the disk; \
         nothing can be read from them"
    )]
    Zeros,
    /// Something stands around an audit log.
    #[error("{} {by}, which is not read; take that off with {}", by.noun(), by.command())]
    Wrapped {
        /// What does.
        by: Wrapping,
    },
    /// Coraza with `SecAuditLogFormat OCSF`, or something else in that schema.
    #[error(
        "an event in the Open Cybersecurity Schema Framework, which is not read; with \
         SecAuditLogFormat JSON or Native, Coraza writes what is"
    )]
    Ocsf,
    /// The index: a line for each record, and no record.
    #[error(
        "the index of an audit log (SecAuditLog with SecAuditLogType Concurrent), which has no \
         entries; modsec-parser takes it as --index, recidive as --source index=FILE, and recidive \
         replay reads it"
    )]
    Index,
    /// libmodsecurity wrote an error message in place of a transaction.
    #[error(
        "no transaction: libmodsecurity was built without JSON support and writes an error in \
         place of each entry, install a build with YAJL or set SecAuditLogFormat Native"
    )]
    BuiltWithoutJson,
}

/// The beginning of a line, quoted and escaped for a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FirstBytes {
    /// The first bytes, with zeros behind them.
    bytes: [u8; 24],
    /// How many of them are the line's, without its LF.
    len: usize,
}

impl FirstBytes {
    /// Takes the first 24 bytes of a line, or fewer if it ends before that.
    pub(crate) fn of(line: &[u8]) -> FirstBytes {
        let mut bytes = [0; 24];
        let mut len = 0;
        for (to, from) in bytes
            .iter_mut()
            .zip(line.iter().take_while(|byte| **byte != b'\n'))
        {
            *to = *from;
            len += 1;
        }
        FirstBytes { bytes, len }
    }
}

impl fmt::Display for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.bytes.get(..self.len).unwrap_or_default();
        let more = if self.len == self.bytes.len() {
            "…"
        } else {
            ""
        };
        write!(f, "\"{}{more}\"", shown.escape_ascii())
    }
}

impl fmt::Debug for FirstBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Flag;

    #[test]
    fn what_is_no_audit_log_is_a_defect_that_shows_its_first_line() {
        for (bytes, want) in [
            (&b""[..], "the file is empty"),
            (
                b"\x1b[0m<html>\nmore",
                r#"not an audit log: line 1 is "\x1b[0m<html>", not a"#,
            ),
            (
                b"--1a2b3c4d-A-- \n",
                r#"not an audit log: line 1 is "--1a2b3c4d-A-- ", not a"#,
            ),
            (
                b"--1a2b3c4d-A--\r\n",
                r#"not an audit log: line 1 is "--1a2b3c4d-A--\r", not a"#,
            ),
            (
                b"--1A2B3C4D-A--\n",
                r#"not an audit log: line 1 is "--1A2B3C4D-A--", not a"#,
            ),
        ] {
            let defect = decode(bytes).unwrap_err().to_string();
            assert!(defect.starts_with(want), "input {bytes:?} gave {defect}");
            assert!(detect(bytes).is_none());
        }
    }

    #[test]
    fn the_first_line_tells_the_dialect() {
        for (line, want) in [
            ("--1a2b3c4d-A--", Some(Format::Native(Dialect::V2))),
            ("---Qx7Lm2Rt---A--", Some(Format::Native(Dialect::V3))),
            ("--QxaLmbRtcd-A--", Some(Format::Native(Dialect::Coraza))),
            ("--QxaLmbRtcd-B--", Some(Format::Native(Dialect::Coraza))),
            ("---Qx7Lm2Rt-A--", None),
        ] {
            assert_eq!(detect(line.as_bytes()), want, "{line}");
            let more = format!("{line}\n[");
            assert_eq!(detect(more.as_bytes()), want, "{line}");
        }
    }

    #[test]
    fn an_entry_is_complete_when_its_own_part_z_ends_it() {
        for (bytes, want) in [
            (&b"--1a2b3c4d-A--\nx\n--1a2b3c4d-Z--\n"[..], true),
            (b"--1a2b3c4d-A--\nx\n--1a2b3c4d-Z--\n\n", true),
            (b"--1a2b3c4d-A--\nx\n--1a2b3c4d-Z--", true),
            (b"--1a2b3c4d-A--\nx\n--00000000-Z--\n", false),
            (b"--1a2b3c4d-A--\nx\n--1a2b3c4d-Z--\nmore", false),
            (b"--1a2b3c4d-A--\nx\n--1a2b3c4d-Z--\n)", false),
            (b"--1a2b3c4d-A--\nx--1a2b3c4d-Z--\n", false),
            (b"--1a2b3c4d-A--\n", false),
            (b"--1a2b3c4d-Z--\n", false),
            (b"", false),
        ] {
            let shown = bytes.escape_ascii().to_string();
            assert_eq!(is_complete(bytes), want, "input {shown:?}");
            if let Ok(record) = decode(bytes) {
                assert_eq!(
                    record.flags.contains(Flag::Truncated),
                    !want,
                    "input {shown:?}"
                );
            }
        }
    }
}

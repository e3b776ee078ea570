//! From the bytes of an audit log to [`Record`]s: the list of dialects.
//!
//! The grammar works on bytes, allocates little, and cannot fail on what an attacker put into an
//! entry: whatever cannot be told for certain is absent from the record, and a flag says so.
//! [`Defect`] is left for input that is no audit log at all.

#![deny(clippy::indexing_slicing, clippy::string_slice)]

mod escape;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod json;
pub mod large;
pub mod native;
mod request_line;
mod rule_match;
mod scores;
mod shares;
pub(crate) mod timestamp;

use std::fmt;

use crate::record::Record;

/// A dialect of the audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `ModSecurity` 2 native (`SecAuditLogFormat Native`).
    NativeV2,
    /// libmodsecurity 3 native.
    NativeV3,
    /// Coraza native.
    NativeCoraza,
    /// `ModSecurity` 2 JSON, also Coraza's `JsonLegacy`.
    JsonV2,
    /// libmodsecurity 3 JSON.
    JsonV3,
    /// Coraza JSON.
    JsonCoraza,
}

/// Recognises the dialect: of a native entry by its first line, of a JSON document by its first
/// keys.
///
/// Of a native entry, [`Boundary::MAX_LINE`](native::Boundary::MAX_LINE) bytes and one more are
/// enough, and a few hundred of a document with its keys in the order of the engine. Coraza's
/// `JsonLegacy` imitates `ModSecurity` 2, and is taken for it.
pub fn detect(head: &[u8]) -> Option<Format> {
    if json::starts(head) {
        return json::detect(head);
    }
    let (boundary, _) = native::Boundary::open(head)?;
    Some(match boundary.dialect() {
        native::Dialect::V2 => Format::NativeV2,
        native::Dialect::V3 => Format::NativeV3,
        native::Dialect::Coraza => Format::NativeCoraza,
    })
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

/// Tells whether an entry has been written to its end: its last line is part Z of the boundary
/// in its first line, or its JSON object is closed.
///
/// A file for which this is false may still be growing.
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
    /// The first line is not the delimiter of a part.
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
    bytes: [u8; 24],
    len: usize,
}

impl FirstBytes {
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
            ("--1a2b3c4d-A--", Some(Format::NativeV2)),
            ("---Qx7Lm2Rt---A--", Some(Format::NativeV3)),
            ("--QxaLmbRtcd-A--", Some(Format::NativeCoraza)),
            ("--QxaLmbRtcd-B--", Some(Format::NativeCoraza)),
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

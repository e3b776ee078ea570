//! What of the request an alert is about.
//!
//! The engine's sentence says it, in a place that depends on the operator (`re_operators.c`,
//! `operator.cc`):
//!
//! ```text
//! Pattern match "…" at ARGS:id.                                     and most operators
//! Match of "rx ^GET$" against "REQUEST_METHOD" required.            negated
//! Found 1 byte(s) in ARGS:file outside range: 1-255.                @validateByteRange
//! Matched "Operator `Rx' with parameter `…' against variable `ARGS:id' (Value: `1'' )
//! detected SQLi using libinjection with fingerprint 's&1c'          ModSecurity 2: not at all
//! ```
//!
//! Where it does not, the rule's `logdata` may, in the words of the Core Rule Set: `Matched Data: 1'
//! found within ARGS:id: 1'`. There a client's own words stand on both sides, so that he may have
//! written the name.

use memchr::memmem;

use crate::record::Alert;
use crate::text::Text;

/// A variable of the engine, such as `ARGS:id` or `REQUEST_HEADERS:User-Agent`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Target<'a> {
    /// Its name as logged. What stands behind the colon was typed by the client.
    pub text: Text<'a>,
    /// Where the name was read.
    pub source: TargetSource,
}

/// Where the name of a [`Target`] was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum TargetSource {
    /// In the engine's sentence.
    Sentence,
    /// In the rule's `logdata`, which a client may have influenced.
    LogData,
}

impl TargetSource {
    /// Returns the name as in JSON and in the database: `sentence` or `log_data`.
    pub fn name(self) -> &'static str {
        match self {
            TargetSource::Sentence => "sentence",
            TargetSource::LogData => "log_data",
        }
    }
}

/// Bytes of a name that are kept. Apache limits a request line to 8,190.
const MAX_NAME: usize = 1024;

impl<'a> Target<'a> {
    /// Returns what the alert is about; `None` if the entry does not say.
    pub fn of(alert: &'a Alert<'_>) -> Option<Target<'a>> {
        let (name, source) = match in_sentence(alert.detail.as_bytes()) {
            Some(name) => (name, TargetSource::Sentence),
            None => (
                in_log_data(alert.data.as_ref()?.as_bytes())?,
                TargetSource::LogData,
            ),
        };
        let text = Text::from(name.get(..MAX_NAME).unwrap_or(name));
        Some(Target { text, source })
    }

    /// Returns `true` for an anomaly score, as far as the engine's sentence says so.
    pub(super) fn is_score(&self) -> bool {
        /// Ends of the names that rule sets give to scores, in lower case.
        const SCORES: [&[u8]; 3] = [b"anomaly_score", b"incoming_points", b"outgoing_points"];
        let name = self.text.as_bytes();
        let ends_with = |score: &&[u8]| {
            let start = name.len().checked_sub(score.len());
            let end = start.and_then(|start| name.get(start..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(score))
        };
        let is_tx = name
            .get(..3)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"TX:"));
        self.source == TargetSource::Sentence && is_tx && SCORES.iter().any(ends_with)
    }
}

/// Finds the name of the variable in the engine's sentence, which each engine words in its own
/// way. `None` if none is named.
fn in_sentence(detail: &[u8]) -> Option<&[u8]> {
    if detail.starts_with(b"Matched \"Operator ") {
        let behind = behind(detail, b"' against variable `")?;
        return before(behind, b"' (Value: `").filter(|name| is_variable(name));
    }
    if detail.starts_with(b"Match of \"") {
        let name = detail.strip_suffix(b"\" required.")?;
        let at = memmem::find(name, b"\" against \"")? + b"\" against \"".len();
        return name.get(at..).filter(|name| is_variable(name));
    }
    if detail.starts_with(b"Found ") {
        let behind = behind(detail, b" byte(s) in ")?;
        let end = memmem::rfind(behind, b" outside range: ")?;
        return behind.get(..end).filter(|name| is_variable(name));
    }
    // What comes first is the rule's or the engine's own: a pattern in quotes, a number, an address.
    let sentence = detail.strip_suffix(b".").unwrap_or(detail);
    let behind_all = |mark: &'static [u8]| {
        memmem::find_iter(sentence, mark).filter_map(move |at| sentence.get(at + mark.len()..))
    };
    let mut names = behind_all(b"\" at ").chain(behind_all(b" at "));
    names.find(|name| is_variable(name))
}

/// Finds the name in `logdata` as the Core Rule Set writes it.
fn in_log_data(data: &[u8]) -> Option<&[u8]> {
    /// What stands between the matched data and the name of the variable.
    const WITHIN: &[u8] = b" found within ";
    if data.starts_with(b"Matched Data: ") {
        return memmem::find_iter(data, WITHIN)
            .filter_map(|at| before(data.get(at + WITHIN.len()..)?, b": "))
            .find(|name| is_variable(name));
    }
    before(data, b"=").filter(|name| is_variable(name))
}

/// Returns what stands behind the first `mark`; `None` without one.
fn behind<'t>(text: &'t [u8], mark: &[u8]) -> Option<&'t [u8]> {
    text.get(memmem::find(text, mark)? + mark.len()..)
}

/// Returns what stands before the first `mark`; `None` without one.
fn before<'t>(text: &'t [u8], mark: &[u8]) -> Option<&'t [u8]> {
    text.get(..memmem::find(text, mark)?)
}

/// Returns `true` for the name of a variable: a collection in capitals, perhaps with a member.
fn is_variable(name: &[u8]) -> bool {
    let collection = name.split(|byte| *byte == b':').next().unwrap_or_default();
    let is_letter = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    collection.len() >= 2
        && collection.first().is_some_and(u8::is_ascii_uppercase)
        && collection.iter().all(is_letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(detail: &'static str, data: &'static str) -> Option<(String, TargetSource)> {
        let alert = Alert {
            detail: detail.into(),
            data: (!data.is_empty()).then(|| data.into()),
            ..Alert::default()
        };
        let target = Target::of(&alert)?;
        Some((target.text.to_string(), target.source))
    }

    #[test]
    fn every_sentence_of_the_engines_names_its_target() {
        for (detail, want) in [
            ("Pattern match \"'\" at ARGS:id.", "ARGS:id"),
            (
                "Pattern match \"'\" at ARGS:a at ARGS:b.",
                "ARGS:a at ARGS:b",
            ),
            ("Pattern match \" at x\" at ARGS:id.", "ARGS:id"),
            ("Pattern match \"x at ARGS:a\" at ARGS:id.", "ARGS:id"),
            (
                "Pattern match \"x\" at ARGS:a\" at ARGS:b.",
                "ARGS:a\" at ARGS:b",
            ),
            (
                "Pattern match \"(?i) look at me\" at REQUEST_HEADERS:User-Agent.",
                "REQUEST_HEADERS:User-Agent",
            ),
            (
                "Matched phrase \"nikto\" at REQUEST_HEADERS:User-Agent.",
                "REQUEST_HEADERS:User-Agent",
            ),
            (
                "Operator EQ matched 0 at REQUEST_HEADERS.",
                "REQUEST_HEADERS",
            ),
            ("String match \"/x\" at REQUEST_URI.", "REQUEST_URI"),
            ("String match within \"a b\" at ARGS:x.", "ARGS:x"),
            (
                "Match of \"within %{tx.allowed_methods}\" against \"REQUEST_METHOD\" required.",
                "REQUEST_METHOD",
            ),
            (
                "Match of \"rx ^a\" against \"ARGS:x\" against \"ARGS:y\" required.",
                "ARGS:x\" against \"ARGS:y",
            ),
            (
                "Found 1 byte(s) in ARGS:file outside range: 1-255.",
                "ARGS:file",
            ),
            (
                "Found 2 byte(s) in ARGS:a outside range: 1 outside range: 1-255.",
                "ARGS:a outside range: 1",
            ),
            (
                "Invalid URL Encoding: Non-hexadecimal digits used at REQUEST_URI.",
                "REQUEST_URI",
            ),
            (
                "Invalid UTF-8 encoding: invalid byte value in character at ARGS:t.",
                "ARGS:t",
            ),
            (
                "RBL lookup of x.example succeeded at REMOTE_ADDR.",
                "REMOTE_ADDR",
            ),
            (
                "IPmatch: \"192.0.2.0/24\" matched at REMOTE_ADDR.",
                "REMOTE_ADDR",
            ),
            ("CC# match \"[0-9]+\" at RESPONSE_BODY.", "RESPONSE_BODY"),
            (
                "Matched \"Operator `Rx' with parameter `^x' against variable `ARGS:q' (Value: `1' )",
                "ARGS:q",
            ),
            (
                "Matched \"Operator `DetectSQLi' with parameter `' against variable `ARGS:q' against variable `X' (Value: `1' )",
                "ARGS:q' against variable `X",
            ),
        ] {
            let want = Some((want.to_owned(), TargetSource::Sentence));
            assert_eq!(target(detail, ""), want, "{detail}");
            // The log data is not asked.
            let data = "Matched Data: x found within ARGS:other: x";
            assert_eq!(target(detail, data), want, "{detail}");
        }
    }

    #[test]
    fn log_data_names_what_the_sentence_does_not() {
        let libinjection = "detected SQLi using libinjection with fingerprint 's&1c'";
        let from_data = |name: &str| Some((name.to_owned(), TargetSource::LogData));
        for (data, want) in [
            (
                "Matched Data: s&1c found within ARGS:q: 1' or 1",
                from_data("ARGS:q"),
            ),
            (
                "Matched Data: a found within b found within ARGS:q: x",
                from_data("ARGS:q"),
            ),
            ("Matched Data: x found within ARGS:q", None),
            ("ARGS:q=1", from_data("ARGS:q")),
            ("q=1", None),
            ("", None),
        ] {
            assert_eq!(target(libinjection, data), want, "{data}");
        }
        assert_eq!(target("Unconditional match in SecAction.", ""), None);
        assert_eq!(
            target(
                "Request body (Content-Length) is larger than the limit (1).",
                ""
            ),
            None
        );
    }

    #[test]
    fn a_name_has_a_bound() {
        let detail = format!("Pattern match \"x\" at ARGS:{}.", "a".repeat(5000));
        let (name, _) = target(detail.leak(), "").unwrap();
        assert_eq!(name.len(), MAX_NAME);
    }
}

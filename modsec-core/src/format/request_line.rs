//! The words of a request line.
//!
//! ```text
//! GET /item?id=1%27 HTTP/1.1     method, URI, protocol
//! GET /a b HTTP/1.1              the URI may hold spaces: protocol is the last word, if it is one
//! GET /item                      HTTP/0.9: no protocol
//! \x16\x03\x01…                  TLS on a plain port: one word, the method
//! ```
//!
//! Apache hands on what the client sent, any bytes but LF and NUL. libmodsecurity puts the line together
//! of method, URI and version, and has `-` for a method that is missing.

use memchr::{memchr, memrchr};

/// What a request line consists of; nothing is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct RequestLine<'a> {
    /// The first word.
    pub(super) method: Option<&'a [u8]>,
    /// What stands between method and protocol; may contain spaces.
    pub(super) uri: Option<&'a [u8]>,
    /// The last word, if it starts with `HTTP/`.
    pub(super) protocol: Option<&'a [u8]>,
}

/// Splits a request line as the server stored it; any bytes may stand there. The method ends at the
/// first space, the protocol begins behind the last one, and all between is the URI.
pub(super) fn split(line: &[u8]) -> RequestLine<'_> {
    let filled = |word: &'_ [u8]| !word.is_empty();
    let Some(space) = memchr(b' ', line) else {
        return RequestLine {
            method: Some(line).filter(|line| filled(line)),
            ..RequestLine::default()
        };
    };
    let (method, rest) = line.split_at(space);
    let last = memrchr(b' ', rest).unwrap_or(0);
    let protocol = rest
        .get(last + 1..)
        .filter(|word| word.starts_with(b"HTTP/"));
    let uri = match protocol {
        Some(_) => rest.get(1..last),
        None => rest.get(1..),
    };
    RequestLine {
        method: Some(method).filter(|method| filled(method)),
        uri: uri.filter(|uri| filled(uri)),
        protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_request_line() {
        for (line, want) in [
            (
                "GET /x HTTP/1.1",
                (Some("GET"), Some("/x"), Some("HTTP/1.1")),
            ),
            (
                "GET /a b HTTP/1.1",
                (Some("GET"), Some("/a b"), Some("HTTP/1.1")),
            ),
            ("GET /x", (Some("GET"), Some("/x"), None)),
            ("GET HTTP/1.1", (Some("GET"), None, Some("HTTP/1.1"))),
            ("GET ", (Some("GET"), None, None)),
            (" /x", (None, Some("/x"), None)),
            ("--3fa0c41b-Z--", (Some("--3fa0c41b-Z--"), None, None)),
            ("", (None, None, None)),
        ] {
            let got = split(line.as_bytes());
            let (method, uri, protocol) = want;
            let want = RequestLine {
                method: method.map(str::as_bytes),
                uri: uri.map(str::as_bytes),
                protocol: protocol.map(str::as_bytes),
            };
            assert_eq!(got, want, "line {line:?}");
        }
    }
}

//! Lines of the index that `SecAuditLog` becomes in concurrent mode (`ModSecurity` 2).
//!
//! ```text
//! HOST RADDR RLOGNAME USER [TIME] "REQLINE" STATUS BYTES "-" "-" TXID "SESSION" PATH 0 SIZE md5:HEX
//! ```
//!
//! There is a line for every record, also for those whose file was overwritten by a later one of
//! the same name. The right end is the engine's own; host, user and request line are a stranger's,
//! and only the request line has its quotes escaped. So the line is read from the right up to the
//! time, and of what stands left of the time only the second word is believed, and only if no
//! other word there is an address too.

use std::net::IpAddr;

use chrono::{DateTime, FixedOffset};

use crate::format::timestamp;
use crate::record::parse_ip;

/// What an index line says of one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLine<'a> {
    /// When the entry was written.
    pub time: DateTime<FixedOffset>,
    /// The TCP peer, or what `mod_remoteip` made of it.
    pub client: IpAddr,
    /// Final status code.
    pub status: u16,
    /// Path of the entry's file below the storage directory, as logged.
    pub path: &'a [u8],
}

impl<'a> IndexLine<'a> {
    /// Reads a line, with or without its line end.
    ///
    /// `None` if it is no such line, or if it could be read in more than one way. Also the lines
    /// of libmodsecurity and Coraza, which escape nothing.
    pub fn parse(line: &'a [u8]) -> Option<IndexLine<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        // A shortened line ends with `L`.
        let line = line.strip_suffix(b"L").unwrap_or(line);
        let line = line.strip_suffix(b" ")?;
        let (line, digest) = last_word(line)?;
        let hex = digest.strip_prefix(b"md5:")?;
        let (line, size) = last_word(line)?;
        let (line, zero) = last_word(line)?;
        let (line, path) = last_word(line)?;
        let sane = hex.len() == 32
            && hex.iter().all(u8::is_ascii_hexdigit)
            && !size.is_empty()
            && size.iter().all(u8::is_ascii_digit)
            && zero == b"0"
            && path.starts_with(b"/");
        if !sane {
            return None;
        }
        let (line, _session) = last_quoted(line)?;
        let (line, _txid) = last_word(line)?;
        let line = line.strip_suffix(br#" "-" "-""#)?;
        let (line, _bytes) = last_word(line)?;
        let (line, status) = last_word(line)?;
        let (left, time) = before_request_line(line)?;
        Some(IndexLine {
            time: timestamp::parse(time)?,
            client: only_address(left)?,
            status: number(status).filter(|status| (100..=999).contains(status))?,
            path,
        })
    }
}

/// Splits off what stands behind the last space.
fn last_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memrchr(b' ', line)?;
    Some((line.get(..space)?, line.get(space + 1..)?))
}

/// Splits off a last word in quotes, in which quotes are escaped.
fn last_quoted(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let inner = line.strip_suffix(b"\"")?;
    let open = memchr::memmem::rfind(inner, b" \"")?;
    Some((line.get(..open)?, inner.get(open + 2..)?))
}

/// Returns what stands before `[TIME] "REQLINE"`, and TIME.
///
/// Quotes in the request line are escaped, so the last `] "` is where it begins. A shortened
/// request line may end inside an escape, therefore nothing is asked of its end but the quote.
fn before_request_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_suffix(b"\"")?;
    let end = memchr::memmem::rfind(line, b"] \"")?;
    let start = memchr::memrchr(b'[', line.get(..end)?)?;
    Some((line.get(..start)?, line.get(start + 1..end)?))
}

/// Returns the address in second place if it is the only one among the words.
fn only_address(left: &[u8]) -> Option<IpAddr> {
    let mut words = left.split(|&byte| byte == b' ').skip(1);
    let client = parse_ip(words.next()?)?;
    // A host name with a space in it, or a user called like an address: nobody can tell.
    words.all(|word| parse_ip(word).is_none()).then_some(client)
}

fn number(digits: &[u8]) -> Option<u16> {
    let all_digits = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| all_digits)?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAIL: &str = r#" 403 199 "-" "-" awLTx2NZOYE2v-Kd-3Z8jAAAAAE "-" /site2/20261122/20261122-1436/20261122-143639-awLTx2NZOYE2v-Kd-3Z8jAAAAAE 0 22099 md5:f4379ec14e40221beb05af5daf25ef7a "#;

    fn line(left: &str, request: &str) -> String {
        format!(r#"{left} [22/Nov/2026:14:36:39.026716 +0300] "{request}"{TAIL}"#)
    }

    fn client_and_status(line: &str) -> Option<(String, u16)> {
        IndexLine::parse(line.as_bytes()).map(|line| (line.client.to_string(), line.status))
    }

    #[test]
    fn address_status_time_and_path_are_read() {
        let line = line("www.example.test 192.0.2.7 - -", "GET /?q=1 HTTP/1.1") + "\n";
        let got = IndexLine::parse(line.as_bytes()).unwrap();
        assert_eq!(got.client.to_string(), "192.0.2.7");
        assert_eq!(got.status, 403);
        assert_eq!(got.time.to_rfc3339(), "2026-11-22T14:36:39.026716+03:00");
        assert!(got.path.starts_with(b"/site2/20261122/"));
    }

    #[test]
    fn strangers_words_change_nothing_or_spoil_the_line() {
        let good = Some(("192.0.2.7".to_owned(), 403));
        let host = "www.example.test 192.0.2.7 - -";
        for (line, want) in [
            (line(host, r#"GET /\" 200 1 \"-\" \"-\" x \"-\" /p 0 1 md5: HTTP/1.1"#), good.clone()),
            (line(host, r"GET /] \[01/Jan/2020:00:00:00 +0000] \x HTTP/1.1"), good.clone()),
            (line(host, ""), good.clone()),
            // Shortened inside an escape.
            (line(host, r"GET /aaaa\").trim_end().to_owned() + " L", good.clone()),
            (line("www.example.test 192.0.2.7 - some user", "GET / HTTP/1.1"), good.clone()),
            (
                line(
                    r#"h 192.0.2.7 - u [01/Jan/2020:00:00:00 +0000] "GET / HTTP/1.1" 200"#,
                    "GET / HTTP/1.1",
                ),
                good.clone(),
            ),
            (line("www 2001:db8::1 - -", "-"), Some(("2001:db8::1".to_owned(), 403))),
            // Either the host has a space in it, or the user is called like an address.
            (line("evil 203.0.113.9 192.0.2.7 - -", "GET / HTTP/1.1"), None),
            (line("evil 203.0.113.9 x 192.0.2.7 - -", "GET / HTTP/1.1"), None),
            (line("www.example.test - - -", "GET / HTTP/1.1"), None),
            (line(host, "GET / HTTP/1.1").replace(" 403 ", " x403 "), None),
            (line(host, "GET / HTTP/1.1").replace("md5:f", "md5:g"), None),
            (String::new(), None),
            // libmodsecurity: absolute path, size with a fraction, raw user agent.
            (
                r#"h 192.0.2.7 - [22/Nov/2026:14:36:39 +0300] "GET / HTTP/1.1" 403 0 - "x" 1.2 - /a/b 0 1303.000000 md5:f4379ec14e40221beb05af5daf25ef7a"#.to_owned(),
                None,
            ),
        ] {
            assert_eq!(client_and_status(&line), want, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_request_line_moves_address_or_status(request in r"([ -~]|\\x[0-9a-f]{2})*") {
            // As the engine escapes it.
            let request = request.replace('\\', r"\\").replace('"', "\\\"");
            let line = line("www.example.test 192.0.2.7 - -", &request);
            prop_assert_eq!(client_and_status(&line), Some(("192.0.2.7".to_owned(), 403)));
        }

        #[test]
        fn any_bytes_are_survived(line in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = IndexLine::parse(&line);
        }
    }
}

//! Lines of the index that `SecAuditLog` becomes in concurrent mode.
//!
//! ```text
//! ModSecurity 2
//! HOST RADDR RLOGNAME USER [TIME] "REQLINE" STATUS BYTES "-" "-" TXID "SESSION" PATH 0 SIZE md5:HEX
//!
//! libmodsecurity 3
//! HOST CLIENT RUSER [TIME] "REQLINE" STATUS BYTES REFERER "UA" TXID REFERER PATH 0 SIZE.000000 md5:HEX
//! ```
//!
//! There is a line for every record, also for those whose file was overwritten by a later one of
//! the same name. It is written once the file is complete, so it is a commit record: size and MD5
//! are those of everything that was meant to be in the file.
//!
//! # What a client can write into a line, and what is believed
//!
//! The right end is the engine's own. What stands left of it came from the client: host, user,
//! request line, session. Version 3 escapes none of it. So a line is read from the right, and of
//! the left part only version 2's is used. Of what stands left of its time only the second word
//! (RADDR) is believed, and only if no other word there is an address too.
//!
//! Coraza spreads its line over several and knows neither size nor MD5: none of them is read.
//!
//! ```
//! use modsec_core::index_line::IndexLine;
//!
//! let line = b"h 192.0.2.9 - - [22/Aug/2026:10:15:00 +0200] \"GET / HTTP/1.1\" 403 12 \
//!     \"-\" \"-\" ZxA \"-\" /20260822/20260822-1015/20260822-101500-ZxA 0 345 \
//!     md5:d41d8cd98f00b204e9800998ecf8427e \n";
//! let line = IndexLine::parse(line).ok_or("no line")?;
//! assert_eq!(line.size, 345);
//! assert_eq!(line.path, b"/20260822/20260822-1015/20260822-101500-ZxA");
//! let transaction = line.transaction().ok_or("two readings")?;
//! assert_eq!((transaction.status, transaction.client.to_string().as_str()), (403, "192.0.2.9"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use chrono::{DateTime, FixedOffset};

use crate::format::digits::number;
use crate::format::{Dialect, IndexForm, timestamp};
use crate::names::is_entry;
use crate::record::parse_ip;

/// What an index line says of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexLine<'a> {
    /// The engine that wrote the line: [`Dialect::V2`] or [`Dialect::V3`].
    pub dialect: Dialect,
    /// Path of the entry's file as logged; [`IndexLine::location`] says where it leads.
    pub path: &'a [u8],
    /// Size in bytes of everything that was meant to be written to the file.
    pub size: u64,
    /// MD5 of everything that was meant to be written to the file.
    pub md5: [u8; 16],
    /// What stands left of the path.
    left: &'a [u8],
}

/// What an index line says of one transaction; only lines of `ModSecurity` 2 say it safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transaction {
    /// When the entry was written, to the second, with the server's offset from UTC.
    pub time: DateTime<FixedOffset>,
    /// The address of the TCP peer, or what `mod_remoteip` made of it.
    pub client: IpAddr,
    /// Final status code of the response, 100 to 999.
    pub status: u16,
}

/// Where a line's path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Location<'a> {
    /// The storage directory, if the engine writes it; otherwise the path is below the only one.
    pub storage_dir: Option<&'a Path>,
    /// Path of the file below the storage directory: `[USER/]YYYYMMDD/YYYYMMDD-HHMM/NAME`.
    pub file: &'a Path,
}

impl<'a> IndexLine<'a> {
    /// Reads the right end of a line, with or without its line end (LF, or CR and LF): path, size
    /// and MD5.
    ///
    /// `None` if it is no such line, also if it was cut off.
    pub fn parse(line: &'a [u8]) -> Option<IndexLine<'a>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        // A copy by way of Windows or git. No other byte may stand behind the MD5.
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        // Version 2 ends its lines with a space, which tools take off, and a shortened one with `L`
        // behind that.
        let line = line.strip_suffix(b"L").unwrap_or(line);
        let (line, has_blank) = match line.strip_suffix(b" ") {
            Some(line) => (line, true),
            None => (line, false),
        };
        let (line, digest) = last_word(line)?;
        let md5 = md5(digest.strip_prefix(b"md5:")?)?;
        let (line, size) = last_word(line)?;
        // Each engine has a form of its own.
        let engines = [Dialect::V2, Dialect::V3].into_iter();
        let mut engines = engines.take(if has_blank { 1 } else { 2 });
        let (dialect, size) = engines.find_map(|dialect| {
            let form = dialect.traits().index.as_ref()?;
            Some((dialect, number(size.strip_suffix(form.size_suffix)?)?))
        })?;
        let line = line.strip_suffix(b" 0")?;
        // The name of the user may hold spaces, and the transaction id what a connector has put
        // there, but neither a slash: with one there would be no file and no line.
        let space = memchr::memmem::rfind(line, b" /")?;
        Some(IndexLine {
            dialect,
            path: line.get(space + 1..)?,
            size,
            md5,
            left: line.get(..space)?,
        })
    }

    /// Returns time, client and status; `None` if they could be read in more than one way, and for
    /// lines of libmodsecurity, which escape nothing.
    pub fn transaction(&self) -> Option<Transaction> {
        self.form()?.is_escaped.then_some(())?;
        let (line, _session) = last_quoted(self.left)?;
        let (line, _txid) = last_word(line)?;
        let line = line.strip_suffix(br#" "-" "-""#)?;
        let (line, _bytes) = last_word(line)?;
        let (line, status) = last_word(line)?;
        let (left, time) = before_request_line(line)?;
        Some(Transaction {
            time: timestamp::parse(time)?,
            client: only_address(left)?,
            status: number(status).filter(|status| (100..=999).contains(status))?,
        })
    }

    /// Returns where the path leads, if it has the shape of an entry's path: names as the engine
    /// gives them, none of them `.`, `..` or empty.
    ///
    /// The storage directory is as the line has it; whether it is the right one is the caller's to
    /// check. Nothing is opened.
    pub fn location(&self) -> Option<Location<'a>> {
        let has_root = self.form()?.has_root;
        let before = if has_root {
            // Day, minute and name.
            memchr::memrchr_iter(b'/', self.path).nth(2)?
        } else {
            0
        };
        let root = self.path.get(..before)?;
        let file = to_path(self.path.get(before..)?.strip_prefix(b"/")?);
        if !is_entry(file) {
            return None;
        }
        let storage_dir = if has_root {
            // The directive may end with a slash, and the engine adds one.
            let end = root.iter().rposition(|&byte| byte != b'/')? + 1;
            let root = root.get(..end)?;
            let mut names = root.strip_prefix(b"/")?.split(|&byte| byte == b'/');
            let strange = names.any(|name| matches!(name, b"" | b"." | b".."));
            (!strange).then(|| Some(to_path(root)))?
        } else {
            None
        };
        Some(Location { storage_dir, file })
    }

    /// Returns how the engine that wrote the line forms it.
    fn form(&self) -> Option<&'static IndexForm> {
        self.dialect.traits().index.as_ref()
    }
}

/// Makes a path of bytes, as they are.
fn to_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Reads 32 hexadecimal digits.
fn md5(hex: &[u8]) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    if hex.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        let nibble = |digit: &u8| char::from(*digit).to_digit(16);
        let value = nibble(pair.first()?)? << 4 | nibble(pair.last()?)?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(digest)
}

/// Splits a line at its last space: what stands before it, and the last word.
fn last_word(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memrchr(b' ', line)?;
    Some((line.get(..space)?, line.get(space + 1..)?))
}

/// Splits off a last word in quotes; quotes within it are escaped. Returns what stands before it,
/// and the word without its quotes.
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
    // A host name with a space in it, or a user called like an address: there are two readings.
    words.all(|word| parse_ip(word).is_none()).then_some(client)
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
        let transaction = IndexLine::parse(line.as_bytes())?.transaction()?;
        Some((transaction.client.to_string(), transaction.status))
    }

    #[test]
    fn address_status_time_and_path_are_read() {
        let line = line("www.example.test 192.0.2.7 - -", "GET /?q=1 HTTP/1.1") + "\n";
        let line = IndexLine::parse(line.as_bytes()).unwrap();
        let got = line.transaction().unwrap();
        assert_eq!(got.client.to_string(), "192.0.2.7");
        assert_eq!(got.status, 403);
        assert_eq!(got.time.to_rfc3339(), "2026-11-22T14:36:39.026716+03:00");
        assert!(line.path.starts_with(b"/site2/20261122/"));
        assert_eq!((line.dialect, line.size), (Dialect::V2, 22099));
        assert_eq!(line.md5[..3], [0xf4, 0x37, 0x9e]);
    }

    #[test]
    fn the_name_of_a_user_may_hold_spaces_and_quotes() {
        let text = line("h 192.0.2.7 - -", "GET / HTTP/1.1");
        for user in ["john smith", "a \"b\" c", "-\" x"] {
            let text = text.replace("/site2/", &format!("/{user}/"));
            let line = IndexLine::parse(text.as_bytes()).unwrap();
            assert!(line.path.starts_with(format!("/{user}/2026").as_bytes()));
            assert!(line.location().is_some());
            assert_eq!(client_and_status(&text), Some(("192.0.2.7".into(), 403)));
        }
    }

    fn location(path: &str, dialect: Dialect) -> Option<(Option<String>, String)> {
        let line = IndexLine {
            dialect,
            path: path.as_bytes(),
            size: 0,
            md5: [0; 16],
            left: b"",
        };
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let found = line.location()?;
        Some((found.storage_dir.map(text), text(found.file)))
    }

    #[test]
    fn a_path_leads_to_an_entry_or_nowhere() {
        let flat = "20261122/20261122-1436/20261122-143639-a.b";
        let v2 = |file: &str| Some((None, file.to_owned()));
        let v3 = |root: &str| Some((Some(root.to_owned()), flat.to_owned()));
        for (dialect, path, want) in [
            (Dialect::V2, format!("/{flat}"), v2(flat)),
            (
                Dialect::V2,
                format!("/site2/{flat}"),
                v2(&format!("site2/{flat}")),
            ),
            (
                Dialect::V2,
                format!("/john smith/{flat}"),
                v2(&format!("john smith/{flat}")),
            ),
            (Dialect::V2, flat.to_owned(), None),
            (Dialect::V2, format!("x{flat}"), None),
            (Dialect::V2, format!("//{flat}"), None),
            (Dialect::V2, format!("/../{flat}"), None),
            (Dialect::V2, format!("/./{flat}"), None),
            (Dialect::V2, format!("/.modsec-parser/{flat}"), None),
            (Dialect::V2, format!("/a/b/{flat}"), None),
            (Dialect::V2, format!("/a//{flat}"), None),
            (Dialect::V2, "/../../etc/passwd".to_owned(), None),
            (
                Dialect::V2,
                "/20261122/20261123-1436/20261122-143639-a".to_owned(),
                None,
            ),
            (Dialect::V2, "/20261122/20261122-1436/..".to_owned(), None),
            (Dialect::V2, "/20261122/20261122-1436/".to_owned(), None),
            (Dialect::V3, format!("/srv/audit//{flat}"), v3("/srv/audit")),
            (Dialect::V3, format!("/srv/audit/{flat}"), v3("/srv/audit")),
            (Dialect::V3, format!("/srv/../audit/{flat}"), None),
            (Dialect::V3, format!("/srv//audit/{flat}"), None),
            (Dialect::V3, format!("/{flat}"), None),
            (Dialect::V3, format!("//{flat}"), None),
            (Dialect::V3, "/etc/passwd".to_owned(), None),
        ] {
            assert_eq!(location(&path, dialect), want, "{path}");
        }
    }

    #[test]
    fn the_right_end_of_a_version_3_line_is_read_whatever_stands_left_of_it() {
        let end = "/srv/my logs/audit//20261122/20261122-1436/20261122-143639-1 2 0 0 1303.000000 \
                   md5:F4379ec14e40221beb05af5daf25ef7a";
        for left in [
            r#"h 192.0.2.7 - [22/Nov/2026:14:36:39 +0300] "GET / HTTP/1.1" 403 0 - "x" 1 2 0 -"#,
            r#"h 192.0.2.7 - - "" 1 /20200101/20200101-0000/20200101-000000-x 0 1 md5: - "" 1 2 0"#,
            "",
        ] {
            let text = format!("{left} {end}\n");
            let line = IndexLine::parse(text.as_bytes()).unwrap();
            assert_eq!((line.dialect, line.size), (Dialect::V3, 1303));
            assert_eq!(line.transaction(), None);
            assert!(end.as_bytes().starts_with(line.path), "{left}");
        }
    }

    #[test]
    fn the_blank_at_the_end_of_a_version_2_line_may_be_missing_and_the_line_end_be_that_of_windows()
    {
        let whole = line("www.example.test 192.0.2.7 - -", "GET /?q=1 HTTP/1.1");
        let want = IndexLine::parse(whole.as_bytes()).unwrap();
        for end in [
            "", "\n", "L", " L", " L\n", "\r\n", " \r\n", " \r", " L\r\n",
        ] {
            let text = format!("{}{end}", whole.trim_end());
            assert_eq!(IndexLine::parse(text.as_bytes()), Some(want), "{text:?}");
        }
    }

    #[test]
    fn other_lines_are_no_index_lines() {
        let md5 = "md5:f4379ec14e40221beb05af5daf25ef7a";
        for line in [
            format!("h /p 0 1.000000 {md5} "),
            format!("h /p 0 1.5 {md5}"),
            format!("h /p 0 -1 {md5} "),
            format!("h /p 0 99999999999999999999 {md5} "),
            format!("h /p 1 1 {md5} "),
            format!("h p 0 1 {md5} "),
            format!("h /p 0 1 {md5} \r\r\n"),
            format!("h /p 0 1 {md5}\r "),
            format!("h /p 0 1\r {md5} "),
            format!("h /p 0 1 {md5}0 "),
            "h /p 0 1 md5:+4379ec14e40221beb05af5daf25ef7a ".to_owned(),
            "[2026/11/22 14:36:39] \"abc\" 192.0.2.7 - - ".to_owned(),
            String::new(),
        ] {
            assert_eq!(IndexLine::parse(line.as_bytes()), None, "{line}");
        }
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
        fn no_words_of_a_stranger_move_path_size_or_md5(
            left in prop::collection::vec(any::<u8>(), 0..200),
            v3 in any::<bool>(),
        ) {
            let end = if v3 {
                " /srv/audit//20261122/20261122-1436/20261122-143639-1.2 0 7.000000 \
                 md5:00000000000000000000000000000001\n"
            } else {
                " /u/20261122/20261122-1436/20261122-143639-a 0 7 \
                 md5:00000000000000000000000000000001 \n"
            };
            let text = [&left, end.as_bytes()].concat();
            let line = IndexLine::parse(&text).unwrap();
            prop_assert_eq!(line.size, 7);
            prop_assert_eq!(u128::from_be_bytes(line.md5), 1);
            let found = line.location().unwrap();
            prop_assert_eq!(found.storage_dir, v3.then(|| Path::new("/srv/audit")));
        }

        #[test]
        fn no_request_line_moves_address_or_status(request in r"([ -~]|\\x[0-9a-f]{2})*") {
            // As the engine escapes it.
            let request = request.replace('\\', r"\\").replace('"', "\\\"");
            let line = line("www.example.test 192.0.2.7 - -", &request);
            prop_assert_eq!(client_and_status(&line), Some(("192.0.2.7".to_owned(), 403)));
        }

        #[test]
        fn any_bytes_are_survived(line in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(line) = IndexLine::parse(&line) {
                line.transaction();
                line.location();
            }
        }
    }
}

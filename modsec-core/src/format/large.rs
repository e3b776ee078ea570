//! Entries too large to hold, in every dialect.
//!
//! A body may be as large as the server allows, a gigabyte at the most. Such an entry comes in
//! windows; what is kept of it is bounded, and makes the same record but for bodies that are not
//! kept whole in any case.
//!
//! ```
//! use modsec_core::format::large::Large;
//! use std::{fs::File, io, os::unix::fs::FileExt as _, path::Path};
//!
//! fn status(path: &Path) -> Result<Option<u16>, Box<dyn std::error::Error>> {
//!     let file = File::open(path)?;
//!     let len = file.metadata()?.len();
//!     let read = |start: u64, most: usize| -> io::Result<Vec<u8>> {
//!         let mut bytes = vec![0; most.min(usize::try_from(len - start).unwrap_or(most))];
//!         file.read_exact_at(&mut bytes, start)?;
//!         Ok(bytes)
//!     };
//!     let mut large = Large::open(&read(0, Large::HEAD)?)?;
//!     let mut at = 0;
//!     loop {
//!         let window = read(at, 256 * 1024)?;
//!         let end = at + window.len() as u64;
//!         large.scan(&window, at, end == len);
//!         if end == len {
//!             break;
//!         }
//!         at = end - Large::OVERLAP as u64;
//!     }
//!     let kept = large.finish(|range| {
//!         read(range.start, usize::try_from(range.end - range.start).unwrap_or(usize::MAX))
//!     })?;
//!     Ok(kept.record().response.status)
//! }
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("entry");
//! # std::fs::write(&path, "--3fa0c41b-A--\nx\n--3fa0c41b-F--\nHTTP/1.1 403\n\n--3fa0c41b-Z--\n")?;
//! # assert_eq!(status(&path)?, Some(403));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::ops::Range;

use super::json::{self, Abridged, Abridger};
use super::native::{self, Boundary, Outline};
use super::{Defect, Dialect};
use crate::record::Record;

/// An entry that is being read in windows.
#[derive(Debug, Clone)]
pub struct Large {
    /// What was scanned so far.
    scan: Scan,
    /// Offset up to which the entry was scanned.
    scanned: u64,
}

/// A scan, by the kind of format.
#[derive(Debug, Clone)]
enum Scan {
    /// The delimiter lines of a native entry.
    Native(Outline),
    /// A JSON document of this dialect, with long strings cut.
    Json(Dialect, Box<Abridger>),
}

/// What was kept of a large entry.
#[derive(Debug, Clone)]
pub struct Excerpts(Selection);

/// What was kept, by the kind of format.
#[derive(Debug, Clone)]
enum Selection {
    /// Parts of a native entry, those that a record needs.
    Native(native::PartExcerpts),
    /// A JSON document of this dialect, with long strings cut.
    Json(Dialect, Box<Abridged>),
}

/// Tells by both ends of an entry whether it may have been written to its end.
///
/// Both are those of a file, which has several records if libmodsecurity has appended to it: the
/// last one tells. For native entries the answer is certain; of JSON it says only that a document, perhaps an
/// inner object, ends there, and [`Record::flags`] has the last word.
pub fn may_be_complete(head: &[u8], tail: &[u8]) -> bool {
    match Boundary::open(head) {
        Some((boundary, _)) => boundary.closes(tail) || boundary.is_followed_by_end(tail),
        None => json::starts(head) && tail.trim_ascii_end().ends_with(b"}"),
    }
}

impl Large {
    /// Bytes that two windows must share.
    pub const OVERLAP: usize = Outline::OVERLAP;

    /// Bytes at the beginning of an entry that are enough to recognise its dialect.
    pub const HEAD: usize = 512;

    /// Recognises the dialect.
    ///
    /// # Errors
    ///
    /// [`Defect`], as of [`decode`](super::decode).
    pub fn open(head: &[u8]) -> Result<Large, Defect> {
        let scan = if json::starts(head) {
            Scan::Json(json::recognise(head)?, Box::default())
        } else {
            Scan::Native(Outline::open(head)?)
        };
        Ok(Large { scan, scanned: 0 })
    }

    /// Recognises the dialect of an entry, as [`Large::open`] does, with what is known of the place
    /// where it stands.
    ///
    /// # Errors
    ///
    /// As for [`Large::open`].
    #[cfg(feature = "jobs")]
    pub(crate) fn open_among(head: &[u8], among: super::Among) -> Result<Large, Defect> {
        let mut large = Large::open(head)?;
        if let Scan::Native(outline) = &mut large.scan {
            outline.is_alone = among == super::Among::Nothing;
        }
        Ok(large)
    }

    /// Looks at `window`, which starts at `offset` of the entry.
    ///
    /// Windows come in order, without gaps, and each starts at least [`Large::OVERLAP`] bytes
    /// before the previous one ended. `last` says that the entry ends with this window.
    pub fn scan(&mut self, window: &[u8], offset: u64, last: bool) {
        match &mut self.scan {
            Scan::Native(outline) => outline.scan(window, offset, last),
            Scan::Json(_, abridger) => {
                let seen = usize::try_from(self.scanned.saturating_sub(offset));
                let fresh = window.get(seen.unwrap_or(usize::MAX)..);
                abridger.push(fresh.unwrap_or_default());
            }
        }
        self.scanned = self.scanned.max(offset + window.len() as u64);
    }

    /// Reads what is to be kept, at most a few megabytes; `read` returns the bytes of a range.
    ///
    /// # Errors
    ///
    /// What `read` fails with.
    pub fn finish<E>(self, read: impl Fn(Range<u64>) -> Result<Vec<u8>, E>) -> Result<Excerpts, E> {
        Ok(Excerpts(match self.scan {
            Scan::Native(outline) => Selection::Native(native::PartExcerpts::read(&outline, read)?),
            Scan::Json(dialect, abridger) => Selection::Json(dialect, Box::new(abridger.finish())),
        }))
    }
}

impl Excerpts {
    /// Makes the record; [`Flag::Capped`](crate::record::Flag::Capped) is set if something other
    /// than a body was cut.
    pub fn record(&self) -> Record<'_> {
        match &self.0 {
            Selection::Native(excerpts) => excerpts.record(),
            Selection::Json(dialect, abridged) => json::abridged_record(*dialect, abridged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::decode;
    use crate::record::{Flag, MAX_BODY_KEPT};

    fn excerpts(entry: &[u8], step: usize) -> Excerpts {
        let mut large = Large::open(entry.get(..Large::HEAD).unwrap_or(entry)).unwrap();
        let (mut start, mut end) = (0, entry.len().min(Large::OVERLAP + step));
        loop {
            large.scan(&entry[start..end], start as u64, end == entry.len());
            if end == entry.len() {
                break;
            }
            start = end - Large::OVERLAP;
            end = entry.len().min(end + step);
        }
        large
            .finish(|range| {
                let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
                Ok::<_, std::num::TryFromIntError>(entry[range].to_vec())
            })
            .unwrap()
    }

    fn json_v2(body: &str, messages: &str) -> String {
        format!(
            r#"{{"transaction":{{"time":"03/Feb/2024:10:11:12 +0100","transaction_id":"Zb4k","remote_address":"192.0.2.10","remote_port":40112}},"request":{{"request_line":"POST /x HTTP/1.1","headers":{{"Host":"shop.example"}},"body":{body}}},"response":{{"status":403,"headers":{{}}}},"audit_data":{{"messages":[{messages}],"action":{{"intercepted":true,"phase":2}}}}}}"#
        )
    }

    const ALERT: &str = r#""Warning. x [file \"/f\"] [line \"1\"] [id \"7\"]""#;

    #[test]
    fn a_small_entry_is_kept_as_it_is() {
        let native = "--3fa0c41b-A--\n[03/Feb/2024:10:11:12 +0100] Zb4k 192.0.2.10 40112 198.51.100.4 80\n--3fa0c41b-Z--\n";
        let json = json_v2(r#"["a\n","\u041f",""]"#, ALERT);
        let cut = &json.as_bytes()[..json.len() - 9];
        let two = format!("{json}\n{json}\n");
        // Its braces are all closed, but one of its objects cannot be read to the end.
        let broken = two.replace(r#""headers":{}"#, r#""headers":{1}"#);
        let marked = format!("\u{feff}\x0c\n {json}");
        let entries = [native, &two, &broken, &marked].map(str::as_bytes);
        for entry in entries.into_iter().chain([json.as_bytes(), cut]) {
            let want = decode(entry).unwrap();
            for step in [1, 2, 7, 64, 4096] {
                let excerpts = excerpts(entry, step);
                assert_eq!(excerpts.record(), want, "windows of {step} bytes");
            }
        }
    }

    #[test]
    fn large_bodies_make_the_same_record() {
        let escaped = r#"a\u0000\"\u041f\I\u12"#.repeat(20_000);
        let plain = "x".repeat(3 * MAX_BODY_KEPT + 5);
        let chunk = format!(r#""{}""#, "y\\n".repeat(4000));
        let chunks = vec![chunk.as_str(); 40].join(",");
        for body in [
            format!(r#""{plain}""#),
            format!(r#""{escaped}""#),
            format!("[{chunks}]"),
            format!(r#"["{plain}","{escaped}",""]"#),
        ] {
            let entry = json_v2(&body, ALERT);
            let want = decode(entry.as_bytes()).unwrap();
            assert!(want.request.body.as_ref().unwrap().len > MAX_BODY_KEPT as u64);
            for step in [100, 4096, 1 << 20] {
                let excerpts = excerpts(entry.as_bytes(), step);
                assert_eq!(excerpts.record(), want, "windows of {step} bytes");
                let Selection::Json(_, kept) = &excerpts.0 else {
                    panic!("not read as JSON");
                };
                assert!(kept.size() < 7 * MAX_BODY_KEPT, "kept {}", kept.size());
            }
        }
    }

    #[test]
    fn a_body_that_was_cut_off_has_the_length_that_is_there() {
        let whole = json_v2(
            &format!(r#""{}""#, r"x\n\u041f".repeat(MAX_BODY_KEPT)),
            ALERT,
        );
        for end in 4 * MAX_BODY_KEPT..4 * MAX_BODY_KEPT + 20 {
            let cut = whole.get(..end).unwrap();
            let torn = format!("{cut}\n{whole}\n");
            for entry in [cut, &torn] {
                let want = decode(entry.as_bytes()).unwrap();
                assert!(want.request.body.as_ref().unwrap().len > MAX_BODY_KEPT as u64);
                let excerpts = excerpts(entry.as_bytes(), 5000);
                assert_eq!(excerpts.record(), want, "cut at {end}");
            }
        }
    }

    #[test]
    fn what_is_no_body_is_cut_with_a_flag() {
        let long = format!(r#""{}""#, "x".repeat(2 * MAX_BODY_KEPT));
        let entry = json_v2("\"\"", &format!("{long},{ALERT}"));
        let excerpts = excerpts(entry.as_bytes(), 5000);
        let record = excerpts.record();
        assert!(record.flags.contains(Flag::Capped));
        assert!(!record.flags.contains(Flag::Truncated));
        assert_eq!(record.alerts[0].raw.len(), MAX_BODY_KEPT);
        assert_eq!(record.alerts[1].rule_id.as_ref().unwrap(), "7");
    }

    #[test]
    fn a_flood_of_members_is_bounded() {
        let messages = vec![ALERT; 300_000].join(",");
        let entry = json_v2("\"\"", &messages);
        let excerpts = excerpts(entry.as_bytes(), 1 << 20);
        let record = excerpts.record();
        assert!(record.flags.contains(Flag::Capped));
        assert!(!record.flags.contains(Flag::Truncated));
        assert_eq!(record.client.unwrap().text, "192.0.2.10");
        let Selection::Json(_, kept) = &excerpts.0 else {
            panic!("not read as JSON");
        };
        assert!(kept.size() <= 4 << 20);
    }

    #[test]
    fn both_ends_tell_whether_an_entry_may_be_complete() {
        for (head, tail, want) in [
            ("--3fa0c41b-A--\nx", "\n--3fa0c41b-Z--\n", true),
            ("--3fa0c41b-A--\nx", "\n--00000000-Z--\n", false),
            ("{\"transaction\":", "}}\n", true),
            ("{\"transaction\":", "}}", true),
            ("{\"transaction\":", "}]", false),
            ("{\"transaction\":", "", false),
            ("x", "}", false),
        ] {
            let got = may_be_complete(head.as_bytes(), tail.as_bytes());
            assert_eq!(got, want, "{head:?} … {tail:?}");
        }
    }
}

//! The JSON formats of `ModSecurity` 2, libmodsecurity 3 and Coraza.
//!
//! ```text
//! {"transaction":{"time":…},"request":{…},"response":{…},"audit_data":{"messages":[…]},…}   v2
//! {"transaction":{"client_ip":…,"request":{…},"response":{…},"producer":{…},"messages":[…]}} v3
//! {"transaction":{"timestamp":…,"unix_timestamp":…,"request":{…},…},"messages":[…]}          Coraza
//! ```
//!
//! One document is one entry; engines write it as one line. Client text stands inside strings, and
//! what would end a string is escaped, so that no client can add a member or a document.
//!
//! `reader` walks the bytes, the modules named after the dialects give the members their meaning.
//! There is no general JSON parser in between, because these documents need not be JSON: bytes
//! that are not UTF-8 are copied as they are, a number may be missing, and an entry that was cut
//! off still has to tell what stands before the cut.
//!
//! # Which engine
//!
//! The first key that one engine alone writes tells. Keys at the top are asked, and those of
//! `transaction`:
//!
//! | engine | at the top | in `transaction` |
//! | --- | --- | --- |
//! | ModSecurity 2 | `request`, `response`, `audit_data`, `uploads`, `matched_rules` | `time`, `transaction_id`, `remote_…`, `local_…` |
//! | libmodsecurity | | `time_stamp`, `unique_id`, `messages` |
//! | Coraza | `messages` | `timestamp`, `unix_timestamp`, `highest_severity` |
//!
//! `client_ip`, `request`, `producer` and others are both libmodsecurity's and Coraza's, which writes
//! its time stamps before them: without those they are the former's. A document with `error` alone is
//! what libmodsecurity writes without YAJL.
//!
//! # What may be odd
//!
//! | in a document | how it is read |
//! | --- | --- |
//! | bytes that are not UTF-8 | as they are |
//! | `"http_version":,` (libmodsecurity) | absent |
//! | a header twice | both |
//! | another key twice | the first; flag `ambiguous` |
//! | `request`, `response`, `audit_data` as `{}` | their parts were not logged |
//! | no end | what stands before the cut; flag `truncated` |
//! | a second document behind it | not read; flag `ambiguous` |
//!
//! # Rules
//!
//! Rules for all dialects: a number may be written as a string, and the other way round. A value of
//! another kind than expected is as good as absent. A key that an object may have only once stands
//! for its first value; repeated headers are kept all, in their order. Empty strings are absent
//! values where the engine writes them for "not set".

mod abridge;
mod coraza;
mod document_end;
mod members;
mod reader;
mod v2;
mod v3;
mod zoneless_time;

use std::collections::VecDeque;

use chrono::{DateTime, NaiveDateTime, Utc};

pub(super) use self::abridge::{Abridged, Abridger};
pub(crate) use self::document_end::{DocumentEnd, Scanner};
use self::reader::{Gap, JsonReader, Malformed};
use super::rule_match::{self, List};
use super::wrapping::Wrapping;
use super::{Defect, Dialect, FirstBytes, alert_limits, scores};
use crate::record::{Alert, Endpoint, Flag, MAX_ALERTS, Record, parse_ip};
use crate::text::Text;

/// Returns `true` if the bytes are meant as JSON.
pub(super) fn starts(bytes: &[u8]) -> bool {
    document(bytes).starts_with(b"{")
}

/// Returns `true` if the bytes are whole documents and nothing else.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    document_end::is_complete(document(bytes))
}

/// Skips what may stand before a document: white space, and the byte order mark that editors leave.
fn document(bytes: &[u8]) -> &[u8] {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.trim_ascii_start()
}

/// Recognises the dialect by the first key that only one of them has.
pub(super) fn detect(head: &[u8]) -> Option<Dialect> {
    match look(head) {
        Some(Recognized::Written(dialect)) => Some(dialect),
        _ => None,
    }
}

/// Recognises the dialect, or says what the bytes are instead.
pub(super) fn recognise(bytes: &[u8]) -> Result<Dialect, Defect> {
    match look(bytes) {
        Some(Recognized::Written(dialect)) => Ok(dialect),
        Some(Recognized::Error) => Err(Defect::BuiltWithoutJson),
        Some(Recognized::Ocsf) => Err(Defect::Ocsf),
        Some(Recognized::Wrapped(by)) => Err(Defect::Wrapped { by }),
        None => Err(match Wrapping::of(document(bytes)) {
            Some(by) => Defect::Wrapped { by },
            None => Defect::UnknownJson {
                found: FirstBytes::of(document(bytes)),
            },
        }),
    }
}

/// What a document looks like.
#[derive(Clone, Copy)]
enum Recognized {
    /// A document of this dialect.
    Written(Dialect),
    /// An error message that libmodsecurity writes in place of a document.
    Error,
    /// An event of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// A line of something else, in an object of a program that passes it on.
    Wrapped(Wrapping),
}

/// Returns what a document looks like by its keys, or by those at hand if it is cut. A key that
/// occurs in one dialect only decides at once; otherwise the first key that says anything does.
/// `None` if no key does.
fn look(bytes: &[u8]) -> Option<Recognized> {
    let mut found = None;
    // Where the document goes on after the decision does not matter, nor where it is cut.
    let _ = JsonReader::new(document(bytes), &[]).object(|reader, key| {
        match (key.as_ref(), found) {
            (b"transaction", _) => {
                return reader.object(|reader, key| {
                    decide(&mut found, transaction_key(&key))?;
                    reader.skip()
                });
            }
            (b"error", None) => {
                found = Some((Recognized::Error, Sure::No));
            }
            (b"class_uid" | b"category_uid" | b"type_uid" | b"activity_id", None) => {
                found = Some((Recognized::Ocsf, Sure::No));
            }
            (b"log", None) => {
                found = Some((Recognized::Wrapped(Wrapping::DockerJson), Sure::No));
            }
            (b"MESSAGE", None) => {
                found = Some((Recognized::Wrapped(Wrapping::JournalJson), Sure::No));
            }
            (key, _) => decide(&mut found, top_key(key))?,
        }
        reader.skip()
    });
    found.map(|(look, _)| look)
}

/// Whether a key occurs in one dialect only.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sure {
    /// It does.
    Yes,
    /// Another dialect may have it, too.
    No,
}

/// What the keys so far say; `None` if they say nothing.
type Evidence = Option<(Recognized, Sure)>;

/// Takes note of what a key says; ends the search once it is certain.
fn decide(found: &mut Evidence, key: Option<(Dialect, Sure)>) -> Result<(), Malformed> {
    match key {
        Some((dialect, Sure::Yes)) => {
            *found = Some((Recognized::Written(dialect), Sure::Yes));
            Err(Malformed)
        }
        Some((dialect, Sure::No)) => {
            found.get_or_insert((Recognized::Written(dialect), Sure::No));
            Ok(())
        }
        None => Ok(()),
    }
}

/// Returns whose a key at the top of a document is.
fn top_key(key: &[u8]) -> Option<(Dialect, Sure)> {
    match key {
        b"request" | b"response" | b"audit_data" | b"uploads" | b"matched_rules" => {
            Some((Dialect::V2, Sure::Yes))
        }
        b"messages" => Some((Dialect::Coraza, Sure::Yes)),
        _ => None,
    }
}

/// Returns whose a key in `transaction` is.
fn transaction_key(key: &[u8]) -> Option<(Dialect, Sure)> {
    match key {
        b"time" | b"transaction_id" | b"remote_address" | b"remote_port" | b"local_address"
        | b"local_port" => Some((Dialect::V2, Sure::Yes)),
        b"time_stamp" | b"unique_id" | b"messages" => Some((Dialect::V3, Sure::Yes)),
        b"timestamp" | b"unix_timestamp" | b"highest_severity" => {
            Some((Dialect::Coraza, Sure::Yes))
        }
        // Coraza has these too, behind its time stamps.
        b"client_ip" | b"client_port" | b"host_ip" | b"host_port" | b"server_id" | b"id"
        | b"request" | b"response" | b"producer" => Some((Dialect::V3, Sure::No)),
        _ => None,
    }
}

/// Returns the strings of an array, as the column `tags` has them; `None` for anything else.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(crate) fn texts(array: &[u8]) -> Option<Vec<Text<'_>>> {
    let mut texts = Vec::new();
    let read = JsonReader::new(array, &[]).texts(|text| texts.push(text));
    read.ok().map(|()| texts)
}

/// Decodes the first document. Fails for what is no document of an audit log, whatever may stand behind
/// the first keys.
pub(super) fn decode(bytes: &[u8]) -> Result<Record<'_>, Defect> {
    let dialect = recognise(bytes)?;
    let (draft, rest) = read(dialect, bytes, &[]);
    let mut record = draft.finish();
    if !record.flags.contains(Flag::Truncated) && !rest.trim_ascii().is_empty() {
        record.flags.insert(Flag::Ambiguous);
    }
    Ok(record)
}

/// Makes the record of a document that was abridged.
pub(super) fn abridged_record(dialect: Dialect, abridged: &Abridged) -> Record<'_> {
    let dialect = detect(&abridged.bytes).unwrap_or(dialect);
    let (mut draft, _) = read(dialect, &abridged.bytes, &abridged.gaps);
    draft.capped |= abridged.overflowed;
    let mut record = draft.finish();
    // The copy ends early if it outgrew its bound, the document does not.
    let whole = matches!(abridged.end, DocumentEnd::Whole(_));
    if whole && abridged.overflowed {
        record.flags.remove(Flag::Truncated);
    }
    if abridged.followed && !record.flags.contains(Flag::Truncated) {
        record.flags.insert(Flag::Ambiguous);
    }
    record
}

/// Reads a document as that of an engine; also returns what stands behind it.
fn read<'a>(dialect: Dialect, bytes: &'a [u8], gaps: &'a [Gap]) -> (Draft<'a>, &'a [u8]) {
    let before = bytes.len() - document(bytes).len();
    let mut reader = JsonReader::new(bytes, gaps).starting_at(before);
    let mut draft = Draft::default();
    // Until the engine is heard of.
    draft.record.flags.insert(Flag::NoPartH);
    let whole = match dialect {
        Dialect::V2 => v2::read(&mut reader, &mut draft),
        Dialect::Coraza => coraza::read(&mut reader, &mut draft),
        Dialect::V3 => v3::read(&mut reader, &mut draft),
    };
    if whole.is_err() {
        draft.record.flags.insert(Flag::Truncated);
    }
    draft.capped |= reader.text_with_gap;
    (draft, reader.rest())
}

/// A record while its document is being read.
#[derive(Debug, Default)]
struct Draft<'a> {
    /// What has been read of the record.
    record: Record<'a>,
    /// The client's end, of which address and port stand apart.
    client: Peer<'a>,
    /// The server's end.
    server: Peer<'a>,
    /// The alerts, in the order of the document.
    alerts: Alerts<'a>,
    /// The wall clock, from dialects that do not name its offset.
    wall_clock: Option<NaiveDateTime>,
    /// The instant, as far as it is known by another way.
    instant: Option<Instant>,
    /// Something was left out of the record.
    capped: bool,
    /// A key stood twice in an object that may have it once.
    repeated: bool,
}

/// One end of the connection.
#[derive(Debug, Default)]
struct Peer<'a> {
    /// The address as it is logged.
    address: Option<Text<'a>>,
    /// The port; `None` if the document has none.
    port: Option<u16>,
}

/// An instant, and whether it may be believed without the wall clock.
#[derive(Debug, Clone, Copy)]
enum Instant {
    /// Logged as Unix time, which Coraza does.
    Certain(DateTime<Utc>),
    /// Read out of a transaction id that has the engine's own form.
    Likely(DateTime<Utc>),
}

impl<'a> Draft<'a> {
    /// Puts together what stood apart, and sets the flags that only the whole document tells.
    fn finish(mut self) -> Record<'a> {
        let mut record = self.record;
        record.client = self.client.endpoint();
        record.server = self.server.endpoint();
        record.alerts = self.alerts.finish(&mut self.capped);
        if record.time.is_none() {
            (record.time, record.local_time) = zoneless_time::time(self.wall_clock, self.instant);
        }
        if let Some(rules) = &record.matched_rules {
            let cut = self.capped || record.flags.contains(Flag::Truncated);
            let list = if cut { List::Cut } else { List::Whole };
            rule_match::verify(&mut record.alerts, rules, list);
        }
        record.scores = scores::of(&record.alerts);
        alert_limits::bound(&mut record.alerts, &mut self.capped);
        let doubtful = record.alerts.iter().any(|alert| !alert.is_trusted());
        for (flag, set) in [
            (Flag::Ambiguous, self.repeated),
            (Flag::Unverified, doubtful),
            (Flag::Capped, self.capped),
        ] {
            if set {
                record.flags.insert(flag);
            }
        }
        record
    }
}

impl<'a> Peer<'a> {
    /// Returns the end of a connection; `None` without an address. A text that is no IP address
    /// is kept as text.
    fn endpoint(self) -> Option<Endpoint<'a>> {
        let text = self.address?;
        Some(Endpoint {
            ip: parse_ip(text.as_bytes()),
            text,
            port: self.port,
        })
    }
}

/// The first and the last alerts: a client can cause as many as he sends arguments, and the denial
/// and the scores come last.
#[derive(Debug, Default)]
struct Alerts<'a> {
    /// The first alerts, up to half of [`MAX_ALERTS`].
    first: Vec<Alert<'a>>,
    /// The last ones, up to the other half.
    last: VecDeque<Alert<'a>>,
    /// Whether some between them were left out.
    dropped: bool,
}

impl<'a> Alerts<'a> {
    /// Keeps an alert, if there are too many in the place of one from the middle.
    fn push(&mut self, alert: Alert<'a>) {
        if self.first.len() < MAX_ALERTS / 2 {
            self.first.push(alert);
            return;
        }
        if self.last.len() == MAX_ALERTS / 2 {
            self.last.pop_front();
            self.dropped = true;
        }
        self.last.push_back(alert);
    }

    /// Returns the alerts in their order. Sets `capped` if some were left out.
    fn finish(mut self, capped: &mut bool) -> Vec<Alert<'a>> {
        *capped |= self.dropped;
        self.first.extend(self.last);
        self.first
    }
}

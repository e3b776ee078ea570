//! Whose end stands at the end of an entry that has another first line in a body.
//!
//! A full disk cuts an entry off within a body, and the next one is written right behind it, under
//! MPM-ITK often with the same boundary. A client who knows his boundary can make his body look just
//! like that:
//!
//! ```text
//! cut off                                     sent in chunks
//! --3fa0c41b-A--                              --3fa0c41b-A--
//! [10:11:12] ID1 192.0.2.200 …                [10:11:12] ID1 203.0.113.66 …
//! --3fa0c41b-C--                              --3fa0c41b-C--
//! name=Iv--3fa0c41b-A--                       name=Iv--3fa0c41b-A--
//! [10:15:03] ID2 203.0.113.66 …               [10:11:12] ID2 192.0.2.200 …      the client's
//! --3fa0c41b-H--                              --3fa0c41b-H--
//! Apache-Error: … [unique_id "ID2"]           Apache-Error: … [unique_id "ID1"]
//! Stopwatch: 10:15:03                         Stopwatch: 10:11:12
//! --3fa0c41b-Z--                              --3fa0c41b-Z--
//! ```
//!
//! Part H tells them apart, by what the engine alone writes into it:
//!
//! 1. The id that ends each line of the error log (`Apache-Error`, `ModSecurity` 2) and each alert
//!    (libmodsecurity). If one is that of part A, the end is this entry's; if there are ids, and none
//!    is, it is another's. Connections that one child of Apache takes within a second share an id: if
//!    another first line has the same one, the times tell.
//! 2. The end of `Stopwatch` (`ModSecurity` 2), which is read right before part H is written, as the
//!    time of part A is right before the whole entry. If the two are [further apart](most_apart) than
//!    that takes, the end is another's; so it is if the stopwatch began, when its request arrived, after
//!    this entry was being written. Else its alerts are this one's, whatever is in the body.
//!
//! So a client cannot rid himself of his own alerts, whatever is in his body. If part H is not logged, or
//! is that of libmodsecurity without an alert, or without one may be of two, nothing tells. Then all that
//! stands behind the body is left out, as another's would be: a bare status must not charge somebody
//! innocent.
//!
//! A body that ends where its headers say is this entry's to its end, and nothing in it is looked at.
//! Nor is a first line that is older than this entry, of `ModSecurity` 2, unless part H may be that one's,
//! or is proved to be another's, by its ids or a time before this entry's: the clock may have been set back.
//!
//! What stays untold: if the times of two entries are so close to an end without an id that it may be
//! either's, or if both have one id, its alerts are this entry's, as if its client had written the other
//! first line. Without an alert, the bare status is nobody's.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr, memmem};

use super::super::outline::{MAX_OPENINGS, Outline};
use super::super::{engine_lines, part_a, slice};
use super::{Dialect, Flag, Framing, PartLayout, PartRange, content_length};
use crate::format::escape::escape_v3;
use crate::record::Record;
use crate::text::Text;

/// Bytes of part A that are looked at.
const MAX_PART_A: u64 = 4096;
/// Bytes of part H that are looked at, from its end: what the engine adds stands there.
const MAX_PART_H: u64 = 256 * 1024;

/// What stands before an id.
const ID: &[u8] = b" [unique_id \"";
/// What stands behind one of libmodsecurity.
const REFERENCE: &[u8] = b" [ref \"";

/// Whose end stands at the end of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The entry's own.
    This,
    /// That of another, whose first line is at this offset, if that is certain.
    Other(Option<u64>),
    /// Nothing tells.
    Unknown,
    /// That of none which may have begun in the entry: the client has made it up, if the log goes on
    /// with this entry's own.
    Nobody,
}

/// What part A tells of a transaction.
#[derive(Debug)]
struct Start {
    /// Offset of its delimiter line.
    at: u64,
    /// Bytes between the place that `at` is counted from and that which the end's is.
    behind: u64,
    /// Microseconds since the epoch.
    time: i64,
    /// How many microseconds the time may stand for: a million if it is in whole seconds,
    /// otherwise one.
    resolution: i64,
    /// The id as part H has it.
    id: Vec<u8>,
}

/// What part H tells of a transaction.
#[derive(Debug, Default)]
struct End {
    /// Offset of its content.
    at: u64,
    /// Lines that end with an id.
    lines: Vec<Vec<u8>>,
    /// The beginning of the stopwatch, when the request arrived, in microseconds since the epoch.
    began: Option<i64>,
    /// The end of the stopwatch in microseconds since the epoch.
    time: Option<i64>,
    /// Whether there is an alert or an interception in it, of `ModSecurity` 2.
    has_findings: bool,
}

impl<'a, F: Fn(Range<u64>) -> Cow<'a, [u8]>> Framing<'_, F> {
    /// Leaves out of `layout` what may be another entry's: all behind the first body with another
    /// first line in it, unless the end is proved to be this entry's.
    pub(super) fn own_parts(&self, mut layout: PartLayout) -> PartLayout {
        let opened = self.opened_bodies(&layout);
        let Some((this, (first, _))) = self.start(0).zip(opened.first()) else {
            return layout;
        };
        let behind = layout.parts.get(first + 1..).unwrap_or_default();
        if behind.iter().all(|part| part.letter == b'Z') {
            return layout;
        }
        let is_timed = layout.boundary.dialect() == Dialect::V2;
        let end = layout.parts.iter().rfind(|part| part.letter == b'H');
        let end = end.map(|h| self.end(h.content.clone()));
        let is_next = |other: &Start| {
            let is_later = other.time + other.resolution > this.time;
            !is_timed || is_later || end.as_ref().is_some_and(|end| other.fits(end))
        };
        // Then an entry was written behind this one, whatever its time is.
        let is_named = end.as_ref().is_some_and(|end| end.is_not_of(&this));
        let is_others = is_named || end.as_ref().is_some_and(|end| end.is_before(&this));
        let next = opened.iter();
        let next = next.filter(|(_, other)| is_others || is_next(other));
        let next: Vec<&(usize, Start)> = next.collect();
        layout.owner = match &end {
            Some(end) if is_others => self.other(end, &next, !is_named),
            Some(end) => self.owner(end, &this, &next),
            None if next.is_empty() => Owner::Nobody,
            None => Owner::Unknown,
        };
        let is_own = matches!(layout.owner, Owner::This | Owner::Nobody);
        if let Some((body, other)) = next.first().filter(|_| !is_own) {
            layout.parts.truncate(body + 1);
            if let Some(part) = layout.parts.last_mut() {
                part.span.end = self.outline.len;
                part.content.end = other.at.max(part.content.start);
            }
            layout.flags.insert(Flag::Ambiguous);
            layout.alerts_doubtful = false;
        }
        layout
    }

    /// Returns the further first lines in parts that hold bytes as they were sent, and the indices of
    /// those parts.
    fn opened_bodies(&self, layout: &PartLayout) -> Vec<(usize, Start)> {
        if self.outline.openings.is_empty() {
            return Vec::new();
        }
        let dialect = layout.boundary.dialect();
        let raw = layout.parts.iter().enumerate();
        let raw = raw.filter(|(_, part)| dialect.is_raw(part.letter));
        let open: Vec<(usize, &PartRange)> = raw
            .filter(|(body, _)| !self.ends_as_announced(layout, *body))
            .collect();
        let openings = self.outline.openings.iter();
        let opened = openings.filter_map(|opening| {
            let mut bodies = open.iter();
            let (body, _) = bodies.find(|(_, part)| part.span.contains(opening))?;
            Some((*body, self.start(*opening)?))
        });
        opened.collect()
    }

    /// Returns `true` if the body at this index has the length that the headers before it announce.
    fn ends_as_announced(&self, layout: &PartLayout, body: usize) -> bool {
        let head = body.checked_sub(1).and_then(|head| layout.parts.get(head));
        let head = head.filter(|part| matches!(part.letter, b'B' | b'F'));
        let len = head.and_then(|head| content_length(&(self.fetch)(head.content.clone())));
        let part = layout.parts.get(body);
        len.is_some() && part.map(|part| part.content.end - part.content.start) == len
    }

    /// Returns whose `end` is, in which no id is another's: that of `this` entry, or of one of those that
    /// may be `next`.
    fn owner(&self, end: &End, this: &Start, next: &[&(usize, Start)]) -> Owner {
        let is_shared = next.iter().any(|(_, other)| other.id == this.id);
        let is_doubtful = next.iter().any(|(_, other)| other.fits(end));
        if end.names(this) && !(is_shared && end.time.is_some()) || this.fits(end) && !is_doubtful {
            return Owner::This;
        }
        match end.time {
            _ if next.is_empty() => Owner::Nobody,
            Some(_) if this.is_too_early(end) => self.other(end, next, true),
            // Nobody rids himself of his alerts by what he sends.
            Some(_) if this.fits(end) && end.has_findings => Owner::This,
            Some(_) if this.fits(end) => Owner::Unknown,
            None if self.outline.boundary.dialect() == Dialect::V3 => Owner::Unknown,
            // No part H of ModSecurity 2 lacks the stopwatch, unless that was compiled out.
            Some(_) | None => Owner::Nobody,
        }
    }

    /// Returns the owner of `end`, which ids or the time prove to be another entry's: the only one of
    /// those `next` that has its id; of several, or `by_time` alone, the only one that has its time.
    fn other(&self, end: &End, next: &[&(usize, Start)], by_time: bool) -> Owner {
        let starts = || next.iter().map(|(_, other)| other);
        let named = || starts().filter(|other| by_time || end.names(other));
        let fitting = || named().filter(|other| other.fits(end));
        let found = only(named()).filter(|_| !by_time);
        let found = found.or_else(|| only(fitting()));
        let are_all = self.outline.openings.len() < MAX_OPENINGS;
        Owner::Other(found.filter(|_| are_all).map(|other| other.at))
    }

    /// Reads the part A whose delimiter is at `at`; `None` if none is there.
    fn start(&self, at: u64) -> Option<Start> {
        let boundary = self.outline.boundary;
        let content = at + boundary.line_len() as u64 + 1;
        let end = self.outline.len.min(content + MAX_PART_A);
        let content = (self.fetch)(content.min(end)..end);
        let mut record = Record::default();
        part_a::read(&content, boundary.dialect(), &mut record);
        let time = record.time?;
        let id = record.unique_id.unwrap_or_default();
        Some(Start {
            at,
            behind: 0,
            time: time.timestamp_micros(),
            resolution: match time.timestamp_subsec_micros() {
                0 => 1_000_000,
                _ => 1,
            },
            id: match boundary.dialect() {
                Dialect::V3 => escape_v3(id.as_bytes()),
                _ => id.as_bytes().to_vec(),
            },
        })
    }

    /// Reads the part H with this content, of a long one only the last [`MAX_PART_H`] bytes:
    /// the engine writes ids and times at its end.
    fn end(&self, content: Range<u64>) -> End {
        let Range { start: at, end } = content;
        let from = at.max(end.saturating_sub(MAX_PART_H));
        let content = (self.fetch)(from..end);
        let skipped = match memchr(b'\n', &content) {
            Some(line_end) if from > at => line_end + 1,
            _ => 0,
        };
        let content = content.get(skipped..).unwrap_or_default();
        if self.outline.boundary.dialect() == Dialect::V3 {
            let lines = content.split(|byte| *byte == b'\n').map(without_reference);
            let lines = lines.filter(|line| has_id(line)).map(<[u8]>::to_vec);
            return End {
                at,
                lines: lines.collect(),
                ..End::default()
            };
        }
        let mut record = Record::default();
        engine_lines::read(content, &mut record, &mut false);
        let has_findings = !record.alerts.is_empty() || record.intercepted();
        let engine = record.engine;
        // Lines that the engine does not write quote the client.
        let is_plain = !record.flags.contains(Flag::Ambiguous);
        let errors = engine.apache_errors.iter().filter(|_| is_plain);
        let lines = errors.map(Text::as_bytes);
        let lines = lines.filter(|line| is_of_engine(line) && has_id(line));
        let time = engine
            .stopwatch
            .and_then(|stopwatch| stopwatch.start_us.checked_add(stopwatch.duration_us));
        End {
            at,
            lines: lines.map(<[u8]>::to_vec).collect(),
            began: engine.stopwatch.map(|stopwatch| stopwatch.start_us),
            time,
            has_findings,
        }
    }
}

impl Outline {
    /// Returns how many bytes of `behind` belong to the entry that ends in front of them, though its end
    /// seems to be another's: up to part Z behind the first part H that is this entry's, and not that
    /// of the first line before it.
    pub(in crate::format::native) fn reach(entry: &[u8], behind: &[u8]) -> Option<u64> {
        let mut outline = Outline::open(entry).ok()?;
        outline.len = entry.len() as u64;
        let fetch = |range| Cow::Borrowed(slice(entry, &range));
        let this = Framing {
            outline: &outline,
            fetch,
        };
        let mut this = this.start(0)?;
        this.behind = entry.len() as u64;
        let has_empty_lines = outline.boundary.dialect().traits().has_empty_lines;
        outline.scan(behind, 0, true);
        outline.len = behind.len() as u64;
        let framing = Framing {
            outline: &outline,
            fetch: |range| Cow::Borrowed(slice(behind, &range)),
        };
        let (mut start, mut h) = (None, None);
        for line in &outline.delimiters {
            match line.letter {
                b'A' => start = framing.start(line.start).or(start),
                b'H' => h = Some(line.end),
                b'Z' => {
                    let end = h
                        .take()
                        .map(|h| framing.end(h..line.start.saturating_sub(1).max(h)));
                    let start: Option<Start> = start.take();
                    if end.is_some_and(|end| this.ends_with(&end, start.as_ref())) {
                        let end = usize::try_from(line.end).ok()?;
                        let is_blank = has_empty_lines && behind.get(end) == Some(&b'\n');
                        return Some(line.end + u64::from(is_blank));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

impl Start {
    /// Returns `true` if `end` is that of the entry that begins here, rather than of `other`.
    fn ends_with(&self, end: &End, other: Option<&Start>) -> bool {
        let is_shared = other.is_some_and(|other| other.id == self.id);
        if !end.lines.is_empty() && !is_shared {
            return end.names(self);
        }
        self.fits(end) && !other.is_some_and(|other| other.fits(end))
    }

    /// Returns `true` if the time of `end` is that of the entry that begins here.
    fn fits(&self, end: &End) -> bool {
        let is_later = end.time.is_some_and(|time| time >= self.time);
        is_later && !self.is_too_early(end)
    }

    /// Returns `true` if the entry that begins here was written long before `end`, or before the request of
    /// `end` arrived.
    fn is_too_early(&self, end: &End) -> bool {
        let is_written = self.time.saturating_add(self.resolution);
        if end.began.is_some_and(|began| began >= is_written) {
            return true;
        }
        let len = (self.behind + end.at).saturating_sub(self.at);
        let most = most_apart(len) + self.resolution;
        end.time
            .is_some_and(|time| time.saturating_sub(self.time) >= most)
    }
}

impl End {
    /// Returns `true` if ids prove that it is not that of the entry that begins there. An id that the engine may have written in another way than in part A proves nothing.
    fn is_not_of(&self, start: &Start) -> bool {
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let is_comparable = !start.id.is_empty() && start.id.iter().all(is_plain);
        is_comparable && !self.lines.is_empty() && !self.names(start)
    }

    /// Returns `true` if the time proves that it is not that of the entry that begins there: the
    /// engine reads the clock for part A first, and again at the beginning of part H.
    fn is_before(&self, start: &Start) -> bool {
        self.time.is_some_and(|time| time < start.time)
    }

    /// Returns `true` if a line ends with the id of the entry that begins there.
    fn names(&self, start: &Start) -> bool {
        let has_id = |line: &Vec<u8>| {
            line.strip_suffix(b"\"]")
                .and_then(|line| line.strip_suffix(&*start.id))
                .is_some_and(|line| line.ends_with(ID))
        };
        self.lines.iter().any(has_id)
    }
}

/// Returns the only one that there is.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next();
    first.filter(|_| all.next().is_none())
}

/// Returns how many microseconds may pass at the most while an engine writes so many bytes: a tenth of
/// a second, and what they take at a megabyte in a second.
fn most_apart(len: u64) -> i64 {
    100_000 + i64::try_from(len).unwrap_or(i64::MAX / 2)
}

/// Returns the line without what libmodsecurity writes behind an id: where operators matched, in words
/// of its own. An id may be the client's, and look like that too.
fn without_reference(line: &[u8]) -> &[u8] {
    let reference = memmem::rfind(line, REFERENCE);
    reference.and_then(|at| line.get(..at)).unwrap_or(line)
}

/// Returns `true` if a line of the error log is `ModSecurity`'s: those of other modules may end with what
/// a client has sent. The server writes the source file first.
fn is_of_engine(line: &[u8]) -> bool {
    let file = line.strip_prefix(b"[file \"");
    let file = file.and_then(|rest| rest.get(..memchr(b'"', rest)?));
    file.is_some_and(|file| file.ends_with(b"apache2_util.c"))
}

/// Returns `true` if the line ends with an id.
fn has_id(line: &[u8]) -> bool {
    line.ends_with(b"\"]") && memmem::find(line, ID).is_some()
}

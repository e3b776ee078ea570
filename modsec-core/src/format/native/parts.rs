//! The meaning of each part; what belongs to one part is read from that part only.
//!
//! ```text
//! B  POST /item?id=1%27 HTTP/1.1         method, URI, protocol: see `request_line`
//!    Host: shop.example                  headers, in their order, repeated ones too
//! C  id=1&x=2                            the body; its beginning is kept, its length is exact
//! F  HTTP/1.1 403 Forbidden              status: three digits behind `HTTP/…`
//!    Content-Length: 199
//! I  id=1&name=x                         the form of a `multipart/form-data` request
//! J  2,1024,"photo.jpg","image/jpeg"     number among the parts of the body, size in bytes,
//!    Total,1024                          name and type as the client gave them
//! ```
//!
//! Part A is read in `part_a`, H in `engine_lines` (ModSecurity 2), `v3` and `coraza`, K in
//! `matched_rules`. The first part of each letter that the framing left counts.
//!
//! Order matters twice. Part H of ModSecurity 2 is read with the others, because what it says of an
//! interception is compared with the status in F, which stands before it. The alerts of the two
//! others are compared with A and B, and those may come later in an entry written by hand.

use memchr::memchr;

use super::framing::PartLayout;
use super::lines::{first_line, header, lines};
use super::{Dialect, Section, coraza, engine_lines, matched_rules, part_a, v3};
use crate::format::digits::number;
use crate::format::escape::quoted;
use crate::format::rule_match::{self, List, sentences};
use crate::format::{alert_limits, request_line, scores};
use crate::record::{
    Body, Flag, Header, MAX_BODY_KEPT, MAX_HEADERS, MAX_UPLOADS, Record, Request, Response, Upload,
};
use crate::text::Text;

/// Makes the record of an entry's parts.
pub(super) fn record<'a>(layout: &PartLayout, mut sections: Vec<Section<'a>>) -> Record<'a> {
    let mut record = Record {
        flags: layout.flags,
        ..Record::default()
    };
    let by_hand = record.flags.contains(Flag::OutOfOrder);
    if record.flags.contains(Flag::Truncated)
        && !by_hand
        && let Some(last) = sections.last_mut()
    {
        drop_cut_line(last);
    }
    let capped = sections.iter().any(|section| {
        !matches!(section.letter, b'C' | b'E' | b'I') && section.len > section.content.len() as u64
    }) && !record.flags.contains(Flag::Truncated);
    let dialect = layout.boundary.dialect();
    let old = if dialect.traits().may_lack_a {
        coraza::before_3_4(&mut sections)
    } else {
        None
    };
    if let Some(line) = old {
        part_a::read(line, dialect, &mut record);
    }
    let mut reader = PartReader {
        record,
        dialect,
        by_hand,
        has_status_line: old.is_none(),
        list: List::Whole,
        capped,
    };
    for section in &sections {
        reader.read(section);
    }
    // Part B replaces the whole request, and some alerts are compared with parts A and B.
    for section in &sections {
        reader.read_late(section);
    }
    let PartReader {
        mut record,
        list,
        capped,
        ..
    } = reader;
    if !sections.iter().any(|section| section.letter == b'H') {
        record.flags.insert(Flag::NoPartH);
    }
    if let Some(rules) = &record.matched_rules {
        rule_match::verify(&mut record.alerts, rules, list);
        // With one alert there is none that the script's text could have made.
        if dialect.traits().has_scripts && record.alerts.len() > 1 && sentences::has_script(rules) {
            engine_lines::doubt(&mut record);
        }
    }
    finish(&mut record, layout.alerts_doubtful, capped);
    record
}

/// A record of which some parts have been read.
struct PartReader<'a> {
    /// What has been read so far.
    record: Record<'a>,
    /// The dialect of the entry's boundary.
    dialect: Dialect,
    /// Part A does not come first.
    by_hand: bool,
    /// Coraza before 3.4 writes headers alone into part F.
    has_status_line: bool,
    /// Whether part K, if there is one, tells which rules did not match.
    list: List,
    /// Whether something was left out of the record, for
    /// [`Flag::Capped`].
    capped: bool,
}

impl<'a> PartReader<'a> {
    /// Reads a part that depends on none behind it.
    fn read(&mut self, section: &Section<'a>) {
        let content = section.content;
        let (record, capped) = (&mut self.record, &mut self.capped);
        let traits = self.dialect.traits();
        match section.letter {
            b'A' if self.by_hand => part_a::read_by_hand(content, self.dialect, record, capped),
            b'A' => part_a::read(content, self.dialect, record),
            b'B' => {
                let mut request = request(content, capped);
                let no_method = traits.no_method;
                request
                    .method
                    .take_if(|method| no_method == Some(method.as_bytes()));
                record.request = request;
            }
            b'F' if self.has_status_line => record.response = response(content, capped),
            b'F' => record.response.headers = headers(lines(content), capped),
            b'H' if self.dialect == Dialect::V2 => engine_lines::read(content, record, capped),
            letter if !traits.filled.contains(&letter) => {}
            b'J' => record.uploads = Some(uploads(content, self.dialect, capped)),
            b'K' => {
                let mut cut = section.len > content.len() as u64;
                record.matched_rules = Some(matched_rules::read(content, &mut cut));
                *capped |= cut;
                if cut || !traits.lists_rules {
                    self.list = List::Cut;
                }
            }
            _ => {}
        }
    }

    /// Reads bodies, and alerts that are compared with other parts.
    fn read_late(&mut self, section: &Section<'a>) {
        let (content, record) = (section.content, &mut self.record);
        let traits = self.dialect.traits();
        match section.letter {
            b'H' => match self.dialect {
                Dialect::V2 => {}
                Dialect::V3 => v3::read(content, record, &mut self.capped),
                Dialect::Coraza => coraza::read(content, record, &mut self.capped),
            },
            b'C' | b'E' if section.len == 0 && traits.writes_empty_bodies => {}
            b'C' => record.request.body = Some(body(section)),
            b'E' => record.response.body = Some(body(section)),
            b'I' if traits.filled.contains(&b'I') => record.request.form = Some(body(section)),
            _ => {}
        }
    }
}

/// Adds what can be said only once all parts are read: scores, the bounds of alerts, and flags.
/// A time that part A lacks is taken from the stopwatch of part H, in UTC.
fn finish(record: &mut Record<'_>, alerts_doubtful: bool, mut capped: bool) {
    if alerts_doubtful {
        record
            .alerts
            .iter_mut()
            .for_each(|alert| alert.verified = Some(false));
    }
    record.scores = scores::of(&record.alerts);
    alert_limits::bound(&mut record.alerts, &mut capped);
    if record.time.is_none() {
        record.time = record
            .engine
            .stopwatch
            .and_then(|stopwatch| chrono::DateTime::from_timestamp_micros(stopwatch.start_us))
            .map(|time| time.fixed_offset());
    }
    if record.alerts.iter().any(|alert| !alert.is_trusted()) {
        record.flags.insert(Flag::Unverified);
    }
    if capped {
        record.flags.insert(Flag::Capped);
    }
}

/// Takes the last line off the part in which the entry ends, unless it is a body: the line may
/// lack its end, and half an address is a wrong address.
fn drop_cut_line(last: &mut Section<'_>) {
    if !matches!(last.letter, b'C' | b'E' | b'I') {
        let whole = memchr::memrchr(b'\n', last.content).unwrap_or(0);
        last.content = last.content.get(..whole).unwrap_or_default();
    }
}

/// Returns a body: its first [`MAX_BODY_KEPT`] bytes, and the length of what was logged.
fn body<'a>(section: &Section<'a>) -> Body<'a> {
    let kept = section
        .content
        .get(..MAX_BODY_KEPT)
        .unwrap_or(section.content);
    Body {
        kept: kept.into(),
        len: section.len,
    }
}

/// Reads part B. Without a request line (the server got none) there are headers at the most.
fn request<'a>(content: &'a [u8], capped: &mut bool) -> Request<'a> {
    let line = first_line(content);
    let mut request = Request {
        headers: headers(lines(content).skip(1), capped),
        ..Request::default()
    };
    if line.is_empty() {
        return request;
    }
    let words = request_line::split(line);
    request.line = Some(line.into());
    request.method = words.method.map(Text::from);
    request.uri = words.uri.map(Text::from);
    request.protocol = words.protocol.map(Text::from);
    request
}

/// Reads part F.
///
/// The status is the final one, behind `ErrorDocument`. There is none in `HTTP/1.1 bad gateway`, which
/// a proxy can make of an answer that it does not understand, and none for HTTP/0.9. ModSecurity 2
/// writes `HTTP/1.1` whatever the client speaks.
fn response<'a>(content: &'a [u8], capped: &mut bool) -> Response<'a> {
    let line = first_line(content);
    let status = line
        .splitn(3, |byte| *byte == b' ')
        .nth(1)
        .filter(|word| word.len() == 3 && line.starts_with(b"HTTP/"))
        .and_then(number)
        .filter(|status| *status >= 100);
    Response {
        status_line: Some(line.into()).filter(|line: &Text<'_>| !line.is_empty()),
        status,
        headers: headers(lines(content).skip(1), capped),
        body: None,
    }
}

/// Reads lines of the form `Name: value`. Only LF ends a line; a CR belongs to the value. No
/// more than [`MAX_HEADERS`] are kept; `capped` is set if there are.
fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>, capped: &mut bool) -> Vec<Header<'a>> {
    let mut headers = Vec::with_capacity(16);
    for (name, value) in lines.filter_map(header) {
        if headers.len() == MAX_HEADERS {
            *capped = true;
            break;
        }
        let value = value.strip_prefix(b" ").unwrap_or(value);
        headers.push(Header {
            name: name.into(),
            value: value.into(),
        });
    }
    headers
}

/// Reads part J: `N,SIZE,"NAME","CONTENT-TYPE"` for each file, and a total that is not kept. No
/// more than [`MAX_UPLOADS`] are kept; `capped` is set if there are.
fn uploads<'a>(content: &'a [u8], dialect: Dialect, capped: &mut bool) -> Vec<Upload<'a>> {
    let mut uploads = Vec::new();
    for upload in lines(content).filter_map(|line| upload(line, dialect)) {
        if uploads.len() == MAX_UPLOADS {
            *capped = true;
            break;
        }
        uploads.push(upload);
    }
    uploads
}

/// Reads a line of part J; `None` for the total, and for what is not of this form.
fn upload(line: &[u8], dialect: Dialect) -> Option<Upload<'_>> {
    let (index, rest) = line.split_at_checked(memchr(b',', line)?)?;
    let rest = rest.get(1..)?;
    let (size, rest) = rest.split_at_checked(memchr(b',', rest)?)?;
    // Both are escaped, so the quotes and comma between them are the engine's.
    let (name, rest) = quoted(rest.get(1..)?)?;
    let (content_type, rest) = quoted(rest.strip_prefix(b",")?)?;
    rest.is_empty().then_some(())?;
    let unescape = dialect.traits().unescape;
    Some(Upload {
        index: number(index)?,
        size: number(size)?,
        name: unescape(name).into(),
        content_type: unescape(content_type).into(),
    })
}

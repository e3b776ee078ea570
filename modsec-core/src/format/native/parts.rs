//! The meaning of each part; what belongs to one part is read from that part only.

use memchr::{memchr, memchr_iter};

use super::framing::Layout;
use super::{Dialect, Section, coraza, engine_lines, matched_rules, v3};
use crate::format::escape::{quoted, unescape, unescape_go};
use crate::format::rule_match::{self, List, sentences};
use crate::format::{request_line, scores, shares, timestamp};
use crate::record::{
    Body, Endpoint, Flag, Header, MAX_ALERTS, MAX_BODY_KEPT, MAX_HEADERS, MAX_UPLOADS, Record,
    Request, Response, Upload, parse_ip,
};
use crate::text::Text;

/// Makes the record of an entry's parts.
pub(super) fn record<'a>(layout: &Layout, mut sections: Vec<Section<'a>>) -> Record<'a> {
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
    let old = match dialect {
        Dialect::Coraza => coraza::before_3_4(&mut sections),
        _ => None,
    };
    if let Some(line) = old {
        coraza::opening(line, &mut record);
    }
    let mut reader = Reader {
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
    let Reader {
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
        if dialect == Dialect::V2 && record.alerts.len() > 1 && sentences::has_script(rules) {
            engine_lines::doubt(&mut record);
        }
    }
    finish(&mut record, layout.alerts_doubtful, capped);
    record
}

/// A record of which some parts have been read.
struct Reader<'a> {
    record: Record<'a>,
    dialect: Dialect,
    by_hand: bool,
    has_status_line: bool,
    /// Whether part K, if there is one, tells which rules did not match.
    list: List,
    capped: bool,
}

impl<'a> Reader<'a> {
    fn read(&mut self, section: &Section<'a>) {
        let content = section.content;
        let (record, capped) = (&mut self.record, &mut self.capped);
        match (section.letter, self.dialect) {
            (b'A', _) if self.by_hand => opening_by_hand(content, record, capped),
            (b'A', Dialect::Coraza) => coraza::opening(content, record),
            (b'A', _) => opening(content, record),
            (b'B', Dialect::V3) => record.request = v3::request(request(content, capped)),
            (b'B', _) => record.request = request(content, capped),
            (b'F', _) if self.has_status_line => record.response = response(content, capped),
            (b'F', _) => record.response.headers = headers(lines(content), capped),
            (b'H', Dialect::V2) => engine_lines::read(content, record, capped),
            // libmodsecurity writes these two to be empty.
            (b'J' | b'K', Dialect::V3) => {}
            (b'J', dialect) => record.uploads = Some(uploads(content, dialect, capped)),
            (b'K', dialect) => {
                let mut cut = section.len > content.len() as u64;
                record.matched_rules = Some(matched_rules::read(content, &mut cut));
                *capped |= cut;
                // Coraza quotes the directives as they were typed.
                if cut || dialect == Dialect::Coraza {
                    self.list = List::Cut;
                }
            }
            _ => {}
        }
    }

    fn read_late(&mut self, section: &Section<'a>) {
        let record = &mut self.record;
        match (section.letter, self.dialect) {
            (b'H', Dialect::V3) => v3::read(section.content, record, &mut self.capped),
            (b'H', Dialect::Coraza) => coraza::read(section.content, record, &mut self.capped),
            // Coraza writes these two without a body, too.
            (b'C' | b'E', Dialect::Coraza) if section.len == 0 => {}
            (b'C', _) => record.request.body = Some(body(section)),
            (b'E', _) => record.response.body = Some(body(section)),
            (b'I', Dialect::V2) => record.request.form = Some(body(section)),
            _ => {}
        }
    }
}

/// What can be said only once all parts are read.
fn finish(record: &mut Record<'_>, alerts_doubtful: bool, mut capped: bool) {
    if alerts_doubtful {
        record
            .alerts
            .iter_mut()
            .for_each(|alert| alert.verified = Some(false));
    }
    record.scores = scores::of(&record.alerts);
    shares::bound(&mut record.alerts, &mut capped);
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

/// The entry ends inside this part: its last line may lack its end, and half an address is a
/// wrong address.
fn drop_cut_line(last: &mut Section<'_>) {
    if !matches!(last.letter, b'C' | b'E' | b'I') {
        let whole = memchr::memrchr(b'\n', last.content).unwrap_or(0);
        last.content = last.content.get(..whole).unwrap_or_default();
    }
}

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

/// Part A: `[TIME] TXID CLIENT PORT SERVER PORT`. The id may hold spaces, so the line is read from
/// the right.
pub(super) fn opening<'a>(content: &'a [u8], record: &mut Record<'a>) {
    let line = first_line(content);
    let Some((stamp, rest)) = line
        .strip_prefix(b"[")
        .and_then(|line| Some((line.get(..memchr(b']', line)?)?, line)))
        .and_then(|(stamp, line)| Some((stamp, line.get(stamp.len() + 1..)?)))
    else {
        return;
    };
    record.time = timestamp::parse(stamp);
    let mut words = rest.rsplitn(5, |byte| *byte == b' ');
    let mut end = || -> Option<Endpoint<'a>> {
        let port = number(words.next()?)?;
        let text = words.next()?;
        Some(Endpoint {
            text: text.into(),
            ip: parse_ip(text),
            port: Some(port),
        })
    };
    let (Some(server), Some(client)) = (end(), end()) else {
        return;
    };
    record.server = Some(server);
    record.client = Some(client);
    record.unique_id = words
        .next()
        .and_then(|id| id.strip_prefix(b" "))
        .filter(|id| !id.is_empty())
        .map(Text::from);
}

/// Part A of an entry that was written by hand: an address alone, or a usual line, and below it
/// the metadata of one rule.
fn opening_by_hand<'a>(content: &'a [u8], record: &mut Record<'a>, capped: &mut bool) {
    let line = first_line(content);
    if let Some(ip) = parse_ip(line.trim_ascii()) {
        let text = line.trim_ascii().into();
        record.client = Some(Endpoint {
            text,
            ip: Some(ip),
            port: None,
        });
    } else {
        opening(content, record);
    }
    for line in lines(content).skip(1) {
        let alert = rule_match::parse_bare(line, capped);
        if alert.has_metadata() && record.alerts.len() < MAX_ALERTS {
            record.alerts.push(alert);
        }
    }
}

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

/// Lines of the form `Name: value`. Only LF ends a line; a CR belongs to the value.
fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>, capped: &mut bool) -> Vec<Header<'a>> {
    let mut headers = Vec::with_capacity(16);
    for line in lines {
        let Some(colon) = memchr(b':', line) else {
            continue;
        };
        if headers.len() == MAX_HEADERS {
            *capped = true;
            break;
        }
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        headers.push(Header {
            name: name.into(),
            value: value.into(),
        });
    }
    headers
}

/// Returns the length that a part's headers announce, if they do so plainly: one number, and no
/// transfer coding.
pub(crate) fn content_length(headers: &[u8]) -> Option<u64> {
    let mut length = None;
    for line in lines(headers).skip(1) {
        let Some(colon) = memchr(b':', line) else {
            continue;
        };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return None;
            }
            length = Some(number(value.get(1..)?.trim_ascii())?);
        }
    }
    length
}

/// Part J: `N,SIZE,"NAME","CONTENT-TYPE"` for each file, and a total that is not kept.
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

fn upload(line: &[u8], dialect: Dialect) -> Option<Upload<'_>> {
    let (index, rest) = line.split_at_checked(memchr(b',', line)?)?;
    let rest = rest.get(1..)?;
    let (size, rest) = rest.split_at_checked(memchr(b',', rest)?)?;
    // Both are escaped, so the quotes and comma between them are the engine's.
    let (name, rest) = quoted(rest.get(1..)?)?;
    let (content_type, rest) = quoted(rest.strip_prefix(b",")?)?;
    rest.is_empty().then_some(())?;
    let unescape = match dialect {
        Dialect::Coraza => unescape_go,
        _ => unescape,
    };
    Some(Upload {
        index: number(index)?,
        size: number(size)?,
        name: unescape(name).into(),
        content_type: unescape(content_type).into(),
    })
}

pub(super) fn first_line(content: &[u8]) -> &[u8] {
    memchr(b'\n', content)
        .and_then(|end| content.get(..end))
        .unwrap_or(content)
}

/// Splits at LF only: the engine writes no other line end, and a client's CR is content.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b'\n', content)
        .chain(std::iter::once(content.len()))
        .filter_map(move |end| {
            let line = content.get(start..end);
            start = end + 1;
            line
        })
}

pub(super) fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    digits
        .first()
        .is_some_and(u8::is_ascii_digit)
        .then_some(())?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

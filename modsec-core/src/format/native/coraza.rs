//! What Coraza says in its own way: part H, and what releases before 3.4 do to all parts.

use super::Section;
use super::engine_lines::surplus;
use super::part_a::stamp;
use crate::format::rule_match::coraza::split;
use crate::format::timestamp;
use crate::record::Record;
use crate::text::Text;

/// Reads part H, whose alerts are compared with the id in `record`.
pub(super) fn read<'a>(content: &'a [u8], record: &mut Record<'a>, capped: &mut bool) {
    let id = record.unique_id.clone();
    let id = id.as_ref().map(Text::as_bytes);
    let mut alerts = split(content, id, capped);
    let dropped = surplus(alerts.len());
    if !dropped.is_empty() {
        *capped = true;
        alerts.drain(dropped);
    }
    record.alerts = alerts;
}

/// Takes what belongs into part A off the front of all parts, and part H off the entry, if a
/// release before 3.4 wrote it; returns that line.
///
/// Such a release writes neither part A nor alerts. It writes no line end behind that line, which
/// ends with a number: only in front of a request line or a header it is known where.
pub(super) fn before_3_4<'a>(sections: &mut Vec<Section<'a>>) -> Option<&'a [u8]> {
    let first = sections.first().filter(|first| first.letter != b'A')?;
    let mut known = sections
        .iter()
        .filter(|section| b"BFH".contains(&section.letter));
    let line = known.find_map(|section| line(section.content))?;
    first.content.starts_with(line).then_some(())?;
    let starts_line = sections
        .iter()
        .filter_map(|section| section.content.strip_prefix(line))
        .all(|content| content.starts_with(b"\n"));
    for section in sections.iter_mut() {
        if let Some(mut content) = section.content.strip_prefix(line) {
            if starts_line {
                content = content.strip_prefix(b"\n").unwrap_or(content);
            }
            section.len -= (section.content.len() - content.len()) as u64;
            section.content = content;
        }
    }
    sections.retain(|section| section.letter != b'H');
    Some(line)
}

/// Returns what would be part A, without an LF of its own:
///
/// ```text
/// --QxaLmbRtcd-B--
/// [2024/02/03 10:11:12] kQzVbTnYwLmXcRdPaGh 192.0.2.10 40112 198.51.100.4 443GET /item HTTP/1.1
/// `-------------------------- the line, up to the digits of the port ---------´
/// ```
///
/// Returns `[TIME] TXID CIP CPORT SIP SPORT` at the start of `content`.
fn line(content: &[u8]) -> Option<&[u8]> {
    let stamp = stamp(content)?;
    timestamp::parse_wall_clock(stamp)?;
    let words = content.get(stamp.len() + 2..)?.strip_prefix(b" ")?;
    let rest = words.splitn(5, |byte| *byte == b' ').nth(4)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    (digits > 0).then_some(())?;
    content.get(..content.len() - rest.len() + digits)
}

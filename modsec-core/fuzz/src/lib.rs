//! What several fuzz targets check or write alike.

#[path = "../../tests/cut/mod.rs"]
pub mod cut;
#[path = "../../tests/written/mod.rs"]
mod written;

use chrono::{DateTime, FixedOffset};
use modsec_core::Record;
use modsec_core::format::large::{Excerpts, Large};
use modsec_core::format::{self, native};
use modsec_core::record::{
    Body, Flag, MAX_ALERTS, MAX_BODY_KEPT, MAX_ENGINE_LINES, MAX_HEADERS, MAX_MATCHED_RULES,
    MAX_TAGS, MAX_UPLOADS,
};

/// Checks what must hold for any bytes that are read as a native entry: nothing lost, the same in
/// windows as in one look, and what is written is read back.
pub fn check_native(bytes: &[u8]) {
    let Ok(entry) = native::Entry::parse(bytes) else {
        assert!(native::Boundary::open(bytes).is_none());
        return;
    };
    let mut at = 0;
    for part in entry.parts() {
        assert_eq!(part.offset, at, "parts follow each other");
        assert_eq!(part.bytes, &bytes[at..at + part.bytes.len()]);
        at += part.bytes.len();
    }
    assert_eq!(at, bytes.len(), "parts cover the entry");

    let record = entry.record();
    check_bounds(&record);
    // Without part A, Coraza writes no part Z either.
    let without_z = entry.boundary().dialect() == format::Dialect::Coraza
        && entry.parts().next().is_some_and(|part| part.letter != 'A');
    if !format::is_complete(bytes) && !without_z {
        assert!(
            record.flags.contains(Flag::Truncated),
            "only part Z ends an entry"
        );
    }
    let excerpts = excerpts(bytes, 7).expect("parsed before");
    assert_eq!(
        excerpts.record(),
        record,
        "windows find what one look finds"
    );
    if let Some(rendered) = written::entry(&record, entry.boundary()) {
        let mut again = format::decode(&rendered).expect("a rendered entry is an entry");
        // Lines with keys that no engine writes have no place of their own in part H.
        let mut record = record.clone();
        record.engine.other.clear();
        again.engine.other.clear();
        assert_eq!(again, record, "what is written is read back");
    }
}

/// Reads an entry as a large one, in windows of `step` fresh bytes; `None` if it is no entry.
pub fn excerpts(entry: &[u8], step: usize) -> Option<Excerpts> {
    let mut large = Large::open(entry).ok()?;
    let (mut start, mut end) = (0, entry.len().min(Large::OVERLAP + step));
    loop {
        large.scan(&entry[start..end], start as u64, end == entry.len());
        if end == entry.len() {
            break;
        }
        start = end - Large::OVERLAP;
        end = entry.len().min(end + step);
    }
    let range = |at: u64| usize::try_from(at).expect("offsets of a slice");
    let excerpts = large
        .finish(|part| Ok::<_, ()>(entry[range(part.start)..range(part.end)].to_vec()))
        .expect("reading a slice does not fail");
    Some(excerpts)
}

/// Writes a time as part A has it.
pub fn time_text(time: &DateTime<FixedOffset>) -> String {
    written::time(time)
}

/// Checks that nobody can make a record grow without bound.
pub fn check_bounds(record: &Record<'_>) {
    let kept = |body: &Option<Body<'_>>| body.as_ref().map_or(0, |body| body.kept.len());
    for body in [
        &record.request.body,
        &record.request.form,
        &record.response.body,
    ] {
        assert!(kept(body) <= MAX_BODY_KEPT);
    }
    assert!(record.request.headers.len() <= MAX_HEADERS);
    assert!(record.response.headers.len() <= MAX_HEADERS);
    assert!(record.alerts.len() <= MAX_ALERTS);
    assert!(
        record
            .alerts
            .iter()
            .all(|alert| alert.tags.len() <= MAX_TAGS)
    );
    assert!(record.matched_rules.iter().flatten().count() <= MAX_MATCHED_RULES);
    assert!(record.uploads.iter().flatten().count() <= MAX_UPLOADS);
    assert!(record.engine.other.len() <= MAX_ENGINE_LINES);
    let status = record.response.status;
    assert!(status.is_none_or(|status| (100..1000).contains(&status)));
}

/// Copies `bytes`, with some bytes replaced by longer texts: so that few mutations make much.
pub fn expand(bytes: &[u8], replacements: &[(u8, &[u8])]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match replacements.iter().find(|(short, _)| short == byte) {
            Some((_, long)) => out.extend_from_slice(long),
            None => out.push(*byte),
        }
    }
    out
}

/// Returns a JSON string of the text as the engines write it: control characters, quotes and
/// backslashes are escaped, all other bytes are copied, UTF-8 or not.
pub fn json_string(text: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            ..0x20 => out.extend(format!("\\u{byte:04X}").bytes()),
            _ => out.push(*byte),
        }
    }
    out.push(b'"');
    out
}

/// Escapes a value as ModSecurity 2 does in the metadata of an alert.
pub fn escape_v2(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            0x20..0x7f => out.push(*byte),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
    out
}

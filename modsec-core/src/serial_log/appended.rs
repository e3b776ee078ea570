//! Several records in the file of one.
//!
//! libmodsecurity appends to a file that is there already: transactions of one second that have one
//! id share a file. The id may be the client's (`modsecurity_transaction_id "$http_x_request_id"`),
//! and nobody's record may hide behind another one. `ModSecurity` 2 and Coraza truncate the file
//! first, so there a second record is a forgery, and the file is one entry.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::{Outlook, Piece, Splitter};
use crate::format::native::Boundary;
use crate::format::{self, Format};

/// Records of one file at the most. More than that cannot be written within a second; such a file
/// is one ambiguous entry.
const MAX_RECORDS: usize = 16 * 1024;
/// Boundaries that are told apart, 40 bytes each. A file with more of them is one ambiguous entry.
const MAX_BOUNDARIES: usize = 4 * MAX_RECORDS;
/// Bytes that tell the dialect.
const HEAD: u64 = 512;
/// Bytes read at a time, and held of one record.
const CHUNK: u64 = 256 * 1024;
/// Bytes at the end of a record that show its part Z.
const TAIL: u64 = Boundary::MAX_LINE as u64 + 3;

/// Returns where the records are in a file of `len` bytes, of which `read` returns a range; `None`
/// if it is one entry, however it looks.
///
/// Native records are several only if nothing stands between them, each ends with its own part Z,
/// and each boundary in the file, wherever a line of it stands, has all its lines within one record.
/// A client who knows the boundary of his own entry can end it in his body and write others behind
/// it, also together with a second entry of his. But the engine writes the genuine first and last
/// line of each entry around all that, with one boundary. If both lie within one record, so does
/// what is between them; so each record begins and ends where the engine began and ended one.
///
/// # Errors
///
/// What `read` fails with.
pub(crate) fn records(
    len: u64,
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<Option<Vec<Range<u64>>>> {
    let is_native = match format::detect(&read(0..len.min(HEAD))?) {
        Some(Format::Native(dialect)) if dialect.appends() => true,
        Some(Format::Json(dialect)) if dialect.appends() => false,
        _ => return Ok(None),
    };
    let mut splitter = Splitter::new(0, usize::try_from(CHUNK).unwrap_or(usize::MAX));
    let (mut found, mut fed) = (Vec::new(), 0);
    while fed < len {
        let more = read(fed..len.min(fed + CHUNK))?;
        fed += more.len() as u64;
        splitter.buffer().extend_from_slice(&more);
        let outlook = if fed < len {
            Outlook::More
        } else {
            Outlook::End
        };
        if !take(&mut splitter, outlook, &mut found) {
            return Ok(None);
        }
    }
    let are_several = found.len() > 1
        && (!is_native || (are_closed(&found, &mut read)? && are_apart(&found, read)?));
    Ok(are_several.then_some(found))
}

/// Takes the records at hand; false if there is anything else.
fn take(splitter: &mut Splitter, outlook: Outlook, found: &mut Vec<Range<u64>>) -> bool {
    while let Some(piece) = splitter.next(outlook) {
        if matches!(piece, Piece::Part(_)) {
            continue;
        }
        let Some((at, len, flags)) = piece.ended_entry() else {
            return false;
        };
        let follows = found.last().is_none_or(|last| last.end == at);
        if !follows || !flags.is_empty() || found.len() == MAX_RECORDS {
            return false;
        }
        found.push(at..at + len);
    }
    true
}

/// Returns `true` if each record ends with its own part Z.
fn are_closed(
    records: &[Range<u64>],
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<bool> {
    for record in records {
        let head = read(record.start..record.end.min(record.start + TAIL))?;
        let tail = read(record.start.max(record.end.saturating_sub(TAIL))..record.end)?;
        if !Boundary::open(&head).is_some_and(|(boundary, _)| boundary.closes(&tail)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns `true` if no boundary has lines in two records.
fn are_apart(
    records: &[Range<u64>],
    mut read: impl FnMut(Range<u64>) -> io::Result<Vec<u8>>,
) -> io::Result<bool> {
    let mut homes = HashMap::new();
    for (home, record) in records.iter().enumerate() {
        let mut at = record.start;
        while at < record.end {
            // So far into the next chunk as a line that starts in this one may reach.
            let end = record.end.min(at + CHUNK);
            let bytes = read(at..record.end.min(end + Boundary::MAX_LINE as u64))?;
            let here = usize::try_from(end - at).unwrap_or(usize::MAX);
            let line_ends = memchr::memchr_iter(b'\n', bytes.get(..here).unwrap_or(&bytes));
            let starts = line_ends.map(|line_end| line_end + 1);
            let first = (at == record.start).then_some(0);
            for start in first.into_iter().chain(starts) {
                let line = bytes.get(start..).unwrap_or_default();
                let Some((boundary, _)) = Boundary::open(line) else {
                    continue;
                };
                let is_full = homes.len() >= MAX_BOUNDARIES && !homes.contains_key(&boundary);
                if is_full || *homes.entry(boundary).or_insert(home) != home {
                    return Ok(false);
                }
            }
            at = end;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serial_log::LOOKAHEAD;

    fn record(boundary: &str, client: &str, body: &str) -> String {
        format!(
            "---{boundary}---A--\n[22/Nov/2026:06:40:30 +0000] 1700.1 {client} 1 192.0.2.2 80\n\
             ---{boundary}---B--\nPOST / HTTP/1.1\ntransfer-encoding: chunked\n\n\
             ---{boundary}---C--\n{body}\n\n---{boundary}---F--\nHTTP/1.1 403\n\n\
             ---{boundary}---H--\n\n---{boundary}---Z--\n\n"
        )
    }

    fn count(file: &str) -> usize {
        let bytes = file.as_bytes();
        let read = |range: Range<u64>| {
            let index = |at: u64| usize::try_from(at).unwrap();
            Ok(bytes[index(range.start)..index(range.end)].to_vec())
        };
        let found = records(bytes.len() as u64, read).unwrap();
        found.map_or(1, |found| found.len())
    }

    #[test]
    fn records_that_the_engine_appended_are_several() {
        for count_of in [2, 10, 150, 3000] {
            let file: String = (0..count_of)
                .map(|n| record(&format!("{n:08}"), "192.0.2.1", &format!("body {n}")))
                .collect();
            assert_eq!(count(&file), count_of);
        }
        let large = record("aaaaaaaa", "192.0.2.1", &"x\n".repeat(1 << 20));
        let file = large + &record("bbbbbbbb", "192.0.2.2", "small");
        assert_eq!(count(&file), 2);
        let json = "{\"transaction\":{\"client_ip\":\"192.0.2.1\",\"request\":{\"uri\":\"/\"}}}\n";
        assert_eq!(count(&json.repeat(3)), 3);
    }

    #[test]
    fn a_body_makes_no_records() {
        let forged: String = (0..10)
            .map(|n| record(&format!("forged{n:02}"), "198.51.100.1", "x"))
            .collect();
        let end =
            "\n\n---genuine0---F--\nHTTP/1.1 200\n\n---genuine0---H--\n\n---genuine0---Z--\n\n";
        let open = |boundary: &str| {
            let record = record(boundary, "198.51.100.1", "x");
            record[..record
                .find("\n\n---forged")
                .or(record.find("\n\n---genuine"))
                .unwrap()]
                .to_owned()
        };
        let far = "y\n".repeat(300_000);
        for body in [
            format!("a{end}{forged}{}", open("genuine0")),
            format!("a{end}{forged}{}", open("forged99")),
            format!("a{end}{forged}{}{far}", open("genuine0")),
            format!("a{end}{forged}{}{far}", open("forged99")),
            format!("a{end}{forged}{far}"),
            format!("a{end}{forged}"),
        ] {
            let file = record("genuine0", "192.0.2.1", &body);
            assert_eq!(count(&file), 1, "{body:.400}");
            let twice = file + &record("genuine1", "192.0.2.1", "x");
            assert_eq!(count(&twice), 1, "{body:.400}");
        }
    }

    #[test]
    fn two_bodies_make_no_records_together() {
        let forged: String = (0..10)
            .map(|n| record(&format!("forged{n:02}"), "198.51.100.1", "x"))
            .collect();
        let end = |boundary: &str| {
            format!(
                "\n\n---{boundary}---F--\nHTTP/1.1 200\n\n---{boundary}---H--\n\n---{boundary}---Z--\n\n"
            )
        };
        let open = |boundary: &str| {
            let record = record(boundary, "198.51.100.1", "x");
            record[..record.find("x\n\n---").unwrap()].to_owned()
        };
        for far in ["", "y\n", &"y\n".repeat(200_000)] {
            // The first ends its entry and leaves another open, the second closes that one and
            // begins its own again.
            let first = format!("a{}{forged}{}{far}", end("genuine0"), open("opened00"));
            let second = format!("b{}{}", end("opened00"), open("genuine1"));
            let file =
                record("genuine0", "192.0.2.1", &first) + &record("genuine1", "192.0.2.1", &second);
            assert_eq!(count(&file), 1);
            // With a third, whose boundary was foreseen.
            let first = "a".to_owned();
            let second = format!("b{}{forged}{}{far}", end("genuine0"), open("genuine2"));
            let file = record("genuine0", "192.0.2.1", &first)
                + &record("genuine1", "192.0.2.1", &second)
                + &record("genuine2", "192.0.2.1", "c");
            assert_eq!(count(&file), 1);
        }
    }

    #[test]
    fn entries_in_a_body_stay_in_it() {
        let forged = record("forged00", "198.51.100.1", "x").repeat(3);
        let one = record("genuine0", "192.0.2.1", &forged);
        assert_eq!(count(&one), 1);
        assert_eq!(count(&(one + &record("genuine1", "192.0.2.1", "x"))), 2);
    }

    /// A body of somebody who knows the boundary of his own entry.
    fn hostile_body() -> impl Strategy<Value = String> {
        let line = |letter: char| format!("\n---genuine0---{letter}--\n");
        let part_a = "[22/Nov/2026:06:40:30 +0000] 1700.1 198.51.100.1 1 192.0.2.2 80\n";
        let piece = prop_oneof![
            "[ -~\n]{0,20}",
            prop::sample::select("ABCEFHIJKZ".chars().collect::<Vec<_>>()).prop_map(line),
            Just(format!("---genuine0---A--\n{part_a}")),
            Just(format!("---other000---A--\n{part_a}")),
            Just("\n---other000---C--\n".to_owned()),
            Just("\n---other000---Z--\n".to_owned()),
            Just("\n---genuine1---Z--\n\n".to_owned()),
            Just("\n\n---other000---F--\nHTTP/1.1 200\n\n---other000---H--\n\n---other000---Z--\n\n".to_owned()),
            (0..4).prop_map(move |n| format!(
                "\n\n---genuine{n}---F--\nHTTP/1.1 200\n\n---genuine{n}---H--\n\n---genuine{n}---Z--\n\n"
            )),
            (0..4).prop_map(move |n| format!(
                "---genuine{n}---A--\n{part_a}---genuine{n}---B--\nGET / HTTP/1.1\n\n---genuine{n}---C--\n"
            )),
            Just(format!("---other000---A--\n{part_a}---other000---B--\nGET / HTTP/1.1\n\n---other000---C--\n")),
            (0..9).prop_map(|n| record(&format!("forged{n:02}"), "198.51.100.1", "x")),
            Just(record("genuine0", "198.51.100.1", "x")),
            Just("y\n".repeat(LOOKAHEAD)),
        ];
        prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn whatever_is_sent_only_what_the_engine_wrote_is_a_record(
            bodies in prop::collection::vec(hostile_body(), 1..4),
            with_length in any::<bool>(),
        ) {
            let mut file = String::new();
            let mut genuine = Vec::new();
            for (n, body) in bodies.iter().enumerate() {
                let mut record = record(&format!("genuine{n}"), "192.0.2.1", body);
                if with_length {
                    let length = format!("content-length: {}", body.len());
                    record = record.replacen("transfer-encoding: chunked", &length, 1);
                }
                let start = file.len() as u64;
                file += &record;
                genuine.push(start..file.len() as u64);
            }
            let bytes = file.as_bytes();
            let read = |range: Range<u64>| {
                let index = |at: u64| usize::try_from(at).unwrap();
                Ok(bytes[index(range.start)..index(range.end)].to_vec())
            };
            if let Some(found) = records(bytes.len() as u64, read).unwrap() {
                prop_assert_eq!(found, genuine);
            }
        }
    }

    #[test]
    fn engines_that_truncate_append_nothing() {
        let v2 = record("00000000", "192.0.2.1", "x").replace("---00000000---", "--00000000-");
        let coraza =
            record("abcdefgh", "192.0.2.1", "x").replace("---abcdefgh---", "--abcdefghij-");
        for one in [v2, coraza] {
            let other = one
                .replace("00000000", "11111111")
                .replace("abcdefghij", "klmnopqrst");
            assert_eq!(count(&(one + &other)), 1);
        }
    }
}

//! The merged log cut again: exactly the entries that were appended, whatever is in them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;

use cut::{Cut, cut, cut_while};
use modsec_core::EntryHash;
use modsec_core::format::decode;
use modsec_core::merged_log::{MergedLog, Recovered, Stored};
use modsec_core::record::{Flag, Flags};
use modsec_core::serial_log::{InputState, LOOKAHEAD, Piece, Splitter};
use proptest::prelude::*;

mod cut;

const HELD: usize = 512 * 1024;
const A: &str = "[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80";
const CORAZA_A: &str = "[2026/11/22 06:40:30] id 192.0.2.1 1 192.0.2.2 80";
/// Few, so that they are met again in other files.
const BOUNDARIES: [&str; 5] = [
    "--11111111-",
    "--22222222-",
    "---aB3aB3aB---",
    "---bC4bC4bC---",
    "--QxaLmbRtcd-",
];

fn line(boundary: &str, letter: char) -> String {
    format!("{boundary}{letter}--\n")
}

fn part_a(boundary: &str) -> String {
    let a = if boundary == BOUNDARIES[4] {
        CORAZA_A
    } else {
        A
    };
    line(boundary, 'A') + a + "\n"
}

/// Writes the parts from A to C and from F on, as the engine does.
fn entry(boundary: &str, header: &str, body: Option<&str>, status: u32) -> String {
    let at = |letter| line(boundary, letter);
    let body = body.map_or(String::new(), |body| format!("{}{body}\n", at('C')));
    let end = if boundary.starts_with("---") {
        "\n"
    } else {
        ""
    };
    format!(
        "{}{}POST / HTTP/1.1\n{header}\n\n{body}{}HTTP/1.1 {status}\n\n{}Server: x\n\n{}{end}",
        part_a(boundary),
        at('B'),
        at('F'),
        at('H'),
        at('Z'),
    )
}

fn announcement(len: usize, hash: EntryHash) -> String {
    format!("# modsec-parser: the next {len} bytes are one entry, entry_hash {hash}\n")
}

fn append(log: &mut MergedLog, id: u8, files: &[Vec<u8>]) {
    let mut batch = log.begin([id; 16]).unwrap();
    for file in files {
        batch.append(file).unwrap();
    }
    batch.finish().unwrap().commit().unwrap();
}

fn merged(files: &[Vec<u8>]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    append(&mut MergedLog::open(&path).unwrap(), 1, files);
    fs::read(path).unwrap()
}

/// Without the LF that stands behind a document in a log.
fn own_bytes(bytes: &[u8]) -> &[u8] {
    if bytes.starts_with(b"{") {
        bytes.strip_suffix(b"\n").unwrap_or(bytes)
    } else {
        bytes
    }
}

fn assert_are(found: &Cut, files: &[Vec<u8>], how: &str) {
    let found_bytes = found.entries.iter().map(|(_, bytes, _)| own_bytes(bytes));
    let is_same = found_bytes.eq(files.iter().map(|file| own_bytes(file)));
    assert!(is_same, "{how}: {found:.2000?} is not {files:.2000?}");
    assert!(
        found.entries.iter().all(|entry| entry.2.is_empty()),
        "{how}"
    );
    assert_eq!(found.foreign, [], "{how}");
}

/// The attack as it was played: the own end, whole entries of somebody else, and one left open that
/// takes the genuine end.
fn hostile() -> (String, String) {
    let own = BOUNDARIES[0];
    let forged: String = (0..11)
        .map(|n| entry(&format!("--f000000{n:x}-"), "Host: a", None, 403) + "\n")
        .collect();
    let open = format!(
        "{}{}POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n{}",
        part_a("--deadbeef-"),
        line("--deadbeef-", 'B'),
        line("--deadbeef-", 'C')
    );
    let body = format!(
        "z\n{}HTTP/1.1 200 OK\n\n{}Server: x\n\n{}\n{forged}{open}{}",
        line(own, 'F'),
        line(own, 'H'),
        line(own, 'Z'),
        "p\n".repeat(LOOKAHEAD)
    );
    let file = entry(own, "Transfer-Encoding: chunked", Some(&body), 200);
    (file, body)
}

/// The parser is killed in the middle of appending, and another program appends behind that, so the
/// batch cannot be taken out.
#[test]
fn half_an_announced_entry_in_front_of_other_bytes_makes_no_entries() {
    let (attack, _) = hostile();
    let (first, other) = (
        entry(BOUNDARIES[1], "Host: a", None, 403),
        entry(BOUNDARIES[3], "Host: b", None, 403),
    );
    let page = 4096;
    // The last one ends within a piece that is not the first.
    let large = attack.replacen("z\n", &"z\n".repeat(2 << 20), 1);
    let lengths = [1, 2, 7, 70, 1100].map(|pages| pages * page);
    for (old, kept) in ["", &first]
        .into_iter()
        .flat_map(|old| lengths.map(|len| (old, len)))
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        fs::write(&path, format!("{old}\n")).unwrap();
        let mut log = MergedLog::open(&path).unwrap();
        let mut batch = log.begin([1; 16]).unwrap();
        let hostile = if kept > (1 << 20) { &large } else { &attack };
        for file in [&first, hostile, &attack] {
            batch.append(file.as_bytes()).unwrap();
        }
        drop(batch.finish().unwrap());
        drop(log);
        // What the kernel leaves ends with a page.
        let mut text = fs::read_to_string(&path).unwrap();
        text.truncate(kept);
        fs::write(&path, text.clone() + &other).unwrap();
        let recover = || {
            let mut log = MergedLog::open(&path).unwrap();
            let journal = fs::read(dir.path().join("audit.log.journal")).unwrap();
            let recovered = log.recover(Stored::No).unwrap().unwrap();
            assert!(
                matches!(recovered, Recovered::LeftIn { .. }),
                "{recovered:?}"
            );
            journal
        };
        let journal = recover();
        let found = fs::read_to_string(&path).unwrap();
        let cut = cut(found.as_bytes(), 1000, HELD);
        let clean: Vec<&[u8]> = cut
            .entries
            .iter()
            .map(|(_, bytes, _)| own_bytes(bytes))
            .collect();
        let want = [old.as_bytes(), first.as_bytes(), other.as_bytes()].map(own_bytes);
        let want: Vec<&[u8]> = want.into_iter().filter(|bytes| !bytes.is_empty()).collect();
        assert!(clean == want, "{:?}", cut.entries);
        // Nothing has moved, and what was whole stays.
        let whole = text.find('#').unwrap();
        assert_eq!(
            found,
            format!("{}{}{other}", &text[..whole], "\n".repeat(kept - whole))
        );
        // As after a crash before the journal was closed; within a piece, at any time.
        let mid = kept / page / 2 * page;
        let half = format!("{}{}", &text[..mid.max(whole)], &found[mid.max(whole)..]);
        let crashed = if kept > (1 << 20) { &found } else { &half };
        for text in [&found, crashed] {
            fs::write(dir.path().join("audit.log.journal"), &journal).unwrap();
            fs::write(&path, text).unwrap();
            recover();
            assert_eq!(fs::read_to_string(&path).unwrap(), found);
        }
    }
}

#[test]
fn whole_entries_in_a_body_are_no_entries_of_the_merged_log() {
    let (attack, _) = hostile();
    let next = entry(BOUNDARIES[1], "Host: a", None, 403);
    let files = [attack.clone(), next.clone(), attack, next].map(String::into_bytes);
    let log = merged(&files);
    for (step, held) in [
        (1000, 100),
        (1000, HELD),
        (256 * 1024, HELD),
        (1 << 30, 64 << 20),
    ] {
        for input in [InputState::More, InputState::Quiet] {
            let found = cut_while(&log, step, held, input);
            assert_are(&found, &files, &format!("{held} held, steps of {step}"));
        }
    }
    // The one that is announced is what the file was: in doubt.
    let (_, bytes, _) = &cut(&log, 1000, HELD).entries[0];
    assert!(decode(bytes).unwrap().flags.contains(Flag::Ambiguous));
}

#[test]
fn only_entries_that_may_be_mistaken_are_announced() {
    let plain = [
        entry(BOUNDARIES[0], "Content-Length: 4", None, 403),
        entry(BOUNDARIES[2], "Host: a", None, 403),
        "{\"transaction\":{\"a\":\"}\\\"{\"}}".to_owned(),
        "{\"transaction\":\n  {\"a\":[1,\n 2]}}\n".to_owned(),
        format!("{{\"transaction\":{{\"a\":\"{}\"}}}}", "x".repeat(1 << 20)),
    ];
    for file in plain {
        let log = merged(&[file.clone().into_bytes()]);
        assert!(!log.starts_with(b"#"), "{file:.100}");
    }
    let whole = entry(BOUNDARIES[0], "Host: a", None, 403);
    let doubtful = [
        entry(BOUNDARIES[0], "Content-Length: 1", Some("x"), 403),
        entry(BOUNDARIES[2], "Content-Length: 1", Some("x"), 403),
        entry(BOUNDARIES[4], "Host: a", None, 403),
        whole.clone() + "\n",
        whole.clone() + "more\n",
        whole[..whole.len() - 1].to_owned(),
        whole[..whole.len() - 10].to_owned(),
        whole.replace("Server", &format!("{}Server", line(BOUNDARIES[1], 'C'))),
        whole.replace("Server", &format!("{}Server", line(BOUNDARIES[0], 'F'))),
        whole.replacen(&part_a(BOUNDARIES[0]), "", 1),
        "{\"transaction\":{\"a\":\"x\n{\"}}".to_owned(),
        "{\"transaction\":{\"a\":1}}{\"transaction\":{}}".to_owned(),
        "\u{feff}{\"transaction\":{\"a\":1}}".to_owned(),
        format!("{}{{\"transaction\":{{}}}}", " ".repeat(1 << 20)),
    ];
    for file in doubtful {
        let log = merged(&[file.clone().into_bytes()]);
        let hash = EntryHash::of(file.as_bytes());
        let line = announcement(file.len(), hash);
        assert!(log.starts_with(line.as_bytes()), "{file:.400}");
    }
}

#[test]
fn a_wrong_announcement_is_a_foreign_line_and_hides_nothing() {
    let others: Vec<Vec<u8>> = (0..9)
        .map(|n| entry(&format!("--0000000{n}-"), "Host: a", None, 403).into_bytes())
        .collect();
    let rest = others.join(&b"\n"[..]);
    let other = EntryHash::of(b"what else");
    for len in [1, 100, rest.len() - 1, rest.len()] {
        let line = announcement(len, other);
        let log = [line.as_bytes(), &rest, b"\n"].concat();
        for (step, held) in [(1, HELD), (100, 100), (7, 0), (1 << 20, HELD)] {
            let mut found = cut(&log, step, held);
            assert_eq!(found.foreign, [(0, line.len() as u64)], "{len} {held}");
            found.foreign.clear();
            assert_are(
                &found,
                &others,
                &format!("{len} of {}, {held} held", rest.len()),
            );
        }
    }
    // The log ends in what was announced: there it is in doubt.
    let line = announcement(rest.len() + 2, other);
    let log = [line.as_bytes(), &rest, b"\n"].concat();
    let found = cut(&log, 100, 100);
    assert_eq!(found.entries.len(), 9);
    assert!(
        found
            .entries
            .iter()
            .all(|entry| entry.2.contains(Flag::Interleaved))
    );
}

#[test]
fn a_body_in_the_log_of_a_server_covers_no_others_with_an_announcement() {
    let own = BOUNDARIES[0];
    let others: Vec<Vec<u8>> = (0..9)
        .map(|n| entry(&format!("--0000000{n}-"), "Host: a", None, 403).into_bytes())
        .collect();
    let rest = others.join(&b"\n"[..]);
    let far = "p\n".repeat(LOOKAHEAD);
    for len in [far.len() + 200, far.len() + rest.len() / 2] {
        let line = announcement(len, EntryHash::of(far.as_bytes()));
        let body = format!("z\n{}\n{line}{far}", line_of_end(own));
        let attack = entry(own, "Transfer-Encoding: chunked", Some(&body), 200);
        let log = [attack.as_bytes(), b"\n", &rest, b"\n"].concat();
        for (step, held) in [(1000, 100), (256 * 1024, HELD), (1 << 30, 64 << 20)] {
            let found = cut(&log, step, held);
            let others_found = found.entries.iter().skip(1).map(|(_, bytes, _)| bytes);
            assert!(others_found.eq(&others), "{len}, {held} held");
            let is_certain = |entry: &(u64, Vec<u8>, Flags)| entry.2.is_empty();
            assert!(found.entries.iter().skip(1).all(is_certain));
        }
    }
}

fn line_of_end(boundary: &str) -> String {
    format!(
        "{}Server: x\n\n{}",
        line(boundary, 'H'),
        line(boundary, 'Z')
    )
}

#[test]
fn an_announcement_counts_only_between_entries() {
    let inner = entry(BOUNDARIES[1], "Host: a", None, 403);
    let line = announcement(inner.len(), EntryHash::of(inner.as_bytes()));
    let body = format!("{line}{inner}");
    let header = format!("Content-Length: {}", body.len());
    let file = entry(BOUNDARIES[0], &header, Some(&body), 200);
    // In the log of a server, without any announcement of ours.
    let log = format!("{file}\n{line}{inner}\n");
    for (step, held) in [(1, HELD), (100, 100), (1 << 20, HELD)] {
        let files = [file.clone(), inner.clone()].map(String::into_bytes);
        assert_are(
            &cut(log.as_bytes(), step, held),
            &files,
            &format!("{step} {held}"),
        );
    }
}

#[test]
fn an_interleaved_entry_stays_one() {
    let inner = entry(BOUNDARIES[1], "Host: a", None, 403);
    let outer = entry(BOUNDARIES[0], "Host: a", None, 403).replace("Server", &(inner + "Server"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.log");
    let mut log = MergedLog::open(&path).unwrap();
    let mut batch = log.begin([1; 16]).unwrap();
    let flags = Flags::from_iter([Flag::Interleaved]);
    batch.append_flagged(outer.as_bytes(), flags).unwrap();
    let open = || outer.as_bytes();
    let hash = EntryHash::of(outer.as_bytes());
    assert!(batch.append_from(hash, flags, open).unwrap());
    let next = entry(BOUNDARIES[0], "Host: a", None, 403);
    batch.append(next.as_bytes()).unwrap();
    batch.finish().unwrap().commit().unwrap();
    let found = cut(&fs::read(path).unwrap(), 1000, HELD).entries;
    let found: Vec<_> = found
        .iter()
        .map(|(_, bytes, flags)| (std::str::from_utf8(bytes).unwrap(), *flags))
        .collect();
    let want = [(&*outer, flags), (&outer, flags), (&next, Flags::none())];
    assert_eq!(found, want);
}

#[test]
fn an_entry_that_changes_while_it_is_appended_is_noticed() {
    let (attack, _) = hostile();
    let harmless = entry(BOUNDARIES[0], "Host: a", None, 200);
    let hash = |entry: &str| EntryHash::of(entry.as_bytes());
    for (first, second, is_it) in [
        (&attack, &attack, true),
        (&attack, &harmless, false),
        (&harmless, &attack, false),
    ] {
        for wanted in [&attack, &harmless] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("audit.log");
            let mut log = MergedLog::open(&path).unwrap();
            let mut batch = log.begin([1; 16]).unwrap();
            let mut readings = [first, second].into_iter();
            let open = || readings.next().unwrap().as_bytes();
            let found = batch
                .append_from(hash(wanted), Flags::none(), open)
                .unwrap();
            assert_eq!(found, is_it && wanted == first);
            batch.rollback().unwrap();
            assert_eq!(fs::read(path).unwrap(), b"");
        }
    }
}

#[test]
fn an_announcement_goes_with_its_entry_when_a_batch_is_taken_back() {
    let (attack, _) = hostile();
    let attack = attack.into_bytes();
    let old = [entry(BOUNDARIES[1], "Host: a", None, 403).into_bytes()];
    // Killed before anything, within the entry, behind it, and asked to.
    for end in [Some(0), Some(4096), Some(256 * 1024), None] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut log = MergedLog::open(&path).unwrap();
        append(&mut log, 1, &old);
        let before = fs::read(&path).unwrap();
        let mut batch = log.begin([2; 16]).unwrap();
        batch.append(&attack).unwrap();
        drop(batch.finish().unwrap());
        drop(log);
        let file = fs::File::options().write(true).open(&path).unwrap();
        if let Some(end) = end {
            file.set_len(end.max(before.len() as u64)).unwrap();
        }
        let mut log = MergedLog::open(&path).unwrap();
        assert!(log.pending().is_some());
        log.recover(Stored::No).unwrap();
        assert!(fs::read(&path).unwrap() == before, "{end:?}");
        append(&mut log, 3, std::slice::from_ref(&attack));
        let files = [&old[..], std::slice::from_ref(&attack)].concat();
        let found = cut(&fs::read(&path).unwrap(), 70_000, HELD);
        assert_are(&found, &files, "appended again");
    }
}

/// Bytes of somebody who knows every boundary, and the form of announcements.
fn hostile_body() -> impl Strategy<Value = String> {
    let boundary = prop::sample::select(&BOUNDARIES[..]);
    let letter = prop::sample::select("ABCEFHIKZ".chars().collect::<Vec<_>>());
    let near = prop_oneof![
        "[ -~\n]{0,20}",
        (boundary.clone(), letter)
            .prop_map(|(boundary, letter)| format!("\n{}", line(boundary, letter))),
        boundary.clone().prop_map(part_a),
        boundary
            .clone()
            .prop_map(|boundary| format!("\n{}\n", line(boundary, 'Z'))),
        boundary
            .clone()
            .prop_map(|boundary| entry(boundary, "Host: a", None, 403)),
        boundary.clone().prop_map(|boundary| entry(
            boundary,
            "Content-Length: 300",
            Some("x"),
            403
        )),
        boundary.clone().prop_map(|boundary| {
            let inner = entry(boundary, "Host: a", Some("y"), 403);
            announcement(inner.len(), EntryHash::of(inner.as_bytes())) + &inner
        }),
        (1..2000_usize).prop_map(|len| "\n".to_owned() + &announcement(len, EntryHash::of(b"x"))),
        Just("{\"transaction\":{\"client_ip\":\"192.0.2.9\"}}\n".to_owned()),
        Just("\n\n\n".to_owned()),
    ];
    let far = (LOOKAHEAD - 20..LOOKAHEAD + 20).prop_map(|len| "y\n".repeat(len / 2));
    let piece = prop_oneof![50 => near, 1 => far];
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

/// A file as the parser takes it: written by an engine, cut off, or changed.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let boundary = prop::sample::select(&BOUNDARIES[..]);
    let native = (boundary, hostile_body(), 0..5_u8, -3..300_i64).prop_map(
        |(boundary, body, framing, off)| {
            let length = i64::try_from(body.len()).unwrap() + off;
            match framing {
                0 => entry(boundary, "Host: a", None, 200),
                1 => entry(boundary, "Transfer-Encoding: chunked", Some(&body), 200),
                2 => entry(
                    boundary,
                    &format!("Content-Length: {length}"),
                    Some(&body),
                    200,
                ),
                3 => entry(
                    boundary,
                    &format!("Content-Length: {}", body.len()),
                    Some(&body),
                    200,
                ),
                // What an application repeats, and no part C.
                _ => entry(boundary, "Host: a", None, 200).replace(
                    "HTTP/1.1 200\n\n",
                    &format!("HTTP/1.1 200\n\n{}{body}\n", line(boundary, 'E')),
                ),
            }
        },
    );
    let document = hostile_body().prop_map(|body| {
        let is_escaped = body.len() % 2 == 0;
        let text = if is_escaped {
            serde_json::to_string(&body).unwrap()
        } else {
            format!("\"{body}\"")
        };
        format!(
            "{{\"transaction\":{{\"client_ip\":\"192.0.2.1\",\"request\":{{\"body\":{text}}}}}}}"
        )
    });
    let whole = prop_oneof![4 => native, 1 => document];
    let changed = (whole, 0..8_u8, any::<prop::sample::Index>(), hostile_body());
    changed.prop_map(|(file, change, at, more)| {
        let mut file = file.into_bytes();
        match change {
            0 => file.truncate(at.index(file.len()) + 1),
            1 => file.extend_from_slice(more.as_bytes()),
            2 => file.push(b'\n'),
            3 => {
                file.pop();
            }
            _ => {}
        }
        // As the parser does.
        while file.starts_with(b"{") && file.last() == Some(&b'\n') {
            file.pop();
        }
        file
    })
}

fn files() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let is_taken = |file: &Vec<u8>| decode(file).is_ok();
    prop::collection::vec(
        file().prop_filter("not taken by the parser", is_taken),
        1..6,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_files_are_the_merged_log_has_them_and_nothing_else(
        files in files(),
        step in 1..5000_usize,
        held in prop::sample::select(vec![0, 300, 70_000, HELD, 64 << 20]),
    ) {
        let log = merged(&files);
        let step = if log.len() > 20_000 { step * 50 } else { step };
        let how = format!("{held} held, steps of {step}");
        assert_are(&cut(&log, step, held), &files, &how);
        // The last LF of an entry may come after its end was seen.
        let quiet = cut_while(&log, step, held, InputState::Quiet);
        prop_assert_eq!(quiet.entries.len(), files.len());
        prop_assert_eq!(&quiet.foreign, &[]);
        for ((_, bytes, flags), file) in quiet.entries.iter().zip(&files) {
            prop_assert_eq!(bytes.trim_ascii_end(), file.trim_ascii_end());
            prop_assert!(flags.is_empty());
        }
    }

    #[test]
    fn who_goes_on_from_where_he_was_gets_the_rest(
        files in files(),
        stop in any::<prop::sample::Index>(),
    ) {
        let log = merged(&files);
        let (read, _) = log.split_at(stop.index(log.len()));
        let mut splitter = Splitter::new(0, HELD);
        splitter.buffer().extend_from_slice(read);
        let mut before = 0;
        while let Some(piece) = splitter.next(InputState::Quiet) {
            before += usize::from(matches!(piece, Piece::Entry { .. } | Piece::End { .. }));
        }
        let place = usize::try_from(splitter.position()).unwrap();
        prop_assert_eq!(splitter.unread(), (read.len() - place) as u64);
        // As the beginning of a log, but for what may be missing there.
        let rest = [b"\n", &log[place..]].concat();
        assert_are(&cut(&rest, 70_000, HELD), &files[before..], "from the middle");
    }

    #[test]
    fn a_merged_log_that_ends_anywhere_has_nothing_else_without_a_flag(
        files in files(),
        end in any::<prop::sample::Index>(),
        held in prop::sample::select(vec![0, 300, HELD]),
    ) {
        let log = merged(&files);
        let log = &log[..end.index(log.len())];
        let found = cut(log, log.len() / 7 + 1, held);
        let certain = found.entries.iter().filter(|(_, _, flags)| flags.is_empty());
        for ((_, bytes, _), file) in certain.zip(&files) {
            prop_assert!(file.starts_with(own_bytes(bytes)), "{}", bytes.escape_ascii());
        }
        let certain = found.entries.iter().filter(|(_, _, flags)| flags.is_empty());
        prop_assert!(certain.count() <= files.len());
    }
}

//! Cutting logs into entries: real serial logs, damage, and what a client may try.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

use cut::{Cut, cut};
use modsec_core::record::Flag;
use modsec_core::serial_log::{InputState, Piece, Splitter};
use proptest::prelude::*;

mod cut;

const HELD: usize = 64 * 1024;

fn texts(cut: &Cut) -> Vec<&str> {
    cut.entries
        .iter()
        .map(|(_, bytes, _)| std::str::from_utf8(bytes).unwrap())
        .collect()
}

fn flags(cut: &Cut) -> Vec<String> {
    cut.entries
        .iter()
        .map(|(_, _, flags)| flags.to_string())
        .collect()
}

const A: &str = "[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80";

fn entry(boundary: &str, body: &str) -> String {
    format!(
        "--{boundary}-A--\n{A}\n--{boundary}-B--\nPOST / HTTP/1.1\nHost: a\n\n--{boundary}-C--\n{body}\n\
         --{boundary}-H--\nServer: x\n\n--{boundary}-Z--\n"
    )
}

fn data(dialect: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/serial")
        .join(dialect)
}

/// Reads `NAME@OFFSET+LENGTH`.
fn place(path: &str) -> (u64, u64) {
    let (_, place) = path.split_once('@').unwrap();
    let (at, len) = place.split_once('+').unwrap();
    (at.parse().unwrap(), len.parse().unwrap())
}

#[test]
fn real_serial_logs_are_cut_where_the_server_wrote_entries() {
    for (dialect, entries) in [
        ("v2-native-serial", 82),
        ("v3-native-serial", 81),
        ("v2-json-serial", 82),
        ("v3-json-serial", 81),
    ] {
        let log = fs::read(data(dialect).join("modsec_audit.log")).unwrap();
        let truth = fs::read_to_string(data(dialect).join("truth.jsonl")).unwrap();
        let mut want: Vec<(u64, u64)> = truth
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|case| place(case["path"].as_str().unwrap()))
            .collect();
        want.sort_unstable();
        want.dedup(); // some cases are several requests
        for step in [997, 65_536, 1 << 20] {
            for held in [512, 1 << 20] {
                let cut = cut(&log, step, held);
                assert_eq!(cut.foreign, [], "{dialect} step {step}");
                assert_eq!(cut.entries.len(), entries, "{dialect} step {step}");
                // The empty line behind an entry of ModSecurity 2 is the log's.
                let blank = u64::from(dialect == "v2-native-serial");
                let ends = |(at, bytes, _): &(u64, Vec<u8>, _)| at + bytes.len() as u64 + blank;
                for (at, len) in &want {
                    assert!(cut.entries.iter().any(|entry| entry.0 == *at));
                    assert!(cut.entries.iter().any(|entry| ends(entry) == at + len));
                }
                assert!(cut.entries.windows(2).all(|two| ends(&two[0]) == two[1].0));
            }
        }
    }
}

#[test]
fn entries_are_cut_whatever_the_reading_steps() {
    let one = entry("11111111", "one");
    let two = entry("22222222", "two\n--22222222-Z--\nmore");
    let three = entry(
        "33333333",
        &format!("{}\nmore", entry("44444444", "forged")),
    );
    let json = "{\"a\":\"}\\\"{\\\\\",\"b\":[{}]}\n";
    let v3 = "---aB3aB3aB---A--\n[x] id 1 2 3 4\n---aB3aB3aB---C--\nx\n\n---aB3aB3aB---Z--\n\n";
    let log = format!("{one}\n{two}{json}{three}\n\n{v3}{one}\n{v3}");
    for step in 1..120 {
        let cut = cut(log.as_bytes(), step, HELD);
        let want = [&*one, &two, json, &three, v3, &one, v3];
        assert_eq!(texts(&cut), want, "step {step}");
        assert_eq!(cut.foreign, [], "step {step}");
        assert!(flags(&cut).iter().all(String::is_empty));
    }
}

#[test]
fn forged_entries_in_a_body_stay_in_it() {
    let forged = entry("22222222", "forged");
    let body = format!("x\n--11111111-Z--\n\n{forged}\n{forged}");
    for headers in [
        format!("Content-Length: {}\n", body.len()),
        format!("content-length: {}\n", body.len()),
        // Longer than what was logged, as when the engine cut the body.
        format!("Content-Length: {}\n", body.len() + 50),
        format!("Content-Length: {}\n", body.len() + 1000),
        "Transfer-Encoding: chunked\n".to_owned(),
        String::new(),
    ] {
        let attacker = format!(
            "--11111111-A--\n{A}\n--11111111-B--\nPOST / HTTP/1.1\n{headers}\n\
             --11111111-C--\n{body}\n--11111111-F--\nHTTP/1.1 200\n\n--11111111-Z--\n"
        );
        let next = entry("33333333", "next");
        let log = format!("{attacker}\n{next}");
        for step in [1, 10, 100, 10_000] {
            let cut = cut(log.as_bytes(), step, HELD);
            assert_eq!(texts(&cut), [&*attacker, &next], "{headers} step {step}");
        }
    }
}

#[test]
fn a_length_is_known_however_large_the_headers_before_it_are() {
    let forged = entry("22222222", "forged");
    let body = format!("x\n--11111111-Z--\n\n{forged}\n--11111111-A--\n{A}\n");
    let one = |headers: usize| {
        let headers = "X: 0123456789abcdef\n".repeat(headers / 20);
        format!(
            "--11111111-A--\n{A}\n--11111111-B--\nPOST / HTTP/1.1\n{headers}Content-Length: {}\n\n\
             --11111111-C--\n{body}\n--11111111-F--\nHTTP/1.1 403\n\n--11111111-Z--\n",
            body.len()
        )
    };
    for headers in [0, 200, 100_000, 900_000] {
        let (first, next) = (one(headers), entry("33333333", "next"));
        let log = format!("{first}\n{next}");
        for (step, held) in [(1000, 100), (100_000, 5000), (100_000, HELD)] {
            let cut = cut(log.as_bytes(), step, held);
            assert_eq!(cut.entries.len(), 2, "{headers} {held}");
            assert!(texts(&cut)[0] == first, "{headers} {held}");
            assert_eq!(flags(&cut), ["", ""], "{headers} {held}");
        }
    }
}

#[test]
fn a_body_shorter_than_announced_swallows_no_entries_of_others() {
    // Under MPM-ITK they have the same boundary, and with a length that was chosen well one of
    // their lines stands where the body should end.
    let headers = "POST / HTTP/1.1\nContent-Length: LENGTH\n";
    let first = entry("11111111", "cut").replace("POST / HTTP/1.1\n", headers);
    let others: String = (0..6)
        .map(|n| entry("11111111", &format!("other {n}")) + "\n")
        .collect();
    let (before, last) = others.split_at(others.rfind("--11111111-H").unwrap());
    let rest = &first[first.find("cut").unwrap()..];
    let length = format!("{}", rest.len() + before.len());
    let first = first.replace("LENGTH", &length);
    let log = format!("{first}\n{before}{last}");
    for (step, held) in [(1, HELD), (100, HELD), (10_000, HELD), (100, 100)] {
        let cut = cut(log.as_bytes(), step, held);
        assert_eq!(cut.entries.len(), 7, "step {step}");
        assert_eq!(texts(&cut)[0], first);
        assert!(texts(&cut)[1..].iter().all(|text| others.contains(text)));
        assert_eq!(flags(&cut), ["interleaved"; 7], "step {step}");
    }
    // Where no line stands there, nothing is in doubt.
    let log = log.replace(&length, &format!("{}", rest.len() + before.len() + 5));
    let cut = cut(log.as_bytes(), 100, HELD);
    assert_eq!(flags(&cut), [""; 7]);
}

#[test]
fn a_request_line_may_look_like_another_entry() {
    let odd = "--11111111-A--\n[x]\n--11111111-B--\n--22222222-A--\n[: x\n\n--11111111-H--\n\n--11111111-Z--\n";
    let next = entry("33333333", "next");
    let log = format!("{odd}\n{next}");
    for step in [1, 1000] {
        assert_eq!(texts(&cut(log.as_bytes(), step, HELD)), [odd, &next]);
    }
}

#[test]
fn what_is_between_entries_is_reported_once() {
    let one = entry("11111111", "one");
    let log = format!("garbage\n--11111111-Z--\n{one}\nmore garbage without end");
    for step in [1, 7, 1000] {
        let cut = cut(log.as_bytes(), step, HELD);
        assert_eq!(texts(&cut), [&*one], "step {step}");
        let end = (23 + one.len() + 1) as u64;
        assert_eq!(cut.foreign, [(0, 23), (end, 24)], "step {step}");
    }
}

#[test]
fn an_entry_that_was_cut_off_ends_where_the_next_begins() {
    let whole = entry("11111111", "a body");
    let next = entry("22222222", "two");
    let last = entry("33333333", "three");
    for len in 30..whole.len() - 16 {
        // As a writer leaves it whose disk is full: at any byte. The next one may then start
        // within a line, and is not seen as an entry of its own.
        let cut_off = &whole[..len];
        if !cut_off.ends_with('\n') {
            continue;
        }
        let log = format!("{cut_off}{next}\n{last}");
        for step in [50, 10_000] {
            let cut = cut(log.as_bytes(), step, HELD);
            assert_eq!(texts(&cut), [cut_off, &next, &last], "length {len}");
        }
    }
    // Of JSON, also within a string.
    let log = "{\"a\":{\"b\":\"x\n{\"c\":1}\n{\"d\n";
    let got = cut(log.as_bytes(), 3, HELD);
    assert_eq!(
        texts(&got),
        ["{\"a\":{\"b\":\"x\n", "{\"c\":1}\n", "{\"d\n"]
    );
}

#[test]
fn a_large_body_shorter_than_announced_ends_whatever_the_reading_steps() {
    let body = "x".repeat(600);
    let large = entry("11111111", &body).replace("Host: a", "Content-Length: 900");
    let next = entry("22222222", &"y".repeat(400));
    let log = format!("{large}\n{next}");
    for step in 1..64 {
        let cut = cut(log.as_bytes(), step, 100);
        assert_eq!(texts(&cut), [&*large, &next], "step {step}");
    }
}

#[test]
fn entries_written_into_each_other_are_both_found_and_flagged() {
    let first = entry("11111111", "one");
    let second = entry("22222222", "two");
    let last = entry("33333333", "three");
    let (a, b) = first.split_at(first.find("Server").unwrap());
    let (c, d) = second.split_at(second.find("--22222222-C").unwrap());
    // One within the other, and both closed in the other order.
    for (log, want) in [
        (
            format!("{a}{second}\n{b}\n{last}"),
            [format!("{a}{second}\n{b}"), second.clone(), last.clone()],
        ),
        (
            format!("{a}{c}{b}\n{d}\n{last}"),
            [format!("{a}{c}{b}"), format!("{c}{b}\n{d}"), last.clone()],
        ),
    ] {
        for step in [10, 10_000] {
            let cut = cut(log.as_bytes(), step, HELD);
            assert_eq!(texts(&cut), want, "step {step}");
            assert_eq!(flags(&cut), ["interleaved", "interleaved", ""]);
            assert_eq!(cut.foreign, []);
        }
    }
    assert_eq!(Flag::Interleaved.name(), "interleaved");
}

#[test]
fn an_entry_that_another_was_written_into_may_lack_its_end() {
    let first = entry("11111111", "one");
    let second = entry("22222222", "two");
    let (a, b) = first.split_at(first.find("Server").unwrap());
    let cut_off = b.strip_suffix("--11111111-Z--\n").unwrap();
    let (c, d) = second.split_at(second.find("--22222222-C").unwrap());
    let more = format!("{cut_off}--11111111-I--\n\n");
    for behind in [String::new(), first.clone()] {
        let log = format!("{a}{c}{more}{d}{behind}");
        for step in [10, 500, 10_000] {
            for held in [0, 512, HELD] {
                let cut = cut(log.as_bytes(), step, held);
                let inner = format!("{c}{more}{d}");
                let want = [a, &inner, &behind];
                let entries = if behind.is_empty() { 2 } else { 3 };
                assert_eq!(texts(&cut), want[..entries], "step {step}, {held} held");
                // Of an entry that is handed out as it comes nobody knows what follows.
                let tangled = flags(&cut)[..2] == ["interleaved"; 2];
                assert!(tangled || held == 0, "step {step}, {held} held");
            }
        }
    }
}

#[test]
fn an_entry_that_another_was_written_into_may_end_in_front_of_other_lines() {
    let first = entry("11111111", "one");
    let second = entry("22222222", "two");
    let (a, b) = first.split_at(first.find("Server").unwrap());
    let (c, d) = second.split_at(second.find("--22222222-C").unwrap());
    let log = format!("{a}{c}{b}Server: y\n{d}");
    for step in [10, 10_000] {
        let cut = cut(log.as_bytes(), step, HELD);
        let want = [format!("{a}{c}{b}"), format!("{c}{b}Server: y\n{d}")];
        assert_eq!(texts(&cut), want, "step {step}");
        assert_eq!(flags(&cut), ["interleaved"; 2], "step {step}");
    }
}

#[test]
fn a_large_entry_that_another_one_was_written_into_is_flagged() {
    let first = entry("11111111", "one");
    let second = entry("22222222", &"two\n".repeat(1000));
    let (a, b) = first.split_at(first.find("Server").unwrap());
    let (c, d) = second.split_at(second.find("--22222222-C").unwrap());
    let log = format!("{a}{c}{b}\n{d}");
    for step in [10, 500, 10_000] {
        let cut = cut(log.as_bytes(), step, 512);
        let places: Vec<_> = cut
            .entries
            .iter()
            .map(|(at, bytes, _)| (*at, bytes.len()))
            .collect();
        let mine = a.len() as u64;
        let want = [(0, first.len() + c.len()), (mine, log.len() - a.len())];
        assert_eq!(places, want, "step {step}: {:?}", cut.foreign);
        assert_eq!(flags(&cut), ["interleaved"; 2], "step {step}");
    }
}

#[test]
fn large_entries_come_in_parts_and_memory_stays_small() {
    let body = "0123456789abcdef".repeat(20_000);
    let large = entry("11111111", &body);
    let json = format!("{{\"a\":\"{body}\"}}\n");
    let small = entry("22222222", "two");
    let log = format!("{large}\n{small}{json}{small}");
    for step in [4000, 100_000] {
        let cut = cut(log.as_bytes(), step, 8192);
        assert_eq!(texts(&cut), [&*large, &small, &json, &small]);
    }
    let mut splitter = Splitter::new(0, 8192);
    for chunk in large.as_bytes().chunks(4096) {
        splitter.buffer().extend_from_slice(chunk);
        while splitter.next(InputState::More).is_some() {}
        assert!(splitter.buffer().len() <= 8192 + 4096);
    }
}

#[test]
fn a_large_entry_without_end_gives_back_what_it_took() {
    let mut log =
        format!("--11111111-A--\n{A}\n--11111111-B--\nPOST / HTTP/1.1\n\n--11111111-C--\n");
    log += &"x\n".repeat(10_000);
    let cut_off = log.clone();
    let entries: Vec<String> = (0..50)
        .map(|n| entry(&format!("222222{n:02}"), &"y".repeat(n * 100)))
        .collect();
    for entry in &entries {
        log += entry;
        log += "\n";
    }
    for step in [1000, 100_000] {
        let cut = cut(log.as_bytes(), step, 4096);
        assert_eq!(texts(&cut)[0], cut_off);
        assert_eq!(texts(&cut)[1..], entries, "step {step}");
    }
}

#[test]
fn a_flood_of_empty_lines_is_passed_over_at_once() {
    let flood = "\n".repeat(1 << 20);
    let json = format!("{{\"transaction\":{{\"time_stamp\":\"x\",{flood}x");
    let native = format!("{}{flood}x", entry("11111111", "one"));
    for log in [json, native] {
        let mut splitter = Splitter::new(0, 8192);
        for chunk in log.as_bytes().chunks(4096) {
            splitter.buffer().extend_from_slice(chunk);
            while splitter.next(InputState::More).is_some() {}
            assert!(splitter.buffer().len() <= 8192 + 4096);
        }
        while splitter.next(InputState::End).is_some() {}
        assert!(!splitter.is_open());
    }
}

#[test]
fn a_body_forges_no_entry_of_coraza_without_part_a() {
    let forged = "--QQQQQQQQQQ-B--\nGET / HTTP/1.1\n\n--QQQQQQQQQQ-F--\nHTTP/1.1 403\n\n";
    let real = |id: &str| {
        format!(
            "--{id}-B--\nPOST / HTTP/1.1\n\n--{id}-C--\nx\n{forged}\n--{id}-F--\nHTTP/1.1 200 OK\n\n"
        )
    };
    let (one, two) = (real("aaaaaaaaaa"), real("bbbbbbbbbb"));
    let log = format!("{one}{two}");
    for step in [7, 10_000] {
        assert_eq!(texts(&cut(log.as_bytes(), step, HELD)), [&*one, &two]);
    }
}

#[test]
fn a_request_line_like_corazas_is_no_other_entry() {
    let odd = format!(
        "--11111111-A--\n{A}\n--11111111-B--\n--QQQQQQQQQQ-A--\n\n--11111111-H--\n\n--11111111-Z--\n"
    );
    assert_eq!(texts(&cut(odd.as_bytes(), 50, HELD)), [&*odd]);
}

#[test]
fn a_quiet_log_hands_out_what_is_finished_and_keeps_the_rest() {
    let one = entry("11111111", "one");
    let mut splitter = Splitter::new(0, HELD);
    splitter.buffer().extend_from_slice(one.as_bytes());
    splitter.buffer().extend_from_slice(b"\n--22222222-A--\n[x");
    assert!(matches!(
        splitter.next(InputState::Quiet),
        Some(Piece::Entry { bytes, .. }) if bytes == one.as_bytes()
    ));
    assert!(splitter.next(InputState::Quiet).is_none());
    assert!(splitter.is_open());
    assert_eq!(splitter.position(), one.len() as u64 + 1);
    assert!(matches!(
        splitter.next(InputState::End),
        Some(Piece::Entry { .. })
    ));
    assert!(!splitter.is_open());
}

/// A body that may hold anything, also lines of the entry's own boundary.
fn body() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[ -~\n]{0,40}",
        Just("\n--11111111-Z--\n".to_owned()),
        Just("\n--11111111-H--\n".to_owned()),
        Just(format!("\n--11111111-A--\n{A}\n")),
        Just(entry("22222222", "forged")),
        Just("\n--2".to_owned()),
        Just(format!("--11111111-A--\n{A}\n")),
        Just(format!(
            "--22222222-A--\n{A}\n--22222222-B--\nGET / HTTP/1.1\n\n"
        )),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn with_their_length_in_part_b_bodies_cannot_be_told_apart_wrongly(
        bodies in prop::collection::vec(body(), 1..6),
        step in 1..400_usize,
        held in prop_oneof![Just(200_usize), Just(HELD)],
    ) {
        let entries: Vec<String> = bodies
            .iter()
            .map(|body| {
                format!(
                    "--11111111-A--\n{A}\n--11111111-B--\nPOST / HTTP/1.1\nContent-Length: {}\n\n\
                     --11111111-C--\n{body}\n--11111111-F--\nHTTP/1.1 200 OK\n\n--11111111-H--\nServer: x\n\n--11111111-Z--\n",
                    body.len()
                )
            })
            .collect();
        let log = entries.join("\n");
        let cut = cut(log.as_bytes(), step, held);
        prop_assert_eq!(texts(&cut), entries);
    }

    #[test]
    fn any_bytes_are_survived_and_every_byte_is_accounted_for(
        pieces in prop::collection::vec(
            prop_oneof![
                body().prop_map(String::into_bytes),
                prop::collection::vec(any::<u8>(), 0..30),
                Just(b"\n--11111111-C--\n".to_vec()),
                Just(b"---aB3aB3aB---A--\n[".to_vec()),
                Just(b"\n{\"a\":\"".to_vec()),
                Just(b"\"}}\n".to_vec()),
                Just(b"--abcdefghij-B--\n".to_vec()),
                Just(b"{\"transaction\":{\"time\":\"".to_vec()),
                Just(b"{\"transaction\":".to_vec()),
                Just(b"\xef\xbb\xbf".to_vec()),
                Just(b"\0\0\0".to_vec()),
            ],
            0..12,
        ),
        step in 1..100_usize,
    ) {
        let log = pieces.concat();
        let whole = cut(&log, usize::MAX / 2, HELD);
        let mut covered = vec![false; log.len()];
        for (at, bytes, _) in &whole.entries {
            let at = usize::try_from(*at).unwrap();
            prop_assert_eq!(&log[at..at + bytes.len()], &bytes[..]);
            covered[at..at + bytes.len()].fill(true);
        }
        for (at, len) in &whole.foreign {
            let (at, len) = (usize::try_from(*at).unwrap(), usize::try_from(*len).unwrap());
            covered[at..at + len].fill(true);
        }
        // A mark of an editor between entries says nothing.
        for at in (0..log.len()).filter(|at| log[*at..].starts_with(b"\xef\xbb\xbf")) {
            covered[at..at + 3].fill(true);
        }
        let tangled = whole.entries.iter().any(|(_, _, flags)| flags.contains(Flag::Interleaved));
        let lost = covered.iter().zip(&log).position(|(covered, byte)| !covered && *byte != b'\n');
        prop_assert!(tangled || lost.is_none(), "byte {:?} of {}", lost, log.escape_ascii());
        prop_assert_eq!(cut(&log, step, HELD), whole);
    }
}

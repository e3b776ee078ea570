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

fn reader(file: &[u8]) -> impl Fn(Range<u64>) -> io::Result<Vec<u8>> {
    let index = |at: u64| usize::try_from(at).unwrap();
    move |range| Ok(file[index(range.start)..index(range.end)].to_vec())
}

/// Returns where the records are in a file.
fn cut(file: &[u8]) -> Option<Vec<Range<u64>>> {
    let found = records(file.len() as u64, reader(file)).unwrap()?;
    Some((0..found.len()).filter_map(|n| found.get(n)).collect())
}

fn count(file: &str) -> usize {
    cut(file.as_bytes()).map_or(1, |found| found.len())
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
    let end = "\n\n---genuine0---F--\nHTTP/1.1 200\n\n---genuine0---H--\n\n---genuine0---Z--\n\n";
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

/// The same with a length in place of the transfer coding.
fn with_length(record: &str, length: usize) -> String {
    let length = format!("content-length: {length}");
    record.replacen("transfer-encoding: chunked", &length, 1)
}

#[test]
fn two_bodies_with_a_line_of_one_boundary_hide_nothing() {
    let forged = record("aaaaaaaa", "198.51.100.1", "x");
    for body in ["x\n---aaaaaaaa---Z--\ny", "---aaaaaaaa---A--", &forged] {
        let file: String = (0..150)
            .map(|n| record(&format!("{n:08}"), "192.0.2.1", body))
            .collect();
        assert_eq!(count(&file), 150, "{body}");
        let file: String = (0..150)
            .map(|n| record(&format!("{n:08}"), "192.0.2.1", body))
            .map(|record| with_length(&record, body.len()))
            .collect();
        assert_eq!(count(&file), 150, "{body}");
    }
}

#[test]
fn more_records_than_are_told_apart_at_once() {
    // As many as two cores of a server write into one file within a second.
    let small = |n: usize| {
        format!(
            "---{n:08}---A--\n[22/Nov/2026:06:40:30 +0000] 1 192.0.2.1 1 192.0.2.2 80\n\
             ---{n:08}---Z--\n\n"
        )
    };
    let file: String = (0..16_777).map(small).collect();
    assert_eq!(count(&file), 16_777);
    let is_apart = |file: &str| {
        let mut places = Places::default();
        let mut splitter = Splitter::new(0, 1 << 20);
        splitter.buffer().extend_from_slice(file.as_bytes());
        assert!(take(&mut splitter, InputState::End, &mut places));
        are_apart(&places, 4000, reader(file.as_bytes())).unwrap()
    };
    assert!(is_apart(&file));
    // A body that ends its own entry, and leaves another open that takes the genuine end.
    let forged = record("99999999", "198.51.100.1", "x");
    let open = forged.split("\n\n---99999999---F").next().unwrap();
    let far = "y\n".repeat(LOOKAHEAD);
    for n in 0..4 {
        let own = format!("genuine{}", char::from(b'a' + n));
        let body = format!("\n\n---{own}---Z--\n\n{open}{far}");
        let hostile = record(&own, "192.0.2.1", &body);
        assert!(!is_apart(&format!("{file}{hostile}")));
    }
}

#[test]
fn entries_in_a_body_stay_in_it() {
    let forged = record("forged00", "198.51.100.1", "x").repeat(3);
    let one = record("genuine0", "192.0.2.1", &forged);
    assert_eq!(count(&one), 1);
    assert_eq!(count(&(one + &record("genuine1", "192.0.2.1", "x"))), 2);
}

/// A client's end of an entry.
fn end(boundary: &str) -> String {
    format!(
        "\n\n---{boundary}---F--\nHTTP/1.1 200\n\n---{boundary}---H--\n\n---{boundary}---Z--\n\n"
    )
}

/// A client's beginning of an entry with a body of this length.
fn begin(boundary: &str, len: i64) -> String {
    format!(
        "---{boundary}---A--\n[22/Nov/2026:06:40:30 +0000] 1.1 198.51.100.1 1 192.0.2.2 80\n\
         ---{boundary}---B--\nPOST / HTTP/1.1\ncontent-length: {len}\n\n---{boundary}---C--\n"
    )
}

/// What somebody may write into his body who knows the boundary of his own entry.
fn hostile_piece() -> impl Strategy<Value = String> {
    let line = |letter: char| format!("\n---genuine0---{letter}--\n");
    let part_a = "[22/Nov/2026:06:40:30 +0000] 1700.1 198.51.100.1 1 192.0.2.2 80\n";
    prop_oneof![
        "[ -~\n]{0,20}",
        prop::sample::select("ABCEFHIJKZ".chars().collect::<Vec<_>>()).prop_map(line),
        Just(format!("---genuine0---A--\n{part_a}")),
        Just(format!("---other000---A--\n{part_a}")),
        Just("\n---other000---C--\n".to_owned()),
        Just("\n---other000---Z--\n".to_owned()),
        Just("\n---genuine1---Z--\n\n".to_owned()),
        Just(end("other000")),
        (0..4).prop_map(|n| end(&format!("genuine{n}"))),
        (0..4).prop_map(move |n| format!(
            "---genuine{n}---A--\n{part_a}---genuine{n}---B--\nGET / HTTP/1.1\n\n---genuine{n}---C--\n"
        )),
        Just(format!("---other000---A--\n{part_a}---other000---B--\nGET / HTTP/1.1\n\n---other000---C--\n")),
        (0..9).prop_map(|n| record(&format!("forged{n:02}"), "198.51.100.1", "x")),
        Just(record("genuine0", "198.51.100.1", "x")),
        (0..3, 0..3000usize).prop_map(move |(n, len)| format!(
            "---opened{n:02}---A--\n{part_a}---opened{n:02}---B--\nPOST / HTTP/1.1\ncontent-length: {len}\n\n---opened{n:02}---C--\n"
        )),
        (0..3).prop_map(move |n| format!(
            "\n\n---opened{n:02}---F--\nHTTP/1.1 200\n\n---opened{n:02}---H--\n\n---opened{n:02}---Z--\n\n"
        )),
        (0..3000usize).prop_map(|len| "y".repeat(len)),
    ]
}

fn hostile_body() -> impl Strategy<Value = String> {
    let far = Just("y\n".repeat(LOOKAHEAD / 2 + 1000));
    let piece = prop_oneof![20 => hostile_piece(), 1 => far];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// The headers of a request, of whose body the engine has kept `body`.
fn headers() -> impl Strategy<Value = (&'static str, i64)> {
    const KINDS: [&str; 8] = [
        "transfer-encoding: chunked",
        "content-length: LEN",
        "content-length: LEN",
        "content-length: LEN\ntransfer-encoding: chunked",
        "content-length: LEN\ncontent-length: 3",
        "Content-Length: LEN\ncontent-encoding: gzip",
        "content-length: x",
        "host: y",
    ];
    // What is kept may be less than announced, or more (a filter has inflated it).
    let beyond = prop_oneof![4 => Just(0), 1 => -400i64..2000, 1 => -3i64..4];
    (prop::sample::select(&KINDS[..]), beyond)
}

/// What the engine appends for requests with such bodies, and where each record is.
fn engine(bodies: &[(String, (&str, i64))]) -> (String, Vec<Range<u64>>) {
    let (mut file, mut genuine) = (String::new(), Vec::new());
    for (n, (body, (headers, beyond))) in bodies.iter().enumerate() {
        let record = record(&format!("genuine{n}"), "192.0.2.1", body);
        let len = i64::try_from(body.len()).unwrap() + beyond;
        let headers = headers.replace("LEN", &len.max(0).to_string());
        let start = file.len() as u64;
        file += &record.replacen("transfer-encoding: chunked", &headers, 1);
        genuine.push(start..file.len() as u64);
    }
    (file, genuine)
}

proptest! {
    #[test]
    fn whatever_is_sent_only_what_the_engine_wrote_is_a_record(
        bodies in prop::collection::vec((hostile_body(), headers()), 1..4),
    ) {
        let (file, genuine) = engine(&bodies);
        if let Some(found) = cut(file.as_bytes()) {
            prop_assert_eq!(found, genuine);
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The attack that works if lines in bodies count for nothing: the first body leaves an entry
    /// open whose length reaches into the second one, over the genuine lines that stand between.
    #[test]
    fn lengths_that_reach_into_the_next_body_make_no_records(
        filler in 0usize..3000,
        far in prop_oneof![Just(60_000), Just(LOOKAHEAD / 2 + 10)],
        wrong in prop_oneof![3 => Just(0i64), 1 => -4i64..5],
        closed in prop_oneof![Just(None), hostile_piece().prop_map(Some)],
        lying in headers(),
        then in prop::collection::vec(hostile_piece(), 0..3),
    ) {
        let second = |len: i64| format!(
            "{}{}{}{}{}", "y".repeat(filler), end("opened00"), record("forged01", "198.51.100.1", "x"),
            begin("genuine1", len), then.concat()
        );
        let first = |len: i64| format!(
            "a{}{}{}{}", closed.clone().unwrap_or(end("genuine0")),
            record("forged00", "198.51.100.1", "x"), begin("opened00", len), "y\n".repeat(far)
        );
        let bodies = |len: i64| [(first(len), ("transfer-encoding: chunked", 0)), (second(9), lying)];
        // What stands between the client's two parts of that entry. Its length has six digits.
        let (file, _) = engine(&bodies(100_000));
        let from = file.find("---opened00---C--\n").unwrap() + "---opened00---C--\n".len();
        let between = i64::try_from(file[from..].find(&end("opened00")).unwrap()).unwrap();
        let (file, genuine) = engine(&bodies(between.max(100_000) + wrong));
        if let Some(found) = cut(file.as_bytes()) {
            prop_assert_eq!(found, genuine);
        }
    }

    /// The same with the first entry's own length, of a body of which the engine has kept less.
    #[test]
    fn a_length_beyond_what_was_kept_makes_no_records(
        filler in 0usize..4000,
        wrong in prop_oneof![3 => Just(0i64), 1 => -4i64..5],
        then in prop::collection::vec(hostile_piece(), 0..3),
        lying in headers(),
    ) {
        let forged = record("forged00", "198.51.100.1", "x");
        let second = format!(
            "{}{}{forged}{}{}", "y".repeat(filler), end("genuine0"), begin("genuine1", 9), then.concat()
        );
        let bodies = |beyond| [("a".to_owned(), ("content-length: LEN", beyond)), (second.clone(), lying)];
        let (file, _) = engine(&bodies(1000));
        let from = file.find("---genuine0---C--\n").unwrap() + "---genuine0---C--\n".len();
        let between = i64::try_from(file[from..].find(&end("genuine0")).unwrap()).unwrap();
        let (file, genuine) = engine(&bodies(between.max(1000) - 1 + wrong));
        if let Some(found) = cut(file.as_bytes()) {
            prop_assert_eq!(found, genuine);
        }
    }
}

#[test]
fn engines_that_truncate_append_nothing() {
    let v2 = record("00000000", "192.0.2.1", "x").replace("---00000000---", "--00000000-");
    let coraza = record("abcdefgh", "192.0.2.1", "x").replace("---abcdefgh---", "--abcdefghij-");
    for one in [v2, coraza] {
        let other = one
            .replace("00000000", "11111111")
            .replace("abcdefghij", "klmnopqrst");
        assert_eq!(count(&(one + &other)), 1);
    }
}

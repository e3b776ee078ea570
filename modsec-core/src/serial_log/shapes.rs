//! Logs in shapes that were made to be slow to cut, for a test and a benchmark.

use std::fmt::Write as _;

/// Content of part A as ModSecurity writes it.
pub(crate) const A: &str = "[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80";
/// Content of part A as Coraza writes it: no offset from UTC.
pub(crate) const CORAZA_A: &str = "[2026/11/22 06:40:30] id 192.0.2.1 1 192.0.2.2 80";
/// Adds an entry with a number to a log.
pub(crate) type Shape = fn(&mut String, u32);

/// An ordinary way to write a log, and others that were made to be slow to cut.
pub(crate) const SHAPES: [(&str, Shape); 24] = [
    ("whole entries", |log, n| {
        let _ = write!(
            log,
            "--{n:08x}-A--\n{A}\n--{n:08x}-B--\nGET / HTTP/1.1\nHost: a\n\n--{n:08x}-F--\n\
             HTTP/1.1 403 Forbidden\n\n--{n:08x}-E--\n<html></html>\n--{n:08x}-H--\nServer: x\n\n--{n:08x}-Z--\n\n"
        );
    }),
    ("part C without an end", |log, n| {
        let _ = write!(log, "--{n:08x}-A--\n{A}\n--{n:08x}-C--\nx\n");
    }),
    ("part C without an end, one boundary", |log, _| {
        let _ = write!(log, "--00000000-A--\n{A}\n--00000000-C--\nx\n");
    }),
    ("part A alone", |log, n| {
        let _ = write!(log, "--{n:08x}-A--\n{A}\n");
    }),
    ("Coraza, part B alone", |log, n| {
        let _ = write!(log, "--{}-B--\nGET / HTTP/1.1\n\n", letters(n));
    }),
    ("Coraza, part A and H", |log, n| {
        let _ = write!(
            log,
            "--{id}-A--\n{CORAZA_A}\n--{id}-H--\nx\n",
            id = letters(n)
        );
    }),
    ("announced bodies that were cut", |log, n| {
        announced(log, n, 100_000_000);
    }),
    ("announced bodies that were cut, one boundary", |log, _| {
        announced(log, 0, 100_000_000);
    }),
    ("shorter ones with one boundary", |log, _| {
        announced(log, 0, 100_000);
    }),
    ("one entry with lengths that are wrong", |log, n| {
        if n == 0 {
            let _ = write!(
                log,
                "--00000000-A--\n{A}\n--00000000-B--\nPOST / HTTP/1.1\n\n"
            );
        }
        let _ = write!(
            log,
            "\n--00000000-B--\nG\nContent-Length: {}\n\n--00000000-C--\nx\n",
            100_000 + n
        );
    }),
    (
        "one entry with responses whose lengths are wrong",
        |log, n| {
            if n == 0 {
                let _ = write!(log, "--00000000-A--\n{A}\n--00000000-C--\nx\n");
            }
            let _ = write!(
                log,
                "\n--00000000-F--\nHTTP/1.1 200\nContent-Length: {}\n\n--00000000-E--\nx\n",
                100_000 + n
            );
        },
    ),
    ("written into each other", |log, n| {
        let _ = write!(log, "--{n:08x}-A--\n{A}\n--{n:08x}-B--\nGET / HTTP/1.1\n\n");
        if let Some(other) = n.checked_sub(1000) {
            let _ = write!(log, "\n--{other:08x}-Z--\n");
        }
    }),
    ("ends that are none", |log, n| {
        let _ = write!(
            log,
            "--{n:08x}-A--\n{A}\n--{n:08x}-C--\nx\n--{n:08x}-Z--\nno entry\n"
        );
    }),
    ("ends that are none, one boundary", |log, _| {
        let _ = write!(
            log,
            "--00000000-A--\n{A}\n--00000000-C--\nx\n--00000000-Z--\nno entry\n"
        );
    }),
    ("ends with more behind them", |log, n| {
        let _ = write!(log, "--{n:08x}-A--\n{A}\n--{n:08x}-C--\nx\n--{n:08x}-Z--\n");
        if let Some(other) = n.checked_sub(500) {
            let _ = write!(log, "\n--{other:08x}-H--\nx\n\n--{other:08x}-Z--\n");
        }
    }),
    ("first lines within lines", |log, n| {
        let _ = write!(log, "x--{n:08x}-A--\n{A}\nx");
    }),
    ("first lines within lines of a body", |log, n| {
        let _ = write!(log, "--{n:08x}-A--\n{A}\n--{n:08x}-C--\nx");
    }),
    ("cut in a body, the next one with its boundary", |log, _| {
        let _ = write!(log, "--00000000-A--\n{A}\n--00000000-C--\nx");
        later(log);
    }),
    ("more of them, the last one whole", |log, n| {
        let _ = write!(log, "--00000000-A--\n{A}\n--00000000-C--\nx");
        if n % 50 == 49 {
            later(log);
        }
    }),
    ("first lines in a body, and nothing that tells", |log, n| {
        let id = letters(n / 2);
        let id = id.get(..8).unwrap_or_default();
        let a = format!("---{id}---A--\n{A}\n---{id}---C--\nx\n");
        let _ = write!(
            log,
            "{a}{a}---{id}---F--\nHTTP/1.1 403\n\n---{id}---Z--\n\n"
        );
    }),
    ("documents within a document", |log, n| {
        let _ = write!(log, "{{\"transaction\":{{\"time\":\"{n}");
    }),
    ("cut off documents", |log, n| {
        let _ = write!(log, "{{\"n\":\"{n}\n\n\n\n");
    }),
    ("announcements of what does not come", |log, n| {
        let _ = write!(log, "{START} 100000000 {ONE} {n:032x}\nx\n");
    }),
    ("announcements of what is not so", |log, n| {
        let len = 1000 + n % 100_000;
        let _ = write!(log, "{START} {len} {ONE} {n:032x}\n--{n:08x}-A--\n{A}\n");
    }),
];

/// Begins the line that announces an entry; its length follows.
const START: &str = "# modsec-parser: the next";
/// Stands between length and hash in that line.
const ONE: &str = "bytes are one entry, entry_hash";

/// Writes an entry of a later time.
fn later(log: &mut String) {
    let a = A.replace(":30 ", ":45 ");
    let _ = write!(
        log,
        "--00000000-A--\n{a}\n--00000000-H--\nStopwatch: 1795329645000000 9 (- - -)\n\n--00000000-Z--\n\n"
    );
}

/// Writes an entry whose body is shorter than announced.
fn announced(log: &mut String, id: u32, length: u32) {
    let _ = write!(
        log,
        "--{id:08x}-A--\n{A}\n--{id:08x}-B--\nPOST / HTTP/1.1\nContent-Length: {length}\n\n\
         --{id:08x}-C--\nx\n--{id:08x}-Z--\n\n"
    );
}

/// Returns a boundary as Coraza writes it.
pub(crate) fn letters(n: u32) -> String {
    let digit = |digit: u32| char::from_digit(10 + (n >> (3 * digit) & 7), 36);
    (0..10).filter_map(digit).collect()
}

/// Returns a log of that many bytes, or a little more.
pub(crate) fn log(shape: Shape, len: usize) -> String {
    let mut log = String::new();
    let mut n = 0;
    while log.len() < len {
        shape(&mut log, n);
        n += 1;
    }
    log
}

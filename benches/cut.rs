//! Cutting logs into entries, in shapes that were made to be slow.
//!
//! The figures of one shape should be alike at every length: what they are per byte must not grow
//! with the length of the log.

use std::fmt::Write as _;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::serial_log::{Item, read};

const A: &str = "[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80";
const CORAZA_A: &str = "[2026/11/22 06:40:30] id 192.0.2.1 1 192.0.2.2 80";
const MEGABYTE: usize = 1 << 20;

/// Adds an entry with a number to a log.
type Shape = fn(&mut String, u32);

/// Ways to write a log: an ordinary one, and eight to make cutting it slow.
const SHAPES: [(&str, Shape); 9] = [
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
    ("part A alone", |log, n| {
        let _ = write!(log, "--{n:08x}-A--\n{A}\n");
    }),
    ("Coraza, part B alone", |log, n| {
        let _ = write!(log, "--{}-B--\nGET / HTTP/1.1\n\n", letters(n));
    }),
    ("Coraza, part A and H", |log, n| {
        let id = letters(n);
        let _ = write!(log, "--{id}-A--\n{CORAZA_A}\n--{id}-H--\nx\n");
    }),
    ("announced bodies that were cut", |log, n| {
        let _ = write!(
            log,
            "--{n:08x}-A--\n{A}\n--{n:08x}-B--\nPOST / HTTP/1.1\nContent-Length: 100000000\n\n\
             --{n:08x}-C--\nx\n--{n:08x}-Z--\n\n"
        );
    }),
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
    ("cut off documents", |log, n| {
        let _ = write!(log, "{{\"n\":\"{n}\n\n\n\n");
    }),
];

fn letters(n: u32) -> String {
    (0..10)
        .map(|digit| char::from(b'a' + (n >> (3 * digit) & 7) as u8))
        .collect()
}

fn log(shape: Shape, len: usize) -> String {
    let mut log = String::with_capacity(len + 1024);
    let mut n = 0;
    while log.len() < len {
        shape(&mut log, n);
        n += 1;
    }
    log
}

fn cut(log: &str) -> usize {
    let items = read(log.as_bytes()).filter_map(Result::ok);
    items
        .filter(|item| matches!(item, Item::Entry { .. }))
        .count()
}

fn shapes(criterion: &mut Criterion) {
    for (name, shape) in SHAPES {
        let mut group = criterion.benchmark_group(format!("cut/{name}"));
        group.sample_size(10);
        for len in [MEGABYTE, 4 * MEGABYTE, 16 * MEGABYTE] {
            let log = log(shape, len);
            group.throughput(Throughput::Bytes(log.len() as u64));
            let id = BenchmarkId::from_parameter(format!("{} MB", len / MEGABYTE));
            group.bench_with_input(id, &log, |bench, log| bench.iter(|| cut(log)));
        }
        group.finish();
    }
}

criterion_group!(benches, shapes);
criterion_main!(benches);

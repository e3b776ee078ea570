//! Bytes and records per second of each dialect: the native grammar on the sample tree in
//! `examples/data`, the others on the documents of real servers that the tests have.
//!
//! Counting the lines of the same bytes stands beside it as the floor: what it costs to look at
//! them at all. `decode.py` reads the same files in Python.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::cause::Analysis;
use modsec_core::format;
use modsec_core::serial_log::{InputState, Piece, Splitter};

fn entries(dir: &Path, found: &mut Vec<Vec<u8>>) {
    for entry in fs::read_dir(dir)
        .expect("the sample tree is part of the project")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            entries(&path, found);
        } else {
            found.extend(fs::read(&path));
        }
    }
}

fn decode(c: &mut Criterion) {
    for (dialect, dir) in [
        ("native v2", "../examples/data/audit"),
        ("json v2", "tests/data/json-v2/v2-json-concurrent/audit"),
        ("json v3", "tests/data/json-v3/v3-json-concurrent/audit"),
    ] {
        let mut samples = Vec::new();
        entries(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join(dir),
            &mut samples,
        );
        measure(c, dialect, &samples);
    }
}

/// Reads a serial log as the programs do, in steps of a quarter of a megabyte.
fn cut(log: &[u8]) -> usize {
    let mut splitter = Splitter::new(0, 512 * 1024);
    let mut records = 0;
    let mut steps = log.chunks(256 * 1024).peekable();
    while let Some(step) = steps.next() {
        splitter.buffer().extend_from_slice(step);
        let input = match steps.peek() {
            Some(_) => InputState::More,
            None => InputState::End,
        };
        while let Some(piece) = splitter.next(input) {
            if let Piece::Entry { bytes, .. } = piece {
                records += usize::from(format::decode(bytes).is_ok());
            }
        }
    }
    records
}

fn measure(c: &mut Criterion, dialect: &str, samples: &[Vec<u8>]) {
    let bytes: usize = samples.iter().map(Vec::len).sum();
    let mut group = c.benchmark_group(format!("decode {dialect}"));
    group.throughput(Throughput::BytesDecimal(bytes as u64));
    group.bench_function("records, by bytes", |b| {
        b.iter(|| {
            samples
                .iter()
                .filter(|entry| format::decode(black_box(entry)).is_ok())
                .count()
        });
    });
    group.bench_function("records and causes", |b| {
        let cause = |entry: &Vec<u8>| {
            let record = format::decode(black_box(entry)).ok()?;
            Analysis::of(&record).cause
        };
        b.iter(|| samples.iter().filter_map(cause).count());
    });
    let log = samples.join(&b'\n');
    group.bench_function("serial log, cut and decoded", |b| {
        b.iter(|| cut(black_box(&log)));
    });
    group.bench_function("floor: count lines", |b| {
        b.iter(|| {
            let lines = |entry: &Vec<u8>| memchr::memchr_iter(b'\n', entry).count();
            samples
                .iter()
                .map(|entry| lines(black_box(entry)))
                .sum::<usize>()
        });
    });
    group.throughput(Throughput::Elements(samples.len() as u64));
    group.bench_function("records, by number", |b| {
        b.iter(|| {
            samples
                .iter()
                .filter(|entry| format::decode(black_box(entry)).is_ok())
                .count()
        });
    });
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);

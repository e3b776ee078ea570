//! Bytes and records per second of each dialect: the native grammar on the sample tree in
//! `examples/data`, the others on the documents of real servers that the tests have.
//!
//! Counting the lines of the same bytes stands beside it as the floor: what it costs to look at
//! them at all. `decode.py` reads the same files in Python.

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::format;

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

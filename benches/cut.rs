//! Cutting logs into entries, in shapes that were made to be slow.
//!
//! The figures of one shape should be alike at every length: what they are per byte must not grow
//! with the length of the log.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::serial_log::{Item, read};

use self::shapes::{SHAPES, log};

#[path = "../modsec-core/src/serial_log/shapes.rs"]
mod shapes;

const MEGABYTE: usize = 1 << 20;

fn cut(log: &str) -> usize {
    let items = read(log.as_bytes()).filter_map(Result::ok);
    items.filter(|item| matches!(item, Item::Entry(_))).count()
}

fn cutting(criterion: &mut Criterion) {
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

criterion_group!(benches, cutting);
criterion_main!(benches);

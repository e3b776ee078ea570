//! Rows a second, with four rule matches each, in durable batches.
//!
//! `MODSEC_TEST_MYSQL_URL` adds a `MySQL` or `MariaDB` server; the rows stay in its tables.
//! `MODSEC_BENCH_DIR` is where the `SQLite` file is made (default: the directory for temporary
//! files); whether that is a real disk matters.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::store::{self, Batch, Store, StoreOptions, contract};
use tokio::runtime::Runtime;

/// Rows in a batch.
const SIZES: [usize; 2] = [1_000, 5_000];

fn insert(criterion: &mut Criterion) {
    let dir = match std::env::var_os("MODSEC_BENCH_DIR") {
        Some(dir) => tempfile::tempdir_in(dir),
        None => tempfile::tempdir(),
    }
    .expect("a directory for the SQLite file");
    let sqlite = format!("sqlite:{}", dir.path().join("logs.db").display());
    let runtime = Runtime::new().expect("a runtime");
    let mut group = criterion.benchmark_group("insert");
    group.sample_size(20);
    for url in [Some(sqlite), std::env::var("MODSEC_TEST_MYSQL_URL").ok()]
        .into_iter()
        .flatten()
    {
        let scheme = url.split(':').next().unwrap_or_default().to_owned();
        let options = StoreOptions::new(url);
        let mut store = runtime
            .block_on(store::open(&options))
            .expect("the store opens");
        // No row is the same as in an earlier run on the same server, if that was some seconds ago.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut next = usize::try_from(now.as_secs() % 10_000 * 100_000).unwrap_or_default();
        for size in SIZES {
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new(&scheme, size), |bencher| {
                bencher.iter_custom(|iterations| {
                    (0..iterations)
                        .map(|_| timed(&runtime, store.as_mut(), &mut next, size))
                        .sum()
                });
            });
        }
    }
}

fn timed(runtime: &Runtime, store: &mut dyn Store, next: &mut usize, size: usize) -> Duration {
    let rows: Vec<_> = (*next..*next + size).map(contract::row).collect();
    *next += size;
    let batch = Batch::new(Some("bench".to_owned()), rows);
    let start = Instant::now();
    let inserted = runtime
        .block_on(store.insert(&batch))
        .expect("the batch is stored");
    assert_eq!(inserted.stored, size);
    start.elapsed()
}

criterion_group!(benches, insert);
criterion_main!(benches);

//! Files per second of a whole pass: walk, read, decode, merged log, SQLite, remove, prune.
//!
//! The floor beside it reads the same files, appends them to one file, syncs that once and
//! removes the tree: what no program that does this work can go below.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::ingest::{self, Options, Silent};
use modsec_core::program::Stop;
use modsec_core::store::StoreOptions;
use tempfile::TempDir;

const FILES: usize = 3_000;

fn sample() -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/audit")];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir)
            .expect("the sample tree is part of the project")
            .flatten()
        {
            if entry.path().is_dir() {
                open.push(entry.path());
            } else {
                found.push(fs::read_to_string(entry.path()).expect("the sample is text"));
            }
        }
    }
    found
}

/// Makes a tree of entries of which none is like another.
fn tree(sample: &[String]) -> TempDir {
    let root = tempfile::tempdir().expect("a directory for the tree");
    for n in 0..FILES {
        let minute = format!("20260304-05{:02}", n % 20);
        let dir = root.path().join("audit/20260304").join(&minute);
        fs::create_dir_all(&dir).expect("a minute directory");
        let entry = &sample[n % sample.len()];
        let entry = entry.replacen("] ", &format!("] {n:06}"), 1);
        fs::write(dir.join(format!("{minute}00-{n:024}")), entry).expect("an entry");
    }
    root
}

fn options(root: &Path) -> Options {
    let store = StoreOptions::new(format!("sqlite:{}", root.join("logs.db").display()));
    let mut options = Options::default();
    options.storage_dir = Some(root.join("audit"));
    options.store = Some(store.into());
    options.merged_log = Some(root.join("merged.log"));
    options.min_age = Duration::ZERO;
    options.threads = std::thread::available_parallelism().map_or(1, usize::from);
    options
}

fn one_pass(root: &TempDir) {
    let (_handle, stop) = Stop::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let options = options(root.path());
    let tally = runtime
        .block_on(ingest::run(&options, &stop, &mut Silent))
        .expect("a pass");
    assert_eq!(tally.removed, FILES as u64);
}

fn copy_and_remove(root: &TempDir) {
    let mut out = File::create(root.path().join("merged.log")).expect("a log");
    let mut open = vec![root.path().join("audit")];
    while let Some(dir) = open.pop() {
        let paths: Vec<PathBuf> = fs::read_dir(dir)
            .expect("a directory")
            .flatten()
            .map(|entry| entry.path())
            .collect();
        for path in paths {
            if path.is_dir() {
                open.push(path);
            } else {
                out.write_all(&fs::read(path).expect("an entry"))
                    .expect("space");
            }
        }
    }
    out.sync_all().expect("a disk");
    fs::remove_dir_all(root.path().join("audit")).expect("our own tree");
}

fn pass(c: &mut Criterion) {
    let sample = sample();
    let mut group = c.benchmark_group("pass");
    group
        .throughput(Throughput::Elements(FILES as u64))
        .sample_size(10);
    group.bench_function("modsec-parser", |b| {
        b.iter_batched_ref(
            || tree(&sample),
            |root| one_pass(root),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("floor: copy and remove", |b| {
        b.iter_batched_ref(
            || tree(&sample),
            |root| copy_and_remove(root),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, pass);
criterion_main!(benches);

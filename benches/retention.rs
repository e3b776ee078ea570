//! How long a batch takes while old rows are removed, compared with how long it takes otherwise, in one
//! run: SQLite on disk, and a private `MariaDB` if there is one.
//!
//! ```text
//! cargo bench -p modsec-core --features sqlite,mysql,store-contract --bench retention
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that cannot go on has failed, and prints what it found"
)]

#[path = "../modsec-core/tests/mariadb/server.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod server;

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use modsec_core::EntryHash;
use modsec_core::store::{self, Batch, Row, Store, StoreOptions};
use modsec_core::upkeep::Retention;
use mysql_async::prelude::Queryable as _;

/// Old rows in the table for each turn.
const OLD: u64 = 4_000;
/// Batches of a turn, and rows of each.
const BATCHES: u64 = 400;
const ROWS: u64 = 20;
/// Turns of each kind.
const TURNS: u64 = 3;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn main() {
    let runtime = runtime();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let file = dir.path().join("retention.db");
    let options = StoreOptions::new(format!("sqlite:{}", file.display()));
    runtime.block_on(measure("SQLite", &options));
    runtime.block_on(async {
        let Some(server) = server::Server::start(&[]).await else {
            return;
        };
        let mut admin = server.admin().await;
        admin.query_drop("create database kept").await.unwrap();
        let mut options = StoreOptions::new(format!("{}/kept", server.url()));
        options.defaults_file = Some("/dev/null".into());
        measure("MariaDB", &options).await;
    });
}

fn batch(first: u64, rows: u64, age: TimeDelta) -> Batch {
    let row = |number: u64| {
        let mut row: Row = store::contract::row(usize::try_from(number % 1000).unwrap());
        row.entry_hash = EntryHash::of(&number.to_le_bytes());
        row.created_at = Some(Utc::now() - age);
        row
    };
    Batch::new(None, (first..first + rows).map(row).collect())
}

/// Stores batches one after the other; returns how long each took.
async fn store_batches(store: &mut dyn Store, first: u64) -> Vec<Duration> {
    let mut took = Vec::new();
    for number in 0..BATCHES {
        let batch = batch(first + number * ROWS, ROWS, TimeDelta::zero());
        let started = Instant::now();
        store.insert(&batch).await.unwrap();
        took.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    took
}

async fn measure(name: &str, options: &StoreOptions) {
    let mut store = store::open(options).await.unwrap();
    let day = Duration::from_secs(86_400);
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut removed = 0;
    let mut first = 0;
    for _ in 0..TURNS {
        for _ in 0..OLD / 200 {
            let old = batch(first, 200, TimeDelta::days(2));
            store.insert(&old).await.unwrap();
            first += 200;
        }
        alone.extend(store_batches(&mut *store, first).await);
        first += BATCHES * ROWS;
        let mut retention = Retention::open(options, day).await.unwrap();
        let work = store_batches(&mut *store, first);
        let removal = async {
            retention.round().await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            took = work => beside.extend(took),
            () = removal => {}
        }
        first += BATCHES * ROWS;
        removed += OLD - retention.round().await.unwrap().min(OLD);
    }
    let percentile = |took: &mut Vec<Duration>, share: usize| {
        took.sort_unstable();
        took[took.len() * share / 100].as_secs_f64() * 1000.0
    };
    println!("{name}: {} batches of {ROWS} rows each", alone.len());
    for share in [50, 99] {
        let (alone, beside) = (
            percentile(&mut alone, share),
            percentile(&mut beside, share),
        );
        println!(
            "  {share:>2} %: {alone:6.1} ms alone, {beside:6.1} ms while rows are removed: {:.2} times",
            beside / alone
        );
    }
    println!("  {removed} rows were removed meanwhile");
}

//! Memory of a store that is used for long. A process of its own, so that nothing else counts.
#![cfg(all(feature = "mysql", feature = "store-contract"))]
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "mariadb/server.rs"]
#[expect(dead_code, reason = "the tests of the store itself use the rest")]
mod server;

use modsec_core::store::contract::row;
use modsec_core::store::{Batch, Row, StoreOptions, open};
use mysql_async::prelude::Queryable as _;

use self::server::Server;

/// Rows of a batch: with their long texts as much as a pass stores at once.
const ROWS: usize = 100;
/// Bytes of one long text.
const LONG: usize = 8 * 1024;
/// Batches, enough to use each buffer of the driver for a large packet.
const BATCHES: usize = 40;
/// What may come on top of the first batch: twice the driver's 128 buffers of 128 KiB, since a
/// buffer that grows is doubled.
const MORE: usize = 32 * 1024 * 1024;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

/// Most memory that this process ever had in use, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    let kilobytes: usize = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kilobytes * 1024
}

fn batch(number: usize) -> Batch {
    let long = |n: usize| {
        let mut row = row(number * ROWS + n);
        for rule in &mut row.rule_matches {
            rule.detail = Some("x".repeat(LONG));
        }
        row
    };
    let rows: Vec<Row> = (0..ROWS).map(long).collect();
    Batch::new(Some("j".to_owned()), rows)
}

#[test]
fn memory_does_not_grow_with_the_number_of_batches() {
    runtime().block_on(async {
        let Some(server) = Server::start(&[]).await else {
            return;
        };
        let mut admin = server.admin().await;
        admin.query_drop("create database memory").await.unwrap();
        let mut options = StoreOptions::new(format!("{}/memory", server.url()));
        // Not the file of whoever runs the tests.
        options.defaults_file = Some("/dev/null".into());
        let mut store = open(&options).await.unwrap();
        store.insert(&batch(0)).await.unwrap();
        let first = peak();
        for number in 1..BATCHES {
            store.insert(&batch(number)).await.unwrap();
        }
        let more = peak() - first;
        assert!(
            more <= MORE,
            "{} MiB more than the {} MiB after the first batch",
            more >> 20,
            first >> 20
        );
    });
}

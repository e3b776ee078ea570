//! `recidive` and `modsec-parser` on one tree at the same time: every attack is counted once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "machine/inotify.rs"]
mod inotify;

use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use chrono::Local;
use modsec_core::ingest::{self, Silent};
use modsec_core::program::{Hangups, Lifecycle, Service, Signals, Stop};
use modsec_core::recidive::{self, LogSource};
use modsec_core::store::StoreOptions;

use self::inotify::can_follow;

const ATTACKS: u32 = 600;

/// Writes an attack by a client of its own into the directory of this minute.
fn attack(tree: &Path, n: u32) {
    let now = Local::now();
    let minute = now.format("%Y%m%d-%H%M").to_string();
    let dir = tree.join(format!("site{}/{}/{minute}", n % 3, &minute[..8]));
    let entry = format!(
        "--3fa0c41b-A--\n[{}] Zb4kQH8AAAEAAB1c{n:08} {} 40112 198.51.100.4 80\n\
         --3fa0c41b-B--\nGET / HTTP/1.1\nHost: shop.example\n\n\
         --3fa0c41b-F--\nHTTP/1.1 403 Forbidden\n\n--3fa0c41b-Z--\n",
        now.format("%d/%b/%Y:%H:%M:%S.%6f %z"),
        client(n),
    );
    let path = dir.join(format!(
        "{}-Zb4kQH8AAAEAAB1c{n:08}",
        now.format("%Y%m%d-%H%M%S")
    ));
    // The other program may remove a directory that is empty for the moment.
    while fs::write(&path, &entry).is_err() {
        fs::create_dir_all(&dir).unwrap();
    }
}

fn client(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + n)
}

fn recidive_options(dir: &Path) -> recidive::Options {
    let mut options = recidive::Options::new(dir.join("jail.log"), dir.join("state"));
    options.storage_dir = Some(dir.join("audit"));
    options.log = Some(LogSource::Merged(dir.join("merged.log")));
    options.ledger.threshold = 1;
    options.save_every = Duration::from_secs(1);
    options
}

fn ingest_options(dir: &Path) -> ingest::Options {
    let store = StoreOptions::new(format!("sqlite:{}", dir.join("modsec.db").display()));
    let mut options = ingest::Options::default();
    options.storage_dir = Some(dir.join("audit"));
    options.store = Some(store.into());
    options.merged_log = Some(dir.join("merged.log"));
    options.min_age = Duration::ZERO;
    options
}

fn clients(jail: &Path) -> Vec<String> {
    let text = fs::read_to_string(jail).unwrap_or_default();
    let client = |line: &str| line.split(" - ").next().unwrap().to_owned();
    text.lines().map(client).collect()
}

/// Passes one after the other, until all entries are stored.
fn collect(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let options = ingest_options(dir);
    let (_handle, stop) = Stop::new();
    let mut stored = 0;
    while stored < u64::from(ATTACKS) {
        let mut silent = Silent;
        let pass = ingest::run(&options, &stop, &mut silent);
        stored += runtime.block_on(pass).unwrap().stored;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_attack_is_counted_once() {
    if !can_follow() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("audit");
    fs::create_dir(&tree).unwrap();
    // What one of them took away before the other began must not be missed either.
    (0..ATTACKS / 3).for_each(|n| attack(&tree, n));
    let place = dir.path().to_owned();
    let collector = std::thread::spawn(move || collect(&place));
    let (handle, stop) = Stop::new();
    let options = recidive_options(dir.path());
    let counter = tokio::spawn(async move {
        let hangups = Hangups::never();
        let signals = Signals { stop, hangups };
        let mut lifecycle = Lifecycle::new(signals, Service::default());
        recidive::run(&options, &mut lifecycle).await
    });
    let writer = tokio::task::spawn_blocking(move || {
        (ATTACKS / 3..ATTACKS).for_each(|n| attack(&tree, n));
    });
    writer.await.unwrap();
    tokio::task::spawn_blocking(|| collector.join().unwrap())
        .await
        .unwrap();
    let jail = dir.path().join("jail.log");
    tokio::time::timeout(Duration::from_secs(60), async {
        while clients(&jail).len() < ATTACKS as usize {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    handle.stop();
    let summary = counter.await.unwrap().unwrap();
    assert_eq!(summary.tally.attacks, u64::from(ATTACKS), "{summary:?}");
    let reported = clients(&jail);
    assert_eq!(reported.len(), ATTACKS as usize, "none twice");
    let reported: HashSet<String> = reported.into_iter().collect();
    let all: HashSet<String> = (0..ATTACKS).map(|n| client(n).to_string()).collect();
    assert_eq!(reported, all);
}

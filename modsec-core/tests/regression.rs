//! What a pass must survive.

use std::cell::Cell;
use std::fs;
use std::ops::Range;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use modsec_core::format::large::Large;
use modsec_core::ingest::{self, Options, Silent};
use modsec_core::program::Stop;
use modsec_core::store::StoreOptions;

/// More than the memory that readers may reserve.
const LARGE: usize = 40;

#[test]
fn many_entries_too_large_for_memory_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = dir.path().join("inputs");
    fs::create_dir(&inputs).unwrap();
    for n in 0..LARGE {
        let body = "x".repeat(600 * 1024);
        let entry = format!(
            "--3fa0c41b-A--\n[03/Feb/2024:10:11:12 +0100] Zb4k{n} 192.0.2.10 40112 198.51.100.4 80\n\
             --3fa0c41b-C--\n{body}\n--3fa0c41b-Z--\n"
        );
        fs::write(inputs.join(format!("{n:03}")), entry).unwrap();
    }
    let store = StoreOptions::new(format!("sqlite:{}", dir.path().join("store.db").display()));
    let mut options = Options::default();
    options.inputs = vec![inputs];
    options.store = Some(store.into());
    options.threads = 2;
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        let (_handle, stop) = Stop::new();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let tally = runtime.block_on(ingest::run(&options, &stop, &mut Silent));
        sender.send(tally.unwrap().stored).unwrap();
    });
    let stored = done.recv_timeout(Duration::from_secs(60));
    assert_eq!(stored, Ok(LARGE as u64), "the pass hangs");
}

#[test]
fn parts_of_no_meaning_are_not_held() {
    let mut large = Large::open(b"--3fa0c41b-B--\n").unwrap();
    let mut entry = Vec::new();
    for letter in "BADGLMNOPQRSTUVWXYZ".chars() {
        entry.extend(
            format!("\n--3fa0c41b-{letter}--\n")
                .bytes()
                .skip(usize::from(letter == 'B')),
        );
        entry.resize(entry.len() + (1 << 20), b'x');
    }
    large.scan(&entry, 0, true);
    let range = |range: Range<u64>| {
        entry[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()].to_vec()
    };
    let held = Cell::new(0);
    large
        .finish(|wanted| {
            held.set(held.get() + wanted.end - wanted.start);
            Ok::<_, ()>(range(wanted))
        })
        .unwrap();
    assert!(held.get() < 4 << 20, "{} bytes", held.get());
}

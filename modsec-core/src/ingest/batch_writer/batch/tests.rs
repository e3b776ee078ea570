use proptest::prelude::*;

use super::*;
use crate::ingest::budget::GiveWay;
use crate::ingest::entry::IN_MEMORY;
use crate::ingest::tests::decoded;
use crate::program::Stop;
use crate::storage_dir::budgets::Budgets;

/// An entry that says of itself that it holds so much.
fn entry(row_size: usize, bytes: usize) -> DecodedEntry {
    let entry = decoded("--1a2b3c4d-A--\nx\n--1a2b3c4d-Z--\n");
    DecodedEntry {
        row_size,
        bytes: Bytes::Whole(vec![0; bytes]),
        ..entry
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]
    #[test]
    fn a_batch_to_which_nothing_is_added_once_it_is_full_keeps_its_bound(
        sizes in prop::collection::vec((0..Row::MAX_SIZE, 1..IN_MEMORY), 1..40),
    ) {
        let mut batch = Batch::default();
        for (row, bytes) in sizes {
            if batch.is_full() {
                batch = Batch::default();
            }
            batch.add(entry(row, bytes), &Arc::default(), None);
            prop_assert!(batch.held <= CAPACITY);
        }
    }
}

#[test]
fn a_batch_is_full_with_a_thousand_entries_or_files_and_with_many_descriptors() {
    let mut batch = Batch::default();
    while !batch.is_full() {
        batch.add(entry(1, 1), &Arc::default(), None);
    }
    assert_eq!(batch.entries.len(), MAX_ENTRIES);
    let mut batch = Batch::default();
    while !batch.is_full() {
        batch.end(EndedFile {
            file: None,
            dir: None,
            met: None,
            progress: Arc::default(),
            is_left: false,
        });
    }
    assert_eq!(batch.files.len(), MAX_ENTRIES);
    let mut batch = Batch::default();
    while !batch.is_full() {
        // Nothing in memory: the bytes are in a file.
        batch.add(entry(1, 0), &Arc::default(), None);
    }
    assert_eq!(batch.entries.len(), MAX_OPEN);
}

#[test]
fn owners_share_the_time_of_a_batch_by_the_size_of_their_rows() {
    let budgets = Budgets::new(64 * 1000);
    let (_handle, stop) = Stop::new();
    let way = GiveWay::new((budgets.clone(), None), &stop);
    let mut batch = Batch::default();
    for (owner, size) in [(1, 100), (2, 300), (1, 200), (3, 0)] {
        batch.add(entry(size, 1), &Arc::default(), Some(&way.of(owner)));
    }
    batch
        .charges
        .pay(Duration::from_millis(2) - Duration::from_micros(1));
    assert!(!budgets.is_over(1) && !budgets.is_over(2) && !budgets.is_over(3));
    batch.charges.pay(Duration::from_micros(4));
    assert!(budgets.is_over(1) && budgets.is_over(2) && !budgets.is_over(3));
}

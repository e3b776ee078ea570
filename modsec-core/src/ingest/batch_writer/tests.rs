use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::ingest::tests::{Fault, FaultyStore, appended, minute};
use crate::ingest::{Silent, run};
use crate::program::Stop;
use crate::store::StoreOpener;

/// A storage directory, a merged log and a store.
struct Site {
    dir: tempfile::TempDir,
    store: FaultyStore,
}

impl Site {
    fn new(faults: Vec<Fault>) -> Site {
        Site {
            dir: tempfile::tempdir().unwrap(),
            store: FaultyStore::with(faults),
        }
    }

    /// Writes a file of so many entries, numbered from `first` on.
    fn write(&self, first: usize, entries: usize) -> PathBuf {
        let path = minute(&self.dir.path().join("audit"), &first.to_string());
        let text: String = (first..first + entries).map(|n| appended(n, 9)).collect();
        fs::write(&path, text).unwrap();
        path
    }

    async fn run(&self) -> Result<Tally, IngestError> {
        let store = self.store.clone();
        let options = Options {
            storage_dir: Some(self.dir.path().join("audit")),
            store: Some(StoreOpener::new(move || {
                let store = store.clone();
                async move { Ok(store) }
            })),
            merged_log: Some(self.log()),
            min_age: Duration::ZERO,
            ..Options::default()
        };
        let (_handle, stop) = Stop::new();
        run(&options, &stop, &mut Silent).await
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn files(&self) -> usize {
        let names = fs::read_dir(self.dir.path().join("audit/20261122/20261122-0640"));
        names.map_or(0, Iterator::count)
    }
}

#[tokio::test]
async fn a_file_goes_only_if_all_of_its_entries_are_stored() {
    let site = Site::new(Vec::new());
    site.store.rows.refuse("2");
    let (several, one) = (site.write(1, 3), site.write(9, 1));
    let tally = site.run().await.unwrap();
    assert_eq!((tally.stored, tally.removed), (3, 1));
    assert_eq!(tally.defects.values().sum::<u64>(), 1);
    assert!(several.exists() && !one.exists());
    let again = site.run().await.unwrap();
    assert_eq!((again.stored, again.known, again.removed), (0, 2, 0));
    assert!(several.exists());
}

#[tokio::test]
async fn what_could_not_be_stored_stays_and_is_stored_by_the_next_run() {
    let site = Site::new(vec![Fault::Before]);
    site.write(1, 2);
    site.write(5, 1);
    assert!(matches!(site.run().await, Err(IngestError::Store(_))));
    assert_eq!((site.files(), site.store.rows.rows().len()), (2, 0));
    let tally = site.run().await.unwrap();
    assert_eq!((tally.stored, tally.removed, site.files()), (3, 2, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_the_store_does_each_entry_is_kept_once_and_its_file_goes_afterwards(
        files in prop::collection::vec(1..4_usize, 1..6),
        faults in prop::collection::vec(
            prop::sample::select(vec![Fault::None, Fault::Before, Fault::AnswerLost]), 0..4,
        ),
    ) {
        let site = Site::new(faults);
        for (n, entries) in files.iter().enumerate() {
            site.write(10 * n, *entries);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        while runtime.block_on(site.run()).is_err() {
            prop_assert!(site.files() > 0);
        }
        let entries: usize = files.iter().sum();
        prop_assert_eq!(site.files(), 0);
        prop_assert_eq!(site.store.rows.rows().len(), entries);
        let log = fs::read_to_string(site.log()).unwrap();
        prop_assert_eq!(log.matches("---A--\n").count(), entries);
    }
}

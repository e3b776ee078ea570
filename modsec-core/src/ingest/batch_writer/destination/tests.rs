use std::fs;
use std::path::Path;

use super::*;
use crate::heartbeat::Heartbeat;
use crate::ingest::entry::DecodedEntry;
use crate::ingest::progress::Progress;
use crate::ingest::tests::{Fault, FaultyStore, decoded, in_file, native};
use crate::program::Stop;
use crate::store::StoreOpener;

async fn open(store: &FaultyStore, log: Option<&Path>) -> Destination {
    open_with(store, log, &ReadSteps::default()).await
}

async fn open_with(store: &FaultyStore, log: Option<&Path>, steps: &ReadSteps) -> Destination {
    let store = store.clone();
    let opener = StoreOpener::new(move || {
        let store = store.clone();
        async move { Ok(store) }
    });
    let options = Options {
        store: Some(opener),
        merged_log: log.map(Path::to_owned),
        ..Options::default()
    };
    let destination = Destination::open(&options, steps).await;
    destination.unwrap().unwrap()
}

async fn keep(
    destination: &mut Destination,
    entries: impl IntoIterator<Item = DecodedEntry>,
) -> (Result<KeptBatch, IngestError>, Vec<Arc<Progress>>) {
    let (mut rows, mut beside, mut files) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let progress = Arc::new(Progress::default());
        files.push(Arc::clone(&progress));
        rows.push(entry.row);
        beside.push(BatchEntry {
            bytes: entry.bytes,
            flags: entry.flags,
            progress,
        });
    }
    (destination.keep(rows, beside).await, files)
}

/// Returns the ids of the entries in the log, in order.
fn ids(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('['));
    lines
        .map(|line| line.split(' ').nth(2).unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn entries_that_are_there_or_come_twice_are_stored_once() {
    let store = FaultyStore::default();
    let mut destination = open(&store, None).await;
    let (first, _) = keep(&mut destination, ["a"].map(|id| decoded(&native(id)))).await;
    assert_eq!(first.unwrap().stored, 1);
    let again = ["a", "b", "b", "c"].map(|id| decoded(&native(id)));
    let kept = keep(&mut destination, again).await.0.unwrap();
    assert_eq!((kept.stored, kept.known), (2, 2));
    assert_eq!(store.rows.rows().len(), 3);
}

#[tokio::test]
async fn a_refused_entry_and_its_twin_are_left_out_of_store_and_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let store = FaultyStore::default();
    store.rows.refuse("bad");
    let mut destination = open(&store, Some(&log)).await;
    let batch = ["a", "bad", "b", "bad"].map(|id| decoded(&native(id)));
    let (kept, files) = keep(&mut destination, batch).await;
    let kept = kept.unwrap();
    assert_eq!((kept.stored, kept.known, kept.left_out.len()), (2, 0, 2));
    assert!(kept.left_out[0].refusal.is_some());
    assert_eq!(kept.left_out[1].refusal, None);
    let stays: Vec<bool> = files.iter().map(|file| file.stays()).collect();
    assert_eq!(stays, [false, true, false, true]);
    assert_eq!(ids(&log), ["a", "b"]);
}

#[tokio::test]
async fn whatever_becomes_of_the_answer_store_and_log_have_each_entry_once() {
    use Fault::{AnswerLost, Before, None};
    for faults in [
        vec![Before],
        vec![AnswerLost],
        vec![Before, AnswerLost, Before],
        vec![None, AnswerLost, Before, Before],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let store = FaultyStore::with(faults.clone());
        let mut destination = open(&store, Some(&log)).await;
        for id in ["a", "b", "c"] {
            let batch = || [decoded(&native(id)), decoded(&native("same"))];
            while keep(&mut destination, batch()).await.0.is_err() {
                // As after a crash in every second case.
                if store.faults.lock().unwrap().len().is_multiple_of(2) {
                    drop(destination);
                    destination = open(&store, Some(&log)).await;
                } else {
                    destination.settle().await.unwrap();
                }
            }
        }
        assert_eq!(store.rows.rows().len(), 4, "{faults:?}");
        assert_eq!(ids(&log), ["a", "same", "b", "c"], "{faults:?}");
    }
}

/// An entry that takes milliseconds to read, and would be taken for several in a log.
fn large(id: &str, path: &Path) -> DecodedEntry {
    let line = "y".repeat(1 << 20) + "\n--1a2b3c4d-Z--\n";
    let body = format!("\n--1a2b3c4d-C--\n{}\n--1a2b3c4d-H", line.repeat(9));
    in_file(&native(id).replace("\n--1a2b3c4d-H", &body), path)
}

#[tokio::test]
async fn large_entries_are_left_for_the_next_start_once_a_stop_is_requested() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let store = FaultyStore::default();
    let (handle, stop) = Stop::new();
    let steps = ReadSteps::new(&Heartbeat::default(), Some(&stop));
    let mut destination = open_with(&store, Some(&log), &steps).await;
    handle.stop();
    let batch = || {
        let large = large("large", &dir.path().join("entry"));
        [decoded(&native("a")), large, decoded(&native("b"))]
    };
    let (kept, files) = keep(&mut destination, batch()).await;
    let kept = kept.unwrap();
    assert_eq!((kept.stored, kept.left_out.len()), (2, 1));
    assert!(kept.is_interrupted && files[1].stays() && !files[1].stays_for_good());
    assert_eq!(ids(&log), ["a", "b"]);
    drop(destination);
    let kept = keep(&mut open(&store, Some(&log)).await, batch()).await;
    assert_eq!(kept.0.unwrap().stored, 1);
    assert_eq!(ids(&log), ["a", "b", "large"]);
}

#[tokio::test]
async fn an_entry_that_is_left_while_it_is_appended_is_nowhere_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    for beats in [0, 10, 100, 150, 200, 300, 400] {
        let log = dir.path().join(format!("log{beats}"));
        let store = FaultyStore::default();
        let ((handle, stop), heartbeat) = (Stop::new(), Heartbeat::default());
        let steps = ReadSteps::new(&heartbeat, Some(&stop));
        let mut destination = open_with(&store, Some(&log), &steps).await;
        // The stop comes where it comes: nothing that holds depends on it.
        let stopping = std::thread::spawn(move || {
            while heartbeat.count() < beats {
                std::thread::yield_now();
            }
            handle.stop();
        });
        let large = large("large", &dir.path().join("entry"));
        let batch = [decoded(&native("a")), large, decoded(&native("b"))];
        let (kept, files) = keep(&mut destination, batch).await;
        let kept = kept.unwrap();
        let ids = ids(&log);
        if kept.is_interrupted {
            assert_eq!(
                (kept.stored, &ids[..]),
                (2, &["a", "b"].map(String::from)[..])
            );
            // What was taken back is out of the log.
            assert!(fs::metadata(&log).unwrap().len() < 1000);
        } else {
            assert_eq!((kept.stored, ids.len()), (3, 3));
        }
        assert_eq!(files[1].stays(), kept.is_interrupted);
        assert_eq!(destination.merged_log.as_ref().unwrap().pending(), None);
        stopping.join().unwrap();
    }
}

#[tokio::test]
async fn an_entry_that_changed_since_it_was_read_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let store = FaultyStore::default();
    let mut destination = open(&store, Some(&log)).await;
    let path = dir.path().join("entry");
    let changing = in_file(&native("a"), &path);
    fs::write(&path, native("A")).unwrap();
    let (kept, files) = keep(&mut destination, [changing, decoded(&native("b"))]).await;
    let kept = kept.unwrap();
    assert_eq!((kept.stored, kept.left_out.len()), (1, 1));
    assert!(files[0].stays() && !files[1].stays());
    assert_eq!(ids(&log), ["b"]);
}

#[tokio::test]
async fn an_append_that_fails_leaves_store_and_log_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let store = FaultyStore::default();
    let mut destination = open(&store, Some(&log)).await;
    let path = dir.path().join("entry");
    // The directory of the journal is gone, so that nothing can be noted.
    let entry = in_file(&native("b"), &path);
    let moved = dir.path().join("moved");
    keep(&mut destination, [decoded(&native("a"))])
        .await
        .0
        .unwrap();
    fs::create_dir(&moved).unwrap();
    fs::rename(&log, moved.join("log")).unwrap();
    fs::create_dir(&log).unwrap();
    assert!(keep(&mut destination, [entry]).await.0.is_err());
    assert_eq!(store.rows.rows().len(), 1);
    fs::remove_dir(&log).unwrap();
    fs::rename(moved.join("log"), &log).unwrap();
    destination.settle().await.unwrap();
    let again = in_file(&native("b"), &path);
    keep(&mut destination, [again]).await.0.unwrap();
    assert_eq!(store.rows.rows().len(), 2);
    assert_eq!(ids(&log), ["a", "b"]);
}

//! The merged log when others touch it too: what they wrote is never cut, and what log rotation
//! compresses and deletes holds no batch that is nowhere else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use modsec_core::merged_log::{MergedLog, MergedLogError, Recovered, Stored};

const FOREIGN: &[u8] = b"FOREIGN LINE\n";

fn log_in(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("audit.log")
}

/// An entry of which no two pages are the same.
fn entry(id: u32, size: usize) -> Vec<u8> {
    let mut entry = format!("---{id:08x}---A--\n").into_bytes();
    while entry.len() < size.max(30) {
        entry.extend_from_slice(format!("{id} {}\n", entry.len()).as_bytes());
    }
    entry.extend_from_slice(format!("---{id:08x}---Z--\n\n").as_bytes());
    entry
}

fn append(log: &mut MergedLog, batch: u8, entry: &[u8]) -> Result<(), MergedLogError> {
    let mut batch = log.begin([batch; 16])?;
    batch.append(entry)?;
    batch.finish()?.commit()
}

/// Appends a batch of one entry, and ends before it is known whether it counts.
fn interrupt(path: &Path, entry: &[u8]) {
    let mut log = MergedLog::open(path).unwrap();
    let mut batch = log.begin([2; 16]).unwrap();
    batch.append(entry).unwrap();
    drop(batch.finish().unwrap());
}

fn add(path: &Path, bytes: &[u8]) {
    let mut file = File::options().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

fn recover(path: &Path) -> Recovered {
    let mut log = MergedLog::open(path).unwrap();
    log.recover(Stored::No).unwrap().unwrap()
}

#[test]
fn a_file_that_got_the_inode_of_the_log_is_not_cut() {
    for (name, before) in [
        ("access1.log", ""),
        ("audit.log.1", ""),
        ("audit.log", ""),
        ("access1.log", "old\n"),
        ("audit.log.1", "old\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(log_in(&dir), before).unwrap();
        interrupt(&log_in(&dir), &entry(1, 5000));
        let other = dir.path().join(name);
        fs::rename(log_in(&dir), &other).unwrap();
        fs::write(&other, FOREIGN).unwrap();
        let recovered = recover(&log_in(&dir));
        assert_eq!(fs::read(&other).unwrap(), FOREIGN, "{name} {before:?}");
        let taken_back = matches!(recovered, Recovered::TakenBack(_));
        assert!(!taken_back, "{name} {before:?}: {recovered:?}");
    }
}

#[test]
fn a_log_that_was_renamed_out_of_recognition_is_not_searched_for() {
    let dir = tempfile::tempdir().unwrap();
    interrupt(&log_in(&dir), &entry(1, 5000));
    let other = dir.path().join("other.log");
    fs::rename(log_in(&dir), &other).unwrap();
    assert_eq!(recover(&log_in(&dir)), Recovered::NotFound);
    assert_eq!(fs::read(&other).unwrap(), entry(1, 5000));
}

#[test]
fn what_others_append_behind_an_interrupted_batch_stays() {
    for before in [0, 1103, 4096] {
        for size in [10, 20_000, 5_000_000] {
            let case = format!("{size} bytes behind {before}");
            let dir = tempfile::tempdir().unwrap();
            let old = vec![b'\n'; before];
            fs::write(log_in(&dir), &old).unwrap();
            interrupt(&log_in(&dir), &entry(1, size));
            add(&log_in(&dir), FOREIGN);
            let want = left_in(&log_in(&dir), before);
            assert_eq!(recover(&log_in(&dir)), want, "{case}");
            let whole = [old, entry(1, size), FOREIGN.to_vec()].concat();
            assert!(fs::read(log_in(&dir)).unwrap() == whole, "{case}");
            let mut log = MergedLog::open(log_in(&dir)).unwrap();
            assert_eq!(log.pending(), None, "{case}");
            append(&mut log, 3, &entry(1, size)).unwrap();
        }
    }
}

fn left_in(path: &Path, offset: usize) -> Recovered {
    let (path, offset) = (path.to_owned(), offset as u64);
    Recovered::LeftIn { path, offset }
}

#[test]
fn a_part_of_a_batch_is_taken_back_unless_others_appended_behind_it() {
    // Of the larger batch, the first piece is on disk before the second is noted.
    let cases = [
        (1_000_000, [0, 4096, 8192, 256 * 1024, 999_424]),
        (
            5_000_000,
            [4_198_400, 4_202_496, 4_206_592, 4_456_448, 4_997_120],
        ),
    ];
    let cases = cases.map(|(size, ends)| ends.map(|end| (size, end)));
    for (size, end) in cases.into_iter().flatten() {
        for (before, foreign) in [(0, b"".as_slice()), (0, b"x"), (1103, b""), (1103, FOREIGN)] {
            let case = format!("{size} cut to {end}, {before} before, {foreign:?} behind");
            let dir = tempfile::tempdir().unwrap();
            let old = vec![b'\n'; before];
            fs::write(log_in(&dir), &old).unwrap();
            interrupt(&log_in(&dir), &entry(1, size));
            let log = File::options().write(true).open(log_in(&dir)).unwrap();
            log.set_len(end.max(before) as u64).unwrap();
            add(&log_in(&dir), foreign);
            let whole = fs::read(log_in(&dir)).unwrap();
            let recovered = recover(&log_in(&dir));
            let found = fs::read(log_in(&dir)).unwrap();
            if foreign.is_empty() {
                let taken_back = matches!(recovered, Recovered::TakenBack(_));
                assert!(taken_back, "{case}: {recovered:?}");
                assert!(found == old, "{case}");
            } else {
                assert_eq!(recovered, left_in(&log_in(&dir), before), "{case}");
                assert!(found == whole, "{case}");
            }
        }
    }
}

#[test]
fn a_journal_of_an_earlier_version_proves_only_the_batch_s_first_bytes() {
    for (size, behind, is_taken_back) in [
        (3000, b"".as_slice(), true),
        (3000, FOREIGN, false),
        (20_000, b"", false),
        (20_000, FOREIGN, false),
    ] {
        let case = format!("{size} bytes and {}", behind.len());
        let dir = tempfile::tempdir().unwrap();
        fs::write(log_in(&dir), "old\n").unwrap();
        interrupt(&log_in(&dir), &entry(1, size));
        add(&log_in(&dir), behind);
        let journal = File::options()
            .write(true)
            .open(dir.path().join("audit.log.journal"))
            .unwrap();
        journal.set_len(1024).unwrap();
        let whole = fs::read(log_in(&dir)).unwrap();
        let recovered = recover(&log_in(&dir));
        let found = fs::read(log_in(&dir)).unwrap();
        if is_taken_back {
            assert!(matches!(recovered, Recovered::TakenBack(_)), "{case}");
            assert_eq!(found, b"old\n", "{case}");
        } else {
            assert_eq!(recovered, left_in(&log_in(&dir), 4), "{case}");
            assert_eq!(found, whole, "{case}");
        }
    }
}

#[test]
fn what_others_append_while_a_batch_is_under_way_stays() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    let mut batch = log.begin([1; 16]).unwrap();
    batch.append(&entry(1, 1000)).unwrap();
    add(&log_in(&dir), FOREIGN);
    let appended = batch.finish().unwrap();
    add(&log_in(&dir), FOREIGN);
    appended.commit().unwrap();
    let whole = [FOREIGN, &entry(1, 1000), FOREIGN].concat();
    assert_eq!(fs::read(log_in(&dir)).unwrap(), whole);

    let mut batch = log.begin([2; 16]).unwrap();
    batch.append(&entry(2, 1000)).unwrap();
    let appended = batch.finish().unwrap();
    add(&log_in(&dir), FOREIGN);
    let error = appended.rollback().unwrap_err();
    assert!(matches!(error, MergedLogError::Undo { .. }), "{error}");
    let want = left_in(&log_in(&dir), whole.len());
    assert_eq!(log.recover(Stored::No).unwrap(), Some(want));
    let whole = [&whole, &entry(2, 1000)[..], FOREIGN].concat();
    assert_eq!(fs::read(log_in(&dir)).unwrap(), whole);
}

#[test]
fn a_batch_that_others_split_is_not_taken_for_whole() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    let mut batch = log.begin([1; 16]).unwrap();
    batch.append(&entry(1, 5_000_000)).unwrap();
    add(&log_in(&dir), FOREIGN);
    let error = batch.finish().unwrap_err();
    assert!(matches!(error, MergedLogError::Undo { .. }), "{error}");
    assert!(fs::read(log_in(&dir)).unwrap().ends_with(FOREIGN));
    let want = left_in(&log_in(&dir), 0);
    assert_eq!(log.recover(Stored::No).unwrap(), Some(want));
    append(&mut log, 2, &entry(1, 10)).unwrap();
}

/// Renames the log, and perhaps deletes it then, as if it had been compressed.
fn rotate(dir: &Path, is_deleted: bool) {
    fs::rename(dir.join("audit.log"), dir.join("audit.log.1")).unwrap();
    File::create(dir.join("audit.log")).unwrap();
    if is_deleted {
        fs::remove_file(dir.join("audit.log.1")).unwrap();
    }
}

#[test]
fn a_batch_is_not_written_to_a_log_that_was_renamed_since_it_began() {
    for is_deleted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(log_in(&dir), "half a line").unwrap();
        let mut log = MergedLog::open(log_in(&dir)).unwrap();
        let mut batch = log.begin([1; 16]).unwrap();
        batch.append(&entry(1, 1000)).unwrap();
        rotate(dir.path(), is_deleted);
        batch.finish().unwrap().commit().unwrap();
        assert_eq!(fs::read(log_in(&dir)).unwrap(), entry(1, 1000));
        let old = fs::read_to_string(dir.path().join("audit.log.1"));
        assert!(old.is_err() || old.unwrap() == "half a line");
    }
}

#[test]
fn a_batch_that_renaming_has_hit_is_taken_back_and_can_be_appended_again() {
    for is_deleted in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(log_in(&dir), "old\n").unwrap();
        let mut log = MergedLog::open(log_in(&dir)).unwrap();
        let mut batch = log.begin([1; 16]).unwrap();
        batch.append(&entry(1, 5_000_000)).unwrap();
        rotate(dir.path(), is_deleted);
        let error = batch.finish().unwrap_err();
        assert!(matches!(error, MergedLogError::Rotated { .. }), "{error}");
        append(&mut log, 2, &entry(1, 5_000_000)).unwrap();
        assert_eq!(fs::read(log_in(&dir)).unwrap(), entry(1, 5_000_000));
        let old = fs::read_to_string(dir.path().join("audit.log.1"));
        assert!(old.is_err() || old.unwrap() == "old\n");
    }
}

#[test]
fn a_batch_that_was_whole_before_the_log_was_deleted_is_not_appended_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = MergedLog::open(log_in(&dir)).unwrap();
    let mut batch = log.begin([1; 16]).unwrap();
    batch.append(&entry(1, 1000)).unwrap();
    let appended = batch.finish().unwrap();
    rotate(dir.path(), false);
    // Whoever compresses it now finds the batch in there.
    let compressed = fs::read(dir.path().join("audit.log.1")).unwrap();
    fs::remove_file(dir.path().join("audit.log.1")).unwrap();
    appended.commit().unwrap();
    assert_eq!(compressed, entry(1, 1000));
    assert_eq!(fs::read(log_in(&dir)).unwrap(), b"");
}

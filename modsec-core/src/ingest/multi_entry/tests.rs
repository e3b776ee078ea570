use std::fs;

use proptest::prelude::*;

use super::*;
use crate::ingest::Options;
use crate::ingest::entry::Bytes;
use crate::ingest::progress::LeftOff;
use crate::ingest::tests::appended;
use crate::read_steps::ReadSteps;
use crate::storage_dir::StorageDir;
use crate::store::Row;

fn read_text(
    text: &str,
    if_cut: CutEntries,
    left_off: Option<Arc<Progress>>,
) -> Result<FileEntries, NoEntry> {
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let decoder = Arc::new(EntryDecoder::new(&Options::default(), ReadSteps::default()));
    let (size, origin) = (text.len() as u64, Origin::default());
    super::read(file, size, origin, if_cut, &decoder, left_off)
}

fn rows(entries: FileEntries) -> Vec<(Row, u64)> {
    let row = |entry: DecodedEntry| (entry.row, entry.bytes.len());
    match entries {
        FileEntries::One(entry) => vec![row(*entry)],
        FileEntries::Several(several) => several.map(|entry| row(entry.unwrap())).collect(),
    }
}

fn several(text: &str) -> MultiEntry {
    match read_text(text, CutEntries::Wait, None).unwrap() {
        FileEntries::Several(several) => several,
        FileEntries::One(entry) => panic!("one: {entry:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Each is read from memory, from a window of a larger file, or in windows itself.
    #[test]
    fn entries_of_one_file_are_what_they_would_be_in_files_of_their_own(
        bodies in prop::collection::vec(prop_oneof![0..5000_usize, 400_000..700_000_usize], 2..5),
    ) {
        let bodies = bodies.into_iter().enumerate();
        let entries: Vec<String> = bodies.map(|(n, len)| appended(n, len)).collect();
        let alone = entries.iter().flat_map(|entry| {
            rows(read_text(entry, CutEntries::Wait, None).unwrap())
        });
        let alone: Vec<_> = alone.collect();
        let together = rows(FileEntries::Several(several(&entries.concat())));
        prop_assert_eq!(together, alone);
    }
}

#[test]
fn an_entry_is_held_in_memory_up_to_the_same_size_wherever_it_stands() {
    let text = appended(0, 10) + &appended(1, IN_MEMORY) + &appended(2, IN_MEMORY / 2);
    let held = several(&text).map(|entry| matches!(entry.unwrap().bytes, Bytes::Whole(_)));
    assert_eq!(held.collect::<Vec<_>>(), [true, false, true]);
}

#[test]
fn a_file_whose_last_document_is_not_finished_waits_until_nothing_more_comes() {
    let document = |n: usize| {
        format!(
            "{{\"transaction\":{{\"client_ip\":\"192.0.2.1\",\"request\":{{\"uri\":\"/{n}\"}}}}}}\n"
        )
    };
    let whole: String = (0..3).map(document).collect();
    assert_eq!(
        rows(read_text(&whole, CutEntries::Wait, None).unwrap()).len(),
        3
    );
    let cut = &whole[..whole.len() - 10];
    let waits = read_text(cut, CutEntries::Wait, None);
    assert!(matches!(waits, Err(NoEntry::Incomplete)), "{waits:?}");
    assert!(read_text(cut, CutEntries::Take, None).is_ok());
}

#[test]
fn a_file_is_gone_on_with_where_it_was_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = crate::ingest::tests::minute(dir.path(), "x");
    fs::write(&path, "x").unwrap();
    let storage = StorageDir::open(dir.path()).unwrap();
    let file = storage.walk().flat_map(|dir| dir.files()).next().unwrap();
    let identity = file.open(9).unwrap().identity();
    let text: String = (0..5).map(|n| appended(n, 3)).collect();
    let (mut first, left_off) = (several(&text), LeftOff::default());
    let taken: Vec<_> = first.by_ref().take(2).collect();
    assert_eq!((taken.len(), first.is_within()), (2, Some(2)));
    assert_eq!(left_off.remember(7, identity, &first.progress, 2), 2);
    let progress = left_off.recall(7, &identity);
    assert!(progress.is_some() && left_off.recall(8, &identity).is_none());
    let rest = read_text(&text, CutEntries::Wait, progress).unwrap();
    let rest: Vec<_> = rows(rest)
        .into_iter()
        .map(|(row, _)| row.unique_id.unwrap())
        .collect();
    assert_eq!(rest, ["2", "3", "4"]);
    left_off.forget(7, &identity);
    assert!(left_off.recall(7, &identity).is_none());
}

//! Any bytes as a native entry: no panic, nothing lost, and what is written is read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::format::{self, native};
use modsec_core::record::Flag;

fuzz_target!(|bytes: &[u8]| {
    let Ok(entry) = native::Entry::parse(bytes) else {
        assert!(format::detect(bytes).is_none());
        return;
    };
    let mut at = 0;
    for part in entry.parts() {
        assert_eq!(part.offset, at, "parts follow each other");
        assert_eq!(part.bytes, &bytes[at..at + part.bytes.len()]);
        at += part.bytes.len();
    }
    assert_eq!(at, bytes.len(), "parts cover the entry");

    let record = entry.record();
    // Without part A, Coraza writes no part Z either.
    let without_z = entry.boundary().dialect() == native::Dialect::Coraza
        && entry.parts().next().is_some_and(|part| part.letter != 'A');
    if !format::is_complete(bytes) && !without_z {
        assert!(record.flags.contains(Flag::Truncated), "only part Z ends an entry");
    }
    assert_eq!(in_windows(bytes), entry_layout(bytes), "windows find what one look finds");
    if let Some(rendered) = native::render(&record, entry.boundary()) {
        let mut again = format::decode(&rendered).expect("a rendered entry is an entry");
        // Lines with keys that no engine writes have no place of their own in part H.
        let mut record = record.clone();
        record.engine.other.clear();
        again.engine.other.clear();
        assert_eq!(again, record);
    }
});

fn entry_layout(bytes: &[u8]) -> native::Layout {
    let mut outline = native::Outline::open(bytes).expect("parsed before");
    outline.scan(bytes, 0, true);
    outline.layout(|range| bytes[range.start as usize..range.end as usize].into())
}

fn in_windows(bytes: &[u8]) -> native::Layout {
    let mut outline = native::Outline::open(bytes).expect("parsed before");
    let mut offset = 0;
    loop {
        let end = bytes.len().min(offset + native::Outline::OVERLAP + 7);
        outline.scan(&bytes[offset..end], offset as u64, end == bytes.len());
        if end == bytes.len() {
            return outline.layout(|range| bytes[range.start as usize..range.end as usize].into());
        }
        offset = end - native::Outline::OVERLAP;
    }
}

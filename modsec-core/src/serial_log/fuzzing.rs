//! What a fuzz target calls and nobody else.
//!
//! Only there with `--cfg fuzzing`, and no part of the interface.

use std::ops::Range;

/// Returns where the records are in a file, if there are several.
pub fn records(file: &[u8]) -> Option<Vec<Range<u64>>> {
    let read = |range: Range<u64>| {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        Ok(file
            .get(index(range.start)..index(range.end))
            .unwrap_or_default()
            .to_vec())
    };
    let found = super::appended::records(file.len() as u64, read).unwrap_or_default()?;
    Some((0..found.len()).filter_map(|n| found.get(n)).collect())
}

//! The rows of a file to which libmodsecurity has appended several records.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use super::read::{self, CutEntries, Extent, NoRow, ReadRow};
use super::rows::Rows as RowMaker;
use crate::format::Defect;
use crate::heart::Heart;
use crate::record::Flags;
use crate::store::Origin;

/// The entries of a file, which are decoded one at a time: all rows of one file would fill the
/// memory.
#[derive(Debug)]
pub(super) struct Several {
    pub(super) held: Held,
    pub(super) entries: Vec<Range<u64>>,
    /// How many were handed out.
    pub(super) taken: usize,
    pub(super) origin: Origin,
    pub(super) if_cut: CutEntries,
    pub(super) make: RowMaker,
    pub(super) heart: Heart,
}

/// Where the bytes are.
#[derive(Debug)]
pub(super) enum Held {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Several {
    /// Decodes all entries once, and shows the rows to `seen`. An entry that is none harms only
    /// itself, and is returned; one that is not finished, or cannot be read, is waited for.
    pub(super) fn check(&self, mut seen: impl FnMut(&ReadRow)) -> Result<Option<Defect>, NoRow> {
        let mut defect = None;
        for entry in &self.entries {
            match self.decode(entry) {
                Ok(row) => seen(&row),
                Err(NoRow::Defect(found)) => defect = Some(found),
                Err(wait) => return Err(wait),
            }
        }
        Ok(defect)
    }

    fn decode(&self, entry: &Range<u64>) -> Result<ReadRow, NoRow> {
        let (origin, if_cut) = (self.origin.clone(), self.if_cut);
        match &self.held {
            Held::Memory(bytes) => {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                let entry = bytes.get(index(entry.start)..index(entry.end));
                let entry = entry.unwrap_or_default().to_vec();
                read::row(entry, Flags::none(), origin, if_cut, &self.make)
            }
            Held::File(file) => {
                let extent = Extent {
                    file: Arc::clone(file),
                    start: entry.start,
                    len: entry.end - entry.start,
                    flags: Flags::none(),
                };
                read::large_row(extent, origin, if_cut, &self.make, &self.heart)
            }
        }
    }
}

impl Iterator for Several {
    type Item = Result<ReadRow, NoRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.decode(self.entries.get(self.taken)?);
        self.taken += 1;
        Some(row)
    }
}

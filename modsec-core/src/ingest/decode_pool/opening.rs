//! Opening files, and first looks at what was opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::ingest::decoder::EntryDecoder;
use crate::ingest::entry::{CutEntries, Skipped};
use crate::ingest::index::{Fate, Wanted};
use crate::ingest::open_dir::OpenDir;
use crate::ingest::source::Uid;
use crate::ingest::unopened::Ages;
use crate::storage_dir::{EntryFile, MAX_ENTRY_BYTES, OpenEntry, ReadEntry, Reason, Refusal};
use crate::store::Origin;

/// A file that was opened and may be read.
pub(super) struct OpenFile {
    /// The opened file. It is read by this handle, never by its path again.
    pub(super) file: File,
    /// Bytes.
    pub(super) size: u64,
    /// Sensor, account and path of the rows.
    pub(super) origin: Origin,
    /// What to do if the last entry has no end.
    ///
    /// Files of the storage directory that were changed within `stale_after` are waited for; inputs
    /// and files that the index names are taken as they are.
    pub(super) if_cut: CutEntries,
    /// How to remove it; `None` for an input.
    pub(super) entry: Option<ReadEntry>,
    /// Whether it was there before the pass began.
    pub(super) is_old: bool,
    /// What the index says about it, if that led to it.
    pub(super) wanted: Option<Wanted>,
    /// The owner, who pays for the time.
    pub(super) uid: Uid,
}

/// Opens files.
pub(super) struct Opener {
    /// From which age on a file is taken.
    pub(super) ages: Ages,
    /// Knows sensor and names of accounts.
    pub(super) decoder: Arc<EntryDecoder>,
}

impl Opener {
    /// Opens a file of the storage directory.
    pub(super) fn entry(&self, entry: EntryFile, path: PathBuf) -> Result<OpenFile, Skipped> {
        let claimed = entry.is_claimed();
        let open = entry.open(MAX_ENTRY_BYTES).map_err(Skipped::Refused)?;
        let age = self.ages.of(open.changed());
        if age < self.ages.min && !claimed {
            return Err(Skipped::Young);
        }
        let if_cut = if age < self.ages.stale {
            CutEntries::Wait
        } else {
            CutEntries::Take
        };
        let is_old = open.changed() < self.ages.now;
        let file = self.opened(open, path, if_cut, None)?;
        Ok(OpenFile { is_old, ..file })
    }

    /// Opens a file that the index names, if it has the size that it should have.
    pub(super) fn indexed(
        &self,
        wanted: Wanted,
        found: Result<(EntryFile, Arc<OpenDir>), Refusal>,
    ) -> Result<OpenFile, Skipped> {
        let refused = |refusal: Refusal| match refusal.reason {
            Reason::Vanished => unlike(&wanted, Fate::Gone),
            _ => unlike(&wanted, Fate::Differs),
        };
        let (entry, _) = found.map_err(refused)?;
        let path = entry.path();
        let open = entry.open(MAX_ENTRY_BYTES).map_err(refused)?;
        let mut sizes = wanted.digests.iter().map(|digest| digest.size);
        if !sizes.any(|size| size == open.size()) {
            let is_young = self.ages.of(open.changed()) < self.ages.min;
            let fate = if is_young {
                Fate::Changing
            } else {
                Fate::Differs
            };
            return Err(unlike(&wanted, fate));
        }
        // The index says that it is complete, whatever it looks like.
        self.opened(open, path, CutEntries::Take, Some(wanted))
    }

    /// Makes the description of an opened file. It counts as old; [`Opener::entry`] decides
    /// otherwise if need be.
    ///
    /// # Errors
    ///
    /// [`Skipped::Unusable`] if the descriptor cannot be duplicated, as at the limit of open files.
    fn opened(
        &self,
        open: OpenEntry,
        path: PathBuf,
        if_cut: CutEntries,
        wanted: Option<Wanted>,
    ) -> Result<OpenFile, Skipped> {
        Ok(OpenFile {
            file: open.file().try_clone().map_err(Skipped::Unusable)?,
            size: open.size(),
            origin: self.decoder.origin(open.uid(), path),
            if_cut,
            uid: open.uid(),
            entry: Some(open.close()),
            is_old: true,
            wanted,
        })
    }

    /// Takes an input that was opened before.
    pub(super) fn input(&self, path: &Path, file: File) -> io::Result<OpenFile> {
        let meta = file.metadata()?;
        Ok(OpenFile {
            file,
            size: meta.len(),
            origin: self.decoder.origin(meta.uid(), path.to_owned()),
            if_cut: CutEntries::Take,
            entry: None,
            is_old: true,
            wanted: None,
            uid: meta.uid(),
        })
    }
}

/// Returns that what is at the place that the index names is not what it says.
pub(super) fn unlike(wanted: &Wanted, fate: Fate) -> Skipped {
    Skipped::Unlike(Arc::clone(&wanted.file), fate)
}

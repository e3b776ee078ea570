//! From the bytes of an entry to its row.

use std::path::PathBuf;
use std::thread;

use super::entry::{Bytes, CutEntries, DecodedEntry, Extent, IN_MEMORY, NoEntry, Skipped};
use super::large_entry::{self, read_range};
use super::{AccountNames, Options};
use crate::entry_hash::EntryHash;
use crate::format::{self, Among};
use crate::json;
use crate::log_reader::Taken;
use crate::read_steps::ReadSteps;
use crate::record::{Flag, Flags, Record, TrustedProxies};
use crate::store::{Origin, Row};

/// Decodes entries, and makes their rows, and JSON lines if those are wanted.
#[derive(Debug, Clone)]
pub(super) struct EntryDecoder {
    /// The name of the sensor that each row gets; `None` if none is configured.
    sensor: Option<String>,
    /// Proxies whose `X-Forwarded-For` is believed.
    proxies: TrustedProxies,
    /// Translates user ids to names of accounts.
    accounts: AccountNames,
    /// Whether each entry gets its line of JSON.
    pub(super) json: bool,
    /// Receives a step for each window of a large entry; ends its reading at a stop.
    pub(super) steps: ReadSteps,
}

impl EntryDecoder {
    /// Reports each window of a large entry to `steps`.
    pub(super) fn new(options: &Options, steps: ReadSteps) -> EntryDecoder {
        EntryDecoder {
            sensor: options.sensor.clone(),
            proxies: options.proxies.clone(),
            accounts: options.accounts.clone(),
            json: options.json_lines,
            steps,
        }
    }

    /// Returns where an entry was found that belongs to user id `uid`.
    pub(super) fn origin(&self, uid: u32, path: PathBuf) -> Origin {
        Origin {
            sensor: self.sensor.clone(),
            account: Some((self.accounts.0)(uid)),
            path: Some(path),
        }
    }

    /// Decodes an entry that is in memory; `flags` is what is odd about the place where it stood,
    /// `among` what else may stand there.
    ///
    /// # Errors
    ///
    /// [`NoEntry::Defect`], or [`NoEntry::Incomplete`] if more is to be waited for.
    pub(super) fn decode(
        &self,
        mut bytes: Vec<u8>,
        flags: Flags,
        origin: &Origin,
        if_cut: CutEntries,
        among: Among,
    ) -> Result<DecodedEntry, NoEntry> {
        let is_open = if_cut == CutEntries::Wait && !format::is_complete(&bytes);
        let is_line = bytes.last() == Some(&b'\n');
        // The line feed behind a document is not there in every log.
        while bytes.first() == Some(&b'{') && bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let record = format::decode_among(&bytes, among).map_err(|defect| match defect {
            defect if is_line => NoEntry::Defect(defect),
            defect => if_cut.defect(defect, &bytes),
        })?;
        if is_open {
            return Err(NoEntry::Incomplete);
        }
        let mut entry = self.entry(record, flags, EntryHash::of(&bytes), origin);
        entry.bytes = Bytes::Whole(bytes);
        Ok(entry)
    }

    /// Decodes an entry that is in a file, whatever its size.
    ///
    /// # Errors
    ///
    /// As for [`EntryDecoder::decode`]; [`NoEntry::Io`] for what the system said.
    pub(super) fn decode_extent(
        &self,
        extent: Extent,
        origin: &Origin,
        if_cut: CutEntries,
        among: Among,
    ) -> Result<DecodedEntry, NoEntry> {
        if extent.len <= IN_MEMORY as u64 {
            let bytes = read_range(&extent.file, extent.start..extent.start + extent.len)?;
            return self.decode(bytes, extent.flags, origin, if_cut, among);
        }
        // In a thread of its own, which ends: of what a thread has freed, the allocator keeps a few
        // megabytes for it, and would do so for each thread that comes here.
        thread::scope(|scope| {
            let decoding = thread::Builder::new()
                .name("read-large".to_owned())
                .spawn_scoped(scope, || self.decode_large(extent, origin, if_cut, among))?;
            decoding
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Decodes what was found in a log.
    ///
    /// # Errors
    ///
    /// [`Skipped::Unrecognized`] if it is no entry, or [`Skipped::NoEntry`].
    pub(super) fn decode_taken(
        &self,
        taken: Taken,
        origin: &Origin,
    ) -> Result<DecodedEntry, Skipped> {
        Ok(match taken {
            Taken::Whole(bytes, flags) => {
                self.decode(bytes, flags, origin, CutEntries::Take, Among::Others)?
            }
            Taken::Large(extent) => {
                self.decode_extent(extent, origin, CutEntries::Take, Among::Others)?
            }
            Taken::Unrecognized { at, line } => return Err(Skipped::Unrecognized { at, line }),
        })
    }

    /// Decodes an entry of more than [`IN_MEMORY`] bytes from excerpts, in windows. Its bytes stay
    /// in the file.
    ///
    /// # Errors
    ///
    /// As for [`EntryDecoder::decode_extent`].
    fn decode_large(
        &self,
        mut extent: Extent,
        origin: &Origin,
        if_cut: CutEntries,
        among: Among,
    ) -> Result<DecodedEntry, NoEntry> {
        let byte = |at: u64| read_range(&extent.file, at..at + 1);
        // The line feed behind a document is not there in every log.
        if byte(extent.start)? == b"{" && byte(extent.start + extent.len - 1)? == b"\n" {
            extent.len -= 1;
        }
        let (excerpts, hash) = large_entry::read(&extent, if_cut, among, &self.steps)?;
        let record = excerpts.record();
        if record.flags.contains(Flag::Truncated) && if_cut == CutEntries::Wait {
            return Err(NoEntry::Incomplete);
        }
        let mut entry = self.entry(record, extent.flags, hash, origin);
        entry.bytes = Bytes::InFile(extent);
        Ok(entry)
    }

    /// Makes an entry, for now without its bytes.
    fn entry(
        &self,
        mut record: Record<'_>,
        flags: Flags,
        hash: EntryHash,
        origin: &Origin,
    ) -> DecodedEntry {
        if flags.contains(Flag::Interleaved) {
            record.mark_interleaved();
        }
        let row = Row::new(&record, hash, origin, self.proxies.client(&record));
        DecodedEntry {
            json: self.json.then(|| json::line(&record, &row)),
            row_size: row.size(),
            row,
            flags: record.flags,
            bytes: Bytes::Whole(Vec::new()),
        }
    }
}

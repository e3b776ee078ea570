//! A batch on its way into the merged log, and one that a crash interrupted there.

use std::time::SystemTime;

use tracing::{info, warn};

use super::Item;
use crate::entry_hash::EntryHash;
use crate::heartbeat::Heartbeat;
use crate::ingest::IngestError;
use crate::ingest::read::{Bytes, Rereading};
use crate::merged_log::{Appended, MergedLog, MergedLogError, Recovered, Stored};
use crate::store::{BatchId, Store};

/// Appends a batch and syncs. The inner error are the entries that changed since they were read.
pub(super) fn append<'l>(
    log: &'l mut MergedLog,
    id: BatchId,
    fresh: &[Item],
    heartbeat: &Heartbeat,
) -> Result<Result<Appended<'l>, Vec<EntryHash>>, MergedLogError> {
    let mut changed = Vec::new();
    let mut batch = log.begin(*id.as_bytes())?;
    for item in fresh {
        heartbeat.beat();
        match &item.bytes {
            Bytes::Whole(bytes) => batch.append_hashed(bytes, item.hash, item.flags)?,
            Bytes::InFile(extent) => {
                let open = || Rereading::new(extent, heartbeat);
                if !batch.append_from(item.hash, item.flags, open)? {
                    changed.push(item.hash);
                }
            }
        }
    }
    if !changed.is_empty() {
        batch.rollback()?;
        return Ok(Err(changed));
    }
    batch.finish().map(Ok)
}

/// Names a batch like no other, even if the same entries come again.
pub(super) fn batch_id(fresh: &[Item]) -> BatchId {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let salt = EntryHash::of(format!("{} {}", now.as_nanos(), std::process::id()).as_bytes());
    BatchId::of(std::iter::once(salt).chain(fresh.iter().map(|item| item.hash)))
}

/// Asks the store about the batch that was under way when an earlier run ended.
pub(super) async fn recover(log: &mut MergedLog, store: &mut dyn Store) -> Result<(), IngestError> {
    let Some(pending) = log.pending() else {
        return Ok(());
    };
    let last = store.last_batch(log.id()).await?;
    let stored = if last == Some(BatchId::from_bytes(pending)) {
        Stored::Yes
    } else {
        Stored::No
    };
    match log.recover(stored)? {
        Some(Recovered::NotFound) => {
            warn!(
                "an interrupted batch could not be taken out of the rotated merged log; its entries may be in there twice"
            );
        }
        Some(Recovered::LeftIn { path, offset }) => {
            warn!(
                ?path,
                offset,
                "an interrupted batch was left in the merged log, as somebody else appended behind it; its entries may be in there twice"
            );
        }
        Some(recovered) => info!(?recovered, "interrupted batch settled"),
        None => {}
    }
    Ok(())
}

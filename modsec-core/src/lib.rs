//! Audit-log grammar.

#[cfg(any(feature = "merged-log", feature = "store"))]
mod entry_hash;
pub mod format;
#[cfg(feature = "ingest")]
pub mod ingest;
#[cfg(feature = "json")]
pub mod json;
#[cfg(feature = "merged-log")]
pub mod merged_log;
#[cfg(feature = "program")]
pub mod program;
pub mod record;
#[cfg(feature = "storage-dir")]
pub mod storage_dir;
#[cfg(feature = "store")]
pub mod store;
mod text;
#[cfg(feature = "watch")]
pub mod watch;

#[cfg(any(feature = "merged-log", feature = "store"))]
pub use self::entry_hash::{EntryHash, EntryHasher};
pub use self::record::Record;
#[cfg(feature = "store")]
pub use self::store::{Batch, BatchId, Inserted, Origin, Row, Store, StoreError, StoreOptions};
pub use self::text::Text;

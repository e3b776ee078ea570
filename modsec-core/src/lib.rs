//! Audit-log grammar.

#[cfg(feature = "accounts")]
pub mod accounts;
#[cfg(feature = "recidive")]
pub mod ban;
#[cfg(any(feature = "merged-log", feature = "store"))]
mod entry_hash;
#[cfg(any(feature = "permissions", feature = "program"))]
mod error_chain;
pub mod format;
#[cfg(feature = "permissions")]
pub mod permissions;
#[cfg(feature = "program")]
pub mod program;
#[cfg(feature = "recidive")]
pub mod recidive;
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

//! Audit-log grammar.

#[cfg(feature = "merged-log")]
pub mod merged_log;
pub mod record;
#[cfg(feature = "storage-dir")]
pub mod storage_dir;
mod text;

pub use self::record::Record;
pub use self::text::Text;

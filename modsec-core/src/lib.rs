//! Audit-log grammar.

#[cfg(feature = "recidive")]
pub mod ban;
pub mod format;
#[cfg(feature = "program")]
pub mod program;
#[cfg(feature = "recidive")]
pub mod recidive;
pub mod record;
#[cfg(feature = "storage-dir")]
pub mod storage_dir;
mod text;
#[cfg(feature = "watch")]
pub mod watch;

pub use self::record::Record;
pub use self::text::Text;

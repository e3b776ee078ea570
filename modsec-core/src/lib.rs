//! Audit-log grammar.

#[cfg(feature = "recidive")]
pub mod ban;
pub mod format;
#[cfg(feature = "recidive")]
pub mod recidive;
pub mod record;
mod text;

pub use self::record::Record;
pub use self::text::Text;

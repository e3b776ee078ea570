//! Audit-log grammar.

pub mod format;
pub mod record;
mod text;

pub use self::record::Record;
pub use self::text::Text;

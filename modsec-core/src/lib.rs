//! Audit-log grammar.

#[cfg(feature = "program")]
pub mod program;
pub mod record;
mod text;
#[cfg(feature = "watch")]
pub mod watch;

pub use self::record::Record;
pub use self::text::Text;

//! Audit-log grammar.

#[cfg(feature = "accounts")]
pub mod accounts;
#[cfg(any(feature = "permissions", feature = "program"))]
mod error_chain;
#[cfg(feature = "permissions")]
pub mod permissions;
#[cfg(feature = "program")]
pub mod program;
pub mod record;
mod text;
#[cfg(feature = "watch")]
pub mod watch;

#[cfg(any(feature = "permissions", feature = "program"))]
pub use self::error_chain::error_chain;
pub use self::record::Record;
pub use self::text::Text;

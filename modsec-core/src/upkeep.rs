//! Looking after what is stored, in small steps beside programs that add rows.
//!
//! ```text
//! logs, rule_matches ─► Reindex::step   ─► what rows of older programs lack
//!                    ─► Retention::step ─► without rows that are too old
//! ```
//!
//! Each step is one transaction. Between any two of them, the process may die, or the work may be
//! done by another one: what is left is seen from the rows themselves.

mod meaning;
mod reindex;
mod retention;

pub use self::reindex::{Reindex, ReindexProgress, missing};
pub use self::retention::{Retention, keep_rows};

//! What has been said already, so that it is said once.

use std::collections::HashSet;
use std::ffi::OsString;

use tracing::warn;

/// Things remembered, so that each is logged once; later ones are only counted. A stranger may
/// invent paths without end, and neither memory nor log shall follow.
const REMEMBERED: usize = 4096;

/// What has been logged already.
#[derive(Debug, Default)]
pub(crate) struct Told(HashSet<OsString>);

impl Told {
    /// Remembers `about`, and tells whether something is to be said about it.
    pub(crate) fn is_new(&mut self, about: impl Into<OsString>) -> bool {
        if self.0.len() >= REMEMBERED || !self.0.insert(about.into()) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            warn!(
                number = REMEMBERED,
                "too many to name: further ones are only counted"
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_told_once_and_memory_is_bounded() {
        let mut told = Told::default();
        assert!(told.is_new("a"));
        assert!(!told.is_new("a"));
        for number in 0..3 * REMEMBERED {
            told.is_new(number.to_string());
        }
        assert_eq!(told.0.len(), REMEMBERED);
        assert!(!told.is_new("b"));
    }
}

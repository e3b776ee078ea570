//! What was left alone, told once.

use std::collections::HashSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use tracing::warn;

/// Paths remembered, so that each is logged once; later ones are only counted. A stranger may
/// invent paths without end, and neither memory nor log shall follow.
const REMEMBERED: usize = 4096;

/// What has been logged already.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    logged: HashSet<PathBuf>,
}

impl Refusals {
    /// Logs that `path` was left alone and why, unless that was said before.
    pub(crate) fn log(&mut self, path: &Path, why: &dyn Display) {
        if !self.logged.contains(path) && self.is_new(path.to_owned()) {
            warn!(?path, reason = %why, "left alone");
        }
    }

    /// Remembers `key`, and tells whether something is to be said about it.
    pub(crate) fn is_new(&mut self, key: PathBuf) -> bool {
        if self.logged.len() >= REMEMBERED || !self.logged.insert(key) {
            return false;
        }
        if self.logged.len() == REMEMBERED {
            warn!(
                paths = REMEMBERED,
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
    fn memory_is_bounded() {
        let mut refusals = Refusals::default();
        for number in 0..3 * REMEMBERED {
            refusals.log(Path::new(&number.to_string()), &"a test");
        }
        assert_eq!(refusals.logged.len(), REMEMBERED);
    }
}

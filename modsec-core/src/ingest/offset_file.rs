//! The file that keeps how far a log was stored.

use std::io::{self, Read as _};
use std::path::Path;

use crate::logfile::Checkpoint;
use crate::named_file::{only_short_line, open_own_to_read, replace};

/// More than its line can have.
const MAX_BYTES: u64 = 512;
/// Nobody else's business.
const MODE: u32 = 0o600;

/// Reads what [`save`] wrote; `None` if there is nothing, or a line that makes no sense.
///
/// # Errors
///
/// What the system says; [`io::ErrorKind::InvalidData`] for more than a short line. That is
/// somebody else's file, and saving would replace it.
pub(super) fn load(path: &Path) -> io::Result<Option<Checkpoint>> {
    let file = match open_own_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    only_short_line(&bytes, MAX_BYTES)?;
    let text = str::from_utf8(&bytes).ok();
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Replaces the file at `path` as a whole, and waits until it is on disk.
pub(super) fn save(path: &Path, mark: &Checkpoint) -> io::Result<()> {
    replace(path, format!("{mark}\n").as_bytes(), MODE)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_saved_is_read_back_and_nonsense_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("offset");
        assert_eq!(load(&path).unwrap(), None);
        let mark = format!("1 2 3 {:032x} -", 4).parse().unwrap();
        save(&path, &mark).unwrap();
        assert_eq!(load(&path).unwrap(), Some(mark));
        for text in ["", "1 2 3 4 5", "\u{fffd}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(load(&path).unwrap(), None, "{text:?}");
        }
        for text in ["--3fa0c41b-A--\n[x] id\n", &"long".repeat(200)] {
            fs::write(&path, text).unwrap();
            assert!(load(&path).is_err(), "{text:?}");
        }
    }
}

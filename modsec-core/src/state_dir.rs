//! What the programs keep in their state directories is named here.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::entry_hash::EntryHash;
use crate::names::NAME_MAX;

/// Mode of a state directory that a program makes, as in the systemd units; the umask may take more
/// away.
pub const STATE_DIR_MODE: u32 = 0o750;

/// Names the file in which something about the file or directory at `path` is kept, as
/// `systemd-escape --path` does: `/var/log/x.log` becomes `var-log-x.log` and `end`, and no other
/// path has that name.
///
/// At most 255 bytes long: a longer name is cut, and ends with the hash of the whole.
///
/// ```
/// use modsec_core::state_dir::state_file_name;
///
/// let name = state_file_name("/var/log/waf-1/serial.log".as_ref(), ".offset");
/// assert_eq!(name, r"var-log-waf\x2d1-serial.log.offset");
/// ```
pub fn state_file_name(path: &Path, end: &str) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut name = String::new();
    for byte in path.as_os_str().as_bytes().iter().skip(1) {
        match byte {
            b'/' => name.push('-'),
            b'.' if !name.is_empty() => name.push('.'),
            b'_' | b':' => name.push(char::from(*byte)),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            byte => {
                // Writing to a string cannot fail.
                let _ = write!(name, "\\x{byte:02x}");
            }
        }
    }
    if name.len() + end.len() > NAME_MAX {
        let hash = EntryHash::of(name.as_bytes()).to_string();
        name.truncate(NAME_MAX - end.len() - 1 - hash.len());
        name = format!("{name}-{hash}");
    }
    name + end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_has_an_offset_file_of_its_own() {
        let long = format!("/{}", "a/-".repeat(200));
        let longer = format!("{long}b");
        let logs = [
            "/var/log/modsec_audit.log",
            "/x/a-b.log",
            "/x/a/b.log",
            "/x/a-/b.log",
            "/x/a/-b.log",
            "/x/a\\x2db.log",
            "/.x",
            &long,
            &longer,
        ];
        let name = |log: &&str| state_file_name(Path::new(log), ".offset");
        let names: Vec<String> = logs.iter().map(name).collect();
        let unique: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{names:?}");
        assert!(names.iter().all(|name| name.len() <= NAME_MAX));
        assert!(names.iter().all(|name| !name.contains('/')));
        assert_eq!(names[0], "var-log-modsec_audit.log.offset");
        assert_eq!(names[1], "x-a\\x2db.log.offset");
    }
}

//! Where things are if nobody says otherwise.

use std::path::{Path, PathBuf};

/// Mode of a state directory that a program makes, as in the systemd units; the umask may take more
/// away.
pub const STATE_DIR_MODE: u32 = 0o750;

/// Directories below which the programs expect Apache's logs.
const LOG_DIRS: [&str; 2] = ["var/log/httpd", "var/log/apache2"];

/// The default paths on this machine.
///
/// They are those of the scripts that the programs replace, `/var/log/httpd/...`. Where that
/// directory is absent and Debian's `/var/log/apache2` exists, it takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultPaths {
    /// Directory of Apache's logs.
    pub log_dir: PathBuf,
    /// `SecAuditLogStorageDir`: `modsec_audit` in the directory of the logs.
    pub storage_dir: PathBuf,
}

impl DefaultPaths {
    /// Looks for the directories below `root`, which is `/` except in tests.
    pub fn below(root: &Path) -> Self {
        let [first, second] = LOG_DIRS.map(|dir| root.join(dir));
        let log_dir = if !first.is_dir() && second.is_dir() {
            second
        } else {
            first
        };
        let storage_dir = log_dir.join("modsec_audit");
        Self {
            log_dir,
            storage_dir,
        }
    }
}

impl Default for DefaultPaths {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_directory_is_taken_only_where_the_other_is_absent() {
        let cases: [(&[&str], &str); 4] = [
            (&[], "var/log/httpd"),
            (&["var/log/apache2"], "var/log/apache2"),
            (&["var/log/httpd"], "var/log/httpd"),
            (&["var/log/httpd", "var/log/apache2"], "var/log/httpd"),
        ];
        for (present, want) in cases {
            let root = tempfile::tempdir().unwrap();
            for dir in present {
                std::fs::create_dir_all(root.path().join(dir)).unwrap();
            }
            let paths = DefaultPaths::below(root.path());
            assert_eq!(paths.log_dir, root.path().join(want), "present {present:?}");
            assert_eq!(paths.storage_dir, paths.log_dir.join("modsec_audit"));
        }
    }
}

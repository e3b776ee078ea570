//! Where things are if nobody says otherwise.

use std::path::{Path, PathBuf};

/// Directories below which the programs expect Apache's logs.
const LOG_DIRS: [&str; 2] = ["var/log/httpd", "var/log/apache2"];

/// Names of the same files in `modsec_recedive.sh` and in `modsec_recidive.sh`, as the script is
/// called since its author has renamed it; the merged log has a second name too.
const SPELLINGS: [[&str; 2]; 3] = [
    ["modsec_recedive.log", "modsec_recidive.log"],
    [
        "modsecurity_recedive/modsec_recedive.dat",
        "modsecurity_recidive/modsec_recidive.dat",
    ],
    ["modsec_audit.log", "modsec_merged.log"],
];

/// The default paths on this machine.
///
/// They are those of the scripts that the programs replace, `/var/log/httpd/...`. Where that
/// directory is absent and Debian's `/var/log/apache2` exists, it takes its place. Where only the
/// file of the renamed script exists, that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DefaultPaths {
    /// Directory of Apache's logs.
    pub log_dir: PathBuf,
    /// `SecAuditLogStorageDir`: `modsec_audit` in the directory of the logs.
    pub storage_dir: PathBuf,
    /// The file for Fail2ban: `modsec_recedive.log`, or else `modsec_recidive.log`, in the
    /// directory of the logs.
    pub recidive_file: PathBuf,
    /// The table of clients: `/var/lib/modsecurity_recedive/modsec_recedive.dat`, or else
    /// `/var/lib/modsecurity_recidive/modsec_recidive.dat`.
    pub recidive_state: PathBuf,
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
        let [jail, state, _] = SPELLINGS;
        Self {
            storage_dir: log_dir.join("modsec_audit"),
            recidive_file: existing(&log_dir, jail),
            recidive_state: existing(&root.join("var/lib"), state),
            log_dir,
        }
    }

    /// Returns the log into which entries of `storage_dir` are merged: `modsec_audit.log` beside
    /// it, or else `modsec_merged.log`.
    pub fn merged_log(storage_dir: &Path) -> PathBuf {
        let [_, _, merged] = SPELLINGS;
        existing(storage_dir.parent().unwrap_or(storage_dir), merged)
    }

    /// Returns what to say of a path that was taken because only the file of the renamed script
    /// exists; `None` of any other path.
    pub fn explain(path: &Path) -> Option<String> {
        let (usual, renamed) = SPELLINGS.iter().find_map(|[usual, renamed]| {
            Some((usual, path.ends_with(renamed).then_some(renamed)?))
        })?;
        let dir = path
            .ancestors()
            .nth(Path::new(renamed).components().count())?;
        let usual = dir.join(usual);
        (!usual.exists() && path.exists()).then(|| {
            format!(
                "{} is used: the renamed script, modsec_recidive.sh, has left it, and there is no {}",
                path.display(),
                usual.display()
            )
        })
    }
}

/// Returns the first of the two files in `dir`, or the second if only that exists.
fn existing(dir: &Path, [usual, renamed]: [&str; 2]) -> PathBuf {
    let [usual, renamed] = [usual, renamed].map(|name| dir.join(name));
    if !usual.exists() && renamed.exists() {
        renamed
    } else {
        usual
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

    #[test]
    fn files_of_the_renamed_script_are_taken_only_where_the_others_are_absent() {
        for (index, [usual, renamed]) in SPELLINGS.iter().enumerate() {
            for (present, want) in [
                (&[][..], usual),
                (&[usual], usual),
                (&[renamed], renamed),
                (&[renamed, usual], usual),
            ] {
                let root = tempfile::tempdir().unwrap();
                let dir = root.path().join(if index == 1 {
                    "var/lib"
                } else {
                    "var/log/httpd"
                });
                for file in present {
                    std::fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
                    std::fs::write(dir.join(file), "").unwrap();
                }
                let paths = DefaultPaths::below(root.path());
                let merged = DefaultPaths::merged_log(&paths.storage_dir);
                let path = [paths.recidive_file, paths.recidive_state, merged][index].clone();
                assert_eq!(path, dir.join(want), "present {present:?}");
                let said = DefaultPaths::explain(&path);
                assert_eq!(said.is_some(), want == renamed, "{said:?}");
            }
        }
    }
}

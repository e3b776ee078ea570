//! A program that other users may execute, wherever it was built.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A copy of a program below a directory that everybody may enter; removed when dropped.
///
/// The programs may have been built below `/root`, which only root may enter.
pub(crate) struct Executable {
    dir: tempfile::TempDir,
}

impl Executable {
    pub(crate) fn copy_of(program: impl AsRef<Path>) -> Executable {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let copy = Executable { dir };
        // Not by this process: a program started by another thread meanwhile would hold the copy
        // open for writing, too, and what is open for writing cannot be executed.
        let mut install = Command::new("install");
        install.args(["-m", "755"]).arg(program.as_ref());
        assert!(install.arg(copy.path()).status().unwrap().success());
        copy
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("program")
    }

    /// Returns the command with the copy as its program, and with no variables but those it names.
    pub(crate) fn instead_of(&self, command: &Command) -> Command {
        let mut copy = Command::new(self.path());
        copy.args(command.get_args()).env_clear();
        if let Some(dir) = command.get_current_dir() {
            copy.current_dir(dir);
        }
        let set =
            |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
        copy.envs(command.get_envs().filter_map(set));
        copy
    }
}

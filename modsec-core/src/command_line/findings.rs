//! What `--check-config` finds besides the settings: what keeps the program from its work, and what
//! its first run makes. Nothing is made or changed to find it out.

use std::error::Error;
use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use clap::Command;
use clap::error::ErrorKind;

use crate::error_chain::error_chain;
use crate::named_file;
use crate::program;
use crate::text::visible;

/// Problems and remarks, in the order in which they were found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What keeps the program from its work, one message each.
    pub(super) problems: Vec<String>,
    /// What is worth knowing and keeps it from nothing.
    pub(super) remarks: Vec<String>,
    /// What is shown behind the problems, as it is.
    details: Vec<String>,
    /// Directories that the program makes.
    made: Vec<PathBuf>,
}

/// Why a file that an option names cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {} ({})", visible(&path.to_string_lossy()), source_of)]
struct Unusable {
    /// The file.
    path: PathBuf,
    /// What names it, such as an option.
    source_of: SettingName<'static>,
    /// What the system said.
    source: io::Error,
}

/// How messages call what names a file: an option by its long name, anything else as it is.
#[derive(Debug, Clone, Copy)]
struct SettingName<'a>(&'a str);

/// Refuses one file for two purposes. Each file stands behind the long name of its option, or what
/// else names it, such as `INPUT`.
///
/// # Errors
///
/// Which two name the same file. What is only read may be named twice.
pub fn check_files(
    command: &mut Command,
    written: &[(&str, &Path)],
    read: &[(&str, &Path)],
) -> Result<(), clap::Error> {
    let Some((one, other)) = named_file::same_files(written, read) else {
        return Ok(());
    };
    let (one, other) = (SettingName(one), SettingName(other));
    let problem = format!("{one} and {other} name the same file, give each its own");
    Err(command.error(ErrorKind::ArgumentConflict, problem))
}

impl fmt::Display for SettingName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_option =
            self.0.starts_with(|first: char| first.is_ascii_lowercase()) && !self.0.contains(' ');
        f.write_str(if is_option { "--" } else { "" })?;
        f.write_str(self.0)
    }
}

impl Findings {
    /// Notes why the program would not start, or not do its work.
    pub fn problem(&mut self, error: &(dyn Error + 'static)) {
        self.problems.push(error_chain(error));
    }

    /// Notes the error of a trial, if there is one; returns the rest.
    pub fn tried<T, E: Into<Box<dyn Error>>>(&mut self, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(&*error.into());
                None
            }
        }
    }

    /// Notes what the administrator may want to know, and what is no problem.
    pub fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(visible(&text.into()));
    }

    /// Looks at a file that the option `name` names and that the program writes: one that is there,
    /// or a directory in which it can be made. Returns `true` if it can be written.
    pub fn file_to_write(&mut self, name: &'static str, path: &Path) -> bool {
        self.checked(name, path, named_file::check_own)
    }

    /// As [`Findings::file_to_write`] for the file that the program logs to (`--log-file`), which may
    /// be `/dev/null`.
    pub fn log_file(&mut self, path: &Path) -> bool {
        self.checked("log-file", path, named_file::check_own_or_null)
    }

    /// Looks at a file that the option `name` names and that the program replaces as a whole: the
    /// directory in which it does. Returns `true` if it can; what is in the file is not looked at.
    pub fn file_to_replace(&mut self, name: &'static str, path: &Path) -> bool {
        self.checked(name, path, named_file::check_replace)
    }

    /// Notes the error of a check of a file, unless the program makes the directory that it is in.
    fn checked(
        &mut self,
        name: &'static str,
        path: &Path,
        check: impl FnOnce(&Path) -> io::Result<()>,
    ) -> bool {
        if self.is_made(&named_file::parent(path)) {
            return true;
        }
        let result = check(path);
        let is_sound = result.is_ok();
        if let Err(source) = result {
            self.unusable(name, path, source);
        }
        is_sound
    }

    /// Returns `true` if nothing was found that is a problem.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    /// Says the problems on standard error.
    pub fn say_problems(&self) {
        for problem in &self.problems {
            program::tell(problem);
        }
        for text in &self.details {
            // As with the problems: whoever closed standard error does not want to read this.
            let _ = io::stderr().write_all(format!("\n{text}").as_bytes());
        }
    }

    /// Notes lines that an administrator is to run because of a problem.
    pub fn detail(&mut self, lines: &str) {
        self.details.push(lines.to_owned());
    }

    /// Looks at a file that the option `name` names and that the program only reads.
    pub fn file_to_read(&mut self, name: &'static str, path: &Path) {
        let read = path.metadata().and_then(|meta| {
            let kind = meta.file_type();
            if kind.is_file() || kind.is_dir() {
                named_file::open_input(path).map(drop)
            } else if kind.is_fifo() {
                // Opening it would take its bytes from the one who is to read it.
                Ok(())
            } else {
                let what = "it is no plain file, directory or pipe";
                Err(io::Error::new(io::ErrorKind::InvalidInput, what))
            }
        });
        if let Err(source) = read {
            self.unusable(name, path, source);
        }
    }

    /// Looks at a log that the option `name` names and that the program follows: it may come later.
    /// Returns `true` if it can be read, or is not there yet.
    pub fn log_to_follow(&mut self, name: &'static str, path: &Path) -> bool {
        match named_file::open_to_read(path) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let what = if named_file::parent(path).is_dir() {
                    "is not there yet"
                } else {
                    "is not there yet, nor is its directory"
                };
                let path = path.display();
                self.remark(format!("{path} {what}; the program waits for it"));
            }
            Err(source) => {
                self.unusable(name, path, source);
                return false;
            }
        }
        true
    }

    /// Notes that the program makes a directory, with those above it if `all`, if it is not there.
    pub fn made_directory(&mut self, name: &'static str, dir: &Path, all: bool) {
        if dir.is_dir() {
            return;
        }
        if dir.symlink_metadata().is_ok() {
            let what = "it is there, and is no directory";
            let source = io::Error::new(io::ErrorKind::NotADirectory, what);
            return self.unusable(name, dir, source);
        }
        let mut above = named_file::parent(dir);
        while all && !above.exists() && above.parent().is_some_and(|up| up != above) {
            above = named_file::parent(&above);
        }
        match named_file::check_directory(&above) {
            Ok(()) => {
                self.remark(format!(
                    "directory {} is not there yet; the first run makes it",
                    dir.display()
                ));
                self.made.push(dir.to_owned());
            }
            Err(source) => self.unusable(name, dir, source),
        }
    }

    /// Returns `true` if the directory is one that the program makes.
    pub fn is_made(&self, dir: &Path) -> bool {
        self.made.iter().any(|made| made == dir)
    }

    /// Notes why a file or directory that the option `name` names cannot be used.
    pub fn unusable(&mut self, name: &'static str, path: &Path, source: io::Error) {
        self.problem(&Unusable {
            path: path.to_owned(),
            source_of: SettingName(name),
            source,
        });
    }
}

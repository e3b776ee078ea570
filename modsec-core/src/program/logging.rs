//! Where log events go: standard error, and a file that log rotation may move away.

mod visible;

use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing::{info, warn};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use self::visible::Visible;
use super::ProgramError;
use crate::error_chain::error_chain;
use crate::named_file::open_own_or_null;

/// Crates whose events follow the chosen level; others are heard from `warn` upwards.
const OURS: [&str; 4] = ["modsec_core", "modsec_parser", "recidive", "watch_dir"];

/// How log events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One line for people: time in UTC, level, fields.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".to_owned()),
        }
    }
}

/// What is logged, how, and where.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LogOptions {
    /// Number of `-v`: one adds `debug`, two `trace`.
    pub verbose: u8,
    /// Number of `-q`: one leaves `warn`, two `error`, three nothing.
    pub quiet: u8,
    /// Format, in both places.
    pub format: LogFormat,
    /// File that gets everything; standard error then gets only warnings and errors.
    pub file: Option<PathBuf>,
    /// Is called around each line on standard error: takes a progress bar away meanwhile.
    pub around: Option<Around>,
}

/// Calls what it is given, once.
pub type Around = fn(&mut dyn FnMut());

impl LogOptions {
    /// Returns the most detailed level that is logged: `info` without `-v` and `-q`, one step more
    /// or less for each of them.
    fn level(&self) -> LevelFilter {
        match i16::from(self.verbose) - i16::from(self.quiet) {
            ..=-3 => LevelFilter::OFF,
            -2 => LevelFilter::ERROR,
            -1 => LevelFilter::WARN,
            0 => LevelFilter::INFO,
            1 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        }
    }
}

/// Sends the log events of this process where `options` say, for the rest of its life.
///
/// Colours appear only on a terminal, and not if `NO_COLOR` is set. A line that cannot be written
/// (disk full, closed pipe) is dropped; it never stops the program.
///
/// # Errors
///
/// [`ProgramError::LogFile`] if the log file cannot be opened; nothing is set up then. A second
/// call in one process has no effect on where events go.
pub fn log_to(options: &LogOptions) -> Result<Log, ProgramError> {
    let file = options.file.as_deref().map(LogFile::open).transpose()?;
    let level = options.level();
    let stderr_level = if file.is_some() {
        level.min(LevelFilter::WARN)
    } else {
        level
    };
    let around = options.around;
    let stderr = move || StandardError { around };
    let mut layers = vec![layer(options.format, colours(), stderr, stderr_level)];
    if let Some(file) = &file {
        layers.push(layer(options.format, false, file.clone(), level));
    }
    // Fails only if a subscriber is set already, as in a test process.
    let _ = tracing::subscriber::set_global_default(Registry::default().with(layers));
    Ok(Log { file })
}

/// The log of this process, as far as it must be looked after.
#[derive(Debug)]
#[must_use]
pub struct Log {
    /// The file, to be opened again after rotation; `None` if all goes to standard error.
    file: Option<LogFile>,
}

impl Log {
    /// Answers SIGHUP: opens the log file again by its path, for log rotation, and logs what came of
    /// it. A file that cannot be opened leaves the old one in use. Without a log file does nothing.
    pub fn reopen(&self) {
        match self.file.as_ref().map(LogFile::reopen) {
            None => {}
            Some(Ok(())) => info!("log file reopened"),
            Some(Err(error)) => warn!(
                error = error_chain(&error),
                "log file not reopened, going on with the old one"
            ),
        }
    }
}

/// Returns `true` if standard error is a terminal and `NO_COLOR` is not set, or empty.
fn colours() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !set("NO_COLOR")
}

/// Returns what writes events of `level` and above as lines of `format`. Events of other crates are
/// written from `warn` on, or from `level` if that is stricter.
///
/// `ansi` is for colours. What a terminal would not show is escaped, see [`Visible`].
fn layer<W>(
    format: LogFormat,
    ansi: bool,
    writer: W,
    level: LevelFilter,
) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let targets = OURS
        .iter()
        .fold(Targets::new(), |targets, name| {
            targets.with_target(*name, level)
        })
        .with_default(level.min(LevelFilter::WARN));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Visible {
            to: writer,
            format,
            ansi,
        })
        .with_ansi(ansi)
        .with_target(false)
        .log_internal_errors(false);
    match format {
        LogFormat::Text => lines.with_filter(targets).boxed(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_filter(targets)
            .boxed(),
    }
}

/// Standard error, perhaps with something to be done around each line.
struct StandardError {
    /// What is called around each line; `None` if nothing is.
    around: Option<Around>,
}

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(around) = self.around else {
            return io::stderr().write(bytes);
        };
        let mut written = Ok(0);
        around(&mut || written = io::stderr().write(bytes));
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log file, shared by all threads that log.
#[derive(Debug, Clone)]
struct LogFile(Arc<Shared>);

/// What clones of a [`LogFile`] share.
#[derive(Debug)]
struct Shared {
    /// The path, by which it is opened again.
    path: PathBuf,
    /// The open file. Whoever holds the lock writes one line.
    file: Mutex<File>,
}

impl LogFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    ///
    /// As for [`append_to`].
    fn open(path: &Path) -> Result<Self, ProgramError> {
        let file = Mutex::new(append_to(path)?);
        Ok(Self(Arc::new(Shared {
            path: path.to_owned(),
            file,
        })))
    }

    /// Opens the file again by its path.
    ///
    /// # Errors
    ///
    /// As for [`append_to`]; the old file stays in use then.
    fn reopen(&self) -> Result<(), ProgramError> {
        let file = append_to(&self.0.path)?;
        *self.locked() = file;
        Ok(())
    }

    /// Waits for the line that another thread is writing. A panic in the middle of one does no
    /// harm.
    fn locked(&self) -> MutexGuard<'_, File> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens for appending; a link in the last place is refused, a new file is readable by its group.
fn append_to(path: &Path) -> Result<File, ProgramError> {
    let mut options = File::options();
    options.append(true).create(true).mode(0o640);
    open_own_or_null(path, &options).map_err(|source| ProgramError::LogFile {
        path: path.to_owned(),
        source,
    })
}

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> Self::Writer {
        LineWriter {
            path: &self.0.path,
            file: self.locked(),
        }
    }
}

/// Holds the file for one line; the formatter hands over whole lines.
struct LineWriter<'a> {
    /// Where log rotation may have put another file.
    path: &'a Path,
    /// The open file, replaced if another one is at its path.
    file: MutexGuard<'a, File>,
}

impl LineWriter<'_> {
    /// Returns the file; a new one if the old one was deleted, or if another is at its path: log
    /// rotation has put it there, and may not know this program. One that was only renamed gets
    /// lines until the hangup, as log rotation expects.
    fn file(&mut self) -> &mut File {
        let is_gone = self.file.metadata().is_ok_and(|held| {
            let is_other = |there: Metadata| (there.dev(), there.ino()) != (held.dev(), held.ino());
            held.nlink() == 0 || fs::symlink_metadata(self.path).is_ok_and(is_other)
        });
        if is_gone {
            // If it cannot be made, the lines are lost as before.
            if let Ok(new) = append_to(self.path) {
                *self.file = new;
            }
        }
        &mut self.file
    }
}

impl Write for LineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_v_and_q_choose_the_level() {
        let cases = [
            (0, 0, LevelFilter::INFO),
            (1, 0, LevelFilter::DEBUG),
            (9, 0, LevelFilter::TRACE),
            (0, 1, LevelFilter::WARN),
            (0, 2, LevelFilter::ERROR),
            (0, 200, LevelFilter::OFF),
            (1, 1, LevelFilter::INFO),
        ];
        for (verbose, quiet, want) in cases {
            let options = LogOptions {
                verbose,
                quiet,
                ..LogOptions::default()
            };
            assert_eq!(options.level(), want, "-v {verbose} -q {quiet}");
        }
    }

    #[test]
    fn after_reopening_lines_go_to_the_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let log = LogFile::open(&path).unwrap();
        let line = |text: &str| log.make_writer().write_all(text.as_bytes()).unwrap();
        line("one\n");
        std::fs::rename(&path, dir.path().join("x.log.1")).unwrap();
        line("two\n");
        log.reopen().unwrap();
        line("three\n");
        assert_eq!(
            std::fs::read_to_string(dir.path().join("x.log.1")).unwrap(),
            "one\ntwo\n"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
    }

    #[test]
    fn a_file_that_log_rotation_made_is_written_to_without_being_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let log = LogFile::open(&path).unwrap();
        let line = |text: &str| log.make_writer().write_all(text.as_bytes()).unwrap();
        line("one\n");
        std::fs::rename(&path, dir.path().join("x.log.1")).unwrap();
        std::fs::write(&path, "").unwrap();
        line("two\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
        // What cannot be the program's log is left alone.
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/nowhere", &path).unwrap();
        line("three\n");
    }

    #[test]
    fn a_log_file_that_was_deleted_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let log = LogFile::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        log.make_writer().write_all(b"seen\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "seen\n");
        std::fs::remove_dir_all(dir.path()).unwrap();
        log.make_writer().write_all(b"lost\n").unwrap();
    }

    #[test]
    fn a_log_file_that_cannot_be_reopened_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let log = LogFile::open(&path).unwrap();
        std::fs::rename(&path, dir.path().join("x.log.1")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(log.reopen(), Err(ProgramError::LogFile { .. })));
        log.make_writer().write_all(b"still\n").unwrap();
        assert_eq!(
            std::fs::read_to_string(dir.path().join("x.log.1")).unwrap(),
            "still\n"
        );
    }
}

//! What the programs share: log set-up, stop signals, exit codes, the PID file, the service manager.
//!
//! A `main` built on this module parses its arguments, calls [`log_to`], takes [`Signals`], runs one
//! function of the library and turns its result into an [`Exit`]:
//!
//! ```no_run
//! use modsec_core::program::{self, Exit, LogOptions, Signals};
//!
//! fn main() -> Exit {
//!     let run = || -> Result<(), program::ProgramError> {
//!         let log = program::log_to(&LogOptions::default())?;
//!         let signals = Signals::listen()?;
//!         while !signals.stop.requested() {
//!             // The work; on SIGHUP: `log.reopen()?`
//! #           drop(log); break;
//!         }
//!         Ok(())
//!     };
//!     match run() {
//!         Ok(()) => Exit::Done,
//!         Err(error) => program::fail(&error),
//!     }
//! }
//! ```

mod accounts;
mod logging;
mod paths;
mod pid_file;
mod service;
mod signals;

use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};

pub use self::accounts::{Account, AccountError, Accounts};
pub use self::logging::{Log, LogFormat, LogOptions, log_to};
pub use self::paths::DefaultPaths;
pub use self::pid_file::{PidFile, PidFileError};
pub use self::service::Service;
pub use self::signals::{Hangups, Signals, Stop, StopHandle};

/// How a program ends; the number is its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Done = 0,
    /// The task could not be done; the reason is on standard error.
    Failed = 1,
    /// The arguments make no sense; nothing was begun.
    BadArguments = 2,
    /// The task was done, but some entries were defective.
    Defective = 3,
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}

/// Why a program could not set itself up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The log file cannot be opened or created.
    #[error(
        "cannot open log file {}: create its directory or choose another --log-file",
        .path.display()
    )]
    LogFile {
        /// The log file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The handlers for SIGTERM, SIGINT and SIGHUP cannot be installed.
    #[error("cannot install signal handlers")]
    Signals(#[source] io::Error),
}

/// Writes `error` with its causes to standard error as one line and returns [`Exit::Failed`].
pub fn fail(error: &dyn Error) -> Exit {
    let name = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "modsec-tools".to_owned());
    // Whoever closed standard error does not want to read this.
    let _ = io::Write::write_all(
        &mut io::stderr(),
        format!("{name}: {}\n", error_chain(error)).as_bytes(),
    );
    Exit::Failed
}

/// Returns `error` and its causes as `a: b: c`.
///
/// A cause that the text before it already ends with is not repeated. Control characters are
/// escaped, because paths and names in errors may have been chosen by a stranger.
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            let _ = write!(text, ": {next}");
        }
        cause = error.source();
    }
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control();
            escaped
                .then(|| c.escape_default())
                .into_iter()
                .flatten()
                .chain((!escaped).then_some(c))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer: no space")]
    struct Outer(#[source] io::Error);

    #[test]
    fn the_chain_is_one_line_without_repetition_and_without_control_bytes() {
        let error = ProgramError::LogFile {
            path: PathBuf::from("/var/log/a\x1b[31m\nb"),
            source: io::Error::other("no space"),
        };
        assert_eq!(
            error_chain(&error),
            "cannot open log file /var/log/a\\u{1b}[31m\\nb: create its directory or choose \
             another --log-file: no space"
        );
        let outer = Outer(io::Error::other("no space"));
        assert_eq!(error_chain(&outer), "outer: no space");
    }

    #[test]
    fn exit_statuses_are_the_documented_ones() {
        let cases = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::BadArguments, 2),
            (Exit::Defective, 3),
        ];
        for (exit, want) in cases {
            assert_eq!(exit as u8, want, "{exit:?}");
        }
    }
}

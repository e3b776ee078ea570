//! What the programs share: log set-up, stop signals, exit codes, the PID file, the service manager.
//!
//! A `main` built on this module parses its arguments, calls [`log_to`], takes [`Signals`], runs one
//! function of the library and turns its result into an [`Exit`]. What runs as a service is given
//! a [`Lifecycle`]:
//!
//! ```no_run
//! # #[cfg(feature = "programs")]
//! # mod program {
//! use modsec_core::program::{self, Exit, Lifecycle, LogOptions, Service, Signals};
//! use modsec_core::recidive::{self, Options};
//!
//! async fn serve(options: &Options) -> Result<Exit, Box<dyn std::error::Error>> {
//!     let log = program::log_to(&LogOptions::default())?;
//!     let mut lifecycle =
//!         Lifecycle::new(Signals::listen()?, Service::from_env()).on_hangup(|| log.reopen());
//!     recidive::run(options, &mut lifecycle).await?;
//!     Ok(Exit::Done)
//! }
//! # }
//! ```

mod backoff;
mod lifecycle;
#[cfg(feature = "programs")]
mod logging;
mod output;
#[cfg(feature = "programs")]
mod paths;
#[cfg(feature = "programs")]
mod pid_file;
mod service;
mod signals;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};

pub(crate) use self::backoff::Backoff;
pub use self::lifecycle::Lifecycle;
pub(crate) use self::lifecycle::{Wake, or_never};
#[cfg(feature = "programs")]
pub use self::logging::{Around, Log, LogFormat, LogOptions, log_to};
pub use self::output::{counted, print, unless_closed};
#[cfg(feature = "programs")]
pub use self::paths::DefaultPaths;
#[cfg(feature = "programs")]
pub use self::pid_file::{PidFile, PidFileError};
pub use self::service::Service;
pub use self::signals::{Hangups, Signals, Stop, StopHandle};
pub use crate::error_chain::error_chain;
pub use crate::text::visible;

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
    /// SIGINT came before everything was done.
    Interrupted = 130,
    /// SIGTERM came before everything was done.
    Terminated = 143,
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
    #[error("cannot open log file {}, {}", .path.display(), advice(.source, "--log-file"))]
    LogFile {
        /// The log file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The handlers for SIGTERM, SIGINT and SIGHUP cannot be installed.
    #[error("cannot install signal handlers")]
    Signals(#[source] io::Error),
    /// Standard output does not take what is written.
    #[error("cannot write to standard output, some of the output is lost")]
    Output(#[source] io::Error),
}

/// Says what to do about a file that cannot be opened to write, and that `option` names: what helps
/// against this error, and nothing that does not.
pub(crate) fn advice(error: &io::Error, option: &str) -> String {
    let first = match error.kind() {
        io::ErrorKind::NotFound => "make its directory, or ",
        // The system's own, and not one with a reason and advice of ours.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_some() => {
            "let this account write there, or "
        }
        _ => "",
    };
    format!("{first}name another with {option}")
}

/// Writes `error` with its causes to standard error as one line and returns [`Exit::Failed`].
pub fn fail(error: &dyn Error) -> Exit {
    tell(&error_chain(error));
    Exit::Failed
}

/// Says on standard error that the program was interrupted, and `left`: what was not done, and what
/// to do about it. Returns how the program ends; for a service that was asked to end this is not.
pub fn interrupted(stop: &Stop, left: &str) -> Exit {
    tell(&format!("interrupted: {left}"));
    stop.exit().unwrap_or(Exit::Terminated)
}

/// Does `work` on a thread of its own; `None` if a stop is requested first. The work is then
/// abandoned and ends with the process, so this is for work that may end at any point.
///
/// # Errors
///
/// What the system said if the thread could not be started, or that it panicked.
pub async fn unless_stopped<T: Send + 'static>(
    stop: &mut Stop,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (send, done) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("work".to_owned())
        .spawn(move || drop(send.send(work())))?;
    tokio::select! {
        biased;
        () = stop.wait() => Ok(None),
        done = done => done.map(Some).map_err(|_panicked| io::Error::other("a thread panicked")),
    }
}

/// Writes a line with the program's name before it to standard error.
pub fn tell(text: &str) {
    let name = std::env::args_os()
        .next()
        .map(PathBuf::from)
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "modsec-tools".to_owned());
    // Whoever closed standard error does not want to read this.
    let _ = io::Write::write_all(&mut io::stderr(), format!("{name}: {text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_the_documented_ones() {
        let cases = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::BadArguments, 2),
            (Exit::Defective, 3),
            (Exit::Interrupted, 130),
            (Exit::Terminated, 143),
        ];
        for (exit, want) in cases {
            assert_eq!(exit as u8, want, "{exit:?}");
        }
    }
}

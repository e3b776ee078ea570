//! `modsec-parser`: audit logs into a database and one merged log.

mod args;
mod report;

use modsec_core::ingest::{self, IngestError, Tally};
use modsec_core::program::{self, Exit, ProgramError, Signals};

use crate::args::{Output, Request};
use crate::report::Terminal;

fn main() -> Exit {
    let request = args::parse();
    match run(&request) {
        Ok(tally) => exit(&tally),
        // Whoever read the JSON lines has seen enough.
        Err(Failure::Ingest(IngestError::Output(error)))
            if error.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Exit::Done
        }
        Err(error) => program::fail(&error),
    }
}

fn run(request: &Request) -> Result<Tally, Failure> {
    let _log = program::log_to(&request.log)?;
    let signals = Signals::listen()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let mut terminal = Terminal::new(request.log.quiet);
    let pass = ingest::run(&request.options, &signals.stop, &mut terminal);
    let tally = runtime.block_on(pass)?;
    terminal.finish();
    if request.output == Output::Summary {
        report::summary(&tally, request.options.store.is_some());
    }
    Ok(tally)
}

fn exit(tally: &Tally) -> Exit {
    if tally.unusable_inputs > 0 {
        Exit::Failed
    } else if tally.defective() > 0 || tally.left_alone.total() > 0 {
        Exit::Defective
    } else {
        Exit::Done
    }
}

/// Why the program could not do its work.
#[derive(Debug)]
enum Failure {
    Program(ProgramError),
    Ingest(IngestError),
    Runtime(std::io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Program(error) => error.fmt(f),
            Failure::Ingest(error) => error.fmt(f),
            Failure::Runtime(_) => f.write_str("could not start the event loop"),
        }
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Failure::Program(error) => error.source(),
            Failure::Ingest(error) => error.source(),
            Failure::Runtime(error) => Some(error),
        }
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Failure {
        Failure::Program(error)
    }
}

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Failure {
        Failure::Ingest(error)
    }
}

//! `modsec-parser`: audit logs into a database and one merged log.

mod args;
mod check;
mod files;
mod reindex;
mod report;

use std::convert::Infallible;
use std::error::Error;
use std::fs::DirBuilder;
use std::future;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;

use modsec_core::command_line::Findings;
use modsec_core::ingest::{self, IndexSource, IngestError, Silent, Tally};
use modsec_core::program::{self, Exit, Lifecycle, Log, ProgramError, Service, Signals};
use modsec_core::store::StoreError;
use modsec_core::upkeep::{self, Retention};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::args::{Follow, Output, Request, Work};
use crate::report::Terminal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Exit {
    let (line, work) = args::parse();
    let (result, format) = match &work {
        Work::Pass(request) => {
            if line.checks_only() {
                check::end(&line, request).await;
            }
            (run(request).await, request.log.format)
        }
        Work::Reindex(request) => (reindex::run(request).await, request.log.format),
    };
    result.unwrap_or_else(|error| {
        let exit = program::fail(&*error);
        let of_pass = error.downcast_ref().and_then(|error| match error {
            IngestError::Store(error) => Some(error),
            _ => None,
        });
        if let Some(error) = of_pass.or_else(|| error.downcast_ref()) {
            report::statements(error, format);
        }
        exit
    })
}

async fn run(request: &Request) -> Result<Exit, Box<dyn Error>> {
    let log = program::log_to(&request.log)?;
    if let Some(dir) = request
        .state_dir
        .as_ref()
        .filter(|_| !request.is_rehearsal())
    {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(modsec_core::state_dir::STATE_DIR_MODE);
        // If this fails, opening the database says so, with the path.
        let _ = builder.create(dir);
    }
    let signals = Signals::listen()?;
    if request.is_rehearsal() {
        // A rehearsal opens everything else as a run does.
        let mut findings = Findings::default();
        check::look_at_merged_log(request, &mut findings);
        if !findings.is_sound() {
            findings.say_problems();
            return Ok(Exit::Failed);
        }
    }
    match &request.follow {
        Follow::No => once(request, &signals).await,
        follows => follow(request, follows, signals, &log).await,
    }
}

async fn once(request: &Request, signals: &Signals) -> Result<Exit, Box<dyn Error>> {
    let stores = request.options.store.is_some();
    let mut terminal = Terminal::new(request.log.quiet, &request.options);
    let tally = match ingest::run(&request.options, &signals.stop, &mut terminal).await {
        // Whoever read the JSON lines has seen enough.
        Err(IngestError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            return Ok(Exit::Done);
        }
        result => result?,
    };
    // The rows are stored whatever becomes of old ones, so what was found is said first.
    let kept = keep_rows(request, &tally, signals).await;
    let mut written = terminal.finish();
    if tally.is_empty() && request.log.quiet == 0 {
        report::nothing_found(request);
    }
    if request.output == Output::Summary && request.log.quiet == 0 {
        written = report::summary(&tally, request);
    }
    match written {
        // All is stored, but a reader that has gone away has not had all of it.
        Err(error) if stores => return Err(ProgramError::Output(error).into()),
        written => program::unless_closed(written)?,
    }
    if tally.interrupted {
        return Ok(program::interrupted(
            &signals.stop,
            &report::left(&request.options),
        ));
    }
    kept?;
    let exit = exit(&tally);
    if exit == Exit::Defective && request.output == Output::JsonLines && request.log.quiet == 0 {
        report::not_sound(&tally);
    }
    Ok(exit)
}

/// Removes rows that are too old, behind a pass that stores.
async fn keep_rows(request: &Request, tally: &Tally, signals: &Signals) -> Result<(), StoreError> {
    let stores = request.options.store.is_some() && !tally.interrupted;
    let (Some(keep), Some(store), true) = (request.keep_rows, &request.store, stores) else {
        return Ok(());
    };
    let mut retention = Retention::open(store, keep).await?;
    let mut stop = signals.stop.clone();
    tokio::select! {
        biased;
        // The next pass goes on.
        () = stop.wait() => {}
        removed = retention.round() => info!(rows = removed?, "old rows removed"),
    }
    Ok(())
}

/// Removes rows that become too old, as long as it is polled. Never returns.
async fn keep_rows_for_ever(request: &Request) -> Infallible {
    match (request.keep_rows, &request.store) {
        (Some(keep), Some(store)) => upkeep::keep_rows(store, keep).await,
        _ => future::pending().await,
    }
}

async fn follow(
    request: &Request,
    follow: &Follow,
    signals: Signals,
    log: &Log,
) -> Result<Exit, Box<dyn Error>> {
    let mut lifecycle = Lifecycle::new(signals, Service::from_env()).on_hangup(|| log.reopen());
    let lifecycle = &mut lifecycle;
    let options = &request.options;
    // A web server that starts this program has it in its process group, to which signals for its
    // children go. Of those that would end it, this is the only one that does not ask for an end.
    let _graceful_restart = match options.index {
        Some(IndexSource::Stdin) => Some(signal(SignalKind::user_defined1())?),
        _ => None,
    };
    let silent = &mut Silent;
    let followed = async {
        match follow {
            Follow::No => Ok(Tally::default()),
            Follow::Tree(rescan) => {
                let storage_dir = options.storage_dir.as_deref().map(tracing::field::debug);
                info!(storage_dir, "following");
                ingest::follow(options, *rescan, lifecycle, silent).await
            }
            Follow::Log { log, offset_file } => {
                info!(?log, ?offset_file, "following");
                ingest::follow_log(options, log, offset_file, lifecycle, silent).await
            }
        }
    };
    let tally = tokio::select! {
        biased;
        tally = followed => tally?,
        never = keep_rows_for_ever(request) => match never {},
    };
    let lost = tally.index.lost();
    info!(
        records = tally.entries,
        removed = tally.removed,
        lost,
        "stopped"
    );
    Ok(Exit::Done)
}

fn exit(tally: &Tally) -> Exit {
    if tally.unusable_inputs > 0 {
        Exit::Failed
    } else if tally.defective() + tally.left_alone.total() + tally.skipped_inputs > 0
        || tally.index.wrong() > 0
    {
        Exit::Defective
    } else {
        Exit::Done
    }
}

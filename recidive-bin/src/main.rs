//! `recidive` reports clients that keep attacking to Fail2ban. What it does is in
//! `modsec_core::recidive`; here it is put together.

mod args;

use std::error::Error;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use chrono::Utc;
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use modsec_core::command_line;
use modsec_core::program::{self, Exit, Lifecycle, PidFile, ProgramError, Service, Signals};
use modsec_core::recidive::{self, State};

use crate::args::{Args, Command, ReplayArgs, RunArgs, StatusArgs};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Exit {
    let args = args::parse();
    let result = match &args.command {
        Some(Command::Replay(replay)) => report_history(replay).await,
        Some(Command::Status(status)) => show_status(status),
        None => Box::pin(serve(&args.run)).await,
    };
    result.unwrap_or_else(|error| match error.downcast_ref() {
        Some(error) => command_line::exit(error),
        None => program::fail(&*error),
    })
}

async fn serve(run: &RunArgs) -> Result<Exit, Box<dyn Error>> {
    let options = run.options()?;
    if let Err(error) = options.check() {
        command_line::exit(&Args::command().error(ErrorKind::ArgumentConflict, error));
    }
    // A rehearsal may run beside the real thing.
    let pid_file = (!run.dry_run)
        .then(|| PidFile::take(&run.pid_file))
        .transpose()?;
    let log = program::log_to(&run.log_options())?;
    let signals = Signals::listen()?;
    if !run.dry_run {
        make_directory(&options.state_file)?;
    }
    let mut lifecycle = Lifecycle::new(signals, Service::from_env()).on_hangup(|| log.reopen());
    PidFile::hold(pid_file, recidive::run(&options, &mut lifecycle)).await?;
    Ok(Exit::Done)
}

/// Makes the directory of the state file; its own, and only the last component.
fn make_directory(state_file: &Path) -> io::Result<()> {
    match state_file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() && !parent.exists() => DirBuilder::new()
            .mode(modsec_core::state_dir::STATE_DIR_MODE)
            .create(parent)
            .map_err(|error| {
                let dir = parent.display();
                let advice = "name another file with --state-file";
                io::Error::new(
                    error.kind(),
                    format!("cannot make directory {dir}, {advice}: {error}"),
                )
            }),
        _ => Ok(()),
    }
}

async fn report_history(replay: &ReplayArgs) -> Result<Exit, Box<dyn Error>> {
    let options = replay.options()?;
    if let Err(error) = options.ledger.check() {
        command_line::exit(&Args::command().error(ErrorKind::ArgumentConflict, error));
    }
    let _log = program::log_to(&replay.log_options())?;
    let mut stop = Signals::listen()?.stop;
    let paths = replay.paths.clone();
    let work = move || recidive::replay(&options, &paths);
    let Some(report) = program::unless_stopped(&mut stop, work).await? else {
        return Ok(program::interrupted(&stop, "not everything was read"));
    };
    let report = report?;
    if report.entries == 0 && replay.is_loud() {
        let paths = replay.paths.iter().map(|path| path.to_string_lossy());
        let paths = paths.collect::<Vec<_>>().join(", ");
        program::tell(&program::visible(&format!("no entries in {paths}")));
    }
    if replay.json {
        print(serde_json::to_string(&report)?)?;
    } else {
        print(report.to_string())?;
    }
    Ok(if report.defects > 0 {
        if replay.json && replay.is_loud() {
            let read = program::counted(report.entries, "entry", "entries");
            program::tell(&format!(
                "{read}, {} defective (no entry, or cut off)",
                report.defects
            ));
        }
        Exit::Defective
    } else {
        Exit::Done
    })
}

fn show_status(status: &StatusArgs) -> Result<Exit, Box<dyn Error>> {
    let path = program::visible(&status.state_file.to_string_lossy());
    let is_there = status.state_file.try_exists().map_err(|error| {
        let problem =
            format!("cannot look at {path}, name another file with --state-file: {error}");
        io::Error::new(error.kind(), problem)
    })?;
    if !is_there {
        program::tell(&format!(
            "there is no state file {path}; the program has not counted anything yet, or keeps its \
             table elsewhere: name that with --state-file"
        ));
        // Who reads JSON wants some.
        if !status.json {
            return Ok(Exit::Done);
        }
    }
    let loaded = State::read(&status.state_file)?;
    let table = recidive::Status::new(&loaded.state, status.find_time(), Utc::now());
    if status.json {
        print(serde_json::to_string(&table)?)?;
    } else {
        print(table.to_string())?;
    }
    Ok(if loaded.bad_lines > 0 {
        let path = program::visible(&status.state_file.to_string_lossy());
        let lines = program::counted(loaded.bad_lines as u64, "line", "lines");
        program::tell(&format!(
            "{path}: {lines} left out, as no client can be read there"
        ));
        Exit::Defective
    } else {
        Exit::Done
    })
}

/// Writes `text` with one line end.
fn print(mut text: String) -> Result<(), ProgramError> {
    text.truncate(text.trim_end().len());
    text.push('\n');
    program::print(text.as_bytes())
}

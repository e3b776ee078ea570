//! `modsec-parser reindex`: complete the rows of older programs.

use std::error::Error;
use std::io;
use std::time::Instant;

use modsec_core::command_line;
use modsec_core::program::{self, Exit, Signals, counted, visible};
use modsec_core::store;
use modsec_core::upkeep::{self, Reindex, ReindexProgress};

use crate::args::ReindexRequest;
use crate::report::RowsBar;

/// Completes rows until none is left, or a stop is requested.
pub(crate) async fn run(request: &ReindexRequest) -> Result<Exit, Box<dyn Error>> {
    let _log = program::log_to(&request.log)?;
    let mut stop = Signals::listen()?.stop;
    let store = visible(&command_line::without_password(&request.store.url));
    let is_loud = request.log.quiet == 0;
    if request.is_rehearsal {
        let text = rehearse(request, &store).await?;
        if is_loud {
            program::print(text.as_bytes())?;
        }
        return Ok(Exit::Done);
    }
    if let Some(file) = store::file(&request.store).filter(|file| !file.exists()) {
        let problem = format!(
            "there is no {}: name the database with --store",
            file.display()
        );
        return Err(io::Error::new(io::ErrorKind::NotFound, problem).into());
    }
    let left = "not all rows are complete; run it again to go on";
    let started = Instant::now();
    let mut reindex = tokio::select! {
        biased;
        () = stop.wait() => return Ok(program::interrupted(&stop, left)),
        opened = Reindex::open(&request.store) => opened?,
    };
    let bar = RowsBar::new(request.log.quiet, reindex.progress().rows);
    // A step that is given up is taken back, or done as a whole.
    let is_over = loop {
        let is_left = tokio::select! {
            biased;
            () = stop.wait() => break false,
            done = reindex.step() => done?,
        };
        if !is_left {
            break true;
        }
        let progress = reindex.progress();
        bar.set(progress.seen, &completed(progress));
    };
    drop(bar);
    if is_loud {
        let progress = reindex.progress();
        let text = format!(
            "{}{}, {}, {:.1} s, {store}\n",
            if is_over { "" } else { "interrupted: " },
            counted(progress.seen, "row", "rows"),
            completed(progress),
            started.elapsed().as_secs_f64()
        );
        program::print(text.as_bytes())?;
    }
    if is_over {
        return Ok(Exit::Done);
    }
    Ok(program::interrupted(&stop, left))
}

/// Returns what a run would do.
async fn rehearse(request: &ReindexRequest, store: &str) -> Result<String, Box<dyn Error>> {
    Ok(match upkeep::missing(&request.store).await? {
        Some(rows) => format!(
            "{} would be completed, nothing changed, {store}\n",
            counted(rows, "row", "rows")
        ),
        None => format!(
            "all rows that are there would be completed, after the tables; nothing changed, {store}\n"
        ),
    })
}

/// Returns how many rows were completed, and how many of them with estimates.
fn completed(progress: ReindexProgress) -> String {
    format!(
        "{} completed, {} of them by estimates",
        progress.completed, progress.estimated
    )
}

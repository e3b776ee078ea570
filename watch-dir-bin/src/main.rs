//! `watch-dir` keeps the directories of `ModSecurity`'s concurrent audit log usable for every site
//! user. What it does is in `modsec_core::permissions`; here it is put together.

mod args;

use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

use modsec_core::permissions::{Change, Keeper, Policy, Tally};
use modsec_core::program::{self, Exit, Lifecycle, PidFile, Service, Signals, error_chain};
use tokio::sync::{Notify, watch};
use tokio::time::interval;
use tracing::{info, warn};

use crate::args::Args;

/// How often users and groups are read again.
const ACCOUNTS_EVERY: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Exit {
    let args = args::parse();
    let result = if args.dry_run || args.once {
        once(&args).await
    } else {
        serve(&args).await
    };
    result.unwrap_or_else(|error| program::fail(&*error))
}

async fn once(args: &Args) -> Result<Exit, Box<dyn Error>> {
    let policy = args.policy()?;
    let _log = program::log_to(&args.log_options())?;
    let keeper = Keeper::new(args.options(policy))?;
    let mut stop = Signals::listen()?.stop;
    let (dry_run, once) = (args.dry_run, args.once);
    let work = move || {
        let mut printed = Ok(());
        let each = |change: &Change| {
            // What it would do is of no use to anybody after the first line that was lost.
            if printed.is_ok() {
                printed = writeln!(io::stdout(), "{change}");
            }
        };
        let tally = match (dry_run, once) {
            (true, true) => keeper.rehearse_once(each),
            (true, false) => keeper.rehearse(each),
            (false, _) => keeper.once(|_| {}),
        };
        (tally, printed)
    };
    let Some((tally, printed)) = program::unless_stopped(&mut stop, work).await? else {
        return Ok(program::interrupted(
            &stop,
            "not every directory was looked at; run the program again",
        ));
    };
    let tally = tally?;
    program::unless_closed(printed)?;
    summarise(&tally);
    Ok(match tally {
        Tally { failed: 1.., .. } => Exit::Failed,
        Tally { refused: 1.., .. } => Exit::Defective,
        _ => Exit::Done,
    })
}

async fn serve(args: &Args) -> Result<Exit, Box<dyn Error>> {
    let policy = args.policy()?;
    let pid_file = PidFile::take(&args.pid_file)?;
    let log = program::log_to(&args.log_options())?;
    let signals = Signals::listen()?;
    let options = args.options(policy.clone());
    info!(path = ?options.storage_dir, ahead = options.ahead, "started");

    let (sender, policies) = watch::channel(policy);
    let read_again = Notify::new();
    let on_hangup = || {
        log.reopen();
        read_again.notify_one();
    };
    let mut lifecycle = Lifecycle::new(signals, Service::from_env()).on_hangup(on_hangup);
    let keeper = Keeper::new(options)?;
    let tally = tokio::select! {
        tally = PidFile::hold(Some(pid_file), keeper.run(&mut lifecycle, policies)) => tally?,
        never = follow_accounts(args, &read_again, &sender) => match never {},
    };
    summarise(&tally);
    Ok(Exit::Done)
}

/// Reads users and groups every minute, and when it is told to.
async fn follow_accounts(
    args: &Args,
    read_again: &Notify,
    policies: &watch::Sender<Policy>,
) -> Infallible {
    let mut accounts = interval(ACCOUNTS_EVERY);
    loop {
        tokio::select! {
            _ = accounts.tick() => {}
            () = read_again.notified() => accounts.reset(),
        }
        match args.policy() {
            Ok(policy) => {
                policies.send_if_modified(|now| {
                    let changed = *now != policy;
                    *now = policy;
                    changed
                });
            }
            Err(error) => {
                warn!(error = %error_chain(&error), "users and groups remain as they were");
            }
        }
    }
}

fn summarise(tally: &Tally) {
    let Tally {
        directories,
        corrected,
        created,
        removed,
        unknown,
        refused,
        failed,
        ..
    } = *tally;
    info!(
        directories,
        corrected, created, removed, unknown, refused, failed, "finished"
    );
}

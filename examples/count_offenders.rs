//! Counts attacks per client in the given entries and prints who would have been reported:
//! `cargo run -p modsec-core --example count_offenders -- FILE...`

#![expect(clippy::print_stdout, reason = "an example prints")]

use std::path::PathBuf;
use std::{env, fs};

use modsec_core::format;
use modsec_core::ledger::{Ledger, LedgerOptions};
use modsec_core::record::TrustedProxies;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let proxies = TrustedProxies::default();
    let mut attacks = Vec::new();
    for path in env::args_os().skip(1).map(PathBuf::from) {
        let bytes = fs::read(&path)?;
        let record = format::decode(&bytes)?;
        if record.intercepted()
            && let (Some(client), Some(time)) = (proxies.client(&record), record.time)
        {
            attacks.push((time.to_utc(), client));
        }
    }
    // The ledger counts by the transactions' own times, so they should come in order.
    attacks.sort_unstable();
    let mut options = LedgerOptions::default();
    options.threshold = 5;
    let mut ledger = Ledger::new(options)?;
    for (time, client) in attacks {
        if let Some(offender) = ledger.strike(client, time) {
            println!(
                "{} {} attacks {}",
                offender.at, offender.attacks, offender.network
            );
        }
    }
    Ok(())
}

//! Memory of a full offender ledger under ten million distinct addresses.
//!
//! `cargo bench -p modsec-core --bench ledger_memory`
//!
//! Fails if it passes what `LedgerOptions::client_bytes` states, or grows once the table is full.

#![expect(clippy::print_stdout, reason = "the figures are the result")]

use std::net::{IpAddr, Ipv6Addr};
use std::process::ExitCode;

use chrono::{DateTime, TimeDelta};
use modsec_core::ledger::{Ledger, LedgerOptions};

const MILLION: u32 = 1_000_000;

/// Memory of this process that is in use, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_ascii_whitespace().nth(1)?.parse().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn main() -> ExitCode {
    let options = LedgerOptions::default();
    let bound = options.max_clients * options.client_bytes();
    let mut ledger = Ledger::new(options).expect("the default options are in range");
    let before = resident();
    println!("bound: {} MiB", bound >> 20);
    let mut full = 0;
    for million in 0..10 {
        // Up to as many attacks as one client can make without being reported.
        let attacks = if million < 5 { 1 } else { 9 };
        for n in million * MILLION..(million + 1) * MILLION {
            let client = IpAddr::V6(Ipv6Addr::from_bits(u128::from(n) << 64 | 0x2001 << 112));
            for attack in 0..attacks {
                let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds((n + attack).into());
                ledger.strike(client, at);
            }
        }
        let used = resident().saturating_sub(before);
        println!(
            "{:>2} million addresses, {attacks} attacks each: {} clients, {} MiB",
            million + 1,
            ledger.len(),
            used >> 20
        );
        if used > bound {
            println!("above the bound");
            return ExitCode::FAILURE;
        }
        match million {
            6 => full = used,
            7.. if used > full + full / 50 => {
                println!("grows although the table is full");
                return ExitCode::FAILURE;
            }
            _ => {}
        }
    }
    ExitCode::SUCCESS
}

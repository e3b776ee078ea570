//! Strikes per second in the offender ledger.
//!
//! `cargo bench -p modsec-core --bench ledger`

use std::hint::black_box;
use std::net::{IpAddr, Ipv6Addr};

use chrono::{DateTime, TimeDelta, Utc};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use modsec_core::ledger::{Ledger, LedgerOptions};

const STRIKES: u32 = 100_000;

fn ledger(max_clients: usize) -> Ledger {
    let mut options = LedgerOptions::default();
    options.max_clients = max_clients;
    Ledger::new(options).expect("the options are in range")
}

/// A strike each millisecond by one of `clients` /64 networks, in no order.
fn strikes(first: u32, clients: u32) -> impl Iterator<Item = (IpAddr, DateTime<Utc>)> {
    (first..first + STRIKES).map(move |n| {
        let client = n.wrapping_mul(2_654_435_761) % clients;
        let bits = 0x2001_0db8_0000_0000_0000_0000_0000_0001 | u128::from(client) << 64;
        let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(n.into());
        (IpAddr::V6(Ipv6Addr::from_bits(bits)), at)
    })
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("ledger");
    group.throughput(Throughput::Elements(STRIKES.into()));
    for (name, clients, max_clients) in [
        ("10 clients", 10, 1_000_000),
        ("10 000 clients", 10_000, 1_000_000),
        ("every strike a new client, table full", u32::MAX, 100_000),
    ] {
        let mut ledger = ledger(max_clients);
        let mut first = 0;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    first += STRIKES;
                    strikes(first, clients).collect::<Vec<_>>()
                },
                |strikes| {
                    for (client, at) in strikes {
                        black_box(ledger.strike(client, at));
                    }
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);

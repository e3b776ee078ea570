//! The whole at work for a long time: `make soak`. What it takes must not grow with what it has done.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::programs::{Program, THRESHOLD, Usage};
use crate::servers::{Connections, Setting};
use crate::stage::{JAIL, MERGED, Stage};
use crate::traffic::{Traffic, attack_as};
use crate::{truth, until, world};

/// Only what the administrator of a server with much traffic would log of it.
const SETTING: Setting = Setting {
    connections: Connections::Own,
    parts: "ABFHZ",
    // Every alert is in the error log, gigabytes in the end: only what would be a failure is kept.
    error_log: "|$exec grep -aE --line-buffered 'Audit log: |global mutex|ermission denied|Failed to ' \
                > @DIR@/error.log",
    // The Core Rule Set takes milliseconds of a processor for each request; a site without it
    // makes many more entries of the same kind.
    last_site: "SecRuleRemoveById 900000-999999\n\
                SecRule REQUEST_URI|REQUEST_BODY \"@rx script|union|passwd|1=1\" \
                \"id:2001,phase:2,deny,status:403,log,msg:'Cheap'\"",
    // More would only show how recidive's table fills up to its limit.
    clients: 3000,
};
/// Merged logs are renamed when they are so large, and the one before is removed.
const ROTATE_AT: u64 = 256 << 20;

/// What was measured around one moment.
struct Moment {
    name: &'static str,
    usages: Vec<Usage>,
    /// From an answer to its row, and from the answer that makes an offender to its jail line.
    lags: Vec<(Duration, Duration)>,
    requests: usize,
    at: Duration,
}

/// How much more a program may take at the end than after warming up.
struct Bound {
    program: &'static str,
    memory_kb: u64,
    watches: u64,
}

const BOUNDS: [Bound; 3] = [
    // A batch is at most 1,000 entries and 2 MB, and how large the largest was is chance.
    // Watches: those of minutes that are not two minutes old, of four users, come and go.
    Bound {
        program: "modsec-parser",
        memory_kb: 16 << 10,
        watches: 60,
    },
    // The last 262,144 attacks are remembered, 40 bytes each at most, and twice that for a moment
    // while the table grows; 3,000 clients.
    Bound {
        program: "recidive",
        memory_kb: 32 << 10,
        watches: 60,
    },
    // Directories of the last ten minutes and the next two, of four users.
    Bound {
        program: "watch-dir",
        memory_kb: 4 << 10,
        watches: 60,
    },
];

#[test]
#[ignore = "takes half an hour, run `make soak`"]
fn memory_descriptors_and_lag_stay_flat() {
    world::alone("soak::memory_descriptors_and_lag_stay_flat", |world| {
        let total = Duration::from_secs(number("SOAK_SECONDS", 1800));
        let rate = u32::try_from(number("SOAK_RATE", 400)).unwrap();
        let mut stage = Stage::start(world, &SETTING);
        let threads = 16;
        let every = Duration::from_secs(1) * threads / rate;
        let traffic = Traffic::start(usize::try_from(threads).unwrap(), every, &SETTING);
        let begun = Instant::now();
        let warm = (total / 4).min(Duration::from_secs(300));
        let mut soak = Soak {
            stage: &mut stage,
            traffic: &traffic,
            begun,
            probes: 0,
        };
        let start = soak.moment("start", warm);
        let middle = soak.moment("middle", (warm + total) / 2);
        let end = soak.moment("end", total);
        check(world, &mut stage, traffic, &[start, middle, end]);
    });
}

struct Soak<'s> {
    stage: &'s mut Stage,
    traffic: &'s Traffic,
    begun: Instant,
    probes: u32,
}

impl Soak<'_> {
    /// Goes on until a time after the beginning, and measures during the last part of that.
    fn moment(&mut self, name: &'static str, until: Duration) -> Moment {
        let window = (until / 4).min(Duration::from_secs(60));
        let (mut usages, mut lags) = (Vec::new(), Vec::new());
        while self.begun.elapsed() < until {
            std::thread::sleep(Duration::from_millis(500));
            rotate(self.stage);
            if self.begun.elapsed() + window >= until {
                lags.push(self.probe());
                usages.push(self.stage.programs().map(|program| program.usage()));
            }
        }
        Moment {
            name,
            usages: typical(&usages),
            lags,
            requests: self.traffic.count(),
            at: self.begun.elapsed(),
        }
    }

    /// Lets a client of its own become an offender.
    fn probe(&mut self) -> (Duration, Duration) {
        self.probes += 1;
        let client = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 19, 128, 0)) + self.probes);
        let host = format!("probe{}.example", self.probes);
        let jail = fs::read_to_string(self.stage.world.path(JAIL))
            .unwrap()
            .len();
        for number in 0..THRESHOLD {
            attack_as(client.into(), &host, number);
        }
        let (since, line) = (Instant::now(), format!("{client} - "));
        let (mut row, mut report) = (None, None);
        while row.is_none() || report.is_none() {
            assert!(
                since.elapsed() < crate::LIMIT,
                "no row or line for {client}"
            );
            let text = fs::read_to_string(self.stage.world.path(JAIL)).unwrap();
            if report.is_none() && text[jail..].contains(&line) {
                report = Some(since.elapsed());
            }
            if row.is_none() && self.stage.database.count_of(&host) == THRESHOLD {
                row = Some(since.elapsed());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        (row.unwrap_or_default(), report.unwrap_or_default())
    }
}

fn rotate(stage: &Stage) {
    let log = stage.world.path(MERGED);
    if fs::metadata(&log).is_ok_and(|meta| meta.len() > ROTATE_AT) {
        fs::rename(&log, stage.world.path(&format!("{MERGED}.1"))).unwrap();
    }
}

/// The median of each value of each program.
fn typical(samples: &[[Usage; 3]]) -> Vec<Usage> {
    let middle = |program: usize, value: fn(&Usage) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(|all| value(&all[program])).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let usage = |program| Usage {
        memory_kb: middle(program, |usage| usage.memory_kb),
        descriptors: middle(program, |usage| usage.descriptors),
        watches: middle(program, |usage| usage.watches),
        threads: middle(program, |usage| usage.threads),
    };
    (0..3).map(usage).collect()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Asserts that nothing was lost and nothing has grown.
fn check(world: &world::World, stage: &mut Stage, traffic: Traffic, moments: &[Moment; 3]) {
    let requests = traffic.stop().len();
    let names = stage.programs().map(|program: &mut Program| program.name);
    let _ = writeln!(std::io::stderr(), "{}", table(&names, moments));
    stage.web.stop_proxy();
    until("Apache to have logged all", || {
        lines(world, "access.log") >= requests
    });
    until("an empty tree", || truth::left(world).is_empty());
    assert_eq!(stage.database.count(), lines(world, "index.log"));
    truth::check_errors(world);
    let [start, _, end] = moments;
    for ((name, before), after) in names.iter().zip(&start.usages).zip(&end.usages) {
        let bound = BOUNDS.iter().find(|bound| bound.program == *name).unwrap();
        let flat = after.memory_kb <= before.memory_kb + bound.memory_kb
            && after.watches <= before.watches + bound.watches
            // A connection, a directory, a log being looked at.
            && after.descriptors <= before.descriptors + 8
            && after.threads <= before.threads + 1;
        assert!(flat, "{name} has grown: {before:?} -> {after:?}");
    }
    let [before, after] = [start, end].map(|moment| median(moment, |lag| lag.0));
    // Half a second passes between claim and pass; the rest is what else runs.
    let lagging = after > before * 2 + Duration::from_secs(1);
    assert!(
        !lagging,
        "rows come later and later: {before:?} -> {after:?}"
    );
}

fn lines(world: &world::World, name: &str) -> usize {
    let file = fs::File::open(world.path(name)).unwrap();
    BufReader::new(file).split(b'\n').count()
}

fn median(moment: &Moment, lag: fn(&(Duration, Duration)) -> Duration) -> Duration {
    let mut lags: Vec<Duration> = moment.lags.iter().map(lag).collect();
    lags.sort_unstable();
    lags[lags.len() / 2]
}

/// What was measured, for people.
fn table(names: &[&str; 3], moments: &[Moment; 3]) -> String {
    let mut text = String::new();
    let mut before = (0, Duration::ZERO);
    for moment in moments {
        let Moment {
            name, at, requests, ..
        } = moment;
        let took = at.saturating_sub(before.1).as_secs_f64();
        #[expect(
            clippy::cast_precision_loss,
            reason = "shown with no digit behind the point"
        )]
        let rate = (requests - before.0) as f64 / took;
        before = (*requests, *at);
        let most = moment
            .lags
            .iter()
            .map(|lag| lag.0)
            .max()
            .unwrap_or_default();
        writeln!(
            text,
            "{name} (after {} s): {requests} requests, {rate:.0}/s; answer to row: median {} ms, \
             most {} ms; answer to jail line: median {} ms",
            at.as_secs(),
            median(moment, |lag| lag.0).as_millis(),
            most.as_millis(),
            median(moment, |lag| lag.1).as_millis(),
        )
        .unwrap();
    }
    writeln!(
        text,
        "{:<14} {:<7} {:>10} {:>12} {:>8} {:>8}",
        "program", "", "memory", "descriptors", "watches", "threads"
    )
    .unwrap();
    for (number, program) in names.iter().enumerate() {
        for moment in moments {
            let usage = &moment.usages[number];
            writeln!(
                text,
                "{program:<14} {:<7} {:>7} kB {:>12} {:>8} {:>8}",
                moment.name, usage.memory_kb, usage.descriptors, usage.watches, usage.threads
            )
            .unwrap();
        }
    }
    text
}

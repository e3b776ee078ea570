//! The ledger against a model that keeps everything.

use proptest::prelude::*;

use super::*;

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap()
}

fn ledger(threshold: u32, find_time: u64) -> Ledger {
    Ledger::new(LedgerOptions {
        threshold,
        find_time: Duration::from_secs(find_time),
        ..LedgerOptions::default()
    })
    .unwrap()
}

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// All attacks of one client ever made; those a report stands for are taken out.
#[derive(Default)]
struct Model(Vec<i64>);

impl Model {
    fn strike(&mut self, ms: i64, threshold: usize, find_time: i64) -> bool {
        self.0.push(ms);
        self.0.sort_unstable();
        let due = self
            .0
            .windows(threshold)
            .position(|run| run[threshold - 1] - run[0] <= find_time);
        if let Some(first) = due {
            self.0.drain(first..first + threshold);
        }
        due.is_some()
    }
}

/// Times that go forward, each then moved back by less than one find time.
fn nearly_ordered(find_time: i64) -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![Just(0), 0..find_time / 4, 0..find_time * 3];
    let late = prop_oneof![4 => Just(0), 1 => 0..=find_time];
    prop::collection::vec((step, late), 0..200).prop_map(|steps| {
        let mut now = 1_000_000_000;
        let mut times = Vec::new();
        for (step, late) in steps {
            now += step;
            times.push(now - late);
        }
        times
    })
}

proptest! {
    #[test]
    fn reports_are_those_of_the_model(
        times in nearly_ordered(5_000),
        threshold in 1usize..7,
    ) {
        let mut ledger = ledger(u32::try_from(threshold).unwrap(), 5);
        let mut model = Model::default();
        for ms in times {
            let want = model.strike(ms, threshold, 5_000);
            prop_assert_eq!(ledger.strike(CLIENT, at(ms)).is_some(), want, "at {}", ms);
        }
    }

    #[test]
    fn no_disorder_reports_below_the_threshold(
        times in prop::collection::vec(-40_000i64..40_000, 0..300),
        threshold in 1usize..7,
    ) {
        // As many reports as a full model finds, or fewer, and each for attacks that are there:
        // no more reports than disjoint groups of `threshold`.
        let mut ledger = ledger(u32::try_from(threshold).unwrap(), 5);
        let mut seen = Vec::new();
        let mut reports = 0;
        for ms in times {
            seen.push(ms);
            if ledger.strike(CLIENT, at(ms)).is_some() {
                reports += 1;
                let near = seen.iter().filter(|&&other| (ms - other).abs() <= 5_000).count();
                prop_assert!(near >= threshold);
            }
        }
        prop_assert!(reports * threshold <= seen.len());
    }

    #[test]
    fn a_jump_of_the_clock_hides_nobody(
        before in prop::collection::vec(0i64..10_000, 0..60),
        jump in prop_oneof![Just(-86_400_000i64), Just(86_400_000), Just(315_360_000_000)],
        threshold in 1u32..7,
    ) {
        let mut ledger = ledger(threshold, 5);
        for ms in before {
            ledger.strike(CLIENT, at(1_000_000_000_000 + ms + jump));
        }
        let reported = (0..i64::from(threshold))
            .any(|n| ledger.strike(CLIENT, at(1_000_000_000_000 + n)).is_some());
        prop_assert!(reported);
    }

    #[test]
    fn equal_times_may_come_in_any_order(
        mut clients in prop::collection::vec(0u8..3, 0..60),
        seed in any::<u64>(),
    ) {
        let run = |clients: &[u8]| {
            let mut ledger = ledger(3, 5);
            let mut reported: Vec<IpNet> = clients
                .iter()
                .filter_map(|&n| ledger.strike(IpAddr::from([192, 0, 2, n]), at(0)))
                .map(|offender| offender.network)
                .collect();
            reported.sort();
            reported
        };
        let want = run(&clients);
        let len = clients.len();
        for n in 0..len {
            clients.swap(n, (seed.wrapping_mul(n as u64 + 7) >> 7) as usize % len);
        }
        prop_assert_eq!(run(&clients), want);
    }

    #[test]
    fn a_restart_changes_no_report(
        times in nearly_ordered(5_000),
        threshold in 1u32..7,
        restart in 0usize..200,
    ) {
        let mut whole = ledger(threshold, 5);
        let mut first = ledger(threshold, 5);
        for (n, ms) in times.into_iter().enumerate() {
            if n == restart {
                let mut second = ledger(threshold, 5);
                first.sightings().for_each(|sighting| second.restore(&sighting));
                first = second;
            }
            prop_assert_eq!(whole.strike(CLIENT, at(ms)), first.strike(CLIENT, at(ms)));
        }
    }
}

#[test]
fn further_multiples_are_reported_while_it_goes_on() {
    let mut ledger = ledger(10, 600);
    let reported: Vec<(i64, u32)> = (0..35)
        .filter_map(|n| Some((n, ledger.strike(CLIENT, at(n * 1000))?.reports)))
        .collect();
    assert_eq!(reported, [(9, 1), (19, 2), (29, 3)]);
}

#[test]
fn clients_are_counted_by_network() {
    let mut ledger = ledger(2, 600);
    for (first, second, want) in [
        ("192.0.2.1", "192.0.2.2", None),
        ("::1", "::1", Some("::1/128")),
        (
            "198.51.100.7",
            "::ffff:198.51.100.7",
            Some("198.51.100.7/32"),
        ),
        (
            "2001:db8:0:1::1",
            "2001:db8:0:1:ffff::",
            Some("2001:db8:0:1::/64"),
        ),
        ("2001:db8:0:2::1", "2001:db8:0:3::1", None),
    ] {
        assert_eq!(ledger.strike(first.parse().unwrap(), at(0)), None);
        let got = ledger.strike(second.parse().unwrap(), at(0));
        let got = got.map(|offender| offender.network.to_string());
        assert_eq!(got.as_deref(), want, "{first} and {second}");
    }
}

#[test]
fn a_network_holds_one_client() {
    let options = LedgerOptions::default();
    let wide = LedgerOptions {
        ipv6_prefix: 32,
        ..LedgerOptions::default()
    };
    for (client, want, want_wide) in [
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64", "2001:db8::/32"),
        (
            "64:ff9b::192.0.2.7",
            "64:ff9b::c000:207/128",
            "64:ff9b::c000:207/128",
        ),
        ("64:ff9b:1::7", "64:ff9b:1::7/128", "64:ff9b:1::7/128"),
        // Its /64 would hold all of the well-known prefix.
        ("64:ff9b::1:0:7", "64:ff9b::1:0:7/128", "64:ff9b::1:0:7/128"),
        ("::192.0.2.7", "::c000:207/128", "::c000:207/128"),
        (
            "::ffff:0:192.0.2.7",
            "::ffff:0:c000:207/128",
            "::ffff:0:c000:207/128",
        ),
        (
            "2001:0:1:2:3:4:5:6",
            "2001:0:1:2:3:4:5:6/128",
            "2001:0:1:2:3:4:5:6/128",
        ),
        ("2001:20::7", "2001:20::7/128", "2001:20::7/128"),
        ("2001:30::7", "2001:30::7/128", "2001:30::7/128"),
        ("2001:200::7", "2001:200::/64", "2001:200::/32"),
        (
            "2002:c000:207:1::7",
            "2002:c000:207:1::/64",
            "2002:c000:207::/48",
        ),
        ("fd00:1:2:3::7", "fd00:1:2:3::7/128", "fd00:1:2:3::7/128"),
        ("fe80::7", "fe80::7/128", "fe80::7/128"),
        ("fec0::7", "fec0::7/128", "fec0::7/128"),
        ("ff02::1", "ff02::1/128", "ff02::1/128"),
        ("::ffff:192.0.2.7", "192.0.2.7/32", "192.0.2.7/32"),
    ] {
        let client = client.parse().unwrap();
        assert_eq!(options.network(client).to_string(), want);
        assert_eq!(wide.network(client).to_string(), want_wide);
    }
}

#[test]
fn the_widest_network_leaves_out_what_many_share() {
    let options = LedgerOptions {
        ipv6_prefix: 16,
        ..LedgerOptions::default()
    };
    for (client, want) in [
        // Without Teredo (2001::/32).
        ("2001:db8::7", "2001:800::/21"),
        ("2003:db8::7", "2003::/16"),
        ("2a00:db8::7", "2a00::/16"),
    ] {
        assert_eq!(options.network(client.parse().unwrap()).to_string(), want);
    }
}

#[test]
fn ignored_addresses_leave_no_trace() {
    let mut ledger = Ledger::new(LedgerOptions {
        threshold: 1,
        ignore: Networks::loopback(),
        ..LedgerOptions::default()
    })
    .unwrap();
    assert_eq!(ledger.strike("127.0.0.9".parse().unwrap(), at(0)), None);
    assert!(ledger.is_empty());
    assert_eq!(ledger.counts().ignored, 1);
}

#[test]
fn the_least_recently_seen_client_goes_first() {
    let mut ledger = Ledger::new(LedgerOptions {
        threshold: 2,
        max_clients: 2,
        ..LedgerOptions::default()
    })
    .unwrap();
    let mut strike = |n: u8| ledger.strike(IpAddr::from([192, 0, 2, n]), at(0)).is_some();
    assert!(!strike(1) && !strike(2) && !strike(3), "3 pushes 1 out");
    assert!(strike(2), "2 was kept");
    assert!(!strike(1), "1 starts anew and pushes 3 out");
    assert_eq!(ledger.counts().evicted, 2);
    assert_eq!(ledger.len(), 2);
}

#[test]
fn old_clients_are_forgotten_by_the_newest_attack() {
    let mut ledger = ledger(10, 5);
    for (n, ms) in [(1, 0), (2, 9_000), (3, 20_000)] {
        ledger.strike(IpAddr::from([192, 0, 2, n]), at(ms));
    }
    assert_eq!(
        ledger.forget(Duration::from_secs(12), at(i64::from(i32::MAX))),
        1
    );
    assert_eq!(
        ledger.forget(Duration::from_secs(12), at(0)),
        0,
        "by the earlier of both"
    );
}

#[test]
fn options_out_of_range_are_refused() {
    for (change, want) in [
        (
            (|o| o.threshold = 0) as fn(&mut LedgerOptions),
            "threshold 0 is not between 1 and 10000",
        ),
        (
            |o| o.find_time = Duration::ZERO,
            "find time 0 s is not between",
        ),
        (
            |o| o.ipv4_prefix = 33,
            "an IPv4 prefix of 33 bits is not between 8 and 32",
        ),
        (|o| o.ipv6_prefix = 129, "an IPv6 prefix of 129 bits is not"),
        (
            |o| o.max_clients = 0,
            "a table of 0 clients is not possible",
        ),
    ] {
        let mut options = LedgerOptions::default();
        change(&mut options);
        let error = Ledger::new(options).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// Runs that are killed one after the other, and what they leave behind.
struct Runs {
    options: LedgerOptions,
    /// What was saved last, and how many of the lines it knows of.
    saved: (Vec<Sighting>, usize),
    lines: Vec<DateTime<Utc>>,
}

impl Runs {
    fn new(threshold: u32, find_time: u64) -> Runs {
        Runs {
            options: LedgerOptions {
                max_clients: 4,
                ..ledger(threshold, find_time).options().clone()
            },
            saved: (Vec::new(), 0),
            lines: Vec::new(),
        }
    }

    /// Counts `times` and is killed; its state was saved after the first `save_after` of them.
    fn run(&mut self, times: &[i64], save_after: usize) {
        let mut ledger = Ledger::new(self.options.clone()).unwrap();
        let (sightings, lines) = &self.saved;
        for known in sightings {
            ledger.restore(known);
        }
        for line in &self.lines[*lines..] {
            ledger.note_report(self.options.network(CLIENT), *line);
        }
        let save = |ledger: &Ledger, lines: &Vec<_>| (ledger.sightings().collect(), lines.len());
        self.saved = save(&ledger, &self.lines);
        for (n, &ms) in (1..).zip(times) {
            if let Some(offender) = ledger.strike(CLIENT, at(ms)) {
                let second = offender.at.timestamp();
                self.lines
                    .push(DateTime::from_timestamp(second, 0).unwrap());
            }
            if n == save_after {
                self.saved = save(&ledger, &self.lines);
            }
        }
    }
}

proptest! {
    #[test]
    fn runs_that_are_killed_report_as_often_as_one_that_is_not(
        times in prop::collection::vec(0i64..5_000, 0..60),
        kills in prop::collection::vec((0usize..40, 0usize..40, any::<u64>()), 0..5),
        threshold in 1u32..6,
    ) {
        let mut runs = Runs::new(threshold, 5);
        let mut left = times.clone();
        for (count, save_after, order) in kills {
            // What was counted and not saved comes in again, in another order.
            left.sort_by_key(|ms| (ms.unsigned_abs() + 1).wrapping_mul(order | 1));
            let counted = &left[..count.min(left.len())];
            let save_after = save_after.min(counted.len());
            runs.run(counted, save_after);
            left.drain(..save_after);
        }
        runs.run(&left, 0);
        prop_assert_eq!(runs.lines.len(), times.len() / threshold as usize);
    }

    #[test]
    fn runs_that_are_killed_make_the_same_reports(
        times in nearly_ordered(5),
        kills in prop::collection::vec((0usize..60, 0usize..60), 0..5),
        threshold in 1u32..6,
    ) {
        let mut times: Vec<i64> = times.iter().map(|second| second * 1000).collect();
        times.sort_unstable();
        let mut want = Runs::new(threshold, 5);
        want.run(&times, 0);
        let mut runs = Runs::new(threshold, 5);
        let mut left = &times[..];
        for (count, save_after) in kills {
            let counted = &left[..count.min(left.len())];
            let save_after = save_after.min(counted.len());
            runs.run(counted, save_after);
            left = &left[save_after..];
        }
        runs.run(left, 0);
        prop_assert_eq!(runs.lines, want.lines);
    }
}

#[test]
fn a_report_of_attacks_that_are_gone_hides_no_later_ones() {
    let mut ledger = ledger(2, 5);
    ledger.strike(CLIENT, at(10_500));
    ledger.note_report(ledger.options().network(CLIENT), at(12_000));
    assert!(ledger.strike(CLIENT, at(13_000)).is_none());
    assert!(ledger.strike(CLIENT, at(13_001)).is_some());
    // The missing one comes after all.
    assert!(ledger.strike(CLIENT, at(11_000)).is_none());
    assert!(ledger.strike(CLIENT, at(11_000)).is_none());
    assert!(ledger.strike(CLIENT, at(11_000)).is_some());
}

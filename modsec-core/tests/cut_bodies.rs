//! Entries of one boundary, one behind the other, of which the first was cut off within a body, or has
//! a body that is shorter than its headers say.
//!
//! Under MPM-ITK the first requests of all connections share a boundary, so nothing but the content
//! tells whose lines those behind the cut are.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod cut;

use std::fs;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use chrono::{DateTime, FixedOffset, TimeDelta};
use cut::{Cut, cut_while};
use modsec_core::format;
use modsec_core::ledger::AttackFilter;
use modsec_core::record::Flag;
use modsec_core::serial_log::{self, InputState, Item};
use proptest::prelude::*;

const HELD: usize = 64 * 1024;

/// Feeds of a log: bytes at a time, and what is known of those behind them.
const FEEDS: [(usize, InputState); 3] = [
    (997, InputState::More),
    (100_000, InputState::More),
    (100_000, InputState::Quiet),
];

/// The entries in the serial logs of both engines.
static REAL: LazyLock<[Vec<String>; 2]> = LazyLock::new(|| {
    ["v2", "v3"].map(|engine| {
        let log = format!("tests/data/serial/{engine}-native-serial/modsec_audit.log");
        let log = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(log)).unwrap();
        let entries = serial_log::read(&*log).filter_map(|item| match item.unwrap() {
            Item::Entry(entry) => Some(String::from_utf8_lossy(entry.bytes()).into_owned()),
            _ => None,
        });
        entries.collect()
    })
});

/// Returns the entry with this number, from 1, in the serial log of an engine.
fn real(engine: &str, number: usize) -> String {
    let [v2, v3] = &*REAL;
    let log = if engine == "v2" { v2 } else { v3 };
    log[number - 1].clone()
}

/// Returns the boundary of an entry.
fn boundary(entry: &str) -> &str {
    entry.trim_start_matches('-').split('-').next().unwrap()
}

/// Returns `entry` with the boundary of `other`.
fn with_boundary_of(entry: &str, other: &str) -> String {
    entry.replace(boundary(entry), boundary(other))
}

/// Returns the entry with another client in part A.
fn of_client(entry: &str, client: &str) -> String {
    let (start, rest) = entry.split_once("] ").unwrap();
    let mut words: Vec<&str> = rest.splitn(3, ' ').collect();
    words[1] = client;
    format!("{start}] {}", words.join(" "))
}

/// Returns where the bytes of a part are, with the line behind it.
fn part(entry: &str, letter: char) -> std::ops::Range<usize> {
    let line = format!("-{letter}--\n");
    let start = entry.find(&line).unwrap() + line.len();
    let end = entry[start..].find("--\n").unwrap();
    start..start + end
}

/// Returns the texts of the entries.
fn texts(cut: &Cut) -> Vec<&str> {
    let entries = cut.entries.iter();
    entries
        .map(|(_, bytes, _)| std::str::from_utf8(bytes).unwrap())
        .collect()
}

const INNOCENT: &str = "192.0.2.200";
const ATTACKER: &str = "203.0.113.66";

/// Returns the addresses that a count of blocked transactions would name, in the order of the log.
fn named(log: &[u8]) -> Vec<String> {
    let attacks = AttackFilter::default();
    let records = serial_log::read(log).filter_map(|item| match item.unwrap() {
        Item::Entry(entry) => {
            let record = entry.decode().unwrap();
            let counts = !record.flags.contains(Flag::Interleaved) && attacks.is_attack(&record);
            counts.then(|| record.client.unwrap().text.to_string())
        }
        _ => None,
    });
    records.collect()
}

/// Cuts `first` at every byte of its part `letter` and writes `next` behind it.
fn is_told_apart_wherever_it_is_cut(first: &str, letter: char, next: &str) {
    for len in part(first, letter) {
        let cut_off = &first[..len];
        let log = format!("{cut_off}{next}");
        for (step, input) in FEEDS {
            let got = cut_while(log.as_bytes(), step, HELD, input);
            let how = format!("cut at {len}, steps of {step}: {cut_off}");
            assert!(texts(&got) == [cut_off, next], "{how} {:?}", got.places());
            assert!(got.entries.iter().all(|(_, _, flags)| flags.is_empty()));
        }
        assert_eq!(named(log.as_bytes()), [ATTACKER], "cut at {len}: {cut_off}");
        let first = format::decode(cut_off.as_bytes()).unwrap();
        assert!(first.flags.contains(Flag::Truncated) && first.alerts.is_empty());
    }
}

#[test]
fn an_entry_cut_in_a_body_ends_where_one_with_its_boundary_begins() {
    // A form and a page; intercepted, with a body itself, and refused by the server without an alert.
    for (first, letters) in [(4, "CE"), (1, "E"), (6, "C")] {
        let first = of_client(&real("v2", first), INNOCENT);
        for next in [20, 24, 19] {
            let next = of_client(&with_boundary_of(&real("v2", next), &first), ATTACKER);
            for letter in letters.chars() {
                is_told_apart_wherever_it_is_cut(&first, letter, &next);
            }
        }
    }
    for (first, letters) in [(4, "CE"), (54, "C")] {
        let first = of_client(&real("v3", first), INNOCENT);
        for next in [20, 24] {
            let next = of_client(&with_boundary_of(&real("v3", next), &first), ATTACKER);
            for letter in letters.chars() {
                is_told_apart_wherever_it_is_cut(&first, letter, &next);
            }
        }
    }
}

/// Returns an entry of `ModSecurity` 2 as it would have been written `by` before `base`, with a clock
/// that was set back.
fn set_back(entry: &str, base: &str, by: Duration) -> String {
    at(entry, time(base) - by)
}

/// Returns when an entry was written.
fn time(entry: &str) -> DateTime<FixedOffset> {
    format::decode(entry.as_bytes()).unwrap().time.unwrap()
}

/// Returns an entry of `ModSecurity` 2 as it would have been written at another time.
fn at(entry: &str, then: DateTime<FixedOffset>) -> String {
    let now = time(entry);
    let moved = then.timestamp_micros() - now.timestamp_micros();
    let (start, end) = (entry.find('[').unwrap() + 1, entry.find(" --").unwrap());
    let then = then.format("%d/%b/%Y:%H:%M:%S%.6f");
    let moved = entry[end..].split_inclusive('\n').map(|line| {
        let Some((key @ ("Stopwatch" | "Stopwatch2"), rest)) = line.split_once(": ") else {
            return line.to_owned();
        };
        let (began, rest) = rest.split_once(' ').unwrap();
        let began = began.parse::<i64>().unwrap() + moved;
        format!("{key}: {began} {rest}")
    });
    format!("{}{then}{}", &entry[..start], moved.collect::<String>())
}

#[test]
fn an_entry_cut_in_a_body_is_told_from_one_with_an_earlier_time() {
    let posted = of_client(&real("v2", 4), INNOCENT);
    for (next, times) in [
        (20, &[1, 5, 1000, 3_600_000_000][..]),
        (24, &[1, 3_600_000_000]),
        // Refused by the server without an alert: the time alone tells.
        (19, &[100_000, 3_600_000_000]),
    ] {
        let next = of_client(&with_boundary_of(&real("v2", next), &posted), ATTACKER);
        for by in times {
            let next = set_back(&next, &posted, Duration::from_micros(*by));
            for letter in ['C', 'E'] {
                is_told_apart_wherever_it_is_cut(&posted, letter, &next);
            }
        }
    }
}

#[test]
fn a_bare_status_whose_time_fits_two_entries_charges_nobody() {
    let posted = of_client(&real("v2", 4), INNOCENT);
    let next = of_client(&with_boundary_of(&real("v2", 19), &posted), ATTACKER);
    for micros in [-5, -1, 0, 1, 1000, 50_000] {
        let next = at(&next, time(&posted) + TimeDelta::microseconds(micros));
        for letter in ['C', 'E'] {
            for len in part(&posted, letter) {
                let log = format!("{}{next}", &posted[..len]);
                let names = named(log.as_bytes());
                assert!(names.iter().all(|name| name == ATTACKER), "{log}");
            }
        }
    }
}

#[test]
fn a_client_who_writes_older_first_lines_into_his_body_is_counted() {
    let attack = of_client(&real("v2", 24), ATTACKER);
    let (start, rest) = attack.split_once("] ").unwrap();
    let id = rest.split(' ').next().unwrap();
    for by in [1, 5, 1000, 3_600_000_000] {
        for id in [id, "forged"] {
            let older = format!("{start}] {id} {INNOCENT} 1 192.0.2.1 80\n");
            let older = set_back(&older, &attack, Duration::from_micros(by));
            // What another module says may quote the client to its end.
            let quoted = format!(
                "Apache-Error: [file \"core.c\"] [line 1] [level 3] AH00128: File does not exist: \
                 /x [unique_id \"{id}\"]\nStopwatch: "
            );
            let entry = with_chunked_body(&attack, &format!("a=1{older}"));
            let quoting = entry.replace("\nStopwatch: ", &format!("\n{quoted}"));
            let alone = quoting.replace("[file \"apache2_util.c\"]", "[file \"x.c\"]");
            for entry in [entry, quoting, alone] {
                let record = format::decode(entry.as_bytes()).unwrap();
                assert!(AttackFilter::default().is_attack(&record), "{entry}");
                let log = format!("{entry}{}", real("v2", 1));
                assert_eq!(named(log.as_bytes()), [ATTACKER], "{entry}");
                // A slow disk: an id that both have is no proof.
                let slow = log.replacen("\nStopwatch: 17953476", "\nStopwatch: 17953486", 1);
                assert_ne!(slow, log);
                assert!(
                    !named(slow.as_bytes()).contains(&INNOCENT.to_owned()),
                    "{slow}"
                );
            }
        }
    }
}

/// Returns an entry whose request was sent in chunks, with this body.
fn with_chunked_body(entry: &str, body: &str) -> String {
    let body_range = part(entry, 'C');
    let (head, rest) = (&entry[..body_range.start], &entry[body_range.end..]);
    let at = head.find("Content-Length: ").unwrap();
    let end = at + head[at..].find('\n').unwrap();
    let lf = if rest.starts_with("\n---") { "\n" } else { "" };
    let line = body_range.end - entry[..body_range.end].rfind('\n').unwrap();
    let line = &entry[body_range.end - line..body_range.end];
    format!(
        "{}Transfer-Encoding: chunked{}{body}{lf}{line}{rest}",
        &head[..at],
        &head[end..]
    )
}

/// Bodies of a client who knows the boundary of his entry and would have others blamed, or himself
/// not counted.
fn forged(entry: &str, others: &[String]) -> Vec<String> {
    let mut bodies = Vec::new();
    for other in others {
        let other = of_client(&with_boundary_of(other, entry), INNOCENT);
        let line_b = other.find("B--\n").unwrap();
        let line_h = other.find("H--\n").unwrap();
        let opening = &other[..other[..line_b].rfind('\n').unwrap()];
        // The time at which his own entry will be written.
        let at_once = format!(
            "{}[{}] id {INNOCENT} 1 192.0.2.1 80",
            &other[..=other.find('\n').unwrap()],
            &entry[entry.find('[').unwrap() + 1..entry.find(']').unwrap()]
        );
        // The same, and the id, which clients choose on some servers.
        let own = of_client(
            &entry[..entry[..entry.find("B--\n").unwrap()].rfind('\n').unwrap()],
            INNOCENT,
        );
        for text in [
            &own,
            &format!("{own}\n{}", &other[opening.len() + 1..line_h]),
            &format!("{own}\n{}", &other[opening.len() + 1..]),
            opening,
            &at_once,
            &other[..line_h],
            &other[..other.len() - 20],
            &other,
            // Up to here his entry looks like one that was cut off, and from here on like others.
            &format!("{other}{opening}"),
            &format!("{other}{other}{at_once}"),
            &format!("{other}{at_once}\n{}", &other[opening.len() + 1..line_h]),
            &format!("{at_once}\n{}", &other[opening.len() + 1..line_h]),
            &format!("{at_once}\n").repeat(100),
        ] {
            bodies.push(format!("a=1{text}"));
            bodies.push(format!("a=1\n{text}\n"));
        }
    }
    bodies
}

#[test]
fn a_client_who_writes_first_lines_into_his_body_is_counted() {
    for (engine, attacks) in [("v2", [24, 31]), ("v3", [24, 25])] {
        let others = [20, 19, 4].map(|other| real(engine, other));
        for attack in attacks {
            let attack = of_client(&real(engine, attack), ATTACKER);
            for body in forged(&attack, &others) {
                let entry = with_chunked_body(&attack, &body);
                // In a file of its own, and in a log.
                let record = format::decode(entry.as_bytes()).unwrap();
                assert!(AttackFilter::default().is_attack(&record), "{entry}");
                assert_eq!(record.client.unwrap().text, ATTACKER);
                let log = format!("{entry}{}", real(engine, 1));
                assert_eq!(named(log.as_bytes()), [ATTACKER], "{entry}");
            }
        }
    }
}

/// What a client may make his body of, with the boundary of his entry, and perhaps its time and id.
fn hostile_body(entry: &str, pieces: &[(u8, bool, bool)]) -> String {
    let (time, rest) = entry[entry.find('[').unwrap()..].split_once("] ").unwrap();
    let id = rest.split(' ').next().unwrap();
    let prefix = &entry[..entry.find("A--").unwrap()];
    let other = "[22/Nov/2026:06:45:00.000001 --0500";
    let pieces = pieces.iter().map(|(kind, is_own, has_id)| {
        let time = if *is_own { time } else { other };
        let id = if *has_id { id } else { "forged" };
        let stopwatch = if *is_own {
            "1795347651023783"
        } else {
            "1795347900000000"
        };
        match kind {
            0 => format!("{prefix}A--\n{time}] {id} {INNOCENT} 1 192.0.2.1 80\n"),
            1 => format!("x{prefix}A--\n{time}] {id} {INNOCENT} 1 192.0.2.1 80"),
            2 => format!("\n{prefix}B--\nGET / HTTP/1.1\nContent-Length: 5\n"),
            3 => format!("\n{prefix}C--\n"),
            4 => format!("\n{prefix}F--\nHTTP/1.1 200 OK\nContent-Length: 9\n"),
            5 => format!("\n{prefix}E--\n"),
            6 => format!(
                "\n{prefix}H--\nApache-Error: x [unique_id \"{id}\"]\n\
                 Stopwatch: {stopwatch} 3124 (- - -)\n"
            ),
            7 => format!("\n{prefix}H--\nModSecurity: Warning. [unique_id \"{id}\"] [ref \"\"]\n"),
            8 => format!("\n{prefix}Z--\n\n"),
            _ => "x\n".to_owned(),
        }
    });
    pieces.collect()
}

proptest! {
    #[test]
    fn whatever_a_body_holds_its_client_is_counted_and_nobody_else(
        engine in prop_oneof![Just("v2"), Just("v3")],
        pieces in prop::collection::vec((0..10_u8, any::<bool>(), any::<bool>()), 0..12),
    ) {
        let attack = of_client(&real(engine, 24), ATTACKER);
        let entry = with_chunked_body(&attack, &hostile_body(&attack, &pieces));
        let record = format::decode(entry.as_bytes()).unwrap();
        prop_assert!(AttackFilter::default().is_attack(&record), "{}", entry);
        prop_assert_eq!(&record.client.as_ref().unwrap().text, ATTACKER);
    }

    #[test]
    fn whatever_a_body_holds_up_to_a_cut_its_client_is_charged_with_nothing_behind_it(
        engine in prop_oneof![Just("v2"), Just("v3")],
        pieces in prop::collection::vec((0..10_u8, any::<bool>(), any::<bool>()), 0..12),
        next in prop_oneof![Just(20_usize), Just(24)],
    ) {
        let first = of_client(&real(engine, 4), INNOCENT);
        let entry = with_chunked_body(&first, &(hostile_body(&first, &pieces) + "x"));
        let h = entry.rfind("-F--\n").unwrap();
        let cut_off = &entry[..entry[..h].rfind('\n').unwrap()];
        let log = cut_off.to_owned() + &with_boundary_of(&real(engine, next), &first);
        let record = format::decode(log.as_bytes()).unwrap();
        prop_assert!(!AttackFilter::default().is_attack(&record), "{}", log);
    }
}

/// Returns the entry without its part H, or with an empty one.
fn without_h(entry: &str, keeps_line: bool) -> String {
    let h = part(entry, 'H');
    let line = entry[..h.start - 1].rfind('\n').unwrap();
    let end = entry[..h.end].rfind('\n').unwrap();
    let start = if keeps_line { h.start } else { line };
    format!("{}{}", &entry[..start], &entry[end..])
}

#[test]
fn nobody_is_charged_where_nothing_tells_whose_the_end_is() {
    for (engine, keeps_line) in [("v2", false), ("v3", true)] {
        let first = without_h(&of_client(&real(engine, 4), INNOCENT), keeps_line);
        let next = of_client(&with_boundary_of(&real(engine, 19), &first), ATTACKER);
        let next = without_h(&next, keeps_line);
        assert_eq!(named(next.as_bytes()), [ATTACKER]);
        for len in part(&first, 'C') {
            let log = format!("{}{next}", &first[..len]);
            // Where a line of the boundary stands at the announced end of the body, it is no body's.
            let names = named(log.as_bytes());
            assert!(names.iter().all(|name| name == ATTACKER), "{log}");
            let record = format::decode(log.as_bytes()).unwrap();
            assert_eq!(record.response.status, None, "{log}");
            assert!(record.flags.contains(Flag::Ambiguous), "{log}");
        }
    }
}

#[test]
fn an_entry_that_is_too_large_to_be_taken_apart_charges_nobody_else() {
    let first = of_client(&real("v2", 4), INNOCENT);
    let c = part(&first, 'C').start;
    for next in [20, 24, 19] {
        let next = of_client(&with_boundary_of(&real("v2", next), &first), ATTACKER);
        let log = format!("{}{}{next}", &first[..c], "a=1\n".repeat(5000));
        for held in [1000, 8000] {
            let got = cut_while(log.as_bytes(), 997, held, InputState::More);
            for (_, entry, _) in got.entries {
                let record = format::decode(&entry).unwrap();
                let is_next = record.client.as_ref().unwrap().text == ATTACKER;
                assert!(is_next || !AttackFilter::default().is_attack(&record));
            }
        }
    }
}

#[test]
fn what_stands_between_entries_of_one_boundary_takes_nothing_from_the_one_before() {
    for short in [
        // The answer to HEAD has a length, and no body.
        real("v2", 4).replace("<html><body>ok</body></html>\n", ""),
        real("v2", 1).replace("Content-Length: 57", "Content-Length: 100000"),
        real("v2", 24).replace("Content-Length: ", "Content-Length: 9"),
    ] {
        let next = with_boundary_of(&real("v2", 20), &short);
        for between in [
            "\0",
            &"\0".repeat(100),
            &"\0".repeat(70_000),
            "\u{feff}",
            "\r\n",
            "\r\n\r\n",
            "\n\r\n\u{feff}\0\0\n",
            "\0\u{feff}\r\n",
            "",
        ] {
            let log = format!("{short}{between}{next}{next}");
            for (step, input) in FEEDS {
                let got = cut_while(log.as_bytes(), step, HELD, input);
                let how = format!("{between:?} in front, steps of {step}, {short}");
                let want = [&*short, &*next, &*next];
                assert!(texts(&got) == want, "{how} {:?}", got.places());
                assert!(got.entries.iter().all(|(_, _, f)| f.is_empty()), "{how}");
            }
        }
    }
}

//! Entries that a full disk cut off, with the next one right behind them.
//!
//! The engine stops at any byte. What it writes once there is room again begins there, within a line.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod cut;

use std::fs;
use std::path::Path;

use cut::{Cut, cut, cut_while};
use modsec_core::record::Flag;
use modsec_core::serial_log::{self, InputState, Item};

const HELD: usize = 64 * 1024;

/// A whole entry of an engine; `id` is its number.
type Write = fn(id: u32) -> String;

fn v2(id: u32) -> String {
    let second = 30 + 5 * id;
    let logged = 1_795_329_600 + second;
    format!(
        "--{id:08x}-A--\n[22/Nov/2026:06:40:{second} +0000] id{id} 192.0.2.{id} 1 192.0.2.99 80\n\
         --{id:08x}-B--\nPOST /{id} HTTP/1.1\nHost: a\n\n--{id:08x}-C--\na={id}\n\
         --{id:08x}-F--\nHTTP/1.1 403 Forbidden\nServer: x\n\n--{id:08x}-E--\n<html>{id}</html>\n\n\
         --{id:08x}-H--\nMessage: Access denied. [id \"{id}\"]\nStopwatch: {logged}000100 80 (- - -)\nServer: x\n\n--{id:08x}-J--\n1,2,\"a\",\"b\"\n\n\
         --{id:08x}-K--\nSecRule x\n\n--{id:08x}-Z--\n\n"
    )
}

/// The same with the lengths of both bodies.
fn v2_with_lengths(id: u32) -> String {
    v2(id).replace("Host: a", "Content-Length: 3").replacen(
        "\nServer: x",
        "\nContent-Length: 15",
        1,
    )
}

fn v3(id: u32) -> String {
    let z = format!("aB3d{id:04}");
    format!(
        "---{z}---A--\n[22/Nov/2026:06:40:30 +0000] id{id} 192.0.2.{id} 1 192.0.2.99 80\n\
         ---{z}---B--\nPOST /{id} HTTP/1.1\nHost: a\n\n---{z}---C--\na={id}\n\n\
         ---{z}---F--\nHTTP/1.1 403\n\n---{z}---H--\n\
         ModSecurity: Warning. [id \"{id}\"] [unique_id \"id{id}\"] [ref \"\"]\n\n---{z}---Z--\n\n"
    )
}

fn coraza(id: u32) -> String {
    let z = format!(
        "aBcDeF{}",
        "ghij".replace('g', if id == 1 { "x" } else { "y" })
    );
    let z = if id == 3 { z.replace('a', "z") } else { z };
    format!(
        "--{z}-A--\n[2026/11/22 06:40:30] id{id} 192.0.2.{id} 1 192.0.2.99 80\n\
         --{z}-B--\nPOST /{id} HTTP/1.1\nHost: a\n\n--{z}-C--\na={id}\n\n\
         --{z}-F--\nHTTP/1.1 403 Forbidden\n\n--{z}-H--\nx\n\n--{z}-Z--\n\n"
    )
}

fn v2_json(id: u32) -> String {
    format!(
        "{{\"transaction\":{{\"time\":\"22/Nov/2026:06:40:30 +0000\",\"transaction_id\":\"{id}\",\
         \"remote_address\":\"192.0.2.{id}\"}},\"request\":{{\"request_line\":\"GET /{{{id}}} HTTP/1.1\",\
         \"headers\":{{\"transaction\":\"\\\"\\\\\",\"a\":\"b\"}}}},\"response\":{{\"status\":403}},\
         \"audit_data\":{{\"messages\":[\"Warning. [id \\\"{id}\\\"]\"]}}}}\n"
    )
}

const ENGINES: [(&str, Write); 5] = [
    ("v2", v2),
    ("v2 with lengths", v2_with_lengths),
    ("v3", v3),
    ("coraza", coraza),
    ("v2 json", v2_json),
];

fn texts(cut: &Cut) -> Vec<&str> {
    let entries = cut.entries.iter();
    entries
        .map(|(_, bytes, _)| std::str::from_utf8(bytes).unwrap().trim_end())
        .collect()
}

fn field(name: &str) -> Vec<u8> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/field");
    fs::read(dir.join(name)).unwrap()
}

#[test]
fn the_entry_behind_a_cut_is_whole_wherever_the_cut_is() {
    for (engine, write) in ENGINES {
        let (whole, next, last) = (write(1), write(2), write(3));
        for len in 1..whole.trim_end().len() {
            let cut_off = &whole[..len];
            let log = format!("{cut_off}{next}{last}");
            for (step, input) in [
                (7, InputState::More),
                (100_000, InputState::More),
                (100_000, InputState::Quiet),
            ] {
                let got = cut_while(log.as_bytes(), step, HELD, input);
                let how = format!("{engine} cut at {len}, steps of {step}: {cut_off:?}");
                let found = texts(&got);
                let Some([before @ .., second, third]) = found.get(..) else {
                    panic!("{how}: {found:?}");
                };
                assert_eq!(*second, next.trim_end(), "{how}");
                assert_eq!(*third, last.trim_end(), "{how}");
                // A piece of a first line is no entry.
                let want = if before.is_empty() {
                    assert_eq!(got.foreign, [(0, len as u64)], "{how}");
                    vec![]
                } else {
                    vec![cut_off.trim_end()]
                };
                assert_eq!(before, want, "{how}");
                assert!(got.entries.iter().all(|(_, _, f)| f.is_empty()), "{how}");
            }
        }
    }
}

#[test]
fn a_cut_entry_with_the_boundary_of_the_next_one_ends_there_too() {
    // Under MPM-ITK, first requests share a boundary.
    for (engine, write) in ENGINES.into_iter().take(3) {
        let whole = write(1);
        let next = write(2).replace("00000002", "00000001");
        let next = next.replace("aB3d0002", "aB3d0001");
        for len in whole.find("-A--\n").unwrap() + 6..whole.len() - 2 {
            let cut_off = &whole[..len];
            let got = cut(format!("{cut_off}{next}").as_bytes(), 1000, HELD);
            assert_eq!(
                texts(&got),
                [cut_off.trim_end(), next.trim_end()],
                "{engine}: {cut_off:?}"
            );
        }
    }
}

#[test]
fn a_body_with_a_cut_entry_in_it_stays_a_body() {
    for (engine, write) in ENGINES.into_iter().take(4) {
        for len in [20, 60, 130] {
            let shown = format!("{}{}", &write(2)[..len], write(3));
            let first = write(1).replace("a=1\n", &format!("{shown}\n"));
            let log = format!("{first}{}", write(3));
            for step in [7, 100_000] {
                let got = cut(log.as_bytes(), step, HELD);
                let how = format!("{engine}, {len}, steps of {step}");
                assert_eq!(
                    texts(&got),
                    [first.trim_end(), write(3).trim_end()],
                    "{how}"
                );
            }
        }
    }
}

#[test]
fn headers_that_look_like_a_first_line_open_nothing() {
    for header in [
        "X: --00000002-A--\n[22/Nov/2026: 06:40:30 +0000] id 192.0.2.7 1 192.0.2.99 80",
        "transaction: {\"transaction\":{\"time\":\"x\"",
    ] {
        let first = v2(1).replace("Host: a", header);
        let log = format!("{first}{}", v2(3));
        let got = cut(log.as_bytes(), 1000, HELD);
        assert_eq!(
            texts(&got),
            [first.trim_end(), v2(3).trim_end()],
            "{header}"
        );
    }
}

/// What is known of each entry of a log: client, status, interception, rules, flags.
fn told(log: &[u8]) -> Vec<String> {
    serial_log::read(log)
        .map(|item| match item.unwrap() {
            Item::Entry(entry) => {
                let record = entry.decode().unwrap();
                let rules = record.alerts.iter().filter_map(|a| a.rule_id.as_ref());
                let rules: Vec<String> = rules.map(ToString::to_string).collect();
                let client = record.client.as_ref().map(|c| c.text.to_string());
                format!(
                    "{} {} {} [{}] {}",
                    client.unwrap_or_default(),
                    record.response.status.unwrap_or(0),
                    record.intercepted(),
                    rules.join(" "),
                    record.flags
                )
            }
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn what_real_servers_left_on_a_full_disk_is_told_apart() {
    for (name, want) in [
        (
            "cut/innocent.log",
            &[
                "192.0.2.200 200 false [920350] truncated",
                "203.0.113.66 403 true [930120] ",
            ][..],
        ),
        (
            "cut/cut-msgEnd.log",
            &[
                "192.0.2.200 200 false [] truncated",
                "203.0.113.66 403 true [930120] ",
            ],
        ),
        (
            "cut/native-midB.log",
            &[
                "172.16.0.2 403 true [10000] ",
                "10.5.6.7 0 false [] truncated,no_part_h",
                "172.16.0.2 404 false [913101 920350] ",
                "10.9.8.7 404 false [920350] ",
            ],
        ),
        // Pages that show an audit log.
        (
            "cut/chunked-in-body.log",
            &[
                "192.0.2.50 200 false [930130] ",
                "198.51.100.23 500 true [399999 440002] ",
            ],
        ),
        (
            "cut/length-in-body.log",
            &[
                "192.0.2.50 200 false [930130] ",
                "198.51.100.23 500 true [399999 440002] ",
            ],
        ),
    ] {
        assert_eq!(told(&field(name)), want, "{name}");
    }
    let json = told(&field("cut/json2-mid.log"));
    assert_eq!(json.len(), 4, "{json:#?}");
    assert!(
        json[1].starts_with("1.2.3.5") && json[1].contains("truncated"),
        "{json:#?}"
    );
    assert!(
        json.iter()
            .filter(|told| told.contains("truncated"))
            .count()
            == 1
    );
    assert_eq!(Flag::Truncated.name(), "truncated");
}

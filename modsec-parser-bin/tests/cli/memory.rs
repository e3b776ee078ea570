//! What the program takes in memory, whatever the users of the sites write.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::site::{Ran, Site, entry_with};

/// What is promised.
const BOUND_KB: usize = 64 * 1024;

/// Runs to the end. Also returns the most memory that the process ever had in use, in KiB; what
/// it takes in its last few milliseconds is missed.
fn collect(site: &Site) -> (Ran, usize) {
    let mut command = site.collecting();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        peak = peak.max(kilobytes.unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    (child.wait_with_output().unwrap().into(), peak)
}

/// An entry of libmodsecurity with `alerts` lines of `len` bytes in part H.
fn v3(id: usize, alerts: usize, len: usize) -> String {
    let text = "x".repeat(len);
    let alert = format!(
        "ModSecurity: Warning. {text} [file \"/f\"] [line \"1\"] [id \"7\"] [rev \"\"] [msg \"m\"] [data \"\"] [severity \"2\"] [ver \"\"] [maturity \"0\"] [accuracy \"0\"] [hostname \"192.0.2.1\"] [uri \"/\"] [unique_id \"{id}\"] [ref \"v1,1\"]\n"
    );
    let parts: Vec<String> = [
        (
            'A',
            format!("[22/Nov/2020:11:50:10 +0000] {id} 192.0.2.1 4711 198.51.100.4 80\n"),
        ),
        ('B', "GET / HTTP/1.1\nHost: shop.example\n\n".to_owned()),
        ('F', "HTTP/1.1 200\n\n".to_owned()),
        ('H', alert.repeat(alerts) + "\n"),
        ('Z', "\n".to_owned()),
    ]
    .into_iter()
    .map(|(letter, content)| format!("---{id:08}---{letter}--\n{content}"))
    .collect();
    parts.concat()
}

#[test]
fn many_long_alerts_of_many_entries_in_one_file_take_little_memory() {
    let site = Site::new();
    let entries = |file: usize| (0..64).map(move |n| v3(64 * file + n, 36, 8000));
    let mut merged = Vec::new();
    for file in 0..4 {
        let bytes = entries(file).collect::<String>();
        site.put(0, file.to_string(), bytes.as_bytes());
        merged.push(bytes.len());
    }
    let (ran, peak) = collect(&site);
    ran.expect(0, &["256 entries, 256 stored", "4 removed"]);
    assert!(peak < BOUND_KB, "{} MiB", peak >> 10);
    assert!(site.files().is_empty());
    assert_eq!(site.query::<i64>("select count(*) from logs"), 256);
    let matches: i64 = site.query("select count(*) from rule_matches");
    assert_eq!(matches, 256 * 36);
    assert_eq!(site.merged_entries().len(), merged.iter().sum::<usize>());
}

#[test]
fn many_short_alerts_in_many_files_take_little_memory() {
    let site = Site::new();
    for file in 0..400 {
        let entry = String::from_utf8(entry_with(&file.to_string(), "GET / HTTP/1.1\n", b""));
        let alerts = "Message: a notice\n".repeat(1023);
        let flood = entry
            .unwrap()
            .replace("Message: Acc", &(alerts + "Message: Acc"));
        site.put(file / 100, file.to_string(), flood.as_bytes());
    }
    let (ran, peak) = collect(&site);
    ran.expect(0, &["400 entries, 400 stored", "400 removed"]);
    assert!(peak < BOUND_KB, "{} MiB", peak >> 10);
    let matches: i64 = site.query("select count(*) from rule_matches");
    assert_eq!(matches, 400 * 1024);
}

#[test]
fn one_entry_with_more_text_than_a_row_may_have_is_stored_with_a_flag() {
    let site = Site::new();
    site.put(0, "long", v3(1, 500, 8000).as_bytes());
    let (ran, peak) = collect(&site);
    ran.expect(0, &["1 entry, 1 stored", "1 removed"]);
    assert!(peak < BOUND_KB, "{} MiB", peak >> 10);
    assert_eq!(site.query::<String>("select flags from logs"), "capped");
    let text: i64 = site.query("select sum(length(detail) + length(ruleId)) from modsec_alerts");
    assert!(
        (1_000_000..=1 << 20).contains(&text),
        "{text} bytes of text"
    );
}

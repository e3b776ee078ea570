//! What really happened: Apache's index and error log, and the visitors' own answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use crate::database::Row;
use crate::programs::THRESHOLD;
use crate::traffic::{Answer, Answers};
use crate::world::World;

/// What may not be in Apache's error log.
const FAILURES: [&str; 4] = [
    "Audit log: ",
    "lock global mutex",
    "ermission denied",
    "Failed to ",
];

/// How often each client was answered 403, by the name under which it is banned.
pub(crate) type AttackFilter = BTreeMap<String, usize>;

/// A line of the index: an entry that Apache has written.
#[derive(Debug, Clone)]
pub(crate) struct Indexed {
    pub(crate) status: u16,
    pub(crate) unique_id: String,
    /// Below the storage directory, with a slash at its start.
    pub(crate) path: String,
    md5: String,
}

impl Indexed {
    /// The user whose directory the entry is in.
    pub(crate) fn account(&self) -> &str {
        self.path.split('/').nth(1).unwrap()
    }
}

/// Returns the number at the start of the first path of a request in `text`.
pub(crate) fn number(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("/r")?;
    let digits = rest.split_once('/')?.0;
    digits.parse().ok()
}

/// Reads the index. Every line must be of a request of its own.
pub(crate) fn index(world: &World) -> BTreeMap<u32, Indexed> {
    let mut index = BTreeMap::new();
    for line in world.read("index.log").lines() {
        let (before, request) = line.split_once(" \"").unwrap();
        let number = number(request).unwrap_or_else(|| panic!("no number: {before} {line}"));
        // From the right, since a request can contain anything.
        let words: Vec<&str> = line.trim_end().rsplit(' ').collect();
        let [
            md5,
            _size,
            "0",
            path,
            _session,
            unique_id,
            _agent,
            _referer,
            _bytes,
            status,
            ..,
        ] = words[..]
        else {
            panic!("{line}");
        };
        let indexed = Indexed {
            status: status.parse().unwrap(),
            unique_id: unique_id.to_owned(),
            path: path.to_owned(),
            md5: md5.strip_prefix("md5:").unwrap().to_owned(),
        };
        assert!(index.insert(number, indexed).is_none(), "twice: {line}");
    }
    index
}

/// Asserts that Apache has a line in its index for every answer that calls for one, and that it
/// had no trouble with writing.
pub(crate) fn check_apache(world: &World, answers: &Answers, index: &BTreeMap<u32, Indexed>) {
    check_errors(world);
    for (number, answer) in answers {
        let Some(indexed) = index.get(number) else {
            assert!(!answer.is_relevant(), "not in the index: {answer:?}");
            continue;
        };
        assert_eq!(indexed.status, answer.status, "{answer:?}");
    }
    let strangers = index.keys().find(|number| !answers.contains_key(number));
    assert_eq!(strangers, None, "in the index, but never answered");
}

/// Asserts that Apache had no trouble with writing.
pub(crate) fn check_errors(world: &World) {
    let log = world.read("error.log");
    let mut failed = log
        .lines()
        .filter(|line| FAILURES.iter().any(|failure| line.contains(failure)));
    if let Some(first) = failed.next() {
        panic!(
            "{} failures in Apache's error log: {first}",
            1 + failed.count()
        );
    }
}

/// Returns the rules that Apache's error log names for each request, sorted.
pub(crate) fn rules(world: &World) -> BTreeMap<u32, Vec<String>> {
    let mut rules: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for line in world.read("error.log").lines() {
        // Quotes within a value are escaped, so these are the engine's own words.
        let id = line
            .split_once("[id \"")
            .and_then(|(_, rest)| rest.split_once('"'));
        let uri = line
            .rsplit_once("[uri \"")
            .and_then(|(_, rest)| number(rest));
        if let (Some((id, _)), Some(number)) = (id, uri) {
            rules.entry(number).or_default().push(id.to_owned());
        }
    }
    for ids in rules.values_mut() {
        ids.sort_unstable();
    }
    rules
}

/// Counts the answers.
pub(crate) fn attacks(answers: &Answers) -> AttackFilter {
    let mut attacks = BTreeMap::new();
    for Answer { client, status, .. } in answers.values() {
        if *status == 403 {
            *attacks.entry(counted_as(*client)).or_default() += 1;
        }
    }
    attacks
}

/// An IPv4 address, or the network of an IPv6 address.
pub(crate) fn counted_as(client: IpAddr) -> String {
    match client {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            let network = std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0);
            format!("{network}/64")
        }
    }
}

/// Returns how often each client is named in the jail files, one line for each.
pub(crate) fn reports(world: &World, jails: &[String]) -> BTreeMap<String, usize> {
    let mut reports = BTreeMap::new();
    for jail in jails {
        for line in world.read(jail).lines() {
            let client = line.split_once(" - ").unwrap().0;
            *reports.entry(client.to_owned()).or_default() += 1;
        }
    }
    reports
}

/// Returns those with enough attacks.
pub(crate) fn offenders(attacks: &AttackFilter) -> BTreeSet<String> {
    attacks
        .iter()
        .filter(|(_, count)| **count >= THRESHOLD)
        .map(|(client, _)| client.clone())
        .collect()
}

/// Asserts that the merged logs together have every entry of the index once, byte for byte.
pub(crate) fn check_merged(world: &World, logs: &[String], index: &BTreeMap<u32, Indexed>) {
    let split = world.path("split");
    fs::create_dir(&split).unwrap();
    let mut seen = BTreeSet::new();
    for log in logs {
        let bytes = fs::read(world.path(log)).unwrap();
        for entry in entries(&bytes) {
            let text = String::from_utf8_lossy(entry);
            let (_, request) = text.split_once("-B--\n").unwrap();
            let number = number(request).unwrap();
            assert!(seen.insert(number), "{number} is twice in the merged log");
            fs::write(split.join(number.to_string()), entry).unwrap();
        }
    }
    let want: BTreeSet<u32> = index.keys().copied().collect();
    let missing: Vec<_> = want.difference(&seen).map(|at| &index[at]).collect();
    assert!(
        missing.is_empty(),
        "{} not in the merged log: {:?}",
        missing.len(),
        missing[0]
    );
    assert_eq!(
        seen.len(),
        want.len(),
        "more in the merged log than in the index"
    );
    let sums = sums(&split);
    let differ = index.iter().find(|(number, at)| sums[number] != at.md5);
    assert!(differ.is_none(), "not what Apache wrote: {differ:?}");
    fs::remove_dir_all(split).unwrap();
}

/// Splits a merged log; each entry ends with the Z line of its own boundary and an empty line,
/// which is not part of it. A line before it may say how long it is.
fn entries(mut log: &[u8]) -> Vec<&[u8]> {
    let mut entries = Vec::new();
    while !log.is_empty() {
        let shown = String::from_utf8_lossy(&log[..log.len().min(200)]);
        let mut lines = shown.lines();
        let mut first = lines.next().unwrap();
        let said = first.strip_prefix("# modsec-parser: the next ");
        let said = said.map(|said| said.split(' ').next().unwrap().parse::<usize>().unwrap());
        if said.is_some() {
            log = &log[first.len() + 1..];
            first = lines.next().unwrap();
        }
        let end = first.replace("-A--", "-Z--\n");
        assert!(
            end.ends_with("-Z--\n"),
            "not the start of an entry: {shown}"
        );
        let end = [b"\n", end.as_bytes()].concat();
        let found = memchr::memmem::find(log, &end);
        let length = found.unwrap_or_else(|| panic!("no end: {shown}")) + end.len();
        assert!(said.is_none_or(|said| said == length), "{shown}");
        assert_eq!(log.get(length), Some(&b'\n'), "{shown}");
        entries.push(&log[..length]);
        log = &log[length + 1..];
    }
    entries
}

/// Returns the MD5 sum of each file in a directory, by the number that is its name.
fn sums(dir: &Path) -> BTreeMap<u32, String> {
    let output = Command::new("sh")
        .args(["-c", "find . -type f -print0 | xargs -0r md5sum"])
        .current_dir(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let pair = |line: &str| {
        let (sum, name) = line.split_once("  ./").unwrap();
        (name.parse().unwrap(), sum.to_owned())
    };
    text.lines().map(pair).collect()
}

/// Returns what is left in the tree: entries, and directories of long ago.
pub(crate) fn left(world: &World) -> String {
    let output = Command::new("find")
        .current_dir(world.path("logs/audit"))
        .args(["(", "-not", "-type", "d", "-o", "-path", "*/2000*", ")"])
        .args(["-printf", "%P\n"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Takes the entries out of the index that are in no row because the next connection of the same
/// Apache process overwrote them; returns their numbers.
///
/// MPM-ITK gives connections of one second the same ids, so `ModSecurity` uses the same file. Who
/// waits for a processor while that happens cannot claim the file in between. Without claiming
/// two of three are lost in such a burst.
pub(crate) fn take_overwritten(
    index: &mut BTreeMap<u32, Indexed>,
    rows: &BTreeMap<u32, Vec<Row>>,
) -> Vec<u32> {
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    for indexed in index.values() {
        *files.entry(indexed.path.clone()).or_default() += 1;
    }
    let missing: Vec<u32> = index
        .keys()
        .copied()
        .filter(|number| !rows.contains_key(number))
        .collect();
    for number in &missing {
        let lost = index.remove(number).unwrap();
        assert!(files[&lost.path] > 1, "lost: {lost:?}");
    }
    assert!(
        missing.len() * 50 <= index.len(),
        "{} of {} entries were overwritten",
        missing.len(),
        index.len()
    );
    missing
}

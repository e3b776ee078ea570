//! Entries in files of their own, one for each transaction.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::foreign::{field, reading};
use super::site::{Site, entry, run};
use super::wrapped::take_off;

/// Entries of a client who has written a first line of his boundary into a body that he sent in chunks:
/// denied without an alert, and with one.
fn forged(len: usize) -> Vec<(String, i64)> {
    let of = |before: &str, after: &str, end: &str| {
        let body = format!("C--\na=1{}", "x".repeat(len));
        let parts = [
            "A--\n[22/Nov/2026:06:40:51.026894 --0500] awLUw3 203.0.113.66 59958 192.0.2.1 80",
            "B--\nPOST /login HTTP/1.1\nHost: www.example.test\nTransfer-Encoding: chunked\n",
            &body,
            "A--\n[22/Nov/2026:23:59:59.000000 --0500] x 192.0.2.200 1 192.0.2.1 80\na=1",
            "F--\nHTTP/1.1 403 Forbidden\nContent-Length: 19\n",
            end,
        ];
        let parts = parts.iter().filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.map(|part| format!("{before}{part}\n")).collect();
        format!("{}{before}Z--\n{after}", parts.concat())
    };
    let (v2, v3) = ("--74fcf803-", "---Qx7Lm2Rt---");
    let found = r#"Pattern match "x" at ARGS:a. [file "/m.conf"] [line "3"] [id "10006"]"#;
    vec![
        (of(v2, "", ""), 0),
        (of(v3, "\n", "H--\n"), 0),
        (of(v2, "", &format!("H--\nMessage: {found}\n")), 1),
        (
            of(v3, "\n", &format!("H--\nModSecurity: Warning. {found}\n")),
            1,
        ),
    ]
}

#[test]
fn a_file_of_one_entry_gives_its_status_and_alerts_whatever_is_in_its_body() {
    // Also too large to be read whole.
    for len in [0, 1 << 20] {
        for (entry, alerts) in forged(len) {
            let site = Site::new();
            site.put(1, "x", entry.as_bytes());
            site.collect().expect(0, &["1 stored"]);
            let row = "select REMOTE_ADDR || ' ' || responce_header || ' ' || \
                       (select count(*) from rule_matches) from logs";
            let want = format!("203.0.113.66 403 {alerts}");
            assert_eq!(site.query::<String>(row), want, "{}", &entry[..300]);
        }
    }
}

/// Compresses with a program; `None` if this machine has none.
fn packed(program: &str, text: &[u8]) -> Option<Vec<u8>> {
    let mut command = Command::new(program);
    let child = command
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.ok()?;
    child.stdin.take().unwrap().write_all(text).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

#[test]
fn what_is_compressed_is_named_with_the_command_that_unpacks_it() {
    let text = entry(1);
    for program in ["gzip", "xz", "zstd", "bzip2"] {
        let Some(bytes) = packed(program, &text) else {
            eprintln!("left out: {program} is not installed");
            continue;
        };
        let site = Site::new();
        site.put(1, "x", &bytes);
        fs::write(site.path("log"), &bytes).unwrap();
        let said = format!("a file compressed with {program}, which is not read");
        let mut command = site.collecting();
        command.args(["--stale-after", "0"]);
        let ran = run(command);
        ran.expect(3, &[&said, "entry not read, file kept"]);
        assert!(!ran.stderr.contains("nobody needs"), "{}", ran.stderr);
        if program != "gzip" {
            run(reading(&site, "log")).expect(3, &[&said]);
        }
        take_off(&site.path(""), &ran.stderr);
        run(reading(&site, "plain")).expect(0, &["1 stored"]);
    }
}

/// What editors, copies and crashes leave around an entry and its lines.
fn odd_files(entry: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let lines = entry.split_inclusive(|byte| *byte == b'\n');
    let copy = lines.flat_map(|line| match line.strip_suffix(b"\n") {
        Some(line) => [line, b"\r\n"].concat(),
        None => line.to_vec(),
    });
    vec![
        ("zeros before", [b"\0\0", entry].concat()),
        ("a line feed before", [b"\n", entry].concat()),
        ("a byte order mark", [b"\xef\xbb\xbf", entry].concat()),
        ("a line end behind", [entry, b"\r\n"].concat()),
        ("zeros behind", [entry, b"\0\0\0\0"].concat()),
        ("Windows", copy.clone().collect()),
        (
            "a byte order mark, Windows",
            [b"\xef\xbb\xbf".to_vec(), copy.collect()].concat(),
        ),
    ]
}

#[test]
fn what_stands_around_an_entry_in_its_file_takes_nothing_from_it() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modsec-core/tests/data");
    let large = String::from_utf8(entry(1)).unwrap();
    let body = format!("--1a2b3c4d-C--\n{}\n--1a2b3c4d-F--", "x\n".repeat(400_000));
    let large = large.replacen("--1a2b3c4d-F--", &body, 1).into_bytes();
    let json = fs::read(field("seconds-id/entry.json")).unwrap();
    let v3 = "native-v3/v3-native-concurrent/audit/20261122/20261122-1153/\
              20261122-115321-179534840175.188871";
    let v3 = fs::read(data.join(v3)).unwrap();
    for (form, whole) in [
        ("v2", entry(1)),
        ("v3", v3),
        ("json", json),
        ("large", large),
    ] {
        for (name, bytes) in odd_files(&whole) {
            if form == "large" && name.ends_with("Windows")
                || form == "json" && name == "a line feed before"
            {
                continue;
            }
            let site = Site::new();
            fs::write(site.path("log"), &whole).unwrap();
            run(reading(&site, "log")).expect(0, &["1 stored"]);
            let merged = fs::read(site.path("merged.log")).unwrap();
            let path = site.put(1, "x", &bytes);
            // It is waited for nothing, and it is the entry that it is in a log.
            let ran = run(site.collecting());
            ran.expect(0, &["0 stored, 1 already known"]);
            assert!(!path.exists(), "{form}, {name}");
            assert_eq!(
                site.query::<i64>("select count(*) from logs"),
                1,
                "{form}, {name}"
            );
            assert_eq!(
                fs::read(site.path("merged.log")).unwrap(),
                merged,
                "{form}, {name}"
            );
        }
    }
}

#[test]
fn a_large_copy_of_windows_in_the_tree_is_named() {
    let large = String::from_utf8(entry(1)).unwrap();
    let body = format!("--1a2b3c4d-C--\n{}\n--1a2b3c4d-F--", "x\n".repeat(400_000));
    let large = large.replacen("--1a2b3c4d-F--", &body, 1);
    let site = Site::new();
    let path = site.put(1, "x", large.replace('\n', "\r\n").as_bytes());
    fs::copy(path, site.path("log")).unwrap();
    let ran = run(site.collecting());
    ran.expect(3, &["line ends of Windows", "entry not read, file kept"]);
    assert!(!ran.stderr.contains("nobody needs"), "{}", ran.stderr);
    take_off(&site.path(""), &ran.stderr);
    assert_eq!(fs::read(site.path("plain")).unwrap(), large.as_bytes());
}

//! What the program says of what it did, and of what it did not do, and how it ends then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Entries in the directory `audit`.
const ENTRIES: usize = 2000;

/// A directory with `audit` in it, which has entries of one minute.
fn place(entries: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let minute = dir.path().join("audit/20260304/20260304-0506");
    fs::create_dir_all(&minute).unwrap();
    for number in 0..entries {
        fs::write(
            minute.join(format!("20260304-050607-{number}")),
            entry(number),
        )
        .unwrap();
    }
    dir
}

fn entry(number: usize) -> String {
    format!(
        "--3fa0c41b-A--\n[04/Mar/2026:05:06:07 +0000] id{number} 192.0.2.7 1 192.0.2.1 80\n\
         --3fa0c41b-B--\nGET / HTTP/1.1\n\n--3fa0c41b-F--\nHTTP/1.1 200\n\n\
         --3fa0c41b-H--\n\n--3fa0c41b-Z--\n"
    )
}

/// The program in `dir`, without configuration file.
fn program(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("modsec-parser"));
    command
        .env("MODSEC_CONFIG", "none")
        .env("STATE_DIRECTORY", dir.join("state"))
        .env("MODSEC_MIN_AGE", "0")
        .current_dir(dir)
        .args(arguments);
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    program(dir, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs the program with a standard output that is always full.
fn on_full(dir: &Path, arguments: &[&str]) -> Output {
    let full = File::options().write(true).open("/dev/full").unwrap();
    program(dir, arguments).stdout(full).output().unwrap()
}

/// Runs the program with a reader that goes away after a line, as head(1) does.
fn with_head(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = program(dir, arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    drop(lines);
    child.wait_with_output().unwrap()
}

const TREE: [&str; 2] = ["--storage-dir", "audit"];
const STORE: [&str; 2] = ["--store", "sqlite:x.db"];
const LOST: &str = "modsec-parser: cannot write to standard output, some of the output is lost";

/// Returns how many entries another pass finds stored already.
fn stored(dir: &Path, entries: usize) -> String {
    fs::write(dir.join("all"), (0..entries).map(entry).collect::<String>()).unwrap();
    text(&run(dir, &[&STORE[..], &["all"]].concat()).stdout)
}

#[test]
fn lost_output_is_a_failure() {
    let dir = place(3);
    let json = [&TREE[..], &["--jsonl"]].concat();
    let check = [&TREE[..], &STORE, &["--check-config"]].concat();
    let rehearsal = [&TREE[..], &["--dry-run"]].concat();
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["--generate", "man"],
        &["--generate", "complete-bash"],
        &check,
        &rehearsal,
        &json,
    ] {
        let out = on_full(dir.path(), arguments);
        assert_eq!(out.status.code(), Some(1), "{arguments:?}");
        let said = text(&out.stderr);
        assert!(
            said.contains(LOST) || said.contains("JSON"),
            "{arguments:?}: {said}"
        );
        assert!(said.contains("No space left"), "{arguments:?}: {said}");
    }
}

#[test]
fn a_pass_that_stores_stores_all_whatever_becomes_of_its_output() {
    type Play = fn(&Path, &[&str]) -> Output;
    let plays: [(&str, Play, usize); 3] = [
        ("full", on_full, 3),
        ("full", on_full, ENTRIES),
        ("head", with_head, ENTRIES),
    ];
    for (name, play, entries) in plays {
        let dir = place(entries);
        let arguments = [&TREE[..], &STORE, &["--jsonl"]].concat();
        let out = play(dir.path(), &arguments);
        assert_eq!(out.status.code(), Some(1), "{name} {entries}");
        assert!(text(&out.stderr).contains(LOST), "{}", text(&out.stderr));
        let known = stored(dir.path(), entries);
        assert!(
            known.contains(&format!("{entries} already known")),
            "{known}"
        );
    }
    let dir = place(3);
    let out = on_full(dir.path(), &[&TREE[..], &STORE].concat());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains(LOST), "{}", text(&out.stderr));
    assert!(stored(dir.path(), 3).contains("3 already known"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_of_what_only_reads() {
    let dir = place(ENTRIES);
    let json = [&TREE[..], &["--jsonl"]].concat();
    for arguments in [&json[..], &["--help"], &["--generate", "man"]] {
        let out = with_head(dir.path(), arguments);
        assert_eq!(out.status.code(), Some(0), "{arguments:?}");
        assert_eq!(text(&out.stderr), "", "{arguments:?}");
    }
}

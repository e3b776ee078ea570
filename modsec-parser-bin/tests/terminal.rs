//! No file name and no text of the log does anything to a terminal.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "terminal/hostile_text.rs"]
mod hostile_text;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use self::hostile_text::{assert_inert, assert_shown, name};

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_modsec-parser"))
        .env("MODSEC_CONFIG", "none")
        .args(["--merged-log", "merged.log", "--store", "sqlite:modsec.db"])
        .args(["--min-age", "0", "--stale-after", "0"])
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn entry() -> String {
    let name = name();
    format!(
        "--6ce10769-A--\n[22/Aug/2020:14:38:15 +0300] awLU 192.0.2.7 1 198.51.100.1 80\n--6ce10769-B--\nGET /{name} HTTP/1.1\nHost: {name}\n\n--6ce10769-F--\nHTTP/1.1 403 {name}\n\n--6ce10769-H--\nMessage: Access denied with code 403 (phase 2). x [file \"/{name}\"] [line \"1\"] [id \"{name}\"] [msg \"{name}\"]\nAction: Intercepted (phase 2)\n\n--6ce10769-Z--\n"
    )
}

#[test]
fn neither_names_nor_texts_reach_the_terminal_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let name = name();
    let minute = dir.join("audit/20200822/20200822-1015");
    fs::create_dir_all(&minute).unwrap();
    let fill = || {
        fs::write(minute.join(&name), entry()).unwrap();
        fs::write(minute.join(format!("20200822-101500-{name}")), entry()).unwrap();
        fs::write(minute.join(format!("20200822-101501-{name}")), "junk").unwrap();
    };
    let plain = dir.join(&name);
    fs::write(&plain, entry()).unwrap();
    let (plain, missing) = (plain.to_str().unwrap(), format!("no{name}"));
    for format in ["text", "json"] {
        fill();
        let tree = ["-vv", "--log-format", format, "--storage-dir", "audit"];
        let output = run(dir, &tree);
        assert_shown("a pass, logged", &output.stderr);
        assert_inert("a pass", &output.stdout);
        let output = run(dir, &["-vv", "--log-format", format, "--jsonl", plain]);
        assert_inert("a file, logged", &output.stderr);
        assert_shown("a file", &output.stdout);
        let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(line["ruleId"], name.as_str());
        fill();
        let output = run(dir, &[&tree[..], &["--log-file", "own.log"]].concat());
        assert_inert("a pass, warned", &output.stderr);
        assert_shown("a pass, in a file", &fs::read(dir.join("own.log")).unwrap());
        fs::remove_file(dir.join("own.log")).unwrap();
    }
    for arguments in [
        &["--storage-dir", &missing][..],
        &[&missing],
        &[&format!("--{name}")],
        &["--min-age", &name],
        &["--store", &name],
        &["--config", &missing],
        &["--merged-log", &format!("{missing}/x"), plain],
    ] {
        let output = run(dir, arguments);
        assert!(!output.status.success(), "{arguments:?}");
        assert_inert(&format!("{arguments:?}"), &output.stderr);
        assert_inert(&format!("{arguments:?}"), &output.stdout);
    }
}

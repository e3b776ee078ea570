//! No file name and no text of the log does anything to a terminal.

#[path = "../../modsec-parser-bin/tests/terminal/hostile_text.rs"]
mod hostile_text;

use std::fs;
use std::process::Command;

use self::hostile_text::{assert_inert, assert_shown, name};

#[test]
fn neither_names_nor_texts_reach_the_terminal_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let name = name();
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_recidive"))
            .env("MODSEC_CONFIG", "none")
            .args(arguments)
            .current_dir(dir.path())
            .output()
            .unwrap()
    };
    let entry = format!(
        "--6ce10769-A--\n[22/Aug/2020:14:38:15 +0300] awLU 192.0.2.7 1 198.51.100.1 80\n--6ce10769-B--\nGET /{name} HTTP/1.1\n\n--6ce10769-F--\nHTTP/1.1 403 x\n\n--6ce10769-H--\nMessage: Access denied with code 403 (phase 2). x [file \"/f\"] [line \"1\"] [id \"{name}\"]\nAction: Intercepted (phase 2)\n\n--6ce10769-Z--\n"
    );
    fs::write(dir.path().join(&name), entry).unwrap();
    for json in [&[][..], &["--json"]] {
        let output = run(&[&["replay", "--threshold", "1", &name], json].concat());
        assert!(output.status.success(), "{output:?}");
        assert_shown("replay", &output.stdout);
        assert_inert("replay, logged", &output.stderr);
    }
    let missing = format!("no{name}");
    for arguments in [
        &["replay", &missing][..],
        &["replay", &format!("--{name}")],
        &["status", "--state-file", &missing],
        &["--count", &name],
        &["--ignore", &name],
        &["--ignore-file", &missing],
        &["--config", &missing],
        &["--storage-dir", &missing, "--dry-run", "--threshold", "0"],
    ] {
        let output = run(arguments);
        assert_inert(&format!("{arguments:?}"), &output.stderr);
        assert_inert(&format!("{arguments:?}"), &output.stdout);
    }
}

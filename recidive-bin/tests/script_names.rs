//! The names that the old script had: `modsec_recedive.sh`, which its author has since renamed to
//! `modsec_recidive.sh`, with its files and variables.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use crate::program::{Place, Running, bare, wait_for};

/// Returns the value and the source of a setting as `--check-config` shows them.
fn setting(output: &Output, key: &str) -> (String, String) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let start = format!("{key} = ");
    let line = text.lines().find(|line| line.starts_with(&start));
    let line = line.unwrap_or_else(|| panic!("{key}: {output:?}"));
    let (value, source) = line[start.len()..].split_once(" # ").unwrap();
    (
        value.trim().trim_matches('"').to_owned(),
        source.trim().to_owned(),
    )
}

#[test]
fn our_variables_beat_those_of_the_script_and_those_of_the_renamed_one() {
    for (key, names) in [
        (
            "recidive-file",
            &["RECIDIVE_FILE", "RECEDIVE_FILE", "recidive_FILE"][..],
        ),
        ("storage-dir", &["RECIDIVE_STORAGE_DIR", "WATCH_DIR"]),
        ("merged-log", &["RECIDIVE_MERGED_LOG", "MERGED_LOG_FILE"]),
        ("state-file", &["RECIDIVE_STATE_FILE", "LOG_FILE"]),
        ("pid-file", &["RECIDIVE_PID_FILE", "PID_FILE"]),
        ("threshold", &["RECIDIVE_THRESHOLD", "ATTACK_THRESHOLD"]),
        ("find-time", &["RECIDIVE_FIND_TIME", "TIMEOUT"]),
    ] {
        for first in 0..names.len() {
            let mut command = bare();
            for (number, name) in names.iter().enumerate() {
                // A variable that is set to nothing is not set.
                let value = format!("70{number}");
                command.env(name, if number < first { "" } else { &value });
            }
            let output = command.arg("--check-config").output().unwrap();
            let want = (
                format!("70{first}"),
                format!("environment, {}", names[first]),
            );
            assert_eq!(setting(&output, key), want);
        }
    }
}

/// Runs the program where nothing of this machine is below `/var/lib` and `/var/log`, after `files`
/// were made there. `None` where no mounts can be made.
fn on_a_fresh_host(files: &[&str], arguments: &[&str]) -> Option<Output> {
    let enter = "mount -t tmpfs tmpfs /var/lib && mount -t tmpfs tmpfs /var/log || exit 99
                 until [ \"$1\" = -- ]; do
                     mkdir -p \"${1%/*}\" && echo '203.0.113.9 12 4102444800' > \"$1\"; shift
                 done
                 shift; exec \"$@\"";
    let program = bare();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", enter, "sh"]);
    command
        .args(files)
        .arg("--")
        .arg(program.get_program())
        .args(arguments);
    command.env("MODSEC_CONFIG", "none").env_remove("LOG_FILE");
    let output = command.output();
    let output = output
        .ok()
        .filter(|output| ![Some(99), Some(1)].contains(&output.status.code()));
    if output.is_none() {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: mounts need root, and unshare of util-linux"
        );
    }
    output
}

const STATE: &str = "/var/lib/modsecurity_recedive/modsec_recedive.dat";
const RENAMED_STATE: &str = "/var/lib/modsecurity_recidive/modsec_recidive.dat";
const JAIL: &str = "/var/log/httpd/modsec_recedive.log";
const RENAMED_JAIL: &str = "/var/log/httpd/modsec_recidive.log";
const MERGED: &str = "/var/log/httpd/modsec_audit.log";
const RENAMED_MERGED: &str = "/var/log/httpd/modsec_merged.log";

#[test]
fn files_are_found_where_either_script_left_them_and_the_renamed_ones_are_named() {
    let check = ["--check-config", "--source", "storage-dir,merged-log"];
    for (files, want, said) in [
        (&[][..], [STATE, JAIL, MERGED], false),
        (&[STATE, JAIL, MERGED], [STATE, JAIL, MERGED], false),
        (
            &[RENAMED_STATE, RENAMED_JAIL, RENAMED_MERGED],
            [RENAMED_STATE, RENAMED_JAIL, RENAMED_MERGED],
            true,
        ),
        (
            &[
                RENAMED_STATE,
                RENAMED_JAIL,
                RENAMED_MERGED,
                STATE,
                JAIL,
                MERGED,
            ],
            [STATE, JAIL, MERGED],
            false,
        ),
    ] {
        let Some(output) = on_a_fresh_host(files, &check) else {
            return;
        };
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        for (key, path) in ["state-file", "recidive-file", "merged-log"]
            .into_iter()
            .zip(want)
        {
            assert_eq!(
                setting(&output, key),
                (path.to_owned(), "default".to_owned())
            );
            assert_eq!(err.contains(path), said, "{err}");
        }
    }
}

#[test]
fn status_shows_the_table_of_the_renamed_script_and_says_whose_it_is() {
    let Some(output) = on_a_fresh_host(&[RENAMED_STATE], &["status"]) else {
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("203.0.113.9"), "{output:?}");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains(RENAMED_STATE), "{err}");
    // Named by somebody, it is the one that was asked for, and nothing is said.
    let asked = ["status", "--state-file", RENAMED_STATE];
    let output = on_a_fresh_host(&[RENAMED_STATE], &asked).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_state_of_either_script_goes_on_where_the_script_ended() {
    let place = Place::new();
    fs::create_dir(place.path("state")).unwrap();
    let state = place.path("state/recidive.dat");
    fs::write(
        &state,
        "203.0.113.9 12 4102444800\n2001:db8::7 3 4102444800\n",
    )
    .unwrap();
    let output = place.recidive(&["status", "--json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("203.0.113.9") && text.contains("2001:db8::"),
        "{output:?}"
    );
    assert!(state.exists());
}

#[test]
fn the_guide_finds_the_script_under_both_names() {
    let guide = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/server/migration.md"
    );
    let guide = fs::read_to_string(guide).unwrap();
    let (_, rest) = guide.split_once("`pgrep -af 'modsec_").unwrap();
    let pattern = format!("modsec_{}", rest.split('\'').next().unwrap());
    let place = Place::new();
    for name in ["modsec_recedive.sh", "modsec_recidive.sh"] {
        // It reads what nobody writes, until it is killed.
        fs::write(place.path(name), "read line").unwrap();
        let mut command = Command::new("sh");
        let script = command
            .arg(place.path(name))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = script.id().to_string();
        let running = Running::of(script);
        wait_for(name, || {
            let found = Command::new("pgrep")
                .args(["-af", &pattern])
                .output()
                .unwrap();
            let found = String::from_utf8(found.stdout).unwrap();
            found
                .lines()
                .any(|line| line.split(' ').next() == Some(&pid))
        });
        running.kill();
    }
}

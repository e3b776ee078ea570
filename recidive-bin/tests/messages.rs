//! What the program says of what it did not do, and how it ends then.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod program;
#[path = "../../modsec-core/tests/machine/signals.rs"]
mod signals;
#[path = "../../modsec-core/tests/tips/mod.rs"]
mod tips;

use std::fs::{self, File};
use std::process::{Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::program::inotify::can_follow;
use crate::program::{Place, entry, wait_for};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn an_interrupted_replay_says_so() {
    let place = Place::new();
    let fifo = place.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        // It waits for a writer.
        let mut command = place.recidive(&["replay", "fifo"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_for("the set-up", || signals::sleeps(&child).is_some());
        kill_process(Pid::from_child(&child), signal).unwrap();
        let out = child.wait_with_output().unwrap();
        assert_eq!(out.status.code(), Some(status));
        assert_eq!(text(&out.stdout), "");
        assert_eq!(
            text(&out.stderr),
            "recidive: interrupted: not everything was read\n"
        );
    }
}

#[test]
fn one_file_is_not_used_for_two_purposes() {
    let place = Place::new();
    fs::write(place.path("same"), "a line for Fail2ban\n").unwrap();
    for (arguments, names) in [
        (
            ["--state-file", "same", "--recidive-file", "same"],
            "--state-file and --recidive-file",
        ),
        (
            ["--pid-file", "same", "--recidive-file", "same"],
            "--recidive-file and --pid-file",
        ),
        (
            ["--log-file", "new", "--state-file", "./new"],
            "--state-file and --log-file",
        ),
    ] {
        for check in [&["--check-config"][..], &[]] {
            let out = place
                .recidive(&[&arguments[..], check].concat())
                .output()
                .unwrap();
            assert_eq!(out.status.code(), Some(2), "{arguments:?}");
            let said = text(&out.stderr);
            assert!(
                said.contains(&format!("{names} name the same file")),
                "{said}"
            );
        }
    }
    assert_eq!(
        fs::read_to_string(place.path("same")).unwrap(),
        "a line for Fail2ban\n"
    );
}

#[test]
fn checking_finds_what_is_not_a_file_and_a_program_that_runs_already() {
    if !can_follow() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("dir")).unwrap();
    for arguments in [
        &["--source", "merged-log", "--merged-log", "dir"][..],
        &["--source", "index=dir"],
        &["--state-file", "dir"],
        &["--pid-file", "dir"],
    ] {
        let check = place
            .recidive(&[arguments, &["--check-config"]].concat())
            .output();
        let check = check.unwrap();
        let said = text(&check.stderr);
        assert_eq!(check.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains("it is a directory"), "{arguments:?}: {said}");
    }
    let check = || place.recidive(&["--check-config"]).output().unwrap();
    assert_eq!(check().status.code(), Some(0), "{}", text(&check().stderr));
    let mut command = place.recidive(&[]);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    wait_for("the PID file", || check().status.code() == Some(1));
    let said = text(&check().stderr);
    let number = format!("already running as process {}", child.id());
    assert!(said.contains(&number), "{said}");
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(check().status.code(), Some(0), "{}", text(&check().stderr));
}

#[test]
fn a_negative_number_is_a_bad_value_and_no_unknown_option() {
    let place = Place::new();
    for (arguments, want) in [
        (
            &["--threshold", "-1"][..],
            "invalid value '-1' for '--threshold <NUMBER>': expected a whole number, 0 or more",
        ),
        (
            &["replay", "--find-time", "-600", "x"],
            "invalid value '-600' for '--find-time <SECONDS>': expected a whole number",
        ),
        (
            &["status", "--find-time", "-1"],
            "invalid value '-1' for '--find-time <SECONDS>': expected a whole number",
        ),
        (
            &["--max-clients", "-1"],
            "'--max-clients <NUMBER>': expected a whole number, 0 or more",
        ),
        (
            &["--ipv4-prefix", "-8"],
            "'--ipv4-prefix <BITS>': expected a whole number from 0 to 255",
        ),
    ] {
        let out = place.recidive(arguments).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(want), "{arguments:?}: {said}");
    }
}

#[test]
fn what_is_left_out_of_json_is_said_on_standard_error() {
    let place = Place::new();
    let whole = entry("192.0.2.7", 1, "", "403");
    let cut = whole.rsplit_once("--").unwrap().0;
    let cut = cut.rsplit_once("\n--").unwrap().0;
    fs::write(place.path("log"), cut).unwrap();
    let out = place
        .recidive(&["replay", "--json", "log"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(3), "{}", text(&out.stdout));
    let said = text(&out.stderr);
    assert!(
        said.contains(", 1 defective (no entry, or cut off)"),
        "{said}"
    );

    fs::create_dir(place.path("state")).unwrap();
    fs::write(place.path("state/recidive.dat"), "no client\n").unwrap();
    for json in [&[][..], &["--json"]] {
        let out = place.recidive(&[&["status"], json].concat()).output();
        let out = out.unwrap();
        assert_eq!(out.status.code(), Some(3), "{}", text(&out.stdout));
        let said = text(&out.stderr);
        assert!(
            said.contains("state/recidive.dat: 1 line left out"),
            "{said}"
        );
    }
}

#[test]
fn an_empty_standard_input_has_no_entries_whatever_it_is() {
    let place = Place::new();
    let mut ends = Vec::new();
    for input in [Stdio::null(), Stdio::piped()] {
        let mut command = place.recidive(&["replay", "-"]);
        let command = command.stdin(input).stderr(Stdio::piped());
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = child.wait_with_output().unwrap();
        ends.push((out.status.code(), text(&out.stderr)));
    }
    assert_eq!(ends[0], ends[1]);
}

/// Runs the program with a standard output that is always full.
fn on_full(place: &Place, arguments: &[&str]) -> Output {
    let full = File::options().write(true).open("/dev/full").unwrap();
    place.recidive(arguments).stdout(full).output().unwrap()
}

#[test]
fn lost_output_is_a_failure_and_a_closed_pipe_is_none() {
    let mut place = Place::new();
    fs::create_dir(place.path("state")).unwrap();
    fs::write(place.path("state/recidive.dat"), "192.0.2.7 3 1787386500\n").unwrap();
    for second in 0..3 {
        place.write("site1", &entry("192.0.2.7", second, "", "403"));
    }
    let rehearsal = ["--dry-run", "--threshold", "3"];
    for arguments in [
        &["--help"][..],
        &["replay", "-h"],
        &["--generate", "man"],
        &["--check-config"],
        &["status"],
        &["status", "--json"],
        &["replay", "audit"],
        &["replay", "--json", "audit"],
        &rehearsal,
    ] {
        if arguments == rehearsal && !can_follow() {
            continue;
        }
        let out = on_full(&place, arguments);
        assert_eq!(out.status.code(), Some(1), "{arguments:?}");
        let said = text(&out.stderr);
        let lost =
            "recidive: cannot write to standard output, some of the output is lost: No space";
        assert!(said.contains(lost), "{arguments:?}: {said}");

        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let out = place.recidive(arguments).stdout(write).output().unwrap();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("pipe"), "{arguments:?}: {said}");
    }
}

#[test]
fn checking_names_all_that_is_missing_and_shows_the_rest() {
    let place = Place::new();
    let no = |name: &str| place.path("no").join(name).display().to_string();
    let (jail, pid, log) = (no("jail.log"), no("x.pid"), no("x.log"));
    let (state, ignored) = (no("state/x.dat"), no("ignored"));
    let line = [
        "--check-config",
        "--recidive-file",
        &jail,
        "--pid-file",
        &pid,
        "--log-file",
        &log,
        "--state-file",
        &state,
        "--ignore-file",
        &ignored,
    ];
    let out = run(&place, &line);
    assert_eq!(out.status.code(), Some(1));
    let said = text(&out.stderr);
    for want in [&jail, &pid, &log, &state, &ignored] {
        assert!(said.contains(want), "{want}: {said}");
    }
    let out = text(&out.stdout);
    assert!(out.contains("threshold = 10"), "{out}");

    // On a host on which the web server has not logged yet, and the program was not started yet.
    fs::remove_dir(place.path("audit")).unwrap();
    let out = run(
        &place,
        &["--check-config", "--source", "storage-dir,merged-log"],
    );
    assert_eq!(
        (out.status.code(), text(&out.stderr)),
        (Some(0), String::new())
    );
    let out = text(&out.stdout);
    for want in [
        "audit is not there yet",
        "merged.log is not there yet",
        "state is not there yet",
    ] {
        assert!(out.contains(want), "{want}: {out}");
    }
    assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 0);
}

#[test]
fn one_log_too_many_is_a_bad_argument() {
    let place = Place::new();
    for more in [&["--check-config"][..], &["--dry-run"]] {
        let line = [&["--source", "merged-log,index=x"], more].concat();
        let out = run(&place, &line);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{more:?}: {said}");
        assert!(said.contains("only one log can be followed"), "{said}");
    }
}

fn run(place: &Place, arguments: &[&str]) -> Output {
    place.recidive(arguments).output().unwrap()
}

#[test]
fn options_stand_before_or_behind_a_subcommand() {
    let mut place = Place::new();
    for second in 0..3 {
        place.write("site1", &entry("192.0.2.7", second, "", "403"));
    }
    let behind = run(&place, &["replay", "--threshold", "3", "-q", "audit"]);
    assert!(text(&behind.stdout).contains("192.0.2.7"));
    let before = run(&place, &["--threshold", "3", "-q", "replay", "audit"]);
    assert_eq!(before, behind);
    let config = run(&place, &["--config=none", "status", "--find-time", "3"]);
    assert_eq!(config.status.code(), Some(0), "{}", text(&config.stderr));
    let foreign = run(&place, &["--dry-run", "replay", "audit"]);
    assert_eq!(foreign.status.code(), Some(2), "replay has no such option");
}

#[test]
fn bad_values_end_with_2_in_every_subcommand() {
    let place = Place::new();
    for value in [
        ["--threshold", "0"],
        ["--find-time", "99999999"],
        ["--max-clients", "0"],
        ["--ipv4-prefix", "33"],
        ["--ipv6-prefix", "200"],
    ] {
        for command in [&["--check-config"][..], &["replay", "audit"]] {
            let out = run(&place, &[command, &value].concat());
            assert_eq!(out.status.code(), Some(2), "{command:?} {value:?}: {out:?}");
        }
    }
}

#[test]
fn a_state_file_in_the_place_of_whose_directory_is_a_file_is_named() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let out = run(&place, &["status", "--state-file", "file/state"]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot look at file/state"), "{said}");
}

#[test]
fn replay_reads_standard_input() {
    let place = Place::new();
    let log: String = (0..3)
        .map(|second| entry("192.0.2.7", second, "", "403"))
        .collect();
    fs::write(place.path("log"), &log).unwrap();
    let named = run(&place, &["replay", "--threshold", "3", "log"]);
    let mut command = place.recidive(&["replay", "--threshold", "3", "-"]);
    let file = File::open(place.path("log")).unwrap();
    let redirected = command.stdin(file).output().unwrap();
    assert_eq!(text(&redirected.stdout), text(&named.stdout));
    let (read, mut write) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut write, log.as_bytes()).unwrap();
    drop(write);
    let piped = command.stdin(read).output().unwrap();
    assert_eq!(text(&piped.stdout), text(&named.stdout));
    assert!(text(&piped.stdout).contains("192.0.2.7"));
}

#[test]
fn nothing_is_said_to_be_nothing() {
    let place = Place::new();
    let out = run(&place, &["replay", "audit"]);
    assert_eq!(out.status.code(), Some(0));
    assert_eq!(text(&out.stderr), "recidive: no entries in audit\n");
    let shown = [(&[][..], ""), (&["--json"], "{\"clients\":[]}\n")];
    for (json, want) in shown {
        let out = run(&place, &[&["status"], json].concat());
        assert_eq!(out.status.code(), Some(0));
        assert_eq!(text(&out.stdout), want);
        let said = text(&out.stderr);
        assert!(said.contains("there is no state file"), "{said}");
    }
}

#[test]
fn no_network_is_ignored_if_none_is_named() {
    let mut place = Place::new();
    for second in 0..3 {
        place.write("site1", &entry("192.0.2.7", second, "", "403"));
    }
    fs::write(
        place.path("x.toml"),
        "[recidive]\nignore = ['192.0.2.0/24']\n",
    )
    .unwrap();
    let line = ["replay", "--config", "x.toml", "--threshold", "3", "audit"];
    assert!(text(&run(&place, &line).stdout).contains("3 ignored"));
    let line = [&line[..], &["--ignore", "none"]].concat();
    assert!(text(&run(&place, &line).stdout).contains("0 ignored"));
}

#[test]
fn one_of_a_thing_is_one() {
    let mut place = Place::new();
    for second in 0..2 {
        place.write("site1", &entry("192.0.2.7", second, "", "403"));
    }
    let out = text(&run(&place, &["replay", "--threshold", "2", "audit"]).stdout);
    assert!(out.contains("\n    reported 1 time: "), "{out}");
    assert!(
        out.contains("2 entries, 2 attacks, 1 offender in 1 report; "),
        "{out}"
    );
    assert!(!out.contains(",\n"), "{out}");
    if !can_follow() {
        return;
    }
    let running = place
        .recidive(&["--dry-run", "-v"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn();
    let child = running.unwrap();
    wait_for("the set-up", || signals::sleeps(&child).is_some());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let said = text(&child.wait_with_output().unwrap().stderr);
    assert!(said.contains("stopped records="), "{said}");
    assert!(!said.contains('{'), "no structures of the program: {said}");
}

#[test]
fn a_mistyped_option_is_answered_by_one_that_is_there() {
    let program = assert_cmd::cargo::cargo_bin!("recidive");
    tips::check(program, &[&[], &["replay"], &["status"]]);
}

#[test]
fn a_replay_names_what_it_cannot_read() {
    let place = Place::new();
    let minute = place.path("audit/20260822/20260822-1015");
    fs::create_dir_all(&minute).unwrap();
    let path = minute.join("20260822-101500-x");
    fs::write(&path, entry("192.0.2.7", 1, "", "403 Forbidden")).unwrap();
    fs::hard_link(&path, place.path("another")).unwrap();
    for argument in ["audit", path.to_str().unwrap()] {
        let output = place.recidive(&["replay", argument]).output().unwrap();
        assert_eq!(output.status.code(), Some(3));
        let said = text(&output.stderr);
        for word in ["20260822-101500-x", "2 hard links", "no entries in"] {
            assert!(said.contains(word), "{word} in {said}");
        }
    }
}

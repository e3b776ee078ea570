//! What the program says of what it did, and of what it did not do, and how it ends then.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "messages/checking.rs"]
mod checking;
#[path = "../../modsec-core/tests/tips/mod.rs"]
mod tips;

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

/// Returns exit status, standard output and standard error.
fn said(output: &Output) -> (Option<i32>, String, String) {
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn of_several_state_directories_the_first_is_used() {
    let dir = place(0);
    let paths = format!("{0}/one:{0}/two", dir.path().display());
    let mut command = program(dir.path(), &TREE);
    let out = command.env("STATE_DIRECTORY", paths).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert!(dir.path().join("one/modsec.db").exists());
    assert!(!dir.path().join("two").exists());
}

#[test]
fn the_summary_says_where_entries_are_stored_and_can_be_silenced() {
    let dir = place(2);
    fs::write(dir.path().join("log"), entry(7)).unwrap();
    let (code, out, err) = said(&run(dir.path(), &["log"]));
    let database = dir.path().join("state/modsec.db");
    let want = format!("sqlite:{}", database.display());
    assert!(out.contains(&want), "{out}");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for quiet in ["-q", "-qq"] {
        for line in [&["log"][..], &[TREE[0], TREE[1], STORE[0], STORE[1]]] {
            let nothing = (Some(0), String::new(), String::new());
            assert_eq!(said(&run(dir.path(), &[line, &[quiet]].concat())), nothing);
        }
    }
}

#[test]
fn nothing_found_is_said() {
    let dir = place(0);
    fs::create_dir(dir.path().join("empty")).unwrap();
    for more in [&[][..], &["--jsonl"], &["--dry-run"]] {
        let (code, _, err) = said(&run(dir.path(), &[&["empty"], more].concat()));
        assert_eq!(err, "modsec-parser: no entries in empty\n", "{more:?}");
        assert_eq!(code, Some(0));
    }
    let (code, out, err) = said(&run(dir.path(), &[&TREE[..], &STORE].concat()));
    assert!(out.ends_with("\nno entries in audit\n"), "{out}");
    assert_eq!((code, err.as_str()), (Some(0), ""));
}

#[test]
fn defects_without_a_summary_are_said_on_standard_error() {
    let dir = place(0);
    let whole = entry(1);
    let cut = whole.split("--3fa0c41b-H").next().unwrap();
    fs::write(dir.path().join("log"), format!("{whole}{cut}")).unwrap();
    let (code, out, err) = said(&run(dir.path(), &["--jsonl", "log"]));
    assert_eq!((code, out.lines().count()), (Some(3), 2), "{err}");
    assert_eq!(err, "modsec-parser: 2 entries, 1 defective (cut short)\n");
    let (code, _, err) = said(&run(dir.path(), &["--jsonl", "-q", "log"]));
    assert_eq!((code, err.as_str()), (Some(3), ""));
}

#[test]
fn an_empty_standard_input_is_an_empty_log_whatever_it_is() {
    let dir = place(0);
    fs::write(dir.path().join("empty"), "").unwrap();
    let mut ends = Vec::new();
    for input in [
        Stdio::null(),
        Stdio::piped(),
        File::open(dir.path().join("empty")).unwrap().into(),
    ] {
        let mut command = program(dir.path(), &["--jsonl", "-"]);
        let command = command.stdin(input).stderr(Stdio::piped());
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (code, out, err) = said(&child.wait_with_output().unwrap());
        assert!(err.contains("the file is empty"), "{err}");
        ends.push((code, out));
    }
    ends.push((Some(3), String::new()));
    ends.dedup();
    assert_eq!(ends.len(), 1, "{ends:?}");
}

#[test]
fn what_a_database_says_is_said_once() {
    let dir = place(0);
    fs::write(dir.path().join("text"), "no database at all ".repeat(20)).unwrap();
    for more in [&[][..], &["--check-config"]] {
        let line = [&TREE[..], &["--store", "sqlite:text"], more].concat();
        let (code, _, err) = said(&run(dir.path(), &line));
        assert_eq!(code, Some(1), "{err}");
        assert_eq!(err.matches("file is not a database").count(), 1, "{err}");
        assert!(err.contains("(SQLite's code 26)"), "{err}");
    }
}

/// Arguments that make no sense, and what the answer has.
const BAD_ARGUMENTS: [(&[&str], &str); 22] = [
    (
        &["--min-age", "-1"],
        "invalid value '-1' for '--min-age <SECONDS>': expected a whole number, 0 or more",
    ),
    (
        &["--threads", "-1"],
        "'--threads <NUMBER>': expected a whole number from 1 to 65535",
    ),
    (
        &["--store", "mysql://h:99999/db"],
        "the port is not a number from 1 to 65535",
    ),
    (
        &["--store", "mysql://h:0/db"],
        "the port is not a number from 1 to 65535",
    ),
    (
        &["--store", "mysql://h/db?ssl-mode=bogus"],
        "ssl-mode is one of disabled, preferred,",
    ),
    (
        &["--store", "mysql://h/db?ssl=2"],
        "ssl and ssl-verify-server-cert are 1 or 0",
    ),
    (
        &["--store", "mysql://h/db?bogus=1"],
        "the options behind `?` are socket, ssl-ca",
    ),
    (&["--store", "mysql://h"], "no database is named"),
    (
        &["--store", "mysqll://h/d"],
        "did you mean mysql://USER@HOST/DATABASE?",
    ),
    (
        &["--dry-run", "--index", "x", "--store", "sqlite:x.db"],
        "--index does not go with --dry-run",
    ),
    (&["--db", "x"], "'--store'"),
    (&["--password", "x"], "'--defaults-file'"),
    (&["--min_age", "3"], "'--min-age'"),
    (&["--zzz"], "unexpected argument '--zzz' found\n\nUsage"),
    (
        &["--min-age", "x"],
        "'--min-age <SECONDS>': expected a whole number, 0 or more",
    ),
    (
        &["--min-age=-1"],
        "'--min-age <SECONDS>': expected a whole number, 0 or more",
    ),
    (
        &["--min-age=99999999999999999999"],
        "the number is too large",
    ),
    (
        &["--threads", "0"],
        "expected a whole number from 1 to 65535",
    ),
    (
        &["--store", "mariadb://u@h/d"],
        "did you mean mysql://USER@HOST/DATABASE?",
    ),
    (&["--store", "sqlite3:x.db"], "did you mean sqlite:PATH?"),
    (&["--store", "/srv/x.db"], "did you mean sqlite:PATH?"),
    (&["--store", "mysql:x"], "the URL must start with mysql://"),
];

#[test]
fn what_was_meant_is_said_of_bad_arguments() {
    let dir = place(0);
    for (arguments, want) in BAD_ARGUMENTS {
        for mode in [&[][..], &["--check-config"], &["--dry-run"]] {
            if mode.iter().any(|mode| arguments.contains(mode)) {
                continue;
            }
            let (code, out, err) = said(&run(dir.path(), &[arguments, mode].concat()));
            assert_eq!((code, out.as_str()), (Some(2), ""), "{arguments:?}: {err}");
            assert!(err.contains(want), "{arguments:?} {mode:?}: {err}");
        }
        let (_, _, err) = said(&run(dir.path(), arguments));
        assert!(err.contains(want), "{arguments:?}: {err}");
        for wrong in ["'-- --", "--sensor", "invalid digit", "os error"] {
            assert!(!err.contains(wrong), "{arguments:?}: {err}");
        }
    }
    fs::write(
        dir.path().join("x.toml"),
        "[modsec-parser]\nmin-age = 'x'\n",
    )
    .unwrap();
    let (code, _, err) = said(&run(dir.path(), &["--config", "x.toml"]));
    assert_eq!(code, Some(2));
    assert!(err.contains("expected a whole number"), "{err}");
}

#[test]
fn the_progress_bar_leaves_nothing_on_a_narrow_terminal_of_the_c_locale() {
    let dir = place(ENTRIES);
    let minute = dir.path().join("audit/20260304/20260304-0506");
    // What is warned of while the bar is there.
    for number in [300, 900, 1500] {
        fs::write(minute.join(format!("20260304-050607-{number}")), "junk\n").unwrap();
    }
    let program = assert_cmd::cargo::cargo_bin!("modsec-parser");
    let line = format!(
        "stty rows 24 cols 60; exec {} --storage-dir audit --store sqlite:x.db --stale-after 0",
        program.display()
    );
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &line, "/dev/null"]);
    script
        .env("LC_ALL", "C")
        .env("TERM", "xterm")
        .env("NO_COLOR", "1");
    script
        .env("MODSEC_CONFIG", "none")
        .env("MODSEC_MIN_AGE", "0");
    script.env("STATE_DIRECTORY", dir.path().join("state"));
    let out = script.current_dir(dir.path()).stdin(Stdio::null()).output();
    let Ok(out) = out else {
        return; // script(1) is not installed.
    };
    let shown = text(&out.stdout);
    assert!(shown.is_ascii(), "{shown:?}");
    let mut drawn = 0;
    let mut warned = 0;
    for row in shown.split('\n') {
        // What stands on the row when the cursor leaves it.
        let last = row
            .trim_end_matches('\r')
            .rsplit(['\r', 'K'])
            .next()
            .unwrap_or_default();
        warned += usize::from(row.contains("WARN"));
        assert!(
            !row.contains("WARN") || last.starts_with("2026-") || last.starts_with("20"),
            "{row:?}"
        );
        for part in row.split(['\r', 'K']) {
            let is_bar = part.contains("entries/s, ") && part.contains("stored");
            drawn += usize::from(is_bar);
            assert!(!is_bar || part.len() <= 60, "{part:?}");
        }
    }
    assert!(drawn > 0 && warned > 0, "{shown:?}");
}

#[test]
fn a_file_of_settings_that_another_account_can_change_is_warned_of() {
    use std::os::unix::fs::chown;
    let dir = place(1);
    fs::write(dir.path().join("url"), "sqlite:x.db\n").unwrap();
    fs::write(dir.path().join("my.cnf"), "[client]\n").unwrap();
    fs::write(dir.path().join("x.toml"), "").unwrap();
    let lines: [&[&str]; 3] = [
        &["--store-file", "url"],
        &[
            "--store",
            "mysql://u@127.0.0.1:1/d",
            "--defaults-file",
            "my.cnf",
        ],
        &["--config", "x.toml"],
    ];
    for line in lines {
        let name = line.last().unwrap();
        let check = [&TREE[..], line, &["--check-config"]].concat();
        let (_, _, err) = said(&run(dir.path(), &check));
        assert!(!err.contains("belongs to user"), "{name}: {err}");
        if chown(dir.path().join(name), Some(54_321), None).is_err() {
            return; // Only root can give a file away.
        }
        let (_, out, err) = said(&run(dir.path(), &check));
        let want = format!("{name} belongs to user 54321");
        assert!(format!("{out}{err}").contains(&want), "{name}: {err}");
    }
}

#[test]
fn what_is_no_log_file_gets_advice_that_helps() {
    let dir = place(0);
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    for (file, want) in [
        (
            "fifo",
            "fifo, name another with --log-file: it is a named pipe",
        ),
        (
            "no/x",
            "no/x, make its directory, or name another with --log-file",
        ),
    ] {
        let line = [&TREE[..], &STORE, &["--log-file", file]].concat();
        let (code, _, err) = said(&run(dir.path(), &line));
        assert_eq!(code, Some(1));
        assert!(err.contains(want), "{err}");
    }
}

#[test]
fn a_mistyped_option_is_answered_by_one_that_is_there() {
    tips::check(assert_cmd::cargo::cargo_bin!("modsec-parser"), &[&[]]);
}

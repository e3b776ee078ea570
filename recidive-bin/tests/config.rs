//! The configuration file of `recidive`.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[path = "../../modsec-parser-bin/tests/configured/mod.rs"]
mod configured;

use std::fs;

use configured::{Configured, Mistake, Precedence, texts};

const PRECEDENCE: [Precedence; 8] = [
    (
        "storage-dir",
        "WATCH_DIR",
        [["'/a'", "\"/a\""], ["/b", "\"/b\""], ["/c", "\"/c\""]],
    ),
    (
        "threshold",
        "ATTACK_THRESHOLD",
        [["3", "3"], ["4", "4"], ["5", "5"]],
    ),
    (
        "find-time",
        "TIMEOUT",
        [["60", "60"], ["61", "61"], ["62", "62"]],
    ),
    (
        "source",
        "RECIDIVE_SOURCE",
        [
            [
                "['merged-log', 'storage-dir']",
                r#"["merged-log", "storage-dir"]"#,
            ],
            ["index=/x", r#"["index=/x"]"#],
            ["storage-dir", r#"["storage-dir"]"#],
        ],
    ),
    (
        "count",
        "RECIDIVE_COUNT",
        [
            ["['any', 'rule=^9']", r#"["any", "rule=^9"]"#],
            ["severity<=2", r#"["severity<=2"]"#],
            ["score>=5", r#"["score>=5"]"#],
        ],
    ),
    (
        "ignore",
        "RECIDIVE_IGNORE",
        [
            ["'192.0.2.1'", r#"["192.0.2.1"]"#],
            ["192.0.2.2", r#"["192.0.2.2"]"#],
            ["192.0.2.3", r#"["192.0.2.3"]"#],
        ],
    ),
    (
        "dry-run",
        "RECIDIVE_DRY_RUN",
        [["true", "true"], ["off", "false"], ["", "true"]],
    ),
    (
        "verbose",
        "RECIDIVE_VERBOSE",
        [["1", "1"], ["2", "2"], ["", "1"]],
    ),
];

const MISTAKES: [Mistake; 5] = [
    (
        "[recidive]\ntreshold = 3",
        "FILE:2: unknown key treshold in [recidive]: did you mean threshold?",
    ),
    (
        "threshold = 3",
        "FILE:1: threshold is not shared by the programs: move it below [recidive]",
    ),
    (
        "[recidive]\ncount = ['blockd']",
        "FILE:2: count = \"blockd\": ",
    ),
    (
        "[recidive]\nignore = ['192.0.2.0/40']",
        "FILE:2: ignore = \"192.0.2.0/40\": ",
    ),
    ("[recidive]\nsource = ['index=/x', 'storage-dir']", ""),
];

fn recidive() -> Configured {
    Configured::new(env!("CARGO_BIN_EXE_recidive"))
}

#[test]
fn a_flag_beats_the_environment_beats_the_file() {
    let recidive = recidive();
    for precedence in PRECEDENCE {
        recidive.check_precedence(precedence);
    }
}

#[test]
fn mistakes_are_refused_with_line_and_advice() {
    let recidive = recidive();
    for mistake in MISTAKES {
        recidive.check_refusal(mistake, &["--check-config"]);
    }
}

#[test]
fn the_subcommands_go_by_the_same_section() {
    let recidive = recidive();
    let state = recidive.dir.path().join("state");
    fs::write(&state, "203.0.113.9 12 1787393700\n").unwrap();
    recidive.write(&format!(
        "[recidive]\nstate-file = '{}'\njson = true\nthreshold = 3\n",
        state.display()
    ));
    let run = |arguments: &[&str]| {
        let output = recidive.command(arguments, &[]).output().unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{arguments:?}: {err}");
        out
    };
    assert!(run(&["status"]).starts_with("{\"clients\":["));
    let table = run(&[
        "status",
        "--config",
        "none",
        "--state-file",
        state.to_str().unwrap(),
    ]);
    assert!(!table.starts_with('{'), "{table}");
    assert!(run(&["replay", "--help"]).contains("[config: 3]"));
    recidive.write("[recidive]\nthreshold = 'x'\n");
    let said = recidive.refusal(&["replay", "/dev/null"], &[]);
    assert!(
        said.starts_with("recidive: FILE:2: threshold = \"x\": "),
        "{said}"
    );
}

#[test]
fn the_installed_file_has_every_option_at_its_default() {
    let here = &[
        ("WATCH_DIR", "/srv/audit"),
        ("RECEDIVE_FILE", "/srv/jail.log"),
    ];
    recidive()
        .with(&[], here)
        .check_shipped_file(&["replay", "status"]);
}

#[test]
fn manual_page_and_completions_have_every_option() {
    let headings = [
        "RECIDIVE REPLAY",
        "RECIDIVE STATUS",
        "OPTIONS",
        "ENVIRONMENT",
        "SIGNALS",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    configured::check_generated(
        env!("CARGO_BIN_EXE_recidive"),
        &headings,
        &["replay", "status"],
    );
}

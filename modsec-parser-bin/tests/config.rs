//! The configuration file of `modsec-parser`.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

mod configured;

use std::fs;
use std::process::Command;

use configured::{Configured, Mistake, Precedence, texts};

const PRECEDENCE: [Precedence; 10] = [
    (
        "storage-dir",
        "WATCH_DIR",
        [["'/a'", "\"/a\""], ["/b", "\"/b\""], ["/c", "\"/c\""]],
    ),
    (
        "min-age",
        "MODSEC_MIN_AGE",
        [["1", "1"], ["3", "3"], ["4", "4"]],
    ),
    (
        "min-age",
        "MODSEC_MIN_AGE",
        [["'1'", "1"], ["3", "3"], ["4", "4"]],
    ),
    (
        "client-header",
        "MODSEC_CLIENT_HEADER",
        [
            ["'X-Forwarded-For'", "\"X-Forwarded-For\""],
            ["X-Real-IP", "\"X-Real-IP\""],
            ["x-forwarded-for", "\"x-forwarded-for\""],
        ],
    ),
    (
        "trusted-proxy",
        "MODSEC_TRUSTED_PROXY",
        [
            [
                "['192.0.2.1', '2001:db8::/32']",
                r#"["192.0.2.1", "2001:db8::/32"]"#,
            ],
            ["192.0.2.2,192.0.2.3", r#"["192.0.2.2", "192.0.2.3"]"#],
            ["none", r#"["none"]"#],
        ],
    ),
    (
        "follow",
        "MODSEC_FOLLOW",
        [["true", "true"], ["false", "false"], ["", "true"]],
    ),
    (
        "keep-dirs",
        "MODSEC_KEEP_DIRS",
        [["true", "true"], ["0", "false"], ["", "true"]],
    ),
    ("verbose", "", [["2", "2"], ["", ""], ["", "1"]]),
    (
        "threads",
        "MODSEC_THREADS",
        [["3", "3"], ["1", "1"], ["2", "2"]],
    ),
    ("jsonl", "", [["true", "true"], ["", ""], ["", "true"]]),
];

const MISTAKES: [Mistake; 22] = [
    (
        "\n[modsec-parser]\nmin-aeg = 1",
        "FILE:3: unknown key min-aeg in [modsec-parser]: did you mean min-age?",
    ),
    (
        "[modsec-parser]\nstorage_dir = ''",
        "FILE:2: unknown key storage_dir in [modsec-parser]: did you mean storage-dir?",
    ),
    (
        "[modsec_parser]",
        "FILE:1: unknown section [modsec_parser]: did you mean [modsec-parser]?",
    ),
    (
        "[modsec-parser]\nmin-age = 'soon'",
        "FILE:2: min-age = \"soon\": expected a whole number, 0 or more",
    ),
    (
        "[modsec-parser]\nmin-age = true",
        "FILE:2: min-age must be a whole number, and is true or false",
    ),
    (
        "[modsec-parser]\nmin-age = [1]",
        "FILE:2: min-age must be a whole number, and is a list",
    ),
    (
        "[modsec-parser]\nmin-age = 0x10",
        "FILE:2: min-age must be a whole number, and is a number in another base",
    ),
    (
        "[modsec-parser]\nmin-age = 1.5",
        "FILE:2: min-age must be a whole number, and is a number with a fraction",
    ),
    (
        "[modsec-parser]\nsensor = 2026-01-01",
        "FILE:2: sensor must be a text in quotes, and is a date or time",
    ),
    (
        "[modsec-parser]\nverbose = { a = 1 }",
        "FILE:2: verbose must be a whole number, and is a table",
    ),
    (
        "[modsec-parser]\ntrusted-proxy = [1.5]",
        "FILE:2: trusted-proxy must be a text in quotes, or a list of such texts, and is a list of",
    ),
    (
        "[modsec-parser]\ndatabase = 'x'",
        "FILE:2: unknown key database in [modsec-parser]: did you mean store?",
    ),
    (
        "[modsec-parser]\nmin-age 3",
        "FILE:2: no valid TOML: there is no = in this line, write min-age = VALUE",
    ),
    (
        "[modsec-parser]\nfollow = 'yes'",
        "FILE:2: follow must be true or false, and is a text or a number",
    ),
    ("[modsec-parser]\nthreads = 0", "FILE:2: threads = \"0\": "),
    (
        "trusted-proxy = ['192.0.2.0/24', 'x']",
        "FILE:1: trusted-proxy = \"x\": \"x\" is not an address or network",
    ),
    (
        "log-format = 'xml'",
        "FILE:1: log-format = \"xml\": expected text or json",
    ),
    (
        "[modsec-parser]\nverbose = 256",
        "FILE:2: verbose = \"256\": ",
    ),
    (
        "[modsec-parser]\nstore = 'sqlite:x'\nstore-file = 'y'",
        "FILE:2: store and store-file (line 3) exclude each other: remove one",
    ),
    (
        "[modsec-parser]\nfollow = true\njsonl = true",
        "FILE:2: follow and jsonl (line 3) exclude each other: remove one",
    ),
    (
        "\n[modsec-parser]\nmin-age = 1\nmin-age = 2",
        "FILE:4: no valid TOML: duplicate key",
    ),
    ("\n\nmin-age 1", "FILE:3: no valid TOML: "),
];

fn parser() -> Configured {
    Configured::new(env!("CARGO_BIN_EXE_modsec-parser"))
}

#[test]
fn a_flag_beats_the_environment_beats_the_file() {
    let parser = parser();
    for precedence in PRECEDENCE {
        parser.check_precedence(precedence);
    }
}

#[test]
fn what_stands_above_the_sections_counts_unless_the_section_has_it() {
    let parser = parser();
    parser
        .write("stale-after = 7\nverbose = 1\n[modsec-parser]\nverbose = 2\n[watch-dir]\nx = 1\n");
    let settings = parser.settings(&[], &[]);
    assert_eq!(settings["stale-after"].0, "7");
    assert_eq!(settings["verbose"].0, "2");
}

#[test]
fn empty_values_leave_the_choice_to_the_program() {
    let parser = parser();
    parser.write(
        "trusted-proxy = []\nmerged-log = '/x'\n[modsec-parser]\nmerged-log = ''\nmin-age = ''\n",
    );
    let settings = parser.settings(&["--storage-dir", "/srv/audit"], &[]);
    for (key, want) in [
        ("trusted-proxy", r#"["127.0.0.0/8", "::1"]"#),
        ("merged-log", r#""/srv/modsec_audit.log""#),
        ("min-age", "2"),
    ] {
        assert_eq!(
            settings[key],
            (want.to_owned(), "default".to_owned()),
            "{key}"
        );
    }
}

#[test]
fn mistakes_are_refused_with_line_and_advice() {
    let parser = parser();
    for mistake in MISTAKES {
        for arguments in [&["--check-config"][..], &["--sensor", "x"]] {
            parser.check_refusal(mistake, arguments);
        }
    }
}

#[test]
fn the_command_line_puts_what_it_excludes_out_of_force() {
    let parser = parser();
    let store = "[modsec-parser]\nstore = 'sqlite:/x'\nmerged-log = '/y'\nquiet = 1\n";
    let file = "[modsec-parser]\nstore-file = '/no/such/file'\n";
    let follow = "[modsec-parser]\nfollow = true\n";
    for (text, arguments, variables, key, want) in [
        (
            file,
            &["--store", "sqlite:/z"][..],
            &[][..],
            "store-file",
            None,
        ),
        (
            file,
            &[],
            &[("MODSEC_STORE", "sqlite:/z")],
            "store-file",
            None,
        ),
        (follow, &["--dry-run"], &[], "follow", Some("false")),
        (follow, &["--jsonl"], &[], "follow", Some("false")),
        (follow, &["/backup"], &[], "follow", Some("false")),
        (
            follow,
            &[],
            &[("MODSEC_FOLLOW", "no")],
            "follow",
            Some("false"),
        ),
        (follow, &[], &[], "follow", Some("true")),
        // Another task than the standing one: what it reads is history.
        (store, &["/backup"], &[], "merged-log", None),
        (store, &["--jsonl"], &[], "store", None),
        (store, &["-v"], &[], "quiet", Some("0")),
        (store, &[], &[], "store", Some("\"sqlite:/x\"")),
    ] {
        parser.write(text);
        let settings = parser.settings(arguments, variables);
        let value = settings.get(key).map(|(value, _)| value.as_str());
        assert_eq!(value, want, "{key} with {arguments:?} {variables:?}");
    }
    parser.write(store);
    let other = parser.dir.path().join("store");
    fs::write(&other, "sqlite:/z\n").unwrap();
    let settings = parser.settings(&["--store-file", other.to_str().unwrap()], &[]);
    assert!(!settings.contains_key("store"), "{settings:?}");
}

#[test]
fn the_file_is_read_from_where_it_is_said_to_be_or_not_at_all() {
    let parser = parser();
    parser.write("[modsec-parser]\nmin-age = 7\n");
    let other = parser.dir.path().join("other.toml");
    fs::write(&other, "[modsec-parser]\nmin-age = 8\n").unwrap();
    let (other, joined) = (
        other.to_str().unwrap(),
        format!("--config={}", other.display()),
    );
    for (arguments, want) in [
        (&[][..], "7"),
        (&["--config", other], "8"),
        (&[&joined], "8"),
        (&["--config", "none"], "2"),
    ] {
        assert_eq!(
            parser.settings(arguments, &[])["min-age"].0,
            want,
            "{arguments:?}"
        );
    }
    assert_eq!(
        parser.settings(&[], &[("MODSEC_CONFIG", "none")])["min-age"].0,
        "2"
    );
    let said = parser.refusal(&["--config", "/no/such/file"], &[]);
    assert!(
        said.contains("cannot read configuration file /no/such/file"),
        "{said}"
    );
}

#[test]
fn a_password_is_never_shown_and_its_file_must_not_be_everybodys() {
    let parser = parser();
    parser.write("[modsec-parser]\nstore = 'mysql://waf:geheim@db/waf'\n");
    for (mode, warns) in [(0o644, true), (0o640, false), (0o600, false)] {
        parser.allow(mode);
        let output = parser.command(&["--check-config"], &[]).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "there is no such host");
        assert!(out.contains("store = \"mysql://***@db/waf\""), "{out}");
        assert_eq!(
            err.contains("every user may read"),
            warns,
            "{mode:o}: {err}"
        );
        assert!(!format!("{out}{err}").contains("geheim"));
    }
    let output = parser.command(&["--help"], &[]).output().unwrap();
    assert!(!texts(&output).0.contains("geheim"));
    for (text, arguments, variables) in [
        ("", &["--store", "mysql://waf:geheim@db/waf"][..], &[][..]),
        ("", &[], &[("MODSEC_STORE", "mysql://waf:geheim@db/waf")]),
    ] {
        parser.write(text);
        let settings = parser.settings(arguments, variables);
        assert_eq!(settings["store"].0, "\"mysql://***@db/waf\"");
    }
}

#[test]
fn a_password_on_the_command_line_is_warned_of() {
    let parser = parser();
    let option_file = parser.dir.path().join("my.cnf");
    fs::write(&option_file, "").unwrap();
    let defaults = format!("--defaults-file={}", option_file.display());
    for (arguments, variables, warnings) in [
        // Also where it is overruled, or does not begin to work.
        (
            &["--store", "mysql://waf:geheim@db/waf", "--check-config"][..],
            &[][..],
            1,
        ),
        (
            &[
                "--store=mysql://waf:geheim@127.0.0.1:1/waf",
                &defaults,
                "-q",
                "log",
            ],
            &[],
            1,
        ),
        (
            &["--store=mysql://waf:geheim@db/waf", "--check-config"],
            &[("MODSEC_STORE", "mysql://waf:geheim@db/waf")],
            1,
        ),
        (&["--store=mysql://waf@db/waf", "--check-config"], &[], 0),
        (&["--store=sqlite:/srv/a:b@c", "--check-config"], &[], 0),
        (
            &["--check-config"],
            &[("MODSEC_STORE", "mysql://waf:geheim@db/waf")],
            0,
        ),
    ] {
        parser.write("");
        let output = parser.command(arguments, variables).output().unwrap();
        let err = texts(&output).1;
        let found = err
            .matches("can read in the list of processes (ps)")
            .count();
        assert_eq!(found, warnings, "{arguments:?}: {err}");
        let ways = ["MODSEC_STORE", "--store-file", "--defaults-file"];
        let all = ways.iter().all(|way| err.contains(way));
        assert!(all || warnings == 0, "{err}");
        assert!(!err.contains("geheim"), "{err}");
    }
}

#[test]
fn help_is_given_whatever_the_file_says_and_shows_what_it_sets() {
    let parser = parser();
    parser.write("[modsec-parser]\nmin-age = 7\n");
    let help = || texts(&parser.command(&["--help"], &[]).output().unwrap()).0;
    assert!(help().contains("[config: 7]"), "{}", help());
    parser.write("[modsec-parser");
    assert!(help().contains("--min-age"));
}

#[test]
fn checking_creates_nothing() {
    let parser = parser();
    parser.write("");
    let settings = parser.settings(&[], &[("STATE_DIRECTORY", "/no/such/dir")]);
    assert_eq!(settings["store"].0, "\"sqlite:/no/such/dir/modsec.db\"");
    let before = fs::read_dir(parser.dir.path()).unwrap().count();
    assert_eq!(before, 1);
}

#[test]
fn a_pass_works_by_the_file() {
    let parser = parser();
    let dir = parser.dir.path().display();
    fs::create_dir(parser.dir.path().join("audit")).unwrap();
    parser.write(&format!(
        "storage-dir = '{dir}/audit'\n[modsec-parser]\nstore = 'sqlite:{dir}/x.db'\n"
    ));
    let output = parser.command(&[], &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(parser.dir.path().join("x.db").exists());
}

#[test]
fn the_installed_file_has_every_option_at_its_default() {
    let parser = parser().with(&[], &[("WATCH_DIR", "/srv/audit")]);
    parser.check_shipped_file(&[]);
}

#[test]
fn an_absent_default_file_is_no_mistake() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modsec-parser"));
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("audit")).unwrap();
    command
        .env_clear()
        .env("WATCH_DIR", dir.path().join("audit"));
    command.env("STATE_DIRECTORY", dir.path().join("state"));
    let output = command.arg("--check-config").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn manual_page_and_completions_have_every_option() {
    let headings = [
        "NAME",
        "SYNOPSIS",
        "OPTIONS",
        "ENVIRONMENT",
        "SIGNALS",
        "FILES",
        "EXIT STATUS",
        "EXAMPLES",
        "SEE ALSO",
    ];
    configured::check_generated(env!("CARGO_BIN_EXE_modsec-parser"), &headings, &[]);
}

#[test]
fn a_bad_value_is_said_to_be_from_the_environment_if_it_is() {
    let parser = Configured::new(env!("CARGO_BIN_EXE_modsec-parser"));
    parser.write("");
    for (arguments, variable, want) in [
        (
            &["--jsonl"][..],
            ("MODSEC_THREADS", "x"),
            "invalid value 'x' for '--threads <NUMBER>' (from the environment, MODSEC_THREADS): \
             expected a whole number",
        ),
        (
            &[],
            ("MODSEC_KEEP_DIRS", "maybe"),
            "(from the environment, MODSEC_KEEP_DIRS): expected true or false, yes or no",
        ),
        (
            &["--follow"],
            ("MODSEC_DRY_RUN", "1"),
            "tip: from the environment, MODSEC_DRY_RUN",
        ),
        (
            &[],
            ("MODSEC_STORE", "oracle:x"),
            "as in sqlite:/var/lib/modsec/logs.db (from the environment, MODSEC_STORE)",
        ),
    ] {
        let said = parser.refusal(arguments, &[variable]);
        assert!(said.contains(want), "{variable:?}: {said}");
    }
    // Of a value that was given.
    let said = parser.refusal(&["--threads=y"], &[("MODSEC_THREADS", "x")]);
    assert!(
        said.contains("'y' for '--threads <NUMBER>': expected"),
        "{said}"
    );
    parser.write("[modsec-parser]\nstore = 'oracle:x'\n");
    let said = parser.refusal(&[], &[]);
    assert!(said.contains("logs.db (from FILE:2)"), "{said}");
}

#[test]
fn a_bad_value_of_an_option_file_has_file_line_and_key() {
    let parser = Configured::new(env!("CARGO_BIN_EXE_modsec-parser"));
    parser.write("");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("my.cnf");
    let name = path.display().to_string();
    let with = |url: &str, text: &str, more: &[&str]| {
        fs::write(&path, text).unwrap();
        let line = ["--store", url, "--defaults-file", &name];
        let output = parser
            .command(&[&line, more].concat(), &[])
            .output()
            .unwrap();
        (output.status.code(), texts(&output).1)
    };
    for (text, want) in [
        (
            "[client]\nuser = x\nport = abc\n",
            ":3: port: the port is not",
        ),
        (
            "[client]\n\nssl_mode = no\n",
            ":3: ssl_mode: ssl-mode is one of",
        ),
    ] {
        let (code, said) = with("mysql://h/d", text, &["--check-config"]);
        let want = format!("{name}{want}");
        assert!(code == Some(2) && said.contains(&want), "{want}: {said}");
    }
    // The URL's own value is not in the file.
    let (code, said) = with(
        "mysql://h:0/d",
        "[client]\nport = abc\n",
        &["--check-config"],
    );
    assert!(code == Some(2) && !said.contains("my.cnf:"), "{said}");
    let url = "mysql://127.0.0.1:1/d";
    for (text, is_said) in [
        ("user = waf\npassword = secret\n", true),
        ("[mysqld]\nuser = waf\n", true),
        ("[client]\nuser = waf\n", false),
        ("", false),
    ] {
        let (code, said) = with(url, text, &["--check-config"]);
        let want = "nothing in the option file is used";
        assert_eq!(
            (code, said.contains(want)),
            (Some(1), is_said),
            "{text:?}: {said}"
        );
    }
}

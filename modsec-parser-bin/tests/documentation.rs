//! What README, guides and manual pages say is so: options, variables, files, commands, columns,
//! links and outputs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use modsec_core::record::Flag;
use rusqlite::Connection;

/// Options of other programs that a text names.
const FOREIGN: [&str; 23] = [
    "all-features",
    "bench",
    "binlog",
    "create",
    "example",
    "features",
    "from",
    "fsync-ms",
    "nocapture",
    "no-default-features",
    "now",
    "open",
    "quick",
    "release",
    "reload",
    "restart",
    "single-transaction",
    "test",
    "workspace",
    // Of the programs themselves, and of no configuration file.
    "check-config",
    "config",
    "generate",
    "help",
];

/// Variables of the tests and benchmarks.
const VARIABLES: [&str; 3] = [
    "MODSEC_BENCH_DIR",
    "MODSEC_BENCH_ROWS",
    "MODSEC_TEST_MYSQL_URL",
];

/// The entry that README shows, and its `path` among the samples.
const FORGED: &str = "modsec-core/tests/data/native-v2/v2-native-concurrent/audit/site2/20261122/\
                      20261122-1438/20261122-143812-awLUJFoUmBqnJJMdPevuCQAAAAA";

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn read(name: &str) -> String {
    fs::read_to_string(top().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn names_in(dir: &str, ends: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(top().join(dir))
        .unwrap()
        .map(|entry| format!("{dir}/{}", entry.unwrap().file_name().to_string_lossy()))
        .filter(|name| name.ends_with(ends))
        .collect();
    names.sort();
    names
}

fn guides() -> Vec<String> {
    let mut names = names_in("examples/server", ".md");
    names.extend(["README.md", "README.ru.md", "benches/README.md"].map(str::to_owned));
    names
}

fn pages() -> Vec<String> {
    let mut names = names_in("modsec-core/man", ".5");
    for program in ["modsec-parser", "recidive", "watch-dir"] {
        names.push(format!("{program}-bin/man/sections.roff"));
    }
    names
}

/// Returns the name and text of every document, without the escapes of roff.
fn documents() -> Vec<(String, String)> {
    let plain = |name: String| {
        let text = read(&name).replace("\\-", "-");
        let text = text.replace("\\fB", "").replace("\\fI", "");
        (name, text.replace("\\fR", ""))
    };
    guides().into_iter().chain(pages()).map(plain).collect()
}

/// Returns the words of a text, cut where no word of `also` or letter or digit stands.
fn words<'a>(text: &'a str, also: &'static str) -> impl Iterator<Item = &'a str> {
    text.split(move |c: char| !c.is_ascii_alphanumeric() && !also.contains(c))
}

/// Returns the keys of the installed configuration file, which has every option.
fn options() -> BTreeSet<String> {
    let text = read("modsec-parser-bin/deploy/config.toml");
    let keys = text.lines().filter_map(|line| {
        let (key, _) = line.trim_start_matches('#').split_once(" = ")?;
        Some(key.to_owned())
    });
    keys.collect()
}

#[test]
fn every_option_that_is_named_exists() {
    let options = options();
    assert!(options.len() > 30, "{options:?}");
    for (name, text) in documents() {
        let named = words(&text, "-").filter_map(|word| word.strip_prefix("--"));
        // A boundary ends in a hyphen, and `--` alone is none.
        let named = named.filter(|option| option.starts_with(|c: char| c.is_ascii_lowercase()));
        for option in named.filter(|option| !option.ends_with('-')) {
            let known = options.contains(option) || FOREIGN.contains(&option);
            assert!(known, "{name}: there is no option --{option}");
        }
    }
}

/// Returns `true` if a program takes this variable: it is written there, or called like an option.
fn is_variable(word: &str) -> bool {
    let shared =
        read("modsec-core/src/command_line.rs") + &read("modsec-core/src/command_line/options.rs");
    [
        ("MODSEC_", "modsec-parser"),
        ("RECIDIVE_", "recidive"),
        ("WATCH_DIR_", "watch-dir"),
    ]
    .iter()
    .any(|(prefix, program)| {
        let source = read(&format!("{program}-bin/src/args.rs")) + &shared;
        // Of `--recidive-file` the variable is called like the option itself.
        let options = [word.strip_prefix(prefix).unwrap_or_default(), word].map(str::to_lowercase);
        let mut fields = options.iter().filter(|_| word.starts_with(prefix));
        source.contains(&format!("\"{word}\""))
            || fields.any(|field| source.contains(&format!(" {field}: ")))
    })
}

#[test]
fn every_variable_that_is_named_exists() {
    for (name, text) in documents() {
        let ours = words(&text, "_").filter(|word| {
            let starts = ["MODSEC_", "RECIDIVE_", "WATCH_DIR"];
            starts.iter().any(|start| word.starts_with(start))
                && word.chars().all(|c| c == '_' || c.is_ascii_uppercase())
        });
        for word in ours {
            let known = VARIABLES.contains(&word) || is_variable(word);
            assert!(known, "{name}: there is no variable {word}");
        }
    }
    assert!(is_variable("MODSEC_LOG_FORMAT") && !is_variable("MODSEC_LAYOUT"));
}

#[test]
fn every_file_and_target_that_is_named_exists() {
    let targets = read("Makefile");
    for (name, text) in documents() {
        for word in words(&text, "-_./") {
            let word = word.trim_end_matches(['.', '/']);
            let ours = [
                ".ci/",
                "benches/",
                "examples/",
                "modsec-core/",
                "target/man/",
            ];
            let ours = ours.iter().any(|start| word.starts_with(start))
                || ["modsec-parser-bin/", "recidive-bin/", "watch-dir-bin/"]
                    .iter()
                    .any(|start| word.starts_with(start));
            let path = word.replace("target/man/", "modsec-core/man/");
            assert!(
                !ours || top().join(path).exists(),
                "{name}: there is no {word}"
            );
        }
        let words: Vec<&str> = text.split(['`', ' ', '\n']).collect();
        for pair in words.windows(2) {
            let (what, value) = (pair[0], pair[1].trim_end_matches([',', ';', '.']));
            let exists = match what {
                "--test" => {
                    let test = |kind: &str| {
                        let found = ["modsec-core", "modsec-parser-bin", "watch-dir-bin"];
                        found.iter().any(|member| {
                            top().join(format!("{member}/tests/{value}{kind}")).exists()
                        })
                    };
                    test(".rs") || test("/main.rs")
                }
                "--bench" => top().join(format!("benches/{value}.rs")).exists(),
                "--example" => top().join(format!("examples/{value}.rs")).exists(),
                "make" if text.contains(&format!("`make {value}`")) => {
                    targets.contains(&format!("\n{value}:"))
                }
                _ => true,
            };
            assert!(exists, "{name}: {what} {value}");
        }
    }
}

/// Returns the anchors that a Markdown file has on GitHub.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || "-_".contains(c) => Some(c),
            _ => None,
        });
        kept.collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for name in guides() {
        let text = read(&name);
        let dir = top().join(&name).parent().unwrap().to_owned();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path = dir.join(file);
            assert!(path.exists(), "{name}: {link}");
            let target = match file {
                "" => text.clone(),
                _ if anchor.is_empty() => continue,
                _ => fs::read_to_string(path).unwrap(),
            };
            let found = anchors(&target).iter().any(|found| found == anchor);
            assert!(found, "{name}: {link}");
        }
    }
}

#[test]
fn readme_names_every_example_and_both_have_the_same_programs() {
    let readme = read("README.md").replace("```rust,no_run\n", "```rust\n");
    for name in names_in("examples", "") {
        let name = name.trim_start_matches("examples/").trim_end_matches(".rs");
        let is_program = !["data", "server"].contains(&name);
        assert!(
            !is_program || readme.contains(&format!("`{name}`")),
            "{name}"
        );
    }
    // The English ones are compiled with the library's documentation.
    for part in ["format::decode", "serial_log::read"] {
        let russian = block(&read("README.ru.md"), "rust", part);
        assert_eq!(russian, block(&readme, "rust", part));
    }
}

#[test]
fn readme_can_be_read_in_five_minutes() {
    for name in ["README.md", "README.ru.md"] {
        let lines = read(name).lines().count();
        assert!(
            lines <= 250,
            "{name} has {lines} lines: {}",
            "move reference to a manual page"
        );
    }
}

/// Returns the contents of the first block in a language that holds `part`.
fn block(text: &str, language: &str, part: &str) -> String {
    let start = format!("\n```{language}\n");
    let blocks = text.split(&start).skip(1);
    let mut bodies = blocks.map(|rest| rest.split("\n```").next().unwrap());
    let found = bodies.find(|body| body.contains(part));
    found.unwrap_or_else(|| panic!("{part}")).to_owned()
}

fn run(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_modsec-parser"));
    command.args(arguments).current_dir(top()).env_clear();
    let output = command.env("MODSEC_CONFIG", "none").output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    // 1: this machine has not all that the settings name.
    let is_check = arguments.contains(&"--check-config") && output.status.code() == Some(1);
    assert!(output.status.success() || is_check, "{arguments:?}: {err}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_first_command_stores_what_readme_shows() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("first-look.db");
    let url = format!("sqlite:{}", file.display());
    run(&["--store", &url, "examples/data/audit"]);
    let database = Connection::open(file).unwrap();
    let count = |query: &str| -> String {
        let number: i64 = database.query_row(query, [], |row| row.get(0)).unwrap();
        number.to_string()
    };
    let entries = count("select count(*) from logs");
    let blocked = count("select count(*) from logs where outcome = 'blocked'");
    let mut top_causes = database
        .prepare(
            "select ruleId, count(*) from logs where ruleId is not null
             group by 1 order by 2 desc, 1 limit 2",
        )
        .unwrap();
    let causes: Vec<[String; 2]> = top_causes
        .query_map([], |row| {
            Ok([row.get::<_, String>(0)?, row.get::<_, i64>(1)?.to_string()])
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for name in ["README.md", "README.ru.md"] {
        let text = read(name);
        assert!(text.contains("--store sqlite:target/first-look.db examples/data/audit\n"));
        let shown = block(&text, "text", "top causes");
        for line in shown.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["entries" | "stored", number, ..] => assert_eq!(number, entries, "{line}"),
                ["blocked", number] => assert_eq!(number, blocked, "{line}"),
                ["top", "causes", rule, number] => assert_eq!([rule, number], causes[0]),
                [rule, number] if rule.len() == 6 => assert_eq!([rule, number], causes[1]),
                _ => {}
            }
        }
        let (_, query) = text.split_once("sqlite3 target/first-look.db '").unwrap();
        let query = query.split('\'').next().unwrap();
        let mut rows = database.prepare(query).unwrap();
        let first: String = rows.query_row([], |row| row.get("msg")).unwrap();
        assert!(!first.contains("Anomaly Score"), "{first}");
    }
}

#[test]
fn the_forged_entry_is_stored_as_readme_shows() {
    let entry = read(FORGED);
    let line = run(&["--jsonl", FORGED]);
    let after: serde_json::Value = serde_json::from_str(&line).unwrap();
    let truth =
        read("modsec-core/tests/data/native-v2/v2-native-concurrent/expected-seed-script.jsonl");
    let before = truth
        .lines()
        .find(|line| line.contains("/20261122-143812-"))
        .unwrap();
    let before: serde_json::Value = serde_json::from_str(before).unwrap();
    let columns = ["ruleId", "msg", "severity", "phase"];
    for name in ["README.md", "README.ru.md"] {
        let text = read(name);
        let mut rest = entry.as_str();
        for line in block(&text, "text", "--deadbeef-H--")
            .lines()
            .filter(|line| *line != "…")
        {
            let at = rest.find(&format!("{line}\n"));
            rest = &rest[at.unwrap_or_else(|| panic!("{name}: {line}"))..];
        }
        let old: Vec<&str> = columns
            .iter()
            .map(|column| before["fields"][column].as_str().unwrap())
            .collect();
        let row = format!("| `{}` | `127.0.0.1`", old.join("` | `"));
        assert!(text.contains(&row), "{name}: {row}");
        assert_eq!(before["fields"]["REMOTE_ADDR"], "127.0.0.1");
        for column in columns {
            assert!(after[column].is_null(), "{column}");
        }
        let client = format!("`{}` |\n", after["client_ip"].as_str().unwrap());
        assert!(text.contains(&client), "{name}: {client}");
    }
}

#[test]
fn the_configuration_file_that_is_shown_gives_the_settings_that_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let page = read("modsec-core/man/modsec-tools.toml.5").replace("\\-", "-");
    let shown = block(&read("README.md"), "toml", "[recidive]");
    for name in ["README.ru.md", "examples/server/guide.ru.md"] {
        assert_eq!(block(&read(name), "toml", "[recidive]"), shown, "{name}");
    }
    assert!(page.contains(&format!(".EX\n{shown}\n.EE\n")), "{shown}");
    fs::write(&file, &shown).unwrap();
    let name = file.display().to_string();
    let arguments = ["--config", &name, "--check-config", "--stale-after", "9"];
    let settings = run(&arguments).replace(&name, "/etc/modsec-tools/config.toml");
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let settings: Vec<String> = settings.lines().map(squeezed).collect();
    let (_, output) = page.split_once("--check-config --stale-after 9\n").unwrap();
    let lines = output.lines().take_while(|line| !line.starts_with('$'));
    let mut compared = 0;
    for line in lines.filter(|line| *line != "\\&...") {
        assert!(settings.contains(&squeezed(line)), "{line}: {settings:#?}");
        compared += 1;
    }
    assert_eq!(compared, 5);
}

#[test]
fn the_page_about_the_tables_has_every_column_and_flag() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.db");
    let url = format!("sqlite:{}", file.display());
    run(&["--store", &url, FORGED]);
    let database = Connection::open(file).unwrap();
    let mut names = database
        .prepare(
            "select column_info.name from sqlite_schema, pragma_table_info(sqlite_schema.name) \
             as column_info where sqlite_schema.name in ('logs', 'rule_matches')
             union select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'",
        )
        .unwrap();
    let names = names.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let mut names: Vec<String> = names.map(Result::unwrap).collect();
    assert!(names.len() >= 40, "{names:?}");
    let flags = [
        Flag::Ambiguous,
        Flag::Truncated,
        Flag::Unverified,
        Flag::OutOfOrder,
        Flag::NoPartH,
        Flag::Capped,
        Flag::Interleaved,
    ];
    names.extend(flags.map(|flag| flag.name().to_owned()));
    let page = read("modsec-core/man/modsec-logs.5").replace("\\fB", " ");
    let page: BTreeSet<&str> = words(&page, "_").collect();
    let guide = read("examples/server/guide.ru.md");
    let guide: BTreeSet<&str> = words(&guide, "_").collect();
    for name in names {
        assert!(page.contains(name.as_str()), "{name}");
        let internal = name == "id" || name.starts_with("modsec_");
        assert!(internal || guide.contains(name.as_str()), "{name}");
    }
}

#[test]
fn pages_are_found_and_have_no_warnings() {
    let pages = pages();
    assert_eq!(pages.len(), 5);
    let ours = [
        "modsec-parser",
        "watch-dir",
        "recidive",
        "modsec-tools.toml",
        "modsec-logs",
    ];
    for name in pages {
        let text = read(&name).replace("\\-", "-");
        let (_, also) = text.split_once(".SH \"SEE ALSO\"\n").unwrap();
        let others = ours
            .iter()
            .filter(|page| also.contains(&format!("{page}\\fR(")));
        assert!(others.count() >= 2, "{name}");
        if !name.ends_with(".5") {
            continue; // checked with what the program writes of its options, in `config`
        }
        let mut command = Command::new("groff");
        command.args(["-man", "-ww", "-Tutf8", "-z"]);
        let Ok(output) = command.arg(top().join(&name)).output() else {
            return; // named by `config` as left out
        };
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && err.is_empty(), "{name}: {err}");
    }
}

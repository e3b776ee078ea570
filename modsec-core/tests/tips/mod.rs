//! What is advised for a mistyped option is one that the program, or its subcommand, has.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;

/// Names that other programs have for an option.
const OTHERS: [&str; 16] = [
    "db",
    "password",
    "user",
    "dir",
    "path",
    "out",
    "limit",
    "timeout",
    "ignoreip",
    "whitelist",
    "proxy",
    "daemon",
    "test",
    "dry",
    "silent",
    "zzzz",
];

/// Runs the program with one argument behind a subcommand, and returns what it says.
fn said(program: &Path, subcommand: &[&str], argument: &str) -> String {
    let mut command = Command::new(program);
    let output = command
        .env("MODSEC_CONFIG", "none")
        .args(subcommand)
        .arg(argument)
        .output()
        .unwrap();
    let bytes = [output.stdout, output.stderr].concat();
    String::from_utf8(bytes).unwrap()
}

/// Returns the long options that a help text lists.
fn options(help: &str) -> Vec<String> {
    let first = |line: &str| {
        let (_, name) = line.split_once("--")?;
        let is_entry = line.trim_start().starts_with('-');
        let end = name.find(|c: char| c != '-' && !c.is_ascii_lowercase());
        is_entry.then(|| name.split_at(end.unwrap_or(name.len())).0.to_owned())
    };
    help.lines().filter_map(first).collect()
}

/// Mistypes a name as people do.
fn mistyped(name: &str) -> Vec<String> {
    let mut chars: Vec<char> = name.chars().collect();
    chars.swap(1, 2);
    let swapped: String = chars.iter().collect();
    vec![
        format!("{name}s"),
        format!("no-{name}"),
        name.replace('-', "_"),
        name.replace('-', ""),
        format!("{}{}", &name[..2], &name[3..]),
        name[..name.len() - 1].to_owned(),
        swapped,
    ]
}

/// Mistypes every option of a program behind each of its subcommands.
pub(crate) fn check(program: &Path, subcommands: &[&[&str]]) {
    let own = |subcommand: &[&str]| options(&said(program, subcommand, "--help"));
    let mut all: Vec<String> = subcommands.iter().flat_map(|one| own(one)).collect();
    all.sort_unstable();
    all.dedup();
    for subcommand in subcommands {
        let own = own(subcommand);
        assert!(own.len() > 3, "{own:?}");
        let (mut words, mut advised) = (OTHERS.map(str::to_owned).to_vec(), 0);
        words.extend(all.iter().flat_map(|name| mistyped(name)));
        // What another subcommand has.
        words.extend(all.iter().filter(|name| !own.contains(name)).cloned());
        for word in words.iter().filter(|word| !own.contains(word)) {
            let said = said(program, subcommand, &format!("--{word}"));
            assert!(
                said.contains("unexpected argument"),
                "{subcommand:?} --{word}: {said}"
            );
            let Some((_, tip)) = said.split_once("tip: ") else {
                continue;
            };
            advised += 1;
            let (tip, _) = tip.split_once('\n').unwrap();
            let name = tip
                .split("'--")
                .nth(1)
                .and_then(|name| name.split('\'').next());
            let is_own = name.is_some_and(|name| own.iter().any(|own| own == name));
            assert!(is_own, "{subcommand:?} --{word}: {tip}");
        }
        assert!(
            advised > own.len(),
            "{subcommand:?}: {advised} of {}",
            words.len()
        );
    }
}

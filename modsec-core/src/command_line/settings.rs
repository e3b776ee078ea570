//! What `--check-config` shows: every option, its value in force, and who set it.
//!
//! ```text
//! # configuration file: /etc/modsec-tools/config.toml
//! [recidive]
//! storage-dir = "/srv/audit"                        # /etc/modsec-tools/config.toml:2
//! threshold = 5                                     # --threshold
//! dry-run = false                                   # default
//! # merged-log is not set                           # default
//! ```
//!
//! The text has the form of a configuration file. Passwords in URLs are masked in it.

use std::fmt::Write as _;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use super::layers::{Layered, quoted};
use super::{OWN_OPTIONS, secret};

/// The source of a value that nobody has set.
pub(super) const DEFAULT: &str = "default";

/// Characters to which a setting is filled up with spaces, before its source.
const WIDTH: usize = 48;

/// Returns the settings in the form of the file itself, with the source of each as a comment.
///
/// `chosen` has what the program takes where nothing is set, by long name.
///
/// Options that are about the file, such as `--config`, are left out.
pub(super) fn render(layered: &Layered, matches: &ArgMatches, chosen: &[(&str, String)]) -> String {
    let mut out = format!("[{}]\n", layered.command.get_name());
    for arg in layered.command.get_arguments() {
        let Some(key) = arg.get_long() else { continue };
        if OWN_OPTIONS.contains(&key) {
            continue;
        }
        let source = source(arg, key, matches, layered);
        let value = value(arg, matches).or_else(|| {
            let (_, value) = chosen.iter().find(|(name, _)| *name == key)?;
            Some(chosen_value(arg, value))
        });
        let line = match value {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} is not set"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{line:<WIDTH$}  # {source}");
    }
    out
}

/// Returns who set the value: a flag, a variable, a line of the file, or none.
pub(super) fn source(arg: &Arg, key: &str, matches: &ArgMatches, layered: &Layered) -> String {
    match matches.value_source(arg.get_id().as_str()) {
        Some(ValueSource::CommandLine) => format!("--{key}"),
        Some(ValueSource::EnvVariable) => {
            let name = arg.get_env().unwrap_or_default();
            format!("environment, {}", name.to_string_lossy())
        }
        _ => match layered.lines.iter().find(|(name, _)| name == key) {
            Some((_, place)) => place.clone(),
            None => DEFAULT.to_owned(),
        },
    }
}

/// Returns the value in force in the form of the file, `None` if there is none.
fn value(arg: &Arg, matches: &ArgMatches) -> Option<String> {
    let id = arg.get_id().as_str();
    match arg.get_action() {
        ArgAction::SetTrue => return Some(matches.get_flag(id).to_string()),
        ArgAction::Count => return Some(matches.get_count(id).to_string()),
        _ => {}
    }
    let values: Vec<String> = matches
        .get_raw(id)?
        .map(|value| shown(arg, &value.to_string_lossy()))
        .collect();
    match arg.get_action() {
        ArgAction::Append => Some(format!("[{}]", values.join(", "))),
        _ => values.into_iter().next(),
    }
}

/// Returns what the program takes where nothing is set, in the form of the file: a list for an
/// option that may be repeated.
fn chosen_value(arg: &Arg, value: &str) -> String {
    match (arg.get_action(), arg.get_value_delimiter()) {
        (ArgAction::Append, Some(delimiter)) => {
            let values: Vec<String> = value.split(delimiter).map(|v| shown(arg, v)).collect();
            format!("[{}]", values.join(", "))
        }
        _ => shown(arg, value),
    }
}

/// Returns one value in the form of the file: a number as it is, all else quoted; masked if the
/// option may hold a password.
fn shown(arg: &Arg, value: &str) -> String {
    let text = if secret::is_secret(arg) {
        secret::masked(value)
    } else {
        value.to_owned()
    };
    let number = text.parse::<u64>().is_ok_and(|n| n.to_string() == text);
    if number { text } else { quoted(&text) }
}

//! What clap refuses, in words that help.

use std::error::Error;
use std::ffi::OsString;
use std::num::{IntErrorKind, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use crate::likeness::nearest;

/// Names that other programs have for an option, and ours.
const SYNONYMS: [(&[&str], &str); 12] = [
    (&["database", "db", "dsn", "sqlite", "url"], "store"),
    (
        &[
            "host", "pass", "passwd", "password", "port", "socket", "user",
        ],
        "defaults-file",
    ),
    (
        &["audit-dir", "dir", "directory", "path", "watch-dir"],
        "storage-dir",
    ),
    (&["out", "output"], "merged-log"),
    (
        &["attack-threshold", "limit", "maxretry", "max-retry"],
        "threshold",
    ),
    (&["findtime", "timeout", "window"], "find-time"),
    (&["allow", "ignore-ip", "ignoreip", "whitelist"], "ignore"),
    (&["proxy"], "trusted-proxy"),
    (&["daemon", "watch"], "follow"),
    (
        &["check", "configtest", "test", "test-config"],
        "check-config",
    ),
    (&["dry", "noop", "simulate"], "dry-run"),
    (&["silent"], "quiet"),
];

/// Returns the error with advice for people in the place of clap's, where that misleads.
///
/// An unknown option gets the one that is meant, if that is clear. clap's advice to pass it as a
/// value, or its choice of a name that has only letters in common, is left out.
///
/// `arguments` are those of the process: what a subcommand does not have is not advised behind it. Of
/// an option that none of them gives, the variable is named that does.
pub(super) fn explain(
    mut command: Command,
    arguments: &[OsString],
    mut error: clap::Error,
) -> clap::Error {
    command.build();
    let words = arguments.iter().skip(1);
    let chosen = words
        .filter_map(|word| word.to_str())
        .find_map(|word| command.find_subcommand(word));
    let command = chosen.unwrap_or(&command);
    let from = variables(command, arguments, &error);
    match error.kind() {
        ErrorKind::UnknownArgument => {
            error.remove(ContextKind::Suggested);
            error.remove(ContextKind::SuggestedArg);
            let usage = command.clone().render_usage();
            error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
            if let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
                && let Some(meant) = meant(word, &options(command))
            {
                let meant = ContextValue::String(format!("--{meant}"));
                error.insert(ContextKind::SuggestedArg, meant);
            }
            error
        }
        ErrorKind::ValueValidation => {
            let reason = error.source().map(|cause| {
                let said = number(cause);
                said.unwrap_or_else(|| cause.to_string())
            });
            let (Some(value), Some(arg), Some(reason)) = (
                text(&error, ContextKind::InvalidValue),
                text(&error, ContextKind::InvalidArg),
                reason,
            ) else {
                return error;
            };
            let from = from.map(|from| format!(" ({from})")).unwrap_or_default();
            let message = format!("invalid value '{value}' for '{arg}'{from}: {reason}");
            command.clone().error(ErrorKind::ValueValidation, message)
        }
        _ => {
            if let Some(from) = from {
                let tip = ContextValue::StyledStrs(vec![from.into()]);
                error.insert(ContextKind::Suggested, tip);
            }
            error
        }
    }
}

/// Returns a text of an error.
fn text(error: &clap::Error, kind: ContextKind) -> Option<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    }
}

/// Says which of the options that the error speaks of have their value from a variable, such as
/// `from the environment, MODSEC_THREADS`; `None` if none has.
fn variables(command: &Command, arguments: &[OsString], error: &clap::Error) -> Option<String> {
    let mut named = Vec::new();
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        match error.get(kind) {
            Some(ContextValue::String(arg)) => named.push(arg.as_str()),
            Some(ContextValue::Strings(args)) => named.extend(args.iter().map(String::as_str)),
            _ => {}
        }
    }
    let mut from: Vec<_> = named
        .into_iter()
        .filter_map(|shown| variable(command, arguments, shown))
        .collect();
    from.dedup();
    (!from.is_empty()).then(|| format!("from the environment, {}", from.join(" and ")))
}

/// Returns the variable that gives the option its value, if no argument does. `shown` is the option
/// as clap writes it, such as `--threads <NUMBER>` or `--quiet...`.
fn variable(command: &Command, arguments: &[OsString], shown: &str) -> Option<String> {
    let is_of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let long = shown
        .strip_prefix("--")?
        .split(|letter| !is_of_name(letter))
        .next()?;
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(long))?;
    let gives = |word: &str| match word.strip_prefix("--") {
        Some(word) => word.split('=').next() == Some(long),
        None => word.starts_with('-') && arg.get_short().is_some_and(|short| word.contains(short)),
    };
    let words = arguments.iter().skip(1).take_while(|word| *word != "--");
    if words.filter_map(|word| word.to_str()).any(gives) {
        return None;
    }
    let name = arg.get_env()?;
    std::env::var_os(name)?;
    Some(name.to_string_lossy().into_owned())
}

/// Says which number or switch is expected, if `cause` says that it is none; in words, where clap
/// writes a range of Rust.
pub(super) fn number(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<ParseIntError>() {
        return Some(whole_number(error).to_owned());
    }
    let text = cause.to_string();
    if text == "value was not a boolean" {
        return Some("expected true or false, yes or no, on or off, 1 or 0".to_owned());
    }
    let (_, range) = text.split_once(" is not in ")?;
    let (least, most) = range.split_once("..")?;
    let most = most.trim_start_matches('=');
    let is_open = most.is_empty() || most.parse().is_ok_and(|most: u64| most >= u32::MAX.into());
    Some(match (least, is_open) {
        ("", _) => format!("expected at most {most}"),
        (least, true) => format!("expected a whole number, {least} or more"),
        (least, false) => format!("expected a whole number from {least} to {most}"),
    })
}

/// Says what is expected where a number is none.
pub(super) fn whole_number(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "the number is too large",
        IntErrorKind::Zero => "expected a whole number above 0",
        _ => "expected a whole number, 0 or more",
    }
}

/// Returns the long names of the options of a program or subcommand, as its help has them.
fn options(command: &Command) -> Vec<String> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown.filter_map(Arg::get_long).map(str::to_owned).collect()
}

/// Returns the long name of the option that is meant by an unknown one.
pub(super) fn meant(word: &str, known: &[String]) -> Option<String> {
    let word = word.trim_start_matches('-').replace('_', "-");
    let word = word.split('=').next().unwrap_or_default();
    let has = |name: &&str| known.iter().any(|known| known == name);
    let synonym = SYNONYMS.iter().find(|(words, _)| words.contains(&word));
    let synonym = synonym.map(|(_, name)| *name).filter(has);
    synonym
        .map(str::to_owned)
        .or_else(|| nearest(word, known.iter().map(String::as_str)).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_out_of_range_says_which_one_is_expected() {
        for (said, want) in [
            (
                "0 is not in 1..=4294967295",
                "expected a whole number, 1 or more",
            ),
            (
                "0 is not in 1..18446744073709551615",
                "expected a whole number, 1 or more",
            ),
            (
                "99999 is not in 0..=1440",
                "expected a whole number from 0 to 1440",
            ),
        ] {
            let cause: Box<dyn Error> = said.into();
            assert_eq!(number(&*cause).as_deref(), Some(want), "{said}");
        }
        let cause: Box<dyn Error> = "something else".into();
        assert_eq!(number(&*cause), None);
    }

    #[test]
    fn what_is_meant_is_found_and_nothing_is_made_up() {
        let known = ["store", "defaults-file", "sensor", "min-age"].map(str::to_owned);
        for (word, want) in [
            ("--db", Some("store")),
            ("--password", Some("defaults-file")),
            ("--min_age", Some("min-age")),
            ("--mn-age=3", Some("min-age")),
            ("--threads", None),
            ("--maxretry", None),
            ("--zzz", None),
        ] {
            assert_eq!(meant(word, &known).as_deref(), want, "{word}");
        }
    }
}

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
/// `arguments` are those of the process: what a subcommand does not have is not advised behind it.
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
            let Some(reason) = error.source().and_then(number) else {
                return error;
            };
            let text = |kind| match error.get(kind) {
                Some(ContextValue::String(text)) => text.clone(),
                _ => String::new(),
            };
            let (value, arg) = (
                text(ContextKind::InvalidValue),
                text(ContextKind::InvalidArg),
            );
            let message = format!("invalid value '{value}' for '{arg}': {reason}");
            command.clone().error(ErrorKind::ValueValidation, message)
        }
        _ => error,
    }
}

/// Says which number is expected, if `cause` says that one is not; in words, where clap writes a
/// range of Rust.
pub(super) fn number(cause: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = cause.downcast_ref::<ParseIntError>() {
        return Some(whole_number(error).to_owned());
    }
    let text = cause.to_string();
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

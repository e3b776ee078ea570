//! The file's values as defaults of the options, below flags and environment.
//!
//! clap already knows that a flag beats a variable and a variable a default. So a value of the file
//! is made the default, and nothing of that order is built here a second time. Two things clap does
//! not do for defaults are:
//!
//! - *Conflicts.* `--dry-run` on the command line against `jail-log` in the file: the file's value
//!   is left out. Two such values within the file: refused, with both lines.
//! - *Checking.* A default is not checked before it is used. So each value is first tried as an
//!   argument of its own, and clap's reason is reported with the file's line.

use std::any::TypeId;
use std::error::Error as _;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::Yields;
use super::error::{ConfigError, Problem};
use super::file::{ConfigFile, Setting, Value};
use super::mistake::{number, whole_number};
use super::secret;

/// A command whose defaults come from the file where the file has any.
#[derive(Debug)]
pub(super) struct Layered {
    /// The program's options with these defaults. The help shows them as `[config: …]`.
    pub(super) command: Command,
    /// The keys that were taken from the file, each with its `FILE:LINE`.
    pub(super) lines: Vec<(String, String)>,
}

/// Gives the options of `command` the values that the file has for them, as defaults.
///
/// So what stands on the command line or in the environment counts by clap's own rules. A default
/// takes no part in clap's conflicts, therefore the file's value is left out if an option that
/// excludes it is in `given`.
///
/// Keys that `command` does not have are passed over: they belong to a subcommand, or to the
/// program itself.
///
/// # Errors
///
/// [`ConfigError::Content`] for a value of the wrong type, one that the option does not take, or
/// two that exclude each other.
pub(super) fn with_defaults(
    command: &Command,
    file: &ConfigFile,
    given: Option<&ArgMatches>,
    yields: Yields<'_>,
) -> Result<Layered, ConfigError> {
    let layer = Layer {
        file,
        given,
        yields,
        plain: command,
    };
    let mut result = command.clone();
    let mut lines = Vec::new();
    for setting in &file.settings {
        let Some(arg) = option(command, &setting.key) else {
            continue;
        };
        let values = layer.values(setting, arg)?;
        if values.is_empty() || layer.yields(arg) {
            continue;
        }
        layer.check_alone(setting, arg)?;
        let suffix = help_suffix(arg, &values);
        let id = arg.get_id();
        // Not `mut_arg`, which moves the option to the end of the list.
        result = result.mut_args(|arg| {
            if arg.get_id() == id {
                with_default(arg, &values, &suffix)
            } else {
                arg
            }
        });
        let place = format!("{}:{}", file.path.display(), setting.line);
        lines.push((setting.key.clone(), place));
    }
    Ok(Layered {
        command: result,
        lines,
    })
}

/// Returns the option whose long name is `key`.
pub(super) fn option<'a>(command: &'a Command, key: &str) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key))
}

/// What decides about one setting.
struct Layer<'a> {
    /// All settings, to find those that exclude each other.
    file: &'a ConfigFile,
    /// What the user gave by flags and environment; `None` if clap could not read it.
    given: Option<&'a ArgMatches>,
    /// Pairs of options that exclude each other beside clap's conflicts.
    yields: Yields<'a>,
    /// The options without the file.
    plain: &'a Command,
}

impl Layer<'_> {
    /// Returns the values as words of a command line; none if the choice is left to the program, by
    /// an empty text or list.
    ///
    /// # Errors
    ///
    /// [`Problem::WrongType`], or [`Problem::Refused`] with clap's reason.
    fn values(&self, setting: &Setting, arg: &Arg) -> Result<Vec<String>, ConfigError> {
        let switch = matches!(arg.get_action(), ArgAction::SetTrue);
        let list = matches!(arg.get_action(), ArgAction::Append);
        let wrong = |found| {
            let (key, wanted) = (setting.key.clone(), wanted(arg));
            Err(self.error(setting, Problem::WrongType { key, wanted, found }))
        };
        let mut values = match &setting.value {
            Value::Switch(value) if switch => return Ok(vec![value.to_string()]),
            Value::List(texts) if list => texts.clone(),
            Value::Text(text) if !switch => vec![text.clone()],
            Value::Switch(_) => return wrong("true or false"),
            Value::List(_) => return wrong("a list"),
            Value::Text(_) => return wrong("a text or a number"),
            Value::Other(found) => return wrong(found),
        };
        values.retain(|value| !value.is_empty());
        for value in &values {
            self.check_value(setting, arg, value)?;
        }
        Ok(values)
    }

    /// Asks clap whether it would take the value from the command line, as the only argument.
    fn check_value(&self, setting: &Setting, arg: &Arg, value: &str) -> Result<(), ConfigError> {
        let probe = self.plain.clone().subcommand_required(false);
        let probe = probe.mut_args(|arg| arg.required(false).env(None::<&str>));
        let word = match arg.get_action() {
            // A count is the number of times that the flag stands there.
            ArgAction::Count => return self.check_count(setting, value),
            _ => format!("--{}={value}", setting.key),
        };
        let name = self.plain.get_name().to_owned();
        let Err(error) = probe.try_get_matches_from([name, word]) else {
            return Ok(());
        };
        Err(self.refused(setting, value, reason(&error)))
    }

    /// Checks a number of repetitions, such as `verbose = 2`: 0 to 255.
    fn check_count(&self, setting: &Setting, value: &str) -> Result<(), ConfigError> {
        match value.parse::<u8>() {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused(setting, value, whole_number(&error).to_owned())),
        }
    }

    /// Returns `true` if the option must not have a default, because the user gave one that
    /// excludes it.
    fn yields(&self, arg: &Arg) -> bool {
        let Some(given) = self.given else {
            return false;
        };
        let wins = |other: &Arg| is_given(given, other);
        let excludes = |other: &&Arg| {
            let named = (arg.get_id().as_str(), other.get_id().as_str());
            self.exclude(arg, other) || self.yields.contains(&named)
        };
        self.plain.get_arguments().filter(excludes).any(wins)
    }

    /// Refuses two settings of the file of which the command line would take only one. A switch
    /// that is `false` and an empty value exclude nothing.
    fn check_alone(&self, setting: &Setting, arg: &Arg) -> Result<(), ConfigError> {
        let set = |other: &&Setting| match &other.value {
            Value::Switch(value) => *value,
            Value::Text(text) => !text.is_empty(),
            Value::List(texts) => !texts.is_empty(),
            Value::Other(_) => true,
        };
        let off = matches!(setting.value, Value::Switch(false));
        let excluded = |other: &&Setting| {
            let other = option(self.plain, &other.key);
            other.is_some_and(|other| self.exclude(arg, other) && !self.yields(other))
        };
        let mut others = self.file.settings.iter().filter(set);
        match others.find(excluded).filter(|_| !off) {
            None => Ok(()),
            Some(other) => Err(self.error(
                setting,
                Problem::Contradiction {
                    key: setting.key.clone(),
                    other: other.key.clone(),
                    other_line: other.line,
                },
            )),
        }
    }

    /// Returns `true` if clap takes only one of the two. Conflicts may be declared on either side.
    fn exclude(&self, one: &Arg, other: &Arg) -> bool {
        let of = |arg: &Arg, other: &Arg| {
            let mut conflicts = self.plain.get_arg_conflicts_with(arg).into_iter();
            conflicts.any(|conflict| conflict.get_id() == other.get_id())
        };
        of(one, other) || of(other, one)
    }

    /// Returns the error for a value that the option does not take.
    fn refused(&self, setting: &Setting, value: &str, reason: String) -> ConfigError {
        let problem = Problem::Refused {
            key: setting.key.clone(),
            value: quoted(value),
            reason,
        };
        self.error(setting, problem)
    }

    /// Returns the error for a problem with a setting, at its line.
    fn error(&self, setting: &Setting, problem: Problem) -> ConfigError {
        ConfigError::Content {
            path: self.file.path.clone(),
            line: setting.line,
            problem,
        }
    }
}

/// Returns what an option takes in the file, in words.
fn wanted(arg: &Arg) -> &'static str {
    let takes = |id| arg.get_value_parser().type_id() == id;
    let numbers = [
        TypeId::of::<u8>(),
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
    ];
    match arg.get_action() {
        ArgAction::SetTrue => "true or false",
        ArgAction::Append => "a text in quotes, or a list of such texts",
        ArgAction::Count => "a whole number",
        _ if numbers.into_iter().any(takes) => "a whole number",
        _ => "a text in quotes",
    }
}

/// Returns `true` if the user gave the option by flag or environment. A switch that a variable
/// turns off is not given.
fn is_given(matches: &ArgMatches, arg: &Arg) -> bool {
    let id = arg.get_id().as_str();
    let source = matches.value_source(id);
    let off = matches!(arg.get_action(), ArgAction::SetTrue) && !matches.get_flag(id);
    let given = [ValueSource::CommandLine, ValueSource::EnvVariable].map(Some);
    given.contains(&source) && !off
}

/// Returns the option with these values as its default, and `suffix` behind its help.
fn with_default(arg: Arg, values: &[String], suffix: &str) -> Arg {
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let takes_value = !matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Count);
    let arg = arg.default_values(values).help(format!("{help} {suffix}"));
    if takes_value {
        arg.hide_default_value(true)
    } else {
        arg
    }
}

/// Returns what the help says of the file's value, such as `[config: /srv/audit]`; passwords
/// masked.
fn help_suffix(arg: &Arg, values: &[String]) -> String {
    let shown = values.iter().map(|value| {
        if secret::is_secret(arg) {
            secret::masked(value)
        } else {
            value.escape_debug().to_string()
        }
    });
    format!("[config: {}]", shown.collect::<Vec<_>>().join(","))
}

/// Returns the text in the form of the file: a TOML string in quotes.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// Returns why clap refuses a value, without the frame of a message that names a flag.
fn reason(error: &clap::Error) -> String {
    if let Some(cause) = error.source() {
        return number(cause).unwrap_or_else(|| cause.to_string());
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!("expected {}", values.join(", ")),
        _ => "the option does not take this value".to_owned(),
    }
}

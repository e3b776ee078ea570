//! What the programs' command lines have in common: the configuration file below flags and
//! environment, `--check-config`, manual pages and completions.
//!
//! A program describes its options to clap and leaves the rest to [`CommandLine`]. Keys of the file
//! are the options' long names, so an option that is added is at once one of the file, of the
//! manual page and of the completions.
//!
//! ```no_run
//! use clap::{CommandFactory, Parser};
//! use modsec_core::command_line::CommandLine;
//!
//! /// Counts.
//! #[derive(Debug, Parser)]
//! #[command(name = "recidive")]
//! struct Args {
//!     /// Attacks that make an offender
//!     #[arg(long, env = "ATTACK_THRESHOLD", default_value_t = 10)]
//!     threshold: u32,
//! }
//!
//! // Flag, else variable, else `threshold = …` below `[recidive]` in the file, else 10.
//! let line = CommandLine::read(Args::command(), "RECIDIVE", &[]);
//! let args: Args = line.args();
//! line.end_check(&[]);
//! println!("{}", args.threshold);
//! ```
//!
//! # The file
//!
//! TOML: keys above the sections count for every program that has such an option, keys below
//! `[modsec-parser]`, `[watch-dir]` and `[recidive]` for that program, and beat the former. A flag
//! without value is `true` or `false`, an option that may be repeated takes a list; an empty text
//! or list leaves the choice to the program. What is not understood is an error: a program that
//! runs as root on half of its configuration is worse than one that does not start.

mod error;
mod file;
mod generate;
mod layers;
mod manual;
mod options;
mod secret;
mod settings;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, value_parser};

pub use self::error::{ConfigError, Problem};
use self::file::ConfigFile;
use self::layers::Layered;
pub use self::options::{LogArgs, ProxyArgs};
use crate::program::{self, Exit};

/// The file that is read if nobody names another, and if it exists.
pub const DEFAULT_FILE: &str = "/etc/modsec-tools/config.toml";

/// Variable that names another file.
const VARIABLE: &str = "MODSEC_CONFIG";

/// Long names of the options that are about the file, and not in it.
const OWN_OPTIONS: [&str; 5] = ["check-config", "config", "generate", "help", "version"];

/// Pairs of options' ids: the file's value of the first is left out if the second was given.
///
/// For options that exclude each other this is so without being listed, and for `verbose` and
/// `quiet`.
pub type Yields<'a> = &'a [(&'a str, &'a str)];

const LOUDNESS: [(&str, &str); 2] = [("verbose", "quiet"), ("quiet", "verbose")];

/// What the user asked a program to do, by flags, environment and configuration file.
#[derive(Debug)]
pub struct CommandLine {
    layered: Layered,
    matches: ArgMatches,
    /// What `--check-config` says of the file.
    origin: String,
}

/// Says what is wrong with the arguments, or shows the help that was asked for, and ends the process
/// with clap's exit status.
///
/// An argument may be a name that somebody else has given to a file. So if the message holds what a
/// terminal would not show as it is, that is escaped, and the message has no colours.
pub fn exit(error: &clap::Error) -> ! {
    let text = error.to_string();
    let shown: Vec<String> = text.split('\n').map(program::visible).collect();
    let shown = shown.join("\n");
    if shown == text {
        error.exit();
    }
    // Nobody is there to be told if standard error is closed.
    let _ = io::stderr().write_all(shown.as_bytes());
    std::process::exit(error.exit_code())
}

impl CommandLine {
    /// Reads the arguments of this process, its environment and the configuration file.
    ///
    /// `prefix` begins the name of each option's variable ([`with_variables`]).
    ///
    /// Ends the process as clap does: with status 0 after `--help` and `--version`, and with the
    /// hidden `--generate man|complete-bash|complete-zsh|complete-fish` after that; with status 2
    /// and the reason on standard error if arguments or file make no sense. Warns on standard
    /// error of a password in a file that every user may read, and of one on the command line.
    pub fn read(command: Command, prefix: &str, yields: Yields<'_>) -> Self {
        let arguments: Vec<OsString> = std::env::args_os().collect();
        let yields = [yields, &LOUDNESS].concat();
        match Self::resolve(with_variables(command, prefix), &yields, &arguments) {
            Ok(line) => line,
            Err(Ending::Usage(error)) => exit(&error),
            Err(Ending::File(error)) => end(refuse(&error)),
            Err(Ending::Text(text)) => {
                show(&text);
                end(Exit::Done)
            }
        }
    }

    /// Returns the program's own form of its arguments; ends the process if clap says no.
    pub fn args<A: FromArgMatches>(&self) -> A {
        A::from_arg_matches(&self.matches).unwrap_or_else(|error| exit(&error))
    }

    /// Returns what clap has read, with the file's values as defaults.
    pub fn matches(&self) -> &ArgMatches {
        &self.matches
    }

    /// Returns `true` if the user wants to know the settings, and nothing done.
    pub fn checks_only(&self) -> bool {
        self.matches.get_flag("check_config")
    }

    /// With `--check-config`, shows the settings in force and ends the process with status 0.
    ///
    /// `chosen` has what the program takes where nothing is set, by long names. To be called once
    /// the program has found its arguments sound.
    pub fn end_check(&self, chosen: &[(&str, String)]) {
        if !self.checks_only() {
            return;
        }
        let settings = settings::render(&self.layered, &self.matches, chosen);
        let text = format!("# {}\n{settings}", self.origin);
        show(text.as_bytes());
        end(Exit::Done)
    }

    fn resolve(
        command: Command,
        yields: Yields<'_>,
        arguments: &[OsString],
    ) -> Result<Self, Ending> {
        let plain = with_own_options(command);
        let first = match plain.clone().try_get_matches_from(arguments) {
            Err(error) if error.kind() != ErrorKind::DisplayHelp => {
                return Err(Ending::Usage(error));
            }
            first => first,
        };
        if let Some(kind) = first.as_ref().ok().and_then(wanted) {
            let text = generate::render(plain, &kind)
                .map_err(|error| Ending::Usage(clap::Error::raw(ErrorKind::Io, error)))?;
            return Err(Ending::Text(text));
        }
        let place = Place::of(arguments);
        let file = match place.read(plain.get_name(), &keys(&plain)) {
            Ok(file) => file,
            // Help is most needed when something is wrong.
            Err(error) => return Err(first.err().map_or(Ending::File(error), Ending::Usage)),
        };
        let origin = place.describe(file.is_some());
        let layered = match &file {
            Some(file) => layer(&plain, file, first.as_ref().ok(), yields)?,
            None => Layered {
                command: plain,
                lines: Vec::new(),
            },
        };
        let matches = layered.command.clone().try_get_matches_from(arguments);
        let matches = matches.map_err(Ending::Usage)?;
        if let Some(text) = password_for_all(&layered.command, &matches) {
            program::tell(&text);
        }
        if let Some(file) = &file {
            warn_of_passwords(file, &layered.command);
        }
        Ok(Self {
            layered,
            matches,
            origin,
        })
    }
}

/// Why the program's own work does not begin.
#[derive(Debug)]
enum Ending {
    /// Arguments that make no sense, or a wish for help.
    Usage(clap::Error),
    File(ConfigError),
    /// What was to be generated.
    Text(Vec<u8>),
}

impl From<ConfigError> for Ending {
    fn from(error: ConfigError) -> Self {
        Self::File(error)
    }
}

/// Where the file is.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nobody named one.
    Default,
    Named(PathBuf),
    Nowhere,
}

impl Place {
    /// Looks for `--config` before clap can know the defaults that the file gives.
    fn of(arguments: &[OsString]) -> Self {
        let mut words = arguments.iter().skip(1).take_while(|word| *word != "--");
        let mut named = None;
        while let Some(word) = words.next() {
            let joined = word
                .to_str()
                .and_then(|word| word.strip_prefix("--config="));
            if word == "--config" {
                named = words.next().cloned();
            } else if let Some(path) = joined {
                named = Some(OsString::from(path));
            }
        }
        let named = named.or_else(|| std::env::var_os(VARIABLE));
        match named.filter(|path| !path.is_empty()) {
            None => Self::Default,
            Some(path) if path == "none" => Self::Nowhere,
            Some(path) => Self::Named(PathBuf::from(path)),
        }
    }

    fn read(&self, section: &str, known: &[String]) -> Result<Option<ConfigFile>, ConfigError> {
        let path = match self {
            Self::Default => Path::new(DEFAULT_FILE),
            Self::Named(path) => path,
            Self::Nowhere => return Ok(None),
        };
        match ConfigFile::read(path, section, known) {
            Err(ConfigError::Unreadable { source, .. })
                if *self == Self::Default && source.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            result => result.map(Some),
        }
    }

    fn describe(&self, read: bool) -> String {
        match self {
            Self::Nowhere => "no configuration file is read, as asked".to_owned(),
            Self::Default if !read => format!("no configuration file: {DEFAULT_FILE} is absent"),
            Self::Default => format!("configuration file: {DEFAULT_FILE}"),
            Self::Named(path) => format!("configuration file: {}", path.display()),
        }
    }
}

/// Returns `command` with a variable for each option that has none yet, called like the option
/// behind `prefix`: `RECIDIVE_DRY_RUN` for `--dry-run`. Switches take `1`, `yes`, `on` and `true`, and
/// their opposites.
pub fn with_variables(command: Command, prefix: &str) -> Command {
    let names: Vec<String> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let command = command.mut_args(|arg| {
        let arg = match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            _ => arg,
        };
        match arg.get_long() {
            Some(long) if arg.get_env().is_none() => {
                let name = long.to_uppercase().replace('-', "_");
                arg.env(format!("{prefix}_{name}"))
            }
            _ => arg,
        }
    });
    names.into_iter().fold(command, |command, name| {
        command.mut_subcommand(name, |command| with_variables(command, prefix))
    })
}

fn with_own_options(command: Command) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .env(VARIABLE)
        .value_parser(value_parser!(PathBuf))
        .global(true)
        .help(format!(
            "Configuration file, below flags and environment, or none [default: {DEFAULT_FILE} if \
             it exists]"
        ));
    let check = Arg::new("check_config")
        .long("check-config")
        .action(ArgAction::SetTrue)
        .help("Read configuration file, environment and flags, show the settings, and exit");
    // For packages, not for people: left out of the help, as it says nothing of the work.
    let generate = Arg::new("generate")
        .long("generate")
        .value_name("WHAT")
        .value_parser(generate::KINDS)
        .hide(true);
    command.args([config, check, generate])
}

/// Returns the long names of all options of the program and its subcommands.
fn keys(command: &Command) -> Vec<String> {
    let commands = std::iter::once(command).chain(command.get_subcommands());
    let names = commands.flat_map(|command| command.get_arguments().filter_map(Arg::get_long));
    names
        .filter(|name| !OWN_OPTIONS.contains(name))
        .map(str::to_owned)
        .collect()
}

fn layer(
    plain: &Command,
    file: &ConfigFile,
    given: Option<&ArgMatches>,
    yields: Yields<'_>,
) -> Result<Layered, ConfigError> {
    let chosen = given.and_then(ArgMatches::subcommand);
    let names: Vec<String> = plain
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let mut layered = layers::with_defaults(plain, file, given, yields)?;
    for name in names {
        let given = chosen
            .filter(|(chosen, _)| *chosen == name)
            .map(|(_, given)| given);
        let Some(sub) = layered.command.find_subcommand(&name).cloned() else {
            continue;
        };
        let sub = layers::with_defaults(&sub, file, given, yields)?.command;
        layered.command = layered.command.mut_subcommand(&name, |_| sub);
    }
    Ok(layered)
}

fn warn_of_passwords(file: &ConfigFile, command: &Command) {
    let secret = |setting: &&file::Setting| {
        let arg = layers::option(command, &setting.key);
        let file::Value::Text(text) = &setting.value else {
            return false;
        };
        arg.is_some_and(secret::is_secret) && secret::has_password(text)
    };
    if let Some(setting) = file.settings.iter().find(secret).filter(|_| file.public) {
        program::tell(&format!(
            "{}:{}: {} has a password in it, and every user may read this file: chmod o-r it, or \
             put the password elsewhere",
            file.path.display(),
            setting.line,
            setting.key
        ));
    }
}

/// Says that a password stands on the command line, and where else it could be.
fn password_for_all(command: &Command, matches: &ArgMatches) -> Option<String> {
    let is_told = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        let typed = matches.value_source(id) == Some(ValueSource::CommandLine);
        let mut values = matches.get_raw(id).filter(|_| typed).into_iter().flatten();
        secret::is_secret(arg) && values.any(|value| secret::has_password(&value.to_string_lossy()))
    };
    let arg = command.get_arguments().find(is_told)?;
    let long = arg.get_long()?;
    let mut ways = Vec::new();
    if let Some(variable) = arg.get_env() {
        ways.push(format!("set {} instead", variable.to_string_lossy()));
    }
    let usual = "defaults-file".to_owned();
    let files: Vec<String> = [format!("{long}-file"), usual]
        .into_iter()
        .filter(|name| layers::option(command, name).is_some())
        .map(|name| format!("--{name}"))
        .collect();
    if !files.is_empty() {
        ways.push(format!("keep it in a file for {}", files.join(" or ")));
    }
    Some(format!(
        "--{long} has a password in it, which every user of this machine can read in the list of \
         processes (ps): {}",
        ways.join(", or ")
    ))
}

/// Writes `error` with its causes to standard error and returns [`Exit::BadArguments`].
pub fn refuse(error: &dyn std::error::Error) -> Exit {
    program::fail(error);
    Exit::BadArguments
}

/// Returns what `--generate` asks for.
fn wanted(matches: &ArgMatches) -> Option<String> {
    matches.get_one::<String>("generate").cloned()
}

fn show(text: &[u8]) {
    // A reader that has gone away has seen enough.
    let _ = io::stdout().write_all(text);
}

fn end(exit: Exit) -> ! {
    std::process::exit(exit as i32)
}

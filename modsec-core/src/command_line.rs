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
//! println!("{}", args.threshold);
//! ```
//!
//! # How a value is found
//!
//! ```text
//! recidive --threshold 5          flag                                        beats
//! ATTACK_THRESHOLD=6              variable                                    beats
//! [recidive]                      section of the program in the file          beats
//! threshold = 7
//! stale-after = 60                key above the sections (shared ones only)   beats
//! 10                              default of the option
//! ```
//!
//! An option that excludes another, given as flag or variable, also takes the other's value in the
//! file out of force. The steps of [`CommandLine::read`]:
//!
//! 1. clap reads the arguments as they are. What it refuses is refused, before the file is opened.
//! 2. `--generate` writes its text and ends.
//! 3. The file is found (`--config`, else `MODSEC_CONFIG`, else [`DEFAULT_FILE`]) and read.
//! 4. Its values become the options' defaults, each checked as clap checks an argument.
//! 5. clap reads the arguments once more, now with these defaults.
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
mod findings;
mod generate;
mod layers;
mod manual;
mod mistake;
mod options;
mod position;
mod secret;
mod settings;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches, value_parser};

pub use self::error::{ConfigError, Problem};
use self::file::ConfigFile;
pub use self::findings::{Findings, check_files};
use self::layers::Layered;
pub use self::options::{LogArgs, ProxyArgs, StoreArgs};
use crate::program::{self, Exit};

/// The file that is read if none is named and it exists.
pub const DEFAULT_FILE: &str = "/etc/modsec-tools/config.toml";

/// Variable that names another file, or `none`.
const VARIABLE: &str = "MODSEC_CONFIG";

/// Long names of the options that are about the file, and not in it.
const OWN_OPTIONS: [&str; 5] = ["check-config", "config", "generate", "help", "version"];

/// Variables that the old scripts have for an option beside the one that it names itself.
/// `modsec_recidive.sh` is `modsec_recedive.sh` after its author renamed it.
const SCRIPT_VARIABLES: [(&str, &str); 2] =
    [("recidive-file", "recidive_FILE"), ("pid-file", "PID_FILE")];

/// Pairs of options' ids: the file's value of the first is left out if the second was given.
///
/// For options that exclude each other this is so without being listed, and for `verbose` and
/// `quiet`.
pub type Yields<'a> = &'a [(&'a str, &'a str)];

/// Added to the pairs of each program: the file's `verbose` yields to `--quiet`, and the other way
/// round.
const VERBOSITY: [(&str, &str); 2] = [("verbose", "quiet"), ("quiet", "verbose")];

/// What the user asked a program to do, by flags, environment and configuration file.
///
/// There is one only after all three were found sound; see the module's documentation.
#[derive(Debug)]
pub struct CommandLine {
    /// The options with the file's values as defaults.
    layered: Layered,
    /// What clap has read with these defaults.
    matches: ArgMatches,
    /// What `--check-config` says of the file: which one was read, or why none.
    origin: String,
    /// The file that was read.
    file: Option<PathBuf>,
}

/// Writes what is wrong with the arguments, or the help that was asked for, and ends the process
/// with clap's exit status: 2 for a mistake, 0 for help.
///
/// An argument may be a name that a site user has given to a file. So if the message holds what a
/// terminal would not show as it is, that is escaped, and the message has no colours.
pub fn exit(error: &clap::Error) -> ! {
    let text = error.to_string();
    let shown: Vec<String> = text.split('\n').map(program::visible).collect();
    let shown = shown.join("\n");
    if !error.use_stderr() {
        // Help and version: clap wraps and colours them.
        let printed = error.print().and_then(|()| io::stdout().flush());
        end(written(program::unless_closed(printed)))
    }
    // A closed standard error is no reason to fail otherwise.
    if shown == text {
        let _ = error.print();
    } else {
        let _ = io::stderr().write_all(shown.as_bytes());
    }
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
        let yields = [yields, &VERBOSITY].concat();
        let command = with_variables(command, prefix);
        let own = with_own_options(command.clone());
        let arguments = position::behind_subcommand(&own, std::env::args_os().collect());
        match Self::resolve(command, &yields, &arguments) {
            Ok(line) => line,
            Err(EarlyExit::Usage(error)) => exit(&mistake::explain(own, &arguments, error)),
            Err(EarlyExit::File(error)) => end(refuse(&error)),
            Err(EarlyExit::Text(text)) => end(written(program::print(&text))),
        }
    }

    /// Returns the program's own form of its arguments. Ends the process with status 2 if clap
    /// refuses.
    pub fn args<A: FromArgMatches>(&self) -> A {
        A::from_arg_matches(&self.matches).unwrap_or_else(|error| exit(&error))
    }

    /// Returns what clap has read, with the file's values as defaults.
    pub fn matches(&self) -> &ArgMatches {
        &self.matches
    }

    /// Returns the configuration file that was read.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Returns `true` if the user asked for the settings (`--check-config`) and for no work.
    pub fn checks_only(&self) -> bool {
        self.matches.get_flag("check_config")
    }

    /// Says where an option has its value from, such as `from the environment, MODSEC_STORE`; `None`
    /// if it is from the command line, or nobody has set it.
    pub fn origin(&self, long: &str) -> Option<String> {
        let arg = layers::option(&self.layered.command, long)?;
        match self.matches.value_source(arg.get_id().as_str())? {
            ValueSource::CommandLine => None,
            ValueSource::EnvVariable => {
                let name = arg.get_env()?.to_string_lossy();
                Some(format!("from the environment, {name}"))
            }
            _ => {
                let place = settings::source(arg, long, &self.matches, &self.layered);
                (place != settings::DEFAULT).then(|| format!("from {place}"))
            }
        }
    }

    /// Says on standard error which of these paths were taken because only the files of
    /// `modsec_recidive.sh` exist. Each stands behind its option's long name; what was set by flag,
    /// variable or file is passed over.
    pub fn say_defaults(&self, paths: &[(&str, &Path)]) {
        let command = &self.layered.command;
        let chosen = self.matches.subcommand();
        let chosen = chosen.and_then(|(name, given)| Some((command.find_subcommand(name)?, given)));
        let (command, matches) = chosen.unwrap_or((command, &self.matches));
        for (long, path) in paths {
            let arg = layers::option(command, long);
            let source = arg.map(|arg| settings::source(arg, long, matches, &self.layered));
            if source.is_some_and(|source| source == settings::DEFAULT)
                && let Some(text) = program::DefaultPaths::explain(path)
            {
                program::tell(&text);
            }
        }
    }

    /// Ends `--check-config`: shows the settings in force, and what was found. Ends the process with
    /// status 0 if the program would start, else with 1.
    ///
    /// `chosen` has what the program takes where nothing is set, by long names. To be called once
    /// the program has found its arguments sound.
    pub fn end_check(&self, chosen: &[(&str, String)], findings: &Findings) -> ! {
        let settings = settings::render(&self.layered, &self.matches, chosen);
        let mut text = format!("# {}\n{settings}", self.origin);
        for remark in &findings.remarks {
            // Still of the form of the file.
            let _ = writeln!(text, "# note: {remark}");
        }
        let shown = written(program::print(text.as_bytes()));
        findings.say_problems();
        end(if findings.is_sound() {
            shown
        } else {
            Exit::Failed
        })
    }

    /// Does all of [`read`](Self::read) that does not end the process: the five steps above.
    ///
    /// # Errors
    ///
    /// How the process is to end instead. If the file is wrong and help was asked for, help wins:
    /// it is most needed when something is wrong.
    fn resolve(
        command: Command,
        yields: Yields<'_>,
        arguments: &[OsString],
    ) -> Result<Self, EarlyExit> {
        let plain = with_own_options(command);
        let first = match plain.clone().try_get_matches_from(arguments) {
            Err(error) if error.kind() != ErrorKind::DisplayHelp => {
                return Err(EarlyExit::Usage(error));
            }
            first => first,
        };
        if let Some(kind) = first
            .as_ref()
            .ok()
            .and_then(|given| given.get_one::<String>("generate"))
        {
            let text = generate::render(plain, kind)
                .map_err(|error| EarlyExit::Usage(clap::Error::raw(ErrorKind::Io, error)))?;
            return Err(EarlyExit::Text(text));
        }
        let location = ConfigLocation::from_arguments(arguments);
        let file = match location.read(plain.get_name(), &keys(&plain)) {
            Ok(file) => file,
            // Help is most needed when something is wrong.
            Err(error) => return Err(first.err().map_or(EarlyExit::File(error), EarlyExit::Usage)),
        };
        let origin = location.describe(file.is_some());
        let layered = match &file {
            Some(file) => layer(&plain, file, first.as_ref().ok(), yields)?,
            None => Layered {
                command: plain,
                lines: Vec::new(),
            },
        };
        let matches = layered.command.clone().try_get_matches_from(arguments);
        let matches = matches.map_err(EarlyExit::Usage)?;
        if let Some(text) = password_warning(&layered.command, &matches) {
            program::tell(&text);
        }
        if let Some(file) = &file {
            warn_of_passwords(file, &layered.command);
            file.owner_warning
                .iter()
                .for_each(|text| program::tell(text));
        }
        Ok(Self {
            layered,
            matches,
            origin,
            file: file.map(|file| file.path),
        })
    }
}

/// Why the program's own work does not begin.
#[derive(Debug)]
enum EarlyExit {
    /// Arguments that make no sense, or a request for help.
    Usage(clap::Error),
    /// A file that cannot be used.
    File(ConfigError),
    /// The text that `--generate` asks for.
    Text(Vec<u8>),
}

impl From<ConfigError> for EarlyExit {
    fn from(error: ConfigError) -> Self {
        Self::File(error)
    }
}

/// Where the file is.
#[derive(Debug, PartialEq, Eq)]
enum ConfigLocation {
    /// None was named: [`DEFAULT_FILE`], which may be missing.
    Default,
    /// The one that `--config` or the variable names, which must exist.
    Named(PathBuf),
    /// No file is to be read: `none` was named.
    Nowhere,
}

impl ConfigLocation {
    /// Looks for `--config` before clap can know the defaults that the file gives.
    ///
    /// The last one counts, up to a `--`; an empty name counts as none. An option's own value that
    /// happens to be `--config` is taken for the option: clap refuses such a value anyway.
    fn from_arguments(arguments: &[OsString]) -> Self {
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

    /// Reads the file for the program `section`, whose options have the names `known`. `None` if
    /// there is none to read.
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

    /// Returns what `--check-config` says of the file; `read` says whether one was read.
    fn describe(&self, read: bool) -> String {
        match self {
            Self::Nowhere => "no configuration file is read, as asked".to_owned(),
            Self::Default if !read => format!("no configuration file: {DEFAULT_FILE} is absent"),
            Self::Default => format!("configuration file: {DEFAULT_FILE}"),
            Self::Named(path) => format!("configuration file: {}", path.display()),
        }
    }
}

/// Returns the URL of a store as it may be shown: without user and password.
pub fn without_password(url: &str) -> String {
    secret::masked(url)
}

/// Returns `command` with a variable for each option, called like the option behind `prefix`, also
/// in its subcommands: `RECIDIVE_DRY_RUN` for `--dry-run`, `RECIDIVE_FILE` for `--recidive-file`.
///
/// An option may have a name of its own (`env`), and some have more in the old scripts
/// (`SCRIPT_VARIABLES`). Clap knows one name for each, so it gets the first of them that is set and
/// not empty: the name behind `prefix`, the option's own, the scripts'. If none is, that is the
/// option's own, or else the one behind `prefix`.
///
/// A switch takes `1`, `yes`, `on` and `true`, and their opposites; its variable may say no.
///
/// ```
/// use clap::{Arg, ArgAction, Command};
/// use modsec_core::command_line::with_variables;
///
/// let dry_run = Arg::new("dry_run").long("dry-run").action(ArgAction::SetTrue);
/// let command = with_variables(Command::new("recidive").arg(dry_run), "RECIDIVE");
/// let variable = command.get_arguments().find_map(Arg::get_env);
/// assert_eq!(variable, Some("RECIDIVE_DRY_RUN".as_ref()));
/// ```
pub fn with_variables(command: Command, prefix: &str) -> Command {
    let command = command.mut_args(|arg| {
        let arg = match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(BoolishValueParser::new()),
            // As a value, which is refused with the reason, and not as an unknown option.
            ArgAction::Set | ArgAction::Append if arg.get_long().is_some() => {
                arg.allow_negative_numbers(true)
            }
            _ => arg,
        };
        match arg.get_long() {
            Some(long) => {
                let name = variable(&arg, long, prefix);
                arg.env(name)
            }
            None => arg,
        }
    });
    command.mut_subcommands(|command| with_variables(command, prefix))
}

/// Returns the variable of an option by the order that [`with_variables`] describes.
fn variable(arg: &Arg, long: &str, prefix: &str) -> OsString {
    let upper = long.to_uppercase().replace('-', "_");
    let ours = match upper.strip_prefix(prefix) {
        Some(_) => OsString::from(upper),
        None => OsString::from(format!("{prefix}_{upper}")),
    };
    let own = arg.get_env().map(OsString::from);
    let usual = own.clone().unwrap_or_else(|| ours.clone());
    let scripts = SCRIPT_VARIABLES
        .iter()
        .filter(|(option, _)| *option == long);
    let scripts = scripts.map(|(_, name)| OsString::from(name));
    let is_set = |name: &OsString| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let mut names = [ours].into_iter().chain(own).chain(scripts);
    names.find(is_set).unwrap_or(usual)
}

/// Adds `--config`, `--check-config` and the hidden `--generate`.
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
        .help(
            "Show the settings in force and what would keep the program from starting, change \
             nothing, and exit",
        );
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

/// Returns the program with the file's values as defaults, also in its subcommands.
///
/// `given` is what was read without the file; of a subcommand only the chosen one has arguments.
fn layer(
    plain: &Command,
    file: &ConfigFile,
    given: Option<&ArgMatches>,
    yields: Yields<'_>,
) -> Result<Layered, ConfigError> {
    let chosen = given.and_then(ArgMatches::subcommand);
    let mut layered = layers::with_defaults(plain, file, given, yields)?;
    for sub in plain.get_subcommands() {
        let name = sub.get_name();
        let given = chosen.and_then(|(chosen, given)| (chosen == name).then_some(given));
        let layered_sub = layers::with_defaults(sub, file, given, yields)?.command;
        layered.command = layered.command.mut_subcommand(name, |_| layered_sub);
    }
    Ok(layered)
}

/// Warns of a password in a file that every user of the machine may read. Once, for the first one.
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

/// Returns a warning of a password on the command line, with the other places where it could be;
/// `None` if there is none. Every user of the machine sees it in `/proc/PID/cmdline`.
fn password_warning(command: &Command, matches: &ArgMatches) -> Option<String> {
    let has_password = |arg: &&Arg| {
        let id = arg.get_id().as_str();
        let typed = matches.value_source(id) == Some(ValueSource::CommandLine);
        let mut values = matches.get_raw(id).filter(|_| typed).into_iter().flatten();
        secret::is_secret(arg) && values.any(|value| secret::has_password(&value.to_string_lossy()))
    };
    let arg = command.get_arguments().find(has_password)?;
    let long = arg.get_long()?;
    let mut ways = Vec::new();
    if let Some(variable) = arg.get_env() {
        ways.push(format!("set {} instead", variable.to_string_lossy()));
    }
    let files: Vec<String> = [format!("{long}-file"), "defaults-file".to_owned()]
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

/// Returns how the process ends that has only text to write.
fn written(result: Result<(), program::ProgramError>) -> Exit {
    result.map_or_else(|error| program::fail(&error), |()| Exit::Done)
}

/// Ends the process. Nothing is open yet that would have to be closed.
fn end(exit: Exit) -> ! {
    std::process::exit(exit as i32)
}

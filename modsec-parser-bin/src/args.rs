//! The command line, and what it means to the library.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{CommandFactory, Parser, Subcommand};
use modsec_core::accounts::Accounts;
use modsec_core::command_line::{self, CommandLine, LogArgs, ProxyArgs, StoreArgs};
use modsec_core::ingest::{self, AccountNames, ComparedStore, Directories, IndexSource, Options};
use modsec_core::named_file::{self, Contents};
use modsec_core::program::{self, DefaultPaths, LogOptions};
use modsec_core::record::TrustedProxyArg;
use modsec_core::span::{self, SpanError, Unit};
use modsec_core::state_dir::state_file_name;
use modsec_core::store::{self, StoreOpener, StoreOptions};

use crate::{files, report};

/// Stores ModSecurity audit logs in a database and one merged log, then removes the files.
///
/// Reads the directory in which ModSecurity keeps one file per transaction (SecAuditLogType
/// Concurrent). An entry's file is removed only once the entry is safe in the store and in the
/// merged log; whatever happens in between, the next run finishes without loss or doubles.
///
/// With INPUTs it reads those instead and removes nothing.
#[derive(Debug, Parser)]
#[expect(clippy::doc_markdown, reason = "these comments are the help text")]
#[command(name = "modsec-parser", version, max_term_width = 100, after_long_help = AFTER_HELP)]
#[command(args_conflicts_with_subcommands = true)]
#[expect(clippy::struct_excessive_bools, reason = "a command line has switches")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Files and directories to read, or - for standard input; nothing in them is changed.
    ///
    /// A file is an entry, or a log of many: serial logs of ModSecurity 2, libmodsecurity 3 and
    /// Coraza, native or JSON, and merged logs. The format is recognised; gzip too.
    #[arg(value_name = "INPUT")]
    inputs: Vec<PathBuf>,

    /// Directory of the entries (SecAuditLogStorageDir); what was stored is removed from it
    /// [default: /var/log/httpd/modsec_audit, or below /var/log/apache2 where only that exists]
    #[arg(long, value_name = "DIR", env = "WATCH_DIR")]
    storage_dir: Option<PathBuf>,

    #[command(flatten)]
    store: StoreArgs,

    /// File to which whole entries are appended, or none [default: modsec_audit.log beside the
    /// storage directory; none with INPUTs]
    #[arg(long, value_name = "FILE", env = "MERGED_LOG_FILE")]
    merged_log: Option<PathBuf>,

    /// Index of the entries (SecAuditLog), or - for a pipe from the server: a listed entry is
    /// complete and taken at once, size and MD5 are verified, and lost records are counted
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,

    /// Leave directories that became empty
    #[arg(short, long)]
    keep_dirs: bool,

    /// Age at which a complete file is taken
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
          value_parser = |text: &str| seconds(text, 0))]
    min_age: u64,

    /// Time without change after which an incomplete entry is taken as it is, and flagged
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = |text: &str| seconds(text, 0))]
    stale_after: u64,

    /// Remove rows from the database once they are older, of all sensors, in small steps: behind a
    /// pass, and all the time with --follow. 1h or more, such as 90d, or all to keep all
    #[arg(long, value_name = "SPAN", default_value = "all")]
    keep_rows: Kept,

    /// Name of this host in the database [default: the host name]
    #[arg(long, value_name = "NAME")]
    sensor: Option<String>,

    #[command(flatten)]
    proxies: ProxyArgs,

    /// Go on for ever: store what is finished within a second, as a service does. With one INPUT,
    /// a serial log: what is appended to it, over rotation and restarts
    #[arg(long, conflicts_with_all = ["dry_run", "jsonl"])]
    follow: bool,

    /// With --follow INPUT: file that keeps how far the log was stored [default: named like the
    /// log, in the state directory]
    #[arg(long, value_name = "FILE")]
    offset_file: Option<PathBuf>,

    /// With --follow: time between walks over the whole tree, in case an event was missed
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = ingest::DEFAULT_RESCAN.as_secs(),
        value_parser = |text: &str| seconds(text, 1)
    )]
    rescan_every: u64,

    /// Read everything, say what would be done, change nothing
    #[arg(long)]
    dry_run: bool,

    /// Write one JSON object per transaction to standard output; without --store nothing is
    /// stored or removed
    #[arg(long)]
    jsonl: bool,

    /// Threads that read and decode [default: one per processor, at most 4]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    #[command(flatten)]
    log: LogArgs,
}

/// How long something is kept; `None` for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kept(Option<Duration>);

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Kept, String> {
        /// Less is rather a slip of the finger.
        const LEAST: Duration = Duration::from_secs(3600);
        let expected = "expected all, or a time span with a unit, 1h or more, such as 90d or 12w";
        match span::parse_with_unit(text) {
            _ if text == "all" => Ok(Kept(None)),
            Ok(span) if span >= LEAST => Ok(Kept(Some(span))),
            _ => Err(expected.to_owned()),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fill in what rows of older programs and of the old script lack: cause, outcome, client, what
    /// alerts mean
    ///
    /// Goes through the database in small steps, also beside --follow and beside older programs that
    /// go on storing. It may be interrupted or killed at any moment; the next run goes on. What the
    /// entry could have said better is marked: modsec-logs(5), column estimated.
    Reindex(ReindexArgs),
}

/// Options of `reindex`.
#[derive(Debug, clap::Args)]
struct ReindexArgs {
    #[command(flatten)]
    store: StoreArgs,

    /// Say how many rows lack something, change nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    log: LogArgs,
}

const AFTER_HELP: &str = "\
TIME SPANS
  Where SECONDS are asked for, the number may have a unit: 90s, 15m, 2h, 7d, 2w (seconds, minutes,
  hours, days, weeks)

SIGNALS
  SIGTERM, SIGINT  finish the batch at hand and end; what is left stays for the next run
  SIGHUP           open the merged log and the log file again

FILES
  /etc/modsec-tools/config.toml     settings of this host, below [modsec-parser]
  /var/lib/modsec-tools/modsec.db   the default database, if root runs the program
  STORAGE_DIR/.modsec-parser/       what --follow has taken charge of and not yet stored; gone
                                    after a clean stop with nothing left to store
  /var/lib/modsec-tools/tree-*.lock one program at a time works on a storage directory
  /var/lib/modsec-tools/*.index     how far --index was read
  /var/lib/modsec-tools/*.offset    how far --follow INPUT has come

EXIT STATUS
  0  done
  1  could not do it; the reason is on standard error
  2  bad arguments or configuration
  3  done, but some entries were defective, some files were left alone, or the index lists
     records that are lost or damaged
  130, 143  interrupted by SIGINT or SIGTERM with work left; --follow ends with 0

EXAMPLES
  modsec-parser                              one pass over the default directory
  modsec-parser --store sqlite:/srv/waf.db   the same, into another database
  modsec-parser --follow                     as a service: every entry within a second
  modsec-parser --follow /var/log/serial.log the same with a serial log
  SecAuditLog \"|/usr/bin/modsec-parser --index -\"
                                             the same, started and ended by Apache
  modsec-parser --jsonl /var/log/old | jq .  look at history, change nothing
  modsec-parser --jsonl audit.log.2.gz       the same of one log, whatever its format
  modsec-parser reindex                      after an upgrade: complete the rows of before
  modsec-parser --check-config               what is in force, and where it comes from

COLOURS
  Colours and the progress bar appear on a terminal only; NO_COLOR turns colours off.";

/// What the user asked for.
#[derive(Debug)]
pub(crate) enum Work {
    /// To store entries.
    Pass(Box<Request>),
    /// To look after rows that are stored.
    Reindex(ReindexRequest),
}

/// What `reindex` is to do.
#[derive(Debug)]
pub(crate) struct ReindexRequest {
    pub(crate) store: StoreOptions,
    /// Whether nothing is to be changed.
    pub(crate) is_rehearsal: bool,
    pub(crate) log: LogOptions,
}

/// What the user asked for besides the pass itself.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) options: Options,
    /// The database in which entries are stored, or that a rehearsal looks into.
    pub(crate) store: Option<StoreOptions>,
    /// Files that were or will be read for settings, by the names of their options.
    pub(crate) settings: Vec<(&'static str, PathBuf)>,
    /// URL of the database, if the user left the choice to the program.
    default_store: Option<String>,
    /// Directory for what the program keeps by default, to be made if need be.
    pub(crate) state_dir: Option<PathBuf>,
    pub(crate) log: LogOptions,
    pub(crate) output: Output,
    pub(crate) follow: Follow,
    /// How old rows of the database may become; `None` for ever.
    pub(crate) keep_rows: Option<Duration>,
}

/// Whether the program goes on for ever, and with what.
#[derive(Debug)]
pub(crate) enum Follow {
    No,
    /// With the storage directory; time between walks.
    Tree(Duration),
    /// With a serial log.
    Log {
        log: PathBuf,
        offset_file: PathBuf,
    },
}

/// What goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    Summary,
    JsonLines,
}

/// The configuration file describes this host's standing task. Whoever reads other INPUTs, or only
/// wants to see records, has another one: nothing is then merged or stored because of the file.
const YIELDS: [(&str, &str); 5] = [
    ("follow", "inputs"),
    ("keep_rows", "inputs"),
    ("merged_log", "inputs"),
    ("store", "jsonl"),
    ("store_file", "jsonl"),
];

/// Reads the command line; ends the process with status 2 if it makes no sense.
pub(crate) fn parse() -> (CommandLine, Work) {
    let line = CommandLine::read(Args::command(), "MODSEC", &YIELDS);
    let mut args: Args = line.args();
    if let Some(Command::Reindex(reindex)) = args.command.take() {
        return match reindex.into_request() {
            Ok(request) => (line, Work::Reindex(request)),
            Err(error) => command_line::exit(&error),
        };
    }
    let origin = line.origin("store");
    let request = args
        .check(&line)
        .and_then(|args| args.into_request(origin.as_deref()));
    match request.and_then(|request| files::check(request, line.file())) {
        Ok(request) => {
            if let Some(merged_log) = &request.options.merged_log {
                line.say_defaults(&[("merged-log", merged_log)]);
            }
            (line, Work::Pass(Box::new(request)))
        }
        Err(error) => command_line::exit(&error),
    }
}

impl Request {
    /// Returns `true` for a run that changes nothing.
    pub(crate) fn is_rehearsal(&self) -> bool {
        self.options.compare.is_some()
    }

    /// Returns `true` if the user left the choice of the database to the program.
    pub(crate) fn uses_default_store(&self) -> bool {
        self.default_store.is_some()
    }

    /// Returns what was chosen where the user left it to the program, by long names.
    pub(crate) fn chosen(&self) -> Vec<(&'static str, String)> {
        let options = &self.options;
        let path = |path: &PathBuf| path.display().to_string();
        let given = [
            ("storage-dir", options.storage_dir.as_ref().map(path)),
            ("store", self.default_store.clone()),
            ("merged-log", options.merged_log.as_ref().map(path)),
            ("sensor", options.sensor.clone()),
            ("trusted-proxy", Some(TrustedProxyArg::DEFAULT.to_owned())),
            ("threads", Some(options.threads.to_string())),
        ];
        let given = given.into_iter();
        given
            .filter_map(|(key, value)| Some((key, value?)))
            .collect()
    }
}

impl Args {
    fn check(self, line: &CommandLine) -> Result<Args, clap::Error> {
        let source = line.matches().value_source("storage_dir");
        if source == Some(ValueSource::CommandLine) && !self.inputs.is_empty() {
            return Err(Args::command().error(
                clap::error::ErrorKind::ArgumentConflict,
                "INPUTs are read and left alone, --storage-dir is emptied: give one or the other",
            ));
        }
        if line.matches().value_source("index") == Some(ValueSource::CommandLine)
            && let Some(conflict) = self.index_conflict()
        {
            return Err(Args::command().error(clap::error::ErrorKind::ArgumentConflict, conflict));
        }
        if self.follow && self.inputs.len() > 1 {
            return Err(Args::command().error(
                clap::error::ErrorKind::TooManyValues,
                "--follow goes on with one INPUT, a serial log: start one program for each",
            ));
        }
        Ok(self)
    }

    /// Says what --index cannot be used with, and what to do instead.
    fn index_conflict(&self) -> Option<&'static str> {
        if !self.inputs.is_empty() {
            Some("--index is about entries in --storage-dir, INPUTs are read without it")
        } else if self.dry_run {
            Some(
                "--index does not go with --dry-run, which keeps no account of the records that an \
                 index lists: leave out one of them",
            )
        } else if self.jsonl && self.store.store.is_none() && self.store.store_file.is_none() {
            Some(
                "--index needs a store, and --jsonl alone keeps nothing: add --store, or leave out \
                 --index",
            )
        } else if self.follow && self.reads_pipe() {
            Some(
                "--index - follows by itself until the server closes the pipe: leave out --follow, \
                 or give the name of the index file",
            )
        } else {
            None
        }
    }

    fn reads_pipe(&self) -> bool {
        self.index.as_deref() == Some(Path::new("-"))
    }

    /// Returns what is to be followed, and the directory that must be made for it.
    fn follow(&self) -> (Follow, Option<PathBuf>) {
        let Some(log) = self.inputs.first().filter(|_| self.follow) else {
            let every = Duration::from_secs(self.rescan_every);
            let goes_on = self.follow || (self.inputs.is_empty() && self.reads_pipe());
            let tree = goes_on.then_some(Follow::Tree(every));
            return (tree.unwrap_or(Follow::No), None);
        };
        let dir = self.offset_file.is_none().then(state_dir);
        let usual = dir
            .as_ref()
            .map(|dir| dir.join(state_file_name(log, ".offset")));
        let follow = Follow::Log {
            log: log.clone(),
            offset_file: self.offset_file.clone().or(usual).unwrap_or_default(),
        };
        (follow, dir)
    }

    /// Returns the store to open, `None` if nothing is to be kept, and the directory that must be
    /// made for it if the user left the choice to the program.
    /// `origin` says where the URL is from, if that is not the command line.
    fn store(
        &self,
        origin: Option<&str>,
    ) -> Result<(Option<StoreOptions>, Option<PathBuf>), clap::Error> {
        if self.jsonl && self.store.store.is_none() && self.store.store_file.is_none() {
            return Ok((None, None));
        }
        let (store, dir) = store_options(&self.store, origin)?;
        Ok((Some(store), dir))
    }

    /// Returns the files that are read for settings, with the names of their options.
    fn settings(&self) -> Vec<(&'static str, PathBuf)> {
        let files = [
            ("store-file", &self.store.store_file),
            ("defaults-file", &self.store.defaults_file),
        ];
        let named = files
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.clone()?)));
        named.collect()
    }

    fn into_request(self, origin: Option<&str>) -> Result<Request, clap::Error> {
        let paths = DefaultPaths::default();
        let (store, store_dir) = self.store(origin)?;
        let (follow, offset_dir) = self.follow();
        let settings = self.settings();
        let storage_dir = self
            .inputs
            .is_empty()
            .then(|| self.storage_dir.unwrap_or(paths.storage_dir));
        let merged_log = merged_log(self.merged_log, storage_dir.as_deref());
        let index = self.index.filter(|_| self.inputs.is_empty());
        let default_store = store_dir
            .as_ref()
            .and_then(|_| Some(store.as_ref()?.url.clone()));
        let mut options = Options::default();
        // Who only looks needs neither lock nor state.
        let keeps = storage_dir.is_some() && store.is_some();
        options.state_dir = keeps.then(state_dir);
        options.storage_dir = storage_dir;
        options.index = index.map(index_source);
        options.inputs = self.inputs;
        if self.dry_run {
            let is_made = store_dir.as_ref().is_some_and(|dir| !dir.exists());
            options.compare = store.clone().map(|store| {
                if is_made {
                    ComparedStore::NotYet
                } else {
                    ComparedStore::At(store)
                }
            });
        } else {
            options.store = store.clone().map(StoreOpener::from);
        }
        options.merged_log = merged_log;
        options.directories = if self.keep_dirs {
            Directories::Keep
        } else {
            Directories::Prune
        };
        options.min_age = Duration::from_secs(self.min_age);
        options.stale_after = Duration::from_secs(self.stale_after);
        options.sensor = self.sensor.or_else(host_name);
        options.proxies = self.proxies.proxies();
        options.accounts = accounts();
        options.json_lines = self.jsonl;
        options.threads = self.threads.map_or_else(default_threads, usize::from);
        let output = if self.jsonl {
            Output::JsonLines
        } else {
            Output::Summary
        };
        Ok(Request {
            options,
            store,
            settings,
            default_store,
            state_dir: store_dir.or(offset_dir),
            log: {
                let mut log = self.log.options();
                log.around = Some(report::around_line);
                log
            },
            output,
            follow,
            keep_rows: self.keep_rows.0,
        })
    }
}

/// Returns the store to open, and the directory that must be made for it if the user left the choice to
/// the program. `origin` says where the URL is from, if that is not the command line.
fn store_options(
    args: &StoreArgs,
    origin: Option<&str>,
) -> Result<(StoreOptions, Option<PathBuf>), clap::Error> {
    let given = match (&args.store, &args.store_file) {
        (Some(url), _) => Some(url.clone()),
        (None, Some(file)) => Some(first_line(file)?),
        (None, None) => None,
    };
    let dir = given.is_none().then(state_dir);
    let usual = |dir: &PathBuf| format!("sqlite:{}", dir.join("modsec.db").display());
    let url = given
        .or_else(|| dir.as_ref().map(usual))
        .unwrap_or_default();
    let mut store = StoreOptions::new(url);
    store.defaults_file.clone_from(&args.defaults_file);
    store::check_url(&store).map_err(|error| {
        let mut text = program::error_chain(&error);
        if let Some(origin) = origin {
            text = format!("{text} ({origin})");
        }
        Args::command().error(clap::error::ErrorKind::ValueValidation, text)
    })?;
    Ok((store, dir))
}

impl ReindexArgs {
    fn into_request(self) -> Result<ReindexRequest, clap::Error> {
        let (store, _) = store_options(&self.store, None)?;
        let mut log = self.log.options();
        log.around = Some(report::around_line);
        Ok(ReindexRequest {
            store,
            is_rehearsal: self.dry_run,
            log,
        })
    }
}

/// Returns the merged log: the one that was named, unless that is `none`, else the usual one of a
/// storage directory.
fn merged_log(named: Option<PathBuf>, storage_dir: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path).filter(|path| path != Path::new("none")),
        None => storage_dir.map(DefaultPaths::merged_log),
    }
}

/// Reads an option that counts seconds.
fn seconds(text: &str, least: u64) -> Result<u64, SpanError> {
    span::parse_number(text, Unit::Seconds, least, u64::MAX)
}

fn index_source(path: PathBuf) -> IndexSource {
    match path.as_os_str() {
        name if name == "-" => IndexSource::Stdin,
        _ => IndexSource::File(path),
    }
}

/// More than any URL of a database.
const MAX_STORE_FILE: u64 = 64 * 1024;

fn first_line(file: &Path) -> Result<String, clap::Error> {
    let error = |what: String| {
        let text = format!("--store-file {}: {what}\n", file.display());
        Args::command().error(clap::error::ErrorKind::Io, text)
    };
    let contents = named_file::read(file, MAX_STORE_FILE);
    let warning = contents
        .as_ref()
        .ok()
        .and_then(|contents| contents.owner_warning(file));
    if let Some(text) = warning {
        program::tell(&text);
    }
    let text = contents.and_then(Contents::into_text);
    let text = text.map_err(|cause| error(format!("cannot read it, name another: {cause}")))?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(error(
            "its first line must be the URL of the database".to_owned(),
        ));
    }
    Ok(line.to_owned())
}

/// Returns the first of paths that are separated by colons, as systemd writes them; `None` if there
/// is none.
fn first_of(paths: &OsStr) -> Option<PathBuf> {
    let first = paths.as_bytes().split(|byte| *byte == b':').next()?;
    (!first.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(first)))
}

/// The state directory: systemd's, root's, or the user's.
fn state_dir() -> PathBuf {
    let var = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    // A unit may have several, of which the first is meant.
    let of_unit = std::env::var_os("STATE_DIRECTORY").and_then(|paths| first_of(&paths));
    of_unit.unwrap_or_else(|| {
        if rustix::process::geteuid().is_root() {
            return PathBuf::from("/var/lib/modsec-tools");
        }
        let state = var("XDG_STATE_HOME")
            .or_else(|| var("HOME").map(|home| home.join(".local/state")))
            .unwrap_or_default();
        state.join("modsec-tools")
    })
}

fn host_name() -> Option<String> {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .map(str::to_owned)
}

fn default_threads() -> usize {
    std::thread::available_parallelism()
        .map_or(1, NonZeroUsize::get)
        .min(4)
}

/// Names from `/etc/passwd`; numbers for all others.
fn accounts() -> AccountNames {
    // Without the file all are shown as numbers.
    let accounts = Accounts::below(Path::new("/"));
    let names: HashMap<u32, String> = accounts
        .iter()
        .flat_map(Accounts::users)
        .map(|user| (user.uid, user.name.clone()))
        .collect();
    AccountNames(Arc::new(move |uid| {
        names.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_have_units_and_bare_numbers_are_seconds() {
        for (text, want) in [
            ("900", 900),
            ("90s", 90),
            ("15m", 900),
            ("2h", 7200),
            ("2w", 1_209_600),
        ] {
            for option in ["min-age", "stale-after", "rescan-every"] {
                let args = Args::try_parse_from(["x", &format!("--{option}={text}")]).unwrap();
                let got = match option {
                    "min-age" => args.min_age,
                    "stale-after" => args.stale_after,
                    _ => args.rescan_every,
                };
                assert_eq!(got, want, "{option} {text}");
            }
        }
        for (text, want) in [
            (
                "--min-age=1.5h",
                "or one with a unit, such as 90s, 15m, 2h, 7d or 2w",
            ),
            ("--min-age=99999999999999999w", "the number is too large"),
            (
                "--rescan-every=0m",
                "expected a number of seconds, 1 or more",
            ),
        ] {
            let error = Args::try_parse_from(["x", text]).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn rows_are_kept_for_a_span_that_nobody_types_by_mistake() {
        let days = |days: u64| Ok(Kept(Some(Duration::from_hours(days * 24))));
        assert_eq!("90d".parse(), days(90));
        assert_eq!("2w".parse(), days(14));
        assert_eq!("all".parse(), Ok(Kept(None)));
        for text in ["90", "59m", "0d", "", "none", "1.5d", "-1d"] {
            let error = text.parse::<Kept>().unwrap_err();
            assert!(error.contains("such as 90d"), "{text}: {error}");
        }
    }

    #[test]
    fn the_definition_is_sound_and_every_option_has_a_variable() {
        let command = command_line::with_variables(Args::command(), "MODSEC");
        command.clone().debug_assert();
        for option in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let own = ["help", "version"].contains(&option.get_id().as_str());
            assert!(own || option.get_env().is_some(), "{option}");
        }
    }
}

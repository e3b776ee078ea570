//! Options of the program, and nothing else.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read"
)]

use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use ipnet::IpNet;
use modsec_core::accounts::Accounts;
use modsec_core::command_line::{self, CommandLine, Findings, LogArgs, ProxyArgs, refuse};
use modsec_core::ledger::{AttackFilter, Criterion, LedgerOptions};
use modsec_core::named_file::{self, Contents};
use modsec_core::program::{self, DefaultPaths, LogOptions, PidFile};
use modsec_core::recidive::{LogSource, Options, ReplayOptions, State};
use modsec_core::record::{Networks, TrustedProxyArg};
use modsec_core::span::{self, SpanError, Unit};
use modsec_core::watch::{RootError, check_root};

const ABOUT: &str = "\
Report clients that keep attacking to Fail2ban

Reads each finished entry of ModSecurity's audit log once, counts attacks per client over a sliding \
window of the transactions' own times, and appends a line for each offender to a file that a \
Fail2ban jail reads. Only addresses that were parsed as such are ever written.";

const DETAILS: &str = "\
SOURCES
  storage-dir   the directory with one file per transaction, by inotify
  merged-log    the log into which modsec-parser merges entries; together with storage-dir what it
                took away while this program was not running counts too, and nothing counts twice.
                Not a log that the server itself writes, if SecAuditLogParts has C or E: there a
                client can write whole entries with addresses of others
  index=FILE    the index (SecAuditLog), which has a line for every record, also for those whose
                files were overwritten; knows address and status only, and stands alone

TIME SPANS
  Where SECONDS are asked for, the number may have a unit: 90s, 15m, 2h, 7d, 2w (seconds, minutes,
  hours, days, weeks)

SIGNALS
  SIGTERM, SIGINT  save the state, remove the PID file and end
  SIGHUP           open the jail file and the log file again

INTERRUPTION
  Killed at any moment, the program goes on where it was: each offender is reported once. A line is
  written a second time only if the jail file was removed or emptied meanwhile, is rotated in that
  moment, or if the clock was set back or the time zone changed; rather twice than never. A line
  that could not be written is kept in the state file.

FILES
  /etc/modsec-tools/config.toml         settings of this host, below [recidive]
  /var/lib/modsecurity_recedive/        the table of clients
  /etc/fail2ban/filter.d, jail.d        where Fail2ban wants filter and jail

EXIT STATUS
  0  done
  1  could not do it; the reason is on standard error
  2  bad arguments or configuration
  3  replay: done, but some entries were defective
  130, 143  replay: interrupted by SIGINT or SIGTERM

PRIVILEGES
  Reading the entries: their owners' rights, or CAP_DAC_READ_SEARCH. Writing the jail file, the
  state file and the PID file. Not root.

EXAMPLES
  recidive replay --threshold 5 --find-time 300 /var/log/httpd/modsec_audit.log
  recidive --trusted-proxy 192.0.2.10 --ignore 198.51.100.0/24
  recidive --source index=/var/log/httpd/modsec_index.log
  recidive status";

/// A list of a million networks.
const MAX_IGNORE_FILE: u64 = 32 * 1024 * 1024;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "recidive",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true
)]
#[command(about = "Report clients that keep attacking to Fail2ban")]
#[command(long_about = ABOUT, after_long_help = DETAILS)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,

    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// Reads the command line; ends the process with status 2 if it makes no sense.
pub(crate) fn parse() -> Args {
    let line = CommandLine::read(Args::command(), "RECIDIVE", &[]);
    let args: Args = line.args();
    args.say_defaults(&line);
    if line.checks_only() {
        let findings = args.run.findings();
        let merged_log = args.run.merged_log().display().to_string();
        let proxies = TrustedProxyArg::DEFAULT.to_owned();
        line.end_check(
            &[("merged-log", merged_log), ("trusted-proxy", proxies)],
            &findings,
        );
    }
    args
}

impl Args {
    /// Says which files of the renamed script are used because they are there.
    fn say_defaults(&self, line: &CommandLine) {
        let run = &self.run;
        let merged_log = run.merged_log();
        let mut paths = vec![("state-file", run.state_file.as_path())];
        match &self.command {
            Some(Command::Replay(_)) => return,
            Some(Command::Status(status)) => paths = vec![("state-file", &status.state_file)],
            None => paths.push(("recidive-file", &run.recidive_file)),
        }
        let reads_log = |source: &Source| matches!(source, Source::MergedLog);
        if self.command.is_none() && run.source.iter().any(reads_log) {
            paths.push(("merged-log", &merged_log));
        }
        line.say_defaults(&paths);
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Say who would have been reported, by history; write nothing
    Replay(ReplayArgs),
    /// Show the clients in the state file
    Status(StatusArgs),
}

/// What the program does without a subcommand.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// What to read, repeatable: storage-dir, merged-log, index=FILE
    #[arg(
        long,
        value_name = "SOURCE",
        value_delimiter = ',',
        default_value = "storage-dir"
    )]
    source: Vec<Source>,

    /// Directory of the entries (SecAuditLogStorageDir)
    /// [default: /var/log/httpd/modsec_audit, or below /var/log/apache2 where only that exists]
    #[arg(long, value_name = "DIR", env = "WATCH_DIR", hide_default_value = true,
          default_value_os_t = DefaultPaths::default().storage_dir)]
    storage_dir: PathBuf,

    /// Log that modsec-parser writes [default: modsec_audit.log beside the storage directory]
    #[arg(long, value_name = "FILE", env = "MERGED_LOG_FILE")]
    merged_log: Option<PathBuf>,

    /// File for Fail2ban [default: /var/log/httpd/modsec_recedive.log, or in /var/log/apache2
    /// where only that exists]
    #[arg(long, value_name = "FILE", env = "RECEDIVE_FILE", hide_default_value = true,
          default_value_os_t = DefaultPaths::default().recidive_file)]
    recidive_file: PathBuf,

    /// File in which the table is kept between runs; its directory is made if need be
    #[arg(long, value_name = "FILE", env = "LOG_FILE",
          default_value_os_t = DefaultPaths::default().recidive_state)]
    state_file: PathBuf,

    /// File with the number of the process, locked while it runs
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/modsec_recedive.pid"
    )]
    pub(crate) pid_file: PathBuf,

    #[command(flatten)]
    rules: Rules,

    /// Time after which a file that its writer never finished is read as it is
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = |text: &str| seconds(text, 0))]
    stale_after: u32,

    /// Shortest time between two saves of the state; a large table is saved less often
    #[arg(long, value_name = "SECONDS", default_value_t = 5,
          value_parser = |text: &str| seconds(text, 1))]
    save_interval: u32,

    /// Write no file, and the lines for Fail2ban to standard output
    #[arg(long)]
    pub(crate) dry_run: bool,

    #[command(flatten)]
    log: LogArgs,
}

/// Options of `replay`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    /// Merged or serial logs, indexes, entries, directories of entries, or - for standard input
    #[arg(value_name = "FILE|DIR", required = true)]
    pub(crate) paths: Vec<PathBuf>,

    #[command(flatten)]
    rules: Rules,

    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    log: LogArgs,
}

/// Options of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// File in which the table is kept between runs
    #[arg(long, value_name = "FILE", env = "LOG_FILE",
          default_value_os_t = DefaultPaths::default().recidive_state)]
    pub(crate) state_file: PathBuf,

    /// Length of the window
    #[arg(long, value_name = "SECONDS", env = "TIMEOUT", default_value_t = 600,
          value_parser = |text: &str| seconds(text, 1))]
    find_time: u32,

    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a number of which the ledger knows the range.
fn number<T: FromStr<Err = ParseIntError> + Copy>(
    text: &str,
    set: fn(&mut LedgerOptions, T),
) -> Result<T, OptionError> {
    in_range(text.parse()?, set)
}

/// Reads a number of leading bits.
fn bits(text: &str, set: fn(&mut LedgerOptions, u8)) -> Result<u8, OptionError> {
    let expected = |_| "expected a whole number from 0 to 255";
    in_range(text.parse().map_err(expected)?, set)
}

/// Refuses a value that is not in the range that the ledger knows.
fn in_range<T: Copy>(value: T, set: fn(&mut LedgerOptions, T)) -> Result<T, OptionError> {
    let mut options = LedgerOptions::default();
    set(&mut options, value);
    options.check()?;
    Ok(value)
}

/// Why an option does not take a value.
type OptionError = Box<dyn std::error::Error + Send + Sync>;

/// Reads the find time, in seconds.
fn find_time(text: &str) -> Result<u32, OptionError> {
    let set = |options: &mut LedgerOptions, seconds: u32| {
        options.find_time = Duration::from_secs(seconds.into());
    };
    in_range(seconds(text, 0)?, set)
}

/// Reads an option that counts seconds.
fn seconds(text: &str, least: u64) -> Result<u32, SpanError> {
    span::parse_number(text, Unit::Seconds, least, u32::MAX.into())
}

/// What is an attack, and whose.
#[derive(Debug, clap::Args)]
struct Rules {
    /// Attacks that make an offender; reported again at each further multiple
    #[arg(
        long,
        value_name = "NUMBER",
        env = "ATTACK_THRESHOLD",
        default_value_t = 10,
        value_parser = |text: &str| number(text, |options, most| options.threshold = most)
    )]
    threshold: u32,

    /// Time within which they must lie
    #[arg(long, value_name = "SECONDS", env = "TIMEOUT", default_value_t = 600,
          value_parser = find_time)]
    find_time: u32,

    /// What counts as an attack, repeatable: any, blocked (intercepted, or status 403), score>=N,
    /// severity<=N (0 is worst), rule=REGEX (searched in the rule's id)
    #[arg(long, value_name = "KIND", default_value = "blocked")]
    count: Vec<Criterion>,

    #[command(flatten)]
    proxies: ProxyArgs,

    /// Addresses that are never counted, repeatable, or none
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    ignore: Vec<TrustedProxyArg>,

    /// File with such addresses, one per line; # begins a comment
    #[arg(long, value_name = "FILE")]
    ignore_file: Option<PathBuf>,

    /// Owners whose entries count, by name or number, repeatable [default: all]
    #[arg(long, value_name = "USER", value_delimiter = ',')]
    require_owner: Vec<String>,

    /// IPv4 addresses with so many leading bits in common are one client
    #[arg(long, value_name = "BITS", default_value_t = 32,
          value_parser = |text: &str| bits(text, |options, length| options.ipv4_prefix = length))]
    ipv4_prefix: u8,

    /// IPv6 addresses with so many leading bits in common are one client
    #[arg(long, value_name = "BITS", default_value_t = 64,
          value_parser = |text: &str| bits(text, |options, length| options.ipv6_prefix = length))]
    ipv6_prefix: u8,

    /// Clients remembered, at most 264 bytes each with a threshold of 10; when there are more, the
    /// least recently seen is forgotten
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000,
          value_parser = |text: &str| number(text, |options, most| options.max_clients = most))]
    max_clients: usize,
}

#[derive(Debug, Clone)]
enum Source {
    StorageDir,
    MergedLog,
    Index(PathBuf),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match (text, text.strip_prefix("index=")) {
            ("storage-dir", _) => Ok(Source::StorageDir),
            ("merged-log", _) => Ok(Source::MergedLog),
            (_, Some(file)) if !file.is_empty() => Ok(Source::Index(PathBuf::from(file))),
            _ => Err("expected storage-dir, merged-log or index=FILE".to_owned()),
        }
    }
}

type Fault = Box<dyn std::error::Error>;

impl RunArgs {
    pub(crate) fn log_options(&self) -> LogOptions {
        self.log.options()
    }

    /// Returns what the library is to do; looks up users and reads the file of ignored addresses.
    pub(crate) fn options(&self) -> Result<Options, Fault> {
        let rules = self.rules.resolve()?;
        let mut options = Options::new(self.recidive_file.clone(), self.state_file.clone());
        options.attacks = rules.attacks;
        options.proxies = rules.proxies;
        options.ledger = rules.ledger;
        options.owners = rules.owners;
        options.stale_after = Duration::from_secs(self.stale_after.into());
        options.save_every = Duration::from_secs(self.save_interval.into());
        options.dry_run = self.dry_run;
        for source in &self.source {
            let log = match source {
                Source::StorageDir => {
                    options.storage_dir = Some(self.storage_dir.clone());
                    continue;
                }
                Source::MergedLog => LogSource::Merged(self.merged_log()),
                Source::Index(path) => LogSource::Index(path.clone()),
            };
            if options.log.replace(log).is_some() {
                let problem =
                    "only one log can be followed, give --source merged-log or index=FILE once";
                let error = Args::command().error(ErrorKind::ArgumentConflict, problem);
                return Err(error.into());
            }
        }
        self.check_files(&options)?;
        Ok(options)
    }

    /// Refuses one file for two purposes.
    fn check_files(&self, options: &Options) -> Result<(), clap::Error> {
        let mut written: Vec<(&str, &Path)> = vec![
            ("state-file", &self.state_file),
            ("recidive-file", &self.recidive_file),
            ("pid-file", &self.pid_file),
        ];
        written.extend(self.log.log_file.as_deref().map(|log| ("log-file", log)));
        let mut read: Vec<(&str, &Path)> = Vec::new();
        match &options.log {
            Some(LogSource::Merged(path)) => read.push(("merged-log", path)),
            Some(LogSource::Index(path)) => read.push(("source", path)),
            _ => {}
        }
        let ignored = self.rules.ignore_file.as_deref();
        read.extend(ignored.map(|path| ("ignore-file", path)));
        command_line::check_files(&mut Args::command(), &written, &read)
    }

    /// Looks at all that a run would open, and changes nothing. Ends the process with status 2 if a
    /// value makes no sense.
    fn findings(&self) -> Findings {
        let mut findings = Findings::default();
        match self.options() {
            Ok(options) => {
                if let Err(error) = options.check() {
                    std::process::exit(refuse(&error) as i32);
                }
            }
            Err(error) => match error.downcast_ref() {
                Some(error) => command_line::exit(error),
                None => findings.problem(&*error),
            },
        }
        for source in &self.source {
            match source {
                Source::StorageDir => self.look_at_tree(&mut findings),
                Source::MergedLog => {
                    findings.log_to_follow("merged-log", &self.merged_log());
                }
                Source::Index(path) => {
                    findings.log_to_follow("source", path);
                }
            }
        }
        if let Some(log) = &self.log.log_file {
            findings.log_file(log);
        }
        if self.dry_run {
            findings.tried(State::read(&self.state_file));
        } else {
            let dir = named_file::parent(&self.state_file);
            findings.made_directory("state-file", &dir, false);
            if findings.file_to_replace("state-file", &self.state_file) {
                findings.tried(State::check(&self.state_file));
            }
            findings.file_to_write("recidive-file", &self.recidive_file);
            if findings.file_to_write("pid-file", &self.pid_file) {
                findings.tried(PidFile::check(&self.pid_file));
            }
        }
        findings
    }

    fn look_at_tree(&self, findings: &mut Findings) {
        match check_root(&self.storage_dir) {
            Err(RootError::Absent { path }) => findings.remark(format!(
                "storage directory {} is not there yet; the program waits for it",
                path.display()
            )),
            result => {
                findings.tried(result);
            }
        }
    }

    fn merged_log(&self) -> PathBuf {
        let usual = || DefaultPaths::merged_log(&self.storage_dir);
        self.merged_log.clone().unwrap_or_else(usual)
    }
}

impl ReplayArgs {
    /// Returns `true` unless the user asked for silence.
    pub(crate) fn is_loud(&self) -> bool {
        self.log.quiet == 0
    }

    pub(crate) fn log_options(&self) -> LogOptions {
        self.log.options()
    }

    pub(crate) fn options(&self) -> Result<ReplayOptions, Fault> {
        self.rules.resolve()
    }
}

impl StatusArgs {
    pub(crate) fn find_time(&self) -> Duration {
        Duration::from_secs(self.find_time.into())
    }
}

impl Rules {
    fn resolve(&self) -> Result<ReplayOptions, Fault> {
        let named = self.ignore.iter().filter_map(|word| match word {
            TrustedProxyArg::Network(network) => Some(*network),
            TrustedProxyArg::None => None,
        });
        let mut ignore: Vec<IpNet> = named.collect();
        if let Some(path) = &self.ignore_file {
            let named = |error: &dyn std::error::Error| {
                format!(
                    "{}: {error}; mend it, or name another with --ignore-file",
                    path.display()
                )
            };
            let contents = named_file::read(path, MAX_IGNORE_FILE);
            let warning = contents
                .as_ref()
                .ok()
                .and_then(|contents| contents.owner_warning(path));
            if let Some(text) = warning {
                program::tell(&text);
            }
            let text = contents.and_then(Contents::into_text);
            let text = text.map_err(|error| named(&error))?;
            ignore.extend(Networks::parse_list(&text).map_err(|error| named(&error))?);
        }
        let mut options = ReplayOptions::default();
        options.attacks = AttackFilter::from(self.count.clone());
        options.proxies = self.proxies.proxies();
        options.ledger.threshold = self.threshold;
        options.ledger.find_time = Duration::from_secs(self.find_time.into());
        options.ledger.ignore = ignore.into_iter().collect();
        options.ledger.ipv4_prefix = self.ipv4_prefix;
        options.ledger.ipv6_prefix = self.ipv6_prefix;
        options.ledger.max_clients = self.max_clients;
        options.owners = self.owners()?;
        Ok(options)
    }

    fn owners(&self) -> Result<Option<Vec<u32>>, Fault> {
        if self.require_owner.is_empty() {
            return Ok(None);
        }
        let accounts = Accounts::below(Path::new("/"))?;
        let uid = |name: &String| accounts.user(name).map(|account| account.uid);
        let uids = self.require_owner.iter().map(uid);
        Ok(Some(uids.collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use modsec_core::command_line::with_variables;

    use super::*;

    #[test]
    fn time_spans_have_units_and_bare_numbers_are_seconds() {
        for (text, want) in [("900", 900), ("15m", 900), ("7d", 604_800)] {
            let options = ["stale-after", "save-interval", "find-time"];
            let words = options.map(|option| format!("--{option}={text}"));
            let run = Args::try_parse_from(["x".to_owned()].into_iter().chain(words))
                .unwrap()
                .run;
            let got = [run.stale_after, run.save_interval, run.rules.find_time];
            assert_eq!(got, [want; 3], "{text}");
        }
        for (text, want) in [
            (
                "--find-time=7 days",
                "or one with a unit, such as 90s, 15m, 2h, 7d or 2w",
            ),
            (
                "--find-time=9999w",
                "expected a number of seconds, at most 4294967295",
            ),
            (
                "--save-interval=0s",
                "expected a number of seconds, 1 or more",
            ),
        ] {
            let error = Args::try_parse_from(["x", text]).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn the_definition_is_sound_and_every_option_has_a_variable() {
        let command = with_variables(Args::command(), "RECIDIVE");
        command.clone().debug_assert();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            for option in command.get_arguments().filter(|arg| !arg.is_positional()) {
                assert!(option.get_long().is_some(), "{option}");
                let own = ["help", "version"].contains(&option.get_id().as_str());
                assert!(own || option.get_env().is_some(), "{option}");
            }
        }
    }

    fn run(arguments: &[&str]) -> Options {
        let args = Args::parse_from([&["recidive"], arguments].concat());
        args.run.options().unwrap()
    }

    #[test]
    fn sources_become_what_the_library_reads() {
        let tree = || Some(PathBuf::from("/srv/audit"));
        let merged = |path: &str| Some(LogSource::Merged(PathBuf::from(path)));
        for (arguments, storage_dir, log) in [
            (&[][..], tree(), None),
            (
                &["--source", "merged-log"],
                None,
                merged("/srv/modsec_audit.log"),
            ),
            (
                &["--source", "storage-dir,merged-log", "--merged-log", "/x"],
                tree(),
                merged("/x"),
            ),
            (
                &["--source", "index=/x"],
                None,
                Some(LogSource::Index(PathBuf::from("/x"))),
            ),
        ] {
            let options = run(&[arguments, &["--storage-dir", "/srv/audit/"]].concat());
            assert_eq!(
                options.storage_dir.map(|dir| dir.join("x")),
                storage_dir.map(|dir| dir.join("x"))
            );
            assert_eq!(options.log, log, "{arguments:?}");
        }
    }

    #[test]
    fn proxies_given_replace_the_default() {
        let address = |text: &str| text.parse().unwrap();
        for (arguments, loopback, given) in [
            (&[][..], true, false),
            (&["--trusted-proxy", "192.0.2.1"], false, true),
            (&["--trusted-proxy", "192.0.2.0/24,127.0.0.1"], true, true),
            (&["--trusted-proxy", "none"], false, false),
        ] {
            let networks = run(arguments).proxies.networks;
            assert_eq!(
                networks.contains(address("127.0.0.1")),
                loopback,
                "{arguments:?}"
            );
            assert_eq!(
                networks.contains(address("192.0.2.1")),
                given,
                "{arguments:?}"
            );
        }
    }

    #[test]
    fn the_stated_size_of_a_client_is_the_true_one() {
        assert_eq!(
            modsec_core::ledger::LedgerOptions::default().client_bytes(),
            264
        );
    }
}

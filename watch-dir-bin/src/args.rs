//! Options of the program, and nothing else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{CommandFactory, Parser, ValueEnum};
use modsec_core::accounts::{AccountError, Accounts};
use modsec_core::command_line::{self, CommandLine, Findings, LogArgs};
use modsec_core::permissions::{Layout, Names, Options, Policy, parse_mode, set_up_warnings};
use modsec_core::program::{DefaultPaths, LogOptions, PidFile};
use modsec_core::span::{self, Unit};
use modsec_core::watch::{RootError, check_root};

const ABOUT: &str = "\
Keep the directories of ModSecurity's concurrent audit log usable for every site user

ModSecurity creates a directory per minute under the umask of the web server, so that with one \
Unix user per site only the first to come can write there. watch-dir corrects mode, owner and \
group of every directory in the storage directory, when it starts and within a fraction of a \
millisecond as directories appear, and creates the directories of the coming minutes in advance, \
so that no record is lost in between.";

const DETAILS: &str = "\
LAYOUTS
  Both may be present in one storage directory; each directory is recognised by its path. DAY is
  YYYYMMDD, MINUTE is YYYYMMDD-HHMM. Files are never touched, nor is the storage directory.

  DAY/MINUTE       (ModSecurity up to 2.9.2, libmodsecurity 3, Coraza) shared by all sites; gets
                   owner, group and mode as given. All site users must be in the group. A directory
                   whose owner is not keeps that owner, because otherwise it could not write any
                   more.
  USER/DAY/MINUTE  (ModSecurity since 2.9.3) keeps its owner, and gets the group, the bits of the
                   mode for group and others, and the set-group-id bit, so that who collects needs
                   no root.

WHAT IS LEFT ALONE
  Symbolic links, names that fit no layout, directories on another file system, directories of a
  user that is neither the owner option nor a site user nor has a number of --allow-uid-min or
  more. Each is counted, and logged once, and again when it has changed (up to 4096 lines).

  Users may move directories into the tree, also those of others that they may write to. So USER
  and what is in it is left alone unless it belongs to the user of that name (to one user, if no
  account here has the name) or has owner and group of shared directories. What is a user's own it
  may take out again, with the group and the set-group-id bit: give the group no rights elsewhere.

CREATED IN ADVANCE
  With --ahead, the directories of this and the coming minutes, by the local time of the server
  (it must be that of the web server: same TZ), in the layout found; in both as long as no entry
  tells which it is. Directories that stayed empty are removed by the periodic check: those of a
  user 10 minutes after their end, the shared ones 24 hours after.

TIME SPANS
  Where SECONDS or MINUTES are asked for, the number may have a unit: 90s, 15m, 2h, 7d, 2w (seconds,
  minutes, hours, days, weeks)

SIGNALS
  SIGTERM, SIGINT  remove the PID file and end
  SIGHUP           open the log file again; read users and groups again (also done every minute)

FILES
  /etc/modsec-tools/config.toml  settings of this host, below [watch-dir]
  /etc/passwd, /etc/group        where users and groups are looked up

EXIT STATUS
  0  done
  1  could not do it; the reason is on standard error
  2  bad arguments or configuration
  3  --once or --dry-run: done, but links or directories of foreign owners were left alone
  130, 143  --once or --dry-run: interrupted by SIGINT or SIGTERM

PRIVILEGES
  CAP_CHOWN, CAP_FOWNER and CAP_DAC_OVERRIDE, and membership in the group (for the set-group-id
  bit); root has them all. The systemd unit gives exactly these.

EXAMPLES
  watch-dir --owner www-data --group weblogs --site-user site1 --site-user site2
  watch-dir --storage-dir /srv/audit --dry-run
  WATCH_DIR=/srv/audit watch-dir --once -q";

const STORAGE_DIR: &str = "\
Directory of the audit entries (SecAuditLogStorageDir); must not be a link [default: \
/var/log/httpd/modsec_audit, or below /var/log/apache2 where only that exists]";

const LOG_FILE: &str = "\
Log file, which names each directory corrected (1000 of each owner in an hour); \"-\": none [default: watch_dir.log beside the \
storage directory, none with --once and --dry-run]";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "watch-dir", version, args_override_self = true)]
#[command(long_about = ABOUT, after_long_help = DETAILS)]
#[command(about = "Keep ModSecurity's audit directories usable for every site user")]
#[command(mut_args(|arg| if arg.get_long() == Some("log-file") { arg.help(LOG_FILE) } else { arg }))]
pub(crate) struct Args {
    #[arg(long, value_name = "DIR", env = "WATCH_DIR",
          help = STORAGE_DIR, hide_default_value = true,
          default_value_os_t = DefaultPaths::default().storage_dir)]
    storage_dir: PathBuf,

    /// Permission bits of shared directories, in octal; of users' directories the bits for group
    /// and others
    #[arg(long, value_name = "MODE", default_value = "770",
          value_parser = |text: &str| parse_mode(text))]
    mode: u32,

    /// Owner of shared directories, by name or number: the web server's user
    #[arg(long, value_name = "USER", default_value = "apache")]
    owner: String,

    /// Group of all directories, by name or number
    #[arg(long, value_name = "GROUP", default_value = "fastsecure")]
    group: String,

    /// User whose directory is created in the storage directory; may be repeated, or separated by
    /// commas [default: the members of the group]
    #[arg(
        long,
        value_name = "USER",
        env = "WATCH_DIR_SITE_USERS",
        value_delimiter = ','
    )]
    site_user: Option<Vec<String>>,

    /// Lowest number of a user whose directories are touched, besides owner and site users
    #[arg(long, value_name = "UID", default_value_t = 1000)]
    allow_uid_min: u32,

    /// Create the directories of so many coming minutes; 0: none
    #[arg(long, value_name = "MINUTES", default_value_t = 2,
          value_parser = |text: &str| span::parse_number::<u16>(text, Unit::Minutes, 0, 1440))]
    ahead: u16,

    /// Layout of the directories created in advance
    #[arg(long, value_enum, value_name = "LAYOUT",
          default_value_t = LayoutArg::Auto)]
    layout: LayoutArg,

    /// Check all directories at least so often, events or not
    #[arg(long, value_name = "SECONDS", default_value_t = 600,
          value_parser = |text: &str| span::parse_number::<u32>(text, Unit::Seconds, 1, u32::MAX.into()))]
    check_interval: u32,

    /// Correct what is there and exit; nothing is created or removed
    #[arg(long)]
    pub(crate) once: bool,

    /// Write to standard output what would be done now, do nothing, and exit
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// File with the number of the process, locked while it runs
    #[arg(long, value_name = "FILE", default_value = "/var/run/watch_create.pid")]
    pub(crate) pid_file: PathBuf,

    #[command(flatten)]
    log: LogArgs,
}

/// Reads the command line; ends the process with status 2 if it makes no sense.
pub(crate) fn parse() -> Args {
    let line = CommandLine::read(Args::command(), "WATCH_DIR", &[]);
    let args: Args = line.args();
    if let Err(error) = args.check_files(&line) {
        command_line::exit(&error);
    }
    if line.checks_only() {
        let log = args.log_options().file;
        let log = log.map_or_else(|| "-".to_owned(), |path| path.display().to_string());
        line.end_check(&[("log-file", log)], &args.findings());
    }
    args
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayoutArg {
    /// As found; both until something is found
    Auto,
    /// DAY/MINUTE
    Flat,
    /// USER/DAY/MINUTE
    PerUser,
}

impl From<LayoutArg> for Layout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::Auto => Self::Auto,
            LayoutArg::Flat => Self::Flat,
            LayoutArg::PerUser => Self::PerUser,
        }
    }
}

impl Args {
    pub(crate) fn log_options(&self) -> LogOptions {
        let file = match self.log.log_file {
            Some(ref file) => Some(file.clone()).filter(|file| file != Path::new("-")),
            None if self.once || self.dry_run => None,
            None => self
                .storage_dir
                .parent()
                .map(|logs| logs.join("watch_dir.log")),
        };
        let mut log = self.log.options();
        log.file = file;
        log
    }

    pub(crate) fn options(&self, policy: Policy) -> Options {
        let mut options = Options::new(self.storage_dir.clone(), policy);
        options.ahead = self.ahead;
        options.layout = self.layout.into();
        options.check_every = Duration::from_secs(self.check_interval.into());
        options
    }

    /// Refuses one file for two purposes.
    fn check_files(&self, line: &CommandLine) -> Result<(), clap::Error> {
        let log = self.log_options().file;
        let mut written: Vec<(&str, &Path)> = vec![("pid-file", &self.pid_file)];
        written.extend(log.as_deref().map(|log| ("log-file", log)));
        let read: Vec<(&str, &Path)> = line
            .file()
            .map(|file| ("config", file))
            .into_iter()
            .collect();
        command_line::check_files(&mut Args::command(), &written, &read)
    }

    /// Looks at all that a run would open, and changes nothing.
    fn findings(&self) -> Findings {
        let mut findings = Findings::default();
        match Accounts::below(Path::new("/")) {
            Ok(accounts) => {
                let names = self.names();
                for error in names.unknown(&accounts) {
                    findings.problem(&error);
                }
                // Of a name that is not known that has been said.
                if let Ok(policy) = names.resolve(&accounts) {
                    for warning in set_up_warnings(&self.storage_dir, &policy) {
                        findings.remark(warning);
                    }
                }
            }
            Err(error) => findings.problem(&error),
        }
        if let Some(log) = self.log_options().file {
            findings.log_file(&log);
        }
        let is_service = !self.once && !self.dry_run;
        if is_service && findings.file_to_write("pid-file", &self.pid_file) {
            findings.tried(PidFile::check(&self.pid_file));
        }
        match check_root(&self.storage_dir) {
            Err(RootError::Absent { .. }) if is_service => findings.remark(format!(
                "the storage directory {} is not there yet; the program waits for it",
                self.storage_dir.display()
            )),
            result => {
                findings.tried(result);
            }
        }
        findings
    }

    /// Looks the users and groups up; may be repeated, since accounts come and go.
    pub(crate) fn policy(&self) -> Result<Policy, AccountError> {
        self.names().resolve(&Accounts::below(Path::new("/"))?)
    }

    fn names(&self) -> Names {
        let mut names = Names::default();
        names.mode = self.mode;
        names.owner.clone_from(&self.owner);
        names.group.clone_from(&self.group);
        names.site_users.clone_from(&self.site_user);
        names.allow_uid_min = self.allow_uid_min;
        names
    }
}

#[cfg(test)]
mod tests {
    use modsec_core::command_line::with_variables;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_option_has_a_variable() {
        let command = with_variables(Args::command(), "WATCH_DIR");
        command.clone().debug_assert();
        for option in command.get_arguments() {
            assert!(option.get_long().is_some(), "{option}");
            let own = ["help", "version"].contains(&option.get_id().as_str());
            assert!(own || option.get_env().is_some(), "{option}");
        }
    }

    #[test]
    fn time_spans_have_units_and_bare_numbers_that_of_the_option() {
        for (ahead, check, want) in [
            ("2", "120", (2, 120)),
            ("2h", "2m", (120, 120)),
            ("1d", "2w", (1440, 1_209_600)),
        ] {
            let words = ["x", "--ahead", ahead, "--check-interval", check];
            let args = Args::try_parse_from(words).unwrap();
            assert_eq!((args.ahead, args.check_interval), want, "{words:?}");
        }
        for (text, want) in [
            ("--ahead=90s", "expected a whole number of minutes"),
            ("--ahead=2d", "expected a number of minutes, at most 1440"),
            (
                "--check-interval=x",
                "expected a whole number, 0 or more, of seconds, or one with",
            ),
        ] {
            let error = Args::try_parse_from(["x", text]).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }

    #[test]
    fn the_log_is_beside_the_storage_directory_unless_told_otherwise() {
        let cases: [(&[&str], Option<&str>); 5] = [
            (&["--storage-dir", "/srv/audit"], Some("/srv/watch_dir.log")),
            (
                &["--storage-dir", "/srv/audit/"],
                Some("/srv/watch_dir.log"),
            ),
            (&["--storage-dir", "/srv/audit", "--once"], None),
            (&["--log-file", "-"], None),
            (&["--log-file", "/x", "--once"], Some("/x")),
        ];
        for (arguments, want) in cases {
            let args = Args::parse_from([&["watch-dir"], arguments].concat());
            assert_eq!(
                args.log_options().file.as_deref(),
                want.map(Path::new),
                "{arguments:?}"
            );
        }
    }
}

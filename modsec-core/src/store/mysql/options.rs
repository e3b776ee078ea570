//! From a URL and an option file to an address for the driver.
//!
//! ```text
//! URL ─ parse_url ─► Settings ─┐
//!                              ├─ or ─► Settings ─ into_target ─► Target { opts, name }
//! file ─ option_file::parse ───┘              checks port, database and TLS
//! ```
//!
//! A wrong URL is reported without a word of it: a password with a character that must be
//! percent-encoded can end up in the host, the database or an option.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::{Opts, OptsBuilder};
use tracing::warn;

use super::option_file;
use super::settings::Settings;
use super::tls::SettingError;
use crate::accounts::Accounts;
use crate::named_file;
use crate::store::{StoreError, StoreOptions};

/// After this time without traffic the kernel asks whether the server is still there, so that one
/// that lost its power is noticed.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Prepared statements that the driver keeps per connection: those there are, times two. See the
/// row counts in `statements.rs`.
const STATEMENT_CACHE: usize = 64;
/// Where servers have their socket: Debian, Red Hat, SUSE and Arch, and the sources.
const SOCKETS: [&str; 5] = [
    "/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/run/mysql/mysql.sock",
    "/run/mariadb/mariadb.sock",
    "/tmp/mysql.sock",
];
/// The port of MySQL and MariaDB.
const DEFAULT_PORT: u16 = 3306;
/// Largest option file that is read, in bytes: more than any sensible one.
const MAX_OPTION_FILE: u64 = 1024 * 1024;

/// A server's address with all that is needed to log in there.
pub(super) struct Target {
    /// For the driver. Has the password in it: never log it.
    pub(super) opts: Opts,
    /// For messages: `mysql://user@host:port/database`, or `localhost[/path]` for a socket. No
    /// password.
    pub(super) name: String,
}

impl Target {
    /// Puts URL and option file together; the URL wins.
    ///
    /// # Errors
    ///
    /// [`StoreError::Configuration`] with what is wrong in the URL, or with the option file and the
    /// system's reason. Nothing is connected to yet.
    pub(super) fn new(options: &StoreOptions) -> Result<Target, StoreError> {
        let url = parse_url(&options.url).map_err(|problem| configuration_error(problem, None))?;
        let (file, place) = read_option_file(options.defaults_file.as_deref())?;
        let place = place.filter(|_| url.check_values().is_ok());
        let target = url.or(file).into_target();
        target.map_err(|(problem, source)| configuration_error(placed(place, &problem), source))
    }
}

/// Returns what is wrong with the values in the URL and the option file. That the file cannot be
/// used shows when it is: [`Target::new`] says so.
///
/// # Errors
///
/// [`StoreError::Configuration`].
pub(super) fn check(options: &StoreOptions) -> Result<(), StoreError> {
    let url = parse_url(&options.url).map_err(|problem| configuration_error(problem, None))?;
    let is_url_sound = url.check_values().is_ok();
    let (settings, place) = match read_option_file(options.defaults_file.as_deref()) {
        Ok((file, place)) => (url.or(file), place),
        Err(_) if url.database.is_none() => return Ok(()),
        Err(_) => (url, None),
    };
    let place = place.filter(|_| is_url_sound);
    let checked = settings.check().map(drop);
    checked.map_err(|problem| configuration_error(placed(place, problem), None))
}

/// Returns the problem with a value, behind the place in the option file that the value has.
fn placed(place: Option<String>, problem: &str) -> String {
    place.map_or_else(|| problem.to_owned(), |place| format!("{place}: {problem}"))
}

/// Returns the error for settings that cannot be used. The store has no better name than `mysql`
/// yet.
fn configuration_error(problem: impl Into<String>, source: Option<io::Error>) -> StoreError {
    StoreError::Configuration {
        store: "mysql".to_owned(),
        problem: problem.into(),
        source: source.map(Into::into),
    }
}

impl Settings {
    /// Checks the values that can be judged without a look at the machine; returns the port.
    ///
    /// # Errors
    ///
    /// A sentence with what to write instead.
    fn check(&self) -> Result<u16, &'static str> {
        let port = self.check_values()?;
        if self.database.is_none() {
            return Err(
                "no database is named; write mysql://host/DATABASE or `database` in the option file",
            );
        }
        Ok(port)
    }

    /// Checks the values that are there; returns the port.
    ///
    /// # Errors
    ///
    /// A sentence with what to write instead.
    pub(super) fn check_values(&self) -> Result<u16, &'static str> {
        let port = match self.port.as_deref().map(str::parse) {
            None => DEFAULT_PORT,
            Some(Ok(0) | Err(_)) => return Err("the port is not a number from 1 to 65535"),
            Some(Ok(port)) => port,
        };
        self.tls.check()?;
        Ok(port)
    }

    /// Checks the settings and builds what the driver needs.
    ///
    /// No database named is an error, not a default. The user is, as with MySQL's programs, who runs
    /// the program if none is named. Through a socket nothing is encrypted: no other account
    /// reads it.
    fn into_target(self) -> Result<Target, SettingError> {
        let port = self.check().map_err(|what| (what.to_owned(), None))?;
        let host = self.host.unwrap_or_else(|| "localhost".to_owned());
        let database = self.database.unwrap_or_default();
        let user = self.user.or_else(this_user);
        let is_local = host.eq_ignore_ascii_case("localhost") && self.port.is_none();
        let socket = self
            .socket
            .or_else(|| is_local.then(|| first_socket(&SOCKETS))?);
        let place = match &socket {
            Some(socket) => format!("localhost[{socket}]"),
            None => format!("{host}:{port}"),
        };
        let name = format!(
            "mysql://{}@{place}/{database}",
            user.as_deref().unwrap_or_default()
        );
        // The driver does not encrypt what goes through a socket, nor need it.
        let ssl = if socket.is_some() {
            None
        } else {
            self.tls.options(&host)?
        };
        let opts = OptsBuilder::default()
            .ip_or_hostname(host.trim_start_matches('[').trim_end_matches(']'))
            .tcp_port(port)
            .user(user)
            .pass(self.password)
            .db_name(Some(database))
            .socket(socket)
            // Otherwise the driver leaves a TCP connection for the socket the server names.
            .prefer_socket(false)
            .ssl_opts(ssl)
            .tcp_keepalive(Some(KEEPALIVE))
            .stmt_cache_size(STATEMENT_CACHE);
        Ok(Target {
            opts: opts.into(),
            name,
        })
    }
}

/// Returns the name of the user who runs the program: as with MySQL's programs the account is called
/// like that. Without the variable, as in cron and in units, by the number.
fn this_user() -> Option<String> {
    let named = std::env::var("USER").ok().filter(|name| !name.is_empty());
    named.or_else(|| {
        let uid = rustix::process::geteuid().as_raw();
        let accounts = Accounts::below(Path::new("/")).ok()?;
        let user = accounts.users().find(|user| user.uid == uid)?;
        Some(user.name.clone())
    })
}

/// Returns the first of `paths` that is a socket: for MySQL's programs the host `localhost` is the
/// server's socket, unless a port is given. `None` if there is none; the server may be in a container
/// and listen to TCP alone.
fn first_socket(paths: &[&str]) -> Option<String> {
    let is_socket =
        |path: &&&str| std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    paths.iter().find(is_socket).map(|path| (*path).to_owned())
}

/// Takes `mysql://[user[:password]@][host[:port]][/database][?option=value[&…]]` apart.
///
/// The messages quote nothing of the URL: a password with a character that must be
/// percent-encoded ends up in any of its parts.
///
/// Only the shape is checked here; `into_target` checks the values. Options are `socket` and those
/// of [`Tls::set`](super::tls::Tls::set).
///
/// # Errors
///
/// A sentence with what to write instead.
fn parse_url(url: &str) -> Result<Settings, &'static str> {
    let rest = url
        .split_once(':')
        .and_then(|(_, rest)| rest.strip_prefix("//"))
        .ok_or("the URL must start with mysql://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, place) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(percent_decode(password)?)),
        None => (login, None),
    };
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port.to_owned())),
        _ => (place, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    if !host.chars().all(plain) || database.contains(['/', '@', ':']) {
        return Err("host or database have characters that cannot be in them; \
                    percent-encode those of user and password");
    }
    let mut settings = Settings {
        host: non_empty(host.to_owned()),
        port,
        user: non_empty(percent_decode(user)?),
        password,
        database: non_empty(percent_decode(database)?),
        ..Settings::default()
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = non_empty(percent_decode(value)?);
        match key {
            "socket" => settings.socket = value,
            _ if settings.tls.set(&key.replace('_', "-"), value) => {}
            _ => {
                return Err(
                    "the options behind `?` are socket, ssl-ca, ssl-mode, ssl and \
                            ssl-verify-server-cert",
                );
            }
        }
    }
    Ok(settings)
}

/// Returns `None` for the empty text: a part of a URL that is empty is one that is left out.
fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// Replaces `%` and two hexadecimal digits by their byte. `+` stands for itself.
///
/// # Errors
///
/// A `%` without two digits, or bytes that are not UTF-8.
fn percent_decode(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut pieces = text.split('%');
    bytes.extend_from_slice(pieces.next().unwrap_or_default().as_bytes());
    for piece in pieces {
        let digits = piece
            .get(..2)
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or("a % in the URL must be followed by two hexadecimal digits")?);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "the URL's percent-encoded bytes are not UTF-8")
}

/// Reads the file that was asked for, or else `~/.my.cnf` if there is one. Returns also the place in it
/// from which a value makes no sense, such as `/root/.my.cnf:3: port`.
///
/// Warns if every user of the machine may read a password in it, and if the file that was asked for
/// has nothing for this program.
///
/// # Errors
///
/// [`StoreError::Configuration`] if it cannot be read or is not to be trusted (see [`named_file`]);
/// a missing `~/.my.cnf` is no error, a missing file that was asked for is.
fn read_option_file(asked: Option<&Path>) -> Result<(Settings, Option<String>), StoreError> {
    let usual = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".my.cnf"));
    let Some(path) = asked.map(Path::to_owned).or_else(usual) else {
        return Ok((Settings::default(), None));
    };
    let unreadable = |error| {
        let problem = format!(
            "cannot read the option file {}, name another with --defaults-file",
            path.display()
        );
        configuration_error(problem, Some(error))
    };
    let contents = match named_file::read_plain(&path, MAX_OPTION_FILE) {
        Ok(contents) => contents,
        Err(error) if asked.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok((Settings::default(), None));
        }
        Err(error) => {
            return Err(unreadable(error));
        }
    };
    let is_public = contents.is_public;
    if let Some(warning) = contents.owner_warning(&path) {
        warn!("{warning}");
    }
    let file = option_file::parse(&contents.into_text().map_err(unreadable)?);
    if is_public && file.settings.password.is_some() {
        warn!(path = ?path, "password is in a file that everybody may read");
    }
    if file.is_for_others && asked.is_some() {
        warn!(
            path = ?path,
            "nothing in the option file is used: it has neither a group [client] nor [modsec-parser]"
        );
    }
    let at = |(line, key)| format!("{}:{line}: {key}", path.display());
    Ok((file.settings, file.wrong.map(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str, file: &str) -> Result<Target, String> {
        let settings = parse_url(url)?.or(option_file::parse(file).settings);
        settings.into_target().map_err(|(problem, _)| problem)
    }

    #[test]
    fn url_gives_all_parts() {
        let target = target("mysql://m%40x:p%2Fw%3A@[2001:db8::1]:3307/logs", "").unwrap();
        assert_eq!(target.name, "mysql://m@x@[2001:db8::1]:3307/logs");
        assert_eq!(target.opts.user(), Some("m@x"));
        assert_eq!(target.opts.pass(), Some("p/w:"));
        assert_eq!(target.opts.ip_or_hostname(), "2001:db8::1");
        assert_eq!(target.opts.tcp_port(), 3307);
        assert_eq!(target.opts.db_name(), Some("logs"));
        let ssl = target.opts.ssl_opts().unwrap();
        assert!(!ssl.accept_invalid_certs() && !ssl.skip_domain_validation());
    }

    #[test]
    fn option_file_fills_what_the_url_leaves_out() {
        let file = "[client]\nuser=u\npassword=secret\nsocket=/run/s\ndatabase=d\nport=3310\n";
        for (url, want) in [
            ("mysql://", "mysql://u@localhost[/run/s]/d"),
            ("mysql://localhost/e", "mysql://u@localhost[/run/s]/e"),
            ("mysql:///e?socket=/tmp/t", "mysql://u@localhost[/tmp/t]/e"),
            ("mysql://db.example.org", "mysql://u@db.example.org:3310/d"),
            ("mysql://localhost:3307", "mysql://u@localhost:3307/d"),
            ("mysql://v@192.0.2.1:1", "mysql://v@192.0.2.1:1/d"),
        ] {
            let target = target(url, file).unwrap();
            assert_eq!(target.name, want, "input {url:?}");
            assert_eq!(target.opts.pass(), Some("secret"), "input {url:?}");
        }
    }

    #[test]
    fn localhost_is_a_socket_that_exists_and_never_one_beside_a_port() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (none, file, socket) = (path("none"), path("file"), path("socket"));
        std::fs::write(&file, "").unwrap();
        assert_eq!(first_socket(&[&none, &file]), None);
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(first_socket(&[&none, &file, &socket]), Some(socket));
        for url in ["mysql://u@localhost:3306/d", "mysql://u@127.0.0.1/d"] {
            let target = target(url, "").unwrap();
            assert_eq!(target.opts.socket(), None, "{url}");
        }
    }

    #[test]
    fn errors_quote_nothing_of_the_url() {
        for url in [
            "mysql:u:secret@h/d",
            "mysql://u:secret/x@h/d",
            "mysql://u:secret?x@h/d",
            "mysql://u:%secret@h/d",
            "mysql://u:%s\u{e9}cret@h/d",
            "mysql://u:secret",
            "mysql://u:secret@h",
            "mysql://u:x@h/d?password=secret",
            "mysql://h/d?ssl-mode=secret",
        ] {
            let error = target(url, "")
                .err()
                .unwrap_or_else(|| panic!("{url:?} is accepted"));
            assert!(!error.contains("secret"), "input {url:?}: {error}");
        }
    }

    #[test]
    fn naming_an_authority_means_to_ask_it() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n").unwrap();
        let target = |query: &str| target(&format!("mysql://h/d?{query}"), "").unwrap().opts;
        let asked = target(&format!("ssl-ca={}", ca.display()));
        let ssl = asked.ssl_opts().unwrap();
        assert!(!ssl.accept_invalid_certs() && !ssl.skip_domain_validation());
        assert!(ssl.disable_built_in_roots());
        assert!(
            target("ssl-mode=required")
                .ssl_opts()
                .unwrap()
                .accept_invalid_certs()
        );
        let strict = target("ssl-mode=VERIFY_CA");
        assert!(!strict.ssl_opts().unwrap().accept_invalid_certs());
        assert!(target("ssl-mode=disabled&ssl-ca=x").ssl_opts().is_none());
    }

    #[test]
    fn missing_option_file_is_an_error_only_if_it_was_asked_for() {
        let error = read_option_file(Some(Path::new("/nonexistent/my.cnf")))
            .err()
            .unwrap();
        assert!(error.to_string().contains("/nonexistent/my.cnf"), "{error}");
    }
}

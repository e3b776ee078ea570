//! Groups of options that several programs have. A program flattens them into its own.
//!
//! ```text
//! #[derive(clap::Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     log: LogArgs,
//! }
//! ```
//!
//! The comments of the fields are the help that people read: no full stop at the end, no Markdown.

#![expect(
    clippy::doc_markdown,
    reason = "these comments are the help that people read"
)]

use std::path::PathBuf;

use clap::{ArgAction, Args};

use crate::program::{LogFormat, LogOptions};
use crate::record::{ClientHeader, TrustedProxies, TrustedProxyArg};

/// What the program logs, and where.
#[derive(Debug, Clone, Args)]
#[non_exhaustive]
pub struct LogArgs {
    /// File that gets all log lines; standard error then gets only warnings and errors. SIGHUP
    /// reopens it
    #[arg(long, value_name = "FILE")]
    pub log_file: Option<PathBuf>,

    /// Format of log lines: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    /// Log more; twice: everything
    #[arg(short, long, action = ArgAction::Count)]
    pub verbose: u8,

    /// Log less: only warnings, and no summary of a pass; twice: only errors; three times: nothing
    #[arg(short, long, action = ArgAction::Count)]
    pub quiet: u8,
}

impl LogArgs {
    /// Returns them as the log set-up takes them.
    pub fn options(&self) -> LogOptions {
        LogOptions {
            verbose: self.verbose,
            quiet: self.quiet,
            format: self.log_format,
            file: self.log_file.clone(),
            around: None,
        }
    }
}

/// Which database.
#[derive(Debug, Clone, Args)]
#[non_exhaustive]
pub struct StoreArgs {
    /// Database: sqlite:PATH or mysql://USER@HOST:PORT/DATABASE; a password belongs into a file
    /// or the environment [default: sqlite:modsec.db in the state directory]
    #[arg(long, value_name = "URL", hide_env_values = true)]
    pub store: Option<String>,

    /// File whose first line is the URL of the database, password included
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    pub store_file: Option<PathBuf>,

    /// MySQL option file for user, password, host, port, socket and TLS: groups client and
    /// modsec-parser [default: ~/.my.cnf]
    #[arg(long, value_name = "FILE")]
    pub defaults_file: Option<PathBuf>,
}

/// Whose word is taken for a client's address.
#[derive(Debug, Clone, Args)]
#[non_exhaustive]
pub struct ProxyArgs {
    /// Proxies whose header is believed, repeatable, or none [default: 127.0.0.0/8 and ::1]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub trusted_proxy: Vec<TrustedProxyArg>,

    /// Header in which they name the client, such as X-Real-IP or CF-Connecting-IP: one address;
    /// X-Forwarded-For, and what ends so: a list, read from the right past trusted proxies
    #[arg(long, value_name = "NAME", default_value_t = ClientHeader::default())]
    pub client_header: ClientHeader,
}

impl ProxyArgs {
    /// Returns them as the records' readers take them.
    pub fn proxies(&self) -> TrustedProxies {
        TrustedProxies::named(&self.trusted_proxy, self.client_header.clone())
    }
}

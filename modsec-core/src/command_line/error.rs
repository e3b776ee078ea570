//! What can be wrong with a configuration file: [`ConfigError`] says where, [`Problem`] says what.
//!
//! Messages have the form of a compiler's, so that editors find the line:
//!
//! ```text
//! /etc/modsec-tools/config.toml:7: unknown key min_age in [modsec-parser]: did you mean min-age?
//! ```
//!
//! Names from the file are escaped: it may have been copied from anywhere.

use std::io;
use std::path::PathBuf;

/// Why a configuration file is not used. The program does not begin its work then, and ends with
/// status 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is absent although it was named, may not be read, has more than 1 MiB, or may have been
    /// changed by another account (see [`named_file`](crate::named_file)).
    #[error(
        "cannot read configuration file {}, name another with --config, or none to read none",
        .path.display()
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line cannot be understood, or the value is none that the option takes.
    #[error("{}:{line}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong in that line.
        problem: Problem,
    },
}

/// What is wrong in a line of a configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is not TOML, or not UTF-8. Says what is wrong on one line.
    #[error("no valid TOML: {0}")]
    Syntax(String),
    /// No program has this name.
    #[error("unknown section [{}]: {}", .name.escape_debug(), .meant.as_ref().map_or_else(
        || "the sections are [modsec-parser], [watch-dir] and [recidive]".to_owned(),
        |meant| format!("did you mean [{meant}]?"),
    ))]
    /// No program has this name.
    UnknownSection {
        /// What stands in the brackets.
        name: String,
        /// The known name that is most like it, if one is alike.
        meant: Option<String>,
    },
    /// The program has no such option.
    #[error("unknown key {} in [{section}]: {}", .key.escape_debug(), .meant.as_ref().map_or_else(
        || format!("{section} --help lists the options, whose long names are the keys"),
        |meant| format!("did you mean {meant}?"),
    ))]
    /// The program has no such option. Keys of other programs' sections are not looked at.
    UnknownKey {
        /// The key.
        key: String,
        /// The section that it is in.
        section: String,
        /// The known key that is most like it, if one is alike.
        meant: Option<String>,
    },
    /// Above the sections there are only keys that several programs share.
    #[error("unknown key {} above the sections: {}", .key.escape_debug(), .meant.as_ref().map_or_else(
        || "an option of one program belongs below [modsec-parser], [watch-dir] or [recidive]"
            .to_owned(),
        |meant| format!("did you mean {meant}?"),
    ))]
    /// A key above the sections that is none of those that several programs share.
    UnknownShared {
        /// The key.
        key: String,
        /// The shared key that is most like it, if one is alike.
        meant: Option<String>,
    },
    /// The option exists, but each program must have its own value, such as a log file.
    #[error("{key} is not shared by the programs: move it below [{section}]")]
    NotShared {
        /// The key.
        key: String,
        /// The section of this program.
        section: String,
    },
    /// The value is of another type than the option.
    #[error("{} must be {wanted}, and is {found}", .key.escape_debug())]
    WrongType {
        /// The key.
        key: String,
        /// What the option takes, in words.
        wanted: &'static str,
        /// What the file has, in words.
        found: &'static str,
    },
    /// The value is none that the option takes.
    #[error("{key} = {value}: {reason}")]
    Refused {
        /// The key.
        key: String,
        /// The value in the form of the file.
        value: String,
        /// Why the option does not take it, in clap's or the type's words.
        reason: String,
    },
    /// Two options that exclude each other.
    #[error("{key} and {other} (line {other_line}) exclude each other: remove one")]
    Contradiction {
        /// One key.
        key: String,
        /// The other.
        other: String,
        /// Where the other stands, counted from 1.
        other_line: usize,
    },
}

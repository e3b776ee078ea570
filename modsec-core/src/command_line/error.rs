//! What can be wrong with a configuration file.

use std::io;
use std::path::PathBuf;

/// Why a configuration file is not used; the program does not begin its work then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is absent although it was asked for, or may not be read.
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
    /// Something in it makes no sense.
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
    /// The file is not TOML.
    #[error("no valid TOML: {0}")]
    Syntax(String),
    /// No program has this name.
    #[error("unknown section [{}]: {}", .name.escape_debug(), .meant.as_ref().map_or_else(
        || "the sections are [modsec-parser], [watch-dir] and [recidive]".to_owned(),
        |meant| format!("did you mean [{meant}]?"),
    ))]
    UnknownSection {
        /// What stands in the brackets.
        name: String,
        /// The name that is most like it.
        meant: Option<String>,
    },
    /// The program has no such option.
    #[error("unknown key {} in [{section}]: {}", .key.escape_debug(), .meant.as_ref().map_or_else(
        || format!("{section} --help lists the options, whose long names are the keys"),
        |meant| format!("did you mean {meant}?"),
    ))]
    UnknownKey {
        /// The key.
        key: String,
        /// The section that it is in.
        section: String,
        /// The key that is most like it.
        meant: Option<String>,
    },
    /// Above the sections there are only keys that several programs share.
    #[error("unknown key {} above the sections: {}", .key.escape_debug(), .meant.as_ref().map_or_else(
        || "an option of one program belongs below [modsec-parser], [watch-dir] or [recidive]"
            .to_owned(),
        |meant| format!("did you mean {meant}?"),
    ))]
    UnknownShared {
        /// The key.
        key: String,
        /// The key that is most like it.
        meant: Option<String>,
    },
    /// The option exists, but each program must have its own value.
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
        /// What it takes.
        wanted: &'static str,
        /// What it has.
        found: &'static str,
    },
    /// The value is none that the option takes.
    #[error("{key} = {value}: {reason}")]
    Refused {
        /// The key.
        key: String,
        /// The value as the file could have it.
        value: String,
        /// What the option takes.
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

/// Returns the name that somebody who wrote `word` may have had in mind.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    names
        .into_iter()
        .map(|name| (strsim::jaro(word, name), name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, name)| name.to_owned())
}

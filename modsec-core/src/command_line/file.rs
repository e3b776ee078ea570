//! The configuration file as text: which keys are in it, with which values, in which lines.
//!
//! ```toml
//! storage-dir = "/var/log/apache2/audit"   # shared: every program that has the option
//! trusted-proxy = ["192.0.2.1", "::1"]     # a list
//!
//! [modsec-parser]
//! storage-dir = "/srv/audit"               # beats the shared one, for this program
//! min-age = 60                             # as if written --min-age=60
//!
//! [recidive]
//! dry-run = true                           # not looked at by modsec-parser
//! ```
//!
//! Values are not interpreted here: a number becomes the text that would stand on the command line,
//! and clap judges it. Each keeps its line, for messages and for `--check-config`.
//!
//! Sections of other programs are not checked beyond their names, because this program does not
//! know their options.

use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Problem};
use super::mistake::meant;
use crate::likeness::nearest;
use crate::named_file;

/// One section for each program that reads the file.
pub(super) const SECTIONS: [&str; 3] = ["modsec-parser", "watch-dir", "recidive"];

/// Keys that may stand above the sections, for each program that has such an option.
///
/// Not among them are those that name a file of one program: three programs that write one log or
/// PID file would destroy it.
pub(super) const SHARED: [&str; 8] = [
    "client-header",
    "log-format",
    "merged-log",
    "quiet",
    "stale-after",
    "storage-dir",
    "trusted-proxy",
    "verbose",
];

/// Largest file that is read, in bytes: more than any sensible one, less than what would hurt if
/// the path is a mistake.
const MAX_BYTES: u64 = 1024 * 1024;

/// The settings of one program, as the file has them.
#[derive(Debug)]
pub(super) struct ConfigFile {
    /// Where it was read.
    pub(super) path: PathBuf,
    /// What is meant for this program, by line. Each key is there once.
    pub(super) settings: Vec<Setting>,
    /// Whether every user of the machine may read it.
    pub(super) public: bool,
    /// What is said if another account can change the file.
    pub(super) owner_warning: Option<String>,
}

/// One key that is meant for this program.
#[derive(Debug)]
pub(super) struct Setting {
    /// Long name of the option.
    pub(super) key: String,
    /// Counted from 1.
    pub(super) line: usize,
    /// What the file has for it.
    pub(super) value: Value,
}

/// A value by its TOML type, not yet by the option's.
#[derive(Debug)]
pub(super) enum Value {
    /// A string or a decimal number, as it would be written on the command line.
    Text(String),
    /// `true` or `false`, without quotes.
    Switch(bool),
    /// An array of strings and decimal numbers.
    List(Vec<String>),
    /// What no option takes, in words.
    Other(&'static str),
}

impl ConfigFile {
    /// Reads what concerns the program `section`, whose options have the names `known`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Unreadable`] if the file is missing, too large or not to be trusted;
    /// [`ConfigError::Content`] with the first line that is wrong.
    pub(super) fn read(path: &Path, section: &str, known: &[String]) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let contents = named_file::read(path, MAX_BYTES).map_err(unreadable)?;
        let owner_warning = contents.owner_warning(path);
        let named_file::Contents {
            bytes, is_public, ..
        } = contents;
        let reader = Reader {
            path,
            section,
            known,
        };
        Ok(Self {
            path: path.to_owned(),
            settings: reader.settings(&bytes)?,
            public: is_public,
            owner_warning,
        })
    }
}

/// What is needed to judge the keys of a file.
struct Reader<'a> {
    /// For messages.
    path: &'a Path,
    /// Section of this program.
    section: &'a str,
    /// Long names of its options.
    known: &'a [String],
}

impl Reader<'_> {
    /// Parses the file and returns what is meant for this program, in the order of its lines.
    ///
    /// A key of the own section beats the same key above the sections.
    fn settings(&self, bytes: &[u8]) -> Result<Vec<Setting>, ConfigError> {
        let text = str::from_utf8(bytes).map_err(|error| {
            let line = 1 + newlines(&bytes[..error.valid_up_to()]);
            self.error(line, Problem::Syntax("it is not UTF-8".to_owned()))
        })?;
        let line_of = |at: usize| 1 + newlines(&bytes[..at.min(bytes.len())]);
        let document = DeTable::parse(text).map_err(|error| {
            let line = line_of(error.span().map_or(0, |span| span.start));
            let shown = text.lines().nth(line - 1).unwrap_or_default();
            self.error(line, Problem::Syntax(syntax(error.message(), shown)))
        })?;
        let mut shared = Vec::new();
        let mut own = Vec::new();
        for (key, value) in document.get_ref() {
            let line = line_of(key.span().start);
            let name: &str = key.get_ref();
            match value.get_ref() {
                DeValue::Table(table) => {
                    self.check_section(name, line)?;
                    if name == self.section {
                        own = self.section(table, &line_of)?;
                    }
                }
                _ if SECTIONS.contains(&name) => {
                    let key = name.to_owned();
                    let wanted = "a section, in brackets: [NAME]";
                    let found = "a setting";
                    return Err(self.error(line, Problem::WrongType { key, wanted, found }));
                }
                _ => {
                    self.check_shared(name, line)?;
                    if self.known.iter().any(|known| known == name) {
                        shared.push(setting(name, line, value));
                    }
                }
            }
        }
        shared.retain(|setting| own.iter().all(|other| other.key != setting.key));
        own.append(&mut shared);
        own.sort_by_key(|setting| setting.line);
        Ok(own)
    }

    /// Reads the own section; `line_of` turns an offset into a line.
    fn section(
        &self,
        table: &DeTable<'_>,
        line_of: &dyn Fn(usize) -> usize,
    ) -> Result<Vec<Setting>, ConfigError> {
        let known_setting = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
            let line = line_of(key.span().start);
            let name: &str = std::borrow::Cow::as_ref(key.get_ref());
            if self.known.iter().any(|known| known == name) {
                return Ok(setting(name, line, value));
            }
            Err(self.error(
                line,
                Problem::UnknownKey {
                    key: name.to_owned(),
                    section: self.section.to_owned(),
                    meant: meant(name, self.known),
                },
            ))
        };
        let mut settings: Vec<_> = table.iter().collect();
        settings.sort_by_key(|(key, _)| key.span().start);
        settings.into_iter().map(known_setting).collect()
    }

    /// Refuses a section that no program has.
    fn check_section(&self, name: &str, line: usize) -> Result<(), ConfigError> {
        if SECTIONS.contains(&name) {
            return Ok(());
        }
        let problem = Problem::UnknownSection {
            name: name.to_owned(),
            meant: nearest(name, SECTIONS).map(str::to_owned),
        };
        Err(self.error(line, problem))
    }

    /// Refuses a key above the sections that is not one of [`SHARED`].
    fn check_shared(&self, name: &str, line: usize) -> Result<(), ConfigError> {
        if SHARED.contains(&name) {
            return Ok(());
        }
        let key = name.to_owned();
        let problem = if self.known.contains(&key) {
            Problem::NotShared {
                key,
                section: self.section.to_owned(),
            }
        } else {
            let meant = nearest(name, SHARED).map(str::to_owned);
            Problem::UnknownShared { key, meant }
        };
        Err(self.error(line, problem))
    }

    /// Returns the error for a problem in `line`, counted from 1.
    fn error(&self, line: usize, problem: Problem) -> ConfigError {
        ConfigError::Content {
            path: self.path.to_owned(),
            line,
            problem,
        }
    }
}

/// Reads one value.
fn setting(key: &str, line: usize, value: &Spanned<DeValue<'_>>) -> Setting {
    let value = match value.get_ref() {
        DeValue::Boolean(switch) => Value::Switch(*switch),
        DeValue::Array(items) => {
            let items = items.iter().map(|item| text(item.get_ref()));
            let items = items.collect::<Option<_>>();
            items.map_or(Value::Other("a list of something else"), Value::List)
        }
        DeValue::Float(_) => Value::Other("a number with a fraction"),
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Table(_) => Value::Other("a table"),
        other => text(other).map_or(Value::Other("a number in another base"), Value::Text),
    };
    Setting {
        key: key.to_owned(),
        line,
        value,
    }
}

/// Says what is no TOML in a line, and what to write instead; `said` are the parser's words. Of the
/// line only what stands before `=` is quoted: the value may be a password.
fn syntax(said: &str, line: &str) -> String {
    let line = line.trim();
    let (key, value) = line.split_once('=').unwrap_or((line, ""));
    let (key, has_value) = (key.trim().escape_debug(), !value.trim().is_empty());
    if said.starts_with("key with no value") {
        let name = line.split_whitespace().next().unwrap_or_default();
        return format!(
            "there is no = in this line, write {} = VALUE",
            name.escape_debug()
        );
    }
    if said.starts_with("duplicate key") {
        return if line.starts_with('[') {
            format!("duplicate section {key}, put its lines together")
        } else {
            format!("duplicate key {key}, remove one of the lines")
        };
    }
    let what = match said {
        _ if said.starts_with("unclosed table") => "the name of a section ends with ]",
        _ if said.starts_with("string values must be quoted") && !has_value => {
            "there is no value behind the ="
        }
        _ if said.starts_with("string values must be quoted") => {
            "a value is a text in quotes, a number, true, false, or a list in brackets"
        }
        _ if said.starts_with("invalid basic string") || said.starts_with("invalid literal") => {
            "a text must end with the quote that it begins with, in the same line"
        }
        _ if said.starts_with("missing escaped value") => {
            "a backslash has a meaning of its own in double quotes, use single ones"
        }
        _ if said.starts_with("unexpected leading zero") => "a number does not begin with 0",
        _ if said.starts_with("invalid unquoted key") => {
            return "a key has only letters, digits, - and _".to_owned();
        }
        _ => return said.replace('\n', ", "),
    };
    format!("{key}: {what}")
}

/// Returns what would stand on the command line.
///
/// Numbers in another base are refused: `mode = 0o770` would silently become 504.
fn text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        _ => None,
    }
}

/// Counts line feeds.
fn newlines(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Vec<Setting>, ConfigError> {
        let known = ["storage-dir", "min-age", "pid-file", "trusted-proxy"].map(str::to_owned);
        let reader = Reader {
            path: Path::new("x.toml"),
            section: "modsec-parser",
            known: &known,
        };
        reader.settings(text.as_bytes())
    }

    #[test]
    fn the_section_beats_what_stands_above_and_others_are_not_looked_at() {
        let text = "storage-dir = 'a'\nstale-after = 5\n[watch-dir]\nstorage-dir = 'b'\nxyz = 1\n\
                    [modsec-parser]\nstorage-dir = \"c\" # why\nmin-age = 1_000\n";
        let found = settings(text).unwrap();
        let found: Vec<_> = found.iter().map(|s| format!("{s:?}")).collect();
        let want = [
            r#"Setting { key: "storage-dir", line: 7, value: Text("c") }"#,
            r#"Setting { key: "min-age", line: 8, value: Text("1000") }"#,
        ];
        assert_eq!(found, want);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_line() {
        for (text, want) in [
            (
                "\n[modsec-parser]\nmin_age = 1",
                "x.toml:3: unknown key min_age in [modsec-parser]: did you mean min-age?",
            ),
            (
                "[modsec-parser]\nzzzz = 1",
                "x.toml:2: unknown key zzzz in [modsec-parser]: modsec-parser --help lists the \
                 options, whose long names are the keys",
            ),
            (
                "[modsec-praser]",
                "x.toml:1: unknown section [modsec-praser]: did you mean [modsec-parser]?",
            ),
            (
                "storag-dir = ''",
                "x.toml:1: unknown key storag-dir above the sections: did you mean storage-dir?",
            ),
            (
                "threshold = 3",
                "x.toml:1: unknown key threshold above the sections: an option of one program \
                 belongs below [modsec-parser], [watch-dir] or [recidive]",
            ),
            (
                "\npid-file = 'x'",
                "x.toml:2: pid-file is not shared by the programs: move it below [modsec-parser]",
            ),
            (
                "recidive = 1",
                "x.toml:1: recidive must be a section, in brackets: [NAME], and is a setting",
            ),
            (
                "[modsec-parser]\nstorag = 'x'\ndatabase = 'y'\n",
                "x.toml:2: unknown key storag in [modsec-parser]: did you mean storage-dir?",
            ),
            (
                "[modsec-parser]\ndirectory = 'x'\n",
                "x.toml:2: unknown key directory in [modsec-parser]: did you mean storage-dir?",
            ),
        ] {
            let error = settings(text).unwrap_err();
            assert_eq!(error.to_string(), want, "{text:?}");
        }
    }

    #[test]
    fn what_is_no_toml_is_said_in_words_without_the_value() {
        for (text, want) in [
            (
                "store 'secret'",
                "there is no = in this line, write store = VALUE",
            ),
            (
                "store = mysql://u:secret@h",
                "store: a value is a text in quotes, a number",
            ),
            ("store = 'secret", "store: a text must end with the quote"),
            ("store = \"secret", "store: a text must end with the quote"),
            ("store = ", "store: there is no value behind the ="),
            (
                "store = \"\\secret\"",
                "store: a backslash has a meaning of its own",
            ),
            ("mode = 0770", "mode: a number does not begin with 0"),
            (
                "store = 1\nstore = 2",
                "duplicate key store, remove one of the lines",
            ),
            ("[recidive]\n[recidive]", "duplicate section [recidive]"),
            ("[recidive", "[recidive: the name of a section ends with ]"),
            (
                "\u{201c}store\u{201d} = 'secret'",
                "a key has only letters, digits, - and _",
            ),
        ] {
            let error = settings(text).unwrap_err().to_string();
            let (_, said) = error.split_once(": no valid TOML: ").unwrap();
            assert!(said.starts_with(want), "{text:?}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line() {
        for text in [
            "\n\nx",
            "\n\nx = ",
            "\n\nx = 'a",
            "[a]\nb=1\nb=2",
            "#\n#\nx = 0770",
            "#\n\n[modsec-parser",
        ] {
            let error = settings(text).unwrap_err().to_string();
            assert!(
                error.starts_with("x.toml:3: no valid TOML: "),
                "{text:?}: {error}"
            );
            assert!(!error.contains('\n'), "{error}");
        }
        let known = [];
        let (path, section) = (Path::new("x.toml"), "recidive");
        let reader = Reader {
            path,
            section,
            known: &known,
        };
        let error = reader.settings(b"a = 1\n\xff").unwrap_err().to_string();
        assert_eq!(error, "x.toml:2: no valid TOML: it is not UTF-8");
    }
}

//! A program with a configuration file of its own, and what it says of its settings.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The file that is installed, from the top of the tree.
const SHIPPED: &str = "../modsec-parser-bin/deploy/config.toml";

/// Keys that the installed file has above its sections.
const SHARED: [&str; 8] = [
    "client-header",
    "log-format",
    "merged-log",
    "quiet",
    "stale-after",
    "storage-dir",
    "trusted-proxy",
    "verbose",
];

pub(crate) struct Configured {
    pub(crate) dir: tempfile::TempDir,
    program: &'static str,
    /// Arguments and variables without which the program finds fault with this machine.
    base: (
        &'static [&'static str],
        &'static [(&'static str, &'static str)],
    ),
}

/// A key, its variable, and the value in the file, of the variable, and of the flag, each with how
/// it is shown.
pub(crate) type Precedence = (&'static str, &'static str, [[&'static str; 2]; 3]);

/// Text of a file, and how the program's refusal begins.
pub(crate) type Mistake = (&'static str, &'static str);

/// Value and source by key.
pub(crate) type Settings = BTreeMap<String, (String, String)>;

impl Configured {
    pub(crate) fn new(program: &'static str) -> Configured {
        Configured {
            dir: tempfile::tempdir().unwrap(),
            program,
            base: (&[], &[]),
        }
    }

    pub(crate) fn with(
        mut self,
        arguments: &'static [&'static str],
        variables: &'static [(&'static str, &'static str)],
    ) -> Configured {
        self.base = (arguments, variables);
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("x.toml")
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
        self.allow(0o644);
    }

    pub(crate) fn allow(&self, mode: u32) {
        fs::set_permissions(self.path(), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// The program, told of the file by `--config`.
    pub(crate) fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.program);
        command
            .env_clear()
            .env("HOME", self.dir.path())
            .env("MODSEC_CONFIG", self.path())
            .envs(self.base.1.iter().copied())
            .envs(variables.iter().copied())
            .args(arguments)
            .args(self.base.0);
        command
    }

    pub(crate) fn settings(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Settings {
        let arguments = [arguments, &["--check-config"]].concat();
        let output = self.command(&arguments, variables).output().unwrap();
        let (out, err) = texts(&output);
        // 1: this machine has not all that the settings name.
        let code = output.status.code();
        assert!([0, 1].map(Some).contains(&code), "{arguments:?}: {err}");
        let line = |line: &str| {
            let (setting, source) = line.rsplit_once("  # ")?;
            let (key, value) = setting.split_once(" = ")?;
            let value = value.trim_end().to_owned();
            Some((key.to_owned(), (value, source.to_owned())))
        };
        out.lines().filter_map(line).collect()
    }

    /// Asserts that a key has each value from the source that should have the last word.
    pub(crate) fn check_precedence(&self, (key, variable, texts): Precedence) {
        let [
            [in_file, shown_file],
            [in_variable, shown_variable],
            [on_line, shown_line],
        ] = texts;
        let section = self.section();
        self.write(&format!("[{section}]\n{key} = {in_file}\n"));
        let shown = |arguments: &[&str], variables: &[(&str, &str)]| {
            self.settings(arguments, variables)[key].clone()
        };
        let want = |value: &str, source: &str| (value.to_owned(), source.to_owned());
        let line = format!("{}:2", self.path().display());
        assert_eq!(shown(&[], &[]), want(shown_file, &line), "{key}");
        let set: &[_] = &[(variable, in_variable)];
        if !variable.is_empty() {
            let source = format!("environment, {variable}");
            assert_eq!(shown(&[], set), want(shown_variable, &source), "{key}");
        }
        let set = if variable.is_empty() { &[] } else { set };
        let flag = format!("--{key}");
        let words: Vec<&str> = [flag.as_str()]
            .into_iter()
            .chain(on_line.split_terminator(' '))
            .collect();
        assert_eq!(shown(&words, set), want(shown_line, &flag), "{key}");
    }

    /// Runs the program, expects it to refuse, and returns what it says.
    pub(crate) fn refusal(&self, arguments: &[&str], variables: &[(&str, &str)]) -> String {
        let output = self.command(arguments, variables).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{out}{err}");
        err.replace(&self.path().display().to_string(), "FILE")
    }

    /// Asserts that a mistake is refused, in one line.
    pub(crate) fn check_refusal(&self, (text, want): Mistake, arguments: &[&str]) {
        self.write(text);
        let said = self.refusal(arguments, &[]);
        let program = format!("{}: ", self.section());
        let said = said.strip_prefix(&program).unwrap_or(&said);
        assert!(
            said.starts_with(want) && said.lines().count() == 1,
            "{text:?}: {said}"
        );
    }

    /// Returns the name of the program, which is that of its section.
    fn section(&self) -> &str {
        let name = Path::new(self.program).file_name();
        name.unwrap().to_str().unwrap()
    }

    /// Asserts that the installed file has each option of this program, at its true default.
    pub(crate) fn check_shipped_file(&self, subcommands: &[&str]) {
        let text = fs::read_to_string(SHIPPED).unwrap();
        let used: String = text.lines().map(without_mark).collect();
        let mut keys = keys_of(&used, self.section());
        keys.sort();
        let mut options = self.options(&[]);
        for subcommand in subcommands {
            options.extend(self.options(&[subcommand]));
        }
        options.sort();
        options.dedup();
        let shared = |key: &&String| SHARED.contains(&key.as_str());
        let (above, own): (Vec<_>, Vec<_>) = options.iter().partition(shared);
        assert_eq!(keys, own.into_iter().cloned().collect::<Vec<_>>());
        let written = keys_of(&used, "");
        assert_eq!(written.len(), SHARED.len());
        for key in above {
            assert!(written.contains(key), "{key}");
        }

        self.write(&text);
        let untouched = self.settings(&[], &[]);
        self.write(&used);
        let value = |settings: Settings| -> BTreeMap<String, String> {
            let values = settings.into_iter().map(|(key, (value, _))| (key, value));
            values.collect()
        };
        assert_eq!(value(self.settings(&[], &[])), value(untouched));
    }

    /// Returns the long names in the help, but for those about the file.
    fn options(&self, subcommand: &[&str]) -> Vec<String> {
        let output = Command::new(self.program)
            .env_clear()
            .args(subcommand)
            .arg("--help")
            .output()
            .unwrap();
        let (help, _) = texts(&output);
        let name = |line: &str| {
            let (_, name) = line.split_once("--").filter(|(before, _)| {
                let before = before.trim();
                before.is_empty() || (before.starts_with('-') && before.ends_with(','))
            })?;
            Some(name.split([' ', '[', '.']).next()?.to_owned())
        };
        let about_file = ["config", "check-config", "help", "version"];
        let names = help.lines().filter_map(name);
        names
            .filter(|name| !about_file.contains(&name.as_str()))
            .collect()
    }
}

/// Returns the line as it is when an administrator has removed the `#` before a key.
fn without_mark(line: &str) -> String {
    let bare = line.strip_prefix('#').unwrap_or(line);
    let key = bare.split(" = ").next().unwrap_or_default();
    let setting = bare.contains(" = ")
        && key
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b"-0123456789".contains(&b));
    format!("{}\n", if setting { bare } else { line })
}

/// Returns the keys below a section; with an empty name those above all sections.
fn keys_of(text: &str, section: &str) -> Vec<String> {
    let mut here = section.is_empty();
    let mut keys = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            here = name.trim_end_matches(']') == section;
        } else if let Some((key, _)) = line
            .split_once(" = ")
            .filter(|_| here && !line.starts_with('#'))
        {
            keys.push(key.to_owned());
        }
    }
    keys
}

pub(crate) fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Asserts that the manual page has every option and variable and that groff finds no fault, and
/// that completions know the options and are accepted by their shells.
pub(crate) fn check_generated(program: &'static str, headings: &[&str], subcommands: &[&str]) {
    let configured = Configured::new(program);
    let generate = |kind: &str| {
        let mut command = configured.command(&["--generate", kind], &[]);
        // The file, which is absent here, is not read: pages are the same on every machine.
        let output = command.env("SOURCE_DATE_EPOCH", "86400").output().unwrap();
        let (out, err) = texts(&output);
        assert!(output.status.success(), "{kind}: {err}");
        out
    };
    // As make puts it together.
    let page = generate("man") + &fs::read_to_string("man/sections.roff").unwrap();
    let plain = page.replace('\\', "");
    assert!(plain.contains("\"1970-01-02\""), "{}", &plain[..200]);
    for heading in headings {
        let quoted = format!("\n.SH \"{heading}\"\n");
        let bare = format!("\n.SH {heading}\n");
        assert!(
            plain.contains(&quoted) || plain.contains(&bare),
            "{heading}"
        );
    }
    let mut options = configured.options(&[]);
    for subcommand in subcommands {
        options.extend(configured.options(&[subcommand]));
    }
    for kind in ["complete-bash", "complete-zsh", "complete-fish"] {
        let script = generate(kind);
        for option in &options {
            assert!(script.contains(option.as_str()), "{option} in {kind}");
        }
        let shell = kind.trim_start_matches("complete-");
        accept(shell, &["-n"], &script);
    }
    for option in options
        .iter()
        .map(String::as_str)
        .chain(["config", "check-config"])
    {
        assert!(plain.contains(&format!("--{option}")), "{option}");
    }
    accept("groff", &["-man", "-ww", "-Tutf8", "-z"], &page);
}

/// Asserts that a program finds no fault with a text; says so if it is not installed.
fn accept(program: &str, arguments: &[&str], text: &str) {
    use std::io::Write as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("text");
    fs::write(&path, text).unwrap();
    match Command::new(program).args(arguments).arg(&path).output() {
        Ok(output) => {
            let (_, err) = texts(&output);
            assert!(
                output.status.success() && err.is_empty(),
                "{program}: {err}"
            );
        }
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: {program} is not installed ({error})"
            );
        }
    }
}

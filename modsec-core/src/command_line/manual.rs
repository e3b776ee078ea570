//! The manual page, from the definitions of the options and the text below the help.
//!
//! ```text
//! below the help (after_long_help)             in the page
//!
//! FILES                                        .SH FILES
//!   /etc/modsec-tools/config.toml  settings    .TP  term and description
//!                                  of all             joined with the line above
//!   A sentence that goes                       .PP  a paragraph of both lines
//!   on here.
//!
//! EXAMPLES                                     .SH EXAMPLES
//!   modsec-parser --dry-run                    .PP  each line by itself, bold
//! ```
//!
//! The text below the help is made of sections: a heading, and indented lines. A line with a gap of
//! two spaces or more is a term and its description, a line that is indented deeper goes on with
//! the one before. The order of sections is that of man-pages(7): name, synopsis, description,
//! options, subcommands, environment, then those of the text.

use std::collections::BTreeMap;
use std::io;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

/// Indentation of the lines of a section: two spaces.
const INDENT: &str = "  ";

/// Written before all else; the pieces that `clap_mangen` gives repeat it.
const PREAMBLE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

/// Returns the page in roff, dated by `SOURCE_DATE_EPOCH` so that two builds are alike.
///
/// A program's subcommands are sections of its page: they read the same file and variables.
///
/// # Errors
///
/// Those of writing, which memory does not have.
pub(super) fn page(command: Command) -> io::Result<Vec<u8>> {
    let after = command.get_after_long_help().map(ToString::to_string);
    let command = command.disable_help_subcommand(true);
    let command = command.subcommand_value_name("SUBCOMMAND");
    let man = Man::new(command.clone());
    let mut page = Page(PREAMBLE.to_owned());
    page.title(&command);
    page.add(|out| man.render_name_section(out))?;
    page.add(|out| man.render_synopsis_section(out))?;
    page.add(|out| man.render_description_section(out))?;
    page.add(|out| man.render_options_section(out))?;
    for sub in command.get_subcommands() {
        page.subcommand(&command, sub)?;
    }
    page.environment(&command)?;
    for (heading, lines) in sections(&after.unwrap_or_default()) {
        page.section(heading, &lines)?;
    }
    Ok(page.0.into_bytes())
}

/// The page so far, in roff.
struct Page(String);

impl Page {
    /// Adds what is rendered, but for its preamble.
    fn add(&mut self, render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        let mut bytes = Vec::new();
        render(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        self.0 += text.strip_prefix(PREAMBLE).unwrap_or(&text);
        Ok(())
    }

    /// Adds what is rendered, but for preamble and heading.
    fn add_body(&mut self, render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        let mut body = Page(String::new());
        body.add(render)?;
        let body = body.0.split_once('\n').map_or("", |(_, body)| body);
        self.0 += body;
        Ok(())
    }

    /// Adds the line `.TH`: name, section 8, date and version. Without `SOURCE_DATE_EPOCH` the date
    /// is empty.
    fn title(&mut self, command: &Command) {
        let epoch = std::env::var("SOURCE_DATE_EPOCH").ok();
        let time = epoch
            .and_then(|seconds| seconds.parse().ok())
            .and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
        let date = time.map(|time| time.format("%Y-%m-%d").to_string());
        let name = command.get_name().to_uppercase();
        let version = command.get_version().unwrap_or_default();
        let date = date.unwrap_or_default();
        let title = format!("\"{name}\" \"8\" \"{date}\" \"modsec\\-tools {version}\"");
        self.0 += ".TH ";
        self.0 += &title;
        self.0 += " \"modsec\\-tools\"\n";
    }

    /// Describes a subcommand by what it does not have in common with its program, and lists the
    /// rest by name.
    fn subcommand(&mut self, program: &Command, sub: &Command) -> io::Result<()> {
        let is_common = |arg: &Arg| {
            let long = arg.get_long();
            long.is_some()
                && program
                    .get_arguments()
                    .any(|other| other.get_long() == long)
        };
        let common: Vec<String> = sub
            .get_arguments()
            .filter(|arg| is_common(arg))
            .filter_map(|arg| Some(format!("--{}", arg.get_long()?)))
            .collect();
        let name = format!("{} {}", program.get_name(), sub.get_name());
        let own = sub.clone().mut_args(|arg| {
            let common = is_common(&arg);
            arg.hide(common)
        });
        let own = own.name(name.clone()).bin_name(name.clone());
        let man = Man::new(own.disable_help_flag(true));
        let about = sub.get_about().map(ToString::to_string);

        let mut roff = Roff::new();
        roff.control("SH", [name.to_uppercase().as_str()]);
        self.add(|out| roff.to_writer(out))?;
        self.add_body(|out| man.render_synopsis_section(out))?;
        self.paragraph(format!("{}.", about.unwrap_or_default()))?;
        self.add_body(|out| man.render_options_section(out))?;
        self.paragraph(format!("As above: {}.", common.join(", ")))
    }

    /// Adds one paragraph of text.
    fn paragraph(&mut self, text: String) -> io::Result<()> {
        let mut roff = Roff::new();
        roff.control("PP", []);
        roff.text([roman(text)]);
        self.add(|out| roff.to_writer(out))
    }

    /// Adds the variables of all options, sorted by name, each with the option it stands for.
    fn environment(&mut self, command: &Command) -> io::Result<()> {
        let commands = std::iter::once(command).chain(command.get_subcommands());
        let args = commands.flat_map(Command::get_arguments);
        let variables: BTreeMap<String, String> = args
            .filter_map(|arg| {
                let name = arg.get_env()?.to_string_lossy().into_owned();
                Some((name, format!("--{}", arg.get_long()?)))
            })
            .collect();
        let mut roff = Roff::new();
        roff.control("SH", ["ENVIRONMENT"]);
        roff.text([roman(
            "A variable stands for its option: it beats the configuration file, and the option on \
             the command line beats it.",
        )]);
        for (name, option) in variables {
            roff.control("TP", []);
            roff.text([bold(name)]);
            roff.text([bold(option)]);
        }
        self.add(|out| roff.to_writer(out))
    }

    /// Adds one section of the text below the help.
    fn section(&mut self, heading: &str, lines: &[&str]) -> io::Result<()> {
        let mut roff = Roff::new();
        roff.control("SH", [heading]);
        // The heading is a paragraph already.
        for (number, item) in items(heading, lines).into_iter().enumerate() {
            if let Some(term) = item.term {
                roff.control("TP", []);
                roff.text([bold(term)]);
                roff.text([roman(item.text)]);
            } else {
                if number > 0 {
                    roff.control("PP", []);
                }
                roff.text([paragraph(heading, item.text)]);
            }
        }
        self.add(|out| roff.to_writer(out))
    }
}

/// Splits the text below the help at its headings.
fn sections(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut sections: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in text.lines() {
        match sections.last_mut() {
            Some((_, lines)) if line.is_empty() || line.starts_with(INDENT) => {
                lines.push(line.strip_prefix(INDENT).unwrap_or(line));
            }
            _ => sections.push((line, Vec::new())),
        }
    }
    sections
}

/// One entry of a section: a term with its description, or a paragraph.
#[derive(Debug, PartialEq, Eq)]
struct Item {
    /// What stands before the gap; `None` for a paragraph.
    term: Option<String>,
    /// The description or the paragraph, on one line.
    text: String,
}

/// Joins lines that go on with the one before.
///
/// A line goes on if it is indented deeper, or if it follows a line of the same paragraph. In
/// `EXAMPLES` each line stands by itself. An empty line ends what came before.
fn items(heading: &str, lines: &[&str]) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut open = false;
    for line in lines {
        let deeper = line.starts_with(' ');
        let line = line.trim();
        let (term, text) = match line.split_once("  ") {
            Some((term, text)) if !deeper => (Some(term.to_owned()), text.trim()),
            _ => (None, line),
        };
        let alone = heading == "EXAMPLES" && !deeper;
        match items.last_mut() {
            _ if line.is_empty() => {}
            Some(item) if term.is_none() && open && !alone && (deeper || item.term.is_none()) => {
                item.text.push(' ');
                item.text.push_str(text);
            }
            _ => items.push(Item {
                term,
                text: text.to_owned(),
            }),
        }
        open = !line.is_empty();
    }
    items
}

/// Returns a paragraph of the section: bold in `EXAMPLES`, where it is a command.
fn paragraph(heading: &str, text: String) -> Inline {
    match heading {
        "EXAMPLES" => bold(text),
        _ => roman(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_below_the_help_becomes_sections_and_items() {
        let text = "FILES\n  /x   one\n       more\n  /y   two\n\nPRIVILEGES\n  First line\n  second \
                    line.\n\n  Next.\n\nEXAMPLES\n  a --b\n  c";
        let found: Vec<(&str, Vec<Item>)> = sections(text)
            .into_iter()
            .map(|(heading, lines)| (heading, items(heading, &lines)))
            .collect();
        let item = |term: &str, text: &str| Item {
            term: (!term.is_empty()).then(|| term.to_owned()),
            text: text.to_owned(),
        };
        let want = vec![
            ("FILES", vec![item("/x", "one more"), item("/y", "two")]),
            (
                "PRIVILEGES",
                vec![item("", "First line second line."), item("", "Next.")],
            ),
            ("EXAMPLES", vec![item("", "a --b"), item("", "c")]),
        ];
        assert_eq!(found, want);
    }
}

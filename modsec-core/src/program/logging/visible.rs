//! The last place that a log line passes: nothing in it moves the cursor, or looks like another text.

use std::borrow::Cow;
use std::io::{self, Write};

use tracing_subscriber::fmt::MakeWriter;

use super::LogFormat;
use crate::text::{is_visible, visible, visible_json};

/// Writes lines as a terminal may show them.
#[derive(Debug, Clone)]
pub(super) struct Visible<W> {
    /// Where the lines go, standard error or the log file.
    pub(super) to: W,
    /// Decides what escapes look like: those of JSON, or those of Rust.
    pub(super) format: LogFormat,
    /// The lines have the formatter's own colours, which escapes what else may start like one.
    pub(super) ansi: bool,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Visible<W> {
    type Writer = VisibleWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        VisibleWriter {
            to: self.to.make_writer(),
            format: self.format,
            ansi: self.ansi,
        }
    }
}

/// Takes whole lines.
pub(super) struct VisibleWriter<W> {
    /// Where the line goes.
    to: W,
    /// Decides what escapes look like.
    format: LogFormat,
    /// Whether escape characters stay, as colours need them.
    ansi: bool,
}

impl<W: Write> Write for VisibleWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let shown = match self.format {
            LogFormat::Json => visible_json(&text),
            LogFormat::Text => line(&text, self.ansi),
        };
        self.to.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Escapes what a terminal would not show in a line of text, but not its line feed. With `ansi` the
/// escape character stays, and what is between two of them is escaped by itself.
fn line(text: &str, ansi: bool) -> Cow<'_, str> {
    let (words, end) = match text.strip_suffix('\n') {
        Some(words) => (words, "\n"),
        None => (text, ""),
    };
    let stays = |char: char| is_visible(char) || (ansi && char == '\u{1b}');
    if words.chars().all(stays) {
        return text.into();
    }
    let shown = if ansi {
        let parts: Vec<String> = words.split('\u{1b}').map(visible).collect();
        parts.join("\u{1b}")
    } else {
        visible(words)
    };
    (shown + end).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_of_what_can_be_seen() {
        for (text, ansi, want) in [
            ("plain \"x\" П\n", false, "plain \"x\" П\n"),
            ("a\nb\n", false, "a\\nb\n"),
            (
                "a\u{202e}b\u{2028}\u{9b}c\n",
                false,
                "a\\u{202e}b\\u{2028}\\u{9b}c\n",
            ),
            (
                "\u{1b}[2mINFO\u{1b}[0m a\u{202e}\n",
                true,
                "\u{1b}[2mINFO\u{1b}[0m a\\u{202e}\n",
            ),
            ("\u{1b}[2m\n", false, "\\u{1b}[2m\n"),
            ("", false, ""),
        ] {
            assert_eq!(line(text, ansi), want, "input {text:?}");
        }
    }

    #[test]
    fn a_line_of_json_stays_json() {
        let mut out = Vec::new();
        let mut writer = VisibleWriter {
            to: &mut out,
            format: LogFormat::Json,
            ansi: false,
        };
        writer
            .write_all("{\"path\":\"\u{202e}\u{e0041}\"}\n".as_bytes())
            .unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert_eq!(shown, "{\"path\":\"\\u202e\\udb40\\udc41\"}\n");
    }
}

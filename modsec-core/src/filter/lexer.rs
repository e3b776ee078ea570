//! Words of a filter, and where they stand.

use std::ops::Range;

use super::MAX_LENGTH;
use super::error::FilterError;
use super::pattern::Pattern;

/// What ends a word that is not within quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// A space or a parenthesis.
    Space,
    /// Also a comma.
    Comma,
}

/// A word as it was written.
#[derive(Debug)]
pub(super) struct Word {
    /// Its parts between stars, with quotes taken off.
    parts: Vec<String>,
    /// Its bytes in the filter.
    pub(super) place: Range<usize>,
}

impl Word {
    /// Returns the text, if there is no star in it.
    pub(super) fn plain(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    /// Returns it as a text with stars.
    pub(super) fn into_pattern(self) -> Pattern {
        Pattern::new(self.parts)
    }
}

/// The text of a filter, and how far it was read.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    /// All of it, at most [`MAX_LENGTH`] bytes.
    text: &'t str,
    /// Offset in bytes of what comes next; always between two characters.
    at: usize,
}

impl<'t> Lexer<'t> {
    /// Begins with a text that is not too long.
    pub(super) fn new(text: &'t str) -> Result<Lexer<'t>, FilterError> {
        if text.len() > MAX_LENGTH {
            return Err(FilterError::whole(format!(
                "the filter has {} bytes, and may have {MAX_LENGTH}",
                text.len()
            )));
        }
        Ok(Lexer { text, at: 0 })
    }

    /// Returns how far it was read, in bytes from its start.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Returns what is left.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Returns the next character without taking it.
    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Goes on behind spaces, and returns the next character without taking it.
    pub(super) fn skip_spaces(&mut self) -> Option<char> {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
        self.peek()
    }

    /// Takes `text` if it is next, and returns `true` then.
    pub(super) fn take(&mut self, text: &str) -> bool {
        let is_next = self.rest().starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// Returns an error about the next so many bytes.
    pub(super) fn error_here(&self, bytes: usize, message: impl Into<String>) -> FilterError {
        self.error(self.at..self.at + bytes, message)
    }

    /// Returns an error about a place in the text, in bytes. It quotes the text with the place
    /// marked.
    pub(super) fn error(&self, place: Range<usize>, message: impl Into<String>) -> FilterError {
        FilterError::new(self.text, place, message)
    }

    /// Returns the letters, digits, `-` and `_` that are next, without taking them. Empty if a digit or a
    /// sign is first: names begin with a letter.
    pub(super) fn peek_name(&self) -> &'t str {
        let rest = self.rest();
        // Not after a look at the rest: a row of signs would be gone through once for each.
        if !rest.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return "";
        }
        let is_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
        let end = rest.find(|char| !is_name(char)).unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    }

    /// Takes one word. It may be empty: nothing was taken then.
    ///
    /// # Errors
    ///
    /// A quote that does not end, an escape that does not exist, and a parenthesis that would begin within
    /// a word.
    pub(super) fn word(&mut self, ends: Ends) -> Result<Word, FilterError> {
        let start = self.at;
        let mut parts = vec![String::new()];
        while let Some(char) = self.peek() {
            match char {
                '"' => {
                    let quoted = self.quoted()?;
                    push(&mut parts, &quoted);
                    continue;
                }
                '*' => parts.push(String::new()),
                '(' if self.at > start => {
                    return Err(self.error(
                        start..self.at + 1,
                        "a parenthesis within a word: expected a space before it, or quotes around the text",
                    ));
                }
                '(' | ')' => break,
                ',' if ends == Ends::Comma => break,
                char if char.is_whitespace() => break,
                char => push(&mut parts, char.encode_utf8(&mut [0; 4])),
            }
            self.at += char.len_utf8();
        }
        Ok(Word {
            parts,
            place: start..self.at,
        })
    }

    /// Takes a text in quotes, and returns what is in it.
    fn quoted(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.at = start + at + 1;
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => text.push(escaped),
                    Some((end, other)) => {
                        let place = start + at..start + end + other.len_utf8();
                        let message = "unknown escape in quotes: expected \\\" or \\\\";
                        return Err(self.error(place, message));
                    }
                    None => break,
                },
                char => text.push(char),
            }
        }
        Err(self.error(
            start..start + 1,
            "expected a second quote: this one is never closed",
        ))
    }
}

/// Appends to the last part, the one behind the last star.
fn push(parts: &mut [String], text: &str) {
    if let Some(part) = parts.last_mut() {
        part.push_str(text);
    }
}

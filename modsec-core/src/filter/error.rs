//! Why a text is no filter, and where.

use std::fmt;
use std::ops::Range;

use crate::text::visible;

/// Characters of the filter that are shown before the place, and behind it.
const CONTEXT: usize = 30;

/// Why a text is no filter.
///
/// [`Display`](fmt::Display) writes three lines: what is wrong and what is expected, the filter (a long
/// one in part), and a mark below the place:
///
/// ```text
/// unknown name "ip": did you mean client?
///   host:shop.* ip:192.0.2.7
///               ^^
/// ```
///
/// What a terminal would not show as it is stands there escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// What is wrong, on one line.
    message: String,
    /// Bytes of the filter that are to blame. May be empty, also at its end.
    place: Range<usize>,
    /// The line with the filter, and the one with the mark. Empty if there is nothing to show.
    picture: String,
}

impl FilterError {
    /// Returns the error with this message about `place` in `text`.
    pub(super) fn new(text: &str, place: Range<usize>, message: impl Into<String>) -> FilterError {
        FilterError {
            message: message.into(),
            picture: picture(text, &place),
            place,
        }
    }

    /// Returns the error about a text of which nothing is shown.
    pub(super) fn whole(message: String) -> FilterError {
        FilterError {
            message,
            place: 0..0,
            picture: String::new(),
        }
    }

    /// Returns what is wrong and what is expected, on one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns which bytes of the text are to blame, for an editor that marks them itself. May be an empty
    /// range: something is missing there.
    pub fn place(&self) -> Range<usize> {
        self.place.clone()
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.message, self.picture)
    }
}

impl std::error::Error for FilterError {}

/// Returns the line of the filter around the place, and a line that marks it, each behind a line feed.
fn picture(text: &str, place: &Range<usize>) -> String {
    let part = |range: Range<usize>| text.get(range).unwrap_or_default();
    let before = part(0..place.start);
    let marked = part(place.start..place.end.min(text.len()));
    let behind = part(place.end.min(text.len())..text.len());
    let start = before.char_indices().rev().nth(CONTEXT - 1);
    let start = start.map_or(0, |(start, _)| start);
    let before_shown = visible(before.get(start..).unwrap_or_default());
    let dots = if start > 0 { "…" } else { "" };
    let marked = beginning(marked, CONTEXT);
    let behind = beginning(behind, CONTEXT);
    let indent = " ".repeat(before_shown.chars().count() + dots.chars().count());
    let carets = "^".repeat(marked.chars().count().max(1));
    format!("\n  {dots}{before_shown}{marked}{behind}\n  {indent}{carets}")
}

/// Returns at most so many characters, made visible, and dots if there are more.
fn beginning(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => visible(text.get(..end).unwrap_or_default()) + "…",
        None => visible(text),
    }
}

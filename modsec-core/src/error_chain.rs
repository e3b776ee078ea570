//! An error with its causes as one line, as programs print it.

use std::error::Error;
use std::fmt::Write as _;

use crate::text::visible;

/// Returns `error` and its causes as `a: b: c`.
///
/// What was said is not repeated: some libraries put their cause into their own text, and some causes
/// are the same text with a number before it. What a terminal would not show is escaped, because site users choose
/// paths, and clients choose what an error quotes.
///
/// ```
/// use std::io;
///
/// let error = io::Error::other("no\nspace");
/// assert_eq!(modsec_core::error_chain(&error), r"no\nspace");
/// ```
pub fn error_chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut last = text.clone();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) && !next.ends_with(&last) {
            let _ = write!(text, ": {next}");
            last = next;
        }
        cause = error.source();
    }
    visible(&text)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer: no space")]
    struct Outer(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open {0}")]
    struct Inner(&'static str, #[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn the_chain_is_one_line_without_repetition_and_without_control_bytes() {
        let error = Inner("/var/log/a\x1b[31m\nb", io::Error::other("no space"));
        assert_eq!(
            error_chain(&error),
            r"cannot open /var/log/a\u{1b}[31m\nb: no space"
        );
        let outer = Outer(io::Error::other("no space"));
        assert_eq!(error_chain(&outer), "outer: no space");
        let twice = Said("is full", Some(Box::new(Said("code 13: is full", None))));
        assert_eq!(error_chain(&twice), "is full");
    }
}

//! Cutting a growing log into lines, in bounded memory.
//!
//! ```text
//! let mut lines = Lines::default();
//! loop {
//!     tail.read(lines.buffer())?;                  // append what is new
//!     while let Some(line) = lines.next() { … }    // whole lines only
//! }                                                // checkpoint: tail.checkpoint(lines.unread())
//! ```
//!
//! A line without end, which a client may cause in a log that escapes nothing, costs no more than
//! 64 KiB and what was appended last.

/// Longest line in bytes, without its end. `ModSecurity` 2 cuts its index lines at 3,980 bytes.
const MAX_LINE: usize = 64 * 1024;

/// Cuts what is appended to [`Lines::buffer`] into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// What was appended and not dropped yet.
    bytes: Vec<u8>,
    /// Bytes of it that were returned as lines already.
    used: usize,
    /// Whether `bytes` begins inside a line that is too long and was reported.
    skipping: bool,
}

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'b> {
    /// All bytes of a line, at most [`MAX_LINE`].
    Whole(&'b [u8]),
    /// A line of more than [`MAX_LINE`] bytes, reported once and skipped to its end.
    TooLong,
}

impl Lines {
    /// Returns the buffer, to append the next bytes to. Never remove any.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Returns the next line; `None` if its end has not been appended yet.
    pub(crate) fn next(&mut self) -> Option<Line<'_>> {
        loop {
            let rest = self.bytes.get(self.used..).unwrap_or_default();
            let Some(len) = memchr::memchr(b'\n', rest) else {
                let is_too_long = rest.len() > MAX_LINE;
                if is_too_long || self.skipping {
                    self.used = self.bytes.len();
                }
                self.bytes.drain(..self.used);
                self.used = 0;
                let first = is_too_long && !std::mem::replace(&mut self.skipping, true);
                return first.then_some(Line::TooLong);
            };
            let start = self.used;
            self.used += len + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if len > MAX_LINE {
                return Some(Line::TooLong);
            }
            return self.bytes.get(start..start + len).map(Line::Whole);
        }
    }

    /// Returns what stands behind the last line end. Call it when the log is complete: after it,
    /// the same bytes do not come again as the beginning of a line.
    pub(crate) fn rest(&mut self) -> Option<Line<'_>> {
        let start = std::mem::replace(&mut self.used, self.bytes.len());
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty());
        rest.filter(|_| !self.skipping).map(Line::Whole)
    }

    /// Returns how many bytes were appended and are in no line that was returned. A checkpoint lies
    /// so many bytes before the place up to which the log was read.
    pub(crate) fn unread(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Drops everything: what is appended next comes from another file.
    pub(crate) fn clear(&mut self) {
        *self = Lines::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_left_out_in_bounded_memory() {
        let endless = "x".repeat(5 * MAX_LINE);
        let text = format!("a\n{endless}\nb\n{endless}");
        let mut lines = Lines::default();
        let mut got = Vec::new();
        for chunk in text.as_bytes().chunks(1000) {
            lines.buffer().extend_from_slice(chunk);
            while let Some(line) = lines.next() {
                got.push(matches!(line, Line::Whole(_)));
            }
            assert!(lines.bytes.len() <= MAX_LINE + 1000);
        }
        assert_eq!(got, [true, false, true, false]);
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn a_last_line_without_end_is_there_for_who_asks() {
        let mut lines = Lines::default();
        lines.buffer().extend_from_slice(b"one\ntwo");
        assert_eq!(lines.next(), Some(Line::Whole(b"one")));
        assert_eq!(lines.next(), None);
        assert_eq!(lines.unread(), 3);
        assert_eq!(lines.rest(), Some(Line::Whole(b"two")));
        assert_eq!(lines.rest(), None);
        assert_eq!(lines.unread(), 0);
    }
}

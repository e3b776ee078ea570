//! Bytes on their way to becoming lines, in bounded memory.

/// Longest line (`ModSecurity` 2 cuts its index lines at 3980 bytes), with room. What is longer is
/// no line.
const MAX_LINE: usize = 64 * 1024;

/// Cuts what is appended to [`Lines::buffer`] into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    bytes: Vec<u8>,
    used: usize,
    /// In the middle of a line that is too long.
    skipping: bool,
}

/// A whole line without its end, or one that is too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'b> {
    Whole(&'b [u8]),
    TooLong,
}

impl Lines {
    /// Returns the buffer, to append the next bytes to.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Returns the next line; `None` if that takes more bytes.
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

    /// Takes what stands behind the last line end, at the end of a log.
    pub(crate) fn rest(&mut self) -> Option<Line<'_>> {
        let start = std::mem::replace(&mut self.used, self.bytes.len());
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty());
        rest.filter(|_| !self.skipping).map(Line::Whole)
    }

    /// Returns how many bytes were appended and are in no line that was returned.
    pub(crate) fn unread(&self) -> usize {
        self.bytes.len() - self.used
    }

    /// Forgets what was appended.
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

//! Logs whose lines end as on Windows, after a copy by way of that or of git.
//!
//! ```text
//! --3fa0c41b-A--␍␊      as the engine writes it: --3fa0c41b-A--␊
//! ```
//!
//! In such a copy each LF has become CR LF, so the CR is taken off each of them again: the entries are
//! those of the log that was copied, and known if that was read, too. The first line tells: no engine
//! ends that with CR LF. What a body has of them is as it was sent, in any other log.

use std::io::{self, Read};

use super::BOM;
use crate::format::native::Boundary;

/// Bytes within which the first line must end, to be one of a copy.
const MAX_HEAD: usize = 64 * 1024;

/// Returns `true` if a log that begins with `head` is such a copy; `None` if that takes more bytes.
fn is_copy(head: &[u8]) -> Option<bool> {
    let text = head.strip_prefix(BOM).unwrap_or(head);
    let Some(line_end) = memchr::memchr(b'\n', text) else {
        return (head.len() >= MAX_HEAD).then_some(false);
    };
    let line = text
        .get(..line_end)
        .and_then(|line| line.strip_suffix(b"\r"));
    Some(line.is_some_and(|line| {
        Boundary::open(line).is_some() || line.starts_with(b"{\"transaction\":{")
    }))
}

/// Returns `true` if a log that begins with `head` is such a copy.
#[cfg(feature = "jobs")]
pub(crate) fn has_windows_line_ends(head: &[u8]) -> bool {
    is_copy(head) == Some(true)
}

/// Returns such a copy as the engine wrote it.
#[cfg(feature = "jobs")]
pub(crate) fn without_cr(copy: Vec<u8>) -> Vec<u8> {
    let mut reader = LineEnds::new(io::empty());
    reader.held = copy;
    reader.strip();
    if reader.has_cr {
        reader.held.push(b'\r');
    }
    reader.held
}

/// Reads a log as the engine wrote it, also from such a copy.
#[derive(Debug)]
pub(crate) struct LineEnds<R> {
    /// The log as it is on the disk.
    reader: R,
    /// Bytes that were read, and how many of them were handed out.
    held: Vec<u8>,
    /// How many of these bytes were handed out already.
    used: usize,
    /// Whether it is a copy, once that is known.
    is_copy: Option<bool>,
    /// Whether a CR was held back: its LF may come.
    has_cr: bool,
}

/// Bytes read at a time.
const CHUNK: usize = 16 * 1024;

impl<R: Read> LineEnds<R> {
    /// Begins at the start of a log: nothing is read before the first call of `read`.
    pub(crate) fn new(reader: R) -> LineEnds<R> {
        LineEnds {
            reader,
            held: Vec::new(),
            used: 0,
            is_copy: None,
            has_cr: false,
        }
    }

    /// Reads a piece behind what is held; returns how many bytes came.
    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; CHUNK];
        let got = self.reader.read(&mut piece)?;
        self.held
            .extend_from_slice(piece.get(..got).unwrap_or_default());
        Ok(got)
    }

    /// Reads the first line. Nothing is lost if reading fails.
    fn decide(&mut self) -> io::Result<()> {
        while self.is_copy.is_none() {
            self.is_copy = is_copy(&self.held);
            if self.is_copy.is_none() && self.fill()? == 0 {
                self.is_copy = Some(false);
            }
        }
        if self.is_copy == Some(true) {
            self.strip();
        }
        Ok(())
    }

    /// Takes the CR off each CR LF that is held.
    fn strip(&mut self) {
        let mut kept = Vec::with_capacity(self.held.len() + 1);
        for byte in std::mem::take(&mut self.held) {
            if std::mem::take(&mut self.has_cr) && byte != b'\n' {
                kept.push(b'\r');
            }
            if byte == b'\r' {
                self.has_cr = true;
            } else {
                kept.push(byte);
            }
        }
        self.held = kept;
    }
}

impl<R: Read> Read for LineEnds<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_copy.is_none() {
            self.decide()?;
        }
        loop {
            let rest = self.held.get(self.used..).unwrap_or_default();
            if !rest.is_empty() {
                let len = rest.len().min(buffer.len());
                let (now, _) = rest.split_at(len);
                buffer
                    .iter_mut()
                    .zip(now)
                    .for_each(|(to, from)| *to = *from);
                self.used += len;
                return Ok(len);
            }
            (self.held, self.used) = (Vec::new(), 0);
            if self.is_copy != Some(true) {
                return self.reader.read(buffer);
            }
            if self.fill()? > 0 {
                self.strip();
            } else if std::mem::take(&mut self.has_cr) {
                self.held.push(b'\r');
            } else {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at a time.
    struct Steps<'b>(&'b [u8], usize);

    impl Read for Steps<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(self.1);
            self.0.read(&mut buffer[..most])
        }
    }

    #[test]
    fn each_line_end_of_a_copy_loses_its_cr_and_nothing_else() {
        for (log, want) in [
            (
                "--3fa0c41b-A--\r\na\r\r\nb\rc\r",
                "--3fa0c41b-A--\na\r\nb\rc\r",
            ),
            (
                "\u{feff}--3fa0c41b-A--\r\n\r\n",
                "\u{feff}--3fa0c41b-A--\n\n",
            ),
            (
                "{\"transaction\":{}}\r\n{}\r\n",
                "{\"transaction\":{}}\n{}\n",
            ),
            // Not the first line of a log.
            ("--3fa0c41b-A--\na\r\n", "--3fa0c41b-A--\na\r\n"),
            ("a\r\n--3fa0c41b-A--\r\n", "a\r\n--3fa0c41b-A--\r\n"),
            ("--3fa0c41b-A--\r", "--3fa0c41b-A--\r"),
            ("", ""),
        ] {
            for step in 1..40 {
                let mut got = Vec::new();
                let mut reader = LineEnds::new(Steps(log.as_bytes(), step));
                let mut buffer = [0; 3];
                loop {
                    let len = reader.read(&mut buffer).unwrap();
                    got.extend_from_slice(&buffer[..len]);
                    if len == 0 {
                        break;
                    }
                }
                assert_eq!(
                    String::from_utf8(got).unwrap(),
                    want,
                    "{log:?}, steps of {step}"
                );
            }
        }
        let long = "x".repeat(MAX_HEAD) + "\r\n";
        assert_eq!(is_copy(long.as_bytes()), Some(false));
        let mut got = String::new();
        LineEnds::new(long.as_bytes())
            .read_to_string(&mut got)
            .unwrap();
        assert_eq!(got, long);
    }
}

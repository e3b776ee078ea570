//! Delimiter lines.

use std::fmt;

/// The eight hexadecimal digits that the delimiter lines of one entry share.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Boundary([u8; 8]);

/// `--` + boundary + `-` + letter + `--`.
pub(super) const LINE: usize = 14;

impl Boundary {
    /// Reads the delimiter line at the start of `bytes` and returns its boundary and letter.
    ///
    /// The line is exact: nothing before or behind the dashes, letters A to Z, lower-case digits.
    pub fn open(bytes: &[u8]) -> Option<(Boundary, char)> {
        let line: &[u8; LINE] = bytes.first_chunk()?;
        if !matches!(bytes.get(LINE), None | Some(b'\n')) {
            return None;
        }
        let [
            b'-',
            b'-',
            b1,
            b2,
            b3,
            b4,
            b5,
            b6,
            b7,
            b8,
            b'-',
            letter @ b'A'..=b'Z',
            b'-',
            b'-',
        ] = *line
        else {
            return None;
        };
        let digits = [b1, b2, b3, b4, b5, b6, b7, b8];
        digits
            .iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            .then_some((Boundary(digits), char::from(letter)))
    }

    /// Makes a boundary of four bytes, as the engine does.
    pub fn new(bytes: [u8; 4]) -> Boundary {
        let mut digits = [0; 8];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = if value < 10 {
                    b'0' + value
                } else {
                    b'a' + value - 10
                };
            }
        }
        Boundary(digits)
    }

    /// Returns the delimiter line of part `letter`, without LF.
    pub fn line(self, letter: char) -> String {
        format!("--{self}-{letter}--")
    }

    /// Returns what a delimiter line starts with.
    pub(super) fn prefix(self) -> [u8; 11] {
        let mut prefix = [b'-'; 11];
        for (to, from) in prefix.iter_mut().skip(2).zip(self.0) {
            *to = from;
        }
        prefix
    }

    /// Tells whether `bytes` end with part Z of this boundary.
    pub(crate) fn closes(self, bytes: &[u8]) -> bool {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        // A serial log has an empty line behind each entry.
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        bytes
            .strip_suffix(b"-Z--")
            .and_then(|bytes| bytes.strip_suffix(&self.0))
            .is_some_and(|bytes| bytes.ends_with(b"\n--"))
    }
}

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl fmt::Debug for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delimiter_is_a_whole_line() {
        let boundary = Boundary::new([0x3f, 0xa0, 0xc4, 0x1b]);
        let want = Some((boundary, 'A'));
        assert_eq!(Boundary::open(b"--3fa0c41b-A--\nx"), want);
        assert_eq!(Boundary::open(b"--3fa0c41b-A--"), want);
        for bad in [
            "--3fa0c41b-A-- \n",
            "--3fa0c41b-A--\r\n",
            " --3fa0c41b-A--\n",
            "--3FA0C41B-A--\n",
            "--3fa0c41-A--\n",
            "--3fa0c41b1-A--\n",
            "--3fa0c41b-a--\n",
            "--3fa0c41b-A-",
            "",
        ] {
            assert_eq!(Boundary::open(bad.as_bytes()), None, "input {bad:?}");
        }
        assert_eq!(boundary.line('K'), "--3fa0c41b-K--");
        assert_eq!(&boundary.prefix(), b"--3fa0c41b-");
    }
}

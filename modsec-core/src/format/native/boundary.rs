//! Delimiter lines.
//!
//! ```text
//! --3fa0c41b-A--         ModSecurity 2
//! ---Qx7Lm2Rt---A--      libmodsecurity
//! --QxaLmbRtcd-A--       Coraza
//! `prefix---´ `- letter
//! ```
//!
//! The id is random, but no secret. ModSecurity 2 takes four bytes of `rand()`, seeded once in the
//! parent process; with MPM-ITK, which forks for every connection, the first requests of all
//! connections of one child can have the same id, and whoever can read one entry of his own knows it.
//! libmodsecurity seeds with the second at which the server was started.

use std::fmt;

use crate::format::Dialect;

impl Dialect {
    /// Returns the length of what stands before the letter, in bytes.
    const fn prefix_len(self) -> usize {
        let (before, behind) = self.traits().dashes;
        before.len() + self.traits().id_len + behind.len()
    }

    /// Returns the length of a delimiter line, without LF, in bytes.
    const fn line_len(self) -> usize {
        self.prefix_len() + b"A--".len()
    }

    /// Reads a delimiter line of this engine at the start of `bytes`. LF or the end of `bytes`
    /// must follow.
    fn open(self, bytes: &[u8]) -> Option<(Boundary, char)> {
        let line = bytes.get(..self.line_len())?;
        if !matches!(bytes.get(self.line_len()), None | Some(b'\n')) {
            return None;
        }
        let (prefix, end) = line.split_at_checked(self.prefix_len())?;
        let [letter @ b'A'..=b'Z', b'-', b'-'] = *end else {
            return None;
        };
        let (before, behind) = self.traits().dashes;
        let id = prefix.strip_prefix(before)?.strip_suffix(behind)?;
        id.iter()
            .all(|byte| self.traits().id_bytes.contains(*byte))
            .then(|| (Boundary::of(self, prefix), char::from(letter)))
    }
}

/// What the delimiter lines of one entry share: the engine's dashes and a random id.
///
/// ```
/// use modsec_core::format::native::Boundary;
///
/// let (boundary, letter) = Boundary::open(b"--3fa0c41b-B--\nGET / HTTP/1.1\n").unwrap();
/// assert_eq!((boundary.to_string().as_str(), letter), ("3fa0c41b", 'B'));
/// assert_eq!(boundary.line('Z'), "--3fa0c41b-Z--");
/// assert!(boundary.closes(b"x\n--3fa0c41b-Z--\n"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Boundary {
    /// The dialect, which the form of the line tells.
    dialect: Dialect,
    /// What a line starts with, up to its letter; zeros behind it.
    prefix: [u8; MAX_PREFIX],
}

/// The longest prefix is libmodsecurity's, with six dashes around eight letters.
const MAX_PREFIX: usize = Dialect::V3.prefix_len();

impl Boundary {
    /// Length of the longest delimiter line of any dialect, without LF.
    pub const MAX_LINE: usize = Dialect::V3.line_len();

    /// Reads the delimiter line at the start of `bytes` and returns its boundary and letter.
    ///
    /// The line is exact: nothing before or behind the dashes, letters A to Z, an id as the
    /// dialect has it. LF or the end of `bytes` must follow.
    pub fn open(bytes: &[u8]) -> Option<(Boundary, char)> {
        Dialect::ALL
            .into_iter()
            .find_map(|dialect| dialect.open(bytes))
    }

    /// Reads the first line of an entry at the end of `line`, which has no LF: where it begins, and
    /// its boundary. Something else may stand before it, as behind an entry that a full disk cut
    /// off within a line.
    pub(crate) fn last_opening(line: &[u8]) -> Option<(usize, Boundary)> {
        Dialect::ALL.into_iter().find_map(|dialect| {
            let start = line.len().checked_sub(dialect.line_len())?;
            let (boundary, letter) = dialect.open(line.get(start..)?)?;
            (letter == 'A').then_some((start, boundary))
        })
    }

    /// Returns the boundary of a prefix, which has at most [`MAX_PREFIX`] bytes.
    fn of(dialect: Dialect, prefix: &[u8]) -> Boundary {
        let mut bytes = [0; MAX_PREFIX];
        for (to, from) in bytes.iter_mut().zip(prefix) {
            *to = *from;
        }
        Boundary {
            dialect,
            prefix: bytes,
        }
    }

    /// Returns the dialect that such a boundary belongs to.
    pub fn dialect(self) -> Dialect {
        self.dialect
    }

    /// Returns the delimiter line of part `letter`, without LF.
    pub fn line(self, letter: char) -> String {
        let prefix = self.prefix().iter().copied().map(char::from);
        prefix.chain([letter, '-', '-']).collect()
    }

    /// Returns the letter of the delimiter line of this boundary at the start of `bytes`, which begin
    /// with its [prefix](Self::prefix).
    pub(super) fn letter(self, bytes: &[u8]) -> Option<u8> {
        match bytes.get(self.dialect.prefix_len()..)? {
            [letter @ b'A'..=b'Z', b'-', b'-'] | [letter @ b'A'..=b'Z', b'-', b'-', b'\n', ..] => {
                Some(*letter)
            }
            _ => None,
        }
    }

    /// Returns the length of a delimiter line, without LF.
    pub fn line_len(self) -> usize {
        self.dialect.line_len()
    }

    /// Returns what each of its delimiter lines starts with, up to the letter.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.prefix
            .get(..self.dialect.prefix_len())
            .unwrap_or_default()
    }

    /// Returns `true` if `bytes` end with part Z of this boundary.
    ///
    /// Up to eight line feeds may follow the line. `ModSecurity` 2 writes one, and one more in a
    /// serial log; the others write two; editors and scripts that split a log add some.
    pub fn closes(self, bytes: &[u8]) -> bool {
        without_last_lfs(bytes)
            .strip_suffix(b"Z--")
            .and_then(|bytes| bytes.strip_suffix(self.prefix()))
            .is_some_and(|bytes| bytes.ends_with(b"\n"))
    }

    /// Returns `true` if `bytes`, which stand behind an entry of this boundary, end with part Z of
    /// another one that the same engine has appended. Only libmodsecurity does.
    pub(crate) fn is_followed_by_end(self, bytes: &[u8]) -> bool {
        let bytes = without_last_lfs(bytes);
        let last = memchr::memrchr(b'\n', bytes).and_then(|before| bytes.get(before + 1..));
        let end = last.and_then(Boundary::open);
        self.dialect.appends()
            && end.is_some_and(|(other, letter)| other.dialect == self.dialect && letter == 'Z')
    }
}

/// Line feeds behind the last line of an entry, with its own, at the most.
pub(super) const MAX_LAST_LFS: usize = 8;

/// Returns the bytes without the LFs at their end, of which at most [`MAX_LAST_LFS`] are taken
/// off.
fn without_last_lfs(bytes: &[u8]) -> &[u8] {
    let last = bytes.iter().rev().take(MAX_LAST_LFS);
    let lfs = last.take_while(|byte| **byte == b'\n').count();
    bytes.get(..bytes.len() - lfs).unwrap_or_default()
}

/// Writes the id alone.
impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.prefix()
            .iter()
            .filter(|byte| **byte != b'-')
            .try_for_each(|byte| write!(f, "{}", char::from(*byte)))
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
        for (line, dialect, id) in [
            ("--3fa0c41b-A--", Dialect::V2, "3fa0c41b"),
            ("---Qx7Lb2Rt---A--", Dialect::V3, "Qx7Lb2Rt"),
            ("---1234567b---A--", Dialect::V3, "1234567b"),
            ("--QxaLmbRtcd-A--", Dialect::Coraza, "QxaLmbRtcd"),
        ] {
            let (boundary, letter) = Boundary::open(line.as_bytes()).unwrap();
            assert_eq!((boundary.dialect(), letter), (dialect, 'A'), "{line}");
            assert_eq!(boundary.to_string(), id);
            assert_eq!(boundary.line('A'), line);
            assert_eq!(boundary.line_len(), line.len());
            assert!(line.len() <= Boundary::MAX_LINE);
            let want = Some((boundary, 'K'));
            let other = line.replace('A', "K");
            assert_eq!(Boundary::open(format!("{other}\nx").as_bytes()), want);
            for bad in [
                format!("{line} \n"),
                format!("{line}\r\n"),
                format!("{line}-"),
                format!(" {line}\n"),
                format!("-{line}"),
                format!("\n{line}"),
                line.replace("A-", "a-"),
                line.replace("-A", "-"),
                line.replace("A--", "A-"),
                line.replace(id, &format!("{id}a")),
                line.replace(id, ""),
                line.replace(id, &id.replace('b', "")),
                line.replace(id, &id.replace('b', ".")),
            ] {
                assert_eq!(Boundary::open(bad.as_bytes()), None, "input {bad:?}");
            }
        }
    }

    #[test]
    fn the_first_line_of_an_entry_is_found_behind_what_was_cut() {
        for line in ["--3fa0c41b-A--", "---Qx7Lb2Rt---A--", "--QxaLmbRtcd-A--"] {
            let (boundary, _) = Boundary::open(line.as_bytes()).unwrap();
            for before in [
                "",
                "-",
                "--",
                "Stopwatch: 17",
                "--3fa0c41b-",
                "---Qx7Lb2Rt---A-",
            ] {
                let text = format!("{before}{line}");
                let want = Some((before.len(), boundary));
                assert_eq!(Boundary::last_opening(text.as_bytes()), want, "{text}");
            }
            for none in [
                format!("{line} "),
                line.replace("-A-", "-B-"),
                line.replace("-A-", "A-"),
            ] {
                assert_eq!(Boundary::last_opening(none.as_bytes()), None, "{none}");
            }
        }
    }

    #[test]
    fn each_engine_has_its_own_alphabet() {
        for bad in [
            "--3FA0C41B-A--",
            "--3fa0c41g-A--",
            "--3fa0c41b1a-A--",
            "--abcdefghi1-A--",
            "---Qx7Lm2R----A--",
            "---QxaLmbRtcd---A--",
            "--3fa0c41b---A--",
            "---3fa0c41b-A--",
            "",
        ] {
            assert_eq!(Boundary::open(bad.as_bytes()), None, "input {bad:?}");
        }
        let (boundary, _) = Boundary::open(b"--3fa0c41b-A--").unwrap();
        assert_eq!(boundary.prefix(), b"--3fa0c41b-");
    }

    #[test]
    fn part_z_of_the_same_boundary_closes_an_entry() {
        for line in ["--3fa0c41b-Z--", "---Qx7Lm2Rt---Z--", "--QxaLmbRtcd-Z--"] {
            let (boundary, _) = Boundary::open(line.as_bytes()).unwrap();
            for (bytes, want) in [
                (format!("x\n{line}"), true),
                (format!("x\n{line}\n"), true),
                (format!("x\n{line}\n\n"), true),
                (format!("x\n{line}\n\n\n"), true),
                (format!("x\n{line}{}", "\n".repeat(8)), true),
                (format!("x\n{line}{}", "\n".repeat(9)), false),
                (format!("x\n{line}\nx"), false),
                (format!("x{line}\n\n"), false),
                (format!("x\n{}\n\n", line.replace('Z', "H")), false),
                (format!("x\n-{line}\n"), false),
                (line.to_owned(), false),
            ] {
                assert_eq!(boundary.closes(bytes.as_bytes()), want, "{bytes:?}");
            }
        }
    }
}

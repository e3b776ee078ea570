//! Finding delimiter lines, in memory or in windows over a file of any size.
//!
//! Only lines of the entry's own boundary count, each a whole line with an LF before it:
//!
//! ```text
//! --3fa0c41b-A--            start 0,  end 15      found
//! x--3fa0c41b-B--                                 no: not at the start of a line
//! --00000000-B--                                  no: another boundary
//! --3fa0c41b-B-- ␠                                no: more than the line
//! ```
//!
//! Which of them are genuine is for `framing` to say.

use memchr::memmem::Finder;

use super::boundary::{Boundary, MAX_LAST_LFS};
use crate::format::{Defect, FirstBytes, unrecognized};

/// Delimiter lines remembered of one entry, half of them from its beginning and half from its
/// end. A genuine entry has ten; a body may hold millions.
const MAX_DELIMITERS: usize = 4096;

/// First lines that are remembered of one entry besides its own. One is enough to doubt whose the
/// lines behind it are.
pub(super) const MAX_OPENINGS: usize = 64;

/// A delimiter line of the entry's own boundary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delimiter {
    /// Letter of the part that it begins.
    pub(super) letter: u8,
    /// Offset of its first dash.
    pub(super) start: u64,
    /// Offset behind its LF, or behind its last dash at the end of the entry.
    pub(super) end: u64,
}

/// Where the delimiter lines of an entry stand.
#[derive(Debug, Clone)]
pub(in crate::format) struct Outline {
    /// The boundary of the first line.
    pub(super) boundary: Boundary,
    /// In the order of the bytes.
    pub(super) delimiters: Vec<Delimiter>,
    /// Offsets of further first lines, up to [`MAX_OPENINGS`]. Unlike other delimiters, they may also
    /// stand behind something else in a line: behind an entry that was cut off there.
    pub(super) openings: Vec<u64>,
    /// Index of the oldest delimiter in the second half, which is a ring once it is full.
    oldest: usize,
    /// Whether it has a file of its own, so that no other entry can begin in it.
    pub(in crate::format) is_alone: bool,
    /// Whether some were dropped from the middle.
    pub(super) gap: bool,
    /// Length of the entry as far as it was scanned.
    pub(super) len: u64,
    /// LFs at the end of what was scanned, as far as they matter.
    last_lfs: usize,
    /// Offset up to which delimiters were looked for.
    next: u64,
}

impl Outline {
    /// Bytes that two windows must share, so that no delimiter is missed: a line, the LF before
    /// and the LF behind it.
    pub(in crate::format) const OVERLAP: usize = Boundary::MAX_LINE + 2;

    /// Takes the boundary from the first line.
    ///
    /// # Errors
    ///
    /// [`Defect`] if `head` does not start with a delimiter line.
    pub(in crate::format) fn open(head: &[u8]) -> Result<Outline, Defect> {
        if head.is_empty() {
            return Err(Defect::Empty);
        }
        let (boundary, _) =
            Boundary::open(head).ok_or_else(|| unrecognized(head, FirstBytes::of(head)))?;
        Ok(Outline {
            boundary,
            delimiters: Vec::new(),
            openings: Vec::new(),
            oldest: 0,
            is_alone: false,
            gap: false,
            len: 0,
            last_lfs: 0,
            next: 0,
        })
    }

    /// Looks for delimiter lines in `window`, which starts at `offset` of the entry.
    ///
    /// Windows come in order, without gaps, and each starts at least [`Outline::OVERLAP`] bytes
    /// before the previous one ended. `last` says that the entry ends with this window.
    pub(in crate::format) fn scan(&mut self, window: &[u8], offset: u64, last: bool) {
        let own = self.boundary;
        let line_len = own.line_len();
        let finder = Finder::new(own.prefix());
        let end = offset + window.len() as u64;
        let mut at = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        while let Some(found) = window.get(at..).and_then(|rest| finder.find(rest)) {
            let start = at + found;
            at = start + 1;
            let behind = window.get(start..).unwrap_or_default();
            if behind.len() <= line_len && !last {
                // The line may go on in the next window.
                at = start;
                break;
            }
            let line_start = match start.checked_sub(1) {
                Some(before) => window.get(before) == Some(&b'\n'),
                None => offset == 0,
            };
            let Some(letter) = own.letter(behind) else {
                continue;
            };
            let start = offset + start as u64;
            if letter == b'A' && start > 0 && self.openings.len() < MAX_OPENINGS {
                self.openings.push(start);
            }
            if line_start {
                at += line_len - 1;
                let lf = u64::from(behind.len() > line_len);
                self.push(Delimiter {
                    letter,
                    start,
                    end: start + line_len as u64 + lf,
                });
            }
        }
        // Where nothing was found, a delimiter may still begin in the last bytes.
        let searched = window.len().saturating_sub(if last { 0 } else { line_len });
        self.next = offset + at.max(searched).min(window.len()) as u64;
        if end > self.len {
            self.len = end;
            // More than so many bytes are in both windows, or the entry begins with this one.
            let last = window.iter().rev().take(MAX_LAST_LFS);
            self.last_lfs = last.take_while(|byte| **byte == b'\n').count();
        }
        if last {
            let half = MAX_DELIMITERS / 2;
            if let Some(ring) = self.delimiters.get_mut(half..) {
                ring.rotate_left(self.oldest);
            }
            self.oldest = 0;
        }
    }

    /// Returns `true` if the entry ends with `last`, or with empty lines behind it: a serial log has one
    /// behind each entry.
    pub(super) fn ends_with(&self, last: &Delimiter) -> bool {
        // The LF of the line is one of them.
        let most = MAX_LAST_LFS.min(self.last_lfs).saturating_sub(1);
        self.len - last.end <= most as u64
    }

    /// Keeps a delimiter; once there is no room, in the place of the oldest of the second half, so
    /// that those at the beginning and at the end remain.
    fn push(&mut self, delimiter: Delimiter) {
        if self.delimiters.len() < MAX_DELIMITERS {
            self.delimiters.push(delimiter);
            return;
        }
        let half = MAX_DELIMITERS / 2;
        self.gap = true;
        if let Some(oldest) = self.delimiters.get_mut(half + self.oldest) {
            *oldest = delimiter;
        }
        self.oldest = (self.oldest + 1) % half;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letters(outline: &Outline) -> String {
        outline
            .delimiters
            .iter()
            .map(|delimiter| char::from(delimiter.letter))
            .collect()
    }

    #[test]
    fn windows_find_what_one_look_finds() {
        let entry = b"--00000000-A--\n--00000000-B--\nx--00000000-C--\n--00000000-D-- \n\n--00000000-E--\r\n--00000001-F--\nyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\n--00000000-Z--";
        let mut whole = Outline::open(entry).unwrap();
        whole.scan(entry, 0, true);
        assert_eq!(letters(&whole), "ABZ");
        for fresh in 1..=entry.len() {
            let found = outline(entry, fresh);
            assert_eq!(found.delimiters, whole.delimiters, "{fresh} fresh bytes");
            assert_eq!(found.openings, whole.openings, "{fresh} fresh bytes");
            assert_eq!(found.len, whole.len, "{fresh} fresh bytes");
        }
    }

    proptest! {
        #[test]
        fn any_windows_find_what_one_look_finds(
            pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..40),
            fresh in 1..64_usize,
        ) {
            let entry = ["--00000000-A--\n", &pieces.concat()].concat();
            let whole = outline(entry.as_bytes(), entry.len());
            let found = outline(entry.as_bytes(), fresh);
            prop_assert_eq!(&found.delimiters, &whole.delimiters);
            prop_assert_eq!(&found.openings, &whole.openings);
            prop_assert_eq!((found.gap, found.len, found.last_lfs), (whole.gap, whole.len, whole.last_lfs));
        }
    }

    const PIECES: [&str; 10] = [
        "\n",
        "x",
        "A--\n",
        "--00000000-",
        "B--",
        "\n--00000000-C--\n",
        "--00000000-Z--\n",
        "\n--00000001-H--\n",
        "\r\n",
        " ",
    ];

    /// Looks at an entry in windows of `fresh` bytes that were not seen before.
    fn outline(entry: &[u8], fresh: usize) -> Outline {
        let mut outline = Outline::open(entry).unwrap();
        let (mut start, mut end) = (0, entry.len().min(Outline::OVERLAP + fresh));
        loop {
            outline.scan(&entry[start..end], start as u64, end == entry.len());
            if end == entry.len() {
                return outline;
            }
            start = end - Outline::OVERLAP;
            end = entry.len().min(end + fresh);
        }
    }

    #[test]
    fn a_flood_of_delimiters_keeps_both_ends() {
        let mut entry = b"--00000000-A--\n".to_vec();
        for _ in 0..3 * MAX_DELIMITERS {
            entry.extend_from_slice(b"\n--00000000-Q--\n");
        }
        entry.extend_from_slice(b"\n--00000000-Z--\n");
        let mut outline = Outline::open(&entry).unwrap();
        outline.scan(&entry, 0, true);
        assert!(outline.gap);
        assert_eq!(outline.delimiters.len(), MAX_DELIMITERS);
        let letters = letters(&outline);
        assert!(letters.starts_with('A') && letters.ends_with('Z'));
        assert!(
            outline
                .delimiters
                .is_sorted_by_key(|delimiter| delimiter.start)
        );
    }
}

//! Cutting the merged log into entries.
//!
//! Entries stand one after the other, each closed by part Z of its own boundary. A body may hold
//! such a line too, so an entry ends there only if the next thing is part A of another entry, or
//! the end of the file, and if it does not lie within the body by the request's own
//! `Content-Length`. What cannot be cut for certain is left out, not guessed at.
//!
//! A client who knows the boundary in advance and sends his body in chunks, without its length,
//! can still make it look like several entries.

use memchr::memmem;

use crate::format;
use crate::format::native::Boundary;

/// Bytes of one entry that are kept; of a larger one nothing is counted.
const MAX_KEPT: usize = 64 << 20;
/// Bytes after which an entry without an end is given up: more than the largest body that
/// `ModSecurity` accepts (`SecRequestBodyLimit`, 1 GiB), so that nobody can make part of his own
/// body look like entries by making it long.
const MAX_SKIPPED: u64 = 3 << 29;
/// A delimiter line with its line end.
const LINE: usize = 15;

/// Bytes of a serial log on their way to become entries.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that belong to entries handed out.
    used: usize,
    /// Where to look on for the end of the entry at `used`.
    scanned: usize,
    skipping: Option<Skipping>,
    /// In a stretch that is no entry.
    lost: bool,
    /// Stretches that were no entry, or one too large or without an end.
    pub(super) left_out: u64,
}

/// An entry too large to be kept, of which the end is looked for.
#[derive(Debug)]
struct Skipping {
    boundary: Boundary,
    skipped: u64,
}

/// What is to be found at some place.
enum Found {
    At(usize),
    Nowhere,
    /// Depends on bytes that are not here yet.
    Undecided(usize),
}

impl Pieces {
    /// Returns the buffer, to append to.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.scanned = self.scanned.saturating_sub(self.used);
            self.used = 0;
        }
        &mut self.buffer
    }

    /// Returns how many bytes have not become part of an entry yet.
    pub(super) fn unread(&self) -> usize {
        self.buffer.len() - self.used
    }

    /// Forgets the beginning of an entry whose rest does not come.
    pub(super) fn restart(&mut self) {
        self.left_out += u64::from(self.is_open());
        self.buffer.clear();
        (self.used, self.scanned) = (0, 0);
        self.skipping = None;
    }

    /// Returns the beginning of an entry whose rest does not come.
    pub(super) fn rest(&self) -> Option<&[u8]> {
        let rest = self.buffer.get(self.used..)?;
        let opened = Boundary::open(rest).is_some() && self.skipping.is_none();
        opened.then_some(rest)
    }

    /// Tells whether an entry has begun and not ended.
    pub(super) fn is_open(&self) -> bool {
        self.skipping.is_some() || self.unread() > 0
    }

    /// Returns the next whole entry; `at_end` if the file has no more bytes for now.
    pub(super) fn next(&mut self, at_end: bool) -> Option<&[u8]> {
        loop {
            let boundary = match &self.skipping {
                Some(skipping) => skipping.boundary,
                None => self.start()?,
            };
            let end = match self.end(boundary, at_end) {
                Found::At(end) => end,
                Found::Nowhere => {
                    // The last bytes may be the beginning of the closing line.
                    self.scanned = self.scanned.max(self.buffer.len().saturating_sub(LINE));
                    self.skip_if_too_large(boundary);
                    return None;
                }
                Found::Undecided(place) => {
                    self.scanned = place;
                    return None;
                }
            };
            let start = std::mem::replace(&mut self.used, end);
            self.scanned = end;
            if self.skipping.take().is_none() {
                return self.buffer.get(start..end);
            }
        }
    }

    /// Goes to the next part A and returns its boundary.
    fn start(&mut self) -> Option<Boundary> {
        loop {
            let rest = self.buffer.get(self.used..)?;
            match part_a(rest) {
                Found::At(_) => break,
                Found::Undecided(_) => return None,
                Found::Nowhere => {}
            }
            let Some(line_end) = memchr::memchr(b'\n', rest) else {
                self.drop_long_line();
                return None;
            };
            // Empty lines stand between entries.
            if line_end > 0 && !self.lost {
                self.lost = true;
                self.left_out += 1;
            }
            self.used += line_end + 1;
        }
        self.lost = false;
        self.scanned = self.scanned.max(self.used);
        Boundary::open(&self.buffer[self.used..]).map(|(boundary, _)| boundary)
    }

    fn drop_long_line(&mut self) {
        if self.unread() > LINE {
            self.used = self.buffer.len() - LINE;
        }
    }

    /// Finds the end of the entry, behind the line end of its part Z.
    fn end(&self, boundary: Boundary, at_end: bool) -> Found {
        let closing = format!("\n{}\n", boundary.line('Z'));
        let from = self.scanned.saturating_sub(1).max(self.used);
        let finder = memmem::Finder::new(&closing);
        for place in finder.find_iter(&self.buffer[from..]) {
            let place = from + place;
            let end = place + closing.len();
            let rest = &self.buffer[end..];
            let blank = rest.iter().take_while(|&&byte| byte == b'\n').count();
            let next = &rest[blank..];
            let ends = match part_a(next) {
                Found::At(_) => true,
                Found::Undecided(_) if at_end && next.is_empty() => true,
                Found::Undecided(_) => return Found::Undecided(place),
                Found::Nowhere => false,
            };
            if ends {
                match self.is_in_body(boundary, end) {
                    Some(true) => {}
                    None if !at_end => return Found::Undecided(place),
                    _ => return Found::At(end),
                }
            }
        }
        Found::Nowhere
    }

    /// Tells whether `end` lies within the body: by its length the body goes on behind it, and
    /// there, where it ends, a part begins. `None` if those bytes are not here yet.
    fn is_in_body(&self, boundary: Boundary, end: usize) -> Option<bool> {
        let piece = self.buffer.get(self.used..end).unwrap_or_default();
        let body = format!("\n{}\n", boundary.line('C'));
        // The first one is the engine's: nothing before it can hold a delimiter.
        let Some(start) = memmem::find(piece, body.as_bytes()) else {
            return Some(false);
        };
        let Some(len) = body_len(piece).filter(|len| *len < MAX_KEPT / 2) else {
            return Some(false);
        };
        let body_end = self.used + start + body.len() + len;
        if self.skipping.is_some() || body_end < end {
            return Some(false);
        }
        let next_part = format!("\n--{boundary}-");
        let behind = self.buffer.get(body_end..body_end + next_part.len())?;
        Some(behind == next_part.as_bytes())
    }

    fn skip_if_too_large(&mut self, boundary: Boundary) {
        let kept = self.unread();
        if kept <= MAX_KEPT {
            return;
        }
        let drop = kept - LINE - 1;
        let skipped = self.skipping.take().map_or(0, |skipping| skipping.skipped);
        self.left_out += u64::from(skipped == 0);
        self.used += drop;
        self.skipping = Some(Skipping {
            boundary,
            skipped: skipped + drop as u64,
        })
        .filter(|skipping| skipping.skipped < MAX_SKIPPED);
    }
}

/// Returns the `Content-Length` of the request, in part B.
fn body_len(entry: &[u8]) -> Option<usize> {
    let record = format::decode(entry).ok()?;
    let len = record.request.header("Content-Length")?.to_str()?;
    len.trim().parse().ok()
}

/// Tells whether `bytes` start with the line that opens an entry.
fn part_a(bytes: &[u8]) -> Found {
    if bytes.len() < LINE && bytes.iter().all(|&byte| byte != b'\n') {
        return Found::Undecided(0);
    }
    match Boundary::open(bytes) {
        Some((_, 'A')) => Found::At(0),
        _ => Found::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(boundary: &str, body: &str) -> String {
        format!("--{boundary}-A--\n[x]\n--{boundary}-C--\n{body}\n--{boundary}-Z--\n")
    }

    /// Feeds `log` in steps of `step` bytes and returns the entries.
    fn cut(log: &str, step: usize) -> (Vec<String>, u64) {
        let mut pieces = Pieces::default();
        let mut entries = Vec::new();
        let mut take = |pieces: &mut Pieces, at_end| {
            while let Some(entry) = pieces.next(at_end) {
                entries.push(String::from_utf8(entry.to_vec()).unwrap());
            }
        };
        for chunk in log.as_bytes().chunks(step) {
            pieces.buffer().extend_from_slice(chunk);
            take(&mut pieces, false);
        }
        take(&mut pieces, true);
        (entries, pieces.left_out)
    }

    #[test]
    fn entries_are_cut_whatever_the_reading_steps() {
        let one = entry("11111111", "one");
        let two = entry("22222222", "two\n--22222222-Z--\nmore");
        let three = entry(
            "33333333",
            &format!("{}\nmore", entry("44444444", "forged")),
        );
        let log = format!("{one}\n{two}{three}\n\n{one}\n");
        for step in 1..80 {
            let (entries, left_out) = cut(&log, step);
            assert_eq!(entries, [&*one, &two, &three, &one], "step {step}");
            assert_eq!(left_out, 0, "step {step}");
        }
    }

    #[test]
    fn forged_entries_in_a_body_stay_in_it() {
        let forged = entry("22222222", "forged");
        let body = format!("x\n--11111111-Z--\n\n{forged}\n{forged}");
        for (length, want) in [
            (format!("Content-Length: {}\n", body.len()), 2),
            (format!("content-length: {}\n", body.len()), 2),
            // Longer than what was logged, as when the engine cut the body: nothing to go by.
            (format!("Content-Length: {}\n", body.len() + 1000), 4),
            (String::new(), 4),
        ] {
            let attacker = format!(
                "--11111111-A--\n[x]\n--11111111-B--\nPOST / HTTP/1.1\n{length}\n\
                 --11111111-C--\n{body}\n--11111111-F--\nHTTP/1.1 200\n\n--11111111-Z--\n"
            );
            let log = format!("{attacker}\n{}", entry("33333333", "next"));
            for step in [1, 10, 100, 10_000] {
                let (entries, _) = cut(&log, step);
                let whole = entries.first() == Some(&attacker);
                assert_eq!(whole, want == 2, "{length} step {step}");
                assert!(entries.len() <= want, "{length} step {step}: {entries:?}");
            }
        }
    }

    #[test]
    fn what_is_between_entries_is_left_out() {
        let one = entry("11111111", "one");
        let log = format!("garbage\n--11111111-Z--\n{one}\nmore garbage without end");
        for step in [1, 7, 1000] {
            let (entries, left_out) = cut(&log, step);
            // Whether the garbage belongs to the entry cannot be told.
            assert_eq!(entries, Vec::<String>::new());
            assert_eq!(left_out, 1);
        }
    }

    #[test]
    fn an_entry_without_end_takes_others_along_but_not_for_ever() {
        let log = format!("--11111111-A--\n[x]\n{}", entry("22222222", "two"));
        let mut pieces = Pieces::default();
        pieces.buffer().extend_from_slice(log.as_bytes());
        assert_eq!(pieces.next(true), None);
        assert!(pieces.is_open());
        pieces.restart();
        let next = entry("33333333", "three");
        pieces.buffer().extend_from_slice(next.as_bytes());
        assert_eq!(pieces.next(true), Some(next.as_bytes()));
    }

    #[test]
    fn an_entry_too_large_is_left_out_and_the_next_is_found() {
        let mut pieces = Pieces::default();
        pieces
            .buffer()
            .extend_from_slice(b"--11111111-A--\n[x]\n--11111111-C--\n");
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..130 {
            pieces.buffer().extend_from_slice(&chunk);
            assert_eq!(pieces.next(false), None);
            assert!(pieces.buffer().len() <= MAX_KEPT + (2 << 20));
        }
        let next = entry("22222222", "two");
        let end = format!("\n--11111111-Z--\n\n{next}");
        pieces.buffer().extend_from_slice(end.as_bytes());
        assert_eq!(pieces.next(true), Some(next.as_bytes()));
        assert_eq!(pieces.left_out, 1);
    }
}

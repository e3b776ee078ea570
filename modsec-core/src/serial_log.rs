//! Cutting a log that holds many entries into those entries.
//!
//! A serial log (`SecAuditLogType Serial`), the merged log, a file to which libmodsecurity has
//! appended several records: entries stand one after the other, native ones closed by part Z of
//! their own boundary, JSON ones by their last brace. The [`Splitter`] takes the bytes as they
//! come and hands out entries, in bounded memory whatever their size; [`read()`] is it with a loop
//! around it.
//!
//! # What a client can do, and cannot
//!
//! The boundary is no secret, and raw client bytes stand in bodies, so a body may hold closing
//! lines and whole forged entries. An entry ends at its part Z only if
//!
//! - the line does not lie within the body by the request's own `Content-Length`, where a
//!   delimiter stands exactly at the end of that body,
//! - behind a body of unknown length (sent in chunks): another entry or the end of the log follows,
//!   and no further delimiter of the same boundary within [`LOOKAHEAD`] bytes.
//!
//! If that delimiter may be another entry's, because a whole entry with the same boundary stands
//! before it, both readings are possible: the body ends early, and all are flagged
//! [`Flag::Interleaved`].
//!
//! What a chunked body, or one that the server inflates, can still do in the log of a server is to
//! pretend, with the boundary known in advance, that the entry ends and that others follow; and two bodies that what stands between them
//! belongs to one entry. In a file of its own
//! (`SecAuditLogType Concurrent`) that makes the entry ambiguous, and no other row. JSON does not have
//! that weakness at all. Part H has it where the engine quotes the client with line feeds: errors of XML
//! validation in `ModSecurity` 2.
//!
//! # The merged log
//!
//! An entry that had a file of its own must be that one entry in a log of many, too. If it would not
//! be, wherever it stands, [`MergedLog`](crate::merged_log) announces it: a line before it says how
//! many bytes belong to it, and their hash. The splitter believes such a line where an entry may
//! begin, if the hash is right, in any log: nobody can name the hash of bytes that others will cause.
//! If it is wrong, the line belongs to no entry. If the log ends before all announced bytes have
//! come, what is there is cut as if nothing had been announced, and flagged [`Flag::Interleaved`].
//!
//! # Damage
//!
//! The lock of a serial log fails under MPM-ITK, so entries get written into each other. A line
//! that opens another entry where no client's bytes can be proves it: both entries are then handed
//! out from their first to their last line, flagged [`Flag::Interleaved`]. An entry that was cut
//! off ends where the next one begins, which may be within a line: a full disk stops the engine at any
//! byte, and it goes on there once there is room. A first line within another line counts if part A
//! follows it. In a body it counts, as one at the start of a line does, only if no further line of the
//! entry's own boundary comes.
//!
//! If both have one boundary, such lines do come, and the client may have written them all. Then part H
//! at the end tells whose they are, as [`native`](crate::format::native) reads it, by ids and times that the engine alone
//! writes: the next entry's, which begins there; or this one's, and all is its body. If the end is not
//! this one's, and one that is follows within [`LOOKAHEAD`] bytes, the entry goes on to that. Where
//! nothing tells, it is one entry without what stands behind the body.

#[cfg(feature = "fs")]
pub(crate) mod alone;
mod announced;
pub(crate) mod announcement;
#[cfg(feature = "jobs")]
pub(crate) mod appended;
mod document;
mod entry;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod line_ends;
#[cfg(test)]
mod linear;
mod lines;
mod lookahead;
#[cfg(feature = "jobs")]
pub(crate) mod own_file;
mod owned;
mod read;
#[cfg(test)]
mod shapes;
mod view;

use std::ops::Range;

use self::announced::Announced;
use self::document::{Document, Starts};
use self::entry::Entry;
pub(crate) use self::line_ends::LineEnds;
#[cfg(feature = "jobs")]
pub(crate) use self::line_ends::has_windows_line_ends;
use self::lines::{Lines, Within, opening_within};
pub use self::read::{Item, Items, LARGEST, LogEntry, read};
use self::view::{Opening, View, opening};
use crate::format::FirstBytes;
use crate::format::native::Boundary;
use crate::record::{Flag, Flags};

/// How far behind a doubtful end the entry's own boundary is looked for.
pub const LOOKAHEAD: usize = 256 * 1024;
/// Bytes after which an entry without an end is given up: more than the largest body that
/// `ModSecurity` accepts (`SecRequestBodyLimit`, 1 GiB), so that nobody can make part of his own
/// body look like entries by making it long.
const MAX_ENTRY: u64 = 3 << 29;

/// A byte order mark in UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Bytes that tell a text in UTF-16 from zeros.
const UTF16: usize = 4;

/// Entries that were written into each other and may be handed out with the same bytes: as many as
/// a server's processes may have been writing at once, and not so many that a log becomes a
/// multiple of itself.
const MAX_SHARING: usize = 8;

/// Cuts a log into entries.
///
/// The time that takes grows with the length of the log, whatever is in it.
#[derive(Debug)]
pub struct Splitter {
    /// Entries up to this size are handed out whole.
    held: usize,
    /// Bytes that were fed and are still needed, without gaps.
    buffer: Vec<u8>,
    /// Offset in the log of the first byte in the buffer.
    before: u64,
    /// Offset of the first byte that was not handed out or left out.
    at: u64,
    /// The entry at hand; `None` between two entries.
    open: Option<Open>,
    /// The delimiter lines in the buffer.
    lines: Lines,
    /// Where JSON documents begin, as far as the log was searched for that.
    starts: Starts,
    /// Where a stretch that is no entry began, and its first line.
    unrecognized: Option<(u64, FirstBytes)>,
    /// Whether `at` is within a line too long to hold.
    in_line: bool,
    /// Up to here the lines of several entries stand between each other.
    tangled: u64,
    /// Up to here the parts of entries were looked at, for another entry in a body.
    looked_into: u64,
    /// Ends of the entries that share their last bytes with those to come.
    sharing: Vec<u64>,
    /// The end of a large entry whose last part was just handed out.
    ending: Option<Ending>,
    /// Up to here the log was read already, in search of the end of an entry that had none.
    read_to: u64,
    /// Up to here the log was hashed already, and is not what was announced.
    vain: u64,
    /// Whether the bytes that were fed are the last ones.
    has_ended: bool,
}

/// The end of a large entry: its start, its length, and what is odd about its place.
type Ending = (u64, u64, Flags);

/// The entry at hand.
#[derive(Debug)]
enum Open {
    /// A native entry: ends by its delimiter lines.
    Entry(Entry),
    /// A JSON document: ends by its last brace.
    Document(Document),
    /// An entry of known length and hash, named by the line before it.
    Announced(Box<Announced>),
}

/// What is known of the bytes behind those that were fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputState {
    /// There are more.
    More,
    /// There are none for now: what can be decided without them is, an entry without its end
    /// waits.
    Quiet,
    /// There will be none: an entry without its end is handed out as it is.
    End,
}

/// What comes next in the log.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'b> {
    /// An entry.
    Entry {
        /// Its own bytes, as they would stand in a file of their own.
        bytes: &'b [u8],
        /// [`Flag::Interleaved`] or none; what else is odd shows when it is decoded.
        flags: Flags,
        /// Offset of its first byte in the log.
        at: u64,
    },
    /// Some bytes of an entry that is too large to be handed out whole; more pieces of it follow.
    Part(&'b [u8]),
    /// The end of such an entry.
    End {
        /// Offset of its first byte in the log.
        at: u64,
        /// Its length; 0 if the bytes are not the entry that a line before them announced.
        len: u64,
        /// Whether the parts handed out went beyond that length: the rest belongs to other
        /// entries. Call [`Splitter::rewind`] and feed the log again from offset `at + len`.
        overrun: bool,
        /// As those of an entry that is handed out whole.
        flags: Flags,
    },
    /// A stretch of lines that belong to no entry.
    Unrecognized {
        /// Offset of its first byte in the log.
        at: u64,
        /// Its length.
        len: u64,
        /// The beginning of its first line.
        line: FirstBytes,
    },
}

impl Piece<'_> {
    /// Returns offset, length and flags of the entry that ends with this piece. `None` if none does,
    /// or if the parts handed out went beyond its end.
    #[cfg(feature = "fs")]
    fn ended_entry(&self) -> Option<(u64, u64, Flags)> {
        match self {
            Piece::Entry { bytes, flags, at } => Some((*at, bytes.len() as u64, *flags)),
            Piece::End {
                at,
                len,
                overrun: false,
                flags,
            } => Some((*at, *len, *flags)),
            Piece::End { .. } | Piece::Part(_) | Piece::Unrecognized { .. } => None,
        }
    }
}

/// A decision about the entry at hand; offsets in the log.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// More bytes are needed; those before the offset need not be kept.
    Wait(u64),
    /// It ends here. The next thing to look at starts at `next`. Up to `shared`, lines of several
    /// entries stand between each other.
    Ends {
        /// Offset behind its last byte.
        end: u64,
        /// Where the next look for an entry begins: before `end` if another entry was written
        /// into this one, so that both are handed out with the bytes in common.
        next: u64,
        /// [`Flag::Interleaved`] or none.
        flags: Flags,
        /// An offset; 0 if no lines of others are known to stand there.
        shared: u64,
    },
}

impl Verdict {
    /// Returns the ordinary end: the next entry begins behind it, and no lines of others stand
    /// within.
    fn ends(end: u64) -> Verdict {
        Verdict::Ends {
            end,
            next: end,
            flags: Flags::none(),
            shared: 0,
        }
    }
}

/// What is to be done, before it is turned into a [`Piece`].
enum Step {
    /// Nothing to hand out yet: look again.
    Again,
    /// More bytes are needed, or the log is at its end.
    Wait,
    /// Hand out an entry whole.
    Entry(Range<u64>, Flags),
    /// Hand out some bytes of a large entry.
    Part(Range<u64>),
    /// Report the end of a large entry whose bytes were handed out, too many of them if
    /// `overrun`.
    End { ending: Ending, overrun: bool },
    /// Report a stretch of `len` bytes from `at` on that belongs to no entry.
    Unrecognized { at: u64, len: u64, line: FirstBytes },
}

impl Splitter {
    /// Returns a splitter for a log from its offset `at`, which hands out entries of up to `held`
    /// bytes whole.
    pub fn new(at: u64, held: usize) -> Splitter {
        Splitter {
            held,
            buffer: Vec::new(),
            before: at,
            at,
            open: None,
            lines: Lines::new(at),
            starts: Starts::default(),
            unrecognized: None,
            in_line: false,
            tangled: 0,
            looked_into: 0,
            sharing: Vec::new(),
            ending: None,
            read_to: 0,
            vain: 0,
            has_ended: false,
        }
    }

    /// Returns the buffer, to append the log's next bytes to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        let used = usize::try_from(self.kept_from() - self.before).unwrap_or(usize::MAX);
        self.buffer.drain(..used.min(self.buffer.len()));
        self.before += used as u64;
        self.lines.drop_before(self.before);
        &mut self.buffer
    }

    /// Goes back to `at`, the end of a large entry of which too much was handed out, to be fed from
    /// there. Returns what was fed and not handed out, for a log that cannot be read again.
    pub fn rewind(&mut self, at: u64) -> Vec<u8> {
        let fed = std::mem::take(self.buffer());
        self.read_to = self.read_to.max(self.lines.scanned());
        self.lines.rewind(at, self.has_ended);
        self.starts = Starts::default();
        (self.before, self.at, self.open) = (at, at, None);
        self.in_line = false;
        fed
    }

    /// Returns the offset behind the last entry: where to go on after a restart.
    pub fn position(&self) -> u64 {
        match &self.open {
            Some(Open::Announced(announced)) => announced.line.0,
            Some(open) => open.start(),
            None => self.at,
        }
    }

    /// Returns how many bytes that were fed stand behind [`Splitter::position`].
    pub fn unread(&self) -> u64 {
        self.before + self.buffer.len() as u64 - self.position()
    }

    /// Returns the offset of the first of the bytes that belong to no entry, if such bytes were passed
    /// over last and no entry has begun since.
    #[cfg(feature = "jobs")]
    pub(crate) fn unrecognized_from(&self) -> Option<u64> {
        self.unrecognized.map(|(at, _)| at)
    }

    /// Returns `true` if an entry has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open.is_some() || self.at < self.before + self.buffer.len() as u64
    }

    /// Returns what comes next; `None` if that takes more bytes, or at the end.
    pub fn next(&mut self, input: InputState) -> Option<Piece<'_>> {
        self.has_ended = input == InputState::End;
        loop {
            let step = match (self.ending.take(), self.open.take()) {
                (Some(ending), _) => Step::End {
                    ending,
                    overrun: false,
                },
                (None, None) => self.between(input),
                (None, Some(Open::Announced(announced))) => self.within_announced(announced, input),
                (None, Some(open)) => self.within(open, input),
            };
            return match step {
                Step::Again => continue,
                Step::Wait => None,
                Step::Entry(range, flags) => Some(Piece::Entry {
                    at: range.start,
                    bytes: self.view(input).slice(range),
                    flags,
                }),
                Step::Part(range) => Some(Piece::Part(self.view(input).slice(range))),
                Step::End {
                    ending: (at, len, flags),
                    overrun,
                } => Some(Piece::End {
                    at,
                    len,
                    overrun,
                    flags,
                }),
                Step::Unrecognized { at, len, line } => Some(Piece::Unrecognized { at, len, line }),
            };
        }
    }

    /// Returns the offset from which the buffer must be kept: of the entry at hand, what was
    /// not handed out yet.
    fn kept_from(&self) -> u64 {
        match &self.open {
            Some(open) => open.handed(),
            None => self.at,
        }
    }

    /// Returns the bytes in the buffer, by their offsets in the log.
    fn view(&self, input: InputState) -> View<'_> {
        View {
            bytes: &self.buffer,
            before: self.before,
            input,
        }
    }

    /// Looks for the next entry, between two. Empty lines and byte order marks say nothing and
    /// are passed over. A stretch of other lines is reported before the entry that ends it.
    fn between(&mut self, input: InputState) -> Step {
        if self.in_line {
            return self.unrecognized_line(input);
        }
        let rest = self.view(input).from(self.at);
        self.at += blank(rest) as u64;
        let rest = self.view(input).from(self.at);
        if rest.is_empty() {
            return self.end_of_unrecognized(input == InputState::End);
        }
        let opening = opening(rest, input);
        let open = match opening {
            Opening::Undecided => return Step::Wait,
            Opening::Entry(boundary, letter) if letter == 'A' || self.may_lack_a(boundary) => {
                self.lines.skip_to(self.at);
                self.sharing.retain(|end| *end > self.at);
                let may_share = self.sharing.len() < MAX_SHARING;
                Open::Entry(Entry::open(
                    boundary,
                    letter,
                    self.at,
                    may_share,
                    self.read_to,
                ))
            }
            Opening::Document => Open::Document(Document::open(self.at)),
            Opening::Announcement(said) if self.at >= self.vain => {
                let line = (self.at, FirstBytes::of(rest));
                Open::Announced(Box::new(Announced::open(line, said)))
            }
            Opening::Entry(..) | Opening::Announcement(_) | Opening::None => {
                return self.unrecognized_line(input);
            }
        };
        if self.unrecognized.is_some() {
            return self.end_of_unrecognized(true);
        }
        if let Open::Announced(announced) = &open {
            self.at = announced.start;
            self.lines.skip_to(self.at);
            self.lines.ahead.stop();
        }
        self.open = Some(open);
        Step::Again
    }

    /// Returns `true` if an entry of this boundary may begin here with another part than A. The
    /// first entry of a log may have been written by hand, and Coraza leaves part A out unless
    /// it is asked for.
    fn may_lack_a(&self, boundary: Boundary) -> bool {
        self.at == 0 || boundary.dialect().traits().may_lack_a
    }

    /// Passes over one line that is no entry's, or over as much of it as is at hand. It ends where
    /// an entry begins in it.
    fn unrecognized_line(&mut self, input: InputState) -> Step {
        let rest = self.view(input).from(self.at);
        if rest.is_empty() {
            return self.end_of_unrecognized(input == InputState::End);
        }
        let line = FirstBytes::of(rest);
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        let (len, whole) = match memchr::memchr(b'\n', rest) {
            // Of a text in UTF-16 no half is a line of an engine.
            _ if zeros == 1 && !self.in_line && rest.len() < UTF16 && input != InputState::End => {
                return Step::Wait;
            }
            // What a file system leaves after a crash. Whatever is behind them begins anew.
            _ if zeros > 0 && !self.in_line && !is_utf16(rest) => (zeros, true),
            Some(line_end) => match opening_within(rest, line_end, input) {
                Within::Undecided => return Step::Wait,
                Within::Opening(at) => (at, true),
                Within::None => (line_end + 1, true),
            },
            None if input == InputState::End => (rest.len(), false),
            None if self.in_line || rest.len() > LOOKAHEAD => {
                // What is left may be the beginning of such a line.
                (rest.len().saturating_sub(Boundary::MAX_LINE), false)
            }
            None => return Step::Wait,
        };
        if !self.in_line && self.at >= self.tangled {
            self.unrecognized.get_or_insert((self.at, line));
        }
        self.at += len as u64;
        self.in_line = !whole;
        if len > 0 || whole {
            Step::Again
        } else {
            Step::Wait
        }
    }

    /// Reports the stretch of unrecognized lines, if there is one and it `is_over`. Otherwise
    /// more bytes are needed, or the log is at its end.
    fn end_of_unrecognized(&mut self, is_over: bool) -> Step {
        match self.unrecognized.take_if(|_| is_over) {
            Some((at, line)) => Step::Unrecognized {
                at,
                len: self.at - at,
                line,
            },
            None => Step::Wait,
        }
    }

    /// Goes on with the entry at hand: closes it if its end is known, otherwise hands out the
    /// bytes that need not be kept, if it is large.
    fn within(&mut self, mut open: Open, input: InputState) -> Step {
        let tangled = open.start() < self.tangled;
        let verdict = self.advance(&mut open, input);
        let verdict = self.keep_tangled(&open, verdict);
        match self.end_as_owned(&mut open, verdict, input) {
            Verdict::Ends {
                end,
                next,
                flags,
                shared,
            } => {
                if flags.contains(Flag::Interleaved) {
                    // The one that begins at `next` has lines of this one.
                    self.tangled = self.tangled.max(shared).max(next + 1);
                    self.sharing.extend((end > next).then_some(end));
                }
                self.close(&open, end, next, flags, tangled)
            }
            Verdict::Wait(done) => {
                let (start, handed) = (open.start(), open.handed());
                self.at = start;
                if !self.is_large(handed) || done <= handed {
                    self.open = Some(open);
                    return Step::Wait;
                }
                open.hand_out(done);
                self.open = Some(open);
                Step::Part(handed..done)
            }
        }
    }

    /// Returns what the bytes at hand say of the entry's end. While the end of a large entry is
    /// in doubt, the boundaries that follow are recorded, since their bytes will be gone when
    /// the decision falls.
    fn advance(&mut self, open: &mut Open, input: InputState) -> Verdict {
        let view = View {
            bytes: &self.buffer,
            before: self.before,
            input,
        };
        let entry = match open {
            Open::Document(document) => {
                let known = document.scanned;
                let verdict = document.advance(&view, &mut self.starts);
                self.lines.count(document.scanned - known);
                return verdict;
            }
            Open::Entry(entry) => entry,
            // Not decided by its lines: see `within_announced`.
            Open::Announced(announced) => return Verdict::Wait(announced.start),
        };
        self.lines.scan(&view);
        let is_large = self.is_large(entry.handed);
        let verdict = entry.advance(&view, &self.lines, is_large);
        match entry.fallback() {
            // Its bytes are let go, and may have to be read again.
            Some(fallback) if is_large && matches!(verdict, Verdict::Wait(_)) => {
                self.lines.record_from(fallback);
            }
            Some(_) => {}
            None => self.lines.ahead.stop(),
        }
        verdict
    }

    /// Returns `true` if what is held from `handed` on is too much.
    fn is_large(&self, handed: u64) -> bool {
        let end = self.before + self.buffer.len() as u64;
        end - handed > self.held as u64 || self.lines.are_too_many()
    }

    /// Holds back an entry into which another one was written: its bytes are the other's too, so
    /// they cannot be handed out in parts. One that grows too large ends where the other begins.
    fn keep_tangled(&self, open: &Open, verdict: Verdict) -> Verdict {
        let Open::Entry(entry) = open else {
            return verdict;
        };
        if entry.interleaved.is_none() {
            return verdict;
        }
        let end = self.before + self.buffer.len() as u64;
        let most = (self.held as u64).saturating_add(LOOKAHEAD as u64);
        let is_too_large = end - entry.start > most || self.lines.are_too_many();
        match verdict {
            Verdict::Wait(_) if is_too_large => entry.torn(end),
            Verdict::Wait(_) => Verdict::Wait(entry.start),
            ends @ Verdict::Ends { .. } => ends,
        }
    }

    /// Ends the entry at hand. An entry within the lines of another one (`tangled`) is flagged
    /// [`Flag::Interleaved`], too. If parts of it were handed out before, its last part comes
    /// first and its end with the next step; if they went beyond the end, the caller has to
    /// rewind.
    fn close(&mut self, open: &Open, end: u64, next: u64, flags: Flags, tangled: bool) -> Step {
        let (start, handed) = (open.start(), open.handed());
        let mut flags = flags;
        if tangled && !flags.contains(Flag::Interleaved) {
            flags.insert(Flag::Interleaved);
            self.tangled = self.tangled.max(end);
        }
        if handed == start {
            self.at = next;
            return Step::Entry(start..end, flags);
        }
        self.at = end.max(handed);
        let ending = (start, end - start, flags);
        if end > handed {
            self.ending = Some(ending);
            return Step::Part(handed..end);
        }
        Step::End {
            ending,
            overrun: end < handed,
        }
    }
}

/// Returns `true` if text in UTF-16 stands at the start of `bytes`, big end first.
fn is_utf16(bytes: &[u8]) -> bool {
    matches!(bytes.get(..UTF16), Some([0, a, 0, b]) if *a != 0 && *b != 0)
}

/// Returns how many bytes stand at the start of `bytes`, between two entries, that say nothing: empty
/// lines, and the marks with which editors of Windows begin a file.
fn blank(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(behind) = rest.strip_prefix(b"\n").or(rest.strip_prefix(BOM)) {
        rest = behind;
    }
    bytes.len() - rest.len()
}

impl Open {
    /// Returns the offset of its first byte. The line that announces an entry is not part of
    /// it.
    fn start(&self) -> u64 {
        match self {
            Open::Entry(entry) => entry.start,
            Open::Document(document) => document.start,
            Open::Announced(announced) => announced.start,
        }
    }

    /// Returns the offset up to which its bytes were handed out.
    fn handed(&self) -> u64 {
        match self {
            Open::Entry(entry) => entry.handed,
            Open::Document(document) => document.handed,
            Open::Announced(announced) => announced.handed,
        }
    }

    /// Notes that its bytes before the offset `to` were handed out.
    fn hand_out(&mut self, to: u64) {
        match self {
            Open::Entry(entry) => entry.handed = to,
            Open::Document(document) => document.handed = to,
            Open::Announced(announced) => announced.handed = to,
        }
    }
}

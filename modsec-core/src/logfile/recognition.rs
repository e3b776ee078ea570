//! Saying that what is followed is not the log that it should be.
//!
//! A service waits for ever for entries in a file that never has any: a log behind the words of
//! syslog, one in UTF-16, the index in the place of the entries, any other text. That is said once
//! for each file and kind, and not if the file only begins, or was left, in the middle of an entry:
//!
//! ```text
//! read from here ─► rest of an entry │ entry │ entry │ …        nothing to say
//! read from here ─► 192.0.2.7 - - [22/Nov… │ 192.0.2.8 - - […   no log, said when it grows no more
//!                   └─ stretch ────────────────────────────┘    for a second, or for ten in any case
//! ```
//!
//! [`Recognition::look`] is told after each read where the stretch begins that belongs to no entry,
//! and reads its first bytes again to name it. Nothing of the log is kept.

use std::path::Path;
use std::time::{Duration, Instant};

use tracing::warn;

use super::{Growth, Tail};
use crate::format::native::Boundary;
use crate::format::{self, Defect, Dialect, FirstBytes, Wrapping};
use crate::index_line::IndexLine;
use crate::log_once::LogOnce;

/// Bytes that are looked at: the first ones of a stretch, and the last ones.
const SHOWN: usize = 4096;
/// How long nothing was added to a stretch that is judged: an engine writes an entry in pieces.
const QUIET: Duration = Duration::from_secs(1);
/// After this time a stretch is judged although it still grows.
const AT_LAST: Duration = Duration::from_secs(10);
/// Lines in a row, none of an index, after which one that comes through a pipe is judged.
const IN_A_ROW: usize = 3;
/// Messages at a time; the rest is not said before [`FORGET_AFTER`].
const MESSAGES: usize = 20;
/// Stands in the log for messages beyond [`MESSAGES`].
const FURTHER: &str = "more logs without entries, not named";
/// After this time everything may be said again.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

/// What a log should be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Entries.
    Entries,
    /// Lines of an index.
    Lines,
    /// Lines of an index that say whose request it was.
    LinesWithClient,
}

/// Knows whether what is followed has what it should have, and says so if not.
#[derive(Debug)]
pub(crate) struct Recognition {
    /// What the log should be made of.
    content: Content,
    /// Where reading of the file at hand began.
    start: u64,
    /// Whether anything was found in it that should be there.
    has_found: bool,
    /// What was read last and should not.
    stretch: Option<Stretch>,
    /// Files begun so far.
    files: u64,
    /// What was said already, by file and kind.
    log_once: LogOnce,
}

/// Bytes in a row that belong to nothing that should be in the log.
#[derive(Debug)]
struct Stretch {
    /// Its first byte in the log.
    at: u64,
    /// When it was noticed.
    since: Instant,
    /// When anything was added last.
    grown: Instant,
    /// Whether it was judged; it is not judged again.
    is_judged: bool,
}

/// What a log is instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Unlike {
    /// Something that is no entry, or an audit log in a form that is not read.
    #[error(transparent)]
    Defect(Defect),
    /// Entries, where lines of an index are expected.
    #[error("whole entries of an audit log, not the lines about them")]
    Entries,
    /// An index that says nothing reliable about the client, where that is needed.
    #[error(
        "an index of libmodsecurity, in whose lines a client can write any address: none of them \
         counts; recidive takes --source storage-dir"
    )]
    OfLibmodsecurity,
    /// Entries whose lines end in CR and LF. The boundary of a native entry ends in LF.
    #[error(
        "an audit log with the line ends of Windows, which is not followed; take that off with \
         sed 's/\\r$//'"
    )]
    LineEnds,
    /// Neither entries nor lines of an index; the beginning of the first line.
    #[error("no index: the first line is {0}, and none ends with size and MD5 of an entry")]
    NoIndex(FirstBytes),
}

impl Recognition {
    /// Begins to read a log of such content at its offset `start`.
    pub(crate) fn new(content: Content, start: u64) -> Recognition {
        Recognition {
            content,
            start,
            has_found: false,
            stretch: None,
            files: 0,
            log_once: LogOnce::new(MESSAGES, FURTHER, FORGET_AFTER),
        }
    }

    /// Goes on with another file, at its offset `start`: what was said may be said of this one too.
    pub(crate) fn restart(&mut self, start: u64) {
        self.files += 1;
        self.resume(start);
    }

    /// Begins anew to read the same file, at its offset `start`.
    pub(crate) fn resume(&mut self, start: u64) {
        (self.start, self.has_found, self.stretch) = (start, false, None);
    }

    /// Takes note of what should be in the log.
    pub(crate) fn found(&mut self) {
        self.has_found = true;
        self.stretch = None;
    }

    /// Takes note of a line at the offset `at`: `is_good` if it is one of an index.
    pub(crate) fn line(&mut self, at: u64, is_good: bool) {
        if is_good {
            self.found();
        } else {
            self.begin_stretch(at);
        }
    }

    /// Takes note of an entry at the offset `at` that could not be decoded, and says what it is.
    pub(crate) fn defect(&mut self, path: &Path, at: u64, defect: Defect) {
        let unlike = Unlike::Defect(defect);
        // The rest of a document may look like one.
        if unlike.is_certain() || !self.has_found && at > self.start {
            self.say(path, at, unlike);
        }
    }

    /// Says what the log is if the stretch that begins at the offset `at`, up to the end of what was
    /// read, is long or quiet enough. Call it after each read; `None` if there is no such stretch.
    pub(crate) fn look(&mut self, at: Option<u64>, tail: &mut Tail, growth: Growth) {
        let Some(at) = at else {
            self.stretch = None;
            return;
        };
        let stretch = self.begin_stretch(at);
        if growth == Growth::Grown {
            stretch.grown = Instant::now();
        }
        let is_due = match growth {
            Growth::Over => true,
            Growth::End => stretch.grown.elapsed() >= QUIET,
            Growth::Grown => stretch.since.elapsed() >= AT_LAST,
            Growth::Restarted => false,
        };
        if is_due {
            self.judge_in(at, tail);
        }
    }

    /// The same for lines: the stretch is known.
    pub(crate) fn look_at_lines(&mut self, tail: &mut Tail, growth: Growth) {
        let at = self.stretch.as_ref().map(|stretch| stretch.at);
        self.look(at, tail, growth);
    }

    /// Says what the log is if there is a stretch: nobody will look again.
    pub(crate) fn end(&mut self, tail: &mut Tail) {
        if let Some(at) = self.stretch.as_ref().map(|stretch| stretch.at) {
            self.judge_in(at, tail);
        }
    }

    /// Judges a stretch that begins at the offset `at` and is over, without an entry behind it.
    /// Returns `true` if a message about it was written, now or before.
    pub(crate) fn ended(&mut self, at: u64, tail: &mut Tail) -> bool {
        self.begin_stretch(at);
        self.judge_in(at, tail)
    }

    /// Returns the stretch that the offset `at` belongs to, a new one if there is none. A stretch
    /// of entries is known by its first byte. One of lines goes on, wherever the next line begins.
    fn begin_stretch(&mut self, at: u64) -> &mut Stretch {
        let now = Instant::now();
        let new = || Stretch {
            at,
            since: now,
            grown: now,
            is_judged: false,
        };
        let is_line = self.content != Content::Entries;
        // Lines of one stretch begin at many places.
        let same = self
            .stretch
            .take_if(|known| known.at == at || is_line && known.at < at);
        self.stretch.insert(same.unwrap_or_else(new))
    }

    /// Reads the first and the last bytes of the stretch at the offset `at` again and says what
    /// they are. Returns `true` if that was said, now or before.
    ///
    /// Once the log had what it should have, a stretch shorter than [`SHOWN`] is passed over,
    /// unless it cannot be anything else. A stretch is judged once.
    fn judge_in(&mut self, at: u64, tail: &mut Tail) -> bool {
        match &mut self.stretch {
            Some(stretch) if stretch.is_judged => return true,
            Some(stretch) => stretch.is_judged = true,
            None => {}
        }
        let end = tail.offset();
        let head = tail.peek(at, SHOWN);
        let last = tail.peek(end.saturating_sub(SHOWN as u64).max(at), SHOWN);
        // Text of two bytes a letter shows only where the file begins.
        let first = tail.peek(0, 4);
        let path = tail.path().to_owned();
        let len = end.saturating_sub(at);
        let unlike = utf16(&first).or_else(|| self.identify(at == self.start, &head, &last));
        match unlike {
            Some(unlike) if unlike.is_certain() || !self.has_found || len >= SHOWN as u64 => {
                self.say(&path, at, unlike)
            }
            _ => false,
        }
    }

    /// Names what bytes are that belong to no entry; `None` if they may be the rest of one.
    /// `is_start`: something may have stood before them.
    fn identify(&self, is_start: bool, head: &[u8], last: &[u8]) -> Option<Unlike> {
        match self.content {
            Content::Entries => no_entries(is_start, head, last),
            Content::Lines | Content::LinesWithClient => no_lines(is_start, head),
        }
    }

    /// Logs what is at `offset` of the log at `path`, once for each file and kind. Always returns
    /// `true`: it was said, now or before.
    fn say(&mut self, path: &Path, offset: u64, unlike: Unlike) -> bool {
        let kind = (std::mem::discriminant(&unlike), unlike.defect_kind());
        if !self.log_once.is_new((path, self.files, kind)) {
            return true;
        }
        match self.content {
            Content::Entries => {
                warn!(?path, offset, error = %unlike, "no entry in this log, waiting for one");
            }
            Content::Lines | Content::LinesWithClient => {
                warn!(?path, offset, error = %unlike, "no line of an index in this file, waiting for one");
            }
        }
        true
    }
}

/// The same for lines that come through a pipe, of which nothing can be read again: the first ones are
/// kept until one is good.
#[derive(Debug)]
pub(crate) struct PipeRecognition {
    /// What is known of the lines so far.
    recognition: Recognition,
    /// The first lines, [`SHOWN`] bytes and a line end for each at the most, since they cannot be
    /// read again.
    head: Vec<u8>,
    /// Lines so far, none of which was good.
    lines: usize,
}

impl PipeRecognition {
    /// Begins to read an index.
    pub(crate) fn new() -> PipeRecognition {
        PipeRecognition {
            recognition: Recognition::new(Content::Lines, 0),
            head: Vec::new(),
            lines: 0,
        }
    }

    /// Takes note of a line; says what they are if too many in a row are none of an index.
    pub(crate) fn line(&mut self, line: &[u8], is_good: bool) {
        if is_good {
            self.recognition.found();
            self.head = Vec::new();
        }
        if self.recognition.has_found || self.lines == IN_A_ROW {
            return;
        }
        let room = SHOWN.saturating_sub(self.head.len());
        self.head.extend(line.iter().take(room));
        self.head.push(b'\n');
        self.lines += 1;
        if self.lines == IN_A_ROW {
            self.judge();
        }
    }

    /// Says what the lines are if none was good: there are no more.
    pub(crate) fn end(&mut self) {
        if !self.recognition.has_found && (1..IN_A_ROW).contains(&self.lines) {
            self.judge();
        }
    }

    /// Says what the first lines are, unless they may belong to an index after all.
    fn judge(&mut self) {
        let unlike = utf16(&self.head).or_else(|| no_lines(true, &self.head));
        if let Some(unlike) = unlike {
            self.recognition.say(Path::new("-"), 0, unlike);
        }
    }
}

impl Unlike {
    /// Returns `true` if it is said whatever was found in the log before.
    fn is_certain(self) -> bool {
        match self {
            Unlike::Defect(defect) => matches!(
                defect,
                Defect::Wrapped { .. } | Defect::Ocsf | Defect::Index | Defect::BuiltWithoutJson
            ),
            Unlike::Entries | Unlike::OfLibmodsecurity | Unlike::LineEnds => true,
            Unlike::NoIndex(_) => false,
        }
    }

    /// Returns by what defects are told apart when each is said once: their kind and, if the log is
    /// wrapped, what it is wrapped in. The bytes that a defect quotes do not count.
    fn defect_kind(self) -> Option<(std::mem::Discriminant<Defect>, Option<Wrapping>)> {
        let Unlike::Defect(defect) = self else {
            return None;
        };
        let by = match defect {
            Defect::Wrapped { by } => Some(by),
            _ => None,
        };
        Some((std::mem::discriminant(&defect), by))
    }
}

/// Returns what a log is that begins with `first`, if that is UTF-16; `None` if not.
fn utf16(first: &[u8]) -> Option<Unlike> {
    let by = Wrapping::of_utf16(first)?;
    Some(Unlike::Defect(Defect::Wrapped { by }))
}

/// Names a log without entries.
fn no_entries(is_start: bool, head: &[u8], last: &[u8]) -> Option<Unlike> {
    let lines = || lines(head).chain(lines(last));
    if lines().any(|line| Boundary::open(line).is_some()) {
        return None;
    }
    let has_cr = |line: &[u8]| line.strip_suffix(b"\r").and_then(Boundary::open).is_some();
    if lines().any(has_cr) {
        return Some(Unlike::LineEnds);
    }
    let (first, behind) = split_line(head);
    let defect = format::unrecognized(head, FirstBytes::of(first));
    if matches!(defect, Defect::Wrapped { .. }) {
        return Some(Unlike::Defect(defect));
    }
    let is_of_index = |line| IndexLine::parse(line).is_some_and(|line| line.location().is_some());
    if lines().any(is_of_index) {
        return Some(Unlike::Defect(Defect::Index));
    }
    // Of a document, which is one line, or of the line of part Z.
    let first = first.trim_ascii_end();
    let is_rest = first.is_empty() || is_start && matches!(first.last(), Some(b'}' | b'-'));
    let is_all = behind.trim_ascii().is_empty();
    (!(is_rest && is_all)).then_some(Unlike::Defect(defect))
}

/// Names a file without lines of an index.
fn no_lines(is_start: bool, head: &[u8]) -> Option<Unlike> {
    let (first, behind) = split_line(head);
    let Err(defect) = format::decode(head) else {
        return Some(Unlike::Entries);
    };
    if matches!(defect, Defect::Wrapped { .. } | Defect::Ocsf) {
        return Some(Unlike::Defect(defect));
    }
    if lines(head).any(|line| Boundary::open(line).is_some()) {
        return Some(Unlike::Entries);
    }
    if let Some(line) = lines(head).find_map(IndexLine::parse) {
        // Of ModSecurity 2 a line may have two readings, and the next one has one.
        return (line.dialect == Dialect::V3).then_some(Unlike::OfLibmodsecurity);
    }
    if defect == Defect::Zeros {
        return Some(Unlike::Defect(defect));
    }
    // The MD5, or what is left of it.
    let mut words = first
        .trim_ascii_end()
        .rsplit(|byte| matches!(byte, b' ' | b':'));
    let is_digits = |word: &[u8]| word.len() <= 32 && word.iter().all(u8::is_ascii_hexdigit);
    let is_rest = is_start && words.next().is_some_and(is_digits);
    let is_all = behind.trim_ascii().is_empty();
    (!(is_rest && is_all)).then_some(Unlike::NoIndex(FirstBytes::of(first)))
}

/// Returns the lines of `bytes`; the first and the last one may be cut.
fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n')
}

/// Splits behind the first line end: the line without it, and what follows.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    let (first, behind) = bytes.split_at(end);
    (first, behind.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ENTRY: &str =
        "--3fa0c41b-A--\n[x] id\n--3fa0c41b-B--\nGET / HTTP/1.1\n\n--3fa0c41b-Z--\n";
    const LINE: &str = "h 192.0.2.7 - - [22/Aug/2026:10:15:00 +0200] \"GET / HTTP/1.1\" 403 57 \"-\" \"-\" a \"-\" \
         /20260822/20260822-1015/20260822-101500-a 0 1 md5:f4379ec14e40221beb05af5daf25ef7a \n";
    const DOCUMENT: &str =
        "{\"transaction\":{\"time\":\"x\"},\"request\":{\"headers\":{\"a\":\"b\"}}}\n";

    /// Returns `true` if a file is spoken of that is read from its offset `start`, and whose bytes from
    /// there on belong to no entry.
    fn is_said(content: Content, text: &str, start: usize, has_found: bool) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, text).unwrap();
        let mut tail = Tail::new(path, None).unwrap();
        while tail.read(&mut Vec::new()).unwrap() == Growth::Grown {}
        let mut recognition = Recognition::new(content, start as u64);
        if has_found {
            recognition.found();
        }
        let said = recognition.ended(start as u64, &mut tail);
        // What was said is not said again of the same file.
        let lines = recognition.log_once.is_new("another");
        assert!(lines);
        said
    }

    #[test]
    fn the_rest_of_an_entry_is_nothing_to_speak_of_wherever_it_begins() {
        for text in [ENTRY, DOCUMENT] {
            for at in 1..text.len() {
                assert!(
                    !is_said(Content::Entries, text, at, false),
                    "{:?}",
                    &text[at..]
                );
            }
        }
        for at in 1..LINE.len() {
            for content in [Content::Lines, Content::LinesWithClient] {
                assert!(!is_said(content, LINE, at, false), "{:?}", &LINE[at..]);
            }
        }
        let large = format!("{}{ENTRY}", "body\n".repeat(100_000));
        assert!(!is_said(Content::Entries, &large, 0, false));
    }

    #[test]
    fn what_is_no_log_is_said_unless_a_few_lines_stand_behind_an_entry() {
        let entries = Content::Entries;
        let syslog = |line| format!("Nov 27 10:00:00 web nginx: {line}\n");
        let syslog = ENTRY.lines().map(syslog).collect::<Vec<_>>().concat();
        for (content, text, has_found, want) in [
            (entries, "no log\n", false, true),
            (entries, "no log\n", true, false),
            (entries, &*"no log\n".repeat(1000), true, true),
            (entries, &*syslog, true, true),
            (entries, LINE, true, true),
            (entries, "\0\0\0\0\0\0", false, true),
            (entries, "", false, false),
            (Content::Lines, "no line\n", false, true),
            (Content::Lines, "no line\n", true, false),
            (Content::Lines, ENTRY, true, true),
            (Content::Lines, DOCUMENT, false, true),
            (Content::Lines, "", false, false),
        ] {
            assert_eq!(is_said(content, text, 0, has_found), want, "{text:?}");
        }
    }

    #[test]
    fn a_stretch_that_grows_is_left_alone_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "no log\n").unwrap();
        let mut tail = Tail::new(path, None).unwrap();
        let mut recognition = Recognition::new(Content::Entries, 0);
        for growth in [Growth::Grown, Growth::End, Growth::Restarted] {
            recognition.look(Some(0), &mut tail, growth);
            assert!(
                recognition
                    .stretch
                    .as_ref()
                    .is_some_and(|stretch| !stretch.is_judged)
            );
        }
        recognition.look(Some(0), &mut tail, Growth::Over);
        assert!(
            recognition
                .stretch
                .as_ref()
                .is_some_and(|stretch| stretch.is_judged)
        );
        recognition.look(None, &mut tail, Growth::End);
        assert!(recognition.stretch.is_none());
    }
}

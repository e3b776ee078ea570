//! Where a document ends: the one place that knows.
//!
//! Braces tell, outside of strings; a line feed does not, for a document may be written in many
//! lines. It counts only where no engine writes one:
//!
//! ```text
//! {"a":"b⏎          inside a string: engines write \n as an escape
//! {"a":1,⏎{"c":2}   in front of a line that starts with a brace of the document, or
//! {"a":1,⏎--3fa0…   with a dash, where an entry of another kind begins
//! ```
//!
//! There the document was cut off, by a full disk or a process that was killed, and what follows
//! is something else. [`JsonReader`](super::reader::JsonReader) stops at the same places.

use memchr::memchr3;

/// Looks for the end of one document, in windows of any size; each byte is looked at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scanner {
    /// Braces that are open.
    depth: u64,
    /// What the next byte belongs to.
    within: Within,
    /// Whether the last byte outside of strings was a LF.
    after_lf: bool,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, Default)]
enum Within {
    /// Outside of strings.
    #[default]
    Structure,
    /// A string, behind its opening quote.
    String,
    /// An escape, as far as it was seen: at most `\u` and four digits.
    Escape([u8; ESCAPE], usize),
}

/// Bytes of the longest escape.
const ESCAPE: usize = br"\u0000".len();

/// What the windows so far say of the end of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum DocumentEnd {
    /// The document goes on behind them.
    #[default]
    Open,
    /// It is whole, and ends before this offset of the last window.
    Whole(usize),
    /// It was cut off; what comes next begins at this offset of the last window.
    Cut(usize),
}

/// Takes the bytes of a document, in their order, by what they are.
pub(super) trait Sink {
    /// Takes a byte outside of strings, or the quote that opens one.
    fn structure(&mut self, byte: u8);
    /// Takes bytes of a string that stand for themselves.
    fn plain(&mut self, bytes: &[u8]);
    /// Takes an escape as it is spelled, or what starts like one and is none.
    fn escape(&mut self, spelled: &[u8]);
    /// Takes the quote that closes a string, or the LF at which it was cut off.
    fn close(&mut self, byte: u8);
}

/// For those who ask for the end alone.
impl Sink for () {
    fn structure(&mut self, _: u8) {}
    fn plain(&mut self, _: &[u8]) {}
    fn escape(&mut self, _: &[u8]) {}
    fn close(&mut self, _: u8) {}
}

impl Scanner {
    /// Returns where the document ends, if that is in `window`.
    ///
    /// Windows follow each other without gap or overlap; the first starts where the document does,
    /// or in white space before it. Once the answer is not [`DocumentEnd::Open`], the search is over.
    pub(crate) fn end(&mut self, window: &[u8]) -> DocumentEnd {
        self.scan(window, &mut ())
    }

    /// Returns the same as [`Scanner::end`], and hands the bytes of the document to `sink`.
    pub(super) fn scan(&mut self, window: &[u8], sink: &mut impl Sink) -> DocumentEnd {
        let mut at = 0;
        while let Some(&byte) = window.get(at) {
            match &mut self.within {
                Within::Structure => {
                    if self.depth > 0 && self.after_lf && begins_another(byte) {
                        return DocumentEnd::Cut(at);
                    }
                    at += 1;
                    sink.structure(byte);
                    self.after_lf = byte == b'\n';
                    match byte {
                        b'"' => self.within = Within::String,
                        b'{' => self.depth += 1,
                        b'}' if self.depth <= 1 => return DocumentEnd::Whole(at),
                        b'}' => self.depth -= 1,
                        _ => {}
                    }
                }
                Within::String => {
                    let rest = window.get(at..).unwrap_or_default();
                    let found = memchr3(b'"', b'\\', b'\n', rest).unwrap_or(rest.len());
                    let (plain, behind) = rest.split_at(found);
                    sink.plain(plain);
                    at += found + 1;
                    match behind.first() {
                        None => {}
                        Some(b'\\') => self.within = Within::Escape([b'\\'; ESCAPE], 1),
                        Some(&end) => {
                            sink.close(end);
                            self.within = Within::Structure;
                            if end == b'\n' {
                                return DocumentEnd::Cut(at);
                            }
                        }
                    }
                }
                Within::Escape(spelled, len) => {
                    let is_part = match *len {
                        1 => byte != b'\n',
                        _ => byte.is_ascii_hexdigit(),
                    };
                    if is_part && let Some(next) = spelled.get_mut(*len) {
                        *next = byte;
                        *len += 1;
                        at += 1;
                    }
                    let goes_on = *len == 2 && byte == b'u' || (3..ESCAPE).contains(len);
                    if !is_part || !goes_on {
                        sink.escape(spelled.get(..*len).unwrap_or_default());
                        self.within = Within::String;
                    }
                }
            }
        }
        DocumentEnd::Open
    }

    /// Hands over an escape that was cut off.
    pub(super) fn finish(&self, sink: &mut impl Sink) {
        if let Within::Escape(spelled, len) = &self.within {
            sink.escape(spelled.get(..*len).unwrap_or_default());
        }
    }
}

/// Returns `true` for a byte that begins another entry, at the start of a line within a document.
pub(super) fn begins_another(byte: u8) -> bool {
    matches!(byte, b'{' | b'-')
}

/// Returns `true` if `bytes` are documents, each of them whole, and nothing else.
///
/// The line feed behind a document is not waited for: Coraza writes none, and nothing but that can
/// be missing once the document is closed.
pub(super) fn is_complete(mut bytes: &[u8]) -> bool {
    loop {
        match (bytes.first(), Scanner::default().end(bytes)) {
            (Some(b'{'), DocumentEnd::Whole(end)) => {
                bytes = bytes.get(end..).unwrap_or_default().trim_ascii_start();
            }
            _ => return false,
        }
        if bytes.is_empty() {
            return true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer, with offsets from the start of `bytes`, if they come in windows of `size`.
    fn scan(bytes: &[u8], size: usize) -> DocumentEnd {
        let mut search = Scanner::default();
        for (n, window) in bytes.chunks(size).enumerate() {
            match search.end(window) {
                DocumentEnd::Whole(at) => return DocumentEnd::Whole(n * size + at),
                DocumentEnd::Cut(at) => return DocumentEnd::Cut(n * size + at),
                DocumentEnd::Open => {}
            }
        }
        DocumentEnd::Open
    }

    #[test]
    fn a_document_ends_with_its_own_brace_or_where_it_was_torn() {
        use DocumentEnd::{Cut, Open, Whole};
        for (bytes, want) in [
            (&br#"{"a":1}"#[..], Whole(7)),
            (br#"{"a":{"b":"}\"}\\"}} {"#, Whole(20)),
            (b"  {}\n{}", Whole(4)),
            (b"{\n \"a\":\n  {\n \"b\": 1}\n}\n", Whole(22)),
            (b"{\"a\":\"b\n{\"c\":1}", Cut(8)),
            (b"{\"a\":\n{\"c\":1}}", Cut(6)),
            (b"{\"a\":\"b\\\n{\"c\":1}", Cut(9)),
            (b"{\"a\":1,\n\n--3fa0c41b-A--\n", Cut(9)),
            (br#"{"a":"\u12"}"#, Whole(12)),
            (b"{\"a\":\"\\u12\n{", Cut(11)),
            (br#"{"a":"b"#, Open),
            (br#"{"a":"b\"#, Open),
            (b"{{}", Open),
            (b"", Open),
        ] {
            for size in 1..=bytes.len().max(1) {
                let shown = bytes.escape_ascii().to_string();
                assert_eq!(scan(bytes, size), want, "{shown:?} in windows of {size}");
            }
        }
    }

    #[test]
    fn only_whole_documents_are_complete() {
        for (bytes, want) in [
            (&br#"{"a":1}"#[..], true),
            (b"{\"a\":1}\n", true),
            (b"{\"a\":1}\n{\"b\":2}\n", true),
            (b"{\"a\":1}\n{\"b\":2", false),
            (b"{\"a\":1}\n{\"b\":\"\n{\"c\":3}\n", false),
            (b"{\"a\":1}\nx", false),
            (b"{\"a\":1", false),
            (b"\n", false),
            (b"", false),
        ] {
            let shown = bytes.escape_ascii().to_string();
            assert_eq!(is_complete(bytes), want, "{shown:?}");
        }
    }
}

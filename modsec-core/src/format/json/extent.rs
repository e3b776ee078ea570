//! Where a document ends.

use memchr::memchr3;

/// Finds the end of one document, in windows of any size.
///
/// Documents are told apart by their braces, not by line feeds. A line feed counts only where no
/// engine writes one: inside a string, or directly before an opening brace of the document. There
/// the document was cut off, and what follows is the next one.
#[derive(Debug, Clone, Default)]
pub(super) struct DocumentEnd {
    depth: u64,
    in_string: bool,
    escaped: bool,
    after_lf: bool,
}

/// What a window says of the end of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The document is whole and ends before this offset of the window.
    Ends(usize),
    /// The document was cut off; whatever comes next begins at this offset of the window.
    Torn(usize),
    /// The document goes on behind the window.
    Open,
}

impl DocumentEnd {
    /// Returns a search that has seen nothing of its document.
    pub(super) fn new() -> DocumentEnd {
        DocumentEnd::default()
    }

    /// Looks at the next bytes of the document.
    ///
    /// Windows follow each other without gap or overlap; the first starts where the document does,
    /// or in white space before it. Once the answer is not [`Extent::Open`], the search is over.
    pub(super) fn scan(&mut self, window: &[u8]) -> Extent {
        let mut at = 0;
        while let Some(byte) = window.get(at) {
            if self.in_string {
                if self.escaped && *byte != b'\n' {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                let rest = window.get(at..).unwrap_or_default();
                let Some(found) = memchr3(b'"', b'\\', b'\n', rest) else {
                    return Extent::Open;
                };
                at += found + 1;
                match rest.get(found) {
                    Some(b'"') => self.in_string = false,
                    Some(b'\\') => self.escaped = true,
                    _ => return Extent::Torn(at),
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' if self.depth > 0 && self.after_lf => return Extent::Torn(at),
                b'{' => self.depth += 1,
                b'}' if self.depth <= 1 => return Extent::Ends(at + 1),
                b'}' => self.depth -= 1,
                _ => {}
            }
            self.after_lf = *byte == b'\n';
            at += 1;
        }
        Extent::Open
    }
}

/// Returns `true` if `bytes` are documents, each of them whole, and nothing else.
///
/// The line feed behind a document is not waited for: Coraza writes none, and nothing but that can
/// be missing once the document is closed.
pub(super) fn is_complete(mut bytes: &[u8]) -> bool {
    loop {
        let mut search = DocumentEnd::new();
        match (bytes.first(), search.scan(bytes)) {
            (Some(b'{'), Extent::Ends(end)) => {
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
    fn scan(bytes: &[u8], size: usize) -> Extent {
        let mut search = DocumentEnd::new();
        for (n, window) in bytes.chunks(size).enumerate() {
            match search.scan(window) {
                Extent::Ends(at) => return Extent::Ends(n * size + at),
                Extent::Torn(at) => return Extent::Torn(n * size + at),
                Extent::Open => {}
            }
        }
        Extent::Open
    }

    #[test]
    fn a_document_ends_with_its_own_brace_or_where_it_was_torn() {
        use Extent::{Ends, Open, Torn};
        for (bytes, want) in [
            (&br#"{"a":1}"#[..], Ends(7)),
            (br#"{"a":{"b":"}\"}\\"}} {"#, Ends(20)),
            (b"  {}\n{}", Ends(4)),
            (b"{\n \"a\":\n  {\n \"b\": 1}\n}\n", Ends(22)),
            (b"{\"a\":\"b\n{\"c\":1}", Torn(8)),
            (b"{\"a\":\n{\"c\":1}}", Torn(6)),
            (b"{\"a\":\"b\\\n{\"c\":1}", Torn(9)),
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

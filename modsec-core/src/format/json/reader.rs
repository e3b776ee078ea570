//! Walking a JSON document without demanding that it is one.
//!
//! ```text
//! {"status":403,"headers":{"A":"1","A":"2"},"body":["x","y"],"n":,"z":{"a":[1]},"last":"cu
//! `- object: hands each key over, whose reader takes the value
//!          `- number: 403, and also "403"
//!                         `- object again: `A` comes twice
//!                                                  `- body: chunks, joined
//!                                                               `- text: absent
//!                                                                   `- skip: without recursion
//!                                                                                 `- Malformed
//! ```
//!
//! The engines' documents may hold bytes that are not UTF-8, repeat keys, lack a value
//! (`"http_version":,`) or stop in the middle, and one odd byte must not hide the rest. So the
//! reader goes from value to value, in the order of the bytes: what was read before a broken place
//! stays read, a value of an unexpected kind is skipped, and nothing is kept that nobody asked
//! for. It does not recurse into what it skips.

use std::borrow::Cow;
use std::str::FromStr;

use memchr::{memchr, memchr3};

use super::document_end::begins_another;
use crate::record::{Body, MAX_BODY_KEPT};
use crate::text::Text;

/// The document ends too early, or is no JSON at this place. Nothing behind can be read.
#[derive(Debug)]
pub(super) struct Malformed;

/// Bytes of a string that are missing because the document was abridged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Offset of the quote that closes the string.
    pub(super) closing_quote: usize,
    /// Length of what is missing before it, in decoded bytes.
    pub(super) len: u64,
}

/// A place in a document.
#[derive(Debug)]
pub(super) struct JsonReader<'a> {
    /// The document, perhaps without its end.
    bytes: &'a [u8],
    /// Offset of what is read next.
    at: usize,
    /// What is missing in an abridged document, by ascending offsets.
    gaps: &'a [Gap],
    /// Whether a text other than a body was read that has a gap.
    pub(super) text_with_gap: bool,
}

impl<'a> JsonReader<'a> {
    /// Begins at the start of `bytes`. `gaps` are those of an abridged document, or none.
    pub(super) fn new(bytes: &'a [u8], gaps: &'a [Gap]) -> JsonReader<'a> {
        JsonReader {
            bytes,
            at: 0,
            gaps,
            text_with_gap: false,
        }
    }

    /// Begins at an offset.
    pub(super) fn starting_at(self, at: usize) -> JsonReader<'a> {
        JsonReader { at, ..self }
    }

    /// Returns what stands behind the last value read.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Reads an object; `member` is called with each key and must read its value. Any other value
    /// is skipped.
    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, [u8]>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if self.peek()? != b'{' {
            return self.skip();
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                b',' => self.at += 1,
                b'"' => {
                    let key = self.string()?;
                    if self.peek()? != b':' {
                        return Err(Malformed);
                    }
                    self.at += 1;
                    member(self, key)?;
                }
                _ => return Err(Malformed),
            }
        }
    }

    /// Reads an array; `item` is called before each value and must read it. Any other value is
    /// skipped.
    pub(super) fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if self.peek()? != b'[' {
            return self.skip();
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                b',' => self.at += 1,
                b'}' => return Err(Malformed),
                _ => item(self)?,
            }
        }
    }

    /// Reads a string, or an array of strings; `each` gets one after the other.
    pub(super) fn texts(&mut self, mut each: impl FnMut(Text<'a>)) -> Result<(), Malformed> {
        if self.peek()? == b'[' {
            return self.array(|reader| {
                if let Some(text) = reader.text()? {
                    each(text);
                }
                Ok(())
            });
        }
        if let Some(text) = self.text()? {
            each(text);
        }
        Ok(())
    }

    /// Reads a string, or a number as it is spelled; `None` for everything else.
    pub(super) fn text(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        match self.peek()? {
            b'"' => Ok(Some(self.string()?.into())),
            b'{' | b'[' => self.skip().map(|()| None),
            _ => {
                let bare = self.bare()?;
                let absent = bare.is_empty() || bare == b"null";
                Ok((!absent).then(|| bare.into()))
            }
        }
    }

    /// Reads a text; `None` also for an empty one.
    pub(super) fn filled(&mut self) -> Result<Option<Text<'a>>, Malformed> {
        Ok(self.text()?.filter(|text| !text.is_empty()))
    }

    /// Reads a number, or a string that is one.
    pub(super) fn number<N: FromStr>(&mut self) -> Result<Option<N>, Malformed> {
        let text = self.text()?;
        Ok(text.and_then(|text| text.to_str()?.parse().ok()))
    }

    /// Reads `true` or `false`.
    pub(super) fn truth(&mut self) -> Result<Option<bool>, Malformed> {
        self.number()
    }

    /// Reads a body: a string, or an array of its chunks. What was read before a cut is kept.
    pub(super) fn body(&mut self, into: &mut Option<Body<'a>>) -> Result<(), Malformed> {
        match self.peek()? {
            b'"' => self.chunk(into),
            b'[' => self.array(|reader| match reader.peek()? {
                b'"' => reader.chunk(into),
                _ => reader.skip(),
            }),
            _ => self.skip(),
        }
    }

    /// Adds a string to a body. One alone that has no escapes is borrowed; of all others the bytes up to
    /// the bound are copied. A string without an end counts up to the end of its line.
    fn chunk(&mut self, into: &mut Option<Body<'a>>) -> Result<(), Malformed> {
        let whole = self.raw_string();
        let (raw, escaped) = whole.as_ref().map_or_else(
            |_| (first_line(self.rest().get(1..).unwrap_or_default()), true),
            |raw| (raw.bytes, raw.escaped),
        );
        let body = into.get_or_insert_with(|| Body {
            kept: Text::default(),
            len: 0,
        });
        if !escaped && body.len == 0 {
            body.kept = raw.get(..MAX_BODY_KEPT).unwrap_or(raw).into();
            body.len = raw.len() as u64;
        } else {
            let mut kept = std::mem::take(&mut body.kept).into_bytes().into_owned();
            unescape(raw, |part| {
                body.len += part.len() as u64;
                let room = MAX_BODY_KEPT - kept.len().min(MAX_BODY_KEPT);
                kept.extend_from_slice(part.get(..room).unwrap_or(part));
            });
            body.kept = kept.into();
        }
        let end = whole.as_ref().map_or_else(
            |_| self.at + 1 + raw.len(), // where it was cut off
            |raw| raw.closing_quote,
        );
        body.len += self.gap(end);
        whole.map(drop)
    }

    /// Passes over one value of any kind.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.raw_string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => {
                    self.bare()?;
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// Skips white space and returns the byte behind it, which stays to be read. A line that
    /// [`begins_another`] entry does not belong to the document.
    fn peek(&mut self) -> Result<u8, Malformed> {
        loop {
            match self.bytes.get(self.at) {
                Some(b'\n') if self.another_begins() => return Err(Malformed),
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Malformed),
            }
        }
    }

    /// Returns `true` if another entry begins behind the LF at hand.
    fn another_begins(&self) -> bool {
        let next = self.bytes.get(self.at + 1);
        next.is_some_and(|next| begins_another(*next))
    }

    /// Reads a number or a word, or whatever stands in the place of one, also nothing. Unless a
    /// comma or the end of its container follows, its last digits may be missing.
    fn bare(&mut self) -> Result<&'a [u8], Malformed> {
        let rest = self.rest();
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b',' | b'}' | b']' | b'{' | b'[' | b'"'))
            .filter(|end| matches!(rest.get(*end), Some(b',' | b'}' | b']')))
            .ok_or(Malformed)?;
        let value = rest.get(..end).unwrap_or_default();
        if value.contains(&b'\n') && value.windows(2).any(|two| two == b"\n-") {
            return Err(Malformed);
        }
        self.at += end;
        Ok(value.trim_ascii())
    }

    /// Reads a string, decoded; borrowed if nothing in it is escaped.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, Malformed> {
        let start = self.at + 1;
        let first = self.next_special(start)?;
        let plain = self.bytes.get(start..first).unwrap_or_default();
        let (text, closing_quote) = if self.bytes.get(first) == Some(&b'"') {
            (Cow::Borrowed(plain), first)
        } else {
            let (text, end) = self.escaped_string(plain, first)?;
            (Cow::Owned(text), end)
        };
        self.at = closing_quote + 1;
        self.text_with_gap |= self.gap(closing_quote) > 0;
        Ok(text)
    }

    /// Decodes a string from its first escape on, and returns it with the place of its end. One
    /// pass, because most long strings are full of escapes.
    fn escaped_string(&self, plain: &[u8], first: usize) -> Result<(Vec<u8>, usize), Malformed> {
        let mut text = Vec::with_capacity(plain.len() + 512);
        text.extend_from_slice(plain);
        let mut at = first;
        loop {
            let behind = self.bytes.get(at + 1..).unwrap_or_default();
            match (self.bytes.get(at), behind.first()) {
                (Some(b'"'), _) => return Ok((text, at)),
                (Some(b'\\'), Some(byte @ (b'"' | b'\\' | b'/'))) => {
                    text.push(*byte);
                    at += 2;
                }
                (Some(b'\\'), Some(byte)) if *byte != b'\n' => {
                    let (character, used) = escape(behind).unwrap_or(('\\', 0));
                    text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    at += 1 + used;
                }
                _ => return Err(Malformed),
            }
            // Escapes often follow each other.
            if !matches!(self.bytes.get(at), Some(b'\\' | b'"')) {
                let next = self.next_special(at)?;
                text.extend_from_slice(self.bytes.get(at..next).unwrap_or_default());
                at = next;
            }
        }
    }

    /// Finds the next quote, backslash or line feed.
    fn next_special(&self, from: usize) -> Result<usize, Malformed> {
        let rest = self.bytes.get(from..).ok_or(Malformed)?;
        Ok(from + memchr3(b'"', b'\\', b'\n', rest).ok_or(Malformed)?)
    }

    /// Reads the string whose opening quote comes next; stays there if it has no end.
    fn raw_string(&mut self) -> Result<RawString<'a>, Malformed> {
        let start = self.at + 1;
        let mut end = start;
        let mut escaped = false;
        loop {
            if !matches!(self.bytes.get(end), Some(b'\\' | b'"')) {
                end = self.next_special(end)?;
            }
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') if self.bytes.get(end + 1) != Some(&b'\n') => escaped = true,
                // No engine writes a line feed into a string: here the line was cut off.
                _ => return Err(Malformed),
            }
            end += 2;
        }
        self.at = end + 1;
        Ok(RawString {
            bytes: self.bytes.get(start..end).unwrap_or_default(),
            escaped,
            closing_quote: end,
        })
    }

    /// Returns how many decoded bytes are missing in front of a closing quote.
    fn gap(&self, closing_quote: usize) -> u64 {
        self.gaps
            .binary_search_by_key(&closing_quote, |gap| gap.closing_quote)
            .ok()
            .and_then(|found| self.gaps.get(found))
            .map_or(0, |gap| gap.len)
    }
}

/// A string as it is spelled between its quotes.
struct RawString<'a> {
    /// What stands between the quotes, escapes as they are spelled.
    bytes: &'a [u8],
    /// Whether there are escapes. Without any, the bytes can be borrowed.
    escaped: bool,
    /// Offset of the closing quote in the document, by which a gap is found.
    closing_quote: usize,
}

/// Returns what stands before the first LF.
fn first_line(bytes: &[u8]) -> &[u8] {
    let end = memchr(b'\n', bytes).unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or(bytes)
}

/// Undoes JSON's escapes and hands the text over in pieces. What is no escape stays as it is; half
/// a surrogate pair becomes U+FFFD.
fn unescape(raw: &[u8], mut out: impl FnMut(&[u8])) {
    let mut rest = raw;
    loop {
        let plain = memchr(b'\\', rest).unwrap_or(rest.len());
        let (before, behind) = rest.split_at(plain);
        if !before.is_empty() {
            out(before);
        }
        let Some(behind) = behind.get(1..) else {
            return;
        };
        let (character, used) = escape(behind).unwrap_or(('\\', 0));
        out(character.encode_utf8(&mut [0; 4]).as_bytes());
        rest = behind.get(used..).unwrap_or_default();
    }
}

/// Returns the character that the text behind a backslash stands for, and how long that text is.
pub(super) fn escape(behind: &[u8]) -> Option<(char, usize)> {
    let character = match behind.first()? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'u' => return unicode_escape(behind.get(1..)?),
        _ => return None,
    };
    Some((character, 1))
}

/// Reads the digits behind `\u`, and with the first half of a surrogate pair the second. Returns the
/// character, and the length from the `u` on: 5 or 11.
fn unicode_escape(digits: &[u8]) -> Option<(char, usize)> {
    let unit = hex(digits)?;
    if let 0xd800..0xdc00 = unit
        && let Some(low) = digits.get(4..).and_then(|rest| rest.strip_prefix(b"\\u"))
        && let Some(low @ 0xdc00..0xe000) = hex(low)
    {
        let scalar = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
        return Some((char::from_u32(scalar)?, 11));
    }
    let character = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
    Some((character, 5))
}

/// Reads the first four bytes as a hexadecimal number; `None` if they are no such digits or too
/// few.
fn hex(digits: &[u8]) -> Option<u32> {
    digits.get(..4)?.iter().try_fold(0, |sum, digit| {
        Some(sum * 16 + char::from(*digit).to_digit(16)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(document: &[u8]) -> Option<String> {
        let text = JsonReader::new(document, &[]).text().ok()??;
        Some(text.as_bytes().escape_ascii().to_string())
    }

    #[test]
    fn strings_are_decoded_and_odd_ones_kept() {
        for (document, want) in [
            (&br#""plain""#[..], "plain"),
            (br#" "a\"b\\c\/d\b\f\n\r\t" "#, r#"a\"b\\c/d\x08\x0c\n\r\t"#),
            (
                br#""\u0000\u041f\ud83d\ude00""#,
                r"\x00\xd0\x9f\xf0\x9f\x98\x80",
            ),
            (
                br#""\ud83d \ude00 \ud83dx""#,
                r"\xef\xbf\xbd \xef\xbf\xbd \xef\xbf\xbdx",
            ),
            (br#""\q \u12 \u12g4""#, r"\\q \\u12 \\u12g4"),
            (b"\"\xff\x00\r\"", r"\xff\x00\r"),
            (b"\"\"", ""),
        ] {
            assert_eq!(
                text(document).as_deref(),
                Some(want),
                "document {document:?}"
            );
        }
    }

    #[test]
    fn a_borrowed_string_is_not_copied() {
        let document = br#"["plain", "esc\n"]"#;
        let mut borrowed = Vec::new();
        JsonReader::new(document, &[])
            .texts(|text| borrowed.push(matches!(text.into_bytes(), Cow::Borrowed(_))))
            .unwrap();
        assert_eq!(borrowed, [true, false]);
    }

    #[test]
    fn other_values_are_read_as_far_as_they_make_sense() {
        for (document, number, truth) in [
            (&b"403,"[..], Some(403), None),
            (b"\"403\"", Some(403), None),
            (b"1e9999,", None, None),
            (b"99999999999999999999999,", None, None),
            (b"true}", None, Some(true)),
            (b"null,", None, None),
            (b",", None, None),
            (b"{\"a\":[1,{}]}", None, None),
        ] {
            let read = JsonReader::new(document, &[]).number::<u16>().unwrap();
            assert_eq!(read, number, "document {document:?}");
            let read = JsonReader::new(document, &[]).truth().unwrap();
            assert_eq!(read, truth, "document {document:?}");
        }
    }

    #[test]
    fn a_value_without_its_end_is_not_read() {
        for document in [
            "", " ", "\"", "\"a", "\"a\n\"", "\"a\\", "\"a\\\"", "40", "tru", "[1,", "{\"a\":1",
        ] {
            assert!(
                JsonReader::new(document.as_bytes(), &[]).skip().is_err(),
                "{document:?}"
            );
            assert_eq!(text(document.as_bytes()), None, "{document:?}");
        }
    }

    #[test]
    fn skipping_needs_no_stack() {
        let mut document = b"[".repeat(1 << 20);
        document.extend(b"]".repeat(1 << 20));
        document.push(b'x');
        let mut reader = JsonReader::new(&document, &[]);
        reader.skip().unwrap();
        assert_eq!(reader.rest(), b"x");
    }

    #[test]
    fn chunks_of_a_body_are_joined_and_its_end_may_be_missing() {
        for (document, want, whole) in [
            (&br#""abc""#[..], Some("abc"), true),
            (br#"["ab","c\n"]"#, Some("abc\n"), true),
            (br#"["ab","c\n"#, Some("abc\n"), false),
            (br#""ab"#, Some("ab"), false),
            (b"\"ab\n{\"a\":1}", Some("ab"), false),
            (b"[", None, false),
            (b"[]", None, true),
            (br#"[1,{"a":"b"}]"#, None, true),
            (b"null,", None, true),
        ] {
            let mut body = None;
            let read = JsonReader::new(document, &[]).body(&mut body);
            assert_eq!(read.is_ok(), whole, "document {document:?}");
            let got = body.map(|body| (body.kept.to_string(), body.len));
            let want = want.map(|want| (want.to_owned(), want.len() as u64));
            assert_eq!(got, want, "document {document:?}");
        }
    }
}

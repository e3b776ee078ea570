//! Bytes that somebody else chose, shown as text only at the edges.

use std::borrow::Cow;
use std::fmt;

/// A run of bytes from an audit log that is meant as text.
///
/// ModSecurity copies what the client sent, so the bytes may be invalid UTF-8, hold NULs or
/// terminal escapes. They stay as they are in here. [`Text::to_str_lossy`] and `Display` decode
/// lossily (U+FFFD for what is not UTF-8); `Debug` quotes and escapes, and is what belongs into a
/// log line or on a terminal.
///
/// ```
/// use modsec_core::Text;
///
/// let text = Text::from(&b"caf\xc3\xa9 \xff\x1b[31m"[..]);
/// assert_eq!(text.to_str(), None);
/// assert_eq!(text.to_string(), "café \u{fffd}\u{1b}[31m");
/// assert_eq!(format!("{text:?}"), r#""caf\xc3\xa9 \xff\x1b[31m""#);
/// assert_eq!(text.len(), 12);
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<'a>(Cow<'a, [u8]>);

impl<'a> Text<'a> {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the text with every invalid sequence replaced by U+FFFD. Control characters stay: for a
    /// terminal, [`visible`] escapes them.
    pub fn to_str_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// Returns the text if it is valid UTF-8; `None` otherwise, whatever else is in it.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// Returns the number of bytes, not of characters.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns `true` if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the first `len` bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        match &mut self.0 {
            Cow::Borrowed(bytes) => *bytes = bytes.get(..len).unwrap_or(bytes),
            Cow::Owned(bytes) => {
                bytes.truncate(len);
                bytes.shrink_to_fit();
            }
        }
    }

    /// Copies what is borrowed, so that the text may outlive the entry it was read from.
    pub fn into_owned(self) -> Text<'static> {
        Text(Cow::Owned(self.0.into_owned()))
    }

    /// Returns the bytes, copied only if they were borrowed.
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        self.0
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.to_str_lossy())
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl<'a> From<&'a [u8]> for Text<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Text(Cow::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Text(Cow::Borrowed(text.as_bytes()))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Text(Cow::Owned(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Text<'_> {
    fn from(bytes: Vec<u8>) -> Self {
        Text(Cow::Owned(bytes))
    }
}

impl<'a> From<Cow<'a, [u8]>> for Text<'a> {
    fn from(bytes: Cow<'a, [u8]>) -> Self {
        Text(bytes)
    }
}

impl PartialEq<str> for Text<'_> {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

/// Returns `text` with all that a terminal would not show as it is written as `\u{202e}`, `\n`:
/// control characters, characters that turn the direction of writing, that have no width, that end
/// a line.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if is_visible(char) {
            shown.push(char);
        } else {
            shown.extend(char.escape_debug());
        }
    }
    shown
}

/// Returns `false` for what a terminal would not show as it is written.
pub(crate) fn is_visible(char: char) -> bool {
    matches!(char, ' '..='~') || char.escape_debug().len() == 1
}

/// Returns the same JSON without what a terminal would not show as it is: such characters stand in
/// strings only, and are escaped there.
#[cfg(feature = "serde")]
pub(crate) fn visible_json(json: &str) -> std::borrow::Cow<'_, str> {
    use std::fmt::Write as _;

    // A line feed ends the line; in strings it is escaped already.
    let stays = |char: char| char == '\n' || is_visible(char);
    if json.chars().all(stays) {
        return json.into();
    }
    let mut shown = String::with_capacity(json.len() + 64);
    for char in json.chars() {
        if stays(char) {
            shown.push(char);
        } else {
            for unit in char.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        }
    }
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_never_carries_control_bytes() {
        let text = Text::from(&b"a\x1b[31m\n\xff\"b"[..]);
        assert_eq!(format!("{text:?}"), r#""a\x1b[31m\n\xff\"b""#);
    }

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        for char in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{fff9}',
            '\u{e0041}',
            '\u{e000}',
        ] {
            let shown = visible(&format!("a{char}b"));
            assert!(
                shown.is_ascii() && !shown.contains(char::is_control),
                "{shown:?}"
            );
        }
        let plain = "/Привет/日本/?a='\"\\&<é>";
        assert_eq!(visible(plain), plain);
    }

    #[cfg(feature = "serde")]
    #[test]
    fn json_says_the_same_when_it_is_made_visible() {
        let text = "П\u{202e}\u{2028}\u{9b}\u{e0041}\u{7f}\u{1b}\"\\x";
        let json = serde_json::to_string(text).unwrap();
        let shown = visible_json(&json);
        assert!(shown.chars().all(is_visible), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        assert_eq!(visible_json("{\"a\":\"Привет\"}"), "{\"a\":\"Привет\"}");
    }

    #[test]
    fn display_replaces_only_what_is_not_utf8() {
        let text = Text::from(&b"\xd0\x9f\xff"[..]);
        assert_eq!(text.to_string(), "П\u{fffd}");
        assert_eq!(text.to_str(), None);
    }
}

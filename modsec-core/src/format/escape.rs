//! The engines' ways of escaping values, undone.
//!
//! | who | where | quote | backslash | control | 8 bits |
//! | --- | --- | --- | --- | --- | --- |
//! | ModSecurity 2, `log_escape` | metadata but `data`, part J, index | `\"` | `\\` | `\n`, `\x0c` | `\xd0` |
//! | ModSecurity 2, `log_escape_hex` | `data` | `\x22` | `\x5c` | `\x0a` | `\xd0` |
//! | libmodsecurity, `toHexIfNeeded` | all of part H | as it is | as it is | `\x0a` | `\xd0` |
//! | libmodsecurity since 3.0.9 | `rev`, `data`, `ver`, `tag` | `\x22` | `\x5c` | `\x0a` | `\xd0` |
//! | Coraza, `%q` of Go | metadata, part J | `\"` | `\\` | `\n`, `\x00` | UTF-8, else `\xff` |
//!
//! Hexadecimal digits are lower case. Brackets are escaped nowhere. Where quotes and backslashes are
//! left as they are, text that looks like an escape cannot be told from one.

use std::borrow::Cow;

use memchr::memchr;

/// Undoes `log_escape`: `\"`, `\\`, `\b`, `\n`, `\r`, `\t`, `\v` and `\xhh`.
///
/// What is no escape of this kind stays as it is, so a value cut inside an escape loses nothing.
/// `a\"b\xd0\x97\q` is `a"bЗ\q`.
pub(super) fn unescape(value: &[u8]) -> Cow<'_, [u8]> {
    replace(value, |rest| match rest {
        [b'"', ..] => Some((b'"', 1)),
        [b'\\', ..] => Some((b'\\', 1)),
        [b'b', ..] => Some((0x08, 1)),
        [b'n', ..] => Some((b'\n', 1)),
        [b'r', ..] => Some((b'\r', 1)),
        [b't', ..] => Some((b'\t', 1)),
        [b'v', ..] => Some((0x0b, 1)),
        _ => hex_escape(rest),
    })
}

/// Undoes `log_escape_hex`, which the engine uses for `logdata`: `\xhh` and nothing else. A backslash
/// of the value itself is `\x5c`, so `\"` is two bytes.
pub(super) fn unescape_hex(value: &[u8]) -> Cow<'_, [u8]> {
    replace(value, hex_escape)
}

/// Undoes what libmodsecurity does to control characters and bytes from 0x7f on: `\xhh`.
///
/// Of releases from 3.0.9 on, and in some fields only, a quote and a backslash are escaped too.
/// If one stands there bare they are not, and what looks like their escape is text.
pub(super) fn unescape_v3(value: &[u8], specials: bool) -> Cow<'_, [u8]> {
    let specials = specials
        && !value.contains(&b'"')
        && memchr::memchr_iter(b'\\', value).all(|at| {
            let behind = value.get(at + 1..).unwrap_or_default();
            hex_escape(behind).is_some_and(|(byte, _)| is_hidden(byte) || is_special(byte))
        });
    replace(value, |rest| {
        hex_escape(rest).filter(|(byte, _)| is_hidden(*byte) || (specials && is_special(*byte)))
    })
}

/// Writes a text as libmodsecurity does, quotes and backslashes as they are.
pub(super) fn escape_v3(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for byte in text {
        if is_hidden(*byte) {
            out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
        } else {
            out.push(*byte);
        }
    }
    out
}

/// Undoes the quoting of Go (`%q`), without the quotes around it.
///
/// What is no escape of this kind stays as it is.
pub(super) fn unescape_go(value: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\\', value).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some(at) = memchr(b'\\', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let behind = escape.get(1..).unwrap_or_default();
        let used = go_escape(behind, &mut out).unwrap_or_else(|| {
            out.push(b'\\');
            0
        });
        rest = behind.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    Cow::Owned(out)
}

/// Appends what the escape stands for and returns how many bytes behind the backslash it has.
fn go_escape(behind: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let digits = match behind.first()? {
        b'u' => 4,
        b'U' => 8,
        b'x' => {
            let (byte, used) = hex_escape(behind)?;
            out.push(byte);
            return Some(used);
        }
        letter => {
            let letters = b"\"\\'abfnrtv";
            let bytes = b"\"\\'\x07\x08\x0c\n\r\t\x0b";
            let at = letters.iter().position(|known| known == letter)?;
            out.push(*bytes.get(at)?);
            return Some(1);
        }
    };
    let digits = std::str::from_utf8(behind.get(1..=digits)?).ok()?;
    let letter = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    Some(1 + digits.len())
}

/// Splits a quoted string off the front; a backslash escapes the byte behind it. Returns what stands
/// between the quotes, still escaped, and what stands behind; `None` without a quote at both ends.
pub(super) fn quoted(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let mut at = 0;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(found) == Some(&b'"') {
            return Some((text.get(..found)?, text.get(found + 1..)?));
        }
        at = found + 2;
    }
}

/// Returns `true` for a byte that libmodsecurity escapes everywhere.
fn is_hidden(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~')
}

/// Returns `true` for a byte that it escapes in some fields, since 3.0.9.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\')
}

/// Reads `xhh`, what stands behind a backslash; returns the byte and the length, 3.
fn hex_escape(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'x', high, low, ..] => Some((hex_digit(*high)? << 4 | hex_digit(*low)?, 3)),
        _ => None,
    }
}

/// Returns the value of a hexadecimal digit; `None` for any other byte. The engine writes
/// lower-case digits only.
fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// Replaces each escape by the byte that `decode` makes of what follows the backslash; `decode`
/// returns that byte and how many bytes behind the backslash it stands for.
fn replace(value: &[u8], decode: impl Fn(&[u8]) -> Option<(u8, usize)>) -> Cow<'_, [u8]> {
    let Some(first) = memchr(b'\\', value) else {
        return Cow::Borrowed(value);
    };
    let mut out = Vec::with_capacity(value.len());
    let (plain, mut rest) = value.split_at(first);
    out.extend_from_slice(plain);
    while let Some((&backslash, behind)) = rest.split_first() {
        let (byte, used) = decode(behind).unwrap_or((backslash, 0));
        out.push(byte);
        rest = behind.get(used..).unwrap_or_default();
        let next = memchr(b'\\', rest).unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(next);
        out.extend_from_slice(plain);
        rest = tail;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_of_a_field() {
        for (input, field, data) in [
            (r"plain", &b"plain"[..], &b"plain"[..]),
            (r#"a\"b"#, b"a\"b", b"a\\\"b"),
            (r"a\\b", b"a\\b", b"a\\\\b"),
            (r"\b\n\r\t\v", b"\x08\n\r\t\x0b", b"\\b\\n\\r\\t\\v"),
            (r"\xd0\x97", b"\xd0\x97", b"\xd0\x97"),
            (r"\x5cx41", b"\\x41", b"\\x41"),
            (r"cut\x2", b"cut\\x2", b"cut\\x2"),
            (r"cut\x2...", b"cut\\x2...", b"cut\\x2..."),
            (r"\xZZ\xAB\q\", b"\\xZZ\\xAB\\q\\", b"\\xZZ\\xAB\\q\\"),
            (r"\\x41", b"\\x41", b"\\A"),
        ] {
            assert_eq!(unescape(input.as_bytes()), field, "input {input:?}");
            assert_eq!(unescape_hex(input.as_bytes()), data, "input {input:?}");
        }
    }

    #[test]
    fn only_what_libmodsecurity_escapes_is_undone() {
        for (input, msg, data) in [
            (r"\xd0\x97", &b"\xd0\x97"[..], &b"\xd0\x97"[..]),
            (r"a\x22b\x5c", br"a\x22b\x5c", b"a\"b\\"),
            (r"a\x41", br"a\x41", br"a\x41"),
            (r"a\x22\x41", br"a\x22\x41", br"a\x22\x41"),
            (r#"a"\x22"#, br#"a"\x22"#, br#"a"\x22"#),
            (r"a\x00\x7f", b"a\0\x7f", b"a\0\x7f"),
            (r"cut\x0", br"cut\x0", br"cut\x0"),
        ] {
            assert_eq!(unescape_v3(input.as_bytes(), false), msg, "{input}");
            assert_eq!(unescape_v3(input.as_bytes(), true), data, "{input}");
        }
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != b'\\').collect();
        assert_eq!(unescape_v3(&escape_v3(&all), false), all);
    }

    #[test]
    fn every_escape_of_go() {
        for (input, want) in [
            (r"plain \xd0\x97", &b"plain \xd0\x97"[..]),
            (r#"\"\\\'"#, b"\"\\'"),
            (r"\a\b\f\n\r\t\v", b"\x07\x08\x0c\n\r\t\x0b"),
            (r"\u2028\U0001f600\x7f", "\u{2028}\u{1f600}\x7f".as_bytes()),
            (r"\ud800\q\u12", br"\ud800\q\u12"),
            (r"\", br"\"),
            (r"\\x41", br"\x41"),
            ("Юг", "Юг".as_bytes()),
        ] {
            assert_eq!(unescape_go(input.as_bytes()), want, "{input}");
        }
    }
}

//! The engines' ways of escaping values, undone.

use std::borrow::Cow;

use memchr::memchr;

/// Undoes `log_escape`: `\"`, `\\`, `\b`, `\n`, `\r`, `\t`, `\v` and `\xhh`.
///
/// What is no escape of this kind stays as it is, so a value cut inside an escape loses nothing.
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

/// Undoes `log_escape_hex`, which the engine uses for `logdata`: `\xhh` and nothing else.
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

fn is_hidden(byte: u8) -> bool {
    !matches!(byte, b' '..=b'~')
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\')
}

fn hex_escape(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [b'x', high, low, ..] => Some((hex_digit(*high)? << 4 | hex_digit(*low)?, 3)),
        _ => None,
    }
}

/// The engine writes lower-case digits only.
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
}

//! The engine's two ways of escaping values, undone.

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
}

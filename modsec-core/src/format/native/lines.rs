//! Lines of a part, and the one header on which the framing depends.

use memchr::{memchr, memchr_iter};

use crate::format::digits::number;

/// Returns the first line, without its LF; all of the content if there is none.
pub(super) fn first_line(content: &[u8]) -> &[u8] {
    memchr(b'\n', content)
        .and_then(|end| content.get(..end))
        .unwrap_or(content)
}

/// Splits at LF only: the engines write no other line end, and a CR of the client's is content.
pub(super) fn lines(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr_iter(b'\n', content)
        .chain(std::iter::once(content.len()))
        .filter_map(move |end| {
            let line = content.get(start..end);
            start = end + 1;
            line
        })
}

/// Returns the name and the value of a header, the value as it stands behind the colon: in general a
/// space and the text. `None` for a line without a colon.
pub(super) fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
    Some((name, value.get(1..)?))
}

/// Returns the length in bytes that the headers of part B or F announce for the body, if they do
/// so plainly: one number, and no transfer coding.
///
/// With two lengths, or with one and a coding, a proxy and the server may have read the message
/// differently; neither is believed then.
pub(crate) fn content_length(headers: &[u8]) -> Option<u64> {
    let mut length = None;
    for (name, value) in lines(headers).skip(1).filter_map(header) {
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            return None;
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.is_some() {
                return None;
            }
            length = Some(number(value.trim_ascii())?);
        }
    }
    length
}

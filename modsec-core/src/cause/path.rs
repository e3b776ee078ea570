//! The path of a request, and paths of one kind under one name.

/// Returns the path of a request's URI: without scheme and host, query and fragment. Percent
/// escapes stay as they are.
///
/// ```
/// use modsec_core::cause::path;
///
/// assert_eq!(path(b"/shop/item?id=1"), b"/shop/item");
/// assert_eq!(path(b"http://shop.example.org/item"), b"/item");
/// ```
pub fn path(uri: &[u8]) -> &[u8] {
    let end = uri.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let whole = uri.get(..end.unwrap_or(uri.len())).unwrap_or(uri);
    let is_absolute = whole.first().is_some_and(u8::is_ascii_alphabetic);
    let Some(scheme) = memchr::memmem::find(whole, b"://").filter(|_| is_absolute) else {
        return whole;
    };
    let behind = whole.get(scheme + 3..).unwrap_or_default();
    match memchr::memchr(b'/', behind) {
        Some(slash) => behind.get(slash..).unwrap_or_default(),
        None => b"/",
    }
}

/// Returns a path in which what differs from request to request has a name: `{n}` for a run of
/// digits, `{uuid}`, and `{hex}` for at least eight hexadecimal digits, letters and digits mixed.
///
/// ```
/// use modsec_core::cause::path_template;
///
/// assert_eq!(path_template(b"/api/v2/items/17"), b"/api/v{n}/items/{n}");
/// assert_eq!(path_template(b"/main.3f2a9c1b.js"), b"/main.{hex}.js");
/// ```
pub fn path_template(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(&byte) = rest.first() {
        let (len, name): (usize, &[u8]) = if byte == b'%' {
            // An escape is one character; its digits are no number.
            (rest.len().min(3), b"")
        } else if !byte.is_ascii_alphanumeric() {
            (1, b"")
        } else if let Some(len) = uuid(rest) {
            (len, b"{uuid}")
        } else {
            let word = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric());
            let len = word.count();
            let word = rest.get(..len).unwrap_or(rest);
            if is_hex(word) {
                (len, b"{hex}")
            } else {
                numbers(word, &mut out);
                rest = rest.get(len..).unwrap_or_default();
                continue;
            }
        };
        let taken = rest.get(..len).unwrap_or(rest);
        out.extend_from_slice(if name.is_empty() { taken } else { name });
        rest = rest.get(len..).unwrap_or_default();
    }
    out
}

/// Returns the length of the UUID at the start, if there is one: 36.
fn uuid(text: &[u8]) -> Option<usize> {
    /// Hexadecimal digits of each group (RFC 9562, section 4).
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let mut at = 0;
    for (n, len) in GROUPS.into_iter().enumerate() {
        if n > 0 {
            (text.get(at) == Some(&b'-')).then_some(())?;
            at += 1;
        }
        let group = text.get(at..at + len)?;
        group.iter().all(u8::is_ascii_hexdigit).then_some(())?;
        at += len;
    }
    let ends = !text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    ends.then_some(at)
}

/// Returns `true` for at least eight hexadecimal digits, letters and digits mixed.
fn is_hex(word: &[u8]) -> bool {
    word.len() >= 8
        && word.iter().all(u8::is_ascii_hexdigit)
        && word.iter().any(u8::is_ascii_digit)
        && word.iter().any(u8::is_ascii_alphabetic)
}

/// Copies a word with `{n}` for each run of digits.
fn numbers(word: &[u8], out: &mut Vec<u8>) {
    for run in word.chunk_by(|one, next| one.is_ascii_digit() == next.is_ascii_digit()) {
        let is_number = run.first().is_some_and(u8::is_ascii_digit);
        out.extend_from_slice(if is_number { b"{n}" } else { run });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_path_is_what_stands_before_the_query() {
        for (uri, want) in [
            ("/a/b?c=d", "/a/b"),
            ("/a#b", "/a"),
            ("/a%3Fb", "/a%3Fb"),
            ("*", "*"),
            ("", ""),
            ("http://x.example", "/"),
            ("http://x.example/?u=http://y", "/"),
            ("https://x.example:8080/a", "/a"),
            (
                "/redirect/http://y.example/z",
                "/redirect/http://y.example/z",
            ),
            ("/?u=http://y", "/"),
        ] {
            assert_eq!(path(uri.as_bytes()), want.as_bytes(), "{uri}");
        }
    }

    #[test]
    fn what_differs_gets_a_name() {
        for (path, want) in [
            ("/", "/"),
            ("/item/42", "/item/{n}"),
            ("/item42b7/", "/item{n}b{n}/"),
            ("/2026/11/27/report.pdf", "/{n}/{n}/{n}/report.pdf"),
            ("/a%20b/%D0%92", "/a%20b/%D0%92"),
            ("/a%2", "/a%2"),
            ("/deadbeef/decade", "/deadbeef/decade"),
            ("/d41d8cd98f00b204e9800998ecf8427e", "/{hex}"),
            ("/x-3f2a9c1b.js", "/x-{hex}.js"),
            ("/12345678", "/{n}"),
            ("/3F2504E0-4F89-11D3-9A0C-0305E82C3301/x", "/{uuid}/x"),
            (
                "/3F2504E0-4F89-11D3-9A0C-0305E82C33011",
                "/{hex}-{n}F{n}-{n}D{n}-{n}A{n}C-{hex}",
            ),
            ("/caf\u{e9}1", "/caf\u{e9}{n}"),
        ] {
            let found = path_template(path.as_bytes());
            assert_eq!(String::from_utf8_lossy(&found), want, "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_template_of_a_template_is_itself(path in "[/a-f0-9g%.-]{0,60}") {
            let once = path_template(path.as_bytes());
            let twice = path_template(&once);
            prop_assert_eq!(once, twice);
        }
    }
}

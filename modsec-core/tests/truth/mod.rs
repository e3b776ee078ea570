//! How `truth.jsonl` writes what was sent.

/// Undoes the `\xNN` that the truth uses for bytes which are not UTF-8.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        out.extend(rest[..at].bytes());
        match u8::from_str_radix(rest.get(at + 2..at + 4).unwrap_or(""), 16) {
            Ok(byte) if byte >= 0x80 => {
                out.push(byte);
                rest = &rest[at + 4..];
            }
            _ => {
                out.extend(b"\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    out.extend(rest.bytes());
    out
}

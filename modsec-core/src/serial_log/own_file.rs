//! What may stand around an entry in a file of its own without being part of it.
//!
//! ```text
//! ␀␀␊--3fa0c41b-A--␊ … --3fa0c41b-Z--␊␍␊␀␀␀␀
//! `´                                  `-- ends of lines, and zeros as a crash or a block leaves them
//! ```
//!
//! A byte order mark may stand in front of it, too, as editors of Windows put one there.
//!
//! In a log the same bytes stand between entries and say nothing. Here they are left out, too: the entry
//! has the bytes that it has in a log, and is known if that was read. An entry as an engine writes it, up
//! to the line feeds at its end, loses nothing; nor does one that was cut off, whose last bytes may be
//! those of a body.

use super::{BOM, line_ends};
use crate::format::large;
use crate::format::native::Boundary;

/// Bytes at both ends of a file that are looked at; what is longer is not passed over.
pub(crate) const ENDS: usize = 4096;
/// What says nothing before an entry.
const BLANKS: [&[u8]; 4] = [b"\0", b"\r", b"\n", BOM];

/// Returns how many bytes before and behind an entry are none of it. `head` and `tail` are both ends of
/// its file, or all of it.
pub(crate) fn around(head: &[u8], tail: &[u8]) -> (usize, usize) {
    let before = before(head);
    let entry = head.get(before..).unwrap_or_default();
    let run = tail
        .iter()
        .rev()
        .take_while(|byte| matches!(byte, b'\0' | b'\r' | b'\n'))
        .count();
    let (text, blanks) = tail.split_at(tail.len() - run);
    // Line feeds alone are as an engine writes them.
    let lfs = blanks.iter().take_while(|byte| **byte == b'\n').count();
    let end = text.len() + lfs;
    let is_whole = lfs < run && large::may_be_complete(entry, tail.get(..end).unwrap_or_default());
    (before, if is_whole { run - lfs } else { 0 })
}

/// Returns the entry in a file of its own that has these bytes, without what stands around it, and
/// without the CR of each line end if it is a copy by way of Windows.
pub(crate) fn entry(bytes: Vec<u8>) -> Vec<u8> {
    let mut bytes = bytes;
    let blanks = blanks(&bytes);
    if line_ends::has_windows_line_ends(bytes.get(blanks..).unwrap_or_default()) {
        bytes.drain(..blanks);
        bytes = line_ends::without_cr(bytes);
    }
    let (before, behind) = around(&bytes, &bytes);
    bytes.truncate(bytes.len() - behind);
    bytes.drain(..before);
    bytes
}

/// Returns `true` if the file that begins with `head` is a copy by way of Windows.
pub(crate) fn is_copy(head: &[u8]) -> bool {
    line_ends::has_windows_line_ends(head.get(blanks(head)..).unwrap_or_default())
}

/// Returns how many bytes stand before the entry; 0 if no entry begins behind them.
fn before(head: &[u8]) -> usize {
    let blanks = blanks(head);
    let entry = head.get(blanks..).unwrap_or_default();
    // Blanks that are white space belong to a document, as they always did.
    let is_document = entry.starts_with(b"{") && (head.starts_with(b"\0") || head.starts_with(BOM));
    if Boundary::open(entry).is_some() || is_document {
        blanks
    } else {
        0
    }
}

/// Returns how many of the first bytes may stand before an entry.
fn blanks(head: &[u8]) -> usize {
    let mut rest = head.get(..ENDS).unwrap_or(head);
    let len = rest.len();
    while let Some(behind) = BLANKS.iter().find_map(|blank| rest.strip_prefix(*blank)) {
        rest = behind;
    }
    len - rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "--3fa0c41b-A--\n[x] id\n--3fa0c41b-C--\na\r\nb\n--3fa0c41b-Z--\n";
    const DOCUMENT: &str = "{\"transaction\":{\"time\":\"x\"}}\n";

    fn of(text: &str) -> String {
        String::from_utf8(entry(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn zeros_and_line_ends_around_an_entry_are_none_of_it() {
        for entry in [ENTRY, DOCUMENT] {
            for before in [
                "",
                "\0\0",
                "\0\n\r\n",
                "\u{feff}",
                "\u{feff}\0",
                "\0\u{feff}\n",
            ] {
                for behind in ["", "\r\n", "\0", "\0\0\0\0", "\r\n\0\n"] {
                    assert_eq!(
                        of(&format!("{before}{entry}{behind}")),
                        entry,
                        "{before:?} {behind:?}"
                    );
                }
            }
        }
        assert_eq!(of(&format!("\n{ENTRY}")), ENTRY);
        assert_eq!(
            of(&ENTRY.replace("a\r\n", "a\n").replace('\n', "\r\n")),
            ENTRY.replace('\r', "")
        );
    }

    #[test]
    fn what_belongs_to_an_entry_stays() {
        let cut = &ENTRY[..ENTRY.find("b\n").unwrap()];
        for text in [
            ENTRY,
            DOCUMENT,
            &format!("{ENTRY}\n\n"),
            &format!("\n{DOCUMENT}"),
            cut,
            &format!("{cut}\0\0"),
            "\0\0\0",
            "\r\n",
            "\n\nx\n",
            "",
        ] {
            assert_eq!(of(text), text, "{text:?}");
        }
    }
}

//! What somebody else chose, on its way to a terminal; shared by the tests of all programs.

/// What moves a cursor, turns the direction of writing, ends a line, or cannot be seen.
const HOSTILE: [char; 22] = [
    '\u{1b}',
    '\u{7}',
    '\u{8}',
    '\r',
    '\t',
    '\u{7f}',
    '\u{85}',
    '\u{9b}',
    '\u{ad}',
    '\u{61c}',
    '\u{200b}',
    '\u{200e}',
    '\u{2028}',
    '\u{2029}',
    '\u{202a}',
    '\u{202e}',
    '\u{2066}',
    '\u{2069}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{e0041}',
    '\u{e0100}',
];

/// A name of all of them, with letters that are to stay.
pub(crate) fn name() -> String {
    let middle: String = HOSTILE.iter().flat_map(|char| [*char, '[']).collect();
    format!("П{middle}31m")
}

/// Fails if one of them gets through.
pub(crate) fn assert_inert(what: &str, output: &[u8]) {
    let text = String::from_utf8(output.to_vec()).expect("programs write UTF-8");
    let bad = text.chars().find(|char| HOSTILE.contains(char));
    assert_eq!(bad, None, "{what}: {text:?}");
}

/// Fails unless the name was written, escaped.
pub(crate) fn assert_shown(what: &str, output: &[u8]) {
    assert_inert(what, output);
    let text = String::from_utf8_lossy(output).to_lowercase();
    let shown = ["\\u{202e}", "\\u202e"]
        .iter()
        .any(|escape| text.contains(escape));
    assert!(shown, "{what}: {text}");
}

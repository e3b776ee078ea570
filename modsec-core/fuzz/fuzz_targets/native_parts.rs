//! Entries of each native dialect, put together of parts: a short byte stands for a delimiter line.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core_fuzz::{check_native, expand};

const DIALECTS: [(&str, &str); 3] = [
    ("--3fa0c41b-", "--"),
    ("---aB3aB3aB---", "--"),
    ("--aBcDeFgHiJ-", "--"),
];
const LETTERS: [char; 12] = ['A', 'B', 'C', 'E', 'F', 'H', 'I', 'J', 'K', 'Z', 'D', 'U'];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let (before, behind) = DIALECTS[usize::from(*choice) % DIALECTS.len()];
    let first = if choice & 0x80 == 0 { 'A' } else { 'B' };
    let lines = LETTERS.map(|letter| format!("{before}{letter}{behind}\n"));
    let replacements: Vec<_> = (0x0e_u8..)
        .zip(lines.iter().map(String::as_bytes))
        .collect();
    let mut entry = format!("{before}{first}{behind}\n").into_bytes();
    entry.extend(expand(rest, &replacements));
    check_native(&entry);
});

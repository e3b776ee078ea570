//! Any bytes as a JSON document: no panic, bounded, and read in windows the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::format::large::may_be_complete;
use modsec_core::format::{self, Defect};
use modsec_core::record::{Flag, MAX_BODY_KEPT};
use modsec_core_fuzz::cut::cut;
use modsec_core_fuzz::{check_bounds, excerpts, expand};

/// Stands for a text so long that three of them are cut.
const LONG: u8 = 0x01;
const MOST_LONG: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(b"--") || bytes.iter().filter(|byte| **byte == LONG).count() > MOST_LONG {
        return;
    }
    let document = expand(bytes, &[(LONG, &[b'x'; MAX_BODY_KEPT / 2 - 1])]);
    let record = match format::decode(&document) {
        Ok(record) => record,
        Err(defect) => {
            let is_json = matches!(
                defect,
                Defect::UnknownJson { .. } | Defect::BuiltWithoutJson
            );
            assert!(!is_json || excerpts(&document, 64).is_none());
            return;
        }
    };
    check_bounds(&record);
    if format::is_complete(&document) {
        assert!(may_be_complete(&document, &document));
    }
    // No engine writes surrogates; half a pair at the bound would be another half.
    let has_surrogates = |text: &[u8]| {
        text.windows(3)
            .any(|three| three.eq_ignore_ascii_case(b"\\ud"))
    };
    if !is_nested(&document) || has_surrogates(bytes) {
        return;
    }
    for step in [bytes.len() % 61 + 1, 4096] {
        let excerpts = excerpts(&document, step).expect("recognised before");
        let squeezed = excerpts.record();
        check_bounds(&squeezed);
        // Only a text longer than the bound that is no body makes a difference.
        if !squeezed.flags.contains(Flag::Capped) || record.flags.contains(Flag::Capped) {
            assert_eq!(squeezed, record, "windows of {step} bytes");
        }
        let whole = cut(&document, document.len(), 1 << 30);
        assert_eq!(cut(&document, step, 1 << 30), whole, "windows of {step} bytes");
    }
});

/// Tells whether brackets and braces are closed by their own kind, up to the end of the document
/// or its cut. Where they are not, which no engine can write, nobody can say where it ends.
fn is_nested(document: &[u8]) -> bool {
    let mut open = Vec::new();
    let mut bytes = document.iter();
    let mut in_string = false;
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' if in_string => {
                bytes.next();
            }
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => open.push(byte + 2),
            b'}' | b']' if !in_string => {
                if open.pop() != Some(*byte) {
                    return false;
                }
                if open.is_empty() {
                    return true;
                }
            }
            _ => {}
        }
    }
    true
}

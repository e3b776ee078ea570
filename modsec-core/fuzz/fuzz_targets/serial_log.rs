//! Any bytes as a log, in any chunks: the same pieces, no byte lost, memory bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::record::Flag;
use modsec_core_fuzz::cut::{Cut, cut};
use modsec_core_fuzz::expand;

/// What short bytes stand for.
const SHORT: [(u8, &[u8]); 25] = [
    (
        0x01,
        b"\n--11111111-A--\n[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80\n",
    ),
    (0x02, b"\n--11111111-B--\nPOST / HTTP/1.1\nContent-Length: "),
    (0x03, b"\n\n--11111111-C--\n"),
    (0x04, b"\n--11111111-F--\nHTTP/1.1 200\n\n"),
    (0x05, b"\n--11111111-H--\n"),
    (0x06, b"\n--11111111-Z--\n"),
    (0x07, b"\n--22222222-A--\n["),
    (0x08, b"\n--22222222-B--\n"),
    (0x0e, b"\n--22222222-C--\n"),
    (0x0f, b"\n--22222222-Z--\n\n"),
    (0x10, b"\n---aB3aB3aB---A--\n[x] id 1 2 3 4\n"),
    (0x11, b"\n---aB3aB3aB---C--\n"),
    (0x12, b"\n---aB3aB3aB---H--\n"),
    (0x13, b"\n---aB3aB3aB---Z--\n\n"),
    (0x14, b"--aBcDeFgHiJ-A--\n["),
    (0x15, b"\n--aBcDeFgHiJ-B--\n"),
    (0x16, b"\n--aBcDeFgHiJ-Z--\n"),
    (0x17, b"{\"transaction\":{\"a\":\"}\\\""),
    (0x18, b"\"}}\n"),
    (0x19, &[b'x'; 4000]),
    (0x1a, ANNOUNCED),
    (
        0x1b,
        b"# modsec-parser: the next 5000 bytes are one entry, entry_hash 00000000000000000000000000000000\n",
    ),
    (
        0x1c,
        b"--22222222-A--\n[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80\n",
    ),
    (
        0x1d,
        b"--11111111-A--\n[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80\n",
    ),
    (0x1e, b"{\"transaction\":{\"time\":\""),
];
/// An entry that looks like two, as the merged log has it.
const ANNOUNCED: &[u8] =
    b"# modsec-parser: the next 66 bytes are one entry, entry_hash e04d44c7a8614434a058e6311d7c8924\n\
      --33333333-A--\n[x]\n--33333333-C--\n\n--33333333-Z--\n\n--11111111-A--\n";
const HELD: [usize; 4] = [0, 100, 5000, 1 << 30];

fuzz_target!(|bytes: &[u8]| {
    let [step, held, rest @ ..] = bytes else {
        return;
    };
    let log = expand(rest, &SHORT);
    if log.len() > 200_000 {
        return;
    }
    let step = (usize::from(*step) + 1) * if log.len() > 20_000 { 64 } else { 1 };
    let held = HELD[usize::from(*held) % HELD.len()];
    let whole = cut(&log, log.len().max(1), 1 << 30);
    check_coverage(&log, &whole);
    let in_steps = cut(&log, step, 1 << 30);
    assert_eq!(in_steps.places(), whole.places(), "steps of {step}");
    assert_eq!(in_steps, whole, "steps of {step} bytes");
    let tangled = |cut: &Cut| {
        cut.entries
            .iter()
            .any(|entry| entry.2.contains(Flag::Interleaved))
    };
    let in_parts = cut(&log, step, held);
    check_coverage(&log, &in_parts);
    // Of a body that is shorter than announced, what was handed out cannot be looked at again.
    let is_announced = |line: &[u8]| line.to_ascii_lowercase().starts_with(b"content-length:");
    let announced = log.split(|byte| *byte == b'\n').any(is_announced);
    if !announced && !tangled(&whole) && !tangled(&in_parts) {
        let how = format!("{held} bytes held, steps of {step}");
        assert_eq!(in_parts.places(), whole.places(), "{how}");
        assert_eq!(in_parts, whole, "{how}");
    }
});

/// Checks that entries are the log's own bytes, in order, and that only line feeds lie between.
fn check_coverage(log: &[u8], cut: &Cut) {
    let mut covered = vec![false; log.len()];
    let mut before = 0;
    for (at, bytes, flags) in &cut.entries {
        let at = usize::try_from(*at).expect("an offset of the log");
        assert_eq!(
            &log[at..at + bytes.len()],
            &bytes[..],
            "an entry has its own bytes"
        );
        assert!(
            at >= before || flags.contains(Flag::Interleaved),
            "entries follow each other: {:?}",
            cut.places()
        );
        before = at + bytes.len();
        covered[at..before].fill(true);
    }
    // What announces an entry belongs to none.
    let mut start = 0;
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"# modsec-parser: the next ") {
            covered[start..start + line.len()].fill(true);
        }
        start += line.len();
    }
    // A mark of an editor between entries says nothing.
    for at in (0..log.len()).filter(|at| log[*at..].starts_with(b"\xef\xbb\xbf")) {
        covered[at..at + 3].fill(true);
    }
    for (at, len) in &cut.foreign {
        let at = usize::try_from(*at).expect("an offset of the log");
        covered[at..at + usize::try_from(*len).expect("a length in the log")].fill(true);
    }
    let tangled = cut
        .entries
        .iter()
        .any(|entry| entry.2.contains(Flag::Interleaved));
    let lost = covered
        .iter()
        .zip(log)
        .position(|(covered, byte)| !covered && *byte != b'\n');
    assert!(tangled || lost.is_none(), "byte {lost:?} is lost");
}

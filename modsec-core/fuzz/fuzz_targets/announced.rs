//! A log of entries whose bodies are as long as announced, and of somebody who knows the boundary:
//! what comes before the first flag is what the engine wrote.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::record::{Flag, Flags};
use modsec_core_fuzz::cut::cut;
use modsec_core_fuzz::expand;

const A: &str = "[22/Nov/2026:06:40:30 +0000] id 192.0.2.1 1 192.0.2.2 80";
/// What short bytes stand for.
const SHORT: [(u8, &[u8]); 18] = [
    (
        0x01,
        b"\n--11111111-A--\n[22/Nov/2026:06:40:30 +0000] id 198.51.100.1 1 192.0.2.2 80\n",
    ),
    (0x02, b"\n--11111111-B--\nGET / HTTP/1.1\n"),
    (0x03, b"\n--11111111-B--\nPOST / HTTP/1.1\nContent-Length: "),
    (0x04, b"\n--11111111-C--\n"),
    (0x05, b"\n--11111111-F--\nHTTP/1.1 200\nContent-Length: "),
    (0x06, b"\n--11111111-E--\n"),
    (0x07, b"\n--11111111-H--\n"),
    (0x08, b"\n--11111111-Z--\n"),
    (0x0e, b"\n--11111111-Z--\n\n"),
    (
        0x0f,
        b"\n--22222222-A--\n[22/Nov/2026:06:40:30 +0000] id 198.51.100.1 1 192.0.2.2 80\n",
    ),
    (0x10, b"\n--22222222-B--\nGET / HTTP/1.1\n"),
    (0x11, b"\n--22222222-C--\n"),
    (0x12, b"\n--22222222-Z--\n\n"),
    (0x13, b"\n\n"),
    (0x14, b"\n--1"),
    (0x15, &[b'x'; 4000]),
    (0x16, &[b'y'; 270_000]),
    (0x17, b"\n--33333333-Z--\n\n"),
];
const HELD: [usize; 4] = [100, 5000, 70_000, 1 << 30];

fuzz_target!(|bytes: &[u8]| {
    let [step, choice, rest @ ..] = bytes else {
        return;
    };
    let held = HELD[usize::from(*choice) % HELD.len()];
    let is_one_boundary = choice & 4 == 0;
    let mut log = Vec::new();
    let mut genuine = Vec::new();
    for (n, body) in rest.split(|byte| *byte == 0xff).take(5).enumerate() {
        let body = expand(body, &SHORT);
        if log.len() + body.len() > 1_000_000 {
            return;
        }
        let id = if is_one_boundary { 1 } else { n as u32 + 1 } * 0x1111_1111;
        let start = log.len() as u64;
        let length = body.len();
        let before = format!(
            "--{id:08x}-A--\n{A}\n--{id:08x}-B--\nPOST / HTTP/1.1\nContent-Length: {length}\n\n--{id:08x}-C--\n"
        );
        log.extend_from_slice(before.as_bytes());
        log.extend_from_slice(&body);
        let behind = format!(
            "\n--{id:08x}-F--\nHTTP/1.1 403\n\n--{id:08x}-H--\nServer: x\n\n--{id:08x}-Z--\n"
        );
        log.extend_from_slice(behind.as_bytes());
        genuine.push((start, log.len() as u64 - start));
        log.push(b'\n');
    }
    let found = cut(&log, (usize::from(*step) + 1) * 100, held).places();
    // From the first one that is in doubt, so is where the others begin.
    let is_certain = |(.., flags): &&(u64, usize, Flags)| !flags.contains(Flag::Interleaved);
    let certain: Vec<_> = found
        .iter()
        .take_while(is_certain)
        .map(|(at, len, _)| (*at, *len as u64))
        .collect();
    let wanted = genuine.get(..certain.len()).unwrap_or(&genuine);
    assert_eq!(certain, wanted, "{found:?}");
    if certain.len() == found.len() {
        assert_eq!(certain.len(), genuine.len(), "an entry is missing");
    }
});

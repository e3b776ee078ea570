//! Records of libmodsecurity in one file, with bodies of somebody who knows the boundary: what is
//! taken for a record is one that the engine wrote.
#![no_main]

use libfuzzer_sys::fuzz_target;
use modsec_core::serial_log::fuzzing::records;
use modsec_core_fuzz::expand;

/// What short bytes stand for.
const SHORT: [(u8, &[u8]); 18] = [
    (
        0x01,
        b"---genuine0---A--\n[22/Nov/2026:06:40:30 +0000] 1.1 198.51.100.1 1 192.0.2.2 80\n",
    ),
    (
        0x02,
        b"---forged00---A--\n[22/Nov/2026:06:40:30 +0000] 1.1 198.51.100.1 1 192.0.2.2 80\n",
    ),
    (
        0x03,
        b"---forged11---A--\n[22/Nov/2026:06:40:30 +0000] 1.1 198.51.100.1 1 192.0.2.2 80\n",
    ),
    (0x04, b"\n---genuine0---B--\nGET / HTTP/1.1\n"),
    (0x05, b"\n---genuine0---C--\n"),
    (0x06, b"\n---genuine0---F--\n"),
    (0x07, b"\n---genuine0---H--\n"),
    (0x08, b"\n---genuine0---Z--\n\n"),
    (0x0e, b"\n---forged00---B--\nGET / HTTP/1.1\nContent-Length: "),
    (0x0f, b"\n---forged00---C--\n"),
    (0x10, b"\n---forged00---H--\n"),
    (0x11, b"\n---forged00---Z--\n\n"),
    (0x12, b"\n---forged11---C--\n"),
    (0x13, b"\n---forged11---Z--\n\n"),
    (0x14, b"\n---genuine1---Z--\n\n"),
    (0x15, b"\n---genuine1---H--\n"),
    (0x16, &[b'x'; 4000]),
    (0x17, &[b'y'; 270_000]),
];

fuzz_target!(|bytes: &[u8]| {
    let [with_length, bytes @ ..] = bytes else {
        return;
    };
    let mut file = Vec::new();
    let mut genuine = Vec::new();
    for (n, body) in bytes.split(|byte| *byte == 0xff).take(4).enumerate() {
        let body = expand(body, &SHORT);
        if file.len() + body.len() > 2_000_000 {
            return;
        }
        // The engine may have kept less than was announced.
        let kept = body.len() + usize::from(*with_length >> 2) * 8;
        let header = match with_length & 3 {
            0 => "transfer-encoding: chunked".to_owned(),
            1 => format!("content-length: {}", body.len()),
            2 => format!("content-length: {kept}"),
            _ => format!("content-length: {kept}\ntransfer-encoding: chunked"),
        };
        let start = file.len() as u64;
        file.extend_from_slice(
            format!(
                "---genuine{n}---A--\n[22/Nov/2026:06:40:30 +0000] 1.1 192.0.2.1 1 192.0.2.2 80\n\
                 ---genuine{n}---B--\nPOST / HTTP/1.1\n{header}\n\n---genuine{n}---C--\n"
            )
            .as_bytes(),
        );
        file.extend_from_slice(&body);
        file.extend_from_slice(
            format!(
                "\n\n---genuine{n}---F--\nHTTP/1.1 403\n\n---genuine{n}---H--\n\n---genuine{n}---Z--\n\n"
            )
            .as_bytes(),
        );
        genuine.push(start..file.len() as u64);
    }
    if let Some(found) = records(&file) {
        assert_eq!(found, genuine);
    }
});

//! The work of cutting grows with the length of the log, whatever is in it: counted, not timed.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::shapes::{A, CORAZA_A, SHAPES, letters, log};
use super::{InputState, Piece, Splitter};

/// Bytes fed at a time.
const STEP: usize = 16 * 1024;

/// Cuts a log as a reader of files does; returns what was looked at, handed out and read again, for
/// each byte.
fn work(log: &[u8], held: usize) -> u64 {
    let mut splitter = Splitter::new(0, held);
    let (mut fed, mut handed) = (0, 0);
    loop {
        let more = &log[fed..log.len().min(fed + STEP)];
        fed += more.len();
        splitter.buffer().extend_from_slice(more);
        let input = if fed == log.len() {
            InputState::End
        } else {
            InputState::More
        };
        let mut again = None;
        while let Some(piece) = splitter.next(input) {
            match piece {
                Piece::Entry { bytes, .. } | Piece::Part(bytes) => handed += bytes.len() as u64,
                Piece::End {
                    at, len, overrun, ..
                } if overrun => {
                    again = Some(at + len);
                    break;
                }
                Piece::End { .. } | Piece::Unrecognized { .. } => {}
            }
        }
        if let Some(at) = again {
            splitter.rewind(at);
            fed = usize::try_from(at).unwrap();
        } else if input == InputState::End {
            let looked = splitter.lines.work.load(Ordering::Relaxed);
            return (looked + handed) / log.len() as u64;
        }
    }
}

#[test]
fn work_for_each_byte_does_not_grow_with_the_log() {
    for (name, shape) in SHAPES {
        for held in [1000, 64 * 1024, 64 << 20] {
            for len in [1 << 18, 1 << 19] {
                let work = work(log(shape, len).as_bytes(), held);
                // A byte is searched once or twice, and handed out eight times at the most.
                assert!(work <= 12, "{name}, {held} held: {work}");
            }
        }
    }
}

/// What a shape may be made of, and which entry's boundary it has.
#[derive(Debug, Clone, Copy)]
struct Token {
    /// Which piece of text it is, 0 to 20: see [`Token::write`].
    kind: u8,
    /// What a `Content-Length` or an announcement says, in bytes.
    length: u32,
    /// 0: always the same one; 1: that of the entry at hand; otherwise one of so many entries ago.
    lag: u32,
}

impl Token {
    /// Appends the text to the log, for the entry with the number `n`.
    fn write(self, log: &mut String, n: u32) {
        let id = match self.lag {
            0 => 0,
            lag => n.saturating_sub(lag - 1),
        };
        let length = self.length;
        let _ = match self.kind {
            0 => write!(log, "--{id:08x}-A--\n{A}\n"),
            1 => write!(log, "--{id:08x}-B--\nG\nContent-Length: {length}\n\n"),
            2 => write!(log, "--{id:08x}-C--\nx\n"),
            3 => write!(log, "--{id:08x}-F--\nH\nContent-Length: {length}\n\n"),
            4 => write!(log, "--{id:08x}-E--\nx\n"),
            5 => write!(log, "--{id:08x}-H--\nx\n"),
            6 => writeln!(log, "--{id:08x}-Z--"),
            7 => writeln!(log),
            8 => writeln!(log, "x"),
            9 => writeln!(log, "{{\"a\":"),
            10 => writeln!(log, "--{}-A--\n{CORAZA_A}", letters(id)),
            11 => writeln!(log, "--{}-C--\nx", letters(id)),
            12 => writeln!(log, "--{}-B--\nG\nContent-Length: {length}\n", letters(id)),
            13 => writeln!(log, "--{}-Z--\n", letters(id)),
            14 => writeln!(log, "---{id:08x}---A--\n{A}"),
            15 => writeln!(log, "---{id:08x}---B--\nG\nContent-Length: {length}\n"),
            16 => writeln!(log, "---{id:08x}---C--\nx"),
            17 => writeln!(log, "---{id:08x}---Z--\n"),
            18 => write!(log, "--{id:08x}-A--\n{A}\n--{id:08x}-C--\nx"),
            19 => write!(log, "{{\"transaction\":{{\"time\":\""),
            _ => writeln!(
                log,
                "# modsec-parser: the next {} bytes are one entry, entry_hash {id:032x}",
                length.max(1)
            ),
        };
    }
}

/// Generates tokens: lengths below 100 bytes, 100 kB and 100 MB, boundaries of this entry and
/// of up to 2,000 entries ago.
fn token() -> impl Strategy<Value = Token> {
    let length = prop_oneof![0..100_u32, 0..100_000_u32, 0..100_000_000_u32];
    let lag = prop_oneof![Just(0), Just(1), Just(2), 3..2000_u32];
    (0..21_u8, length, lag).prop_map(|(kind, length, lag)| Token { kind, length, lag })
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 1000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn nor_does_it_for_any_shape(
        start in proptest::collection::vec(token(), 0..4),
        again in proptest::collection::vec(token(), 1..7),
        held in prop_oneof![Just(1000), Just(64 * 1024), Just(64 << 20)],
    ) {
        let mut log = String::new();
        for token in start {
            token.write(&mut log, 0);
        }
        for n in 0.. {
            for token in &again {
                token.write(&mut log, n);
            }
            if log.len() > 1 << 18 {
                break;
            }
        }
        let work = work(log.as_bytes(), held);
        prop_assert!(work <= 20, "{work}");
    }
}

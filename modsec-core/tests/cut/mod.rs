//! Cutting a log as a reader of files does; shared with the fuzz targets.

#![allow(
    unreachable_pub,
    reason = "other crates see it from the fuzz targets' library"
)]
#![allow(dead_code, reason = "each user needs another part")]

use modsec_core::record::Flags;
use modsec_core::serial_log::{InputState, LOOKAHEAD, Piece, Splitter};

/// Headers that are held until the body begins.
const MAX_HEADERS: usize = 1 << 20;

/// What a log was cut into: offset, bytes, flags.
pub type Entries = Vec<(u64, Vec<u8>, Flags)>;

/// What a log was cut into.
#[derive(Debug, Default, PartialEq)]
pub struct Cut {
    /// Offset, bytes and flags.
    pub entries: Entries,
    /// Offset and length.
    pub foreign: Vec<(u64, u64)>,
}

impl Cut {
    /// Returns offset, length and flags of the entries.
    pub fn places(&self) -> Vec<(u64, usize, Flags)> {
        let entries = self.entries.iter();
        entries
            .map(|(at, bytes, flags)| (*at, bytes.len(), *flags))
            .collect()
    }
}

/// Feeds `log` in steps of `step` bytes.
pub fn cut(log: &[u8], step: usize, held: usize) -> Cut {
    cut_while(log, step, held, InputState::More)
}

/// The same with this input until the end.
pub fn cut_while(log: &[u8], step: usize, held: usize, input: InputState) -> Cut {
    let mut splitter = Splitter::new(0, held);
    let mut taken = Taken::default();
    let mut fed = 0;
    loop {
        let more = &log[fed..log.len().min(fed + step)];
        fed += more.len();
        let buffer = splitter.buffer();
        let most = held
            .saturating_add(LOOKAHEAD + MAX_HEADERS)
            .saturating_add(step);
        assert!(buffer.len() <= most, "{} bytes are held", buffer.len());
        buffer.extend_from_slice(more);
        let input = if fed == log.len() {
            InputState::End
        } else {
            input
        };
        if let Some(from) = taken.take(&mut splitter, input) {
            splitter.rewind(from);
            fed = usize::try_from(from).expect("an offset of the log");
        } else if input == InputState::End {
            assert!(splitter.next(InputState::End).is_none());
            assert!(taken.large.is_empty(), "what was begun has ended");
            return taken.cut;
        }
    }
}

/// What was handed out so far.
#[derive(Default)]
struct Taken {
    cut: Cut,
    /// The parts of a large entry.
    large: Vec<u8>,
    /// Where the last entry began that was announced in vain.
    vain: u64,
}

impl Taken {
    /// Takes what the splitter has. Returns where to read the log again, if an entry was no longer
    /// than that.
    fn take(&mut self, splitter: &mut Splitter, input: InputState) -> Option<u64> {
        while let Some(piece) = splitter.next(input) {
            match piece {
                Piece::Entry { at, bytes, flags } => {
                    assert!(self.large.is_empty(), "an entry in parts ends first");
                    self.cut.entries.push((at, bytes.to_vec(), flags));
                }
                Piece::Part(bytes) => self.large.extend_from_slice(bytes),
                Piece::End {
                    at,
                    len,
                    overrun,
                    flags,
                } => {
                    self.end(at, len, overrun, flags);
                    if overrun {
                        return Some(at + len);
                    }
                }
                Piece::Unrecognized { at, len, .. } => self.cut.foreign.push((at, len)),
            }
        }
        None
    }

    /// Ends the large entry.
    fn end(&mut self, at: u64, len: u64, overrun: bool, flags: Flags) {
        let len = usize::try_from(len).expect("a length in the log");
        assert_eq!(overrun, self.large.len() > len);
        self.large.truncate(len);
        assert_eq!(self.large.len(), len, "all of the entry was handed out");
        let bytes = std::mem::take(&mut self.large);
        if len > 0 {
            self.cut.entries.push((at, bytes, flags));
        } else {
            // Not what was announced, which is not believed again.
            assert!(at > self.vain, "reading again makes progress");
            self.vain = at;
        }
    }
}

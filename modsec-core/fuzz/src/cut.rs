//! Cutting a log into entries, in steps and with little memory.

use modsec_core::record::Flags;
use modsec_core::serial_log::{LOOKAHEAD, Outlook, Piece, Splitter};

/// Headers that are held until the body begins.
const MAX_HEADERS: usize = 1 << 20;

/// What a log was cut into.
#[derive(Debug, Default, PartialEq)]
pub struct Cut {
    /// Offset, bytes and flags.
    pub entries: Vec<(u64, Vec<u8>, Flags)>,
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

/// Cuts a log as a reader of files does.
pub fn cut(log: &[u8], step: usize, held: usize) -> Cut {
    let mut cut = Cut::default();
    let mut splitter = Splitter::new(0, held);
    let mut large = Vec::new();
    let (mut fed, mut vain) = (0, 0);
    loop {
        let more = &log[fed..log.len().min(fed + step)];
        fed += more.len();
        let buffer = splitter.buffer();
        let most = held
            .saturating_add(LOOKAHEAD + MAX_HEADERS)
            .saturating_add(step);
        assert!(buffer.len() <= most, "{} bytes are held", buffer.len());
        buffer.extend_from_slice(more);
        let outlook = if fed == log.len() {
            Outlook::End
        } else {
            Outlook::More
        };
        let mut again = None;
        while let Some(piece) = splitter.next(outlook) {
            match piece {
                Piece::Entry { at, bytes, flags } => {
                    assert!(large.is_empty(), "an entry in parts ends first");
                    cut.entries.push((at, bytes.to_vec(), flags));
                }
                Piece::Part(bytes) => large.extend_from_slice(bytes),
                Piece::End {
                    at,
                    len,
                    overrun,
                    flags,
                } => {
                    let len_here = usize::try_from(len).expect("a length in the log");
                    assert_eq!(overrun, large.len() > len_here);
                    large.truncate(len_here);
                    assert_eq!(large.len(), len_here, "all of the entry was handed out");
                    let bytes = std::mem::take(&mut large);
                    if len > 0 {
                        cut.entries.push((at, bytes, flags));
                    } else {
                        // Not what was announced, which is not believed again.
                        assert!(at > vain, "reading again makes progress");
                        vain = at;
                    }
                    if overrun {
                        again = Some(at + len);
                        break;
                    }
                }
                Piece::Unrecognized { at, len, .. } => cut.foreign.push((at, len)),
            }
        }
        if let Some(from) = again {
            splitter.rewind(from);
            fed = usize::try_from(from).expect("an offset of the log");
        } else if outlook == Outlook::End {
            assert!(splitter.next(Outlook::End).is_none());
            assert!(large.is_empty());
            return cut;
        }
    }
}

//! Cutting a log as a reader of files does.

use modsec_core::record::Flags;
use modsec_core::serial_log::{Outlook, Piece, Splitter};

/// What a log was cut into: offset, bytes, flags.
pub(crate) type Entries = Vec<(u64, Vec<u8>, Flags)>;

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cut {
    pub(crate) entries: Entries,
    /// Offset and length.
    pub(crate) foreign: Vec<(u64, u64)>,
}

/// Feeds `log` in steps of `step` bytes.
pub(crate) fn cut(log: &[u8], step: usize, held: usize) -> Cut {
    cut_while(log, step, held, Outlook::More)
}

/// The same with this outlook until the end.
pub(crate) fn cut_while(log: &[u8], step: usize, held: usize, outlook: Outlook) -> Cut {
    let mut cut = Cut::default();
    let mut splitter = Splitter::new(0, held);
    let mut large = Vec::new();
    let mut fed = 0;
    loop {
        let more = &log[fed.min(log.len())..log.len().min(fed + step)];
        fed += more.len();
        splitter.buffer().extend_from_slice(more);
        let outlook = if fed == log.len() {
            Outlook::End
        } else {
            outlook
        };
        let mut again = None;
        while let Some(piece) = splitter.next(outlook) {
            match piece {
                Piece::Entry { bytes, flags, at } => {
                    assert!(large.is_empty());
                    cut.entries.push((at, bytes.to_vec(), flags));
                }
                Piece::Part(bytes) => large.extend_from_slice(bytes),
                Piece::End {
                    at,
                    len,
                    overrun,
                    flags,
                } => {
                    let len = usize::try_from(len).unwrap();
                    assert_eq!(overrun, large.len() > len);
                    large.truncate(len);
                    let bytes = std::mem::take(&mut large);
                    // Nothing was there that had been announced.
                    if len > 0 {
                        cut.entries.push((at, bytes, flags));
                    }
                    if overrun {
                        again = Some(at + len as u64);
                        break;
                    }
                }
                Piece::Unrecognized { at, len, .. } => cut.foreign.push((at, len)),
            }
        }
        if let Some(from) = again {
            splitter.rewind(from);
            fed = usize::try_from(from).unwrap();
        } else if outlook == Outlook::End {
            assert!(splitter.next(Outlook::End).is_none());
            return cut;
        }
    }
}

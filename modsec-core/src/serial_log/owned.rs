//! The end of an entry with another first line of its own boundary in a body.
//!
//! Lines alone do not tell whether the next entry begins there, behind a cut, or the client wrote them.
//! Part H may; see [`native`].

use super::entry::Opened;
use super::{InputState, LOOKAHEAD, Open, Splitter, Verdict};
use crate::format::native::{self, Owner};

impl Splitter {
    /// Ends an entry in which another one begins with the same boundary where that begins, if it was
    /// cut off there; or behind its own end, if its client has made up the one at hand.
    ///
    /// Each byte is looked at once for that.
    pub(super) fn end_as_owned(
        &mut self,
        open: &mut Open,
        verdict: Verdict,
        input: InputState,
    ) -> Verdict {
        let (
            Open::Entry(entry),
            Verdict::Ends {
                end, next, flags, ..
            },
        ) = (open, &verdict)
        else {
            return verdict;
        };
        let (start, end) = (entry.start, *end);
        let is_whole = entry.handed == start && *next == end && flags.is_empty();
        if entry.opened == Opened::Once || !is_whole || start < self.looked_into {
            return verdict;
        }
        let view = self.view(input);
        let bytes = view.slice(start..end);
        let owner = match entry.opened {
            Opened::Ended(_, owner) => owner,
            Opened::Once | Opened::Again => native::end_owner(bytes),
        };
        let behind = view.from(end);
        let needs_more = input == InputState::More && behind.len() < LOOKAHEAD;
        if owner != Owner::This && needs_more {
            entry.opened = Opened::Ended(end, owner);
            return Verdict::Wait(start);
        }
        let behind = behind.get(..LOOKAHEAD).unwrap_or(behind);
        let (reach, seen) = match owner {
            Owner::This => (None, 0),
            _ => (native::reach(bytes, behind), behind.len() as u64),
        };
        self.lines.count(end - start + seen);
        self.looked_into = end + seen;
        match (reach, owner) {
            (Some(len), _) => Verdict::ends(end + len),
            (None, Owner::Other(Some(next))) => Verdict::ends(start + next),
            (None, _) => verdict,
        }
    }
}

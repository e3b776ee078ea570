//! Whose turn it is in a walk: so much for each owner, then the others, then more for each.
//!
//! A walk meets the files in the order of the tree. Whoever has used up his turn waits for the
//! next one, which is longer, so that little is gone through twice: what one owner has put into the
//! tree delays the entries of the others by no more than a turn.

use std::collections::HashMap;

/// What the first turn of an owner may cost.
pub(crate) const FIRST: u64 = 64 << 20;
/// What one pass over claimed files may spend on one owner, at first and at the most: those of the
/// others wait for its end.
#[cfg(feature = "ingest")]
pub(crate) const CLAIMED: std::ops::RangeInclusive<u64> = 16 << 20..=128 << 20;
/// How much longer the next turn is.
const FACTOR: u64 = 4;

/// Work is counted in bytes read. In the time of a look at a file as many can be read and decoded,
const LOOK: u64 = 128;
/// and as many in that of opening a directory, or a file and storing a row.
const OPEN: u64 = 4096;

/// Owners counted one by one; the others share a turn.
const MAX_OWNERS: usize = 4096;
/// Files in a row whose owners have used up their turns; the rest of a directory is left then.
const PATIENCE: u32 = 64;

/// What the owners have spent in one turn.
#[derive(Debug)]
pub(crate) struct Turns {
    limit: u64,
    spent: HashMap<u32, u64>,
    of_others: u64,
    in_vain: u32,
    left: bool,
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is the owner's turn.
    His,
    /// It is not; go on to the next file.
    Over,
    /// It is not, and has not been for many files: go on to the next directory.
    Hopeless,
}

impl Turns {
    pub(crate) fn new(limit: u64) -> Turns {
        Turns {
            limit,
            spent: HashMap::new(),
            of_others: 0,
            in_vain: 0,
            left: false,
        }
    }

    /// Returns how long the turn after one of `limit` is.
    pub(crate) fn next(limit: u64) -> u64 {
        limit.saturating_mul(FACTOR)
    }

    /// Asks for a directory of `owner`.
    pub(crate) fn directory(&mut self, owner: Option<u32>) -> Turn {
        self.in_vain = 0;
        self.ask(owner, OPEN)
    }

    /// Asks for a file, or another name, that is only looked at.
    pub(crate) fn look(&mut self, owner: Option<u32>) -> Turn {
        self.ask(owner, LOOK)
    }

    /// Asks for a file that is read.
    pub(crate) fn file(&mut self, owner: u32, size: u64) -> Turn {
        self.ask(Some(owner), size.saturating_add(OPEN))
    }

    fn ask(&mut self, owner: Option<u32>, cost: u64) -> Turn {
        let spent = match owner {
            Some(uid) if self.spent.len() < MAX_OWNERS || self.spent.contains_key(&uid) => {
                self.spent.entry(uid).or_default()
            }
            _ => &mut self.of_others,
        };
        // Asked before it is added: a file may be larger than a turn.
        if *spent < self.limit {
            *spent = spent.saturating_add(cost);
            self.in_vain = 0;
            return Turn::His;
        }
        self.left = true;
        self.in_vain += 1;
        if self.in_vain > PATIENCE {
            Turn::Hopeless
        } else {
            Turn::Over
        }
    }

    /// Returns `true` if somebody's turn was over too early.
    pub(crate) fn left(&self) -> bool {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_for_one_owner_and_not_for_another() {
        let mut turns = Turns::new(100_000);
        let mut taken = 0;
        while turns.file(1, 6000) == Turn::His {
            taken += 1;
        }
        assert_eq!(taken, 10);
        assert_eq!(turns.file(2, 1 << 40), Turn::His);
        assert_eq!(turns.file(2, 1), Turn::Over);
        assert!(turns.left());
        let asked = (0..100).take_while(|_| turns.look(Some(1)) == Turn::Over);
        assert_eq!(u32::try_from(asked.count()), Ok(PATIENCE - 1));
        assert_eq!(turns.look(Some(3)), Turn::His);
        assert_eq!(turns.look(Some(1)), Turn::Over);
    }

    #[test]
    fn owners_without_end_share_a_turn() {
        let mut turns = Turns::new(10 * LOOK);
        for uid in 0..1_000_000 {
            turns.look(Some(uid));
        }
        assert_eq!(turns.spent.len(), MAX_OWNERS);
        assert_eq!(turns.of_others, 10 * LOOK);
        assert!(turns.left());
    }
}

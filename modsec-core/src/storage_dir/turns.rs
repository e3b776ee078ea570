//! Whose turn it is in a walk: so much for each owner, then the others, then more for each.
//!
//! A walk meets the files in the order of the tree. Whoever has used up his turn waits for the
//! next one, which is longer, so that little is gone through twice: what one owner has put into the
//! tree delays the entries of the others by no more than a turn.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the first turn of an owner may cost.
pub(crate) const FIRST: u64 = 64 << 20;
/// What one pass over claimed files may spend on one owner, at first and at the most: those of the
/// others wait for its end.
pub(crate) const CLAIMED: std::ops::RangeInclusive<u64> = 16 << 20..=32 << 20;
/// How much longer the next turn is.
const FACTOR: u64 = 4;

/// Work is counted in bytes read. In the time of a look at a file as many can be read and decoded,
const LOOK: u64 = 128;
/// and as many in that of opening a directory, or a file and storing a row.
const OPEN: u64 = 4096;
/// What a microsecond of work costs. Sizes are known before a file is read; what it really costs
/// its records, alerts and delimiters decide, and the store.
const MICROSECOND: u64 = 64;

/// Owners counted one by one; the others share a turn.
const MAX_OWNERS: usize = 4096;
/// Files in a row whose owners have used up their turns; the rest of a directory is left then.
const PATIENCE: u32 = 64;

/// What the owners have spent in one turn. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Mutex<Spent>>);

#[derive(Debug)]
struct Spent {
    limit: u64,
    by_owner: HashMap<u32, u64>,
    of_others: u64,
    in_vain: u32,
    left: bool,
    /// Who has left a file in the middle.
    leavers: HashSet<u32>,
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
        Turns(Arc::new(Mutex::new(Spent {
            limit,
            by_owner: HashMap::new(),
            of_others: 0,
            in_vain: 0,
            left: false,
            leavers: HashSet::new(),
        })))
    }

    /// Returns how long the turn after one of `limit` is.
    pub(crate) fn next(limit: u64) -> u64 {
        limit.saturating_mul(FACTOR)
    }

    /// Asks for a directory of `owner`.
    pub(crate) fn directory(&self, owner: Option<u32>) -> Turn {
        let mut spent = self.spent();
        spent.in_vain = 0;
        spent.ask(owner, OPEN)
    }

    /// Asks for a file, or another name, that is only looked at.
    pub(crate) fn look(&self, owner: Option<u32>) -> Turn {
        self.spent().ask(owner, LOOK)
    }

    /// Asks for a file that is read.
    pub(crate) fn file(&self, owner: u32, size: u64) -> Turn {
        self.spent().ask(Some(owner), size.saturating_add(OPEN))
    }

    /// Returns `true` if somebody's turn was over too early.
    pub(crate) fn left(&self) -> bool {
        self.spent().left
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turns {
    /// Adds the time that work for `owner` took.
    pub(crate) fn add_time(&self, owner: u32, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut spent = self.spent();
        let of = spent.of(Some(owner));
        *of = of.saturating_add(time.saturating_mul(MICROSECOND));
    }

    /// Returns how long a turn may be after one of `limit` over claimed files, of which looking at
    /// all names took so long: no shorter than that, or most of the time went into looking.
    pub(crate) fn next_claimed(limit: u64, looking: Duration) -> u64 {
        let looking = u64::try_from(looking.as_micros()).unwrap_or(u64::MAX);
        let most = looking.saturating_mul(MICROSECOND).max(*CLAIMED.end());
        limit.saturating_mul(2).min(most)
    }

    /// Adds a record whose row takes `size` bytes.
    pub(crate) fn add_record(&self, owner: u32, size: u64) {
        let mut spent = self.spent();
        let of = spent.of(Some(owner));
        *of = of.saturating_add(size.saturating_add(OPEN));
    }

    /// Takes back what a file of `size` bytes cost when it was asked for: its records are added one
    /// by one.
    pub(crate) fn take_back(&self, owner: u32, size: u64) {
        let mut spent = self.spent();
        let of = spent.of(Some(owner));
        *of = of.saturating_sub(size);
    }

    pub(crate) fn is_over(&self, owner: u32) -> bool {
        let mut spent = self.spent();
        *spent.of(Some(owner)) >= spent.limit
    }

    /// Leaves a file of `owner` in the middle.
    pub(crate) fn leave(&self, owner: u32) {
        let mut spent = self.spent();
        spent.left = true;
        if spent.leavers.len() < MAX_OWNERS {
            spent.leavers.insert(owner);
        }
    }

    /// Returns `true` if a file of `owner` was left in the middle.
    pub(crate) fn has_left(&self, owner: u32) -> bool {
        self.spent().leavers.contains(&owner)
    }
}

impl Spent {
    fn of(&mut self, owner: Option<u32>) -> &mut u64 {
        match owner {
            Some(uid) if self.by_owner.len() < MAX_OWNERS || self.by_owner.contains_key(&uid) => {
                self.by_owner.entry(uid).or_default()
            }
            _ => &mut self.of_others,
        }
    }

    fn ask(&mut self, owner: Option<u32>, cost: u64) -> Turn {
        let limit = self.limit;
        let spent = self.of(owner);
        // Asked before it is added: a file may be larger than a turn.
        if *spent < limit {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_for_one_owner_and_not_for_another() {
        let turns = Turns::new(100_000);
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
        let turns = Turns::new(10 * LOOK);
        for uid in 0..1_000_000 {
            turns.look(Some(uid));
        }
        assert_eq!(turns.spent().by_owner.len(), MAX_OWNERS);
        assert_eq!(turns.spent().of_others, 10 * LOOK);
        assert!(turns.left());
    }

    #[test]
    fn a_turn_is_no_shorter_than_looking_at_all_names() {
        let end = *CLAIMED.end();
        assert_eq!(Turns::next_claimed(end / 4, Duration::ZERO), end / 2);
        assert_eq!(Turns::next_claimed(end, Duration::from_millis(100)), end);
        assert_eq!(Turns::next_claimed(end, Duration::from_secs(9)), 2 * end);
        let long = Turns::next_claimed(1 << 40, Duration::from_secs(9));
        assert_eq!(long, 9_000_000 * MICROSECOND);
    }

    #[test]
    fn time_and_records_count_beside_bytes() {
        let turns = Turns::new(16 << 20);
        for _ in 0..250 {
            assert!(!turns.is_over(1));
            turns.add_time(1, Duration::from_micros(1050));
        }
        assert!(turns.is_over(1));
        assert_eq!(turns.file(1, 1), Turn::Over);
        for _ in 0..64 {
            assert!(!turns.is_over(2));
            turns.add_record(2, 256 << 10);
        }
        assert!(turns.is_over(2));
        assert_eq!(turns.file(3, 1 << 30), Turn::His);
        assert!(turns.is_over(3));
        turns.take_back(3, 1 << 30);
        assert!(!turns.is_over(3));
    }
}

//! Fair shares of a walk: in each round, each owner's files get a budget of work.
//!
//! A walk meets files in the order of the tree. Without shares, one site user who makes a million
//! files, or a few that are costly to read, would delay the entries of 1,600 others by hours. So a
//! walk runs in rounds. In each round an owner may cause so much work; files beyond that are passed
//! over. When the tree has been gone through and files were passed over ([`Budgets::left`]), the
//! next round follows with a budget four times as large, until none are:
//!
//! ```text
//! round 1   64 MiB   site1 ████ passed over…   site2 ██ done   site3 █ done
//! round 2  256 MiB   site1 ████████████████ passed over…
//! round 3    1 GiB   site1 … done
//! ```
//!
//! Budgets grow by a constant factor, so all names together are looked at only a few times more
//! than once. The cost of the slowest owner to all others is one budget per round.
//!
//! # Unit
//!
//! Work is counted in bytes read. Other work is converted to the number of bytes that could be read
//! and decoded in the same time, see [`LOOK`], [`OPEN`] and [`MICROSECOND`].
//!
//! # Who owns what
//!
//! The owner is the user id that the kernel reports. With a user namespace one user can own files
//! of 65,536 ids, so only the first 4,096 ids of a round are counted one by one; all further ids
//! share one budget, and so do names whose owner cannot be found out.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Budget of an owner in the first round of a walk, in units of work: 64 MiB.
pub(crate) const FIRST: u64 = 64 << 20;
/// Budget of an owner in one pass over claimed files (the private directory), in units of work: at
/// first 16 MiB, at most 32 MiB. It is smaller than [`FIRST`], because freshly finished entries of
/// all other sites wait for the end of the pass.
pub(crate) const CLAIMED: std::ops::RangeInclusive<u64> = 16 << 20..=32 << 20;
/// How many times as large the budget of the next round is.
const FACTOR: u64 = 4;

/// Cost of looking at one name (one statx(2)), in units of work.
const LOOK: u64 = 128;
/// Cost of opening a directory, or of opening a file and storing its row, in units of work.
const OPEN: u64 = 4096;
/// Cost of a microsecond of decoding or storing, in units of work. The size of a file is known
/// before it is read and is charged in advance; the number of its records, alerts and boundaries
/// decides what it really costs, and that is charged by the time it took.
const MICROSECOND: u64 = 64;

/// Owners counted one by one in a round. The others share one budget.
const MAX_OWNERS: usize = 4096;
/// Names in a row whose owners have no budget left, after which the rest of a directory is given up
/// in this round: listing a million of them would cost time too.
const PATIENCE: u32 = 64;

/// What each owner has spent in one round. Clones share one account: the walk charges it, and so do
/// the threads that decode.
#[derive(Debug, Clone)]
pub(crate) struct Budgets(Arc<Mutex<Spent>>);

/// The account of one round.
#[derive(Debug)]
struct Spent {
    /// Budget of each owner.
    limit: u64,
    /// Work done so far by user id, for at most [`MAX_OWNERS`] ids.
    by_owner: HashMap<u32, u64>,
    /// Work done so far for all other ids together.
    of_others: u64,
    /// Questions in a row that were answered with no.
    in_vain: u32,
    /// Whether any owner's work was left for the next round.
    left: bool,
    /// Owners of whom a file of several entries was left in the middle, at most [`MAX_OWNERS`].
    leavers: HashSet<u32>,
}

/// Whether a piece of work may be done in this round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// The owner has budget left; the cost has been charged.
    Granted,
    /// The owner's budget is spent. Pass this name over, and go on to the next.
    Spent,
    /// The same, and so it was for more than [`PATIENCE`] names in a row. Go on to the next
    /// directory.
    AllSpent,
}

impl Budgets {
    /// Begins a round in which each owner may spend `limit` units; `u64::MAX` means no bound.
    pub(crate) fn new(limit: u64) -> Budgets {
        Budgets(Arc::new(Mutex::new(Spent {
            limit,
            by_owner: HashMap::new(),
            of_others: 0,
            in_vain: 0,
            left: false,
            leavers: HashSet::new(),
        })))
    }

    /// Returns the budget of the round after one with a budget of `limit`.
    pub(crate) fn next(limit: u64) -> u64 {
        limit.saturating_mul(FACTOR)
    }

    /// Asks whether a directory of `owner` may be opened and listed. Ends a series of refusals: in
    /// another directory there may be files of other owners.
    pub(crate) fn directory(&self, owner: Option<u32>) -> Grant {
        let mut spent = self.spent();
        spent.in_vain = 0;
        spent.ask(owner, OPEN)
    }

    /// Asks whether a name of `owner` that turned out to be nothing to read may be passed, which
    /// costs one look; `None` if the owner is not known.
    pub(crate) fn look(&self, owner: Option<u32>) -> Grant {
        self.spent().ask(owner, LOOK)
    }

    /// Asks whether a file of `size` bytes of `owner` may be opened and read.
    ///
    /// The answer is yes as long as anything of the budget is left, even if the file is larger than
    /// that: otherwise a file larger than every budget would never be read.
    pub(crate) fn file(&self, owner: u32, size: u64) -> Grant {
        self.spent().ask(Some(owner), size.saturating_add(OPEN))
    }

    /// Returns `true` if an owner had no budget left for something, so that another round is
    /// needed.
    pub(crate) fn left(&self) -> bool {
        self.spent().left
    }

    /// Locks the account. Its numbers are whole even if a thread died holding the lock.
    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Charges `owner` with the time that decoding or storing took, beside the bytes.
    pub(crate) fn add_time(&self, owner: u32, time: Duration) {
        let time = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let mut spent = self.spent();
        let of = spent.of(Some(owner));
        *of = of.saturating_add(time.saturating_mul(MICROSECOND));
    }

    /// Returns the budget for the next pass over claimed files after one with a budget of `limit`,
    /// in which looking at all names took the time `looking`.
    ///
    /// Twice as much, but no more than the end of [`CLAIMED`]; or than the work of one such look,
    /// if that is more: with a shorter turn most of the time would go into looking at names.
    pub(crate) fn next_claimed(limit: u64, looking: Duration) -> u64 {
        let looking = u64::try_from(looking.as_micros()).unwrap_or(u64::MAX);
        let most = looking.saturating_mul(MICROSECOND).max(*CLAIMED.end());
        limit.saturating_mul(2).min(most)
    }

    /// Charges `owner` with one entry of a file of several, whose row takes `size` bytes.
    pub(crate) fn add_record(&self, owner: u32, size: u64) {
        let mut spent = self.spent();
        let of = spent.of(Some(owner));
        *of = of.saturating_add(size.saturating_add(OPEN));
    }

    /// Gives back to `owner` the `size` bytes that were charged when a file was opened: its entries
    /// are charged one by one as they are stored, because it may be left in the middle.
    pub(crate) fn take_back(&self, owner: u32, size: u64) {
        let mut spent = self.spent();
        let of = spent.of(Some(owner));
        *of = of.saturating_sub(size);
    }

    /// Returns `true` if `owner` has no budget left.
    pub(crate) fn is_over(&self, owner: u32) -> bool {
        let mut spent = self.spent();
        *spent.of(Some(owner)) >= spent.limit
    }

    /// Notes that a file of several entries of `owner` was left in the middle; the next round goes
    /// on with it.
    pub(crate) fn leave(&self, owner: u32) {
        let mut spent = self.spent();
        spent.left = true;
        if spent.leavers.len() < MAX_OWNERS {
            spent.leavers.insert(owner);
        }
    }

    /// Returns `true` if a file of `owner` was left in the middle in this round.
    pub(crate) fn has_left(&self, owner: u32) -> bool {
        self.spent().leavers.contains(&owner)
    }
}

impl Spent {
    /// Returns the account of `owner`, or the common one if there is no room for it or it is not
    /// known.
    fn of(&mut self, owner: Option<u32>) -> &mut u64 {
        match owner {
            Some(uid) if self.by_owner.len() < MAX_OWNERS || self.by_owner.contains_key(&uid) => {
                self.by_owner.entry(uid).or_default()
            }
            _ => &mut self.of_others,
        }
    }

    /// Charges `cost` to `owner` if it has anything left of its budget, and says what to do next.
    fn ask(&mut self, owner: Option<u32>, cost: u64) -> Grant {
        let limit = self.limit;
        let spent = self.of(owner);
        // Asked before it is added: a file may be larger than a turn.
        if *spent < limit {
            *spent = spent.saturating_add(cost);
            self.in_vain = 0;
            return Grant::Granted;
        }
        self.left = true;
        self.in_vain += 1;
        if self.in_vain > PATIENCE {
            Grant::AllSpent
        } else {
            Grant::Spent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_for_one_owner_and_not_for_another() {
        let budgets = Budgets::new(100_000);
        let mut taken = 0;
        while budgets.file(1, 6000) == Grant::Granted {
            taken += 1;
        }
        assert_eq!(taken, 10);
        assert_eq!(budgets.file(2, 1 << 40), Grant::Granted);
        assert_eq!(budgets.file(2, 1), Grant::Spent);
        assert!(budgets.left());
        let asked = (0..100).take_while(|_| budgets.look(Some(1)) == Grant::Spent);
        assert_eq!(u32::try_from(asked.count()), Ok(PATIENCE - 1));
        assert_eq!(budgets.look(Some(3)), Grant::Granted);
        assert_eq!(budgets.look(Some(1)), Grant::Spent);
    }

    #[test]
    fn owners_without_end_share_a_turn() {
        let budgets = Budgets::new(10 * LOOK);
        for uid in 0..1_000_000 {
            budgets.look(Some(uid));
        }
        assert_eq!(budgets.spent().by_owner.len(), MAX_OWNERS);
        assert_eq!(budgets.spent().of_others, 10 * LOOK);
        assert!(budgets.left());
    }

    #[test]
    fn a_turn_is_no_shorter_than_looking_at_all_names() {
        let end = *CLAIMED.end();
        assert_eq!(Budgets::next_claimed(end / 4, Duration::ZERO), end / 2);
        assert_eq!(Budgets::next_claimed(end, Duration::from_millis(100)), end);
        assert_eq!(Budgets::next_claimed(end, Duration::from_secs(9)), 2 * end);
        let long = Budgets::next_claimed(1 << 40, Duration::from_secs(9));
        assert_eq!(long, 9_000_000 * MICROSECOND);
    }

    #[test]
    fn time_and_records_count_beside_bytes() {
        let budgets = Budgets::new(16 << 20);
        for _ in 0..250 {
            assert!(!budgets.is_over(1));
            budgets.add_time(1, Duration::from_micros(1050));
        }
        assert!(budgets.is_over(1));
        assert_eq!(budgets.file(1, 1), Grant::Spent);
        for _ in 0..64 {
            assert!(!budgets.is_over(2));
            budgets.add_record(2, 256 << 10);
        }
        assert!(budgets.is_over(2));
        assert_eq!(budgets.file(3, 1 << 30), Grant::Granted);
        assert!(budgets.is_over(3));
        budgets.take_back(3, 1 << 30);
        assert!(!budgets.is_over(3));
    }
}

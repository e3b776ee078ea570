//! Files that `modsec-parser` has taken charge of and that are still to be read: one of each owner
//! in turn. They may be gone soon, so nobody's wait for all of another one's.

use std::collections::{HashMap, VecDeque};

use super::claims::Claimed;

/// Files of one owner that wait.
const MAX_OF_OWNER: usize = 4096;
/// Files that wait in all.
const MAX: usize = 16_384;

/// The files.
#[derive(Debug)]
pub(super) struct Taken<T = Claimed> {
    /// What waits, by owner, in the order of arrival. An owner without files has no place here.
    owners: HashMap<Option<u32>, VecDeque<T>>,
    /// The owner whose turn it is first.
    order: VecDeque<Option<u32>>,
    /// Files over all owners.
    len: usize,
}

impl<T> Default for Taken<T> {
    fn default() -> Self {
        Taken {
            owners: HashMap::new(),
            order: VecDeque::new(),
            len: 0,
        }
    }
}

impl<T> Taken<T> {
    /// Adds a file of `owner` to those that wait.
    ///
    /// # Errors
    ///
    /// The file itself, if [`MAX_OF_OWNER`] files of this owner or [`MAX`] in all are waiting.
    pub(super) fn push(&mut self, owner: Option<u32>, file: T) -> Result<(), T> {
        let of_owner = self.owners.get(&owner).map_or(0, VecDeque::len);
        if of_owner >= MAX_OF_OWNER || self.len >= MAX {
            return Err(file);
        }
        if of_owner == 0 {
            self.order.push_back(owner);
        }
        self.owners.entry(owner).or_default().push_back(file);
        self.len += 1;
        Ok(())
    }

    /// Returns the oldest file of the owner whose turn it is; `None` if no file waits.
    pub(super) fn pop(&mut self) -> Option<T> {
        let owner = self.order.pop_front()?;
        let files = self.owners.get_mut(&owner)?;
        let file = files.pop_front()?;
        self.len -= 1;
        if files.is_empty() {
            self.owners.remove(&owner);
        } else {
            self.order.push_back(owner);
        }
        Some(file)
    }

    /// Returns `true` if no file waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_take_turns_and_none_takes_all_the_room() {
        let mut taken = Taken::default();
        let kept = (0..MAX).filter(|n| taken.push(Some(1), *n).is_ok()).count();
        assert_eq!(kept, MAX_OF_OWNER);
        assert_eq!(taken.push(Some(2), 70_000), Ok(()));
        assert_eq!(taken.push(None, 80_000), Ok(()));
        let first: Vec<usize> = std::iter::from_fn(|| taken.pop()).take(5).collect();
        assert_eq!(first, [0, 70_000, 80_000, 1, 2]);
        while taken.pop().is_some() {}
        assert!(taken.is_empty() && taken.owners.is_empty() && taken.order.is_empty());
    }
}

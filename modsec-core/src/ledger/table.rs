//! A table of clients that never grows beyond its bound.

use std::hash::{BuildHasher, RandomState};

use ipnet::IpNet;

use super::pace::Pace;
use super::window::Window;

/// No slot. A table has fewer slots than that.
const NONE: u32 = u32::MAX;

/// What is remembered of one client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Who it is.
    pub(super) network: IpNet,
    /// Time of the last attack, in milliseconds since the Unix epoch.
    pub(super) last_seen: i64,
    /// Reports so far.
    pub(super) reports: u32,
    /// Attacks of late, for people to read.
    pub(super) pace: Pace,
    /// Attacks that no report stands for yet.
    pub(super) window: Window,
}

/// A client and its places in the chain of its bucket and in the order of arrival.
#[derive(Debug)]
struct Slot {
    client: Client,
    chained: u32,
    older: u32,
    newer: u32,
}

/// Size of a slot and of the two buckets that stand for it at most, in bytes; the times in the
/// window come on top.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>() + 2 * size_of::<u32>();

/// Clients by network, in the order in which they were last seen.
///
/// Chains of slot numbers instead of an open-addressed map: removing leaves nothing behind, so a
/// full table in which every arrival pushes somebody out stays as large as it is and never stops to
/// rehash. Networks are chosen by strangers, hence the keyed hash.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    buckets: Box<[u32]>,
    /// Head of the chain of slots that nobody uses.
    free: u32,
    used: usize,
    oldest: u32,
    newest: u32,
    capacity: usize,
    hasher: RandomState,
}

impl Table {
    /// Makes an empty table for at most `capacity` clients, at least 1 and below 2³¹.
    pub(super) fn new(capacity: usize) -> Table {
        Table {
            slots: Vec::new(),
            buckets: vec![NONE; capacity.next_power_of_two()].into_boxed_slice(),
            free: NONE,
            used: 0,
            oldest: NONE,
            newest: NONE,
            capacity,
            hasher: RandomState::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Returns the client of `network`, as the most recently seen one, made by `new` if it is not
    /// there; and whether the least recently seen one had to go for it.
    pub(super) fn touch(
        &mut self,
        network: IpNet,
        new: impl FnOnce() -> Client,
    ) -> (&mut Client, bool) {
        let bucket = self.bucket(&network);
        let mut evicted = false;
        let at = if let Some(at) = self.find(bucket, &network) {
            self.unlink(at);
            at
        } else {
            evicted = self.len() >= self.capacity && self.remove_oldest();
            self.occupy(bucket, new())
        };
        self.link_newest(at);
        (&mut self.slots[at as usize].client, evicted)
    }

    /// Returns the least recently seen client.
    pub(super) fn oldest(&self) -> Option<&Client> {
        self.slots
            .get(self.oldest as usize)
            .map(|slot| &slot.client)
    }

    /// Removes the least recently seen client; false if the table is empty.
    pub(super) fn remove_oldest(&mut self) -> bool {
        let at = self.oldest;
        let Some(slot) = self.slots.get(at as usize) else {
            return false;
        };
        let (network, chained) = (slot.client.network, slot.chained);
        self.unlink(at);
        let bucket = self.bucket(&network);
        if self.buckets[bucket] == at {
            self.buckets[bucket] = chained;
        } else {
            let mut before = self.buckets[bucket];
            while self.slots[before as usize].chained != at {
                before = self.slots[before as usize].chained;
            }
            self.slots[before as usize].chained = chained;
        }
        let slot = &mut self.slots[at as usize];
        slot.client.window = Window::default();
        slot.chained = self.free;
        self.free = at;
        self.used -= 1;
        true
    }

    /// Returns all clients, the least recently seen first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Client> {
        let mut at = self.oldest;
        std::iter::from_fn(move || {
            let slot = self.slots.get(at as usize)?;
            at = slot.newer;
            Some(&slot.client)
        })
    }

    fn bucket(&self, network: &IpNet) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only the low bits are wanted"
        )]
        let hash = self.hasher.hash_one(network) as usize;
        hash & (self.buckets.len() - 1)
    }

    fn find(&self, bucket: usize, network: &IpNet) -> Option<u32> {
        let mut at = self.buckets[bucket];
        while let Some(slot) = self.slots.get(at as usize) {
            if slot.client.network == *network {
                return Some(at);
            }
            at = slot.chained;
        }
        None
    }

    /// Puts `client` into a free slot, at the head of its bucket's chain.
    fn occupy(&mut self, bucket: usize, client: Client) -> u32 {
        let slot = Slot {
            client,
            chained: self.buckets[bucket],
            older: NONE,
            newer: NONE,
        };
        let at = self.free;
        let at = if let Some(free) = self.slots.get_mut(at as usize) {
            self.free = free.chained;
            *free = slot;
            at
        } else {
            self.grow();
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        };
        self.buckets[bucket] = at;
        self.used += 1;
        at
    }

    /// Doubles the room for slots, but not beyond the capacity.
    fn grow(&mut self) {
        let len = self.slots.len();
        if len == self.slots.capacity() {
            let wanted = (len * 2).clamp(64, self.capacity.max(64));
            self.slots.reserve_exact(wanted.saturating_sub(len));
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = self.newest;
        let slot = &mut self.slots[at as usize];
        slot.older = before;
        slot.newer = NONE;
        match self.slots.get_mut(before as usize) {
            Some(slot) => slot.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Slot { older, newer, .. } = self.slots[at as usize];
        match self.slots.get_mut(older as usize) {
            Some(slot) => slot.newer = newer,
            None => self.oldest = newer,
        }
        match self.slots.get_mut(newer as usize) {
            Some(slot) => slot.older = older,
            None => self.newest = older,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    fn network(n: u8) -> IpNet {
        IpNet::from(std::net::IpAddr::from([192, 0, 2, n]))
    }

    fn client(n: u8) -> Client {
        Client {
            network: network(n),
            last_seen: 0,
            reports: 0,
            pace: Pace::default(),
            window: Window::default(),
        }
    }

    fn order(table: &Table) -> Vec<IpNet> {
        table.iter().map(|client| client.network).collect()
    }

    #[test]
    fn a_slot_is_as_large_as_stated() {
        assert_eq!(SLOT_BYTES, 96);
    }

    proptest! {
        #[test]
        fn the_table_is_a_queue_by_last_arrival(
            steps in prop::collection::vec(prop::option::weighted(0.9, 0u8..12), 0..200),
            capacity in 1usize..9,
        ) {
            let mut table = Table::new(capacity);
            let mut model: VecDeque<IpNet> = VecDeque::new();
            for step in steps {
                let Some(n) = step else {
                    prop_assert_eq!(table.remove_oldest(), model.pop_front().is_some());
                    continue;
                };
                let (found, evicted) = table.touch(network(n), || client(n));
                prop_assert_eq!(found.network, network(n));
                let known = model.iter().position(|&known| known == network(n));
                let full = known.is_none() && model.len() == capacity;
                prop_assert_eq!(evicted, full);
                if let Some(known) = known {
                    model.remove(known);
                } else if full {
                    model.pop_front();
                }
                model.push_back(network(n));
                prop_assert_eq!(order(&table), Vec::from(model.clone()));
                prop_assert_eq!(table.len(), model.len());
                prop_assert!(table.slots.len() <= capacity);
            }
        }
    }
}

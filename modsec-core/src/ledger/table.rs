//! A table of clients, in the order in which they were last seen, that never grows beyond its
//! bound.
//!
//! Attackers choose how many addresses they use, so the table must cost the same with a million of
//! them as with a billion: when it is full, the client that was not seen for the longest time goes.
//!
//! ```text
//! buckets  [ . ][ 2 ][ . ][ 0 ]        chains of slots with the same hash (`chained`)
//!                  │         └──► slot 0 ──► slot 1
//!                  └──► slot 2
//! order    oldest = 1 ⇄ 0 ⇄ 2 = newest  a doubly linked list through the slots (`older`, `newer`)
//! free     ──► slot 3 ──► slot 4        removed slots, linked by `chained`
//! ```
//!
//! Chains of slot numbers instead of an open-addressed map: removing leaves nothing behind, so a
//! full table in which every new client pushes another out stays as large as it is and never stops
//! to rehash. Addresses are chosen by attackers, hence the keyed hash (`SipHash` with random keys).

use std::hash::{BuildHasher, RandomState};

use ipnet::IpNet;

use super::rate::Rate;
use super::window::Window;

/// Stands for "no slot" in all links. A table has fewer slots than that.
const NONE: u32 = u32::MAX;

/// What is remembered of one client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Its address as a network of one, or a wider network.
    pub(super) network: IpNet,
    /// Time of the last attack, in milliseconds since the Unix epoch.
    pub(super) last_seen: i64,
    /// How often it was reported.
    pub(super) reports: u32,
    /// How many attacks there were of late, to be shown.
    pub(super) rate: Rate,
    /// Attacks that no report stands for yet.
    pub(super) window: Window,
}

/// A client and its links.
#[derive(Debug)]
struct Slot {
    /// What is known of it.
    client: Client,
    /// Next slot in the chain of the bucket, or of the free slots.
    chained: u32,
    /// The client that was seen before this one.
    older: u32,
    /// The client that was seen after this one.
    newer: u32,
}

/// Bytes that one client costs at most: a slot, and the two buckets that stand for it. The times in
/// its window come on top.
pub(super) const SLOT_BYTES: usize = size_of::<Slot>() + 2 * size_of::<u32>();

/// Clients by network, in the order in which they were last seen.
#[derive(Debug)]
pub(super) struct ClientTable {
    /// All slots ever used, at most `capacity`.
    slots: Vec<Slot>,
    /// First slot of each chain; a power of two, at least `capacity`.
    buckets: Box<[u32]>,
    /// First of the slots that no client uses.
    free: u32,
    /// Number of clients.
    used: usize,
    /// The client not seen for the longest time.
    oldest: u32,
    /// The client seen last.
    newest: u32,
    /// Most clients.
    capacity: usize,
    /// Keys of the hash, random for each table.
    hasher: RandomState,
}

impl ClientTable {
    /// Makes an empty table for at most `capacity` clients, at least 1 and below 2³¹.
    pub(super) fn new(capacity: usize) -> ClientTable {
        ClientTable {
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

    /// Returns the number of clients.
    pub(super) fn len(&self) -> usize {
        self.used
    }

    /// Returns the client of `network`, now the most recently seen one; made by `new` if it is not
    /// there. The second value is `true` if the least recently seen client had to go for it.
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

    /// Returns the least recently seen client; `None` if the table is empty.
    pub(super) fn oldest(&self) -> Option<&Client> {
        self.slots
            .get(self.oldest as usize)
            .map(|slot| &slot.client)
    }

    /// Removes the least recently seen client; returns `false` if the table is empty. Its slot
    /// keeps no memory outside of the table.
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

    /// Returns the number of the bucket of `network`.
    fn bucket(&self, network: &IpNet) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "only the low bits are wanted"
        )]
        let hash = self.hasher.hash_one(network) as usize;
        hash & (self.buckets.len() - 1)
    }

    /// Returns the slot of `network`, which can only be in the chain of `bucket`.
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

    /// Puts `client` into a free slot, or a new one, at the head of its bucket's chain; returns its
    /// number. The caller links it into the order.
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

    /// Makes room for one more slot: doubles it, but not beyond the capacity.
    fn grow(&mut self) {
        let len = self.slots.len();
        if len == self.slots.capacity() {
            let wanted = (len * 2).clamp(64, self.capacity.max(64));
            self.slots.reserve_exact(wanted.saturating_sub(len));
        }
    }

    /// Puts the slot `at` at the end of the order.
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

    /// Takes the slot `at` out of the order; its links stay as they were.
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
            rate: Rate::default(),
            window: Window::default(),
        }
    }

    fn order(table: &ClientTable) -> Vec<IpNet> {
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
            let mut table = ClientTable::new(capacity);
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

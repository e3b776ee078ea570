//! The last of many.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// A set of `MOST` keys at the most; the oldest is forgotten first. Something can be kept with
/// each.
#[derive(Debug)]
pub(crate) struct Recent<K, const MOST: usize, V = ()> {
    /// The same keys, to be found by their hash.
    keys: HashSet<K>,
    /// In the order in which they came.
    order: VecDeque<(K, V)>,
}

impl<K, const MOST: usize, V> Default for Recent<K, MOST, V> {
    fn default() -> Self {
        Self {
            keys: HashSet::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Hash + Eq + Clone, const MOST: usize, V> Recent<K, MOST, V> {
    /// Returns `true` if the key is remembered.
    pub(crate) fn contains(&self, key: &K) -> bool {
        self.keys.contains(key)
    }

    /// Remembers a key; returns `false` if it was there already, and leaves it as it was. What had
    /// to go for it is handed to `forgotten`.
    pub(crate) fn insert(&mut self, key: K, value: V, forgotten: impl FnOnce(V)) -> bool {
        if !self.keys.insert(key.clone()) {
            return false;
        }
        self.order.push_back((key, value));
        if self.order.len() > MOST
            && let Some((oldest, value)) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
            forgotten(value);
        }
        true
    }

    /// Returns what is remembered, the oldest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &(K, V)> {
        self.order.iter()
    }
}

impl<K: Hash + Eq + Clone, const MOST: usize> Recent<K, MOST> {
    /// Remembers a key; returns `false` if it was there already.
    pub(crate) fn add(&mut self, key: K) -> bool {
        self.insert(key, (), drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first_and_what_is_there_keeps_its_place() {
        let mut recent = Recent::<_, 2, _>::default();
        let mut gone = Vec::new();
        for (key, want) in [
            ("a", true),
            ("b", true),
            ("a", false),
            ("c", true),
            ("a", true),
        ] {
            assert_eq!(
                recent.insert(key, key.len(), |len| gone.push(len)),
                want,
                "{key}"
            );
        }
        assert_eq!(gone.len(), 2);
        assert!(recent.contains(&"a") && recent.contains(&"c") && !recent.contains(&"b"));
        assert_eq!(
            recent.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            ["c", "a"]
        );
    }
}

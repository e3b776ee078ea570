//! Which attacks were counted already.

use crate::recent::Recent;

/// Attacks remembered, the oldest being forgotten first: with both sources in use, that many may
/// lie between an entry's file and its place in the merged log. 40 bytes each at most.
pub(super) const MAX_SEEN: usize = 1 << 18;

/// Tells one entry from another by its bytes: the beginning of their BLAKE3 hash.
///
/// Not by name: names repeat when a child process takes two connections in a second, and a file is
/// renamed when another program takes charge of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct EntryKey(pub(super) u64);

impl EntryKey {
    /// Returns the key of an entry; line ends behind it do not matter, the merged log adds one.
    pub(super) fn of(entry: &[u8]) -> EntryKey {
        let end = entry
            .iter()
            .rposition(|&byte| byte != b'\n')
            .map_or(0, |last| last + 1);
        EntryKey::from_hash(blake3::hash(&entry[..end]))
    }

    /// Returns the first 8 bytes of the hash, which was taken of the entry without line ends behind
    /// it.
    pub(super) fn from_hash(hash: blake3::Hash) -> EntryKey {
        let mut head = [0; 8];
        head.copy_from_slice(&hash.as_bytes()[..8]);
        EntryKey(u64::from_be_bytes(head))
    }
}

/// The most recently counted attacks, each with its file's time of change in nanoseconds since the
/// Unix epoch (0 without a file).
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Keys by age, and the time of change of each one's file.
    attacks: Recent<EntryKey, MAX_SEEN, i64>,
    /// The latest time of change among those that were forgotten; 0 if none was.
    forgotten_until: i64,
}

impl Seen {
    /// Takes over what an earlier run remembered.
    pub(super) fn restore(
        keys: impl IntoIterator<Item = (EntryKey, i64)>,
        forgotten_until: i64,
    ) -> Seen {
        let mut seen = Seen {
            forgotten_until,
            ..Seen::default()
        };
        for (key, changed) in keys {
            seen.insert(key, changed);
        }
        seen
    }

    /// Remembers an attack; false if it was counted before.
    pub(super) fn insert(&mut self, key: EntryKey, changed: i64) -> bool {
        let until = &mut self.forgotten_until;
        let forget = |changed| *until = (*until).max(changed);
        self.attacks.insert(key, changed, forget)
    }

    /// Returns the latest time of change of a file that was counted and forgotten since. What a
    /// walk finds that is not newer must have been counted.
    pub(super) fn forgotten_until(&self) -> i64 {
        self.forgotten_until
    }

    /// Returns what is remembered, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryKey, i64)> {
        self.attacks.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_known_by_its_bytes() {
        let mut seen = Seen::default();
        assert!(seen.insert(EntryKey::of(b"a"), 1));
        assert!(seen.insert(EntryKey::of(b"b"), 2));
        assert!(!seen.insert(EntryKey::of(b"a"), 3));
        let restored = Seen::restore(seen.iter(), 0);
        assert!(restored.iter().eq(seen.iter()));
    }

    #[test]
    fn what_is_forgotten_leaves_its_time_behind() {
        let mut seen = Seen::default();
        for n in 0..MAX_SEEN as u64 + 3 {
            assert!(seen.insert(EntryKey(n), 10 + i64::try_from(n).unwrap()));
        }
        assert_eq!(seen.forgotten_until(), 12);
        assert_eq!(seen.iter().count(), MAX_SEEN);
    }
}

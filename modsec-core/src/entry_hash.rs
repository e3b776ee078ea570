//! What distinguishes one entry from every other: a hash over its bytes.
//!
//! The hash is the key in the store, in batches and in the journal of the merged log. Every byte
//! counts: a native entry that was cut short is another entry than the whole one.

use std::fmt;

/// The first 16 bytes of BLAKE3 over an entry's own bytes: the only name of an entry.
///
/// Neither the transaction id nor the file name serves, as both repeat (see the documentation of
/// the storage directory). 128 bits of a cryptographic hash do not: no client can bring about two
/// entries of the same hash in order to hide one of them.
///
/// Shown as 32 lower-case hexadecimal digits. In SQL: `lower(hex(entry_hash))`.
///
/// ```
/// use modsec_core::EntryHash;
///
/// let hash = EntryHash::of(b"--a-A--\n");
/// assert_eq!(hash.to_string().len(), 32);
/// assert_ne!(hash, EntryHash::of(b"--b-A--\n"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryHash([u8; 16]);

impl EntryHash {
    /// Returns the hash of an entry that is in memory as a whole.
    pub fn of(bytes: &[u8]) -> Self {
        Self::cut(blake3::hash(bytes))
    }

    /// Returns the hash with these bytes, as read back from a database or a journal.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns the 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the first half of a whole hash.
    fn cut(hash: blake3::Hash) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        Self(bytes)
    }
}

impl fmt::Display for EntryHash {
    /// Writes 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EntryHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Computes an [`EntryHash`] piece by piece, for entries that are not read as a whole.
#[derive(Clone, Default)]
pub struct EntryHasher(blake3::Hasher);

impl EntryHasher {
    /// Returns a hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next bytes of the entry.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the hash of all bytes added so far.
    pub fn finish(&self) -> EntryHash {
        EntryHash::cut(self.0.finalize())
    }
}

impl fmt::Debug for EntryHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EntryHasher").field(&self.finish()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_beginning_of_blake3_in_hex() {
        // From BLAKE3's own test vectors: input of length 0.
        let hash = EntryHash::of(b"");
        assert_eq!(hash.to_string(), "af1349b9f5f9a1a6a0404dea36dcc949");
        assert_eq!(format!("{hash:?}"), hash.to_string());
        assert_eq!(EntryHash::from_bytes(*hash.as_bytes()), hash);
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let mut hasher = EntryHasher::new();
        hasher.update(b"--a-A--\n");
        hasher.update(b"");
        hasher.update(b"--a-Z--\n");
        assert_eq!(hasher.finish(), EntryHash::of(b"--a-A--\n--a-Z--\n"));
    }
}

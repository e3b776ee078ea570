//! What a pass did, in numbers that do not grow with it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::IndexCounts;
use crate::cause::Outcome;
use crate::record::{Flag, Flags};
use crate::storage_dir::LeftAlone;
use crate::store::Row;

/// Why an entry is counted as defective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum DefectReason {
    /// The file has no bytes and nobody has written to it for a long time. It stays.
    Empty,
    /// The file does not start like an audit log. It stays.
    NotAnAuditLog,
    /// The entry ends before its part Z and will not go on. It is stored and flagged.
    Truncated,
    /// The database does not accept the row. The file stays.
    Refused,
    /// The file could not be read to its end. It stays.
    Unreadable,
    /// Lines between the entries of a log belong to none of them. They are left out.
    Foreign,
}

impl DefectReason {
    /// Names the reason in a few words.
    pub fn label(self) -> &'static str {
        match self {
            DefectReason::Empty => "empty file, kept",
            DefectReason::NotAnAuditLog => "not an audit log, kept",
            DefectReason::Truncated => "cut short, stored with what is there",
            DefectReason::Refused => "refused by the database, kept",
            DefectReason::Unreadable => "could not be read, kept",
            DefectReason::Foreign => "lines between entries, left out",
        }
    }
}

/// Counts of one pass, or since the program started.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Tally {
    /// Entries decoded: `stored` + `known`, and those read without a store.
    pub entries: u64,
    /// Bytes of these entries.
    pub bytes: u64,
    /// Entries that are new in the store; in a rehearsal ([`Options::compare`]), that would be.
    ///
    /// [`Options::compare`]: super::Options::compare
    pub stored: u64,
    /// Entries that were in the store already.
    pub known: u64,
    /// Entries not taken yet: too young, or incomplete and perhaps still growing.
    pub waiting: u64,
    /// Files removed after they were stored.
    pub removed: u64,
    /// Directories removed because they were empty and old.
    pub pruned: u64,
    /// Defective entries by reason.
    pub defects: BTreeMap<DefectReason, u64>,
    /// Entries by flag.
    pub flags: BTreeMap<Flag, u64>,
    /// Transactions that the engine blocked.
    pub blocked: u64,
    /// Transactions by the rule of their cause.
    pub causes: TopCounts,
    /// Transactions by client address.
    pub addresses: TopCounts,
    /// What was left alone in the storage directory.
    pub left_alone: LeftAlone,
    /// Inputs that could not be opened, or not be read to their end.
    pub unusable_inputs: u64,
    /// What the index says, if there is one.
    pub index: IndexCounts,
    /// Files and directories below an input that could not be opened, and links and pipes there.
    pub skipped_inputs: u64,
    /// Whether a request to stop ended the pass before everything was read.
    pub interrupted: bool,
    /// Time since the start.
    pub elapsed: Duration,
}

impl Tally {
    /// Returns the number of defective entries over all reasons.
    pub fn defective(&self) -> u64 {
        self.defects.values().sum()
    }

    /// Returns `true` if nothing was found that is an entry, or would be one but for a defect.
    pub fn is_empty(&self) -> bool {
        let found = [
            self.entries,
            self.waiting,
            self.defective(),
            self.unusable_inputs,
            self.skipped_inputs,
            self.left_alone.total(),
        ];
        found == [0; 6] && !self.interrupted
    }

    /// Forgets what another walk will find again.
    pub(super) fn forget_what_stays(&mut self) {
        self.waiting = 0;
        self.left_alone = LeftAlone::default();
        self.defects
            .retain(|reason, _| *reason == DefectReason::Truncated);
    }

    /// Counts one defective entry.
    pub fn defect(&mut self, reason: DefectReason) {
        *self.defects.entry(reason).or_default() += 1;
    }

    /// Counts an entry of `bytes` bytes: its flags, whether it was blocked, the rule of its cause
    /// and its client.
    ///
    /// The client is `client_ip` of the row; if that is unknown, `remote_addr` as the log has it
    /// (part A).
    pub(super) fn entry(&mut self, row: &Row, flags: Flags, bytes: u64) {
        self.entries += 1;
        self.bytes += bytes;
        self.blocked += u64::from(row.outcome == Some(Outcome::Blocked));
        for flag in flags.iter() {
            *self.flags.entry(flag).or_default() += 1;
        }
        if flags.contains(Flag::Truncated) {
            self.defect(DefectReason::Truncated);
        }
        if let Some(id) = &row.rule_id {
            self.causes.add(id);
        }
        match row.client_ip {
            Some(ip) => self.addresses.add(&ip.to_string()),
            None => {
                if let Some(address) = &row.remote_addr {
                    self.addresses.add(address);
                }
            }
        }
    }
}

/// The most frequent of any number of words, in bounded memory (Misra and Gries).
///
/// Counts are exact as long as there were at most [`TopCounts::CAPACITY`] different words; then
/// they are lower bounds, and the frequent ones still stand out.
#[derive(Debug, Clone, Default)]
pub struct TopCounts {
    /// Words and how often they came, less what was subtracted.
    counts: HashMap<String, u64>,
    /// Whether a word was ever dropped or a count reduced, so that counts are lower bounds.
    decremented: bool,
}

impl TopCounts {
    /// Words counted at a time.
    pub const CAPACITY: usize = 4096;

    /// Counts `word` once; of a long one the first 100 characters.
    pub fn add(&mut self, word: &str) {
        let word = match word.char_indices().nth(100) {
            Some((end, _)) => word.get(..end).unwrap_or(word),
            None => word,
        };
        if let Some(count) = self.counts.get_mut(word) {
            *count += 1;
        } else if self.counts.len() < Self::CAPACITY {
            self.counts.insert(word.to_owned(), 1);
        } else {
            self.decremented = true;
            self.counts.retain(|_, count| {
                *count -= 1;
                *count > 0
            });
        }
    }

    /// Returns the `most` most frequent words and their counts, most frequent first.
    pub fn top(&self, most: usize) -> Vec<(&str, u64)> {
        let mut all: Vec<_> = self
            .counts
            .iter()
            .map(|(word, count)| (word.as_str(), *count))
            .collect();
        all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        all.truncate(most);
        all
    }

    /// Returns `true` if the counts are exact.
    pub fn is_exact(&self) -> bool {
        !self.decremented
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequent_ones_survive_a_flood_of_others() {
        let mut counts = TopCounts::default();
        for n in 0..100_000 {
            counts.add(&n.to_string());
            counts.add("frequent");
        }
        assert!(counts.counts.len() <= TopCounts::CAPACITY);
        assert_eq!(counts.top(1)[0].0, "frequent");
        assert!(!counts.is_exact());
    }

    #[test]
    fn equal_counts_come_in_the_order_of_their_names() {
        let mut counts = TopCounts::default();
        for word in ["b", "a", "c", "c"] {
            counts.add(word);
        }
        assert_eq!(counts.top(2), [("c", 2), ("a", 1)]);
        assert!(counts.is_exact());
    }

    #[test]
    fn a_long_word_is_cut_between_characters() {
        let mut counts = TopCounts::default();
        counts.add(&"я".repeat(1000));
        assert_eq!(counts.top(1)[0].0.chars().count(), 100);
    }
}

//! Lines of the index that still want their entry, and entries that still want their line.
//!
//! What brings the two together is size and MD5, never a name: a name is used again, a file is
//! moved away before its line is read, and lines of one name need not come in order. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::IndexCounts;
use crate::recent::Recent;

/// Lines that may be open before no more are read: about 300 bytes each.
const MAX_OPEN: usize = 1 << 17;
/// Entries and names that are remembered in case their line comes later.
const MAX_RECENT: usize = 1 << 16;

/// Entries that are noted as having no line yet.
const MAX_UNLISTED: usize = 1024;

/// Size and MD5 of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::ingest) struct Digest {
    /// Bytes.
    pub(in crate::ingest) size: u64,
    /// Of all bytes of the entry, as the line of the index has it.
    pub(in crate::ingest) md5: [u8; 16],
}

/// A record as the index announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ingest) struct Announced {
    /// Path below the storage directory.
    pub(in crate::ingest) file: Arc<Path>,
    /// What the entry must be like to be the one that this line is about.
    pub(in crate::ingest) digest: Digest,
    /// Whether records of one name stand one behind the other, instead of replacing each other.
    pub(in crate::ingest) appends: bool,
    /// Whether the line was there before anybody kept account of lines.
    pub(in crate::ingest) before: bool,
}

/// Files that open lines name, and what they want to find there.
#[derive(Debug, Clone)]
pub(in crate::ingest) struct Wanted {
    /// Path below the storage directory.
    pub(in crate::ingest) file: Arc<Path>,
    /// Those of all open lines that have this path.
    pub(in crate::ingest) digests: Vec<Digest>,
}

/// What was found where a line said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ingest) enum Fate {
    /// No such file.
    Gone,
    /// A file with other contents, or nothing that may be read.
    Differs,
    /// A file with other contents that changed a moment ago: its next line may be on its way.
    Changing,
    /// The announced bytes, which are no entry that can be stored.
    Unusable(Digest),
}

/// A line that waits for its entry.
#[derive(Debug)]
struct Open {
    /// What it announces.
    line: Announced,
    /// When it was read.
    since: Instant,
    /// Another line has the same name.
    shared: bool,
    /// What was found at its path; `None` if nobody has looked.
    fate: Option<Fate>,
}

/// The account of lines and entries.
#[derive(Debug, Default)]
pub(in crate::ingest) struct Ledger {
    /// The number that the next open line gets.
    next: u64,
    /// Open lines by number, that is by age.
    open: BTreeMap<u64, Open>,
    /// Numbers of open lines by what they announce.
    by_digest: HashMap<Digest, BTreeSet<u64>>,
    /// Numbers of open lines by path.
    by_file: HashMap<Arc<Path>, BTreeSet<u64>>,
    /// Names of lines.
    named: Recent<Arc<Path>, MAX_RECENT>,
    /// Names of lines whose entry was read.
    found: Recent<Arc<Path>, MAX_RECENT>,
    /// Entries that were read.
    taken: Recent<Digest, MAX_RECENT>,
    /// The newest of them that no line was for.
    unlisted: VecDeque<Digest>,
    /// What was counted since [`Ledger::take_counts`] was called last.
    counts: IndexCounts,
}

impl Ledger {
    /// Takes note of a line.
    pub(super) fn announce(&mut self, line: Announced, now: Instant) {
        self.counts.lines += 1;
        let shared = !self.named.add(Arc::clone(&line.file));
        // Earlier ones have learnt it from their own successors.
        let last = self.by_file.get(&line.file).and_then(|same| same.last());
        if let Some(open) = last.and_then(|number| self.open.get_mut(number)) {
            open.shared = true;
        }
        if self.taken.contains(&line.digest) {
            self.counts.verified += 1;
            self.found.add(Arc::clone(&line.file));
            self.unlisted.retain(|digest| *digest != line.digest);
            return;
        }
        self.reopen(line, shared, now);
    }

    /// Takes note of a line that was counted in an earlier run.
    pub(super) fn reopen(&mut self, line: Announced, shared: bool, now: Instant) {
        let number = self.next;
        self.next += 1;
        self.named.add(Arc::clone(&line.file));
        self.by_digest
            .entry(line.digest)
            .or_default()
            .insert(number);
        let same = self.by_file.entry(Arc::clone(&line.file)).or_default();
        same.insert(number);
        let open = Open {
            line,
            since: now,
            shared,
            fate: None,
        };
        self.open.insert(number, open);
    }

    /// Returns `true` if no more lines can be taken until some are settled. Old ones that will never
    /// find their entry do not count: they may be as many as the index is old.
    pub(super) fn is_full(&mut self) -> bool {
        if self.open.len() < MAX_OPEN {
            return false;
        }
        self.settle_if(|open| open.line.before && open.fate == Some(Fate::Gone));
        self.open.len() >= MAX_OPEN
    }

    /// Takes note of a line that says nothing about an entry in this storage directory.
    pub(super) fn foreign(&mut self, lines: u64) {
        self.counts.lines += lines;
        self.counts.foreign += lines;
    }

    /// Takes note of lines that were thrown away.
    pub(super) fn unread(&mut self, lines: u64) {
        self.counts.lines += lines;
        self.counts.unread += lines;
    }

    /// Takes note of an entry that was read, wherever it was.
    pub(in crate::ingest) fn take(&mut self, digest: Digest) {
        let is_new = self.taken.add(digest);
        let listed = self.by_digest.remove(&digest).unwrap_or_default();
        if is_new && listed.is_empty() {
            self.unlisted.push_back(digest);
            if self.unlisted.len() > MAX_UNLISTED {
                self.unlisted.pop_front();
            }
        }
        for number in listed {
            if let Some(open) = self.remove(number) {
                self.counts.verified += 1;
                self.found.add(Arc::clone(&open.line.file));
            }
        }
    }

    /// Takes note of what was found at `file`.
    pub(in crate::ingest) fn tried(&mut self, file: &Path, fate: Fate) {
        if let Fate::Unusable(digest) = fate {
            self.take(digest);
        }
        for number in self.by_file.get(file).into_iter().flatten() {
            if let Some(open) = self.open.get_mut(number) {
                open.fate = Some(fate);
            }
        }
    }

    /// Returns at most `most` files to look into, named by lines that came not after `ripe`.
    pub(super) fn wanted(&mut self, most: usize, ripe: Instant) -> Vec<Wanted> {
        let mut names: HashSet<Arc<Path>> = HashSet::new();
        for open in self.open.values().filter(|open| open.since <= ripe) {
            if names.len() >= most {
                break;
            }
            if open.fate.is_none() {
                names.insert(Arc::clone(&open.line.file));
            }
        }
        let mut wanted: Vec<Wanted> = names
            .into_iter()
            .map(|file| Wanted {
                digests: self.digests(&file),
                file,
            })
            .collect();
        // Files of one directory stand together.
        wanted.sort_unstable_by(|a, b| a.file.cmp(&b.file));
        wanted
    }

    /// Returns what the open lines of this path announce.
    fn digests(&self, file: &Path) -> Vec<Digest> {
        let numbers = self.by_file.get(file).into_iter().flatten();
        numbers
            .filter_map(|number| Some(self.open.get(number)?.line.digest))
            .collect()
    }

    /// Makes files that were changing at the last look candidates again.
    pub(super) fn try_again(&mut self) {
        for open in self.open.values_mut() {
            if open.fate == Some(Fate::Changing) {
                open.fate = None;
            }
        }
    }

    /// Settles the lines that came not after `before`, all files having been looked at since.
    pub(super) fn close(&mut self, before: Instant) {
        self.settle_if(|open| {
            open.since <= before && open.fate.is_some_and(|fate| fate != Fate::Changing)
        });
    }

    /// Settles the open lines for which `due` returns `true`.
    fn settle_if(&mut self, due: impl Fn(&Open) -> bool) {
        let due: Vec<u64> = self
            .open
            .iter()
            .filter(|(_, open)| due(open))
            .map(|(number, _)| *number)
            .collect();
        for number in due {
            self.settle(number);
        }
    }

    /// Counts a line whose entry did not turn up.
    fn settle(&mut self, number: u64) {
        let Some(open) = self.remove(number) else {
            return;
        };
        let file = &open.line.file;
        // Of a time of which nothing else is known, only what is still there tells anything.
        let replaced = if open.line.before {
            self.found.contains(file)
        } else {
            open.shared
        };
        let counts = &mut self.counts;
        *match open.fate {
            _ if replaced && !open.line.appends => &mut counts.overwritten,
            Some(Fate::Differs | Fate::Changing | Fate::Unusable(_)) => &mut counts.mismatched,
            Some(Fate::Gone) | None if open.line.before => &mut counts.before,
            Some(Fate::Gone) | None => &mut counts.missing,
        } += 1;
    }

    /// Takes an open line out of all three maps; `None` if it was settled before.
    fn remove(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        forget(&mut self.by_file, &open.line.file, number);
        forget(&mut self.by_digest, &open.line.digest, number);
        Some(open)
    }

    /// Returns the newest `most` open lines, oldest first, and whether another line has the name.
    pub(super) fn open_lines(&self, most: usize) -> impl Iterator<Item = (&Announced, bool)> {
        let rest = self.open.len().saturating_sub(most);
        let newest = self.open.values().skip(rest);
        newest.map(|open| (&open.line, open.shared))
    }

    /// Returns entries that were read before their line, or have none.
    pub(super) fn unlisted(&self) -> impl Iterator<Item = &Digest> {
        self.unlisted.iter()
    }

    /// Returns `true` if no line is open.
    pub(super) fn is_settled(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the counts since the last call.
    pub(super) fn take_counts(&mut self) -> IndexCounts {
        std::mem::take(&mut self.counts)
    }
}

/// Takes a number from those of `key`, and the key with its last number.
fn forget<K: Hash + Eq>(numbers: &mut HashMap<K, BTreeSet<u64>>, key: &K, number: u64) {
    if let Some(of_key) = numbers.get_mut(key) {
        of_key.remove(&number);
        if of_key.is_empty() {
            numbers.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(file: &str, number: u8) -> Announced {
        Announced {
            file: Path::new(file).into(),
            digest: digest(number),
            appends: false,
            before: false,
        }
    }

    fn digest(number: u8) -> Digest {
        Digest {
            size: number.into(),
            md5: [number; 16],
        }
    }

    /// Looks into every file that is wanted, `there` being what is found.
    fn look(ledger: &mut Ledger, there: &[(&str, u8)], now: Instant) {
        for wanted in ledger.wanted(usize::MAX, now) {
            let found = there
                .iter()
                .find(|(file, _)| *wanted.file == *Path::new(file));
            match found {
                Some((_, number)) if wanted.digests.contains(&digest(*number)) => {
                    ledger.take(digest(*number));
                    ledger.tried(&wanted.file, Fate::Gone);
                }
                Some(_) => ledger.tried(&wanted.file, Fate::Differs),
                None => ledger.tried(&wanted.file, Fate::Gone),
            }
        }
    }

    fn counts(counts: IndexCounts) -> [u64; 5] {
        [
            counts.lines,
            counts.verified,
            counts.overwritten,
            counts.missing,
            counts.mismatched,
        ]
    }

    #[test]
    fn an_entry_and_its_line_find_each_other_in_either_order() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.take(digest(1));
        assert_eq!(ledger.unlisted().count(), 1);
        ledger.announce(line("a", 1), now);
        ledger.announce(line("a", 2), now);
        assert_eq!(ledger.unlisted().count(), 0);
        ledger.take(digest(2));
        assert!(ledger.is_settled());
        assert_eq!(counts(ledger.take_counts()), [2, 2, 0, 0, 0]);
    }

    #[test]
    fn what_does_not_turn_up_is_told_apart() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        for (file, number) in [("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5)] {
            ledger.announce(line(file, number), now);
        }
        look(&mut ledger, &[("a", 2), ("c", 6)], now);
        ledger.close(now);
        assert_eq!(counts(ledger.take_counts()), [5, 1, 2, 1, 1]);
    }

    #[test]
    fn a_changing_file_is_judged_later() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        ledger.announce(line("a", 1), now);
        ledger.tried(Path::new("a"), Fate::Changing);
        ledger.close(now);
        assert_eq!(ledger.wanted(9, now).len(), 0);
        ledger.try_again();
        assert_eq!(ledger.wanted(9, now).len(), 1);
        ledger.announce(line("a", 2), now);
        look(&mut ledger, &[("a", 2)], now);
        ledger.close(now);
        assert_eq!(counts(ledger.take_counts()), [2, 1, 1, 0, 0]);
    }

    #[test]
    fn old_lines_make_room_for_new_ones() {
        let now = Instant::now();
        let mut ledger = Ledger::default();
        let lines = MAX_OPEN as u64 + 10;
        for number in 0..lines {
            let mut old = line(&number.to_string(), 1);
            old.digest.size = number;
            old.before = true;
            ledger.announce(old, now);
            if number % 10_000 == 0 {
                look(&mut ledger, &[], now);
            }
        }
        assert!(!ledger.is_full());
        let counts = ledger.take_counts();
        assert!(counts.before > 100_000 && counts.wrong() == 0, "{counts:?}");
    }

    proptest! {
        #[test]
        fn every_line_is_counted_once_whatever_the_order(
            steps in prop::collection::vec((0..4u8, 0..3u8, any::<u8>()), 0..60),
        ) {
            let now = Instant::now();
            let mut ledger = Ledger::default();
            let mut lines = 0;
            for (what, file, number) in steps {
                let file = file.to_string();
                match what {
                    0 | 1 => {
                        ledger.announce(line(&file, number), now);
                        lines += 1;
                    }
                    2 => ledger.take(digest(number)),
                    _ => look(&mut ledger, &[(&file, number)], now),
                }
            }
            look(&mut ledger, &[], now);
            ledger.close(now);
            prop_assert!(ledger.is_settled());
            prop_assert!(ledger.by_file.is_empty() && ledger.by_digest.is_empty());
            let counts = ledger.take_counts();
            prop_assert_eq!(counts.lines, lines);
            prop_assert_eq!(counts.verified + counts.wrong(), lines);
        }
    }
}

//! Who changes directories without end is answered later and later.
//!
//! A user who changes the mode of an own directory in a loop would keep the program as busy as
//! itself, fill the queue of events, and make all others wait. So each owner gets so many answers
//! in a while; with more, what has changed is looked at after a pause, which doubles as long as it
//! goes on.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

/// Answers to one owner in [`WHILE`]. A site needs a few in a minute, a restored backup hundreds.
const ANSWERS: u32 = 2048;
const WHILE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Also the longest time that a directory stays wrong after the last change.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);
/// How long a warning about an owner holds.
const WARNED_FOR: Duration = Duration::from_secs(60 * 60);
/// Owners counted one by one, the others together: a user namespace gives one user 65,536 numbers.
const MAX_OWNERS: usize = 4096;
/// Directories of one owner that wait. Further ones are left to the next walk over the whole tree.
const MAX_WAITING: usize = 256;

/// Whose answers are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    User(u32),
    /// What is in the tree of one site, of an owner whose directories many sites use.
    Site(OsString),
    /// All for whom there is no room.
    Others,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid {uid}"),
            Self::Site(_) => f.write_str("this site"),
            Self::Others => f.write_str("many others"),
        }
    }
}

/// The answers to all owners.
#[derive(Debug, Default)]
pub(crate) struct Pace(HashMap<Owner, Account>);

#[derive(Debug)]
struct Account {
    since: Instant,
    answers: u32,
    /// The last pause; zero if it is long past.
    pause: Duration,
    pauses_until: Option<Instant>,
    warned: Option<Instant>,
    waiting: BTreeSet<PathBuf>,
}

impl Pace {
    /// Counts an answer to `owner` about the directory at `path`, and returns `true`; or lets
    /// `path` wait and returns `false`.
    #[must_use]
    pub(crate) fn answers(&mut self, owner: Owner, path: &Path, now: Instant) -> bool {
        let is_known = self.0.contains_key(&owner) || self.0.len() < MAX_OWNERS;
        let key = if is_known { owner } else { Owner::Others };
        let account = self
            .0
            .entry(key.clone())
            .or_insert_with(|| Account::new(now));
        let may = account.may_answer(now);
        if !may {
            account.wait(path);
            if account.warned.is_none() {
                account.warned = Some(now);
                warn!(
                    ?path,
                    owner = %key,
                    "directories are changed without end: looked at after pauses of up to \
                     {LONGEST_PAUSE:?}, or by the periodic check"
                );
            }
        }
        may
    }

    /// Returns the directories that have waited long enough.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<PathBuf> {
        let mut due = Vec::new();
        self.0.retain(|_, account| {
            if account.pauses_until.is_some_and(|until| now >= until) {
                account.begin(now);
                due.extend(std::mem::take(&mut account.waiting));
            }
            account.warned = account.warned.filter(|at| *at + WARNED_FOR > now);
            let is_active = account.pauses_until.is_some() || account.since + WHILE > now;
            is_active || account.warned.is_some()
        });
        due
    }

    /// Forgets all that wait.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Account {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            answers: 0,
            pause: Duration::ZERO,
            pauses_until: None,
            warned: None,
            waiting: BTreeSet::new(),
        }
    }

    fn begin(&mut self, now: Instant) {
        (self.since, self.answers, self.pauses_until) = (now, 0, None);
    }

    fn may_answer(&mut self, now: Instant) -> bool {
        if self.pauses_until.is_some() {
            return false;
        }
        if self.since + WHILE <= now {
            self.pause = Duration::ZERO;
            self.begin(now);
        }
        self.answers += 1;
        if self.answers > ANSWERS {
            self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
            self.pauses_until = Some(now + self.pause);
        }
        self.pauses_until.is_none()
    }

    fn wait(&mut self, path: &Path) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(pace: &mut Pace, owner: &Owner, now: Instant) -> u32 {
        let mut answers = 0;
        while pace.answers(owner.clone(), Path::new("site1"), now) {
            answers += 1;
        }
        answers
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_forgotten_after_a_quiet_while() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        let owner = Owner::User(1001);
        for seconds in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(flood(&mut pace, &owner, now), ANSWERS);
            let end = now + Duration::from_secs(seconds);
            assert!(pace.due(now).is_empty());
            assert_eq!(pace.due(end), [Path::new("site1")], "{seconds}");
            now = end;
        }
        now += WHILE;
        assert_eq!(flood(&mut pace, &owner, now), ANSWERS);
        assert_eq!(pace.due(now + FIRST_PAUSE).len(), 1);
        assert!(pace.due(now + WARNED_FOR).is_empty() && pace.0.is_empty());
    }

    #[test]
    fn who_is_slow_enough_never_waits_and_nobody_waits_for_another() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            flood(&mut pace, &Owner::User(1001), now);
            for _ in 0..ANSWERS / 10 {
                assert!(pace.answers(Owner::User(1002), Path::new("site2"), now));
            }
            pace.due(now);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for number in 0..ANSWERS + 2 * u32::try_from(MAX_WAITING).unwrap() {
            let path = PathBuf::from(number.to_string());
            let _ = pace.answers(Owner::User(1001), &path, now);
        }
        assert_eq!(pace.0[&Owner::User(1001)].waiting.len(), MAX_WAITING);
        for uid in 0..70_000 {
            let _ = pace.answers(Owner::User(uid), Path::new("x"), now);
        }
        assert!(pace.0.len() <= MAX_OWNERS + 1);
    }
}

//! A limit on how much work the changes of one owner cause.
//!
//! A user who changes the mode of an own directory in a loop would keep the program as busy as
//! itself, fill the kernel's queue of events, and make all others wait. So each owner may cause
//! [`ANSWERS`] reports in [`WHILE`]. With more, its directories are looked at again only after a
//! pause, and the pause doubles as long as that goes on:
//!
//! ```text
//! 0 s … 3 s    2,048 changes, each reported at once
//! 3 s          the next one: pause of 1 s; which directories changed is remembered, at most 256
//! 4 s          these are looked at; the same happens again: pause of 2 s, then 4 s, … 32 s
//! …            ten seconds without another pause: the owner begins anew
//! ```
//!
//! Nothing is lost: the state after the last change is always looked at, at the latest after the
//! longest pause, or by the periodic walk.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::warn;

/// Reports that one owner may cause in [`WHILE`]. A site needs a few in a minute, a restored backup
/// hundreds.
const ANSWERS: u32 = 2048;
/// The time over which an owner's reports are counted.
const WHILE: Duration = Duration::from_secs(10);
/// The first pause of an owner.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause of an owner, and so the longest time for which a directory stays wrong after
/// its last change.
const LONGEST_PAUSE: Duration = Duration::from_secs(32);
/// For how long an owner is not warned of again.
const WARNED_FOR: Duration = Duration::from_secs(60 * 60);
/// Owners counted one by one; the others share a limit, because a user namespace gives one user
/// 65,536 user ids.
const MAX_OWNERS: usize = 4096;
/// Directories of one owner that wait for the end of a pause. Further ones are left to the next
/// walk over the whole tree.
const MAX_WAITING: usize = 256;

/// Whose changes are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// One user id.
    User(u32),
    /// All in one user's tree, if its directories belong to a user whose directories many sites
    /// use.
    Site(OsString),
    /// All owners beyond [`MAX_OWNERS`].
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

/// The reports that each owner has caused.
#[derive(Debug, Default)]
pub(crate) struct RateLimit(HashMap<Owner, Account>);

/// The reports of one owner.
#[derive(Debug)]
struct Account {
    /// When counting began.
    since: Instant,
    /// Reports since then.
    answers: u32,
    /// The last pause; zero if it is long past.
    pause: Duration,
    /// The end of the pause at hand.
    pauses_until: Option<Instant>,
    /// When it was logged that the owner is on pause.
    warned: Option<Instant>,
    /// Directories to look at after the pause.
    waiting: BTreeSet<PathBuf>,
}

impl RateLimit {
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
    /// An owner that has caused nothing.
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

    /// Begins to count anew, at the end of a pause or after a quiet while.
    fn begin(&mut self, now: Instant) {
        (self.since, self.answers, self.pauses_until) = (now, 0, None);
    }

    /// Counts a report; returns `false`, and begins a pause, if it is one too many.
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

    /// Remembers a directory for the end of the pause, if there is room.
    fn wait(&mut self, path: &Path) {
        if self.waiting.len() < MAX_WAITING {
            self.waiting.insert(path.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flood(rate: &mut RateLimit, owner: &Owner, now: Instant) -> u32 {
        let mut answers = 0;
        while rate.answers(owner.clone(), Path::new("site1"), now) {
            answers += 1;
        }
        answers
    }

    #[test]
    fn pauses_double_up_to_a_bound_and_are_forgotten_after_a_quiet_while() {
        let (mut rate, mut now) = (RateLimit::default(), Instant::now());
        let owner = Owner::User(1001);
        for seconds in [1, 2, 4, 8, 16, 32, 32] {
            assert_eq!(flood(&mut rate, &owner, now), ANSWERS);
            let end = now + Duration::from_secs(seconds);
            assert!(rate.due(now).is_empty());
            assert_eq!(rate.due(end), [Path::new("site1")], "{seconds}");
            now = end;
        }
        now += WHILE;
        assert_eq!(flood(&mut rate, &owner, now), ANSWERS);
        assert_eq!(rate.due(now + FIRST_PAUSE).len(), 1);
        assert!(rate.due(now + WARNED_FOR).is_empty() && rate.0.is_empty());
    }

    #[test]
    fn who_is_slow_enough_never_waits_and_nobody_waits_for_another() {
        let (mut rate, start) = (RateLimit::default(), Instant::now());
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            flood(&mut rate, &Owner::User(1001), now);
            for _ in 0..ANSWERS / 10 {
                assert!(rate.answers(Owner::User(1002), Path::new("site2"), now));
            }
            rate.due(now);
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (mut rate, now) = (RateLimit::default(), Instant::now());
        for number in 0..ANSWERS + 2 * u32::try_from(MAX_WAITING).unwrap() {
            let path = PathBuf::from(number.to_string());
            let _ = rate.answers(Owner::User(1001), &path, now);
        }
        assert_eq!(rate.0[&Owner::User(1001)].waiting.len(), MAX_WAITING);
        for uid in 0..70_000 {
            let _ = rate.answers(Owner::User(uid), Path::new("x"), now);
        }
        assert!(rate.0.len() <= MAX_OWNERS + 1);
    }
}

//! Removing directories that are empty and that no writer can want any more.
//!
//! Every engine makes the minute's directory, or finds it there, and then opens its file in it. If
//! the directory goes away between the two, the record is lost, and nothing is said. So it may go
//! only once nobody can be about to write there. `ModSecurity` 2 names the directory by the moment
//! of writing: two minutes are plenty. libmodsecurity 3 and Coraza name it by the moment at which
//! the transaction began, and write there whenever that ends: it stays for a day, which no download
//! should outlast, and who does must still meet the few microseconds of one removal.
//!
//! Which of them writes to a tree is told by its place and owner, because content can be forged:
//! only `ModSecurity` 2, since 2.9.3, has a directory per user, and there the directory of a minute
//! belongs to that user. The flat layout is that of the others too. A day has 1440 minutes, so the
//! flat tree keeps hardly more empty directories than that.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDate, TimeDelta, Utc};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::dir::{self, Dir};
use super::walk::{
    Depth, EntryDir, Left, Newest, day_dir_name, days, minutes, newest_minute, open_user,
};
use crate::names::{MinuteDir, NamedAt};
use crate::spool::Refusal;

/// When an empty directory may go.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PruneRules {
    /// Now, in the time zone of the server that names the directories.
    pub now: DateTime<FixedOffset>,
    /// How long nothing may have happened in a directory.
    pub min_age: TimeDelta,
    /// Whether empty directories of users go too. They may have been made in advance.
    pub users: bool,
    /// Names of the users whose directories stand in the storage directory.
    pub accounts: AccountNames,
}

impl PruneRules {
    /// Returns rules that keep the directories of users, and know no account by name.
    pub fn new(now: DateTime<FixedOffset>, min_age: TimeDelta) -> Self {
        PruneRules {
            now,
            min_age,
            users: false,
            accounts: AccountNames::default(),
        }
    }
}

/// Turns a user id into the name of the account.
#[derive(Clone)]
pub struct AccountNames(pub Arc<dyn Fn(u32) -> String + Send + Sync>);

impl Default for AccountNames {
    /// Shows ids as numbers.
    fn default() -> Self {
        AccountNames(Arc::new(|uid| uid.to_string()))
    }
}

impl fmt::Debug for AccountNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccountNames")
    }
}

impl PruneRules {
    fn is_quiet(&self, modified: DateTime<Utc>) -> bool {
        self.now.to_utc().signed_duration_since(modified) >= self.min_age
    }

    fn allows(
        &self,
        minute: MinuteDir,
        newest: Newest,
        named: NamedAt,
        modified: DateTime<Utc>,
    ) -> bool {
        let now = self.now.naive_local();
        newest == Newest::No && minute.is_over(now, named) && self.is_quiet(modified)
    }

    /// Returns when the writer of a minute's directory takes its time: it belongs to `owner`, and
    /// `tree` is above its day.
    fn named(&self, tree: &Dir, owner: u32) -> NamedAt {
        if tree.parent().is_none() {
            return NamedAt::Start;
        }
        let account = (self.accounts.0)(owner);
        let is_unknown = account == owner.to_string();
        if tree.name() == OsStr::new(&account) || (is_unknown && tree.owner() == Some(owner)) {
            NamedAt::Logging
        } else {
            NamedAt::Start
        }
    }
}

/// How many directories were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Minute directories.
    pub minutes: u64,
    /// Day directories.
    pub days: u64,
    /// Users' directories.
    pub users: u64,
}

impl EntryDir {
    /// Removes this minute directory if it is empty and the rules allow it; returns `true` if it
    /// did.
    ///
    /// To be called after the directory's files were removed. What counts as its last change is
    /// what the walk saw before that, so our own deletions do not make it look busy. Never the
    /// newest of its tree, never the private directory.
    ///
    /// # Errors
    ///
    /// What the kernel said, except that the directory is not empty or gone, which is `false`.
    pub fn prune(&self, rules: &PruneRules) -> Result<bool, Refusal> {
        let (Some((minute, newest)), Some(parent)) = (self.minute, self.dir.parent()) else {
            return Ok(false);
        };
        let named = match (parent.parent(), self.dir.owner()) {
            (Some(tree), Some(owner)) => rules.named(tree, owner),
            _ => NamedAt::Start,
        };
        if !rules.allows(minute, newest, named, self.dir.modified) {
            return Ok(false);
        }
        let same = parent.peek(self.dir.name()).is_ok_and(|meta| {
            let ours = self.dir.file().metadata();
            ours.is_ok_and(|ours| ours.ino() == meta.ino() && ours.dev() == meta.dev())
        });
        if !same {
            return Ok(false);
        }
        remove_empty(parent, self.dir.name())
    }
}

/// Removes what is empty and old in all trees of `root`.
pub(super) fn prune(root: &Arc<Dir>, rules: &PruneRules) -> Pruned {
    let mut pruned = Pruned::default();
    prune_tree(root, Depth::Root, rules, &mut pruned);
    for found in root.list().into_iter().flatten().map_while(Result::ok) {
        let Ok(Some(user)) = open_user(root, &found) else {
            continue;
        };
        prune_tree(&user, Depth::User, rules, &mut pruned);
        if rules.users && rules.is_quiet(user.modified) && removed(root, &found.name) {
            pruned.users += 1;
        }
    }
    pruned
}

fn prune_tree(tree: &Arc<Dir>, depth: Depth, rules: &PruneRules, pruned: &mut Pruned) {
    let days = days(tree, depth, &Left::default());
    let newest = newest_minute(tree, &days);
    let newest_day = days.last().copied();
    for day in days {
        let name = day_dir_name(day);
        if let Ok(dir) = tree.open(&name) {
            pruned.minutes += prune_day(&dir, day, newest, rules);
            let named = match dir.owner() {
                Some(owner) => rules.named(tree, owner),
                None => NamedAt::Start,
            };
            if Some(day) != newest_day && is_day_over(day, rules, named) && removed(tree, &name) {
                pruned.days += 1;
            }
        }
    }
}

/// A day's directory has no use after its last minute. Its own time of change says nothing: it
/// was just emptied by us.
fn is_day_over(date: NaiveDate, rules: &PruneRules, named: NamedAt) -> bool {
    let last = MinuteDir {
        date,
        hour: 23,
        minute: 59,
    };
    last.is_over(rules.now.naive_local(), named)
}

fn prune_day(dir: &Arc<Dir>, day: NaiveDate, newest: Option<MinuteDir>, rules: &PruneRules) -> u64 {
    let mut count = 0;
    for minute in minutes(dir, day, &Left::default()) {
        let name = minute.to_string();
        let Ok(meta) = dir.peek(OsStr::new(&name)) else {
            continue;
        };
        let is_newest = match newest {
            Some(newest) if newest == minute => Newest::Yes,
            _ => Newest::No,
        };
        let named = match dir.parent() {
            Some(tree) => rules.named(tree, meta.uid()),
            None => NamedAt::Start,
        };
        let allowed = rules.allows(minute, is_newest, named, dir::modified(&meta));
        if allowed && removed(dir, OsStr::new(&name)) {
            count += 1;
        }
    }
    count
}

fn removed(parent: &Dir, name: &OsStr) -> bool {
    remove_empty(parent, name).is_ok_and(|removed| removed)
}

/// Removes `name` in `parent` if it is an empty directory. The kernel decides, so nothing that
/// appears in the last moment is lost.
fn remove_empty(parent: &Dir, name: &OsStr) -> Result<bool, Refusal> {
    match unlinkat(parent.file(), name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(false),
        Err(error) => Err(parent.refusal(name, error)),
    }
}

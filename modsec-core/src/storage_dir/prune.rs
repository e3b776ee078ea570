//! Removing directories that are empty and that no writer can want any more.
//!
//! Every engine makes the minute's directory, or finds it there, and then opens its file in it. If
//! the directory goes away between the two, the record is lost without a message. So a directory
//! may go only once no writer can be about to use it:
//!
//! | tree | who may write there | names it by | may go after its minute began |
//! | --- | --- | --- | --- |
//! | `USER/…`, owned by USER | `ModSecurity` since 2.9.3 | the moment of writing | 2 minutes |
//! | flat, or owned by another user | all engines | the transaction's start | 24 hours |
//!
//! libmodsecurity 3 and Coraza name the directory by the moment at which the transaction began and
//! write when it ends, perhaps after a download of hours. A transaction of more than a day can lose
//! its record, and only if it ends within the microseconds of the removal. Which engine writes to a
//! tree is told by place and owner, not by contents, because contents can be forged.
//!
//! In addition a directory must have been unchanged for [`PruneRules::min_age`], must not be the
//! newest of its tree, and must be empty: rmdir(2) decides that, so a file that appears in the last
//! moment keeps its directory. A day has 1,440 minutes, so the flat tree keeps hardly more empty
//! directories than that.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDate, TimeDelta, Utc};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::dir::{self, Dir};
use super::private::{PRIVATE, is_private};
use super::walk::{
    Depth, EntryDir, Newest, Refusals, day_dir_name, days, minutes, newest_minute, open_user,
};
use crate::names::{MinuteDir, NamedAt};
use crate::spool::Refusal;

/// When an empty directory may go.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PruneRules {
    /// Now, in the time zone of the server that names the directories (its local wall clock).
    pub now: DateTime<FixedOffset>,
    /// For how long the contents of a directory (`st_mtime`) must not have changed.
    pub min_age: TimeDelta,
    /// Whether empty directories of users are removed too. `watch-dir` makes them in advance, so
    /// `false` is right where it runs.
    pub users: bool,
    /// Names of the users, to tell whether a minute belongs to the user that its tree is named
    /// after.
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

    /// Returns `true` if a directory changed at `modified` has been unchanged for long enough.
    fn is_quiet(&self, modified: DateTime<Utc>) -> bool {
        self.now.to_utc().signed_duration_since(modified) >= self.min_age
    }

    /// Returns `true` if the directory of `minute` may be removed when it is empty.
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

    /// Returns at which moment the writers of a minute's directory take the time that names it.
    ///
    /// `tree` is the directory above the day, `owner` the user id of the minute's owner. In a tree
    /// with the owner's name only `ModSecurity` 2 writes. So it is if the account is not known by
    /// name here (LDAP), and the tree belongs to the same id.
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

/// A function that turns a user id into the name of the account, or into the decimal id if there is
/// none. It is called for each directory that may be pruned; keep it cheap.
///
/// ```
/// use std::sync::Arc;
/// use modsec_core::storage_dir::AccountNames;
///
/// let names = AccountNames(Arc::new(|uid| match uid {
///     1001 => "site1".to_owned(),
///     uid => uid.to_string(),
/// }));
/// assert_eq!((names.0)(1001), "site1");
/// assert_eq!((AccountNames::default().0)(1001), "1001");
/// ```
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

/// How many directories were removed by one call.
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
    /// Call it after the directory's files were removed. Its last change is taken from when the
    /// walk opened it, so our own deletions do not make it look busy. It must still be at its path:
    /// if another directory has its name now, neither is removed. Never removes the newest of its
    /// tree or the private directory.
    ///
    /// # Errors
    ///
    /// What rmdir(2) said (`EACCES`, `EROFS`); a directory that is not empty, or gone, is
    /// `Ok(false)`.
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

/// Removes what is empty and old in all trees below `root`: minutes, then their days, then users'
/// directories if the rules say so. What cannot be opened or removed is passed over in silence: the
/// walk has reported it.
pub(super) fn prune(root: &Arc<Dir>, rules: &PruneRules) -> Pruned {
    let mut pruned = Pruned::default();
    prune_tree(root, Depth::Root, rules, &mut pruned);
    for found in root.list().into_iter().flatten().map_while(Result::ok) {
        let Ok(Some(user)) = open_user(root, &found) else {
            // What was about to become the private directory when its maker was killed.
            if is_private(&found.name) && found.name != PRIVATE {
                removed(root, &found.name);
            }
            continue;
        };
        prune_tree(&user, Depth::User, rules, &mut pruned);
        if rules.users && rules.is_quiet(user.modified) && removed(root, &found.name) {
            pruned.users += 1;
        }
    }
    pruned
}

/// Removes minutes and days of one tree, and adds their numbers to `pruned`. The newest minute and
/// the newest day stay.
fn prune_tree(tree: &Arc<Dir>, depth: Depth, rules: &PruneRules, pruned: &mut Pruned) {
    let days = days(tree, depth, &Refusals::default());
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

/// Returns `true` if no writer can want the directory of the day `date`: its last minute, 23:59, is
/// over. Its own time of change says nothing, since we have just emptied it.
fn is_day_over(date: NaiveDate, rules: &PruneRules, named: NamedAt) -> bool {
    let last = MinuteDir {
        date,
        hour: 23,
        minute: 59,
    };
    last.is_over(rules.now.naive_local(), named)
}

/// Removes minutes of one day and returns how many. `newest` is the newest of the whole tree.
fn prune_day(dir: &Arc<Dir>, day: NaiveDate, newest: Option<MinuteDir>, rules: &PruneRules) -> u64 {
    let mut count = 0;
    for minute in minutes(dir, day, &Refusals::default()) {
        let name = minute.to_string();
        let Ok(meta) = dir.peek(OsStr::new(&name)) else {
            continue;
        };
        let is_newest = if newest == Some(minute) {
            Newest::Yes
        } else {
            Newest::No
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

/// Returns `true` if `name` in `parent` was an empty directory and was removed.
fn removed(parent: &Dir, name: &OsStr) -> bool {
    remove_empty(parent, name).is_ok_and(|removed| removed)
}

/// Removes `name` in `parent` if it is an empty directory (`unlinkat` with `AT_REMOVEDIR`). The
/// kernel decides, so a file that appears in the last moment is not lost.
///
/// # Errors
///
/// What the kernel said, unless the directory is not empty or gone, which is `Ok(false)`.
fn remove_empty(parent: &Dir, name: &OsStr) -> Result<bool, Refusal> {
    match unlinkat(parent.file(), name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(false),
        Err(error) => Err(parent.refusal(name, error)),
    }
}

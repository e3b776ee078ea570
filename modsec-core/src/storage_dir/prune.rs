//! Removing directories that are empty and that no writer can want any more.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use chrono::{DateTime, FixedOffset, NaiveDate, TimeDelta, Utc};
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use super::dir::{self, Dir};
use super::name::MinuteDir;
use super::refusal::Refusal;
use super::walk::{
    Depth, EntryDir, Left, Newest, day_dir_name, days, minutes, newest_minute, open_user,
};

/// When an empty directory may go.
#[derive(Debug, Clone)]
pub struct PruneRules {
    /// Now, in the time zone of the server that names the directories.
    pub now: DateTime<FixedOffset>,
    /// How long nothing may have happened in a directory. `ModSecurity` 3 and Coraza name the
    /// directory by the start of the transaction: more than the longest download, an hour.
    pub min_age: TimeDelta,
    /// Whether empty directories of users go too. They may have been made in advance.
    pub users: bool,
}

impl PruneRules {
    fn is_quiet(&self, modified: DateTime<Utc>) -> bool {
        self.now.to_utc().signed_duration_since(modified) >= self.min_age
    }

    fn allows(&self, minute: MinuteDir, newest: Newest, modified: DateTime<Utc>) -> bool {
        newest == Newest::No && minute.is_over(self.now.naive_local()) && self.is_quiet(modified)
    }
}

/// How many directories were removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Minute directories.
    pub minutes: u64,
    /// Day directories.
    pub days: u64,
    /// Users' directories.
    pub users: u64,
}

impl EntryDir {
    /// Removes this minute directory if it is empty and the rules allow it, and tells whether it
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
        if !rules.allows(minute, newest, self.dir.modified) {
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
            if Some(day) != newest_day && is_day_over(day, rules) && removed(tree, &name) {
                pruned.days += 1;
            }
        }
    }
}

/// A day's directory has no use after its last minute. Its own time of change says nothing: it
/// was just emptied by us.
fn is_day_over(date: NaiveDate, rules: &PruneRules) -> bool {
    let last = MinuteDir {
        date,
        hour: 23,
        minute: 59,
    };
    last.is_over(rules.now.naive_local())
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
        if rules.allows(minute, is_newest, dir::modified(&meta)) && removed(dir, OsStr::new(&name))
        {
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
